package sqlite

import (
	"context"
	"strings"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// deadLetter is a dead letter to write, made ready outside the writer.
type deadLetter struct {
	store.DeadLetter
	raw payload
}

func newDeadLetters(in []store.DeadLetter, now time.Time, bytes *int) []deadLetter {
	out := make([]deadLetter, len(in))
	if now.IsZero() {
		now = time.Now()
	}
	for i, d := range in {
		if d.ID == "" {
			d.ID = newID("d", now)
		}
		if d.Created.IsZero() {
			d.Created = now
		}
		out[i] = deadLetter{d, newPayload(d.Raw)}
		*bytes += len(d.Raw) + 256
	}
	return out
}

func (t *tx) insertDeadLetters(in []deadLetter) error {
	for i := range in {
		d := &in[i]
		raw, err := t.keep(d.raw)
		if err != nil {
			return err
		}
		st := t.stmt("INSERT INTO dead_letter (id, kind, run, flow, step, connection, trigger_name, subject, reason, class, created, " +
			"resolved, resolution, raw) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING").
			Text(d.ID).Text(d.Kind).TextOrNull(d.Run).TextOrNull(d.Flow).TextOrNull(d.Step).TextOrNull(d.Connection).
			TextOrNull(d.Trigger).TextOrNull(d.Subject).TextOrNull(d.Reason).TextOrNull(d.Class)
		bindTime(bindTime(st, d.Created), d.Resolved).TextOrNull(d.Resolution)
		if err := t.done(raw.bind(st)); err != nil {
			return err
		}
		if d.Resolved.IsZero() {
			t.count[openDeadLetters] += int64(t.c.Changes())
		}
	}
	return nil
}

// AddDeadLetters implements store.DeadLetters. One whose ID is known already is not written again.
func (s *Store) AddDeadLetters(ctx context.Context, dl []store.DeadLetter) error {
	if len(dl) == 0 {
		return nil
	}
	bytes := 0
	dead := newDeadLetters(dl, time.Time{}, &bytes)
	return s.w.write(ctx, "add dead letters", bytes, func(t *tx) error { return t.insertDeadLetters(dead) })
}

// ListDeadLetters implements store.DeadLetters, newest first.
func (s *Store) ListDeadLetters(ctx context.Context, f store.DeadLetterFilter) (out []store.DeadLetter, err error) {
	where, args := "WHERE 1 ", []string(nil)
	if !f.All && f.ID == "" {
		where += "AND resolved IS NULL "
	}
	var whereSb73 strings.Builder
	for _, c := range [...][2]string{{"id", f.ID}, {"kind", f.Kind}, {"flow", f.Flow}, {"run", f.Run}} {
		if c[1] != "" {
			whereSb73.WriteString("AND " + c[0] + " = ? ")
			args = append(args, c[1])
		}
	}
	where += whereSb73.String()
	err = s.r.read(ctx, "list dead letters", func(c *lite.Conn) error {
		out = nil
		st, err := c.Stmt("SELECT id, kind, run, flow, step, connection, trigger_name, subject, reason, class, resolution, created, " +
			"resolved, raw FROM dead_letter " + where + "ORDER BY seq DESC LIMIT ?")
		if err != nil {
			return err
		}
		defer st.Reset()
		for _, a := range args {
			st.Text(a)
		}
		st.Int(sqlLimit(f.Limit))
		for {
			ok, err := st.Next()
			if err != nil || !ok {
				return err
			}
			var d store.DeadLetter
			for i, p := range [...]*string{
				&d.ID, &d.Kind, &d.Run, &d.Flow, &d.Step, &d.Connection, &d.Trigger, &d.Subject, &d.Reason, &d.Class, &d.Resolution,
			} {
				*p = st.ColText(i)
			}
			d.Created, d.Resolved = colTime(st, 11), colTime(st, 12)
			if d.Raw, err = colPayload(c, st, 13); err != nil {
				return err
			}
			out = append(out, d)
		}
	})
	return out, err
}

// ResolveDeadLetter implements store.DeadLetters.
func (s *Store) ResolveDeadLetter(ctx context.Context, id, resolution string, at time.Time) error {
	if at.IsZero() {
		at = time.Now()
	}
	return s.w.write(ctx, "resolve dead letter", 64, func(t *tx) error {
		st := t.stmt("UPDATE dead_letter SET resolved = ?, resolution = ? WHERE id = ? AND resolved IS NULL")
		if err := bindTime(st, at).Text(resolution).Text(id).Exec(); err != nil {
			return err
		}
		if t.c.Changes() == 0 {
			return notFound("no open dead letter has the id %q", id)
		}
		t.writes++
		t.count[openDeadLetters]--
		return nil
	})
}
