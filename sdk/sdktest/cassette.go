package sdktest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/casewire/casewire/sdk"
)

var recordFlag = flag.Bool("sdktest.record", false, "record cassettes anew, by asking the real services")

// CassetteOptions configure a cassette. The zero value works.
type CassetteOptions struct {
	// Secrets must not be in the file: they are redacted wherever they occur, as they are, escaped for URLs and in base64.
	Secrets []sdk.Secret
	// Redact rewrites a body before it is kept or compared; it is for what is private but no secret of the configuration.
	Redact func(body []byte) []byte
	// IgnoreBody matches requests by method and URL only, for bodies that are never the same twice.
	IgnoreBody bool
	// Unused allows answers that no request asked for.
	Unused bool
	// Transport is asked when recording; default http.DefaultTransport.
	Transport http.RoundTripper
}

// Cassette is a transport for rest.Options.Transport that answers from a HAR file: a request that is not on it fails, with
// the request and the test; so does, at the end, an answer that nobody asked for. Each answer is given once; equal requests
// get theirs in the order in which they were recorded.
//
// With -sdktest.record it asks the real service and writes the file when the test has passed. Credentials do not get into it:
// secret headers (Authorization, cookies, anything like a key or a token), URL parameters and JSON or form fields of such
// names, and Options.Secrets are replaced; requests are compared after the same replacement. Look through the file before
// you commit it all the same.
func Cassette(tb testing.TB, file string, opts ...CassetteOptions) http.RoundTripper {
	tb.Helper()
	var o CassetteOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	return newCassette(tb, file, o, *recordFlag)
}

func newCassette(tb testing.TB, file string, opts CassetteOptions, record bool) *cassette {
	tb.Helper()
	c := &cassette{tb: tb, file: file, opts: opts}
	if record {
		c.inner = c.opts.Transport
		if c.inner == nil {
			c.inner = http.DefaultTransport
		}
		c.har.Log.Version, c.har.Log.Creator = "1.2", harCreator{"casewire sdktest", "1"}
		tb.Cleanup(c.save)
		return c
	}
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatalf("%v; run the test with -sdktest.record to record it", err)
	}
	if err := json.Unmarshal(b, &c.har); err != nil {
		tb.Fatalf("%s is no cassette: %v", file, err)
	}
	c.used = make([]bool, len(c.har.Log.Entries))
	tb.Cleanup(c.rest)
	return c
}

type cassette struct {
	tb    testing.TB
	file  string
	opts  CassetteOptions
	inner http.RoundTripper // nil when replaying

	mu   sync.Mutex
	har  har
	used []bool
}

// The part of HAR 1.2 that is written and read.
type (
	har struct {
		Log struct {
			Version string     `json:"version"`
			Creator harCreator `json:"creator"`
			Entries []harEntry `json:"entries"`
		} `json:"log"`
	}
	harCreator struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	harEntry struct {
		Started  time.Time   `json:"startedDateTime"`
		Time     float64     `json:"time"` // milliseconds
		Request  harRequest  `json:"request"`
		Response harResponse `json:"response"`
	}
	harRequest struct {
		Method  string    `json:"method"`
		URL     string    `json:"url"`
		Version string    `json:"httpVersion"`
		Headers []harPair `json:"headers"`
		Post    *harBody  `json:"postData,omitempty"`
	}
	harResponse struct {
		Status  int       `json:"status"`
		Text    string    `json:"statusText"`
		Version string    `json:"httpVersion"`
		Headers []harPair `json:"headers"`
		Content harBody   `json:"content"`
	}
	harPair struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	harBody struct {
		MimeType string `json:"mimeType"`
		Text     string `json:"text"`
		Encoding string `json:"encoding,omitempty"` // base64
	}
)

// RoundTrip answers from the cassette, or records.
func (c *cassette) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		if err = errors.Join(err, req.Body.Close()); err != nil {
			return nil, err
		}
	}
	asked := harRequest{Method: cmp.Or(req.Method, http.MethodGet), URL: c.address(req.URL), Version: "HTTP/1.1"}
	if len(body) > 0 {
		b := c.body(req.Header.Get("Content-Type"), body)
		asked.Post = &b
	}
	if c.inner != nil {
		return c.record(req, asked, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, e := range c.har.Log.Entries {
		if !c.used[i] && c.same(e.Request, asked) {
			c.used[i] = true
			return answer(req, e.Response)
		}
	}
	err := fmt.Errorf("%s has no answer left for %s %s%s; record it anew with -sdktest.record", c.file, asked.Method, asked.URL, quoteBody(asked.Post))
	c.tb.Error(err)
	return nil, err
}

func quoteBody(b *harBody) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf(" with body %.500q", b.Text)
}

