package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

type counter struct {
	Unobserved
	mu       sync.Mutex
	claimed  int
	released map[store.RunState]int
	lost     int
	ended    map[plugin.Class]int
	paused   map[string]int
}

func (c *counter) RunsClaimed(n int) { c.mu.Lock(); c.claimed += n; c.mu.Unlock() }
func (c *counter) RunLost(store.Run) { c.mu.Lock(); c.lost++; c.mu.Unlock() }

func (c *counter) RunReleased(_ store.Run, s store.RunState, _ plugin.Class, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released == nil {
		c.released = map[store.RunState]int{}
	}
	c.released[s]++
}

func (c *counter) CallEnded(_ Call, class plugin.Class, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = map[plugin.Class]int{}
	}
	c.ended[class]++
}

func (c *counter) ConnectionPaused(_, why string, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused == nil {
		c.paused = map[string]int{}
	}
	c.paused[why]++
}

func TestLongCallsKeepTheirLease(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			<-time.After(5 * time.Minute)
			return nil, nil
		}
		s := w.read("act")
		s.Timeout = time.Hour
		r := w.one(s)
		wantState(t, r, store.RunSucceeded)
		if len(w.sent()) != 1 || r.Fence != 1 {
			t.Errorf("%d calls, fence %d", len(w.sent()), r.Fence)
		}
	})
}

func TestAttemptsTimeOut(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(ctx context.Context, _ Call) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		s := w.read("act")
		s.Retry.Max = 1
		began := time.Now()
		r := w.one(s)
		wantState(t, r, store.RunDeadLetter, "timeout")
		if took := time.Since(began); took < time.Minute || took > 62*time.Second {
			t.Errorf("took %s, want the default of a minute", took)
		}
		s.Timeout = 5 * time.Second
		began = time.Now()
		wantState(t, w.one(s), store.RunDeadLetter)
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("took %s, want 5 s", took)
		}
	})
}

// Somebody else took the run: its work is cancelled, and nothing more is written.
func TestALostLeaseEndsTheWork(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		seen := &counter{}
		w.obs = seen
		var cause error
		w.call = func(ctx context.Context, _ Call) (json.RawMessage, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, ctx.Err()
		}
		w.flow("f", w.keyed("case", time.Minute))
		r := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		wait(time.Second)
		w.st.mu.Lock()
		r.Fence, r.Owner, r.LeaseEnd = 1000, "thief", time.Now().Add(time.Hour)
		w.st.mu.Unlock()
		wait(15 * time.Second) // the next renewal tells
		if !errors.Is(cause, errLost) {
			t.Fatalf("cause %v", cause)
		}
		if e.Active() != 0 || seen.lost != 1 {
			t.Errorf("active %d, lost %d", e.Active(), seen.lost)
		}
		stop(t, e)
		if n := w.st.counts(); n["advance waiting"]+n["advance parked"]+n["advance "] != 0 {
			t.Errorf("wrote after the lease was lost: %v", n)
		}
		if e := w.effect("case", "k"); e.State != store.EffectIntent {
			t.Errorf("ledger: %+v", e)
		}
	})
}

// The store cannot be asked for longer than a lease: nobody knows whose the run is.
func TestALeaseThatCannotBeRenewedIsLost(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		began := time.Now()
		var ended time.Time
		var healed atomic.Bool
		w.call = func(ctx context.Context, _ Call) (json.RawMessage, error) {
			if healed.Load() {
				return nil, nil
			}
			<-ctx.Done()
			ended = time.Now()
			return nil, ctx.Err()
		}
		w.st.hook = func(op string, _ bool) error {
			if op == "renew" && !healed.Load() {
				return errors.New("no connection")
			}
			return nil
		}
		w.flow("f", w.read("act"))
		w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		wait(29 * time.Second)
		if ended.IsZero() || ended.Sub(began) > 30*time.Second || ended.Sub(began) < 15*time.Second {
			t.Errorf("the work went on for %s of a lease of 30 s", ended.Sub(began))
		}
		healed.Store(true)
		w.settle(time.Hour)
		stop(t, e)
	})
}

func TestFencedWritesEndTheRun(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.flow("f", w.keyed("case", 0))
		r := w.st.add(store.NewRun{Flow: "f"})
		w.st.hook = func(op string, after bool) error {
			if op == "begin" && !after {
				w.st.mu.Lock()
				defer w.st.mu.Unlock()
				if r.Fence == 1 {
					r.Fence, r.LeaseEnd = 1000, time.Now()
				}
			}
			return nil
		}
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		if len(w.sent()) != 1 {
			t.Errorf("calls: %s", w.made())
		}
	})
}

func TestAFlakyStoreIsAskedAgain(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		n := 0
		w.st.hook = func(_ string, after bool) error {
			if n++; !after && n%3 != 0 {
				return store.ErrFull
			}
			return nil
		}
		wantState(t, w.one(w.read("look"), w.keyed("case", time.Minute), w.unsafe("tell")), store.RunSucceeded)
		if got := w.made(); got != "look case tell" {
			t.Errorf("calls %q", got)
		}
	})
}

