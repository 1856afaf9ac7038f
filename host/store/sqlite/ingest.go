package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin/event"
)

// arrival is an incoming event with all that can be made ready outside the writer.
type arrival struct {
	event   *event.Event
	names   []string // partition key first, each once
	aliases []byte
	data    payload
	runs    []newRun
	into    string // group that the event's own was merged into
}

func (s *Store) arrivals(in store.Ingest) (_ []arrival, bytes int, _ error) {
	out := make([]arrival, len(in.Events))
	for i := range in.Events {
		e := &in.Events[i].Event
		if e.ID == "" || e.Source == "" || e.PartitionKey == "" {
			return nil, 0, fmt.Errorf("store: ingest: event %d has no id, source or partition key: %q, %q, %q", i, e.ID, e.Source, e.PartitionKey)
		}
		a := arrival{event: e, names: append(make([]string, 0, 1+len(e.Aliases)), e.PartitionKey), data: newPayload(e.Data), into: in.Events[i].MergedInto}
		for _, n := range e.Aliases {
			if n != "" && !slices.Contains(a.names, n) {
				a.names = append(a.names, n)
			}
		}
		if e.Aliases != nil {
			a.aliases, _ = json.Marshal(e.Aliases) // strings can always be written
		}
		bytes += len(e.Data) + 1024
		var err error
		if a.runs, err = newRuns(in.Events[i].Runs, &bytes); err != nil {
			return nil, 0, err
		}
		out[i] = a
	}
	return out, bytes, nil
}

// Ingest implements store.Inbox.
func (s *Store) Ingest(ctx context.Context, in store.Ingest) ([]store.Outcome, error) {
	if err := s.space.check(); err != nil {
		return nil, err
	}
	arrivals, bytes, err := s.arrivals(in)
	if err != nil {
		return nil, err
	}
	dead := newDeadLetters(in.DeadLetters, in.Now, &bytes)
	var out []store.Outcome
	err = s.w.write(ctx, "ingest", bytes, func(t *tx) error {
		out = make([]store.Outcome, len(arrivals))
		for i := range arrivals {
			if err := t.ingest(&in, &arrivals[i], &out[i]); err != nil {
				return err
			}
		}
		for _, h := range in.Done {
			if err := t.finishHint(h); err != nil {
				return err
			}
		}
		for _, h := range in.Retry {
			if err := t.retryHint(h); err != nil {
				return err
			}
		}
		if in.Cursor != nil {
			st := t.stmt("INSERT OR REPLACE INTO cursor (connection, trigger_name, value) VALUES (?, ?, ?)")
			if err := t.done(st.Text(in.Connection).Text(in.Trigger).Blob(in.Cursor)); err != nil {
				return err
			}
		}
		return t.insertDeadLetters(dead)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ingest takes one event.
func (t *tx) ingest(in *store.Ingest, a *arrival, out *store.Outcome) error {
	e := a.event
	st := t.stmt("SELECT 1 FROM event WHERE id = ? AND source = ?").Text(e.ID).Text(e.Source)
	seen, err := st.Next()
	if err != nil {
		return err
	}
	if seen {
		st.Reset()
		out.Verdict = store.Duplicate
		return nil
	}
	fresh := t.lastObject + 1
	o, err := t.resolve(a.names, in.Tenant, fresh)
	if err != nil {
		return err
	}
	if o == nil {
		t.lastObject = fresh
		o = &object{
			id: fresh, key: e.PartitionKey, firstKey: e.PartitionKey, groupKey: cmp.Or(e.CorrelationID, e.PartitionKey),
			rev: e.Rev, digest: e.Digest, source: e.Source, eventID: e.ID, updated: micros(in.Now),
		}
		out.Verdict = store.Accepted
		err = t.insertObject(o)
	} else {
		out.Verdict, err = t.revise(o, e, micros(in.Now))
	}
	if err != nil {
		return err
	}
	if err := t.insertEvent(in, a, o.id, out.Verdict); err != nil {
		return err
	}
	if out.Verdict != store.Accepted {
		return nil
	}
	group, merged, err := t.regroup(o, e.CorrelationID, a.into, in.Tenant)
	if err != nil {
		return err
	}
	for i := range a.runs {
		r := &a.runs[i]
		id, err := t.insertRun(r, origin{
			object: o, objectID: o.id, tenant: in.Tenant, group: group, merged: merged, connection: in.Connection, trigger: in.Trigger,
			source: e.Source, event: e.ID, now: micros(in.Now),
		})
		if err != nil {
			return err
		}
		out.Runs = append(out.Runs, id)
	}
	return nil
}

// revise compares an event with its object and applies it if it is news.
func (t *tx) revise(o *object, e *event.Event, now int64) (store.Verdict, error) {
	key := min(o.key, e.PartitionKey)
	same := o.digest != "" && o.digest == e.Digest
	switch {
	case e.Rev < o.rev:
		if key == o.key {
			return store.Stale, nil
		}
		o.key = key
		return store.Stale, t.updateObject(o)
	case e.Rev == o.rev && same && key == o.key:
		return store.Unchanged, nil
	}
	o.key, o.rev, o.digest, o.source, o.eventID, o.updated = key, e.Rev, e.Digest, e.Source, e.ID, now
	if same {
		return store.Unchanged, t.updateObject(o)
	}
	return store.Accepted, t.updateObject(o)
}

func (t *tx) insertEvent(in *store.Ingest, a *arrival, object int64, verdict store.Verdict) error {
	data, err := t.keep(a.data)
	if err != nil {
		return err
	}
	e := a.event
	t.lastEvent++
	st := t.stmt("INSERT INTO event (seq, id, source, object, received, verdict, via, connection, trigger_name, scope, type, subject, " +
		"time, dataschema, partition_key, correlation_id, causation_id, tenant, rev, digest, tlp, pap, aliases, traceparent, data) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").
		Int(t.lastEvent).Text(e.ID).Text(e.Source).Int(object)
	bindTime(st, in.Now).Text(string(verdict)).Text(string(in.Via)).Text(in.Connection).Text(in.Trigger).Text(in.Tenant).
		Text(e.Type).Text(e.Subject)
	bindTime(st, e.Time).TextOrNull(e.DataSchema).Text(e.PartitionKey).TextOrNull(e.CorrelationID).TextOrNull(e.CausationID).
		TextOrNull(e.Tenant).Text(e.Rev).Text(e.Digest).TextOrNull(e.TLP).TextOrNull(e.PAP).Blob(a.aliases).TextOrNull(e.TraceParent)
	t.count["event/"+string(verdict)]++
	if verdict == store.Accepted {
		t.count["via/"+string(in.Via)]++
	}
	return t.done(data.bind(st))
}
