package sentinel

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Bounds of the memory in the cursor, which may hold 64 KiB: one remembered alert costs about 15 bytes.
const (
	maxSeen    = 3000
	sweepEvery = time.Hour
)

// pageBytes is where a page of events is handed to the host, well under the protocol's message limit.
const pageBytes = 1 << 20

// cursor is the position of the poll. Since is the newest lastUpdateDateTime of a finished round; Seen remembers which
// revisions within the overlap were emitted already.
type cursor struct {
	V     int       `json:"v"`
	Since time.Time `json:"since"`
	Swept time.Time `json:"swept"`
	Seen  []string  `json:"seen,omitempty"`
	Sub   subState  `json:"sub"`
}

// poll brings every alert that changed since the cursor, looking back over the overlap, and hourly over the whole
// lookback. The list is newest first, so the cursor moves only when the round is complete.
func (c *Client) poll(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	sub, missed, subErr := c.subscribe(ctx, cur.Sub)
	cur.V, cur.Sub = 1, sub
	c.mu.Lock()
	c.subscription = sub.ID
	c.mu.Unlock()

	now := time.Now()
	from := cur.Since.Add(-c.overlap)
	sweep := cur.Since.IsZero() || missed || now.Sub(cur.Swept) >= sweepEvery
	if sweep {
		if back := now.Add(-c.lookback); cur.Since.IsZero() || back.Before(from) {
			from = back
		}
	}
	seen := make(map[string]bool, len(cur.Seen))
	for _, s := range cur.Seen {
		seen[s] = true
	}
	round := round{client: c, emit: emit, cur: cur, newest: cur.Since, seen: seen, keepFrom: from}
	filter := "lastUpdateDateTime ge " + from.UTC().Format("2006-01-02T15:04:05.000Z")
	if c.cfg.Filter != "" {
		filter += " and (" + c.cfg.Filter + ")"
	}
	first := rest.Request{Method: http.MethodGet, Path: "/v1.0/security/alerts_v2", Query: url.Values{
		"$filter": {filter}, "$top": {strconv.Itoa(c.cfg.PageSize)},
	}}
	for page, err := range c.api.Pages(ctx, first, nextLink) {
		if err != nil {
			return errors.Join(fmt.Errorf("list alerts: %w", err), subErr)
		}
		if err := round.take(page); err != nil {
			return err
		}
	}
	if sweep {
		round.cur.Swept = now
	}
	if err := round.finish(); err != nil {
		return err
	}
	return subErr
}

// round is one poll in progress.
type round struct {
	client   *Client
	emit     func(sdk.Page[cursor]) error
	cur      cursor
	newest   time.Time
	keepFrom time.Time
	seen     map[string]bool
	marks    []string // what Seen becomes, newest first
	page     sdk.Page[cursor]
	bytes    int
}

func (r *round) take(resp *rest.Response) error {
	var list struct {
		Value []json.RawMessage `json:"value"`
	}
	if err := resp.JSON(&list); err != nil {
		return fmt.Errorf("list alerts: %w", err)
	}
	for _, raw := range list.Value {
		var head struct {
			ID      string    `json:"id"`
			Updated time.Time `json:"lastUpdateDateTime"`
		}
		if err := json.Unmarshal(raw, &head); err == nil {
			if head.Updated.After(r.newest) {
				r.newest = head.Updated
			}
			mark := seenMark(head.ID, head.Updated)
			if len(r.marks) < maxSeen {
				r.marks = append(r.marks, mark)
			}
			if r.seen[mark] {
				continue
			}
		}
		ev, rej := r.client.normalize(raw)
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

func (r *round) flush() error {
	r.page.Cursor = r.cur
	err := r.emit(r.page)
	r.page, r.bytes = sdk.Page[cursor]{}, 0
	return err
}

// finish moves the cursor.
func (r *round) finish() error {
	r.cur.Since, r.cur.Seen = r.newest, r.marks
	return r.flush()
}

func seenMark(id string, updated time.Time) string {
	sum := sha256.Sum256([]byte(id + "\x00" + updated.UTC().Format(time.RFC3339Nano)))
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
