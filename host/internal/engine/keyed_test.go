package engine

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

func TestAKeyedStepCostsTwoWrites(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		r := w.one(w.read("look"), w.keyed("case", time.Minute))
		wantState(t, r, store.RunSucceeded)
		if diff := cmp.Diff(map[string]int{"begin": 1, "advance succeeded": 1}, w.st.counts()); diff != "" {
			t.Error(diff)
		}
		e := w.effect("case", "k")
		if e.State != store.EffectDone || e.Run != r.ID || string(e.Result) != `{"ok":true}` || e.FirstSent.IsZero() || e.Attempts != 1 {
			t.Errorf("ledger: %+v", e)
		}
		c := w.sent()[1]
		if c.Key != "k" || c.Attempt != 1 || c.Resolve || c.Prior != nil || c.FirstSent.IsZero() {
			t.Errorf("call: %+v", c)
		}
		s := w.step(r.ID, "case")
		if s.Key != "k" || s.Action != "v.case" || string(s.Input) != `{"step":"case"}` || s.State != store.StepSucceeded {
			t.Errorf("journal: %+v", s)
		}
	})
}

func TestResultsOfWritesAreRecordedBeforeTheNextCall(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "look" {
				if e := w.effect("case", "k"); e.State != store.EffectDone {
					t.Errorf("case is %s when the next call is made", e.State)
				}
			}
			return nil, nil
		}
		wantState(t, w.one(w.keyed("case", 0), w.read("look")), store.RunSucceeded)
	})
}

func TestKeys(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		s := w.keyed("case", 0)
		for _, bad := range []any{nil, "", []any{"a"}, map[string]any{}} {
			s.Key = w.lit(bad)
			wantState(t, w.one(s), store.RunDeadLetter, `step "case": key must be a text or a number`)
		}
		if w.made() != "" {
			t.Errorf("called without a key: %s", w.made())
		}
		s.Key = w.lit(42)
		wantState(t, w.one(s), store.RunSucceeded)
		if w.sent()[0].Key != "42" {
			t.Errorf("key %q", w.sent()[0].Key)
		}
	})
}

func TestPriorIsHandedToTheConnector(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Prior == nil {
				return json.RawMessage(`{"id":"7","created":true,"updated":false}`), nil
			}
			return json.RawMessage(`{"id":"7","created":false,"updated":true}`), nil
		}
		s := w.keyed("case", time.Minute)
		show := func() string {
			t.Helper()
			f := w.flow("f", s)
			f.Output = w.val(func(env flow.Env) any { return path(env, "steps", "case") })
			r := w.st.add(store.NewRun{Flow: "f"})
			e := w.start()
			w.settle(time.Hour)
			stop(t, e)
			return string(w.run(r.ID).Output)
		}
		if got, want := show(), `{"created":true,"id":"7","updated":false}`; got != want {
			t.Errorf("first: %s", got)
		}
		// The same input again goes out, too: somebody may have closed the case, or taken a label off.
		if got, want := show(), `{"created":false,"id":"7","updated":true}`; got != want || len(w.sent()) != 2 {
			t.Errorf("same input: %s after %d calls", got, len(w.sent()))
		}
		s.With = w.lit(map[string]any{"step": "news"})
		if got, want := show(), `{"created":false,"id":"7","updated":true}`; got != want || len(w.sent()) != 3 {
			t.Errorf("news: %s after %d calls", got, len(w.sent()))
		}
		if w.sent()[1].Prior == nil {
			t.Error("the earlier output was not handed over")
		}
	})
}

