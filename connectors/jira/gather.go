package jira

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// Writes to one issue that wait at the same time become one request where that changes nobody's outcome: edits by
// coalesce.go, comments by joined.go. Jira takes a request as a whole or not at all: one that it refuses for what is in it
// is taken apart until everybody has the answer that is his. When an answer is lost, it is lost for all that were in it. A
// call that ends leaves; the request goes on for the others.

// maxTogether is the most writes in one request. It bounds what is to be taken apart when one of them is refused.
const maxTogether = 100

// gathering holds the writes of one kind that wait, by a key such as the id.
type gathering struct {
	choose func(waiting []*waitingWrite) (members, stay []*waitingWrite)
	body   func(members []*waitingWrite) any // of two or more
	divide func(members []*waitingWrite, e *sdk.Error) (a, b []*waitingWrite)

	mu     sync.Mutex
	queues map[string]*writeQueue // for as long as something is under way
	aloft  map[string]*flight     // by the ref of a write that must not be repeated
}

type writeQueue struct {
	waiting []*waitingWrite
	flight  *flight // nil while the first write, which waits for nobody, is under way
}

// waitingWrite is a write that has to wait.
type waitingWrite struct {
	ctx  context.Context //nolint:containedctx // of the call that waits, whose values go with the request
	r    *request
	done chan written // gets the outcome; holds one
	gone bool         // the call has ended meanwhile

	edit    *editParts
	comment *commentPart
}

// written is what became of a write.
type written struct {
	id       string // of what was made
	together int    // how many writes were in the request
	err      error
}

// flight is one request for several writes: until it is its turn, for all that wait; then for its members.
type flight struct {
	ctx     context.Context //nolint:containedctx // ends when nobody waits for the answer any more
	cancel  context.CancelFunc
	r       *request
	members []*waitingWrite
	empty   bool // nobody waits for it any more
	landed  chan struct{}
}

func newFlight(first *waitingWrite) *flight {
	f := &flight{landed: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(first.ctx))
	r := *first.r
	f.r = &r
	return f
}

// wait waits for the outcome of a write that was queued.
func (g *gathering) wait(ctx context.Context, c *Client, key string, w *waitingWrite) written {
	select {
	case out := <-w.done:
		return out
	case <-ctx.Done():
	}
	sent := g.leave(key, w)
	select {
	case out := <-w.done: // in the same moment
		return out
	default:
	}
	e := sdk.Unavailable("%s: not sent: the call ended while earlier writes to the issue were under way", w.r.what())
	if sent {
		e = c.unknown(w.r, "no answer before the call ended")
	}
	e.Code = codes.DeadlineExceeded
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Code = codes.Canceled
	}
	e.Err = ctx.Err()
	return written{err: e}
}

// drain sends what waits, until nothing does.
func (g *gathering) drain(c *Client, key string) {
	for f := g.next(key); f != nil; f = g.next(key) {
		f.r.pausing = func(wait time.Duration, err error) { g.shed(key, f, wait, err) }
		f.r.fill = func() error { return g.board(key, f) }
		id, err := g.send(c, f)
		if len(f.members) == 0 {
			g.refuse(key, f, err)
			continue
		}
		g.settle(c, key, f.members, id, err)
	}
}

func (g *gathering) send(c *Client, f *flight) (id string, err error) {
	defer g.land(f)
	if f.r.outcome != writes {
		return "", c.do(f.ctx, f.r, nil)
	}
	var made comment
	if err := c.do(f.ctx, f.r, &made); err != nil {
		return "", err
	}
	if !digits(made.ID) {
		return "", c.unknown(f.r, "Jira's answer names no comment")
	}
	return made.ID, nil
}

// lift notes what is under way; the caller holds the lock.
func (g *gathering) lift(f *flight) {
	for _, w := range f.members {
		if w.comment != nil {
			if g.aloft == nil {
				g.aloft = map[string]*flight{}
			}
			g.aloft[w.comment.ref] = f
		}
	}
}

func (g *gathering) land(f *flight) {
	f.cancel()
	g.mu.Lock()
	for _, w := range f.members {
		if w.comment != nil && g.aloft[w.comment.ref] == f {
			delete(g.aloft, w.comment.ref)
		}
	}
	g.mu.Unlock()
	close(f.landed)
}

