package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/internal/rowmap"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

func addIncidentActions(c *sdk.Connector) {
	sdk.Action(c, "incident.get", "Get one incident with the ids of its alerts.", (*Client).getIncident, sdk.Read,
		sdk.Example("by id", map[string]any{"incident": "28282"}))
	sdk.Rows(c, "incident.list", "List incidents, newest first.", (*Client).listIncidents, sdk.Read,
		sdk.Example("what is open", map[string]any{"filter": "status eq 'active' and severity eq 'high'", "max": 50}))
	sdk.Action(c, "incident.entities", "List what an incident's alerts are about: users, hosts, addresses, files and the rest.",
		(*Client).incidentEntities, sdk.Read, sdk.Example("of one incident", map[string]any{"incident": "28282"}))
	sdk.Action(c, "incident.update", "Set status, classification, determination, assignee, tags or closing comment of an incident.",
		(*Client).updateIncident, sdk.Idempotent,
		sdk.Example("close it", map[string]any{
			"incident": "28282", "status": "resolved", "classification": "truePositive", "determination": "phishing", "resolving_comment": "Case SEC-42",
		}),
		sdk.Example("tag it", map[string]any{"incident": "28282", "add_tags": []string{"casewire:tracked"}}))
	sdk.Action(c, "incident.comment", "Add a comment to an incident, once per key.", (*Client).commentIncident, sdk.Keyed,
		sdk.ResolveWindow(time.Minute), sdk.Example("link the case", map[string]any{"incident": "28282", "text": "Case SEC-42"}))
	sdk.Rows(c, "hunting.query", "Run a hunting query of Microsoft Defender and return its rows.", (*Client).hunt, sdk.Read, sdk.ShapedRows("map", "normalize", rowmap.Fields()),
		sdk.Example("processes", map[string]any{
			"query": "DeviceProcessEvents | where FileName =~ name | take 10", "params": map[string]any{"name": "powershell.exe"}, "timespan": "P7D",
		}))
}

// IncidentRef names an incident.
type IncidentRef struct {
	Incident string `json:"incident" cw:"required,maxlen=512" doc:"Number of an incident of Defender, or GUID or ARM id of one of the Sentinel workspace"`
}

// Incident is an incident.
type Incident struct {
	ID             string         `json:"id" doc:"Incident id"`
	Title          string         `json:"title" doc:"Title"`
	Status         string         `json:"status" doc:"Status: active, inProgress, awaitingAction, resolved, redirected; of a Sentinel workspace New, Active, Closed"`
	Severity       string         `json:"severity" doc:"Severity"`
	Classification string         `json:"classification" doc:"Classification; empty when nobody has decided"`
	Determination  string         `json:"determination" doc:"Determination, or the reason in a Sentinel workspace; empty when nobody has decided"`
	AssignedTo     string         `json:"assigned_to" doc:"Owner; empty for nobody"`
	Tags           []string       `json:"tags" doc:"Tags that people and programs gave it"`
	URL            string         `json:"url" doc:"The incident in its portal"`
	RedirectedTo   string         `json:"redirected_to" doc:"Id of the incident that it was merged into; empty for none"`
	AlertIDs       []string       `json:"alert_ids" doc:"Ids of its alerts"`
	Created        time.Time      `json:"created" doc:"When it was made"`
	Updated        time.Time      `json:"updated" doc:"When it was last changed"`
	Raw            map[string]any `json:"raw" doc:"The incident as Microsoft tells it, without its alerts"`
}

// graphIncident is what is read of an incident.
type graphIncident struct {
	ID               string         `json:"id"`
	Title            string         `json:"displayName"`
	Status           string         `json:"status"`
	Severity         string         `json:"severity"`
	Classification   string         `json:"classification"`
	Determination    string         `json:"determination"`
	AssignedTo       string         `json:"assignedTo"`
	Tags             []string       `json:"customTags"`
	URL              string         `json:"incidentWebUrl"`
	ResolvingComment string         `json:"resolvingComment"`
	RedirectedTo     string         `json:"redirectIncidentId"`
	Created          time.Time      `json:"createdDateTime"`
	Updated          time.Time      `json:"lastUpdateDateTime"`
	Comments         []graphComment `json:"comments"`
	Alerts           []struct {
		ID string `json:"id"`
	} `json:"alerts"`
}

func incidentPath(id string) string { return "/v1.0/security/incidents/" + url.PathEscape(id) }

// fetchIncident gets an incident, with its alerts if expand says so.
func (c *Client) fetchIncident(ctx context.Context, id string, expand bool) ([]byte, *graphIncident, error) {
	req := rest.Request{Method: http.MethodGet, Path: incidentPath(id)}
	if expand {
		req.Query = url.Values{"$expand": {"alerts"}}
	}
	resp, err := c.api.Do(ctx, req)
	if err != nil {
		return nil, nil, fmt.Errorf("get incident %s: %w", id, err)
	}
	var g graphIncident
	if err := resp.JSON(&g); err != nil {
		return nil, nil, fmt.Errorf("get incident %s: %w", id, err)
	}
	return resp.Body, &g, nil
}

