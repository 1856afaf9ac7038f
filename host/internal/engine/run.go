package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// runner executes one run under one lease. Its fields below mu are shared by the concurrent turns of a loop.
type runner struct {
	e     *Engine
	t     *task
	fl    *flow.Flow
	base  flow.Env // what Load gave; not changed
	about map[string]any

	mu      sync.Mutex
	journal map[string]store.Step // by path, as the store knows it or will with the next write
	parent  map[string]store.Step // of the run that this one replays
	pending []store.Step          // to go with the next write
	effects []store.Effect        // likewise
	settle  bool                  // pending holds the result of a write: record it before anything else is called
	keys    map[store.EffectKey]chan struct{}
	seq     int
	calls   int
	named   bool // a keyed write was begun: something may be named after the run's case key
}

// execute runs a task to an end or to a wait, and writes which.
func (e *Engine) execute(t *task) {
	waits := false
	defer func() { e.finished(t, waits) }()
	began := time.Now()
	r := &runner{e: e, t: t}
	out, err := r.run()
	a := r.ending(out, err)
	if a == nil || r.end(a) != nil {
		e.log.Warn("run given up: its lease was lost", slog.String("run", t.run.ID))
		e.obs.RunLost(t.run)
		return
	}
	waits = a.State == store.RunWaiting
	e.obs.RunReleased(t.run, a.State, plugin.Class(a.Class), time.Since(began))
	if a.State == store.RunParked || a.State == store.RunDeadLetter {
		e.log.Warn("run needs a person", slog.String("run", t.run.ID), slog.String("flow", t.run.Flow),
			slog.String("state", string(a.State)), slog.String("class", a.Class), slog.String("reason", a.Reason))
	}
}

// ending is the last write of this lease; nil if there is none to make.
func (r *runner) ending(out json.RawMessage, err error) *store.Advance {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &store.Advance{Lease: r.t.lease, Now: time.Now(), Steps: r.pending, Effects: r.effects}
	r.pending, r.effects = nil, nil
	switch err := err.(type) { //nolint:errorlint // outcomes are never wrapped
	case nil:
		a.State, a.Output = store.RunSucceeded, out
		a.Current = r.named && r.grouped()
	case *suspension:
		a.State, a.NotBefore, a.Reason, a.Class = store.RunWaiting, err.until, err.reason, string(err.class)
		if err.regrouped && !r.named { // another turn of a loop may have begun something just before
			a.Regroup, a.Steps = true, r.kept()
		}
	case *parking:
		a.State, a.Reason, a.Class = store.RunParked, err.reason, string(plugin.ClassUncertain)
	case *cancellation:
		a.State, a.Reason, a.Class = store.RunCancelled, err.reason, string(plugin.ClassCancelled)
	case *failure:
		a.State, a.Reason, a.Class = store.RunDeadLetter, err.text, string(err.class)
		a.DeadLetter = &store.DeadLetter{
			Kind: "run", Run: r.t.run.ID, Flow: r.t.run.Flow, Step: err.step,
			Connection: r.t.run.Connection, Trigger: r.t.run.Trigger, Subject: r.t.run.OrderKey,
			Reason: err.text, Class: string(err.class), Created: a.Now,
		}
	default:
		return nil
	}
	return a
}

func (r *runner) run() (out json.RawMessage, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.e.log.Error("panic in a run", slog.String("run", r.t.run.ID), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = failed("", plugin.ClassBug, "panic while executing the run: %v; please report this", v)
		}
	}()
	if r.e.draining() {
		return nil, r.handBack()
	}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	inputs, err := r.inputs()
	if err != nil {
		return nil, err
	}
	sc := r.scope(inputs)
	if r.parent != nil {
		sc.reuse = reuseUntil
	}
	if err := r.body(sc, r.fl.Steps, r.fl.Output != nil); err != nil {
		return nil, err
	}
	if r.fl.Output == nil {
		return nil, nil
	}
	v, err := r.output(sc, r.fl, "")
	if err != nil {
		return nil, err
	}
	if out, err = json.Marshal(v); err != nil {
		return nil, r.broken("", "output", err)
	}
	return out, nil
}

