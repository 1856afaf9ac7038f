package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// While a run waits for its turn, the incident that its case is named after may be merged into another. The case of the
// other is the one that goes on; the event that told of the merge closes the case of the first, if there is one by then.
// So a run must not make that case afterwards and leave it there:
//
//   - One that has written nothing yet begins again under the new name. The store says so in the transaction that would
//     have journaled its first intent, so that nothing comes between.
//   - One that has goes on as it began: what it sent may have happened, and must be found under the name that it was sent
//     with. When it is through it begins again, with the name that ended as event.merged_case_key: its news reach the
//     case that goes on, and the flow closes the one that it made.
//
// What is done stays done either way: keyed steps go through the ledger, and unsafe ones are not made again.

// grouped says whether the run's case key is the name of a group, which may end in another.
func (r *runner) grouped() bool {
	return r.t.run.GroupBy == "incident" && r.t.run.EventID != ""
}

// renameable says whether the run can still go by another case key.
func (r *runner) renameable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.named && r.grouped()
}

// regrouped is the reason of a run that begins again.
func (r *runner) regrouped() string {
	return fmt.Sprintf("the case %q is part of another now; the run begins again for that one", r.t.run.CaseKey)
}

// names says whether a step of the journal may have written something under its key.
func names(s store.Step) bool {
	if s.Key == "" || s.State == store.StepSkipped {
		return false
	}
	return s.State != store.StepWaiting || s.Class == string(plugin.ClassUncertain)
}

// disown leaves to the run that this one replays what that one named after another case key.
func (r *runner) disown() error {
	if !r.grouped() {
		return nil
	}
	parent, err := r.e.o.Store.Run(r.t.ctx, r.t.run.Parent)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}
	if parent.CaseKey != r.t.run.CaseKey {
		maps.DeleteFunc(r.parent, func(_ string, s store.Step) bool { return s.Key != "" || s.Action == "" })
	}
	return nil
}

// end writes the last state of a run under this lease.
func (r *runner) end(a *store.Advance) error {
	write := func() error {
		return r.write("end a run", func(ctx context.Context) error { return r.e.o.Store.Advance(ctx, *a) })
	}
	err := write()
	if errors.Is(err, store.ErrRegrouped) {
		a.State, a.NotBefore, a.Output, a.Reason, a.Class = store.RunWaiting, time.Now(), nil, r.regrouped(), string(plugin.ClassConflict)
		r.mu.Lock()
		a.Current, a.Regroup, a.MergedKey, a.Steps = false, true, r.t.run.CaseKey, r.kept()
		r.mu.Unlock()
		err = write()
	}
	if a.Regroup && err == nil {
		r.e.log.Info("run begins again: its case is part of another now", slog.String("run", r.t.run.ID),
			slog.String("flow", r.t.run.Flow), slog.String("case_key", r.t.run.CaseKey))
	}
	return err
}

// kept are the steps that stay in the journal of a run that begins again: those that are never made twice. It is called
// under mu.
func (r *runner) kept() []store.Step {
	once := map[string]bool{}
	unrepeatable(r.fl.Steps, "", 0, once)
	var kept []store.Step
	for path, s := range r.journal {
		if once[turnNumber.ReplaceAllLiteralString(path, "[]")] && s.State != store.StepWaiting && s.State != store.StepSkipped {
			kept = append(kept, s)
		}
	}
	return kept
}

var turnNumber = regexp.MustCompile(`\[[0-9]+\]`)

// unrepeatable finds the paths of unsafe steps, without the numbers of the turns that they are in.
func unrepeatable(steps []*flow.Step, prefix string, depth int, once map[string]bool) {
	for _, s := range steps {
		path := prefix + s.ID
		switch {
		case s.Kind == flow.KindCall && depth < maxDepth:
			unrepeatable(s.Call.Steps, path+"/", depth+1, once)
		case s.Kind == flow.KindEach:
			unrepeatable(s.Body, path+"[]/", depth, once)
		case s.Kind == flow.KindUses:
			once[path] = !repeatable(s.Effect)
		}
	}
}

func repeatable(e connectorv1.Effect) bool {
	return e == connectorv1.Effect_EFFECT_READ || e == connectorv1.Effect_EFFECT_IDEMPOTENT || e == connectorv1.Effect_EFFECT_KEYED
}
