package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

func (s *Store) loadHints(c *lite.Conn) error {
	st, err := c.Stmt("SELECT seq, connection, trigger_name, id, received, attempt, not_before, reason, data FROM hint ORDER BY seq")
	if err != nil {
		return err
	}
	defer st.Reset()
	for {
		ok, err := st.Next()
		if err != nil || !ok {
			return err
		}
		h := &liveHint{
			key:      hintKey{st.ColText(1), st.ColText(2), st.ColText(3)},
			received: colTime(st, 4), attempt: int(st.ColInt(5)), notBefore: st.ColInt(6), reason: st.ColText(7),
		}
		h.seq = st.ColInt(0)
		h.setData(st.ColBlob(8))
		s.hints.byKey[h.key] = h
		s.hints.publish(h)
	}
}

// AddHints implements store.Inbox. A hint that comes while the same one is being looked up counts as new: what the
// look-up has seen may be older, so the hint stays when that look-up is done.
func (s *Store) AddHints(ctx context.Context, hints []store.Hint) (int, error) {
	if len(hints) == 0 {
		return 0, nil
	}
	bytes := 0
	for _, h := range hints {
		if h.Connection == "" || h.Trigger == "" || h.ID == "" {
			return 0, fmt.Errorf("store: add hints: a hint needs a connection, a trigger and an id: %q, %q, %q", h.Connection, h.Trigger, h.ID)
		}
		bytes += len(h.Data)
	}
	if err := s.space.check(); err != nil {
		return 0, err
	}
	var added int
	err := s.w.write(ctx, "add hints", bytes, func(t *tx) error {
		added = 0
		for _, h := range hints {
			isNew, err := t.addHint(h)
			if err != nil {
				return err
			}
			if isNew {
				added++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return added, nil
}

func (t *tx) addHint(h store.Hint) (bool, error) {
	x := &t.s.hints
	key := hintKey{h.Connection, h.Trigger, h.ID}
	t.s.mu.Lock()
	live := x.byKey[key]
	if live != nil {
		defer t.s.mu.Unlock()
		if live.again || live.leased <= micros(h.Received) || live.leased == 0 {
			return false, nil
		}
		return true, t.rearm(live, h)
	}
	t.s.mu.Unlock()
	return true, t.insertHint(key, h)
}

// rearm makes a hint that is being looked up stay after that. Store.mu is held.
func (t *tx) rearm(live *liveHint, h store.Hint) error {
	data, large := live.data, live.large
	if large || !bytes.Equal(data, h.Data) {
		if err := t.done(t.stmt("UPDATE hint SET data = ? WHERE seq = ?").Blob(h.Data).Int(live.seq)); err != nil {
			return err
		}
	}
	live.again = true
	live.setData(h.Data)
	t.undo = append(t.undo, func() { live.again, live.data, live.large = false, data, large })
	return nil
}

func (t *tx) insertHint(key hintKey, h store.Hint) error {
	x := &t.s.hints
	live := &liveHint{key: key, received: h.Received, attempt: h.Attempt, notBefore: micros(h.NotBefore), reason: h.Reason}
	live.setData(h.Data)
	t.lastHint++
	live.seq = t.lastHint
	st := t.stmt("INSERT INTO hint (seq, connection, trigger_name, id, received, attempt, not_before, reason, data) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)").
		Int(live.seq).Text(key.connection).Text(key.trigger).Text(key.id)
	bindTime(st, h.Received).Int(int64(h.Attempt))
	if err := t.done(bindMicros(st, live.notBefore).TextOrNull(h.Reason).Blob(h.Data)); err != nil {
		return err
	}
	t.s.mu.Lock()
	x.byKey[key] = live
	t.s.mu.Unlock()
	t.undo = append(t.undo, func() { delete(x.byKey, key) })
	t.then = append(t.then, func() {
		if x.byKey[key] == live { // not taken away by a later request of the same transaction
			x.publish(live)
		}
	})
	return nil
}

// change alters a hint in memory, which nobody can claim until the transaction is durable.
func (t *tx) change(h *liveHint, f func()) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	x := &t.s.hints
	was, placed := *h, h.pos > 0
	x.hide(h)
	f()
	t.undo = append(t.undo, func() {
		x.hide(h)
		was.slot = h.slot
		*h = was
		if placed {
			x.publish(h)
		}
	})
	t.then = append(t.then, func() {
		if x.byKey[h.key] == h && h.pos == 0 {
			x.publish(h)
		}
	})
}

func (t *tx) find(h store.Hint) (hintKey, *liveHint) {
	key := hintKey{h.Connection, h.Trigger, h.ID}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return key, t.s.hints.byKey[key]
}

// finishHint removes a hint, or keeps it once more if it came again during its look-up.
func (t *tx) finishHint(h store.Hint) error {
	key, live := t.find(h)
	if live == nil {
		return nil
	}
	if live.again {
		t.change(live, func() {
			live.again, live.leased, live.attempt, live.notBefore, live.reason = false, 0, 0, 0, ""
		})
		return t.done(t.stmt("UPDATE hint SET attempt = 0, not_before = NULL, reason = NULL WHERE seq = ?").Int(live.seq))
	}
	if err := t.done(t.stmt("DELETE FROM hint WHERE seq = ?").Int(live.seq)); err != nil {
		return err
	}
	x := &t.s.hints
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	placed := live.pos > 0
	x.hide(live)
	delete(x.byKey, key)
	t.undo = append(t.undo, func() {
		x.byKey[key] = live
		if placed {
			x.publish(live)
		}
	})
	return nil
}

// retryHint puts a hint back for later, even one that is gone.
func (t *tx) retryHint(h store.Hint) error {
	key, live := t.find(h)
	if live == nil {
		return t.insertHint(key, h)
	}
	t.change(live, func() {
		live.again, live.leased, live.attempt, live.notBefore, live.reason = false, 0, h.Attempt, micros(h.NotBefore), h.Reason
	})
	st := t.stmt("UPDATE hint SET attempt = ?, not_before = ?, reason = ? WHERE seq = ?").Int(int64(h.Attempt))
	return t.done(bindTime(st, h.NotBefore).TextOrNull(h.Reason).Int(live.seq))
}

// ClaimHints implements store.Inbox.
func (s *Store) ClaimHints(ctx context.Context, c store.HintClaim) ([]store.Hint, error) {
	if err := s.usable(ctx, "claim hints"); err != nil {
		return nil, err
	}
	var large []int
	s.mu.Lock()
	live := s.hints.claim(c.Connection, c.Trigger, c.Limit, micros(c.Now), micros(c.LeaseUntil))
	out := make([]store.Hint, len(live))
	for i, h := range live {
		out[i] = h.hint()
		if h.large {
			large = append(large, i)
		}
	}
	s.mu.Unlock()
	if len(large) == 0 {
		return out, nil
	}
	err := s.r.read(ctx, "claim hints", func(conn *lite.Conn) error {
		for _, i := range large {
			st, err := conn.Stmt("SELECT data FROM hint WHERE seq = ?")
			if err != nil {
				return err
			}
			ok, err := st.Int(live[i].seq).Next()
			if err != nil {
				return err
			}
			if ok { // else it was finished meanwhile
				out[i].Data = st.ColBlob(0)
			}
			st.Reset()
		}
		return nil
	})
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, h := range live { // nobody got them
			if s.hints.byKey[h.key] == h && h.leased == micros(c.LeaseUntil) && h.pos > 0 {
				s.hints.hide(h)
				h.leased = 0
				s.hints.publish(h)
			}
		}
		return nil, err
	}
	return out, nil
}

// usable says whether a call that needs only memory can be answered.
func (s *Store) usable(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("store: %s: %w", what, context.Cause(ctx))
	}
	select {
	case <-s.r.gone:
		return ErrClosed
	default:
		return nil
	}
}

var errNoFlow = errors.New("store: a run needs a flow")
