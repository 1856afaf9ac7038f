package threatintel

import (
	"context"
	"sync"
	"time"

	"github.com/casewire/casewire/sdk"
)

// quotas are shared by the connections of a process: the vendor counts by app.
type quotas struct {
	mu sync.Mutex
	by map[string]*quota
}

func (q *quotas) of(key string, perMinute int) *quota {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.by == nil {
		q.by = map[string]*quota{}
	}
	one := q.by[key]
	if one == nil {
		one = &quota{}
		q.by[key] = one
	}
	one.setLimit(perMinute)
	return one
}

// quota lets a number of requests pass in any minute, and none while the vendor asks for a pause.
type quota struct {
	mu     sync.Mutex
	limit  int
	sent   []time.Time // of the last minute
	paused time.Time   // until
}

const minute = time.Minute

func (q *quota) setLimit(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = n
}

// take counts a request, or says how long to wait.
func (q *quota) take(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wait := q.paused.Sub(now); wait > 0 {
		return wait
	}
	for len(q.sent) > 0 && now.Sub(q.sent[0]) >= minute {
		q.sent = q.sent[1:]
	}
	if len(q.sent) >= q.limit {
		return q.sent[len(q.sent)-q.limit].Add(minute).Sub(now)
	}
	q.sent = append(q.sent, now)
	return 0
}

// left is how many requests may go now.
func (q *quota) left(now time.Time) (left, limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, t := range q.sent {
		if now.Sub(t) < minute {
			n++
		}
	}
	if q.paused.After(now) {
		return 0, q.limit
	}
	return max(0, q.limit-n), q.limit
}

// pause keeps everybody back: the vendor said so.
func (q *quota) pause(until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if until.After(q.paused) {
		q.paused = until
	}
}

// patience is the longest that a call waits for the quota; longer is for the host to wait.
const patience = 2 * minute

// wait lets a request pass when there is room. If that would be after the call's end, it says when to come back.
func (q *quota) wait(ctx context.Context) error {
	for begin := time.Now(); ; {
		wait := q.take(time.Now())
		if wait <= 0 {
			return nil
		}
		end, bounded := ctx.Deadline()
		if bounded && time.Now().Add(wait).After(end) || time.Since(begin)+wait > patience {
			return sdk.Throttled(wait, "the quota of this minute is used up, by this app's uploads from all flows")
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}