// A lost answer is looked for, and found after the vendor's index has caught up.
func TestLostAnswerIsFound(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		var sent time.Time
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			switch {
			case !c.Resolve:
				sent = time.Now()
				return nil, lostAnswer()
			case time.Since(sent) < 30*time.Second:
				return nil, unresolved()
			default:
				return json.RawMessage(`{"id":"7"}`), nil
			}
		}
		r := w.one(w.keyed("case", 5*time.Minute))
		wantState(t, r, store.RunSucceeded)
		if got, want := w.made(), "case case? case? case? case?"; got != want {
			t.Errorf("calls %q, want %q", got, want)
		}
		if e := w.effect("case", "k"); e.State != store.EffectDone || string(e.Result) != `{"id":"7"}` || e.FirstSent != sent {
			t.Errorf("ledger: %+v", e)
		}
		if s := w.step(r.ID, "case"); s.Attempt != 1 {
			t.Errorf("looking used up attempts: %+v", s)
		}
	})
}

func TestLostAnswerIsParkedAfterTheWindow(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve {
				return nil, broken(codes.NotFound, plugin.EffectNone) // a plain not found is no proof either
			}
			return nil, lostAnswer()
		}
		began := time.Now()
		s := w.keyed("case", 5*time.Minute)
		s.OnError = flow.OnErrorContinue // parking wins
		r := w.one(s, w.read("after"))
		wantState(t, r, store.RunParked, `step "case"`, `v.case on connection "c"`, `key "k"`, "not found there", "casewire replay "+r.ID+" --from case")
		if took := time.Since(began); took < 5*time.Minute || took > 10*time.Minute {
			t.Errorf("parked after %s", took)
		}
		if e := w.effect("case", "k"); e.State != store.EffectUnknown || e.Reason == "" {
			t.Errorf("ledger: %+v", e)
		}
		if s := w.step(r.ID, "case"); s.State != store.StepParked {
			t.Errorf("journal: %+v", s)
		}

		// Another run with the same key looks once, and parks as well: it never sends.
		before := len(w.sent())
		wantState(t, w.one(s), store.RunParked)
		if calls := w.sent()[before:]; len(calls) != 1 || !calls[0].Resolve {
			t.Errorf("calls: %+v", calls)
		}

		// A person has looked: the replay from that step looks once more, and sends.
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve {
				return nil, unresolved()
			}
			return nil, nil
		}
		before = len(w.sent())
		<-time.After(time.Hour)
		replay := w.st.add(store.NewRun{Flow: "f", Parent: r.ID, FromStep: "case"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(replay.ID), store.RunSucceeded)
		if calls := w.sent()[before:]; len(calls) != 2 || !calls[0].Resolve || calls[1].Resolve {
			t.Errorf("calls: %+v", calls)
		}
	})
}

// A replay that sends again and loses the answer again parks again, instead of sending for ever.
func TestReplaySendsOnce(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve {
				return nil, unresolved()
			}
			return nil, lostAnswer()
		}
		r := w.one(w.keyed("case", time.Minute))
		wantState(t, r, store.RunParked)
		replay := w.st.add(store.NewRun{Flow: "f", Parent: r.ID, FromStep: "case"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(replay.ID), store.RunParked)
		sent := 0
		for _, c := range w.sent() {
			if !c.Resolve {
				sent++
			}
		}
		if sent != 2 {
			t.Errorf("sent %d times, want once by the run and once by its replay", sent)
		}
	})
}

// While the vendor is down nobody can tell; the run waits until it can be asked.
func TestLookingOutlastsAnOutage(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		up := time.Now().Add(3 * time.Hour)
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			switch {
			case !c.Resolve:
				return nil, lostAnswer()
			case time.Now().Before(up):
				return nil, unavailable()
			default:
				return json.RawMessage(`{"id":"7"}`), nil
			}
		}
		wantState(t, w.one(w.keyed("case", time.Minute)), store.RunSucceeded)
	})
	t.Run("for a day", func(t *testing.T) {
		play(t, func(w *world) {
			t := w.t
			w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
				if !c.Resolve {
					return nil, lostAnswer()
				}
				return nil, unavailable()
			}
			wantState(t, w.one(w.keyed("case", time.Minute)), store.RunParked, "could not be asked")
		})
	})
	t.Run("but not a missing permission", func(t *testing.T) {
		play(t, func(w *world) {
			t := w.t
			w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
				if !c.Resolve {
					return nil, lostAnswer()
				}
				return nil, broken(codes.PermissionDenied, plugin.EffectNone)
			}
			began := time.Now()
			wantState(t, w.one(w.keyed("case", time.Minute)), store.RunParked, "could not be asked")
			if time.Since(began) > time.Minute {
				t.Errorf("parked after %s", time.Since(began))
			}
		})
	})
}

