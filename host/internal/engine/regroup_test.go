package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// desk is a vendor with cases by key. It closes those that it is told are duplicates.
type desk struct {
	mu     sync.Mutex
	cases  map[string]string // "open" or "closed"
	before func(c Call) error
	after  func(c Call) error
}

func (d *desk) call(_ context.Context, c Call) (json.RawMessage, error) {
	if d.before != nil {
		if err := d.before(c); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	out, err := d.do(c)
	d.mu.Unlock()
	if err == nil && d.after != nil {
		err = d.after(c)
	}
	return out, err
}

func (d *desk) do(c Call) (json.RawMessage, error) {
	switch {
	case c.Action == "case" && c.Resolve:
		if d.cases[c.Key] == "" {
			return nil, unresolved()
		}
	case c.Action == "case":
		if d.cases[c.Key] == "" {
			d.cases[c.Key] = "open"
		}
	case c.Action == "close":
		var in struct{ Key string }
		if err := json.Unmarshal(c.Input, &in); err != nil {
			return nil, err
		}
		if d.cases[in.Key] != "" {
			d.cases[in.Key] = "closed"
		}
	}
	return json.RawMessage(`{"ok":true}`), nil
}

// newDesk makes the flow that every test of this file runs: look, make a case, tell, close what ended in it.
func newDesk(w *world, middle ...*flow.Step) *desk {
	d := &desk{cases: map[string]string{}}
	w.call = d.call
	w.load = func(_ context.Context, r store.Run) (flow.Env, error) {
		return flow.Env{"event": map[string]any{"case_key": r.CaseKey, "merged": r.MergedKey}}, nil
	}
	key := func(name string) *flow.Value {
		return w.val(func(env flow.Env) any { return path(env, "event", name) })
	}
	name := w.let("name", map[string]*flow.Value{"key": key("case_key")})
	made := w.keyed("case", 5*time.Minute)
	made.Key = w.val(func(env flow.Env) any { return path(env, "name", "key") }) // by way of the journal
	closed := w.uses("close", connectorv1.Effect_EFFECT_IDEMPOTENT)
	closed.With = w.val(func(env flow.Env) any { return map[string]any{"key": path(env, "event", "merged")} })
	closed.If = w.when(func(env flow.Env) bool { return path(env, "event", "merged") != "" })
	w.flow("f", slices.Concat([]*flow.Step{w.read("look"), name}, middle, []*flow.Step{made, closed})...)
	return d
}

func (w *world) grouped(id, key, merged string) string {
	return w.st.add(store.NewRun{ID: id, Flow: "f", GroupBy: "incident", CaseKey: key, MergedKey: merged, EventID: "e-" + id}).ID
}

// merged enqueues the run of the event that says that a group ended in another.
func (w *world) merge(loser, winner string) {
	w.st.merge(loser, winner)
	w.grouped("merge", winner, loser)
}

func (d *desk) want(t *testing.T, cases map[string]string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if diff := cmp.Diff(cases, d.cases); diff != "" {
		t.Errorf("cases (-want +got):\n%s", diff)
	}
}

// A run that waits while its group ends makes its case under the name that goes on: in the queue, or past the steps that
// it has done.
func TestMergedBeforeTheCase(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		d := newDesk(w)
		down := true
		d.before = func(c Call) error {
			if c.Action == "case" && down {
				return unavailable()
			}
			return nil
		}
		late := w.grouped("late", "l", "")
		e := w.start()
		for w.step(late, "case").State != store.StepWaiting {
			wait(time.Second)
		}
		queued := w.grouped("queued", "l", "") // claimed at any time from now on
		w.merge("l", "w")
		d.mu.Lock()
		down = false
		d.mu.Unlock()
		w.settle(2 * time.Hour)
		stop(t, e)
		for _, id := range []string{late, queued} {
			r := w.run(id)
			wantState(t, r, store.RunSucceeded)
			if r.CaseKey != "w" {
				t.Errorf("run %s goes by %q", id, r.CaseKey)
			}
		}
		d.want(t, map[string]string{"w": "open"})
		if s := w.step(late, "case"); s.Key != "w" || s.State != store.StepSucceeded {
			t.Errorf("journal: %+v", s)
		}
	})
}

