package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// ledgerRow is an effect with what only the ledger needs.
type ledgerRow struct {
	store.Effect
	seq       int64
	successes int64
}

const effectColumns = "SELECT seq, connection, action, key, state, run, path, first_sent, attempts, successes, updated, reason, result FROM effect "

func scanEffect(c *lite.Conn, st *lite.Stmt) (*ledgerRow, error) {
	r := &ledgerRow{seq: st.ColInt(0), successes: st.ColInt(9)}
	r.Connection, r.Action, r.Key = st.ColText(1), st.ColText(2), st.ColText(3)
	r.State, r.Run, r.Path = store.EffectState(st.ColText(4)), st.ColText(5), st.ColText(6)
	r.FirstSent, r.Attempts, r.Updated, r.Reason = colTime(st, 7), int(st.ColInt(8)), colTime(st, 10), st.ColText(11)
	result, err := colPayload(c, st, 12)
	r.Result = result
	return r, err
}

func readEffect(c *lite.Conn, k store.EffectKey) (*ledgerRow, error) {
	st, err := c.Stmt(effectColumns + "WHERE key = ? AND action = ? AND connection = ?")
	if err != nil {
		return nil, err
	}
	defer st.Reset()
	ok, err := st.Text(k.Key).Text(k.Action).Text(k.Connection).Next()
	if err != nil || !ok {
		return nil, err
	}
	return scanEffect(c, st)
}

// ledgerRow returns the entry of a key, nil if there is none.
func (t *tx) ledgerRow(k store.EffectKey) (*ledgerRow, error) { return readEffect(t.c, k) }

// BeginEffect implements store.Effects. The time of the intent is e.Updated, else e.FirstSent, else now.
func (s *Store) BeginEffect(ctx context.Context, lease store.Lease, e store.Effect, steps []store.Step) (prior store.Effect, err error) {
	if e.Connection == "" || e.Action == "" || e.Key == "" {
		return prior, fmt.Errorf("store: begin effect: %w", errNoEffectKey)
	}
	bytes := 256
	journal := newSteps(steps, &bytes)
	now := cmp.Or(micros(e.Updated), micros(e.FirstSent))
	if now == 0 {
		now = time.Now().UnixMicro()
	}
	err = s.w.write(ctx, "begin effect", bytes, func(t *tx) error {
		prior = store.Effect{}
		s.mu.Lock()
		r := s.runs.held(lease)
		if r != nil {
			r.journaled(len(journal))
		}
		s.mu.Unlock()
		if r == nil {
			return fmt.Errorf("%w: run %s, fence %d", store.ErrFenced, lease.Run, lease.Fence)
		}
		if e.Current {
			if err := t.current(r.seq); err != nil {
				return err
			}
		}
		isNew, err := t.insertEffect(&e, lease.Run, cmp.Or(micros(e.FirstSent), now), now)
		if err != nil {
			return err
		}
		if !isNew {
			row, err := t.ledgerRow(e.EffectKey)
			if err != nil {
				return err
			}
			if err := t.notBusy(row, lease.Run); err != nil {
				return err
			}
			prior = row.Effect
			if err := t.reopenEffect(row, &e, lease.Run, now); err != nil {
				return err
			}
		}
		t.then = append(t.then, func() { r.updated = now })
		return t.putSteps(r.seq, journal)
	})
	if err != nil {
		return store.Effect{}, err
	}
	return prior, nil
}

// insertEffect writes the intent of an effect that nobody tried before, and returns false if somebody did.
func (t *tx) insertEffect(e *store.Effect, run string, sent, now int64) (bool, error) {
	st := t.stmt("INSERT INTO effect (connection, action, key, state, run, path, first_sent, attempts, successes, updated) " +
		"VALUES (?, ?, ?, 'intent', ?, ?, ?, 1, 0, ?) ON CONFLICT DO NOTHING").
		Text(e.Connection).Text(e.Action).Text(e.Key).Text(run).Text(e.Path)
	if err := bindMicros(bindMicros(st, sent), now).Exec(); err != nil {
		return false, err
	}
	if t.c.Changes() == 0 {
		return false, nil
	}
	t.writes++
	t.count["effect/"+string(store.EffectIntent)]++
	return true, nil
}

