package jira

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/casewire/casewire/sdk"
)

const (
	maxAnswer      = 8 << 20
	maxErrorAnswer = 64 << 10
)

// outcome says what a lost answer means for the caller.
type outcome int

const (
	reads      outcome = iota // nothing was changed, whatever happened
	writes                    // the write may have happened: it must not be repeated blindly
	repeatable                // it may have happened, and repeating it does no harm
)

// request is one call of Jira's API. Path is relative and already escaped.
type request struct {
	verb, noun string // for errors: "create issue in", "SOC"
	method     string
	path       string
	body       any
	outcome    outcome
}

func (r *request) what() string { return strings.TrimSpace(r.verb + " " + r.noun) }

// do sends r through go-jira's client and decodes the answer into out unless out is nil. Go-jira's own error handling is
// left aside: it drops the status, misreads half of Jira's error bodies and leaves answers unread.
func (c *Client) do(ctx context.Context, r *request, out any) error {
	req, err := c.jira.NewRequestWithContext(ctx, r.method, r.path, r.body)
	if err != nil {
		return sdk.Invalid("", "%s: the request cannot be built: %w", r.what(), err)
	}
	// Do with a nil target leaves the body to us, for every status.
	resp, err := c.jira.Do(req, nil)
	if resp == nil {
		return c.transportError(r, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		body, rerr := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
		return c.refusal(r, resp.Response, body, rerr)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return c.lost(r, resp.Response, "the answer broke off", err)
	}
	if len(body) > maxAnswer {
		return c.lost(r, resp.Response, "the answer is over 8 MiB", nil)
	}
	if out == nil {
		// Nothing is expected; but a web page of something in between says that Jira was not asked at all.
		if len(body) > 0 && !json.Valid(body) {
			return c.lost(r, resp.Response, "the answer is not what Jira's API sends: "+c.quote(resp.Header, body), nil)
		}
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return c.lost(r, resp.Response, "the answer is not what Jira's API sends: "+c.quote(resp.Header, body), nil)
	}
	return nil
}
