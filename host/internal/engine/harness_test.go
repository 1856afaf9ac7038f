package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// funcs evaluates values that tests write as Go functions.
type funcs struct {
	values sync.Map // *flow.Value to func(flow.Env) (any, error)
	exprs  sync.Map // *flow.Expr likewise
}

func (f *funcs) Eval(v *flow.Value, env flow.Env) (any, error) {
	x, _ := f.values.Load(v)
	return x.(func(flow.Env) (any, error))(env)
}

func (f *funcs) Test(v *flow.Expr, env flow.Env) (bool, error) {
	x, _ := f.exprs.Load(v)
	return x.(func(flow.Env) (bool, error))(env)
}

// world is a store, a vendor and flows, which outlive the engines that are started on them.
type world struct {
	t      *testing.T
	funcs  funcs
	st     *memStore
	flows  map[string]*flow.Flow
	call   func(ctx context.Context, c Call) (json.RawMessage, error)
	load   func(ctx context.Context, r store.Run) (flow.Env, error)
	limit  func(string) Limit
	obs    Observer
	worker int

	mu    sync.Mutex
	calls []Call
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, st: newMemStore(), flows: map[string]*flow.Flow{}, worker: 8}
}

func (w *world) Call(ctx context.Context, c Call) (json.RawMessage, error) {
	w.mu.Lock()
	w.calls = append(w.calls, c)
	w.mu.Unlock()
	if w.call == nil {
		return json.RawMessage(`{"ok":true}`), nil
	}
	return w.call(ctx, c)
}

func (w *world) Flow(_ context.Context, name, _ string) (*flow.Flow, error) {
	if f := w.flows[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("flow %q: %w", name, store.ErrNotFound)
}

// engine makes one; st, if given, stands between it and the world's store.
func (w *world) engine(st ...store.Store) *Engine {
	w.t.Helper()
	var s store.Store = w.st
	if len(st) > 0 {
		s = st[0]
	}
	e, err := New(Options{Store: s, Caller: w, Flows: w, Workers: w.worker, Load: w.load, Limit: w.limit, Observer: w.obs})
	if err != nil {
		w.t.Fatal(err)
	}
	e.eval = &w.funcs
	return e
}

func (w *world) start(st ...store.Store) *Engine {
	w.t.Helper()
	e := w.engine(st...)
	if err := e.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return e
}

// settle waits until no run is live, for at most limit of the fake clock.
func (w *world) settle(limit time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(limit); w.st.unfinished() > 0; {
		if time.Now().After(end) {
			w.st.mu.Lock()
			defer w.st.mu.Unlock()
			for _, r := range w.st.runs {
				if r.State.Live() {
					w.t.Errorf("run %s is still %s: %s", r.ID, r.State, r.Reason)
				}
			}
			w.t.Fatalf("runs did not end in %s", limit)
		}
		wait(time.Second)
	}
}

// wait lets the fake clock go on and everything settle.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func stop(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// one runs a flow of the given steps once and returns the run as it ended.
func (w *world) one(steps ...*flow.Step) store.Run {
	w.t.Helper()
	w.flow("f", steps...)
	r := w.st.add(store.NewRun{Flow: "f"})
	e := w.start()
	w.settle(72 * time.Hour)
	stop(w.t, e)
	return w.run(r.ID)
}

func (w *world) run(id string) store.Run {
	w.t.Helper()
	r, err := w.st.Run(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) flow(name string, steps ...*flow.Step) *flow.Flow {
	f := &flow.Flow{Name: name, Steps: steps}
	w.flows[name] = f
	return f
}

func (w *world) val(f func(env flow.Env) any) *flow.Value {
	box := &struct {
		flow.Value
		_ int // a pointer of its own, whatever the size of a Value
	}{}
	w.funcs.values.Store(&box.Value, func(env flow.Env) (any, error) { return f(env), nil })
	return &box.Value
}

func (w *world) bad(err error) *flow.Value {
	v := w.val(nil)
	w.funcs.values.Store(v, func(flow.Env) (any, error) { return nil, err })
	return v
}

func (w *world) lit(v any) *flow.Value { return w.val(func(flow.Env) any { return v }) }

func (w *world) when(f func(env flow.Env) bool) *flow.Expr {
	box := &struct {
		flow.Expr
		_ int
	}{}
	w.funcs.exprs.Store(&box.Expr, func(env flow.Env) (bool, error) { return f(env), nil })
	return &box.Expr
}

func (w *world) uses(id string, effect connectorv1.Effect) *flow.Step {
	s := &flow.Step{ID: id, Kind: flow.KindUses, Connection: "c", Connector: "v", Action: id, Effect: effect}
	s.With = w.lit(map[string]any{"step": id})
	if effect == connectorv1.Effect_EFFECT_KEYED {
		s.Key = w.lit("k")
	}
	return s
}

func (w *world) read(id string) *flow.Step {
	return w.uses(id, connectorv1.Effect_EFFECT_READ)
}

func (w *world) keyed(id string, window time.Duration) *flow.Step {
	s := w.uses(id, connectorv1.Effect_EFFECT_KEYED)
	s.ResolveWindow = window
	return s
}

func (w *world) unsafe(id string) *flow.Step {
	return w.uses(id, connectorv1.Effect_EFFECT_UNSAFE)
}

func (w *world) let(id string, names map[string]*flow.Value) *flow.Step {
	s := &flow.Step{ID: id, Kind: flow.KindLet}
	for n, v := range names {
		s.Let = append(s.Let, flow.Binding{Name: n, Value: v})
	}
	return s
}

// path walks maps.
func path(v any, names ...string) any {
	if env, ok := v.(flow.Env); ok {
		v = map[string]any(env)
	}
	for _, n := range names {
		m, _ := v.(map[string]any)
		v = m[n]
	}
	return v
}

func (w *world) sent() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Call(nil), w.calls...)
}