// grounded waits until no request is under way that has ref in it. A call may end before its request does, which goes on
// for others: whoever looks for what it wrote must not look too early.
func (g *gathering) grounded(ctx context.Context, ref string) error {
	g.mu.Lock()
	f := g.aloft[ref]
	g.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case <-f.landed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle tells the members of a request its outcome. If it was refused for what was in it, they are sent again in parts.
func (g *gathering) settle(c *Client, key string, members []*waitingWrite, id string, err error) {
	var e *sdk.Error
	if len(members) == 1 || !errors.As(err, &e) || !refusesContent(e.HTTPStatus) {
		for _, w := range members {
			w.done <- written{id, len(members), err}
		}
		return
	}
	a, b := g.divide(members, e)
	for _, part := range [][]*waitingWrite{a, b} {
		if f := g.again(key, part); f != nil {
			id, err := g.send(c, f)
			g.settle(c, key, f.members, id, err)
		}
	}
}

// refusesContent says whether a status is about what a request holds, so that a part of it may be taken.
func refusesContent(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

func halves(members []*waitingWrite) (a, b []*waitingWrite) {
	return members[:len(members)/2], members[len(members)/2:]
}

// begin opens a key's queue, or queues w if it is open.
func (g *gathering) begin(key string, w *waitingWrite) (queued bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.queues[key] != nil {
		g.queues[key].waiting = append(g.queues[key].waiting, w)
		return true
	}
	if g.queues == nil {
		g.queues = map[string]*writeQueue{}
	}
	g.queues[key] = &writeQueue{}
	return false
}

// push queues w, and says whether it opened the queue: then the caller drains it.
func (g *gathering) push(key string, w *waitingWrite) (opened bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[key]
	if opened = q == nil; opened {
		if g.queues == nil {
			g.queues = map[string]*writeQueue{}
		}
		q = &writeQueue{}
		g.queues[key] = q
	}
	q.waiting = append(q.waiting, w)
	return opened
}

// open says whether writes wait under a key.
func (g *gathering) open(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queues[key] != nil
}

// waits says whether somebody is to be drained. If not, the queue is closed.
func (g *gathering) waits(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queues[key].waiting) > 0 {
		return true
	}
	delete(g.queues, key)
	return false
}

// next begins the flight of those that wait; nil closes the queue.
func (g *gathering) next(key string) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[key]
	if len(q.waiting) == 0 {
		delete(g.queues, key)
		return nil
	}
	q.flight = newFlight(q.waiting[0])
	return q.flight
}

// board fills a flight when it is its turn: with the write that has waited longest, and those that go together with it.
func (g *gathering) board(key string, f *flight) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[key]
	if len(f.members) > 0 { // it is sent once more, with another token
		return nil
	}
	if len(q.waiting) == 0 {
		return errNobody
	}
	f.members, q.waiting = g.choose(q.waiting)
	f.r.body = g.bodyOf(f.members)
	g.lift(f)
	return nil
}

func (g *gathering) bodyOf(members []*waitingWrite) any {
	if len(members) == 1 {
		return members[0].r.body
	}
	return g.body(members)
}

// again begins a flight of those members of an earlier one who still wait for an answer; nil if there are none.
func (g *gathering) again(key string, members []*waitingWrite) *flight {
	g.mu.Lock()
	defer g.mu.Unlock()
	members = slices.DeleteFunc(slices.Clone(members), func(w *waitingWrite) bool { return w.gone })
	if len(members) == 0 {
		return nil
	}
	f := newFlight(members[0])
	f.members, f.r.body = members, g.bodyOf(members)
	g.lift(f)
	g.queues[key].flight = f
	return f
}

// leave takes out a write whose call has ended, and says whether it was sent. A request for which nobody waits any more
// is ended, too.
func (g *gathering) leave(key string, w *waitingWrite) (sent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.gone = true
	q := g.queues[key]
	if q == nil { // answered in the same moment
		return true
	}
	i := slices.Index(q.waiting, w)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	if f := q.flight; f != nil {
		still := q.waiting
		if len(f.members) > 0 {
			still = f.members
		}
		if !slices.ContainsFunc(still, func(w *waitingWrite) bool { return !w.gone }) {
			f.empty = true
			f.cancel()
		}
	}
	return i < 0
}

// shed refuses those that wait and whose calls end before a pause does.
func (g *gathering) shed(key string, f *flight, pause time.Duration, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(f.members) > 0 {
		return
	}
	q := g.queues[key]
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waitingWrite) bool {
		end, ok := w.ctx.Deadline()
		short := ok && time.Until(end) < pause
		if short {
			w.done <- written{err: err}
		}
		return short
	})
	if len(q.waiting) == 0 {
		f.empty = true
		f.cancel()
	}
}

// refuse tells all that wait why nothing can be sent now.
func (g *gathering) refuse(key string, f *flight, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.empty {
		return // whoever waits now has come since
	}
	q := g.queues[key]
	for _, w := range q.waiting {
		w.done <- written{err: err}
	}
	q.waiting = nil
}

// errNobody says that nobody waits for a request any more.
var errNobody = errors.New("nobody waits for it any more")
