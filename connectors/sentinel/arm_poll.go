package sentinel

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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
	// An incident goes without its parts when this many polls failed at them, and no poll came to its end for this long:
	// one whose entities cannot be had must not hold up all others for ever, and a short outage must not make incidents
	// without entities.
	armPatience     = 5
	armPatienceTime = 5 * time.Minute
)

// armCursor is the position of the poll of a workspace's incidents. The list is ordered by time of change, so that the
// cursor moves on with every page.
type armCursor struct {
	Since time.Time `json:"since"`
	Swept time.Time `json:"swept"`
	Seen  []string  `json:"seen,omitempty"`  // revisions that were emitted, oldest first
	Stuck string    `json:"stuck,omitempty"` // the revision whose parts cannot be had
	Tries int       `json:"tries,omitempty"`
	Tried time.Time `json:"tried,omitzero"` // since when no poll has come to its end
}

// pollIncidentsARM brings every incident of the workspace that changed since the cursor, looking back over the overlap,
// and hourly over the whole lookback.
func (c *Client) pollIncidentsARM(ctx context.Context, cur armCursor, emit func(sdk.Page[armCursor]) error) error {
	a, err := c.workspaceFor("incidents: arm")
	if err != nil {
		return err
	}
	now := time.Now()
	from := cur.Since.Add(-c.overlap)
	sweep := cur.Since.IsZero() || now.Sub(cur.Swept) >= sweepEvery
	if back := now.Add(-c.lookback); sweep && (cur.Since.IsZero() || back.Before(from)) {
		from = back
	}
	r := &armRound{client: c, arm: a, emit: emit, cur: cur, seen: map[string]bool{}}
	for _, s := range cur.Seen {
		r.seen[s] = true
	}
	if err := r.run(ctx, from); err != nil {
		return err
	}
	r.cur.Tried = time.Time{}
	if sweep {
		r.cur.Swept = now
	}
	return r.flush()
}

// armRound is one poll in progress.
type armRound struct {
	client *Client
	arm    *armClient
	emit   func(sdk.Page[armCursor]) error
	cur    armCursor
	seen   map[string]bool
	page   sdk.Page[armCursor]
	bytes  int
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

// take makes events of incidents, in their order.
func (r *armRound) take(ctx context.Context, todo []armHead) error {
	type done struct {
		ev  sdk.Event
		rej *sdk.Rejected
		err error
	}
	for batch := range slices.Chunk(todo, armAtOnce) {
		results := make([]done, len(batch))
		var wg sync.WaitGroup
		for i, h := range batch {
			mark := h.mark()
			without := r.cur.Stuck == mark && r.cur.Tries >= armPatience && time.Since(r.cur.Tried) >= armPatienceTime
			wg.Go(func() {
				results[i].ev, results[i].rej, results[i].err = r.client.armEvent(ctx, r.arm, h, without)
			})
		}
		wg.Wait()
		for i, d := range results {
			h := batch[i]
			mark := h.mark()
			if d.err != nil {
				if r.cur.Stuck != mark {
					r.cur.Stuck, r.cur.Tries = mark, 0
				}
				if r.cur.Tried.IsZero() {
					r.cur.Tried = time.Now()
				}
				r.cur.Tries++
				if err := r.flush(); err != nil { // what came before it is kept
					return err
				}
				return d.err
			}
			if d.rej != nil {
				r.page.Rejected = append(r.page.Rejected, *d.rej)
				r.bytes += len(d.rej.Raw)
			} else {
				r.page.Events = append(r.page.Events, d.ev)
				r.bytes += len(d.ev.Data)
			}
			if r.cur.Stuck == mark {
				r.cur.Stuck, r.cur.Tries = "", 0
			}
			if h.Properties.Modified.After(r.cur.Since) {
				r.cur.Since = h.Properties.Modified
			}
			if h.Name != "" && !r.seen[mark] {
				r.seen[mark] = true
				if r.cur.Seen = append(r.cur.Seen, mark); len(r.cur.Seen) > maxSeen {
					r.cur.Seen = r.cur.Seen[len(r.cur.Seen)-maxSeen:]
				}
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

// flush hands over what came, with a cursor of its own: the round goes on changing this one.
func (r *armRound) flush() error {
	r.page.Cursor = r.cur
	r.page.Cursor.Seen = slices.Clone(r.cur.Seen)
	err := r.emit(r.page)
	r.page, r.bytes = sdk.Page[armCursor]{}, 0
	return err
}

// armEvent completes an incident with its alerts, entities and comments and makes its event. An error is worth another
// try; what can never be had is left out, because the incident itself must not be lost for it.
func (c *Client) armEvent(ctx context.Context, a *armClient, h armHead, without bool) (sdk.Event, *sdk.Rejected, error) {
	var parts normalize.SentinelParts
	if guidRule().MatchString(h.Name) && !without {
		var err error
		if parts, err = a.parts(ctx, h); err != nil {
			return sdk.Event{}, nil, fmt.Errorf("incident %s: %w", h.Name, err)
		}
	}
	ev, err := normalize.SentinelIncident(h.raw, parts, normalize.SentinelOptions{
		Tenant: c.tenant, Host: a.host, Workspace: a.workspace, Version: armVersion, IsOwn: isOwnID,
	})
	if err == nil {
		return ev, nil, nil
	}
	return sdk.Event{}, &sdk.Rejected{
		Source: "https://" + a.host + strings.ToLower(a.workspace) + "/providers/microsoft.securityinsights/incidents", Subject: h.Name,
		Reason: err.Error(), Raw: h.raw,
	}, nil
}

// parts asks for what belongs to an incident.
func (a *armClient) parts(ctx context.Context, h armHead) (normalize.SentinelParts, error) {
	var parts normalize.SentinelParts
	errs := make([]error, 4)
	var wg sync.WaitGroup
	wg.Go(func() {
		var out struct {
			Value []json.RawMessage `json:"value"`
		}
		errs[0] = a.ask(ctx, a.path("incidents", h.Name, "alerts"), &out)
		parts.Alerts = out.Value
	})
	wg.Go(func() {
		var out struct {
			Entities []json.RawMessage `json:"entities"`
		}
		errs[1] = a.ask(ctx, a.path("incidents", h.Name, "entities"), &out)
		parts.Entities = out.Entities
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
	for _, err := range errs {
		if worthAnotherTry(err) {
			return parts, err
		}
	}
	return parts, nil
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

// armLookUp reads one incident anew and makes its event.
func (c *Client) armLookUp(ctx context.Context, name string) (sdk.Found, error) {
	a, err := c.workspaceFor("incidents: arm")
	if err != nil {
		return sdk.Found{}, err
	}
	resp, err := a.api.Do(ctx, rest.Request{Path: a.path("incidents", name), Query: versioned(nil)})
	if err != nil {
		return sdk.Found{}, fmt.Errorf("get incident %s: %w", name, err)
	}
	h := armHead{raw: resp.Body}
	if err := resp.JSON(&h); err != nil {
		return sdk.Found{}, fmt.Errorf("get incident %s: %w", name, err)
	}
	ev, rej, err := c.armEvent(ctx, a, h, false)
	switch {
	case err != nil:
		return sdk.Found{}, err
	case rej != nil:
		return sdk.Found{Rejected: []sdk.Rejected{*rej}}, nil
	}
	return sdk.Found{Events: []sdk.Event{ev}}, nil
}
