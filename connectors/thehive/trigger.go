package thehive

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Cases says which cases trigger cases brings.
type Cases struct {
	Tag      string        `json:"tag,omitempty" cw:"maxlen=128" doc:"Only cases with this tag, such as casewire for those that we made; default all"`
	Lookback time.Duration `json:"lookback,omitempty" default:"1h" doc:"How far back the first poll looks"`
	Overlap  time.Duration `json:"overlap,omitempty" cw:"advanced" default:"2m" doc:"How far behind the newest change each poll looks again, for changes that become visible late"`
	PageSize int           `json:"page_size,omitempty" cw:"min=1,max=1000,advanced" default:"100" doc:"Cases a request"`
}

const (
	casesTrigger    = "cases"
	defaultLookback = time.Hour
	defaultOverlap  = 2 * time.Minute
	defaultCases    = 100
	maxSeen         = 2000    // marks of 25 bytes in a cursor that may have 64 KiB
	eventBytes      = 1 << 20 // of events that are handed over at a time
)

func casesOf() sdk.Trigger[*Client, cursor] {
	return sdk.Trigger[*Client, cursor]{
		Name:      casesTrigger,
		Summary:   "Brings cases when they are made, given to somebody, changed in severity, title or status, closed or opened again.",
		Emits:     []string{event.TypeCase},
		Interval:  time.Minute,
		Poll:      (*Client).poll,
		Hook:      (*Client).notified,
		HookRules: sdk.HookRules{MaxBody: 2 << 20, JSON: true},
		Resolve:   (*Client).lookUp,
	}
}

func (c *Client) setUpCases() error {
	if c.cfg.Cases == nil {
		c.cfg.Cases = &Cases{Lookback: defaultLookback, Overlap: defaultOverlap, PageSize: defaultCases}
	}
	w := c.cfg.Cases
	if w.Lookback < 0 {
		return sdk.BadConfig("/cases/lookback", "is negative")
	}
	if w.Overlap < 0 {
		return sdk.BadConfig("/cases/overlap", "is negative")
	}
	if w.PageSize == 0 {
		w.PageSize = defaultCases
	}
	var err error
	c.verify, err = verifier(c.cfg.Webhook)
	return err
}

// cursor is the position of the poll, in TheHive's own time. A case that was never changed has no time of change, so that
// made and changed ones are looked for apart.
type cursor struct {
	V       int   `json:"v"`
	Created int64 `json:"created"`
	Updated int64 `json:"updated"`
	// Seen are marks of what was handed over lately, with the time of its change: what the overlap brings again.
	Seen map[string]int64 `json:"seen,omitempty"`
}

// poll brings the cases that were made or changed since the cursor.
func (c *Client) poll(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	if _, err := c.know(ctx); err != nil {
		return err
	}
	if cur.V == 0 {
		begin := time.Now().Add(-c.cfg.Cases.Lookback).UnixMilli()
		cur = cursor{V: 1, Created: begin, Updated: begin}
	}
	r := &round{client: c, emit: emit, now: time.Now().UnixMilli(), cur: cur}
	r.cur.Seen = maps.Clone(cur.Seen)
	if r.cur.Seen == nil {
		r.cur.Seen = map[string]int64{}
	}
	if err := r.pass(ctx, "_createdAt", &r.cur.Created, func(o *object) int64 { return o.CreatedAt }); err != nil {
		return err
	}
	if err := r.pass(ctx, "_updatedAt", &r.cur.Updated, func(o *object) int64 { return o.UpdatedAt }); err != nil {
		return err
	}
	r.forget()
	return r.flush()
}

// round is one poll in progress.
type round struct {
	client *Client
	emit   func(sdk.Page[cursor]) error
	now    int64 // when it began
	cur    cursor
	page   sdk.Page[cursor]
	bytes  int
}

// pass goes through the cases in the order of a time, oldest first. It asks for what is not older than the last one that it
// saw, and not by offset: a case that changes meanwhile moves to the end, and by offset another would be skipped.
func (r *round) pass(ctx context.Context, field string, at *int64, timeOf func(*object) int64) error {
	// The position never lies ahead of this machine's clock: a case that was made while TheHive's stood wrong would hide,
	// until its day comes, all that are stamped right.
	from, skip := max(0, min(*at, r.now)-r.client.cfg.Cases.Overlap.Milliseconds()), 0
	size := r.client.cfg.Cases.PageSize
	for {
		var found []json.RawMessage
		if err := r.client.query(ctx, "list cases", r.client.changedSince(field, from, skip, size), &found); err != nil {
			return err
		}
		last := from
		for _, raw := range found {
			var cs object
			if err := json.Unmarshal(raw, &cs); err != nil {
				skip++
				if mark := seenMark(string(raw), 0); r.cur.Seen[mark] == 0 {
					r.cur.Seen[mark] = time.Now().UnixMilli() // kept longest
					r.reject(raw, "", fmt.Errorf("the case cannot be read: %w", err))
				}
				continue
			}
			t := timeOf(&cs)
			if t > last {
				last, skip = t, 0
			}
			skip++ // of those at this very time
			if err := r.take(raw, &cs); err != nil {
				return err
			}
		}
		*at = min(max(*at, last), r.now)
		from = last
		if len(found) < size {
			return nil
		}
	}
}

