package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "the operator's token of these tests"

type none struct {
	Note string `json:"note,omitempty" doc:"Nothing"`
}

type cursor struct{ Done bool }

type caseInput struct {
	Title string `json:"title" cw:"required" doc:"Title"`
}

type caseOutput struct {
	ID string `json:"id" doc:"Id"`
}

// scripted brings two alerts, of which one has a case and the other is refused, and something that is no alert.
func scripted() *sdk.Connector {
	c := sdk.New("scripted", "1.2.3", "Plays source and target.", func(context.Context, none, sdk.Env) (*none, error) { return &none{}, nil })
	sdk.AddTrigger(c, sdk.Trigger[*none, cursor]{
		Name: "alerts", Summary: "Alerts.", Emits: []string{"io.casewire.alert.v1"}, Interval: time.Hour,
		Poll: func(_ *none, _ context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
			page := sdk.Page[cursor]{Cursor: cursor{true}}
			if !cur.Done {
				page.Rejected = []sdk.Rejected{{Subject: "odd", Reason: "it makes no sense", Raw: []byte("whole")}}
				for _, title := range []string{"good", "refused"} {
					ev, err := sentinel.Normalize(fmt.Appendf(nil, `{"id":%q,"tenantId":"6d1f2f0a-7c1e-4d0b-9a55-2b1f0c3d4e5f","title":%q,
						"severity":"high","createdDateTime":"2026-11-01T10:00:00Z","lastUpdateDateTime":"2026-11-01T10:00:00Z"}`, title, title),
						sentinel.NormalizeOptions{GraphHost: "graph.example"})
					if err != nil {
						return err
					}
					page.Events = append(page.Events, ev)
				}
			}
			return emit(page)
		},
		Hook: func(_ *none, _ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
			return &sdk.HookResponse{Status: http.StatusAccepted, Refused: map[string]int{string(req.Body): 1}}, nil
		},
	})
	sdk.Action(c, "case.ensure", "Ensure a case.", func(_ *none, ctx context.Context, in caseInput) (caseOutput, error) {
		if in.Title == "refused" {
			return caseOutput{}, sdk.Invalid("title", "it is refused")
		}
		return caseOutput{ID: sdk.CallFrom(ctx).Key}, nil
	}, sdk.Keyed)
	return c
}

const oneCase = `name: one-case
on:
  scripted.alerts: { connection: both, group_by: alert }
steps:
  - id: case
    uses: scripted.case.ensure
    connection: both
    with: { title: "${{ alert.title }}" }
`

// api is a host with something to tell, and its API.
type api struct {
	t     *testing.T
	host  *host.Host
	store store.Store
	h     http.Handler
	ready atomic.Bool
}

