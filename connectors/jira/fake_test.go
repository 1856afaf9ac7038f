package jira

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fakeJira is a fake behind a socket, and a connection to it.
func fakeJira(t *testing.T, o jirafake.Options, change ...func(*Config)) (*jirafake.Server, *sdktest.Harness) {
	t.Helper()
	o.NoIssueLimit = true
	fake := jirafake.New(o)
	t.Cleanup(fake.Close)
	return fake, serve(t, fake, o, change...)
}

// serve puts a fake behind a socket and opens a connection to it.
func serve(t *testing.T, fake *jirafake.Server, o jirafake.Options, change ...func(*Config)) *sdktest.Harness {
	t.Helper()
	var handler http.Handler = fake
	if !o.DataCenter {
		handler = judged(t, fake)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	cfg := testConfig(srv.URL)
	cfg.Deployment, cfg.Email = "auto", fake.User().Email
	if o.DataCenter {
		cfg.Email, cfg.APIToken, cfg.Token = "", plugin.Secret{}, plugin.NewSecret(fake.User().Bearer)
	} else {
		cfg.APIToken = plugin.NewSecret(fake.User().APIToken)
	}
	for _, f := range change {
		f(&cfg)
	}
	return sdktest.Open(t, Connector(), cfg)
}

func TestLifeOfAnIssueOnTheFake(t *testing.T) {
	t.Parallel()
	for name, dc := range map[string]bool{"cloud": false, "data center": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, h := fakeJira(t, jirafake.Options{DataCenter: dc})
			first := must[Ensured](t, h, ensure())
			if !first.Created || first.Key != "SOC-1" {
				t.Fatalf("first: %+v", first)
			}
			// Another host, which knows nothing, adopts it.
			if other := must[Ensured](t, h, ensure()); other.Created || other.Updated || other.ID != first.ID || other.Status != "To Do" {
				t.Errorf("another host: %+v", other)
			}
			c := ensure(with("title", "Worse"), with("severity_id", 5), with("labels", []string{"more"}), with("comment_on_update", "**it grew**"))
			c.Prior = first
			second := must[Ensured](t, h, c)
			if !second.Updated || second.Created {
				t.Errorf("update: %+v", second)
			}
			led := fake.Ledger()
			if is := led.Issues["SOC-1"]; is.Updates != 1 || is.Comments != 1 || led.Creates != 1 {
				t.Errorf("ledger: %+v", led)
			}
			got := must[Issue](t, h, sdktest.Call{Action: "issue.get", Input: map[string]any{"issue": "SOC-1"}})
			if got.Summary != "Worse" || got.Priority != "Highest" || got.CaseKey != caseKey || got.Category != "new" || !contains(got.Labels, "more") {
				t.Errorf("issue: %+v", got)
			}
			found := must[searched](t, h, sdktest.Call{Action: "issue.search", Input: map[string]any{
				"jql": "project = SOC AND labels = :mark", "params": map[string]string{"mark": label()},
			}})
			if found.Count != 1 || found.Rows[0].Key != "SOC-1" {
				t.Errorf("search: %+v", found)
			}
			// Whoever learns of it by its mark has the state as last written.
			c.Prior = nil
			if again := must[Ensured](t, h, c); again.Updated || again.ContentHash != second.ContentHash {
				t.Errorf("adopted after the update: %+v", again)
			}
			cm := must[Commented](t, h, comments(with("issue", "SOC-1")))
			again := comments(with("issue", "SOC-1"), func(c *sdktest.Call) { c.Attempt = 2 })
			if got := must[Commented](t, h, again); got.ID != cm.ID || fake.Ledger().Comments != 2 {
				t.Errorf("comment: %+v after %+v", got, cm)
			}
			fake.DeleteIssue("SOC-1")
			c = ensure(with("title", "After the funeral"))
			c.Prior = second
			if _, err := do[Ensured](t, h, c); asError(t, err).Class() != plugin.ClassNotFound || fake.Ledger().Creates != 1 {
				t.Errorf("deleted by a person: %v", err)
			}
		})
	}
}

