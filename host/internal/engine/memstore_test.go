package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/casewire/casewire/host/store"
)

// memStore is the part of a store that the engine uses, in memory.
type memStore struct {
	store.Store // nil: the rest is not called

	mu      sync.Mutex
	runs    map[string]*store.Run
	live    []live // in the order of creation
	groups  map[[2]string]*[]*store.Run
	steps   map[string]map[string]store.Step
	effects map[store.EffectKey]store.Effect
	dead    []store.DeadLetter
	writes  []string
	seq     int64
	fence   int64
	refused int               // ErrBusy
	parts   map[string]string // groups that ended, and what they go by
	// hook may fail an operation before or after it took effect.
	hook func(op string, after bool) error
}

// live is a run and the line of those with its order key and flow.
type live struct {
	*store.Run
	line *[]*store.Run
}

func newMemStore() *memStore {
	return &memStore{
		runs: map[string]*store.Run{}, groups: map[[2]string]*[]*store.Run{},
		steps: map[string]map[string]store.Step{}, effects: map[store.EffectKey]store.Effect{}, parts: map[string]string{},
	}
}

func (m *memStore) do(op string, f func() error) error {
	if m.hook != nil {
		if err := m.hook(op, false); err != nil {
			return err
		}
	}
	m.mu.Lock()
	err := f()
	if err == nil {
		m.writes = append(m.writes, op)
	}
	m.mu.Unlock()
	if m.hook != nil && err == nil {
		err = m.hook(op, true)
	}
	return err
}

func (m *memStore) add(n store.NewRun) *store.Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	if n.ID == "" {
		n.ID = fmt.Sprintf("run-%d", m.seq)
	}
	if n.OrderKey == "" {
		n.OrderKey = n.ID
	}
	n.State = store.RunReady
	r := &store.Run{NewRun: n, Seq: m.seq, Created: time.Now()}
	m.runs[n.ID] = r
	g := [2]string{n.OrderKey, n.Flow}
	if m.groups[g] == nil {
		m.groups[g] = &[]*store.Run{}
	}
	*m.groups[g] = append(*m.groups[g], r)
	m.live = append(m.live, live{r, m.groups[g]})
	return r
}

func (m *memStore) ClaimRuns(_ context.Context, c store.RunClaim) (out []store.Run, err error) {
	if m.hook != nil {
		if err := m.hook("claim", false); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.live) > 0 && !m.live[0].State.Live() {
		m.live = m.live[1:]
	}
	gone := 0
	for _, r := range m.live {
		if !r.State.Live() {
			gone++
			continue
		}
		if len(out) == c.Limit {
			break
		}
		if !claimable(r.Run, c.Now) || (*r.line)[0] != r.Run {
			continue
		}
		r.State, r.Owner, r.LeaseEnd, r.NotBefore = store.RunRunning, c.Owner, c.LeaseUntil, time.Time{}
		m.fence++
		r.Fresh = r.Fence == 0
		r.Fence = m.fence // as a driver may: one counter for all runs
		out = append(out, *r.Run)
	}
	if gone > len(m.live)/2 {
		m.live = slices.DeleteFunc(m.live, func(r live) bool { return !r.State.Live() })
	}
	return out, nil
}

func claimable(r *store.Run, now time.Time) bool {
	switch r.State {
	case store.RunReady:
		return true
	case store.RunWaiting:
		return !now.Before(r.NotBefore)
	case store.RunRunning:
		return now.After(r.LeaseEnd)
	default:
		return false
	}
}

func (m *memStore) RenewRuns(_ context.Context, owner string, leases []store.Lease, until time.Time) (lost []string, err error) {
	err = m.do("renew", func() error {
		for _, l := range leases {
			if r := m.runs[l.Run]; r.Fence != l.Fence || r.Owner != owner || r.State != store.RunRunning {
				lost = append(lost, l.Run)
			} else {
				r.LeaseEnd = until
			}
		}
		return nil
	})
	return lost, err
}

func (m *memStore) fenced(l store.Lease) (*store.Run, error) {
	r := m.runs[l.Run]
	if r == nil || r.Fence != l.Fence || r.State != store.RunRunning {
		return nil, store.ErrFenced
	}
	return r, nil
}

func (m *memStore) put(run string, steps []store.Step) {
	if m.steps[run] == nil {
		m.steps[run] = map[string]store.Step{}
	}
	for _, s := range steps {
		m.steps[run][s.Path] = s
	}
}

