package thehive

import (
	"context"
	"time"

	"github.com/casewire/casewire/sdk"
)

// EnsureInput says what the alert or case should look like.
type EnsureInput struct {
	Title       string       `json:"title" cw:"required" doc:"Title; cut to 512 characters"`
	Description string       `json:"description,omitempty" doc:"Markdown; default the title"`
	SeverityID  *int         `json:"severity_id,omitempty" doc:"OCSF severity, turned into TheHive's low to critical" cw:"min=0,max=99"`
	Tags        []string     `json:"tags,omitempty" doc:"Tags; casewire is always added"`
	TLP         string       `json:"tlp,omitempty" doc:"clear, green, amber, amber+strict or red; default the connection's"`
	PAP         string       `json:"pap,omitempty" doc:"clear, green, amber or red; default the connection's"`
	URL         string       `json:"url,omitempty" doc:"Link to the alert at its source"`
	Date        time.Time    `json:"date,omitzero" doc:"When it happened; default now"`
	Observables []Observable `json:"observables,omitempty" doc:"Values worth looking up; alert.observables as they are, or one by one. Those that are new are added to what is there, and a comment says which"`
	Procedures  []string     `json:"procedures,omitempty" doc:"ATT&CK techniques such as T1059.001; one that TheHive does not know becomes a tag"`

	CustomFields map[string]any `json:"custom_fields,omitempty" doc:"Custom fields by name or display name. One that TheHive does not have, or whose value does not fit its type, is told in the description instead"`

	Origin          string `json:"origin,omitempty" doc:"What it is made for, alert:<id> or incident:<id>: kept as a tag, and given back in the events of trigger cases" cw:"maxlen=200"`
	OnExisting      string `json:"on_existing,omitempty" doc:"What to do with one that is there: update changes what differs (a closed one stays closed); comment only adds comment_on_update; reopen is update that opens a closed one again; ignore touches nothing" enum:"update,comment,reopen,ignore" default:"update"`
	Create          bool   `json:"create" doc:"Make what is not there. Without it, a case or alert that is not there gets an output with an empty id" default:"true"`
	CommentOnUpdate string `json:"comment_on_update,omitempty" doc:"Markdown comment to add when one that was there is changed"`

	CaseTemplate string `json:"case_template,omitempty" doc:"Template of a new case; default the connection's" cw:"maxlen=128"`
	Assignee     string `json:"assignee,omitempty" doc:"Login of whom a new case is given to; one whom TheHive does not know leaves it to the connection's user" cw:"maxlen=128"`
	Tasks        []Task `json:"tasks,omitempty" doc:"Tasks of a new case, besides those of its template"`
}

// Ensured is the alert or the case.
type Ensured struct {
	ID      string `json:"id" doc:"Id of the case, or of the alert for alert.ensure. Empty: it is not there, and was not to be made"`
	Number  int    `json:"number,omitempty" doc:"Number of the case"`
	URL     string `json:"url" doc:"Where people open it"`
	AlertID string `json:"alert_id" doc:"Id of the alert"`
	CaseID  string `json:"case_id,omitempty" doc:"Id of the case that the alert belongs to, if any"`
	Created bool   `json:"created" doc:"This key made it"`
	Updated bool   `json:"updated" doc:"It was changed, or commented on"`
	Status  string `json:"status,omitempty" doc:"Its status when last read"`
	Closed  bool   `json:"closed" doc:"Nobody works on it any more"`

	Title           string     `json:"title,omitempty" doc:"Title as last written, without what a template puts before it"`
	ContentHash     string     `json:"content_hash" doc:"Over title and description as last written"`
	Severity        int        `json:"severity,omitempty" doc:"TheHive's severity as last written, 1 to 4"`
	TLP             string     `json:"tlp,omitempty" doc:"Marking as last written"`
	PAP             string     `json:"pap,omitempty" doc:"Marking as last written"`
	Tags            []string   `json:"tags,omitempty" doc:"Tags written so far"`
	ObservablesHash string     `json:"observables_hash,omitempty" doc:"Over the observables given last"`
	Procedures      []string   `json:"procedures,omitempty" doc:"Techniques given so far"`
	FieldsHash      string     `json:"fields_hash,omitempty" doc:"Over the custom fields given last"`
	CommentMark     string     `json:"comment_mark,omitempty" doc:"Mark of the last comment that this action wrote"`
	Rejected        []Rejected `json:"rejected,omitempty" doc:"Observables that were not taken"`
	Notes           []string   `json:"notes,omitempty" doc:"What could not be done as asked, and did not cost the case"`
}

