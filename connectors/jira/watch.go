package jira

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// IssuesConfig says which issues the trigger issues watches.
type IssuesConfig struct {
	All           bool       `json:"all,omitempty" doc:"Watch all issues of the project, not only those that were made here"`
	JQL           string     `json:"jql,omitempty" doc:"Further condition in JQL, such as component = Detection" cw:"maxlen=2000"`
	Lookback      string     `json:"lookback,omitempty" doc:"How far back the first poll looks, and once an hour each poll, in case something was missed" default:"24h" cw:"advanced"`
	Overlap       string     `json:"overlap,omitempty" doc:"How far back every poll looks: more than Jira's search index may lag" default:"5m" cw:"advanced"`
	WebhookSecret sdk.Secret `json:"webhook_secret,omitzero" doc:"Secret of the webhook in Jira, for X-Hub-Signature. Without one no webhook is taken"`
}

// watchCursor is the position of the poll, in Jira's time. Seen remembers which revisions within the overlap were emitted.
type watchCursor struct {
	V     int       `json:"v"`
	Since time.Time `json:"since"`
	Swept time.Time `json:"swept"`
	Seen  []string  `json:"seen,omitempty"`
}

const (
	// maxSeen bounds the memory in the cursor, which may hold 64 KiB.
	maxSeen = 2000
	// sweepEvery is how often the whole lookback is read again.
	sweepEvery = time.Hour
	// watchPage is how many issues a page of the search has.
	watchPage = 100
	// maxReconcile is how many issues Cloud's search brings up to date on demand.
	maxReconcile = 50
)

// watch is the trigger's settings, read.
type watch struct {
	all               bool
	jql               string
	lookback, overlap time.Duration
	secret            []byte
}

func readWatch(in *IssuesConfig) (watch, error) {
	w := watch{lookback: 24 * time.Hour, overlap: 5 * time.Minute}
	if in == nil {
		return w, nil
	}
	w.all, w.jql, w.secret = in.All, strings.TrimSpace(in.JQL), []byte(in.WebhookSecret.Reveal())
	for _, d := range []struct {
		at, value string
		to        *time.Duration
		most      time.Duration
	}{{"/issues/lookback", in.Lookback, &w.lookback, 366 * 24 * time.Hour}, {"/issues/overlap", in.Overlap, &w.overlap, 24 * time.Hour}} {
		if d.value == "" {
			continue
		}
		v, err := time.ParseDuration(d.value)
		if err != nil || v < time.Minute || v > d.most {
			return w, sdk.BadConfig(d.at, "%q is not a duration between 1m and %v, such as 10m or 24h", d.value, d.most)
		}
		*d.to = v
	}
	if low := strings.ToLower(w.jql); strings.Contains(low, "order by") {
		return w, sdk.BadConfig("/issues/jql", "must be a condition only; the connector orders by itself")
	}
	if strings.Count(w.jql, "(") != strings.Count(w.jql, ")") {
		return w, sdk.BadConfig("/issues/jql", "has a bracket that is not closed")
	}
	return w, nil
}

// condition is the JQL of issues changed in the last minutes. A period counts back from Jira's own clock, so that neither
// the account's time zone nor summer time nor our clock has a say. Keys do not change with an update: an issue that is
// changed while pages are read makes none skip another, which ordering by time would.
func (c *Client) condition(minutes int) string {
	var b strings.Builder
	label := ""
	if len(c.labels) > 0 {
		label = c.labels[0]
	}
	if c.watch.all || label == "" {
		b.WriteString(`project = "` + c.cfg.Project + `"`)
	} else {
		b.WriteString("labels = " + quoteJQL(label))
	}
	b.WriteString(` AND updated >= "-` + strconv.Itoa(minutes) + `m"`)
	if c.watch.jql != "" {
		b.WriteString(" AND (" + c.watch.jql + ")")
	}
	return b.String() + " ORDER BY key ASC"
}

// poll brings every issue that changed since the cursor, looking back over the overlap, and hourly over the lookback.
func (c *Client) poll(ctx context.Context, cur watchCursor, emit func(sdk.Page[watchCursor]) error) error {
	s, err := c.where(ctx)
	if err != nil {
		return err
	}
	now, err := c.siteNow(ctx)
	if err != nil {
		return err
	}
	// One issue with a time ahead of its day would hide, until that day, all that are stamped right.
	notAhead := func(t time.Time) time.Time {
		if t.After(now) {
			return now
		}
		return t
	}
	cur.Since = notAhead(cur.Since)
	from := cur.Since.Add(-c.watch.overlap)
	sweep := cur.Since.IsZero() || now.Sub(cur.Swept).Abs() >= sweepEvery // either way: clocks are set back, too
	if back := now.Add(-c.watch.lookback); sweep && (cur.Since.IsZero() || back.Before(from)) {
		from = back
	}
	r := &pollRound{c: c, site: s, emit: emit, cur: cur, newest: cur.Since, keep: now.Add(-2 * c.watch.overlap), seen: map[string]bool{}}
	for _, m := range cur.Seen {
		r.seen[m] = true
	}
	body := &searchBody{
		JQL: c.condition(1 + int((now.Sub(from)+time.Minute-1)/time.Minute)), MaxResults: watchPage, Fields: caseFields,
	}
	if s.cloud {
		body.Properties, body.Reconcile = markProperties, c.recent.list()
	}
	for {
		page, err := c.searchPage(ctx, s, body)
		if err != nil {
			return fmt.Errorf("list issues: %w", err)
		}
		if err := r.take(ctx, page.Issues); err != nil {
			return err
		}
		if s.cloud {
			if page.NextPageToken == "" || page.NextPageToken == body.NextPageToken {
				break
			}
			body.NextPageToken = page.NextPageToken
			continue
		}
		if body.StartAt += len(page.Issues); len(page.Issues) == 0 || body.StartAt >= page.Total {
			break
		}
	}
	if sweep {
		r.cur.Swept = now
	}
	r.cur.V, r.cur.Since, r.cur.Seen = 1, notAhead(r.newest), r.marks
	r.page.Cursor = r.cur
	return emit(r.page)
}