func TestSafeRepeatsOfLostAnswersEndParked(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve {
				t.Error("nothing needs to be looked for")
			}
			return nil, broken(codes.Internal, plugin.EffectUnknown)
		}
		wantState(t, w.one(w.keyed("case", 0)), store.RunParked, "none of 5 attempts was answered")
		if e := w.effect("case", "k"); e.State != store.EffectUnknown {
			t.Errorf("ledger: %+v", e)
		}
	})
}

// What another run left behind is found, and this run's news are brought to it. That it was created is still news.
func TestAnothersLostWriteIsUpdated(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.st.add(store.NewRun{ID: "ghost", Flow: "other"}).State = store.RunParked
		key := store.EffectKey{Connection: "c", Action: "case", Key: "k"}
		w.st.effects[key] = store.Effect{EffectKey: key, State: store.EffectUnknown, Run: "ghost", FirstSent: time.Now().Add(-time.Hour)}
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			switch {
			case c.Resolve:
				return json.RawMessage(`{"id":"7","created":true}`), nil
			case string(c.Prior) != `{"id":"7","created":true}`:
				t.Errorf("prior %s", c.Prior)
			}
			return json.RawMessage(`{"id":"7","created":false}`), nil
		}
		f := w.flow("f", w.keyed("case", time.Minute))
		f.Output = w.val(func(env flow.Env) any { return path(env, "steps", "case", "created") })
		r := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		if got, want := w.made(), "case? case"; got != want {
			t.Errorf("calls %q, want %q", got, want)
		}
		if got := string(w.run(r.ID).Output); got != "true" {
			t.Errorf("created: %s", got)
		}
	})
}

// An update whose answer was lost is sent again with the prior output: it cannot create anything.
func TestLostUpdateIsRepeated(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		key := store.EffectKey{Connection: "c", Action: "case", Key: "k"}
		w.st.effects[key] = store.Effect{EffectKey: key, State: store.EffectDone, Run: "x", Result: json.RawMessage(`{"id":"7"}`)}
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve || c.Prior == nil {
				t.Errorf("call %+v", c)
			}
			if len(w.sent()) == 1 {
				return nil, lostAnswer()
			}
			return json.RawMessage(`{"id":"7"}`), nil
		}
		wantState(t, w.one(w.keyed("case", time.Minute)), store.RunSucceeded)
		if e := w.effect("case", "k"); e.State != store.EffectDone {
			t.Errorf("ledger: %+v", e)
		}
	})
}

func TestDefiniteFailureFreesTheKey(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(context.Context, Call) (json.RawMessage, error) { return nil, invalid() }
		wantState(t, w.one(w.keyed("case", time.Minute)), store.RunDeadLetter)
		if e := w.effect("case", "k"); e.State != store.EffectNone {
			t.Errorf("ledger: %+v", e)
		}
		w.call = nil
		wantState(t, w.one(w.keyed("case", time.Minute)), store.RunSucceeded)
		if got := w.made(); got != "case case" {
			t.Errorf("calls %q: a write that surely failed was looked for", got)
		}
	})
}

