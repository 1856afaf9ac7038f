package storetest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/casewire/casewire/host/store"
)

// The model is the contract once more, in memory and as plain as can be: slices that are searched from the start. The
// state machine does the same to the model and to the store and compares every answer.

type modelObject struct {
	names           []string
	key, first, grp string
	rev, digest     string
	id              int // order of creation
}

type modelRun struct {
	id, order, flow, caseKey string
	merged                   string
	grouped                  bool // by incident
	state                    store.RunState
	fence                    int64
	owner                    string
	leaseEnd, notBefore      time.Time
	steps                    map[string]store.StepState
}

type modelHint struct {
	id                 string
	leased, notBefore  time.Time
	attempt            int
	isLeased, comeBack bool
}

type modelEffect struct {
	state     store.EffectState
	run       string
	result    string
	sent      time.Time
	attempts  int
	successes int
}

type model struct {
	*env
	store.Store
	events  map[string]bool
	objects []*modelObject
	runs    []*modelRun
	hints   []*modelHint
	effects map[string]*modelEffect
	grouped map[string]bool   // names that runs were grouped under
	goesBy  map[string]string // groups that go by another's name

	touched  *modelRun // whose journal may have changed
	ingested bool      // since the last comparison
}

func exerciseModel(t *testing.T, open Open) {
	rapid.Check(t, func(r *rapid.T) {
		dir := t.TempDir()
		m := &model{
			env:   &env{t: t, ctx: t.Context(), open: open, dir: dir, now: epoch},
			Store: open(t, dir), events: map[string]bool{}, effects: map[string]*modelEffect{},
			grouped: map[string]bool{}, goesBy: map[string]string{},
		}
		defer func() {
			if err := m.Store.Close(); err != nil {
				r.Error(err)
			}
		}()
		r.Repeat(map[string]func(*rapid.T){
			"addHint": m.doAddHint, "claimHints": m.doClaimHints, "settleHint": m.doSettleHint,
			"ingest": m.doIngest, "ingestMore": m.doIngest,
			"claimRuns": m.doClaimRuns, "claimMore": m.doClaimRuns, "renew": m.doRenew,
			"begin": m.doBegin, "advance": m.doAdvance, "advanceMore": m.doAdvance,
			"pass":   func(r *rapid.T) { m.pass(time.Duration(rapid.IntRange(1, 40).Draw(r, "seconds")) * time.Second) },
			"reopen": m.doReopen,
			"":       m.compare,
		})
	})
}

