package threatintel

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/sdk"
)

// maxIndicators is the most in one call: its output must fit into a message.
const maxIndicators = 5000

// SubmitInput is indicators, in any of four ways.
type SubmitInput struct {
	Values     []any        `json:"values,omitempty" cw:"maxlen=5000" doc:"Values as text, or objects with value and type, such as alert.iocs"`
	Indicators []feed.Draft `json:"indicators,omitempty" cw:"maxlen=5000" doc:"Indicators with what is known of them"`
	Format     string       `json:"format" enum:"auto,list,csv,json,stix,misp" default:"auto" doc:"Format of data"`
	Data       string       `json:"data,omitempty" cw:"maxlen=1900000" doc:"A document: a list, CSV with a header, JSON, a STIX 2.1 bundle or a MISP event"`
	Defaults
}

// Result is what became of one indicator.
type Result struct {
	At         string `json:"at,omitempty" doc:"Where it comes from"`
	Value      string `json:"value" doc:"The value in canonical form; as it was given if it has none"`
	Type       string `json:"type,omitempty" doc:"Its type"`
	ID         string `json:"id,omitempty" doc:"STIX id; the same for the same value, tenant and source_system"`
	VendorID   string `json:"vendor_id,omitempty" doc:"Id at Defender"`
	Status     string `json:"status" doc:"accepted, unchanged, rejected or duplicate; valid where nothing was to be sent"`
	Reason     string `json:"reason,omitempty" doc:"Why it was rejected, or what it is a duplicate of"`
	Digest     string `json:"digest,omitempty" doc:"Of the content: equal digests need no new version"`
	Created    string `json:"created,omitempty" doc:"When our object was made"`
	Modified   string `json:"modified,omitempty" doc:"Version of our object"`
	ValidUntil string `json:"valid_until,omitempty" doc:"When it ends"`
	RenewAfter string `json:"renew_after,omitempty" doc:"When it is due to be submitted again although nothing changed: half of its life is over"`
}

// The statuses.
const (
	statusValid     = "valid"
	statusAccepted  = "accepted"
	statusUnchanged = "unchanged"
	statusRejected  = "rejected"
	statusDuplicate = "duplicate"
)

// SubmitOutput is the report of a submission.
type SubmitOutput struct {
	Accepted   int            `json:"accepted" doc:"New or changed, and taken"`
	Unchanged  int            `json:"unchanged" doc:"Known to be there as they are; nothing was sent for them"`
	Rejected   int            `json:"rejected" doc:"Refused, each with a reason"`
	Duplicates int            `json:"duplicates" doc:"The same value again; folded into the first"`
	Requests   int            `json:"requests" doc:"Uploads or imports that it took"`
	Skipped    map[string]int `json:"skipped" doc:"What in the document is no indicator, counted by what it is"`
	Results    []Result       `json:"results" doc:"One for each indicator, in order"`
}

// version is what is known of an object at the vendor.
type version struct {
	Digest            string
	Created, Modified time.Time
	Until             time.Time
	RenewAfter        time.Time // zero: only when the content changes
	vendorID          string
	revoked           bool
}

// current says whether the vendor has an indicator as it is.
func (v version) current(i *indicator, now time.Time) bool {
	return v.Digest == i.digest && !v.revoked && (v.RenewAfter.IsZero() || now.Before(v.RenewAfter)) && now.Before(v.Until)
}

// maxKnown bounds what is remembered of earlier submissions, maxKeys how many of those are remembered whole.
const (
	maxKnown = 1 << 16
	maxKeys  = 256
)

func (c *Client) remember(id string, v version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[id]; !ok {
		if len(c.order) >= maxKnown {
			delete(c.known, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, id)
	}
	c.known[id] = v
}

func (c *Client) recall(id string) (version, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.known[id]
	return v, ok
}

func (c *Client) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.known[id]; ok {
		v.Digest = "" // its place in the order stays
		c.known[id] = v
	}
}

