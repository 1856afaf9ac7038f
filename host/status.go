package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/store"
)

// Status is how the host fares.
type Status struct {
	Store      store.Stats      `json:"store"`
	Space      *Space           `json:"space,omitempty"` // nil: the store cannot tell
	Triggers   []TriggerStatus  `json:"triggers"`
	Connectors []catalog.Status `json:"connectors"`
	Reloads    Reloads          `json:"reloads"`
}

// Space is the room that the store has, in bytes. Below Needed nothing new is accepted.
type Space struct {
	Free   int64 `json:"free"`
	Needed int64 `json:"needed"`
}

// Status reads counts from the store and the state of every trigger and connector process.
func (h *Host) Status(ctx context.Context) (Status, error) {
	st, err := h.store.Stats(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Store: st, Connectors: h.catalog.Status(), Reloads: *h.reloads.Load()}
	if sp, ok := h.store.(store.Spacious); ok {
		if free, needed, ok := sp.Space(); ok {
			s.Space = &Space{Free: free, Needed: needed}
		}
	}
	h.imu.RLock()
	for _, in := range h.intakes {
		in.mu.Lock()
		t := in.status
		t.Refused = make(map[string]int, len(in.status.Refused))
		maps.Copy(t.Refused, in.status.Refused)
		in.mu.Unlock()
		s.Triggers = append(s.Triggers, t)
	}
	h.imu.RUnlock()
	slices.SortFunc(s.Triggers, func(a, b TriggerStatus) int {
		return strings.Compare(a.Connection+"/"+a.Trigger, b.Connection+"/"+b.Trigger)
	})
	return s, nil
}

// ErrNotReplayable means that there is nothing to do again.
var ErrNotReplayable = errors.New("host: cannot be replayed")

// Replay says what to run again.
type Replay struct {
	Run string
	// FromStep takes the results of earlier steps from the old run; empty begins at the start.
	FromStep string
	// Current uses the flow as it is now instead of the version that the run began with.
	Current bool
}

// Replay enqueues a new run for the same event. Keyed steps go through the ledger, so that what is done stays done.
func (h *Host) Replay(ctx context.Context, r Replay) (store.Run, error) {
	run, err := Requeue(ctx, h.store, r, func(name string) (string, bool) {
		fl, ok := h.flows.current(name)
		if !ok {
			return "", false
		}
		return fl.Version, true
	})
	if err == nil {
		h.engine.Wake()
	}
	return run, err
}

// Requeue is Replay on a store that no host works on. Current gives the version in force of a flow.
func Requeue(ctx context.Context, st store.Store, r Replay, current func(flow string) (version string, ok bool)) (store.Run, error) {
	old, err := st.Run(ctx, r.Run)
	if err != nil {
		return store.Run{}, fmt.Errorf("run %s: %w", r.Run, err)
	}
	if old.State.Live() {
		return store.Run{}, fmt.Errorf("%w: run %s is still %s", ErrNotReplayable, old.ID, old.State)
	}
	if err := eventKept(ctx, st, old); err != nil {
		return store.Run{}, err
	}
	next := old.NewRun
	next.ID, next.State, next.Reason, next.Parent, next.FromStep = "", "", "", old.ID, r.FromStep
	if r.Current {
		v, ok := current(old.Flow)
		if !ok {
			return store.Run{}, fmt.Errorf("%w: there is no flow %q now", ErrNotReplayable, old.Flow)
		}
		next.FlowVersion = v
	}
	runs, err := st.AddRuns(ctx, []store.NewRun{next})
	if err != nil {
		return store.Run{}, err
	}
	dls, err := st.ListDeadLetters(ctx, store.DeadLetterFilter{Run: old.ID})
	if err != nil {
		return store.Run{}, err
	}
	for _, dl := range dls {
		if err := st.ResolveDeadLetter(ctx, dl.ID, "replayed as "+runs[0].ID, runs[0].Created); err != nil {
			return store.Run{}, err
		}
	}
	return runs[0], nil
}