// reopenEffect writes the intent of an effect that the ledger knows. While the outcome of an earlier attempt is open, the
// time of that one is what counts.
func (t *tx) reopenEffect(row *ledgerRow, e *store.Effect, run string, now int64) error {
	first, attempts := cmp.Or(micros(e.FirstSent), now), 1
	switch row.State {
	case store.EffectIntent, store.EffectUnknown:
		first, attempts = cmp.Or(micros(row.FirstSent), first), row.Attempts+1
	case store.EffectNone:
		attempts = row.Attempts + 1
	}
	t.count["effect/"+string(row.State)]--
	t.count["effect/"+string(store.EffectIntent)]++
	st := t.stmt("UPDATE effect SET state = 'intent', run = ?, path = ?, first_sent = ?, attempts = ?, updated = ?, reason = NULL WHERE seq = ?").
		Text(run).Text(e.Path)
	return t.done(bindMicros(bindMicros(st, first).Int(int64(attempts)), now).Int(row.seq))
}

// settleEffect writes what an Advance says of an effect.
func (t *tx) settleEffect(row *ledgerRow, e *store.Effect, result payload, run string, now int64) error {
	if row == nil {
		if _, err := t.insertEffect(e, run, cmp.Or(micros(e.FirstSent), now), now); err != nil {
			return err
		}
		var err error
		if row, err = t.ledgerRow(e.EffectKey); err != nil {
			return err
		}
	}
	state := e.State
	if state == store.EffectNone && row.successes > 0 {
		state = store.EffectDone // this attempt surely did nothing; what an earlier one did stays done
	}
	t.count["effect/"+string(row.State)]--
	t.count["effect/"+string(state)]++
	path := cmp.Or(e.Path, row.Path)
	if e.State != store.EffectDone {
		st := t.stmt("UPDATE effect SET state = ?, run = ?, path = ?, updated = ?, reason = ? WHERE seq = ?")
		return t.done(bindMicros(st.Text(string(state)).Text(run).Text(path), now).TextOrNull(e.Reason).Int(row.seq))
	}
	out, err := t.keep(result)
	if err != nil {
		return err
	}
	st := t.stmt("UPDATE effect SET state = ?, run = ?, path = ?, updated = ?, reason = ?, successes = successes + 1, result = ? WHERE seq = ?")
	bindMicros(st.Text(string(state)).Text(run).Text(path), now).TextOrNull(e.Reason)
	return t.done(out.bind(st).Int(row.seq))
}

// Effect implements store.Effects.
func (s *Store) Effect(ctx context.Context, key store.EffectKey) (e store.Effect, err error) {
	err = s.r.read(ctx, "effect", func(c *lite.Conn) error {
		row, err := readEffect(c, key)
		if err != nil {
			return err
		}
		if row == nil {
			return notFound("the ledger has no effect %s of %s on %s", key.Key, key.Action, key.Connection)
		}
		e = row.Effect
		return nil
	})
	return e, err
}

// ListEffects implements store.Effects. A limit of zero means all.
func (s *Store) ListEffects(ctx context.Context, state store.EffectState, limit int) (out []store.Effect, err error) {
	where := ""
	switch state {
	case "":
	case store.EffectIntent, store.EffectUnknown:
		where = "WHERE state = ? AND state IN ('intent', 'unknown') "
	default:
		where = "WHERE +state = ? "
	}
	err = s.r.read(ctx, "list effects", func(c *lite.Conn) error {
		out = nil
		st, err := c.Stmt(effectColumns + where + "ORDER BY seq DESC LIMIT ?")
		if err != nil {
			return err
		}
		defer st.Reset()
		if state != "" {
			st.Text(string(state))
		}
		st.Int(sqlLimit(limit))
		for {
			ok, err := st.Next()
			if err != nil || !ok {
				return err
			}
			row, err := scanEffect(c, st)
			if err != nil {
				return err
			}
			out = append(out, row.Effect)
		}
	})
	return out, err
}

// sqlLimit is a limit as SQL has it: zero and less mean all.
func sqlLimit(n int) int64 {
	if n <= 0 {
		return -1
	}
	return int64(n)
}