func (c *cassette) same(a, b harRequest) bool {
	if a.Method != b.Method || a.URL != b.URL {
		return false
	}
	if c.opts.IgnoreBody {
		return true
	}
	if a.Post == nil || b.Post == nil {
		return a.Post == b.Post
	}
	if a.Post.Text == b.Post.Text {
		return true
	}
	x, err1 := canonical([]byte(a.Post.Text))
	y, err2 := canonical([]byte(b.Post.Text))
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func answer(req *http.Request, r harResponse) (*http.Response, error) {
	body := []byte(r.Content.Text)
	if r.Content.Encoding == "base64" {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.Content.Text); err != nil {
			return nil, fmt.Errorf("the cassette's answer to %s: %w", req.URL.Path, err)
		}
	}
	resp := &http.Response{
		StatusCode: r.Status, Status: fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
	for _, h := range r.Headers {
		resp.Header.Add(h.Name, h.Value)
	}
	return resp, nil
}

func (c *cassette) record(req *http.Request, asked harRequest, body []byte) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	began := time.Now()
	resp, err := c.inner.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(got))
	asked.Headers = c.headers(req.Header)
	e := harEntry{Started: began.UTC().Truncate(time.Millisecond), Time: float64(time.Since(began).Milliseconds()), Request: asked}
	e.Response = harResponse{
		Status: resp.StatusCode, Text: http.StatusText(resp.StatusCode), Version: "HTTP/1.1", Headers: c.headers(resp.Header),
		Content: c.body(resp.Header.Get("Content-Type"), got),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.har.Log.Entries = append(c.har.Log.Entries, e)
	return resp, nil
}

// save writes the file when the test has passed.
func (c *cassette) save() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tb.Failed() {
		c.tb.Logf("%s is not written: the test failed", c.file)
		return
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(c.har)
	for _, s := range c.opts.Secrets {
		for _, form := range forms(s) {
			if err == nil && bytes.Contains(out.Bytes(), []byte(form)) {
				err = errors.New("it would hold a secret; it is not written")
			}
		}
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.file), 0o755) //nolint:gosec // test data is for everybody
	}
	if err == nil {
		err = os.WriteFile(c.file, out.Bytes(), 0o644) //nolint:gosec // test data is for everybody
	}
	if err != nil {
		c.tb.Errorf("record %s: %v", c.file, err)
	}
}

// rest complains of answers that nobody asked for.
func (c *cassette) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.Unused || c.tb.Failed() {
		return
	}
	for i, e := range c.har.Log.Entries {
		if !c.used[i] {
			c.tb.Errorf("%s: nobody asked for %s %s", c.file, e.Request.Method, e.Request.URL)
		}
	}
}

// What is replaced before anything is kept or compared.

func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "key", "token", "cookie", "secret", "signature", "password", "assertion"} {
		if strings.Contains(name, part) && name != "key" && name != "keys" { // Jira's issues have a key that is none
			return true
		}
	}
	return false
}

// forms lists how a secret may be written.
func forms(s sdk.Secret) []string {
	v := s.Reveal()
	if len(v) < 4 {
		return nil
	}
	quoted, _ := json.Marshal(v)
	return []string{v, url.QueryEscape(v), url.PathEscape(v), base64.StdEncoding.EncodeToString([]byte(v)), strings.Trim(string(quoted), `"`)}
}

func (c *cassette) text(s string) string {
	for _, secret := range c.opts.Secrets {
		for _, form := range forms(secret) {
			s = strings.ReplaceAll(s, form, sdk.Redacted)
		}
	}
	return s
}

func (c *cassette) headers(h http.Header) []harPair {
	out := []harPair{}
	for k, values := range h {
		for _, v := range values {
			if secretName(k) {
				v = sdk.Redacted
			}
			out = append(out, harPair{k, c.text(v)})
		}
	}
	slices.SortStableFunc(out, func(a, b harPair) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (c *cassette) address(u *url.URL) string {
	v := *u
	v.User, v.Fragment = nil, ""
	q := v.Query()
	for k := range q {
		if secretName(k) {
			q.Set(k, sdk.Redacted)
		}
	}
	v.RawQuery = q.Encode()
	return c.text(v.String())
}

func (c *cassette) body(mime string, b []byte) harBody {
	if c.opts.Redact != nil {
		b = c.opts.Redact(b)
	}
	switch {
	case strings.Contains(mime, "json"):
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var v any
		if d.Decode(&v) == nil && hide(v) {
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			if enc.Encode(v) == nil {
				b = bytes.TrimSpace(out.Bytes())
			}
		}
	case strings.Contains(mime, "x-www-form-urlencoded"):
		if form, err := url.ParseQuery(string(b)); err == nil {
			for k := range form {
				if secretName(k) {
					form.Set(k, sdk.Redacted)
				}
			}
			b = []byte(form.Encode())
		}
	}
	if !utf8.Valid(b) {
		return harBody{MimeType: mime, Text: base64.StdEncoding.EncodeToString(b), Encoding: "base64"}
	}
	return harBody{MimeType: mime, Text: c.text(string(b))}
}

// hide replaces strings with secret names in place, and says whether there were any.
func hide(v any) bool {
	found := false
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if _, ok := x.(string); ok && secretName(k) {
				v[k], found = sdk.Redacted, true
			} else if hide(x) {
				found = true
			}
		}
	case []any:
		for _, x := range v {
			found = hide(x) || found
		}
	}
	return found
}
