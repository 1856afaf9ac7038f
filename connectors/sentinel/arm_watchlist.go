package sentinel

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Limits of watchlists ("Service limits for Microsoft Sentinel").
const (
	maxUpload  = 3_800_000
	maxRow     = 10 << 10
	maxLine    = 10240
	uploadFrom = 50       // rows; fewer are written one by one
	maxTable   = 64 << 20 // bytes of a packed table, unpacked
)

func addWatchlists(c *sdk.Connector) {
	sdk.Rows(c, "watchlist.list", "List the workspace's watchlists.", (*Client).listWatchlists, sdk.Read,
		sdk.Example("all", map[string]any{}))
	sdk.Rows(c, "watchlist.items", "List the rows of a watchlist.", (*Client).listItems, sdk.Read,
		sdk.Example("of one watchlist", map[string]any{"watchlist": "HighValueAssets"}))
	sdk.Action(c, "watchlist.ensure", "Make a watchlist exist, with these rows in it; what is there already is not sent again.", (*Client).ensureWatchlist, sdk.Idempotent,
		sdk.Example("from a file", map[string]any{"watchlist": "HighValueAssets", "search_key": "host", "csv": "host,owner\ndc01,IT\n"}),
		sdk.Example("from rows", map[string]any{
			"watchlist": "BlockedAddresses", "search_key": "ip", "items": []map[string]any{{"ip": "203.0.113.7", "case": "SEC-42"}},
		}))
	sdk.Action(c, "watchlist.remove", "Remove a watchlist with all its rows.", (*Client).removeWatchlist, sdk.Idempotent,
		sdk.Example("by alias", map[string]any{"watchlist": "BlockedAddresses"}))
	sdk.Action(c, "watchlist.item.ensure", "Make a row stand in a watchlist, one for each value of its search key.", (*Client).ensureItem, sdk.Idempotent,
		sdk.Example("an address", map[string]any{"watchlist": "BlockedAddresses", "values": map[string]any{"ip": "203.0.113.7", "case": "SEC-42"}}))
	sdk.Action(c, "watchlist.item.remove", "Remove the rows with a value of the search key from a watchlist.", (*Client).removeItem, sdk.Idempotent,
		sdk.Example("an address", map[string]any{"watchlist": "BlockedAddresses", "key": "203.0.113.7"}))
}

// watchlist is what is read of one.
type watchlist struct {
	Name       string `json:"name"`
	Etag       string `json:"etag"`
	Properties struct {
		DisplayName string    `json:"displayName"`
		Description string    `json:"description"`
		Provider    string    `json:"provider"`
		Source      string    `json:"source"`
		SearchKey   string    `json:"itemsSearchKey"`
		State       string    `json:"provisioningState"`
		Created     time.Time `json:"created"`
		Updated     time.Time `json:"updated"`
	} `json:"properties"`
}

func (w *watchlist) settled() bool {
	switch strings.ToLower(w.Properties.State) {
	case "", "succeeded", "failed", "canceled":
		return true
	}
	return false
}

// WatchlistRow is one watchlist.
type WatchlistRow struct {
	Watchlist   string    `json:"watchlist" doc:"Alias, by which KQL finds it"`
	Name        string    `json:"name" doc:"Name that people see"`
	Description string    `json:"description" doc:"Description"`
	Provider    string    `json:"provider" doc:"Who keeps it"`
	SearchKey   string    `json:"search_key" doc:"Column that identifies a row"`
	State       string    `json:"state" doc:"Succeeded, or what is going on"`
	Created     time.Time `json:"created" doc:"When it was made"`
	Updated     time.Time `json:"updated" doc:"When it was last changed"`
}

// CountSummary closes a list.
type CountSummary struct {
	Count     int  `json:"count" doc:"How many were returned"`
	Truncated bool `json:"truncated" doc:"There were more"`
}

