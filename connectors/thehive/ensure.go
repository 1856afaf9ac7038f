package thehive

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
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
	Observables []Observable `json:"observables,omitempty" doc:"Values worth looking up"`
	Procedures  []string     `json:"procedures,omitempty" doc:"ATT&CK techniques such as T1059.001; one that TheHive does not know becomes a tag"`

	CaseTemplate string `json:"case_template,omitempty" doc:"Template of a new case; default the connection's" cw:"maxlen=128"`
}

// Ensured is the alert or the case.
type Ensured struct {
	ID      string `json:"id" doc:"Id of the case, or of the alert for alert.ensure"`
	Number  int    `json:"number,omitempty" doc:"Number of the case"`
	URL     string `json:"url" doc:"Where people open it"`
	AlertID string `json:"alert_id" doc:"Id of the alert"`
	CaseID  string `json:"case_id,omitempty" doc:"Id of the case that the alert belongs to, if any"`
	Created bool   `json:"created" doc:"This key made it"`
	Updated bool   `json:"updated" doc:"It was changed"`
	Status  string `json:"status,omitempty" doc:"Its status when last read"`

	ContentHash     string     `json:"content_hash" doc:"Over title and description as last written"`
	Severity        int        `json:"severity,omitempty" doc:"TheHive's severity as last written, 1 to 4"`
	TLP             string     `json:"tlp,omitempty" doc:"Marking as last written"`
	PAP             string     `json:"pap,omitempty" doc:"Marking as last written"`
	Tags            []string   `json:"tags,omitempty" doc:"Tags written so far"`
	ObservablesHash string     `json:"observables_hash,omitempty" doc:"Over the observables given last"`
	Procedures      []string   `json:"procedures,omitempty" doc:"Techniques given so far"`
	Rejected        []Rejected `json:"rejected,omitempty" doc:"Observables that TheHive refused"`
}

// Rejected is an observable that TheHive refused, and why. It costs nothing else.
type Rejected struct {
	DataType string `json:"dataType"`
	Data     string `json:"data"`
	Reason   string `json:"reason"`
}

// wanted is an EnsureInput made ready for a server.
type wanted struct {
	server      *server
	ref, hash   string
	title       string
	description string
	link        string
	severity    int
	rated       bool // the severity was given
	tlp, pap    level
	tags        []string
	date        int64
	obs         []inputObservable
	obsHash     string
	techniques  []string
	template    string
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
		out, err := c.update(ctx, kindAlert, w, prior, call.DryRun)
		if notFound(err) {
			return Ensured{}, gone(err, "alert", prior.AlertID)
		}
		return out, err
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
	out, err = c.update(ctx, kindAlert, w, out, false)
	// There already, although the host knows nothing of it: most likely an attempt of this very call made it.
	out.Created = repeated(call)
	return out, err
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
		return c.updateCase(ctx, w, prior, call.DryRun)
	}
	if call.DryRun {
		return c.rehearse(ctx, w, true)
	}
	a, made, out, err := c.ensureAlert(ctx, w, repeated(call))
	if err != nil {
		return Ensured{}, err
	}
	if a.CaseID == "" {
		cs, adopted, err := c.promote(ctx, w, a)
		if err != nil {
			return Ensured{}, err
		}
		out = c.describeCase(w, cs, a.ID, out)
		if !adopted {
			// Made from the alert just now: everything wanted is in it, unless the alert was there before.
			if made {
				return out.fresh(w), nil
			}
			out, err = c.update(ctx, kindCase, w, out, false)
			out.Created = true
			return out, err
		}
	} else {
		cs, err := c.readCase(ctx, a.CaseID)
		if err != nil {
			return Ensured{}, err
		}
		out = c.describeCase(w, cs, a.ID, out)
	}
	// Promoted by an earlier attempt, by another host or by a person: that case is the one.
	out, err = c.update(ctx, kindCase, w, out, false)
	out.Created = repeated(call)
	return out, err
}

func (c *Client) begin(ctx context.Context, call sdk.Call, in *EnsureInput) (w *wanted, prior Ensured, known bool, err error) {
	if call.Key == "" {
		return nil, prior, false, sdk.Invalid("", "a key is needed: it decides which alerts share a case")
	}
	if prior, known, err = priorOutput[Ensured](call); err != nil {
		return nil, prior, false, err
	}
	w, err = c.want(ctx, call.Key, in)
	return w, prior, known, err
}

