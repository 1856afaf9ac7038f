package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// ErrClosed is returned by every method of a store that has been closed.
var ErrClosed = errors.New("store: closed")

const (
	batchOps   = 512     // requests in one transaction
	batchBytes = 8 << 20 // payload in one transaction; one request may exceed it
)

// op is one request to the writer. do may be called more than once: when a neighbour in the transaction fails, all of it
// is rolled back and done again. It must check first and write afterwards.
type op struct {
	what  string
	bytes int
	do    func(*tx) error
	err   error
	state atomic.Int32
	done  chan struct{}
}

// States of an op: a caller that gives up withdraws it, unless the writer has begun.
const (
	opQueued int32 = iota
	opTaken
	opWithdrawn
)

// tx is the transaction at work. Memory follows the disk: what an op changes in memory at once is taken back by undo;
// what must not be seen before it is durable waits in then. Both run under Store.mu.
type tx struct {
	*writer
	undo   []func()
	then   []func()
	count  map[string]int64
	writes int
}

// writer owns the writing connection.
type writer struct {
	s   *Store
	c   *lite.Conn
	k   *checkpointer
	log *slog.Logger

	lastEvent, lastObject, lastRun, lastHint int64 // rowids handed out

	mu      sync.Mutex
	queue   []*op
	closing bool
	wake    chan struct{}
	done    chan struct{}
}

// write hands an op to the writer and waits until it is durable or refused.
func (w *writer) write(ctx context.Context, what string, bytes int, do func(*tx) error) error {
	if w == nil {
		return fmt.Errorf("store: %s: %w", what, ErrReadOnly)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: %s: %w", what, context.Cause(ctx))
	}
	o := &op{what: what, bytes: bytes, do: do, done: make(chan struct{})}
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return ErrClosed
	}
	w.queue = append(w.queue, o)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	if o.state.CompareAndSwap(opQueued, opWithdrawn) {
		return fmt.Errorf("store: %s: given up before it was written: %w", what, context.Cause(ctx))
	}
	select {
	case <-o.done: // it was decided just now
		return o.err
	default:
		return fmt.Errorf("store: %s: given up while it was being written, so it may have been: %w", what, context.Cause(ctx))
	}
}

// stop ends the writer after the queue is done. It returns false if it was stopped before.
func (w *writer) stop() bool {
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		<-w.done
		return false
	}
	w.closing = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-w.done
	return true
}

func (w *writer) loop() {
	defer close(w.done)
	var batch []*op
	for {
		<-w.wake
		for {
			var closing bool
			runtime.Gosched() // whom the last commit set free comes along, where there is a queue at all
			batch, closing = w.take(batch[:0])
			if len(batch) == 0 {
				if closing {
					return
				}
				break
			}
			w.commit(batch)
			for _, o := range batch {
				close(o.done)
			}
			clear(batch)
			w.k.committed(w.c)
		}
	}
}

// take moves the next requests from the queue to batch.
func (w *writer) take(batch []*op) (_ []*op, closing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, bytes := 0, 0
	for n < len(w.queue) && n < batchOps && (n == 0 || bytes+w.queue[n].bytes <= batchBytes) {
		o := w.queue[n]
		n++
		if o.state.CompareAndSwap(opQueued, opTaken) {
			bytes += o.bytes
			batch = append(batch, o)
		}
	}
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	if len(batch) == 0 && rest > 0 { // all of them were withdrawn
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return batch, w.closing && rest == 0
}

// commit does a batch in one transaction and sets each op's err. An op that fails after it wrote something makes the
// rest be done again without it.
func (w *writer) commit(batch []*op) {
	todo := batch
	for len(todo) > 0 {
		failed, err := w.try(todo)
		if err == nil {
			return
		}
		if failed == nil { // the transaction itself
			for _, o := range todo {
				o.err = wrap(o.what, err)
			}
			return
		}
		failed.err = wrap(failed.what, err)
		rest := make([]*op, 0, len(todo)-1)
		for _, o := range todo {
			if o != failed {
				rest = append(rest, o)
			}
		}
		todo = rest
	}
}

// try does all ops in one transaction. If an op fails after it has written, it rolls back and returns that op.
func (w *writer) try(ops []*op) (failed *op, err error) {
	t := &tx{writer: w, count: map[string]int64{}}
	if err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	t.writes = 0
	for _, o := range ops {
		before := t.writes
		o.err = t.run(o)
		var broken *lite.Error
		if o.err != nil && (t.writes != before || errors.As(o.err, &broken)) {
			t.rollback()
			return o, o.err
		}
	}
	if t.writes == 0 { // nothing to make durable; memory may have changed all the same
		t.end()
		t.finish()
		return nil, nil
	}
	if err := t.saveCounts(); err != nil {
		t.rollback()
		return nil, err
	}
	if err := t.exec("COMMIT"); err != nil {
		t.rollback()
		return nil, err
	}
	t.finish()
	return nil, nil
}

// run calls an op, and turns a panic into an error: one caller's odd input must not end the writer.
func (t *tx) run(o *op) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.log.Error("panic in the store", "request", o.what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			t.writes++ // whatever it did goes
			err = fmt.Errorf("store: %s: internal error: %v", o.what, p)
		}
	}()
	return o.do(t)
}

// end leaves the transaction without a commit.
func (t *tx) end() {
	if !t.c.InTx() { // some errors roll back by themselves
		return
	}
	if err := t.c.Exec("ROLLBACK"); err != nil {
		t.log.Error("rollback failed", "path", t.s.path, "error", err)
	}
}

// rollback takes back what was done on disk and in memory.
func (t *tx) rollback() {
	t.end()
	if len(t.undo) == 0 {
		return
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for _, v := range slices.Backward(t.undo) {
		v()
	}
	t.undo = nil
}

// finish makes memory follow what is now durable.
func (t *tx) finish() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for _, f := range t.then {
		f()
	}
	for k, n := range t.count {
		t.s.count[k] += n
	}
}

// stmt returns a prepared statement. A statement that cannot be prepared is a mistake in this package.
func (t *tx) stmt(sql string) *lite.Stmt { return must(t.c.Stmt(sql)) }

// done runs a bound statement that writes.
func (t *tx) done(st *lite.Stmt) error {
	t.writes++
	return st.Exec()
}

// exec runs a statement without arguments.
func (t *tx) exec(sql string) error { return t.done(t.stmt(sql)) }

func must(st *lite.Stmt, err error) *lite.Stmt {
	if err != nil {
		panic(err)
	}
	return st
}

// wrap says what failed, and turns SQLite's full disk into ours.
func wrap(what string, err error) error {
	var e *lite.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Primary() == lite.Full {
		return fmt.Errorf("store: %s: %w: %w", what, store.ErrFull, err)
	}
	return fmt.Errorf("store: %s: %w", what, err)
}
