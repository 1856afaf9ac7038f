package jira

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func write(issue string) *request {
	return &request{verb: "write", method: http.MethodPut, path: "rest/api/2/issue/" + issue, outcome: repeatable}
}

// turn is a request that is answered at once.
func turn(p *pacer, ctx context.Context, r *request) error {
	answered, err := p.turn(ctx, r)
	if err == nil {
		answered()
	}
	return err
}

func TestWritesToOneIssueKeepJirasPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		var sent []time.Time
		throttled := 0
		for len(sent) < 130 {
			answered, err := p.turn(t.Context(), write("SOC-1"))
			if err != nil {
				throttled++
				<-time.After(asError(t, err).RetryAfter)
				continue
			}
			sent = append(sent, time.Now())
			<-time.After(10 * time.Millisecond)
			answered()
			if err := turn(&p, t.Context(), write("SOC-"+strconv.Itoa(100+len(sent)))); err != nil {
				t.Errorf("another issue waits too: %v", err)
			}
		}
		for i := range sent {
			if i >= burstWrites && sent[i].Sub(sent[i-burstWrites]) < burstWindow {
				t.Fatalf("write %d is %v after write %d", i, sent[i].Sub(sent[i-burstWrites]), i-burstWrites)
			}
			if i >= slowWrites && sent[i].Sub(sent[i-slowWrites]) < slowWindow {
				t.Fatalf("write %d is %v after write %d", i, sent[i].Sub(sent[i-slowWrites]), i-slowWrites)
			}
		}
		if throttled == 0 {
			t.Error("a pause of 20 s was waited for in place")
		}
	})
}

func TestA429PausesWhatItIsAbout(t *testing.T) {
	t.Parallel()
	read := &request{verb: "read", method: http.MethodGet, path: "rest/api/2/issue/SOC-2?fields=x"}
	search := &request{verb: "search", method: http.MethodPost, path: "rest/api/2/search/jql"}
	for name, tt := range map[string]struct {
		reason string
		status int
		cloud  bool
		blocks map[*request]bool
	}{
		"quota":             {"jira-quota-tenant-based", 429, true, map[*request]bool{read: true, search: true, write("SOC-1"): true}},
		"burst":             {"jira-burst-based", 429, true, map[*request]bool{read: false, search: false, write("SOC-2"): true}},
		"issue":             {"jira-per-issue-on-write", 429, true, map[*request]bool{read: false, write("SOC-2"): false, write("SOC-1"): true}},
		"data center":       {"", 429, false, map[*request]bool{read: true, search: true}},
		"cloud, no reason":  {"", 429, true, map[*request]bool{search: false, write("SOC-2"): true}},
		"down for a moment": {"", 503, true, map[*request]bool{read: true, search: true}},
		"error":             {"", 500, true, map[*request]bool{read: false, write("SOC-1"): false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var p pacer
				p.heed(write("SOC-1"), tt.status, http.Header{"Retry-After": {"1800"}, "Ratelimit-Reason": {tt.reason}}, tt.cloud)
				for r, blocked := range tt.blocks {
					err := turn(&p, t.Context(), r)
					if (err != nil) != blocked {
						t.Errorf("%s %s: %v", r.method, r.path, err)
					}
					if err != nil {
						if e := asError(t, err); e.Class() != plugin.ClassThrottled || e.SideEffect != sdk.EffectNone || e.RetryAfter != 30*time.Minute {
							t.Errorf("%v of class %s after %v", e, e.Class(), e.RetryAfter)
						}
					}
				}
				<-time.After(31 * time.Minute)
				for r := range tt.blocks {
					if err := turn(&p, t.Context(), r); err != nil {
						t.Errorf("for ever: %v", err)
					}
				}
			})
		})
	}
}

func TestShortPausesAreWaitedForAndEndWithTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		p.heed(write("SOC-1"), 429, http.Header{"Retry-After": {"2"}, "Ratelimit-Reason": {"jira-burst-based"}}, true)
		begin := time.Now()
		if err := turn(&p, t.Context(), write("SOC-1")); err != nil || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		p.heed(write("SOC-1"), 429, http.Header{"Retry-After": {"2"}, "Ratelimit-Reason": {"jira-burst-based"}}, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turn(&p, ctx, write("SOC-1")); asError(t, err).Class() != plugin.ClassThrottled {
			t.Errorf("a wait that outlasts the call: %v", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := turn(&p, gone, write("SOC-1")); err == nil {
			t.Error("an ended call went on waiting")
		}
	})
}

// TestManyCommentsOnOneIssueAreNeverRefused: the fake keeps the limit of writes to one issue, and never has to say so.
func TestManyCommentsOnOneIssueAreNeverRefused(t *testing.T) {
	t.Parallel()
	fake := jirafake.New(jirafake.Options{})
	t.Cleanup(fake.Close)
	h := serve(t, fake, jirafake.Options{})
	must[Ensured](t, h, ensure())
	for i := range 25 {
		c := comments(with("issue", "SOC-1"))
		c.Key = "comment " + string(rune('a'+i))
		must[Commented](t, h, c)
	}
	if led := fake.Ledger(); led.Comments != 25 || led.Requests[jirafake.RouteComment]["429"] != 0 {
		t.Errorf("%d comments, %v", led.Comments, led.Requests[jirafake.RouteComment])
	}
}
