package rest

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "s3cr3t-t0k3n"

// client makes a client of a server that runs h.
func client(tb testing.TB, h http.HandlerFunc, change ...func(*Options)) *Client {
	tb.Helper()
	srv := httptest.NewServer(h)
	o := Options{BaseURL: srv.URL, API: "Vendor", Auth: Bearer(plugin.NewSecret(secret))}
	for _, c := range change {
		c(&o)
	}
	c, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = c.Close()
		srv.Close()
	})
	return c
}

func asError(t *testing.T, err error) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want an *sdk.Error", err, err)
	}
	if strings.Contains(fmt.Sprintf("%+v", *e), secret) || strings.Contains(e.Error(), secret) {
		t.Errorf("the credential shows: %s", e.Error())
	}
	return e
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ in, want string }{
		{"https://x.example", ""},
		{"https://x.example:8443/ex/jira/1/", ""},
		{"http://127.0.0.1:80/x", ""},
		{"http://[::1]:8080", ""},
		{"http://localhost", ""},
		{"", "is required"},
		{"x.example", "is no https URL"},
		{"ftp://x.example", "is no https URL"},
		{"https://", "is no https URL"},
		{"http://x.example", "plain http"},
		{"http://127.0.0.1.evil.example", "plain http"},
		{"http://localhost.evil.example", "plain http"},
		{"https://u:hunter2@x.example", "user name or password"},
		{"https://x.example/?a=b", "query or fragment"},
		{"https://x y", "is no URL"},
	} {
		_, err := New(Options{BaseURL: tc.in})
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.in, err)
			}
			continue
		}
		e := asError(t, err)
		if e.Class() != plugin.ClassConfig || !strings.Contains(e.Error(), "/base_url: ") || !strings.Contains(e.Error(), tc.want) || strings.Contains(e.Error(), "hunter2") {
			t.Errorf("%s: got %v", tc.in, e)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"method": r.Method, "uri": r.RequestURI, "body": string(b), "type": r.Header.Get("Content-Type"),
			"auth": r.Header.Get("Authorization"), "always": r.Header.Get("X-Always"), "own": r.Header.Get("X-Own"), "accept": r.Header.Get("Accept"),
			"agent": r.Header.Get("User-Agent"), "length": fmt.Sprint(r.ContentLength),
		})
	}, func(o *Options) {
		o.BaseURL += "/api/v1/"
		o.Header = http.Header{"X-Always": {"yes"}, "X-Own": {"default"}}
	})
	do := func(r Request) map[string]string {
		t.Helper()
		resp, err := c.Do(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]string
		if err := resp.JSON(&m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := do(Request{Path: "/things/a%2Fb?x=1", Query: url.Values{"q": {"a b"}}})
	if m["method"] != "GET" || m["uri"] != "/api/v1/things/a%2Fb?x=1&q=a+b" || m["auth"] != "Bearer "+secret ||
		m["always"] != "yes" || m["own"] != "default" || m["accept"] != "application/json" || m["agent"] != "casewire" {
		t.Errorf("got %v", m)
	}
	m = do(Request{Method: "POST", Path: "things", Body: map[string]int{"n": 1}, Header: http.Header{"x-own": {"mine"}}})
	if m["uri"] != "/api/v1/things" || m["body"] != `{"n":1}` || m["type"] != "application/json" || m["own"] != "mine" {
		t.Errorf("got %v", m)
	}
	m = do(Request{Method: "PUT", Path: "x", Body: []byte("raw"), Header: http.Header{"Content-Type": {"text/plain"}}})
	if m["body"] != "raw" || m["type"] != "text/plain" {
		t.Errorf("got %v", m)
	}
	if m = do(Request{Method: "POST", Path: "x", Body: strings.NewReader("streamed")}); m["body"] != "streamed" || m["length"] != "8" {
		t.Errorf("got %v", m)
	}
	if m = do(Request{Method: "POST", Path: "x", Body: io.LimitReader(strings.NewReader("chunked"), 99)}); m["body"] != "chunked" || m["length"] != "-1" {
		t.Errorf("got %v", m)
	}
	if m = do(Request{}); m["uri"] != "/api/v1" {
		t.Errorf("got %v", m)
	}
	for _, p := range []string{"../admin", "a/../b", "/./a", "a/%2e%2e/b"} {
		if e := asError(t, c.Get(t.Context(), p, nil, nil)); e.Class() != plugin.ClassInvalid || !strings.Contains(e.Message, "lead elsewhere") {
			t.Errorf("%s: got %v", p, e)
		}
	}
	if e := asError(t, c.Get(t.Context(), "a%zz", nil, nil)); e.Class() != plugin.ClassInvalid {
		t.Errorf("got %v", e)
	}
	if e := asError(t, c.Send(t.Context(), "POST", "x", make(chan int), nil)); e.Class() != plugin.ClassInvalid {
		t.Errorf("got %v", e)
	}
}

// other is a second host: "localhost" rather than 127.0.0.1, on a port of its own. It records what it is sent.
func other(t *testing.T) (base string, seen *atomic.Pointer[http.Header]) {
	t.Helper()
	seen = &atomic.Pointer[http.Header]{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		seen.Store(&h)
		_, _ = io.WriteString(w, `{"from":"other"}`)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, seen
}

// trusting is a transport that trusts every certificate of a test.
func trusting(t *testing.T) http.RoundTripper {
	t.Helper()
	tr, err := Transport(TransportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr.TLSClientConfig.InsecureSkipVerify = true
	return tr
}

func TestCredentialsStayOnTheirHost(t *testing.T) {
	t.Parallel()
	elsewhere, seen := other(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			c := client(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere+"/taken")
				w.WriteHeader(status)
			}, func(o *Options) {
				o.Transport = trusting(t)
				o.Header = http.Header{"X-Api-Key": {secret}}
			})
			seen.Store(nil)
			req := Request{Method: method, Path: "x", Header: http.Header{"X-Session": {secret}, "Prefer": {"wait=30"}}}
			if method != "GET" && method != "HEAD" {
				req.Body = map[string]int{}
			}
			_, err := c.Do(t.Context(), req)
			got := seen.Load()
			if method == "GET" || method == "HEAD" {
				if err != nil || got == nil {
					t.Fatalf("%s %d was not followed: %v", method, status, err)
				}
				if all := fmt.Sprint(*got); strings.Contains(all, secret) || got.Get("Prefer") == "" {
					t.Errorf("%s %d: the other host was sent %s", method, status, all)
				}
				continue
			}
			if got != nil {
				t.Errorf("%s %d was followed", method, status)
			}
			e := asError(t, err)
			unknown := status == 302 || status == 303
			if e.Class() != plugin.ClassConfig || (e.SideEffect == plugin.EffectUnknown) != unknown || !strings.Contains(e.Message, "redirects to "+elsewhere) {
				t.Errorf("%s %d: got %+v", method, status, e)
			}
		}
	}
}

