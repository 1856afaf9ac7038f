package catalog

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Poll runs a trigger once from the cursor until it has caught up. Each batch is handed to on, and acknowledged when on
// returns nil: by then its events and its cursor are durable together. An event over the size limit is moved to the
// batch's rejected objects, so that one of them does not hold up all others. Errors are *plugin.Error; one of on is the
// cause of what Poll returns. What was acknowledged stays so whatever Poll returns.
func (c *Catalog) Poll(ctx context.Context, connection, trigger string, cursor []byte, on func(context.Context, *connectorv1.Batch) error) error {
	return c.consume(ctx, consumption{
		connection: connection, trigger: trigger, cursor: cursor, on: on, verb: "poll of ",
		mode: connectorv1.ConsumeMode_CONSUME_MODE_POLL,
	})
}

// consumption is what a poll or a stream asks for.
type consumption struct {
	verb, connection, trigger string
	mode                      connectorv1.ConsumeMode
	cursor                    []byte
	on                        func(context.Context, *connectorv1.Batch) error
	idle                      func(*plugin.Error) // may be nil
}

func (c *Catalog) consume(ctx context.Context, w consumption) error {
	for replayed := false; ; replayed = true {
		cn, in, e := c.acquire(ctx, w.connection)
		if e != nil {
			return e
		}
		p := poll{in: in, cn: cn, a: attempt{verb: w.verb + w.trigger, connection: w.connection, harmless: true}}
		e = p.run(ctx, w)
		if e != nil && e.Reason == plugin.ReasonConfigMismatch && !replayed && p.seq == 0 {
			e = in.sup.replay(ctx, in, cn)
			in.leave()
			if e == nil {
				continue
			}
			return e
		}
		in.leave()
		return asError(e)
	}
}

type poll struct {
	in  *instance
	cn  *conn
	a   attempt
	seq uint64 // of the last batch
}

func (p *poll) run(ctx context.Context, w consumption) *plugin.Error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := p.in.client.Consume(ctx)
	if err != nil {
		return p.in.failure(ctx, p.a, err)
	}
	p.a.sent = true
	open := &connectorv1.Open{Call: newCall(ctx, p.cn), Trigger: w.trigger, Mode: w.mode, Cursor: w.cursor}
	// A failed send says nothing; the reason comes with Recv.
	if err := s.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Open{Open: open}}); err != nil && !errors.Is(err, io.EOF) {
		return p.in.failure(ctx, p.a, err)
	}
	// A stream may be silent for as long as nothing happens. A poll that is has got stuck, in a process that is well: nobody
	// else would ever end it, and its source would stay silent for good.
	recv := s.Recv
	if limit := p.in.sup.cat.timing.Silence; w.mode == connectorv1.ConsumeMode_CONSUME_MODE_POLL {
		recv = func() (*connectorv1.ConsumeResponse, error) {
			quiet := time.AfterFunc(limit, func() { cancel(errSilent) })
			defer quiet.Stop()
			return s.Recv()
		}
	}
	var fault *plugin.Error
	for {
		m, err := recv()
		if err != nil {
			p.in.sup.cat.saveTrailer(p.cn, s.Trailer)
		}
		if errors.Is(err, io.EOF) {
			return fault
		}
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			return p.silent()
		}
		if err != nil {
			return p.in.failure(ctx, p.a, err)
		}
		switch k := m.GetKind().(type) {
		case *connectorv1.ConsumeResponse_Batch:
			fault = nil
			if e := p.take(ctx, k.Batch, w.on); e != nil {
				return e
			}
			ack := &connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Ack{Ack: &connectorv1.Ack{Through: p.seq}}}
			if err := s.Send(ack); err != nil && !errors.Is(err, io.EOF) {
				return p.in.failure(ctx, p.a, err)
			}
		case *connectorv1.ConsumeResponse_Idle:
			// A fault that the trigger waits out. If it ends without another sign of life, that is why.
			if fault = plugin.UnmarshalStatus(k.Idle.GetStatus()); fault != nil {
				p.in.sup.log.Warn("trigger waits out a fault", "connection", p.cn.spec.Name, "trigger", w.trigger, "error", fault)
			}
			if w.idle != nil {
				w.idle(fault)
			}
		}
	}
}

var errSilent = errors.New("it is silent")

// silent is the end of a poll that brought nothing for too long. What it brought before is kept, and the next poll goes on
// from there.
func (p *poll) silent() *plugin.Error {
	e := plugin.Errorf(codes.DeadlineExceeded, "%s: the connector %s has brought nothing for %v, no batch and no sign that it waits; the poll is given up and begins again",
		p.a.what(), p.in.sup.name, p.in.sup.cat.timing.Silence)
	e.Domain, e.Origin, e.SideEffect = plugin.Domain, plugin.OriginPlugin, plugin.EffectNone
	p.in.prod()
	return e
}

func (p *poll) take(ctx context.Context, b *connectorv1.Batch, on func(context.Context, *connectorv1.Batch) error) *plugin.Error {
	if b.GetSeq() != p.seq+1 {
		return p.in.lie(p.a, codes.Internal, "batch %d follows batch %d", b.GetSeq(), p.seq)
	}
	if n := len(b.GetCursor()); n > plugin.MaxCursor {
		return p.in.lie(p.a, codes.OutOfRange, "the cursor has %d bytes, more than %d", n, plugin.MaxCursor)
	}
	b.Events, b.Rejected = rejectOversize(b.GetEvents(), b.GetRejected())
	p.in.sup.cat.saveState(p.cn, b.GetConnectionState())
	if err := on(ctx, b); err != nil {
		return refusedBy(p.a, err)
	}
	p.seq = b.GetSeq()
	return nil
}

// rejectOversize moves events that are too large to the rejected objects. They are kept whole there.
func rejectOversize(events []*connectorv1.Event, rejected []*connectorv1.Rejected) ([]*connectorv1.Event, []*connectorv1.Rejected) {
	keep := events[:0]
	for _, e := range events {
		if len(e.GetData()) <= plugin.MaxEvent {
			keep = append(keep, e)
			continue
		}
		rejected = append(rejected, &connectorv1.Rejected{
			Source: e.GetSource(), Subject: e.GetSubject(), Reason: "event " + e.GetId() + " is over the size limit of 1 MiB", Raw: e.GetData(),
		})
	}
	return keep, rejected
}