func (c *Client) listWatchlists(ctx context.Context, _ struct{}, emit func(WatchlistRow) error) (CountSummary, error) {
	var sum CountSummary
	a, err := c.workspaceFor("watchlists")
	if err != nil {
		return sum, err
	}
	err = a.each(ctx, a.path("watchlists"), nil, func(raw json.RawMessage) (bool, error) {
		var w watchlist
		if err := rest.DecodeJSON("Azure Resource Manager", raw, &w); err != nil {
			return false, err
		}
		sum.Count++
		p := &w.Properties
		return true, emit(WatchlistRow{
			Watchlist: w.Name, Name: p.DisplayName, Description: p.Description, Provider: p.Provider, SearchKey: p.SearchKey,
			State: p.State, Created: p.Created, Updated: p.Updated,
		})
	})
	if err != nil {
		return sum, fmt.Errorf("list watchlists: %w", err)
	}
	return sum, nil
}

// EnsureWatchlistInput is how a watchlist is to be.
type EnsureWatchlistInput struct {
	Watchlist   string           `json:"watchlist" cw:"required" doc:"Alias, by which KQL finds it: _GetWatchlist('alias'). 3 to 64 letters, digits, _ and -" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{1,62}[A-Za-z0-9]$"`
	Name        string           `json:"name,omitempty" cw:"maxlen=256" doc:"Name that people see; default the alias"`
	Description string           `json:"description,omitempty" cw:"maxlen=1024" doc:"Description"`
	SearchKey   string           `json:"search_key" cw:"required,maxlen=128" doc:"Column that identifies a row. It cannot be changed later"`
	CSV         string           `json:"csv,omitempty" doc:"Rows as CSV whose first line has the columns' names; a call takes 2 MiB in all, more fits as csv_gzip"`
	CSVGzip     []byte           `json:"csv_gzip,omitempty" doc:"The same, packed with gzip, in base64; up to 64 MiB unpacked, sent to Sentinel in parts of 3.8 MB"`
	Items       []map[string]any `json:"items,omitempty" doc:"Rows as objects, instead of csv; all with the same columns"`
	Prune       bool             `json:"prune,omitempty" doc:"Also remove the rows that are not among these"`
}

// EnsuredWatchlist is a watchlist that stands.
type EnsuredWatchlist struct {
	Watchlist string `json:"watchlist" doc:"Alias"`
	Created   bool   `json:"created" doc:"It was made"`
	Added     int    `json:"added" doc:"Rows added"`
	Changed   int    `json:"changed" doc:"Rows changed"`
	Removed   int    `json:"removed" doc:"Rows removed"`
	Unchanged int    `json:"unchanged" doc:"Rows that were there as they should be"`
}

// table is rows with their columns in order.
type table struct {
	columns []string
	key     string
	rows    []map[string]string
	at      map[string]int // by the key's value
}

func (t *table) add(row map[string]string, field string) error {
	key := strings.TrimSpace(row[t.key])
	if key == "" {
		return sdk.Invalid(field, "has no value for the search key %q", t.key)
	}
	size := 0
	for k, v := range row {
		size += len(k) + len(v)
	}
	if size > maxRow {
		return sdk.Invalid(field, "has %d bytes; a row of a watchlist takes %d", size, maxRow)
	}
	if i, ok := t.at[key]; ok {
		t.rows[i] = row // the last one counts, as it does for Sentinel
		return nil
	}
	t.at[key] = len(t.rows)
	t.rows = append(t.rows, row)
	return nil
}

