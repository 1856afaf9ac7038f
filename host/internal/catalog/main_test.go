package catalog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// What flows are checked against.
var _ flow.Catalog = (*catalog.Catalog)(nil)

// The process's own streams: go-plugin puts others into os.Stdout and os.Stderr.
var realStdout, realStderr = os.Stdout, os.Stderr

// The test binary plays connectors too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "connector" {
		plugin.Serve(newFake(os.Args[2]), plugin.ServeOptions{})
	}
	if len(os.Args) > 2 && os.Args[1] == "foreign" {
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig: plugin.Handshake(), Plugins: plugin.Plugins(newFake(os.Args[2])), GRPCServer: goplugin.DefaultGRPCServer,
		})
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "raw" {
		fmt.Fprintln(os.Stderr, serveRaw(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "chaos" {
		serveChaos()
	}
	goleak.VerifyTestMain(m)
}

// fake is a connector that behaves as its configuration and its input say.
type fake struct {
	connectorv1.UnimplementedConnectorServer
	name string

	mu         sync.Mutex
	conns      map[string]*connectorv1.ConnectionConfig
	configured []string // "name@generation", in order
	invoked    []*connectorv1.InvokeRequest
	streams    int // Consume streams opened
	describe   func(*connectorv1.DescribeResponse)
	configure  func(context.Context) error
	invoke     func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error
	consume    func(*connectorv1.Open, connectorv1.Connector_ConsumeServer) error
	webhook    func(context.Context, *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error)
	drained    bool
}

func newFake(name string) *fake {
	return &fake{name: name, conns: map[string]*connectorv1.ConnectionConfig{}}
}

func (f *fake) Describe(context.Context, *connectorv1.DescribeRequest) (*connectorv1.DescribeResponse, error) {
	schema := []byte(`{"type":"object"}`)
	action := func(name string, effect connectorv1.Effect, rows bool) *connectorv1.Action {
		return &connectorv1.Action{Name: name, Effect: effect, InputSchema: schema, OutputSchema: schema, Rows: rows}
	}
	resp := &connectorv1.DescribeResponse{
		Name: f.name, Version: "1.2.3", ConfigSchema: schema,
		Actions: []*connectorv1.Action{
			action("echo", connectorv1.Effect_EFFECT_READ, false), action("rows", connectorv1.Effect_EFFECT_READ, true),
			action("do", connectorv1.Effect_EFFECT_UNSAFE, false),
		},
		Triggers: []*connectorv1.Trigger{{Name: "alerts", Polls: true, Resolves: true, Interval: durationpb.New(time.Minute)}},
	}
	if f.describe != nil {
		f.describe(resp)
	}
	return resp, nil
}

func (f *fake) Configure(ctx context.Context, r *connectorv1.ConfigureRequest) (*connectorv1.ConfigureResponse, error) {
	if f.configure != nil {
		if err := f.configure(ctx); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &connectorv1.ConfigureResponse{}
	for _, name := range r.GetRemoves() {
		delete(f.conns, name)
		f.configured = append(f.configured, "-"+name)
	}
	for _, u := range r.GetUpserts() {
		o := &connectorv1.ConnectionOutcome{Connection: u.GetConnection(), Generation: u.GetGeneration()}
		var cfg struct {
			Bad    string `json:"bad"`
			Hang   bool   `json:"hang"`
			Silent bool   `json:"silent"`
		}
		_ = json.Unmarshal(u.GetConfig(), &cfg)
		if cfg.Hang {
			f.mu.Unlock()
			<-ctx.Done()
			f.mu.Lock()
			return nil, ctx.Err()
		}
		if cfg.Silent {
			continue
		}
		if cfg.Bad != "" {
			o.Status = plugin.MarshalStatus(&plugin.Error{
				Code: codes.InvalidArgument, Message: "invalid configuration", Origin: plugin.OriginConfig, SideEffect: plugin.EffectNone,
				Violations: []plugin.Violation{{Field: "/bad", Description: cfg.Bad}},
			})
		} else {
			f.conns[u.GetConnection()] = u
		}
		f.configured = append(f.configured, u.GetConnection())
		resp.Outcomes = append(resp.Outcomes, o)
	}
	return resp, nil
}

// known is nil if the call names a connection at the generation that the connector has.
func (f *fake) known(c *connectorv1.CallContext) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.conns[c.GetConnection()]; have == nil || have.GetGeneration() != c.GetGeneration() {
		return &plugin.Error{Code: codes.FailedPrecondition, Message: "configure me", Reason: plugin.ReasonConfigMismatch, Origin: plugin.OriginPlugin, SideEffect: plugin.EffectNone}
	}
	return nil
}

// lose forgets every connection.
func (f *fake) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.conns)
}

func (f *fake) history() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.configured, " ")
}

func (f *fake) Check(_ context.Context, r *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	if err := f.known(r.GetCall()); err != nil {
		return nil, err
	}
	return &connectorv1.CheckResponse{
		Probes:          []*connectorv1.Probe{{Name: "token", Status: connectorv1.ProbeStatus_PROBE_STATUS_OK}},
		ConnectionState: []byte("checked"),
	}, nil
}

