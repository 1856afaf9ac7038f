package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// PutFlow implements store.Runs. A version that is there already stays as it is.
func (s *Store) PutFlow(ctx context.Context, f store.FlowVersion) error {
	if f.Version == "" || f.Name == "" {
		return fmt.Errorf("store: put flow: a flow version needs a name and a version: %q, %q", f.Name, f.Version)
	}
	bundle, err := json.Marshal(f.Bundle)
	if err != nil {
		return fmt.Errorf("store: put flow %s: %w", f.Name, err)
	}
	return s.w.write(ctx, "put flow", len(bundle), func(t *tx) error {
		return t.done(t.stmt("INSERT OR IGNORE INTO flow (version, name, bundle) VALUES (?, ?, ?)").
			Text(f.Version).Text(f.Name).Text(string(bundle)))
	})
}

// FlowVersion implements store.Runs.
func (s *Store) FlowVersion(ctx context.Context, version string) (f store.FlowVersion, err error) {
	err = s.r.read(ctx, "flow version", func(c *lite.Conn) error {
		st, err := c.Stmt("SELECT name, bundle FROM flow WHERE version = ?")
		if err != nil {
			return err
		}
		defer st.Reset()
		ok, err := st.Text(version).Next()
		if err != nil {
			return err
		}
		if !ok {
			return notFound("no flow has the version %q", version)
		}
		f = store.FlowVersion{Version: version, Name: st.ColText(0)}
		return json.Unmarshal([]byte(st.ColText(1)), &f.Bundle)
	})
	return f, err
}

// ClaimRuns implements store.Runs. It writes nothing: a lease cannot outlive the process that holds the file.
func (s *Store) ClaimRuns(ctx context.Context, c store.RunClaim) ([]store.Run, error) {
	if err := s.usable(ctx, "claim runs"); err != nil {
		return nil, err
	}
	if c.Owner == "" || c.LeaseUntil.IsZero() {
		return nil, errors.New("store: claim runs: a claim needs an owner and the end of its lease")
	}
	s.mu.Lock()
	live := s.runs.claim(c.Owner, c.Limit, micros(c.Now), micros(c.LeaseUntil))
	out := make([]store.Run, len(live))
	missing := false
	for i, r := range live {
		if r.rec != nil {
			out[i] = *r.rec
			s.runs.forget(r)
		} else {
			missing = true
		}
		r.overlay(&out[i])
		out[i].Fresh = r.fresh
	}
	s.mu.Unlock()
	if !missing {
		return out, nil
	}
	err := s.r.read(ctx, "claim runs", func(conn *lite.Conn) error {
		for i, r := range live {
			if out[i].ID != "" {
				continue
			}
			st, err := conn.Stmt(selectRun + "WHERE r.seq = ?")
			if err != nil {
				return err
			}
			ok, err := st.Int(r.seq).Next()
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("store: run %s is missing: the file is damaged", r.id)
			}
			held := out[i]
			out[i], err = scanRun(conn, st)
			st.Reset()
			if err != nil {
				return err
			}
			out[i].State, out[i].Fence, out[i].Owner, out[i].LeaseEnd = held.State, held.Fence, held.Owner, held.LeaseEnd
			out[i].NotBefore, out[i].Started, out[i].Updated, out[i].Fresh = held.NotBefore, held.Started, held.Updated, held.Fresh
		}
		return nil
	})
	if err != nil { // nobody got them: their leases are given back
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, r := range live {
			if s.runs.held(store.Lease{Run: r.id, Fence: out[i].Fence}) == r && out[i].Fence != 0 {
				s.runs.settle(r)
				s.runs.release(r, store.RunReady, 0, r.updated)
			}
		}
		return nil, err
	}
	return out, nil
}

// RenewRuns implements store.Runs, in memory like ClaimRuns.
func (s *Store) RenewRuns(ctx context.Context, owner string, leases []store.Lease, until time.Time) ([]string, error) {
	if err := s.usable(ctx, "renew runs"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs.renew(owner, leases, until), nil
}

// NextDue implements store.Runs. A time in the past means now.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	if err := s.usable(ctx, "next due"); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	run, hint := s.runs.due(), s.hints.due()
	if run == 0 || hint != 0 && hint < run {
		run = hint
	}
	return fromMicros(run), nil
}

