package sdk

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

type consumeStream = grpc.BidiStreamingServer[connectorv1.ConsumeRequest, connectorv1.ConsumeResponse]

const defaultWindow = 4

// Consume runs one trigger.
func (s *server) Consume(stream consumeStream) error {
	first, err := stream.Recv()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return s.seal(Invalid("", "the stream ended before Open"), nil, false)
		}
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return s.seal(Invalid("", "the first request of a stream must be Open"), nil, false)
	}
	t := s.triggers[open.GetTrigger()]
	if t == nil {
		return s.seal(unsupported("%s has no trigger %q", s.c.name, open.GetTrigger()), nil, false)
	}
	var run func(context.Context, *connection) error
	switch mode := open.GetMode(); {
	case mode == connectorv1.ConsumeMode_CONSUME_MODE_POLL && t.poll != nil:
		run = func(ctx context.Context, conn *connection) error { return s.poll(ctx, conn, t, t.poll, open, stream) }
	case mode == connectorv1.ConsumeMode_CONSUME_MODE_STREAM && t.stream != nil:
		run = func(ctx context.Context, conn *connection) error { return s.poll(ctx, conn, t, t.stream, open, stream) }
	case mode == connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE && t.resolve != nil:
		run = func(ctx context.Context, conn *connection) error { return s.resolve(ctx, conn, t, stream) }
	default:
		return s.seal(unsupported("trigger %q does not support %s", t.name, mode), nil, false)
	}
	ctx, conn, done, err := s.begin(stream.Context(), open.GetCall(), nil)
	if err != nil {
		return err
	}
	defer done()
	defer func() { conn.trail(stream.SetTrailer) }()
	return s.seal(run(ctx, conn), conn, false)
}

// errStopped ends a poll that the host does not want any more.
var errStopped error = &Error{
	Code: codes.Canceled, Message: "the host stopped the poll", Origin: plugin.OriginHost, SideEffect: plugin.EffectNone,
}

// poll is one run of Trigger.Poll or Trigger.Stream.
type poll struct {
	s      *server
	t      *triggerSpec
	conn   *connection
	stream consumeStream
	window uint64

	wire   sync.Mutex // one Send at a time
	ended  bool       // idle messages are over; under wire
	emit   sync.Mutex // authors may emit from several goroutines; pages go one by one
	sent   uint64     // seq of the last batch
	cursor []byte     // where everything up to here was sent
	over   bool       // the author's function has returned

	mu      sync.Mutex
	acked   uint64
	stopped bool
	deaf    bool          // the host sends nothing more
	changed chan struct{} // closed and replaced when one of the above changes
}

func (s *server) poll(ctx context.Context, conn *connection, t *triggerSpec, run pollFunc, open *connectorv1.Open, stream consumeStream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &poll{
		s: s, t: t, conn: conn, stream: stream, window: uint64(open.GetWindow()), cursor: open.GetCursor(),
		changed: make(chan struct{}),
	}
	if p.window == 0 {
		p.window = defaultWindow
	}
	go p.listen(cancel) // ends with the stream, which ends when this handler returns
	what, streams := t.name+" poll", open.GetMode() == connectorv1.ConsumeMode_CONSUME_MODE_STREAM
	if streams {
		what = t.name + " stream"
		go p.watch(ctx, cancel) // ends with ctx
	}
	if i, ok := ctx.Value(callKey{}).(*callInfo); ok {
		i.idle = p.idle
	}
	err := s.guard(what, func() error {
		return run(ctx, conn.value, open.GetCursor(), func(pg page) error { return p.page(ctx, pg) })
	})
	if cause := (*Error)(nil); ctx.Err() != nil && errors.As(context.Cause(ctx), &cause) {
		err = cause // what the author made of the end of the context says less
	}
	p.emit.Lock()
	p.over = true
	p.emit.Unlock()
	p.wire.Lock()
	p.ended = true
	p.wire.Unlock()
	if p.isStopped() {
		return nil
	}
	if err == nil && !streams {
		err = p.send(ctx, &connectorv1.Batch{Cursor: p.cursor, CaughtUp: true})
	}
	// What was sent is worth its acknowledgements, even when the poll failed after it.
	werr := p.settle(ctx)
	switch {
	case p.isStopped():
		return nil
	case err == nil:
		return werr
	default:
		return err
	}
}