func TestClaimsKeepTheOrderOfAKey(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			<-time.After(100 * time.Millisecond)
			return nil, nil
		}
		s := w.read("act")
		s.With = w.val(func(env flow.Env) any { return path(env, "run", "id") })
		w.flow("f", s)
		var want []string
		for range 20 {
			want = append(want, `"`+w.st.add(store.NewRun{Flow: "f", OrderKey: "o"}).ID+`"`)
		}
		began := time.Now()
		e := w.start()
		w.settle(time.Minute)
		stop(t, e)
		var got []string
		for _, c := range w.sent() {
			got = append(got, string(c.Input))
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("order %v", got)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("20 runs of 100 ms one after the other took %s", took)
		}
	})
}

func TestWakeAndDue(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.flow("f", w.read("act"))
		e := w.start()
		wait(10 * time.Second)
		r := w.st.add(store.NewRun{Flow: "f"})
		e.Wake()
		wait(time.Millisecond)
		wantState(t, w.run(r.ID), store.RunSucceeded)

		r = w.st.add(store.NewRun{Flow: "f"}) // no Wake: another host put it there
		wait(tick + 10*time.Millisecond)
		wantState(t, w.run(r.ID), store.RunSucceeded)

		r = w.st.add(store.NewRun{Flow: "f"})
		w.st.mu.Lock()
		due := time.Now().Add(300 * time.Millisecond)
		r.State, r.NotBefore = store.RunWaiting, due
		w.st.mu.Unlock()
		e.Wake()
		wait(299 * time.Millisecond)
		wantState(t, w.run(r.ID), store.RunWaiting)
		wait(2 * time.Millisecond)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		stop(t, e)
	})
}

func TestStopLetsAttemptsFinish(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			<-time.After(10 * time.Second)
			return nil, nil
		}
		w.flow("f", w.keyed("one", 0), w.keyed("two", 0))
		r := w.st.add(store.NewRun{Flow: "f"})
		later := w.st.add(store.NewRun{Flow: "f", OrderKey: r.OrderKey})
		e := w.start()
		wait(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		if got := w.made(); got != "one" {
			t.Errorf("calls %q", got)
		}
		wantState(t, w.run(r.ID), store.RunWaiting, "stopping")
		wantState(t, w.run(later.ID), store.RunReady)
		if s := w.step(r.ID, "one"); s.State != store.StepSucceeded {
			t.Errorf("journal: %+v", s)
		}
		e = w.start() // another host takes it up at once
		wait(11 * time.Second)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		w.settle(time.Hour)
		stop(t, e)
	})
}

func TestStopCancelsAtLast(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		hang := true
		w.call = func(ctx context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve || !hang {
				return json.RawMessage(`{"id":"7"}`), nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ids := map[string]string{}
		for name, s := range map[string]*flow.Step{"read": w.read("read"), "keyed": w.keyed("keyed", time.Minute), "unsafe": w.unsafe("unsafe")} {
			w.flow(name, s)
			ids[name] = w.st.add(store.NewRun{Flow: name}).ID
		}
		e := w.start()
		wait(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := e.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		wantState(t, w.run(ids["read"]), store.RunWaiting)
		wantState(t, w.run(ids["keyed"]), store.RunWaiting)
		wantState(t, w.run(ids["unsafe"]), store.RunParked)
		if e := w.effect("keyed", "k"); e.State != store.EffectUnknown {
			t.Errorf("ledger: %+v", e)
		}
		hang = false
		e = w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(ids["read"]), store.RunSucceeded)
		wantState(t, w.run(ids["keyed"]), store.RunSucceeded)
		if s := w.step(ids["read"], "read"); s.Attempt != 1 {
			t.Errorf("the host's own stop used up an attempt: %+v", s)
		}
	})
}

func TestStopInterruptsWaits(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(context.Context, Call) (json.RawMessage, error) { return nil, throttled(1900 * time.Millisecond) }
		w.flow("f", w.read("act"))
		r := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		wait(time.Second)
		began := time.Now()
		stop(t, e)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("took %s", took)
		}
		wantState(t, w.run(r.ID), store.RunWaiting)
	})
}

func TestLifecycle(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		e := w.engine()
		stop(t, e) // never started
		if err := e.Start(t.Context()); err == nil {
			t.Error("started after a stop")
		}
		e = w.start()
		if err := e.Start(t.Context()); err == nil {
			t.Error("started twice")
		}
		stop(t, e)
		if err := e.Stop(t.Context()); err == nil {
			t.Error("stopped twice")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.engine().Start(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Start: %v", err)
		}
	})
}

func TestObserver(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		seen := &counter{}
		w.obs = seen
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			if len(w.sent()) == 1 {
				return nil, throttled(time.Hour)
			}
			return nil, nil
		}
		w.one(w.read("act"))
		if seen.claimed != 2 || seen.released[store.RunWaiting] != 1 || seen.released[store.RunSucceeded] != 1 ||
			seen.ended[plugin.ClassThrottled] != 1 || seen.ended[""] != 1 || seen.paused["throttled"] != 1 {
			t.Errorf("seen: %+v", seen)
		}
	})
}
