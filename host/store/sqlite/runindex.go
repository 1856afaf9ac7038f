package sqlite

import (
	"cmp"
	"slices"
	"time"

	"github.com/casewire/casewire/host/store"
)

// liveRun is a run that still moves by itself.
type liveRun struct {
	slot
	id        string
	lane      *lane
	next      *liveRun // in its lane
	state     store.RunState
	notBefore int64
	leaseEnd  int64
	fence     int64
	owner     string
	started   int64
	updated   int64
	fresh     bool       // nothing was ever written to its journal
	settling  bool       // an Advance that takes it from its owner is being committed
	ending    bool       // and that Advance ends it
	rec       *store.Run // as it was stored; nil: read it from disk
}

// overlay puts what is only known in memory onto a record.
func (r *liveRun) overlay(rec *store.Run) {
	rec.State, rec.Fence, rec.Owner = r.state, r.fence, r.owner
	rec.LeaseEnd, rec.NotBefore = fromMicros(r.leaseEnd), fromMicros(r.notBefore)
	rec.Started, rec.Updated = fromMicros(r.started), fromMicros(r.updated)
}

// lane is the line of live runs of one order key and flow. Only its head can be handed out.
type lane struct {
	key        laneKey
	head, tail *liveRun
}

type laneKey struct{ order, flow string }

// keepRecords is how many records of runs stay in memory until they are claimed, so that a claim need not read them.
const (
	keepRecords     = 16384
	keepRecordInput = 2048 // bytes of input that a kept record may have
)

// runIndex is every live run. Store.mu guards it.
type runIndex struct {
	byID    map[string]*liveRun
	lanes   map[laneKey]*lane
	ready   heap[*liveRun] // heads that can be claimed, by seq
	waiting heap[*liveRun] // heads, by the time they are due
	leased  heap[*liveRun] // heads, by the end of their lease
	fence   int64          // last one handed out
	count   map[store.RunState]int
	records int
}

func newRunIndex(fence int64) runIndex {
	return runIndex{
		byID: map[string]*liveRun{}, lanes: map[laneKey]*lane{}, fence: fence, count: map[store.RunState]int{},
	}
}

// add puts a ready or waiting run at the end of its lane. Runs come in the order of their seq.
func (x *runIndex) add(r *liveRun, order, flow string) {
	k := laneKey{order, flow}
	l := x.lanes[k]
	if l == nil {
		l = &lane{key: k}
		x.lanes[k] = l
	}
	r.lane = l
	x.byID[r.id] = r
	x.count[r.state]++
	if r.rec != nil {
		if x.records >= keepRecords || len(r.rec.Input) > keepRecordInput {
			r.rec = nil
		} else {
			x.records++
		}
	}
	if l.tail == nil {
		l.head, l.tail = r, r
		x.activate(r)
		return
	}
	l.tail.next = r
	l.tail = r
}

// activate makes the head of a lane claimable, now or later.
func (x *runIndex) activate(r *liveRun) {
	if r.settling {
		return // it is about to end
	}
	if r.state == store.RunWaiting {
		x.waiting.push(r, r.notBefore)
		return
	}
	x.ready.push(r, r.seq)
}

func (x *runIndex) setState(r *liveRun, state store.RunState) {
	x.count[r.state]--
	r.state = state
	x.count[state]++
}

// claim hands out up to limit runs.
func (x *runIndex) claim(owner string, limit int, now, until int64) []*liveRun {
	for x.waiting.len() > 0 && x.waiting.first().notBefore <= now {
		r := x.waiting.pop()
		x.ready.push(r, r.seq)
	}
	for x.leased.len() > 0 && x.leased.first().leaseEnd <= now {
		r := x.leased.pop()
		x.ready.push(r, r.seq)
	}
	var out []*liveRun
	for len(out) < limit && x.ready.len() > 0 {
		r := x.ready.pop()
		x.setState(r, store.RunRunning)
		x.fence++
		r.fence, r.owner, r.leaseEnd, r.notBefore = x.fence, owner, until, 0
		r.started = cmp.Or(r.started, now)
		r.updated = now
		x.leased.push(r, until)
		out = append(out, r)
	}
	return out
}