// output evaluates the output of a flow.
func (r *runner) output(sc *scope, fl *flow.Flow, path string) (any, error) {
	v, err := r.e.value(fl.Output, sc.env)
	if err != nil {
		return nil, r.broken(path, "output", err)
	}
	return v, nil
}

// prepare loads the flow, the event and the journals.
func (r *runner) prepare() error {
	run, o := &r.t.run, &r.e.o
	var err error
	if r.fl, err = o.Flows.Flow(r.t.ctx, run.Flow, run.FlowVersion); err != nil {
		return r.unprepared(plugin.ClassConfig, fmt.Sprintf("load flow %q in version %s", run.Flow, run.FlowVersion), err)
	}
	if r.base, err = o.Load(r.t.ctx, *run); err != nil {
		return r.unprepared(plugin.ClassInvalid, "load the event of the run", err)
	}
	if !run.Fresh {
		if r.journal, err = r.steps(run.ID); err != nil {
			return r.unprepared(plugin.ClassBug, "read the journal of the run", err)
		}
		for _, s := range r.journal {
			r.seq = max(r.seq, s.Seq)
			r.named = r.named || names(s)
		}
	}
	if run.Parent == "" || run.FromStep == "" {
		return nil
	}
	top, _, _ := strings.Cut(run.FromStep, "/")
	top, _, _ = strings.Cut(top, "[")
	known := false
	for _, s := range r.fl.Steps {
		known = known || s.ID == top
	}
	if !known {
		return failed("", plugin.ClassInvalid, "flow %q has no step %q to replay from; `casewire runs %s` shows the steps", run.Flow, run.FromStep, run.Parent)
	}
	if r.parent, err = r.steps(run.Parent); err != nil {
		return r.unprepared(plugin.ClassInvalid, "read the journal of run "+run.Parent, err)
	}
	if err := r.disown(); err != nil {
		return r.unprepared(plugin.ClassBug, "read run "+run.Parent, err)
	}
	return nil
}

func (r *runner) steps(run string) (map[string]store.Step, error) {
	list, err := r.e.o.Store.Steps(r.t.ctx, run)
	if err != nil {
		return nil, err
	}
	m := make(map[string]store.Step, len(list))
	for _, s := range list {
		m[s.Path] = s
	}
	return m, nil
}

// unprepared says what it means that something could not be loaded: what is missing or wrong stays so, anything else is
// tried again, for as long as patience lasts.
func (r *runner) unprepared(class plugin.Class, what string, err error) error {
	if r.t.ctx.Err() != nil {
		return r.interrupted()
	}
	run := &r.t.run
	text := what + ": " + err.Error()
	var wrong diag.List
	if errors.Is(err, store.ErrNotFound) || errors.As(err, &wrong) || time.Since(run.Created) > patience {
		return &failure{class: class, text: text}
	}
	r.e.log.Error("prepare a run", slog.String("run", run.ID), slog.String("what", what), slog.Any("error", err))
	now := time.Now()
	return &suspension{until: now.Add(patiently(0, run.Created, now)), reason: text, class: plugin.ClassUnavailable}
}

// inputs are those of a run that no event started.
func (r *runner) inputs() (map[string]any, error) {
	v, err := decode(r.t.run.Input)
	if err != nil {
		return nil, failed("", plugin.ClassInvalid, "input of the run: %v", err)
	}
	in, problem := bindInputs(r.fl, v)
	if problem != "" {
		return nil, failed("", plugin.ClassInvalid, "input of the run: %s", problem)
	}
	return in, nil
}

// interrupted is what a cancelled context means.
func (r *runner) interrupted() error {
	if errors.Is(context.Cause(r.t.ctx), errStopped) {
		return r.handBack()
	}
	return errGone
}

// handBack gives the run to whoever comes next, at once.
func (r *runner) handBack() *suspension {
	return &suspension{until: time.Now(), reason: "the host is stopping"}
}

// scope is what a body of steps sees.
type scope struct {
	env     flow.Env
	steps   map[string]any
	prefix  string // of the paths of its steps
	depth   int    // of calls
	retry   flow.Retry
	timeout time.Duration
	reuse   reuse

	parallel bool // other turns run beside it
}

