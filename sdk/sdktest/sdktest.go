// Package sdktest runs a connector in memory over the real protocol, for the tests of its author: every call goes
// through the same encoding, checks and limits as between two processes. Beyond the answers it watches for what no answer
// may do: an output that breaks the declared schema, and an error that shows a secret, fail the test.
//
// It is a package of its own so that connector binaries never link it.
package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jsonx "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	c       connectorv1.ConnectorClient
	about   *connectorv1.DescribeResponse
	outputs map[string]*jsonschema.Schema
	opts    Options
	calls   atomic.Uint64

	mu         sync.Mutex
	generation uint64
	secrets    []string
	state      []byte
}

// Open serves c in memory and opens a connection with config: a struct such as the connector's own configuration type
// (secrets are revealed, zero fields left out), a map, or JSON as []byte or json.RawMessage. Everything ends with the test.
func Open(tb testing.TB, c *sdk.Connector, config any, opts ...Options) *Harness {
	tb.Helper()
	h, err := Try(tb, c, config, opts...)
	if err != nil {
		tb.Fatalf("open a connection of %s: %v", c.Name(), err)
	}
	return h
}

// Try is Open for a configuration that may be refused. The error is an *sdk.Error.
func Try(tb testing.TB, c *sdk.Connector, config any, opts ...Options) (*Harness, error) {
	tb.Helper()
	h := &Harness{t: tb, outputs: map[string]*jsonschema.Schema{}}
	if len(opts) > 0 {
		h.opts = opts[0]
	}
	if h.opts.Name == "" {
		h.opts.Name = "test"
	}
	h.state = h.opts.State
	h.c = plugintest.Join(tb, sdk.Server(c))
	var err error
	if h.about, err = h.c.Describe(tb.Context(), &connectorv1.DescribeRequest{}); err != nil {
		tb.Fatalf("describe %s: %v", c.Name(), err)
	}
	for _, a := range h.about.GetActions() {
		h.outputs[a.GetName()] = compile(tb, a.GetName(), a.GetOutputSchema())
	}
	if err := h.Configure(config); err != nil {
		return nil, err
	}
	tb.Cleanup(func() {
		// A connection that has something to close closes it before the leak checks look.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := h.c.Configure(ctx, &connectorv1.ConfigureRequest{Removes: []string{h.opts.Name}}); err != nil {
			tb.Errorf("remove the connection: %v", err)
		}
	})
	return h, nil
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
	raw := encode(h.t, config, true)
	h.mu.Lock()
	h.generation++
	up := &connectorv1.ConnectionConfig{
		Connection: h.opts.Name, Generation: h.generation, Tenant: h.opts.Tenant, Config: raw, State: h.state,
	}
	h.secrets = secretsOf(h.t, h.about.GetConfigSchema(), raw)
	h.mu.Unlock()
	for trigger, ep := range h.opts.Hooks {
		up.Hooks = append(up.Hooks, &connectorv1.HookEndpoint{Trigger: trigger, Url: ep.URL, Secret: []byte(ep.Secret.Reveal())})
	}
	resp, err := h.c.Configure(h.t.Context(), &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{up}})
	if err != nil {
		return h.fail(err)
	}
	if st := plugin.UnmarshalStatus(resp.GetOutcomes()[0].GetStatus()); st != nil {
		return h.fail(st)
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

// Call is one call of an action, in full.
type Call struct {
	Action string
	// Input as a struct, map or JSON.
	Input any
	// Key is the idempotency key; by default each call has one of its own.
	Key       string
	Attempt   int
	DryRun    bool
	Resolve   bool
	Prior     any
	FirstSent time.Time
	// Effect is what the caller declares, for actions that leave it to it.
	Effect    sdk.Effect
	MaxRows   uint64
	MaxOutput uint64
}

// Result is what a call brought; on an error, what came before it.
type Result struct {
	Output   json.RawMessage
	Rows     []json.RawMessage
	Progress []string
}

// Call calls an action and decodes its output into out, unless out is nil. Rows become the output's property "rows", as
// they do in a flow. The error is an *sdk.Error as the host sees it.
func (h *Harness) Call(ctx context.Context, action string, input, out any) error {
	h.t.Helper()
	res, err := h.Do(ctx, Call{Action: action, Input: input})
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(res.Output, out); err != nil {
		return fmt.Errorf("decode the output of %s: %w", action, err)
	}
	return nil
}

// Do calls an action.
func (h *Harness) Do(ctx context.Context, c Call) (*Result, error) {
	h.t.Helper()
	p := h.context()
	p.IdempotencyKey, p.DryRun = c.Key, c.DryRun
	if p.GetIdempotencyKey() == "" {
		p.IdempotencyKey = "key of " + p.GetCallId()
	}
	p.Attempt = uint32(max(1, c.Attempt))
	if c.Resolve {
		p.Mode = connectorv1.Mode_MODE_RESOLVE
	}
	if c.Prior != nil {
		p.Prior = encode(h.t, c.Prior, false)
	}
	p.Effect = connectorv1.Effect(c.Effect)
	if !c.FirstSent.IsZero() {
		p.FirstSent = timestamppb.New(c.FirstSent)
	}
	if d, ok := ctx.Deadline(); ok {
		p.Deadline = timestamppb.New(d)
	}
	res := &Result{}
	stream, err := h.c.Invoke(ctx, &connectorv1.InvokeRequest{
		Call: p, Action: c.Action, Input: encode(h.t, c.Input, false), MaxRows: c.MaxRows, MaxOutputBytes: c.MaxOutput,
	})
	for err == nil {
		var m *connectorv1.InvokeResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		switch k := m.GetKind().(type) {
		case *connectorv1.InvokeResponse_Progress:
			res.Progress = append(res.Progress, k.Progress.GetMessage())
		case *connectorv1.InvokeResponse_Rows:
			res.Rows = append(res.Rows, lines(h.t, k.Rows)...)
		case *connectorv1.InvokeResponse_Result:
			res.Output = k.Result.GetOutput()
			h.keep(k.Result.GetConnectionState())
		}
	}
	if !errors.Is(err, io.EOF) {
		return res, h.fail(err)
	}
	h.finish(c.Action, res)
	return res, nil
}

// lines splits a chunk of rows.
func lines(tb testing.TB, r *connectorv1.Rows) []json.RawMessage {
	tb.Helper()
	var out []json.RawMessage
	for line := range strings.Lines(string(r.GetNdjson())) {
		if !json.Valid([]byte(line)) || !strings.HasSuffix(line, "\n") {
			tb.Errorf("a row is not one line of JSON: %.200q", line)
		}
		out = append(out, json.RawMessage(strings.TrimSuffix(line, "\n")))
	}
	if len(out) != int(r.GetCount()) {
		tb.Errorf("a chunk says that it has %d rows, but has %d", r.GetCount(), len(out))
	}
	return out
}

// finish puts the rows into the output and holds it against its schema.
func (h *Harness) finish(action string, res *Result) {
	h.t.Helper()
	for _, a := range h.about.GetActions() {
		if a.GetName() == action && a.GetRows() {
			all := map[string]json.RawMessage{}
			if err := json.Unmarshal(res.Output, &all); err != nil {
				h.t.Errorf("%s: output: %v", action, err)
			}
			rows := res.Rows
			if rows == nil {
				rows = []json.RawMessage{}
			}
			all["rows"] = encode(h.t, rows, false)
			res.Output = encode(h.t, all, false)
		}
	}
	h.watch("the output of "+action, string(res.Output))
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(res.Output)))
	if err != nil {
		h.t.Errorf("%s: the output is no JSON: %v", action, err)
		return
	}
	if s := h.outputs[action]; s != nil {
		if err := s.Validate(doc); err != nil {
			h.t.Errorf("%s: the output breaks its own schema: %v", action, err)
		}
	}
}

