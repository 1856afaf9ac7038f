// Package sqlite keeps a host's state in one SQLite file: the embedded default, for one process on one machine.
//
// # Design notes
//
// The file belongs to one process, which holds an exclusive lock beside it. Everything else follows from that:
//
//   - One goroutine writes. What waits while a transaction commits goes into the next one together; there is no timer.
//     A request that fails is taken out and the others are done again without it, so that nobody fails for a neighbour.
//   - What is live (runs that are ready, waiting or running; hints) is indexed in memory and rebuilt at Open, so that a
//     claim reads no disk. A lease lives in memory only: it ends with the process at the latest, and Open hands out
//     higher fencing numbers than any before, so a lease from an earlier life can never write. A claim, and the start of
//     a run, therefore become durable with the first thing the run writes. Memory: about 300 bytes per live run or hint.
//   - Reads run beside the writer on connections of their own and see what has been acknowledged.
//
// Times are kept in microseconds. Payloads over 256 KiB are stored once, by their hash.
//
// It would take several processes on one state, or more than about 20,000 events a second, to change this; then use
// PostgreSQL.
package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// Options of a store; the zero value is good.
type Options struct {
	// MinFree is the free space in bytes below which nothing new is accepted (store.ErrFull), so that work already
	// accepted can be finished. Default 64 MiB; negative: no limit.
	MinFree int64
	// Readers is the number of connections that read. Default 4.
	Readers int
	// Logger hears what is no caller's error, such as a failed checkpoint. Default: silence.
	Logger *slog.Logger

	// free stands in for the file system in tests.
	free func(dir string) (int64, error)
	// checkpoint replaces checkpointPages in tests.
	checkpoint int
}

// Store is a store.Store in one SQLite file.
type Store struct {
	path string
	log  *slog.Logger
	lock *os.File

	w     *writer // nil when readOnly
	r     *readers
	space space

	readOnly bool

	mu    sync.Mutex // guards what follows
	runs  runIndex
	hints hintIndex
	count map[string]int64 // committed counts of what is not live, by name
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Spacious = (*Store)(nil)
)

// Open opens the file at path and creates it, but not its directory, if it is missing. It fails if another process has
// the file open, if the file is of a newer release, or if it is not ours. Leases of an earlier process count as lapsed.
func Open(ctx context.Context, path string, o Options) (_ *Store, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if path, err = realPath(path); err != nil {
		return nil, err
	}
	s := &Store{
		path: path,
		log:  cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		space: space{
			dir: filepath.Dir(path), min: cmp.Or(o.MinFree, 64<<20), free: freeSpace,
		},
	}
	if o.free != nil {
		s.space.free = o.free
	}
	if s.lock, err = lockFile(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unlockFile(s.lock))
		}
	}()
	// Alerts are nobody else's business; SQLite gives the files beside it the same mode.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}

	c, err := lite.Open(path, lite.ReadWrite)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	c.BusyTimeout(10_000)
	if err := c.Exec(writerPragmas); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := migrate(c, path); err != nil {
		return nil, err
	}
	w := &writer{s: s, c: c, log: s.log, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := s.load(w); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if w.k, err = openCheckpointer(path, cmp.Or(o.checkpoint, checkpointPages), s.log); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.w, s.r = w, newReaders(path, cmp.Or(max(o.Readers, 0), 4))
	go w.k.loop()
	go w.loop()
	return s, nil
}

// load rebuilds what is kept in memory and opens a new epoch of fencing numbers.
func (s *Store) load(w *writer) error {
	epoch, err := w.c.Int("SELECT value FROM state WHERE key = 'epoch'")
	if err != nil {
		return err
	}
	epoch++
	if err := w.c.Exec(fmt.Sprintf("INSERT OR REPLACE INTO state (key, value) VALUES ('epoch', %d)", epoch)); err != nil {
		return err
	}
	s.runs = newRunIndex(epoch << 32)
	s.hints = newHintIndex()
	for table, next := range map[string]*int64{
		"event": &w.lastEvent, "object": &w.lastObject, "run": &w.lastRun, "hint": &w.lastHint,
	} {
		col := "seq"
		if table == "object" {
			col = "id"
		}
		if *next, err = w.c.Int("SELECT max(" + col + ") FROM " + table); err != nil {
			return err
		}
	}
	if s.count, err = loadCounts(w.c); err != nil {
		return err
	}
	if err := s.loadHints(w.c); err != nil {
		return err
	}
	return s.loadRuns(w.c)
}

// Close writes what was handed in, ends the writer and closes the file. Calls that come later fail with ErrClosed.
func (s *Store) Close() error {
	if s.readOnly {
		return s.r.close()
	}
	if !s.w.stop() {
		return nil
	}
	err := errors.Join(s.r.close(), s.w.k.close())
	if cerr := s.w.c.Checkpoint(true); cerr != nil {
		s.log.Warn("checkpoint at close failed; the next start will do it", "path", s.path, "error", cerr)
	}
	return errors.Join(err, s.w.c.Close(), unlockFile(s.lock))
}

// space watches the free space, looking at most once a second.
type space struct {
	dir  string
	min  int64
	free func(string) (int64, error)

	mu   sync.Mutex
	at   time.Time
	left int64
	err  error
}

// check returns store.ErrFull while the file system is short. It recovers by itself.
func (s *space) check() error {
	if s.min < 0 {
		return nil
	}
	left, err := s.look()
	if err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	if left < s.min {
		return fmt.Errorf("%w: %s has %d MiB left and needs %d MiB to accept more", store.ErrFull, s.dir, left>>20, s.min>>20)
	}
	return nil
}

// Space implements store.Spacious.
func (s *Store) Space() (free, needed int64, ok bool) {
	left, err := s.space.look()
	return left, max(0, s.space.min), err == nil && left != math.MaxInt64
}

// look says how much is free, as it was within the last second.
func (s *space) look() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.at.IsZero() || now.Sub(s.at) >= time.Second {
		s.at = now
		s.left, s.err = s.free(s.dir)
	}
	return s.left, s.err
}