// A run whose case is being made while its group ends finds it, and has it closed.
func TestMergedWhileTheCaseIsMade(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(map[bool]string{false: "answered", true: "answer lost"}[lost], func(t *testing.T) {
			play(t, func(w *world) {
				t := w.t
				d := newDesk(w)
				once := false
				d.after = func(c Call) error {
					if c.Action != "case" || c.Key != "l" || c.Resolve || once {
						return nil
					}
					once = true
					w.merge("l", "w")
					<-time.After(time.Second) // the event's own run is through, or waits for the key
					if lost {
						return lostAnswer()
					}
					return nil
				}
				r := w.grouped("first", "l", "")
				e := w.start()
				w.settle(2 * time.Hour)
				stop(t, e)
				wantState(t, w.run(r), store.RunSucceeded)
				wantState(t, w.run("merge"), store.RunSucceeded)
				d.want(t, map[string]string{"l": "closed", "w": "open"})
				if got := w.run(r); got.CaseKey != "w" || got.MergedKey != "l" {
					t.Errorf("goes by %q, with %q", got.CaseKey, got.MergedKey)
				}
			})
		})
	}
}

// A run that had written something before its group ended, and makes its case after all was closed, has it closed, too.
// What may not be done twice is done once.
func TestMergedBetweenTwoWrites(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		first := w.keyed("first", time.Minute)
		first.Key = w.lit("anything")
		inner := w.unsafe("inner")
		d := newDesk(w, first, w.unsafe("tell"),
			&flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit([]any{"p", "q"}), Body: []*flow.Step{inner}})
		once := false
		d.before = func(c Call) error {
			if c.Action == "tell" && !once {
				once = true
				w.merge("l", "w")
				for r := w.run("merge"); r.State.Live(); r = w.run("merge") { // it finds nothing to close
					<-time.After(time.Second)
				}
			}
			return nil
		}
		r := w.grouped("first", "l", "")
		e := w.start()
		w.settle(2 * time.Hour)
		stop(t, e)
		wantState(t, w.run(r), store.RunSucceeded)
		d.want(t, map[string]string{"l": "closed", "w": "open"})
		made := strings.Fields(w.made())
		count := map[string]int{}
		for _, m := range made {
			count[m]++
		}
		// The run of the merge tells and loops once for itself.
		if count["tell"] != 2 || count["inner"] != 4 {
			t.Errorf("unsafe steps were repeated: %v", made)
		}
		steps, err := w.st.Steps(t.Context(), r)
		if err != nil || len(steps) != 9 { // look, name, first, tell, each and its two turns, case, close
			t.Errorf("journal of %d steps: %+v, %v", len(steps), steps, err)
		}
	})
}

// What a run wrote under a name that ended is looked for under that name by a replay, and never sent there again beside
// the case that goes on without being closed.
func TestMergedWhileParked(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		d := newDesk(w)
		d.before = func(c Call) error {
			if c.Action == "case" && c.Key == "l" && !c.Resolve && len(w.sent()) < 4 {
				return lostAnswer() // and it never happened
			}
			return nil
		}
		parked := w.grouped("first", "l", "")
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(parked), store.RunParked)
		w.st.merge("l", "w")
		w.st.add(store.NewRun{
			ID: "again", Flow: "f", GroupBy: "incident", CaseKey: "l", EventID: "e-first", Parent: parked, FromStep: "case",
		})
		e = w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run("again"), store.RunSucceeded)
		d.want(t, map[string]string{"l": "closed", "w": "open"})
	})
}

// Runs that are not grouped by incident keep their name whatever ends.
func TestUngroupedRunsKeepTheirName(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		d := newDesk(w)
		w.st.merge("l", "w")
		r := w.st.add(store.NewRun{Flow: "f", GroupBy: "alert", CaseKey: "l", EventID: "e"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		d.want(t, map[string]string{"l": "open"})
	})
}
