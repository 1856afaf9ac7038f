package sentinel

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// AlertRef names an alert.
type AlertRef struct {
	Alert string `json:"alert" cw:"required,maxlen=512" doc:"Alert id"`
}

// fetchAlert gets one alert as Graph tells it.
func (c *Client) fetchAlert(ctx context.Context, id string) ([]byte, error) {
	resp, err := c.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: alertPath(id)})
	if err != nil {
		return nil, fmt.Errorf("get alert %s: %w", id, err)
	}
	return resp.Body, nil
}

func (c *Client) getAlert(ctx context.Context, in AlertRef) (map[string]any, error) {
	raw, err := c.fetchAlert(ctx, in.Alert)
	if err != nil {
		return nil, err
	}
	var alert map[string]any
	return alert, rest.DecodeJSON("Microsoft Graph", raw, &alert)
}

// ListInput selects alerts.
type ListInput struct {
	Filter string `json:"filter,omitempty" doc:"OData filter" example:"severity eq 'high' and status eq 'new'"`
	Max    int    `json:"max" default:"1000" cw:"min=1,max=100000" doc:"Most alerts to return"`
}

// ListSummary closes a list.
type ListSummary struct {
	Count     int  `json:"count" doc:"Alerts returned"`
	Truncated bool `json:"truncated" doc:"There were more"`
}

func (c *Client) listAlerts(ctx context.Context, in ListInput, emit func(map[string]any) error) (ListSummary, error) {
	q := url.Values{"$top": {strconv.Itoa(min(in.Max, c.cfg.PageSize))}}
	if in.Filter != "" {
		q.Set("$filter", in.Filter)
	}
	var sum ListSummary
	for page, err := range c.api.Pages(ctx, rest.Request{Method: http.MethodGet, Path: "/v1.0/security/alerts_v2", Query: q}, nextLink) {
		if err != nil {
			return sum, fmt.Errorf("list alerts: %w", err)
		}
		var list struct {
			Value []map[string]any `json:"value"`
		}
		if err := page.JSON(&list); err != nil {
			return sum, err
		}
		for _, a := range list.Value {
			if sum.Count == in.Max {
				sum.Truncated = true
				return sum, nil
			}
			if err := emit(a); err != nil {
				return sum, err
			}
			sum.Count++
		}
	}
	return sum, nil
}

// UpdateInput changes an alert; what is left out stays.
type UpdateInput struct {
	Alert          string `json:"alert" cw:"required,maxlen=512" doc:"Alert id"`
	Status         string `json:"status,omitempty" enum:"new,inProgress,resolved" doc:"New status"`
	Classification string `json:"classification,omitempty" enum:"unknown,falsePositive,truePositive,informationalExpectedActivity" doc:"Classification"`
	Determination  string `json:"determination,omitempty" doc:"Determination, as Microsoft Graph spells it" example:"phishing"`
	AssignedTo     string `json:"assigned_to,omitempty" doc:"User principal name of the owner"`
}

// Updated is an alert after an update.
type Updated struct {
	ID     string `json:"id" doc:"Alert id"`
	Status string `json:"status" doc:"Status now"`
}

func (c *Client) updateAlert(ctx context.Context, in UpdateInput) (Updated, error) {
	body := map[string]string{}
	for k, v := range map[string]string{
		"status": in.Status, "classification": in.Classification, "determination": in.Determination, "assignedTo": in.AssignedTo,
	} {
		if v != "" {
			body[k] = v
		}
	}
	if len(body) == 0 {
		return Updated{}, sdk.Invalid("", "nothing to update: give status, classification, determination or assigned_to")
	}
	var out Updated
	if err := c.api.Send(ctx, http.MethodPatch, alertPath(in.Alert), body, &out); err != nil {
		return out, fmt.Errorf("update alert %s: %w", in.Alert, err)
	}
	return out, nil
}

// CommentInput is a comment on an alert.
type CommentInput struct {
	Alert string `json:"alert" cw:"required,maxlen=512" doc:"Alert id"`
	Text  string `json:"text" cw:"required,maxlen=16000" doc:"Comment; a short marker is added, by which it is found again"`
}

// Comment is a comment that stands.
type Comment struct {
	Alert   string    `json:"alert" doc:"Alert id"`
	Marker  string    `json:"marker" doc:"Marker in the comment"`
	Created time.Time `json:"created" doc:"When it was made"`
}

