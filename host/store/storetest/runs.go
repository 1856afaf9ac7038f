package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

// start ingests an event with one run and returns the run's id.
func (e *env) start(key string, rev int) string {
	e.t.Helper()
	out := e.ingest(e.news(key, rev, "d"+string(rune('a'+rev))), toCase())
	if len(out.Runs) != 1 {
		e.t.Fatalf("%s: %d runs", out.Verdict, len(out.Runs))
	}
	return out.Runs[0]
}

func (e *env) run(id string) store.Run {
	e.t.Helper()
	r, err := e.Run(e.ctx, id)
	e.noError(err)
	return r
}

func (e *env) list(f store.RunFilter) []string {
	e.t.Helper()
	runs, err := e.ListRuns(e.ctx, f)
	e.noError(err)
	return runIDs(runs)
}

var runTests = map[string]func(*testing.T, *env){
	"a run from beginning to end": func(t *testing.T, e *env) {
		e.noError(e.PutFlow(e.ctx, store.FlowVersion{Version: "v1", Name: testFlow, Bundle: map[string]string{testFlow: "steps: []", "other": "x"}}))
		id := e.start("k", 1)
		ready := e.run(id)
		same(t, "state", ready.State, store.RunReady)
		e.pass(time.Second)
		r := e.one("w")
		want := store.Run{
			NewRun: store.NewRun{
				ID: id, Flow: testFlow, FlowVersion: "v1", CaseKey: "k", OrderKey: "k", Connection: testConnection, Trigger: testTrigger,
				EventSource: "https://alerts.example/k", EventID: "ev-k-1-db", State: store.RunRunning,
			},
			Seq: ready.Seq, Fence: r.Fence, Owner: "w", LeaseEnd: e.now.Add(30 * time.Second),
			Created: epoch, Started: e.now, Updated: e.now,
		}
		same(t, "read while running", e.run(id), want)
		want.Fresh = r.Fresh // whether a driver can tell is its own business
		same(t, "claimed", r, want)
		want.Fresh = false
		e.pass(time.Second)
		steps := []store.Step{
			{
				Path: "b", Seq: 2, Action: "jira.issue.ensure", State: store.StepSucceeded, Attempt: 2, Input: json.RawMessage(`{"a":1}`),
				Output: json.RawMessage(`{"b":2}`), Error: "once", Class: "timeout", Key: "key", Started: epoch, Ended: e.now, NotBefore: e.now,
			},
			{Path: "a", Seq: 1, State: store.StepSkipped},
		}
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, Steps: steps}))
		same(t, "still running", e.run(id).State, store.RunRunning)
		steps[1].State = store.StepFailed
		e.noError(e.Advance(e.ctx, store.Advance{
			Lease: lease(r), Now: e.now, Steps: steps[1:], State: store.RunSucceeded, Output: json.RawMessage(`{"case":7}`), Class: "c", Reason: "r",
		}))
		want.State, want.Owner, want.LeaseEnd, want.Updated, want.Ended = store.RunSucceeded, "", time.Time{}, e.now, e.now
		want.Output, want.Class, want.Reason = json.RawMessage(`{"case":7}`), "c", "r"
		e.reopen()
		same(t, "ended", e.run(id), want)
		got, err := e.Steps(e.ctx, id)
		e.noError(err)
		same(t, "journal", got, []store.Step{steps[1], steps[0]})
		f, err := e.FlowVersion(e.ctx, "v1")
		e.noError(err)
		same(t, "flow", f, store.FlowVersion{Version: "v1", Name: testFlow, Bundle: map[string]string{testFlow: "steps: []", "other": "x"}})
		_, err = e.FlowVersion(e.ctx, "v2")
		e.wantError(err, store.ErrNotFound)
		_, err = e.Run(e.ctx, "none")
		e.wantError(err, store.ErrNotFound)
	},
	"one at a time for a key and a flow, in order": func(t *testing.T, e *env) {
		a1, b1, a2, a3 := e.start("a", 1), e.start("b", 1), e.start("a", 2), e.start("a", 3)
		other := toCase()
		other.Flow = "another"
		a4 := e.ingest(e.news("a", 4, "x"), other).Runs[0]
		first := e.claim("w", 10)
		same(t, "heads", runIDs(first), []string{a1, b1, a4})
		same(t, "no more", runIDs(e.claim("w", 10)), nil)
		e.end(first[0], store.RunParked) // neither a parked nor an ended run holds back the next
		second := e.one("w")
		same(t, "next", second.ID, a2)
		e.end(second, store.RunFailed)
		same(t, "last", e.one("w").ID, a3)
	},
	"waiting holds the line": func(t *testing.T, e *env) {
		a1, a2 := e.start("a", 1), e.start("a", 2)
		r := e.one("w")
		until := e.now.Add(10 * time.Minute)
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunWaiting, NotBefore: until, Reason: "throttled", Class: "throttled"}))
		same(t, "due", e.due(), until)
		same(t, "held", e.claim("w", 9), nil)
		e.reopen()
		same(t, "due after a restart", e.due(), until)
		got := e.run(a1)
		same(t, "waiting", []any{got.State, got.NotBefore, got.Reason, got.Class, got.Owner},
			[]any{store.RunWaiting, until, "throttled", "throttled", ""})
		e.pass(10*time.Minute - time.Microsecond)
		same(t, "held", e.claim("w", 9), nil)
		e.pass(time.Microsecond)
		again := e.one("w")
		same(t, "due", again.ID, a1)
		if again.Fence <= r.Fence || !again.Started.Equal(epoch) {
			t.Fatalf("fence %d after %d, started %v", again.Fence, r.Fence, again.Started)
		}
		e.end(again, store.RunSucceeded)
		same(t, "then the next", e.one("w").ID, a2)
	},
	"given back": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w")
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunReady}))
		same(t, "state", e.run(id).State, store.RunReady)
		same(t, "again", e.one("w2").ID, id)
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunFailed}), store.ErrFenced)
	},
	"leases and fences": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		old := e.one("w1")
		e.pass(29 * time.Second)
		same(t, "leased", e.claim("w2", 1), nil)
		lost, err := e.RenewRuns(e.ctx, "w1", []store.Lease{lease(old), {Run: "none", Fence: 1}, {Run: id, Fence: old.Fence - 1}}, e.now.Add(30*time.Second))
		e.noError(err)
		same(t, "lost", lost, []string{"none", id})
		e.pass(29 * time.Second)
		same(t, "renewed", e.claim("w2", 1), nil)
		e.pass(2 * time.Second)
		young := e.one("w2")
		same(t, "taken over", young.ID, id)
		if young.Fence <= old.Fence {
			t.Fatalf("fence %d after %d", young.Fence, old.Fence)
		}
		lost, err = e.RenewRuns(e.ctx, "w1", []store.Lease{lease(old)}, e.now.Add(time.Hour))
		e.noError(err)
		same(t, "lost", lost, []string{id})
		lost, err = e.RenewRuns(e.ctx, "w1", []store.Lease{lease(young)}, e.now.Add(time.Hour))
		e.noError(err)
		same(t, "not the owner", lost, []string{id})
		step := []store.Step{{Path: "p", State: store.StepSucceeded}}
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: lease(old), Now: e.now, Steps: step}), store.ErrFenced)
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: lease(old), Now: e.now, Steps: step, State: store.RunFailed}), store.ErrFenced)
		_, err = e.BeginEffect(e.ctx, lease(old), store.Effect{EffectKey: store.EffectKey{Connection: "c", Action: "a", Key: "k"}}, step)
		e.wantError(err, store.ErrFenced)
		steps, err := e.Steps(e.ctx, id)
		e.noError(err)
		same(t, "nothing written", steps, nil)
		e.end(young, store.RunSucceeded)
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: lease(young), Now: e.now, State: store.RunFailed}), store.ErrFenced)
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: store.Lease{Run: "none"}, Now: e.now, State: store.RunFailed}), store.ErrFenced)
	},
	"a lapsed lease that nobody took still writes": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w1")
		e.pass(time.Hour)
		lost, err := e.RenewRuns(e.ctx, "w1", []store.Lease{lease(r)}, e.now.Add(30*time.Second))
		e.noError(err)
		same(t, "lost", lost, nil)
		same(t, "held again", e.claim("w2", 1), nil)
		e.end(r, store.RunSucceeded)
		same(t, "state", e.run(id).State, store.RunSucceeded)
	},
	"a lease does not survive its store": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		old := e.one("w1")
		e.reopen()
		e.pass(31 * time.Second)
		young := e.one("w2")
		same(t, "taken over", young.ID, id)
		if young.Fence <= old.Fence {
			t.Fatalf("fence %d after %d", young.Fence, old.Fence)
		}
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: lease(old), Now: e.now, State: store.RunFailed}), store.ErrFenced)
		e.end(young, store.RunSucceeded)
	},
	"a run with a journal is not fresh": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w")
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, Steps: []store.Step{{Path: "p", State: store.StepIntent}}}))
		fresh := func(what string, r store.Run) {
			t.Helper()
			if r.ID != id || r.Fresh {
				t.Fatalf("%s: run %s, fresh %v", what, r.ID, r.Fresh)
			}
		}
		e.pass(31 * time.Second)
		r = e.one("w")
		fresh("after its lease lapsed", r)
		e.reopen()
		e.pass(31 * time.Second)
		r = e.one("w")
		fresh("after a restart", r)
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunReady}))
		fresh("given back", e.one("w"))
	},
	"bad progress is refused whole": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w")
		step := []store.Step{{Path: "p", State: store.StepSucceeded}}
		for _, a := range []store.Advance{
			{State: store.RunWaiting},
			{State: "finished"},
			{Effects: []store.Effect{{State: store.EffectDone}}},
			{Effects: []store.Effect{{EffectKey: store.EffectKey{Connection: "c", Action: "a", Key: "k"}, State: "maybe"}}},
		} {
			a.Lease, a.Now, a.Steps = lease(r), e.now, step
			if err := e.Advance(e.ctx, a); err == nil {
				t.Fatalf("taken: %+v", a)
			}
		}
		steps, err := e.Steps(e.ctx, id)
		e.noError(err)
		same(t, "journal", steps, nil)
	},
	"lists and counts": func(t *testing.T, e *env) {
		a1, b1, c1, d1, e1 := e.start("a", 1), e.start("b", 1), e.start("c", 1), e.start("d", 1), e.start("e", 1)
		runs := e.claim("w", 4)
		e.end(runs[0], store.RunSucceeded)
		e.end(runs[1], store.RunParked)
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(runs[2]), Now: e.now, State: store.RunWaiting, NotBefore: e.now.Add(time.Hour)}))
		check := func() {
			t.Helper()
			counts, err := e.CountRuns(e.ctx)
			e.noError(err)
			want := map[store.RunState]int{store.RunSucceeded: 1, store.RunParked: 1, store.RunWaiting: 1, store.RunRunning: 1, store.RunReady: 1}
			same(t, "counts", counts, want)
			st, err := e.Stats(e.ctx)
			e.noError(err)
			same(t, "stats", st.Runs, want)
		}
		check()
		same(t, "all", e.list(store.RunFilter{}), []string{e1, d1, c1, b1, a1})
		same(t, "limit", e.list(store.RunFilter{Limit: 2}), []string{e1, d1})
		for state, id := range map[store.RunState]string{
			store.RunSucceeded: a1, store.RunParked: b1, store.RunWaiting: c1, store.RunRunning: d1, store.RunReady: e1,
		} {
			same(t, string(state), e.list(store.RunFilter{State: state}), []string{id})
			same(t, string(state)+" of no flow", e.list(store.RunFilter{State: state, Flow: "none"}), nil)
			same(t, string(state)+" of no event", e.list(store.RunFilter{State: state, EventID: "none"}), nil)
		}
		same(t, "flow", e.list(store.RunFilter{Flow: testFlow, Limit: 1}), []string{e1})
		same(t, "event", e.list(store.RunFilter{EventID: "ev-c-1-db"}), []string{c1})
		same(t, "order key", e.list(store.RunFilter{OrderKey: "d"}), []string{d1})
		same(t, "order key and state", e.list(store.RunFilter{OrderKey: "d", State: store.RunRunning}), []string{d1})
		same(t, "both", e.list(store.RunFilter{OrderKey: "d", EventID: "ev-c-1-db"}), nil)
		e.reopen()
		e.pass(31 * time.Second)
		again := e.claim("w", 1)
		same(t, "the one that was running first", runIDs(again), []string{d1})
		check()
	},
	"runs that no event brought": func(t *testing.T, e *env) {
		parent := e.start("a", 1)
		e.end(e.one("w"), store.RunFailed)
		ev := e.run(parent)
		runs, err := e.AddRuns(e.ctx, []store.NewRun{
			{Flow: "f", FlowVersion: "v", Input: json.RawMessage(`{"x":1}`)},
			{Flow: "f", FlowVersion: "v", ID: "mine", OrderKey: "o", CaseKey: "c"},
			{Flow: testFlow, EventSource: ev.EventSource, EventID: ev.EventID, Parent: parent, FromStep: "case"},
			{Flow: "f", OrderKey: "o", EventSource: "https://gone.example", EventID: "gone"},
		})
		e.noError(err)
		same(t, "added", len(runs), 4)
		same(t, "input", string(runs[0].Input), `{"x":1}`)
		same(t, "chosen id", runs[1].ID, "mine")
		same(t, "replay", []string{runs[2].OrderKey, runs[2].CaseKey, runs[2].Parent, runs[2].FromStep}, []string{"a", "a", parent, "case"})
		for _, r := range runs {
			if r.ID == "" || r.State != store.RunReady || r.Created.IsZero() {
				t.Fatalf("not a ready run: %+v", r)
			}
			same(t, "as read", e.run(r.ID), r)
		}
		again, err := e.AddRuns(e.ctx, []store.NewRun{{Flow: "f", FlowVersion: "v", ID: "mine"}})
		e.noError(err)
		same(t, "the same id is the same run", again, runs[1:2])
		same(t, "by the event's id", e.list(store.RunFilter{EventID: "gone"}), []string{runs[3].ID})
		same(t, "by the order key", e.list(store.RunFilter{OrderKey: "o"}), []string{runs[3].ID, "mine"})
		same(t, "by the event's key", e.list(store.RunFilter{OrderKey: "a"}), []string{runs[2].ID, parent})
		e.reopen()
		same(t, "claimable", runIDs(e.claim("w", 9)), []string{runs[0].ID, "mine", runs[2].ID})
		if _, err := e.AddRuns(e.ctx, []store.NewRun{{Flow: "f", ID: "lonely"}, {}}); err == nil {
			t.Fatal("a run without a flow was taken")
		}
		_, err = e.Run(e.ctx, "lonely")
		e.wantError(err, store.ErrNotFound)
	},
	"runs without an order do not wait for each other": func(t *testing.T, e *env) {
		runs, err := e.AddRuns(e.ctx, []store.NewRun{{Flow: "f"}, {Flow: "f"}})
		e.noError(err)
		same(t, "both", runIDs(e.claim("w", 9)), runIDs(runs))
	},
	"a dead letter comes with its run's end": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w")
		e.noError(e.Advance(e.ctx, store.Advance{
			Lease: lease(r), Now: e.now, State: store.RunDeadLetter, Reason: "no such project", Class: "invalid",
			DeadLetter: &store.DeadLetter{Kind: "run", Flow: testFlow, Step: "case", Reason: "no such project", Class: "invalid"},
		}))
		dl, err := e.ListDeadLetters(e.ctx, store.DeadLetterFilter{})
		e.noError(err)
		same(t, "dead letters", len(dl), 1)
		same(t, "its run", []any{dl[0].Run, dl[0].Created, dl[0].Step}, []any{id, e.now, "case"})
	},
}
