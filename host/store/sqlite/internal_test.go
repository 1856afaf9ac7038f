package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
	"github.com/casewire/casewire/plugin/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openAt(t *testing.T, path string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func someEvent(id string) store.Ingest {
	return store.Ingest{
		Connection: "c", Trigger: "t", Via: store.ViaPoll, Now: time.Now(),
		Events: []store.Incoming{{
			Event: event.Event{ID: id, Source: "s", PartitionKey: "key-" + id, Rev: "1", Digest: "d"},
			Runs:  []store.NewRun{{Flow: "f"}},
		}},
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db")
	first := openAt(t, path, Options{})
	_, err := Open(t.Context(), path, Options{})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("in use by process ", os.Getpid())) {
		t.Fatalf("a second opening: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openAt(t, path, Options{})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreign := func(name, sql string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		c, err := lite.Open(path, lite.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Exec(sql); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		foreign("newer.db", fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 999", applicationID)): "its schema is version 999, and this program knows versions up to 2",
		foreign("other.db", "CREATE TABLE photos (id)"):                                                          "a SQLite database of another program",
		foreign("other2.db", "PRAGMA application_id = 17"):                                                       "a SQLite database of another program",
		garbage:                                 "not a database",
		filepath.Join(dir, "missing", "x.db"):   "no such file or directory",
		filepath.Join(dir, "not-a-file.db", ""): "is a directory",
	} {
		if strings.Contains(want, "is a directory") {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(t.Context(), path, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("open %s: %v, want %q", path, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, filepath.Join(dir, "new.db"), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// TestDurabilitySettings guards the settings on which "acknowledged is durable" rests: SIGKILL cannot tell them from
// weaker ones, a power cut could.
func TestDurabilitySettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db")
	s := openAt(t, path, Options{})
	err := s.w.write(t.Context(), "look", 0, func(t *tx) error {
		if n, err := t.c.Int("PRAGMA synchronous"); err != nil || n != 2 {
			return fmt.Errorf("synchronous = %d, %w", n, err)
		}
		st := t.stmt("PRAGMA journal_mode")
		defer st.Reset()
		if ok, err := st.Next(); !ok || st.ColText(0) != "wal" {
			return fmt.Errorf("journal_mode = %s, %w", st.ColText(0), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + ".lock"} {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", filepath.Base(name), fi.Mode())
		}
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(1 << 30)
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{free: func(string) (int64, error) { return free.Load(), nil }})
	ctx := t.Context()
	if _, err := s.Ingest(ctx, someEvent("1")); err != nil {
		t.Fatal(err)
	}
	look := func() { s.space.at = time.Time{} } // as if a second had passed
	free.Store(64<<20 - 1)
	if _, err := s.Ingest(ctx, someEvent("2")); err != nil {
		t.Fatalf("looked again within a second: %v", err)
	}
	look()
	_, ingest := s.Ingest(ctx, someEvent("3"))
	_, hints := s.AddHints(ctx, []store.Hint{{Connection: "c", Trigger: "t", ID: "h"}})
	_, runs := s.AddRuns(ctx, []store.NewRun{{Flow: "f"}})
	for what, err := range map[string]error{"ingest": ingest, "hints": hints, "runs": runs} {
		if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "63 MiB left") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if free, needed, ok := s.Space(); !ok || free != 64<<20-1 || needed != 64<<20 {
		t.Errorf("space: %d free, %d needed, %v", free, needed, ok)
	}
	now := time.Now()
	claimed, err := s.ClaimRuns(ctx, store.RunClaim{Owner: "w", Limit: 1, Now: now, LeaseUntil: now.Add(time.Minute)})
	if err != nil || len(claimed) != 1 {
		t.Fatalf("%d runs, %v", len(claimed), err)
	}
	err = s.Advance(ctx, store.Advance{Lease: store.Lease{Run: claimed[0].ID, Fence: claimed[0].Fence}, Now: now, State: store.RunSucceeded})
	if err != nil {
		t.Fatalf("what was accepted must be finished: %v", err)
	}
	free.Store(1 << 30)
	look()
	if _, err := s.Ingest(ctx, someEvent("3")); err != nil {
		t.Fatalf("after the disk was cleared: %v", err)
	}
	if n, err := freeSpace(t.TempDir()); err != nil || n <= 0 {
		t.Fatalf("free space = %d, %v", n, err)
	}
}

// TestNeighboursAreSafe puts requests that fail after they have written, and one that panics, among good ones.
func TestNeighboursAreSafe(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{})
	bad := errors.New("half-way")
	errs := make([]error, 60)
	gate, inside := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // holds the writer until all others are in the queue
		_ = s.w.write(t.Context(), "gate", 0, func(*tx) error { close(inside); <-gate; return nil })
	})
	<-inside
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.w.write(t.Context(), "request", 0, func(t *tx) error {
				if err := t.insertHint(hintKey{"c", "t", fmt.Sprint(i)}, store.Hint{Connection: "c", Trigger: "t", ID: fmt.Sprint(i)}); err != nil {
					return err
				}
				switch i % 20 {
				case 3:
					return bad
				case 7:
					panic("odd input")
				case 11:
					return t.exec("INSERT INTO hint (seq) VALUES (NULL)") // a constraint
				}
				return nil
			})
		})
	}
	for {
		s.w.mu.Lock()
		n := len(s.w.queue)
		s.w.mu.Unlock()
		if n >= len(errs) {
			break
		}
		runtime.Gosched()
	}
	close(gate)
	wg.Wait()
	for i, err := range errs {
		var sqlErr *lite.Error
		switch ok := true; i % 20 {
		case 3:
			ok = errors.Is(err, bad)
			fallthrough
		case 7:
			ok = ok && err != nil
			fallthrough
		case 11:
			if i%20 == 11 {
				ok = errors.As(err, &sqlErr) && sqlErr.Primary() == lite.Constraint
			}
			if !ok {
				t.Errorf("request %d: %v", i, err)
			}
		default:
			if err != nil {
				t.Errorf("request %d failed for its neighbour: %v", i, err)
			}
		}
	}
	now := time.Now()
	got, err := s.ClaimHints(t.Context(), store.HintClaim{Connection: "c", Trigger: "t", Limit: 100, Now: now, LeaseUntil: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 51 || len(s.hints.byKey) != 51 {
		t.Fatalf("%d hints are claimable and %d known, want 51", len(got), len(s.hints.byKey))
	}
}

// TestRollbackRestoresMemory fails a transaction after every kind of change to memory.
func TestRollbackRestoresMemory(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{})
	ctx, now := t.Context(), time.Now()
	hints := []store.Hint{{Connection: "c", Trigger: "t", ID: "done", Received: now}, {Connection: "c", Trigger: "t", ID: "retry", Received: now}, {Connection: "c", Trigger: "t", ID: "again", Received: now}}
	if _, err := s.AddHints(ctx, hints); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ingest(ctx, someEvent("1")); err != nil {
		t.Fatal(err)
	}
	runs, err := s.ClaimRuns(ctx, store.RunClaim{Owner: "w", Limit: 1, Now: now, LeaseUntil: now.Add(time.Minute)})
	if err != nil || len(runs) != 1 {
		t.Fatal(runs, err)
	}
	if !runs[0].Fresh {
		t.Fatal("a run that nobody had before has no journal to read")
	}
	lease := store.Lease{Run: runs[0].ID, Fence: runs[0].Fence}
	leased, err := s.ClaimHints(ctx, store.HintClaim{Connection: "c", Trigger: "t", Limit: 9, Now: now, LeaseUntil: now.Add(time.Minute)})
	if err != nil || len(leased) != 3 {
		t.Fatal(leased, err)
	}
	bad := errors.New("no")
	err = s.w.write(ctx, "spoiled", 0, func(t *tx) error {
		steps := []error{
			t.finishHint(hints[0]),
			t.retryHint(store.Hint{Connection: "c", Trigger: "t", ID: "retry", Attempt: 9, NotBefore: now.Add(time.Hour)}),
			t.retryHint(store.Hint{Connection: "c", Trigger: "t", ID: "new"}),
			t.moveRun(s.runs.byID[lease.Run], &store.Advance{Lease: lease, State: store.RunFailed}, payload{}, 1),
		}
		_, err := t.addHint(hints[2])
		return errors.Join(append(steps, err, bad)...)
	})
	if !errors.Is(err, bad) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("the transaction: %v", err)
	}
	if n, err := s.AddHints(ctx, hints[2:]); err != nil || n != 1 {
		t.Fatalf("the hint that came again in the spoiled transaction is taken for known: %d, %v", n, err)
	}
	again, err := s.ClaimHints(ctx, store.HintClaim{Connection: "c", Trigger: "t", Limit: 9, Now: now.Add(2 * time.Minute), LeaseUntil: now.Add(time.Hour)})
	if err != nil || len(again) != 3 || again[1].Attempt != 0 {
		t.Fatalf("hints after the rollback: %+v, %v", again, err)
	}
	if err := s.Advance(ctx, store.Advance{Lease: lease, Now: now, State: store.RunSucceeded}); err != nil {
		t.Fatalf("the run after the rollback: %v", err)
	}
	counts, err := s.CountRuns(ctx)
	if err != nil || len(counts) != 1 || counts[store.RunSucceeded] != 1 {
		t.Fatalf("counts after the rollback: %v, %v", counts, err)
	}
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{})
	gate, inside := make(chan struct{}), make(chan struct{})
	held := make(chan error)
	holder, leave := context.WithCancel(t.Context())
	go func() {
		held <- s.w.write(holder, "hold", 0, func(*tx) error { close(inside); <-gate; return nil })
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() { waiting <- s.Put(ctx, "k", []byte("v")) }()
	for queued := 0; queued == 0; {
		s.w.mu.Lock()
		queued = len(s.w.queue)
		s.w.mu.Unlock()
		runtime.Gosched()
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "before it was written") {
		t.Errorf("a waiting request: %v", err)
	}
	leave()
	if err := <-held; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "may have been") {
		t.Errorf("a request at work: %v", err)
	}
	close(gate)
	if v, err := s.Get(t.Context(), "k"); v != nil || err != nil {
		t.Errorf("a withdrawn write was done: %q, %v", v, err)
	}
}