// CountRuns implements store.Runs.
func (s *Store) CountRuns(ctx context.Context) (map[store.RunState]int, error) {
	if err := s.usable(ctx, "count runs"); err != nil {
		return nil, err
	}
	if s.readOnly {
		st, err := s.stats(ctx)
		return st.Runs, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.countRuns(), nil
}

// selectRun reads the columns that scanRun wants.
const selectRun = "SELECT r.seq, r.id, r.flow, r.version, coalesce(r.order_key, o.first_key), r.case_key, r.group_by, r.tenant, " +
	"r.connection, r.trigger_name, r.event_source, r.event_id, r.parent, r.from_step, r.state, r.reason, r.class, " +
	"r.fence, r.not_before, r.created, r.started, r.updated, r.ended, r.input, r.output, r.merged_key " +
	"FROM run r LEFT JOIN object o ON o.id = r.object "

func scanRun(c *lite.Conn, st *lite.Stmt) (r store.Run, err error) {
	r.Seq = st.ColInt(0)
	for i, s := range [...]*string{
		&r.ID, &r.Flow, &r.FlowVersion, &r.OrderKey, &r.CaseKey, &r.GroupBy, &r.Tenant,
		&r.Connection, &r.Trigger, &r.EventSource, &r.EventID, &r.Parent, &r.FromStep,
	} {
		*s = st.ColText(1 + i)
	}
	r.State, r.Reason, r.Class, r.Fence = store.RunState(st.ColText(14)), st.ColText(15), st.ColText(16), st.ColInt(17)
	for i, t := range [...]*time.Time{&r.NotBefore, &r.Created, &r.Started, &r.Updated, &r.Ended} {
		*t = colTime(st, 18+i)
	}
	input, err := colPayload(c, st, 23)
	if err != nil {
		return r, err
	}
	r.MergedKey = st.ColText(25)
	output, err := colPayload(c, st, 24)
	r.Input, r.Output = input, output
	return r, err
}

// Run implements store.Runs.
func (s *Store) Run(ctx context.Context, id string) (r store.Run, err error) {
	err = s.r.read(ctx, "run", func(c *lite.Conn) error {
		r, err = s.readRun(c, "WHERE r.id = ?", func(st *lite.Stmt) { st.Text(id) })
		if err == nil && r.ID == "" {
			return notFound("no run has the id %q", id)
		}
		return err
	})
	return r, err
}

// readRun reads the one run that where and bind describe; without one, its ID is empty.
func (s *Store) readRun(c *lite.Conn, where string, bind func(*lite.Stmt)) (r store.Run, err error) {
	for range 2 {
		st, err := c.Stmt(selectRun + where)
		if err != nil {
			return r, err
		}
		bind(st)
		ok, err := st.Next()
		if err != nil || !ok {
			return store.Run{}, err
		}
		r, err = scanRun(c, st)
		st.Reset()
		if err != nil || s.overlay(&r) {
			return r, err
		}
		// It ended between the two looks: what the disk says next is final.
	}
	return r, nil
}

// overlay completes a record from memory. It returns false if the run was live on disk and is no longer in memory.
func (s *Store) overlay(r *store.Run) bool {
	if !r.State.Live() || s.readOnly {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	live := s.runs.byID[r.ID]
	if live == nil {
		return false
	}
	live.overlay(r)
	return true
}

// ListRuns implements store.Runs.
func (s *Store) ListRuns(ctx context.Context, f store.RunFilter) (out []store.Run, err error) {
	err = s.r.read(ctx, "list runs", func(c *lite.Conn) error {
		out = nil
		if f.State.Live() && s.readOnly {
			return listLiveOnDisk(c, f, &out)
		}
		if f.State.Live() { // memory knows which of them are running
			return s.listLive(c, f, &out)
		}
		where, bind := runWhere(f)
		st, err := c.Stmt(selectRun + where + " ORDER BY r.seq DESC")
		if err != nil {
			return err
		}
		defer st.Reset()
		bind(st)
		for f.Limit <= 0 || len(out) < f.Limit {
			ok, err := st.Next()
			if err != nil || !ok {
				return err
			}
			r, err := scanRun(c, st)
			if err != nil {
				return err
			}
			if !s.overlay(&r) {
				if r, err = s.readRun(c, "WHERE r.id = ?", func(st *lite.Stmt) { st.Text(r.ID) }); err != nil {
					return err
				}
				if f.State != "" && r.State != f.State {
					continue
				}
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

func (s *Store) listLive(c *lite.Conn, f store.RunFilter, out *[]store.Run) error {
	s.mu.Lock()
	live := s.runs.inState(f.State)
	seqs := make([]int64, 0, len(live))
	for _, r := range live {
		if f.Flow == "" || r.lane.key.flow == f.Flow {
			seqs = append(seqs, r.seq)
		}
	}
	s.mu.Unlock()
	for _, seq := range seqs {
		if f.Limit > 0 && len(*out) >= f.Limit {
			return nil
		}
		r, err := s.readRun(c, "WHERE r.seq = ?", func(st *lite.Stmt) { st.Int(seq) })
		if err != nil {
			return err
		}
		if r.State == f.State && (f.EventID == "" || r.EventID == f.EventID) && (f.OrderKey == "" || r.OrderKey == f.OrderKey) {
			*out = append(*out, r)
		}
	}
	return nil
}

// runWhere makes the condition of a filter whose state is not a live one.
func runWhere(f store.RunFilter) (string, func(*lite.Stmt)) {
	var where, args []string
	add := func(cond string, vals ...string) {
		where = append(where, cond)
		args = append(args, vals...)
	}
	if f.EventID != "" {
		add("r.seq IN (SELECT seq FROM run WHERE object IN (SELECT object FROM event WHERE id = ?) AND event_id = ? "+
			"UNION ALL SELECT seq FROM run WHERE object IS NULL AND event_id = ?)", f.EventID, f.EventID, f.EventID)
	}
	if f.OrderKey != "" {
		add("r.seq IN (SELECT seq FROM run WHERE order_key = ? UNION ALL SELECT * FROM ("+familyOf+" SELECT q.seq FROM family "+
			"CROSS JOIN object x ON x.id = family.id CROSS JOIN run q ON q.object = x.id WHERE x.first_key = ? AND q.order_key IS NULL))",
			f.OrderKey, f.OrderKey, f.OrderKey)
	}
	if f.Flow != "" {
		add("r.flow = ?", f.Flow)
	}
	switch f.State {
	case "":
	case store.RunSucceeded:
		add("+r.state = ?", string(f.State)) // no index: nearly every run is one
	default:
		add("r.state = ? AND r.state IN ('failed', 'parked', 'dead_letter', 'cancelled')", string(f.State))
	}
	sql := ""
	if len(where) > 0 {
		sql = "WHERE " + strings.Join(where, " AND ")
	}
	return sql, func(st *lite.Stmt) {
		for _, a := range args {
			st.Text(a)
		}
	}
}

// familyOf finds the objects that a name belongs to, with those that were merged into them.
const familyOf = "WITH RECURSIVE family(id) AS (SELECT object FROM name WHERE name = ? " +
	"UNION SELECT o.id FROM object o JOIN family ON o.parent = family.id)"

// Steps implements store.Runs.
func (s *Store) Steps(ctx context.Context, run string) (out []store.Step, err error) {
	err = s.r.read(ctx, "steps", func(c *lite.Conn) error {
		out = nil
		st, err := c.Stmt("SELECT s.path, s.seq, s.action, s.state, s.attempt, s.error, s.class, s.key, s.started, s.ended, s.not_before, " +
			"s.input, s.output FROM run r JOIN step s ON s.run = r.seq WHERE r.id = ?")
		if err != nil {
			return err
		}
		defer st.Reset()
		st.Text(run)
		for {
			ok, err := st.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			p := store.Step{
				Path: st.ColText(0), Seq: int(st.ColInt(1)), Action: st.ColText(2), State: store.StepState(st.ColText(3)),
				Attempt: int(st.ColInt(4)), Error: st.ColText(5), Class: st.ColText(6), Key: st.ColText(7),
				Started: colTime(st, 8), Ended: colTime(st, 9), NotBefore: colTime(st, 10),
			}
			input, err := colPayload(c, st, 11)
			if err != nil {
				return err
			}
			output, err := colPayload(c, st, 12)
			if err != nil {
				return err
			}
			p.Input, p.Output = input, output
			out = append(out, p)
		}
		slices.SortStableFunc(out, func(a, b store.Step) int {
			return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Path, b.Path))
		})
		return nil
	})
	return out, err
}