func newAPI(t *testing.T, operator plugin.Secret) *api {
	t.Helper()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Options{
		Store: st, RunDir: filepath.Join(t.TempDir(), "r"), PublicURL: "https://casewire.example",
		Connectors:  map[string]host.Connector{"scripted": host.MemoryConnector(sdk.Server(scripted()))},
		Connections: []host.Connection{{Name: "both", Connector: "scripted", Tenant: "acme", Config: json.RawMessage(`{}`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	flows, diags := flow.Load([]flow.Source{{File: "one-case.yaml", Data: []byte(oneCase)}}, h)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := h.SetFlows(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := &api{t: t, host: h, store: st}
	a.h = httpapi.Handler(h, st, httpapi.Options{Token: operator, Ready: a.ready.Load})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// settled waits until both alerts have become what they become.
func (a *api) settled() *api {
	a.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := a.store.Stats(a.t.Context())
		if err != nil {
			a.t.Fatal(err)
		}
		counted := a.host.Metrics() // a moment after the store
		polled := slices.ContainsFunc(counted.Calls, func(c host.CallMetric) bool { return c.Action == "poll alerts" })
		if s.Runs[store.RunSucceeded] == 1 && s.DeadLetters == 2 && polled && len(counted.Runs) == 2 {
			return a
		}
		select {
		case <-deadline:
			a.t.Fatalf("the alerts became %+v", s)
		case <-tick.C:
		}
	}
}

func (a *api) call(method, path, auth string) *http.Response {
	a.t.Helper()
	req := httptest.NewRequestWithContext(a.t.Context(), method, path, http.NoBody)
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	rec := httptest.NewRecorder()
	a.h.ServeHTTP(rec, req)
	return rec.Result()
}

func body(t *testing.T, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// object calls as the operator and returns the JSON object of the answer.
func (a *api) object(method, path string, status int) map[string]any {
	a.t.Helper()
	resp := a.call(method, path, "Bearer "+token)
	b := body(a.t, resp)
	if resp.StatusCode != status {
		a.t.Fatalf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, status, b)
	}
	want := "application/json"
	if status >= 400 {
		want = "application/problem+json"
	}
	if got := resp.Header.Get("Content-Type"); got != want {
		a.t.Errorf("%s %s: content type %q, want %q", method, path, got, want)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, b)
	}
	return out
}

// Without the token every path for operators answers the same bytes, whether there is something or not.
func TestOperatorToken(t *testing.T) {
	t.Parallel()
	a := newAPI(t, plugin.NewSecret(token))
	var want []byte
	for _, path := range []string{"/metrics", "/v1/status", "/v1/runs", "/v1/runs/r1", "/v1/deadletters", "/v1/there-is-no-such-thing", "/v1/"} {
		for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "bearer " + token, "Basic " + token, token, "Bearer " + token + " "} {
			resp := a.call(http.MethodGet, path, auth)
			got := body(t, resp)
			if want == nil {
				want = got
			}
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "Bearer" || !bytes.Equal(got, want) {
				t.Errorf("%s with %q: %d %s", path, auth, resp.StatusCode, got)
			}
		}
	}
	if bytes.Contains(want, []byte(token)) {
		t.Errorf("the answer holds the token: %s", want)
	}
	for _, m := range []string{http.MethodPost, http.MethodDelete} {
		if resp := a.call(m, "/v1/runs/r1/replay", "Bearer wrong"); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", m, resp.StatusCode)
		}
	}
	if resp := a.call(http.MethodGet, "/v1/runs", "Bearer "+token); resp.StatusCode != http.StatusOK {
		t.Errorf("with the token: %d", resp.StatusCode)
	}
}

// A host without a token refuses everybody, and an empty one above all.
func TestNoTokenRefusesAll(t *testing.T) {
	t.Parallel()
	a := newAPI(t, plugin.Secret{})
	for _, auth := range []string{"", "Bearer ", "Bearer x"} {
		if resp := a.call(http.MethodGet, "/v1/runs", auth); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: %d", auth, resp.StatusCode)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	a := newAPI(t, plugin.NewSecret(token))
	for _, step := range []struct {
		path   string
		ready  bool
		status int
	}{
		{"/healthz", false, 200}, {"/readyz", false, 503}, {"/readyz", true, 200}, {"/healthz", true, 200}, {"/", true, 404}, {"/v2/runs", true, 404},
	} {
		a.ready.Store(step.ready)
		if resp := a.call(http.MethodGet, step.path, ""); resp.StatusCode != step.status {
			t.Errorf("%s, ready %v: %d, want %d", step.path, step.ready, resp.StatusCode, step.status)
		}
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	a := newAPI(t, plugin.NewSecret(token)).settled()

	runs := a.object(http.MethodGet, "/v1/runs", 200)["runs"].([]any)
	if len(runs) != 2 {
		t.Fatalf("%d runs", len(runs))
	}
	runs = a.object(http.MethodGet, "/v1/runs?state=dead_letter&flow=one-case&limit=1", 200)["runs"].([]any)
	dead := runs[0].(map[string]any)["id"].(string)
	run := a.object(http.MethodGet, "/v1/runs/"+dead, 200)
	step := run["steps"].([]any)[0].(map[string]any)
	if run["state"] != "dead_letter" || run["class"] != "invalid" || step["path"] != "case" || step["action"] != "scripted.case.ensure" ||
		!strings.Contains(step["error"].(string), "it is refused") {
		t.Errorf("run %v", run)
	}

	letters := a.object(http.MethodGet, "/v1/deadletters?kind=event", 200)["dead_letters"].([]any)
	letter := letters[0].(map[string]any)
	if len(letters) != 1 || letter["raw"] != "whole" || letter["subject"] != "odd" || !strings.Contains(letter["reason"].(string), "it makes no sense") {
		t.Errorf("dead letters %v", letters)
	}

	again := a.object(http.MethodPost, "/v1/runs/"+dead+"/replay?current=true&from=case", 200)["run"].(map[string]any)
	if again["parent"] != dead || again["id"] == dead {
		t.Errorf("replay %v", again)
	}
	letters = a.object(http.MethodGet, "/v1/deadletters?all=true&limit=10", 200)["dead_letters"].([]any)
	resolved := 0
	for _, l := range letters {
		if r, _ := l.(map[string]any)["resolution"].(string); r == "replayed as "+again["id"].(string) {
			resolved++
		}
	}
	if resolved != 1 {
		t.Errorf("dead letters %v", letters)
	}

	status := a.object(http.MethodGet, "/v1/status", 200)
	connector := status["connectors"].([]any)[0].(map[string]any)
	if connector["name"] != "scripted" || connector["version"] != "1.2.3" || connector["state"] != "ready" {
		t.Errorf("connector %v", connector)
	}
	want := []any{map[string]any{"name": "both", "tenant": "acme"}}
	if diff := cmp.Diff(want, connector["connections"]); diff != "" {
		t.Error(diff)
	}
	trigger := status["triggers"].([]any)[0].(map[string]any)
	if trigger["connection"] != "both" || trigger["found_by_poll"] != 2.0 {
		t.Errorf("trigger %v", trigger)
	}

	if resp := a.call(http.MethodPost, "/v1/connections/both/triggers/alerts/poll", "Bearer "+token); resp.StatusCode != http.StatusAccepted {
		t.Errorf("poll: %d", resp.StatusCode)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	a := newAPI(t, plugin.NewSecret(token)).settled()
	good := a.object(http.MethodGet, "/v1/runs?state=succeeded", 200)["runs"].([]any)[0].(map[string]any)["id"].(string)
	for _, p := range []struct {
		method, path string
		status       int
		detail       string
	}{
		{http.MethodGet, "/v1/runs/r0", 404, `no run has the id "r0"`},
		{http.MethodGet, "/v1/nothing", 404, "there is nothing at /v1/nothing; GET /v1 lists what there is"},
		{http.MethodGet, "/v1/", 404, "GET /v1 lists what there is"},
		{http.MethodDelete, "/v1/runs", 405, "/v1/runs takes GET, HEAD, not DELETE"},
		{http.MethodGet, "/v1/runs/r0/cancel", 405, "takes POST, not GET"},
		{http.MethodPost, "/v1/connections/both/state", 405, "takes PUT, DELETE, not POST"},
		{http.MethodGet, "/v1/runs?object=nobody", 404, `nothing came that is named "nobody"`},
		{http.MethodGet, "/v1/runs?limit=0", 400, "limit=0: give a number from 1 to 10000"},
		{http.MethodGet, "/v1/runs?limit=10001", 400, "limit=10001"},
		{http.MethodGet, "/v1/runs?limit=ten", 400, "limit=ten"},
		{http.MethodGet, "/v1/runs?state=done", 400, "state=done"},
		{http.MethodGet, "/v1/deadletters?limit=-1", 400, "limit=-1"},
		{http.MethodGet, "/v1/deadletters?kind=alert", 400, "kind=alert"},
		{http.MethodPost, "/v1/runs/r0/replay", 404, "r0"},
		{http.MethodPost, "/v1/runs/r0/cancel", 404, "r0"},
		{http.MethodPost, "/v1/runs/" + good + "/cancel", 409, "is succeeded already"},
		{http.MethodPost, "/v1/runs/" + good + "/cancel?reason=" + strings.Repeat("x", 600), 400, "reason: give at most 500 bytes"},
		{http.MethodPost, "/v1/deadletters/d0/drop", 404, "d0"},
		{http.MethodPost, "/v1/deadletters/d0/drop?reason=" + strings.Repeat("x", 600), 400, "reason: give at most 500 bytes"},
		{http.MethodPost, "/v1/connections/both/triggers/nothing/poll", 404, "trigger nothing of connection both"},
		{http.MethodPost, "/v1/connections/nobody/triggers/alerts/poll", 404, "connection nobody"},
	} {
		got := a.object(p.method, p.path, p.status)
		detail, _ := got["detail"].(string)
		if got["status"] != float64(p.status) || got["title"] == "" || !strings.Contains(detail, p.detail) {
			t.Errorf("%s %s: %v", p.method, p.path, got)
		}
	}
	// A run that has succeeded can be replayed too: what is done stays done.
	a.object(http.MethodPost, "/v1/runs/"+good+"/replay", 200)
}

var (
	comment = regexp.MustCompile(`^# (HELP|TYPE) (casewire_[a-z_]+) (.+)$`)
	sample  = regexp.MustCompile(`^(casewire_[a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*)\})? (\S+)$`)
)

// The metrics are what a Prometheus server can read, whatever connectors say.
func TestMetrics(t *testing.T) {
	t.Parallel()
	a := newAPI(t, plugin.NewSecret(token)).settled()
	refuse := func(reason string) {
		t.Helper()
		rules, ok := a.host.WebhookRules("both", "alerts")
		if !ok || rules == nil {
			t.Fatal("no webhook")
		}
		a.host.Refuse("both", "alerts", reason)
	}
	refuse("quote\" back\\slash\nline\a\xff é")
	for i := range 500 {
		refuse("reason " + strconv.Itoa(i))
	}
	resp := a.call(http.MethodGet, "/metrics", "Bearer "+token)
	if got := resp.Header.Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	text := string(body(t, resp))
	values, typed, refused := map[string]string{}, map[string]bool{}, 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := comment.FindStringSubmatch(line); m != nil {
			typed[m[2]] = typed[m[2]] || m[1] == "TYPE"
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("cannot be read: %q", line)
			continue
		}
		series := m[1] + "{" + m[2] + "}"
		family := m[1]
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			if of, is := strings.CutSuffix(m[1], part); is && typed[of] {
				family = of
			}
		}
		if _, twice := values[series]; twice || !typed[family] {
			t.Errorf("%s comes twice, or has no type", series)
		}
		if _, err := strconv.ParseFloat(m[3], 64); err != nil {
			t.Errorf("%s: %v", series, err)
		}
		values[series] = m[3]
		if m[1] == "casewire_webhook_refused" {
			refused++
		}
	}
	for series, want := range map[string]string{
		"casewire_dead_letters{}":                                                        "2",
		`casewire_runs{state="succeeded"}`:                                               "1",
		`casewire_runs{state="dead_letter"}`:                                             "1",
		`casewire_events{verdict="accepted"}`:                                            "2",
		`casewire_effects{state="done"}`:                                                 "1",
		`casewire_calls_total{connection="both",action="poll alerts",outcome="ok"}`:      "1",
		`casewire_call_seconds_bucket{connection="both",action="poll alerts",le="+Inf"}`: "1",
		`casewire_call_seconds_count{connection="both",action="poll alerts"}`:            "1",
		`casewire_runs_released_total{state="succeeded"}`:                                "1",
		`casewire_runs_lost_total{}`:                                                     "0",
		`casewire_states_owed{}`:                                                         "0",
		`casewire_store_needed_bytes{}`:                                                  "67108864",
		`casewire_connector_up{connector="scripted"}`:                                    "1",
		`casewire_trigger_accepted{connection="both",trigger="alerts",via="poll"}`:       "2",
		`casewire_webhook_refused{connection="both",trigger="alerts",reason="quote\" back\\slash\nline` + "\a\ufffd é" + `"}`: "1",
	} {
		if values[series] != want {
			t.Errorf("%s is %q, want %s", series, values[series], want)
		}
	}
	for _, series := range []string{"casewire_store_free_bytes{}", `casewire_trigger_last_poll_age_seconds{connection="both",trigger="alerts"}`} {
		if values[series] == "" {
			t.Errorf("%s is missing", series)
		}
	}
	if refused > 64 {
		t.Errorf("%d reasons are kept apart", refused)
	}
}
