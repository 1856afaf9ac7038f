package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
)

// Retention says how long records are kept. Zero fields keep for ever. What runs or waits for a person stays however old
// it is, and so do the ledger of what was written and the identity of what was seen.
type Retention struct {
	Events      time.Duration // since they came
	Runs        time.Duration // since they ended; with their journals
	DeadLetters time.Duration // since somebody dealt with them
	// MaxSize in bytes makes the oldest events and runs go before their time. The data file does not get smaller; what was
	// removed makes room for what comes.
	MaxSize int64
}

const (
	pruneFirst = time.Minute
	pruneEvery = 15 * time.Minute
	// prunePause is between two batches: intake and runs come first.
	prunePause = 20 * time.Millisecond
	// pruneYoungest is what even a full store keeps: it is being looked at.
	pruneYoungest = time.Hour
)

// pruneLoop removes what is past its time, now and then.
func (h *Host) pruneLoop(ctx context.Context) {
	if h.opts.Retention == (Retention{}) {
		return
	}
	for wait := pruneFirst; pause(ctx, wait, nil); wait = pruneEvery {
		n, err := prune(ctx, h.store, h.opts.Retention, time.Now, func() bool { return pause(ctx, prunePause, nil) })
		switch {
		case ctx.Err() != nil:
		case err != nil:
			h.log.ErrorContext(ctx, "old records could not be removed; it is tried again", "error", err)
		case n.Events+n.Runs+n.DeadLetters > 0:
			h.log.InfoContext(ctx, "old records were removed", "events", n.Events, "runs", n.Runs, "dead_letters", n.DeadLetters, "bytes_used", n.Used)
		}
		if err == nil && h.opts.Retention.MaxSize > 0 && n.Used > h.opts.Retention.MaxSize {
			h.log.WarnContext(ctx, "the data is larger than retention.max_size, and nothing more may be removed",
				"bytes_used", n.Used, "max_size", h.opts.Retention.MaxSize)
		}
	}
}

// prune removes in small steps all that may go; next is asked between two of them.
func prune(ctx context.Context, st store.Store, r Retention, now func() time.Time, next func() bool) (all store.Pruned, err error) {
	add := func(n store.Pruned) bool {
		all.Events, all.Runs, all.DeadLetters, all.Used = all.Events+n.Events, all.Runs+n.Runs, all.DeadLetters+n.DeadLetters, n.Used
		return n.Events+n.Runs+n.DeadLetters > 0
	}
	before := func(d time.Duration) time.Time {
		if d == 0 {
			return time.Time{}
		}
		return now().Add(-d)
	}
	for more := true; more && (all == store.Pruned{} || next()); {
		n, err := st.Prune(ctx, store.Prune{EventsBefore: before(r.Events), RunsBefore: before(r.Runs), DeadLettersBefore: before(r.DeadLetters)})
		if err != nil {
			return all, err
		}
		more = add(n)
	}
	// The oldest go first, a few at a time, until there is room again.
	for r.MaxSize > 0 && all.Used > r.MaxSize && next() {
		youngest := before(pruneYoungest)
		n, err := st.Prune(ctx, store.Prune{EventsBefore: youngest, RunsBefore: youngest})
		if err != nil {
			return all, err
		}
		if !add(n) {
			break
		}
	}
	return all, nil
}

// eventKept says whether the event of a run is still there.
func eventKept(ctx context.Context, st store.Store, run store.Run) error {
	if run.EventID == "" {
		return nil
	}
	_, err := st.Event(ctx, run.EventSource, run.EventID)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: the event %s of run %s was removed when its time was over (retention.events)", ErrNotReplayable, run.EventID, run.ID)
	}
	return err
}
