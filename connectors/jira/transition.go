package jira

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// TransitionInput says where an issue shall go.
type TransitionInput struct {
	Issue      string                     `json:"issue" cw:"required" doc:"Key or id of the issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	To         string                     `json:"to" cw:"required" doc:"Where to: the name of a status, the name of a transition, or a category: new, indeterminate or done. A name goes before a category" example:"done"`
	Resolution string                     `json:"resolution,omitempty" doc:"Name of the resolution, where the transition asks for one" example:"Done"`
	Fields     map[string]json.RawMessage `json:"fields,omitempty" doc:"Further fields of the transition's screen, by name or id"`
	Comment    string                     `json:"comment,omitempty" doc:"Comment to add with the transition"`
	Format     string                     `json:"format,omitempty" doc:"What comment is written in" enum:"markdown,text" default:"markdown"`
}

// Transitioned is the issue afterwards.
type Transitioned struct {
	Issue    string `json:"issue" doc:"The issue, as it was given"`
	Status   string `json:"status" doc:"Name of its status"`
	Category string `json:"status_category" doc:"What the status means: new, indeterminate or done"`
	Closed   bool   `json:"closed" doc:"The status means done"`
	Moved    bool   `json:"moved" doc:"This call moved it; false when it was there already"`
	By       string `json:"by,omitempty" doc:"Name of the transition that was taken"`
}

// transition is a way out of an issue's present status.
type transition struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	To   struct {
		Name           string `json:"name"`
		StatusCategory struct {
			Key string `json:"key"`
		} `json:"statusCategory"`
	} `json:"to"`
	Fields map[string]*metaEntry `json:"fields"`
}

// move is a wish for a transition.
type move struct {
	to         []string // names and categories, best first
	resolution string
	fields     map[string]json.RawMessage
	comment    json.RawMessage // rendered; nil for none
}

var categories = map[string]bool{"new": true, "indeterminate": true, categoryDone: true}

// Transition moves an issue to a status. An issue that is there already is left alone, so that repeating does no harm.
func (c *Client) Transition(ctx context.Context, in TransitionInput) (Transitioned, error) {
	call := sdk.CallFrom(ctx)
	if !issueRef(in.Issue) {
		return Transitioned{}, sdk.Invalid("/issue", "%q is neither an issue's key nor its id", in.Issue)
	}
	to := strings.TrimSpace(in.To)
	if to == "" {
		return Transitioned{}, sdk.Invalid("/to", "is empty: name a status, or new, indeterminate or done")
	}
	m := &move{to: []string{to}, resolution: in.Resolution, fields: in.Fields}
	if !isBlank(in.Comment) {
		m.comment = c.marked(in.Comment, in.Format, caseRef(call.Key))
	}
	return c.move(ctx, in.Issue, m, call.DryRun)
}

// moveTries is how often a move is tried when somebody else changes the issue at the same time.
const moveTries = 3

func (c *Client) move(ctx context.Context, ref string, m *move, dry bool) (Transitioned, error) {
	for try := 1; ; try++ {
		out, err := c.moveOnce(ctx, ref, m, dry)
		var e *sdk.Error
		if err == nil || try == moveTries || !errors.As(err, &e) || e.Code != codes.Aborted {
			return out, err
		}
	}
}

func (c *Client) moveOnce(ctx context.Context, ref string, m *move, dry bool) (Transitioned, error) {
	var is issue
	err := c.do(ctx, &request{verb: "read issue", noun: ref, method: http.MethodGet, path: "rest/api/2/issue/" + ref + "?fields=status,resolution"}, &is)
	if err != nil {
		return Transitioned{}, err
	}
	out := Transitioned{Issue: ref, Status: is.name("status"), Category: is.category()}
	out.Closed = out.Category == categoryDone
	if m.there(out.Status, out.Category) {
		return out, nil
	}
	var answer struct {
		Transitions []transition `json:"transitions"`
	}
	err = c.do(ctx, &request{
		verb: "read transitions of issue", noun: ref, method: http.MethodGet, path: "rest/api/2/issue/" + ref + "/transitions?expand=transitions.fields",
	}, &answer)
	if err != nil {
		return Transitioned{}, err
	}
	t := m.choose(answer.Transitions)
	if t == nil {
		return Transitioned{}, sdk.Invalid("/to", "no transition leads from %q to %s; there are %s", out.Status, quoteAll(m.to), ways(answer.Transitions))
	}
	fields, err := c.screen(ctx, t, m)
	if err != nil {
		return Transitioned{}, err
	}
	out.Moved, out.By, out.Status, out.Category = true, t.Name, t.To.Name, t.To.StatusCategory.Key
	out.Closed = out.Category == categoryDone
	if dry {
		return out, nil
	}
	body := &transitionBody{Transition: nameOrID{ID: t.ID}, Fields: fields}
	if len(m.comment) > 0 {
		body.Update = map[string][]map[string]any{"comment": {{"add": map[string]json.RawMessage{"body": m.comment}}}}
	}
	// Repeated, it finds the issue where it should be.
	err = c.do(ctx, &request{
		verb: "move issue", noun: ref, method: http.MethodPost, path: c.restPath("issue/" + ref + "/transitions"), body: body, outcome: repeatable,
	}, nil)
	if err != nil {
		return Transitioned{}, fmt.Errorf("transition %q to %q: %w", t.Name, t.To.Name, err)
	}
	return out, nil
}

type transitionBody struct {
	Transition nameOrID                    `json:"transition"`
	Fields     map[string]json.RawMessage  `json:"fields,omitempty"`
	Update     map[string][]map[string]any `json:"update,omitempty"`
}

// there says whether the issue is where it should be. A category that is also the name of a status is met by either.
func (m *move) there(status, category string) bool {
	return slices.ContainsFunc(m.to, func(to string) bool { return strings.EqualFold(to, status) || to == category && categories[to] })
}

// choose picks a transition: by the name of its status, then by its own, then by category; the easiest of several, the
// one that asks for least.
func (m *move) choose(all []transition) *transition {
	for _, to := range m.to {
		for _, fits := range []func(*transition) bool{
			func(t *transition) bool { return strings.EqualFold(t.To.Name, to) },
			func(t *transition) bool { return strings.EqualFold(t.Name, to) },
			func(t *transition) bool { return categories[to] && t.To.StatusCategory.Key == to },
		} {
			var best *transition
			for i := range all {
				if t := &all[i]; fits(t) && (best == nil || len(t.needs(m)) < len(best.needs(m))) {
					best = t
				}
			}
			if best != nil {
				return best
			}
		}
	}
	return nil
}

// needs lists the fields that a transition demands and the move does not give.
func (t *transition) needs(m *move) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(t.Fields)) {
		f := t.Fields[id]
		if f == nil || !f.Required || f.HasDefault || id == "resolution" && m.resolution != "" || id == "comment" && len(m.comment) > 0 {
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(m.fields)), func(name string) bool { return name == id || strings.EqualFold(name, f.Name) }) {
			out = append(out, id)
		}
	}
	return out
}

// screen makes the fields of the transition's screen out of the move, or says everything that is wrong with them.
func (c *Client) screen(ctx context.Context, t *transition, m *move) (map[string]json.RawMessage, error) {
	entries := make([]metaEntry, 0, len(t.Fields))
	for _, id := range slices.Sorted(maps.Keys(t.Fields)) {
		if f := t.Fields[id]; f != nil {
			e := *f
			e.FieldID = id
			entries = append(entries, e)
		}
	}
	given := maps.Clone(m.fields)
	// A resolution is set only where the transition's screen has one; elsewhere the workflow decides.
	if f, ok := field(entries, "resolution"); ok && m.resolution != "" {
		if given == nil {
			given = map[string]json.RawMessage{}
		}
		given[f.name()] = quoted(m.resolution)
	}
	s := &fieldSet{entries: entries, at: fmt.Sprintf("the screen of transition %q", t.Name), root: "/fields/"}
	out, bad := s.convert(ctx, c, given)
	for _, id := range t.needs(m) {
		f, _ := field(entries, id)
		bad = append(bad, sdk.Violation{Field: "/fields/" + id, Description: fmt.Sprintf("transition %q demands %s%s", t.Name, f.called(), f.choices())})
	}
	for i := range bad {
		if bad[i].Field == "/fields/resolution" {
			bad[i].Field = "/resolution"
		}
	}
	if len(bad) > 0 {
		e := sdk.Invalid("", "the issue cannot be moved by transition %q to %q", t.Name, t.To.Name)
		e.Violations = bad
		return nil, e
	}
	return out, nil
}

func ways(all []transition) string {
	if len(all) == 0 {
		return "none that the account may use"
	}
	out := make([]string, 0, len(all))
	for _, t := range all {
		out = append(out, fmt.Sprintf("%q to %q (%s)", t.Name, t.To.Name, t.To.StatusCategory.Key))
	}
	return strings.Join(out, ", ")
}

func quoteAll(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(out, " or ")
}

// reopen moves a closed issue back to work.
func (c *Client) reopen(ctx context.Context, w *wanted, have Ensured) (Ensured, error) {
	m := &move{to: []string{"new", "indeterminate"}}
	if w.reopenTo != "" {
		m.to = []string{w.reopenTo}
	}
	moved, err := c.move(ctx, have.ID, m, false)
	if err != nil {
		return Ensured{}, fmt.Errorf("reopen %s: %w", have.Key, gone(err, have))
	}
	have.Status, have.Closed = moved.Status, moved.Closed
	return have, nil
}
