package storetest

import (
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

func (e *env) cancel(id string) (store.RunState, error) {
	return e.CancelRun(e.ctx, store.Cancel{Run: id, Now: e.now, Reason: "not wanted", Parked: "look there"})
}

func (e *env) cancelled(id string, want store.RunState) {
	e.t.Helper()
	state, err := e.cancel(id)
	e.noError(err)
	same(e.t, "came to", state, want)
	reason := map[store.RunState]string{store.RunCancelled: "not wanted", store.RunParked: "look there"}[want]
	for range 2 {
		r := e.run(id)
		same(e.t, "run", []any{r.State, r.Reason, r.Ended, r.NotBefore, r.Owner}, []any{want, reason, e.now, time.Time{}, ""})
		e.reopen()
	}
	_, err = e.cancel(id)
	e.wantError(err, store.ErrEnded)
}

var cancelTests = map[string]func(*testing.T, *env){
	"ready and waiting runs, wherever they stand": func(t *testing.T, e *env) {
		a1, a2, a3, a4 := e.start("a", 1), e.start("a", 2), e.start("a", 3), e.start("a", 4)
		e.cancelled(a2, store.RunCancelled) // in the middle
		e.cancelled(a4, store.RunCancelled) // the last
		a5 := e.start("a", 5)
		r := e.one("w")
		same(t, "head", r.ID, a1)
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunWaiting, NotBefore: e.now.Add(time.Hour)}))
		e.cancelled(a1, store.RunCancelled) // the head, which waits
		same(t, "nothing is due", e.due(), time.Time{})
		r = e.one("w")
		same(t, "the next goes on", r.ID, a3)
		e.end(r, store.RunSucceeded)
		r = e.one("w")
		same(t, "then the one behind", r.ID, a5)
		e.end(r, store.RunSucceeded)
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "counts", st.Runs, map[store.RunState]int{store.RunCancelled: 3, store.RunSucceeded: 2})
		same(t, "listed", e.list(store.RunFilter{State: store.RunCancelled}), []string{a4, a2, a1})
	},
	"not one that somebody works on": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w")
		_, err := e.cancel(id)
		e.wantError(err, store.ErrLeased)
		same(t, "still running", e.run(id).State, store.RunRunning)
		_, err = e.cancel("none")
		e.wantError(err, store.ErrNotFound)
		e.end(r, store.RunFailed)
		_, err = e.cancel(id)
		e.wantError(err, store.ErrEnded)
		same(t, "as it was", e.run(id).State, store.RunFailed)
	},
	"one whose worker is gone": func(t *testing.T, e *env) {
		id := e.start("a", 1)
		r := e.one("w")
		e.pass(time.Minute)
		state, err := e.cancel(id)
		e.noError(err)
		same(t, "state", state, store.RunCancelled)
		e.wantError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunSucceeded}), store.ErrFenced)
		same(t, "state", e.run(id).State, store.RunCancelled)
	},
	"what may have happened is parked": func(t *testing.T, e *env) {
		a, _ := e.two()
		e.begin(a)
		e.settle(a, store.EffectUnknown, "", "")
		wait := store.Advance{Now: e.now, State: store.RunWaiting, NotBefore: e.now.Add(time.Hour)}
		wait.Lease = lease(a)
		e.noError(e.Advance(e.ctx, wait))
		e.cancelled(a.ID, store.RunParked)
		b := e.claim("w", 1)[0]
		same(t, "the key is free, and what is known is not lost", e.begin(b).State, store.EffectUnknown)
		e.settle(b, store.EffectDone, `{}`, "")
		wait.Lease = lease(b)
		e.noError(e.Advance(e.ctx, wait))
		e.cancelled(b.ID, store.RunCancelled) // what is done is no reason
		// An unsafe step leaves its intent in the journal only.
		c := e.start("c", 1)
		r := e.one("w")
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, Steps: []store.Step{{Path: "s", Seq: 1, State: store.StepIntent}}}))
		e.pass(time.Minute)
		e.cancelled(c, store.RunParked)
	},
}