// Rejected is an observable that TheHive refused, and why. It costs nothing else.
type Rejected struct {
	DataType string `json:"dataType" doc:"Type as it was given"`
	Data     string `json:"data" doc:"Beginning of the value"`
	Reason   string `json:"reason" doc:"Why it was not taken"`
}

// EnsureAlert makes sure that the call's key has exactly one alert.
func (c *Client) EnsureAlert(ctx context.Context, in EnsureInput) (Ensured, error) {
	call := sdk.CallFrom(ctx)
	w, prior, known, err := c.begin(ctx, call, &in)
	if err != nil {
		return Ensured{}, err
	}
	if call.Resolve {
		return c.resolve(ctx, w, false)
	}
	if known && objectID(prior.AlertID) {
		prior.ID = prior.AlertID
		a, err := c.readAlert(ctx, prior.AlertID)
		if notFound(err) {
			return Ensured{}, gone(err, "alert", prior.AlertID)
		}
		if err != nil {
			return Ensured{}, err
		}
		prior.CaseID = a.CaseID
		return c.existing(ctx, kindAlert, w, a, prior, known)
	}
	if !w.create {
		return c.find(ctx, w, false)
	}
	if call.DryRun {
		return c.rehearse(ctx, w, false)
	}
	a, made, out, err := c.ensureAlert(ctx, w, repeated(call))
	if err != nil {
		return Ensured{}, err
	}
	out = c.describeAlert(w, a, out)
	if made {
		return out.fresh(w), nil
	}
	return c.adopted(ctx, kindAlert, w, a, out)
}

// EnsureCase makes sure that the call's key has exactly one case, by way of its alert.
func (c *Client) EnsureCase(ctx context.Context, in EnsureInput) (Ensured, error) {
	call := sdk.CallFrom(ctx)
	w, prior, known, err := c.begin(ctx, call, &in)
	if err != nil {
		return Ensured{}, err
	}
	if call.Resolve {
		return c.resolve(ctx, w, true)
	}
	if known && objectID(prior.ID) && prior.ID != prior.AlertID {
		return c.knownCase(ctx, w, prior)
	}
	if !w.create {
		return c.find(ctx, w, true)
	}
	if call.DryRun {
		return c.rehearse(ctx, w, true)
	}
	a, made, out, err := c.ensureAlert(ctx, w, repeated(call))
	if err != nil {
		return Ensured{}, err
	}
	if a.CaseID != "" {
		// Promoted by an earlier attempt, by another host or by a person: that case is the one.
		cs, err := c.caseOfAlert(ctx, a)
		if err != nil {
			return Ensured{}, err
		}
		return c.adopted(ctx, kindCase, w, cs, c.describeCase(w, cs, a.ID, out))
	}
	cs, adopted, err := c.promote(ctx, w, a)
	if err != nil {
		return Ensured{}, err
	}
	out = c.describeCase(w, cs, a.ID, out)
	if adopted {
		return c.adopted(ctx, kindCase, w, cs, out)
	}
	if err := c.addTasks(ctx, cs.ID, w.ref, w.tasks, repeated(call)); err != nil {
		return Ensured{}, err
	}
	if made {
		// Made from the alert just now: everything wanted is in it.
		return out.fresh(w), nil
	}
	// The alert was there before, made by alert.ensure or by an attempt whose answer was lost.
	w.policy, w.comment = onUpdate, ""
	out, err = c.bring(ctx, kindCase, w, cs, out, bringOptions{quiet: true})
	out.Created = true
	return out, err
}

// adopted brings up to date what was there although the host knows nothing of it: most likely an attempt of this very call
// made it, else another host or a person did.
func (c *Client) adopted(ctx context.Context, k kind, w *wanted, o *object, out Ensured) (Ensured, error) {
	call := sdk.CallFrom(ctx)
	if ours(call, o) {
		w.policy, w.comment = onUpdate, ""
		if k == kindCase && !call.DryRun {
			if err := c.addTasks(ctx, o.ID, w.ref, w.tasks, true); err != nil {
				return Ensured{}, err
			}
		}
		out, err := c.bring(ctx, k, w, o, out, bringOptions{quiet: true, dry: call.DryRun})
		out.Created = true
		return out, err
	}
	return c.existing(ctx, k, w, o, out, false)
}

// clockSkew is how far TheHive's clock may be from ours.
const clockSkew = 5 * time.Minute

// ours says whether an earlier attempt of this call may have made the object: it is not older than the first attempt.
func ours(call sdk.Call, o *object) bool {
	if !repeated(call) {
		return false
	}
	return call.FirstSent.IsZero() || o.CreatedAt == 0 || time.UnixMilli(o.CreatedAt).After(call.FirstSent.Add(-clockSkew))
}

