package httpconn_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	httpconn "github.com/casewire/casewire/connectors/http"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "s3cr3t-0123456789"

// api answers by a function and keeps what it was asked.
type api struct {
	*httptest.Server
	mu   sync.Mutex
	seen []asked
}

type asked struct {
	what   string // method and URI
	header http.Header
	body   string
}

func serve(t *testing.T, fn http.HandlerFunc) *api {
	t.Helper()
	a := &api{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.seen = append(a.seen, asked{r.Method + " " + r.RequestURI, r.Header.Clone(), string(b)})
		a.mu.Unlock()
		fn(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) last(t *testing.T) asked {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) == 0 {
		t.Fatal("nothing was asked")
	}
	return a.seen[len(a.seen)-1]
}

func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Thing", "1")
	w.Header().Set("Set-Cookie", "session=secret")
	_, _ = w.Write([]byte(`{"id":12345678901234567890,"ok":true}`))
}

func openHTTP(t *testing.T, config map[string]any) *sdktest.Harness {
	t.Helper()
	return sdktest.Open(t, httpconn.Connector(), config)
}

func request(t *testing.T, h *sdktest.Harness, c sdktest.Call) (httpconn.Response, error) {
	t.Helper()
	c.Action = "request"
	res, err := h.Do(t.Context(), c)
	var out httpconn.Response
	if err == nil {
		if err := json.Unmarshal(res.Output, &out); err != nil {
			t.Fatal(err)
		}
	}
	return out, err
}

