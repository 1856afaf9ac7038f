package jira

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

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

	header      http.Header           // further headers
	raw         io.Reader             // instead of body, sent once as it is
	contentType string                // of raw
	sent        string                // the Authorization that a 401 refused
	sink        func(io.Reader) error // takes an answer that is no JSON

	steps   bool                                // aside with errStepAside, instead of waiting for its turn
	pausing func(wait time.Duration, err error) // is told of each pause before the request; err is for who cannot wait
	fill    func() error                        // makes the body when it is the request's turn
}

func (r *request) what() string { return strings.TrimSpace(r.verb + " " + r.noun) }

func (c *Client) build(ctx context.Context, r *request) (*http.Request, error) {
	var req *http.Request
	var err error
	if r.raw != nil {
		if req, err = c.jira.NewRawRequestWithContext(ctx, r.method, r.path, r.raw); err == nil {
			req.Header.Set("Content-Type", r.contentType)
		}
	} else {
		req, err = c.jira.NewRequestWithContext(ctx, r.method, r.path, r.body)
	}
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, r.header)
	return req, nil
}

// do sends r. A token that Jira has stopped taking is renewed, and the request sent once more.
func (c *Client) do(ctx context.Context, r *request, out any) error {
	err := c.once(ctx, r, out)
	if c.oauth == nil || r.sent == "" || r.raw != nil {
		return err
	}
	var e *sdk.Error
	if !errors.As(err, &e) || e.HTTPStatus != http.StatusUnauthorized || !c.oauth.refused(ctx, r.sent) {
		return err
	}
	return c.once(ctx, r, out)
}

// once sends r through go-jira's client and decodes the answer into out unless out is nil. Go-jira's own error handling is
// left aside: it drops the status, misreads half of Jira's error bodies and leaves answers unread.
func (c *Client) once(ctx context.Context, r *request, out any) error {
	answered, err := c.pace.turn(ctx, r)
	if err != nil {
		return err
	}
	defer answered()
	if r.fill != nil {
		if err := r.fill(); err != nil {
			return err
		}
	}
	req, err := c.build(ctx, r)
	if err != nil {
		return sdk.Invalid("", "%s: the request cannot be built: %w", r.what(), err)
	}
	// Do with a nil target leaves the body to us, for every status.
	resp, err := c.jira.Do(req, nil)
	if resp == nil {
		return c.transportError(r, err)
	}
	defer resp.Body.Close()
	if r.outcome == reads {
		c.learnTime(resp.Header)
	}
	if resp.StatusCode == http.StatusUnauthorized && resp.Request != nil {
		r.sent = resp.Request.Header.Get("Authorization")
	}
	c.pace.heed(r, resp.StatusCode, resp.Header, c.isCloud())
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		body, rerr := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
		return c.refusal(r, resp.Response, body, rerr)
	}
	if r.sink != nil {
		if err := r.sink(resp.Body); err != nil {
			return c.lost(r, resp.Response, "the answer broke off", err)
		}
		return nil
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
	c.pace.learnFrom(out)
	return nil
}
