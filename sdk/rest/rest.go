// Package rest is polite HTTP for connectors: credentials that never leave their host, Retry-After, paging, size caps,
// redaction, and errors of the SDK's classes. It never retries by itself beyond what is stated: the host does.
package rest

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/internal/egress"
)

// Options configure a Client. Only BaseURL is required.
type Options struct {
	// BaseURL must be https, or http on a loopback address. A path in it is kept.
	BaseURL string
	// Field is the JSON pointer of the property that BaseURL comes from; default "/base_url".
	Field string
	// API names the API in errors, such as "Jira" or "Microsoft Graph"; default the host of BaseURL.
	API string
	// Auth adds the credential to a request. It is called only for requests to BaseURL's scheme, host and port: a redirect
	// or an absolute link to another host goes without.
	Auth func(ctx context.Context, req *http.Request) error
	// OnUnauthorized is called once after a 401; if it returns nil the request is repeated once (an expired token).
	OnUnauthorized func(ctx context.Context, resp *http.Response) error
	// Header is sent with every request to BaseURL's scheme, host and port.
	Header http.Header
	// Transport is the inner transport; default Transport(TransportOptions{}). No environment variable is looked at.
	Transport http.RoundTripper
	// Timeout bounds one request when the context has no earlier deadline; default 60 s. For Stream it bounds the wait for
	// the answer's head, and then each wait for more of its body.
	Timeout time.Duration
	// MaxBody caps a response that is read whole; default 8 MiB. Over it is sdk.TooLarge.
	MaxBody int64
	// Explain turns a vendor's error body into text, and may refine the error (nil keeps the default by status). The text
	// goes into err.Message, which comes empty; API, method, path, status and request id are put around it. An empty
	// message makes the error quote the body.
	Explain func(status int, header http.Header, body []byte, err *sdk.Error)
	// RequestIDHeaders are looked at in order for the vendor's request id; default X-Request-Id.
	RequestIDHeaders []string
}

const (
	defaultTimeout = 60 * time.Second
	defaultMaxBody = 8 << 20
	userAgent      = "casewire"
)

// Client calls one API. It is safe for concurrent use.
type Client struct {
	opts  Options
	base  *url.URL
	wire  *transport
	http  *http.Client
	inner http.RoundTripper
	reach *egress.Policy // outside of a call, and for connectors that declare nothing
	plain bool           // inner is the standard library's: what it says of a request that was not sent can be believed
}

// New makes a client, or says what is wrong with the options as sdk.BadConfig("/base_url", …).
func New(opts Options) (*Client, error) {
	base, err := parseBase(opts.BaseURL, cmp.Or(opts.Field, "/base_url"))
	if err != nil {
		return nil, err
	}
	c := &Client{opts: opts, base: base, inner: opts.Transport, reach: egress.ForURL(base)}
	c.opts.API = cmp.Or(opts.API, base.Host)
	c.opts.Timeout = cmp.Or(opts.Timeout, defaultTimeout)
	c.opts.MaxBody = cmp.Or(opts.MaxBody, defaultMaxBody)
	c.opts.Header = make(http.Header, len(opts.Header))
	for k, v := range opts.Header {
		c.opts.Header[http.CanonicalHeaderKey(k)] = slices.Clone(v)
	}
	if c.opts.RequestIDHeaders == nil {
		c.opts.RequestIDHeaders = []string{"X-Request-Id"}
	}
	if c.inner == nil {
		if c.inner, err = Transport(TransportOptions{}); err != nil {
			return nil, err
		}
	}
	_, c.plain = c.inner.(*http.Transport)
	c.wire = &transport{c: c}
	c.http = &http.Client{Transport: c.wire, CheckRedirect: c.redirect}
	return c, nil
}

func parseBase(s, field string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	switch {
	case s == "":
		return nil, sdk.BadConfig(field, "is required")
	case err != nil:
		return nil, sdk.BadConfig(field, "is no URL: want something like https://example.com")
	case u.User != nil:
		return nil, sdk.BadConfig(field, "has a user name or password in it; put credentials where they belong")
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, sdk.BadConfig(field, "%q is no https URL: want something like https://example.com", s)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, sdk.BadConfig(field, "%q has a query or fragment; leave it off", s)
	case u.Scheme == "http" && !loopback(u):
		return nil, sdk.BadConfig(field, "%q is plain http: the credential would travel in clear; use https (http is for loopback addresses only)", s)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func loopback(u *url.URL) bool {
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// sameOrigin says whether u has the scheme, host and port of the base.
func (c *Client) sameOrigin(u *url.URL) bool {
	return u.Scheme == c.base.Scheme && strings.EqualFold(u.Hostname(), c.base.Hostname()) && port(u) == port(c.base)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// Close closes idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Auth helpers.

// Bearer sends a fixed bearer token.
func Bearer(token sdk.Secret) func(context.Context, *http.Request) error {
	return func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+token.Reveal())
		return nil
	}
}

// Basic sends a user name and password.
func Basic(user string, password sdk.Secret) func(context.Context, *http.Request) error {
	return func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password.Reveal())))
		return nil
	}
}

