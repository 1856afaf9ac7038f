package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
)

// CancelRun implements store.Runs.
func (s *Store) CancelRun(ctx context.Context, c store.Cancel) (state store.RunState, err error) {
	now := cmp.Or(micros(c.Now), time.Now().UnixMicro())
	err = s.w.write(ctx, "cancel run", 256, func(t *tx) error {
		x := &s.runs
		s.mu.Lock()
		r := x.byID[c.Run]
		idle := r != nil && r.idle(now)
		s.mu.Unlock()
		if r == nil {
			return t.endedOrNone(c.Run)
		}
		if !idle {
			return fmt.Errorf("%w: %s", store.ErrLeased, c.Run)
		}
		unsettled, err := t.unsettled(r)
		if err != nil {
			return err
		}
		reason := c.Reason
		if state = store.RunCancelled; unsettled {
			state, reason = store.RunParked, cmp.Or(c.Parked, c.Reason)
		}
		s.mu.Lock()
		if !r.idle(now) { // it was claimed a moment ago
			s.mu.Unlock()
			return fmt.Errorf("%w: %s", store.ErrLeased, c.Run)
		}
		x.withdraw(r)
		r.ending = true
		s.mu.Unlock()
		t.undo = append(t.undo, func() { x.restore(r) })
		st := t.stmt("UPDATE run SET state = ?, not_before = NULL, updated = ?, ended = ?, reason = ? WHERE seq = ?").Text(string(state))
		if err := t.done(bindMicros(bindMicros(st, now), now).TextOrNull(reason).Int(r.seq)); err != nil {
			return err
		}
		t.count["run/"+string(state)]++
		t.then = append(t.then, func() { x.leave(r) })
		return nil
	})
	if err != nil {
		return "", err
	}
	return state, nil
}

// endedOrNone says why a run is not live.
func (t *tx) endedOrNone(id string) error {
	st := t.stmt("SELECT state FROM run WHERE id = ?")
	defer st.Reset()
	ok, err := st.Text(id).Next()
	switch {
	case err != nil:
		return err
	case !ok:
		return notFound("no run has the id %q", id)
	}
	return fmt.Errorf("%w: %s is %s", store.ErrEnded, id, st.ColText(0))
}

// unsettled says whether something that the run began may or may not have happened. Of keyed steps the ledger knows, of
// unsafe ones only the journal.
func (t *tx) unsettled(r *liveRun) (bool, error) {
	st := t.stmt("SELECT EXISTS (SELECT 1 FROM effect WHERE state IN ('intent', 'unknown') AND run = ?) " +
		"OR EXISTS (SELECT 1 FROM step WHERE run = ? AND state = 'intent' AND key IS NULL)")
	defer st.Reset()
	_, err := st.Text(r.id).Int(r.seq).Next()
	if err != nil {
		return false, err
	}
	return st.ColInt(0) != 0, nil
}
