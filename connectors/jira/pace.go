package jira

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/sdk"
)

// Cloud's limits for writes to one issue: https://developer.atlassian.com/cloud/jira/platform/rate-limiting/.
const (
	burstWrites, burstWindow = 20, 2 * time.Second
	slowWrites, slowWindow   = 100, 30 * time.Second
)

// maxPause is how long a request waits for its turn by itself. Longer pauses are the host's: it has other work meanwhile.
const maxPause = 2500 * time.Millisecond

// pacer keeps to Jira's limits before Jira has to say so, and pauses what a 429 is about: all requests for a quota, one
// operation for a burst, one issue for writes to it. Safe for concurrent use; the zero value is ready.
type pacer struct {
	mu     sync.Mutex
	all    time.Time            // nothing goes before
	ops    map[string]time.Time // nor an operation before
	issues map[string]*issuePace
}

type issuePace struct {
	until  time.Time
	writes []time.Time // of the last 30 seconds, oldest first
}

// parts names the operation of a request, and the issue that it writes to, if it does.
func (r *request) parts() (op, issue string) {
	path, _, _ := strings.Cut(r.path, "?")
	seg := strings.Split(path, "/")
	// rest/api/2/issue/{ref}/sub
	if len(seg) > 4 && seg[3] == "issue" && seg[4] != "createmeta" {
		if r.outcome != reads {
			issue = seg[4]
		}
		seg[4] = "*"
		if len(seg) > 6 {
			seg = seg[:6]
		}
	}
	if len(seg) > 3 && seg[1] == "servicedeskapi" && seg[2] == "request" { // rest/servicedeskapi/request/{ref}/sub
		if r.outcome != reads {
			issue = seg[3]
		}
		seg[3] = "*"
	}
	return r.method + " " + strings.Join(seg, "/"), issue
}

// turn waits until the request may go, or says when it may.
func (p *pacer) turn(ctx context.Context, r *request) error {
	op, issue := r.parts()
	for {
		wait, why := p.take(op, issue, time.Now())
		if wait <= 0 {
			return nil
		}
		if end, ok := ctx.Deadline(); wait > maxPause || ok && time.Until(end) < wait {
			return sdk.Throttled(wait, "%s: not sent: %s", r.what(), why)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// take records the request, or says how long it has to wait and why.
func (p *pacer) take(op, issue string, now time.Time) (time.Duration, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wait := p.all.Sub(now); wait > 0 {
		return wait, "Jira has asked for a pause of all requests"
	}
	if wait := p.ops[op].Sub(now); wait > 0 {
		return wait, "Jira has asked for a pause of this operation"
	}
	if issue == "" {
		return 0, ""
	}
	is := p.issues[issue]
	if is == nil {
		is = p.pace(issue, now)
	}
	if wait := is.until.Sub(now); wait > 0 {
		return wait, "Jira has asked for a pause of writes to this issue"
	}
	for len(is.writes) > 0 && now.Sub(is.writes[0]) >= slowWindow {
		is.writes = is.writes[1:]
	}
	n := len(is.writes)
	if n >= slowWrites {
		return is.writes[n-slowWrites].Add(slowWindow).Sub(now), "100 writes to this issue in 30 s is what Jira allows"
	}
	if n >= burstWrites {
		if wait := is.writes[n-burstWrites].Add(burstWindow).Sub(now); wait > 0 {
			return wait, "20 writes to this issue in 2 s is what Jira allows"
		}
	}
	is.writes = append(is.writes, now)
	return 0, ""
}

// pace begins to count an issue's writes; the caller holds the lock. Issues at rest are forgotten when there are many.
func (p *pacer) pace(issue string, now time.Time) *issuePace {
	if len(p.issues) > 4096 {
		for ref, is := range p.issues {
			if n := len(is.writes); is.until.Before(now) && (n == 0 || now.Sub(is.writes[n-1]) > slowWindow) {
				delete(p.issues, ref)
			}
		}
	}
	if p.issues == nil {
		p.issues = map[string]*issuePace{}
	}
	is := &issuePace{}
	p.issues[issue] = is
	return is
}

// heed pauses what an answer asks to pause. Without a reason, which Data Center never gives, a limit is on the account.
func (p *pacer) heed(r *request, status int, h http.Header, cloud bool) {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return
	}
	wait := retryAfter(h)
	if wait <= 0 {
		return
	}
	op, issue := r.parts()
	until := time.Now().Add(wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch reason := h.Get("RateLimit-Reason"); {
	case strings.HasPrefix(reason, "jira-quota"), reason == "" && !cloud, status == http.StatusServiceUnavailable:
		p.all = later(p.all, until)
	case reason == "jira-per-issue-on-write" && issue != "":
		is := p.issues[issue]
		if is == nil {
			is = p.pace(issue, time.Now())
		}
		is.until = later(is.until, until)
	default:
		if p.ops == nil {
			p.ops = map[string]time.Time{}
		}
		p.ops[op] = later(p.ops[op], until)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
