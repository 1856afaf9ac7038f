package thehive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// UpdateInput says what a case should be like; what is left out stays as it is.
type UpdateInput struct {
	Case         string         `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
	Title        string         `json:"title,omitempty" doc:"Title; cut to 512 characters"`
	Description  string         `json:"description,omitempty" doc:"Markdown"`
	Summary      string         `json:"summary,omitempty" doc:"Markdown; what came of it"`
	SeverityID   *int           `json:"severity_id,omitempty" cw:"min=0,max=99" doc:"OCSF severity, turned into TheHive's low to critical"`
	Status       string         `json:"status,omitempty" cw:"maxlen=64" doc:"A status of an open case; case.close closes"`
	Assignee     string         `json:"assignee,omitempty" cw:"maxlen=128" doc:"Login"`
	TLP          string         `json:"tlp,omitempty" doc:"clear, green, amber, amber+strict or red; unlike case.ensure, this also lowers it"`
	PAP          string         `json:"pap,omitempty" doc:"clear, green, amber or red"`
	Flag         *bool          `json:"flag,omitempty" doc:"Flag it"`
	AddTags      []string       `json:"add_tags,omitempty" doc:"Tags to add"`
	RemoveTags   []string       `json:"remove_tags,omitempty" doc:"Tags to remove"`
	CustomFields map[string]any `json:"custom_fields,omitempty" doc:"Custom fields by name or display name; others stay as they are"`
}

// Changed is a case after a change.
type Changed struct {
	ID      string   `json:"id" doc:"Id of the case"`
	Number  int      `json:"number" doc:"Number of the case"`
	URL     string   `json:"url" doc:"Where people open it"`
	Status  string   `json:"status" doc:"Its status"`
	Stage   string   `json:"stage" doc:"What the status means: New, InProgress or Closed"`
	Closed  bool     `json:"closed" doc:"Nobody works on it any more"`
	Updated bool     `json:"updated" doc:"Something was changed"`
	Changes []string `json:"changes,omitempty" doc:"Names of the properties that were changed"`
	Notes   []string `json:"notes,omitempty" doc:"What could not be done as asked"`
}

func (c *Client) changed(cs *object) Changed {
	return Changed{ID: cs.ID, Number: cs.Number, URL: c.caseURL(cs.ID), Status: cs.Status, Stage: cs.Stage, Closed: cs.closed()}
}

// openCase reads a case that an input names.
func (c *Client) openCase(ctx context.Context, ref string) (*object, *server, error) {
	if !objectID(ref) {
		return nil, nil, sdk.Invalid("/case", "%q is neither an id such as ~41943040 nor a number", cut(ref, 80))
	}
	s, err := c.know(ctx)
	if err != nil {
		return nil, nil, err
	}
	cs, err := c.readCase(ctx, ref)
	if notFound(err) {
		err = fmt.Errorf("%w; it may have been deleted or merged, or belong to another organisation", err)
	}
	return cs, s, err
}

// write applies what differs, if anything does.
func (c *Client) write(ctx context.Context, cs *object, body *inputUpdate, out *Changed, changes []string) error {
	slices.Sort(changes)
	out.Changes, out.Updated = changes, len(changes) > 0
	if !out.Updated || sdk.CallFrom(ctx).DryRun {
		return nil
	}
	return c.patch(ctx, "update case "+cs.ID, kindCase.path+cs.ID, body)
}

// UpdateCase makes a case be as said, and writes only what differs.
func (c *Client) UpdateCase(ctx context.Context, in UpdateInput) (Changed, error) {
	cs, s, err := c.openCase(ctx, in.Case)
	if err != nil {
		return Changed{}, err
	}
	out, body := c.changed(cs), &inputUpdate{}
	var changes []string
	set := func(name string, differs bool, apply func()) {
		if differs {
			changes = append(changes, name)
			apply()
		}
	}
	title := fit(strings.Join(strings.Fields(in.Title), " "), maxTitle, "…")
	set("title", title != "" && title != cs.Title, func() { body.Title = title })
	description := fit(strings.TrimSpace(in.Description), maxMessage, "…")
	set("description", description != "" && description != cs.Description, func() { body.Description = description })
	summary := fit(strings.TrimSpace(in.Summary), maxMessage, "…")
	set("summary", summary != "" && summary != cs.Summary, func() { body.Summary = &summary })
	set("severity_id", in.SeverityID != nil && severity(in.SeverityID) != cs.Severity, func() { body.Severity = severity(in.SeverityID) })
	set("assignee", in.Assignee != "" && in.Assignee != cs.Assignee, func() { body.Assignee = in.Assignee })
	set("flag", in.Flag != nil && *in.Flag != cs.Flag, func() { body.Flag = in.Flag })
	if in.Status != "" && !strings.EqualFold(in.Status, cs.Status) {
		if cs.closed() {
			return Changed{}, sdk.Invalid("/status", "the case is closed; case.reopen opens it again")
		}
		if body.Status, err = c.openStatus(ctx, kindCase, in.Status); err != nil {
			return Changed{}, err
		}
		set("status", true, func() { out.Status = body.Status })
	}
	if in.TLP != "" || in.PAP != "" {
		tlp, papLevel, err := c.markings(cmp.Or(in.TLP, s.tlpOf(cs.TLP).String()), cmp.Or(in.PAP, papOf(cs.PAP).String()))
		if err != nil {
			return Changed{}, err
		}
		set("tlp", s.tlp(tlp) != cs.TLP, func() { body.TLP = new(s.tlp(tlp)) })
		set("pap", pap(papLevel) != cs.PAP, func() { body.PAP = new(pap(papLevel)) })
	}
	add := without(cleanTags(in.AddTags), cs.Tags)
	add = slices.DeleteFunc(add, func(t string) bool { return hasTag(cs.Tags, t) })
	remove := slices.DeleteFunc(slices.Clone(cs.Tags), func(t string) bool { return !hasTag(in.RemoveTags, t) })
	set("tags", len(add)+len(remove) > 0, func() { body.AddTags, body.RemoveTags = add, remove })
	if err := c.setFields(ctx, cs, in.CustomFields, body, &out, &changes); err != nil {
		return Changed{}, err
	}
	return out, c.write(ctx, cs, body, &out, changes)
}

// setFields puts the custom fields that differ into body.
func (c *Client) setFields(ctx context.Context, cs *object, in map[string]any, body *inputUpdate, out *Changed, changes *[]string) error {
	fields, lost, err := c.fields(ctx, in)
	if err != nil {
		return err
	}
	if lost != "" {
		out.Notes = append(out.Notes, strings.Split(lost, "\n")...)
	}
	if differ := differingFields(fields, cs.CustomFields); len(differ) > 0 {
		body.CustomFields, *changes = differ, append(*changes, "custom_fields")
	}
	return nil
}

// CloseInput says how to close a case.
type CloseInput struct {
	Case         string         `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
	Status       string         `json:"status,omitempty" cw:"maxlen=64" doc:"Status that closes it, such as TruePositive; default that of verdict_id"`
	VerdictID    *int           `json:"verdict_id,omitempty" cw:"min=0,max=99" doc:"OCSF verdict, such as incident.verdict_id: true positive, suspicious and security risk become TruePositive, false positive FalsePositive, duplicate Duplicated, unknown and insufficient data Indeterminate, all else Other; a status of the connection's verdicts goes first"`
	Summary      string         `json:"summary,omitempty" doc:"Markdown; added below a summary that is there"`
	Impact       string         `json:"impact,omitempty" enum:"WithImpact,NoImpact,NotApplicable" doc:"Impact; default as it is"`
	CustomFields map[string]any `json:"custom_fields,omitempty" doc:"Custom fields by name or display name, such as those that TheHive wants filled before a case is closed"`
	OpenTasks    string         `json:"open_tasks,omitempty" enum:"cancel,complete,refuse" default:"cancel" doc:"What becomes of tasks that are not done: TheHive cancels them for good, unless they are completed first, or the case is left open"`
	Overwrite    bool           `json:"overwrite,omitempty" doc:"Give a case that is closed already this status; default it stays as whoever closed it left it"`
}

