package catalog

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Resolve looks hints up and returns one outcome for each, in order. An outcome that did not come carries a status that
// says why. Streams are kept open between calls. Without a deadline Resolve gives up after a minute. An error means that
// nothing was answered; it is a *plugin.Error.
func (c *Catalog) Resolve(ctx context.Context, connection, trigger string, hints []*connectorv1.Hint) ([]*connectorv1.HintOutcome, error) {
	if len(hints) == 0 {
		return nil, nil
	}
	for _, h := range hints {
		if n := len(h.GetData()); n > plugin.MaxHint {
			return nil, tooLarge("hint %q has %d bytes, more than %d", h.GetId(), n, plugin.MaxHint)
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timing.Resolve)
		defer cancel()
	}
	// A stream that ended between two calls, and a lost configuration, are worth one more attempt: looking up is harmless.
	for again := true; ; again = false {
		cn, in, e := c.acquire(ctx, connection)
		if e != nil {
			return nil, e
		}
		out, answered, e := in.resolveWatched(ctx, cn, trigger, hints)
		retry := again && e != nil && answered == 0 && ctx.Err() == nil
		if retry && e.Reason == plugin.ReasonConfigMismatch {
			if re := in.sup.replay(ctx, in, cn); re != nil {
				e, retry = re, false
			}
		} else {
			retry = retry && e.Reason == reasonStreamEnded
		}
		in.leave()
		switch {
		case retry:
			continue
		case e != nil && (answered == 0 || errors.Is(ctx.Err(), context.Canceled)):
			return nil, e
		}
		return out, nil
	}
}

// reasonStreamEnded marks a stream that the connector ended without an error. It does not leave this package.
const reasonStreamEnded = "STREAM_ENDED"

type resolverKey struct {
	connection string
	generation uint64
	trigger    string
}

// resolver is one long-lived stream on which hints are looked up.
type resolver struct {
	in     *instance
	cn     *conn
	key    resolverKey
	a      attempt
	cancel context.CancelFunc
	more   chan struct{} // there is something in queue
	dead   chan struct{} // closed when fault is set

	mu      sync.Mutex
	pending map[string][]slot   // by hint id
	queue   []*connectorv1.Hint // not sent yet
	fault   *plugin.Error
	leaving bool // no new hints; the stream is cancelled with the last outcome
}

// slot is where an outcome goes.
type slot struct {
	w *waiter
	i int
}

// waiter is one call of Resolve.
type waiter struct {
	outcomes []*connectorv1.HintOutcome // under the resolver's mu
	left     int                        // under the resolver's mu
	done     chan struct{}
}

func (in *instance) resolve(ctx context.Context, cn *conn, trigger string, hints []*connectorv1.Hint) ([]*connectorv1.HintOutcome, int, *plugin.Error) {
	r := in.resolver(cn, trigger)
	w := &waiter{outcomes: make([]*connectorv1.HintOutcome, len(hints)), left: len(hints), done: make(chan struct{})}
	if e := r.enlist(w, hints); e != nil {
		return nil, 0, e
	}
	select {
	case <-w.done:
	case <-r.dead:
	case <-ctx.Done():
	}
	return r.settle(ctx, w, hints)
}

// resolver returns the stream for a trigger, opening one if there is none.
func (in *instance) resolver(cn *conn, trigger string) *resolver {
	key := resolverKey{cn.spec.Name, cn.generation, trigger}
	in.resolving.Lock()
	defer in.resolving.Unlock()
	if r := in.resolvers[key]; r != nil {
		return r
	}
	if in.ended {
		// Whoever came in before the process ended comes too late: work that begins now would be waited for by nobody.
		r := &resolver{dead: make(chan struct{}), a: attempt{verb: "resolve " + trigger, connection: cn.spec.Name, harmless: true}}
		r.fault = hostError(codes.Unavailable, "%s: the connector has ended", r.a.what())
		r.fault.Reason = reasonStreamEnded
		close(r.dead)
		return r
	}
	ctx, cancel := context.WithCancel(in.ctx)
	r := &resolver{
		in: in, cn: cn, key: key, cancel: cancel, more: make(chan struct{}, 1), dead: make(chan struct{}), pending: map[string][]slot{},
		a: attempt{verb: "resolve " + trigger, connection: cn.spec.Name, harmless: true},
	}
	in.resolvers[key] = r
	call := newCall(ctx, cn)
	in.work.Go(func() { r.run(ctx, call) })
	return r
}

