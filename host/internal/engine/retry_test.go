package engine

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func TestWhatIsRepeated(t *testing.T) {
	const (
		none    = plugin.EffectNone
		unknown = plugin.EffectUnknown
		applied = plugin.EffectApplied
	)
	read, idempotent := connectorv1.Effect_EFFECT_READ, connectorv1.Effect_EFFECT_IDEMPOTENT
	keyed, unsafe := connectorv1.Effect_EFFECT_KEYED, connectorv1.Effect_EFFECT_UNSAFE
	for _, tc := range []struct {
		name   string
		effect connectorv1.Effect
		code   codes.Code
		side   connectorv1.SideEffect
		on     []plugin.Class
		calls  int // 1 + repeats, when the second would succeed
		state  store.RunState
	}{
		{"read down", read, codes.Unavailable, none, nil, 2, store.RunSucceeded},
		{"read lost", read, codes.Unavailable, unknown, nil, 2, store.RunSucceeded},
		{"read late", read, codes.DeadlineExceeded, unknown, nil, 2, store.RunSucceeded},
		{"read throttled", read, codes.ResourceExhausted, none, nil, 2, store.RunSucceeded},
		{"read conflict", read, codes.Aborted, none, nil, 2, store.RunSucceeded},
		{"read drained", read, codes.Canceled, unknown, nil, 2, store.RunSucceeded},
		{"read refused", read, codes.PermissionDenied, none, nil, 1, store.RunDeadLetter},
		{"read unauthenticated", read, codes.Unauthenticated, none, nil, 1, store.RunDeadLetter},
		{"read not found", read, codes.NotFound, none, nil, 1, store.RunDeadLetter},
		{"read too large", read, codes.OutOfRange, none, nil, 1, store.RunDeadLetter},
		{"read bug", read, codes.Internal, unknown, nil, 1, store.RunDeadLetter},
		{"read bug named uncertain", read, codes.Internal, unknown, []plugin.Class{plugin.ClassUncertain}, 2, store.RunSucceeded},
		{"read not found but named", read, codes.NotFound, none, []plugin.Class{plugin.ClassNotFound}, 2, store.RunSucceeded},
		{"read down but not named", read, codes.Unavailable, none, []plugin.Class{plugin.ClassThrottled}, 1, store.RunDeadLetter},
		{"nothing is named", read, codes.Unavailable, none, []plugin.Class{}, 1, store.RunDeadLetter},
		{"idempotent lost", idempotent, codes.Unavailable, unknown, nil, 2, store.RunSucceeded},
		{"keyed down", keyed, codes.Unavailable, none, nil, 2, store.RunSucceeded},
		{"keyed lost, safe to repeat", keyed, codes.Unavailable, unknown, nil, 2, store.RunSucceeded},
		{"keyed lost, not named", keyed, codes.Internal, unknown, []plugin.Class{}, 2, store.RunSucceeded},
		{"keyed applied", keyed, codes.Internal, applied, nil, 2, store.RunSucceeded},
		{"keyed invalid", keyed, codes.InvalidArgument, none, nil, 1, store.RunDeadLetter},
		{"unsafe down", unsafe, codes.Unavailable, none, nil, 2, store.RunSucceeded},
		{"unsafe lost", unsafe, codes.Unavailable, unknown, nil, 1, store.RunParked},
		{"unsafe lost but named", unsafe, codes.Unavailable, unknown, []plugin.Class{plugin.ClassUncertain}, 1, store.RunParked},
		{"unsafe applied", unsafe, codes.Internal, applied, nil, 1, store.RunParked},
		{"unsafe says nothing", unsafe, codes.Unavailable, 0, nil, 1, store.RunParked},
		{"unsafe throttled, who knows", unsafe, codes.ResourceExhausted, unknown, nil, 1, store.RunParked},
		{"effect not declared", connectorv1.Effect_EFFECT_UNSPECIFIED, codes.Unavailable, unknown, nil, 1, store.RunParked},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, func(w *world) {
				t := w.t
				w.call = func(context.Context, Call) (json.RawMessage, error) {
					if len(w.sent()) == 1 {
						return nil, broken(tc.code, tc.side)
					}
					return nil, nil
				}
				s := w.uses("act", tc.effect)
				s.Retry.On = tc.on
				s.OnError = flow.OnErrorFail
				r := w.one(s)
				wantState(t, r, tc.state)
				if n := len(w.sent()); n != tc.calls {
					t.Errorf("%d calls, want %d", n, tc.calls)
				}
				if got := w.sent()[0].Effect; got != tc.effect {
					t.Errorf("the call says effect %s", got)
				}
				if tc.state == store.RunSucceeded {
					if got := w.step(r.ID, "act").Attempt; got != 2 {
						t.Errorf("attempt %d in the journal, want 2", got)
					}
				}
			})
		})
	}
}

