package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// newRun is a run to enqueue, made ready outside the writer.
type newRun struct {
	store.NewRun
	given bool // the caller chose the id
	input payload
}

func newRuns(in []store.NewRun, bytes *int) ([]newRun, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]newRun, len(in))
	now := time.Now()
	for i, r := range in {
		if r.Flow == "" {
			return nil, errNoFlow
		}
		switch r.State {
		case "", store.RunReady, store.RunDeadLetter:
		default:
			return nil, fmt.Errorf("store: a new run of flow %s is ready or dead_letter, not %q", r.Flow, r.State)
		}
		out[i] = newRun{NewRun: r, given: r.ID != "", input: newPayload(r.Input)}
		out[i].State = cmp.Or(r.State, store.RunReady)
		if r.ID == "" {
			out[i].ID = newID("r", now)
		}
		*bytes += len(r.Input) + 512
	}
	return out, nil
}

// origin is where a new run comes from.
type origin struct {
	object              *object // nil: no event
	objectID            int64   // as the event has it, perhaps merged since
	tenant              string
	group, merged       string // name of the object's group, and of the one that ended in it
	connection, trigger string
	source, event       string
	now                 int64
}

// insertRun enqueues a run, unless its id is there already, and returns the id.
func (t *tx) insertRun(n *newRun, from origin) (string, error) {
	if n.given {
		st := t.stmt("SELECT 1 FROM run WHERE id = ?").Text(n.ID)
		known, err := st.Next()
		if err != nil {
			return "", err
		}
		if known {
			st.Reset()
			return n.ID, nil
		}
	}
	input, err := t.keep(n.input)
	if err != nil {
		return "", err
	}
	t.lastRun++
	r := &store.Run{
		NewRun: n.NewRun, Seq: t.lastRun, Tenant: from.tenant,
		Created: fromMicros(from.now), Updated: fromMicros(from.now),
	}
	r.Connection, r.Trigger = cmp.Or(r.Connection, from.connection), cmp.Or(r.Trigger, from.trigger)
	r.EventSource, r.EventID = cmp.Or(r.EventSource, from.source), cmp.Or(r.EventID, from.event)
	ended := int64(0)
	if r.State == store.RunDeadLetter {
		r.Ended, ended = r.Created, from.now
		t.count["run/"+string(r.State)]++
	}
	natural := "" // the order key that need not be stored
	if o := from.object; o != nil {
		if r.CaseKey == "" {
			r.CaseKey = o.firstKey
			if r.GroupBy == "incident" {
				r.CaseKey, r.MergedKey = from.group, cmp.Or(r.MergedKey, from.merged)
				if err := t.useGroup(from.group, from.tenant); err != nil {
					return "", err
				}
			}
		}
		r.OrderKey = cmp.Or(r.OrderKey, o.firstKey)
		if from.objectID == o.id {
			natural = o.firstKey
		}
	}
	r.OrderKey = cmp.Or(r.OrderKey, r.ID)
	st := t.stmt("INSERT INTO run (seq, id, flow, version, object, order_key, case_key, group_by, tenant, connection, trigger_name, " +
		"event_source, event_id, parent, from_step, state, fence, created, updated, ended, reason, merged_key, input) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?)").
		Int(r.Seq).Text(r.ID).Text(r.Flow).Text(r.FlowVersion)
	bindMicros(st, from.objectID)
	if r.OrderKey == natural {
		st.Null()
	} else {
		st.Text(r.OrderKey)
	}
	st.TextOrNull(r.CaseKey).TextOrNull(r.GroupBy).TextOrNull(r.Tenant).TextOrNull(r.Connection).TextOrNull(r.Trigger).
		TextOrNull(r.EventSource).TextOrNull(r.EventID).TextOrNull(r.Parent).TextOrNull(r.FromStep).Text(string(r.State))
	bindMicros(bindMicros(bindMicros(st, from.now), from.now), ended).TextOrNull(r.Reason).TextOrNull(r.MergedKey)
	if err := t.done(input.bind(st)); err != nil {
		return "", err
	}
	if r.State.Live() {
		t.then = append(t.then, func() {
			live := &liveRun{id: r.ID, state: r.State, updated: from.now, rec: r, fresh: true}
			live.seq = r.Seq
			t.s.runs.add(live, r.OrderKey, r.Flow)
		})
	}
	return r.ID, nil
}

// AddRuns implements store.Runs.
func (s *Store) AddRuns(ctx context.Context, runs []store.NewRun) ([]store.Run, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	if err := s.space.check(); err != nil {
		return nil, err
	}
	bytes := 0
	todo, err := newRuns(runs, &bytes)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixMicro()
	ids := make([]string, len(todo))
	err = s.w.write(ctx, "add runs", bytes, func(t *tx) error {
		for i := range todo {
			from, err := t.origin(&todo[i].NewRun, now)
			if err != nil {
				return err
			}
			if ids[i], err = t.insertRun(&todo[i], from); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]store.Run, len(ids))
	for i, id := range ids {
		if out[i], err = s.Run(ctx, id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// origin looks up the event and the parent that a run names.
func (t *tx) origin(n *store.NewRun, now int64) (origin, error) {
	from := origin{now: now}
	if n.EventID != "" {
		st := t.stmt("SELECT object, scope, connection, trigger_name FROM event WHERE id = ? AND source = ?").Text(n.EventID).Text(n.EventSource)
		ok, err := st.Next()
		if err != nil {
			return from, err
		}
		if ok {
			from.objectID, from.tenant = st.ColInt(0), st.ColText(1)
			from.connection, from.trigger = st.ColText(2), st.ColText(3)
			st.Reset()
			if from.object, err = readObject(t.c, from.objectID); err != nil {
				return from, err
			}
			if from.object != nil {
				if from.group, err = t.group(from.object.groupKey, from.tenant); err != nil {
					return from, err
				}
			}
		}
	}
	if from.tenant == "" && n.Parent != "" {
		st := t.stmt("SELECT tenant FROM run WHERE id = ?").Text(n.Parent)
		ok, err := st.Next()
		if err != nil {
			return from, err
		}
		if ok {
			from.tenant = st.ColText(0)
			st.Reset()
		}
	}
	return from, nil
}

func (s *Store) loadRuns(c *lite.Conn) error {
	st, err := c.Stmt("SELECT r.seq, r.id, coalesce(r.order_key, o.first_key), r.flow, r.state, r.not_before, r.started, r.updated " +
		"FROM run r LEFT JOIN object o ON o.id = r.object WHERE r.state IN ('ready', 'waiting') ORDER BY r.seq")
	if err != nil {
		return err
	}
	defer st.Reset()
	for {
		ok, err := st.Next()
		if err != nil || !ok {
			return err
		}
		r := &liveRun{
			id: st.ColText(1), state: store.RunState(st.ColText(4)), notBefore: st.ColInt(5), started: st.ColInt(6), updated: st.ColInt(7),
		}
		r.seq = st.ColInt(0)
		s.runs.add(r, st.ColText(2), st.ColText(3))
	}
}
