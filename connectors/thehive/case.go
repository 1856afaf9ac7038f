package thehive

import (
	"context"
	"slices"
	"strings"
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

// CommentInput is a comment for a case.
type CommentInput struct {
	Case string `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
	Text string `json:"text" cw:"required" doc:"Markdown"`
}

// Commented is the comment.
type Commented struct {
	ID          string `json:"id" doc:"Id of the comment"`
	Case        string `json:"case" doc:"The case, as it was given"`
	Created     bool   `json:"created" doc:"This key made the comment"`
	Updated     bool   `json:"updated" doc:"The comment was changed"`
	ContentHash string `json:"content_hash" doc:"Over the text as last written"`
}

type comment struct {
	ID      string `json:"_id"`
	Message string `json:"message"`
}

// Comment adds a comment once per key. It ends with the mark [cw-<ref>], by which it is found again after an attempt
// whose answer was lost. The same key with another text changes the comment.
func (c *Client) Comment(ctx context.Context, in CommentInput) (Commented, error) {
	call := sdk.CallFrom(ctx)
	if call.Key == "" {
		return Commented{}, sdk.Invalid("", "case.comment needs a key: the same key never comments twice")
	}
	if !objectID(in.Case) {
		return Commented{}, sdk.Invalid("/case", "%q is neither an id such as ~41943040 nor a number", in.Case)
	}
	text := strings.TrimSpace(in.Text)
	if text == "" {
		return Commented{}, sdk.Invalid("/text", "is empty")
	}
	mark := "[" + markPrefix + caseRef(call.Key) + "]"
	text = fit(text, maxMessage-len(mark)-2, "…")
	out := Commented{Case: in.Case, ContentHash: digest(text)}
	prior, known, err := priorOutput[Commented](call)
	if err != nil {
		return Commented{}, err
	}
	body := map[string]string{"message": text + "\n\n" + mark}
	switch {
	case call.Resolve || !known && repeated(call):
		all, err := list[comment](ctx, c, kindCase, in.Case, "comments")
		if err != nil {
			return Commented{}, err
		}
		i := slices.IndexFunc(all, func(cm comment) bool { return strings.Contains(cm.Message, mark) })
		if i >= 0 {
			out.ID, out.Created = all[i].ID, true
			return out, nil
		}
		if call.Resolve {
			return Commented{}, sdk.Unresolved("no comment on case %s carries the mark %s", in.Case, mark)
		}
	case known && objectID(prior.ID):
		if prior.Case != in.Case {
			return Commented{}, sdk.Invalid("/case", "the comment with this key is on case %s, not on %s; use a key of its own for each case", prior.Case, in.Case)
		}
		out.ID, out.Updated = prior.ID, prior.ContentHash != out.ContentHash
		if out.Updated && !call.DryRun {
			if err := c.patch(ctx, "change comment on case "+in.Case, "/api/v1/comment/"+prior.ID, body); err != nil {
				return Commented{}, err
			}
		}
		return out, nil
	}
	out.Created = true
	if call.DryRun {
		return out, nil
	}
	var made comment
	if err := c.create(ctx, "comment on case "+in.Case, "/api/v1/case/"+in.Case+"/comment", body, &made); err != nil {
		return Commented{}, err
	}
	if !objectID(made.ID) {
		return Commented{}, sdk.Uncertain("comment on case %s: TheHive's answer names no comment", in.Case)
	}
	out.ID = made.ID
	return out, nil
}

// AddInput is observables for a case or an alert.
type AddInput struct {
	Case        string       `json:"case,omitempty" doc:"Id or number of the case" pattern:"^(~?[0-9]+)?$"`
	Alert       string       `json:"alert,omitempty" doc:"Id of the alert, instead of a case" pattern:"^(~?[0-9]+)?$"`
	TLP         string       `json:"tlp,omitempty" doc:"clear, green, amber, amber+strict or red; default the connection's"`
	PAP         string       `json:"pap,omitempty" doc:"clear, green, amber or red; default the connection's"`
	Observables []Observable `json:"observables" cw:"required" doc:"Values worth looking up"`
}

// Added counts what became of the observables.
type Added struct {
	Added    int        `json:"added" doc:"Observables that are new"`
	Existing int        `json:"existing" doc:"Observables that were there"`
	Rejected []Rejected `json:"rejected,omitempty" doc:"Observables that TheHive refused"`
}

// AddObservables adds to a case or alert the observables that it does not have yet.
func (c *Client) AddObservables(ctx context.Context, in AddInput) (Added, error) {
	k, id := kindCase, in.Case
	if in.Alert != "" {
		k, id = kindAlert, in.Alert
	}
	if (in.Case == "") == (in.Alert == "") {
		return Added{}, sdk.Invalid("/case", "give either case or alert")
	}
	if !objectID(id) {
		return Added{}, sdk.Invalid("/"+k.noun, "%q is no id such as ~41943040", id)
	}
	w, err := c.want(ctx, "", &EnsureInput{Title: "-", TLP: in.TLP, PAP: in.PAP, Observables: in.Observables})
	if err != nil {
		return Added{}, err
	}
	missing, err := c.missing(ctx, k, id, w.obs)
	if err != nil {
		return Added{}, err
	}
	out := Added{Existing: len(w.obs) - len(missing)}
	if sdk.CallFrom(ctx).DryRun {
		out.Added = len(missing)
		return out, nil
	}
	out.Added, out.Rejected, err = c.addNew(ctx, k, id, missing)
	out.Existing = len(w.obs) - out.Added - len(out.Rejected)
	return out, err
}
