package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// action is one `uses` step being executed.
type action struct {
	r       *runner
	s       *flow.Step
	path    string
	rec     *store.Step
	retry   flow.Retry
	timeout time.Duration

	parallel bool
}

// uses executes an action by the rules of its effect.
func (r *runner) uses(sc *scope, s *flow.Step, path string, need bool, rec *store.Step) (any, error) {
	a := &action{
		r: r, s: s, path: path, rec: rec,
		retry:   inherit(s.Retry, sc.retry),
		timeout: cmp.Or(s.Timeout, sc.timeout, r.e.o.Timeout), parallel: sc.parallel,
	}
	resumed := rec.State != ""
	if err := a.prepare(sc); err != nil {
		return nil, err
	}
	if wait := time.Until(rec.NotBefore); resumed && wait > 0 {
		if err := a.pause(wait, nil); err != nil {
			return nil, err
		}
	}
	var out json.RawMessage
	var err error
	switch s.Effect {
	case connectorv1.Effect_EFFECT_READ, connectorv1.Effect_EFFECT_IDEMPOTENT:
		out, err = a.repeatable()
	case connectorv1.Effect_EFFECT_KEYED:
		out, err = a.keyed(resumed)
	default: // what does not say is taken for the worst
		out, err = a.unsafe()
	}
	if err != nil || !need {
		return nil, err
	}
	v, err := decode(out)
	if err != nil {
		return nil, failed(path, plugin.ClassBug, "step %q: output of %s: %v", path, target(s), err)
	}
	return v, nil
}

// prepare evaluates the input and the key, once: what is in the journal is what was or may have been sent.
func (a *action) prepare(sc *scope) error {
	if a.rec.Input != nil {
		return nil
	}
	a.rec.Action = a.s.Connector + "." + a.s.Action
	v, err := a.r.e.object(a.s.With, sc.env)
	if err != nil {
		return a.r.broken(a.path, "with", err)
	}
	input, err := json.Marshal(v)
	if err != nil {
		return a.r.broken(a.path, "with", err)
	}
	if len(input) > plugin.MaxInput {
		return failed(a.path, plugin.ClassTooLarge, "step %q: the input of %s has %d bytes; the most is %d: hand it over in parts (for, steps), or packed if the action takes it packed", a.path, target(a.s), len(input), plugin.MaxInput)
	}
	if a.s.Effect == connectorv1.Effect_EFFECT_KEYED {
		var k any
		if a.s.Key != nil {
			if k, err = a.r.e.value(a.s.Key, sc.env); err != nil {
				return a.r.broken(a.path, "key", err)
			}
		}
		key, ok := keyText(k)
		if !ok {
			return failed(a.path, plugin.ClassInvalid, "step %q: key must be a text or a number that is not empty, not %T; %s has one effect per key", a.path, k, target(a.s))
		}
		a.rec.Key = key
	}
	a.rec.Input = input
	return nil
}

// enter waits for the right to make a call: by the limiter and the breaker of the connection, and by the host, which may
// be stopping. Waiting uses up no attempts.
func (a *action) enter() (pass, error) {
	e := a.r.e
	for patience := time.Now().Add(shortWait); ; {
		if a.r.t.ctx.Err() != nil {
			return pass{}, a.r.interrupted()
		}
		if e.draining() {
			return pass{}, a.r.handBack()
		}
		if !e.holds(a.r.t) { // this process was held up for longer than a lease
			a.r.t.cancel(errLost)
			return pass{}, errGone
		}
		p, no, ok := e.gates.enter(a.s.Connection, a.s.Action, time.Now())
		if ok {
			return p, nil
		}
		if time.Now().Add(no.wait).After(patience) || !e.sleep(a.r.t.ctx, no) {
			e.gates.forgo(no, false)
			now := time.Now()
			a.rec.State, a.rec.NotBefore = store.StepWaiting, now.Add(patiently(no.wait, a.rec.Started, now))
			a.rec.Error = fmt.Sprintf("connection %q is held back", a.s.Connection)
			return pass{}, a.suspend(plugin.ClassUnavailable, nil)
		}
		e.gates.forgo(no, true)
	}
}

