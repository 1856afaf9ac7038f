package sdk

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

// gate counts the open calls and, once the connector drains, lets no more in.
type gate struct {
	draining chan struct{} // closed by the first drain
	mu       sync.Mutex
	closed   bool
	open     map[*pass]struct{}
	empty    chan struct{} // closed when the last call leaves a closed gate
	finished int
}

// pass is one open call.
type pass struct {
	cancel    context.CancelFunc
	cancelled bool
}

// enter lets a call in, or says that the connector drains.
func (g *gate) enter(cancel context.CancelFunc) (leave func(), err error) {
	p := &pass{cancel: cancel}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, drainingError()
	}
	if g.open == nil {
		g.open = map[*pass]struct{}{}
	}
	g.open[p] = struct{}{}
	return func() { g.leave(p) }, nil
}

func (g *gate) leave(p *pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, p)
	if !g.closed {
		return
	}
	if !p.cancelled {
		g.finished++
	}
	if len(g.open) == 0 {
		close(g.empty)
	}
}

// drain closes the gate, waits up to grace for the open calls, and cancels the rest.
func (g *gate) drain(ctx context.Context, grace time.Duration) (finished, cancelled int) {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		g.empty = make(chan struct{})
		close(g.draining)
		if len(g.open) == 0 {
			close(g.empty)
		}
	}
	g.mu.Unlock()
	if !wait(ctx, g.empty, grace) {
		g.mu.Lock()
		for p := range g.open {
			p.cancelled = true
			p.cancel()
			cancelled++
		}
		g.mu.Unlock()
		wait(ctx, g.empty, cancelWait)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.finished, cancelled
}

// wait says whether done was closed in time.
func wait(ctx context.Context, done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

func drainingError() *Error {
	e := plugin.Errorf(codes.Unavailable, "the connector is draining and takes no new work")
	e.Origin, e.SideEffect, e.Reason = plugin.OriginPlugin, plugin.EffectNone, plugin.ReasonDraining
	e.RetryAfter = time.Second
	return e
}
