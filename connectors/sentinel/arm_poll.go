package sentinel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

const (
	// armListCap is how many incidents the service gives for one list, over all its pages.
	armListCap = 1000
	// armAtOnce is how many incidents are completed at a time, with three questions each.
	armAtOnce = 4
)

// armCursor is the position of the poll of a workspace's incidents. The list is ordered by time of change, so that the
// cursor moves on with every page.
type armCursor struct {
	Since time.Time `json:"since"`
	Swept time.Time `json:"swept"`
	Seen  []string  `json:"seen,omitempty"` // revisions that were taken, oldest first
	Owed  []armOwed `json:"owed,omitempty"` // incidents whose parts could not be had yet, oldest first
}

// pollIncidentsARM brings every incident of the workspace that changed since the cursor, looking back over the overlap,
// and hourly over the whole lookback.
func (c *Client) pollIncidentsARM(ctx context.Context, cur armCursor, emit func(sdk.Page[armCursor]) error) error {
	a, err := c.workspaceFor("incidents: arm")
	if err != nil {
		return err
	}
	r := &armRound{client: c, arm: a, emit: emit, cur: cur, now: time.Now(), seen: map[string]bool{}}
	if err := r.poll(ctx); err != nil {
		return err
	}
	if r.fault != nil {
		sdk.Idle(ctx, 0, r.fault) // the others came
	}
	return nil
}

// armRound is one poll in progress.
type armRound struct {
	client *Client
	arm    *armClient
	emit   func(sdk.Page[armCursor]) error
	cur    armCursor
	now    time.Time
	seen   map[string]bool
	page   sdk.Page[armCursor]
	bytes  int
	fault  error // why the parts of an incident cannot be had
}

// armHead is what the poll needs of an incident.
type armHead struct {
	Name       string `json:"name"`
	Properties struct {
		Modified time.Time `json:"lastModifiedTimeUtc"`
		Number   int64     `json:"incidentNumber"`
		Merged   int64     `json:"mergedIncidentNumber"`
		Extra    struct {
			Comments int   `json:"commentsCount"`
			Merged   int64 `json:"mergedIncidentNumber"`
		} `json:"additionalData"`
	} `json:"properties"`
	raw json.RawMessage
}

// poll asks again for what is owed, and lists what changed.
func (r *armRound) poll(ctx context.Context) error {
	from := r.cur.Since.Add(-r.client.overlap)
	sweep := r.cur.Since.IsZero() || r.now.Sub(r.cur.Swept) >= sweepEvery
	if back := r.now.Add(-r.client.lookback); sweep && (r.cur.Since.IsZero() || back.Before(from)) {
		from = back
	}
	r.cur.Owed = slices.Clone(r.cur.Owed)
	for _, s := range r.cur.Seen {
		r.seen[s] = true
	}
	if err := r.askAgain(ctx); err != nil {
		return err
	}
	if err := r.run(ctx, from); err != nil {
		return err
	}
	if sweep {
		r.cur.Swept = r.now
	}
	return r.flush()
}

// mark is how a revision of an incident is remembered.
func (h *armHead) mark() string {
	sum := sha256.Sum256([]byte(h.Name + "\x00" + h.Properties.Modified.UTC().Format(time.RFC3339Nano)))
	return base64.RawURLEncoding.EncodeToString(sum[:8])
}

// run reads lists until one ends below the cap. A list that reaches it goes on from the time of its last incident; where
// a thousand share one time, by their numbers.
func (r *armRound) run(ctx context.Context, from time.Time) error {
	stamp := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }
	for {
		n, last, err := r.list(ctx, "properties/lastModifiedTimeUtc ge "+stamp(from), "properties/lastModifiedTimeUtc asc")
		if err != nil || n < armListCap {
			return err
		}
		if last.Properties.Modified.After(from) {
			from = last.Properties.Modified
			continue
		}
		for number := int64(-1); n >= armListCap; number = last.Properties.Number {
			filter := "properties/lastModifiedTimeUtc eq " + stamp(from) + " and properties/incidentNumber gt " + strconv.FormatInt(number, 10)
			if n, last, err = r.list(ctx, filter, "properties/incidentNumber asc"); err != nil {
				return err
			}
			if n > 0 && last.Properties.Number <= number {
				return sdk.Unavailable("list incidents: Azure Resource Manager does not list them in order: number %d came after %d", last.Properties.Number, number)
			}
		}
		from = from.Add(100 * time.Nanosecond) // the service's grain
	}
}