// want checks the input and fits it to TheHive's limits.
func (c *Client) want(ctx context.Context, key string, in *EnsureInput) (*wanted, error) {
	w := &wanted{
		ref: caseRef(key), severity: severity(in.SeverityID), rated: in.SeverityID != nil, template: cmp.Or(in.CaseTemplate, c.cfg.CaseTemplate),
		title: fit(strings.Join(strings.Fields(in.Title), " "), maxTitle, "…"),
	}
	if w.title == "" {
		return nil, sdk.Invalid("/title", "is empty")
	}
	var ok bool
	if w.tlp, ok = tlpLevel(cmp.Or(in.TLP, c.cfg.TLP)); !ok {
		return nil, sdk.Invalid("/tlp", "%q is none of clear, green, amber, amber+strict, red", in.TLP)
	}
	if w.pap, ok = papLevel(cmp.Or(in.PAP, c.cfg.PAP)); !ok {
		return nil, sdk.Invalid("/pap", "%q is none of clear, green, amber, red", in.PAP)
	}
	description := in.Description
	if in.URL != "" {
		if !strings.HasPrefix(in.URL, "https://") && !strings.HasPrefix(in.URL, "http://") {
			return nil, sdk.Invalid("/url", "is no web address")
		}
		if len(in.URL) <= maxLink {
			w.link = in.URL
		} else {
			description += "\n\nSource: <" + strings.NewReplacer(">", "%3E", " ", "%20", "\n", "").Replace(in.URL) + ">"
		}
	}
	w.description = fit(cmp.Or(strings.TrimSpace(description), w.title), maxMessage, "\n\n… cut here: the text is longer than TheHive takes.")
	w.hash = digest(w.title, w.description)
	at := in.Date
	if at.IsZero() {
		at = time.Now()
	}
	w.date = at.UnixMilli()
	extra := w.setTechniques(in.Procedures)
	w.tags = cleanTags([]string{"casewire"}, in.Tags, extra)
	s, err := c.know(ctx)
	if err != nil {
		return nil, err
	}
	w.server = s
	w.obs = s.prepare(in.Observables, s.tlp(w.tlp), pap(w.pap))
	w.obsHash = identities(w.obs)
	return w, nil
}

// setTechniques keeps what looks like a technique, and returns tags for the rest.
func (w *wanted) setTechniques(in []string) (tags []string) {
	for _, t := range in {
		id := strings.ToUpper(strings.TrimSpace(t))
		switch {
		case id == "":
		case !technique(id):
			tags = append(tags, "TTP:"+t)
		case !slices.Contains(w.techniques, id):
			w.techniques = append(w.techniques, id)
		}
	}
	return tags
}

