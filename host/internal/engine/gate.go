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
	next     time.Time            // when the next call may begin, by PerSecond
	paused   time.Time            // a throttled answer asked for this
	actions  map[string]time.Time // likewise, for one action
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
		l := g.limitOf(connection)
		if g.limiters[l.Name] == nil {
			g.limiters[l.Name] = &limiter{Limit: l}
		}
		b = &breaker{limiter: g.limiters[l.Name]}
		g.breakers[connection] = b
	}
	return b
}

// renew asks again how hard connections may be driven. Calls in flight stay counted where they were.
func (g *gates) renew() {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.limiters
	g.limiters = map[string]*limiter{}
	for connection, b := range g.breakers {
		l := g.limitOf(connection)
		now := g.limiters[l.Name]
		if now == nil {
			if now = old[l.Name]; now == nil {
				now = &limiter{}
			}
			now.Limit = l
			g.limiters[l.Name] = now
		}
		if b.limiter != now {
			b.limiter.callAll() // who waited there asks at the other
			b.limiter = now
		}
	}
	for _, l := range g.limiters {
		l.callAll() // there may be more room now
	}
}

func (g *gates) limitOf(connection string) Limit {
	var l Limit
	if g.limit != nil {
		l = g.limit(connection)
	}
	if l.Name == "" {
		l.Name = "connection " + connection
	}
	return l
}

// pass is the right to make one call; it must be given back with done.
type pass struct {
	connection, action string
	limiter            *limiter
	probe              bool // the one call that an open breaker lets through
}

// refusal says when to ask again: after a while or, if turn is not nil, as soon as it is closed.
type refusal struct {
	wait    time.Duration
	turn    chan struct{}
	limiter *limiter // where the turn is waited for
}

// enter asks to make a call now.
func (g *gates) enter(connection, action string, now time.Time) (p pass, no refusal, ok bool) {
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
	case now.Before(l.actions[action]):
		return p, refusal{wait: spread(l.actions[action].Sub(now))}, false
	case l.Concurrent > 0 && l.inFlight >= l.Concurrent, l.window > 0 && l.inFlight >= l.window:
		turn := make(chan struct{})
		l.queue = append(l.queue, turn)
		return p, refusal{wait: spread(shortWait / 2), turn: turn, limiter: l}, false
	case now.Before(l.next):
		return p, refusal{wait: l.next.Sub(now)}, false
	}
	if l.PerSecond > 0 {
		l.next = now.Add(time.Duration(float64(time.Second) / l.PerSecond))
	}
	l.inFlight++
	p = pass{connection: connection, action: action, limiter: l, probe: !b.open.IsZero()}
	b.probing = p.probe
	return p, refusal{}, true
}

// done gives a pass back with the outcome of its call; ended is false when the call was not made, or was cut off by the
// host itself, so that it says nothing about the other side.
func (g *gates) done(p pass, err *plugin.Error, ended bool, now time.Time) {
	g.mu.Lock()
	b, l := g.of(p.connection), p.limiter
	l.inFlight--
	l.callNext()
	if p.probe {
		b.probing = false
	}
	why, until := "", time.Time{}
	if ended {
		why, until = g.learn(b, l, p, err, now)
	}
	g.mu.Unlock()
	if why != "" {
		g.obs.ConnectionPaused(p.connection, why, until)
	}
}

// heard takes what a call that went another way, such as a poll, says about a connection. Whoever throttles one throttles
// all that share its limiter.
func (g *gates) heard(connection, action string, err *plugin.Error, now time.Time) {
	if err == nil || baseClass(err) != plugin.ClassThrottled {
		return
	}
	g.mu.Lock()
	b := g.of(connection)
	why, until := g.learn(b, b.limiter, pass{connection: connection, action: action, limiter: b.limiter}, err, now)
	g.mu.Unlock()
	if why != "" {
		g.obs.ConnectionPaused(connection, why, until)
	}
}

// pausedUntil says when a call that goes another way may begin.
func (g *gates) pausedUntil(connection, action string) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.of(connection).limiter
	return later(l.paused, l.actions[action])
}

// learn draws the conclusions from how a call ended.
func (g *gates) learn(b *breaker, l *limiter, p pass, err *plugin.Error, now time.Time) (why string, until time.Time) {
	switch {
	case err != nil && baseClass(err) == plugin.ClassThrottled:
		b.closed() // whoever throttles is alive
		scope := err.Meta[plugin.MetaThrottleScope]
		if scope == plugin.ScopeObject {
			break // others are not meant
		}
		if err.RetryAfter > 0 {
			why, until = "throttled", now.Add(min(err.RetryAfter, longestRetryAfter))
		}
		if scope == plugin.ScopeAction {
			if l.actions == nil {
				l.actions = map[string]time.Time{}
			}
			l.actions[p.action] = later(l.actions[p.action], until)
			break
		}
		l.window = max(1, min(l.inFlight+1, cmpWindow(l.window))/2)
		l.paused = later(l.paused, until)
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
	return why, until
}

// forgo ends the wait for a turn. again says that its owner asks anew; otherwise a turn that came goes to the next.
func (g *gates) forgo(no refusal, again bool) {
	if no.turn == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(no.limiter.queue, no.turn); i >= 0 {
		no.limiter.queue = slices.Delete(no.limiter.queue, i, i+1)
	} else if !again {
		no.limiter.callNext()
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

func (l *limiter) callAll() {
	for _, turn := range l.queue {
		close(turn)
	}
	l.queue = nil
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
