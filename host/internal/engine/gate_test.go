package engine

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

func newGates(limit Limit) *gates {
	var g gates
	g.init(func(string) Limit { return limit }, Unobserved{})
	return &g
}

func (g *gates) try(t *testing.T, want bool) pass {
	t.Helper()
	p, no, ok := g.enter("c", "act", time.Now())
	if ok != want {
		t.Fatalf("enter: %v, want %v (%+v)", ok, want, no)
	}
	if !ok && no.wait <= 0 {
		t.Fatalf("refused without a wait: %+v", no)
	}
	g.forgo(no, false)
	return p
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates(Limit{})
		down := broken(codes.Unavailable, plugin.EffectNone)
		fail := func(p pass) { g.done(p, down, true, time.Now()) }
		for range breakerThreshold - 1 {
			fail(g.try(t, true))
		}
		g.done(g.try(t, true), broken(codes.NotFound, plugin.EffectNone), true, time.Now()) // it is there after all
		for range breakerThreshold {
			fail(g.try(t, true))
		}
		g.try(t, false)
		var last time.Duration
		for range 8 { // each failed probe doubles the pause, up to a minute
			began := time.Now()
			for {
				if _, no, ok := g.enter("c", "act", time.Now()); !ok {
					<-time.After(no.wait)
					continue
				}
				break
			}
			last = time.Since(began)
			g.try(t, false) // one probe at a time
			fail(pass{connection: "c", limiter: g.of("c").limiter, probe: true})
		}
		if last < breakerLongest || last > 2*breakerLongest {
			t.Errorf("the last pause was %s", last)
		}
		<-time.After(2 * breakerLongest)
		p := g.try(t, true)
		if !p.probe {
			t.Error("not a probe")
		}
		g.done(p, nil, false, time.Now()) // not made after all: the next is the probe
		p = g.try(t, true)
		if !p.probe {
			t.Error("not a probe")
		}
		g.done(p, nil, true, time.Now())
		fail(g.try(t, true)) // closed: failures are counted anew
		g.try(t, true)
	})
}

func TestThrottledPauseAndRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates(Limit{Name: "credential"})
		slow := broken(codes.ResourceExhausted, plugin.EffectNone)
		slow.RetryAfter = 10 * time.Second
		g.done(g.try(t, true), slow, true, time.Now())
		if _, _, ok := g.enter("sister", "act", time.Now()); ok {
			t.Error("another connection with the same credential goes on")
		}
		<-time.After(9 * time.Second)
		g.try(t, false)
		<-time.After(2 * time.Second)
		p := g.try(t, true)
		g.try(t, false) // one at a time at first
		g.done(p, nil, true, time.Now())
		a, b := g.try(t, true), g.try(t, true) // then two
		g.try(t, false)
		g.done(a, nil, true, time.Now())
		g.done(b, nil, true, time.Now())
		for range fullyOpen {
			g.done(g.try(t, true), nil, true, time.Now())
		}
		for range 2 * fullyOpen {
			g.try(t, true) // no window any more
		}
	})
}

func TestThrottleScopes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates(Limit{Name: "credential"})
		slow := func(scope string) *plugin.Error {
			e := broken(codes.ResourceExhausted, plugin.EffectNone)
			e.RetryAfter, e.Meta = 10*time.Second, map[string]string{plugin.MetaThrottleScope: scope}
			return e
		}
		g.done(g.try(t, true), slow(plugin.ScopeObject), true, time.Now())
		g.done(g.try(t, true), slow(plugin.ScopeAction), true, time.Now())
		g.try(t, false)
		p, _, ok := g.enter("sister", "other", time.Now())
		if !ok {
			t.Fatal("another action is held back")
		}
		g.done(p, nil, true, time.Now())
		if _, _, ok := g.enter("sister", "act", time.Now()); ok {
			t.Error("the same action of a sister goes on")
		}
		// What a poll is told holds for calls, and the other way round.
		g.heard("sister", "poll", slow(""), time.Now())
		if until := g.pausedUntil("c", "poll"); until != time.Now().Add(10*time.Second) {
			t.Errorf("paused until %v", until)
		}
		if _, _, ok := g.enter("c", "other", time.Now()); ok {
			t.Error("a call goes on after a throttled poll")
		}
		g.heard("sister", "poll", broken(codes.Unavailable, plugin.EffectNone), time.Now())
		g.heard("sister", "poll", nil, time.Now())
		<-time.After(11 * time.Second)
		g.try(t, true)
	})
}

