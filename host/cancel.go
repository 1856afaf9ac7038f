package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
)

// ErrNotCancellable means that a run cannot be cancelled as it stands.
var ErrNotCancellable = errors.New("host: cannot be cancelled")

// Cancel ends a run that is not wanted. One that is ready or waits ends at once; one that is executed, before its next step:
// it is running still when Cancel returns. A run is parked instead of cancelled where a write of it may have happened.
func (h *Host) Cancel(ctx context.Context, run, reason string) (store.Run, error) {
	_, err := h.engine.Cancel(ctx, cancelOf(run, reason))
	r, err := cancelled(ctx, h.store, run, err)
	if err == nil {
		h.log.InfoContext(ctx, "an operator cancelled a run", "run", run, "state", r.State, "reason", reason)
	}
	return r, err
}

// CancelIn is Cancel on a store that no host works on.
func CancelIn(ctx context.Context, st store.Store, run, reason string) (store.Run, error) {
	_, err := st.CancelRun(ctx, cancelOf(run, reason))
	return cancelled(ctx, st, run, err)
}

func cancelOf(run, reason string) store.Cancel {
	why := "cancelled by an operator"
	if reason != "" {
		why += ": " + reason
	}
	return store.Cancel{
		Run: run, Now: time.Now(), Reason: why,
		Parked: why + "; but what it wrote last may have happened. `casewire runs show " + run + "` says what and where: look there, " +
			"and `casewire replay " + run + "` brings it to an end",
	}
}

func cancelled(ctx context.Context, st store.Store, run string, err error) (store.Run, error) {
	switch {
	case errors.Is(err, store.ErrEnded):
		r, rerr := st.Run(ctx, run)
		return r, errors.Join(fmt.Errorf("%w: run %s is %s already", ErrNotCancellable, run, r.State), rerr)
	case errors.Is(err, store.ErrLeased):
		return store.Run{}, fmt.Errorf("%w: another host works on run %s; ask that one", ErrNotCancellable, run)
	case err != nil:
		return store.Run{}, fmt.Errorf("run %s: %w", run, err)
	}
	return st.Run(ctx, run)
}