// list reads one list to its end and returns how many incidents it had, and the last.
func (r *armRound) list(ctx context.Context, filter, order string) (n int, last armHead, err error) {
	if further := r.client.cfg.IncidentFilter; further != "" {
		filter += " and (" + further + ")"
	}
	first := rest.Request{Method: http.MethodGet, Path: r.arm.path("incidents"), Query: versioned(url.Values{
		"$filter": {filter}, "$orderby": {order}, "$top": {strconv.Itoa(r.client.cfg.PageSize)},
	})}
	for page, err := range r.arm.api.Pages(ctx, first, armNext) {
		if err != nil {
			return n, last, fmt.Errorf("list incidents: %w", err)
		}
		var list struct {
			Value []json.RawMessage `json:"value"`
		}
		if err := page.JSON(&list); err != nil {
			return n, last, fmt.Errorf("list incidents: %w", err)
		}
		var todo []armHead
		for _, raw := range list.Value {
			h := armHead{raw: raw}
			if err := json.Unmarshal(raw, &h); err == nil {
				last = h
			}
			n++
			if h.Name == "" || !r.seen[h.mark()] {
				todo = append(todo, h)
			}
		}
		if err := r.take(ctx, todo); err != nil {
			return n, last, err
		}
	}
	return n, last, nil
}

// armDone is what became of an incident.
type armDone struct {
	ev      sdk.Event
	rej     *sdk.Rejected
	missing error // why it is without parts, which may come later
	never   error // why it is without parts, which will not come by themselves
}