func TestAbsoluteLinks(t *testing.T) {
	t.Parallel()
	elsewhere, seen := other(t)
	var auth atomic.Value
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		auth.Store(r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{}`)
	}, func(o *Options) { o.Transport = trusting(t) })
	if err := c.Get(t.Context(), c.opts.BaseURL+"/next?page=2", nil, nil); err != nil || auth.Load() != "Bearer "+secret {
		t.Errorf("a link to the API itself: %v, %v", err, auth.Load())
	}
	if err := c.Get(t.Context(), elsewhere+"/blob", nil, nil); err != nil || seen.Load().Get("Authorization") != "" {
		t.Errorf("a link to another host: %v, %v", err, seen.Load())
	}
	// Another port is another origin, and plain http elsewhere is not reached at all.
	e := asError(t, c.Get(t.Context(), "http://127.0.0.1:1/x", nil, nil))
	if !strings.Contains(e.Message, "plain http") || e.SideEffect != plugin.EffectNone {
		t.Errorf("got %v", e)
	}
	// The client for libraries has the same rules.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, elsewhere+"/x", nil)
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if seen.Load().Get("Authorization") != "" {
		t.Error("the library's client sent the credential elsewhere")
	}
}

func TestRedirectsOfGET(t *testing.T) {
	t.Parallel()
	var auths atomic.Int32
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+secret {
			auths.Add(1)
		}
		var n int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &n)
		if n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	if err := c.Get(t.Context(), "/5", nil, nil); err != nil || auths.Load() != 6 {
		t.Errorf("five redirects on one host: %v, %d with credential", err, auths.Load())
	}
	if e := asError(t, c.Get(t.Context(), "/6", nil, nil)); !strings.Contains(e.Message, "more than 5 redirects") {
		t.Errorf("got %v", e)
	}
}

func TestStatusClasses(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req-7")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(int(status.Load()))
		_, _ = fmt.Fprintf(w, "no,\n  not %s", secret)
	})
	for _, tc := range []struct {
		status  int
		class   plugin.Class // of a read
		write   plugin.Class
		unknown bool // a write's outcome
	}{
		{400, plugin.ClassInvalid, plugin.ClassInvalid, false},
		{401, plugin.ClassAuth, plugin.ClassAuth, false},
		{403, plugin.ClassDenied, plugin.ClassDenied, false},
		{404, plugin.ClassNotFound, plugin.ClassNotFound, false},
		{405, plugin.ClassInvalid, plugin.ClassInvalid, false},
		{408, plugin.ClassTimeout, plugin.ClassUncertain, true},
		{409, plugin.ClassConflict, plugin.ClassConflict, false},
		{410, plugin.ClassNotFound, plugin.ClassNotFound, false},
		{412, plugin.ClassConflict, plugin.ClassConflict, false},
		{413, plugin.ClassTooLarge, plugin.ClassTooLarge, false},
		{418, plugin.ClassInvalid, plugin.ClassInvalid, false},
		{422, plugin.ClassInvalid, plugin.ClassInvalid, false},
		{429, plugin.ClassThrottled, plugin.ClassThrottled, false},
		{500, plugin.ClassUnavailable, plugin.ClassUncertain, true},
		{502, plugin.ClassUnavailable, plugin.ClassUncertain, true},
		{503, plugin.ClassUnavailable, plugin.ClassUncertain, true},
		{504, plugin.ClassTimeout, plugin.ClassUncertain, true},
		{599, plugin.ClassUnavailable, plugin.ClassUncertain, true},
	} {
		status.Store(int32(tc.status))
		e := asError(t, c.Get(t.Context(), "/things?sig="+secret, nil, nil))
		if e.Class() != tc.class || e.SideEffect != plugin.EffectNone || e.HTTPStatus != tc.status || e.RequestID != "req-7" || e.RetryAfter != 3*time.Second {
			t.Errorf("GET %d: %+v", tc.status, e)
		}
		prefix, suffix := fmt.Sprintf("Vendor: GET /things: %d", tc.status), `"no, not [redacted]" (request id req-7)`
		if !strings.HasPrefix(e.Message, prefix) || !strings.HasSuffix(e.Message, suffix) {
			t.Errorf("GET %d: %s", tc.status, e.Message)
		}
		e = asError(t, c.Send(t.Context(), "POST", "/things", nil, nil))
		if e.Class() != tc.write || (e.SideEffect == plugin.EffectUnknown) != tc.unknown {
			t.Errorf("POST %d: %s, %s", tc.status, e.Class(), e.SideEffect)
		}
		if origin := e.Origin; (origin == plugin.OriginInput) != (tc.class == plugin.ClassInvalid) {
			t.Errorf("%d: origin %s", tc.status, origin)
		}
		// A search by POST is no write.
		no := false
		_, err := c.Do(t.Context(), Request{Method: "POST", Path: "/search", Write: &no})
		if e = asError(t, err); e.SideEffect != plugin.EffectNone {
			t.Errorf("search %d: %s", tc.status, e.SideEffect)
		}
		if resp, err := c.Do(t.Context(), Request{Path: "/things", OK: []int{tc.status}}); err != nil || resp.Status != tc.status {
			t.Errorf("%d with OK: %v", tc.status, err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Vendor-Id", "v-1")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"bad `+secret+`","code":"Gone"}`)
	}, func(o *Options) {
		o.RequestIDHeaders = []string{"X-None", "Vendor-Id"}
		o.Explain = func(status int, h http.Header, body []byte, e *sdk.Error) {
			var m struct{ Message, Code string }
			if json.Unmarshal(body, &m) != nil || status != 400 || h.Get("Vendor-Id") == "" {
				t.Error("Explain was not given the answer")
			}
			e.Message, e.Code, e.Reason = m.Message, codes.NotFound, m.Code
		}
	})
	e := asError(t, c.Get(t.Context(), "x", nil, nil))
	if e.Message != "Vendor: GET /x: 400 Bad Request: bad [redacted] (request id v-1)" || e.Class() != plugin.ClassNotFound || e.Reason != "Gone" {
		t.Errorf("got %+v", e)
	}
}

func TestBodiesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	var body atomic.Value
	c := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req-7")
		_, _ = io.WriteString(w, body.Load().(string))
	})
	var out struct {
		N int `json:"n"`
	}
	for _, tc := range []struct {
		body  string
		class plugin.Class
		want  string
	}{
		{"", plugin.ClassUnavailable, "Vendor: GET /x: 200: the answer is empty"},
		{"  \n", plugin.ClassUnavailable, "is empty"},
		{"<!doctype html><p>Sign in, " + secret, plugin.ClassUnavailable, `is HTML or XML where JSON was expected (a login page, a proxy?): "<!doctype html><p>Sign in, [redacted]"`},
		{`{"n":1`, plugin.ClassUnavailable, `no valid JSON (unexpected end of JSON input): "{\"n\":1" (request id req-7)`},
		{`{"n":1}{"n":2}`, plugin.ClassUnavailable, "no valid JSON"},
		{`{"n":"one"}`, plugin.ClassBug, `another shape than expected: string at "n"`},
		{`[]`, plugin.ClassBug, "another shape"},
		{strings.Repeat("x", 195) + secret, plugin.ClassUnavailable, "…"},
		{"\xff\x00\x1b[31m", plugin.ClassUnavailable, "\"\uFFFD\\x00\\x1b[31m\""},
	} {
		body.Store(tc.body)
		e := asError(t, c.Get(t.Context(), "x", nil, &out))
		if e.Class() != tc.class || !strings.Contains(e.Message, tc.want) || e.HTTPStatus != 200 || e.Origin != plugin.OriginDownstream || e.SideEffect != plugin.EffectNone {
			t.Errorf("%.30q: %s: %s", tc.body, e.Class(), e.Message)
		}
		if strings.Contains(e.Message, secret[:5]) {
			t.Errorf("a piece of the credential shows: %s", e.Message)
		}
		if tc.body == "" {
			continue // an empty answer to a write is fine
		}
		if e = asError(t, c.Send(t.Context(), "POST", "x", nil, &out)); e.SideEffect != plugin.EffectUnknown {
			t.Errorf("%.30q: after a write: %s", tc.body, e.SideEffect)
		}
	}
	if e := asError(t, DecodeJSON("API", []byte("<x>"), &out)); !strings.HasPrefix(e.Message, "API: the answer is HTML") {
		t.Errorf("got %v", e)
	}
	if err := (&Response{Body: []byte("[")}).JSON(&out); err == nil {
		t.Error("a Response made by hand has no error")
	}
}