// Request is one call. Path is relative to BaseURL and may have a query; its parts must be escaped (url.PathEscape), and
// "." and ".." are refused. An absolute URL is followed as it is (paging links).
type Request struct {
	Method string // default GET
	Path   string
	Query  url.Values
	Header http.Header
	// Body is sent as JSON unless it is []byte or io.Reader, which go as they are.
	Body any
	// Write marks a request that changes something: a transport failure after it was sent, a 5xx or a time-out is then an
	// uncertain outcome. Unset, it is derived from the method: everything but GET, HEAD and OPTIONS writes.
	Write *bool
	// OK lists further statuses that are no error.
	OK []int
}

func (r *Request) writes() bool {
	if r.Write != nil {
		return *r.Write
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	default:
		return true
	}
}

// Response is an answer that was read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte

	c    *Client
	trip *trip
}

// JSON decodes the body into v. A body that is no JSON is an error that quotes its first bytes.
func (r *Response) JSON(v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		if r.trip == nil {
			return notJSON("", r.Body, err, nil)
		}
		e := notJSON(fmt.Sprintf("%s: %d", r.trip.what(), r.Status), r.Body, err, r.trip.redact)
		e.HTTPStatus, e.RequestID = r.Status, r.c.requestID(r.Header)
		if r.trip.writes {
			e.SideEffect = sideEffectUnknown // it was made, or was it a proxy that answered?
		}
		return r.trip.finish(e)
	}
	return nil
}

// Get decodes the JSON answer to a GET into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	resp, err := c.Do(ctx, Request{Path: path, Query: query})
	if err != nil || out == nil {
		return err
	}
	return resp.JSON(out)
}

// Send sends body as JSON by method and decodes the answer into out unless out is nil or the answer is empty.
func (c *Client) Send(ctx context.Context, method, path string, body, out any) error {
	resp, err := c.Do(ctx, Request{Method: method, Path: path, Body: body})
	if err != nil || out == nil || len(resp.Body) == 0 {
		return err
	}
	return resp.JSON(out)
}

// Pages follows a list page by page. Next returns the next request, or ok false at the end. Any error ends the sequence,
// and so does a next request that is the same as the one before.
func (c *Client) Pages(ctx context.Context, first Request, next func(*Response) (req Request, ok bool, err error)) iter.Seq2[*Response, error] {
	return func(yield func(*Response, error) bool) {
		for req, before := first, ""; ; {
			here := req.Method + " " + req.Path + "?" + req.Query.Encode()
			if req.Body == nil && here == before {
				e := sdk.Unavailable("%s: the list does not end: its next page is the page itself", c.what(&req))
				yield(nil, e)
				return
			}
			get := c.Do
			if before != "" { // a list of a hundred pages would never end if each lost answer made it begin anew
				get = c.Read
			}
			resp, err := get(ctx, req)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(resp, nil) {
				return
			}
			before = here
			var more bool
			if req, more, err = next(resp); err != nil {
				yield(nil, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

// Bounds of how Read asks again.
const (
	readTries = 4
	readWait  = 200 * time.Millisecond
	readLimit = 10 * time.Second
)

// Read is Do for a question that changes nothing and is one of many that a larger job asks: the whole job should not
// begin anew for one lost answer. It asks up to four times, within some seconds, when the answer is lost, late, no JSON,
// or throttled for at most ten seconds. The request must be one that can be sent twice.
func (c *Client) Read(ctx context.Context, req Request) (*Response, error) {
	wait := readWait
	for try := 1; ; try++ {
		resp, err := c.Do(ctx, req)
		if err == nil && len(resp.Body) > 0 {
			err = resp.JSON(new(json.RawMessage)) // a sign-in page, or half of an answer
		}
		var e *sdk.Error
		if err == nil || try == readTries || !errors.As(err, &e) ||
			e.Code != codes.Unavailable && e.Code != codes.ResourceExhausted || e.RetryAfter > readLimit {
			return resp, err
		}
		t := time.NewTimer(max(wait, e.RetryAfter))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, err
		}
		wait *= 3
	}
}

// HTTPClient returns an http.Client with the same credential, redirect and header rules, for libraries that want one. The
// timeout holds for each hop of a redirect, up to the end of its body.
func (c *Client) HTTPClient() *http.Client {
	return &http.Client{Transport: &timed{c.wire, c.opts.Timeout}, CheckRedirect: c.redirect}
}

// DecodeJSON decodes one JSON value strictly enough to be safe (no trailing data), naming api and quoting the first
// bytes in errors.
func DecodeJSON(api string, body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return notJSON(api, body, err, nil)
	}
	return nil
}