// A limit that changes while calls are in flight holds from the next call on.
func TestLimitsRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gates
		limits := map[string]Limit{"c": {Name: "x", Concurrent: 1}, "d": {Name: "x", Concurrent: 1}}
		g.init(func(c string) Limit { return limits[c] }, Unobserved{})
		held := g.try(t, true)
		_, no, ok := g.enter("d", "act", time.Now())
		if ok {
			t.Fatal("two at once")
		}
		limits = map[string]Limit{"c": {Name: "x", Concurrent: 2}, "d": {Name: "y"}}
		g.renew()
		<-no.turn // whoever waited asks again
		g.forgo(no, true)
		for range 5 { // in a limiter of its own
			if _, _, ok := g.enter("d", "act", time.Now()); !ok {
				t.Fatal("the other one is still held back")
			}
		}
		second := g.try(t, true)
		g.try(t, false)
		g.done(held, nil, true, time.Now())
		g.done(second, nil, true, time.Now())
		if l := g.of("c").limiter; l.inFlight != 0 || len(l.queue) != 0 {
			t.Errorf("left behind: %+v", l)
		}
	})
}

func TestLimits(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.limit = func(c string) Limit { return Limit{Name: "all", Concurrent: 3} }
		var now, most atomic.Int64
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-time.After(time.Second)
			now.Add(-1)
			return nil, nil
		}
		w.worker = 16
		w.flow("f", w.read("act"))
		for range 60 {
			w.st.add(store.NewRun{Flow: "f"})
		}
		began := time.Now()
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		if most.Load() != 3 {
			t.Errorf("%d at once, want 3", most.Load())
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %s, want little more than 20 s", took)
		}
	})
}

func TestRate(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.limit = func(string) Limit { return Limit{PerSecond: 10} }
		w.flow("f", w.read("act"))
		for range 100 {
			w.st.add(store.NewRun{Flow: "f"})
		}
		began := time.Now()
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		if took := time.Since(began); took < 9*time.Second || took > 40*time.Second {
			t.Errorf("100 calls at 10/s took %s", took)
		}
	})
}

// A connection that is down holds neither workers nor attempts, and others go on.
func TestOneConnectionDownDoesNotHoldTheOthers(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		up := time.Now().Add(time.Hour)
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Connection == "down" && time.Now().Before(up) {
				return nil, unavailable()
			}
			return nil, nil
		}
		bad := w.read("bad")
		bad.Connection = "down"
		w.flow("bad", bad)
		w.flow("good", w.read("good"))
		for range 200 {
			w.st.add(store.NewRun{Flow: "bad"})
		}
		var good []string
		for range 50 {
			good = append(good, w.st.add(store.NewRun{Flow: "good"}).ID)
		}
		e := w.start()
		wait(30 * time.Second)
		for _, id := range good {
			wantState(t, w.run(id), store.RunSucceeded)
		}
		w.settle(2 * time.Hour)
		stop(t, e)
		for id := range w.st.runs {
			wantState(t, w.run(id), store.RunSucceeded)
		}
		if n := len(w.sent()); n > 600 {
			t.Errorf("%d calls for 250 runs through an outage of an hour", n)
		}
	})
}

func TestThrottledHerdLosesNobody(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		var window time.Time
		n := 0
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if time.Since(window) >= time.Second {
				window, n = time.Now(), 0
			}
			if n++; n > 5 {
				return nil, throttled(time.Second)
			}
			return nil, nil
		}
		w.worker = 64
		w.flow("f", w.keyed("act", time.Minute))
		w.flows["f"].Steps[0].Key = w.val(func(env flow.Env) any { return path(env, "run", "id") })
		for range 500 {
			w.st.add(store.NewRun{Flow: "f"})
		}
		e := w.start()
		w.settle(2 * time.Hour)
		stop(t, e)
		for id := range w.st.runs {
			wantState(t, w.run(id), store.RunSucceeded)
		}
		if calls := len(w.sent()); calls > 1500 {
			t.Errorf("%d calls for 500 runs", calls)
		}
	})
}

// A crash fails everything that is in flight: that opens the breaker once, for its first pause.
func TestBreakerCountsACrashOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates(Limit{})
		var inFlight []pass
		for range 10 * breakerThreshold {
			inFlight = append(inFlight, g.try(t, true))
		}
		for _, p := range inFlight {
			g.done(p, broken(codes.Unavailable, plugin.EffectUnknown), true, time.Now())
		}
		g.try(t, false)
		<-time.After(2 * breakerFirst)
		if p := g.try(t, true); !p.probe {
			t.Error("not a probe")
		}
	})
}
