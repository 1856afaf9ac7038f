package loganalytics

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/rowmap"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Scheduled is the query behind the trigger.
type Scheduled struct {
	Name       string         `json:"name" default:"rows" cw:"minlen=1,maxlen=64" doc:"Name of the query; a part of what identifies its rows, so that another name makes all rows new"`
	Query      string         `json:"query" cw:"required,maxlen=200000" doc:"KQL. The window is put behind its source as a condition; or use window_start and window_end in the query, and nothing is added"`
	Params     map[string]any `json:"params,omitempty" doc:"Values bound as let statements; see the action query"`
	KeyColumns []string       `json:"key_columns,omitempty" doc:"Columns that identify a row; default all. A row with a known key and other values is news of the same object"`
	TimeColumn string         `json:"time_column" default:"TimeGenerated" doc:"Column that says when a row happened"`
	By         string         `json:"by" enum:"ingestion,time" default:"ingestion" doc:"What the window is about: when rows were ingested, which misses none that came late, or their time column"`
	Overlap    string         `json:"overlap" default:"10m" doc:"How far each poll looks back behind the last one, for rows that became searchable late. Rows that come twice are taken once. 0s for queries that aggregate"`
	Delay      string         `json:"delay" default:"0s" doc:"How long a row is given to arrive before its window is asked for: for queries that aggregate"`
	Late       string         `json:"late" default:"48h" doc:"How old a row may be when it is ingested" cw:"advanced"`
	Lookback   string         `json:"lookback" default:"24h" doc:"How far the first poll looks back"`
	Window     string         `json:"window" default:"1h" doc:"Longest window of one query; a window with too many rows is halved"`
	MaxRows    int            `json:"max_rows" default:"10000" cw:"min=1,max=500000" doc:"Most rows of one window"`
	Fields
}

// schedule is a checked Scheduled.
type schedule struct {
	Scheduled

	bound                                  *bound
	pipe                                   *pipeline
	own                                    bool // the query has its window itself
	whole                                  bool // it works on all rows of a window together
	overlap, delay, late, lookback, window time.Duration
	table                                  string
	mapping                                *mapping // nil: rows stay rows
	fields                                 *rowmap.Map
}

// What a query can call its window.
const (
	windowStart = "window_start"
	windowEnd   = "window_end"
)

// cursor says up to when rows have been taken.
type cursor struct {
	V     int       `json:"v"`
	Until time.Time `json:"until"`
	// Refused are rejected rows that the overlap can bring again.
	Refused []refusal `json:"refused,omitempty"`
}

// schedule checks the configuration of a trigger, which is in the field named.
func (s *Scheduled) schedule(in string, m *mapping) (*schedule, error) {
	out := &schedule{Scheduled: *s, mapping: m}
	for _, d := range []struct {
		field, text string
		to          *time.Duration
		least       time.Duration
	}{
		{"overlap", s.Overlap, &out.overlap, 0},
		{"delay", s.Delay, &out.delay, 0},
		{"late", s.Late, &out.late, 0},
		{"lookback", s.Lookback, &out.lookback, 0},
		{"window", s.Window, &out.window, time.Minute},
	} {
		v, err := time.ParseDuration(d.text)
		if err != nil || v < d.least || v > 366*24*time.Hour {
			return nil, sdk.BadConfig(in+"."+d.field, "%.40q is not a duration from %s to 8784h", d.text, d.least)
		}
		*d.to = v
	}
	if !columnName().MatchString(s.TimeColumn) {
		return nil, sdk.BadConfig(in+".time_column", "%.80q is no name of a column", s.TimeColumn)
	}
	var err error
	if out.bound, err = bind(s.Query, s.Params); err != nil {
		if e, ok := errors.AsType[*sdk.Error](err); ok {
			return nil, sdk.BadConfig(in, "%v", e)
		}
		return nil, err
	}
	for _, name := range []string{windowStart, windowEnd} {
		if s.Params[name] != nil {
			return nil, sdk.BadConfig(in+".params", "%s is bound for you", name)
		}
	}
	if out.fields, err = rowmap.New(s.Normalize, s.Map); err != nil {
		if e, ok := errors.AsType[*sdk.Error](err); ok {
			return nil, sdk.BadConfig(in, "%v", e)
		}
		return nil, err
	}
	out.own = mentions(s.Query, windowStart) || mentions(s.Query, windowEnd)
	out.pipe = analyze(out.bound.query)
	if out.pipe.problem != nil {
		return nil, sdk.BadConfig(in+".query", "%v", out.pipe.problem)
	}
	out.table = out.pipe.head[0].text
	_, why := out.pipe.splittable(s.TimeColumn)
	out.whole = why != nil && m == nil
	if out.whole && out.overlap > 0 {
		return nil, sdk.BadConfig(in+".overlap", "must be 0s, since %v: rows of windows that overlap would be counted twice; use delay to give late rows their time", why)
	}
	return out, nil
}