func TestGiantTruncatedAndGzip(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/giant":
			_, _ = io.WriteString(w, strings.Repeat("x", 2000))
		case "/giant-chunked":
			for range 20 {
				_, _ = io.WriteString(w, strings.Repeat("x", 100))
				w.(http.Flusher).Flush()
			}
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 1<<20))
			_ = z.Close()
		case "/zipped":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, `{"n":1}`)
			_ = z.Close()
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}
	}, func(o *Options) { o.MaxBody = 1000 })
	for _, p := range []string{"/giant", "/giant-chunked", "/bomb"} {
		e := asError(t, c.Get(t.Context(), p, nil, nil))
		if e.Class() != plugin.ClassTooLarge || !strings.Contains(e.Message, "more than 1000 bytes") {
			t.Errorf("%s: %v", p, e)
		}
	}
	var out struct{ N int }
	if err := c.Get(t.Context(), "/zipped", nil, &out); err != nil || out.N != 1 {
		t.Errorf("gzip: %v, %v", out, err)
	}
	if e := asError(t, c.Get(t.Context(), "/cut", nil, nil)); e.Class() != plugin.ClassUnavailable || !strings.Contains(e.Message, "broke off") {
		t.Errorf("cut: %v", e)
	}
	if e := asError(t, c.Send(t.Context(), "POST", "/cut", nil, nil)); e.Class() != plugin.ClassUncertain {
		t.Errorf("cut after a write: %v", e)
	}
}

