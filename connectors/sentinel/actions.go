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

// graphName is Graph in errors.
const graphName = "Microsoft Graph"

func addAlertActions(c *sdk.Connector) {
	sdk.Action(c, "alert.get", "Get one alert.", (*Client).getAlert, sdk.Read,
		sdk.Example("by id", map[string]any{"alert": "sn8a6b…"}))
	sdk.Rows(c, "alert.list", "List alerts, newest first.", (*Client).listAlerts, sdk.Read,
		sdk.Example("what is open", map[string]any{"filter": "severity eq 'high' and status eq 'new'", "max": 50}))
	sdk.Action(c, "alert.entities", "List what an alert is about: users, hosts, addresses, files and the rest.", (*Client).alertEntities, sdk.Read,
		sdk.Example("of one alert", map[string]any{"alert": "sn8a6b…"}))
	sdk.Action(c, "alert.update", "Set status, classification, determination or assignee of an alert.", (*Client).updateAlert, sdk.Idempotent,
		sdk.Example("close it", map[string]any{"alert": "sn8a6b…", "status": "resolved", "classification": "truePositive", "determination": "phishing"}))
	sdk.Action(c, "alert.comment", "Add a comment to an alert, once per key.", (*Client).commentAlert, sdk.Keyed,
		sdk.ResolveWindow(time.Minute), sdk.Example("link the case", map[string]any{"alert": "sn8a6b…", "text": "Case SEC-42"}))
}

// AlertRef names an alert.
type AlertRef struct {
	Alert string `json:"alert" cw:"required,maxlen=512" doc:"Alert id"`
}

// fetchAlert gets one alert as Graph tells it. An answer that is no alert is not one: a proxy's page, or half of it.
func (c *Client) fetchAlert(ctx context.Context, id string) ([]byte, error) {
	resp, err := c.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: alertPath(id)})
	if err != nil {
		return nil, fmt.Errorf("get alert %s: %w", id, err)
	}
	var head struct {
		ID string `json:"id"`
	}
	if err := resp.JSON(&head); err != nil {
		return nil, fmt.Errorf("get alert %s: %w", id, err)
	}
	if head.ID == "" {
		return nil, sdk.Unavailable("get alert %s: the answer is no alert: it has no id", id)
	}
	return resp.Body, nil
}

func (c *Client) getAlert(ctx context.Context, in AlertRef) (map[string]any, error) {
	raw, err := c.fetchAlert(ctx, in.Alert)
	if err != nil {
		return nil, err
	}
	var alert map[string]any
	return alert, rest.DecodeJSON(graphName, raw, &alert)
}

// ListInput selects alerts or incidents.
type ListInput struct {
	Filter string `json:"filter,omitempty" doc:"OData filter" example:"severity eq 'high' and status eq 'new'"`
	Max    int    `json:"max" default:"1000" cw:"min=1,max=100000" doc:"Most to return"`
}

// ListSummary closes a list.
type ListSummary struct {
	Count     int  `json:"count" doc:"How many were returned"`
	Truncated bool `json:"truncated" doc:"There were more"`
	Partial   bool `json:"partial" doc:"A provider behind Microsoft Graph did not answer, so that some may be missing"`
}

func (c *Client) listAlerts(ctx context.Context, in ListInput, emit func(map[string]any) error) (ListSummary, error) {
	return c.listRows(ctx, "alerts", "/v1.0/security/alerts_v2", in, c.cfg.PageSize, emit)
}

// listRows lists a collection of Graph, newest first.
func (c *Client) listRows(ctx context.Context, what, path string, in ListInput, page int, emit func(map[string]any) error) (ListSummary, error) {
	q := url.Values{"$top": {strconv.Itoa(min(in.Max, page))}}
	if in.Filter != "" {
		q.Set("$filter", in.Filter)
	}
	var sum ListSummary
	for page, err := range c.api.Pages(ctx, rest.Request{Method: http.MethodGet, Path: path, Query: q}, nextLink) {
		if err != nil {
			return sum, fmt.Errorf("list %s: %w", what, err)
		}
		var list struct {
			Value []map[string]any `json:"value"`
		}
		if err := page.JSON(&list); err != nil {
			return sum, err
		}
		if page.Status == http.StatusPartialContent {
			sum.Partial = true
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
	VerdictID      *int   `json:"verdict_id,omitempty" cw:"min=0,max=99" doc:"Instead of classification and determination, the verdict of a case: 1 false positive, 2 true positive, 3 disregard, 5 benign, 6 test, 7 insufficient data, 8 security risk; others change nothing" example:"2"`
	AssignedTo     string `json:"assigned_to,omitempty" doc:"User principal name of the owner"`
}

// Updated is an alert after an update.
type Updated struct {
	ID      string `json:"id" doc:"Alert id"`
	Status  string `json:"status" doc:"Status now"`
	Changed bool   `json:"changed" doc:"Something was changed; false when all was so already"`
}

// updateAlert reads before it writes: Graph raises an alert's time even for a change that changes nothing, and each such
// echo would come back as news.
func (c *Client) updateAlert(ctx context.Context, in UpdateInput) (Updated, error) {
	wish, err := wishOf(in.Status, in.Classification, in.Determination, in.VerdictID, in.AssignedTo)
	if err != nil {
		return Updated{}, err
	}
	raw, err := c.fetchAlert(ctx, in.Alert)
	if err != nil {
		return Updated{}, err
	}
	var have map[string]any
	if err := rest.DecodeJSON(graphName, raw, &have); err != nil {
		return Updated{}, err
	}
	out := Updated{ID: in.Alert}
	out.Status, _ = have["status"].(string)
	if body := differing(wish, have); len(body) > 0 {
		if err := c.api.Send(ctx, http.MethodPatch, alertPath(in.Alert), body, &out); err != nil {
			return out, fmt.Errorf("update alert %s: %w", in.Alert, err)
		}
		out.ID, out.Changed = in.Alert, true
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
		switch {
		case isNotFound(err):
			return Comment{}, noComment(&call, marker, "alert "+in.Alert)
		case err != nil:
			return Comment{}, err
		}
		var alert struct {
			Comments []graphComment `json:"comments"`
		}
		if err := rest.DecodeJSON(graphName, raw, &alert); err != nil {
			return Comment{}, err
		}
		if found, ok := findComment(alert.Comments, marker); ok {
			return Comment{Alert: in.Alert, Marker: marker, Created: found.Created}, nil
		}
		return Comment{}, noComment(&call, marker, "alert "+in.Alert)
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

// noComment answers a look-up that found nothing: what was sent may be under way for a moment.
func noComment(call *sdk.Call, marker, where string) error {
	if !call.FirstSent.IsZero() && time.Since(call.FirstSent) > commentSettles {
		return sdk.Absent("there is no comment %s on %s", marker, where)
	}
	return sdk.Unresolved("no comment %s on %s yet", marker, where)
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
