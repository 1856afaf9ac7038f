package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// mortal stands between an engine and its store and vendor, and can die like a process: from then on nothing that the
// engine does gets through.
type mortal struct {
	*memStore
	w *world

	mu    sync.Mutex
	left  int  // writes until death; negative: immortal
	after bool // die after the write took effect, before anybody hears of it
	dead  bool
}

func (m *mortal) write(f func() error) error {
	m.mu.Lock()
	if m.dead {
		m.mu.Unlock()
		return store.ErrFenced
	}
	m.left--
	last := m.left == 0
	m.dead = last
	m.mu.Unlock()
	if last && !m.after {
		return store.ErrFenced
	}
	err := f()
	if last {
		return store.ErrFenced
	}
	return err
}

func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func (m *mortal) ClaimRuns(ctx context.Context, c store.RunClaim) (out []store.Run, err error) {
	if m.isDead() {
		return nil, errors.New("dead")
	}
	return m.memStore.ClaimRuns(ctx, c)
}

func (m *mortal) RenewRuns(ctx context.Context, owner string, l []store.Lease, until time.Time) ([]string, error) {
	if m.isDead() {
		return nil, errors.New("dead")
	}
	return m.memStore.RenewRuns(ctx, owner, l, until)
}

func (m *mortal) Advance(ctx context.Context, a store.Advance) error {
	return m.write(func() error { return m.memStore.Advance(ctx, a) })
}

func (m *mortal) BeginEffect(ctx context.Context, l store.Lease, e store.Effect, steps []store.Step) (prior store.Effect, err error) {
	err = m.write(func() error {
		prior, err = m.memStore.BeginEffect(ctx, l, e, steps)
		return err
	})
	return prior, err
}

func (m *mortal) Call(ctx context.Context, c Call) (json.RawMessage, error) {
	if m.isDead() {
		return nil, context.Canceled
	}
	return m.w.Call(ctx, c)
}

func (w *world) startMortal(m *mortal) *Engine {
	w.t.Helper()
	m.memStore, m.w = w.st, w
	e, err := New(Options{Store: m, Caller: m, Flows: w, Workers: w.worker, Lease: 10 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	e.eval = &w.funcs
	if err := e.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return e
}

// kill ends an engine whose store is dead.
func (w *world) kill(e *Engine, m *mortal) {
	w.t.Helper()
	m.die()
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	if err := e.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		w.t.Error(err)
	}
}

// vendor creates an object for every call that says nothing of an earlier one, as vendors do. Actions named unique… refuse
// a second object with the same key, and hand out the first.
type vendor struct {
	w   *world
	lag time.Duration
	// fault may fail a call: before it took effect, or after.
	fault func(c Call) (before, after error)

	mu      sync.Mutex
	objects map[string][]time.Time // by action and key: when each was made
	updates map[string]int
	told    map[string]int // unsafe calls, by run and action
	repeats []string       // calls of steps that the journal had finished
}

func newVendor(w *world) *vendor {
	v := &vendor{w: w, objects: map[string][]time.Time{}, updates: map[string]int{}, told: map[string]int{}}
	w.call = v.call
	return v
}

func (v *vendor) call(_ context.Context, c Call) (json.RawMessage, error) {
	run, _, _ := strings.Cut(c.ID, ".")
	v.mu.Lock()
	defer v.mu.Unlock()
	v.w.st.mu.Lock()
	for _, s := range v.w.st.steps[run] {
		if s.Action == "v."+c.Action && s.Key == c.Key && string(s.Input) == string(c.Input) && s.State == store.StepSucceeded {
			v.repeats = append(v.repeats, c.ID+" "+s.Path)
		}
	}
	v.w.st.mu.Unlock()
	var before, after error
	if v.fault != nil {
		before, after = v.fault(c)
	}
	if before != nil {
		return nil, before
	}
	id := c.Action + "/" + c.Key
	switch {
	case c.Resolve:
		if o := v.objects[id]; len(o) == 0 || time.Since(o[0]) < v.lag {
			return nil, unresolved()
		}
		return json.RawMessage(`{"id":"` + id + `","created":true}`), nil
	case c.Key == "":
		v.told[run+" "+c.Action]++
	case c.Prior != nil && len(v.objects[id]) == 0:
		return nil, invalid() // nothing was ever made
	case c.Prior != nil, strings.HasPrefix(c.Action, "unique") && len(v.objects[id]) > 0:
		v.updates[id]++
	default:
		v.objects[id] = append(v.objects[id], time.Now())
	}
	if after != nil {
		return nil, after
	}
	return json.RawMessage(`{"id":"` + id + `","created":true}`), nil
}

// check is what must hold whatever happened.
func (v *vendor) check(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, made := range v.objects {
		if len(made) > 1 {
			t.Errorf("%s was made %d times: %v", id, len(made), made)
		}
	}
	for id, n := range v.told {
		if strings.HasSuffix(id, "unsafe") && n > 1 {
			t.Errorf("%s happened %d times", id, n)
		}
	}
	for _, r := range v.repeats {
		t.Errorf("a finished step was called again: %s", r)
	}
	for _, r := range v.w.st.runs {
		switch {
		case r.State.Live():
			t.Errorf("run %s is still %s", r.ID, r.State)
		case r.State == store.RunSucceeded:
			for key, e := range v.w.st.effects {
				if e.Run == r.ID && e.State != store.EffectDone {
					t.Errorf("run %s succeeded, but effect %v is %s", r.ID, key, e.State)
				}
			}
		case r.Reason == "":
			t.Errorf("run %s is %s without a reason", r.ID, r.State)
		}
	}
}

// everything is a flow with every kind of step.
func (w *world) everything() {
	key := func(of string) *flow.Value {
		return w.val(func(env flow.Env) any { return fmt.Sprint(path(env, "inputs", "key"), of, path(env, "item")) })
	}
	issue, mirror, comment := w.keyed("issue", time.Minute), w.keyed("unique", 0), w.keyed("comment", time.Minute)
	issue.Key, mirror.Key, comment.Key = key("i"), key("m"), key("c")
	get := w.read("get")
	get.With = w.val(func(env flow.Env) any { return map[string]any{"item": path(env, "item")} })
	each := &flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit([]any{1, 2, 3}), Body: []*flow.Step{get, comment}, Concurrency: 2}
	sub := &flow.Flow{Name: "sub", Steps: []*flow.Step{w.read("query"), mirror}, Inputs: map[string]flow.Input{"key": {}}}
	f := w.flow("f",
		w.read("look"),
		w.let("facts", map[string]*flow.Value{"x": w.lit(1)}),
		issue,
		&flow.Step{ID: "sub", Kind: flow.KindCall, Call: sub, With: w.val(func(env flow.Env) any { return path(env, "inputs") })},
		each,
		w.unsafe("unsafe"),
		w.read("last"),
	)
	f.Inputs = map[string]flow.Input{"key": {}}
	f.Output = w.lit("done")
}

