package jira

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// gated holds back requests of one kind: each is announced, and goes on when it is let go.
type gated struct {
	http.Handler
	held  func(*http.Request) bool
	came  chan struct{}
	letGo chan struct{}
	sent  atomic.Int32
}

func newGate(held func(*http.Request) bool) *gated {
	return &gated{held: held, came: make(chan struct{}, 1000), letGo: make(chan struct{})}
}

func isEdit(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Count(r.URL.Path, "/") == 5 && strings.Contains(r.URL.Path, "/issue/")
}

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.held(r) {
		g.sent.Add(1)
		g.came <- struct{}{}
		select {
		case <-g.letGo:
		case <-r.Context().Done():
			return
		}
	}
	g.Handler.ServeHTTP(w, r)
}

// client is a connection to the fake without a host between, so that a test can look into it.
func client(t *testing.T, fake *jirafake.Server, h http.Handler, change ...func(*Config)) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := testConfig(srv.URL)
	cfg.Email, cfg.APIToken = fake.User().Email, plugin.NewSecret(fake.User().APIToken)
	for _, f := range change {
		f(&cfg)
	}
	c, err := open(t.Context(), cfg, sdk.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// queued waits until n edits of an issue wait for their turn.
func queued(t *testing.T, c *Client, id string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d edits wait", n), func() bool {
		c.edits.mu.Lock()
		defer c.edits.mu.Unlock()
		q := c.edits.queues[id]
		return q != nil && len(q.waiting) == n
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// manyEdits is the stage: a fake with one issue, and one edit of it under way.
type manyEdits struct {
	fake  *jirafake.Server
	gate  *gated
	c     *Client
	id    string
	first chan error
}

func stageEdits(t *testing.T, o jirafake.Options, around ...func(http.Handler) http.Handler) *manyEdits {
	t.Helper()
	fake := jirafake.New(o)
	t.Cleanup(fake.Close)
	m := &manyEdits{fake: fake, gate: newGate(isEdit), first: make(chan error, 1)}
	m.gate.Handler = judged(t, fake)
	for _, f := range around {
		m.gate.Handler = f(m.gate.Handler)
	}
	m.c = client(t, fake, m.gate)
	made, err := m.c.create(t.Context(), &wanted{project: "SOC", issueType: m.c.cfg.IssueType, ref: caseRef("k"), key: "k", summary: "s", blank: true}, false)
	if err != nil {
		t.Fatal(err)
	}
	m.id = made.ID
	go func() {
		_, err := m.c.Update(t.Context(), UpdateInput{Issue: "SOC-1", AddLabels: []string{"first"}})
		m.first <- err
	}()
	<-m.gate.came
	return m
}

// release lets all edits go.
func (m *manyEdits) release() { close(m.gate.letGo) }

func (m *manyEdits) edits() map[string]uint64 { return m.fake.Ledger().Requests[jirafake.RouteEdit] }

func TestEditsOfOneIssueThatWaitBecomeOne(t *testing.T) {
	t.Parallel()
	const n = 200
	m := stageEdits(t, jirafake.Options{})
	var wg sync.WaitGroup
	for i := range n {
		in := UpdateInput{Issue: []string{"SOC-1", "soc-1", m.id}[i%3], AddLabels: []string{fmt.Sprintf("label-%d", i), "shared"}}
		switch i % 4 {
		case 1:
			in.Title = fmt.Sprintf("Title %d", i)
		case 2:
			in.Priority = "High"
		case 3:
			text := fmt.Sprintf("*text* %d", i)
			in.Description = &text
		}
		wg.Go(func() {
			out, err := m.c.Update(t.Context(), in)
			if err != nil || !out.Updated || out.Key != "SOC-1" || !slices.Contains(out.Changed, "labels") {
				t.Errorf("edit %d: %+v, %v", i, out, err)
			}
		})
	}
	queued(t, m.c, m.id, n)
	m.release()
	wg.Wait()
	if err := <-m.first; err != nil {
		t.Error(err)
	}
	is := m.fake.Ledger().Issues["SOC-1"]
	for i := range n {
		if !slices.Contains(is.Labels, fmt.Sprintf("label-%d", i)) {
			t.Errorf("label-%d is lost", i)
		}
	}
	if len(is.Labels) != n+3 || is.Updates != 3 || m.edits()["429"] != 0 { // and first, shared, and the mark
		t.Errorf("%d labels, %d updates, %v", len(is.Labels), is.Updates, m.edits())
	}
	fields := m.fake.Issue("SOC-1")["fields"].(map[string]any)
	if title := fmt.Sprintf("%s", fields["summary"]); !strings.Contains(title, "Title ") || !strings.Contains(fmt.Sprintf("%s", fields["description"]), "text") {
		t.Errorf("fields: %s, %s", fields["summary"], fields["description"])
	}
	m.closed(t)
}

func TestAPoisonedEditFailsAlone(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]UpdateInput{
		"a field is named": {Issue: "SOC-1", Priority: "Nonsense", AddLabels: []string{"poison"}},
		"by one of many":   {Issue: "SOC-1", Fields: map[string]json.RawMessage{"customfield_404": json.RawMessage(`"x"`)}, AddLabels: []string{"poison"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 60
			m := stageEdits(t, jirafake.Options{})
			var wg sync.WaitGroup
			for i := range n {
				in := UpdateInput{Issue: "SOC-1", AddLabels: []string{fmt.Sprintf("label-%d", i)}}
				if i%10 == 0 {
					in.Title = fmt.Sprintf("Title %d", i)
				}
				if i == 25 {
					in = poison
				}
				wg.Go(func() {
					_, err := m.c.Update(t.Context(), in)
					if (err != nil) != (i == 25) {
						t.Errorf("edit %d: %v", i, err)
					}
					if err != nil && i == 25 {
						if e := asError(t, err); e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 {
							t.Errorf("the poisoned one: %v of class %s", e, e.Class())
						}
					}
				})
			}
			queued(t, m.c, m.id, n)
			m.release()
			wg.Wait()
			labels := m.fake.Ledger().Issues["SOC-1"].Labels
			if len(labels) != n-1+2 || slices.Contains(labels, "poison") {
				t.Errorf("%d labels: %v", len(labels), labels)
			}
			// The first, all together, the innocent, the guilty.
			if got := m.edits(); got["400"] != 2 || got["204"] != 2 {
				t.Errorf("edits: %v", got)
			}
		})
	}
}

// A refusal that names nothing is narrowed down by halves.
func TestAnEditRefusedWithoutAReasonIsFound(t *testing.T) {
	t.Parallel()
	const n = 40
	m := stageEdits(t, jirafake.Options{NoIssueLimit: true}, func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isEdit(r) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				if bytes.Contains(body, []byte(`"poison-`)) {
					answer(http.StatusBadRequest, `{"errorMessages":["Nein."],"errors":{}}`)(w, r)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			inner.ServeHTTP(w, r)
		})
	})
	var wg sync.WaitGroup
	bad := map[int]bool{3: true, 17: true, 18: true}
	for i := range n {
		label := fmt.Sprintf("label-%d", i)
		if bad[i] {
			label = fmt.Sprintf("poison-%d", i)
		}
		wg.Go(func() {
			if _, err := m.c.Update(t.Context(), UpdateInput{Issue: "SOC-1", AddLabels: []string{label}}); (err != nil) != bad[i] {
				t.Errorf("edit %d: %v", i, err)
			}
		})
	}
	queued(t, m.c, m.id, n)
	m.release()
	wg.Wait()
	if labels := m.fake.Ledger().Issues["SOC-1"].Labels; len(labels) != n-len(bad)+2 {
		t.Errorf("labels: %v", labels)
	}
}

