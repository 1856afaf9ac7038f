package jira

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// Edits of one issue that wait at the same time become one request. The first goes at once; those that come while it is
// under way, or while Jira's limits make it wait, are gathered, and go together when it is their turn. So a hundred edits
// at once cost Jira two or three, and watchers as many mails.
//
// Only what cannot change anybody's outcome is put together: labels that nobody else in the request takes away, fields
// that nobody else sets to another value (of titles and descriptions, which are made to fit before, the last one counts),
// at most one comment and one set of properties. The rest waits for the next request. Jira takes an edit as a whole or not
// at all: one that it refuses for what is in it is taken apart until everybody has the answer that is his. When an answer
// is lost, it is lost for all that were in it; each of them may be repeated.

// maxTogether is the most edits in one request. It bounds what is to be taken apart when one of them is refused.
const maxTogether = 100

// edits are the queues of edits by the issue's id, for as long as one is under way. The zero value is ready.
type edits struct {
	mu     sync.Mutex
	queues map[string]*editQueue
}

type editQueue struct {
	waiting []*waitingEdit
	flight  *flight // nil while the first edit, which waits for nobody, is under way
}

// waitingEdit is an edit that found another one under way.
type waitingEdit struct {
	ctx   context.Context //nolint:containedctx // of the call that waits, whose values go with the request
	r     *request
	parts *editParts
	done  chan error // gets the outcome; holds one
	gone  bool       // the call has ended meanwhile
}

// flight is one request for several edits: until it is its turn, for all that wait; then for its members.
type flight struct {
	ctx     context.Context //nolint:containedctx // ends when nobody waits for the answer any more
	cancel  context.CancelFunc
	r       *request
	members []*waitingEdit
}

func newFlight(first *waitingEdit) *flight {
	f := &flight{}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(first.ctx))
	r := *first.r
	f.r = &r
	return f
}

// putIssue sends an edit of the issue with an id, alone or together with others. The body of r is an *issueUpdate.
func (c *Client) putIssue(ctx context.Context, id string, r *request) error {
	w := c.edits.enter(ctx, id, r)
	if w == nil {
		defer func() {
			if c.edits.waits(id) {
				go c.drain(id)
			}
		}()
		return c.do(ctx, r, nil)
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	sent := c.edits.leave(id, w)
	select {
	case err := <-w.done: // in the same moment
		return err
	default:
	}
	e := sdk.Unavailable("%s: not sent: the call ended while earlier edits of the issue were under way", r.what())
	if sent {
		e = c.unknown(r, "no answer before the call ended")
	}
	e.Code = codes.DeadlineExceeded
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Code = codes.Canceled
	}
	e.Err = ctx.Err()
	return e
}

// drain sends what waits for an issue, until nothing does.
func (c *Client) drain(id string) {
	for f := c.edits.next(id); f != nil; f = c.edits.next(id) {
		f.r.pausing = func(wait time.Duration, err error) { c.edits.shed(id, f, wait, err) }
		f.r.fill = func() error { return c.edits.board(id, f) }
		err := c.do(f.ctx, f.r, nil)
		f.cancel()
		if len(f.members) == 0 {
			c.edits.refuse(id, f, err)
			continue
		}
		c.settle(id, f.members, err)
	}
}

// settle tells the members of a request its outcome. If it was refused for what was in it, they are sent again in parts:
// by the fields that Jira names, else by halves.
func (c *Client) settle(id string, members []*waitingEdit, err error) {
	var e *sdk.Error
	if len(members) == 1 || !errors.As(err, &e) || !refusesContent(e.HTTPStatus) {
		for _, w := range members {
			w.done <- err
		}
		return
	}
	innocent, suspect := divide(members, e)
	for _, part := range [][]*waitingEdit{innocent, suspect} {
		if f := c.edits.again(id, part); f != nil {
			err := c.do(f.ctx, f.r, nil)
			f.cancel()
			c.settle(id, f.members, err)
		}
	}
}

