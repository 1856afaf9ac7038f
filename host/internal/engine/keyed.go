package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// windowMargin is added to an action's resolve window, beside the attempt's own timeout: a vendor may commit late what it
// got in time.
const windowMargin = 10 * time.Second

// settleTime is how long a write that another life of this host sent may still be under way: its connector finishes what
// it has begun. A repeat that is safe afterwards may not be safe beside it.
const settleTime = 3 * time.Second

// keyed is a `uses` step whose action has one effect per key. The ledger of the store is what two runs, two hosts and a
// host before and after a crash agree by.
type keyed struct {
	*action
	prior store.Effect // what the ledger knew
	held  bool         // this lease has begun the effect
	// lost says that a write was sent whose fate is unknown; sent says when, and mine that this run sent it.
	lost, mine bool
	sent       time.Time
	found      bool // a look found what the ledger does not know yet
	created    bool // and what was found was made by the lost write
}

// keyed executes a keyed action.
func (a *action) keyed(resumed bool) (json.RawMessage, error) {
	k := &keyed{action: a, mine: a.rec.Class == string(plugin.ClassUncertain)}
	if a.parallel {
		// Two turns of a loop with one key: the second must see what the first did.
		defer a.r.lockKey(k.effectKey())()
	}
	if resumed || a.r.replayedFrom(a.path) {
		// BeginEffect tells when the write was sent, but is told so too: do not let it forget.
		known, err := a.r.e.o.Store.Effect(a.r.t.ctx, k.effectKey())
		switch {
		case err == nil && unsettled(known.State):
			k.sent = known.FirstSent
		case err != nil && a.r.t.ctx.Err() != nil:
			return nil, a.r.interrupted()
		}
	}
	for {
		out, done, err := k.once()
		if done || err != nil {
			return out, err
		}
	}
}

// once is one turn around: begin the effect if it is not held, then look for it, or send it.
func (k *keyed) once() (out json.RawMessage, done bool, err error) {
	if err := k.r.flush(); err != nil {
		return nil, false, err
	}
	p, err := k.enter()
	if err != nil {
		return nil, false, err
	}
	if !k.held {
		if err := k.begin(); err != nil {
			k.r.e.gates.done(p, nil, false, time.Now())
			return nil, false, err
		}
	}
	if k.lost {
		return k.look(p)
	}
	if wait := time.Until(k.sent.Add(settleTime)); unsettled(k.prior.State) && !k.mine && !k.found && wait > 0 {
		k.r.e.gates.done(p, nil, false, time.Now())
		if k.rec.State == store.StepIntent {
			k.rec.Attempt--
		}
		k.rec.State, k.rec.Error = store.StepWaiting, "an earlier write may still be under way"
		effect := k.effect(store.EffectUnknown, k.rec.Error, k.prior.Result)
		return nil, false, k.pause(wait, &effect)
	}
	return k.send(p)
}

// begin journals the intent and learns what is known of the key.
func (k *keyed) begin() error {
	rec, wasAttempt := k.rec, k.rec.Attempt
	rec.Attempt++
	rec.State, rec.NotBefore = store.StepIntent, time.Time{}
	now := time.Now()
	if k.sent.IsZero() {
		k.sent = now
	}
	k.r.note(*rec)
	steps, effects := k.r.take()
	if len(effects) > 0 { // only what another turn of a loop just left; BeginEffect cannot carry it
		k.r.mu.Lock()
		k.r.effects, k.r.settle = append(effects, k.r.effects...), true
		k.r.mu.Unlock()
	}
	err := k.r.write("begin an effect", func(ctx context.Context) error {
		var err error
		intent := k.effect(store.EffectIntent, "", nil)
		intent.Current = k.r.renameable() && !k.r.replayedFrom(k.path)
		k.prior, err = k.r.e.o.Store.BeginEffect(ctx, k.r.t.lease, intent, steps)
		return err
	})
	if errors.Is(err, store.ErrRegrouped) {
		k.r.restore(steps)
		rec.Attempt, rec.State = wasAttempt, store.StepWaiting
		k.r.note(*rec)
		return &suspension{until: now, reason: k.r.regrouped(), class: plugin.ClassConflict, regrouped: true}
	}
	if errors.Is(err, store.ErrBusy) {
		k.r.restore(steps)
		rec.Attempt, rec.State = wasAttempt, store.StepWaiting
		rec.NotBefore = now.Add(patiently(0, rec.Started, now))
		rec.Error = fmt.Sprintf("another run is writing %q on connection %q", rec.Key, k.s.Connection)
		k.r.note(*rec)
		return &suspension{until: rec.NotBefore, reason: fmt.Sprintf("step %q: %s", k.path, rec.Error), class: plugin.ClassConflict, busy: true}
	}
	if err != nil {
		return err
	}
	k.held = true
	k.r.mu.Lock()
	k.r.named = true
	k.r.mu.Unlock()
	if unsettled(k.prior.State) {
		if !k.prior.FirstSent.IsZero() {
			k.sent = k.prior.FirstSent
		}
		// With an earlier output the object is known, and with a window of zero a repeat is safe: nothing to look for.
		k.lost = k.s.ResolveWindow > 0 && len(k.prior.Result) == 0
	} else {
		k.sent = now
	}
	return nil
}