func TestAttemptsRunOut(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		max   int
		calls int
	}{
		"default":              {broken(codes.Aborted, plugin.EffectNone), 0, 5},
		"flow says":            {broken(codes.Aborted, plugin.EffectNone), 2, 2},
		"throttled is patient": {throttled(time.Second), 0, 20},
		"throttled, flow says": {throttled(time.Second), 3, 3},
		"timeouts":             {broken(codes.DeadlineExceeded, plugin.EffectNone), 0, 5},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				t := w.t
				w.call = func(context.Context, Call) (json.RawMessage, error) { return nil, tc.err }
				s := w.read("act")
				s.Retry.Max = tc.max
				r := w.one(s)
				wantState(t, r, store.RunDeadLetter, "attempts)")
				if n := len(w.sent()); n != tc.calls {
					t.Errorf("%d calls, want %d", n, tc.calls)
				}
				for i, c := range w.sent() {
					if c.Attempt != i+1 {
						t.Errorf("call %d says attempt %d", i+1, c.Attempt)
					}
				}
			})
		})
	}
}

func TestAnOutageUsesUpNoAttempts(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		up := time.Now().Add(5 * time.Hour)
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			if time.Now().Before(up) {
				return nil, unavailable()
			}
			return nil, nil
		}
		wantState(t, w.one(w.read("act")), store.RunSucceeded)
		if n := len(w.sent()); n < 100 || n > 1000 {
			t.Errorf("%d probes in five hours", n)
		}
	})
	t.Run("but a day does", func(t *testing.T) {
		play(t, func(w *world) {
			t := w.t
			w.call = func(context.Context, Call) (json.RawMessage, error) { return nil, unavailable() }
			began := time.Now()
			wantState(t, w.one(w.read("act")), store.RunDeadLetter, "unavailable")
			if took := time.Since(began); took < patience || took > patience+time.Hour {
				t.Errorf("gave up after %s", took)
			}
		})
	})
	t.Run("a crash of the connector is the step's own fault", func(t *testing.T) {
		play(t, func(w *world) {
			t := w.t
			w.call = func(context.Context, Call) (json.RawMessage, error) {
				e := broken(codes.Unavailable, plugin.EffectUnknown)
				e.Reason = plugin.ReasonPluginCrashed
				return nil, e
			}
			wantState(t, w.one(w.read("act")), store.RunDeadLetter)
			if n := len(w.sent()); n != 5 {
				t.Errorf("%d calls", n)
			}
		})
	})
}

func TestLongWaitsAreInTheStore(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		first := true
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "act" && first {
				first = false
				return nil, throttled(time.Hour)
			}
			return nil, nil
		}
		w.flow("f", w.read("before"), w.keyed("case", 0), w.read("act"))
		r := w.st.add(store.NewRun{Flow: "f"})
		began := time.Now()
		e := w.start()
		wait(10 * time.Second)
		got := w.run(r.ID)
		wantState(t, got, store.RunWaiting, `step "act"`)
		if d := got.NotBefore.Sub(began); d < time.Hour || d > 70*time.Minute {
			t.Errorf("waits %s, want at least the hour that the vendor asked for", d)
		}
		if s := w.step(r.ID, "act"); s.State != store.StepWaiting || s.Attempt != 1 || s.NotBefore.IsZero() {
			t.Errorf("journal: %+v", s)
		}
		if e.Active() != 0 {
			t.Error("the wait holds a worker")
		}
		stop(t, e) // the wait survives a restart
		e = w.start()
		w.settle(2 * time.Hour)
		stop(t, e)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		if got, want := w.made(), "before case act act"; got != want {
			t.Errorf("calls %q, want %q", got, want)
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempt, seconds := range map[int]int64{0: 1, 1: 1, 2: 2, 3: 4, 9: 256, 10: 300, 40: 300, 5000: 300} {
		ceiling := time.Duration(seconds) * time.Second
		var most time.Duration
		for range 300 {
			d := backoff(time.Second, 5*time.Minute, attempt)
			if d <= 0 || d > ceiling {
				t.Fatalf("attempt %d: %s is over %s", attempt, d, ceiling)
			}
			most = max(most, d)
		}
		if most < ceiling/2 {
			t.Errorf("attempt %d: never over %s: no full jitter", attempt, most)
		}
	}
	if d := backoff(0, 0, 1); d <= 0 {
		t.Errorf("no base: %s", d)
	}
}

func TestRetryAfterIsTheMinimum(t *testing.T) {
	t.Parallel()
	err := broken(codes.Unauthenticated, plugin.EffectNone)
	if _, ok := again(flow.Retry{}, plugin.ClassAuth, err, 1); ok {
		t.Error("a refused credential is tried again")
	}
	err.RetryAfter = time.Minute
	for range 50 {
		if d, ok := again(flow.Retry{}, plugin.ClassAuth, err, 1); !ok || d < time.Minute || d > 66*time.Second {
			t.Fatalf("wait %s, %v", d, ok)
		}
	}
	err.RetryAfter = 1000 * time.Hour
	if d, _ := again(flow.Retry{}, plugin.ClassAuth, err, 1); d > 27*time.Hour {
		t.Errorf("the vendor may ask for %s", d)
	}
}

func TestNextLook(t *testing.T) {
	t.Parallel()
	sent := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	deadline := sent.Add(5 * time.Minute)
	for after, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, 2 * time.Second: 7 * time.Second, 7 * time.Second: 22 * time.Second, 30 * time.Second: 67 * time.Second,
		100 * time.Second: 187 * time.Second, 200 * time.Second: 5 * time.Minute, 10 * time.Minute: 12 * time.Minute,
	} {
		if got := nextLook(sent, deadline, sent.Add(after)).Sub(sent); got != want {
			t.Errorf("after %s: looks at %s, want %s", after, got, want)
		}
	}
}