// commentSettles is how long a comment that was sent may take to show: the alert is read by id, so only the request itself
// can be late.
const commentSettles = 20 * time.Second

type graphComment struct {
	Type    string    `json:"@odata.type,omitempty"`
	Comment string    `json:"comment"`
	Created time.Time `json:"createdDateTime,omitzero"`
}

// commentAlert adds a comment once per key. Graph has no keys for comments: the marker in the text is ours, and the alert
// is read by id, which does not lag as a search does.
func (c *Client) commentAlert(ctx context.Context, in CommentInput) (Comment, error) {
	call := sdk.CallFrom(ctx)
	marker := commentMarker(call.Key)
	if len(call.Prior) > 0 {
		var prior Comment
		if err := json.Unmarshal(call.Prior, &prior); err == nil {
			return prior, nil
		}
	}
	if call.Resolve {
		raw, err := c.fetchAlert(ctx, in.Alert)
		if err != nil {
			return Comment{}, err
		}
		var alert struct {
			Comments []graphComment `json:"comments"`
		}
		if err := rest.DecodeJSON("Microsoft Graph", raw, &alert); err != nil {
			return Comment{}, err
		}
		if found, ok := findComment(alert.Comments, marker); ok {
			return Comment{Alert: in.Alert, Marker: marker, Created: found.Created}, nil
		}
		if !call.FirstSent.IsZero() && time.Since(call.FirstSent) > commentSettles {
			return Comment{}, sdk.Absent("there is no comment %s on alert %s", marker, in.Alert)
		}
		return Comment{}, sdk.Unresolved("no comment %s on alert %s yet", marker, in.Alert)
	}
	var all struct {
		Value []graphComment `json:"value"`
	}
	err := c.api.Send(ctx, http.MethodPost, alertPath(in.Alert)+"/comments", graphComment{
		Type: "microsoft.graph.security.alertComment", Comment: in.Text + "\n" + marker,
	}, &all)
	if err != nil {
		return Comment{}, fmt.Errorf("comment on alert %s: %w", in.Alert, err)
	}
	found, _ := findComment(all.Value, marker)
	return Comment{Alert: in.Alert, Marker: marker, Created: found.Created}, nil
}

func findComment(comments []graphComment, marker string) (graphComment, bool) {
	for _, c := range comments {
		if strings.Contains(c.Comment, marker) {
			return c, true
		}
	}
	return graphComment{}, false
}

// commentMarker is how our comments are known again; Normalize leaves comments with such a marker out of the digest, so
// that our own writes are no news.
func commentMarker(key string) string {
	sum := sha256.Sum256([]byte("cwcomment1" + key))
	return "[cw-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10])) + "]"
}

func alertPath(id string) string { return "/v1.0/security/alerts_v2/" + url.PathEscape(id) }

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Host
}

// check probes the connection.
func (c *Client) check(ctx context.Context) []sdk.Probe {
	_, err := c.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/v1.0/security/alerts_v2", Query: url.Values{"$top": {"1"}}})
	alerts := sdk.Probe{Name: "read alerts", Status: sdk.ProbeOK, Summary: "Microsoft Graph lists alerts"}
	if err != nil {
		alerts = sdk.Probe{
			Name: "read alerts", Status: sdk.ProbeFailed, Summary: err.Error(),
			Remedy: "grant the app SecurityAlert.Read.All (application) with admin consent; SecurityAlert.ReadWrite.All to write back",
		}
	}
	push := sdk.Probe{Name: "push", Status: sdk.ProbeSkipped, Summary: "push: " + c.cfg.Push}
	if c.cfg.Push == "manage" {
		c.mu.Lock()
		id := c.subscription
		c.mu.Unlock()
		switch {
		case c.env.Hooks["alerts"].URL == "":
			push.Status, push.Remedy = sdk.ProbeFailed, "set http.public_url to the address at which Microsoft Graph reaches this host"
		case id == "":
			push.Status, push.Summary = sdk.ProbeWarning, "no subscription yet"
			push.Remedy = "the next poll subscribes; if it cannot, its error says why, and polling goes on"
		default:
			push.Status, push.Summary = sdk.ProbeOK, "subscription "+id
		}
	}
	return []sdk.Probe{alerts, push}
}
