package sqlite

import (
	"log/slog"
	"sync/atomic"

	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

const (
	// checkpointPages is how much log is gathered before it is copied into the database: the longer, the more often a page
	// that changes all the time is copied once instead of many times.
	checkpointPages = 8192
	// restShare is how little of that must be left for the writer to copy it itself.
	restShare = 16
	// stallFactor is how many times that much log makes the writer stop and copy: the disk is slower than the alerts come.
	stallFactor = 8
)

// checkpointer copies the log into the database while the writer goes on, on a connection of its own: on a slow disk that
// takes seconds, and callers must not wait for it. What is written meanwhile it copies too, until little is left; that
// little the writer copies between two transactions, since the log can begin anew only when nothing is left.
type checkpointer struct {
	c       *lite.Conn
	log     *slog.Logger
	path    string
	every   int          // pages
	written atomic.Int64 // pages, by the writer
	due     chan struct{}
	phase   atomic.Int32
	done    chan struct{}

	uncopied int // pages since the last copy began; the writer's
}

// Phases of a copy. The writer takes it from idle to copying and from rest to idle, the checkpointer the way between.
const (
	phaseIdle int32 = iota
	phaseCopying
	phaseRest // what is left is the writer's
)

func openCheckpointer(path string, every int, log *slog.Logger) (*checkpointer, error) {
	c, err := lite.Open(path, lite.ReadWrite)
	if err != nil {
		return nil, err
	}
	if err := c.Exec("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -64"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &checkpointer{c: c, log: log, path: path, every: every, due: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

func (k *checkpointer) loop() {
	defer close(k.done)
	for range k.due {
		for range 8 {
			before := k.written.Load()
			if !k.copy(k.c) || k.written.Load()-before < int64(k.every/restShare) {
				break
			}
		}
		k.phase.Store(phaseRest)
	}
}

// copy copies what readers allow.
func (k *checkpointer) copy(c *lite.Conn) bool {
	err := c.Checkpoint(false)
	if err != nil {
		k.log.Warn("checkpoint failed; the log grows until one succeeds", "path", k.path, "error", err)
	}
	return err == nil
}

// committed is called by the writer after each transaction, when its callers have their answers.
func (k *checkpointer) committed(c *lite.Conn) {
	n := c.PagesWritten()
	k.written.Add(int64(n))
	k.uncopied += n
	switch {
	case k.phase.CompareAndSwap(phaseRest, phaseIdle), k.uncopied >= stallFactor*k.every:
		k.copy(c)
		k.uncopied = 0
	case k.uncopied >= k.every && k.phase.CompareAndSwap(phaseIdle, phaseCopying):
		k.due <- struct{}{}
	}
}

// close waits for the copy at work. The writer must have ended.
func (k *checkpointer) close() error {
	close(k.due)
	<-k.done
	return k.c.Close()
}