func (c *Client) getIncident(ctx context.Context, in IncidentRef) (Incident, error) {
	if isARMIncident(in.Incident) {
		return c.armGetIncident(ctx, in.Incident)
	}
	body, g, err := c.fetchIncident(ctx, in.Incident, true)
	if err != nil {
		return Incident{}, err
	}
	var raw map[string]any
	if err := json.Unmarshal(body, &raw); err != nil {
		return Incident{}, err
	}
	delete(raw, "alerts")
	out := g.public(in.Incident)
	out.Raw = raw
	return out, nil
}

func (g *graphIncident) public(id string) Incident {
	out := Incident{
		ID: id, Title: g.Title, Status: g.Status, Severity: g.Severity, Classification: g.Classification, Determination: g.Determination,
		AssignedTo: g.AssignedTo, Tags: g.Tags, URL: g.URL, RedirectedTo: g.RedirectedTo, Created: g.Created, Updated: g.Updated,
	}
	for _, a := range g.Alerts {
		out.AlertIDs = append(out.AlertIDs, a.ID)
	}
	return out
}

func (c *Client) listIncidents(ctx context.Context, in ListInput, emit func(map[string]any) error) (ListSummary, error) {
	if c.cfg.Incidents == "arm" {
		n, truncated, err := c.armListIncidents(ctx, in.Filter, in.Max, emit)
		return ListSummary{Count: n, Truncated: truncated}, err
	}
	return c.listRows(ctx, "incidents", "/v1.0/security/incidents", in, c.cfg.PageSize, emit)
}

// maxHops bounds how often an incident that was merged is followed.
const maxHops = 5

// surviving returns the incident that goes on for an id: merged ones are followed.
func (c *Client) surviving(ctx context.Context, id string) (string, *graphIncident, error) {
	for range maxHops {
		_, g, err := c.fetchIncident(ctx, id, false)
		if err != nil {
			return id, nil, err
		}
		if !strings.EqualFold(g.Status, "redirected") || g.RedirectedTo == "" {
			return id, g, nil
		}
		id = g.RedirectedTo
	}
	return id, nil, sdk.Conflict("incident %s was merged more than %d times, or in a circle", id, maxHops)
}

// UpdateIncidentInput changes an incident; what is left out stays.
type UpdateIncidentInput struct {
	Incident         string   `json:"incident" cw:"required,maxlen=512" doc:"Number of an incident of Defender, or GUID or ARM id of one of the Sentinel workspace. Of one that Defender merged, the incident that it was merged into is changed"`
	Status           string   `json:"status,omitempty" enum:"active,inProgress,awaitingAction,resolved" doc:"New status. In a Sentinel workspace resolved is Closed, and the others are Active"`
	Severity         string   `json:"severity,omitempty" enum:"high,medium,low,informational" doc:"New severity"`
	Classification   string   `json:"classification,omitempty" enum:"unknown,falsePositive,truePositive,informationalExpectedActivity" doc:"Classification. In a Sentinel workspace unknown is Undetermined, and informationalExpectedActivity is BenignPositive"`
	Determination    string   `json:"determination,omitempty" doc:"Determination, as Microsoft Graph spells it; in Defender only" example:"phishing"`
	Reason           string   `json:"reason,omitempty" enum:"SuspiciousActivity,SuspiciousButExpected,IncorrectAlertLogic,InaccurateData" doc:"Reason of the classification; in a Sentinel workspace only. By default the one that fits"`
	VerdictID        *int     `json:"verdict_id,omitempty" cw:"min=0,max=99" doc:"Instead of classification and determination or reason, the verdict of a case; see alert.update" example:"2"`
	AssignedTo       string   `json:"assigned_to,omitempty" doc:"User principal name of the owner"`
	Unassign         bool     `json:"unassign,omitempty" doc:"Take the owner away"`
	AddTags          []string `json:"add_tags,omitempty" cw:"maxlen=50" doc:"Tags to add" example:"[\"casewire:tracked\"]"`
	RemoveTags       []string `json:"remove_tags,omitempty" cw:"maxlen=50" doc:"Tags to remove"`
	ResolvingComment string   `json:"resolving_comment,omitempty" cw:"maxlen=16000" doc:"Closing comment"`
}

// UpdatedIncident is an incident after an update.
type UpdatedIncident struct {
	ID             string   `json:"id" doc:"Id of the incident that was changed"`
	RedirectedFrom string   `json:"redirected_from" doc:"The incident that was asked for, when it had been merged into this one"`
	Status         string   `json:"status" doc:"Status now"`
	Tags           []string `json:"tags" doc:"Tags now"`
	Changed        bool     `json:"changed" doc:"Something was changed; false when all was so already"`
}

