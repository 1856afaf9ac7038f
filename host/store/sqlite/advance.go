package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/casewire/casewire/host/store"
)

// journalStep is a step to write, made ready outside the writer.
type journalStep struct {
	*store.Step
	input, output payload
}

func newSteps(in []store.Step, bytes *int) []journalStep {
	out := make([]journalStep, len(in))
	for i := range in {
		s := &in[i]
		out[i] = journalStep{s, newPayload(s.Input), newPayload(s.Output)}
		*bytes += len(s.Input) + len(s.Output) + 256
	}
	return out
}

func (t *tx) putSteps(run int64, steps []journalStep) error {
	for _, s := range steps {
		input, err := t.keep(s.input)
		if err != nil {
			return err
		}
		output, err := t.keep(s.output)
		if err != nil {
			return err
		}
		st := t.stmt("REPLACE INTO step (run, path, seq, action, state, attempt, error, class, key, started, ended, not_before, input, output) " +
			"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").
			Int(run).Text(s.Path).Int(int64(s.Seq)).TextOrNull(s.Action).Text(string(s.State)).Int(int64(s.Attempt)).
			TextOrNull(s.Error).TextOrNull(s.Class).TextOrNull(s.Key)
		bindTime(bindTime(bindTime(st, s.Started), s.Ended), s.NotBefore)
		if err := t.done(output.bind(input.bind(st))); err != nil {
			return err
		}
	}
	return nil
}

// checkAdvance finds what could not be stored.
func checkAdvance(a *store.Advance) error {
	switch a.State {
	case "", store.RunReady, store.RunRunning:
	case store.RunWaiting:
		if a.NotBefore.IsZero() {
			return fmt.Errorf("store: advance run %s: waiting needs the time until when", a.Run)
		}
	case store.RunSucceeded, store.RunFailed, store.RunParked, store.RunDeadLetter, store.RunCancelled:
	default:
		return fmt.Errorf("store: advance run %s: %q is no state of a run", a.Run, a.State)
	}
	if a.Regroup && a.State != store.RunReady && a.State != store.RunWaiting {
		return fmt.Errorf("store: advance run %s: to begin again it is ready or waiting, not %q", a.Run, a.State)
	}
	for _, e := range a.Effects {
		if e.Connection == "" || e.Action == "" || e.Key == "" {
			return fmt.Errorf("store: advance run %s: %w", a.Run, errNoEffectKey)
		}
		switch e.State {
		case store.EffectIntent, store.EffectDone, store.EffectUnknown, store.EffectNone:
		default:
			return fmt.Errorf("store: advance run %s: %q is no state of effect %s", a.Run, e.State, e.Key)
		}
	}
	return nil
}

// Advance implements store.Runs.
func (s *Store) Advance(ctx context.Context, a store.Advance) error {
	if err := checkAdvance(&a); err != nil {
		return err
	}
	bytes := len(a.Output) + 256
	steps := newSteps(a.Steps, &bytes)
	output := newPayload(a.Output)
	results := make([]payload, len(a.Effects))
	for i, e := range a.Effects {
		results[i] = newPayload(e.Result)
		bytes += len(e.Result) + 256
	}
	var dead []deadLetter
	if a.DeadLetter != nil {
		d := *a.DeadLetter
		d.Run = cmp.Or(d.Run, a.Run)
		dead = newDeadLetters([]store.DeadLetter{d}, a.Now, &bytes)
	}
	now := micros(a.Now)
	if now == 0 {
		now = time.Now().UnixMicro()
	}
	return s.w.write(ctx, "advance", bytes, func(t *tx) error {
		s.mu.Lock()
		r := s.runs.held(a.Lease)
		if r != nil {
			r.journaled(len(steps))
		}
		s.mu.Unlock()
		if r == nil {
			return fmt.Errorf("%w: run %s, fence %d", store.ErrFenced, a.Run, a.Fence)
		}
		if a.Current {
			if err := t.current(r.seq); err != nil {
				return err
			}
		}
		ledger := make([]*ledgerRow, len(a.Effects)) // all checks come before the first write
		for i := range a.Effects {
			row, err := t.ledgerRow(a.Effects[i].EffectKey)
			if err != nil {
				return err
			}
			if err := t.notBusy(row, a.Run); err != nil {
				return err
			}
			ledger[i] = row
		}
		if a.Regroup {
			if err := t.beginAgain(r.seq, a.MergedKey); err != nil {
				return err
			}
		}
		if err := t.putSteps(r.seq, steps); err != nil {
			return err
		}
		for i := range a.Effects {
			if slices.ContainsFunc(a.Effects[:i], func(e store.Effect) bool { return e.EffectKey == a.Effects[i].EffectKey }) {
				row, err := t.ledgerRow(a.Effects[i].EffectKey) // changed a moment ago
				if err != nil {
					return err
				}
				ledger[i] = row
			}
			if err := t.settleEffect(ledger[i], &a.Effects[i], results[i], a.Run, now); err != nil {
				return err
			}
		}
		if err := t.insertDeadLetters(dead); err != nil {
			return err
		}
		if a.State == "" || a.State == store.RunRunning {
			t.then = append(t.then, func() { r.updated = now })
			return nil
		}
		return t.moveRun(r, &a, output, now)
	})
}

// moveRun takes a run from its owner.
func (t *tx) moveRun(r *liveRun, a *store.Advance, output payload, now int64) error {
	out, err := t.keep(output)
	if err != nil {
		return err
	}
	x := &t.s.runs
	t.s.mu.Lock()
	if x.held(a.Lease) != r {
		t.s.mu.Unlock()
		t.writes++ // the steps must go again
		return fmt.Errorf("%w: run %s, fence %d", store.ErrFenced, a.Run, a.Fence)
	}
	live, notBefore, ended := a.State.Live(), int64(0), now
	x.settle(r)
	r.ending = !live
	started := r.started
	t.s.mu.Unlock()
	t.undo = append(t.undo, func() { x.unsettle(r) })

	if live {
		notBefore, ended = micros(a.NotBefore), 0
	}
	st := t.stmt("UPDATE run SET state = ?, fence = ?, not_before = ?, started = ?, updated = ?, ended = ?, reason = ?, class = ?, " +
		"output = ? WHERE seq = ?").Text(string(a.State)).Int(a.Fence)
	bindMicros(bindMicros(bindMicros(bindMicros(st, notBefore), started), now), ended).TextOrNull(a.Reason).TextOrNull(a.Class)
	if err := t.done(out.bind(st).Int(r.seq)); err != nil {
		return err
	}
	if live {
		t.then = append(t.then, func() { x.release(r, a.State, notBefore, now) })
		return nil
	}
	t.count["run/"+string(a.State)]++
	t.then = append(t.then, func() { x.end(r) })
	return nil
}

// notBusy returns store.ErrBusy if a live run other than the one given holds the effect.
func (t *tx) notBusy(row *ledgerRow, run string) error {
	if row == nil || row.Run == run || row.State != store.EffectIntent && row.State != store.EffectUnknown {
		return nil
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	holder := t.s.runs.byID[row.Run]
	if holder == nil || holder.ending {
		return nil
	}
	return fmt.Errorf("%w: %s is held by run %s", store.ErrBusy, row.Key, row.Run)
}

var errNoEffectKey = errors.New("an effect needs a connection, an action and a key")