func TestRequestIsWhatTheInputSays(t *testing.T) {
	t.Parallel()
	a := serve(t, ok)
	h := openHTTP(t, map[string]any{
		"base_url": a.URL + "/v2/", "auth": map[string]any{"header": map[string]any{"name": "X-Api-Key", "value": secret, "prefix": "Token "}},
		"headers": map[string]string{"X-Team": "soc"},
	})
	for name, tc := range map[string]struct {
		in   map[string]any
		want string
		ct   string
		body string
	}{
		"nothing":    {map[string]any{}, "GET /v2", "", ""},
		"path":       {map[string]any{"path": "things/1"}, "GET /v2/things/1", "", ""},
		"parts":      {map[string]any{"path": "/things/", "parts": []string{"a/b ?#%", "c"}}, "GET /v2/things/a%2Fb%20%3F%23%25/c", "", ""},
		"query":      {map[string]any{"path": "/t", "query": map[string]any{"q": "a b&c", "n": 5, "l": []any{"x", true}, "no": nil}}, "GET /v2/t?l=x&l=true&n=5&q=a+b%26c", "", ""},
		"json":       {map[string]any{"method": "POST", "json": map[string]any{"a": []int{1}}}, "POST /v2", "application/json", `{"a":[1]}`},
		"text":       {map[string]any{"method": "PUT", "text": "hi"}, "PUT /v2", "text/plain; charset=utf-8", "hi"},
		"form":       {map[string]any{"method": "POST", "form": map[string]any{"b": "x y", "a": []any{1, 2.5}}}, "POST /v2", "application/x-www-form-urlencoded", "a=1&a=2.5&b=x+y"},
		"other type": {map[string]any{"method": "PATCH", "json": []int{1}, "content_type": "application/merge-patch+json"}, "PATCH /v2", "application/merge-patch+json", "[1]"},
		"url":        {map[string]any{"url": a.URL + "/v2/next?page=2", "query": map[string]any{"x": "y"}}, "GET /v2/next?page=2&x=y", "", ""},
		"delete":     {map[string]any{"method": "DELETE", "path": "/t/1"}, "DELETE /v2/t/1", "", ""},
	} {
		out, err := request(t, h, sdktest.Call{Input: tc.in})
		got := a.last(t)
		if err != nil || got.what != tc.want || got.header.Get("Content-Type") != tc.ct || got.body != tc.body {
			t.Errorf("%s: %v: got %q, %q, %q", name, err, got.what, got.header.Get("Content-Type"), got.body)
		}
		if got.header.Get("X-Api-Key") != "Token "+secret || got.header.Get("X-Team") != "soc" || got.header.Get("Idempotency-Key") != "" {
			t.Errorf("%s: headers %v", name, got.header)
		}
		if out.Status != 200 || string(out.JSON) != `{"id":12345678901234567890,"ok":true}` || out.Text != "" || out.Truncated ||
			out.Headers["x-thing"] != "1" || out.Headers["set-cookie"] != "" {
			t.Errorf("%s: output %+v", name, out)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	a := serve(t, ok)
	h := openHTTP(t, map[string]any{
		"base_url": a.URL + "/v2", "auth": map[string]any{"header": map[string]any{"name": "X-Api-Key", "value": secret}},
	})
	for want, in := range map[string]map[string]any{
		"not below base_url or one of": {"url": "https://evil.example/v2"},
		"/v2evil is not below":         {"url": a.URL + "/v2evil"},
		"a part \"..\"":                {"path": "/../admin"},
		"would lead elsewhere":         {"path": "/%2e%2e/admin"},
		"which would lead elsewhere":   {"url": a.URL + "/v2/%2e%2e/admin"},
		"cannot be part of a path":     {"parts": []string{".."}},
		"no whole address":             {"url": "//evil.example"},
		"is no whole address":          {"url": "https://user:pw@evil.example/"},
		"either url, or path":          {"url": a.URL + "/v2", "path": "/x"},
		"not part of a path":           {"path": "/x?admin=1"},
		"one body, not json and form":  {"method": "POST", "json": 1, "form": map[string]any{"a": "b"}},
		"a GET has no body":            {"text": "x"},
		"set by the connection":        {"headers": map[string]string{"x-api-key": "mine"}},
		"is set by the connection":     {"headers": map[string]string{"Authorization": "mine"}},
		"set by the transport":         {"headers": map[string]string{"host": "evil.example"}},
		"a line break":                 {"headers": map[string]string{"X-A": "b\r\nX-C: d"}},
		"is no name of a header":       {"headers": map[string]string{"X A": "b"}},
		"must be text, a number":       {"query": map[string]any{"a": map[string]any{}}},
		"must be one of GET":           {"method": "TRACE"},
	} {
		_, err := request(t, h, sdktest.Call{Input: in})
		var e *plugin.Error
		if !errors.As(err, &e) || e.Class() != plugin.ClassInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q, got %v", in, want, err)
		}
	}
	if a.count() != 0 {
		t.Errorf("%d requests were sent", a.count())
	}
}

// A path that looks like an address of its own is a path.
func TestPathStaysBelowTheBase(t *testing.T) {
	t.Parallel()
	a := serve(t, ok)
	h := openHTTP(t, map[string]any{"base_url": a.URL})
	for _, path := range []string{"//evil.example/x", "https://evil.example/x"} {
		_, err := request(t, h, sdktest.Call{Input: map[string]any{"path": path}})
		if err != nil || !strings.HasSuffix(a.last(t).what, "evil.example/x") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What a lost or refused request means depends on the effect that the flow declares.
func TestOutcomesByEffect(t *testing.T) {
	t.Parallel()
	a := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/down":
			http.Error(w, "sorry", http.StatusBadGateway)
		case "/slow":
			w.Header().Set("Retry-After", "7")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		case "/none":
			http.Error(w, "none", http.StatusNotFound)
		case "/gone":
			http.Error(w, "no "+r.Header.Get("Authorization"), http.StatusNotFound)
		case "/away":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/broken":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
		}
	})
	h := openHTTP(t, map[string]any{"base_url": a.URL, "auth": map[string]any{"bearer": secret}})
	none, unknown := plugin.EffectNone, plugin.EffectUnknown
	for _, tc := range []struct {
		method, path string
		effect       sdk.Effect
		class        plugin.Class
		side         any
	}{
		{"GET", "/down", 0, plugin.ClassUnavailable, none},
		{"GET", "/down", sdk.Unsafe, plugin.ClassUncertain, unknown},
		{"POST", "/down", 0, plugin.ClassUncertain, unknown},
		{"POST", "/down", sdk.Read, plugin.ClassUnavailable, none},
		{"POST", "/down", sdk.Keyed, plugin.ClassUncertain, unknown},
		{"POST", "/slow", sdk.Unsafe, plugin.ClassThrottled, none},
		{"POST", "/gone", sdk.Unsafe, plugin.ClassNotFound, none},
		{"POST", "/away", sdk.Read, plugin.ClassConfig, none},
		{"GET", "/broken", 0, plugin.ClassUnavailable, none},
	} {
		_, err := request(t, h, sdktest.Call{Effect: tc.effect, Input: map[string]any{"method": tc.method, "path": tc.path}})
		var e *plugin.Error
		if !errors.As(err, &e) || e.Class() != tc.class || any(e.SideEffect) != tc.side {
			t.Errorf("%s %s as %d: %v", tc.method, tc.path, tc.effect, err)
			continue
		}
		if tc.path == "/slow" && e.RetryAfter != 7*time.Second {
			t.Errorf("retry after %s", e.RetryAfter)
		}
	}
	if n := len(a.seen); n != 9 {
		t.Errorf("%d requests: something was repeated or followed", n)
	}
	// A write that was done stays done when its answer breaks off.
	out, err := request(t, h, sdktest.Call{Input: map[string]any{"method": "POST", "path": "/broken"}})
	if err != nil || out.Status != 200 || !out.Truncated || out.Text != "half" {
		t.Errorf("a broken answer to a write: %+v, %v", out, err)
	}
	// A status that is named is a success.
	out, err = request(t, h, sdktest.Call{Input: map[string]any{"method": "POST", "path": "/none", "ok": []int{404}}})
	if err != nil || out.Status != 404 {
		t.Errorf("404 as a success: %+v, %v", out, err)
	}
}