// What one edit sets and another sets to something else, or takes away, goes in requests of their own.
func TestEditsThatContradictEachOtherAreNotPutTogether(t *testing.T) {
	t.Parallel()
	m := stageEdits(t, jirafake.Options{})
	m.letOneGo(t)
	var wg sync.WaitGroup
	for _, in := range []UpdateInput{
		{Issue: "SOC-1", Priority: "High"},
		{Issue: "SOC-1", Priority: "Low"},
		{Issue: "SOC-1", Priority: "High", AddLabels: []string{"x"}},
		{Issue: "SOC-1", RemoveLabels: []string{"first"}},
		{Issue: "SOC-1", AddLabels: []string{"y"}},
	} {
		wg.Go(func() {
			if _, err := m.c.Update(t.Context(), in); err != nil {
				t.Errorf("%+v: %v", in, err)
			}
		})
	}
	queued(t, m.c, m.id, 5-1) // one went at once and is held
	<-m.gate.came
	m.release()
	wg.Wait()
	is := m.fake.Ledger().Issues["SOC-1"]
	if slices.Contains(is.Labels, "first") || !slices.Contains(is.Labels, "x") || !slices.Contains(is.Labels, "y") || is.Updates < 3 || is.Updates > 4 {
		t.Errorf("%+v", is)
	}
}