// updateIncident reads, and writes only what differs. customTags are replaced as a whole by Graph, which has no etag here:
// they are read just before.
func (c *Client) updateIncident(ctx context.Context, in UpdateIncidentInput) (UpdatedIncident, error) {
	if isARMIncident(in.Incident) {
		return c.armUpdate(ctx, in)
	}
	if in.Reason != "" {
		return UpdatedIncident{}, sdk.Invalid("reason", "is for incidents of a Sentinel workspace, which are named by GUID; one of Defender takes a determination")
	}
	wish, err := wishOf(in.Status, in.Classification, in.Determination, in.VerdictID, in.AssignedTo)
	further := in.Unassign || in.Severity != "" || len(in.AddTags)+len(in.RemoveTags) > 0 || in.ResolvingComment != ""
	switch {
	case err != nil && (wish == nil || !further):
		return UpdatedIncident{}, err
	case in.Unassign && in.AssignedTo != "":
		return UpdatedIncident{}, sdk.Invalid("unassign", "contradicts assigned_to")
	}
	for name, v := range map[string]string{"severity": in.Severity, "resolvingComment": in.ResolvingComment} {
		if v != "" {
			wish[name] = v
		}
	}
	id, g, err := c.surviving(ctx, in.Incident)
	if err != nil {
		return UpdatedIncident{}, err
	}
	out := UpdatedIncident{ID: id, Status: g.Status, Tags: g.Tags}
	if id != in.Incident {
		out.RedirectedFrom = in.Incident
	}
	body := differing(wish, map[string]any{
		"status": g.Status, "classification": g.Classification, "determination": g.Determination, "assignedTo": g.AssignedTo,
		"resolvingComment": g.ResolvingComment, "severity": g.Severity,
	})
	if in.Unassign && g.AssignedTo != "" {
		body["assignedTo"] = nil
	}
	if tags := retag(g.Tags, in.AddTags, in.RemoveTags); !slices.Equal(tags, g.Tags) {
		body["customTags"] = tags
	}
	if len(body) == 0 {
		return out, nil
	}
	var now graphIncident
	if err := c.api.Send(ctx, http.MethodPatch, incidentPath(id), body, &now); err != nil {
		return out, fmt.Errorf("update incident %s: %w", id, err)
	}
	out.Status, out.Tags, out.Changed = now.Status, now.Tags, true
	return out, nil
}

// retag adds and removes tags; the order of the others stays.
func retag(have, add, remove []string) []string {
	same := func(list []string, tag string) bool {
		return slices.ContainsFunc(list, func(t string) bool { return strings.EqualFold(t, tag) })
	}
	out := []string{}
	for _, t := range have {
		if !same(remove, t) || same(add, t) {
			out = append(out, t)
		}
	}
	for _, t := range add {
		if t = strings.TrimSpace(t); t != "" && !same(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// CommentIncidentInput is a comment on an incident.
type CommentIncidentInput struct {
	Incident string `json:"incident" cw:"required,maxlen=512" doc:"Number of an incident of Defender, or GUID or ARM id of one of the Sentinel workspace. Of one that Defender merged, the comment goes to the incident that it was merged into"`
	Text     string `json:"text" cw:"required,maxlen=16000" doc:"Comment. In Defender a short marker is added, by which it is found again and known as no news"`
}

// IncidentComment is a comment that stands.
type IncidentComment struct {
	Incident string    `json:"incident" doc:"Incident id"`
	Marker   string    `json:"marker" doc:"Marker in the comment; empty for one of the Sentinel workspace, which has an id"`
	ID       string    `json:"id" doc:"GUID of the comment; empty for one of Defender, which has a marker"`
	Created  time.Time `json:"created" doc:"When it was made"`
}

// commentIncident adds a comment once per key, as commentAlert does. Comments move along when incidents are merged.
func (c *Client) commentIncident(ctx context.Context, in CommentIncidentInput) (IncidentComment, error) {
	if isARMIncident(in.Incident) {
		return c.armCommentIncident(ctx, in)
	}
	call := sdk.CallFrom(ctx)
	var prior IncidentComment
	if len(call.Prior) > 0 && json.Unmarshal(call.Prior, &prior) == nil {
		return prior, nil
	}
	marker := commentMarker(call.Key)
	id, g, err := c.surviving(ctx, in.Incident)
	switch {
	case call.Resolve && isNotFound(err):
		return IncidentComment{}, noComment(&call, marker, "incident "+id)
	case err != nil:
		return IncidentComment{}, err
	}
	if found, ok := findComment(g.Comments, marker); ok {
		return IncidentComment{Incident: id, Marker: marker, Created: found.Created}, nil
	}
	if call.Resolve {
		return IncidentComment{}, noComment(&call, marker, "incident "+id)
	}
	var all struct {
		Value []graphComment `json:"value"`
	}
	err = c.api.Send(ctx, http.MethodPost, incidentPath(id)+"/comments", graphComment{
		Type: "microsoft.graph.security.alertComment", Comment: in.Text + "\n" + marker,
	}, &all)
	if err != nil {
		return IncidentComment{}, fmt.Errorf("comment on incident %s: %w", id, err)
	}
	found, _ := findComment(all.Value, marker)
	return IncidentComment{Incident: id, Marker: marker, Created: found.Created}, nil
}