func want[T any](r *rapid.T, what string, got, expected T) {
	r.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", expected); g != w {
		r.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func (m *model) must(r *rapid.T, err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// doReopen: leases may end with the store or live on; the model lets them lapse first, so that both are right.
func (m *model) doReopen(r *rapid.T) {
	m.pass(2 * time.Minute)
	m.must(r, m.Store.Close())
	m.Store = m.open(m.t, m.dir)
	m.ingested = true
	for _, h := range m.hints {
		h.comeBack = false // it waits again in any case
	}
	for _, run := range m.runs {
		if run.state != store.RunRunning {
			continue
		}
		got, err := m.Run(m.ctx, run.id)
		m.must(r, err)
		if got.State.Live() && !got.NotBefore.After(m.now) { // as it was stored before it was claimed
			run.state, run.notBefore = got.State, got.NotBefore
		}
	}
}

var modelIDs = rapid.SampledFrom([]string{"a", "b", "c", "d"})

func (m *model) doAddHint(r *rapid.T) {
	id := modelIDs.Draw(r, "hint")
	n, err := m.AddHints(m.ctx, []store.Hint{m.hint(id)})
	m.must(r, err)
	expected := 0
	if i := slices.IndexFunc(m.hints, func(h *modelHint) bool { return h.id == id }); i < 0 {
		m.hints = append(m.hints, &modelHint{id: id})
		expected = 1
	} else if h := m.hints[i]; h.isLeased && h.leased.After(m.now) && !h.comeBack {
		h.comeBack = true
		expected = 1
	}
	want(r, "new hints", n, expected)
}

func (m *model) doClaimHints(r *rapid.T) {
	limit := rapid.IntRange(1, 3).Draw(r, "limit")
	until := m.now.Add(time.Minute)
	got, err := m.ClaimHints(m.ctx, store.HintClaim{Connection: testConnection, Trigger: testTrigger, Limit: limit, Now: m.now, LeaseUntil: until})
	m.must(r, err)
	var ids []string
	for _, h := range m.hints {
		due := !h.notBefore.After(m.now)
		if h.isLeased {
			due = !h.leased.After(m.now)
		}
		if due && len(ids) < limit {
			h.isLeased, h.leased = true, until
			ids = append(ids, h.id)
		}
	}
	want(r, "hints", hintIDs(got), append([]string{}, ids...))
}

func (m *model) doSettleHint(r *rapid.T) {
	id := modelIDs.Draw(r, "hint")
	in := store.Ingest{Connection: testConnection, Trigger: testTrigger, Now: m.now}
	h := m.hint(id)
	i := slices.IndexFunc(m.hints, func(h *modelHint) bool { return h.id == id })
	if rapid.Bool().Draw(r, "done") {
		in.Done = []store.Hint{h}
		switch {
		case i < 0:
		case m.hints[i].comeBack:
			*m.hints[i] = modelHint{id: id}
		default:
			m.hints = slices.Delete(m.hints, i, i+1)
		}
	} else {
		h.Attempt, h.NotBefore = 2, m.now.Add(20*time.Second)
		in.Retry = []store.Hint{h}
		if i < 0 {
			m.hints = append(m.hints, &modelHint{})
			i = len(m.hints) - 1
		}
		*m.hints[i] = modelHint{id: id, attempt: 2, notBefore: h.NotBefore}
	}
	_, err := m.Ingest(m.ctx, in)
	m.must(r, err)
}

func (m *model) doIngest(r *rapid.T) {
	key := rapid.SampledFrom([]string{"k1", "k2", "k3", "k4"}).Draw(r, "key")
	rev := rapid.IntRange(1, 4).Draw(r, "rev")
	digest := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(r, "digest")
	aliases := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"n1", "n2", "n3", "k2"}), 0, 2, rapid.ID[string]).Draw(r, "aliases")
	group := rapid.SampledFrom([]string{"incident", "alert"}).Draw(r, "group")
	ev := m.news(key, rev, digest, aliases...)
	ev.CorrelationID = rapid.SampledFrom([]string{"", "", "i1", "i2", "k3"}).Draw(r, "incident")
	into := rapid.SampledFrom([]string{"", "", "", "i1", "k1"}).Draw(r, "merged into")
	out, err := m.Ingest(m.ctx, store.Ingest{
		Connection: testConnection, Trigger: testTrigger, Now: m.now,
		Events: []store.Incoming{{Event: ev, MergedInto: into, Runs: []store.NewRun{{Flow: rapid.SampledFrom([]string{"f", "g"}).Draw(r, "flow"), GroupBy: group}}}},
	})
	m.must(r, err)
	if m.events[ev.ID] {
		want(r, "verdict", out[0], store.Outcome{Verdict: store.Duplicate})
		return
	}
	m.events[ev.ID], m.ingested = true, true
	o, isNew := m.join(key, ev.CorrelationID, aliases)
	verdict := store.Accepted
	switch {
	case isNew:
	case ev.Rev < o.rev:
		verdict = store.Stale
	case digest == o.digest:
		verdict = store.Unchanged
	}
	if verdict != store.Stale {
		o.rev, o.digest = ev.Rev, digest
	}
	want(r, "verdict", out[0].Verdict, verdict)
	if verdict != store.Accepted {
		want(r, "runs", len(out[0].Runs), 0)
		return
	}
	want(r, "runs", len(out[0].Runs), 1)
	run, err := m.Run(m.ctx, out[0].Runs[0])
	m.must(r, err)
	caseKey, merged := m.regroup(o, ev.CorrelationID, into)
	if group == "incident" {
		m.grouped[caseKey] = true
	} else {
		caseKey, merged = o.first, ""
	}
	want(r, "case and order", []string{run.CaseKey, run.MergedKey, run.OrderKey}, []string{caseKey, merged, o.first})
	m.runs = append(m.runs, &modelRun{
		id: run.ID, order: run.OrderKey, flow: run.Flow, caseKey: caseKey, merged: merged, grouped: group == "incident", state: store.RunReady, steps: map[string]store.StepState{},
	})
}

