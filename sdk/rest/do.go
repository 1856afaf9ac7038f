package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

const sideEffectUnknown = plugin.EffectUnknown

// trip is what is known of one request: for its error, should there be one.
type trip struct {
	c      *Client
	method string
	path   string // without query: queries carry data and signatures
	writes bool
	sent   atomic.Bool
	header atomic.Pointer[http.Header] // of the last hop, credential and all
}

type tripKey struct{}

func tripOf(ctx context.Context) *trip {
	t, _ := ctx.Value(tripKey{}).(*trip)
	return t
}

func (t *trip) remember(req *http.Request) { t.header.Store(&req.Header) }

func (t *trip) what() string { return t.c.opts.API + ": " + t.method + " " + t.path }

func (c *Client) what(r *Request) string {
	m := r.Method
	if m == "" {
		m = http.MethodGet
	}
	path, _, _ := strings.Cut(r.Path, "?")
	if u, err := url.Parse(path); err == nil && u.IsAbs() {
		path = u.Scheme + "://" + u.Host + u.EscapedPath()
	}
	return c.opts.API + ": " + m + " " + path
}

// redact takes the credential out of a text.
func (t *trip) redact(s string) string {
	h := t.header.Load()
	if h == nil {
		return s
	}
	for name, values := range *h {
		if !secretHeader(name) {
			continue
		}
		for _, v := range values {
			s = replace(s, v)
			kind, cred, ok := strings.Cut(v, " ")
			if !ok {
				continue
			}
			s = replace(s, cred)
			if raw, err := base64.StdEncoding.DecodeString(cred); err == nil && strings.EqualFold(kind, "Basic") {
				_, password, _ := strings.Cut(string(raw), ":")
				s = replace(s, password)
			}
		}
	}
	return s
}

func replace(s, secret string) string {
	if len(secret) < 4 {
		return s
	}
	return strings.ReplaceAll(s, secret, plugin.Redacted)
}

// finish makes an error fit to be seen.
func (t *trip) finish(e *sdk.Error) *sdk.Error {
	e.RequestID = t.redact(e.RequestID)
	if e.RequestID != "" && !strings.Contains(e.Message, e.RequestID) {
		e.Message += " (request id " + e.RequestID + ")"
	}
	e.Message = t.redact(e.Message)
	for i := range e.Violations {
		e.Violations[i].Description = t.redact(e.Violations[i].Description)
	}
	return e
}

// address makes the URL of a request.
func (c *Client) address(r *Request) (*url.URL, error) {
	var u *url.URL
	var err error
	if strings.HasPrefix(r.Path, "https://") || strings.HasPrefix(r.Path, "http://") {
		if u, err = url.Parse(r.Path); err != nil || u.Host == "" || u.User != nil {
			return nil, sdk.Unavailable("%s: a link is no URL", c.opts.API)
		}
	} else {
		rel, err := url.Parse("/" + strings.TrimLeft(r.Path, "/"))
		if err != nil {
			return nil, sdk.Invalid("", "%s: path %.200q cannot be part of a URL; escape its parts", c.opts.API, r.Path)
		}
		for part := range strings.SplitSeq(rel.Path, "/") {
			if part == "." || part == ".." {
				return nil, sdk.Invalid("", "%s: path %.200q has a part %q, which would lead elsewhere", c.opts.API, r.Path, part)
			}
		}
		copied := *c.base
		u = &copied
		u.RawPath = u.EscapedPath() + rel.EscapedPath()
		u.Path += rel.Path
		u.RawQuery = rel.RawQuery
		if r.Path == "" {
			u.Path, u.RawPath = c.base.Path, c.base.RawPath
		}
	}
	if len(r.Query) > 0 {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += r.Query.Encode()
	}
	u.Fragment = ""
	return u, nil
}

// build makes the http.Request and says whether it can be sent again.
func (c *Client) build(r *Request) (req *http.Request, again bool, err error) {
	u, err := c.address(r)
	if err != nil {
		return nil, false, err
	}
	req = &http.Request{
		Method: r.Method, URL: u, Host: u.Host, Header: make(http.Header, len(r.Header)+3),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if req.Method == "" {
		req.Method = http.MethodGet
	}
	for k, v := range r.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header["Accept"] = []string{"application/json"}
	}
	var body []byte
	switch b := r.Body.(type) {
	case nil:
		return req, true, nil
	case []byte:
		body = b
	case io.Reader:
		stream(req, b)
		return req, false, nil
	default:
		if body, err = json.Marshal(b); err != nil {
			return nil, false, sdk.Invalid("", "%s: the body cannot be written as JSON: %v", c.what(r), err)
		}
		if _, ok := req.Header["Content-Type"]; !ok {
			req.Header["Content-Type"] = []string{"application/json"}
		}
	}
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if len(body) == 0 {
		req.Body = http.NoBody
		return req, true, nil
	}
	req.Body, err = req.GetBody()
	return req, true, err
}