func TestKeyedRequests(t *testing.T) {
	t.Parallel()
	a := serve(t, ok)
	plain := openHTTP(t, map[string]any{"base_url": a.URL, "idempotency_header": "X-Once"})
	safe := openHTTP(t, map[string]any{"base_url": a.URL, "idempotent_keys": true})
	in := map[string]any{"method": "POST", "path": "/a", "json": 1}

	first, err := request(t, plain, sdktest.Call{Effect: sdk.Keyed, Key: "case:1", Input: in})
	if err != nil || a.last(t).header.Get("X-Once") != "case:1" {
		t.Fatalf("%v, %v", err, a.last(t).header)
	}
	// A key that fits into no header is hashed, the same every time.
	long := strings.Repeat("ä", 200)
	for range 2 {
		if _, err := request(t, safe, sdktest.Call{Effect: sdk.Keyed, Key: long, Input: in}); err != nil {
			t.Fatal(err)
		}
	}
	x, y := a.seen[1].header.Get("Idempotency-Key"), a.seen[2].header.Get("Idempotency-Key")
	if x != y || len(x) != 64 {
		t.Errorf("keys %q and %q", x, y)
	}

	sent := a.count()
	var e *plugin.Error
	if _, err := request(t, plain, sdktest.Call{Effect: sdk.Keyed, Key: "k", Resolve: true, Input: in}); !errors.As(err, &e) || e.Reason != plugin.ReasonUnresolved {
		t.Errorf("what cannot be found out: %v", err)
	}
	if _, err := request(t, safe, sdktest.Call{Effect: sdk.Keyed, Key: "k", Resolve: true, Input: in}); !errors.As(err, &e) || e.Reason != plugin.ReasonAbsent {
		t.Errorf("what may be sent again: %v", err)
	}
	// Done before: what it brought then, and no second request.
	again, err := request(t, plain, sdktest.Call{Effect: sdk.Keyed, Key: "case:1", Prior: first, Input: in})
	if diff := cmp.Diff(first, again); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	_, err = request(t, plain, sdktest.Call{Effect: sdk.Keyed, Key: "case:1", Prior: first, Input: map[string]any{"method": "POST", "path": "/b"}})
	if !errors.As(err, &e) || e.Class() != plugin.ClassInvalid || !strings.Contains(err.Error(), "used for another request before") {
		t.Errorf("a key for two things: %v", err)
	}
	if a.count() != sent {
		t.Errorf("%d requests were sent", a.count()-sent)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	var body string
	var kind string
	a := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write([]byte(body))
	})
	h := openHTTP(t, map[string]any{"base_url": a.URL, "max_response": 10})
	big := openHTTP(t, map[string]any{"base_url": a.URL})
	for name, tc := range map[string]struct {
		h          *sdktest.Harness
		kind, body string
		want       httpconn.Response
	}{
		"json":       {h, "application/json", `{"a":1}`, httpconn.Response{JSON: []byte(`{"a":1}`)}},
		"vendor's":   {h, "application/vnd.x+json", `[1]`, httpconn.Response{JSON: []byte(`[1]`)}},
		"text":       {h, "text/plain", `1`, httpconn.Response{Text: "1"}},
		"no type":    {h, "", `[]`, httpconn.Response{JSON: []byte(`[]`)}},
		"empty":      {h, "application/json", ``, httpconn.Response{}},
		"lie":        {h, "application/json", `<html>`, httpconn.Response{Text: "<html>"}},
		"long":       {h, "application/json", `{"abcdefghijk":1}`, httpconn.Response{Text: `{"abcdefgh`, Truncated: true}},
		"half a ä":   {h, "text/plain", `123456789ä`, httpconn.Response{Text: `123456789`, Truncated: true}},
		"bad utf-8":  {h, "text/plain", "a\xffb", httpconn.Response{Text: "a\uFFFDb"}},
		"bad json":   {h, "application/json", "\"a\xffb\"", httpconn.Response{Text: "\"a\uFFFDb\""}},
		"just fits":  {h, "text/plain", "0123456789", httpconn.Response{Text: "0123456789"}},
		"controls":   {big, "text/plain", strings.Repeat("\x01", 1<<20), httpconn.Response{Text: strings.Repeat("\x01", 1<<18), Truncated: true}},
		"whole text": {big, "text/plain", strings.Repeat("x", 1<<20), httpconn.Response{Text: strings.Repeat("x", 1<<20)}},
	} {
		body, kind = tc.body, tc.kind
		got, err := request(t, tc.h, sdktest.Call{Input: map[string]any{}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(got.JSON) != string(tc.want.JSON) || got.Text != tc.want.Text || got.Truncated != tc.want.Truncated {
			t.Errorf("%s: got %.100q, %.100q (%d), %v", name, got.JSON, got.Text, len(got.Text), got.Truncated)
		}
	}
}

// Reads follow redirects as long as these stay below the configured addresses, and the credential stays where it belongs.
func TestRedirects(t *testing.T) {
	t.Parallel()
	other := serve(t, ok)
	var to string
	a := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/end" {
			ok(w, r)
			return
		}
		http.Redirect(w, r, to, http.StatusFound)
	})
	h := openHTTP(t, map[string]any{"base_url": a.URL + "/v1", "auth": map[string]any{"bearer": secret}})
	to = "/v1/end"
	if out, err := request(t, h, sdktest.Call{Input: map[string]any{"path": "/x"}}); err != nil || out.Status != 200 {
		t.Errorf("within: %+v, %v", out, err)
	}
	for _, tc := range []struct {
		to, want string
		class    plugin.Class
	}{
		{"/login", "no configured address covers", plugin.ClassConfig},
		{"https://other.example/v1/x", "not among those that this connection may reach", plugin.ClassDenied},
	} {
		to = tc.to
		_, err := request(t, h, sdktest.Call{Input: map[string]any{"path": "/x"}})
		var e *plugin.Error
		if !errors.As(err, &e) || e.Class() != tc.class || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("to %s: %v", to, err)
		}
	}
	to = other.URL + "/v1/x" // in clear, which is refused for that already
	if _, err := request(t, h, sdktest.Call{Input: map[string]any{"path": "/x"}}); err == nil {
		t.Error("a redirect to plain http was followed")
	}
	if other.count() != 0 {
		t.Error("the redirect was followed to another host")
	}
}