func (m *model) group(name string) string {
	for m.goesBy[name] != "" {
		name = m.goesBy[name]
	}
	return name
}

func (m *model) regrouped(run *modelRun) bool {
	return run.grouped && m.group(run.caseKey) != run.caseKey
}

// regroup follows the rules of store.Object.
func (m *model) regroup(o *modelObject, correlation, into string) (name, ended string) {
	unite := func(a, b string) {
		a, b = m.group(a), m.group(b)
		switch {
		case a == b:
		case m.grouped[a] && !m.grouped[b]:
			m.goesBy[b] = a
		default:
			m.goesBy[a] = b
			if m.grouped[a] {
				ended = a
			}
		}
	}
	was := o.grp
	if correlation != "" && correlation != was {
		o.grp = correlation
		if was == o.first {
			unite(was, correlation)
		}
	}
	if into == "" {
		return m.group(o.grp), ended
	}
	other := into
	for _, x := range m.objects {
		if slices.Contains(x.names, into) {
			other = x.grp
		}
	}
	for _, name := range []string{was, o.first, into} {
		unite(name, other)
	}
	return m.group(other), ended
}

// join finds or makes the object of a key, and merges all that share a name with it into the oldest.
func (m *model) join(key, group string, aliases []string) (*modelObject, bool) {
	names := append([]string{key}, aliases...)
	var same, others []*modelObject
	for _, o := range m.objects {
		if slices.ContainsFunc(o.names, func(n string) bool { return slices.Contains(names, n) }) {
			same = append(same, o)
		} else {
			others = append(others, o)
		}
	}
	if len(same) == 0 {
		o := &modelObject{names: names, key: key, first: key, grp: cmp.Or(group, key), id: len(m.events)}
		m.objects = append(m.objects, o)
		return o, true
	}
	slices.SortFunc(same, func(a, b *modelObject) int { return cmp.Compare(a.id, b.id) })
	root := same[0]
	for _, o := range same[1:] {
		root.key = min(root.key, o.key)
		root.names = append(root.names, o.names...)
		if o.rev > root.rev {
			root.rev, root.digest = o.rev, o.digest
		}
	}
	root.key = min(root.key, key)
	root.names = append(root.names, names...)
	others = append(others, root)
	m.objects = others
	return root, false
}

// heads are the runs that could be handed out.
func (m *model) heads() (out []*modelRun) {
	lanes := map[[2]string]bool{}
	for _, run := range m.runs {
		if lane := [2]string{run.order, run.flow}; run.state.Live() && !lanes[lane] {
			lanes[lane] = true
			out = append(out, run)
		}
	}
	return out
}

func (m *model) doClaimRuns(r *rapid.T) {
	owner := rapid.SampledFrom([]string{"w1", "w2"}).Draw(r, "owner")
	limit := rapid.IntRange(1, 3).Draw(r, "limit")
	until := m.now.Add(time.Minute)
	got, err := m.ClaimRuns(m.ctx, store.RunClaim{Owner: owner, Limit: limit, Now: m.now, LeaseUntil: until})
	m.must(r, err)
	ids := []string{}
	for _, run := range m.heads() {
		due := run.state == store.RunReady || run.state == store.RunWaiting && !run.notBefore.After(m.now) ||
			run.state == store.RunRunning && !run.leaseEnd.After(m.now)
		if due && len(ids) < limit {
			run.state, run.owner, run.leaseEnd = store.RunRunning, owner, until
			ids = append(ids, run.id)
		}
	}
	want(r, "claimed", runIDs(got), ids)
	for _, g := range got {
		run := m.find(g.ID)
		if g.Fence <= run.fence {
			r.Fatalf("run %s: fence %d after %d", g.ID, g.Fence, run.fence)
		}
		run.fence = g.Fence
		want(r, "case keys", []string{g.CaseKey, g.MergedKey}, []string{run.caseKey, run.merged})
	}
}

