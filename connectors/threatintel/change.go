package threatintel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Selection names indicators.
type Selection struct {
	Values []string `json:"values,omitempty" cw:"maxlen=1000" doc:"By value; written for people is fine"`
	IDs    []string `json:"ids,omitempty" cw:"maxlen=1000" doc:"By STIX id (Sentinel) or id (Defender)"`
}

// RevokeInput names indicators to revoke.
type RevokeInput struct {
	Selection
	Permanent bool `json:"permanent" cw:"required" doc:"Must be true: a revoked id can never be used again"`
}

// ChangeOutput is what became of each.
type ChangeOutput struct {
	Changed int            `json:"changed" doc:"Indicators that were changed"`
	Missing int            `json:"missing" doc:"Indicators that were not there"`
	Note    string         `json:"note,omitempty" doc:"What to know about it"`
	Results []ChangeResult `json:"results" doc:"One for each, in order"`
}

// ChangeResult is what became of one indicator.
type ChangeResult struct {
	Value  string `json:"value,omitempty" doc:"Value"`
	ID     string `json:"id" doc:"Its id"`
	Status string `json:"status" doc:"changed, missing or rejected"`
	Reason string `json:"reason,omitempty" doc:"Why it was rejected"`
}

const (
	statusChanged = "changed"
	statusMissing = "missing"
)

func (o *ChangeOutput) add(r ChangeResult) {
	switch r.Status {
	case statusChanged:
		o.Changed++
	case statusMissing:
		o.Missing++
	}
	o.Results = append(o.Results, r)
}

// chosen is one indicator that somebody named.
type chosen struct {
	id   string
	i    *indicator // nil when only the id is known
	seen *armIndicator
	mde  *mdeIndicator
}

// choose resolves a selection.
func (c *Client) choose(s Selection) ([]*chosen, error) {
	if len(s.Values)+len(s.IDs) == 0 {
		return nil, sdk.Invalid("", "nothing is named: give values or ids")
	}
	w, err := c.newWorkshop(Defaults{}, c.now())
	if err != nil {
		return nil, err
	}
	var out []*chosen
	known := map[string]bool{}
	for n, v := range s.Values {
		i := &indicator{}
		if why := w.value(i, &feed.Draft{Value: v}); why != "" {
			return nil, sdk.Invalid(fmt.Sprintf("/values/%d", n), "%q %s", clip(v, 200), why)
		}
		i.id = stixID(c.tenant, c.cfg.SourceSystem, i.kind, i.value)
		if !known[i.id] {
			known[i.id] = true
			out = append(out, &chosen{id: i.id, i: i})
		}
	}
	for n, id := range s.IDs {
		id = strings.TrimSpace(id)
		if c.target == targetSentinel && !strings.HasPrefix(id, "indicator--") || id == "" {
			return nil, sdk.Invalid(fmt.Sprintf("/ids/%d", n), "%q is no STIX id of an indicator (indicator--…)", clip(id, 200))
		}
		if !known[id] {
			known[id] = true
			out = append(out, &chosen{id: id})
		}
	}
	return out, nil
}

// find looks the chosen ones up at the vendor.
func (c *Client) find(ctx context.Context, all []*chosen) error {
	if c.target == targetDefender {
		inv, err := c.listed(ctx, true)
		if err != nil {
			return err
		}
		byID := map[string]mdeIndicator{}
		for _, m := range inv.byValue {
			byID[m.id()] = m
		}
		for _, x := range all {
			m, ok := byID[x.id]
			if x.i != nil {
				m, ok = inv.byValue[strings.ToLower(x.i.value)]
			}
			if ok {
				x.mde = &m
			}
		}
		return nil
	}
	if c.arm == nil {
		return nil
	}
	byID := map[string]*chosen{}
	for _, x := range all {
		byID[x.id] = x
	}
	look := func(keyword string) error {
		criteria := map[string]any{"pageSize": 100, "includeDisabled": true}
		if keyword != "" {
			criteria["keywords"] = []string{keyword}
		}
		return c.eachARM(ctx, criteria, func(a *armIndicator) error {
			if x := byID[a.Properties.ExternalID]; x != nil {
				found := *a
				x.seen = &found
			}
			return nil
		})
	}
	if len(all) == 1 && all[0].i != nil && all[0].i.kind != typePattern {
		if err := look(all[0].i.value); err != nil || all[0].seen != nil {
			return err
		}
	}
	return look("")
}

