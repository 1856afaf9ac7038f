package sentinel

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Bounds of the memory in the cursor, which may hold 64 KiB: one remembered revision costs about 15 bytes.
const (
	maxSeen    = 3000
	sweepEvery = time.Hour
)

// pageBytes is where a page of events is handed to the host, well under the protocol's message limit.
const pageBytes = 1 << 20

// cursor is the position of a poll. Since is the newest lastUpdateDateTime of a finished round; Seen remembers which
// revisions were emitted already, newest first.
type cursor struct {
	V     int       `json:"v"`
	Since time.Time `json:"since"`
	Swept time.Time `json:"swept"`
	Seen  []string  `json:"seen,omitempty"`
	Sub   subState  `json:"sub"`
}

// feed is a collection of Graph that is polled.
type feed struct {
	what      string // "alerts", in errors
	path      string
	query     url.Values
	filter    string
	page      int
	normalize func([]byte, normalize.Options) (sdk.Event, error)
}

func (c *Client) alertFeed() feed {
	return feed{what: "alerts", path: "/v1.0/security/alerts_v2", filter: c.cfg.Filter, page: c.cfg.PageSize, normalize: normalize.Alert}
}

// incidentPage keeps pages of incidents small: each incident comes with all of its alerts.
const incidentPage = 20

func (c *Client) incidentFeed() feed {
	return feed{
		what: "incidents", path: "/v1.0/security/incidents", query: url.Values{"$expand": {"alerts"}},
		filter: c.cfg.IncidentFilter, page: min(c.cfg.PageSize, incidentPage), normalize: normalize.Incident,
	}
}

// poll brings every alert that changed since the cursor, and keeps the subscription.
func (c *Client) poll(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	if err := c.loadKeys(ctx); err != nil {
		sdk.Idle(ctx, 0, err) // notifications are verified when they are looked up
	}
	sub, missed, err := c.subscribe(ctx, cur.Sub)
	cur.Sub = sub
	c.mu.Lock()
	c.subscription = sub.ID
	c.mu.Unlock()
	if err != nil {
		// Intake does not depend on notifications: the poll goes on at its own pace, and says what is wrong with them.
		sdk.Idle(ctx, 0, err)
	}
	return c.pollFeed(ctx, c.alertFeed(), cur, missed, emit)
}

// pollIncidents brings every incident that changed since the cursor.
func (c *Client) pollIncidents(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	return c.pollFeed(ctx, c.incidentFeed(), cur, false, emit)
}

// pollFeed looks back over the overlap, and hourly over the whole lookback. The list is newest first, so the cursor moves
// only when the round is complete.
func (c *Client) pollFeed(ctx context.Context, f feed, cur cursor, missed bool, emit func(sdk.Page[cursor]) error) error {
	cur.V = 1
	now := time.Now()
	cur.Since = earliest(cur.Since, now)
	from := cur.Since.Add(-c.overlap)
	sweep := cur.Since.IsZero() || missed || now.Sub(cur.Swept).Abs() >= sweepEvery // either way: clocks are set back, too
	if sweep {
		if back := now.Add(-c.lookback); cur.Since.IsZero() || back.Before(from) {
			from = back
		}
	}
	seen := make(map[string]bool, len(cur.Seen))
	for _, s := range cur.Seen {
		seen[s] = true
	}
	r := round{client: c, feed: f, emit: emit, cur: cur, newest: cur.Since, seen: seen, marked: map[string]bool{}}
	filter := "lastUpdateDateTime ge " + from.UTC().Format("2006-01-02T15:04:05.000Z")
	if f.filter != "" {
		filter += " and (" + f.filter + ")"
	}
	err := r.list(ctx, filter, f.page)
	for page := f.page / 2; isTooLarge(err) && page > 0; page /= 2 {
		err = r.list(ctx, filter, page) // what was taken is not taken again
	}
	if err != nil {
		return errors.Join(err, r.flush()) // what came is kept, and the cursor stays
	}
	if sweep {
		r.cur.Swept = now
	}
	return r.finish()
}

// round is one poll in progress.
type round struct {
	client *Client
	feed   feed
	emit   func(sdk.Page[cursor]) error
	cur    cursor
	newest time.Time
	seen   map[string]bool // emitted, by this round or before
	marked map[string]bool
	marks  []string // what this round met, newest first
	page   sdk.Page[cursor]
	bytes  int
}