func (m *model) find(id string) *modelRun {
	return m.runs[slices.IndexFunc(m.runs, func(run *modelRun) bool { return run.id == id })]
}

// pick draws a run that was claimed at least once, and a lease of it that may be too old.
func (m *model) pick(r *rapid.T) (*modelRun, store.Lease, bool) {
	var claimed []*modelRun
	for _, run := range m.runs {
		if run.fence > 0 && (run.state == store.RunRunning || len(claimed) == 0) {
			claimed = append(claimed, run)
		}
	}
	if len(claimed) == 0 {
		r.Skip("nothing was claimed")
	}
	run := rapid.SampledFrom(claimed).Draw(r, "run")
	m.touched = run
	l := store.Lease{Run: run.id, Fence: run.fence}
	if rapid.IntRange(0, 5).Draw(r, "old lease") == 0 {
		l.Fence--
	}
	return run, l, run.state == store.RunRunning && l.Fence == run.fence
}

func (m *model) doRenew(r *rapid.T) {
	run, l, held := m.pick(r)
	owner := rapid.SampledFrom([]string{"w1", "w2"}).Draw(r, "owner")
	until := m.now.Add(90 * time.Second)
	lost, err := m.RenewRuns(m.ctx, owner, []store.Lease{l}, until)
	m.must(r, err)
	if held && owner == run.owner {
		want(r, "lost", len(lost), 0)
		run.leaseEnd = until
		return
	}
	want(r, "lost", lost, []string{run.id})
}

func (m *model) effectKey(r *rapid.T) (store.EffectKey, *modelEffect) {
	k := rapid.SampledFrom([]string{"e1", "e2"}).Draw(r, "effect")
	return store.EffectKey{Connection: "cases", Action: "case.ensure", Key: k}, m.effects[k]
}

// busy says whether another live run holds the effect.
func (m *model) busy(e *modelEffect, run *modelRun) bool {
	return e != nil && e.run != run.id && (e.state == store.EffectIntent || e.state == store.EffectUnknown) && m.find(e.run).state.Live()
}

func (m *model) doBegin(r *rapid.T) {
	run, l, held := m.pick(r)
	key, e := m.effectKey(r)
	path := rapid.SampledFrom([]string{"p1", "p2"}).Draw(r, "path")
	current := rapid.Bool().Draw(r, "current")
	prior, err := m.BeginEffect(m.ctx, l, store.Effect{EffectKey: key, Path: path, Updated: m.now, Current: current}, []store.Step{{Path: path, State: store.StepIntent}})
	switch {
	case !held:
		want(r, "fenced", errors.Is(err, store.ErrFenced), true)
		return
	case current && m.regrouped(run):
		want(r, "regrouped", errors.Is(err, store.ErrRegrouped), true)
		return
	case m.busy(e, run):
		want(r, "busy", errors.Is(err, store.ErrBusy), true)
		return
	}
	m.must(r, err)
	run.steps[path] = store.StepIntent
	if e == nil {
		want(r, "prior", prior, store.Effect{})
		m.effects[key.Key] = &modelEffect{state: store.EffectIntent, run: run.id, sent: m.now, attempts: 1}
		return
	}
	want(r, "prior", []any{prior.State, prior.Run, string(prior.Result), prior.FirstSent, prior.Attempts},
		[]any{e.state, e.run, e.result, e.sent, e.attempts})
	if e.state == store.EffectDone {
		e.attempts = 0
	}
	e.attempts++
	if e.state == store.EffectDone || e.state == store.EffectNone {
		e.sent = m.now
	}
	e.state, e.run = store.EffectIntent, run.id
}

