package host

import (
	"context"
	"encoding/json"
	"time"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/engine"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// caller lets the engine call actions through the catalog.
type caller struct{ catalog *catalog.Catalog }

var _ engine.Caller = caller{}

func (c caller) Call(ctx context.Context, call engine.Call) (json.RawMessage, error) {
	return c.catalog.Invoke(ctx, catalog.Invocation{
		Connection: call.Connection, Action: call.Action, Input: call.Input, ID: call.ID, Key: call.Key,
		Attempt: call.Attempt, Resolve: call.Resolve, Prior: call.Prior, FirstSent: call.FirstSent, Effect: call.Effect,
	}, nil)
}

// Invocation is a call from outside of any flow.
type Invocation struct {
	Connection, Action string
	Input              json.RawMessage
	// Key is required for keyed actions. Calls from outside are not in the ledger: the caller decides about repeats.
	Key     string
	Effect  connectorv1.Effect // for actions that leave it to their caller; unspecified: the action's own
	Timeout time.Duration      // default 60 s
	// OnEvent, if not nil, is handed every Progress, Rows and Blob as it comes, and its error ends the call. Rows and files
	// are then not gathered in the output. The bytes of rows are its until it returns; who keeps them clones them.
	OnEvent func(*connectorv1.InvokeResponse) error
}

// Invoke calls one action. Rows are gathered into the output's property "rows", files into "blobs", where the data of
// those up to 256 KiB is in place. The error is a *plugin.Error.
func (h *Host) Invoke(ctx context.Context, in Invocation) (json.RawMessage, error) {
	if in.Timeout <= 0 {
		in.Timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, in.Timeout)
	defer cancel()
	began := time.Now()
	out, err := h.catalog.Invoke(ctx, catalog.Invocation{
		Connection: in.Connection, Action: in.Action, Input: in.Input, Key: in.Key, Effect: in.Effect, Attempt: 1,
	}, in.OnEvent)
	h.heard(in.Connection, in.Action, err, began)
	return out, err
}

// LiftQuarantine lets a connector that is quarantined, or waits after a crash, start at once, and forgets which inputs
// are held to be the cause of crashes: somebody has mended it. It says whether there is such a connector.
func (h *Host) LiftQuarantine(connector string) bool { return h.catalog.Lift(connector) }

// Check runs the live probes of a connection.
func (h *Host) Check(ctx context.Context, connection string) ([]*connectorv1.Probe, error) {
	found, err := h.catalog.Check(ctx, connection)
	if err == nil {
		h.probes.set(connection, found, time.Now())
	}
	return found, err
}
