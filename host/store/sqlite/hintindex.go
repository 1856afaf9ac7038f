package sqlite

import (
	"encoding/json"
	"time"

	"github.com/casewire/casewire/host/store"
)

type hintKey struct{ connection, trigger, id string }

type queueKey struct{ connection, trigger string }

// liveHint is a hint that is waiting or being looked up.
type liveHint struct {
	slot
	key       hintKey
	data      json.RawMessage // nil although there is some if large
	large     bool            // the data is on disk only
	received  time.Time
	attempt   int
	notBefore int64
	reason    string
	leased    int64 // end of the lease; 0: none
	again     bool  // the same hint came while this one was being looked up: what the look-up saw may be older
}

// keepHintData is the most data of a hint that is kept in memory.
const keepHintData = 2048

func (h *liveHint) setData(data json.RawMessage) {
	h.large = len(data) > keepHintData
	h.data = data
	if h.large {
		h.data = nil
	}
}

// hint returns the public record; its data is missing if large.
func (h *liveHint) hint() store.Hint {
	return store.Hint{
		Connection: h.key.connection, Trigger: h.key.trigger, ID: h.key.id,
		Data: h.data, Received: h.received, Attempt: h.attempt, NotBefore: fromMicros(h.notBefore), Reason: h.reason,
	}
}

// hintQueue is the hints of one trigger.
type hintQueue struct {
	ready heap[*liveHint] // due, by seq
	timed heap[*liveHint] // by the time they are due: not before, or the end of the lease
}

// hintIndex is every hint. Store.mu guards it.
type hintIndex struct {
	byKey  map[hintKey]*liveHint
	queues map[queueKey]*hintQueue
}

func newHintIndex() hintIndex {
	return hintIndex{byKey: map[hintKey]*liveHint{}, queues: map[queueKey]*hintQueue{}}
}

func (x *hintIndex) queue(connection, trigger string) *hintQueue {
	k := queueKey{connection, trigger}
	q := x.queues[k]
	if q == nil {
		q = &hintQueue{}
		x.queues[k] = q
	}
	return q
}

// publish makes a hint claimable.
func (x *hintIndex) publish(h *liveHint) {
	q := x.queue(h.key.connection, h.key.trigger)
	switch {
	case h.leased > 0:
		q.timed.push(h, h.leased)
	case h.notBefore > 0:
		q.timed.push(h, h.notBefore)
	default:
		q.ready.push(h, h.seq)
	}
}

// hide takes a hint out of its heap, if it is in one.
func (x *hintIndex) hide(h *liveHint) {
	q := x.queue(h.key.connection, h.key.trigger)
	switch {
	case q.ready.has(h):
		q.ready.remove(h)
	case q.timed.has(h):
		q.timed.remove(h)
	}
}

// claim leases up to limit due hints.
func (x *hintIndex) claim(connection, trigger string, limit int, now, until int64) []*liveHint {
	q := x.queues[queueKey{connection, trigger}]
	if q == nil {
		return nil
	}
	for q.timed.len() > 0 && q.timed.first().rank <= now {
		h := q.timed.pop()
		q.ready.push(h, h.seq)
	}
	var out []*liveHint
	for len(out) < limit && q.ready.len() > 0 {
		h := q.ready.pop()
		h.leased = until
		q.timed.push(h, until)
		out = append(out, h)
	}
	return out
}

// due says when the first hint can be claimed; zero: there is none.
func (x *hintIndex) due() int64 {
	var first int64
	earlier := func(t int64) {
		if first == 0 || t < first {
			first = t
		}
	}
	for _, q := range x.queues {
		if q.ready.len() > 0 {
			h := q.ready.first()
			earlier(max(micros(h.received), h.notBefore, 1))
		}
		if q.timed.len() > 0 {
			earlier(q.timed.first().rank)
		}
	}
	return first
}