// suspend hands the run back to the store until the record's NotBefore, which stands in it.
func (a *action) suspend(class plugin.Class, effect *store.Effect) error {
	if effect != nil {
		a.r.note(*a.rec, *effect)
	} else {
		a.r.note(*a.rec)
	}
	return &suspension{until: a.rec.NotBefore, reason: fmt.Sprintf("step %q: %s", a.path, a.rec.Error), class: class}
}

// pause waits: in place if it is short, else in the store, so that the wait survives a restart and holds no worker.
// effect, if any, is what the ledger must know meanwhile.
func (a *action) pause(wait time.Duration, effect *store.Effect) error {
	e := a.r.e
	until := time.Now().Add(wait)
	if wait <= shortWait && e.sleep(a.r.t.ctx, refusal{wait: wait}) {
		return nil
	}
	if errors.Is(context.Cause(a.r.t.ctx), errLost) {
		return errGone
	}
	a.rec.State, a.rec.NotBefore = store.StepWaiting, until
	return a.suspend(plugin.Class(a.rec.Class), effect)
}

// send makes one call. cut says that the host itself cut it off.
func (a *action) send(p pass, c Call) (out json.RawMessage, err *plugin.Error, cut bool) {
	r := a.r
	c.Connection, c.Action, c.Input, c.Key, c.Effect = a.s.Connection, a.s.Action, a.rec.Input, a.rec.Key, a.s.Effect
	r.mu.Lock()
	r.calls++
	n := r.calls
	r.mu.Unlock()
	c.ID = r.t.run.ID + "." + strconv.FormatInt(r.t.run.Fence, 10) + "." + strconv.Itoa(n)

	began := time.Now()
	ctx, cancel := context.WithTimeout(r.t.ctx, a.timeout)
	out, failure := r.e.callSafely(ctx, c)
	cancel()
	now := time.Now()
	class := plugin.Class("")
	if failure != nil {
		out, err = nil, toError(failure)
		class = err.Class()
		cut = r.t.ctx.Err() != nil
	}
	r.e.gates.done(p, err, !cut, now)
	r.e.obs.CallEnded(c, class, now.Sub(began))
	return out, err, cut
}

func (e *Engine) callSafely(ctx context.Context, c Call) (out json.RawMessage, err error) {
	defer catch(&err)
	return e.o.Caller.Call(ctx, c)
}

// toError makes any error one that says what may have happened; nothing said means that anything may have.
func toError(err error) *plugin.Error {
	if p, ok := errors.AsType[*panicked](err); ok {
		return &plugin.Error{Code: codes.Internal, Message: p.Error(), Origin: plugin.OriginHost, SideEffect: plugin.EffectUnknown, Err: err}
	}
	e := plugin.FromError(err)
	if e.SideEffect != plugin.EffectNone && e.SideEffect != plugin.EffectApplied {
		c := *e
		c.SideEffect = plugin.EffectUnknown
		return &c
	}
	return e
}

// gone is what a call that was cut off means for a step that may be repeated or that changed nothing.
func (a *action) gone(effect *store.Effect) error {
	err := a.r.interrupted()
	if s, ok := err.(*suspension); ok { //nolint:errorlint // never wrapped
		a.rec.State, a.rec.NotBefore, a.rec.Error = store.StepWaiting, s.until, s.reason
		return a.suspend(plugin.ClassCancelled, effect)
	}
	return err
}

// succeed journals the step's output.
func (a *action) succeed(out json.RawMessage, effect *store.Effect) {
	a.r.succeed(a.rec, out)
	if effect != nil {
		a.r.mu.Lock()
		a.r.effects, a.r.settle = append(a.r.effects, *effect), true
		a.r.mu.Unlock()
	}
}

