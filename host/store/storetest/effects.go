package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

var caseKey = store.EffectKey{Connection: "cases", Action: "case.ensure", Key: "case-1"}

func (e *env) begin(r store.Run) store.Effect {
	e.t.Helper()
	prior, err := e.BeginEffect(e.ctx, lease(r), store.Effect{EffectKey: caseKey, Path: "case", Updated: e.now},
		[]store.Step{{Path: "case", Seq: 1, State: store.StepIntent, Key: caseKey.Key, Started: e.now}})
	e.noError(err)
	return prior
}

func (e *env) busy(r store.Run) {
	e.t.Helper()
	_, err := e.BeginEffect(e.ctx, lease(r), store.Effect{EffectKey: caseKey, Updated: e.now}, []store.Step{{Path: "busy", State: store.StepIntent}})
	e.wantError(err, store.ErrBusy)
	steps, err := e.Steps(e.ctx, r.ID)
	e.noError(err)
	for _, s := range steps {
		if s.Path == "busy" {
			e.t.Fatal("a refused intent was journaled")
		}
	}
}

func (e *env) settle(r store.Run, state store.EffectState, result string, end store.RunState) {
	e.t.Helper()
	eff := store.Effect{EffectKey: caseKey, State: state, Reason: "r-" + string(state)}
	if result != "" {
		eff.Result = json.RawMessage(result)
	}
	e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, Effects: []store.Effect{eff}, State: end}))
}

func (e *env) ledger() store.Effect {
	e.t.Helper()
	eff, err := e.Effect(e.ctx, caseKey)
	e.noError(err)
	return eff
}

// two returns two running runs of different keys.
func (e *env) two() (a, b store.Run) {
	e.t.Helper()
	e.start("a", 1)
	e.start("b", 1)
	runs := e.claim("w", 2)
	return runs[0], runs[1]
}

