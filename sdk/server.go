package sdk

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk/internal/egress"
)

// server serves the protocol for one connector.
type server struct {
	connectorv1.UnimplementedConnectorServer

	c        *Connector
	log      *slog.Logger
	about    *connectorv1.DescribeResponse
	actions  map[string]*actionSpec
	triggers map[string]*triggerSpec
	conns    connections
	work     gate
}

// Server returns the protocol server for c: what Serve serves, and what tests join to a client in memory. Each call
// returns a server of its own, with no connections.
func Server(c *Connector) connectorv1.ConnectorServer { return newServer(c) }

func newServer(c *Connector) *server {
	if len(c.actions) == 0 && len(c.triggers) == 0 {
		mistake("%s declares neither actions nor triggers; add one with sdk.Action, sdk.Rows or sdk.AddTrigger", c.name)
	}
	s := &server{c: c, log: slog.Default(), actions: map[string]*actionSpec{}, triggers: map[string]*triggerSpec{}}
	for _, a := range c.actions {
		s.actions[a.name] = a
	}
	for _, t := range c.triggers {
		s.triggers[t.name] = t
	}
	s.about = describe(c)
	s.conns.byName = map[string]*connection{}
	s.work.draining = make(chan struct{})
	return s
}

// Describe says what the connector is.
func (s *server) Describe(context.Context, *connectorv1.DescribeRequest) (*connectorv1.DescribeResponse, error) {
	return s.about, nil
}

func describe(c *Connector) *connectorv1.DescribeResponse {
	d := &connectorv1.DescribeResponse{
		Name: c.name, Version: c.version, Summary: c.summary, ConfigSchema: c.config.Schema(), Egress: c.egress,
		Homepage: c.homepage, Licence: c.licence, Deprecated: c.deprecated, Sunset: stamp(c.sunset),
	}
	for _, a := range c.actions {
		p := &connectorv1.Action{
			Name: a.name, Summary: a.summary, Effect: connectorv1.Effect(a.effect), Rows: a.rows,
			InputSchema: a.input.Schema(), OutputSchema: a.output, EffectByCaller: a.byCaller,
			Blobs: a.blobs, Deprecated: a.deprecated, Sunset: stamp(a.sunset),
		}
		for _, r := range a.effectRules {
			p.EffectRules = append(p.EffectRules, &connectorv1.EffectRule{
				Property: r.Property, Values: r.Values, Effect: connectorv1.Effect(r.Effect),
			})
		}
		if a.window > 0 {
			p.ResolveWindow = durationpb.New(a.window)
		}
		for _, x := range a.examples {
			var b strings.Builder
			if err := writeJSON(&b, x.input); err != nil {
				mistake("%s: action %q: example %q: %v", c.name, a.name, x.summary, err)
			}
			p.Examples = append(p.Examples, &connectorv1.Example{Summary: x.summary, Input: []byte(b.String())})
		}
		d.Actions = append(d.Actions, p)
	}
	for _, t := range c.triggers {
		p := &connectorv1.Trigger{
			Name: t.name, Summary: t.summary, Emits: t.emits, Polls: t.poll != nil, Resolves: t.resolve != nil,
			Streams: t.stream != nil, Deprecated: t.deprecated, Sunset: stamp(t.sunset),
		}
		if t.poll != nil {
			p.Interval = durationpb.New(t.interval)
		}
		if t.hook != nil {
			p.Webhook = &connectorv1.WebhookRules{
				HandshakeQuery: t.rules.HandshakeQuery, MaxBody: uint32(t.rules.MaxBody), Methods: t.rules.Methods, Json: t.rules.JSON,
			}
		}
		d.Triggers = append(d.Triggers, p)
	}
	return d
}

// stamp is nil for the zero time.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// begin admits a call: its connection is held and its context carries the call, until done is called.
func (s *server) begin(ctx context.Context, p *connectorv1.CallContext, w *rowWriter) (context.Context, *connection, func(), error) {
	conn, err := s.conns.acquire(p)
	if err != nil {
		return nil, nil, nil, s.seal(err, nil, false)
	}
	var stop context.CancelFunc
	ctx = egress.With(context.WithValue(ctx, callKey{}, &callInfo{call: newCall(p, conn.tenant), w: w}), conn.egress)
	if d := p.GetDeadline(); d != nil && d.IsValid() {
		ctx, stop = context.WithDeadline(ctx, d.AsTime())
	} else {
		ctx, stop = context.WithCancel(ctx)
	}
	leave, err := s.work.enter(stop)
	if err != nil {
		stop()
		s.release(conn)
		return nil, nil, nil, s.seal(err, nil, false)
	}
	return ctx, conn, func() {
		leave()
		stop()
		s.release(conn)
	}, nil
}

// Check runs the live probes.
func (s *server) Check(ctx context.Context, req *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	if s.c.check == nil {
		return nil, s.seal(unsupported("%s has no checks", s.c.name), nil, false)
	}
	ctx, conn, done, err := s.begin(ctx, req.GetCall(), nil)
	if err != nil {
		return nil, err
	}
	defer done()
	var probes []Probe
	err = s.guard("check", func() error {
		probes = s.c.check(ctx, conn.value)
		return nil
	})
	if err != nil {
		conn.trail(unaryTrailer(ctx))
		return nil, s.seal(err, conn, false)
	}
	resp := &connectorv1.CheckResponse{ConnectionState: conn.takeState()}
	for _, p := range probes {
		out := &connectorv1.Probe{
			Name: p.Name, Status: connectorv1.ProbeStatus(p.Status), Summary: conn.redact(p.Summary), Remedy: conn.redact(p.Remedy),
		}
		if p.Status < ProbeOK || p.Status > ProbeSkipped {
			out.Status = connectorv1.ProbeStatus_PROBE_STATUS_FAILED
			out.Remedy = "The connector did not say how the probe ended; report it to its author."
		}
		if !p.Expires.IsZero() {
			out.Expires = timestamppb.New(p.Expires)
		}
		resp.Probes = append(resp.Probes, out)
	}
	return resp, nil
}