// Check runs the connector's probes.
func (h *Harness) Check(ctx context.Context) ([]sdk.Probe, error) {
	h.t.Helper()
	resp, err := h.c.Check(ctx, &connectorv1.CheckRequest{Call: h.context()})
	if err != nil {
		return nil, h.fail(err)
	}
	h.keep(resp.GetConnectionState())
	var out []sdk.Probe
	for _, p := range resp.GetProbes() {
		h.watch("probe "+p.GetName(), p.GetSummary(), p.GetRemedy())
		out = append(out, sdk.Probe{Name: p.GetName(), Status: sdk.ProbeStatus(p.GetStatus()), Summary: p.GetSummary(), Remedy: p.GetRemedy()})
	}
	return out, nil
}

// encode writes v as JSON. In a configuration, secrets are revealed, durations are text and zero fields are left out.
func encode(tb testing.TB, v any, config bool) []byte {
	tb.Helper()
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		return v
	case json.RawMessage:
		return v
	}
	if !config {
		b, err := json.Marshal(v)
		if err != nil {
			tb.Fatalf("write %T as JSON: %v", v, err)
		}
		return b
	}
	b, err := jsonx.Marshal(v, jsonx.OmitZeroStructFields(true), jsonx.WithMarshalers(jsonx.JoinMarshalers(
		jsonx.MarshalToFunc(func(e *jsontext.Encoder, s sdk.Secret) error { return e.WriteToken(jsontext.String(s.Reveal())) }),
		jsonx.MarshalToFunc(func(e *jsontext.Encoder, d time.Duration) error { return e.WriteToken(jsontext.String(d.String())) }),
	)))
	if err != nil {
		tb.Fatalf("write the configuration %T as JSON: %v", v, err)
	}
	return b
}

// secretsOf finds the values that the schema marks as secret.
func secretsOf(tb testing.TB, schema, config []byte) []string {
	tb.Helper()
	var s, c any
	if err := json.Unmarshal(schema, &s); err != nil {
		tb.Fatalf("config schema: %v", err)
	}
	if json.Unmarshal(config, &c) != nil {
		return nil // the connector will say so
	}
	var found []string
	var walk func(s, c any)
	walk = func(s, c any) {
		m, _ := s.(map[string]any)
		if text, ok := c.(string); ok && m["x-casewire-secret"] == true && len(text) >= 6 {
			found = append(found, text)
		}
		props, _ := m["properties"].(map[string]any)
		switch c := c.(type) {
		case map[string]any:
			for k, v := range c {
				if p, ok := props[k]; ok {
					walk(p, v)
				} else {
					walk(m["additionalProperties"], v)
				}
			}
		case []any:
			for _, v := range c {
				walk(m["items"], v)
			}
		}
	}
	walk(s, c)
	return found
}
