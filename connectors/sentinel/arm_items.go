package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// item is a row of a watchlist as the API has it.
type item struct {
	Name       string `json:"name"`
	Properties struct {
		Values map[string]any `json:"itemsKeyValue"`
	} `json:"properties"`
}

// same says whether a row is as it should be. Columns that Sentinel adds to rows do not count.
func (i *item) same(row map[string]string) bool {
	for k, v := range row {
		if asText(i.Properties.Values[k]) != v {
			return false
		}
	}
	return true
}

// itemID is the name of a row that Casewire writes: one for each value of the search key.
func itemID(alias, key string) string {
	return ownID("watchlist item", strings.ToLower(alias), strings.TrimSpace(key))
}

// items calls f with the rows of a watchlist; f returns false to stop.
func (a *armClient) items(ctx context.Context, alias string, f func(item) (bool, error)) error {
	return a.each(ctx, a.path("watchlists", alias, "watchlistItems"), nil, func(raw json.RawMessage) (bool, error) {
		var i item
		if err := rest.DecodeJSON("Azure Resource Manager", raw, &i); err != nil {
			return false, err
		}
		return f(i)
	})
}

func (a *armClient) putItem(ctx context.Context, alias, name string, row map[string]string) error {
	_, err := a.put(ctx, a.path("watchlists", alias, "watchlistItems", name), map[string]any{"properties": map[string]any{"itemsKeyValue": row}}, nil)
	return err
}

func (a *armClient) deleteItem(ctx context.Context, alias, name string) error {
	_, err := a.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: a.path("watchlists", alias, "watchlistItems", name), Query: versioned(nil)})
	return err
}

// ListItemsInput selects rows.
type ListItemsInput struct {
	Watchlist string `json:"watchlist" cw:"required" doc:"Alias" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{1,62}[A-Za-z0-9]$"`
	Max       int    `json:"max" default:"100000" cw:"min=1,max=10000000" doc:"Most rows to return"`
}

// WatchlistItem is a row.
type WatchlistItem struct {
	ID     string         `json:"id" doc:"GUID of the row"`
	Values map[string]any `json:"values" doc:"Columns"`
}

func (c *Client) listItems(ctx context.Context, in ListItemsInput, emit func(WatchlistItem) error) (CountSummary, error) {
	var sum CountSummary
	a, err := c.workspaceFor("watchlists")
	if err != nil {
		return sum, err
	}
	err = a.items(ctx, in.Watchlist, func(i item) (bool, error) {
		if sum.Count == in.Max {
			sum.Truncated = true
			return false, nil
		}
		sum.Count++
		return true, emit(WatchlistItem{ID: i.Name, Values: i.Properties.Values})
	})
	if err != nil {
		return sum, fmt.Errorf("rows of watchlist %s: %w", in.Watchlist, err)
	}
	return sum, nil
}

// searchKey reads which column identifies a row.
func (a *armClient) searchKey(ctx context.Context, alias string) (string, error) {
	w, err := a.settle(ctx, alias)
	switch {
	case err != nil:
		return "", fmt.Errorf("watchlist %s: %w", alias, err)
	case w == nil:
		return "", sdk.NotFound("there is no watchlist %s in the workspace; watchlist.ensure makes it", alias)
	case w.Properties.SearchKey == "":
		return "", sdk.Unavailable("watchlist %s: it does not say its search key", alias)
	}
	return w.Properties.SearchKey, nil
}

// withKey finds the rows with a value of the search key.
func (a *armClient) withKey(ctx context.Context, alias, column, key string) ([]item, error) {
	var found []item
	err := a.items(ctx, alias, func(i item) (bool, error) {
		if strings.TrimSpace(asText(i.Properties.Values[column])) == strings.TrimSpace(key) {
			found = append(found, i)
		}
		return true, nil
	})
	return found, err
}

// EnsureItemInput is a row that is to stand.
type EnsureItemInput struct {
	Watchlist string         `json:"watchlist" cw:"required" doc:"Alias" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{1,62}[A-Za-z0-9]$"`
	Values    map[string]any `json:"values" cw:"required" doc:"Columns; one of them is the watchlist's search key. Columns that are left out are emptied"`
}

// EnsuredItem is a row that stands.
type EnsuredItem struct {
	ID      string `json:"id" doc:"GUID of the row"`
	Created bool   `json:"created" doc:"It was added"`
	Updated bool   `json:"updated" doc:"It was changed"`
}

// ensureItem makes one row stand for a value of the search key. Its name follows from the value, so that two who write at
// once write one row; rows that came by a file have names of their own, which only a look through the watchlist finds.
func (c *Client) ensureItem(ctx context.Context, in EnsureItemInput) (EnsuredItem, error) {
	a, err := c.workspaceFor("watchlists")
	if err != nil {
		return EnsuredItem{}, err
	}
	column, err := a.searchKey(ctx, in.Watchlist)
	if err != nil {
		return EnsuredItem{}, err
	}
	row, size := map[string]string{}, 0
	for k, v := range in.Values {
		row[k] = asText(v)
		size += len(k) + len(row[k])
	}
	switch {
	case strings.TrimSpace(row[column]) == "":
		return EnsuredItem{}, sdk.Invalid("values", "have no value for the search key %q", column)
	case size > maxRow:
		return EnsuredItem{}, sdk.Invalid("values", "have %d bytes; a row of a watchlist takes %d", size, maxRow)
	}
	what := "row of watchlist " + in.Watchlist
	name := itemID(in.Watchlist, row[column])
	var have item
	found, err := a.get(ctx, a.path("watchlists", in.Watchlist, "watchlistItems", name), &have)
	if err != nil {
		return EnsuredItem{}, fmt.Errorf("%s: %w", what, err)
	}
	if !found {
		rows, err := a.withKey(ctx, in.Watchlist, column, row[column])
		if err != nil {
			return EnsuredItem{}, fmt.Errorf("%s: %w", what, err)
		}
		if found = len(rows) > 0; found {
			have, name = rows[0], rows[0].Name
		}
	}
	if found && have.same(row) {
		return EnsuredItem{ID: name}, nil
	}
	if err := a.putItem(ctx, in.Watchlist, name, row); err != nil {
		return EnsuredItem{}, fmt.Errorf("%s: %w", what, err)
	}
	return EnsuredItem{ID: name, Created: !found, Updated: found}, nil
}

// RemoveItemInput names rows.
type RemoveItemInput struct {
	Watchlist string `json:"watchlist" cw:"required" doc:"Alias" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{1,62}[A-Za-z0-9]$"`
	Key       string `json:"key" cw:"required" doc:"Value of the search key"`
}

// RemovedItems says how many rows went.
type RemovedItems struct {
	Removed int `json:"removed" doc:"Rows removed; none were there when it is 0"`
}

func (c *Client) removeItem(ctx context.Context, in RemoveItemInput) (RemovedItems, error) {
	var out RemovedItems
	a, err := c.workspaceFor("watchlists")
	if err != nil {
		return out, err
	}
	column, err := a.searchKey(ctx, in.Watchlist)
	if err != nil {
		return out, err
	}
	rows, err := a.withKey(ctx, in.Watchlist, column, in.Key)
	if err != nil {
		return out, fmt.Errorf("rows of watchlist %s: %w", in.Watchlist, err)
	}
	for _, i := range rows {
		if err := a.deleteItem(ctx, in.Watchlist, i.Name); err != nil {
			return out, fmt.Errorf("row of watchlist %s: %w", in.Watchlist, err)
		}
		out.Removed++
	}
	return out, nil
}
