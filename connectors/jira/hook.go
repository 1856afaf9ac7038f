package jira

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// delivery is what matters of a webhook's body. Jira sends the whole issue; it is looked up all the same, because
// deliveries come late and out of order.
type delivery struct {
	Timestamp int64  `json:"timestamp"`
	Event     string `json:"webhookEvent"`
	Issue     *issue `json:"issue"`
}

// issueHint is what a hint carries.
type issueHint struct {
	ID      string `json:"id"`
	Key     string `json:"key,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
	At      int64  `json:"at,omitempty"` // when it was deleted, epoch milliseconds
	// Of a deleted issue, which cannot be looked up any more.
	Fields map[string]json.RawMessage `json:"fields,omitempty"`
}

// keptFields are kept of a deleted issue, as far as they fit into a hint.
var keptFields = []string{"summary", "labels", "priority", "project", "issuetype", "created"}

// maxKept is the size of a field that is kept.
const maxKept = 8 << 10

// hook turns a delivery into a hint. The signature is over the raw body:
// https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks.
func (c *Client) hook(_ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
	resp := &sdk.HookResponse{Status: http.StatusOK, Refused: map[string]int{}}
	if len(c.watch.secret) == 0 {
		resp.Status = http.StatusNotFound
		resp.Refused["no_secret_configured"]++
		return resp, nil
	}
	if !signed(c.watch.secret, req.Body, req.Header.Get("X-Hub-Signature")) {
		resp.Status = http.StatusForbidden
		resp.Refused["signature"]++
		return resp, nil
	}
	var d delivery
	if err := json.Unmarshal(req.Body, &d); err != nil {
		resp.Status = http.StatusBadRequest
		resp.Refused["not_a_delivery"]++
		return resp, nil //nolint:nilerr // the sender is told; the host counts it
	}
	if d.Issue == nil || !digits(d.Issue.ID) {
		resp.Refused["no_issue"]++ // a sprint, a version, a comment without its issue
		return resp, nil
	}
	hint := issueHint{ID: d.Issue.ID, Key: d.Issue.Key, Deleted: d.Event == "jira:issue_deleted"}
	_, labelled := d.Issue.Fields["labels"]
	if labelled && !c.watch.all && !madeHere(d.Issue) {
		resp.Refused["not_ours"]++
		return resp, nil
	}
	// One delivery is one rumour, however often it is tried; without an identifier, one change is.
	id := "issue/" + hint.ID + "/" + req.Header.Get("X-Atlassian-Webhook-Identifier")
	if strings.HasSuffix(id, "/") || len(id) > 256 {
		id = "issue/" + hint.ID + "/" + strconv.FormatInt(d.Timestamp, 36)
	}
	if hint.Deleted {
		hint.At, hint.Fields = d.Timestamp, map[string]json.RawMessage{}
		for _, name := range keptFields {
			if raw := d.Issue.Fields[name]; len(raw) > 0 && len(raw) <= maxKept {
				hint.Fields[name] = raw
			}
		}
	}
	data, err := json.Marshal(hint)
	if err != nil {
		return nil, err
	}
	resp.Hints = []sdk.Hint{{ID: id, Data: data}}
	return resp, nil
}

// signed compares in constant time. The header names the method, sha256, although its own name does not.
func signed(secret, body []byte, header string) bool {
	want, ok := strings.CutPrefix(header, "sha256=")
	if !ok {
		return false
	}
	sum, err := hex.DecodeString(want)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return hmac.Equal(sum, mac.Sum(nil))
}

// goneAfter is how often an issue that cannot be found is looked for: search and permissions may lag behind a webhook,
// but an issue that the account may not see stays invisible.
const goneAfter = 4

// lookUp looks one hint up.
func (c *Client) lookUp(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
	var hint issueHint
	if err := json.Unmarshal(h.Data, &hint); err != nil || !digits(hint.ID) {
		return sdk.Found{}, sdk.Invalid("", "hint %s cannot be read", h.ID)
	}
	s, err := c.where(ctx)
	if err != nil {
		return sdk.Found{}, err
	}
	is, err := c.look(ctx, hint.ID)
	var e *sdk.Error
	if errors.As(err, &e) && e.Code == codes.NotFound {
		switch {
		case hint.Deleted:
			return c.deleted(s, &hint)
		case h.Attempt >= goneAfter:
			return sdk.Found{}, nil
		}
	}
	if err != nil {
		return sdk.Found{}, err
	}
	ev, rej, err := c.observe(ctx, s, is)
	switch {
	case err != nil:
		return sdk.Found{}, err
	case rej != nil:
		return sdk.Found{Rejected: []sdk.Rejected{*rej}}, nil
	case ev == nil:
		return sdk.Found{}, nil
	}
	return sdk.Found{Events: []sdk.Event{*ev}}, nil
}

// deleted makes the last event of an issue out of what its webhook said; that it is gone was looked up.
func (c *Client) deleted(s *site, hint *issueHint) (sdk.Found, error) {
	is := &issue{ID: hint.ID, Key: hint.Key, Fields: hint.Fields}
	if is.Fields == nil {
		is.Fields = map[string]json.RawMessage{}
	}
	if !c.watch.all && !madeHere(is) {
		return sdk.Found{}, nil
	}
	if !issueRef(is.Key) {
		is.Key = is.ID
	}
	is.Fields["updated"] = quoted(time.UnixMilli(hint.At).UTC().Format(jiraTime))
	ev, err := c.caseEvent(s, &snapshot{issue: is, deleted: true})
	if err != nil {
		return sdk.Found{}, err
	}
	return sdk.Found{Events: []sdk.Event{ev}}, nil
}
