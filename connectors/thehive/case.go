package thehive

import (
	"context"
	"encoding/json"
	"time"

	"github.com/casewire/casewire/sdk"
)

// GetCaseInput names a case.
type GetCaseInput struct {
	Case string `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
}

// Case is a case as it is now.
type Case struct {
	ID          string         `json:"id" doc:"Id of the case"`
	Number      int            `json:"number" doc:"Number that people use"`
	URL         string         `json:"url" doc:"Where people open it"`
	Title       string         `json:"title" doc:"Title"`
	Description string         `json:"description,omitempty" doc:"Markdown"`
	Severity    int            `json:"severity" doc:"1 low to 4 critical"`
	TLP         string         `json:"tlp" doc:"clear, green, amber, amber+strict or red"`
	PAP         string         `json:"pap" doc:"clear, green, amber or red"`
	Tags        []string       `json:"tags,omitempty" doc:"Tags"`
	Status      string         `json:"status" doc:"Name of the status, which an administrator can change"`
	Stage       string         `json:"stage" doc:"What the status means: New, InProgress or Closed"`
	Closed      bool           `json:"closed" doc:"Nobody works on it any more"`
	VerdictID   int            `json:"verdict_id" doc:"OCSF verdict of the status that it was closed with; 0 while it is open"`
	Impact      string         `json:"impact,omitempty" doc:"WithImpact, NoImpact or NotApplicable once closed"`
	Summary     string         `json:"summary,omitempty" doc:"What came of it"`
	Assignee    string         `json:"assignee,omitempty" doc:"Login"`
	Flag        bool           `json:"flag" doc:"It is flagged"`
	Origin      string         `json:"origin,omitempty" doc:"What it was made for: alert:<id> or incident:<id>"`
	Fields      map[string]any `json:"custom_fields,omitempty" doc:"Custom fields by name"`
	Started     *time.Time     `json:"started,omitempty" doc:"When it was begun"`
	Ended       *time.Time     `json:"ended,omitempty" doc:"When it was closed"`
	Created     *time.Time     `json:"created,omitempty" doc:"When it was made"`
	Updated     *time.Time     `json:"updated,omitempty" doc:"When it was last changed"`
}

// GetCase reads one case.
func (c *Client) GetCase(ctx context.Context, in GetCaseInput) (Case, error) {
	if !objectID(in.Case) {
		return Case{}, sdk.Invalid("/case", "%q is neither an id such as ~41943040 nor a number", in.Case)
	}
	s, err := c.know(ctx)
	if err != nil {
		return Case{}, err
	}
	cs, err := c.readCase(ctx, in.Case)
	if err != nil {
		return Case{}, err
	}
	return c.describe(s, cs), nil
}

// describe is what a case looks like to a flow.
func (c *Client) describe(s *server, cs *object) Case {
	verdictID, _ := c.verdict(cs)
	return Case{
		ID: cs.ID, Number: cs.Number, URL: c.caseURL(cs.ID), Title: cs.Title, Description: cs.Description, Severity: cs.Severity,
		TLP: s.tlpOf(cs.TLP).String(), PAP: papOf(cs.PAP).String(), Tags: cs.Tags, Status: cs.Status, Stage: cs.Stage, Closed: cs.closed(),
		VerdictID: verdictID, Impact: cs.ImpactStatus, Summary: cs.Summary, Assignee: cs.Assignee, Flag: cs.Flag, Origin: cs.origin(), Fields: cs.fields(),
		Started: milli(cs.StartDate), Ended: milli(cs.EndDate), Created: milli(cs.CreatedAt), Updated: milli(cs.UpdatedAt),
	}
}

// origin is what it was made for, if it says; of a merged one the first.
func (o *object) origin() string {
	if all := originsOf(o.Tags); len(all) > 0 {
		return all[0]
	}
	return ""
}

// fields are the custom fields that have a value.
func (o *object) fields() map[string]any {
	out := map[string]any{}
	for _, f := range o.CustomFields {
		var v any
		if json.Unmarshal(f.Value, &v) == nil && v != nil {
			out[f.Name] = v
		}
	}
	return out
}

func milli(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}