// closings are the statuses that verdicts become; else Other.
var closings = map[int]string{
	ocsf.VerdictUnknown: "Indeterminate", ocsf.VerdictInsufficientData: "Indeterminate", ocsf.VerdictFalsePositive: "FalsePositive",
	ocsf.VerdictTruePositive: "TruePositive", ocsf.VerdictSuspicious: "TruePositive", ocsf.VerdictSecurityRisk: "TruePositive",
	ocsf.VerdictDuplicate: "Duplicated",
}

// closingStatus picks the status that an input means, out of those that TheHive has.
func (c *Client) closingStatus(ctx context.Context, in *CloseInput) (string, error) {
	field, want := "/status", in.Status
	if want == "" {
		if in.VerdictID == nil {
			return "", sdk.Invalid("/status", "give status or verdict_id: TheHive closes no case without saying as what")
		}
		field, want = "/verdict_id", cmp.Or(closings[*in.VerdictID], "Other")
	}
	all, err := c.statuses(ctx, kindCase)
	if err != nil {
		return "", err
	}
	i := -1
	if in.Status == "" { // a status that the connection gives this very verdict goes first
		i = slices.IndexFunc(all, func(s status) bool {
			id, ok := c.verdicts[plainName(s.Value)]
			return ok && id == *in.VerdictID && s.Stage == stageClosed
		})
	}
	if i < 0 {
		i = slices.IndexFunc(all, func(s status) bool { return plainName(s.Value) == plainName(want) })
	}
	closing := names(all, func(s status) bool { return s.Stage == stageClosed })
	switch {
	case i < 0:
		return "", sdk.Invalid(field, "there is no status %q; a case can be closed as %s", cut(want, 64), closing)
	case all[i].Stage != stageClosed:
		return "", sdk.Invalid(field, "status %q does not close a case; a case can be closed as %s", all[i].Value, closing)
	}
	return all[i].Value, nil
}