// pollQuery polls with the query that the configuration has.
func (c *Client) pollQuery(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	if c.schedule == nil {
		return sdk.BadConfig("trigger", "is required for the trigger query: it says what to ask for")
	}
	return c.poll(ctx, c.schedule, cur, emit)
}

// poll asks for the rows since the last poll, window by window. The cursor moves when a window has been taken whole.
func (c *Client) poll(ctx context.Context, s *schedule, cur cursor, emit func(sdk.Page[cursor]) error) error {
	now := time.Now().UTC().Truncate(time.Millisecond)
	end := now.Add(-s.delay)
	from := end.Add(-s.lookback)
	if !cur.Until.IsZero() {
		from = cur.Until.Add(-s.overlap)
	}
	width := s.window
	for from.Before(end) {
		w := interval{from, from.Add(width)}
		if w.to.After(end) {
			w.to = end
		}
		next := cursor{V: 1, Until: w.to, Refused: slices.Clone(cur.Refused)}
		if cur.Until.After(w.to) {
			next.Until = cur.Until // a part of the overlap
		}
		p := pager{emit: emit, cur: cur, next: &next}
		err := c.window(ctx, s, w, &p)
		if e, ok := errors.AsType[*sdk.Error](err); ok && e.Code == codes.OutOfRange && !p.gave && !s.whole {
			if mid, can := w.middle(shortest); can {
				width = mid.Sub(w.from).Truncate(time.Millisecond)
				sdk.Idle(ctx, 0, nil)
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("window %s: %w", w, err)
		}
		next.forget(next.Until.Add(-s.overlap))
		p.page.Cursor = next
		if err := emit(p.page); err != nil {
			return err
		}
		cur, from = next, w.to
		width = min(2*width, s.window)
	}
	return nil
}

// window asks for one window. Its rows are held back until it is known to be whole.
func (c *Client) window(ctx context.Context, s *schedule, w interval, p *pager) error {
	a := &ask{
		workspace: c.cfg.Workspace, path: "/v1/workspaces/" + c.cfg.Workspace + "/query", wait: c.wait,
		prefer: fmt.Sprintf("wait=%d", int(c.wait.Seconds())), limits: limits{rows: s.MaxRows},
	}
	text, timespan := s.text(w, a)
	var held spool
	defer held.close()
	sum, err := c.send(ctx, a, text, timespan, a.limits, held.add)
	if err != nil {
		return c.failed(a, err, "")
	}
	m := s.begin(sum.Columns)
	p.warnings = m.missing
	for _, text := range m.missing {
		if _, told := c.told.LoadOrStore(text, true); told {
			continue
		}
		c.log.WarnContext(ctx, "the scheduled query lacks a column that is mapped", "query", s.Name, "warning", text)
	}
	return held.each(func(row rawRow) error {
		ev, rejected := c.event(s, row, w, m)
		if rejected != nil && p.next != nil && !p.next.refuse(row, w.to) {
			return nil
		}
		return p.add(ev, rejected)
	})
}

// text puts a window into the query.
func (s *schedule) text(w interval, a *ask) (text, timespan string) {
	a.bound = s.bound
	if s.own {
		lets := fmt.Sprintf("let %s = datetime(%s); let %s = datetime(%s); ", windowStart, stamp(w.from), windowEnd, stamp(w.to))
		b := *s.bound
		b.lets = lets + cmp.Or(b.lets, "\n")
		a.bound = &b
		return b.text(), ""
	}
	column := s.TimeColumn
	timespan = w.String()
	if s.By == "ingestion" {
		column = "ingestion_time()"
		timespan = interval{w.from.Add(-s.late), w.to.Add(24 * time.Hour)}.String() // clocks of senders may be ahead
	}
	// The end belongs to the next window.
	cond := part{interval: w}.condition(column)
	return s.bound.lets + s.pipe.with(cond), timespan
}

// pageBytes is where a page of events is handed to the host, well under the protocol's message limit.
const pageBytes = 1 << 20

// pager gathers events into pages. All but the last one of a window leave the cursor where it was.
type pager struct {
	emit  func(sdk.Page[cursor]) error
	cur   cursor
	next  *cursor // of the window's end; nil: nobody wants it
	page  sdk.Page[cursor]
	bytes int
	gave  bool
	// warnings say what the last window's rows lack of what is mapped.
	warnings []string
}

func (p *pager) add(ev sdk.Event, rejected *sdk.Rejected) error {
	if rejected != nil {
		p.page.Rejected = append(p.page.Rejected, *rejected)
		p.bytes += len(rejected.Raw)
	} else {
		p.page.Events = append(p.page.Events, ev)
		p.bytes += len(ev.Data)
	}
	if p.bytes < pageBytes {
		return nil
	}
	p.page.Cursor, p.gave = p.cur, true
	err := p.emit(p.page)
	p.page, p.bytes = sdk.Page[cursor]{}, 0
	return err
}

// event makes an event of a row, or a rejection that keeps it.
func (c *Client) event(s *schedule, row rawRow, w interval, m *windowRows) (sdk.Event, *sdk.Rejected) {
	if s.mapping != nil {
		return c.tableEvent(s.mapping, row)
	}
	return c.rowEvent(s, row, w, m)
}

// base is the address of the workspace.
func (c *Client) base() string {
	return strings.TrimRight(cmp.Or(c.cfg.BaseURL, c.cfg.Cloud().LogAnalytics), "/") + "/v1/workspaces/" + c.cfg.Workspace
}

// rowEvent makes an event of a row of any table. The same row makes the same event, whichever window it came in, if it has a time.
// What identifies it is the row as it came, whatever it is mapped to.
func (c *Client) rowEvent(s *schedule, row rawRow, w interval, m *windowRows) (sdk.Event, *sdk.Rejected) {
	source := c.base()
	reject := func(format string, args ...any) (sdk.Event, *sdk.Rejected) {
		return sdk.Event{}, &sdk.Rejected{Source: source, Subject: s.Name, Reason: fmt.Sprintf(format, args...), Raw: append([]byte(nil), row...)}
	}
	cells, err := cellsOf(row)
	if err != nil {
		return reject("the row cannot be read: %v", err)
	}
	var key []string
	for _, name := range s.KeyColumns {
		cell, ok := cells[name]
		if !ok || cell == "null" {
			return reject("the key column %s is missing or null", name)
		}
		key = append(key, cell)
	}
	sum := sha256.Sum256(row)
	if len(key) == 0 {
		key = []string{hex.EncodeToString(sum[:])}
	}
	at, err := time.Parse(time.RFC3339Nano, cells[s.TimeColumn])
	if err != nil || at.Year() < 1970 {
		at = w.from
	}
	e := sdk.Event{
		Source: source, Type: event.TypeRow, Time: at, PartitionKey: event.RowKey(c.cfg.Workspace, s.Name, key...),
		Digest: event.Digest(hex.EncodeToString(sum[:])),
	}
	e.Subject = s.Name + "/" + e.PartitionKey[strings.LastIndexByte(e.PartitionKey, ':')+1:]
	e.Seal()
	unmapped, err := m.unmapped(row, map[string]any{"id": s.Name, "workspace": c.cfg.Workspace})
	if err != nil {
		return reject("the row cannot be mapped: %v", err)
	}
	e.Data, err = json.Marshal(map[string]any{
		"class_uid": 0, "category_uid": 0, "activity_id": 99, "activity_name": "Query Result Row", "type_uid": 99, "severity_id": 0,
		"time": e.Time.UnixMilli(),
		"metadata": map[string]any{
			"version": event.DataVersion, "uid": e.ID, "log_name": s.table,
			"product": map[string]any{"name": "Azure Monitor Log Analytics", "vendor_name": "Microsoft"},
		},
		"unmapped": unmapped,
	})
	if err != nil {
		return reject("the row cannot be written as an event: %v", err)
	}
	return e, nil
}

// cellsOf reads the cells of a row: texts bare, anything else as JSON.
func cellsOf(row rawRow) (map[string]string, error) {
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(row, &raw); err != nil {
		return nil, err
	}
	out := make(map[string]string, len(raw))
	for name, v := range raw {
		var text string
		if v.Kind() != '"' || json.Unmarshal(v, &text) != nil {
			text = string(v)
		}
		out[name] = text
	}
	return out, nil
}