// table reads the rows of the input.
func (in *EnsureWatchlistInput) table() (*table, error) {
	t := &table{key: in.SearchKey, at: map[string]int{}}
	switch {
	case in.CSV != "" && in.Items != nil:
		return nil, sdk.Invalid("items", "contradicts csv: give one of them")
	case len(in.CSVGzip) > 0 && (in.CSV != "" || in.Items != nil):
		return nil, sdk.Invalid("csv_gzip", "contradicts csv and items: give one of them")
	case len(in.CSVGzip) > 0:
		text, err := unpack(in.CSVGzip)
		if err != nil {
			return nil, err
		}
		return t, t.readCSV("csv_gzip", text)
	case in.CSV != "":
		return t, t.readCSV("csv", in.CSV)
	case len(in.Items) == 0:
		return t, nil
	}
	t.columns = slices.Sorted(maps.Keys(in.Items[0]))
	if !slices.Contains(t.columns, t.key) {
		return nil, sdk.Invalid("items/0", "has no column %q, which is the search key", t.key)
	}
	for i, item := range in.Items {
		field := fmt.Sprintf("items/%d", i)
		row := make(map[string]string, len(item))
		for k, v := range item {
			if !slices.Contains(t.columns, k) {
				return nil, sdk.Invalid(field, "has a column %q, which the first row does not have", k)
			}
			row[k] = asText(v)
		}
		for _, k := range t.columns {
			if _, ok := row[k]; !ok {
				row[k] = ""
			}
		}
		if err := t.add(row, field); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func unpack(packed []byte) (string, error) {
	const field = "csv_gzip"
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", sdk.Invalid(field, "is not gzip: %v", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxTable+1))
	switch {
	case err != nil:
		return "", sdk.Invalid(field, "cannot be unpacked: %v", err)
	case len(b) > maxTable:
		return "", sdk.Invalid(field, "has more than %d MiB when it is unpacked: split the rows over several calls, each with a part of them and without prune", maxTable>>20)
	}
	return string(b), nil
}

func (t *table) readCSV(field, text string) error {
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\uFEFF")))
	head, err := r.Read()
	if err != nil {
		return sdk.Invalid(field, "has no first line with the columns' names: %v", err)
	}
	for i, name := range head {
		head[i] = strings.TrimSpace(name)
		if head[i] == "" || slices.Contains(head[:i], head[i]) {
			return sdk.Invalid(field, "line 1: column %d has no name of its own", i+1)
		}
	}
	if t.columns = head; !slices.Contains(head, t.key) {
		return sdk.Invalid("search_key", "%q is no column of the rows, which has %s", t.key, strings.Join(head, ", "))
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return sdk.Invalid(field, "%v", err)
		}
		line, _ := r.FieldPos(0)
		row := make(map[string]string, len(head))
		size := 0
		for i, v := range fields {
			row[head[i]] = v
			size += len(v) + 1
		}
		if size > maxLine {
			return sdk.Invalid(field, "line %d has %d characters; Sentinel takes %d", line, size, maxLine)
		}
		if err := t.add(row, field); err != nil {
			e, _ := asSDK(err)
			for i := range e.Violations {
				e.Violations[i].Description = fmt.Sprintf("line %d ", line) + e.Violations[i].Description
			}
			return e
		}
	}
}

// contents writes rows as CSV, in parts that Sentinel takes. A row is far smaller than a part.
func (t *table) contents(rows []map[string]string) ([]string, error) {
	line := func(cells []string) (string, error) {
		var b strings.Builder
		w := csv.NewWriter(&b)
		err := w.Write(cells)
		w.Flush()
		if err = errors.Join(err, w.Error()); err != nil {
			return "", sdk.Invalid("items", "cannot be written as CSV: %v", err)
		}
		return b.String(), nil
	}
	head, err := line(t.columns)
	if err != nil {
		return nil, err
	}
	var parts []string
	var b strings.Builder
	cells := make([]string, len(t.columns))
	for _, row := range rows {
		for i, k := range t.columns {
			cells[i] = row[k]
		}
		text, err := line(cells)
		if err != nil {
			return nil, err
		}
		if b.Len()+len(text) > maxUpload {
			parts = append(parts, b.String())
			b.Reset()
		}
		if b.Len() == 0 {
			b.WriteString(head)
		}
		b.WriteString(text)
	}
	if b.Len() > 0 {
		parts = append(parts, b.String())
	}
	return parts, nil
}

// ensureWatchlist makes the watchlist if it is not there, and brings its rows up to date. Every row that is written counts
// against the workspace's 100,000 changes a month, so that only what differs is.
func (c *Client) ensureWatchlist(ctx context.Context, in EnsureWatchlistInput) (EnsuredWatchlist, error) {
	out := EnsuredWatchlist{Watchlist: in.Watchlist}
	a, err := c.workspaceFor("watchlists")
	if err != nil {
		return out, err
	}
	t, err := in.table()
	if err != nil {
		return out, err
	}
	what := "watchlist " + in.Watchlist
	w, err := a.settle(ctx, in.Watchlist)
	if err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	if w == nil {
		out.Created, out.Added = true, len(t.rows)
		return out, a.upload(ctx, in, t, t.rows, nil)
	}
	if key := w.Properties.SearchKey; !strings.EqualFold(key, in.SearchKey) {
		return out, sdk.Invalid("search_key", "the watchlist stands with the search key %q, which cannot be changed; remove it first (watchlist.remove)", key)
	}
	var fresh []map[string]string
	changed := map[string]map[string]string{} // by the item's name
	var gone []string
	met := map[string]bool{}
	err = a.items(ctx, in.Watchlist, func(i item) (bool, error) {
		key := strings.TrimSpace(asText(i.Properties.Values[t.key]))
		at, wanted := t.at[key]
		switch {
		case !wanted || met[key]: // a second row with a key is one too many, too
			if in.Prune {
				gone = append(gone, i.Name)
			}
			return true, nil
		case i.same(t.rows[at]):
			out.Unchanged++
		default:
			changed[i.Name] = t.rows[at]
		}
		met[key] = true
		return true, nil
	})
	if err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	for _, row := range t.rows {
		if !met[strings.TrimSpace(row[t.key])] {
			fresh = append(fresh, row)
		}
	}
	total := uint64(len(changed) + len(gone) + len(fresh))
	done := uint64(0)
	step := func() { done++; sdk.Progress(ctx, done, total, what) }
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		if err := a.putItem(ctx, in.Watchlist, name, changed[name]); err != nil {
			return out, fmt.Errorf("%s: %w", what, err)
		}
		out.Changed++
		step()
	}
	for _, name := range gone {
		if err := a.deleteItem(ctx, in.Watchlist, name); err != nil {
			return out, fmt.Errorf("%s: %w", what, err)
		}
		out.Removed++
		step()
	}
	renamed := in.Name != "" && in.Name != w.Properties.DisplayName || in.Description != "" && in.Description != w.Properties.Description
	if len(fresh) >= uploadFrom || renamed {
		rows := fresh
		if len(fresh) < uploadFrom {
			rows = nil
		}
		if err := a.upload(ctx, in, t, rows, w); err != nil {
			return out, err
		}
		out.Added += len(rows)
		fresh = fresh[len(rows):]
	}
	for _, row := range fresh {
		if err := a.putItem(ctx, in.Watchlist, itemID(in.Watchlist, row[t.key]), row); err != nil {
			return out, fmt.Errorf("%s: %w", what, err)
		}
		out.Added++
		step()
	}
	return out, nil
}