// What surely was not sent changed nothing; of what may have been, nobody knows.
func TestTransportFailures(t *testing.T) {
	t.Parallel()
	post := func(c *Client, ctx context.Context) *sdk.Error {
		return asError(t, c.Send(ctx, "POST", "x", map[string]int{}, nil))
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		c, err := New(Options{BaseURL: "http://" + l.Addr().String(), API: "Vendor"})
		if err != nil {
			t.Fatal(err)
		}
		if e := post(c, t.Context()); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, "refused") {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("unknown certificate", func(t *testing.T) {
		t.Parallel()
		base, _ := other(t)
		c, err := New(Options{BaseURL: base, API: "Vendor"})
		if err != nil {
			t.Fatal(err)
		}
		if e := post(c, t.Context()); e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, "ca_file") {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("hung up", func(t *testing.T) {
		t.Parallel()
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		})
		if e := post(c, t.Context()); e.Class() != plugin.ClassUncertain || e.SideEffect != plugin.EffectUnknown {
			t.Errorf("got %+v", e)
		}
		if e := asError(t, c.Get(t.Context(), "x", nil, nil)); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone {
			t.Errorf("got %+v", e)
		}
	})
	t.Run("no answer in time", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		c := client(t, func(http.ResponseWriter, *http.Request) { <-release }, func(o *Options) { o.Timeout = time.Second })
		t.Cleanup(func() { close(release) })
		if e := post(c, t.Context()); e.Code != codes.DeadlineExceeded || e.Class() != plugin.ClassUncertain || !strings.Contains(e.Message, "no answer in time") {
			t.Errorf("got %+v", e)
		}
		if e := asError(t, c.Get(t.Context(), "x", nil, nil)); e.Class() != plugin.ClassTimeout {
			t.Errorf("got %+v", e)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if e := post(c, ctx); e.Class() != plugin.ClassCancelled || e.SideEffect != plugin.EffectNone {
			t.Errorf("cancelled before it was sent: %+v", e)
		}
	})
	t.Run("an unknown transport", func(t *testing.T) {
		t.Parallel()
		c, err := New(Options{BaseURL: "https://x.example", API: "Vendor", Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("something")
		})})
		if err != nil {
			t.Fatal(err)
		}
		if e := post(c, t.Context()); e.SideEffect != plugin.EffectUnknown {
			t.Errorf("got %+v", e)
		}
		c.inner = roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("no")}
		})
		if e := post(c, t.Context()); e.SideEffect != plugin.EffectNone {
			t.Errorf("got %+v", e)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestUnauthorizedIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	var requests, refreshes atomic.Int32
	var refuse atomic.Bool
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		b, _ := io.ReadAll(r.Body)
		if refuse.Load() || n == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "expired")
			return
		}
		_, _ = w.Write(b)
	}, func(o *Options) {
		o.OnUnauthorized = func(_ context.Context, resp *http.Response) error {
			if b, _ := io.ReadAll(resp.Body); string(b) != "expired" {
				t.Errorf("OnUnauthorized was given %q", b)
			}
			refreshes.Add(1)
			return nil
		}
	})
	var out map[string]int
	if err := c.Send(t.Context(), "POST", "x", map[string]int{"n": 1}, &out); err != nil || out["n"] != 1 || refreshes.Load() != 1 {
		t.Errorf("got %v, %v after %d refreshes", out, err, refreshes.Load())
	}
	refuse.Store(true)
	requests.Store(0)
	e := asError(t, c.Get(t.Context(), "x", nil, nil))
	if e.Class() != plugin.ClassAuth || requests.Load() != 2 || !strings.Contains(e.Message, "expired") {
		t.Errorf("got %v after %d requests", e, requests.Load())
	}
	// A body that can be read once cannot be sent twice.
	requests.Store(0)
	_, err := c.Do(t.Context(), Request{Method: "POST", Path: "x", Body: io.LimitReader(strings.NewReader("x"), 1)})
	if e = asError(t, err); e.Class() != plugin.ClassAuth || requests.Load() != 1 {
		t.Errorf("got %v after %d requests", e, requests.Load())
	}
	// What the credential says of itself is what the caller reads.
	c.opts.OnUnauthorized = func(context.Context, *http.Response) error { return sdk.Auth("the secret has expired") }
	if e = asError(t, c.Get(t.Context(), "x", nil, nil)); e.Message != "the secret has expired" {
		t.Errorf("got %v", e)
	}
	c.opts.OnUnauthorized = func(context.Context, *http.Response) error { return errors.New("nothing to refresh") }
	if e = asError(t, c.Get(t.Context(), "x", nil, nil)); !strings.Contains(e.Message, "401 Unauthorized") || !strings.Contains(e.Message, "expired") {
		t.Errorf("got %v", e)
	}
}

