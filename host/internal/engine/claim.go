package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/host/store"
)

// tick is how often the store is asked although nothing said that it should be: another host may have put work there.
const tick = time.Second

// task is a run under this engine's lease.
type task struct {
	run    store.Run
	lease  store.Lease
	ctx    context.Context //nolint:containedctx // lives as long as the lease
	cancel context.CancelCauseFunc
	until  time.Time // end of the lease; guarded by Engine.mu

	unwanted atomic.Pointer[store.Cancel] // somebody asked for its end
}

// claimRuns leases as many runs as there are free workers, whenever there may be any: at Wake, when a run lets go (it may
// have held back the next of its key), when the store says that one is due, and every tick.
func (e *Engine) claimRuns() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.drain:
			return
		case <-e.wake:
		case <-timer.C:
		}
		if e.draining() {
			return
		}
		timer.Reset(e.claimOnce())
	}
}

// claimOnce claims until nothing more is due or no worker is free, and says when to look again.
func (e *Engine) claimOnce() time.Duration {
	for {
		free := e.o.Workers - e.Active()
		if free <= 0 || e.draining() {
			return tick // a worker that gets free wakes the loop
		}
		now := time.Now()
		// Not cancelled by Stop: a claim that commits and is then ignored would block its runs for a whole lease.
		runs, err := e.o.Store.ClaimRuns(e.ctx, store.RunClaim{
			Owner: e.o.Owner, Limit: free, Now: now, LeaseUntil: now.Add(e.o.Lease),
		})
		if err != nil {
			e.log.Error("claim runs", slog.Any("error", err))
			return tick
		}
		if len(runs) > 0 {
			e.obs.RunsClaimed(len(runs))
			e.begin(runs, now.Add(e.o.Lease))
		}
		if len(runs) == free {
			return tick
		}
		due, err := e.o.Store.NextDue(e.ctx)
		switch {
		case err != nil:
			e.log.Error("ask when the next run is due", slog.Any("error", err))
			return tick
		case due.IsZero() || !due.After(now):
			// What was due already and could not be claimed is a hint, or held back by its key: no reason to spin.
			return tick
		}
		if wait := time.Until(due); wait > 0 {
			return min(wait, tick)
		}
	}
}

func (e *Engine) begin(runs []store.Run, until time.Time) {
	tasks := make([]*task, len(runs))
	for i := range runs {
		tasks[i] = e.newTask(runs[i], until)
	}
	e.busy.Add(int64(len(tasks)))
	e.mu.Lock()
	for _, t := range tasks {
		e.active[t.run.ID] = t
	}
	e.mu.Unlock()
	for _, t := range tasks {
		e.work <- t // never blocks: no more tasks than workers, and room for all of them
	}
}

func (e *Engine) newTask(run store.Run, until time.Time) *task {
	ctx, cancel := context.WithCancelCause(e.ctx)
	return &task{run: run, lease: store.Lease{Run: run.ID, Fence: run.Fence}, ctx: ctx, cancel: cancel, until: until}
}

func (e *Engine) finished(t *task, waits bool) {
	t.cancel(nil)
	e.mu.Lock()
	if e.active[t.run.ID] == t {
		delete(e.active, t.run.ID)
	}
	e.mu.Unlock()
	if c := t.unwanted.Load(); c != nil && waits {
		e.cancelWaiting(*c)
	}
	e.busy.Add(-1)
	e.Wake()
}

// holds says whether the lease is still good for now.
func (e *Engine) holds(t *task) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Now().Before(t.until)
}

// renewLeases prolongs every lease at a third of its life. A run whose lease is lost, or may be because the store could
// not be asked in time, is cancelled at once: somebody else may be working on it.
func (e *Engine) renewLeases() {
	every := e.o.Lease / 3
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-timer.C:
		}
		if err := e.renewOnce(); err != nil && e.ctx.Err() == nil {
			e.log.Error("renew the leases of runs", slog.Any("error", err))
			timer.Reset(e.o.Lease / 12)
			continue
		}
		timer.Reset(every)
	}
}

func (e *Engine) renewOnce() error {
	e.mu.Lock()
	tasks := make([]*task, 0, len(e.active))
	leases := make([]store.Lease, 0, len(e.active))
	for _, t := range e.active {
		tasks, leases = append(tasks, t), append(leases, t.lease)
	}
	e.mu.Unlock()
	if len(leases) == 0 {
		return nil
	}
	until := time.Now().Add(e.o.Lease)
	ctx, cancel := context.WithTimeout(e.ctx, e.o.Lease/6)
	defer cancel()
	lost, err := e.o.Store.RenewRuns(ctx, e.o.Owner, leases, until)

	gone := make(map[string]bool, len(lost))
	for _, id := range lost {
		gone[id] = true
	}
	margin := e.o.Lease / 6 // past it, there may be no second chance to renew in time
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range tasks {
		switch {
		case e.active[t.run.ID] != t: // let go meanwhile
		case gone[t.run.ID], errors.Is(err, store.ErrFenced):
			t.cancel(errLost)
		case err == nil:
			t.until = until
		case time.Until(t.until) <= margin:
			t.cancel(errLost)
		}
	}
	return err
}
