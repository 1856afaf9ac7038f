package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// Get implements store.Meta.
func (s *Store) Get(ctx context.Context, key string) (value []byte, err error) {
	err = s.r.read(ctx, "get "+key, func(c *lite.Conn) error {
		value, err = readBytes(c, "SELECT value FROM meta WHERE key = ?", key)
		return err
	})
	return value, err
}

// Cursor implements store.Inbox.
func (s *Store) Cursor(ctx context.Context, connection, trigger string) (value []byte, err error) {
	err = s.r.read(ctx, "cursor", func(c *lite.Conn) error {
		value, err = readBytes(c, "SELECT value FROM cursor WHERE connection = ? AND trigger_name = ?", connection, trigger)
		return err
	})
	return value, err
}

func readBytes(c *lite.Conn, sql string, args ...string) ([]byte, error) {
	st, err := c.Stmt(sql)
	if err != nil {
		return nil, err
	}
	defer st.Reset()
	for _, a := range args {
		st.Text(a)
	}
	ok, err := st.Next()
	if err != nil || !ok {
		return nil, err
	}
	return st.ColBlob(0), nil
}

// Put implements store.Meta. A nil value is kept as an empty one.
func (s *Store) Put(ctx context.Context, key string, value []byte) error {
	return s.w.write(ctx, "put "+key, len(value), func(t *tx) error {
		return t.done(t.stmt("REPLACE INTO meta (key, value) VALUES (?, ?)").Text(key).Blob(present(value)))
	})
}

// PutIfAbsent implements store.Meta.
func (s *Store) PutIfAbsent(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	err = s.w.write(ctx, "put "+key, len(value), func(t *tx) error {
		stands, err = readBytes(t.c, "SELECT value FROM meta WHERE key = ?", key)
		if err != nil || stands != nil {
			return err
		}
		stands = present(value)
		return t.done(t.stmt("INSERT INTO meta (key, value) VALUES (?, ?)").Text(key).Blob(stands))
	})
	if err != nil {
		return nil, err
	}
	return stands, nil
}

func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

const openDeadLetters = "dead_letter/open"

// Counts of what grows for ever are kept rather than taken: one row, written with the transaction that changes them.

func loadCounts(c *lite.Conn) (map[string]int64, error) {
	raw, err := readBytes(c, "SELECT value FROM state WHERE key = ?", "counts")
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	if raw == nil {
		return counts, nil
	}
	if err := json.Unmarshal(raw, &counts); err != nil {
		return nil, fmt.Errorf("the store's counts cannot be read: %w", err)
	}
	return counts, nil
}

// saveCounts writes the counts as they are after this transaction.
func (t *tx) saveCounts() error {
	if len(t.count) == 0 {
		return nil
	}
	sum := make(map[string]int64, len(t.s.count)+len(t.count))
	// only the writer changes them
	maps.Copy(sum, t.s.count)
	for k, n := range t.count {
		sum[k] += n
	}
	raw, err := json.Marshal(sum)
	if err != nil {
		return err
	}
	return t.done(t.stmt("REPLACE INTO state (key, value) VALUES ('counts', ?)").Blob(raw))
}

// countRuns needs Store.mu.
func (s *Store) countRuns() map[store.RunState]int {
	out := map[store.RunState]int{}
	for state, n := range s.runs.count {
		if n > 0 {
			out[state] = n
		}
	}
	for k, n := range s.count {
		if state, ok := strings.CutPrefix(k, "run/"); ok && n > 0 {
			out[store.RunState(state)] = int(n)
		}
	}
	return out
}

// Stats implements store.Meta.
func (s *Store) Stats(ctx context.Context) (store.Stats, error) {
	if err := s.usable(ctx, "stats"); err != nil {
		return store.Stats{}, err
	}
	if s.readOnly {
		return s.stats(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return makeStats(s.count, s.countRuns(), len(s.hints.byKey)), nil
}

// makeStats reads the kept counts; runs are counted by the caller, ended ones are taken from the counts if missing.
func makeStats(counts map[string]int64, runs map[store.RunState]int, hints int) store.Stats {
	out := store.Stats{
		Hints: hints, Runs: runs, DeadLetters: int(counts[openDeadLetters]),
		Events: map[store.Verdict]int{}, EventsVia: map[store.Via]int{}, Effects: map[store.EffectState]int{},
	}
	for k, n := range counts {
		kind, name, _ := strings.Cut(k, "/")
		if n == 0 {
			continue
		}
		switch kind {
		case "event":
			out.Events[store.Verdict(name)] = int(n)
		case "via":
			out.EventsVia[store.Via(name)] = int(n)
		case "effect":
			out.Effects[store.EffectState(name)] = int(n)
		case "run":
			out.Runs[store.RunState(name)] = int(n)
		}
	}
	return out
}