// list reads one list to its end.
func (r *round) list(ctx context.Context, filter string, page int) error {
	q := url.Values{"$filter": {filter}, "$top": {strconv.Itoa(page)}}
	maps.Copy(q, r.feed.query)
	first := rest.Request{Method: http.MethodGet, Path: r.feed.path, Query: q}
	partial := ""
	for resp, err := range r.client.api.Pages(ctx, first, nextLink) {
		if err != nil {
			return fmt.Errorf("list %s: %w", r.feed.what, retired(r.feed.what, err))
		}
		if resp.Status == http.StatusPartialContent {
			partial = strings.Join(resp.Header.Values("Warning"), "; ")
		}
		if err := r.take(resp); err != nil {
			return err
		}
	}
	if partial != "" {
		return sdk.Unavailable("list %s: Microsoft Graph answered in part, because a provider did not answer it (%s); what is missing is asked for again", r.feed.what, partial)
	}
	return nil
}

// retired explains what a list that is gone means.
func retired(what string, err error) error {
	var e *sdk.Error
	if errors.As(err, &e) && (e.HTTPStatus == http.StatusGone || e.HTTPStatus == http.StatusNotFound) {
		e.Code = codes.FailedPrecondition
		e.Message += "; Microsoft Graph does not serve this list of " + what + " (any more): check graph_url and the cloud, and whether this version of Casewire still fits the API"
	}
	return err
}

func isTooLarge(err error) bool {
	var e *sdk.Error
	return errors.As(err, &e) && e.Code == codes.OutOfRange
}

func (r *round) take(resp *rest.Response) error {
	var list struct {
		Value []json.RawMessage `json:"value"`
	}
	if err := resp.JSON(&list); err != nil {
		return fmt.Errorf("list %s: %w", r.feed.what, err)
	}
	if list.Value == nil {
		return sdk.Unavailable("list %s: the answer has no value: that is no list of Microsoft Graph, whatever answers at graph_url", r.feed.what)
	}
	for _, raw := range list.Value {
		var head struct {
			Updated time.Time `json:"lastUpdateDateTime"`
		}
		if err := json.Unmarshal(raw, &head); err == nil && head.Updated.After(r.newest) {
			r.newest = head.Updated
		}
		ev, rej := r.client.normalize(r.feed, raw)
		mark := seenMark(ev.ID)
		if rej != nil {
			mark = seenMark(string(raw))
		}
		if !r.marked[mark] && len(r.marks) < maxSeen {
			r.marked[mark] = true
			r.marks = append(r.marks, mark)
		}
		if r.seen[mark] {
			continue
		}
		r.seen[mark] = true
		if rej != nil {
			r.page.Rejected = append(r.page.Rejected, *rej)
			r.bytes += len(rej.Raw)
		} else {
			r.page.Events = append(r.page.Events, ev)
			r.bytes += len(ev.Data)
		}
		if r.bytes >= pageBytes {
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush hands over what there is. The cursor stays where the last finished round left it.
func (r *round) flush() error {
	if len(r.page.Events)+len(r.page.Rejected) == 0 {
		return nil
	}
	return r.send()
}

func (r *round) send() error {
	r.page.Cursor = r.cur
	err := r.emit(r.page)
	r.page, r.bytes = sdk.Page[cursor]{}, 0
	return err
}

// finish moves the cursor. What former rounds saw is remembered as long as there is room, so that a sweep over the
// lookback does not bring it again.
func (r *round) finish() error {
	// One from the future moves the cursor to now, or else nothing would be found until then.
	r.cur.Since = earliest(r.newest, time.Now())
	for _, mark := range r.cur.Seen {
		if len(r.marks) >= maxSeen {
			break
		}
		if !r.marked[mark] {
			r.marks = append(r.marks, mark)
		}
	}
	r.cur.Seen = r.marks
	return r.send()
}

// seenMark remembers a revision. It is made of the event's id, which covers everything that is news: an alert that was
// moved to another incident is a new revision, even where its lastUpdateDateTime stayed.
func seenMark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

// nextLink follows @odata.nextLink as it is: it is opaque.
func nextLink(resp *rest.Response) (rest.Request, bool, error) {
	var link struct {
		Next string `json:"@odata.nextLink"`
	}
	if err := resp.JSON(&link); err != nil {
		return rest.Request{}, false, err
	}
	return rest.Request{Method: http.MethodGet, Path: link.Next}, link.Next != "", nil
}

// normalize turns one object into an event, or into a rejection that keeps it whole.
func (c *Client) normalize(f feed, raw []byte) (sdk.Event, *sdk.Rejected) {
	ev, err := f.normalize(raw, normalize.Options{Tenant: c.tenant, GraphHost: c.graphHost})
	if err == nil {
		return ev, nil
	}
	var head struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(raw, &head) // what cannot be read has no subject
	return sdk.Event{}, &sdk.Rejected{
		Source: "https://" + c.graphHost + "/" + c.tenant + strings.TrimPrefix(f.path, "/v1.0"), Subject: head.ID, Reason: err.Error(), Raw: raw,
	}
}
