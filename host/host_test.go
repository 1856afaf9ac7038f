package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "fragile" {
		sdk.Serve(fragile())
	}
	goleak.VerifyTestMain(m)
}

// vendor is the other side of two scripted connectors: a source of alerts and a place for cases. It keeps the ledger that
// tests judge by.
type vendor struct {
	mu      sync.Mutex
	alerts  map[string]string // id to raw
	unread  map[string]int    // look-ups of an id that still come too early
	list    []string          // what the poll lists
	cases   map[string]int    // creations by key
	updates map[string]int
	block   chan struct{} // closed: cases can be made
	hooks   map[string]sdk.HookEndpoint
}

func newVendor() *vendor {
	v := &vendor{alerts: map[string]string{}, unread: map[string]int{}, cases: map[string]int{}, updates: map[string]int{}, block: make(chan struct{})}
	close(v.block)
	return v
}

func (v *vendor) add(id, title string, listed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.alerts[id] = fmt.Sprintf(`{"id":%q,"tenantId":"6d1f2f0a-7c1e-4d0b-9a55-2b1f0c3d4e5f","title":%q,"severity":"high","status":"new",
		"createdDateTime":"2026-11-01T10:00:00Z","lastUpdateDateTime":"2026-11-01T10:00:00Z","evidence":[]}`, id, title)
	if listed {
		v.list = append(v.list, id)
	}
}

func (v *vendor) event(id string) (sdk.Event, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unread[id] > 0 {
		v.unread[id]--
		return sdk.Event{}, sdk.NotFound("alert %s is not readable yet", id)
	}
	raw, ok := v.alerts[id]
	if !ok {
		return sdk.Event{}, sdk.NotFound("there is no alert %s", id)
	}
	return sentinel.Normalize([]byte(raw), sentinel.NormalizeOptions{GraphHost: "graph.microsoft.com"})
}

type sourceConfig struct {
	Note string `json:"note,omitempty" doc:"Nothing"`
}

type cursor struct{ N int }

func (v *vendor) source() *sdk.Connector {
	c := sdk.New("source", "1.0.0", "Makes alerts.", func(_ context.Context, _ sourceConfig, env sdk.Env) (*vendor, error) {
		v.mu.Lock()
		v.hooks = env.Hooks
		v.mu.Unlock()
		return v, nil
	})
	sdk.AddTrigger(c, sdk.Trigger[*vendor, cursor]{
		Name: "alerts", Summary: "Alerts.", Emits: []string{"io.casewire.alert.v1"}, Interval: time.Hour,
		Poll: func(v *vendor, _ context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
			v.mu.Lock()
			list := slices.Clone(v.list)
			v.mu.Unlock()
			page := sdk.Page[cursor]{Cursor: cursor{len(list)}}
			for _, id := range list[min(cur.N, len(list)):] {
				if id == "broken" {
					page.Rejected = append(page.Rejected, sdk.Rejected{Subject: id, Reason: "it makes no sense", Raw: []byte("whole")})
					continue
				}
				ev, err := v.event(id)
				if err != nil {
					return err
				}
				page.Events = append(page.Events, ev)
			}
			return emit(page)
		},
		Hook: func(_ *vendor, _ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
			id := string(req.Body)
			data, err := json.Marshal(id)
			return &sdk.HookResponse{Hints: []sdk.Hint{{ID: id, Data: data}}}, err
		},
		Resolve: func(v *vendor, _ context.Context, h sdk.Hint) (sdk.Found, error) {
			ev, err := v.event(h.ID)
			if err != nil {
				return sdk.Found{}, err
			}
			return sdk.Found{Events: []sdk.Event{ev}}, nil
		},
	})
	return c
}

type caseInput struct {
	Title string `json:"title" cw:"required" doc:"Title"`
}

type caseOutput struct {
	ID      string `json:"id" doc:"Id"`
	Created bool   `json:"created" doc:"Made now"`
}

