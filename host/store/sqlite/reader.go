package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// readers is a small pool of read-only connections.
type readers struct {
	free chan *lite.Conn
	all  []*lite.Conn
	gone chan struct{}
}

func openReaders(path string, n int) (*readers, error) {
	r := &readers{free: make(chan *lite.Conn, n), gone: make(chan struct{})}
	for range n {
		c, err := lite.Open(path, lite.ReadOnly)
		if err == nil {
			r.all = append(r.all, c)
			c.BusyTimeout(10_000)
			err = c.Exec(readerPragmas)
		}
		if err != nil {
			for _, c := range r.all {
				err = errors.Join(err, c.Close())
			}
			return nil, fmt.Errorf("open %s for reading: %w", path, err)
		}
		r.free <- c
	}
	return r, nil
}

// close waits for the reads at work.
func (r *readers) close() error {
	close(r.gone)
	var errs []error
	for range r.all {
		errs = append(errs, (<-r.free).Close())
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
	if ctx.Done() != nil {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(interrupted)
			c.Interrupt()
		})
		defer func() {
			if !stop() {
				<-interrupted // or it would hit the next read
			}
		}()
	}
	err := f(c)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("store: %s: %w", what, context.Cause(ctx))
	}
	return wrap(what, err)
}