// letOneGo lets the edit that is under way go, and waits for its end.
func (m *manyEdits) letOneGo(t *testing.T) {
	t.Helper()
	m.gate.letGo <- struct{}{}
	if err := <-m.first; err != nil {
		t.Fatal(err)
	}
}

func TestACallThatEndsTakesNobodyWithIt(t *testing.T) {
	t.Parallel()
	m := stageEdits(t, jirafake.Options{})
	type end struct {
		err error
		i   int
	}
	ends := make(chan end, 5)
	ctxs := make([]context.CancelFunc, 5)
	for i := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		ctxs[i] = cancel
		go func() {
			_, err := m.c.Update(ctx, UpdateInput{Issue: "SOC-1", AddLabels: []string{fmt.Sprint("label-", i)}})
			ends <- end{err, i}
		}()
	}
	queued(t, m.c, m.id, 5)
	ctxs[0]() // before it is sent
	if got := <-ends; got.i != 0 || asError(t, got.err).SideEffect != plugin.EffectNone || !strings.Contains(got.err.Error(), "not sent") {
		t.Errorf("edit %d: %v", got.i, got.err)
	}
	m.letOneGo(t)
	<-m.gate.came // the other four are under way
	ctxs[1]()
	if got := <-ends; got.i != 1 || got.err == nil || strings.Contains(got.err.Error(), "not sent") {
		t.Errorf("edit %d: %v", got.i, got.err)
	}
	m.gate.letGo <- struct{}{}
	for range 3 {
		if got := <-ends; got.err != nil {
			t.Errorf("edit %d: %v", got.i, got.err)
		}
	}
	labels := m.fake.Ledger().Issues["SOC-1"].Labels
	if slices.Contains(labels, "label-0") || !slices.Contains(labels, "label-4") || m.gate.sent.Load() != 2 {
		t.Errorf("%v after %d edits", labels, m.gate.sent.Load())
	}
	for _, cancel := range ctxs {
		cancel()
	}
}

// When everybody has left, the request is ended, and whoever comes next is served.
func TestARequestThatNobodyWaitsForIsEnded(t *testing.T) {
	t.Parallel()
	m := stageEdits(t, jirafake.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if _, err := m.c.Update(ctx, UpdateInput{Issue: "SOC-1", AddLabels: []string{fmt.Sprint("gone-", i)}}); err == nil {
				t.Error("an ended call succeeded")
			}
		})
	}
	queued(t, m.c, m.id, 3)
	m.letOneGo(t)
	<-m.gate.came
	cancel()
	wg.Wait()
	m.release()
	if _, err := m.c.Update(t.Context(), UpdateInput{Issue: "SOC-1", AddLabels: []string{"later"}}); err != nil {
		t.Error(err)
	}
	m.closed(t)
}

// closed waits until nothing is kept of the edits.
func (m *manyEdits) closed(t *testing.T) {
	t.Helper()
	eventually(t, "the queue is closed", func() bool {
		m.c.edits.mu.Lock()
		defer m.c.edits.mu.Unlock()
		return len(m.c.edits.queues) == 0
	})
}

// TestManyEditsOfOneIssueInBadWeather: whatever is thrown at them, those that are told to be done are done, none is lost,
// and the limit on writes to one issue is never met.
func TestManyEditsOfOneIssueInBadWeather(t *testing.T) {
	t.Parallel()
	const n = 200
	fake := jirafake.New(jirafake.Options{Seed: 11})
	t.Cleanup(fake.Close)
	h := serve(t, fake, jirafake.Options{})
	must[Ensured](t, h, ensure())
	fake.SetFaults(jirafake.Faults{Rates: map[string]map[jirafake.Fault]float64{
		jirafake.RouteEdit: {
			jirafake.LostAnswer: .1, jirafake.ErrorAfter: .1, jirafake.Conflict: .1, jirafake.Throttle: .1, jirafake.Reset: .1, jirafake.ServerError: .1, jirafake.HTML: .05,
		},
	}})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c := sdktest.Call{Action: "issue.update", Input: map[string]any{
				"issue": "SOC-1", "add_labels": []string{fmt.Sprintf("label-%d", i)}, "title": fmt.Sprintf("Title %d", i),
			}}
			for c.Attempt = 1; ; c.Attempt++ {
				out, err := do[Updated](t, h, c)
				if err == nil {
					if !out.Updated && c.Attempt == 1 {
						t.Errorf("edit %d: %+v", i, out)
					}
					return
				}
				e := asError(t, err)
				if e.SideEffect != plugin.EffectNone || c.Attempt > 100 {
					t.Errorf("edit %d, attempt %d: %v", i, c.Attempt, err)
					return
				}
				<-time.After(min(e.RetryAfter, 5*time.Second))
			}
		})
	}
	wg.Wait()
	is := fake.Ledger().Issues["SOC-1"]
	for i := range n {
		if !slices.Contains(is.Labels, fmt.Sprintf("label-%d", i)) {
			t.Errorf("label-%d is lost", i)
		}
	}
	t.Logf("%d edits: %v", is.Updates, fake.Ledger().Requests[jirafake.RouteEdit])
}