// listen takes what the host says.
func (p *poll) listen(cancel context.CancelCauseFunc) {
	for {
		m, err := p.stream.Recv()
		p.mu.Lock()
		switch {
		case err != nil:
			p.deaf = true
		case m.GetAck() != nil:
			p.acked = max(p.acked, m.GetAck().GetThrough())
		case m.GetStop() != nil:
			p.stopped = true
			cancel(nil)
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// watch ends a stream, which would go on for ever, when its connection or the process is about to end.
func (p *poll) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-p.conn.gone:
		cancel(mismatch("connection %q was replaced or removed", p.conn.name))
	case <-p.s.work.draining:
		cancel(drainingError())
	case <-ctx.Done():
	}
}

// idle says that there is nothing to send. It does not wait for acknowledgements.
func (p *poll) idle(next time.Duration, fault error) error {
	m := &connectorv1.Idle{}
	if next > 0 {
		m.Next = durationpb.New(next)
	}
	if fault != nil {
		m.Status = plugin.MarshalStatus(p.s.seal(fault, p.conn, false))
	}
	p.wire.Lock()
	defer p.wire.Unlock()
	if p.ended || p.isStopped() {
		return errStopped
	}
	return p.stream.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Idle{Idle: m}})
}

func (p *poll) isStopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// until waits for at most pending batches without acknowledgement.
func (p *poll) until(ctx context.Context, pending uint64) error {
	for {
		p.mu.Lock()
		open, changed, stopped, deaf := p.sent-min(p.sent, p.acked), p.changed, p.stopped, p.deaf
		p.mu.Unlock()
		switch {
		case stopped:
			return errStopped
		case open <= pending:
			return nil
		case deaf:
			return errStopped // no acknowledgement will come
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle waits until everything is acknowledged, or nobody will.
func (p *poll) settle(ctx context.Context) error {
	if err := p.until(ctx, 0); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

// page sends one page, in several batches if it is too large for one. Only the last of them moves the cursor.
func (p *poll) page(ctx context.Context, pg page) error {
	p.emit.Lock()
	defer p.emit.Unlock()
	if p.over {
		return bug("%s: a page was emitted after the poll had returned", p.t.name)
	}
	events, rejected, _ := convert(pg.events, pg.rejected)
	b, size := &connectorv1.Batch{}, 0
	room := func(n int) error {
		if size += n + 8; size <= maxBatch || len(b.Events)+len(b.Rejected) == 0 {
			return nil
		}
		b.Cursor = p.cursor
		err := p.send(ctx, b)
		b, size = &connectorv1.Batch{}, n+8
		return err
	}
	for _, e := range events {
		if err := room(proto.Size(e)); err != nil {
			return err
		}
		b.Events = append(b.Events, e)
	}
	for _, r := range rejected {
		if err := room(proto.Size(r)); err != nil {
			return err
		}
		b.Rejected = append(b.Rejected, r)
	}
	b.Cursor, p.cursor = pg.cursor, pg.cursor
	if err := p.send(ctx, b); err != nil {
		return err
	}
	select {
	case <-p.s.work.draining:
		return drainingError() // this page is on its way; the next one can wait for the next process
	default:
		return nil
	}
}

// maxBatch leaves room in a message for the cursor and for state.
const maxBatch = 2 << 20

func (p *poll) send(ctx context.Context, b *connectorv1.Batch) error {
	if err := p.until(ctx, p.window-1); err != nil {
		return err
	}
	b.ConnectionState = p.conn.takeState()
	p.mu.Lock()
	p.sent++
	b.Seq = p.sent
	p.mu.Unlock()
	p.wire.Lock()
	err := p.stream.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Batch{Batch: b}})
	p.wire.Unlock()
	if err != nil && b.ConnectionState != nil {
		p.conn.keepState(b.ConnectionState)
	}
	return err
}
