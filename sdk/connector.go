package sdk

import (
	"context"
	"time"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// Connector is a connector under construction, and what Serve serves.
type Connector struct {
	name, version, summary string
}

// Name returns the connector's name.
func (c *Connector) Name() string { return c.name }

// New makes a connector whose connections are T, opened from configuration C. Open must not reach the network. If T has
// a method Close() error, it is called when the connection is replaced or removed.
func New[C, T any](name, version, summary string, open func(ctx context.Context, cfg C, env Env) (T, error)) *Connector {
	panic("sdk.New: contract only")
}

// Egress declares hosts that the connector reaches; "{config.base_url}" stands for a configured value.
func (c *Connector) Egress(hosts ...string) *Connector { panic("contract only") }

// ActionOption changes how an action is declared.
type ActionOption func(*actionSpec)

type actionSpec struct{}

// ResolveWindow says how long the vendor's index may lag behind a keyed write. Zero, the default, says that a repeat
// with the same key is safe at once.
func ResolveWindow(d time.Duration) ActionOption { panic("contract only") }

// Example adds an example input to an action's documentation.
func Example(summary string, input any) ActionOption { panic("contract only") }

// Sunset says when the vendor ends what the action uses.
func Sunset(t time.Time) ActionOption { panic("contract only") }

// Action declares a named call: Action(c, "issue.get", "Get an issue.", (*Client).Get, sdk.Read). An authoring mistake
// panics with a sentence that says what to change.
func Action[T, In, Out any](c *Connector, name, summary string, fn func(T, context.Context, In) (Out, error), effect Effect, opts ...ActionOption) {
	panic("contract only")
}

// Rows declares an action that streams rows of type Row and ends with a summary Out. In a flow its output is Out's
// properties and "rows". Emit blocks while the host is busy; return its error.
func Rows[T, In, Row, Out any](c *Connector, name, summary string, fn func(T, context.Context, In, func(Row) error) (Out, error), effect Effect, opts ...ActionOption) {
	panic("contract only")
}

// AddTrigger declares what makes events.
func AddTrigger[T, Cur any](c *Connector, t Trigger[T, Cur]) { panic("contract only") }

// OnCheck declares the live probes of a connection.
func OnCheck[T any](c *Connector, fn func(T, context.Context) []Probe) { panic("contract only") }

// CallFrom returns the call that ctx belongs to; zero outside of one.
func CallFrom(ctx context.Context) Call { panic("contract only") }

// Progress reports how far a long action is. Total is zero when unknown.
func Progress(ctx context.Context, done, total uint64, message string) { panic("contract only") }

// Serve runs the connector as a go-plugin process until the host lets go of it, and exits the process.
func Serve(c *Connector) { panic("contract only") }

// Server returns the protocol server for c: what Serve serves, and what tests join to a client in memory.
func Server(c *Connector) connectorv1.ConnectorServer { panic("contract only") }
