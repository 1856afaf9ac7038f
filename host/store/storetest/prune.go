package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

// prune removes all that is older than age.
func (e *env) prune(age time.Duration) (all store.Pruned) {
	e.t.Helper()
	before := e.now.Add(-age)
	for {
		n, err := e.Prune(e.ctx, store.Prune{EventsBefore: before, RunsBefore: before, DeadLettersBefore: before, Limit: 2})
		e.noError(err)
		if n.Events > 2 || n.Runs > 2 || n.DeadLetters > 2 {
			e.t.Fatalf("more than was asked for: %+v", n)
		}
		all.Events, all.Runs, all.DeadLetters, all.Used = all.Events+n.Events, all.Runs+n.Runs, all.DeadLetters+n.DeadLetters, n.Used
		if n.Events+n.Runs+n.DeadLetters == 0 {
			return all
		}
	}
}

func counted(n store.Pruned) [3]int { return [3]int{n.Events, n.Runs, n.DeadLetters} }

var pruneTests = map[string]func(*testing.T, *env){
	"what has ended goes, identity and ledger stay": func(t *testing.T, e *env) {
		big := json.RawMessage(`"` + string(bytes.Repeat([]byte("x"), 300<<10)) + `"`)
		ev := e.news("a", 1, "d")
		ev.Data = big
		id := e.ingest(ev, toCase()).Runs[0]
		r := e.one("w")
		e.begin(r)
		e.noError(e.Advance(e.ctx, store.Advance{
			Lease: lease(r), Now: e.now, State: store.RunSucceeded, Output: big,
			Steps:   []store.Step{{Path: "case", Seq: 1, State: store.StepSucceeded, Key: caseKey.Key, Output: big}},
			Effects: []store.Effect{{EffectKey: caseKey, State: store.EffectDone, Result: big}},
		}))
		same(t, "too young", counted(e.prune(time.Hour)), [3]int{})
		e.pass(2 * time.Hour)
		young := e.start("b", 1)
		n := e.prune(time.Hour)
		same(t, "gone", counted(n), [3]int{1, 1, 0})
		if n.Used <= 0 {
			t.Error("nothing is used")
		}
		e.reopen()
		_, err := e.Run(e.ctx, id)
		e.wantError(err, store.ErrNotFound)
		steps, err := e.Steps(e.ctx, id)
		e.noError(err)
		same(t, "journal", steps, nil)
		_, err = e.Event(e.ctx, ev.Source, ev.ID)
		e.wantError(err, store.ErrNotFound)
		same(t, "the ledger has its payload still", []string{string(e.ledger().State), string(e.ledger().Result)}, []string{"done", string(big)})
		o, err := e.Object(e.ctx, "a")
		e.noError(err)
		same(t, "object", []string{o.Key, o.Rev, o.Digest}, []string{"a", ev.Rev, ev.Digest})
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "counts", []any{st.Runs, st.Events[store.Accepted]}, []any{map[store.RunState]int{store.RunReady: 1}, 1})
		// The same news again starts nothing.
		if out := e.ingest(ev, toCase()); out.Verdict != store.Unchanged || len(out.Runs) > 0 {
			t.Errorf("the same event again: %+v", out)
		}
		if out := e.ingest(e.news("a", 2, "e"), toCase()); out.Verdict != store.Accepted {
			t.Errorf("news: %+v", out)
		}
		same(t, "the young one", e.run(young).State, store.RunReady)
	},
	"what somebody still needs stays": func(t *testing.T, e *env) {
		states := map[string]store.RunState{}
		for i, s := range []store.RunState{store.RunWaiting, store.RunParked, store.RunDeadLetter, store.RunFailed, store.RunCancelled, store.RunSucceeded} {
			id := e.start(fmt.Sprint("k", i), 1)
			states[id] = s
			r := e.one("w")
			a := store.Advance{Lease: lease(r), Now: e.now, State: s}
			if s == store.RunWaiting {
				a.NotBefore = e.now.Add(100 * time.Hour)
			}
			if s == store.RunDeadLetter {
				a.DeadLetter = &store.DeadLetter{ID: "dl", Kind: "run", Run: id, Reason: "r"}
			}
			e.noError(e.Advance(e.ctx, a))
		}
		ready := e.start("ready", 1)
		states[ready] = store.RunReady
		old := e.start("old", 1) // replayed by a run that waits: its journal is read then
		claimed := e.claim("w", 9)
		for _, r := range claimed {
			if r.ID == old {
				e.end(r, store.RunFailed)
			}
		}
		states[old] = store.RunFailed
		_, err := e.AddRuns(e.ctx, []store.NewRun{{Flow: testFlow, FlowVersion: "v1", Parent: old, FromStep: "case", OrderKey: "other"}})
		e.noError(err)
		e.noError(e.AddDeadLetters(e.ctx, []store.DeadLetter{{ID: "event", Kind: "event", Raw: []byte("whole"), Created: e.now}}))
		e.pass(50 * time.Hour)
		e.reopen()
		same(t, "gone", counted(e.prune(time.Hour)), [3]int{4, 3, 0}) // of failed, cancelled, succeeded; and the event of old
		for id, s := range states {
			r, err := e.Run(e.ctx, id)
			gone := id != old && (s == store.RunFailed || s == store.RunCancelled || s == store.RunSucceeded)
			if gone {
				e.wantError(err, store.ErrNotFound)
				continue
			}
			e.noError(err)
			_, err = e.Event(e.ctx, r.EventSource, r.EventID)
			if id == old {
				e.wantError(err, store.ErrNotFound)
				continue
			}
			e.noError(err)
		}
		// Once it is dealt with, the dead letter goes, and what was kept for it.
		e.noError(e.ResolveDeadLetter(e.ctx, "dl", "dropped", e.now))
		same(t, "resolved just now", counted(e.prune(time.Hour)), [3]int{1, 1, 0})
		e.pass(2 * time.Hour)
		same(t, "resolved long ago", counted(e.prune(time.Hour)), [3]int{0, 0, 1})
		left, err := e.ListDeadLetters(e.ctx, store.DeadLetterFilter{All: true})
		e.noError(err)
		if len(left) != 1 || left[0].ID != "event" {
			t.Errorf("dead letters: %+v", left)
		}
	},
	"while others write": func(t *testing.T, e *env) {
		const keys, revs = 8, 25
		stop := make(chan struct{})
		var pruning, writing sync.WaitGroup
		pruning.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := e.Prune(e.ctx, store.Prune{EventsBefore: e.now.Add(time.Second), RunsBefore: e.now.Add(time.Second)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		done := map[string]int{}
		for k := range keys {
			writing.Go(func() {
				for rev := 1; rev <= revs; rev++ {
					in := store.Ingest{
						Connection: testConnection, Trigger: testTrigger, Via: store.ViaPoll, Now: e.now,
						Events: []store.Incoming{{Event: e.news(fmt.Sprint("k", k), rev, strconv.Itoa(rev)), Runs: []store.NewRun{toCase()}}},
					}
					if out, err := e.Ingest(e.ctx, in); err != nil || out[0].Verdict != store.Accepted {
						t.Errorf("ingest: %v, %v", out, err)
					}
				}
			})
		}
		for n := 0; n < keys*revs; {
			runs, err := e.ClaimRuns(e.ctx, store.RunClaim{Owner: "w", Limit: 4, Now: e.now, LeaseUntil: e.now.Add(time.Hour)})
			e.noError(err)
			for _, r := range runs {
				if _, err := e.Event(e.ctx, r.EventSource, r.EventID); err != nil {
					t.Errorf("the event of a live run: %v", err)
				}
				e.end(r, store.RunSucceeded)
				done[r.ID]++
				n++
			}
		}
		writing.Wait()
		close(stop)
		pruning.Wait()
		if len(done) != keys*revs {
			t.Errorf("%d runs, want %d", len(done), keys*revs)
		}
		e.pass(time.Hour)
		e.prune(time.Minute)
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "left", []any{st.Runs, st.Events, st.EventsVia}, []any{map[store.RunState]int{}, map[store.Verdict]int{}, map[store.Via]int{}})
		e.reopen()
		for k := range keys {
			if out := e.ingest(e.news(fmt.Sprint("k", k), revs, strconv.Itoa(revs)), toCase()); out.Verdict != store.Unchanged {
				t.Errorf("known no more: %+v", out)
			}
		}
	},
}
