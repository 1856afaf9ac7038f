package sqlite

import (
	"cmp"
	"context"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// What may go. Each condition is asked twice: to find candidates beside the writer, and again in the transaction that
// removes them. A live run's state on disk is ready or waiting.
const (
	liveStates = "('ready', 'waiting')"
	// A dead letter that nobody dealt with keeps its run, and a run that somebody has to look at keeps its event.
	openLetter = "EXISTS (SELECT 1 FROM dead_letter d WHERE d.resolved IS NULL AND d.run = r.id)"
	needed     = "(r.state IN ('ready', 'waiting', 'parked') OR r.state = 'dead_letter' AND " + openLetter + ")"

	runMayGo = "r.state IN ('succeeded', 'failed', 'dead_letter', 'cancelled') AND r.ended < ?1 AND NOT " + needed +
		" AND NOT EXISTS (SELECT 1 FROM run c WHERE c.state IN " + liveStates + " AND c.parent = r.id)"
	eventMayGo = "e.received < ?1 AND NOT EXISTS (SELECT 1 FROM run r WHERE r.object = e.object AND r.event_id = e.id AND " + needed + ")" +
		" AND NOT EXISTS (SELECT 1 FROM run r WHERE r.object IS NULL AND r.event_id IS NOT NULL AND r.event_id = e.id AND " + needed + ")"
	letterMayGo = "d.resolved IS NOT NULL AND d.resolved < ?1"
)

// prunableKind is one kind of what is removed.
type prunableKind struct {
	before    func(*store.Prune) int64
	find      string // ?1: before, ?2: how many
	remove    string // ?1: before, ?2: the row; returns what is counted, and two payloads
	count     func(*store.Pruned, *tx, string, string)
	journaled bool
}

// prunable are the kinds, runs first: they need events.
var prunable = []prunableKind{
	{
		before:    func(p *store.Prune) int64 { return micros(p.RunsBefore) },
		journaled: true,
		// Runs end after they were created, and are numbered in that order: behind the first younger one there is none.
		find: "SELECT r.seq FROM run r WHERE r.seq < coalesce((SELECT min(seq) FROM run WHERE created >= ?1), 1 << 62) AND " + runMayGo +
			" ORDER BY r.seq LIMIT ?2",
		remove: "DELETE FROM run AS r WHERE r.seq = ?2 AND " + runMayGo + " RETURNING state, '', input, output",
		count: func(n *store.Pruned, t *tx, state, _ string) {
			n.Runs++
			t.count["run/"+state]--
		},
	},
	{
		before: func(p *store.Prune) int64 { return micros(p.EventsBefore) },
		find:   "SELECT e.seq FROM event e WHERE " + eventMayGo + " ORDER BY e.received LIMIT ?2",
		remove: "DELETE FROM event AS e WHERE e.seq = ?2 AND " + eventMayGo + " RETURNING verdict, via, data, NULL",
		count: func(n *store.Pruned, t *tx, verdict, via string) {
			n.Events++
			t.count["event/"+verdict]--
			if verdict == string(store.Accepted) {
				t.count["via/"+via]--
			}
		},
	},
	{
		before: func(p *store.Prune) int64 { return micros(p.DeadLettersBefore) },
		find:   "SELECT d.seq FROM dead_letter d WHERE " + letterMayGo + " ORDER BY d.seq LIMIT ?2",
		remove: "DELETE FROM dead_letter AS d WHERE d.seq = ?2 AND " + letterMayGo + " RETURNING '', '', raw, NULL",
		count:  func(n *store.Pruned, _ *tx, _, _ string) { n.DeadLetters++ },
	},
}

// pruneLimit is how many rows of each kind go at once: few enough that an intake which waits behind does not notice.
const pruneLimit = 100

// Prune implements store.Meta.
func (s *Store) Prune(ctx context.Context, p store.Prune) (n store.Pruned, err error) {
	limit := cmp.Or(p.Limit, pruneLimit)
	rows := make([][]int64, len(prunable))
	err = s.r.read(ctx, "prune", func(c *lite.Conn) error {
		for i := range prunable {
			k := &prunable[i]
			before := k.before(&p)
			if before == 0 {
				continue
			}
			if rows[i], err = readInts(c, k.find, before, int64(limit)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	total := 0
	for _, list := range rows {
		total += len(list)
	}
	if total > 0 {
		err = s.w.write(ctx, "prune", total*4096, func(t *tx) error {
			n = store.Pruned{}
			blobs := map[int64]bool{}
			for i := range prunable {
				k := &prunable[i]
				for _, seq := range rows[i] {
					if err := t.remove(&n, k, k.before(&p), seq, blobs); err != nil {
						return err
					}
				}
			}
			return t.sweep(blobs)
		})
	}
	if err != nil {
		return store.Pruned{}, err
	}
	n.Used, err = s.used(ctx)
	return n, err
}

// remove deletes one row, if it may still go.
func (t *tx) remove(n *store.Pruned, k *prunableKind, before, seq int64, blobs map[int64]bool) error {
	st := t.stmt(k.remove).Int(before).Int(seq)
	t.writes++
	ok, err := st.Next()
	if err != nil || !ok {
		st.Reset()
		return err
	}
	a, b := st.ColText(0), st.ColText(1)
	noteBlobs(st, 2, blobs)
	if err := st.Exec(); err != nil { // to its end
		return err
	}
	k.count(n, t, a, b)
	if !k.journaled {
		return nil
	}
	st = t.stmt("DELETE FROM step WHERE run = ? RETURNING input, output").Int(seq)
	defer st.Reset()
	for {
		ok, err := st.Next()
		if err != nil || !ok {
			return err
		}
		noteBlobs(st, 0, blobs)
	}
}

// noteBlobs notes which long payloads two columns refer to.
func noteBlobs(st *lite.Stmt, first int, blobs map[int64]bool) {
	for col := first; col < first+2; col++ {
		if st.ColIsInt(col) {
			blobs[st.ColInt(col)] = true
		}
	}
}

// sweep removes long payloads that nothing refers to any more.
func (t *tx) sweep(blobs map[int64]bool) error {
	for id := range blobs {
		st := t.stmt("DELETE FROM blob WHERE id = ?1" +
			" AND NOT EXISTS (SELECT 1 FROM event WHERE typeof(data) = 'integer' AND data = ?1)" +
			" AND NOT EXISTS (SELECT 1 FROM run WHERE typeof(input) = 'integer' AND input = ?1)" +
			" AND NOT EXISTS (SELECT 1 FROM run WHERE typeof(output) = 'integer' AND output = ?1)" +
			" AND NOT EXISTS (SELECT 1 FROM step WHERE typeof(input) = 'integer' AND input = ?1)" +
			" AND NOT EXISTS (SELECT 1 FROM step WHERE typeof(output) = 'integer' AND output = ?1)" +
			" AND NOT EXISTS (SELECT 1 FROM effect WHERE typeof(result) = 'integer' AND result = ?1)" +
			" AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE typeof(raw) = 'integer' AND raw = ?1)")
		if err := t.done(st.Int(id)); err != nil {
			return err
		}
	}
	return nil
}

// used is how many bytes of the file hold something. What was removed is used again; the file does not get smaller.
func (s *Store) used(ctx context.Context) (used int64, err error) {
	err = s.r.read(ctx, "size", func(c *lite.Conn) error {
		var n [3]int64
		for i, pragma := range []string{"PRAGMA page_count", "PRAGMA freelist_count", "PRAGMA page_size"} {
			if n[i], err = c.Int(pragma); err != nil {
				return err
			}
		}
		used = (n[0] - n[1]) * n[2]
		return nil
	})
	return used, err
}

func readInts(c *lite.Conn, sql string, args ...int64) (out []int64, err error) {
	st, err := c.Stmt(sql)
	if err != nil {
		return nil, err
	}
	defer st.Reset()
	for _, a := range args {
		st.Int(a)
	}
	for {
		ok, err := st.Next()
		if err != nil || !ok {
			return out, err
		}
		out = append(out, st.ColInt(0))
	}
}