// drafts gathers what the input has.
func (in *SubmitInput) drafts(skipped map[string]int) ([]feed.Draft, error) {
	var out []feed.Draft
	for n, v := range in.Values {
		d := feed.FromJSON(v)
		d.At = fmt.Sprintf("values[%d]", n)
		out = append(out, d)
	}
	for n, d := range in.Indicators {
		d.At = cmp.Or(d.At, fmt.Sprintf("indicators[%d]", n))
		out = append(out, d)
	}
	if in.Data != "" {
		r, err := feed.New(strings.NewReader(in.Data), in.Format)
		if err != nil {
			return nil, invalid("data", err)
		}
		for d, err := range r.Drafts() {
			if err != nil {
				return nil, invalid("data", fmt.Errorf("as %s: %w", r.Format(), err))
			}
			if out = append(out, d); len(out) > maxIndicators {
				break
			}
		}
		for what, n := range r.Skipped {
			skipped[what] += n
		}
	}
	switch {
	case len(out) > maxIndicators:
		return nil, sdk.Invalid("data", "has more than %d indicators; split it, or use casewire indicators submit", maxIndicators)
	case len(out) == 0 && in.Values == nil && in.Indicators == nil && in.Data == "":
		return nil, sdk.Invalid("", "there is nothing to submit: give values, indicators or data")
	}
	return out, nil
}

// prepare makes indicators of an input. The results of those that are to be sent are pending, with an empty status.
func (c *Client) prepare(in *SubmitInput, now time.Time) (*SubmitOutput, []*indicator, error) {
	w, err := c.newWorkshop(in.Defaults, now)
	if err != nil {
		return nil, nil, err
	}
	out := &SubmitOutput{Skipped: map[string]int{}, Results: []Result{}}
	drafts, err := in.drafts(out.Skipped)
	if err != nil {
		return nil, nil, err
	}
	all := make([]*indicator, 0, len(drafts)) // nil for what is not to be sent
	first := map[string]int{}
	for n := range drafts {
		i, why := w.make(&drafts[n])
		r := Result{At: i.at, Value: i.value, Type: i.kind, ID: i.id}
		if why != "" {
			r.Status, r.Reason = statusRejected, why
			out.Rejected++
			out.Results, all = append(out.Results, r), append(all, nil)
			continue
		}
		if at, again := first[i.id]; again {
			r.Status, r.Reason = statusDuplicate, "the same value as "+cmp.Or(out.Results[at].At, "one before")
			out.Duplicates++
			all[at].merge(i)
			out.Results, all = append(out.Results, r), append(all, nil)
			continue
		}
		first[i.id] = len(all)
		out.Results, all = append(out.Results, r), append(all, i)
	}
	for n, i := range all {
		if i != nil {
			out.Results[n].describe(i)
		}
	}
	return out, all, nil
}

func (r *Result) describe(i *indicator) {
	r.Digest, r.ValidUntil = i.digest, stamp(i.until)
	if i.ttl > 0 {
		r.RenewAfter = stamp(i.until.Add(-i.ttl / 2))
	}
}

func (c *Client) parse(_ context.Context, in SubmitInput) (SubmitOutput, error) {
	out, _, err := c.prepare(&in, c.now())
	if err != nil {
		return SubmitOutput{}, err
	}
	for n := range out.Results {
		if r := &out.Results[n]; r.Status == "" {
			r.Status = statusValid
		}
	}
	return *out, nil
}

func (c *Client) submit(ctx context.Context, in SubmitInput) (SubmitOutput, error) {
	call := sdk.CallFrom(ctx)
	if call.Resolve {
		return c.resolve(call.Key)
	}
	now := c.now()
	if !call.FirstSent.IsZero() {
		now = call.FirstSent
	}
	out, all, err := c.prepare(&in, now)
	if err != nil {
		return SubmitOutput{}, err
	}
	c.learn(call.Prior)
	var send []int
	for n, i := range all {
		if i == nil {
			continue
		}
		r := &out.Results[n]
		v, ok := c.recall(i.id)
		switch {
		case ok && v.revoked && c.target == targetSentinel:
			r.Status, r.Reason = statusRejected, revokedForGood
			out.Rejected++
		case ok && v.current(i, c.now()):
			r.Status, r.VendorID = statusUnchanged, v.vendorID
			if !call.FirstSent.IsZero() && v.Modified.Equal(now.UTC().Truncate(time.Millisecond)) {
				r.Status = statusAccepted // by an earlier attempt of this very call
				out.Accepted, out.Unchanged = out.Accepted+1, out.Unchanged-1
			}
			r.Created, r.Modified, r.ValidUntil = stamp(v.Created), stamp(v.Modified), stamp(v.Until)
			r.RenewAfter = ""
			if !v.RenewAfter.IsZero() {
				r.RenewAfter = stamp(v.RenewAfter)
			}
			out.Unchanged++
		default:
			i.versions(v, now)
			r.Created, r.Modified = stamp(i.created), stamp(i.modified)
			send = append(send, n)
		}
	}
	if call.DryRun {
		for _, n := range send {
			out.Results[n].Status = statusValid
		}
		return *out, nil
	}
	s := submission{c: c, out: out, all: all, total: len(send)}
	if c.target == targetDefender {
		err = s.imports(ctx, send)
	} else {
		err = s.uploads(ctx, send)
	}
	if err != nil {
		return *out, err
	}
	c.settle(call.Key, *out)
	return *out, nil
}