func TestWhatIsWrittenByKeyAndByIDCountsAsOne(t *testing.T) {
	t.Parallel()
	var p pacer
	now := time.Now()
	for i := range burstWrites {
		p.take("PUT", []string{"SOC-1", "soc-1", "10001"}[i%3], now)
	}
	if _, wait, _ := p.take("PUT", "SOC-1", now); wait > 0 {
		t.Errorf("key and id are not known to be one, but wait %v", wait)
	}
	p.learnFrom(&issue{ID: "10001", Key: "SOC-1"})
	for _, ref := range []string{"SOC-1", "Soc-1", "10001"} {
		if _, wait, _ := p.take("PUT", ref, now); wait <= 0 {
			t.Errorf("%s: write 22 in a moment", ref)
		}
	}
	p.heed(write("SOC-1"), http.StatusTooManyRequests, http.Header{"Retry-After": {"7"}, "Ratelimit-Reason": {"jira-per-issue-on-write"}}, true)
	if _, wait, _ := p.take("PUT", "10001", now); wait <= burstWindow {
		t.Errorf("a pause for SOC-1 is %v for its id", wait)
	}
	for i := range 2 * maxIDs {
		p.learn(fmt.Sprint(i+1), fmt.Sprint("X-", i+1))
	}
	if len(p.ids) > maxIDs {
		t.Errorf("%d keys are remembered", len(p.ids))
	}
}

// Who waits is told at once that it takes long, instead of waiting for the end of his call.
func TestALongPauseIsToldToAllThatWait(t *testing.T) {
	t.Parallel()
	const n = 10
	m := stageEdits(t, jirafake.Options{})
	ends := make(chan error, n)
	for i := range n {
		go func() {
			_, err := m.c.Update(t.Context(), UpdateInput{Issue: "SOC-1", AddLabels: []string{fmt.Sprint("label-", i)}})
			ends <- err
		}()
	}
	queued(t, m.c, m.id, n)
	m.c.pace.heed(write(m.id), http.StatusTooManyRequests, http.Header{"Retry-After": {"1800"}, "Ratelimit-Reason": {"jira-per-issue-on-write"}}, true)
	m.release()
	for range n {
		e := asError(t, <-ends)
		if e.Class() != plugin.ClassThrottled || e.SideEffect != plugin.EffectNone || e.RetryAfter < 25*time.Minute {
			t.Errorf("%v of class %s, after %v", e, e.Class(), e.RetryAfter)
		}
	}
	if err := <-m.first; err != nil || m.gate.sent.Load() != 1 {
		t.Errorf("%v; %d edits were sent", err, m.gate.sent.Load())
	}
	m.closed(t)
}

func TestWritesLeaveAQueueThatIsSlowerThanTheirCalls(t *testing.T) {
	t.Parallel()
	g := edits()
	short, cancel := context.WithDeadline(t.Context(), time.Now().Add(time.Hour))
	defer cancel()
	waiting := func(ctx context.Context, label string) *waitingWrite {
		r := write("1")
		r.body = &issueUpdate{Update: map[string][]map[string]any{"labels": {{"add": label}}}}
		return &waitingWrite{ctx: ctx, r: r, edit: partsOf(r.body.(*issueUpdate)), done: make(chan written, 1)}
	}
	a, b, c := waiting(short, "a"), waiting(t.Context(), "b"), waiting(t.Context(), "c")
	if g.begin("1", a) {
		t.Fatal("nothing was under way")
	}
	for _, w := range []*waitingWrite{a, b, c} {
		if !g.begin("1", w) {
			t.Fatal("not queued")
		}
	}
	f := g.next("1")
	g.shed("1", f, time.Minute, io.EOF) // he has time
	g.shed("1", f, 2*time.Hour, io.ErrUnexpectedEOF)
	if out := <-a.done; !errors.Is(out.err, io.ErrUnexpectedEOF) {
		t.Errorf("%+v", out)
	}
	for range 2 { // the second time after a refused token
		if err := g.board("1", f); err != nil || len(f.members) != 2 || f.ctx.Err() != nil {
			t.Errorf("%v, %d members", err, len(f.members))
		}
	}
	g.shed("1", f, 2*time.Hour, io.EOF) // under way, nobody is sent off
	if g.leave("1", b); f.ctx.Err() != nil {
		t.Error("ended although one still waits")
	}
	if g.leave("1", c); f.ctx.Err() == nil {
		t.Error("goes on although nobody waits")
	}
	if again := g.again("1", f.members); again != nil {
		t.Error("sent again for nobody")
	}
	// All that wait have left before it was their turn.
	d := waiting(t.Context(), "d")
	g.begin("1", d)
	f = g.next("1")
	if sent := g.leave("1", d); sent || f.ctx.Err() == nil {
		t.Errorf("sent %v, %v", sent, f.ctx.Err())
	}
	if err := g.board("1", f); !errors.Is(err, errNobody) {
		t.Error(err)
	}
	e := waiting(t.Context(), "e") // comes in that moment, and is not for this flight
	g.begin("1", e)
	g.refuse("1", f, context.Canceled)
	if f = g.next("1"); f == nil || len(e.done) != 0 {
		t.Error("who came later was refused")
	}
	g.refuse("1", f, io.EOF)
	if out := <-e.done; !errors.Is(out.err, io.EOF) || g.next("1") != nil || g.queues["1"] != nil {
		t.Errorf("%+v", out)
	}
}