func (f *fake) Invoke(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
	if err := f.known(r.GetCall()); err != nil {
		return err
	}
	f.mu.Lock()
	f.invoked = append(f.invoked, r)
	f.mu.Unlock()
	if f.invoke != nil {
		return f.invoke(r, s)
	}
	out := r.GetInput()
	if r.GetAction() == "do" {
		var err error
		if out, err = misbehave(out, s); err != nil {
			return err
		}
	}
	return result(s, out)
}

func result(s connectorv1.Connector_InvokeServer, output []byte) error {
	return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{Result: &connectorv1.Result{Output: output}}})
}

func sendRows(s connectorv1.Connector_InvokeServer, ndjson string, count int) error {
	return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Rows{Rows: &connectorv1.Rows{Ndjson: []byte(ndjson), Count: uint32(count)}}})
}

// misbehave is for connectors in a process of their own.
func misbehave(how []byte, s connectorv1.Connector_InvokeServer) ([]byte, error) {
	if file, ok := strings.CutPrefix(strings.Trim(string(how), `"`), "read:"); ok {
		_, err := os.ReadFile(file)
		return fmt.Appendf(nil, "%q", map[bool]string{true: "ok", false: "denied"}[err == nil]), nil
	}
	switch string(how) {
	case `"moment"`: // until the host lets go, and a bit
		select {
		case <-s.Context().Done():
		case <-time.After(500 * time.Millisecond):
		}
	case `"panic"`:
		go func() { panic("out of coffee") }()
		<-s.Context().Done()
	case `"exit"`:
		fmt.Fprintln(realStderr, "licence expired")
		os.Exit(3)
	case `"wait"`:
		<-s.Context().Done()
	case `"hostile"`:
		fmt.Fprintln(realStderr, `{"@message": 1}`)
	case `"flood"`:
		_, _ = realStderr.Write(bytes.Repeat([]byte("stderr\n"), 100000))
		_, _ = realStdout.Write(bytes.Repeat([]byte("o"), 4<<20))
	case `"oversize"`:
		return bytes.Repeat([]byte(" "), plugin.MaxReceive), nil
	case `"handler"`:
		panic("no such luck")
	case `"hoard"`:
		var all [][]byte
		for len(all) < 1<<20 { // which no limit allows
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
		}
		return fmt.Append(nil, len(all)), nil
	case `"deluge"`: // 2 GiB, if anybody takes it
		row := append(append([]byte(`"`), bytes.Repeat([]byte("x"), 255<<10)...), "\"\n"...)
		for range 2 << 30 / len(row) {
			if err := sendRows(s, string(row), 1); err != nil {
				return nil, err
			}
		}
	case `"child"`:
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		go func() { _ = cmd.Wait() }()
		return fmt.Appendf(nil, "%d", cmd.Process.Pid), nil
	}
	return how, s.Context().Err()
}

func (f *fake) Consume(s connectorv1.Connector_ConsumeServer) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if err := f.known(first.GetOpen().GetCall()); err != nil {
		return err
	}
	f.mu.Lock()
	f.streams++
	f.mu.Unlock()
	return f.consume(first.GetOpen(), s)
}

func (f *fake) HandleWebhook(ctx context.Context, r *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
	if err := f.known(r.GetCall()); err != nil {
		return nil, err
	}
	return f.webhook(ctx, r)
}

func (f *fake) Drain(context.Context, *connectorv1.DrainRequest) (*connectorv1.DrainResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drained = true
	return &connectorv1.DrainResponse{}, nil
}

// newCatalog makes a catalog of in-memory connectors that stops with the test.
func newCatalog(tb testing.TB, opts catalog.Options, fakes ...*fake) *catalog.Catalog {
	tb.Helper()
	if opts.Connectors == nil {
		opts.Connectors = map[string]catalog.Source{}
	}
	for _, f := range fakes {
		opts.Connectors[f.name] = catalog.Source{Launcher: launch.InMemory{Server: f}}
	}
	c, err := catalog.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// configure demands that every connection is taken.
func configure(tb testing.TB, c *catalog.Catalog, conns ...catalog.Connection) []catalog.Outcome {
	tb.Helper()
	out, err := c.Configure(tb.Context(), conns)
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range out {
		if o.Err != nil {
			tb.Fatalf("connection %s: %v", o.Connection, o.Err)
		}
	}
	return out
}

func conn(name, connector, config string) catalog.Connection {
	return catalog.Connection{Name: name, Connector: connector, Config: json.RawMessage(config)}
}

// wantError demands a *plugin.Error and returns it.
func wantError(tb testing.TB, err error) *plugin.Error {
	tb.Helper()
	e, ok := err.(*plugin.Error) //nolint:errorlint // the promise is about the type itself
	if !ok || e == nil {
		tb.Fatalf("got %T %v, want a *plugin.Error", err, err)
	}
	return e
}

// awaitState returns once a connector is in a state.
func awaitState(tb testing.TB, c *catalog.Catalog, connector string, ok func(catalog.Status) bool) catalog.Status {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for {
		var last catalog.Status
		for _, s := range c.Status() {
			if s.Connector == connector {
				if last = s; ok(s) {
					return s
				}
			}
		}
		select {
		case <-tick.C:
		case <-end:
			tb.Fatalf("connector %s stays %+v", connector, last)
		}
	}
}

func is(state catalog.State) func(catalog.Status) bool {
	return func(s catalog.Status) bool { return s.State == state }
}
