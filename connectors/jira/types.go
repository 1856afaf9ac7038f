package jira

import (
	"encoding/json"
	"time"
)

// propertyKey names the issue property that proves whose label it is.
const propertyKey = "casewire.correlation"

// property is its value. Jira keeps it with the issue, so that any host can bring the issue up to date.
type property struct {
	V        int    `json:"v"`
	Ref      string `json:"ref"`
	Key      string `json:"key,omitempty"`
	Hash     string `json:"hash,omitempty"`
	Severity *int   `json:"severity_id,omitempty"`
	Priority string `json:"priority,omitempty"`
	Origin   string `json:"origin,omitempty"`  // what the case was made for, such as alert:ID
	Comment  string `json:"comment,omitempty"` // digest of the comment that was added last

	Refs []string `json:"refs,omitempty"` // of the others, when several wrote a comment together
}

type entityProperty struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

// nameOrID is a priority, issue type or project as a reference.
type nameOrID struct {
	ID   string `json:"id,omitempty"`
	Key  string `json:"key,omitempty"`
	Name string `json:"name,omitempty"`
}

func named(s string) *nameOrID {
	switch {
	case s == "":
		return nil
	case digits(s):
		return &nameOrID{ID: s}
	}
	return &nameOrID{Name: s}
}

func keyed(s string) *nameOrID {
	if digits(s) {
		return &nameOrID{ID: s}
	}
	return &nameOrID{Key: s}
}

// issueFields are the fields that the connector itself writes.
type issueFields struct {
	Project     *nameOrID       `json:"project,omitempty"`
	IssueType   *nameOrID       `json:"issuetype,omitempty"`
	Summary     string          `json:"summary,omitempty"`
	Description json.RawMessage `json:"description,omitempty"` // rendered
	Priority    *nameOrID       `json:"priority,omitempty"`
	Labels      []string        `json:"labels,omitempty"`
}

// with adds fields of the caller's choice.
func (f *issueFields) with(extra map[string]json.RawMessage) any {
	if len(extra) == 0 {
		return f
	}
	all := make(map[string]any, len(extra)+6)
	for k, v := range extra {
		all[k] = v
	}
	put := func(name string, v any, given bool) {
		if given {
			all[name] = v
		}
	}
	put("project", f.Project, f.Project != nil)
	put("issuetype", f.IssueType, f.IssueType != nil)
	put("summary", f.Summary, f.Summary != "")
	put("description", f.Description, f.Description != nil)
	put("priority", f.Priority, f.Priority != nil)
	put("labels", f.Labels, len(f.Labels) > 0)
	return all
}

// issueUpdate is the body of a create and of an edit.
type issueUpdate struct {
	Fields     any                         `json:"fields,omitempty"`
	Update     map[string][]map[string]any `json:"update,omitempty"`
	Properties []entityProperty            `json:"properties,omitempty"`
}

// createdIssue answers a create.
type createdIssue struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

// issue is what a search and a get return. Fields stays raw: its values depend on the site.
type issue struct {
	ID         string                     `json:"id"`
	Key        string                     `json:"key"`
	Fields     map[string]json.RawMessage `json:"fields"`
	Properties map[string]json.RawMessage `json:"properties"`
}

// mark returns the issue's correlation property, if it has one that can be read.
func (i *issue) mark() (property, bool) {
	var p property
	raw, ok := i.Properties[propertyKey]
	return p, ok && json.Unmarshal(raw, &p) == nil && p.Ref != ""
}

// field decodes a field, leaving v as it is if the field is absent, null or of another type.
func (i *issue) field(name string, v any) {
	if raw, ok := i.Fields[name]; ok {
		_ = json.Unmarshal(raw, v) // what a site keeps in a field is its own business
	}
}

func (i *issue) name(field string) string {
	var v struct {
		Name        string `json:"name"`
		DisplayName string `json:"displayName"`
	}
	i.field(field, &v)
	if v.Name == "" || v.DisplayName != "" {
		return v.DisplayName
	}
	return v.Name
}

func (i *issue) text(field string) string {
	var s string
	i.field(field, &s)
	return s
}

func (i *issue) labels() []string {
	var l []string
	i.field("labels", &l)
	return l
}

// categoryDone is the category of statuses in which an issue is closed.
const categoryDone = "done"

// category is new, indeterminate or done: what a status means, whatever it is called.
func (i *issue) category() string {
	var s struct {
		StatusCategory struct {
			Key string `json:"key"`
		} `json:"statusCategory"`
	}
	i.field("status", &s)
	return s.StatusCategory.Key
}

// jiraTime is how Jira writes a time: with a zone, but without its colon.
const jiraTime = "2006-01-02T15:04:05.000-0700"

func (i *issue) time(field string) time.Time { return parseTime(i.text(field)) }

func parseTime(s string) time.Time {
	for _, layout := range []string{jiraTime, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