// HandleWebhook turns one inbound request into events and hints.
func (s *server) HandleWebhook(ctx context.Context, req *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
	t := s.triggers[req.GetTrigger()]
	if t == nil || t.hook == nil {
		return nil, s.seal(unsupported("%s has no trigger %q that takes webhooks", s.c.name, req.GetTrigger()), nil, false)
	}
	ctx, conn, done, err := s.begin(ctx, req.GetCall(), nil)
	if err != nil {
		return nil, err
	}
	defer done()
	defer func() { conn.trail(unaryTrailer(ctx)) }()
	in := &HookRequest{
		Method: req.GetMethod(), Path: req.GetPath(), Query: req.GetQuery(), Body: req.GetBody(),
		RemoteAddr: req.GetRemoteAddr(), Header: make(http.Header, len(req.GetHeaders())),
	}
	for k, v := range req.GetHeaders() {
		in.Header.Set(k, v)
	}
	var out *HookResponse
	err = s.guard(t.name+" webhook", func() error {
		var err error
		if out, err = t.hook(ctx, conn.value, in); err == nil && out == nil {
			return bug("%s: the webhook was answered with neither a response nor an error", t.name)
		}
		return err
	})
	if err == nil {
		var resp *connectorv1.HandleWebhookResponse
		if resp, err = hookResponse(t, out); err == nil {
			return resp, nil
		}
	}
	return nil, s.seal(err, conn, false)
}

func hookResponse(t *triggerSpec, out *HookResponse) (*connectorv1.HandleWebhookResponse, error) {
	resp := &connectorv1.HandleWebhookResponse{
		Status: uint32(max(0, out.status())), Body: out.Body, PollNow: out.PollNow,
	}
	for k := range out.Header {
		if resp.Headers == nil {
			resp.Headers = map[string]string{}
		}
		resp.Headers[k] = strings.Join(out.Header.Values(k), ", ")
	}
	for k, n := range out.Refused {
		if resp.Refused == nil {
			resp.Refused = map[string]uint32{}
		}
		resp.Refused[k] = uint32(max(0, n))
	}
	size := len(out.Body)
	for _, h := range out.Hints {
		switch {
		case t.resolve == nil:
			return nil, bug("%s: the webhook gave hints, but the trigger has no Resolve", t.name)
		case h.ID == "":
			return nil, bug("%s: the webhook gave a hint without an id", t.name)
		case len(h.Data) > plugin.MaxHint:
			return nil, tooLarge("%s: hint %q has %d bytes, more than the limit of %d", t.name, h.ID, len(h.Data), plugin.MaxHint)
		}
		resp.Hints = append(resp.Hints, &connectorv1.Hint{Id: h.ID, Data: h.Data, Attempt: uint32(max(0, h.Attempt))})
		size += len(h.ID) + len(h.Data) + 16
	}
	// A sender expects one answer, and there is no place for what was rejected: a broken event fails the request, so that
	// the sender keeps it.
	events, rejected, n := convert(out.Events, nil)
	if len(rejected) > 0 {
		return nil, bug("%s: the webhook made an event that breaks the rules: %s", t.name, rejected[0].GetReason())
	}
	if size += n; size > maxAnswer {
		return nil, tooLarge("%s: the webhook became %d bytes of events and hints, more than the limit of %d; give hints instead", t.name, size, maxAnswer)
	}
	resp.Events = events
	return resp, nil
}

// Drain refuses new work and waits for what is open.
func (s *server) Drain(ctx context.Context, req *connectorv1.DrainRequest) (*connectorv1.DrainResponse, error) {
	finished, cancelled := s.work.drain(ctx, max(0, req.GetGrace().AsDuration()))
	return &connectorv1.DrainResponse{Finished: uint32(finished), Cancelled: uint32(cancelled)}, nil
}

// maxAnswer leaves room in a message for what is not payload.
const maxAnswer = plugin.MaxSend - 64<<10

// cancelWait is how long Drain waits for calls that it has cancelled.
const cancelWait = time.Second

func unsupported(format string, args ...any) *Error {
	e := plugin.Errorf(codes.Unimplemented, format, args...)
	e.Origin, e.SideEffect = plugin.OriginHost, plugin.EffectNone
	return e
}

// bug is a fault of the connector itself.
func bug(format string, args ...any) *Error {
	e := plugin.Errorf(codes.Internal, format, args...)
	e.Origin, e.SideEffect = plugin.OriginPlugin, plugin.EffectNone
	return e
}

func tooLarge(format string, args ...any) *Error {
	e := plugin.Errorf(codes.OutOfRange, format, args...)
	e.Origin, e.SideEffect, e.Reason = plugin.OriginPlugin, plugin.EffectNone, plugin.ReasonTooLarge
	return e
}
