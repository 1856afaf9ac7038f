package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// readers is a small pool of read-only connections, which are opened when they are first needed.
type readers struct {
	path string
	free chan *lite.Conn // nil: not open yet
	gone chan struct{}
}

func newReaders(path string, n int) *readers {
	r := &readers{path: path, free: make(chan *lite.Conn, n), gone: make(chan struct{})}
	for range n {
		r.free <- nil
	}
	return r
}

func (r *readers) open() (*lite.Conn, error) {
	c, err := lite.Open(r.path, lite.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", r.path, err)
	}
	c.BusyTimeout(10_000)
	if err := c.Exec(readerPragmas); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s for reading: %w", r.path, err), c.Close())
	}
	return c, nil
}

// close waits for the reads at work.
func (r *readers) close() error {
	close(r.gone)
	var errs []error
	for range cap(r.free) {
		if c := <-r.free; c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// read calls f with a connection of its own; a context that ends interrupts it. Several statements in f may see
// different states of the store.
func (r *readers) read(ctx context.Context, what string, f func(*lite.Conn) error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("store: %s: %w", what, context.Cause(ctx))
	}
	select {
	case <-r.gone:
		return ErrClosed
	default:
	}
	var c *lite.Conn
	select {
	case c = <-r.free:
	case <-r.gone:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("store: %s: %w", what, context.Cause(ctx))
	}
	defer func() { r.free <- c }()
	if c == nil {
		var err error
		if c, err = r.open(); err != nil {
			return wrap(what, err)
		}
	}
	if ctx.Done() != nil {
		defer interruptOn(ctx, c)()
	}
	err := f(c)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("store: %s: %w", what, context.Cause(ctx))
	}
	return wrap(what, err)
}

// interruptOn interrupts c once the context ends. The function it returns ends that, and returns when c is safe to be used
// for something else.
func interruptOn(ctx context.Context, c *lite.Conn) func() {
	finished, interrupted := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for {
			c.Interrupt() // is lost if the query is only about to begin
			select {
			case <-finished:
				return
			case <-again.C:
			}
		}
	})
	return func() {
		close(finished)
		if !stop() {
			<-interrupted
		}
	}
}