// take makes events of incidents, in their order.
func (r *armRound) take(ctx context.Context, todo []armHead) error {
	for batch := range slices.Chunk(todo, armAtOnce) {
		results := make([]armDone, len(batch))
		var wg sync.WaitGroup
		for i, h := range batch {
			wg.Go(func() { results[i] = r.client.armEvent(ctx, r.arm, h) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for i, d := range results {
			h := batch[i]
			if d.never != nil {
				r.fault = d.never // it comes without them, and that is told
			}
			if d.missing != nil {
				if err := r.setAside(h, d); err != nil {
					return errors.Join(err, r.flush()) // what came before it is kept
				}
			} else {
				r.put(d)
				r.settle(h.Name)
			}
			r.passed(h)
			if throttled(d.missing) {
				return errors.Join(d.missing, r.flush())
			}
		}
		if r.bytes >= pageBytes {
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// put adds what became of an incident to the page.
func (r *armRound) put(d armDone) {
	if d.rej != nil {
		r.page.Rejected = append(r.page.Rejected, *d.rej)
		r.bytes += len(d.rej.Raw)
		return
	}
	r.page.Events = append(r.page.Events, d.ev)
	r.bytes += len(d.ev.Data)
}

// passed moves the cursor behind an incident. A time in the future moves it to now, or else nothing would be found until
// then.
func (r *armRound) passed(h armHead) {
	if at := h.Properties.Modified; at.After(r.cur.Since) {
		r.cur.Since = latest(r.cur.Since, earliest(at, r.now))
	}
	r.remember(h)
}

// remember keeps a revision from being taken again.
func (r *armRound) remember(h armHead) {
	if mark := h.mark(); h.Name != "" && !r.seen[mark] {
		r.seen[mark] = true
		if r.cur.Seen = append(r.cur.Seen, mark); len(r.cur.Seen) > maxSeen {
			r.cur.Seen = r.cur.Seen[len(r.cur.Seen)-maxSeen:]
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// flush hands over what came, with a cursor of its own: the round goes on changing this one.
func (r *armRound) flush() error {
	r.page.Cursor = r.cur
	r.page.Cursor.Seen, r.page.Cursor.Owed = slices.Clone(r.cur.Seen), slices.Clone(r.cur.Owed)
	err := r.emit(r.page)
	r.page, r.bytes = sdk.Page[armCursor]{}, 0
	return err
}

// armEvent completes an incident with its alerts, entities and comments and makes its event. The incident itself is not
// lost for what cannot be had of it: the event says what it is without.
func (c *Client) armEvent(ctx context.Context, a *armClient, h armHead) (out armDone) {
	var parts normalize.SentinelParts
	if guidRule().MatchString(h.Name) {
		parts, out.missing, out.never = a.parts(ctx, h)
		for _, err := range []*error{&out.missing, &out.never} {
			if *err != nil {
				*err = fmt.Errorf("incident %s: %w", h.Name, *err)
			}
		}
	}
	ev, err := normalize.SentinelIncident(h.raw, parts, normalize.SentinelOptions{
		Tenant: c.tenant, Host: a.host, Workspace: a.workspace, Version: armVersion, IsOwn: isOwnID,
	})
	if err == nil {
		out.ev = ev
		return out
	}
	out.missing = nil // it can never be an event
	out.rej = &sdk.Rejected{
		Source: "https://" + a.host + strings.ToLower(a.workspace) + "/providers/microsoft.securityinsights/incidents", Subject: h.Name,
		Reason: err.Error(), Raw: h.raw,
	}
	return out
}

// parts asks for what belongs to an incident. They come with the names of those that cannot be had; one error says why those
// are worth another try, the other why they are not. That there is none (any more) is no error.
func (a *armClient) parts(ctx context.Context, h armHead) (parts normalize.SentinelParts, again, never error) {
	names := []string{"alerts", "entities", "comments", "mergedInto"}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	wg.Go(func() {
		var out struct {
			Value []json.RawMessage `json:"value"`
		}
		if errs[0] = a.ask(ctx, a.path("incidents", h.Name, "alerts"), &out); errs[0] == nil {
			parts.Alerts = out.Value
		}
	})
	wg.Go(func() {
		var out struct {
			Entities []json.RawMessage `json:"entities"`
		}
		if errs[1] = a.ask(ctx, a.path("incidents", h.Name, "entities"), &out); errs[1] == nil {
			parts.Entities = out.Entities
		}
	})
	if h.Properties.Extra.Comments > 0 {
		wg.Go(func() {
			list := []json.RawMessage{}
			errs[2] = a.each(ctx, a.path("incidents", h.Name, "comments"), nil, func(raw json.RawMessage) (bool, error) {
				list = append(list, raw)
				return true, nil
			})
			if errs[2] == nil {
				parts.Comments = list
			}
		})
	}
	if number := max(h.Properties.Merged, h.Properties.Extra.Merged); number > 0 {
		wg.Go(func() { parts.MergedInto, errs[3] = a.byNumber(ctx, number) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			parts.Missing = append(parts.Missing, names[i])
		}
		switch {
		case err == nil || isNotFound(err):
		case worthAnotherTry(err):
			again = cmp.Or(again, err)
		default:
			never = cmp.Or(never, err)
		}
	}
	return parts, again, never
}

// worthAnotherTry says whether an error may pass.
func worthAnotherTry(err error) bool {
	e, ok := asSDK(err)
	if !ok {
		return err != nil
	}
	switch e.Code {
	case codes.PermissionDenied, codes.NotFound, codes.InvalidArgument, codes.Internal, codes.OutOfRange, codes.FailedPrecondition:
		return false
	default:
		return true
	}
}

// byNumber finds the name of the incident with a number of this workspace; empty when there is none.
func (a *armClient) byNumber(ctx context.Context, number int64) (string, error) {
	name := ""
	q := url.Values{"$filter": {"properties/incidentNumber eq " + strconv.FormatInt(number, 10)}, "$top": {"1"}}
	err := a.each(ctx, a.path("incidents"), q, func(raw json.RawMessage) (bool, error) {
		var h armHead
		if err := rest.DecodeJSON("Azure Resource Manager", raw, &h); err != nil {
			return false, err
		}
		name = h.Name
		return false, nil
	})
	return name, err
}

// fetch reads one incident anew.
func (a *armClient) fetch(ctx context.Context, name string) (armHead, error) {
	resp, err := a.api.Do(ctx, rest.Request{Path: a.path("incidents", name), Query: versioned(nil)})
	if err != nil {
		return armHead{}, fmt.Errorf("get incident %s: %w", name, err)
	}
	h := armHead{raw: resp.Body}
	if err := resp.JSON(&h); err != nil {
		return armHead{}, fmt.Errorf("get incident %s: %w", name, err)
	}
	return h, nil
}

// armLookUp reads one incident anew and makes its event. One whose parts cannot be had is looked up again.
func (c *Client) armLookUp(ctx context.Context, name string) (sdk.Found, error) {
	a, err := c.workspaceFor("incidents: arm")
	if err != nil {
		return sdk.Found{}, err
	}
	h, err := a.fetch(ctx, name)
	if err != nil {
		return sdk.Found{}, err
	}
	switch d := c.armEvent(ctx, a, h); {
	case d.missing != nil:
		return sdk.Found{}, d.missing
	case d.rej != nil:
		return sdk.Found{Rejected: []sdk.Rejected{*d.rej}}, nil
	default:
		return sdk.Found{Events: []sdk.Event{d.ev}}, nil
	}
}