// run opens the stream and hands out what comes on it, until it ends.
func (r *resolver) run(ctx context.Context, call *connectorv1.CallContext) {
	defer r.cancel()
	s, err := r.in.client.Consume(ctx)
	if err == nil {
		r.a.sent = true
		open := &connectorv1.Open{Call: call, Trigger: r.key.trigger, Mode: connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE}
		err = s.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Open{Open: open}})
		if errors.Is(err, io.EOF) {
			err = nil // Recv has the reason
		}
	}
	if err == nil {
		// Sending is a goroutine of its own: a connector that does not read must not hold a caller past its deadline.
		r.in.work.Go(func() { r.send(ctx, s) })
		var m *connectorv1.ConsumeResponse
		for err == nil {
			if m, err = s.Recv(); err == nil {
				r.deliver(m.GetOutcome())
			}
		}
		r.in.sup.cat.saveTrailer(r.cn, s.Trailer)
	}
	var e *plugin.Error
	if errors.Is(err, io.EOF) {
		e = hostError(codes.Unavailable, "%s: the connector ended the stream without an answer", r.a.what())
		e.Reason = reasonStreamEnded
	} else {
		e = r.in.failure(ctx, r.a, err)
	}
	r.in.resolving.Lock()
	if r.in.resolvers[r.key] == r {
		delete(r.in.resolvers, r.key)
	}
	r.in.resolving.Unlock()
	r.mu.Lock()
	r.fault = e
	r.mu.Unlock()
	close(r.dead)
}

// enlist notes who waits for what, and queues the hints that are not being looked up already.
func (r *resolver) enlist(w *waiter, hints []*connectorv1.Hint) *plugin.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault != nil {
		return r.fault
	}
	if r.leaving {
		e := hostError(codes.Unavailable, "%s: the connection is being changed", r.a.what())
		e.Reason = reasonStreamEnded
		return e
	}
	for i, h := range hints {
		id := h.GetId()
		if len(r.pending[id]) == 0 {
			r.queue = append(r.queue, h)
		}
		r.pending[id] = append(r.pending[id], slot{w, i})
	}
	signal(r.more)
	return nil
}

// send sends what is queued, in messages of a bounded size, until the stream ends. What fails here shows at Recv.
func (r *resolver) send(ctx context.Context, s connectorv1.Connector_ConsumeClient) {
	for {
		hints := r.next()
		if len(hints) == 0 {
			select {
			case <-r.more:
				continue
			case <-ctx.Done():
				return
			}
		}
		m := &connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Resolve{Resolve: &connectorv1.Resolve{Hints: hints}}}
		if err := s.Send(m); err != nil {
			if !errors.Is(err, io.EOF) {
				r.cancel()
			}
			return
		}
	}
}

// next takes from the queue what fits into one message.
func (r *resolver) next() []*connectorv1.Hint {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, size := 0, 0
	for n < len(r.queue) && (n == 0 || size < plugin.MaxEvent) {
		size += len(r.queue[n].GetData()) + len(r.queue[n].GetId()) + 16
		n++
	}
	out := r.queue[:n:n]
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	return out
}

func (r *resolver) deliver(o *connectorv1.HintOutcome) {
	if o == nil {
		return
	}
	o.Events, o.Rejected = rejectOversize(o.GetEvents(), o.GetRejected())
	r.mu.Lock()
	defer r.mu.Unlock()
	slots := r.pending[o.GetId()]
	if len(slots) == 0 {
		r.in.sup.log.Debug("connector resolves a hint that nobody waits for", "connection", r.key.connection, "trigger", r.key.trigger)
		return
	}
	delete(r.pending, o.GetId())
	for _, s := range slots {
		s.w.outcomes[s.i] = o
		if s.w.left--; s.w.left == 0 {
			close(s.w.done)
		}
	}
	if r.leaving && len(r.pending) == 0 {
		r.cancel()
	}
}

// settle ends a wait: what did not come gets a status that says why.
func (r *resolver) settle(ctx context.Context, w *waiter, hints []*connectorv1.Hint) ([]*connectorv1.HintOutcome, int, *plugin.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.left == 0 {
		return w.outcomes, len(hints), nil
	}
	e := r.fault
	if e == nil {
		e = r.in.failure(ctx, attempt{verb: r.a.verb, connection: r.a.connection, sent: true, harmless: true}, ctx.Err())
	}
	st := plugin.MarshalStatus(e)
	for i, h := range hints {
		if w.outcomes[i] != nil {
			continue
		}
		w.outcomes[i] = &connectorv1.HintOutcome{Id: h.GetId(), Status: st}
		r.drop(h.GetId(), w)
	}
	return w.outcomes, len(hints) - w.left, e
}

// drop forgets that w waits for id; under mu.
func (r *resolver) drop(id string, w *waiter) {
	var keep []slot
	for _, s := range r.pending[id] {
		if s.w != w {
			keep = append(keep, s)
		}
	}
	if len(keep) > 0 {
		r.pending[id] = keep
		return
	}
	delete(r.pending, id)
	if r.leaving && len(r.pending) == 0 {
		r.cancel()
	}
}

// closeResolvers ends the streams that which picks, or all if it is nil, once what is asked on them has been answered.
func (in *instance) closeResolvers(which func(resolverKey) bool) {
	in.resolving.Lock()
	var out []*resolver
	for k, r := range in.resolvers {
		if which == nil || which(k) {
			out = append(out, r)
			delete(in.resolvers, k)
		}
	}
	in.resolving.Unlock()
	for _, r := range out {
		r.mu.Lock()
		r.leaving = true
		idle := len(r.pending) == 0
		r.mu.Unlock()
		if idle {
			r.cancel()
		}
	}
}
