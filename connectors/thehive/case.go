package thehive

import (
	"context"
	"time"

	"github.com/casewire/casewire/sdk"
)

// GetCaseInput names a case.
type GetCaseInput struct {
	Case string `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
}

// Case is a case as it is now.
type Case struct {
	ID          string     `json:"id" doc:"Id of the case"`
	Number      int        `json:"number" doc:"Number that people use"`
	URL         string     `json:"url" doc:"Where people open it"`
	Title       string     `json:"title"`
	Description string     `json:"description,omitempty" doc:"Markdown"`
	Severity    int        `json:"severity" doc:"1 low to 4 critical"`
	TLP         string     `json:"tlp" doc:"clear, green, amber, amber+strict or red"`
	PAP         string     `json:"pap" doc:"clear, green, amber or red"`
	Tags        []string   `json:"tags,omitempty"`
	Status      string     `json:"status" doc:"Name of the status, which an administrator can change"`
	Stage       string     `json:"stage" doc:"What the status means: New, InProgress or Closed"`
	Impact      string     `json:"impact,omitempty" doc:"WithImpact, NoImpact or NotApplicable once closed"`
	Summary     string     `json:"summary,omitempty"`
	Assignee    string     `json:"assignee,omitempty" doc:"Login"`
	Started     *time.Time `json:"started,omitempty"`
	Ended       *time.Time `json:"ended,omitempty"`
	Created     *time.Time `json:"created,omitempty"`
	Updated     *time.Time `json:"updated,omitempty"`
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
	return Case{
		ID: cs.ID, Number: cs.Number, URL: c.caseURL(cs.ID), Title: cs.Title, Description: cs.Description, Severity: cs.Severity,
		TLP: s.tlpOf(cs.TLP).String(), PAP: papOf(cs.PAP).String(), Tags: cs.Tags, Status: cs.Status, Stage: cs.Stage,
		Impact: cs.ImpactStatus, Summary: cs.Summary, Assignee: cs.Assignee,
		Started: milli(cs.StartDate), Ended: milli(cs.EndDate), Created: milli(cs.CreatedAt), Updated: milli(cs.UpdatedAt),
	}, nil
}

func milli(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}
