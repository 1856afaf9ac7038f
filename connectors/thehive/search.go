package thehive

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// SearchInput says which cases to list. Conditions are joined by and.
type SearchInput struct {
	Status        []string       `json:"status,omitempty" doc:"Any of these statuses"`
	Stage         []string       `json:"stage,omitempty" enum:"New,InProgress,Closed" doc:"Any of these stages"`
	Tags          []string       `json:"tags,omitempty" doc:"All of these tags"`
	Assignee      string         `json:"assignee,omitempty" doc:"Login"`
	MinSeverityID *int           `json:"min_severity_id,omitempty" cw:"min=0,max=99" doc:"At least this OCSF severity"`
	Title         string         `json:"title,omitempty" doc:"Words of the title; * stands for anything"`
	CreatedAfter  time.Time      `json:"created_after,omitzero" doc:"Made at or after this time"`
	UpdatedAfter  time.Time      `json:"updated_after,omitzero" doc:"Changed at or after this time; cases that were never changed are not among them"`
	Observable    string         `json:"observable,omitempty" doc:"Cases that have this value as an observable"`
	Filter        map[string]any `json:"filter,omitempty" doc:"A filter of TheHive's query API as it is" example:"{\"_in\":{\"_field\":\"number\",\"_values\":[7,8]}}"`
	Sort          string         `json:"sort,omitempty" enum:"_createdAt,_updatedAt,number,severity,title,startDate,endDate" default:"_createdAt" doc:"Order"`
	Order         string         `json:"order,omitempty" enum:"asc,desc" default:"desc" doc:"Direction of the order"`
	Limit         int            `json:"limit,omitempty" cw:"min=1,max=100000" default:"100" doc:"At most so many"`
}

// Searched sums a search up.
type Searched struct {
	Count int  `json:"count" doc:"Cases returned"`
	More  bool `json:"more" doc:"There are more than the limit"`
}

// SearchCases lists cases.
func (c *Client) SearchCases(ctx context.Context, in SearchInput, emit func(Case) error) (Searched, error) {
	s, err := c.know(ctx)
	if err != nil {
		return Searched{}, err
	}
	chain := []any{map[string]any{"_name": "listCase"}}
	if v := strings.TrimSpace(in.Observable); v != "" {
		// From the observable to its cases: the other way round TheHive has no filter.
		chain = []any{
			map[string]any{"_name": "listObservable"},
			map[string]any{"_name": "filter", "_eq": map[string]any{"_field": "data", "_value": v}},
			map[string]any{"_name": "case"},
		}
	}
	if all := in.filters(); len(all) > 0 {
		chain = append(chain, map[string]any{"_name": "filter", "_and": all})
	}
	chain = append(chain, map[string]any{"_name": "sort", "_fields": []any{map[string]any{in.Sort: in.Order}, map[string]any{"number": in.Order}}})
	out, seen := Searched{}, map[string]bool{}
	for from := 0; ; {
		size := min(pageSize, in.Limit-out.Count+1)
		var page []object
		err := c.query(ctx, "search cases", append(slices.Clip(chain), map[string]any{"_name": "page", "from": from, "to": from + size}), &page)
		if err != nil {
			return out, err
		}
		for i := range page {
			switch {
			case !objectID(page[i].ID) || seen[page[i].ID]: // one that has moved, or that has the observable twice
				continue
			case out.Count == in.Limit:
				out.More = true
				return out, nil
			}
			seen[page[i].ID] = true
			if err := emit(c.describe(s, &page[i])); err != nil {
				return out, err
			}
			out.Count++
		}
		if from += len(page); len(page) < size {
			return out, nil
		}
		sdk.Progress(ctx, uint64(out.Count), 0, strconv.Itoa(out.Count)+" cases")
	}
}