func TestEveryLossAfterTheCommitIsFound(t *testing.T) {
	t.Parallel()
	for _, fault := range []jirafake.Fault{jirafake.LostAnswer, jirafake.ErrorAfter, jirafake.CutBody, jirafake.BadJSON} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			at := &clock{at: time.Now()}
			fake, h := fakeJira(t, jirafake.Options{Now: at.now, IndexLag: 30 * time.Second})
			fake.FailNext(jirafake.RouteCreate, fault, 1)
			_, err := do[Ensured](t, h, ensure())
			if e := asError(t, err); e.Class() != plugin.ClassUncertain {
				t.Fatalf("%v of class %s", e, e.Class())
			}
			resolve := func(c *sdktest.Call) { c.Resolve = true }
			_, err = do[Ensured](t, h, ensure(resolve))
			if e := asError(t, err); e.Reason != plugin.ReasonUnresolved {
				t.Fatalf("while the index lags: %v", e)
			}
			at.add(31 * time.Second)
			got := must[Ensured](t, h, ensure(resolve))
			if !got.Created || got.Key != "SOC-1" || fake.Ledger().Creates != 1 {
				t.Errorf("got %+v after %d creates", got, fake.Ledger().Creates)
			}
			fake.FailNext(jirafake.RouteComment, fault, 1)
			c := comments(with("issue", got.Key))
			if _, err := do[Commented](t, h, c); asError(t, err).Class() != plugin.ClassUncertain {
				t.Fatalf("comment: %v", err)
			}
			c.Attempt = 2
			if cm := must[Commented](t, h, c); !cm.Created || fake.Ledger().Comments != 1 {
				t.Errorf("comment: %+v, %d comments", cm, fake.Ledger().Comments)
			}
			// An update whose answer is lost may be repeated, and its comment is not.
			u := ensure(with("title", "News"), with("comment_on_update", "once"))
			u.Prior = got
			fake.FailNext(jirafake.RouteEdit, fault, 1)
			if _, err := do[Ensured](t, h, u); err != nil {
				if e := asError(t, err); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone {
					t.Fatalf("update: %v of class %s", e, e.Class())
				}
				u.Attempt = 2
				if again := must[Ensured](t, h, u); !again.Updated {
					t.Errorf("update: %+v", again)
				}
			}
			if led := fake.Ledger(); led.Comments != 2 || led.Updates != 1 {
				t.Errorf("%d comments and %d updates", led.Comments, led.Updates)
			}
		})
	}
}

// TestStorm delivers each case several times to a Jira that fails in every way, and does with the answers what a host
// does: repeat what surely did not happen, look for what may have. In the end each case has one issue.
func TestStorm(t *testing.T) {
	t.Parallel()
	const cases, deliveries = 40, 3
	at := &clock{at: time.Now()}
	fake, h := fakeJira(t, jirafake.Options{Now: at.now, IndexLag: 30 * time.Second, Seed: 7})
	fake.SetFaults(jirafake.Faults{Rates: map[string]map[jirafake.Fault]float64{
		"write": {
			jirafake.LostAnswer: .05, jirafake.ErrorAfter: .1, jirafake.CutBody: .03, jirafake.BadJSON: .03, jirafake.ServerError: .05,
			jirafake.Reset: .05, jirafake.Throttle: .05, jirafake.HTML: .03, jirafake.Unavailable: .03,
		},
		"read": {jirafake.Reset: .05, jirafake.ServerError: .05, jirafake.Throttle: .05, jirafake.CutBody: .03},
	}})
	parked := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range cases {
		wg.Go(func() {
			key := fmt.Sprintf("case %d", i)
			var prior json.RawMessage
			for n := range deliveries {
				out, err := deliver(t, h, at, key, n, prior)
				if err != nil {
					// Sent, and never found: a host parks it, because nobody knows.
					mu.Lock()
					parked[key] = true
					mu.Unlock()
					return
				}
				prior = out
			}
		})
	}
	wg.Wait()
	if dup := fake.Duplicates(labelPrefix); len(dup) > 0 {
		t.Errorf("doubled: %v", dup)
	}
	for i := range cases {
		key := fmt.Sprintf("case %d", i)
		issues := fake.ByLabel(labelPrefix + caseRef(key))
		if len(issues) != 1 && !parked[key] || len(issues) == 1 && parked[key] {
			t.Errorf("%s has issues %v, parked %v", key, issues, parked[key])
		}
		if len(issues) == 1 {
			if got := fake.Issue(issues[0])["fields"].(map[string]any)["summary"]; fmt.Sprint(got) != fmt.Sprintf("%s, delivery %d", key, deliveries-1) &&
				!strings.Contains(fmt.Sprintf("%s", got), fmt.Sprintf("delivery %d", deliveries-1)) {
				t.Errorf("%s: the last news is missing: %s", key, got)
			}
		}
	}
	t.Logf("%d parked, %d creates, %d updates", len(parked), fake.Ledger().Creates, fake.Ledger().Updates)
}