// made are the actions called, in order, resolves marked with a question mark.
func (w *world) made() string {
	var names []string
	for _, c := range w.sent() {
		if c.Resolve {
			c.Action += "?"
		}
		names = append(names, c.Action)
	}
	return strings.Join(names, " ")
}

func (w *world) step(run, p string) store.Step {
	w.st.mu.Lock()
	defer w.st.mu.Unlock()
	return w.st.steps[run][p]
}

func (w *world) effect(action, key string) store.Effect {
	e, _ := w.st.Effect(context.Background(), store.EffectKey{Connection: "c", Action: action, Key: key})
	return e
}

func wantState(t *testing.T, r store.Run, state store.RunState, reason ...string) {
	t.Helper()
	if r.State != state {
		t.Fatalf("run is %s (%s), want %s", r.State, r.Reason, state)
	}
	for _, part := range reason {
		if !strings.Contains(r.Reason, part) {
			t.Errorf("reason %q does not say %q", r.Reason, part)
		}
	}
}

// What a vendor can answer.
func broken(code codes.Code, effect connectorv1.SideEffect) *plugin.Error {
	e := plugin.Errorf(code, "vendor says %s", code)
	e.Origin, e.SideEffect = plugin.OriginDownstream, effect
	return e
}

func unavailable() error { return broken(codes.Unavailable, plugin.EffectNone) }
func lostAnswer() error  { return broken(codes.Unavailable, plugin.EffectUnknown) }
func invalid() error     { return broken(codes.InvalidArgument, plugin.EffectNone) }
func unresolved() error {
	e := broken(codes.NotFound, plugin.EffectNone)
	e.Reason = plugin.ReasonUnresolved
	return e
}

func throttled(after time.Duration) error {
	e := broken(codes.ResourceExhausted, plugin.EffectNone)
	e.RetryAfter = after
	return e
}

var errAbort = errors.New("abort")