// held returns the run if the lease is still good.
func (x *runIndex) held(l store.Lease) *liveRun {
	r := x.byID[l.Run]
	if r == nil || r.settling || r.state != store.RunRunning || r.fence != l.Fence {
		return nil
	}
	return r
}

// journaled notes that something is being written to the journal of a run. It stays so even if that fails: fresh must
// never be said too often.
func (r *liveRun) journaled(steps int) {
	if steps > 0 {
		r.fresh = false
	}
}

// settle makes a held run unclaimable while its next state is being committed; unsettle takes that back.
func (x *runIndex) settle(r *liveRun) {
	r.settling = true
	if x.leased.has(r) {
		x.leased.remove(r)
	} else {
		x.ready.remove(r) // its lease had lapsed, and nobody had taken it yet
	}
}

func (x *runIndex) unsettle(r *liveRun) {
	r.settling, r.ending = false, false
	x.leased.push(r, r.leaseEnd)
}

// release puts a settled run back to ready or waiting.
func (x *runIndex) release(r *liveRun, state store.RunState, notBefore, now int64) {
	r.settling = false
	x.setState(r, state)
	r.owner, r.leaseEnd, r.notBefore, r.updated = "", 0, notBefore, now
	x.activate(r)
}

// idle says whether nobody works on a run.
func (r *liveRun) idle(now int64) bool {
	return !r.settling && (r.state != store.RunRunning || r.leaseEnd <= now)
}

// withdraw makes an idle run, wherever it stands in its lane, unclaimable while its end is being committed; restore takes
// that back.
func (x *runIndex) withdraw(r *liveRun) {
	r.settling = true
	for _, h := range []*heap[*liveRun]{&x.ready, &x.waiting, &x.leased} {
		if h.has(r) {
			h.remove(r)
			return
		}
	}
}

func (x *runIndex) restore(r *liveRun) {
	r.settling, r.ending = false, false
	switch {
	case r.lane.head != r:
	case r.state == store.RunRunning:
		x.leased.push(r, r.leaseEnd)
	default:
		x.activate(r)
	}
}

// leave takes a withdrawn run out of its lane.
func (x *runIndex) leave(r *liveRun) {
	l := r.lane
	if l.head == r {
		x.end(r)
		return
	}
	x.forget(r)
	delete(x.byID, r.id)
	x.count[r.state]--
	before := l.head
	for before.next != r {
		before = before.next
	}
	if before.next = r.next; r.next == nil {
		l.tail = before
	}
	r.next = nil
}

// end takes a settled run out and lets the next of its lane step forward.
func (x *runIndex) end(r *liveRun) {
	x.forget(r)
	delete(x.byID, r.id)
	x.count[r.state]--
	l := r.lane
	l.head = r.next
	r.next = nil
	if l.head == nil {
		delete(x.lanes, l.key)
		return
	}
	x.activate(l.head)
}

// forget drops a kept record.
func (x *runIndex) forget(r *liveRun) {
	if r.rec != nil {
		r.rec = nil
		x.records--
	}
}

// renew prolongs leases and returns the ids of those that were lost.
func (x *runIndex) renew(owner string, leases []store.Lease, until time.Time) (lost []string) {
	end := micros(until)
	for _, l := range leases {
		r := x.byID[l.Run]
		switch {
		case r == nil || r.fence != l.Fence || r.owner != owner || r.state != store.RunRunning:
			lost = append(lost, l.Run)
		case r.settling:
		case x.leased.has(r):
			r.leaseEnd = end
			x.leased.remove(r)
			x.leased.push(r, end)
		default: // lapsed, but nobody took it
			r.leaseEnd = end
			x.ready.remove(r)
			x.leased.push(r, end)
		}
	}
	return lost
}

// inState returns the live runs in a state, newest first.
func (x *runIndex) inState(state store.RunState) []*liveRun {
	var out []*liveRun
	for _, r := range x.byID {
		if r.state == state {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *liveRun) int { return cmp.Compare(b.seq, a.seq) })
	return out
}

// due says when the first waiting run can be claimed; zero: none waits.
func (x *runIndex) due() int64 {
	if x.waiting.len() == 0 {
		return 0
	}
	return x.waiting.first().notBefore
}