// technique accepts T1059 and T1059.001.
func technique(s string) bool {
	if len(s) != 5 && len(s) != 9 || s[0] != 'T' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; i == 5 && c != '.' || i != 5 && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// ensureAlert creates the alert, or finds it if it is there. Repeating it is safe: TheHive refuses a second alert with
// the same type, source and sourceRef.
func (c *Client) ensureAlert(ctx context.Context, w *wanted, again bool) (a *alert, made bool, out Ensured, err error) {
	if again {
		// An earlier attempt got somewhere: most likely the alert is there.
		if a, err = c.findAlert(ctx, w.ref); err != nil || a != nil {
			return a, false, out, err
		}
	}
	body := &inputAlert{
		Type: c.alertType, Source: c.source, SourceRef: w.ref, ExternalLink: w.link, Title: w.title, Description: w.description,
		Severity: w.severity, Date: w.date, TLP: w.server.tlp(w.tlp), PAP: pap(w.pap), Tags: w.tags, Observables: w.obs,
	}
	for _, id := range w.techniques {
		body.Procedures = append(body.Procedures, inputProcedure{PatternID: id, OccurDate: w.date})
	}
	const what = "create alert"
	a = &alert{}
	err = c.create(ctx, what, "/api/v1/alert", body, a)
	later := false
	if notFound(err) && len(body.Procedures) > 0 {
		// One technique that the server does not know refuses the whole alert. The alert comes first.
		body.Procedures, later = nil, true
		err = c.create(ctx, what, "/api/v1/alert", body, a)
	}
	if badRequest(err) && !maybeDuplicate(err) && len(body.Observables) > 0 {
		// So may one observable that it does not like.
		body.Observables, body.Procedures, later = nil, nil, true
		if second := c.create(ctx, what, "/api/v1/alert", body, a); second == nil || !badRequest(second) || maybeDuplicate(second) {
			err = second
		}
	}
	if maybeDuplicate(err) {
		found, ferr := c.findAlert(ctx, w.ref)
		if ferr != nil {
			return nil, false, out, ferr
		}
		if found != nil {
			return found, false, out, nil
		}
	}
	if err != nil {
		return nil, false, out, err
	}
	if !objectID(a.ID) {
		return nil, false, out, sdk.Uncertain("create alert: TheHive's answer names no alert")
	}
	if later {
		if len(body.Observables) == 0 {
			if _, out.Rejected, err = c.addNew(ctx, kindAlert, a.ID, w.obs); err != nil {
				return nil, false, out, err
			}
		}
		if err := c.addTechniques(ctx, kindAlert, a.ID, w.techniques, w.date); err != nil {
			return nil, false, out, err
		}
	}
	return a, true, out, nil
}

// findAlert fetches the alert with the composite id; nil if there is none.
func (c *Client) findAlert(ctx context.Context, ref string) (*alert, error) {
	var found []alert
	err := c.query(ctx, "look for alert", []any{
		map[string]any{"_name": "getAlert", "idOrName": c.alertType + ";" + c.source + ";" + ref},
	}, &found)
	if notFound(err) || err == nil && len(found) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !objectID(found[0].ID) || found[0].SourceRef != ref {
		return nil, sdk.Unavailable("look for alert: TheHive's answer names another alert")
	}
	return &found[0], nil
}

// promote makes a case of the alert. Adopted says that somebody else had done so.
func (c *Client) promote(ctx context.Context, w *wanted, a *alert) (cs *caseObject, adopted bool, err error) {
	body := map[string]any{}
	if w.template != "" {
		body["caseTemplate"] = w.template
	}
	cs = &caseObject{}
	err = c.create(ctx, "promote alert "+a.ID, "/api/v1/alert/"+a.ID+"/case", body, cs)
	if err == nil && objectID(cs.ID) {
		return cs, false, nil
	}
	if err == nil {
		err = sdk.Uncertain("promote alert %s: TheHive's answer names no case", a.ID)
	}
	// Whatever went wrong: if the alert has a case now, that is the case.
	e := failed(err)
	if e == nil || e.HTTPStatus == http.StatusUnauthorized || e.HTTPStatus == http.StatusForbidden || e.HTTPStatus == http.StatusTooManyRequests {
		return nil, false, err
	}
	again, ferr := c.findAlert(ctx, w.ref)
	if ferr != nil || again == nil || again.CaseID == "" {
		return nil, false, err
	}
	cs, rerr := c.readCase(ctx, again.CaseID)
	if rerr != nil {
		return nil, false, rerr
	}
	// After an uncertain outcome the case is most likely our own.
	return cs, e.Class() != "uncertain", nil
}

// resolve finds out what became of an earlier call with the same key, and changes nothing.
func (c *Client) resolve(ctx context.Context, w *wanted, wantCase bool) (Ensured, error) {
	a, err := c.findAlert(ctx, w.ref)
	if err != nil {
		return Ensured{}, err
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
	cs, err := c.readCase(ctx, a.CaseID)
	if err != nil {
		return Ensured{}, err
	}
	out := c.describeCase(w, cs, a.ID, Ensured{})
	out.Created = true
	return out, nil
}

// rehearse says what a call would do.
func (c *Client) rehearse(ctx context.Context, w *wanted, wantCase bool) (Ensured, error) {
	a, err := c.findAlert(ctx, w.ref)
	if err != nil {
		return Ensured{}, err
	}
	switch {
	case a == nil, wantCase && a.CaseID == "":
		return Ensured{Created: true, ContentHash: w.hash, Severity: w.severity, TLP: w.tlp.String(), PAP: w.pap.String(), Tags: w.tags}, nil
	case wantCase:
		cs, err := c.readCase(ctx, a.CaseID)
		if err != nil {
			return Ensured{}, err
		}
		return c.update(ctx, kindCase, w, c.describeCase(w, cs, a.ID, Ensured{}), true)
	}
	return c.update(ctx, kindAlert, w, c.describeAlert(w, a, Ensured{}), true)
}

// describeAlert is what an alert looks like to a flow. The content hash is that of what is wanted: title and description
// of an alert that was there belong to whoever wrote them, until there is news.
func (c *Client) describeAlert(w *wanted, a *alert, out Ensured) Ensured {
	out.ID, out.AlertID, out.CaseID, out.URL, out.Status = a.ID, a.ID, a.CaseID, c.site+"/alerts/"+a.ID+"/details", a.Status
	out.ContentHash, out.ObservablesHash, out.Procedures = w.hash, "", nil
	out.Severity, out.TLP, out.PAP, out.Tags = a.Severity, w.server.tlpOf(a.TLP).String(), papOf(a.PAP).String(), a.Tags
	return out
}

func (c *Client) describeCase(w *wanted, cs *caseObject, alertID string, out Ensured) Ensured {
	out.ID, out.Number, out.AlertID, out.CaseID = cs.ID, cs.Number, alertID, cs.ID
	out.URL, out.Status = c.caseURL(cs.ID), cs.Status
	out.ContentHash, out.ObservablesHash, out.Procedures = w.hash, "", nil
	out.Severity, out.TLP, out.PAP, out.Tags = cs.Severity, w.server.tlpOf(cs.TLP).String(), papOf(cs.PAP).String(), cs.Tags
	return out
}

// fresh describes what was made just now with everything wanted in it.
func (e Ensured) fresh(w *wanted) Ensured {
	e.Created, e.ObservablesHash, e.Procedures = true, w.obsHash, w.techniques
	return e
}

func (c *Client) caseURL(id string) string { return c.site + "/cases/" + id + "/details" }
