package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

// Limit says how hard a connection may be driven. Connections with the same Name (those that share a credential) share
// one limiter; an empty Name is the connection's own.
type Limit struct {
	Name       string
	Concurrent int     // calls in flight; zero: no limit
	PerSecond  float64 // calls begun; zero: no limit
}

const (
	// breakerThreshold failures in a row open the breaker: fewer than the attempts that a step has, so that an outage
	// does not use them up.
	breakerThreshold = 4
	breakerFirst     = time.Second
	breakerLongest   = time.Minute
	// fullyOpen is the window at which a limiter that was throttled has recovered.
	fullyOpen = 64
)

// gates hold the limiters and breakers, by connection.
type gates struct {
	limit func(connection string) Limit
	obs   Observer

	mu       sync.Mutex
	limiters map[string]*limiter
	breakers map[string]*breaker
}

// limiter is shared by the connections of one credential.
type limiter struct {
	Limit
	inFlight int
	next     time.Time // when the next call may begin, by PerSecond
	paused   time.Time // a throttled answer asked for this
	// window is how many calls may be in flight while recovering from a throttled answer: it halves with each of them and
	// grows by one with each success. Zero: no such limit.
	window int
	queue  []chan struct{} // who waits for a call to end, oldest first
}

// breaker is a connection's own.
type breaker struct {
	limiter  *limiter
	failures int // in a row
	open     time.Time
	pause    time.Duration // of the last opening
	probing  bool          // half open: one call is out to see
}

func (g *gates) init(limit func(string) Limit, obs Observer) {
	g.limit, g.obs = limit, obs
	g.limiters, g.breakers = map[string]*limiter{}, map[string]*breaker{}
}

func (g *gates) of(connection string) *breaker {
	b := g.breakers[connection]
	if b == nil {
		var l Limit
		if g.limit != nil {
			l = g.limit(connection)
		}
		if l.Name == "" {
			l.Name = "connection " + connection
		}
		if g.limiters[l.Name] == nil {
			g.limiters[l.Name] = &limiter{Limit: l}
		}
		b = &breaker{limiter: g.limiters[l.Name]}
		g.breakers[connection] = b
	}
	return b
}

// pass is the right to make one call; it must be given back with done.
type pass struct {
	connection string
	probe      bool // the one call that an open breaker lets through
}

// refusal says when to ask again: after a while or, if turn is not nil, as soon as it is closed.
type refusal struct {
	wait time.Duration
	turn chan struct{}
}

// enter asks to make a call now.
func (g *gates) enter(connection string, now time.Time) (p pass, no refusal, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.of(connection)
	l := b.limiter
	switch {
	case now.Before(b.open):
		return p, refusal{wait: spread(b.open.Sub(now))}, false
	case b.probing:
		return p, refusal{wait: spread(breakerFirst)}, false
	case now.Before(l.paused):
		return p, refusal{wait: spread(l.paused.Sub(now))}, false
	case l.Concurrent > 0 && l.inFlight >= l.Concurrent, l.window > 0 && l.inFlight >= l.window:
		turn := make(chan struct{})
		l.queue = append(l.queue, turn)
		return p, refusal{wait: spread(shortWait / 2), turn: turn}, false
	case now.Before(l.next):
		return p, refusal{wait: l.next.Sub(now)}, false
	}
	if l.PerSecond > 0 {
		l.next = now.Add(time.Duration(float64(time.Second) / l.PerSecond))
	}
	l.inFlight++
	p = pass{connection: connection, probe: !b.open.IsZero()}
	b.probing = p.probe
	return p, refusal{}, true
}

// done gives a pass back with the outcome of its call; ended is false when the call was not made, or was cut off by the
// host itself, so that it says nothing about the other side.
func (g *gates) done(p pass, err *plugin.Error, ended bool, now time.Time) {
	g.mu.Lock()
	b := g.of(p.connection)
	l := b.limiter
	l.inFlight--
	l.callNext()
	if p.probe {
		b.probing = false
	}
	why, until := "", time.Time{}
	switch {
	case !ended:
	case err != nil && baseClass(err) == plugin.ClassThrottled:
		b.closed() // whoever throttles is alive
		l.window = max(1, min(l.inFlight+1, cmpWindow(l.window))/2)
		if err.RetryAfter > 0 {
			why, until = "throttled", now.Add(min(err.RetryAfter, longestRetryAfter))
			l.paused = later(l.paused, until)
		}
	case err != nil && isDown(err) && !p.probe && !b.open.IsZero():
		// It began before the breaker opened. A crash fails all that is in flight at once; that is one outage, not many.
	case err != nil && isDown(err):
		b.failures++
		if b.failures >= breakerThreshold || p.probe {
			b.pause = min(max(breakerFirst, 2*b.pause), breakerLongest)
			why, until = "breaker", now.Add(max(spread(b.pause), min(err.RetryAfter, breakerLongest)))
			b.open = later(b.open, until)
		}
	default:
		b.closed()
		if l.window > 0 {
			if l.window++; l.window >= fullyOpen {
				l.window = 0
			}
			l.callNext() // the window is one wider
		}
	}
	g.mu.Unlock()
	if why != "" {
		g.obs.ConnectionPaused(p.connection, why, until)
	}
}

// forgo ends the wait for a turn. again says that its owner asks anew; otherwise a turn that came goes to the next.
func (g *gates) forgo(connection string, no refusal, again bool) {
	if no.turn == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.of(connection).limiter
	if i := slices.Index(l.queue, no.turn); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	} else if !again {
		l.callNext()
	}
}

// sleep waits in place until the wait is over or the turn has come. It is false if it may not: the run or the engine is
// ending, or so many sleep already that they would keep the workers from runs that could go on.
func (e *Engine) sleep(ctx context.Context, no refusal) bool {
	if e.asleep.Add(1) > int64(max(1, e.o.Workers/4)) {
		e.asleep.Add(-1)
		return false
	}
	defer e.asleep.Add(-1)
	timer := time.NewTimer(no.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-no.turn: // nil: never
		return true
	case <-ctx.Done():
		return false
	case <-e.drain:
		return false
	}
}

func (l *limiter) callNext() {
	if len(l.queue) > 0 {
		close(l.queue[0])
		l.queue = slices.Delete(l.queue, 0, 1)
	}
}

func (b *breaker) closed() { b.failures, b.pause, b.open = 0, 0, time.Time{} }

func cmpWindow(w int) int {
	if w == 0 {
		return fullyOpen
	}
	return w
}

// isDown says whether the error speaks of an absent or silent other side. What the connector or the vendor said about
// this one call (a bad input, a missing permission) shows that it is there.
func isDown(err *plugin.Error) bool {
	return err.Code == codes.Unavailable || err.Code == codes.DeadlineExceeded
}

// spread lengthens a wait by up to a fifth, so that those who wait together do not come back together.
func spread(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/5+1))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