// filters are the conditions in the words of the query API.
func (in *SearchInput) filters() []any {
	var all []any
	field := func(op, name string, value any) {
		all = append(all, map[string]any{op: map[string]any{"_field": name, "_value": value}})
	}
	any1 := func(name string, values []string) {
		if len(values) > 0 {
			all = append(all, map[string]any{"_in": map[string]any{"_field": name, "_values": values}})
		}
	}
	any1("status", in.Status)
	any1("stage", in.Stage)
	for _, t := range in.Tags {
		field("_eq", "tags", t)
	}
	if in.Assignee != "" {
		field("_eq", "assignee", in.Assignee)
	}
	if in.MinSeverityID != nil {
		field("_gte", "severity", severity(in.MinSeverityID))
	}
	if in.Title != "" {
		field("_like", "title", in.Title)
	}
	if !in.CreatedAfter.IsZero() {
		field("_gte", "_createdAt", in.CreatedAfter.UnixMilli())
	}
	if !in.UpdatedAfter.IsZero() {
		field("_gte", "_updatedAt", in.UpdatedAfter.UnixMilli())
	}
	if len(in.Filter) > 0 {
		all = append(all, in.Filter)
	}
	return all
}

// GetAlertInput names an alert.
type GetAlertInput struct {
	Alert string `json:"alert,omitempty" doc:"Id of the alert" pattern:"^(~?[0-9]+)?$"`
	Key   string `json:"key,omitempty" doc:"Key that alert.ensure or case.ensure made it with, instead of an id"`
}

// Alert is an alert as it is now.
type Alert struct {
	ID          string         `json:"id" doc:"Id of the alert"`
	URL         string         `json:"url" doc:"Where people open it"`
	Type        string         `json:"type" doc:"Type; with source and source_ref what makes it unique"`
	Source      string         `json:"source" doc:"Source"`
	SourceRef   string         `json:"source_ref" doc:"Reference in the source"`
	Title       string         `json:"title" doc:"Title"`
	Description string         `json:"description,omitempty" doc:"Markdown"`
	Link        string         `json:"link,omitempty" doc:"Address at the source"`
	Severity    int            `json:"severity" doc:"1 low to 4 critical"`
	TLP         string         `json:"tlp" doc:"clear, green, amber, amber+strict or red"`
	PAP         string         `json:"pap" doc:"clear, green, amber or red"`
	Tags        []string       `json:"tags,omitempty" doc:"Tags"`
	Status      string         `json:"status" doc:"Name of the status, which an administrator can change"`
	Stage       string         `json:"stage" doc:"What the status means: New, InProgress, Imported or Closed"`
	Closed      bool           `json:"closed" doc:"Nobody works on it any more"`
	CaseID      string         `json:"case_id,omitempty" doc:"Id of the case that it belongs to"`
	Assignee    string         `json:"assignee,omitempty" doc:"Login"`
	Origin      string         `json:"origin,omitempty" doc:"What it was made for"`
	Fields      map[string]any `json:"custom_fields,omitempty" doc:"Custom fields by name"`
	Date        *time.Time     `json:"date,omitempty" doc:"When it happened"`
	Created     *time.Time     `json:"created,omitempty" doc:"When it was made"`
	Updated     *time.Time     `json:"updated,omitempty" doc:"When it was last changed"`
}

// GetAlert reads one alert.
func (c *Client) GetAlert(ctx context.Context, in GetAlertInput) (Alert, error) {
	if (in.Alert == "") == (in.Key == "") {
		return Alert{}, sdk.Invalid("/alert", "give either alert or key")
	}
	s, err := c.know(ctx)
	if err != nil {
		return Alert{}, err
	}
	var a *object
	if in.Key != "" {
		if a, err = c.findAlert(ctx, caseRef(in.Key)); err == nil && a == nil {
			err = sdk.NotFound("there is no alert %s;%s;%s, which key %q makes", c.alertType, c.source, caseRef(in.Key), cut(in.Key, 200))
		}
	} else if !objectID(in.Alert) {
		return Alert{}, sdk.Invalid("/alert", "%q is no id such as ~41943040", cut(in.Alert, 80))
	} else {
		a, err = c.readAlert(ctx, in.Alert)
	}
	if err != nil {
		return Alert{}, err
	}
	return Alert{
		ID: a.ID, URL: c.alertURL(a.ID), Type: a.Type, Source: a.Source, SourceRef: a.SourceRef, Title: a.Title, Description: a.Description,
		Link: a.ExternalLink, Severity: a.Severity, TLP: s.tlpOf(a.TLP).String(), PAP: papOf(a.PAP).String(), Tags: a.Tags, Status: a.Status,
		Stage: a.Stage, Closed: a.closed(), CaseID: a.CaseID, Assignee: a.Assignee, Origin: a.origin(), Fields: a.fields(),
		Date: milli(a.Date), Created: milli(a.CreatedAt), Updated: milli(a.UpdatedAt),
	}, nil
}