// plainName compares names of statuses by their letters: "True positive" is TruePositive.
func plainName(s string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(s))
}

// CloseCase closes a case.
func (c *Client) CloseCase(ctx context.Context, in CloseInput) (Changed, error) {
	cs, _, err := c.openCase(ctx, in.Case)
	if err != nil {
		return Changed{}, err
	}
	status, err := c.closingStatus(ctx, &in)
	if err != nil {
		return Changed{}, err
	}
	out, body := c.changed(cs), &inputUpdate{}
	if cs.closed() && cs.Status != status && !in.Overwrite {
		out.Notes = append(out.Notes, "it was closed already, as "+cs.Status)
		return out, nil
	}
	var changes []string
	if cs.Status != status {
		body.Status, changes = status, append(changes, "status")
	}
	if in.Impact != "" && in.Impact != cs.ImpactStatus {
		body.ImpactStatus, changes = in.Impact, append(changes, "impact")
	}
	if text := joined(cs.Summary, in.Summary); text != cs.Summary {
		body.Summary, changes = &text, append(changes, "summary")
	}
	if err := c.setFields(ctx, cs, in.CustomFields, body, &out, &changes); err != nil {
		return Changed{}, err
	}
	if !cs.closed() {
		if err := c.settleTasks(ctx, cs, in.OpenTasks); err != nil {
			return Changed{}, err
		}
	}
	if err := c.write(ctx, cs, body, &out, changes); err != nil {
		if badRequest(err) {
			return Changed{}, c.whyNotClosed(ctx, cs, body, err)
		}
		return Changed{}, err
	}
	out.Status, out.Stage, out.Closed = status, stageClosed, true
	return out, nil
}

