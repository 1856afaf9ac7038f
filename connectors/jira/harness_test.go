package jira

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testToken = "s3cr3t-api-token-0123456789"

// scripted answers each route as told and records what it was asked.
type scripted struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	routes map[string]http.HandlerFunc
	seen   []seen
}

type seen struct {
	route, query string
	header       http.Header
	body         string
}

// script serves routes such as "POST /rest/api/2/issue".
func script(t *testing.T, routes map[string]http.HandlerFunc) *scripted {
	t.Helper()
	s := &scripted{t: t, routes: routes}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Errorf("read request: %v", err)
	}
	route := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.seen = append(s.seen, seen{route, r.URL.RawQuery, r.Header.Clone(), string(body)})
	h := s.routes[route]
	s.mu.Unlock()
	if h == nil {
		s.t.Errorf("unexpected request %s", route)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	h(w, r)
}

// asked returns the routes asked so far.
func (s *scripted) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]string, len(s.seen))
	for i, r := range s.seen {
		out[i] = r.route
	}
	return out
}

// body returns the decoded body of the last request to route.
func (s *scripted) body(route string) map[string]any {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.seen) {
		if r.route == route {
			var v map[string]any
			if err := json.Unmarshal([]byte(r.body), &v); err != nil {
				s.t.Fatalf("%s: body %q: %v", route, r.body, err)
			}
			return v
		}
	}
	s.t.Fatalf("%s was not asked", route)
	return nil
}

// open connects to s as a Cloud site.
func (s *scripted) open(change ...func(*Config)) *sdktest.Harness {
	s.t.Helper()
	cfg := testConfig(s.URL)
	for _, f := range change {
		f(&cfg)
	}
	return sdktest.Open(s.t, Connector(), cfg)
}

func testConfig(base string) Config {
	return Config{
		BaseURL: base, Email: "bot@acme.example", APIToken: plugin.NewSecret(testToken), Project: "SOC", IssueType: "Task",
		Deployment: "cloud", SearchBeforeCreate: true, NotifyUsers: true,
	}
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// drop reads the request and closes the connection without an answer.
func drop(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.Close()
}

// breakOff promises more than it sends.
func breakOff(status int, part string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "4096")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, part)
	}
}

const (
	routeSearch = "POST /rest/api/2/search/jql"
	routeCreate = "POST /rest/api/2/issue"
	routeEdit   = "PUT /rest/api/2/issue/10024"
	routeRead   = "GET /rest/api/2/issue/10024"
	created     = `{"id":"10024","key":"SOC-24","self":"https://x/rest/api/2/issue/10024"}`
	nothing     = `{"issues":[],"isLast":true}`
)

func do[T any](t *testing.T, h *sdktest.Harness, c sdktest.Call) (T, error) {
	t.Helper()
	var out T
	res, err := h.Do(t.Context(), c)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(res.Output, &out); err != nil {
		t.Fatalf("output %s: %v", res.Output, err)
	}
	return out, nil
}

func must[T any](t *testing.T, h *sdktest.Harness, c sdktest.Call) T {
	t.Helper()
	out, err := do[T](t, h, c)
	if err != nil {
		t.Fatalf("%s: %v", c.Action, err)
	}
	return out
}

func asError(t *testing.T, err error) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T: %v", err, err)
	}
	return e
}
