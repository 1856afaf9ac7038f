package thehive

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
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

const testKey = "s3cr3t-api-key-0123456789"

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

// script serves routes such as "POST /api/v1/alert".
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

// open connects to s.
func (s *scripted) open(change ...func(*Config)) *sdktest.Harness {
	s.t.Helper()
	cfg := testConfig(s.URL)
	for _, f := range change {
		f(&cfg)
	}
	return sdktest.Open(s.t, Connector(), cfg, sdktest.Options{Tenant: "Contoso"})
}

func testConfig(base string) Config {
	return Config{BaseURL: base, APIKey: plugin.NewSecret(testKey), Organisation: "soc"}
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
	routeStatus  = "GET /api/v1/status/public"
	routeQuery   = "POST /api/v1/query"
	routeAlert   = "POST /api/v1/alert"
	routePromote = "POST /api/v1/alert/~100/case"
	routeCase    = "GET /api/v1/case/~200"
	routePatch   = "PATCH /api/v1/case/~200"
	routeComment = "POST /api/v1/case/~200/comment"
	caseJSON     = `{"_id":"~200","number":7,"title":"t","severity":3,"tlp":2,"pap":2,"tags":["casewire","aws"],"status":"New","stage":"New"}`
)

// queries answers the query API by the names of the chain, such as "getAlert" or "getCase observables"; types are known.
func queries(t *testing.T, answers map[string]http.HandlerFunc) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query []struct {
				Name string `json:"_name"`
			} `json:"query"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Errorf("query: %v", err)
		}
		var names []string
		for _, step := range q.Query {
			if step.Name != "page" {
				names = append(names, step.Name)
			}
		}
		name := strings.Join(names, " ")
		switch h := answers[name]; {
		case h != nil:
			h(w, r)
		case name == "listObservableType":
			answer(200, `[{"name":"ip","isAttachment":false},{"name":"url"},{"name":"hash"},{"name":"mail"},{"name":"domain"},{"name":"other"},{"name":"file","isAttachment":true}]`)(w, r)
		default:
			t.Errorf("unexpected query %q", name)
			w.WriteHeader(http.StatusTeapot)
		}
	}
}

// hive is a TheHive of a version in which an alert exists or does not, with answers of one's own on top.
func hive(t *testing.T, version, alert string, more map[string]http.HandlerFunc) *scripted {
	t.Helper()
	found := "[]"
	if alert != "" {
		found = "[" + alert + "]"
	}
	routes := map[string]http.HandlerFunc{
		routeStatus: answer(200, `{"version":"`+version+`","sso":false,"imports":{}}`),
		routeQuery: queries(t, map[string]http.HandlerFunc{
			"getAlert": answer(200, found), "getCase observables": answer(200, "[]"), "getAlert observables": answer(200, "[]"),
			"getCase procedures": answer(200, "[]"), "getAlert procedures": answer(200, "[]"), "getCase comments": answer(200, "[]"),
		}),
		routeAlert:   answer(201, alertJSON("")),
		routePromote: answer(201, caseJSON),
		routeCase:    answer(200, caseJSON),
		routePatch:   answer(204, ""),
		routeComment: answer(201, `{"_id":"~900"}`),
	}
	maps.Copy(routes, more)
	return script(t, routes)
}

// alertJSON is the alert as TheHive shows it.
func alertJSON(caseID string) string {
	return `{"_id":"~100","type":"casewire","source":"contoso","sourceRef":"` + caseRef(caseKey) + `","title":"t","severity":3,"tlp":2,"pap":2,` +
		`"tags":["casewire","aws"],"status":"New","caseId":"` + caseID + `"}`
}

// writes are the routes asked that may change something.
func (s *scripted) writes() []string {
	var out []string
	for _, r := range s.asked() {
		if !strings.HasPrefix(r, "GET ") && r != routeQuery {
			out = append(out, r)
		}
	}
	return out
}

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
