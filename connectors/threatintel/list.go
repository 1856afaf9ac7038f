package threatintel

import (
	"context"
	"errors"
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

const armVersion = "2025-09-01"

// ListInput selects indicators.
type ListInput struct {
	Values        []string `json:"values,omitempty" cw:"maxlen=100" doc:"Only these values; written for people is fine"`
	IDs           []string `json:"ids,omitempty" cw:"maxlen=100" doc:"Only these STIX ids (Sentinel) or ids (Defender)"`
	Types         []string `json:"types,omitempty" doc:"Only these types" example:"domain"`
	Keyword       string   `json:"keyword,omitempty" cw:"maxlen=200" doc:"Only those with this text in them"`
	AnySource     bool     `json:"any_source,omitempty" doc:"Those of other source systems, too"`
	Inactive      bool     `json:"inactive,omitempty" doc:"Those that have expired or were revoked, too"`
	MinConfidence int      `json:"min_confidence,omitempty" cw:"min=0,max=100" doc:"Only those of this confidence or more; Sentinel only"`
	Max           int      `json:"max" default:"1000" cw:"min=1,max=100000" doc:"Most to return"`
}

// Row is an indicator as it is kept.
type Row struct {
	ID          string   `json:"id" doc:"STIX id (Sentinel) or id (Defender)"`
	Name        string   `json:"resource,omitempty" doc:"Name of the resource in Azure"`
	Value       string   `json:"value" doc:"Value; empty for a pattern that compares several"`
	Type        string   `json:"type" doc:"Type"`
	Pattern     string   `json:"pattern,omitempty" doc:"STIX pattern"`
	Title       string   `json:"title" doc:"Title"`
	Description string   `json:"description" doc:"Description"`
	Source      string   `json:"source" doc:"Who submitted it"`
	Confidence  int      `json:"confidence" doc:"0 to 100; 0 for Defender"`
	Labels      []string `json:"labels" doc:"Tags"`
	ValidFrom   string   `json:"valid_from" doc:"When it begins"`
	ValidUntil  string   `json:"valid_until" doc:"When it ends; empty: never"`
	Revoked     bool     `json:"revoked" doc:"It was revoked"`
	Active      bool     `json:"active" doc:"It matches now"`
	Action      string   `json:"action,omitempty" doc:"What Defender does"`
	Modified    string   `json:"modified" doc:"Last change"`
}

// ListSummary closes a list.
type ListSummary struct {
	Count     int  `json:"count" doc:"Rows returned"`
	Truncated bool `json:"truncated" doc:"There were more"`
}

// armIndicator is an indicator as Azure Resource Manager shows it.
type armIndicator struct {
	Name       string `json:"name"`
	Properties struct {
		ExternalID  string   `json:"externalId"`
		DisplayName string   `json:"displayName"`
		Description string   `json:"description"`
		Source      string   `json:"source"`
		Pattern     string   `json:"pattern"`
		Confidence  int      `json:"confidence"`
		Tags        []string `json:"threatIntelligenceTags"`
		Labels      []string `json:"labels"`
		ThreatTypes []string `json:"threatTypes"`
		Markings    []string `json:"objectMarkingRefs"`
		ValidFrom   string   `json:"validFrom"`
		ValidUntil  string   `json:"validUntil"`
		Revoked     bool     `json:"revoked"`
		Created     string   `json:"created"`
		Updated     string   `json:"lastUpdatedTimeUtc"`
		Modified    string   `json:"externalLastUpdatedTimeUtc"`
		Phases      []struct {
			KillChain string `json:"killChainName"`
			Phase     string `json:"phaseName"`
		} `json:"killChainPhases"`
	} `json:"properties"`
}

func (a *armIndicator) row(now time.Time) Row {
	p := &a.Properties
	r := Row{
		ID: p.ExternalID, Name: a.Name, Pattern: p.Pattern, Title: p.DisplayName, Description: p.Description, Source: p.Source, Confidence: p.Confidence,
		Labels: append(slices.Clone(p.Labels), p.Tags...), ValidFrom: p.ValidFrom, ValidUntil: p.ValidUntil, Revoked: p.Revoked, Modified: p.Updated,
	}
	var ok bool
	if r.Type, r.Value, ok = parsePattern(p.Pattern); !ok {
		r.Type = typePattern
	}
	r.Active = !p.Revoked && !over(p.ValidUntil, now)
	return r
}

func over(until string, now time.Time) bool {
	t, err := time.Parse(time.RFC3339Nano, until)
	return err == nil && !t.After(now)
}

func (c *Client) list(ctx context.Context, in ListInput, emit func(Row) error) (ListSummary, error) {
	var sum ListSummary
	want, err := c.selection(in.Values, in.IDs)
	if err != nil {
		return sum, err
	}
	types := map[string]bool{}
	for i, t := range in.Types {
		kind := typeWords[fold(t)]
		if kind == "" {
			return sum, sdk.Invalid(fmt.Sprintf("/types/%d", i), "%q is no type of indicator", t)
		}
		if kind == "hash" {
			types[typeMD5], types[typeSHA1], types[typeSHA256], types[typeSHA512] = true, true, true, true
		}
		types[kind] = true
	}
	keep := func(r Row) error {
		switch {
		case !in.Inactive && !r.Active, len(types) > 0 && !types[r.Type], len(want) > 0 && !want[r.ID] && !want[r.Type+" "+r.Value]:
			return nil
		case !in.AnySource && r.Source != "" && r.Source != c.cfg.SourceSystem:
			return nil
		case in.Keyword != "" && !strings.Contains(strings.ToLower(strings.Join([]string{r.Value, r.Pattern, r.Title, r.Description}, " ")), strings.ToLower(in.Keyword)):
			return nil
		case sum.Count == in.Max:
			sum.Truncated = true
			return errEnough
		}
		sum.Count++
		return emit(r)
	}
	if c.target == targetDefender {
		err = c.eachDefender(ctx, func(m mdeIndicator) error { return keep(m.row(c.now())) })
	} else {
		criteria := c.criteria(&in, want)
		row := func(a *armIndicator) error { return keep(a.row(c.now())) }
		err = c.eachARM(ctx, criteria, row)
		if err == nil && sum.Count == 0 && in.Keyword == "" && criteria["keywords"] != nil {
			delete(criteria, "keywords") // perhaps the service does not look for words in patterns
			err = c.eachARM(ctx, criteria, row)
		}
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return sum, err
}

var errEnough = errors.New("that is enough")

func (m *mdeIndicator) row(now time.Time) Row {
	r := Row{
		ID: m.id(), Value: m.Value, Title: m.Title, Description: m.Description, Source: m.Application, ValidFrom: m.Created, ValidUntil: m.Expires,
		Active: m.active(now), Action: m.Action, Modified: m.Updated, Labels: []string{},
	}
	for kind, name := range defenderTypes {
		if name == m.Type {
			r.Type = kind
		}
	}
	for name, theirs := range defenderActions {
		if theirs == m.Action {
			r.Action = name
		}
	}
	return r
}

// selection are ids and "type value" of what is asked for.
func (c *Client) selection(values, ids []string) (map[string]bool, error) {
	want := map[string]bool{}
	w, err := c.newWorkshop(Defaults{}, c.now())
	if err != nil {
		return nil, err
	}
	for n, v := range values {
		var i indicator
		if why := w.value(&i, &feed.Draft{Value: v}); why != "" {
			return nil, sdk.Invalid(fmt.Sprintf("/values/%d", n), "%q %s", clip(v, 200), why)
		}
		want[i.kind+" "+i.value] = true
	}
	for _, id := range ids {
		want[id] = true
	}
	return want, nil
}

// criteria are the filters that Azure applies by itself.
func (c *Client) criteria(in *ListInput, want map[string]bool) map[string]any {
	q := map[string]any{"pageSize": 100, "includeDisabled": in.Inactive}
	if !in.AnySource {
		q["sources"] = []string{c.cfg.SourceSystem}
	}
	if in.MinConfidence > 0 {
		q["minConfidence"] = in.MinConfidence
	}
	if in.Keyword != "" {
		q["keywords"] = []string{in.Keyword}
	}
	if len(want) == 1 {
		for id := range want {
			if kind, value, ok := strings.Cut(id, " "); ok && kind != typePattern {
				q["keywords"] = []string{value}
			}
		}
	}
	return q
}

func (c *Client) needARM() error {
	if c.arm != nil {
		return nil
	}
	e := sdk.BadConfig("workspace", "is needed to read and delete indicators of Sentinel: give subscription, resource_group and name")
	return e
}

// eachARM pages through the indicators of the workspace.
func (c *Client) eachARM(ctx context.Context, criteria map[string]any, each func(*armIndicator) error) error {
	if err := c.needARM(); err != nil {
		return err
	}
	read := false // a query changes nothing, though it is a POST
	first := rest.Request{
		Method: http.MethodPost, Path: c.workspacePath() + "/providers/Microsoft.SecurityInsights/threatIntelligence/main/queryIndicators",
		Query: url.Values{"api-version": {armVersion}}, Body: criteria, Write: &read,
	}
	seen := map[string]bool{}
	next := func(resp *rest.Response) (rest.Request, bool, error) {
		var page struct {
			Next string `json:"nextLink"`
		}
		if err := resp.JSON(&page); err != nil || page.Next == "" {
			return rest.Request{}, false, err
		}
		if seen[page.Next] {
			return rest.Request{}, false, sdk.Unavailable("Azure Resource Manager: the list of indicators does not end: a page leads to one before it")
		}
		seen[page.Next] = true
		u, err := url.Parse(page.Next)
		if err != nil {
			return rest.Request{}, false, sdk.Unavailable("Azure Resource Manager: the link to the next page of indicators is no URL")
		}
		for name, v := range u.Query() {
			if strings.EqualFold(name, "$skipToken") && len(v) > 0 { // the documented way on: the same query with the token
				body := map[string]any{"skipToken": v[0]}
				maps.Copy(body, criteria)
				req := first
				req.Body = body
				return req, true, nil
			}
		}
		return rest.Request{Method: http.MethodGet, Path: page.Next}, true, nil
	}
	for resp, err := range c.arm.Pages(ctx, first, next) {
		if err != nil {
			return fmt.Errorf("list indicators of workspace %s: %w", c.cfg.Workspace.Name, err)
		}
		var page struct {
			Value []armIndicator `json:"value"`
		}
		if err := resp.JSON(&page); err != nil {
			return err
		}
		for i := range page.Value {
			if err := each(&page.Value[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
