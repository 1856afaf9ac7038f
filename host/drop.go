package host

import (
	"context"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
)

// DropDeadLetter marks a dead letter as dealt with, without doing anything again. It stays on record until retention
// removes it. One that does not exist, or that was dealt with before, is store.ErrNotFound.
func (h *Host) DropDeadLetter(ctx context.Context, id, reason string) (store.DeadLetter, error) {
	d, err := DropIn(ctx, h.store, id, reason)
	if err == nil {
		h.log.InfoContext(ctx, "an operator dropped a dead letter", "dead_letter", id, "kind", d.Kind, "subject", d.Subject, "reason", reason)
	}
	return d, err
}

// DropIn is DropDeadLetter on a store that no host works on.
func DropIn(ctx context.Context, st store.Store, id, reason string) (store.DeadLetter, error) {
	why := "dropped by an operator"
	if reason != "" {
		why += ": " + reason
	}
	if err := st.ResolveDeadLetter(ctx, id, why, time.Now()); err != nil {
		return store.DeadLetter{}, fmt.Errorf("dead letter %s: %w", id, err)
	}
	dls, err := st.ListDeadLetters(ctx, store.DeadLetterFilter{ID: id, All: true, Limit: 1})
	if err != nil || len(dls) == 0 {
		return store.DeadLetter{ID: id, Resolution: why}, err
	}
	return dls[0], nil
}