// send executes the action.
func (k *keyed) send(p pass) (json.RawMessage, bool, error) {
	if k.rec.State != store.StepIntent { // a repeat in place: the intent in the ledger still stands
		k.rec.Attempt++
		k.rec.State = store.StepIntent
	}
	out, err, cut := k.action.send(p, Call{Attempt: k.rec.Attempt, Prior: k.prior.Result, FirstSent: k.sent})
	switch {
	case err == nil:
		return k.finish(out), true, nil
	case err.SideEffect == plugin.EffectNone:
		effect := k.effect(store.EffectNone, err.Error(), nil)
		if k.found { // only the update was not done
			effect = k.effect(store.EffectDone, err.Error(), k.prior.Result)
		}
		if cut {
			k.rec.Attempt--
			return nil, false, k.gone(&effect)
		}
		class := err.Class()
		wait, ok := k.later(p, class, err)
		if !ok {
			k.r.noteEffect(effect)
			return nil, false, k.failAfter(class, err)
		}
		k.rec.State = store.StepWaiting
		return nil, false, k.pause(wait, &effect)
	}

	// It may have happened.
	effect := k.effect(store.EffectUnknown, err.Error(), nil)
	k.rec.Error, k.rec.Class, k.mine = err.Error(), string(plugin.ClassUncertain), true
	if cut {
		return nil, false, k.gone(&effect)
	}
	if k.s.ResolveWindow > 0 && len(k.prior.Result) == 0 {
		k.lost = true
		k.rec.State = store.StepWaiting
		now := time.Now()
		return nil, false, k.pause(nextLook(now, k.deadline(), now).Sub(now), &effect)
	}
	retry := k.retry
	retry.On = []plugin.Class{plugin.ClassUncertain} // finding out is not a matter of the flow's taste
	if k.free(p, err) {
		k.rec.Attempt--
	}
	if wait, ok := again(retry, plugin.ClassUncertain, err, k.rec.Attempt); ok {
		k.rec.State = store.StepWaiting
		return nil, false, k.pause(wait, &effect)
	}
	return nil, false, k.park(effect, fmt.Sprintf("none of %d attempts was answered, the last with: %s", k.rec.Attempt, err.Error()))
}

// look asks the connector what became of a write whose answer was lost.
func (k *keyed) look(p pass) (json.RawMessage, bool, error) {
	if k.rec.State == store.StepIntent { // begin counted an attempt; this is none
		k.rec.Attempt--
		k.rec.State = store.StepWaiting
	}
	out, err, cut := k.action.send(p, Call{Attempt: k.rec.Attempt, Resolve: true, FirstSent: k.sent})
	now := time.Now()
	effect := k.effect(store.EffectUnknown, k.prior.Reason, nil)
	switch {
	case err == nil && k.mine:
		return k.finish(out), true, nil
	case err == nil:
		// A write came through that may have been somebody else's, with older news: bring ours to what it made.
		k.prior.Result, k.lost, k.found, k.created = out, false, true, flag(out, "created")
		return nil, false, nil
	case cut:
		return nil, false, k.gone(&effect)
	}
	text := "looking for it: " + err.Error()
	k.rec.Error = text // but not the class, which says whether this run sent anything
	effect.Reason = text
	if err.Reason == plugin.ReasonAbsent {
		if k.rec.Attempt >= cmp.Or(k.retry.Max, defaultAttempts) {
			k.r.noteEffect(k.effect(store.EffectNone, text, nil))
			return nil, false, k.failAfter(plugin.ClassUnavailable, err)
		}
		return nil, false, k.resend("the connector is sure that it never happened")
	}
	if err.Code == codes.NotFound {
		if now.Before(k.deadline()) {
			return nil, false, k.pause(time.Until(nextLook(k.sent, k.deadline(), now)), &effect)
		}
		if k.r.replayedFrom(k.path) && !k.mine {
			return nil, false, k.resend("given up by a replay, which sends again")
		}
		return nil, false, k.park(effect, fmt.Sprintf("it was not found there in %s", now.Sub(k.sent).Round(time.Second)))
	}
	switch class := baseClass(err); class {
	case plugin.ClassThrottled, plugin.ClassTimeout, plugin.ClassUnavailable, plugin.ClassConflict, plugin.ClassAuth, plugin.ClassNotFound:
		if now.Before(k.deadline().Add(patience)) {
			// Not having been able to look is no reason to wait until the next look is due.
			wait := max(min(time.Until(nextLook(k.sent, k.deadline().Add(patience), now)), lookAgain), min(err.RetryAfter, longestRetryAfter))
			return nil, false, k.pause(wait, &effect)
		}
	default: // it will not get better by itself
	}
	return nil, false, k.park(effect, "the connection could not be asked: "+err.Error())
}