// object is the chosen indicator as a STIX object, whole, so that a new version of it loses nothing.
func (c *Client) object(x *chosen, now time.Time) (stixObject, bool) {
	now = now.UTC().Truncate(time.Millisecond)
	v, _ := c.recall(x.id)
	modified := now
	if !v.Modified.Before(modified) {
		modified = v.Modified.Add(time.Millisecond)
	}
	if a := x.seen; a != nil {
		p := &a.Properties
		if t, err := parseTime(p.Modified); err == nil && !t.Before(modified) {
			modified = t.Add(time.Millisecond)
		}
		o := stixObject{
			Type: "indicator", Spec: "2.1", ID: x.id, Created: stamp(timeOr(p.Created, now)), Modified: stamp(modified), Name: cmp.Or(p.DisplayName, x.id),
			Description: p.Description, Kinds: p.ThreatTypes, Pattern: p.Pattern, PatternType: "stix", PatternVer: "2.1",
			ValidFrom: stamp(timeOr(p.ValidFrom, now.Add(-time.Second))), Labels: append(slices.Clone(p.Labels), p.Tags...), Confidence: p.Confidence, Markings: p.Markings,
		}
		if created := timeOr(p.Created, now); created.After(modified) {
			o.Created = stamp(modified)
		}
		if p.ValidUntil != "" {
			o.ValidUntil = stamp(timeOr(p.ValidUntil, now))
		}
		for _, ph := range p.Phases {
			o.Phases = append(o.Phases, feed.Phase{KillChain: ph.KillChain, Phase: ph.Phase})
		}
		return o, true
	}
	if x.i == nil {
		return stixObject{}, false
	}
	i := *x.i
	i.name, i.threats, i.confidence, i.tlp = i.value, []string{"malicious-activity"}, c.cfg.Confidence, c.tlp
	i.from, i.until = now.Add(-time.Second), now
	i.created, i.modified = v.Created, modified
	if i.created.IsZero() || i.created.After(now) {
		i.created = now
	}
	return i.stix(), true
}

func timeOr(s string, otherwise time.Time) time.Time {
	if t, err := parseTime(s); err == nil {
		return t
	}
	return otherwise
}

func (c *Client) expire(ctx context.Context, in Selection) (ChangeOutput, error) {
	now := c.now()
	return c.change(ctx, in, func(o *stixObject) {
		until := now.UTC().Truncate(time.Millisecond)
		if from, err := parseTime(o.ValidFrom); err == nil && !from.Before(until) {
			o.ValidFrom = stamp(until.Add(-time.Second)) // STIX wants the end after the beginning
		}
		o.ValidUntil = stamp(until)
	}, func(m *mdeIndicator) { m.Expires = now.UTC().Format(time.RFC3339) })
}

const permanent = "revoked for good: these ids can never be used again under this source_system; to end an indicator for a time use indicators.expire"

func (c *Client) revoke(ctx context.Context, in RevokeInput) (ChangeOutput, error) {
	switch {
	case c.target == targetDefender:
		return ChangeOutput{}, sdk.Invalid("", "Defender knows no revocation; use indicators.expire or indicators.delete")
	case !in.Permanent:
		return ChangeOutput{}, sdk.Invalid("permanent", "must be true: %s", permanent)
	}
	out, err := c.change(ctx, in.Selection, func(o *stixObject) { o.Revoked = true }, nil)
	if err != nil {
		return out, err
	}
	out.Note = permanent
	for _, r := range out.Results {
		if r.Status == statusChanged {
			c.remember(r.ID, version{revoked: true})
		}
	}
	return out, nil
}