// stream gives a request a body that can be read once.
func stream(req *http.Request, r io.Reader) {
	req.ContentLength = -1
	if l, ok := r.(interface{ Len() int }); ok { // bytes.Reader, bytes.Buffer, strings.Reader
		req.ContentLength = int64(l.Len())
	}
	if rc, ok := r.(io.ReadCloser); ok {
		req.Body = rc
	} else {
		req.Body = io.NopCloser(r)
	}
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	}
}

// send sends a request, at most twice (see Options.OnUnauthorized). The answer is not an error by status; its body is
// open.
func (c *Client) send(ctx context.Context, r *Request) (*http.Response, *trip, error) {
	t := &trip{c: c, method: r.Method, writes: r.writes()}
	req, again, err := c.build(r)
	if err != nil {
		return nil, t, err
	}
	t.method, t.path = req.Method, req.URL.EscapedPath()
	if !c.sameOrigin(req.URL) {
		t.path = req.URL.Scheme + "://" + req.URL.Host + t.path
	}
	ctx = context.WithValue(ctx, tripKey{}, t)
	if t.writes {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { t.sent.Store(true) }, // from here on bytes may be on their way
		})
	}
	req = req.WithContext(ctx)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, t, t.failed(ctx, err)
	}
	if resp.StatusCode != http.StatusUnauthorized || c.opts.OnUnauthorized == nil || !again || slices.Contains(r.OK, resp.StatusCode) {
		return resp, t, nil
	}
	// Keep the answer: if there is no better one, it is the answer.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what there is of it
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err := c.opts.OnUnauthorized(ctx, resp); err != nil {
		if _, ok := errors.AsType[*sdk.Error](err); ok {
			return nil, t, err // the credential knows better why
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, t, nil
	}
	second := req.Clone(ctx)
	if req.GetBody != nil {
		if second.Body, err = req.GetBody(); err != nil {
			return nil, t, err
		}
	}
	t.sent.Store(false)
	if resp, err = c.http.Do(second); err != nil {
		return nil, t, t.failed(ctx, err)
	}
	return resp, t, nil
}

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 64 << 10

// Do sends the request and reads the answer. A status of 400 and above, unless listed in OK, is an *sdk.Error of the
// right class with status, request id and the first bytes of the body. So is a redirect that is not followed.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	resp, t, err := c.send(ctx, &req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if bad(resp.StatusCode, req.OK) {
		return nil, t.refused(ctx, resp)
	}
	body, err := read(resp, c.opts.MaxBody)
	if err != nil {
		return nil, t.unread(ctx, resp, err)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body, c: c, trip: t}, nil
}

// bad says whether a status is an error.
func bad(status int, ok []int) bool {
	if status >= 200 && status < 300 || status == http.StatusNotModified {
		return false
	}
	return !slices.Contains(ok, status)
}

var errTooLarge = errors.New("too large")

// read reads a body of at most limit bytes.
func read(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, errTooLarge
	}
	var b bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		b.Grow(int(min(n, 1<<20)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(resp.Body, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, errTooLarge
	}
	return b.Bytes(), nil
}

// Stream is Do without reading the body; the caller closes it. Errors are read and classed as in Do.
func (c *Client) Stream(ctx context.Context, req Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.opts.Timeout, func() { cancel(context.DeadlineExceeded) })
	resp, t, err := c.send(ctx, &req)
	if err == nil && bad(resp.StatusCode, req.OK) {
		err = t.refused(ctx, resp)
		_ = resp.Body.Close()
	}
	timer.Stop()
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &slowBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, timer: timer, patience: c.opts.Timeout, resp: resp, trip: t}
	return resp, nil
}

// slowBody is a body of any length that must keep coming.
type slowBody struct {
	io.ReadCloser

	ctx      context.Context //nolint:containedctx // the body is the rest of the call that the context belongs to
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
	resp     *http.Response
	trip     *trip
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.patience)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.trip.unread(b.ctx, b.resp, err)
	}
	return n, err
}

func (b *slowBody) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	if err := b.ReadCloser.Close(); err != nil {
		return fmt.Errorf("close the answer of %s: %w", b.trip.what(), err)
	}
	return nil
}