func TestWhichEditsGoTogether(t *testing.T) {
	t.Parallel()
	edit := func(fields string, update string, props ...entityProperty) *issueUpdate {
		u := &issueUpdate{Properties: props}
		if fields != "" {
			u.Fields = json.RawMessage(fields)
		}
		if update != "" {
			if err := json.Unmarshal([]byte(update), &u.Update); err != nil {
				t.Fatal(err)
			}
		}
		return u
	}
	for name, tt := range map[string]struct {
		a, b     *issueUpdate
		together bool
	}{
		"labels":                  {edit("", `{"labels":[{"add":"a"}]}`), edit("", `{"labels":[{"add":"b"},{"remove":"c"}]}`), true},
		"the same label":          {edit("", `{"labels":[{"add":"a"}]}`), edit("", `{"labels":[{"add":"A"}]}`), true},
		"against each other":      {edit("", `{"labels":[{"add":"a"}]}`), edit("", `{"labels":[{"remove":"A"}]}`), false},
		"titles":                  {edit(`{"summary":"a"}`, ""), edit(`{"summary":"b"}`, ""), true},
		"descriptions":            {edit(`{"description":"a"}`, ""), edit(`{"description":"b"}`, ""), true},
		"a description cleared":   {edit(`{"description":"a"}`, ""), edit(`{"description":null}`, ""), false},
		"other fields":            {edit(`{"priority":{"name":"High"}}`, ""), edit(`{"assignee":null}`, ""), true},
		"the same value":          {edit(`{"priority":{"name":"High"}}`, ""), edit(`{"priority":{"name":"High"}}`, ""), true},
		"another value":           {edit(`{"priority":{"name":"High"}}`, ""), edit(`{"priority":{"name":"Low"}}`, ""), false},
		"a comment":               {edit("", `{"comment":[{"add":{"body":"a"}}]}`), edit(`{"summary":"b"}`, ""), true},
		"two comments":            {edit("", `{"comment":[{"add":{"body":"a"}}]}`), edit("", `{"comment":[{"add":{"body":"b"}}]}`), false},
		"properties":              {edit("", "", entityProperty{Key: "a"}), edit("", "", entityProperty{Key: "a"}), false},
		"an unknown change":       {edit("", `{"fixVersions":[{"add":{"name":"1"}}]}`), edit(`{"summary":"b"}`, ""), false},
		"an unknown verb":         {edit("", `{"labels":[{"set":["a"]}]}`), edit(`{"summary":"b"}`, ""), false},
		"labels set as a field":   {edit(`{"labels":["a"]}`, ""), edit("", `{"labels":[{"add":"b"}]}`), false},
		"fields that are no list": {edit(`7`, ""), edit(`{"summary":"b"}`, ""), false},
	} {
		for _, pair := range [][2]*issueUpdate{{tt.a, tt.b}, {tt.b, tt.a}} {
			var waiting []*waitingWrite
			for _, u := range pair {
				waiting = append(waiting, &waitingWrite{edit: partsOf(u)})
			}
			if members, stay := chooseEdits(waiting); (len(stay) == 0) != tt.together || members[0] != waiting[0] {
				t.Errorf("%s: %d go, %d stay", name, len(members), len(stay))
			}
		}
	}
}