func deliver(t *testing.T, h *sdktest.Harness, at *clock, key string, n int, prior json.RawMessage) (json.RawMessage, error) {
	t.Helper()
	call := sdktest.Call{Action: "issue.ensure", Key: key, Attempt: 1, Input: map[string]any{"title": fmt.Sprintf("%s, delivery %d", key, n), "severity_id": 3}}
	if prior != nil {
		call.Prior = prior
	}
	lost := 0
	for range 200 {
		call.Resolve = lost > 0
		res, err := h.Do(t.Context(), call)
		if err == nil && call.Resolve && prior == nil {
			// Found; what it holds may be older news.
			call.Prior, prior, lost = res.Output, res.Output, 0
			continue
		}
		if err == nil {
			return res.Output, nil
		}
		e := asError(t, err)
		switch {
		case e.Class() == plugin.ClassUncertain && call.Resolve:
			t.Errorf("looking changed something: %v", e)
			return nil, err
		case e.Class() == plugin.ClassUncertain:
			lost = 1
		case e.Reason == plugin.ReasonUnresolved:
			if lost++; lost > 12 { // well past lag and window
				return nil, err
			}
			at.add(30 * time.Second)
		case !call.Resolve:
			call.Attempt++
		}
	}
	t.Errorf("%s: no end", key)
	return nil, nil
}

func TestTwoHostsAtOnceAreSeenAfterwards(t *testing.T) {
	t.Parallel()
	at := &clock{at: time.Now()}
	fake, h := fakeJira(t, jirafake.Options{Now: at.now, IndexLag: time.Minute})
	// Both look, neither sees the other: the outbox of the hosts is what prevents this, not Jira.
	a, b := must[Ensured](t, h, ensure()), must[Ensured](t, h, ensure())
	at.add(2 * time.Minute)
	got := must[Ensured](t, h, ensure())
	if got.ID != a.ID || len(got.Duplicates) != 1 || got.Duplicates[0] != b.Key {
		t.Errorf("got %+v, want the older %s and the other %s", got, a.Key, b.Key)
	}
	if len(fake.Duplicates(labelPrefix)) != 1 {
		t.Error("the ledger does not see what happened")
	}
}

func TestPrioritySchemeAndScreensOnTheFake(t *testing.T) {
	t.Parallel()
	o := jirafake.Options{Projects: []jirafake.Project{{
		ID: "1", Key: "SOC", Name: "Security", Priorities: []string{"High", "Low"}, IssueTypes: []jirafake.IssueType{{ID: "10001", Name: "Task"}},
	}}}
	_, h := fakeJira(t, o)
	_, err := do[Ensured](t, h, ensure(with("severity_id", 3)))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || !strings.Contains(e.Error(), "/fields/priority") {
		t.Errorf("%v of class %s", e, e.Class())
	}
	_, h = fakeJira(t, o, func(c *Config) { c.Priorities = map[string]string{"medium": "Low"} })
	must[Ensured](t, h, ensure(with("severity_id", 3)))
}

func TestLongAndHostileTextIsTakenByTheFake(t *testing.T) {
	t.Parallel()
	fake, h := fakeJira(t, jirafake.Options{})
	for i, text := range []string{strings.Repeat("é😀{code} ", 9000), strings.Repeat("[~admin] ", 9000), "```\n" + strings.Repeat("x\n", 40000)} {
		c := ensure(with("title", strings.Repeat("long title😀\r\n", 60)), with("description", text), with("labels", []string{strings.Repeat("a b", 200), "\t"}))
		c.Key = fmt.Sprint("hostile ", i)
		must[Ensured](t, h, c)
	}
	if n := fake.Ledger().Creates; n != 3 {
		t.Errorf("%d issues", n)
	}
}
