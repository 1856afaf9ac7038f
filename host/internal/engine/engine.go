// Package engine runs flows: it leases runs, executes their steps through connectors, journals what happened, and resumes
// after a crash without repeating a finished step. It has no HTTP, no YAML and no SQL, and takes its clock from time, so
// that all of it runs under testing/synctest.
package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
)

// Caller calls actions. Errors are *plugin.Error: FromError has been applied, and what carries no Failure (the connector
// or the transport died) has side effect unknown, or none if the call surely never left the host.
type Caller interface {
	Call(ctx context.Context, c Call) (json.RawMessage, error)
}

// Call is one attempt at one action.
type Call struct {
	Connection, Action string
	Input              json.RawMessage
	ID                 string // unique per attempt
	Key                string // idempotency key
	Attempt            int
	Resolve            bool            // find out only (MODE_RESOLVE)
	Prior              json.RawMessage // output of the last success with the same key
	FirstSent          time.Time
}

// Flows gives compiled flows by version.
type Flows interface {
	Flow(ctx context.Context, name, version string) (*flow.Flow, error)
}

// Options configure an engine. Store, Caller and Flows are required.
type Options struct {
	Store   store.Store
	Caller  Caller
	Flows   Flows
	Logger  *slog.Logger
	Owner   string        // unique per process; default random
	Workers int           // runs at once; default 64
	Lease   time.Duration // default 30 s; renewed at a third
	Timeout time.Duration // of one attempt of a step that sets none; default 60 s
}
