// Package sdktest is the acceptance kit for the author of a connector. It runs the connector over the real protocol, in
// memory (Open) or as the real process (Binary): every call goes through the same encoding, checks and limits as under a
// host. Beyond the answers it watches for what no answer may do: an output that breaks the declared schema, and an error,
// an output or a log line that shows a secret, fail the test.
//
//   - Open, Try: a connector value with one connection. Call, Do, Poll, Stream, Hook, Resolve, Check speak to it.
//   - Binary: the same harness against a built program, in any language.
//   - Harness.Crash, Harness.CrashAt: the connector dies, at once or when it sends its nth message; the next call finds it
//     started again with the configuration and the state that the host had.
//   - Cassette: HTTP answers recorded once and replayed, for rest.Options.Transport.
//   - Golden: a value held against a JSON file; -sdktest.update writes it.
//   - Main: a TestMain that looks for goroutines that a connection left behind.
//
// # Time
//
// In memory the kit runs inside testing/synctest bubbles: open the harness inside the bubble, give rest a Transport that
// calls an http.Handler (HandlerTransport) instead of a socket, and an hour of Retry-After passes in no time.
//
// It is a package of its own so that connector binaries never link it.
package sdktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/plugintest"
	"github.com/casewire/casewire/sdk"
)

// Options of a connection. The zero value works.
type Options struct {
	// Name of the connection; default "test".
	Name   string
	Tenant string
	Hooks  map[string]sdk.HookEndpoint
	State  []byte
}

// Harness is a connector with one open connection.
type Harness struct {
	t       testing.TB
	name    string // of the connector
	start   func(context.Context) (*process, error)
	about   *connectorv1.DescribeResponse
	outputs map[string]*jsonschema.Schema
	opts    Options
	calls   atomic.Uint64

	starting   sync.Mutex // one start or Configure at a time
	config     []byte     // as it was sent last; under starting
	configured bool       // under starting

	mu         sync.Mutex
	proc       *process // nil after a crash
	generation uint64
	secrets    []string
	state      []byte
	fuse       int // messages until a crash; zero means none
}

// Open serves c in memory and opens a connection with config: a struct such as the connector's own configuration type
// (secrets are revealed, zero fields left out), a map, or JSON as []byte or json.RawMessage. Everything ends with the test.
func Open(tb testing.TB, c *sdk.Connector, config any, opts ...Options) *Harness {
	tb.Helper()
	return memory(c).Open(tb, config, opts...)
}

// Try is Open for a configuration that may be refused. The error is an *sdk.Error.
func Try(tb testing.TB, c *sdk.Connector, config any, opts ...Options) (*Harness, error) {
	tb.Helper()
	return memory(c).Try(tb, config, opts...)
}

// memory serves a connector value; each start is a server without connections, as a new process is.
func memory(c *sdk.Connector) *Program {
	return &Program{name: c.Name(), start: func(tb testing.TB, _ func(string)) func(context.Context) (*process, error) {
		tb.Helper()
		return func(context.Context) (*process, error) {
			conn, end := plugintest.Start(tb, sdk.Server(c))
			return &process{conn: conn, kill: end, end: end}, nil
		}
	}}
}

// Program is a connector that a harness can start.
type Program struct {
	name  string
	start func(tb testing.TB, line func(string)) func(context.Context) (*process, error)
}

// Open starts the program and opens a connection; see the function Open.
func (p *Program) Open(tb testing.TB, config any, opts ...Options) *Harness {
	tb.Helper()
	h, err := p.Try(tb, config, opts...)
	if err != nil {
		tb.Fatalf("open a connection of %s: %v", p.name, err)
	}
	return h
}