func TestAuthThatFails(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	var fail error
	c := client(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) }, func(o *Options) {
		o.Auth = func(context.Context, *http.Request) error { return fail }
	})
	fail = sdk.Auth("AADSTS7000222: the client secret has expired")
	if e := asError(t, c.Send(t.Context(), "POST", "x", 1, nil)); e.Message != "AADSTS7000222: the client secret has expired" || e.SideEffect != plugin.EffectNone {
		t.Errorf("got %+v", e)
	}
	fail = errors.New("no token file")
	if e := asError(t, c.Send(t.Context(), "POST", "x", 1, nil)); e.Class() != plugin.ClassAuth || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, "Vendor: no credential: no token file") {
		t.Errorf("got %+v", e)
	}
	if reached.Load() {
		t.Error("a request went out without its credential")
	}
}

func TestBasicIsRedactedInEveryForm(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		_, pw, _ := r.BasicAuth()
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, pw+" "+r.Header.Get("Authorization"))
	}, func(o *Options) { o.Auth = Basic("jane", plugin.NewSecret(secret)) })
	if e := asError(t, c.Get(t.Context(), "x", nil, nil)); !strings.HasSuffix(e.Message, `"[redacted] [redacted]"`) {
		t.Errorf("got %s", e.Message)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		page := r.URL.Query().Get("page")
		if page == "3" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{"page":"`+page+`"}`)
	})
	walk := func(pages ...string) (seen []string, err error) {
		next := func(*Response) (Request, bool, error) {
			if len(pages) == 0 {
				return Request{}, false, nil
			}
			p := pages[0]
			pages = pages[1:]
			if p == "broken" {
				return Request{}, false, errors.New("broken link")
			}
			return Request{Path: "list", Query: url.Values{"page": {p}}}, true, nil
		}
		first, _, _ := next(nil)
		for resp, e := range c.Pages(t.Context(), first, next) {
			if e != nil {
				return seen, e
			}
			var m struct{ Page string }
			if err := resp.JSON(&m); err != nil {
				return seen, err
			}
			seen = append(seen, m.Page)
		}
		return seen, nil
	}
	for _, tc := range []struct {
		pages []string
		seen  string
		err   string
	}{
		{[]string{"1", "2"}, "1 2", ""},
		{[]string{"1", "3", "4"}, "1", "500"},
		{[]string{"1", "broken"}, "1", "broken link"},
		{[]string{"1", "2", "2"}, "1 2", "does not end"},
	} {
		seen, err := walk(tc.pages...)
		if strings.Join(seen, " ") != tc.seen || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v: %v, %v", tc.pages, seen, err)
		}
	}
	for range c.Pages(t.Context(), Request{Path: "list"}, func(*Response) (Request, bool, error) { t.Error("asked on"); return Request{}, false, nil }) {
		break
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		case "/late":
			<-release
		default:
			_, _ = io.WriteString(w, "first ")
			w.(http.Flusher).Flush()
			if r.URL.Path == "/stuck" {
				<-release
			}
			_, _ = io.WriteString(w, "second")
		}
	}, func(o *Options) { o.Timeout = time.Second })
	t.Cleanup(func() { close(release) })
	resp, err := c.Stream(t.Context(), Request{Path: "x"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil || string(b) != "first second" {
		t.Errorf("got %q, %v, %v", b, err, cerr)
	}
	if _, err = c.Stream(t.Context(), Request{Path: "missing"}); asError(t, err).Class() != plugin.ClassNotFound {
		t.Errorf("got %v", err)
	}
	if _, err = c.Stream(t.Context(), Request{Path: "late"}); asError(t, err).Class() != plugin.ClassTimeout {
		t.Errorf("got %v", err)
	}
	resp, err = c.Stream(t.Context(), Request{Path: "stuck"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if e := asError(t, err); e.Class() != plugin.ClassTimeout || !strings.Contains(e.Message, "did not arrive in time") {
		t.Errorf("got %v", e)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 1.5 ": 1500 * time.Millisecond, "0": 0, "-3": 0, "soon": 0, "NaN": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:03:05 GMT": 0,
		"1e99": 24 * time.Hour, "Inf": 24 * time.Hour, "Fri, 02 Jan 2099 03:03:05 GMT": 24 * time.Hour,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {in}}, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestTransportOptions(t *testing.T) {
	// Not parallel: it sets the environment to see that nobody looks.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	for _, o := range []TransportOptions{
		{Proxy: plugin.NewSecret("proxy.example:3128")}, {Proxy: plugin.NewSecret("http://" + secret + "@")}, {CAFile: t.TempDir() + "/none"}, {CA: "no PEM"},
	} {
		_, err := Transport(o)
		if e := asError(t, err); e.Class() != plugin.ClassConfig {
			t.Errorf("got %v", e)
		}
	}
	tr, err := Transport(TransportOptions{})
	if err != nil || tr.MaxIdleConnsPerHost < 64 {
		t.Errorf("got %+v, %v", tr, err)
	}
	if via, err := tr.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "site.example"}}); via != nil || err != nil {
		t.Errorf("the environment's proxy is used: %v, %v", via, err)
	}
	tr, err = Transport(TransportOptions{Proxy: plugin.NewSecret("http://proxy.example:3128")})
	if err != nil {
		t.Fatal(err)
	}
	far, near := &http.Request{URL: &url.URL{Scheme: "https", Host: "x.example"}}, &http.Request{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}
	if u, _ := tr.Proxy(far); u == nil || u.Host != "proxy.example:3128" {
		t.Errorf("proxy %v", u)
	}
	if u, _ := tr.Proxy(near); u != nil {
		t.Errorf("a loopback address is reached by proxy %v", u)
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }))
	t.Cleanup(srv.Close)
	tr, err := Transport(TransportOptions{CA: pemOf(srv)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{BaseURL: srv.URL, Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Get(t.Context(), "x", nil, nil); err != nil {
		t.Error(err)
	}
}

func BenchmarkGet(b *testing.B) {
	answer := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"n":1}`)), ContentLength: 7}, nil
	}
	c, err := New(Options{BaseURL: "https://x.example/api", Transport: roundTrip(answer), Auth: Bearer(plugin.NewSecret(secret))})
	if err != nil {
		b.Fatal(err)
	}
	var out struct{ N int }
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Get(b.Context(), "/things/1", nil, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func pemOf(srv *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
}

// A long list does not begin anew because one of its later answers is lost; its first one is the caller's to repeat.
func TestLaterPagesAreAskedForAgain(t *testing.T) {
	t.Parallel()
	var asked [3]atomic.Int64
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		switch n := asked[page].Add(1); {
		case page == 1 && n == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case page == 1 && n == 2:
			panic(http.ErrAbortHandler)
		case page == 1 && n == 3:
			_, _ = io.WriteString(w, `<html><title>Sign in</title></html>`)
		case page == 2:
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			_, _ = io.WriteString(w, `{}`)
		}
	})
	page, seen := 0, 0
	next := func(*Response) (Request, bool, error) {
		page++
		return Request{Path: "list", Query: url.Values{"page": {strconv.Itoa(page)}}}, true, nil
	}
	var last error
	for _, err := range c.Pages(t.Context(), Request{Path: "list", Query: url.Values{"page": {"0"}}}, next) {
		if last = err; err == nil {
			seen++
		}
	}
	var e *sdk.Error
	if seen != 2 || !errors.As(last, &e) || e.RetryAfter != 10*time.Minute {
		t.Errorf("%d pages, then %v", seen, last)
	}
	if n := asked[1].Load(); n < 4 || asked[2].Load() != 1 {
		t.Errorf("asked %d and %d times", n, asked[2].Load())
	}
}