func (m *model) doAdvance(r *rapid.T) {
	run, l, held := m.pick(r)
	path := rapid.SampledFrom([]string{"p1", "p2"}).Draw(r, "path")
	a := store.Advance{
		Lease: l, Now: m.now, Steps: []store.Step{{Path: path, State: store.StepSucceeded}},
		State: rapid.SampledFrom([]store.RunState{
			"", "", store.RunReady, store.RunWaiting, store.RunSucceeded, store.RunSucceeded, store.RunParked, store.RunDeadLetter,
		}).Draw(r, "state"),
	}
	a.Current = rapid.Bool().Draw(r, "current")
	if a.State == store.RunReady || a.State == store.RunWaiting {
		a.Regroup = rapid.Bool().Draw(r, "regroup")
		a.MergedKey = rapid.SampledFrom([]string{"", "ended"}).Draw(r, "ended")
	}
	if a.State == store.RunWaiting {
		a.NotBefore = m.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(r, "wait")) * time.Second)
	}
	var e *modelEffect
	if rapid.Bool().Draw(r, "with effect") {
		var key store.EffectKey
		key, e = m.effectKey(r)
		if e == nil {
			r.Skip("nobody began it")
		}
		a.Effects = []store.Effect{{
			EffectKey: key, Result: json.RawMessage(fmt.Sprintf("%q", run.id+path)),
			State: rapid.SampledFrom([]store.EffectState{store.EffectDone, store.EffectUnknown, store.EffectNone}).Draw(r, "outcome"),
		}}
	}
	err := m.Advance(m.ctx, a)
	switch {
	case !held:
		want(r, "fenced", errors.Is(err, store.ErrFenced), true)
		return
	case a.Current && m.regrouped(run):
		want(r, "regrouped", errors.Is(err, store.ErrRegrouped), true)
		return
	case m.busy(e, run):
		want(r, "busy", errors.Is(err, store.ErrBusy), true)
		return
	}
	m.must(r, err)
	if a.Regroup {
		run.merged, run.steps = cmp.Or(a.MergedKey, run.merged), map[string]store.StepState{}
		if run.grouped {
			run.caseKey = m.group(run.caseKey)
		}
	}
	run.steps[path] = store.StepSucceeded
	if e != nil {
		e.state, e.run = a.Effects[0].State, run.id
		switch {
		case e.state == store.EffectDone:
			e.result, e.successes = string(a.Effects[0].Result), e.successes+1
		case e.state == store.EffectNone && e.successes > 0:
			e.state = store.EffectDone
		}
	}
	if a.State != "" {
		run.state, run.notBefore, run.owner = a.State, a.NotBefore, ""
	}
}

// compare looks at the store after every step: at all runs and effects, and at what the step may have changed besides.
func (m *model) compare(r *rapid.T) {
	runs, err := m.ListRuns(m.ctx, store.RunFilter{})
	m.must(r, err)
	want(r, "number of runs", len(runs), len(m.runs))
	counts := map[store.RunState]int{}
	for i, run := range m.runs {
		counts[run.state]++
		got := runs[len(runs)-1-i]
		want(r, "run", []string{got.ID, string(got.State)}, []string{run.id, string(run.state)})
	}
	if m.touched != nil {
		steps, err := m.Steps(m.ctx, m.touched.id)
		m.must(r, err)
		states := map[string]store.StepState{}
		for _, s := range steps {
			states[s.Path] = s.State
		}
		want(r, "journal", states, m.touched.steps)
	}
	st, err := m.Stats(m.ctx)
	m.must(r, err)
	want(r, "hints", st.Hints, len(m.hints))
	want(r, "runs", st.Runs, counts)
	effects := map[store.EffectState]int{}
	for k, e := range m.effects {
		effects[e.state]++
		got, err := m.Effect(m.ctx, store.EffectKey{Connection: "cases", Action: "case.ensure", Key: k})
		m.must(r, err)
		want(r, "effect", []any{got.State, got.Run, string(got.Result), got.FirstSent}, []any{e.state, e.run, e.result, e.sent})
	}
	want(r, "effects", st.Effects, effects)
	if !m.ingested {
		return
	}
	m.ingested = false
	for _, o := range m.objects {
		for _, n := range o.names {
			got, err := m.Object(m.ctx, n)
			m.must(r, err)
			want(r, "object "+n, []string{got.Key, got.FirstKey, got.GroupKey, got.Rev, got.Digest}, []string{o.key, o.first, o.grp, o.rev, o.digest})
		}
	}
}
