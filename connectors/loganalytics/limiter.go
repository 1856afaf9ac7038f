package loganalytics

import (
	"context"
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
)

// What the service allows one identity; more queries at once are queued there and then refused.
// https://learn.microsoft.com/azure/azure-monitor/service-limits.
const (
	queriesAtOnce = 5
	querySpan     = 30 * time.Second
)

// limiter keeps one identity within its limits, whichever connection asks.
type limiter struct {
	slots chan struct{}
	most  int // queries in a span

	mu     sync.Mutex
	starts []time.Time // of the last queries, a ring
	next   int
}

func newLimiter(most int) *limiter {
	return &limiter{slots: make(chan struct{}, queriesAtOnce), most: most}
}

// limiters are shared by the connections of this process.
var limiters struct {
	sync.Mutex

	byIdentity map[[sha256.Size]byte]*limiter
}

// limiterOf finds the limiter of an identity at an endpoint.
func limiterOf(endpoint string, c *azure.Credential, most int) *limiter {
	who := append([]string{endpoint, strconv.Itoa(most), strings.ToLower(c.TenantID), strings.ToLower(c.ClientID), c.SignIn, c.Token.Reveal()}, c.Exec...)
	if id := c.ManagedIdentity; id != nil {
		who = append(who, "managed identity", id.ClientID, id.ResourceID, id.ObjectID)
	}
	key := sha256.Sum256([]byte(strings.Join(who, "\x00")))
	limiters.Lock()
	defer limiters.Unlock()
	if limiters.byIdentity == nil {
		limiters.byIdentity = map[[sha256.Size]byte]*limiter{}
	}
	l := limiters.byIdentity[key]
	if l == nil {
		l = newLimiter(most)
		limiters.byIdentity[key] = l
	}
	return l
}

// enter waits for a turn. Leave must be called when the answer has been read.
func (l *limiter) enter(ctx context.Context) (leave func(), err error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	leave = func() { <-l.slots }
	for {
		wait := l.take(time.Now())
		if wait <= 0 {
			return leave, nil
		}
		if d, ok := ctx.Deadline(); ok && time.Until(d) < wait { // to wait would be in vain
			leave()
			return nil, sdk.Throttled(wait, "%s: %d queries were started in %s, as many as the service lets one identity start", apiName, l.most, querySpan)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			leave()
			return nil, context.Cause(ctx)
		}
	}
}

// take takes a place among the queries of the last span, or says how long to wait for one.
func (l *limiter) take(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.starts) < l.most {
		l.starts = append(l.starts, now)
		return 0
	}
	if wait := querySpan - now.Sub(l.starts[l.next]); wait > 0 {
		return wait
	}
	l.starts[l.next] = now
	l.next = (l.next + 1) % l.most
	return 0
}
