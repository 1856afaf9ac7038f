package jira

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// Edits of one issue that wait at the same time become one request. The first goes at once; those that come while it is
// under way, or while Jira's limits make it wait, go together when it is their turn. So a hundred edits at once cost Jira
// two or three, and watchers as many mails.
//
// Only what cannot change anybody's outcome is put together: labels that nobody else in the request takes away, fields
// that nobody else sets to another value (of titles and descriptions, which are made to fit before, the last one counts),
// at most one comment and one set of properties. The rest waits for the next request. Each edit may be repeated, so that
// a lost answer is no more than that for all that were in the request.

// edits gathers edits by the issue's id.
func edits() *gathering {
	return &gathering{choose: chooseEdits, body: editTogether, divide: divideEdits}
}

// putIssue sends an edit of the issue with an id, alone or together with others. The body of r is an *issueUpdate.
func (c *Client) putIssue(ctx context.Context, id string, r *request) error {
	body, _ := r.body.(*issueUpdate)
	w := &waitingWrite{ctx: ctx, r: r, edit: partsOf(body), done: make(chan written, 1)}
	if c.edits.begin(id, w) {
		return c.edits.wait(ctx, c, id, w).err
	}
	defer func() {
		if c.edits.waits(id) {
			go c.edits.drain(c, id)
		}
	}()
	return c.do(ctx, r, nil)
}

// chooseEdits takes the edit that has waited longest, and all that go together with it.
func chooseEdits(waiting []*waitingWrite) (members, stay []*waitingWrite) {
	all := &editParts{}
	for _, w := range waiting {
		if len(members) == maxTogether || len(members) > 0 && !all.takes(w.edit) {
			stay = append(stay, w)
			continue
		}
		all.add(w.edit)
		members = append(members, w)
	}
	return members, stay
}

// divideEdits parts the members of a refused request: those that write a field that the refusal names are the second part.
func divideEdits(members []*waitingWrite, e *sdk.Error) (a, b []*waitingWrite) {
	for _, w := range members {
		named := slices.ContainsFunc(e.Violations, func(v sdk.Violation) bool {
			return w.edit.writes(strings.TrimPrefix(v.Field, "/fields/"))
		})
		if named {
			b = append(b, w)
		} else {
			a = append(a, w)
		}
	}
	if len(a) == 0 || len(b) == 0 {
		return halves(members)
	}
	return a, b
}

// editParts is what an edit writes, in a form that can be put together.
type editParts struct {
	alone   bool // goes with no other
	fields  map[string]json.RawMessage
	labels  []labelChange
	comment []map[string]any
	props   []entityProperty
}

type labelChange struct {
	remove bool
	label  string
}

// partsOf takes an edit apart. What it does not know goes alone.
func partsOf(u *issueUpdate) *editParts {
	p := &editParts{}
	if u == nil {
		return &editParts{alone: true}
	}
	if u.Fields != nil {
		raw, err := json.Marshal(u.Fields)
		p.alone = err != nil || json.Unmarshal(raw, &p.fields) != nil
	}
	for name, ops := range u.Update {
		switch name {
		case "comment":
			p.comment = ops
		case "labels":
			for _, op := range ops {
				for verb, v := range op {
					label, ok := v.(string)
					p.alone = p.alone || !ok || verb != "add" && verb != "remove"
					p.labels = append(p.labels, labelChange{verb == "remove", label})
				}
			}
		default:
			p.alone = true
		}
		if _, both := p.fields[name]; both {
			p.alone = true
		}
	}
	p.props = u.Properties
	return p
}

// writes says whether an edit writes a field.
func (p *editParts) writes(name string) bool {
	_, ok := p.fields[name]
	return ok || name == "labels" && len(p.labels) > 0 || name == "comment" && len(p.comment) > 0
}

// takes says whether o can go in one request with what p holds.
func (p *editParts) takes(o *editParts) bool {
	if p.alone || o.alone || len(p.comment) > 0 && len(o.comment) > 0 || len(p.props) > 0 && len(o.props) > 0 {
		return false
	}
	for name, value := range o.fields {
		if p.writes(name) && (!alwaysFits(name, value) || !alwaysFits(name, p.fields[name])) && !bytes.Equal(p.fields[name], value) {
			return false
		}
	}
	for name := range p.fields { // Jira refuses a field that is set and changed
		if _, also := o.fields[name]; !also && o.writes(name) {
			return false
		}
	}
	for _, l := range o.labels {
		if slices.ContainsFunc(p.labels, func(have labelChange) bool { return have.remove != l.remove && strings.EqualFold(have.label, l.label) }) {
			return false
		}
	}
	return true
}

// alwaysFits says whether a value is one that Jira does not refuse where it takes the field at all, so that another such
// value in its place changes nobody's outcome.
func alwaysFits(name string, value json.RawMessage) bool {
	return name == "summary" || name == "description" && string(value) != "null"
}

// add puts o into p, after what is there.
func (p *editParts) add(o *editParts) {
	p.alone = p.alone || o.alone
	if len(o.fields) > 0 && p.fields == nil {
		p.fields = make(map[string]json.RawMessage, len(o.fields))
	}
	maps.Copy(p.fields, o.fields)
	for _, l := range o.labels {
		if !slices.ContainsFunc(p.labels, func(have labelChange) bool { return have.remove == l.remove && sameLabel(have, l) }) {
			p.labels = append(p.labels, l)
		}
	}
	p.comment, p.props = append(p.comment, o.comment...), append(p.props, o.props...)
}

// sameLabel compares labels to add as JQL does, and labels to remove as they are: there may be two that differ in case.
func sameLabel(a, b labelChange) bool {
	return a.label == b.label || !a.remove && strings.EqualFold(a.label, b.label)
}

// editTogether is the edit that the members make together.
func editTogether(members []*waitingWrite) any {
	p := &editParts{}
	for _, w := range members {
		p.add(w.edit)
	}
	u := &issueUpdate{Update: map[string][]map[string]any{}, Properties: p.props}
	if len(p.fields) > 0 {
		u.Fields = p.fields
	}
	for _, l := range p.labels {
		u.Update["labels"] = append(u.Update["labels"], map[string]any{map[bool]string{false: "add", true: "remove"}[l.remove]: l.label})
	}
	if len(p.comment) > 0 {
		u.Update["comment"] = p.comment
	}
	return u
}