// find reads a watchlist; nil when there is none.
func (a *armClient) find(ctx context.Context, alias string) (*watchlist, error) {
	var w watchlist
	ok, err := a.get(ctx, a.path("watchlists", alias), &w)
	if err != nil || !ok {
		return nil, err
	}
	return &w, nil
}

// settle reads a watchlist when nothing goes on with it any more: an upload or removal that an earlier call began is
// waited for.
func (a *armClient) settle(ctx context.Context, alias string) (*watchlist, error) {
	w, err := a.find(ctx, alias)
	for n := 0; err == nil && w != nil && !w.settled(); n++ {
		if err := pause(ctx, min(operationPace<<min(n, 5), operationSlow)); err != nil {
			return nil, sdk.Unavailable("something else is being done to it (%s), and had not ended when time was over", w.Properties.State)
		}
		w, err = a.find(ctx, alias)
	}
	return w, err
}

// upload writes the watchlist with rows, part by part as Sentinel does one upload at a time, and waits until it has taken
// them in. Rows that are there already stay, so that a call that ended early is made good by the next.
func (a *armClient) upload(ctx context.Context, in EnsureWatchlistInput, t *table, rows []map[string]string, now *watchlist) error {
	parts, err := t.contents(rows)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		parts = []string{""}
	}
	for i, content := range parts {
		if i > 0 {
			if now, err = a.settle(ctx, in.Watchlist); err == nil && now == nil {
				err = sdk.Unavailable("it was removed while its rows were uploaded")
			}
			if err != nil {
				return fmt.Errorf("watchlist %s: part %d of %d: %w", in.Watchlist, i+1, len(parts), err)
			}
		}
		if err := a.uploadPart(ctx, in, content, now); err != nil {
			if len(parts) > 1 {
				err = fmt.Errorf("part %d of %d: %w", i+1, len(parts), err)
			}
			return err
		}
		sdk.Progress(ctx, uint64(i)+1, uint64(len(parts)), "watchlist "+in.Watchlist)
	}
	return nil
}

