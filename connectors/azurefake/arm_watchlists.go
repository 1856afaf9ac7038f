package azurefake

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// armWatchlist is a list of rows. Rows are kept by name, in order.
type armWatchlist struct {
	alias, etag string
	props       object
	items       []armSub
	running     *armOperation
	deleting    bool
}

// Limits of the service.
const (
	maxARMUpload = 3_800_000
	maxARMRow    = 10 << 10
)

// FailUpload makes the next upload to a watchlist fail with a reason, after it was accepted.
func (s *Server) FailUpload(alias, reason string) {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	if s.arm.operations["fail "+alias] == nil {
		s.arm.operations["fail "+alias] = &armOperation{fails: reason}
	}
}

// WatchlistRows returns the rows of a watchlist, in order; nil if there is none.
func (s *Server) WatchlistRows(alias string) []map[string]any {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w := s.arm.watchlists[alias]
	if w == nil {
		return nil
	}
	out := []map[string]any{}
	for _, i := range w.items {
		row, _ := i.props["itemsKeyValue"].(object)
		out = append(out, row)
	}
	return out
}

// Watchlist returns the properties of a watchlist; nil if there is none.
func (s *Server) Watchlist(alias string) map[string]any {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	if w := s.arm.watchlists[alias]; w != nil {
		return normal(w.props)
	}
	return nil
}

func (s *Server) watchlistResource(w *armWatchlist) object {
	return object{
		"id": s.WorkspaceID() + insights + "watchlists/" + w.alias, "name": w.alias, "type": "Microsoft.SecurityInsights/Watchlists",
		"etag": w.etag, "properties": w.props,
	}
}

func (s *Server) armListWatchlists(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	names := []string{}
	for name := range s.arm.watchlists {
		names = append(names, name)
	}
	slices.Sort(names)
	return s.armSlice(c, len(names), 2, func(i int) object { return s.watchlistResource(s.arm.watchlists[names[i]]) })
}

// armSlice answers with one page of a list.
func (s *Server) armSlice(c *fakekit.Call, n, size int, item func(int) object) fakekit.Reply {
	q := c.R.URL.Query()
	skip, _ := strconv.Atoi(q.Get("$skipToken"))
	end := min(n, skip+size)
	list := []object{}
	for i := min(skip, end); i < end; i++ {
		list = append(list, item(i))
	}
	out := object{"value": list}
	if end < n {
		q.Set("$skipToken", strconv.Itoa(end))
		out["nextLink"] = s.armLink(c.R, c.R.URL.Path, q.Encode())
	}
	return armJSON(http.StatusOK, out)
}

// watchlistOf finds the watchlist that a request names; under the lock. Looking at one moves its operation on where
// nothing else does.
func (s *Server) watchlistOf(c *fakekit.Call) (*armWatchlist, fakekit.Reply) {
	w := s.arm.watchlists[c.Args[0]]
	if w != nil && w.running != nil && s.arm.opt.State {
		w.running.step()
		w = s.arm.watchlists[c.Args[0]]
	}
	if w == nil {
		return nil, armError(http.StatusNotFound, "NotFound", "Watchlist '"+c.Args[0]+"' could not be found.")
	}
	return w, fakekit.Reply{}
}

func (s *Server) armGetWatchlist(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w, bad := s.watchlistOf(c)
	if w == nil {
		return bad
	}
	return armJSON(http.StatusOK, s.watchlistResource(w))
}