var effectTests = map[string]func(*testing.T, *env){
	"nobody tried, then done": func(t *testing.T, e *env) {
		_, err := e.Effect(e.ctx, caseKey)
		e.wantError(err, store.ErrNotFound)
		a, b := e.two()
		same(t, "prior", e.begin(a), store.Effect{})
		want := store.Effect{EffectKey: caseKey, State: store.EffectIntent, Run: a.ID, Path: "case", FirstSent: e.now, Attempts: 1, Updated: e.now}
		same(t, "intent", e.ledger(), want)
		steps, err := e.Steps(e.ctx, a.ID)
		e.noError(err)
		same(t, "journal", steps, []store.Step{{Path: "case", Seq: 1, State: store.StepIntent, Key: caseKey.Key, Started: e.now}})
		e.busy(b)
		e.pass(time.Second)
		e.settle(a, store.EffectDone, `{"id":1}`, "")
		want.State, want.Result, want.Updated, want.Reason = store.EffectDone, json.RawMessage(`{"id":1}`), e.now, "r-done"
		e.reopen()
		same(t, "done", e.ledger(), want)
		e.pass(time.Minute)
		b = e.claim("w", 2)[1]
		same(t, "prior of the next", e.begin(b), want)
		got := e.ledger()
		same(t, "a new attempt begins anew", []any{got.FirstSent, got.Attempts, got.Run, string(got.Result)}, []any{e.now, 1, b.ID, `{"id":1}`})
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "stats", st.Effects, map[store.EffectState]int{store.EffectIntent: 1})
	},
	"the holder may ask again": func(t *testing.T, e *env) {
		a, _ := e.two()
		e.begin(a)
		e.pass(31 * time.Second) // it died, and somebody resumes it
		again := e.claim("w2", 1)[0]
		same(t, "resumed", again.ID, a.ID)
		prior := e.begin(again)
		same(t, "prior", []any{prior.State, prior.FirstSent, prior.Attempts}, []any{store.EffectIntent, epoch, 1})
		got := e.ledger()
		same(t, "first sent stays", []any{got.FirstSent, got.Attempts, got.Updated}, []any{epoch, 2, e.now})
	},
	"unknown is held while its run lives, waiting or not": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		e.settle(a, store.EffectUnknown, "", "")
		e.busy(b)
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(a), Now: e.now, State: store.RunWaiting, NotBefore: e.now.Add(time.Second)}))
		e.busy(b)
		e.pass(time.Second)
		a = e.one("w")
		e.busy(b)
		same(t, "prior", e.begin(a).State, store.EffectUnknown)
		e.settle(a, store.EffectUnknown, "", store.RunParked)
		prior := e.begin(b)
		same(t, "a parked run holds nothing", []any{prior.State, prior.Run, prior.FirstSent, prior.Attempts},
			[]any{store.EffectUnknown, a.ID, epoch, 2})
		same(t, "but its doubt stays", []any{e.ledger().State, e.ledger().FirstSent}, []any{store.EffectIntent, epoch})
	},
	"an end without a word leaves the doubt": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		e.end(a, store.RunFailed)
		prior := e.begin(b)
		same(t, "prior", []any{prior.State, prior.Run}, []any{store.EffectIntent, a.ID})
	},
	"surely not done": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		e.settle(a, store.EffectNone, "", "")
		same(t, "none", e.ledger().State, store.EffectNone)
		e.pass(time.Second)
		prior := e.begin(b)
		same(t, "free", []any{prior.State, prior.Attempts}, []any{store.EffectNone, 1})
		same(t, "a new clock", []any{e.ledger().FirstSent, e.ledger().Attempts}, []any{e.now, 2})
		e.busy(a)
	},
	"a failed update leaves done what was done": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		e.settle(a, store.EffectDone, `{"id":1}`, store.RunSucceeded)
		e.begin(b)
		e.settle(b, store.EffectNone, "", store.RunFailed)
		got := e.ledger()
		same(t, "ledger", []any{got.State, string(got.Result)}, []any{store.EffectDone, `{"id":1}`})
	},
	"an unknown update keeps the last result": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		e.settle(a, store.EffectDone, `{"id":1}`, store.RunSucceeded)
		e.begin(b)
		e.settle(b, store.EffectUnknown, "", store.RunParked)
		c := e.start("c", 1)
		r := e.one("w")
		same(t, "claimed", r.ID, c)
		prior := e.begin(r)
		same(t, "prior", []any{prior.State, string(prior.Result)}, []any{store.EffectUnknown, `{"id":1}`})
	},
	"nobody settles what another holds": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		err := e.Advance(e.ctx, store.Advance{
			Lease: lease(b), Now: e.now, State: store.RunSucceeded, Steps: []store.Step{{Path: "x", State: store.StepSucceeded}},
			Effects: []store.Effect{{EffectKey: caseKey, State: store.EffectDone}},
		})
		e.wantError(err, store.ErrBusy)
		same(t, "b goes on", e.run(b.ID).State, store.RunRunning)
		same(t, "a holds", []any{e.ledger().State, e.ledger().Run}, []any{store.EffectIntent, a.ID})
		steps, err := e.Steps(e.ctx, b.ID)
		e.noError(err)
		same(t, "b's journal", steps, nil)
	},
	"effects of one call": func(t *testing.T, e *env) {
		a, _ := e.two()
		other := caseKey
		other.Key = "case-2"
		e.begin(a)
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(a), Now: e.now, Effects: []store.Effect{
			{EffectKey: other, State: store.EffectUnknown}, // never begun: written all the same
			{EffectKey: caseKey, State: store.EffectUnknown},
			{EffectKey: caseKey, State: store.EffectDone, Result: json.RawMessage(`1`)},
		}}))
		keys := func(state store.EffectState, limit int) (out []string) {
			t.Helper()
			list, err := e.ListEffects(e.ctx, state, limit)
			e.noError(err)
			for _, eff := range list {
				out = append(out, eff.Key)
			}
			return out
		}
		same(t, "all, newest first", keys("", 0), []string{"case-2", "case-1"})
		same(t, "limit", keys("", 1), []string{"case-2"})
		same(t, "unknown", keys(store.EffectUnknown, 0), []string{"case-2"})
		same(t, "done", keys(store.EffectDone, 5), []string{"case-1"})
		same(t, "intent", keys(store.EffectIntent, 0), nil)
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "stats", st.Effects, map[store.EffectState]int{store.EffectUnknown: 1, store.EffectDone: 1})
	},
	"keys differ in every part": func(t *testing.T, e *env) {
		a, _ := e.two()
		for _, k := range []store.EffectKey{caseKey, {Connection: "x", Action: caseKey.Action, Key: caseKey.Key}, {Connection: caseKey.Connection, Action: "x", Key: caseKey.Key}} {
			prior, err := e.BeginEffect(e.ctx, lease(a), store.Effect{EffectKey: k, Updated: e.now}, nil)
			e.noError(err)
			same(t, "prior", prior, store.Effect{})
		}
		if _, err := e.BeginEffect(e.ctx, lease(a), store.Effect{EffectKey: store.EffectKey{Connection: "c", Action: "a"}}, nil); err == nil {
			t.Fatal("an effect without a key was taken")
		}
	},
	"large results": func(t *testing.T, e *env) {
		a, b := e.two()
		e.begin(a)
		in, out := large("in"), large("out")
		e.noError(e.Advance(e.ctx, store.Advance{
			Lease: lease(a), Now: e.now, State: store.RunSucceeded, Output: out,
			Steps:   []store.Step{{Path: "case", State: store.StepSucceeded, Input: in, Output: out}},
			Effects: []store.Effect{{EffectKey: caseKey, State: store.EffectDone, Result: out}},
		}))
		same(t, "prior", string(e.begin(b).Result), string(out))
		steps, err := e.Steps(e.ctx, a.ID)
		e.noError(err)
		same(t, "step", []string{string(steps[0].Input), string(steps[0].Output)}, []string{string(in), string(out)})
		same(t, "run", string(e.run(a.ID).Output), string(out))
	},
}