// resolve finds out what became of an earlier call with the same key, and changes nothing.
func (c *Client) resolve(ctx context.Context, w *wanted, wantCase bool) (Ensured, error) {
	a, err := c.findAlert(ctx, w.ref)
	if err != nil {
		return Ensured{}, err
	}
	if !w.create && (a == nil || wantCase && a.CaseID == "") {
		return Ensured{}, nil // nothing was to be made
	}
	if a == nil {
		return Ensured{}, sdk.Unresolved("there is no alert %s;%s;%s", c.alertType, c.source, w.ref)
	}
	if !wantCase {
		out := c.describeAlert(w, a, Ensured{})
		out.Created = true
		return out, nil
	}
	if a.CaseID == "" {
		return Ensured{}, sdk.Unresolved("alert %s is there, but no case was made of it", a.ID)
	}
	cs, err := c.caseOfAlert(ctx, a)
	if err != nil {
		return Ensured{}, err
	}
	out := c.describeCase(w, cs, a.ID, Ensured{})
	out.Created = true
	return out, nil
}

// find brings up to date what is there, and makes nothing.
func (c *Client) find(ctx context.Context, w *wanted, wantCase bool) (Ensured, error) {
	a, err := c.findAlert(ctx, w.ref)
	switch {
	case err != nil:
		return Ensured{}, err
	case a == nil, wantCase && a.CaseID == "":
		return Ensured{}, nil
	case !wantCase:
		return c.existing(ctx, kindAlert, w, a, c.describeAlert(w, a, Ensured{}), false)
	}
	cs, err := c.caseOfAlert(ctx, a)
	if err != nil {
		return Ensured{}, err
	}
	return c.existing(ctx, kindCase, w, cs, c.describeCase(w, cs, a.ID, Ensured{}), false)
}

// rehearse says what a call would do.
func (c *Client) rehearse(ctx context.Context, w *wanted, wantCase bool) (Ensured, error) {
	a, err := c.findAlert(ctx, w.ref)
	if err != nil {
		return Ensured{}, err
	}
	switch {
	case a == nil, wantCase && a.CaseID == "":
		return Ensured{
			Created: true, ContentHash: w.hash, Severity: w.severity, TLP: w.tlp.String(), PAP: w.pap.String(), Tags: w.tags,
			Rejected: w.rejected, Notes: w.notes,
		}, nil
	case wantCase:
		cs, err := c.caseOfAlert(ctx, a)
		if err != nil {
			return Ensured{}, err
		}
		return c.existing(ctx, kindCase, w, cs, c.describeCase(w, cs, a.ID, Ensured{}), false)
	}
	return c.existing(ctx, kindAlert, w, a, c.describeAlert(w, a, Ensured{}), false)
}

// describeAlert is what an alert looks like to a flow. The content hash is that of what is wanted: title and description
// of an alert that was there belong to whoever wrote them, until there is news.
func (c *Client) describeAlert(w *wanted, a *object, out Ensured) Ensured {
	out.ID, out.AlertID, out.CaseID, out.URL = a.ID, a.ID, a.CaseID, c.alertURL(a.ID)
	return out.describe(w, a)
}

func (c *Client) describeCase(w *wanted, cs *object, alertID string, out Ensured) Ensured {
	out.ID, out.Number, out.AlertID, out.CaseID, out.URL = cs.ID, cs.Number, alertID, cs.ID, c.caseURL(cs.ID)
	return out.describe(w, cs)
}

func (e Ensured) describe(w *wanted, o *object) Ensured {
	e.Status, e.Closed, e.Title = o.Status, o.closed(), w.title
	e.ContentHash, e.ObservablesHash, e.Procedures, e.FieldsHash = w.hash, "", nil, ""
	e.Severity, e.TLP, e.PAP, e.Tags = o.Severity, w.server.tlpOf(o.TLP).String(), papOf(o.PAP).String(), o.Tags
	e.Rejected, e.Notes = append(e.Rejected, w.rejected...), w.notes
	return e
}

// fresh describes what was made just now with everything wanted in it.
func (e Ensured) fresh(w *wanted) Ensured {
	e.Created, e.ObservablesHash, e.Procedures, e.FieldsHash = true, w.obsHash, w.techniques, w.fieldsHash
	return e
}

func (c *Client) caseURL(id string) string { return c.site + "/cases/" + id + "/details" }

func (c *Client) alertURL(id string) string { return c.site + "/alerts/" + id + "/details" }