func (m *memStore) Advance(_ context.Context, a store.Advance) error {
	return m.do("advance "+string(a.State), func() error {
		r, err := m.fenced(a.Lease)
		if err != nil {
			return err
		}
		if a.Current && m.regrouped(r) {
			return store.ErrRegrouped
		}
		if a.Regroup {
			r.CaseKey, m.steps[a.Run] = m.parts[r.CaseKey], nil
			r.MergedKey = cmp.Or(a.MergedKey, r.MergedKey)
		}
		m.put(a.Run, a.Steps)
		for _, e := range a.Effects {
			m.settleEffect(e)
		}
		if a.State == "" {
			return nil
		}
		r.State, r.Reason, r.Class, r.Output, r.NotBefore = a.State, a.Reason, a.Class, a.Output, a.NotBefore
		if a.State == store.RunWaiting && a.NotBefore.IsZero() {
			return fmt.Errorf("waiting needs a time")
		}
		if !a.State.Live() {
			r.Ended = a.Now
			g := [2]string{r.OrderKey, r.Flow}
			*m.groups[g] = (*m.groups[g])[1:]
		}
		if a.DeadLetter != nil {
			m.dead = append(m.dead, *a.DeadLetter)
		}
		return nil
	})
}

// merge lets a group end in another.
func (m *memStore) merge(loser, winner string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts[loser] = winner
}

func (m *memStore) regrouped(r *store.Run) bool {
	return r.GroupBy == "incident" && m.parts[r.CaseKey] != ""
}

func (m *memStore) CancelRun(_ context.Context, c store.Cancel) (state store.RunState, err error) {
	err = m.do("cancel", func() error {
		r := m.runs[c.Run]
		switch {
		case r == nil:
			return store.ErrNotFound
		case !r.State.Live():
			return store.ErrEnded
		case r.State == store.RunRunning && !c.Now.After(r.LeaseEnd):
			return store.ErrLeased
		}
		state, r.Reason = store.RunCancelled, c.Reason
		for _, e := range m.effects {
			if e.Run == r.ID && unsettled(e.State) {
				state, r.Reason = store.RunParked, c.Parked
			}
		}
		r.State, r.Ended = state, c.Now
		g := m.groups[[2]string{r.OrderKey, r.Flow}]
		*g = slices.DeleteFunc(*g, func(o *store.Run) bool { return o == r })
		return nil
	})
	return state, err
}

func (m *memStore) settleEffect(e store.Effect) {
	was := m.effects[e.EffectKey]
	e.FirstSent = was.FirstSent
	if e.State != store.EffectDone {
		e.Result = was.Result
	}
	if e.State == store.EffectNone && was.Result != nil {
		e.State = store.EffectDone
	}
	m.effects[e.EffectKey] = e
}

func (m *memStore) BeginEffect(_ context.Context, l store.Lease, e store.Effect, steps []store.Step) (prior store.Effect, err error) {
	err = m.do("begin", func() error {
		r, err := m.fenced(l)
		if err != nil {
			return err
		}
		if e.Current && m.regrouped(r) {
			return store.ErrRegrouped
		}
		prior = m.effects[e.EffectKey]
		if unsettled(prior.State) && prior.Run != l.Run && m.runs[prior.Run] != nil && m.runs[prior.Run].State.Live() {
			m.refused++
			return store.ErrBusy
		}
		e.Result, e.State = prior.Result, store.EffectIntent
		if unsettled(prior.State) {
			e.FirstSent = prior.FirstSent
		}
		m.effects[e.EffectKey] = e
		m.put(l.Run, steps)
		return nil
	})
	return prior, err
}

func (m *memStore) Effect(_ context.Context, key store.EffectKey) (store.Effect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.effects[key]
	if !ok {
		return e, store.ErrNotFound
	}
	return e, nil
}

func (m *memStore) Run(_ context.Context, id string) (store.Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		return *r, nil
	}
	return store.Run{}, store.ErrNotFound
}

func (m *memStore) Steps(_ context.Context, run string) ([]store.Step, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runs[run] == nil {
		return nil, store.ErrNotFound
	}
	list := make([]store.Step, 0, len(m.steps[run]))
	for _, s := range m.steps[run] {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b store.Step) int { return a.Seq - b.Seq })
	return list, nil
}

func (m *memStore) NextDue(context.Context) (due time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.live {
		if r.State == store.RunWaiting && (due.IsZero() || r.NotBefore.Before(due)) {
			due = r.NotBefore
		}
	}
	return due, nil
}

// counts says how often each write was made, renewals aside.
func (m *memStore) counts() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[string]int{}
	for _, w := range m.writes {
		if w != "renew" {
			n[w]++
		}
	}
	return n
}

func (m *memStore) unfinished() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, r := range m.runs {
		if r.State.Live() {
			n++
		}
	}
	return n
}
