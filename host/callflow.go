package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/casewire/casewire/host/internal/engine"
	"github.com/casewire/casewire/host/store"
)

// FlowCall asks for a run of a flow that no event started.
type FlowCall struct {
	Flow  string
	Input json.RawMessage // an object with the flow's inputs; empty for none
	// Key makes repeats one: a call with the key of an earlier one of the same flow gives that one's run. Empty: each call
	// is a run of its own.
	Key string
}

// What can be wrong with a FlowCall.
var (
	// ErrNoFlow means that there is no such flow.
	ErrNoFlow = errors.New("host: there is no such flow")
	// ErrBadCall means that the flow cannot be called so; the text says why.
	ErrBadCall = errors.New("host: the flow cannot be called so")
	// ErrKeyReused means that the key belongs to an earlier call with another input.
	ErrKeyReused = errors.New("host: the key was used for a call with another input")
)

// maxCallKey bounds a key.
const maxCallKey = 255

// CallFlow enqueues a run of a flow and returns it at once; known says that an earlier call with the same key had made it.
// The run is durable when CallFlow returns, and goes on whatever becomes of the caller.
func (h *Host) CallFlow(ctx context.Context, c FlowCall) (run store.Run, known bool, err error) {
	fl, ok := h.flows.current(c.Flow)
	if !ok {
		return store.Run{}, false, fmt.Errorf("%w: %s", ErrNoFlow, c.Flow)
	}
	if len(fl.Triggers) > 0 {
		return store.Run{}, false, fmt.Errorf("%w: %s answers a trigger and sees its event; flows with inputs can be called", ErrBadCall, c.Flow)
	}
	if fl.Disabled {
		return store.Run{}, false, fmt.Errorf("%w: %s is disabled (enabled: false in its file)", ErrBadCall, c.Flow)
	}
	if len(c.Key) > maxCallKey {
		return store.Run{}, false, fmt.Errorf("%w: the key has %d bytes, more than %d", ErrBadCall, len(c.Key), maxCallKey)
	}
	in := new(bytes.Buffer)
	if len(bytes.TrimSpace(c.Input)) == 0 {
		in.WriteString("{}")
	} else if err := json.Compact(in, c.Input); err != nil {
		return store.Run{}, false, fmt.Errorf("%w: the input is no JSON: %w", ErrBadCall, err)
	}
	if err := engine.CheckInput(fl, in.Bytes()); err != nil {
		return store.Run{}, false, fmt.Errorf("%w: %w", ErrBadCall, err)
	}
	next := store.NewRun{Flow: fl.Name, FlowVersion: fl.Version, Input: in.Bytes()}
	if c.Key != "" {
		next.ID = callID(fl.Name, c.Key)
		old, err := h.store.Run(ctx, next.ID)
		switch {
		case err == nil:
			return sameCall(old, next)
		case !errors.Is(err, store.ErrNotFound):
			return store.Run{}, false, err
		}
	}
	runs, err := h.store.AddRuns(ctx, []store.NewRun{next})
	if err != nil {
		return store.Run{}, false, fmt.Errorf("keep the call of flow %s: %w", fl.Name, err)
	}
	h.engine.Wake()
	if c.Key == "" {
		return runs[0], false, nil
	}
	run, _, err = sameCall(runs[0], next) // two at once: one of them made it
	return run, false, err
}

func sameCall(old store.Run, next store.NewRun) (store.Run, bool, error) {
	if !bytes.Equal(old.Input, next.Input) {
		return store.Run{}, false, fmt.Errorf("%w: it has run %s", ErrKeyReused, old.ID)
	}
	return old, true, nil
}

// callID is the id of the run of a call with a key.
func callID(flow, key string) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "call\x00%d\x00%s\x00%s", len(flow), flow, key)
	return "k" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:16]))
}

// AwaitRun waits until a run has ended, but no longer than d, and returns it as it then is.
func (h *Host) AwaitRun(ctx context.Context, id string, d time.Duration) (store.Run, error) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	// Another host may do the work, so that only the store knows. Most calls are short.
	pause := 2 * time.Millisecond
	next := time.NewTimer(pause)
	defer next.Stop()
	for {
		run, err := h.store.Run(ctx, id)
		if err != nil || !run.State.Live() {
			return run, err
		}
		select {
		case <-ctx.Done():
			return run, nil // the run goes on
		case <-deadline.C:
			return run, nil
		case <-next.C:
			pause = min(pause*3/2, 100*time.Millisecond)
			next.Reset(pause)
		}
	}
}
