// Package rest is polite HTTP for connectors: credentials that never leave their host, Retry-After, paging, size caps,
// redaction, and errors of the SDK's classes. It never retries by itself beyond what is stated: the host does.
package rest

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/casewire/casewire/sdk"
)

// Options configure a Client. Only BaseURL is required.
type Options struct {
	// BaseURL must be https, or http on a loopback address. A path in it is kept.
	BaseURL string
	// API names the API in errors, such as "Jira" or "Microsoft Graph".
	API string
	// Auth adds the credential to a request. It is called only for requests to BaseURL's scheme, host and port: a redirect
	// or an absolute link to another host goes without.
	Auth func(ctx context.Context, req *http.Request) error
	// OnUnauthorized is called once after a 401; if it returns nil the request is repeated once (an expired token).
	OnUnauthorized func(ctx context.Context, resp *http.Response) error
	// Header is sent with every request.
	Header http.Header
	// Transport is the inner transport; default a pooled one with proxy and CA support from Env-free options.
	Transport http.RoundTripper
	// Timeout bounds one request when the context has no earlier deadline; default 60 s.
	Timeout time.Duration
	// MaxBody caps a response that is read whole; default 8 MiB. Over it is sdk.TooLarge.
	MaxBody int64
	// Explain turns a vendor's error body into text, and may refine the error (nil keeps the default by status).
	Explain func(status int, header http.Header, body []byte, err *sdk.Error)
	// RequestIDHeaders are looked at in order for the vendor's request id.
	RequestIDHeaders []string
}

// Client calls one API.
type Client struct{ opts Options }

// New makes a client, or says what is wrong with the options as sdk.BadConfig("base_url", …).
func New(opts Options) (*Client, error) { panic("contract only") }

// Auth helpers.

// Bearer sends a fixed bearer token.
func Bearer(token sdk.Secret) func(context.Context, *http.Request) error { panic("contract only") }

// Basic sends a user name and password.
func Basic(user string, password sdk.Secret) func(context.Context, *http.Request) error {
	panic("contract only")
}

// Request is one call. Path is relative to BaseURL; an absolute URL is followed as it is (paging links).
type Request struct {
	Method string
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

// Response is an answer that was read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body into v. A body that is no JSON is an error that quotes its first bytes.
func (r *Response) JSON(v any) error { panic("contract only") }

// Do sends the request and reads the answer. A status of 400 and above, unless listed in OK, is an *sdk.Error of the
// right class with status, request id and the first bytes of the body.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) { panic("contract only") }

// Stream is Do without reading the body; the caller closes it. Errors are read and classed as in Do.
func (c *Client) Stream(ctx context.Context, req Request) (*http.Response, error) {
	panic("contract only")
}

// Get decodes the JSON answer to a GET into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	panic("contract only")
}

// Send sends body as JSON by method and decodes the answer into out unless out is nil or the answer is empty.
func (c *Client) Send(ctx context.Context, method, path string, body, out any) error {
	panic("contract only")
}

// Pages follows a list page by page. Next returns the next request, or ok false at the end. Any error ends the sequence.
func (c *Client) Pages(ctx context.Context, first Request, next func(*Response) (req Request, ok bool, err error)) iter.Seq2[*Response, error] {
	panic("contract only")
}

// HTTPClient returns an http.Client with the same credential, redirect and header rules, for libraries that want one.
func (c *Client) HTTPClient() *http.Client { panic("contract only") }

// RetryAfter reads a Retry-After header (seconds or date); zero when there is none.
func RetryAfter(h http.Header, now time.Time) time.Duration { panic("contract only") }

// DecodeJSON decodes one JSON value strictly enough to be safe (no trailing data), naming api and quoting the first
// bytes in errors.
func DecodeJSON(api string, body []byte, v any) error {
	return json.Unmarshal(body, v)
}
