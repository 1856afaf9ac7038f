package jira

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// change is one part of an update.
type change int

const (
	changeContent change = iota + 1
	changePriority
	changeLabels
	changeComment
)

// changes says what an update has to write over have. Title, description and fields are written only if they are not
// what was written last, so that people's edits stay until there is news; a severity only ever raises the priority; labels
// are only added.
func (c *Client) changes(w *wanted, have Ensured) []change {
	switch w.policy {
	case ignoreExisting:
		return nil
	case commentExisting:
		if len(w.comment) == 0 || w.commentHash == have.CommentHash {
			return nil
		}
		return []change{changeComment}
	}
	var out []change
	if w.hash != have.ContentHash {
		out = append(out, changeContent)
	}
	if w.priority != "" && w.priority != have.Priority && (w.explicit || rank(w.severity) > rank(have.SeverityID)) {
		out = append(out, changePriority)
	}
	for _, l := range w.labels {
		if !contains(have.Labels, l) {
			return append(out, changeLabels)
		}
	}
	return out
}

// rank orders severities; unknown and other (99) are lowest.
func rank(severity *int) int {
	if severity == nil {
		return -1
	}
	if *severity < 0 || *severity >= len(severities) {
		return 0
	}
	return *severity
}

// update brings the issue have up to date with one request, or none if nothing changed.
func (c *Client) update(ctx context.Context, w *wanted, have Ensured, dry bool) (Ensured, error) {
	have.Created, have.Updated = false, false
	todo := c.changes(w, have)
	reopen := w.policy == reopenExisting && have.Closed
	have.Updated = len(todo) > 0 || reopen
	if !have.Updated || dry {
		return have, nil
	}
	if len(todo) > 0 {
		var err error
		if have, err = c.edit(ctx, w, have, todo); err != nil {
			return Ensured{}, err
		}
	}
	if reopen {
		return c.reopen(ctx, w, have)
	}
	return have, nil
}

// edit writes what is to be changed in one request.
func (c *Client) edit(ctx context.Context, w *wanted, have Ensured, todo []change) (Ensured, error) {
	fields, body := &issueFields{}, &issueUpdate{Update: map[string][]map[string]any{}}
	next := *w
	var extra map[string]json.RawMessage
	next.priority, next.severity, next.origin = have.Priority, have.SeverityID, cmp.Or(have.Origin, w.origin)
	if slices.Contains(todo, changeComment) {
		next.hash, next.severity = have.ContentHash, have.SeverityID
	} else if rank(w.severity) > rank(have.SeverityID) {
		next.severity = w.severity
	}
	content := false
	for _, t := range todo {
		switch t {
		case changeContent:
			content = true
			fields.Summary, fields.Description = w.summary, w.description
			var err error
			if extra, err = c.createFields(ctx, w); err != nil {
				return Ensured{}, err
			}
		case changePriority:
			fields.Priority, next.priority = named(w.priority), w.priority
		case changeLabels:
			labels := slices.Clone(have.Labels)
			for _, l := range w.labels {
				if !contains(labels, l) {
					labels = append(labels, l)
					body.Update["labels"] = append(body.Update["labels"], map[string]any{"add": l})
				}
			}
			have.Labels = labels
		}
	}
	switch {
	case content:
		body.Fields = fields.with(extra)
	case fields.Priority != nil:
		body.Fields = fields
	}
	if len(w.comment) > 0 {
		body.Update["comment"] = []map[string]any{{"add": map[string]json.RawMessage{"body": w.comment}}}
	}
	next.commentHash = cmp.Or(w.commentHash, have.CommentHash)
	body.Properties = next.property()
	path := c.restPath("issue/" + have.ID)
	if !c.cfg.NotifyUsers {
		path += "?notifyUsers=false"
	}
	// Repeating an edit does no harm: it sets what it sets, and a repeated attempt reads the issue first.
	err := c.putIssue(ctx, have.ID, &request{verb: "update issue", noun: have.Key, method: http.MethodPut, path: path, body: body, outcome: repeatable})
	if err != nil {
		return Ensured{}, gone(err, have)
	}
	c.recent.add(have.ID)
	have.ContentHash, have.Priority, have.SeverityID, have.Origin = next.hash, next.priority, next.severity, next.origin
	have.CommentHash = next.commentHash
	return have, nil
}

// refresh updates from the issue's present state instead of from what was returned last.
func (c *Client) refresh(ctx context.Context, w *wanted, prior Ensured) (Ensured, error) {
	have, err := c.read(ctx, prior)
	if err != nil {
		return Ensured{}, err
	}
	prior.Closed = have.Closed
	done := len(c.changes(w, prior)) > 0 && len(c.changes(w, have)) == 0
	out, err := c.update(ctx, w, have, false)
	out.Updated = out.Updated || done
	return out, err
}

// gone turns "not found" for an issue that there was into a sentence about it. No second issue is made: whoever deleted
// the first had a reason.
func gone(err error, have Ensured) error {
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != codes.NotFound {
		return err
	}
	out := sdk.NotFound("issue %s (id %s) is gone: it was deleted, or the account may no longer see it; no second one is made by itself", have.Key, have.ID)
	out.HTTPStatus, out.RequestID, out.Err = e.HTTPStatus, e.RequestID, err
	return out
}