// Two runs with one key: the second waits for the first without using up attempts, then updates.
func TestBusyKey(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Prior == nil {
				<-time.After(40 * time.Second)
			}
			return json.RawMessage(`{"id":"7"}`), nil
		}
		s := w.keyed("case", time.Minute)
		s.With = w.val(func(env flow.Env) any { return map[string]any{"of": path(env, "run", "id")} })
		w.flow("f", s)
		a, b := w.st.add(store.NewRun{Flow: "f"}), w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(a.ID), store.RunSucceeded)
		wantState(t, w.run(b.ID), store.RunSucceeded)
		if w.st.refused < 2 || w.st.refused > 20 {
			t.Errorf("asked %d times while the key was held", w.st.refused)
		}
		calls := w.sent()
		if len(calls) != 2 || calls[0].Prior != nil || calls[1].Prior == nil {
			t.Errorf("calls: %+v", calls)
		}
		for _, id := range []string{a.ID, b.ID} {
			if s := w.step(id, "case"); s.Attempt != 1 {
				t.Errorf("run %s used %d attempts", id, s.Attempt)
			}
		}
	})
}

// Concurrent turns of one loop with the same key wait for each other: each sees what the one before it did.
func TestTurnsWithOneKey(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		var open atomic.Int32
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			if open.Add(1) > 1 {
				t.Error("two calls with one key at a time")
			}
			<-time.After(time.Second)
			open.Add(-1)
			return json.RawMessage(`{"id":"7"}`), nil
		}
		each := &flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit([]any{1, 2, 3, 4}), Concurrency: 4, Body: []*flow.Step{w.keyed("case", time.Minute)}}
		wantState(t, w.one(each), store.RunSucceeded)
		calls := w.sent()
		if len(calls) != 4 || calls[0].Prior != nil {
			t.Fatalf("calls: %+v", calls)
		}
		for _, c := range calls[1:] {
			if c.Prior == nil {
				t.Errorf("a later turn does not know of the first: %+v", c)
			}
		}
	})
}

func TestUnsafeSteps(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		r := w.one(w.read("look"), w.unsafe("playbook"))
		wantState(t, r, store.RunSucceeded)
		if diff := cmp.Diff(map[string]int{"advance ": 1, "advance succeeded": 1}, w.st.counts()); diff != "" {
			t.Error(diff)
		}
		w.call = func(context.Context, Call) (json.RawMessage, error) { return nil, lostAnswer() }
		r = w.one(w.unsafe("playbook"), w.read("after"))
		wantState(t, r, store.RunParked, "v.playbook", "never repeated by machine", "--from playbook")

		// Whoever replays from the step after it goes on without it; from itself, it is sent again.
		w.call = nil
		for from, want := range map[string]string{"after": "after", "playbook": "playbook after"} {
			before := len(w.sent())
			rr := w.st.add(store.NewRun{Flow: "f", Parent: r.ID, FromStep: from})
			e := w.start()
			w.settle(time.Hour)
			stop(t, e)
			wantState(t, w.run(rr.ID), store.RunSucceeded)
			w.calls = w.calls[before:]
			if got := w.made(); got != want {
				t.Errorf("from %s: calls %q, want %q", from, got, want)
			}
			w.calls = make([]Call, before)
		}
	})
}

// A connector that is sure that nothing happened gets the write again, long before the window is over.
func TestAbsentIsSentAgain(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		looks, sends := 0, 0
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Resolve {
				looks++
				if looks < 2 {
					return nil, unresolved()
				}
				e := broken(codes.NotFound, plugin.EffectNone)
				e.Reason = plugin.ReasonAbsent
				return nil, e
			}
			if sends++; sends == 1 {
				return nil, lostAnswer()
			}
			return json.RawMessage(`{"id":"1"}`), nil
		}
		r := w.one(w.keyed("case", time.Hour))
		wantState(t, r, store.RunSucceeded)
		if got, want := w.made(), "case case? case? case"; got != want {
			t.Errorf("calls %q, want %q", got, want)
		}
		if e := w.effect("case", "k"); e.State != store.EffectDone {
			t.Errorf("ledger: %+v", e)
		}
	})
}