func (a *armClient) uploadPart(ctx context.Context, in EnsureWatchlistInput, content string, now *watchlist) error {
	what := "watchlist " + in.Watchlist
	p := map[string]any{
		"displayName": in.Name, "provider": "Casewire", "itemsSearchKey": in.SearchKey, "source": "Casewire", "sourceType": "Local",
		"description": in.Description,
	}
	if in.Name == "" {
		p["displayName"] = in.Watchlist
	}
	body := map[string]any{"properties": p}
	if now != nil { // what the call does not name stays
		if in.Name == "" {
			p["displayName"] = now.Properties.DisplayName
		}
		if in.Description == "" {
			p["description"] = now.Properties.Description
		}
		p["provider"], p["source"], p["itemsSearchKey"] = now.Properties.Provider, now.Properties.Source, now.Properties.SearchKey
		body["etag"] = now.Etag
	}
	for _, k := range []string{"description", "source"} {
		if p[k] == "" {
			delete(p, k)
		}
	}
	if content != "" {
		p["rawContent"], p["contentType"], p["numberOfLinesToSkip"] = content, "text/csv", 0
	}
	var w watchlist
	resp, err := a.put(ctx, a.path("watchlists", in.Watchlist), body, &w)
	if err != nil {
		if e, ok := asSDK(err); ok && e.Code == codes.Aborted && now == nil {
			e.Message += "; a watchlist whose name was removed a short while ago cannot be made again yet: try later"
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	if content == "" && w.settled() {
		return nil
	}
	look := func() (string, string, error) {
		w, err := a.find(ctx, in.Watchlist)
		switch {
		case err != nil:
			return "", "", err
		case w == nil:
			return "failed", "the watchlist is gone", nil
		case w.Properties.State == "":
			return "succeeded", "", nil
		}
		return w.Properties.State, "Sentinel gives no reason; open the watchlist in the portal", nil
	}
	if resp.Header.Get("Azure-AsyncOperation") == "" && resp.Header.Get("Location") == "" && w.settled() {
		if strings.EqualFold(w.Properties.State, "failed") {
			return sdk.Unavailable("%s: the upload failed", what)
		}
		return nil
	}
	return a.follow(ctx, resp, what, look)
}

// WatchlistRef names a watchlist.
type WatchlistRef struct {
	Watchlist string `json:"watchlist" cw:"required" doc:"Alias" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{1,62}[A-Za-z0-9]$"`
}

// RemovedWatchlist says what became of it.
type RemovedWatchlist struct {
	Watchlist string `json:"watchlist" doc:"Alias"`
	Removed   bool   `json:"removed" doc:"It was there, and is not any more"`
}

func (c *Client) removeWatchlist(ctx context.Context, in WatchlistRef) (RemovedWatchlist, error) {
	out := RemovedWatchlist{Watchlist: in.Watchlist}
	a, err := c.workspaceFor("watchlists")
	if err != nil {
		return out, err
	}
	what := "remove watchlist " + in.Watchlist
	w, err := a.settle(ctx, in.Watchlist) // one that is being uploaded cannot be removed
	if err != nil || w == nil {
		if err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		return out, err
	}
	resp, err := a.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: a.path("watchlists", in.Watchlist), Query: versioned(nil)})
	if err != nil {
		return out, fmt.Errorf("%s: %w", what, err)
	}
	out.Removed = true
	if resp.Status != http.StatusAccepted {
		return out, nil
	}
	return out, a.follow(ctx, resp, what, func() (string, string, error) {
		w, err := a.find(ctx, in.Watchlist)
		switch {
		case err != nil:
			return "", "", err
		case w == nil:
			return "succeeded", "", nil
		case strings.EqualFold(w.Properties.State, "failed"):
			return "failed", "the watchlist is still there", nil
		}
		return "deleting", "", nil
	})
}