func (v *vendor) target() *sdk.Connector {
	c := sdk.New("target", "1.0.0", "Keeps cases.", func(context.Context, sourceConfig, sdk.Env) (*vendor, error) { return v, nil })
	sdk.Action(c, "case.ensure", "Ensure a case.", func(v *vendor, ctx context.Context, in caseInput) (caseOutput, error) {
		call := sdk.CallFrom(ctx)
		v.mu.Lock()
		block := v.block
		v.mu.Unlock()
		select {
		case <-block:
		case <-ctx.Done():
			return caseOutput{}, sdk.Unavailable("stopped before anything was sent")
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if strings.Contains(in.Title, "refused") {
			return caseOutput{}, sdk.Invalid("title", "it is refused")
		}
		if v.cases[call.Key] > 0 {
			v.updates[call.Key]++
			return caseOutput{ID: call.Key}, nil
		}
		v.cases[call.Key]++
		return caseOutput{ID: call.Key, Created: true}, nil
	}, sdk.Keyed)
	return c
}

const oneCase = `name: one-case
on:
  source.alerts: { connection: in, group_by: alert, where: "${{ alert.title != 'ignored' }}" }
steps:
  - id: case
    uses: target.case.ensure
    connection: out
    with: { title: "${{ alert.title }}" }
output: { id: "${{ steps.case.id }}", created: "${{ steps.case.created }}" }
`

// world is a host on a data file, with both connectors in memory.
type world struct {
	t     *testing.T
	host  *host.Host
	store store.Store
	path  string
	v     *vendor
}

func newWorld(t *testing.T, v *vendor, path, flowText string) *world {
	t.Helper()
	return newWorldOn(t, v, path, flowText, func(st store.Store) store.Store { return st })
}

// newWorldOn is newWorld with something between the host and its data file.
func newWorldOn(t *testing.T, v *vendor, path, flowText string, over func(store.Store) store.Store) *world {
	t.Helper()
	w := &world{t: t, v: v, path: path}
	st, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.store = st
	w.host, err = host.New(host.Options{
		Store: over(st), PublicURL: "https://casewire.example/", RunDir: filepath.Join(t.TempDir(), "r"),
		Connectors: map[string]host.Connector{
			"source": host.MemoryConnector(sdk.Server(v.source())), "target": host.MemoryConnector(sdk.Server(v.target())),
		},
		Connections: []host.Connection{
			{Name: "in", Connector: "source", Config: json.RawMessage(`{}`)}, {Name: "out", Connector: "target", Config: json.RawMessage(`{}`)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	flows, diags := flow.Load([]flow.Source{{File: "one-case.yaml", Data: []byte(flowText)}}, w.host)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := w.host.SetFlows(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	if err := w.host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

// stop ends the host as a shutdown does. It may be called twice.
func (w *world) stop() {
	if w.host == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), time.Minute)
	defer cancel()
	if err := w.host.Stop(ctx); err != nil {
		w.t.Error(err)
	}
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.host = nil
}

func (w *world) push(id string) {
	w.t.Helper()
	resp, err := w.host.Webhook(w.t.Context(), "in", "alerts", &connectorv1.HandleWebhookRequest{Trigger: "alerts", Method: "POST", Body: []byte(id)})
	if err != nil || resp.GetStatus() != 202 {
		w.t.Fatalf("push of %s: %v, %v", id, resp, err)
	}
}

// eventually waits for something that another goroutine brings about.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			st, err := w.host.Status(w.t.Context())
			w.t.Fatalf("%s did not come true: %+v, %v", what, st, err)
		case <-tick.C:
		}
	}
}

func (w *world) stats() store.Stats {
	w.t.Helper()
	s, err := w.store.Stats(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) ended(n int) func() bool {
	return func() bool {
		s := w.stats()
		return s.Runs[store.RunSucceeded]+s.Runs[store.RunDeadLetter] == n && s.Hints == 0
	}
}

func TestPushAndPollMakeOneCase(t *testing.T) {
	t.Parallel()
	v := newVendor()
	v.add("sn1", "one", true)
	v.add("sn2", "two", false)
	v.unread["sn2"] = 1 // the first look-up comes too early
	w := newWorld(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase)
	for range 3 {
		w.push("sn1")
		w.push("sn2")
	}
	w.eventually("two runs", w.ended(2))
	w.host.PollNow("in", "alerts")
	w.push("sn1")
	w.eventually("no hint is left", w.ended(2))
	if s := w.stats(); s.Events[store.Accepted] != 2 {
		t.Errorf("events %v", s.Events)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.cases) != 2 {
		t.Errorf("cases %v", v.cases)
	}
	for key, n := range v.cases {
		if n != 1 || !strings.HasPrefix(key, "msalert:") {
			t.Errorf("case %s was made %d times", key, n)
		}
	}
	if hook := v.hooks["alerts"]; hook.URL != "https://casewire.example/hooks/in/alerts" || hook.Secret.IsZero() {
		t.Errorf("hook %q", hook.URL)
	}
}

func TestNewsOfAnAlertUpdatesItsCase(t *testing.T) {
	t.Parallel()
	v := newVendor()
	v.add("sn1", "one", true)
	w := newWorld(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase)
	w.eventually("a run", w.ended(1))
	v.mu.Lock()
	v.alerts["sn1"] = strings.Replace(strings.Replace(v.alerts["sn1"], `"lastUpdateDateTime":"2026-11-01T10`, `"lastUpdateDateTime":"2026-11-01T11`, 1), `"one"`, `"one, worse"`, 1)
	v.mu.Unlock()
	w.push("sn1")
	w.eventually("a second run", w.ended(2))
	v.mu.Lock()
	defer v.mu.Unlock()
	for key := range v.cases {
		if v.cases[key] != 1 || v.updates[key] != 1 {
			t.Errorf("made %v, updated %v", v.cases, v.updates)
		}
	}
}

func TestWhatCannotBeUsedIsKeptVisible(t *testing.T) {
	t.Parallel()
	v := newVendor()
	v.add("sn1", "ignored", true)
	v.add("sn2", "refused", true)
	v.list = append(v.list, "broken")
	w := newWorld(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase)
	w.eventually("two dead letters", func() bool { return w.stats().DeadLetters == 2 })
	dls, err := w.store.ListDeadLetters(t.Context(), store.DeadLetterFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dls {
		switch d.Kind {
		case "event":
			if d.Subject != "broken" || string(d.Raw) != "whole" || !strings.Contains(d.Reason, "it makes no sense") {
				t.Errorf("%+v", d)
			}
		case "run":
			if d.Step != "case" || !strings.Contains(d.Reason, "it is refused") {
				t.Errorf("%+v", d)
			}
			run, err := w.host.Replay(t.Context(), host.Replay{Run: d.Run})
			if err != nil || run.Parent != d.Run {
				t.Errorf("replay: %+v, %v", run, err)
			}
		default:
			t.Errorf("%+v", d)
		}
	}
	if s := w.stats(); s.Events[store.Accepted] != 2 || s.Runs[store.RunSucceeded] != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := w.host.Replay(t.Context(), host.Replay{Run: "none"}); err == nil {
		t.Error("a run that does not exist was replayed")
	}
}

// A shutdown in the middle of a step, and a host that goes on with the same file.
func TestRunsGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	v := newVendor()
	v.block = make(chan struct{})
	for i := range 5 {
		v.add(fmt.Sprintf("sn%d", i), "t", true)
	}
	w := newWorld(t, v, path, oneCase)
	w.eventually("five events", func() bool { return w.stats().Events[store.Accepted] == 5 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no grace
	_ = w.host.Stop(ctx)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	w.host = nil
	v.mu.Lock()
	close(v.block)
	v.mu.Unlock()
	w = newWorld(t, v, path, oneCase)
	w.eventually("five runs", w.ended(5))
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.cases) != 5 {
		t.Errorf("cases %v", v.cases)
	}
	for key, n := range v.cases {
		if n != 1 {
			t.Errorf("case %s was made %d times", key, n)
		}
	}
}

func TestHookOfNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newVendor(), filepath.Join(t.TempDir(), "a.db"), oneCase)
	if _, err := w.host.Webhook(t.Context(), "out", "alerts", &connectorv1.HandleWebhookRequest{}); err == nil {
		t.Error("a hook that does not exist was taken")
	}
	if _, ok := w.host.WebhookRules("in", "other"); ok {
		t.Error("a trigger that does not exist has rules")
	}
	if w.host.PollNow("in", "other") {
		t.Error("a trigger that does not exist was polled")
	}
}

func TestOptionsAreCheckedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := host.New(host.Options{
		PublicURL:   "casewire.example",
		Connections: []host.Connection{{Name: "a/b"}, {Name: "c", Connector: "x"}, {Name: "c", Connector: "x"}},
	})
	for _, want := range []string{"Store is required", `"a/b"`, `no connector "x"`, "given twice", "public URL"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