// A connector that is sure each time, and loses each answer, ends in a dead letter: it is known that nothing was done.
func TestAbsentForEver(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if !c.Resolve {
				return nil, lostAnswer()
			}
			e := broken(codes.NotFound, plugin.EffectNone)
			e.Reason = plugin.ReasonAbsent
			return nil, e
		}
		wantState(t, w.one(w.keyed("case", time.Hour)), store.RunDeadLetter, "after 5 attempts")
		sends := 0
		for _, c := range w.sent() {
			if !c.Resolve {
				sends++
			}
		}
		if sends != 5 {
			t.Errorf("sent %d times", sends)
		}
		if e := w.effect("case", "k"); e.State != store.EffectNone {
			t.Errorf("ledger: %+v", e)
		}
	})
}

// A write that another life of the host had under way gets time to settle before the same is sent again.
func TestWritesUnderWaySettle(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		key := store.EffectKey{Connection: "c", Action: "case", Key: "k"}
		sent := time.Now()
		w.st.effects[key] = store.Effect{EffectKey: key, State: store.EffectIntent, Run: "gone", FirstSent: sent}
		w.call = func(context.Context, Call) (json.RawMessage, error) {
			if d := time.Since(sent); d < settleTime {
				t.Errorf("sent again after %s", d)
			}
			return json.RawMessage(`{"id":"1"}`), nil
		}
		r := w.one(w.keyed("case", 0))
		wantState(t, r, store.RunSucceeded)
		if s := w.step(r.ID, "case"); s.Attempt != 1 || len(w.sent()) != 1 {
			t.Errorf("journal %+v after %d calls", s, len(w.sent()))
		}
	})
}

// A look that was to make nothing and found nothing is no earlier write: when somebody makes the object afterwards and the
// answer is lost, it is looked for, and not sent again.
func TestALookThatFoundNothing(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		made := 0
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			switch {
			case strings.Contains(string(c.Input), `"create":false`):
				if c.Prior != nil {
					return c.Prior, nil
				}
				return json.RawMessage(`{"id":"","created":false}`), nil
			case c.Resolve && time.Since(c.FirstSent) < time.Minute: // its index lags
				return nil, unresolved()
			case c.Resolve:
				return json.RawMessage(`{"id":"7","created":true}`), nil
			}
			if c.Prior != nil {
				t.Errorf("sent with %s as what was there before", c.Prior)
			}
			made++
			return nil, lostAnswer()
		}
		s := w.keyed("case", 5*time.Minute)
		s.With = w.lit(map[string]any{"create": false})
		wantState(t, w.one(s), store.RunSucceeded)
		if e := w.effect("case", "k"); e.State != store.EffectNone {
			t.Errorf("ledger after the look: %+v", e)
		}
		s.With = w.lit(map[string]any{"create": true})
		wantState(t, w.one(s), store.RunSucceeded)
		if e := w.effect("case", "k"); made != 1 || e.State != store.EffectDone {
			t.Errorf("made %d, ledger %+v", made, e)
		}
		s.With = w.lit(map[string]any{"create": false, "more": 1}) // known now
		wantState(t, w.one(s), store.RunSucceeded)
		if c := w.sent()[len(w.sent())-1]; c.Prior == nil {
			t.Error("what was made is not known any more")
		}
	})
}

// A look does not settle what became of another run's write.
func TestALookSettlesNoOthersWrite(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			switch {
			case string(c.Input) == `{"create":false}`:
				return json.RawMessage(`{"id":"","created":false}`), nil
			case c.Resolve:
				return nil, unresolved()
			}
			return nil, lostAnswer()
		}
		s := w.keyed("case", time.Minute)
		wantState(t, w.one(s), store.RunParked)
		s.With = w.lit(map[string]any{"create": false})
		wantState(t, w.one(s), store.RunSucceeded)
		if e := w.effect("case", "k"); e.State != store.EffectUnknown {
			t.Errorf("ledger: %+v", e)
		}
	})
}