// pollRound is one poll in progress. The cursor moves when it is complete: the list is not in the order of time.
type pollRound struct {
	c      *Client
	site   *site
	emit   func(sdk.Page[watchCursor]) error
	cur    watchCursor
	newest time.Time
	keep   time.Time
	seen   map[string]bool
	marks  []string
	page   sdk.Page[watchCursor]
	bytes  int
}

// pageBytes is where a page of events is handed to the host.
const pageBytes = 1 << 20

func (r *pollRound) take(ctx context.Context, issues []issue) error {
	for i := range issues {
		is := &issues[i]
		at := is.time("updated")
		if at.After(r.newest) {
			r.newest = at
		}
		mark := is.ID + "@" + strconv.FormatInt(at.UnixMilli(), 36)
		if at.After(r.keep) && len(r.marks) < maxSeen {
			r.marks = append(r.marks, mark)
		}
		if r.seen[mark] {
			continue
		}
		ev, rej, err := r.c.observe(ctx, r.site, is)
		switch {
		case err != nil:
			return err
		case rej != nil:
			r.page.Rejected = append(r.page.Rejected, *rej)
			r.bytes += len(rej.Raw)
		case ev != nil:
			r.page.Events = append(r.page.Events, *ev)
			r.bytes += len(ev.Data)
		}
		if r.bytes >= pageBytes {
			r.page.Cursor = r.cur
			if err := r.emit(r.page); err != nil {
				return err
			}
			r.page, r.bytes = sdk.Page[watchCursor]{}, 0
		}
	}
	return nil
}

// observe makes the event of an issue that a list or a look-up brought; nil for one that is not watched.
func (c *Client) observe(ctx context.Context, s *site, is *issue) (*sdk.Event, *sdk.Rejected, error) {
	if !digits(is.ID) || is.time("updated").IsZero() {
		raw, err := json.Marshal(is.Fields)
		if err != nil {
			raw = nil
		}
		return nil, &sdk.Rejected{Source: s.url + "/rest/api/issue", Subject: is.ID, Reason: "the issue has no id or no time of its last update", Raw: raw}, nil
	}
	if !c.watch.all && !madeHere(is) {
		return nil, nil, nil
	}
	if _, ok := is.mark(); !ok && !s.cloud && madeHere(is) {
		// Data Center's search returns no properties.
		full, err := c.look(ctx, is.ID)
		if err != nil {
			return nil, nil, notThere(err)
		}
		is = full
	}
	snap := &snapshot{issue: is}
	if is.category() == categoryDone {
		closing, err := c.closingComment(ctx, is.ID)
		if err != nil {
			return nil, nil, notThere(err)
		}
		snap.closing = closing
	}
	ev, err := c.caseEvent(s, snap)
	if err != nil {
		return nil, nil, err
	}
	return &ev, nil, nil
}

// notThere turns "not found" into nothing: the issue was deleted, or moved out of sight, since it was listed.
func notThere(err error) error {
	var e *sdk.Error
	if errors.As(err, &e) && e.Code == codes.NotFound {
		return nil
	}
	return err
}

// madeHere says whether an issue was made here.
func madeHere(is *issue) bool {
	p, _ := is.mark()
	return refOf(is, p) != ""
}

// look reads an issue by id as an event needs it.
func (c *Client) look(ctx context.Context, ref string) (*issue, error) {
	var is issue
	err := c.do(ctx, &request{
		verb: "read issue", noun: ref, method: http.MethodGet,
		path: "rest/api/2/issue/" + ref + "?fields=" + strings.Join(caseFields, ",") + "&properties=" + propertyKey,
	}, &is)
	return &is, err
}

// closingComment is what a person said last on a closed issue. Comments that carry a mark are ours.
func (c *Client) closingComment(ctx context.Context, id string) (string, error) {
	var page commentPage
	err := c.do(ctx, &request{
		verb: "read comments of issue", noun: id, method: http.MethodGet, path: "rest/api/2/issue/" + id + "/comment?orderBy=-created&maxResults=20",
	}, &page)
	if err != nil {
		return "", err
	}
	// Data Center before 9 does not know orderBy there, and sends the oldest first.
	slices.SortStableFunc(page.Comments, func(a, b comment) int { return parseTime(b.Created).Compare(parseTime(a.Created)) })
	for i := range page.Comments {
		if body := page.Comments[i].Body; !ownComment(body) {
			return clip(strings.TrimSpace(body), 4000), nil
		}
	}
	return "", nil
}

// ownComment says whether a comment ends with a mark of ours.
func ownComment(body string) bool {
	body = strings.TrimRight(body, " \r\n\t\\]")
	i := strings.LastIndex(body, labelPrefix)
	return i >= 0 && isRef(body[i+len(labelPrefix):])
}

// siteNow is the time on Jira's clock.
func (c *Client) siteNow(ctx context.Context) (time.Time, error) {
	if c.skew.Load() == nil {
		if _, err := c.serverInfo(ctx); err != nil {
			return time.Time{}, err
		}
	}
	if skew := c.skew.Load(); skew != nil {
		return time.Now().Add(*skew).UTC(), nil
	}
	return time.Now().UTC(), nil
}

// learnTime notes how far Jira's clock is from ours, by the Date of an answer.
func (c *Client) learnTime(h http.Header) {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		skew := time.Until(t)
		c.skew.Store(&skew)
	}
}