// The host dies before or after each of its writes; another takes over.
func TestCrashAtEveryWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n <= 12; n++ {
			t.Run(fmt.Sprint(n, after), func(t *testing.T) {
				play(t, func(w *world) {
					t := w.t
					v := newVendor(w)
					v.lag = 20 * time.Second
					w.everything()
					r := w.st.add(store.NewRun{Flow: "f", Input: json.RawMessage(`{"key":"k"}`)})
					m := &mortal{left: n, after: after}
					e := w.startMortal(m)
					wait(5 * time.Second)
					if n < 8 && !m.isDead() {
						t.Fatalf("only %d writes were made", n-m.left)
					}
					w.kill(e, m)
					e = w.start()
					w.settle(2 * time.Hour)
					stop(t, e)
					v.check(t)
					got := w.run(r.ID)
					if got.State == store.RunParked {
						// The intent was written and the call was never made, or nobody knows: a person must look.
						if !strings.Contains(got.Reason, "casewire replay") {
							t.Errorf("reason: %s", got.Reason)
						}
						return
					}
					wantState(t, got, store.RunSucceeded)
					for _, id := range []string{"issue/ki<nil>", "unique/km<nil>", "comment/kc1", "comment/kc2", "comment/kc3"} {
						if len(v.objects[id]) != 1 {
							t.Errorf("%s was made %d times; there are %v", id, len(v.objects[id]), slices.Collect(maps.Keys(v.objects)))
						}
					}
				})
			})
		}
	}
}

// A thousand runs, vendors that lie about what they did, and a host that dies again and again.
func TestStorm(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			play(t, func(w *world) { storm(w, seed) })
		})
	}
}

func storm(w *world, seed uint64) {
	t := w.t
	var dice sync.Mutex
	source := rand.New(rand.NewPCG(seed, 1))
	roll := func(n int) int {
		dice.Lock()
		defer dice.Unlock()
		return source.IntN(n)
	}
	v := newVendor(w)
	v.lag = 10 * time.Second
	v.fault = func(c Call) (before, after error) {
		switch n := roll(100); {
		case n < 4:
			return throttled(time.Duration(roll(5)) * time.Second), nil
		case n < 7:
			return unavailable(), nil
		case n < 9:
			return broken(codes.Aborted, plugin.EffectNone), nil
		case n < 11:
			return lostAnswer(), nil
		case n < 16:
			return nil, lostAnswer()
		case n < 18:
			return nil, broken(codes.Internal, plugin.EffectUnknown)
		}
		return nil, nil
	}
	w.worker = 32
	w.everything()
	const runs = 1000
	for i := range runs {
		key := fmt.Sprint("k", roll(runs/2))
		w.st.add(store.NewRun{ID: fmt.Sprint("r", i), Flow: "f", OrderKey: fmt.Sprint("o", roll(runs)), Input: json.RawMessage(`{"key":"` + key + `"}`)})
	}
	for range 12 {
		m := &mortal{left: 200 + roll(2000), after: roll(2) == 0}
		if roll(3) == 0 {
			m.left = -1
		}
		e := w.startMortal(m)
		wait(time.Duration(roll(40)) * time.Second)
		w.kill(e, m)
	}
	e := w.start()
	w.settle(72 * time.Hour)
	stop(t, e)
	v.check(t)
	ends := map[store.RunState]int{}
	for _, r := range w.st.runs {
		ends[r.State]++
	}
	if ends[store.RunSucceeded] < runs/4 || ends[store.RunDeadLetter] != len(w.st.dead) {
		t.Errorf("ends: %v, %d dead letters", ends, len(w.st.dead))
	}
	t.Logf("%v after %d calls and %d writes", ends, len(w.sent()), len(w.st.writes))
}