// resend sends a write again that did not come to be: the connector is sure, or a person has looked and wants it. The
// earlier write is struck off the ledger, and the journal says that this run sends, so that for a person it does so once.
func (k *keyed) resend(why string) error {
	k.mine, k.lost, k.held, k.sent = true, false, false, time.Time{}
	k.rec.State, k.rec.Class = store.StepWaiting, string(plugin.ClassUncertain)
	k.rec.NotBefore = time.Now()
	k.r.note(*k.rec, k.effect(store.EffectNone, why, nil))
	return k.r.advance()
}

// finish records the effect as done, with the step.
func (k *keyed) finish(out json.RawMessage) json.RawMessage {
	if k.created {
		out = setFlags(out, "true", "created")
	}
	effect := k.effect(store.EffectDone, "", out)
	if lookedInVain(k.rec.Input, out) {
		// Whoever makes it later must not take this for what an earlier write gave: were that one's answer lost, it would not
		// be looked for. And what somebody else sent may come yet.
		effect = k.effect(store.EffectNone, "there was none, and none was to be made", nil)
		if unsettled(k.prior.State) && !k.mine {
			effect = k.effect(store.EffectUnknown, k.prior.Reason, nil)
		}
	}
	k.succeed(out, &effect)
	return out
}

// lookedInVain says whether an ensure that was to make nothing found nothing. (An input create and an output id are the
// house's names for that.)
func lookedInVain(input, out json.RawMessage) bool {
	var in struct {
		Create *bool `json:"create"`
	}
	var found struct {
		ID *string `json:"id"`
	}
	return json.Unmarshal(input, &in) == nil && in.Create != nil && !*in.Create &&
		json.Unmarshal(out, &found) == nil && found.ID != nil && *found.ID == ""
}

func (k *keyed) park(effect store.Effect, why string) error {
	k.r.noteEffect(effect)
	return &parking{step: k.path, reason: fmt.Sprintf(
		"step %q: %s was sent at %s with key %q, and what became of it is unknown: %s. Look for that key there; "+
			"`casewire replay %s --from %s` looks once more, and sends it again only if it still cannot be found",
		k.path, target(k.s), k.sent.UTC().Format(time.RFC3339), k.rec.Key, why, k.r.t.run.ID, k.path)}
}

// deadline is when a write that is not found will not be found any more.
func (k *keyed) deadline() time.Time {
	return k.sent.Add(k.s.ResolveWindow + k.timeout + windowMargin)
}

func (k *keyed) effectKey() store.EffectKey {
	return store.EffectKey{Connection: k.s.Connection, Action: k.s.Action, Key: k.rec.Key}
}

func (k *keyed) effect(state store.EffectState, reason string, result json.RawMessage) store.Effect {
	return store.Effect{
		EffectKey: k.effectKey(), State: state, Run: k.r.t.run.ID, Path: k.path, Result: result,
		FirstSent: k.sent, Attempts: k.rec.Attempt, Updated: time.Now(), Reason: reason,
	}
}

func unsettled(s store.EffectState) bool { return s == store.EffectIntent || s == store.EffectUnknown }

// replayedFrom says whether a person asked for this very step again after its run had parked at it.
func (r *runner) replayedFrom(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.t.run.FromStep == path && r.parent[path].State == store.StepParked
}

func (r *runner) noteEffect(e store.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.effects = append(r.effects, e)
}

// restore puts steps back that a refused write carried, unless there is newer news of them.
func (r *runner) restore(steps []store.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range steps {
		newer := false
		for i := range r.pending {
			newer = newer || r.pending[i].Path == s.Path
		}
		if !newer {
			r.pending = append(r.pending, s)
		}
	}
	r.settle = true
}

// setFlags sets those of the named properties that an output has.
func setFlags(out json.RawMessage, to string, names ...string) json.RawMessage {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(out, &m); err != nil {
		return out
	}
	for _, name := range names {
		if _, ok := m[name]; ok {
			m[name] = json.RawMessage(to)
		}
	}
	changed, err := json.Marshal(m)
	if err != nil {
		return out
	}
	return changed
}

func flag(out json.RawMessage, name string) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal(out, &m) == nil && string(m[name]) == "true"
}

// lockKey keeps other turns of the run from the key until the function that it returns is called.
func (r *runner) lockKey(key store.EffectKey) (unlock func()) {
	r.mu.Lock()
	if r.keys == nil {
		r.keys = map[store.EffectKey]chan struct{}{}
	}
	lock := r.keys[key]
	if lock == nil {
		lock = make(chan struct{}, 1)
		r.keys[key] = lock
	}
	r.mu.Unlock()
	lock <- struct{}{} // whoever holds it ends, or gives up with the run
	return func() { <-lock }
}
