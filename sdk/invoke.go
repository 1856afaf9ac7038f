package sdk

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Invoke runs one action.
func (s *server) Invoke(req *connectorv1.InvokeRequest, stream grpc.ServerStreamingServer[connectorv1.InvokeResponse]) error {
	a := s.actions[req.GetAction()]
	if a == nil {
		return s.seal(unsupported("%s has no action %q", s.c.name, req.GetAction()), nil, false)
	}
	p := req.GetCall()
	a = a.called(p)
	if err := admit(a, req); err != nil {
		return s.seal(err, nil, false)
	}
	within := stream.Context()
	if a.changes() && p.GetMode() != connectorv1.Mode_MODE_RESOLVE {
		var end func()
		within, end = linger(within, writeLinger)
		defer end()
	}
	w := &rowWriter{stream: stream, a: a, maxRows: req.GetMaxRows(), maxBytes: req.GetMaxOutputBytes()}
	ctx, conn, done, err := s.begin(within, p, w)
	if err != nil {
		return err
	}
	defer done()
	sent := false
	defer func() {
		if !sent {
			conn.trail(stream.SetTrailer)
		}
	}()
	var output []byte
	err = s.guard(a.name, func() error {
		defer w.close()
		var err error
		output, err = a.run(ctx, conn.value, req.GetInput(), w)
		return err
	})
	if err == nil && req.GetMaxOutputBytes() > 0 && uint64(len(output)) > req.GetMaxOutputBytes() {
		err = a.afterEffect(tooLarge("%s: the output has %d bytes; the caller takes %d", a.name, len(output), req.GetMaxOutputBytes()))
	}
	if err != nil {
		changes := a.changes() && !p.GetDryRun() && p.GetMode() != connectorv1.Mode_MODE_RESOLVE
		return s.seal(err, conn, changes)
	}
	state := conn.takeState()
	err = stream.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{
		Result: &connectorv1.Result{Output: output, ConnectionState: state},
	}})
	if sent = err == nil; !sent && state != nil {
		conn.keepState(state)
	}
	return err
}

// writeLinger is how long a write that has begun may go on after its caller is gone. A host that dies in the middle of a
// write leaves fewer writes behind whose outcome nobody knows.
const writeLinger = 900 * time.Millisecond

// linger is ctx, except that it ends d after ctx does.
func linger(ctx context.Context, d time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(longer, func() { t.Stop() })
	})
	return longer, func() {
		stop()
		cancel(context.Canceled)
	}
}

// admit refuses what the action must not see.
func admit(a *actionSpec, req *connectorv1.InvokeRequest) *Error {
	p := req.GetCall()
	resolve := p.GetMode() == connectorv1.Mode_MODE_RESOLVE
	switch {
	case len(req.GetInput()) > plugin.MaxInput:
		e := tooLarge("%s: the input has %d bytes, more than the limit of %d", a.name, len(req.GetInput()), plugin.MaxInput)
		e.Origin = plugin.OriginInput
		return e
	case p.GetMode() > connectorv1.Mode_MODE_RESOLVE:
		return unsupported("%s: mode %d is unknown to this connector", a.name, p.GetMode())
	case resolve && a.effect != Keyed:
		return Invalid("", "%s is not a keyed action: there is nothing to resolve", a.name)
	case a.effect == Keyed && p.GetIdempotencyKey() == "":
		return Invalid("", "%s is a keyed action and needs an idempotency key", a.name)
	case p.GetDryRun() && a.changes() && !a.dryRuns:
		return unsupported("%s cannot be tried without effect (dry run)", a.name)
	}
	return nil
}