const revokedForGood = "was revoked, which is permanent for its id; submit it under another source_system, or as part of a pattern"

// versions sets the times of the next version: created stays, and modified grows, with the clock where it can.
func (i *indicator) versions(v version, now time.Time) {
	now = now.UTC().Truncate(time.Millisecond)
	if i.created.IsZero() {
		i.created = v.Created
	}
	if i.created.IsZero() || i.created.After(now) {
		i.created = now
	}
	if v.Modified.After(i.modified) {
		i.modified = v.Modified
	}
	if !i.modified.Before(now) {
		i.modified = i.modified.Add(time.Millisecond)
		return
	}
	i.modified = now
}

// learn reads the report of an earlier submission with the same key.
func (c *Client) learn(prior json.RawMessage) {
	if len(prior) == 0 {
		return
	}
	var was SubmitOutput
	if json.Unmarshal(prior, &was) != nil {
		return // of an older version: what it says is asked of the vendor instead
	}
	for _, r := range was.Results {
		if r.ID == "" || r.Digest == "" || r.Status != statusAccepted && r.Status != statusUnchanged {
			continue
		}
		if _, ok := c.recall(r.ID); ok {
			continue
		}
		v := version{Digest: r.Digest, vendorID: r.VendorID}
		for _, t := range []struct {
			text string
			to   *time.Time
		}{{r.Created, &v.Created}, {r.Modified, &v.Modified}, {r.ValidUntil, &v.Until}, {r.RenewAfter, &v.RenewAfter}} {
			if at, err := parseTime(t.text); err == nil {
				*t.to = at
			}
		}
		c.remember(r.ID, v)
	}
}

// settle keeps a report, so that a host that lost it can ask.
func (c *Client) settle(key string, out SubmitOutput) {
	if key == "" {
		return
	}
	out.Results = slices.Clone(out.Results)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.keys[key]; !ok {
		if len(c.keyed) >= maxKeys {
			delete(c.keys, c.keyed[0])
			c.keyed = c.keyed[1:]
		}
		c.keyed = append(c.keyed, key)
	}
	c.keys[key] = out
}

// resolve says what became of a submission. It is only known while this process lives; to submit again is always safe.
func (c *Client) resolve(key string) (SubmitOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if out, ok := c.keys[key]; ok {
		return out, nil
	}
	return SubmitOutput{}, sdk.Unresolved("no submission with this key has been seen; the same indicators can be submitted again, their ids are the same")
}

// submission is one call under way.
type submission struct {
	c           *Client
	out         *SubmitOutput
	all         []*indicator
	done, total int
}

// progress tells how far it is.
func (s *submission) progress(ctx context.Context, n int) {
	s.done += n
	sdk.Progress(ctx, uint64(s.done), uint64(s.total), "indicators")
}

func (s *submission) reject(n int, why string) {
	s.out.Results[n].Status, s.out.Results[n].Reason = statusRejected, clip(why, 500)
	s.out.Rejected++
}

func (s *submission) accept(n int) {
	i, r := s.all[n], &s.out.Results[n]
	r.Status = statusAccepted
	s.out.Accepted++
	v := version{Digest: i.digest, Created: i.created, Modified: i.modified, Until: i.until, vendorID: r.VendorID}
	if i.ttl > 0 {
		v.RenewAfter = i.until.Add(-i.ttl / 2)
	}
	s.c.remember(i.id, v)
}