func (s *Server) armPutWatchlist(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, contributors...); bad.Status != 0 {
		return bad
	}
	raw, ok := fakekit.ReadBody(c.R, 16<<20)
	body, isObject := decodeObject(raw)
	p := toObject(body["properties"])
	if !ok || !isObject {
		return armError(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	for _, name := range []string{"displayName", "provider", "itemsSearchKey"} {
		if v, _ := p[name].(string); v == "" {
			return armError(http.StatusBadRequest, "BadRequest", "The property '"+name+"' is required.")
		}
	}
	content, _ := p["rawContent"].(string)
	key, _ := p["itemsSearchKey"].(string)
	rows, wrong := readRows(content, fmt.Sprint(p["contentType"]), key)
	switch {
	case len(content) > maxARMUpload:
		return armError(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The content is larger than 3.8 MB.")
	case wrong != "":
		return armError(http.StatusBadRequest, "BadRequest", wrong)
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	alias := c.Args[0]
	w, code := s.arm.watchlists[alias], http.StatusOK
	if w != nil && w.running != nil {
		return armError(http.StatusConflict, "Conflict", "Watchlist '"+alias+"' is being changed.")
	}
	if w == nil {
		w, code = &armWatchlist{alias: alias, props: object{"watchlistAlias": alias, "watchlistId": newGUID(), "isDeleted": false}}, http.StatusCreated
		s.arm.watchlists[alias] = w
	}
	for _, name := range []string{"displayName", "provider", "itemsSearchKey", "description", "source", "sourceType", "labels", "defaultDuration"} {
		if v, given := p[name]; given {
			w.props[name] = v
		} else {
			delete(w.props, name)
		}
	}
	w.etag = s.arm.etag()
	if content == "" {
		w.props["provisioningState"] = "Succeeded"
		return armJSON(code, s.watchlistResource(w))
	}
	s.arm.ledger.Uploads[alias]++
	op := &armOperation{polls: s.arm.opt.Polls}
	if f := s.arm.operations["fail "+alias]; f != nil {
		op.fails = f.fails
		delete(s.arm.operations, "fail "+alias)
	}
	op.done = func() {
		w.running = nil
		if op.fails != "" {
			w.props["provisioningState"] = "Failed"
			return
		}
		w.props["provisioningState"] = "Succeeded"
		for _, row := range rows {
			s.mergeRow(w, key, row)
		}
	}
	w.running, w.props["provisioningState"] = op, "InProgress"
	return s.begin(c, armJSON(code, s.watchlistResource(w)), op)
}

// mergeRow adds a row, or replaces the one with the same key; under the lock.
func (s *Server) mergeRow(w *armWatchlist, key string, row object) {
	s.arm.ledger.Changes++
	for i := range w.items {
		if have, _ := w.items[i].props["itemsKeyValue"].(object); have[key] == row[key] {
			w.items[i].props["itemsKeyValue"] = row
			return
		}
	}
	w.items = append(w.items, armSub{name: newGUID(), etag: s.arm.etag(), props: object{"itemsKeyValue": row}})
}

func readRows(content, kind, key string) ([]object, string) {
	if content == "" {
		return nil, ""
	}
	r := csv.NewReader(strings.NewReader(content))
	switch strings.ToLower(kind) {
	case "text/csv":
	case "text/tsv":
		r.Comma = '\t'
	default:
		return nil, "The content type '" + kind + "' is not supported."
	}
	all, err := r.ReadAll()
	if err != nil || len(all) == 0 {
		return nil, fmt.Sprintf("The content could not be parsed: %v.", err)
	}
	if !slices.Contains(all[0], key) {
		return nil, "The search key '" + key + "' is not a column."
	}
	var rows []object
	for _, line := range all[1:] {
		row, size := object{}, 0
		for i, v := range line {
			row[all[0][i]] = v
			size += len(all[0][i]) + len(v)
		}
		if size > maxARMRow {
			return nil, "A row is larger than 10 KB."
		}
		rows = append(rows, row)
	}
	return rows, ""
}

func (s *Server) armDeleteWatchlist(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, contributors...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w := s.arm.watchlists[c.Args[0]]
	switch {
	case w == nil:
		return armJSON(http.StatusNoContent, nil)
	case w.running != nil && !w.deleting:
		return armError(http.StatusConflict, "Conflict", "Watchlist '"+w.alias+"' cannot be deleted while it is being uploaded.")
	}
	op := &armOperation{polls: s.arm.opt.Polls, done: func() { delete(s.arm.watchlists, w.alias) }}
	w.running, w.deleting, w.props["provisioningState"] = op, true, "Deleting"
	return s.begin(c, armJSON(http.StatusAccepted, object{}), op)
}

func (s *Server) itemResource(w *armWatchlist, i *armSub) object {
	props := object{"watchlistItemId": i.name, "watchlistItemType": "watchlist-item", "isDeleted": false, "itemsKeyValue": i.props["itemsKeyValue"]}
	return object{
		"id": s.WorkspaceID() + insights + "watchlists/" + w.alias + "/watchlistItems/" + i.name, "name": i.name,
		"type": "Microsoft.SecurityInsights/Watchlists/WatchlistItems", "etag": i.etag, "properties": props,
	}
}

func (s *Server) armListItems(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w, bad := s.watchlistOf(c)
	if w == nil {
		return bad
	}
	return s.armSlice(c, len(w.items), 100, func(i int) object { return s.itemResource(w, &w.items[i]) })
}

func (w *armWatchlist) find(name string) int {
	return slices.IndexFunc(w.items, func(i armSub) bool { return i.name == name })
}

func (s *Server) armGetItem(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w, bad := s.watchlistOf(c)
	if w == nil {
		return bad
	}
	i := w.find(c.Args[1])
	if i < 0 {
		return armError(http.StatusNotFound, "NotFound", "Watchlist item '"+c.Args[1]+"' could not be found.")
	}
	return armJSON(http.StatusOK, s.itemResource(w, &w.items[i]))
}

func (s *Server) armPutItem(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, contributors...); bad.Status != 0 {
		return bad
	}
	raw, ok := fakekit.ReadBody(c.R, 1<<20)
	body, isObject := decodeObject(raw)
	row, isRow := toObject(body["properties"])["itemsKeyValue"].(object)
	if !ok || !isObject || !isRow {
		return armError(http.StatusBadRequest, "BadRequest", "The property 'itemsKeyValue' is required.")
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w, bad := s.watchlistOf(c)
	if w == nil {
		return bad
	}
	s.arm.ledger.Changes++
	i, code := w.find(c.Args[1]), http.StatusOK
	if i < 0 {
		w.items = append(w.items, armSub{name: c.Args[1], props: object{}})
		i, code = len(w.items)-1, http.StatusCreated
	}
	w.items[i].etag, w.items[i].props["itemsKeyValue"] = s.arm.etag(), row
	return armJSON(code, s.itemResource(w, &w.items[i]))
}

func (s *Server) armDeleteItem(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, contributors...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	w, bad := s.watchlistOf(c)
	if w == nil {
		return bad
	}
	i := w.find(c.Args[1])
	if i < 0 {
		return armJSON(http.StatusNoContent, nil)
	}
	s.arm.ledger.Changes++
	w.items = slices.Delete(w.items, i, i+1)
	return armJSON(http.StatusOK, nil)
}
