package jira

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// UpdateInput says what an issue shall be like; what is left out stays.
type UpdateInput struct {
	Issue        string                     `json:"issue" cw:"required" doc:"Key or id of the issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	Title        string                     `json:"title,omitempty" doc:"New summary; cut to 254 characters on one line"`
	Description  *string                    `json:"description,omitempty" doc:"New description; cut to 32,767 characters of wiki markup; an empty text clears it"`
	Format       string                     `json:"format,omitempty" doc:"What description and long text fields are written in" enum:"markdown,text" default:"markdown"`
	SeverityID   *int                       `json:"severity_id,omitempty" doc:"OCSF severity, turned into a priority by the connection's table" cw:"min=0,max=99"`
	Priority     string                     `json:"priority,omitempty" doc:"Priority by name or id, instead of severity_id"`
	Assignee     *string                    `json:"assignee,omitempty" doc:"Mail address, name or account id of the assignee; an empty text unassigns"`
	AddLabels    []string                   `json:"add_labels,omitempty" doc:"Labels to add; white space becomes a dash"`
	RemoveLabels []string                   `json:"remove_labels,omitempty" doc:"Labels to take away"`
	Fields       map[string]json.RawMessage `json:"fields,omitempty" doc:"Further fields, by name or id; null clears one"`
}

// Updated is what became of the issue.
type Updated struct {
	ID      string   `json:"id" doc:"Id of the issue"`
	Key     string   `json:"key" doc:"Key of the issue"`
	URL     string   `json:"url" doc:"Where people open it"`
	Updated bool     `json:"updated" doc:"Something differed and was written"`
	Changed []string `json:"changed" doc:"Ids of the fields that were written"`
	Status  string   `json:"status" doc:"Name of its status"`
	Closed  bool     `json:"closed" doc:"Its status means done"`
}

// Update makes an issue what the input says: it reads the issue first, writes only what differs, and reads again when
// somebody else wrote at the same time.
func (c *Client) Update(ctx context.Context, in UpdateInput) (Updated, error) {
	if !issueRef(in.Issue) {
		return Updated{}, sdk.Invalid("/issue", "%q is neither an issue's key nor its id", in.Issue)
	}
	for name := range in.Fields {
		if reserved[strings.ToLower(name)] || strings.EqualFold(name, "assignee") {
			return Updated{}, sdk.Invalid("/fields/"+pointerPart(name), "has an input of its own")
		}
	}
	s, err := c.where(ctx)
	if err != nil {
		return Updated{}, err
	}
	want, err := c.wantUpdate(ctx, &in)
	if err != nil {
		return Updated{}, err
	}
	for try := 1; ; try++ {
		out, err := c.updateOnce(ctx, s, &in, want)
		var e *sdk.Error
		if err == nil || try == moveTries || !errors.As(err, &e) || e.Code != codes.Aborted {
			return out, err
		}
	}
}

// wantUpdate makes the values of the fields, by id.
func (c *Client) wantUpdate(ctx context.Context, in *UpdateInput) (map[string]json.RawMessage, error) {
	want := maps.Clone(in.Fields)
	if byName(want) {
		entries, err := c.editScreen(ctx, in.Issue)
		if err != nil {
			return nil, err
		}
		set := &fieldSet{entries: entries, at: "the edit screen of " + in.Issue, root: "/fields/", format: in.Format}
		var bad []sdk.Violation
		if want, bad = set.convert(ctx, c, want); len(bad) > 0 {
			e := sdk.Invalid("", "the fields do not fit %s", in.Issue)
			e.Violations = bad
			return nil, e
		}
	}
	if want == nil {
		want = map[string]json.RawMessage{}
	}
	if in.Title != "" {
		if want["summary"] = quoted(oneLine(in.Title, maxSummary)); string(want["summary"]) == `""` {
			return nil, sdk.Invalid("/title", "is empty: Jira wants a summary")
		}
	}
	if in.Description != nil {
		want["description"], _ = c.rich(&richText{format: in.Format, text: *in.Description})
	}
	priority := in.Priority
	if priority == "" && in.SeverityID != nil {
		priority = c.priority(*in.SeverityID)
	}
	if priority != "" {
		want["priority"] = encoded(named(priority))
	}
	if in.Assignee != nil {
		want["assignee"] = json.RawMessage("null")
		if *in.Assignee != "" {
			ref, why := c.user(ctx, *in.Assignee)
			if why != "" {
				return nil, sdk.Invalid("/assignee", "%s", why)
			}
			want["assignee"] = encoded(ref)
		}
	}
	return want, nil
}

func (c *Client) updateOnce(ctx context.Context, s *site, in *UpdateInput, want map[string]json.RawMessage) (Updated, error) {
	ask := append(slices.Sorted(maps.Keys(want)), "labels", "status")
	q := url.Values{"fields": {strings.Join(ask, ",")}}
	var is issue
	err := c.do(ctx, &request{verb: "read issue", noun: in.Issue, method: http.MethodGet, path: c.restPath("issue/" + in.Issue + "?" + q.Encode())}, &is)
	if err != nil {
		return Updated{}, err
	}
	out := Updated{
		ID: is.ID, Key: is.Key, URL: s.browse(is.Key), Status: is.name("status"), Closed: is.category() == categoryDone, Changed: []string{},
	}
	body := &issueUpdate{}
	fields := map[string]json.RawMessage{}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !same(is.Fields[name], want[name]) {
			fields[name] = want[name]
			out.Changed = append(out.Changed, name)
		}
	}
	var labels []map[string]any
	have := is.labels()
	for _, l := range sanitizeLabels(in.AddLabels) {
		if !contains(have, l) {
			labels = append(labels, map[string]any{"add": l})
		}
	}
	for _, l := range sanitizeLabels(in.RemoveLabels) {
		if i := slices.IndexFunc(have, func(h string) bool { return strings.EqualFold(h, l) }); i >= 0 {
			labels = append(labels, map[string]any{"remove": have[i]})
		}
	}
	if len(labels) > 0 {
		body.Update = map[string][]map[string]any{"labels": labels}
		out.Changed = append(out.Changed, "labels")
	}
	out.Updated = len(out.Changed) > 0
	if !out.Updated || sdk.CallFrom(ctx).DryRun {
		return out, nil
	}
	if len(fields) > 0 {
		body.Fields = fields
	}
	path := c.restPath("issue/" + is.ID)
	if !c.cfg.NotifyUsers {
		path += "?notifyUsers=false"
	}
	err = c.putIssue(ctx, is.ID, &request{verb: "update issue", noun: cmp.Or(is.Key, in.Issue), method: http.MethodPut, path: path, body: body, outcome: repeatable})
	if err != nil {
		return Updated{}, fmt.Errorf("update of %s: %w", strings.Join(out.Changed, ", "), err)
	}
	return out, nil
}

// same says whether a field has a value already. Jira answers with more than was written: an option comes back with its
// value and address where an id was sent, so that it is enough if everything that is wanted is there.
func same(have, want json.RawMessage) bool {
	var h, w any
	if len(have) == 0 {
		have = json.RawMessage("null")
	}
	if json.Unmarshal(have, &h) != nil || json.Unmarshal(want, &w) != nil {
		return false
	}
	return covers(h, w)
}

func covers(have, want any) bool {
	switch w := want.(type) {
	case nil:
		return have == nil || have == "" || len(asList(have)) == 0 && isList(have)
	case string:
		if w == "" && have == nil {
			return true
		}
		h, ok := have.(string)
		return ok && (h == w || sameMoment(h, w))
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for name, v := range w {
			if !covers(h[name], v) {
				return false
			}
		}
		return true
	case []any:
		h := asList(have)
		if len(h) != len(w) {
			return false
		}
		for _, one := range w { // the order of options and labels means nothing
			if !slices.ContainsFunc(h, func(v any) bool { return covers(v, one) }) {
				return false
			}
		}
		return true
	}
	return have == want
}

func asList(v any) []any { l, _ := v.([]any); return l }
func isList(v any) bool  { _, ok := v.([]any); return ok }

// sameMoment says whether two texts are the same time in different zones.
func sameMoment(a, b string) bool {
	x, y := parseTime(a), parseTime(b)
	return !x.IsZero() && x.Equal(y)
}