// changedSince is the query for a page of cases.
func (c *Client) changedSince(field string, from int64, skip, size int) []any {
	filter := map[string]any{"_name": "filter"}
	since := map[string]any{"_gte": map[string]any{"_field": field, "_value": from}}
	if c.cfg.Cases.Tag == "" {
		maps.Copy(filter, since)
	} else {
		filter["_and"] = []any{map[string]any{"_eq": map[string]any{"_field": "tags", "_value": c.cfg.Cases.Tag}}, since}
	}
	return []any{
		map[string]any{"_name": "listCase"},
		filter,
		map[string]any{"_name": "sort", "_fields": []any{map[string]any{field: "asc"}}},
		map[string]any{"_name": "page", "from": skip, "to": skip + size},
	}
}

// take turns a case into an event, unless that was handed over before.
func (r *round) take(raw json.RawMessage, cs *object) error {
	mark := seenMark(cs.ID, cs.changed())
	if _, seen := r.cur.Seen[mark]; seen {
		return nil
	}
	r.cur.Seen[mark] = cs.changed()
	if ev, err := r.client.event(cs); err != nil {
		r.cur.Seen[mark] = time.Now().UnixMilli()
		r.reject(raw, cs.ID, err)
	} else {
		r.page.Events = append(r.page.Events, ev)
		r.bytes += len(ev.Data)
	}
	if r.bytes < eventBytes {
		return nil
	}
	return r.flush()
}

func (r *round) reject(raw json.RawMessage, id string, err error) {
	r.page.Rejected = append(r.page.Rejected, sdk.Rejected{Source: r.client.site + "/api/v1/case", Subject: id, Reason: err.Error(), Raw: raw})
	r.bytes += len(raw)
}

// flush hands over what there is. The cursor of a pass that is not finished is that of its last whole page.
func (r *round) flush() error {
	r.page.Cursor = r.cur
	r.page.Cursor.Seen = newest(r.cur.Seen)
	err := r.emit(r.page)
	r.page, r.bytes = sdk.Page[cursor]{}, 0
	return err
}

// forget drops the marks of what no overlap can bring again.
func (r *round) forget() {
	before := min(r.cur.Created, r.cur.Updated) - r.client.cfg.Cases.Overlap.Milliseconds()
	maps.DeleteFunc(r.cur.Seen, func(_ string, at int64) bool { return at < before })
}

// newest leaves out the oldest of too many marks: what they stand for may be brought twice, which the host does not mind.
func newest(seen map[string]int64) map[string]int64 {
	seen = maps.Clone(seen)
	if over := len(seen) - maxSeen; over > 0 {
		times := slices.Sorted(maps.Values(seen))
		maps.DeleteFunc(seen, func(_ string, at int64) bool { return at <= times[over-1] })
	}
	return seen
}

func seenMark(id string, changed int64) string {
	sum := sha256.Sum256([]byte(id + "\x00" + strconv.FormatInt(changed, 10)))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// lookUp reads the case that a notification is about.
func (c *Client) lookUp(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
	var d hintData
	if err := json.Unmarshal(h.Data, &d); err != nil || !objectID(d.Case) {
		return sdk.Found{}, sdk.Invalid("", "hint %s cannot be read", cut(h.ID, 80))
	}
	if _, err := c.know(ctx); err != nil {
		return sdk.Found{}, err
	}
	cs, err := c.readCase(ctx, d.Case)
	if notFound(err) && h.Attempt >= 3 {
		return sdk.Found{}, nil // deleted or merged meanwhile: there is nothing to tell
	}
	if err != nil {
		return sdk.Found{}, err
	}
	if t := c.cfg.Cases.Tag; t != "" && !hasTag(cs.Tags, t) {
		return sdk.Found{}, nil
	}
	ev, err := c.event(cs)
	if err != nil {
		return sdk.Found{}, err
	}
	return sdk.Found{Events: []sdk.Event{ev}}, nil
}
