package sentinel

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Characters in a comment ("Service limits for Microsoft Sentinel").
const maxARMComment = 30000

// armCommentIncident makes a comment stand once per key: under a name that follows from the key, so that writing it again
// changes nothing. One that somebody edited since is left as it is. Text is shown as it is, although the portal renders
// HTML.
func (c *Client) armCommentIncident(ctx context.Context, in CommentIncidentInput) (IncidentComment, error) {
	var out IncidentComment
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return out, err
	}
	incident, err := a.incidentName(in.Incident)
	if err != nil {
		return out, err
	}
	message := strings.ReplaceAll(html.EscapeString(strings.ReplaceAll(in.Text, "\r\n", "\n")), "\n", "<br>")
	if n := utf8.RuneCountInString(message); n > maxARMComment {
		return out, sdk.Invalid("text", "has %d characters with its marks; a comment takes %d", n, maxARMComment)
	}
	call := sdk.CallFrom(ctx)
	name := ownID("comment", incident, call.Key)
	var have struct {
		Properties struct {
			Created time.Time `json:"createdTimeUtc"`
		} `json:"properties"`
	}
	path := a.path("incidents", incident, "comments", name)
	found, err := a.get(ctx, path, &have)
	if err != nil {
		return out, fmt.Errorf("comment on incident %s: %w", incident, err)
	}
	if !found {
		if call.Resolve {
			return out, sdk.Absent("there is no comment %s on incident %s", name, incident)
		}
		body := map[string]any{"properties": map[string]string{"message": message}}
		if _, err = a.put(ctx, path, body, &have); err != nil {
			return out, fmt.Errorf("comment on incident %s: %w", incident, err)
		}
	}
	return IncidentComment{Incident: incident, ID: name, Created: have.Properties.Created}, nil
}

// TaskInput is a task for whoever works on an incident.
type TaskInput struct {
	Incident    string `json:"incident" cw:"required,maxlen=1024" doc:"GUID or ARM id of an incident of the workspace"`
	Title       string `json:"title" cw:"required,maxlen=150" doc:"What to do, in a line"`
	Description string `json:"description,omitempty" cw:"maxlen=3000" doc:"What to do, in full"`
}

// Task is a task that stands.
type Task struct {
	ID      string    `json:"id" doc:"GUID of the task"`
	Status  string    `json:"status" doc:"New, or Completed"`
	Created time.Time `json:"created" doc:"When it was made"`
}

// addTask makes a task stand once per key. One that a person has completed or changed is left as it is.
func (c *Client) addTask(ctx context.Context, in TaskInput) (Task, error) {
	a, err := c.workspaceFor("task.add")
	if err != nil {
		return Task{}, err
	}
	incident, err := a.incidentName(in.Incident)
	if err != nil {
		return Task{}, err
	}
	call := sdk.CallFrom(ctx)
	name := ownID("task", incident, call.Key)
	var have struct {
		Properties struct {
			Status  string    `json:"status"`
			Created time.Time `json:"createdTimeUtc"`
		} `json:"properties"`
	}
	path := a.path("incidents", incident, "tasks", name)
	found, err := a.get(ctx, path, &have)
	switch {
	case err != nil:
		return Task{}, fmt.Errorf("add task to incident %s: %w", incident, err)
	case !found && call.Resolve:
		return Task{}, sdk.Absent("there is no task %s on incident %s", name, incident)
	case !found:
		p := map[string]string{"title": in.Title, "status": "New"}
		if in.Description != "" {
			p["description"] = in.Description
		}
		if _, err := a.put(ctx, path, map[string]any{"properties": p}, &have); err != nil {
			return Task{}, fmt.Errorf("add task to incident %s: %w", incident, err)
		}
	}
	return Task{ID: name, Status: have.Properties.Status, Created: have.Properties.Created}, nil
}

// PlaybookInput names a playbook and what to run it on.
type PlaybookInput struct {
	Incident string `json:"incident" cw:"required,maxlen=1024" doc:"GUID or ARM id of an incident of the workspace"`
	LogicApp string `json:"logic_app" cw:"required,maxlen=1024" doc:"ARM id of the playbook, a Logic App whose trigger is a Sentinel incident" pattern:"(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.Logic/workflows/[^/]+$"`
	TenantID string `json:"tenant_id,omitempty" cw:"maxlen=64" doc:"Tenant of the playbook; default the credential's"`
}

// PlaybookStarted says that Sentinel took the order.
type PlaybookStarted struct {
	Incident string `json:"incident" doc:"GUID of the incident"`
	LogicApp string `json:"logic_app" doc:"ARM id of the playbook"`
}

// runPlaybook starts a playbook. What becomes of the run only the Logic App tells.
func (c *Client) runPlaybook(ctx context.Context, in PlaybookInput) (PlaybookStarted, error) {
	a, err := c.workspaceFor("playbook.run")
	if err != nil {
		return PlaybookStarted{}, err
	}
	incident, err := a.incidentName(in.Incident)
	if err != nil {
		return PlaybookStarted{}, err
	}
	body := map[string]string{"logicAppsResourceId": in.LogicApp}
	if in.TenantID != "" {
		body["tenantId"] = in.TenantID
	} else if guidRule().MatchString(c.tenant) {
		body["tenantId"] = c.tenant
	}
	_, err = a.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: a.path("incidents", incident, "runPlaybook"), Query: versioned(nil), Body: body})
	if err != nil {
		return PlaybookStarted{}, fmt.Errorf("run playbook on incident %s: %w", incident, err)
	}
	return PlaybookStarted{Incident: incident, LogicApp: in.LogicApp}, nil
}