// change uploads, or imports, new versions of the chosen indicators.
func (c *Client) change(ctx context.Context, in Selection, edit func(*stixObject), editDefender func(*mdeIndicator)) (ChangeOutput, error) {
	out := ChangeOutput{Results: []ChangeResult{}}
	all, err := c.choose(in)
	if err != nil {
		return out, err
	}
	if err := c.find(ctx, all); err != nil {
		return out, err
	}
	if c.target == targetDefender {
		return out, c.changeDefender(ctx, all, &out, editDefender)
	}
	for part := range slices.Chunk(all, perUpload) {
		var objects []stixObject
		var at []int
		results := make([]ChangeResult, len(part))
		for n, x := range part {
			results[n] = x.result(statusMissing)
			if c.arm != nil && x.seen == nil {
				if _, ours := c.recall(x.id); !ours { // what was just submitted may not be shown yet
					continue
				}
			}
			o, ok := c.object(x, c.now())
			if !ok {
				return out, sdk.Invalid("ids", "to find %s by its id, the connection needs workspace (subscription, resource_group, name); or give values", x.id)
			}
			edit(&o)
			objects, at = append(objects, o), append(at, n)
		}
		if len(objects) > 0 {
			faults, err := c.uploadObjects(ctx, objects)
			if err != nil {
				return out, err
			}
			for k, n := range at {
				results[n].Status = statusChanged
				if why, bad := faults[k]; bad {
					results[n].Status, results[n].Reason = statusRejected, clip(why, 500)
				} else {
					modified, _ := parseTime(objects[k].Modified)
					created, _ := parseTime(objects[k].Created)
					c.remember(objects[k].ID, version{Created: created, Modified: modified})
				}
			}
		}
		for _, r := range results {
			out.add(r)
		}
	}
	return out, nil
}

func (x *chosen) result(status string) ChangeResult {
	r := ChangeResult{ID: x.id, Status: status}
	switch {
	case x.i != nil:
		r.Value = x.i.value
	case x.mde != nil:
		r.Value = x.mde.Value
	case x.seen != nil:
		_, r.Value, _ = parsePattern(x.seen.Properties.Pattern)
	}
	return r
}

func (c *Client) changeDefender(ctx context.Context, all []*chosen, out *ChangeOutput, edit func(*mdeIndicator)) error {
	var list []mdeIndicator
	for _, x := range all {
		if x.mde != nil {
			edit(x.mde)
			m := *x.mde
			m.ID, m.Created, m.Updated, m.Source = nil, "", "", ""
			list = append(list, m)
		}
	}
	answers := map[string]importAnswer{}
	for part := range slices.Chunk(list, perImport) {
		got, err := c.importList(ctx, part)
		if err != nil {
			return err
		}
		maps.Copy(answers, got)
	}
	for _, x := range all {
		r := x.result(statusMissing)
		if x.mde != nil {
			r.Status = statusChanged
			if a := answers[strings.ToLower(x.mde.Value)]; a.Failed {
				r.Status, r.Reason = statusRejected, clip("refused by Defender: "+a.why(), 500)
			}
			c.forget(stixIDOf(c, x))
		}
		out.add(r)
	}
	c.mu.Lock()
	c.active = nil
	c.mu.Unlock()
	return nil
}

// stixIDOf is the id that a submission of the same value would have.
func stixIDOf(c *Client, x *chosen) string {
	if x.i != nil {
		return x.i.id
	}
	if x.mde != nil {
		return stixID(c.tenant, c.cfg.SourceSystem, x.mde.row(c.now()).Type, x.mde.Value)
	}
	return x.id
}

func (c *Client) remove(ctx context.Context, in Selection) (ChangeOutput, error) {
	out := ChangeOutput{Results: []ChangeResult{}}
	if c.target == targetSentinel {
		if err := c.needARM(); err != nil {
			return out, err
		}
	}
	all, err := c.choose(in)
	if err != nil {
		return out, err
	}
	if err := c.find(ctx, all); err != nil {
		return out, err
	}
	for _, x := range all {
		r := x.result(statusMissing)
		switch {
		case x.mde != nil:
			_, err = c.mde.Do(ctx, rest.Request{Method: http.MethodDelete, Path: "/api/indicators/" + url.PathEscape(x.mde.id()), OK: []int{http.StatusNotFound}})
		case x.seen != nil:
			_, err = c.arm.Do(ctx, rest.Request{
				Method: http.MethodDelete, OK: []int{http.StatusNotFound}, Query: url.Values{"api-version": {armVersion}},
				Path: c.workspacePath() + "/providers/Microsoft.SecurityInsights/threatIntelligence/main/indicators/" + url.PathEscape(x.seen.Name),
			})
		default:
			out.add(r)
			continue
		}
		if err != nil {
			return out, fmt.Errorf("delete indicator %s: %w", x.id, err)
		}
		r.Status = statusChanged
		c.forget(stixIDOf(c, x))
		out.add(r)
	}
	if c.target == targetDefender {
		c.mu.Lock()
		c.active = nil
		c.mu.Unlock()
	}
	return out, nil
}
