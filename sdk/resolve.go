package sdk

import (
	"context"
	"sync"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// hintTimeout bounds one look-up: a stuck one must not take a place for ever.
const hintTimeout = 2 * time.Minute

// resolve serves a stream of hints. Each outcome goes as soon as it is there, in any order; at most ResolveLimit
// look-ups run at once, and while they do no more hints are read.
func (s *server) resolve(ctx context.Context, conn *connection, t *triggerSpec, stream consumeStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &resolver{s: s, t: t, conn: conn, stream: stream, hints: make(chan *connectorv1.Hint)}
	finish := sync.OnceFunc(func() {
		close(r.hints)
		r.running.Wait()
	})
	defer finish()
	requests := make(chan *connectorv1.ConsumeRequest)
	go func() { // ends with the stream or with this handler
		defer close(requests)
		for {
			m, err := stream.Recv()
			if err != nil {
				return // the end of the requests; a broken stream cancels ctx
			}
			select {
			case requests <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case m, more := <-requests:
			if !more || m.GetStop() != nil {
				finish()
				return ctx.Err()
			}
			for _, h := range m.GetResolve().GetHints() {
				if !r.handOut(ctx, h) {
					return context.Cause(ctx)
				}
			}
		case <-conn.gone:
			finish()
			return mismatch("connection %q was replaced or removed", conn.name)
		case <-s.work.draining:
			finish()
			return drainingError()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type resolver struct {
	s       *server
	t       *triggerSpec
	conn    *connection
	stream  consumeStream
	hints   chan *connectorv1.Hint
	workers int
	running sync.WaitGroup
	mu      sync.Mutex // one Send at a time
}

// handOut gives a hint to a worker, a new one if all are busy and there may be more. Workers stay for the stream's life:
// their stacks have grown to what a look-up needs, which costs more than the look-up's own work. False means that ctx is
// over.
func (r *resolver) handOut(ctx context.Context, h *connectorv1.Hint) bool {
	select {
	case r.hints <- h:
		return true
	default:
	}
	if r.workers < r.t.resolveLimit {
		r.workers++
		r.running.Go(func() {
			for h := range r.hints {
				r.one(ctx, h)
			}
		})
	}
	select {
	case r.hints <- h:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *resolver) one(ctx context.Context, h *connectorv1.Hint) {
	out := r.look(ctx, h)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.stream.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Outcome{Outcome: out}}); err != nil {
		r.s.log.Debug("hint outcome not sent", "trigger", r.t.name, "error", err)
	}
}

func (r *resolver) look(ctx context.Context, h *connectorv1.Hint) *connectorv1.HintOutcome {
	ctx, cancel := context.WithTimeout(ctx, hintTimeout)
	defer cancel()
	out := &connectorv1.HintOutcome{Id: h.GetId()}
	var found Found
	err := r.s.guard(r.t.name+" resolve", func() error {
		if len(h.GetData()) > plugin.MaxHint {
			return tooLarge("%s: hint %q has %d bytes, more than the limit of %d", r.t.name, h.GetId(), len(h.GetData()), plugin.MaxHint)
		}
		var err error
		found, err = r.t.resolve(ctx, r.conn.value, Hint{ID: h.GetId(), Data: h.GetData(), Attempt: int(h.GetAttempt())})
		return err
	})
	if err == nil {
		var size int
		out.Events, out.Rejected, size = convert(found.Events, found.Rejected)
		out.PollNow = found.PollNow
		if size <= maxAnswer {
			return out
		}
		err = tooLarge("%s: hint %q became %d bytes of events, more than the limit of %d", r.t.name, h.GetId(), size, maxAnswer)
	}
	return &connectorv1.HintOutcome{Id: h.GetId(), Status: plugin.MarshalStatus(r.s.seal(err, r.conn, false)), PollNow: found.PollNow}
}