// joined adds a text below another unless that has it.
func joined(there, more string) string {
	more = strings.TrimSpace(more)
	switch {
	case more == "" || strings.Contains(there, more):
		return there
	case strings.TrimSpace(there) == "":
		return fit(more, maxMessage, "…")
	}
	return fit(strings.TrimSpace(there)+"\n\n"+more, maxMessage, "…")
}

// settleTasks does with tasks that are not done what the input says. Left alone, TheHive cancels them with the case.
func (c *Client) settleTasks(ctx context.Context, cs *object, policy string) error {
	if policy == "cancel" || policy == "" {
		return nil
	}
	tasks, err := list[taskObject](ctx, c, kindCase, cs.ID, "tasks")
	if err != nil {
		return err
	}
	tasks = slices.DeleteFunc(tasks, func(t taskObject) bool { return !t.pending() })
	if policy == "refuse" && len(tasks) > 0 {
		var titles []string
		for i := range tasks[:min(len(tasks), 10)] {
			titles = append(titles, cut(tasks[i].Title, 80))
		}
		return sdk.Invalid("/open_tasks", "the case has %d tasks that are not done: %s", len(tasks), strings.Join(titles, "; "))
	}
	if sdk.CallFrom(ctx).DryRun {
		return nil
	}
	for i := range tasks {
		if err := c.patch(ctx, "complete task "+tasks[i].ID, "/api/v1/task/"+tasks[i].ID, map[string]string{"status": "Completed"}); err != nil {
			return err
		}
	}
	return nil
}

// whyNotClosed names the mandatory custom fields that are empty, which is why TheHive refuses to close a case as a rule.
func (c *Client) whyNotClosed(ctx context.Context, cs *object, body *inputUpdate, refusal error) error {
	defs, err := c.definitions(ctx)
	if err != nil {
		return refusal
	}
	out := sdk.Invalid("", "%s", failed(refusal).Message)
	for i := range defs {
		d := &defs[i]
		_, given := body.CustomFields[d.Name]
		filled := slices.ContainsFunc(cs.CustomFields, func(f fieldValue) bool {
			return f.Name == d.Name && len(f.Value) > 0 && string(f.Value) != "null" && string(f.Value) != `""`
		})
		if d.Mandatory && !given && !filled {
			out.Violations = append(out.Violations, sdk.Violation{
				Field: "/custom_fields/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(d.Name), Description: "is mandatory and empty",
			})
		}
	}
	if len(out.Violations) == 0 {
		return refusal
	}
	out.HTTPStatus, out.RequestID, out.Err = failed(refusal).HTTPStatus, failed(refusal).RequestID, refusal
	return out
}

// ReopenInput names a case that is to be open.
type ReopenInput struct {
	Case   string `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
	Status string `json:"status,omitempty" cw:"maxlen=64" doc:"Status to give it; default InProgress, or the first of that stage"`
}

// ReopenCase opens a closed case again, and leaves an open one as it is.
func (c *Client) ReopenCase(ctx context.Context, in ReopenInput) (Changed, error) {
	cs, _, err := c.openCase(ctx, in.Case)
	if err != nil {
		return Changed{}, err
	}
	out := c.changed(cs)
	if !cs.closed() {
		return out, nil
	}
	next, err := c.openStatus(ctx, kindCase, in.Status)
	if err != nil {
		return Changed{}, err
	}
	if err := c.write(ctx, cs, &inputUpdate{Status: next}, &out, []string{"status"}); err != nil {
		return Changed{}, err
	}
	all, err := c.statuses(ctx, kindCase)
	if err != nil {
		return Changed{}, err
	}
	if i := slices.IndexFunc(all, func(s status) bool { return s.Value == next }); i >= 0 {
		out.Stage = all[i].Stage
	}
	out.Status, out.Closed = next, false
	return out, nil
}
