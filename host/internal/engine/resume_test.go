package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
)

// A replay takes what comes before its step from the run that it replays.
func TestReplay(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		n := 0
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			n++
			return fmt.Appendf(nil, `{"n":%d,"in":%s}`, n, c.Input), nil
		}
		inner := w.read("inner")
		inner.With = w.val(func(env flow.Env) any { return map[string]any{"item": path(env, "item")} })
		last := w.read("last")
		last.With = w.val(func(env flow.Env) any {
			return map[string]any{"first": path(env, "steps", "first", "n"), "fact": path(env, "fact", "x"), "sub": path(env, "steps", "sub")}
		})
		skipped := w.read("skipped")
		skipped.If = w.when(func(flow.Env) bool { return false })
		failing := w.read("failing")
		failing.OnError = flow.OnErrorContinue
		failing.With = w.bad(errAbort)
		sub := &flow.Flow{Name: "g", Steps: []*flow.Step{w.read("a"), w.read("b")}}
		sub.Output = w.val(func(env flow.Env) any { return path(env, "steps", "b", "n") })
		f := w.flow("f",
			w.read("first"), skipped, failing,
			w.let("fact", map[string]*flow.Value{"x": w.val(func(env flow.Env) any { return path(env, "steps", "first", "n") })}),
			&flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit([]any{"p", "q"}), Body: []*flow.Step{inner, w.read("then")}},
			&flow.Step{ID: "sub", Kind: flow.KindCall, Call: sub},
			last,
		)
		f.Output = w.val(func(env flow.Env) any { return path(env, "steps", "last", "in") })
		replay := func(parent, from string) (string, string) {
			t.Helper()
			before := len(w.sent())
			r := w.st.add(store.NewRun{Flow: "f", Parent: parent, FromStep: from})
			e := w.start()
			w.settle(time.Hour)
			stop(t, e)
			wantState(t, w.run(r.ID), store.RunSucceeded)
			all := w.sent()
			w.calls = all[before:]
			made := w.made()
			w.calls = all
			return r.ID, made
		}
		first, made := replay("", "")
		if want := "first inner then inner then a b last"; made != want {
			t.Fatalf("calls %q, want %q", made, want)
		}
		for _, tc := range []struct{ from, want string }{
			{"last", "last"},
			{"sub", "a b last"},
			{"sub/b", "b last"},
			{"each", "inner then inner then a b last"},
			{"each[1]/inner", "inner then a b last"},
			{"each[0]/then", "then a b last"},
			{"first", "first inner then inner then a b last"},
			{"", "first inner then inner then a b last"},
		} {
			id, made := replay(first, tc.from)
			if made != tc.want {
				t.Errorf("from %q: calls %q, want %q", tc.from, made, tc.want)
			}
			if tc.from == "last" {
				if got, want := string(w.run(id).Output), `{"fact":1,"first":1,"sub":7}`; got != want {
					t.Errorf("output %s, want %s", got, want)
				}
				if _, made := replay(id, "last"); made != "last" { // a replay of a replay
					t.Errorf("calls %q", made)
				}
			}
		}
		r := w.st.add(store.NewRun{Flow: "f", Parent: first, FromStep: "lost"})
		missing := w.st.add(store.NewRun{Flow: "f", Parent: "nobody", FromStep: "last"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(r.ID), store.RunDeadLetter, `no step "lost"`)
		wantState(t, w.run(missing.ID), store.RunDeadLetter, "journal of run nobody")
	})
}

// Times and durations are the same for a run that waited as for one that did not.
func TestLetKeepsItsTypesOverAResume(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "slow" && c.Attempt == 1 {
				return nil, throttled(time.Hour)
			}
			return c.Input, nil
		}
		at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		inside := w.read("inside")
		inside.With = w.val(func(flow.Env) any { return map[string]any{"x": 1} })
		last := w.read("last")
		last.With = w.val(func(env flow.Env) any {
			turn, _ := path(env, "steps", "each").([]any)[0].(map[string]any)
			return map[string]any{
				"let": fmt.Sprintf("%T", path(env, "facts", "at")), "turn": fmt.Sprintf("%T", path(turn, "t", "d")),
				"call": fmt.Sprintf("%T", path(env, "steps", "sub")), "plain": fmt.Sprintf("%T", path(env, "plain", "n")),
			}
		})
		sub := &flow.Flow{Name: "g", Steps: []*flow.Step{w.read("q")}, Output: w.lit(at)}
		w.flow("f",
			w.let("facts", map[string]*flow.Value{"at": w.lit(at)}),
			w.let("plain", map[string]*flow.Value{"n": w.lit(3)}),
			&flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit([]any{1}), Body: []*flow.Step{inside, w.let("t", map[string]*flow.Value{"d": w.lit(time.Hour)})}},
			&flow.Step{ID: "sub", Kind: flow.KindCall, Call: sub},
			w.read("slow"),
			last,
		).Output = w.val(func(env flow.Env) any { return path(env, "steps", "last") })
		r := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		w.settle(3 * time.Hour)
		stop(t, e)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		if got, want := string(w.run(r.ID).Output), `{"call":"time.Time","let":"time.Time","plain":"int","turn":"time.Duration"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := w.made(), "inside q slow slow last"; got != want {
			t.Errorf("calls %q, want %q", got, want)
		}
	})
}

// One turn waits, another fails and a third is unknown: the run ends parked, after the wait, and says so.
func TestTurnsThatEndDifferently(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			switch {
			case c.Key == "wait" && c.Attempt == 1:
				return nil, throttled(time.Hour)
			case c.Key == "fail":
				<-time.After(time.Second) // the others have begun
				return nil, invalid()
			case c.Key == "park":
				<-time.After(2 * time.Second)
				return nil, broken(13, 0)
			}
			return nil, nil
		}
		act := w.keyed("act", 0)
		act.Key = w.val(func(env flow.Env) any { return path(env, "item") })
		act.Retry.Max = 3
		each := &flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit([]any{"fail", "park", "wait"}), Concurrency: 3, Body: []*flow.Step{act}}
		began := time.Now()
		r := w.one(each)
		wantState(t, r, store.RunParked, "each[1]/act")
		if time.Since(began) < time.Hour {
			t.Error("the run did not wait for the turn that waits")
		}
		for path, want := range map[string]store.StepState{
			"each[0]/act": store.StepFailed, "each[1]/act": store.StepParked, "each[2]/act": store.StepSucceeded,
		} {
			if got := w.step(r.ID, path).State; got != want {
				t.Errorf("%s is %s, want %s", path, got, want)
			}
		}
		for key, want := range map[string]store.EffectState{"fail": store.EffectNone, "park": store.EffectUnknown, "wait": store.EffectDone} {
			if got := w.effect("act", key).State; got != want {
				t.Errorf("effect %s is %s, want %s", key, got, want)
			}
		}
	})
}
