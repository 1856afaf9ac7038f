package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

const selectEvent = "SELECT id, source, type, subject, dataschema, partition_key, correlation_id, causation_id, tenant, rev, digest, " +
	"tlp, pap, traceparent, connection, trigger_name, via, verdict, time, received, object, aliases, data FROM event "

func scanEvent(c *lite.Conn, st *lite.Stmt) (store.EventRecord, error) {
	var e store.EventRecord
	var via, verdict string
	for i, p := range [...]*string{
		&e.ID, &e.Source, &e.Type, &e.Subject, &e.DataSchema, &e.PartitionKey, &e.CorrelationID, &e.CausationID, &e.Tenant, &e.Rev,
		&e.Digest, &e.TLP, &e.PAP, &e.TraceParent, &e.Connection, &e.Trigger, &via, &verdict,
	} {
		*p = st.ColText(i)
	}
	e.Via, e.Verdict = store.Via(via), store.Verdict(verdict)
	e.Time, e.Received = colTime(st, 18), colTime(st, 19)
	if raw := st.ColBlob(21); raw != nil {
		if err := json.Unmarshal(raw, &e.Aliases); err != nil {
			return e, fmt.Errorf("the aliases of event %s cannot be read: %w", e.ID, err)
		}
	}
	data, err := colPayload(c, st, 22)
	if err != nil {
		return e, err
	}
	e.Data = data
	o, err := readObject(c, st.ColInt(20))
	if err != nil || o == nil {
		return e, err
	}
	e.ObjectKey = o.key
	return e, nil
}

// Event implements store.Inbox.
func (s *Store) Event(ctx context.Context, source, id string) (e store.EventRecord, err error) {
	err = s.r.read(ctx, "event", func(c *lite.Conn) error {
		st, err := c.Stmt(selectEvent + "WHERE id = ? AND source = ?")
		if err != nil {
			return err
		}
		defer st.Reset()
		ok, err := st.Text(id).Text(source).Next()
		if err != nil {
			return err
		}
		if !ok {
			return notFound("no event %s of %s", id, source)
		}
		e, err = scanEvent(c, st)
		return err
	})
	return e, err
}

// Events implements store.Inbox. ObjectKey may be any name of the object.
func (s *Store) Events(ctx context.Context, f store.EventFilter) (out []store.EventRecord, err error) {
	where, args := "WHERE 1 ", []string(nil)
	narrow := false // an index on what is asked for does better than the one on time
	if f.ObjectKey != "" {
		where, args, narrow = where+"AND object IN ("+familyOf+" SELECT id FROM family) ", append(args, f.ObjectKey), true
	}
	if f.Subject != "" {
		where, args, narrow = where+"AND subject = ? ", append(args, f.Subject), true
	}
	if f.Verdict != "" {
		where, args = where+"AND verdict = ? ", append(args, string(f.Verdict))
	}
	if f.Via != "" {
		where, args = where+"AND via = ? ", append(args, string(f.Via))
	}
	if !f.Before.IsZero() {
		if narrow {
			where += "AND +received < ? "
		} else {
			where += "AND received < ? "
		}
	}
	order := "ORDER BY received DESC, seq DESC LIMIT ?"
	if narrow {
		order = "ORDER BY +received DESC, seq DESC LIMIT ?"
	}
	err = s.r.read(ctx, "events", func(c *lite.Conn) error {
		out = nil
		st, err := c.Stmt(selectEvent + where + order)
		if err != nil {
			return err
		}
		defer st.Reset()
		for _, a := range args {
			st.Text(a)
		}
		if !f.Before.IsZero() {
			bindTime(st, f.Before)
		}
		st.Int(sqlLimit(f.Limit))
		for {
			ok, err := st.Next()
			if err != nil || !ok {
				return err
			}
			e, err := scanEvent(c, st)
			if err != nil {
				return err
			}
			out = append(out, e)
		}
	})
	return out, err
}
