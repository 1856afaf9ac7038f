package jira

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
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
// operation for a burst, one issue for writes to it. What waits for one issue meanwhile is put together: edits in
// coalesce.go, comments in joined.go. Safe for concurrent use; the zero value is ready.
type pacer struct {
	mu     sync.Mutex
	all    time.Time            // nothing goes before
	ops    map[string]time.Time // nor an operation before
	issues map[string]*issuePace
	ids    map[string]string // by key, of the issues seen: what is written by key and what is written by id counts as one
}

// maxIDs bounds what is remembered of keys. What is forgotten is learned again.
const maxIDs = 1 << 14

// learn tells that an issue's id and its key mean the same.
func (p *pacer) learn(id, key string) {
	key = strings.ToUpper(key)
	if id == "" || key == "" || id == key {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids[key] == id {
		return
	}
	if p.ids == nil || len(p.ids) >= maxIDs {
		p.ids = map[string]string{}
	}
	p.ids[key] = id
	if by := p.issues[key]; by != nil {
		delete(p.issues, key)
		is := p.issues[id]
		if is == nil {
			is = p.pace(id, time.Now())
		}
		is.until, is.writes = later(is.until, by.until), append(is.writes, by.writes...)
	}
}

// learnFrom learns from an answer that names issues.
func (p *pacer) learnFrom(answer any) {
	switch a := answer.(type) {
	case *issue:
		p.learn(a.ID, a.Key)
	case *createdIssue:
		p.learn(a.ID, a.Key)
	case *searchAnswer:
		for i := range a.Issues {
			p.learn(a.Issues[i].ID, a.Issues[i].Key)
		}
	}
}

// name is what an issue is known by, whichever way it is written.
func (p *pacer) name(issue string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known(issue)
}

// errStepAside says that a request would have to wait for its turn.
var errStepAside = errors.New("it is not its turn yet")

// known is what an issue is counted under; the caller holds the lock.
func (p *pacer) known(issue string) string {
	if digits(issue) {
		return issue
	}
	issue = strings.ToUpper(issue)
	return cmp.Or(p.ids[issue], issue)
}

type issuePace struct {
	until  time.Time
	writes []*writeTime // of the last 30 seconds
}

// writeTime is when a write was answered. Jira counted it some time before that; as long as it is under way, that is now.
type writeTime struct{ at time.Time }

// within counts the writes of the last window, and says when the one ends that stands in the way of the next.
func (is *issuePace) within(now time.Time, window time.Duration, limit int) (wait time.Duration) {
	var at []time.Time
	for _, w := range is.writes {
		t := w.at
		if t.IsZero() {
			t = now
		}
		if now.Sub(t) < window {
			at = append(at, t)
		}
	}
	if len(at) < limit {
		return 0
	}
	slices.SortFunc(at, time.Time.Compare)
	return at[len(at)-limit].Add(window).Sub(now)
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

// maxHeed is the longest pause that is taken at its word; quotas are by the hour.
const maxHeed = time.Hour

// turn waits until the request may go, or says when it may. Answered is to be called when its answer is there.
func (p *pacer) turn(ctx context.Context, r *request) (answered func(), err error) {
	op, issue := r.parts()
	for {
		w, wait, why := p.take(op, issue, time.Now())
		if wait <= 0 {
			return func() { p.answered(w) }, nil
		}
		throttled := sdk.Throttled(wait, "%s: not sent: %s", r.what(), why)
		if end, ok := ctx.Deadline(); wait > maxPause || ok && time.Until(end) < wait {
			return nil, throttled
		}
		if r.steps {
			return nil, errStepAside
		}
		if r.pausing != nil {
			r.pausing(wait, throttled)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}

func (p *pacer) answered(w *writeTime) {
	if w != nil {
		p.mu.Lock()
		w.at = time.Now()
		p.mu.Unlock()
	}
}

// take records the request, or says how long it has to wait and why.
func (p *pacer) take(op, issue string, now time.Time) (w *writeTime, wait time.Duration, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wait := p.all.Sub(now); wait > 0 {
		return nil, wait, "Jira has asked for a pause of all requests"
	}
	if wait := p.ops[op].Sub(now); wait > 0 {
		return nil, wait, "Jira has asked for a pause of this operation"
	}
	if issue == "" {
		return nil, 0, ""
	}
	issue = p.known(issue)
	is := p.issues[issue]
	if is == nil {
		is = p.pace(issue, now)
	}
	if wait := is.until.Sub(now); wait > 0 {
		return nil, wait, "Jira has asked for a pause of writes to this issue"
	}
	is.writes = slices.DeleteFunc(is.writes, func(w *writeTime) bool { return !w.at.IsZero() && now.Sub(w.at) >= slowWindow })
	if len(is.writes) >= burstWrites {
		if wait := is.within(now, slowWindow, slowWrites); wait > 0 {
			return nil, wait, "100 writes to this issue in 30 s is what Jira allows"
		}
		if wait := is.within(now, burstWindow, burstWrites); wait > 0 {
			return nil, wait, "20 writes to this issue in 2 s is what Jira allows"
		}
	}
	w = &writeTime{}
	is.writes = append(is.writes, w)
	return w, 0, ""
}

// pace begins to count an issue's writes; the caller holds the lock. Issues at rest are forgotten when there are many.
func (p *pacer) pace(issue string, now time.Time) *issuePace {
	if len(p.issues) > 4096 {
		for ref, is := range p.issues {
			if is.until.Before(now) && is.within(now, slowWindow, 1) <= 0 {
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
	wait := min(retryAfter(h), maxHeed)
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
		issue = p.known(issue)
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