// refusesContent says whether a status is about what an edit holds, so that a part of it may be taken.
func refusesContent(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

// divide parts the members of a refused edit: those that write a field that the refusal names are the second part.
func divide(members []*waitingEdit, e *sdk.Error) (a, b []*waitingEdit) {
	for _, w := range members {
		named := slices.ContainsFunc(e.Violations, func(v sdk.Violation) bool {
			return w.parts.writes(strings.TrimPrefix(v.Field, "/fields/"))
		})
		if named {
			b = append(b, w)
		} else {
			a = append(a, w)
		}
	}
	if len(a) == 0 || len(b) == 0 {
		return members[:len(members)/2], members[len(members)/2:]
	}
	return a, b
}

// enter begins an edit. It returns nil if no other one of the issue is under way.
func (s *edits) enter(ctx context.Context, id string, r *request) *waitingEdit {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if q == nil {
		if s.queues == nil {
			s.queues = map[string]*editQueue{}
		}
		s.queues[id] = &editQueue{}
		return nil
	}
	body, _ := r.body.(*issueUpdate)
	w := &waitingEdit{ctx: ctx, r: r, parts: partsOf(body), done: make(chan error, 1)}
	q.waiting = append(q.waiting, w)
	return w
}

// waits says whether somebody is to be drained. If not, the issue's queue is closed.
func (s *edits) waits(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queues[id].waiting) > 0 {
		return true
	}
	delete(s.queues, id)
	return false
}

// next begins the flight of those that wait; nil closes the queue.
func (s *edits) next(id string) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if len(q.waiting) == 0 {
		delete(s.queues, id)
		return nil
	}
	q.flight = newFlight(q.waiting[0])
	return q.flight
}

// board fills a flight when it is its turn: with the edit that has waited longest, and all that go together with it.
func (s *edits) board(id string, f *flight) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[id]
	if len(f.members) > 0 { // it is sent once more, with another token
		return nil
	}
	if len(q.waiting) == 0 {
		return errNobody
	}
	all := &editParts{}
	stay := q.waiting[:0:0]
	for _, w := range q.waiting {
		if len(f.members) == maxTogether || len(f.members) > 0 && !all.takes(w.parts) {
			stay = append(stay, w)
			continue
		}
		all.add(w.parts)
		f.members = append(f.members, w)
	}
	q.waiting = stay
	f.r.body = all.body(f.members)
	return nil
}

// again begins a flight of those members of an earlier one who still wait for an answer; nil if there are none.
func (s *edits) again(id string, members []*waitingEdit) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	members = slices.DeleteFunc(slices.Clone(members), func(w *waitingEdit) bool { return w.gone })
	if len(members) == 0 {
		return nil
	}
	f := newFlight(members[0])
	all := &editParts{}
	for _, w := range members {
		all.add(w.parts)
	}
	f.members, f.r.body = members, all.body(members)
	s.queues[id].flight = f
	return f
}

// leave takes out an edit whose call has ended, and says whether it was sent. A request for which nobody waits any more
// is ended, too.
func (s *edits) leave(id string, w *waitingEdit) (sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.gone = true
	q := s.queues[id]
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
		if !slices.ContainsFunc(still, func(w *waitingEdit) bool { return !w.gone }) {
			f.cancel()
		}
	}
	return i < 0
}

// shed refuses those that wait and whose calls end before a pause does.
func (s *edits) shed(id string, f *flight, pause time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(f.members) > 0 {
		return
	}
	q := s.queues[id]
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waitingEdit) bool {
		end, ok := w.ctx.Deadline()
		short := ok && time.Until(end) < pause
		if short {
			w.done <- err
		}
		return short
	})
	if len(q.waiting) == 0 {
		f.cancel()
	}
}

// refuse tells all that wait why nothing can be sent now.
func (s *edits) refuse(id string, f *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, errNobody) || f.ctx.Err() != nil {
		return // whoever waits now has come since
	}
	q := s.queues[id]
	for _, w := range q.waiting {
		w.done <- err
	}
	q.waiting = nil
}

// errNobody says that nobody waits for a request any more.
var errNobody = errors.New("nobody waits for it any more")