// Try is Open for a configuration that may be refused. The error is an *sdk.Error.
func (p *Program) Try(tb testing.TB, config any, opts ...Options) (*Harness, error) {
	tb.Helper()
	h := &Harness{t: tb, name: p.name, outputs: map[string]*jsonschema.Schema{}}
	if len(opts) > 0 {
		h.opts = opts[0]
	}
	if h.opts.Name == "" {
		h.opts.Name = "test"
	}
	h.state = h.opts.State
	h.start = p.start(tb, func(line string) { h.watch("a log line", line) })
	c, err := h.client(tb.Context())
	if err != nil {
		tb.Fatalf("start %s: %v", p.name, err)
	}
	if h.about, err = c.Describe(tb.Context(), &connectorv1.DescribeRequest{}); err != nil {
		tb.Fatalf("describe %s: %v", p.name, err)
	}
	for _, a := range h.about.GetActions() {
		h.outputs[a.GetName()] = compile(tb, a.GetName(), a.GetOutputSchema())
	}
	if err := h.Configure(config); err != nil {
		return nil, err
	}
	return h, nil
}

// close removes the connection, so that one that has something to close closes it before leak checks look, and ends the
// process, unless it has crashed.
func (h *Harness) close(p *process) {
	if p.dead.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := connectorv1.NewConnectorClient(p.conn).Configure(ctx, &connectorv1.ConfigureRequest{Removes: []string{h.opts.Name}})
	if err != nil {
		h.t.Errorf("remove the connection: %v", err)
	}
	p.end()
}

func compile(tb testing.TB, name string, text []byte) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		tb.Fatalf("%s: output schema: %v", name, err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:"+name, doc); err != nil {
		tb.Fatalf("%s: output schema: %v", name, err)
	}
	s, err := c.Compile("mem:" + name)
	if err != nil {
		tb.Fatalf("%s: output schema: %v", name, err)
	}
	return s
}

// Configure replaces the connection by one with another configuration, as a host does on reload.
func (h *Harness) Configure(config any) error {
	h.t.Helper()
	c, err := h.client(h.t.Context())
	if err != nil {
		return h.fail(err)
	}
	raw := encode(h.t, config, true)
	h.starting.Lock()
	defer h.starting.Unlock()
	h.config = raw
	h.mu.Lock()
	h.secrets = secretsOf(h.t, h.about.GetConfigSchema(), raw)
	h.mu.Unlock()
	err = h.configure(h.t.Context(), c)
	h.configured = err == nil
	if err != nil {
		return h.fail(err)
	}
	return nil
}

// configure sends the connection; under starting.
func (h *Harness) configure(ctx context.Context, c connectorv1.ConnectorClient) error {
	h.mu.Lock()
	h.generation++
	up := &connectorv1.ConnectionConfig{
		Connection: h.opts.Name, Generation: h.generation, Tenant: h.opts.Tenant, Config: h.config, State: h.state,
	}
	h.mu.Unlock()
	for trigger, ep := range h.opts.Hooks {
		up.Hooks = append(up.Hooks, &connectorv1.HookEndpoint{Trigger: trigger, Url: ep.URL, Secret: []byte(ep.Secret.Reveal())})
	}
	resp, err := c.Configure(ctx, &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{up}})
	if err != nil {
		return err
	}
	if len(resp.GetOutcomes()) != 1 {
		return fmt.Errorf("configure of one connection had %d outcomes", len(resp.GetOutcomes()))
	}
	if st := plugin.UnmarshalStatus(resp.GetOutcomes()[0].GetStatus()); st != nil {
		return st
	}
	return nil
}

// Describe returns what the connector says about itself.
func (h *Harness) Describe() *connectorv1.DescribeResponse { return h.about }

// State returns the connection's state as the host would keep it.
func (h *Harness) State() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.state)
}

func (h *Harness) keep(state []byte) {
	if state != nil {
		h.mu.Lock()
		h.state = state
		h.mu.Unlock()
	}
}

// fail decodes an error and looks for secrets in it.
func (h *Harness) fail(err error) error {
	h.t.Helper()
	e := plugin.FromError(err)
	h.watch("an error", e.Error(), fmt.Sprint(e.Meta))
	return e
}

func (h *Harness) watch(what string, texts ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.secrets {
		for _, text := range texts {
			if strings.Contains(text, s) {
				h.t.Errorf("%s shows a secret of the configuration", what)
			}
		}
	}
}

func (h *Harness) context() *connectorv1.CallContext {
	n := h.calls.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	return &connectorv1.CallContext{
		Connection: h.opts.Name, Generation: h.generation, CallId: fmt.Sprintf("call-%d", n), Attempt: 1,
	}
}
