package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/casewire/casewire/host/store"
)

// Cancel asks for the end of a run. One that waits or was not begun ends at once, as cancelled; one that this engine
// executes, before its next step. Where a write may have happened whose answer is not known, the run is parked instead, so
// that a person looks. It returns the state that the run came to; RunRunning means that it will come to an end by itself.
// Errors are the store's; ErrLeased means that another engine executes the run.
func (e *Engine) Cancel(ctx context.Context, c store.Cancel) (store.RunState, error) {
	for {
		state, err := e.o.Store.CancelRun(ctx, c)
		if !errors.Is(err, store.ErrLeased) {
			if err == nil {
				e.Wake() // the next of its line can go on
			}
			return state, err
		}
		e.mu.Lock()
		t := e.active[c.Run]
		if t != nil {
			t.unwanted.Store(&c)
		}
		e.mu.Unlock()
		if t != nil {
			return store.RunRunning, nil
		}
		// It is between this engine's hands and the store; or in those of another.
		run, err := e.o.Store.Run(ctx, c.Run)
		if err != nil {
			return "", err
		}
		if run.State == store.RunRunning && run.Owner != e.o.Owner {
			return "", store.ErrLeased
		}
		timer := time.NewTimer(5 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		}
	}
}

// cancelWaiting ends a run that was asked to end while it was executed, and came to wait.
func (e *Engine) cancelWaiting(c store.Cancel) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), e.o.Lease)
	defer cancel()
	c.Now = time.Now()
	if _, err := e.o.Store.CancelRun(ctx, c); err != nil && !errors.Is(err, store.ErrEnded) {
		e.log.Error("a run that was to be cancelled goes on", slog.String("run", c.Run), slog.Any("error", err))
	}
}