// editParts is what an edit writes, in a form that can be put together.
type editParts struct {
	alone   bool // goes with no other
	fields  map[string]json.RawMessage
	labels  []labelChange
	comment []map[string]any
	props   []entityProperty
}

type labelChange struct {
	remove bool
	label  string
}

// partsOf takes an edit apart. What it does not know goes alone.
func partsOf(u *issueUpdate) *editParts {
	p := &editParts{}
	if u == nil {
		return &editParts{alone: true}
	}
	if u.Fields != nil {
		raw, err := json.Marshal(u.Fields)
		p.alone = err != nil || json.Unmarshal(raw, &p.fields) != nil
	}
	for name, ops := range u.Update {
		switch name {
		case "comment":
			p.comment = ops
		case "labels":
			for _, op := range ops {
				for verb, v := range op {
					label, ok := v.(string)
					p.alone = p.alone || !ok || verb != "add" && verb != "remove"
					p.labels = append(p.labels, labelChange{verb == "remove", label})
				}
			}
		default:
			p.alone = true
		}
		if _, both := p.fields[name]; both {
			p.alone = true
		}
	}
	p.props = u.Properties
	return p
}

// writes says whether an edit writes a field.
func (p *editParts) writes(name string) bool {
	_, ok := p.fields[name]
	return ok || name == "labels" && len(p.labels) > 0 || name == "comment" && len(p.comment) > 0
}

// takes says whether o can go in one request with what p holds.
func (p *editParts) takes(o *editParts) bool {
	if p.alone || o.alone || len(p.comment) > 0 && len(o.comment) > 0 || len(p.props) > 0 && len(o.props) > 0 {
		return false
	}
	for name, value := range o.fields {
		if p.writes(name) && (!alwaysFits(name, value) || !alwaysFits(name, p.fields[name])) && !bytes.Equal(p.fields[name], value) {
			return false
		}
	}
	for name := range p.fields { // Jira refuses a field that is set and changed
		if _, also := o.fields[name]; !also && o.writes(name) {
			return false
		}
	}
	for _, l := range o.labels {
		if slices.ContainsFunc(p.labels, func(have labelChange) bool { return have.remove != l.remove && strings.EqualFold(have.label, l.label) }) {
			return false
		}
	}
	return true
}

// alwaysFits says whether a value is one that Jira does not refuse where it takes the field at all, so that another such
// value in its place changes nobody's outcome.
func alwaysFits(name string, value json.RawMessage) bool {
	return name == "summary" || name == "description" && string(value) != "null"
}

// add puts o into p, after what is there.
func (p *editParts) add(o *editParts) {
	p.alone = p.alone || o.alone
	if len(o.fields) > 0 && p.fields == nil {
		p.fields = make(map[string]json.RawMessage, len(o.fields))
	}
	maps.Copy(p.fields, o.fields)
	for _, l := range o.labels {
		if !slices.ContainsFunc(p.labels, func(have labelChange) bool { return have.remove == l.remove && sameLabel(have, l) }) {
			p.labels = append(p.labels, l)
		}
	}
	p.comment, p.props = append(p.comment, o.comment...), append(p.props, o.props...)
}

// sameLabel compares labels to add as JQL does, and labels to remove as they are: there may be two that differ in case.
func sameLabel(a, b labelChange) bool {
	return a.label == b.label || !a.remove && strings.EqualFold(a.label, b.label)
}

// body is the edit that the members make together.
func (p *editParts) body(members []*waitingEdit) any {
	if len(members) == 1 {
		return members[0].r.body
	}
	u := &issueUpdate{Update: map[string][]map[string]any{}, Properties: p.props}
	if len(p.fields) > 0 {
		u.Fields = p.fields
	}
	for _, l := range p.labels {
		u.Update["labels"] = append(u.Update["labels"], map[string]any{map[bool]string{false: "add", true: "remove"}[l.remove]: l.label})
	}
	if len(p.comment) > 0 {
		u.Update["comment"] = p.comment
	}
	return u
}
