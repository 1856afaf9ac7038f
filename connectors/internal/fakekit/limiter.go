package fakekit

import (
	"sync"
	"time"
)

// Limiter counts events per key in a sliding window. The zero value is ready; it is safe for concurrent use.
type Limiter struct {
	mu   sync.Mutex
	seen map[string][]time.Time
}

// Take records an event under key at now. If n events fell into the window before now it records nothing and returns
// how long to wait for room, which is always more than zero.
func (l *Limiter) Take(key string, now time.Time, n int, window time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string][]time.Time{}
	}
	at := l.seen[key]
	for len(at) > 0 && now.Sub(at[0]) >= window {
		at = at[1:]
	}
	if len(at) >= n {
		l.seen[key] = at
		return at[0].Add(window).Sub(now)
	}
	l.seen[key] = append(at, now)
	return 0
}