// failAfter is the failure of the step with its last error.
func (a *action) failAfter(class plugin.Class, err *plugin.Error) *failure {
	attempts := ""
	if a.rec.Attempt > 1 {
		attempts = fmt.Sprintf(" (after %d attempts)", a.rec.Attempt)
	}
	return failed(a.path, class, "step %q: %s: %s: %s%s", a.path, target(a.s), class, err.Error(), attempts)
}

// later notes a failed attempt and says whether there will be another, and after what pause.
func (a *action) later(p pass, class plugin.Class, err *plugin.Error) (time.Duration, bool) {
	a.rec.Error, a.rec.Class = err.Error(), string(class)
	if a.free(p, err) {
		a.rec.Attempt--
	}
	return again(a.retry, class, err, a.rec.Attempt)
}

// free says whether a failed attempt does not count: a probe of a connection that is down, as long as patience lasts. An
// outage is not the step's fault; a timeout or a connector that crashed may be.
func (a *action) free(p pass, err *plugin.Error) bool {
	return p.probe && baseClass(err) == plugin.ClassUnavailable && err.Reason != plugin.ReasonPluginCrashed &&
		time.Since(a.rec.Started) < patience
}

// repeatable executes an action that may be called any number of times.
func (a *action) repeatable() (json.RawMessage, error) {
	for {
		if err := a.r.flush(); err != nil {
			return nil, err
		}
		p, err := a.enter()
		if err != nil {
			return nil, err
		}
		a.rec.Attempt++
		out, perr, cut := a.send(p, Call{Attempt: a.rec.Attempt})
		if perr == nil {
			a.succeed(out, nil)
			return out, nil
		}
		if cut {
			a.rec.Attempt--
			return nil, a.gone(nil)
		}
		class := baseClass(perr)
		if slices.Contains(a.retry.On, perr.Class()) {
			class = perr.Class() // the flow names uncertain
		}
		wait, ok := a.later(p, class, perr)
		if !ok {
			return nil, a.failAfter(class, perr)
		}
		if err := a.pause(wait, nil); err != nil {
			return nil, err
		}
	}
}

// unsafe executes an action that is never repeated once it may have happened.
func (a *action) unsafe() (json.RawMessage, error) {
	if a.rec.State == store.StepIntent {
		return nil, a.parkUnsafe("the host stopped before the answer came")
	}
	for {
		p, err := a.enter()
		if err != nil {
			return nil, err
		}
		a.rec.Attempt++
		a.rec.State, a.rec.NotBefore = store.StepIntent, time.Time{}
		a.r.note(*a.rec)
		if err := a.r.advance(); err != nil {
			a.r.e.gates.done(p, nil, false, time.Now())
			return nil, err
		}
		sent := time.Now()
		out, perr, cut := a.send(p, Call{Attempt: a.rec.Attempt, FirstSent: sent})
		if perr == nil {
			a.succeed(out, nil)
			a.r.mu.Lock()
			a.r.settle = true
			a.r.mu.Unlock()
			return out, nil
		}
		if perr.SideEffect != plugin.EffectNone {
			if errors.Is(context.Cause(a.r.t.ctx), errLost) {
				return nil, errGone // whoever holds the lease finds the intent
			}
			return nil, a.parkUnsafe(perr.Error())
		}
		if cut {
			a.rec.Attempt--
			return nil, a.gone(nil)
		}
		class := perr.Class()
		wait, ok := a.later(p, class, perr)
		if !ok {
			return nil, a.failAfter(class, perr)
		}
		if err := a.pause(wait, nil); err != nil {
			return nil, err
		}
	}
}

func (a *action) parkUnsafe(why string) error {
	return &parking{step: a.path, reason: fmt.Sprintf(
		"step %q: %s was sent, and what became of it is unknown: %s. It is never repeated by machine. "+
			"Look there whether it happened; then `casewire replay %s --from %s` sends it again, and --from a later step goes on without it",
		a.path, target(a.s), why, a.r.t.run.ID, a.path)}
}