func TestConfigurations(t *testing.T) {
	t.Parallel()
	basic := map[string]any{"username": "u", "password": secret}
	hook := func(m map[string]any) map[string]any {
		if m["basic"] == nil && m["hmac"] == nil && m["header"] == nil {
			m["basic"] = basic
		}
		return map[string]any{"webhook": m}
	}
	for want, cfg := range map[string]map[string]any{
		"give base_url for requests":  {},
		"plain http":                  {"base_url": "http://api.example.com"},
		"base_urls are further":       {"base_urls": []string{"https://x.example"}, "webhook": map[string]any{"basic": basic}},
		"exactly one of bearer":       {"base_url": "https://x.example", "auth": map[string]any{"bearer": secret, "basic": basic}},
		"give exactly one of bearer":  {"base_url": "https://x.example", "auth": map[string]any{}},
		"set by the connection":       {"base_url": "https://x.example", "headers": map[string]string{"Authorization": "x"}},
		"no header that can be set":   {"base_url": "https://x.example", "idempotency_header": "Host"},
		"who may call":                {"webhook": map[string]any{}},
		"only one of header":          hook(map[string]any{"basic": basic, "header": map[string]any{"name": "X", "value": secret}}),
		"needs time":                  hook(map[string]any{"key": "/a"}),
		"neither a JSON pointer":      hook(map[string]any{"id": "a.b"}),
		"no name of a header":         hook(map[string]any{"id": "header:a b"}),
		"carries a secret":            hook(map[string]any{"header": map[string]any{"name": "x-key", "value": secret}, "headers": []string{"X-Key"}}),
		"must have {body} in it":      hook(map[string]any{"hmac": map[string]any{"secret": secret, "header": "X-S", "signed": "x"}}),
		"signed has {timestamp}":      hook(map[string]any{"hmac": map[string]any{"secret": secret, "header": "X-S", "signed": "{timestamp}{body}"}}),
		"not signed proves nothing":   hook(map[string]any{"hmac": map[string]any{"secret": secret, "header": "X-S", "timestamp_header": "X-T"}}),
		"must be at most 983040":      hook(map[string]any{"max_body": 1 << 20}),
		"no certificate":              {"base_url": "https://x.example", "ca_file": "config.go"},
		"a line break or another con": {"base_url": "https://x.example", "auth": map[string]any{"bearer": secret + "\n"}},
	} {
		_, err := sdktest.Try(t, httpconn.Connector(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(strings.ReplaceAll(err.Error(), "no PEM certificate", "no certificate"), want) {
			t.Errorf("%v: want %q, got %v", cfg, want, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	a := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	h := sdktest.Open(t, httpconn.Connector(), map[string]any{
		"base_url": a.URL, "check_path": "/health", "auth": map[string]any{"bearer": secret},
		"webhook": map[string]any{"basic": map[string]any{"username": "u", "password": secret}},
	}, sdktest.Options{Hooks: map[string]sdk.HookEndpoint{"webhook": {URL: "https://casewire.example/hooks/test/webhook"}}})
	for code, want := range map[int][]sdk.ProbeStatus{
		200: {sdk.ProbeOK, sdk.ProbeOK, sdk.ProbeOK}, 401: {sdk.ProbeOK, sdk.ProbeFailed, sdk.ProbeOK},
		404: {sdk.ProbeWarning, sdk.ProbeOK, sdk.ProbeOK}, 503: {sdk.ProbeFailed, sdk.ProbeSkipped, sdk.ProbeOK},
	} {
		status = code
		probes, err := h.Check(t.Context())
		if err != nil || len(probes) != 3 {
			t.Fatalf("%v, %v", probes, err)
		}
		for i, p := range probes {
			if p.Status != want[i] || p.Status == sdk.ProbeFailed && p.Remedy == "" {
				t.Errorf("%d: %+v", code, p)
			}
		}
	}
	if got := a.last(t); got.what != "GET /health" || got.header.Get("Authorization") != "Bearer "+secret {
		t.Errorf("asked %+v", got)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	off := openHTTP(t, map[string]any{"base_url": closed.URL})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	probes, err := off.Check(ctx)
	if err != nil || probes[0].Status != sdk.ProbeFailed || probes[2].Status != sdk.ProbeSkipped {
		t.Errorf("%+v, %v", probes, err)
	}
}

// Further addresses take requests by their url, with the same credential; of two that fit, the longer one counts.
func TestFurtherAddresses(t *testing.T) {
	t.Parallel()
	a, b := serve(t, ok), serve(t, ok)
	h := openHTTP(t, map[string]any{
		"base_url": a.URL + "/v1", "base_urls": []string{b.URL, b.URL + "/deep"}, "auth": map[string]any{"bearer": secret},
	})
	for url, want := range map[string]string{b.URL + "/deep/x": "GET /deep/x", b.URL + "/deeper": "GET /deeper", b.URL: "GET "} {
		_, err := request(t, h, sdktest.Call{Input: map[string]any{"url": url}})
		if got := b.last(t); err != nil || !strings.HasPrefix(got.what, want) || got.header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("%s: %v, asked %q", url, err, got.what)
		}
	}
	if a.count() != 0 {
		t.Error("the wrong one was asked")
	}
}