// scope makes one for a flow's own steps.
func (r *runner) scope(inputs map[string]any) *scope {
	if r.about == nil {
		run := &r.t.run
		r.about = map[string]any{"id": run.ID, "flow": run.Flow, "attempt": 1}
		if run.Parent != "" {
			r.about["attempt"] = 2 // a replay
		}
	}
	sc := &scope{env: make(flow.Env, len(r.base)+6), steps: map[string]any{}}
	maps.Copy(sc.env, r.base)
	sc.env["steps"], sc.env["inputs"], sc.env["run"] = sc.steps, inputs, r.about
	return sc
}

// turn is the scope of one turn of a loop.
func (sc *scope) turn(prefix string, item any, index int) *scope {
	t := *sc
	t.prefix, t.env, t.steps = prefix, maps.Clone(sc.env), maps.Clone(sc.steps)
	t.env["steps"], t.env["item"], t.env["index"] = t.steps, item, index
	return &t
}

// bind makes a step's output visible to the steps after it.
func (sc *scope) bind(s *flow.Step, v any) {
	switch {
	case v == absent:
	case s.Kind == flow.KindLet:
		sc.env[s.ID] = v
	default:
		sc.steps[s.ID] = v
	}
}

// note puts a step's newest state beside the next write.
func (r *runner) note(s store.Step, effects ...store.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLocked(s)
	r.effects = append(r.effects, effects...)
}

func (r *runner) noteLocked(s store.Step) {
	if r.journal == nil {
		r.journal = map[string]store.Step{}
	}
	r.journal[s.Path] = s
	for i := range r.pending {
		if r.pending[i].Path == s.Path {
			r.pending[i] = s
			return
		}
	}
	r.pending = append(r.pending, s)
}

// record returns what the journal knows of a step, or a fresh record with its place in the order.
func (r *runner) record(path string) store.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.journal[path]; ok {
		return s
	}
	r.seq++
	return store.Step{Path: path, Seq: r.seq}
}

// take hands over what goes with a write.
func (r *runner) take() ([]store.Step, []store.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps, effects := r.pending, r.effects
	r.pending, r.effects, r.settle = nil, nil, false
	return steps, effects
}

// flush writes what is pending, if it holds the result of a write.
func (r *runner) flush() error {
	r.mu.Lock()
	must := r.settle
	r.mu.Unlock()
	if !must {
		return nil
	}
	return r.advance()
}

// advance writes what is pending and goes on.
func (r *runner) advance() error {
	steps, effects := r.take()
	a := store.Advance{Lease: r.t.lease, Now: time.Now(), Steps: steps, Effects: effects}
	return r.write("journal a step", func(ctx context.Context) error { return r.e.o.Store.Advance(ctx, a) })
}

// write tries until it is done, the lease is lost, or a lease's time has passed. It returns nil, errGone,
// store.ErrBusy, or store.ErrRegrouped. A stopped engine still writes what it knows, but tries only once.
func (r *runner) write(what string, f func(context.Context) error) error {
	giveUp := time.Now().Add(r.e.o.Lease)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		if errors.Is(context.Cause(r.t.ctx), errLost) {
			return errGone
		}
		err := r.writeOnce(f)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrRegrouped):
			return err
		case errors.Is(err, store.ErrFenced), errors.Is(err, store.ErrNotFound):
			r.t.cancel(errLost)
			return errGone
		}
		r.e.log.Error("write to the store", slog.String("what", what), slog.String("run", r.t.run.ID), slog.Any("error", err))
		if time.Now().Add(pause).After(giveUp) || r.t.ctx.Err() != nil {
			r.t.cancel(errLost) // the lease lapses, and the run is taken up again from what was written
			return errGone
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-r.t.ctx.Done():
			timer.Stop()
		}
	}
}

func (r *runner) writeOnce(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.ctx), r.e.o.Lease)
	defer cancel()
	return f(ctx)
}

// broken is the failure of an expression or of what it gave.
func (r *runner) broken(path, part string, err error) *failure {
	where := part
	if path != "" {
		where = fmt.Sprintf("step %q: %s", path, part)
	}
	if p, ok := errors.AsType[*panicked](err); ok {
		r.e.log.Error("panic in an expression", slog.String("run", r.t.run.ID), slog.String("where", where), slog.Any("panic", p.value))
		return failed(path, plugin.ClassBug, "%s: %v; please report this", where, err)
	}
	return failed(path, plugin.ClassInvalid, "%s: %v", where, err)
}