// TestQueriesUseIndexes looks at the plans of the queries that must not read a whole table.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{})
	ofEvent, _ := runWhere(store.RunFilter{EventID: "x"})
	ofKey, _ := runWhere(store.RunFilter{OrderKey: "x"})
	parked, _ := runWhere(store.RunFilter{State: store.RunParked})
	for name, sql := range map[string]string{
		"live runs":      "SELECT seq FROM run WHERE state IN ('ready', 'waiting')",
		"runs of event":  selectRun + ofEvent,
		"runs of key":    selectRun + ofKey,
		"parked runs":    selectRun + parked,
		"known event":    "SELECT 1 FROM event WHERE id = ? AND source = ?",
		"events by key":  selectEvent + "WHERE object IN (" + familyOf + " SELECT id FROM family)",
		"events by subj": selectEvent + "WHERE subject = ?",
		"events by time": selectEvent + "WHERE received < ? ORDER BY received DESC, seq DESC LIMIT 5",
		"newest events":  selectEvent + "ORDER BY received DESC, seq DESC LIMIT 5",
		"effect":         effectColumns + "WHERE key = ? AND action = ? AND connection = ?",
		"open effects":   effectColumns + "WHERE state = ? AND state IN ('intent', 'unknown') ORDER BY seq DESC LIMIT ?",
	} {
		err := s.r.read(t.Context(), name, func(c *lite.Conn) error {
			st, err := c.Stmt("EXPLAIN QUERY PLAN " + sql)
			if err != nil {
				return err
			}
			defer st.Reset()
			for i := strings.Count(sql, "?"); i > 0; i-- {
				st.Text("x")
			}
			for {
				ok, err := st.Next()
				if err != nil || !ok {
					return err
				}
				plan := st.ColText(3)
				if strings.Contains(plan, "TEMP B-TREE") || strings.HasPrefix(plan, "SCAN") && !strings.Contains(plan, "INDEX") && !strings.HasSuffix(plan, "family") {
					return fmt.Errorf("plan: %s", plan)
				}
			}
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBlobsAreKeptOnce(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{})
	raw := []byte(strings.Repeat("long ", 100_000))
	err := s.AddDeadLetters(t.Context(), []store.DeadLetter{{Kind: "event", Raw: raw}, {Kind: "event", Raw: raw}, {Kind: "event", Raw: raw[1:]}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.r.read(t.Context(), "look", func(c *lite.Conn) error {
		n, err := c.Int("SELECT count(*) FROM blob")
		if err == nil && n != 2 {
			return fmt.Errorf("%d blobs", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLogStaysShort writes many times what the log may hold, with readers at work.
func TestLogStaysShort(t *testing.T) {
	t.Parallel()
	const every, page = 32, 8192
	path := filepath.Join(t.TempDir(), "casewire.db")
	s := openAt(t, path, Options{checkpoint: every})
	value := []byte(strings.Repeat("v", 4*page))
	var most int64
	for i := range 600 { // about 3,000 pages
		if err := s.Put(t.Context(), fmt.Sprint("k", i%50), value); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Get(t.Context(), fmt.Sprint("k", i%50)); err != nil || len(v) != len(value) {
			t.Fatal(len(v), err)
		}
		fi, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, fi.Size())
	}
	if limit := int64(3 * stallFactor * every * page); most > limit {
		t.Fatalf("the log grew to %d KiB, want less than %d", most>>10, limit>>10)
	}
}

func TestReadsCanBeInterrupted(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "casewire.db"), Options{Readers: 1})
	ctx, cancel := context.WithCancel(t.Context())
	err := s.r.read(ctx, "for ever", func(c *lite.Conn) error {
		cancel()
		_, err := c.Int("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("an endless query: %v", err)
	}
	if _, err := s.Get(t.Context(), "k"); err != nil {
		t.Fatalf("the next on the same connection: %v", err)
	}
}

// A file of the first schema is brought up to date: groups that have cases already are known to have them.
func TestMigrateGroups(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "old.db")
	c, err := lite.Open(path, lite.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		migrations[0], fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 1", applicationID),
		"INSERT INTO run (seq, id, flow, version, case_key, group_by, tenant, state, fence) VALUES (1, 'r1', 'f', 'v', 'msincident:t:1', 'incident', 'acme', 'succeeded', 0)",
	} {
		if err := c.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.w.write(t.Context(), "test", 0, func(tx *tx) error {
		for name, want := range map[string]bool{"msincident:t:1": true, "msincident:t:2": false} {
			if used, err := tx.groupUsed(name, "acme"); err != nil || used != want {
				t.Errorf("%s: used %v, %v", name, used, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
