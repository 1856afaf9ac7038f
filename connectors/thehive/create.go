package thehive

import (
	"context"
	"net/http"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// ensureAlert creates the alert, or finds it if it is there. Repeating it is safe: TheHive refuses a second alert with
// the same type, source and sourceRef.
func (c *Client) ensureAlert(ctx context.Context, w *wanted, again bool) (a *object, made bool, out Ensured, err error) {
	if again {
		// An earlier attempt got somewhere: most likely the alert is there.
		if a, err = c.findAlert(ctx, w.ref); err != nil || a != nil {
			return a, false, out, err
		}
	}
	body := &inputAlert{
		Type: c.alertType, Source: c.source, SourceRef: w.ref, ExternalLink: w.link, Title: w.title, Description: w.description,
		Severity: w.severity, Date: w.date, TLP: w.server.tlp(w.tlp), PAP: pap(w.pap), Tags: w.tags, CustomFields: w.fields,
		Observables: w.obs,
	}
	for _, id := range w.techniques {
		body.Procedures = append(body.Procedures, inputProcedure{PatternID: id, OccurDate: w.date})
	}
	a = &object{}
	err = c.postAlert(ctx, body, a)
	later := false
	if notFound(err) && len(body.Procedures) > 0 {
		// One technique that the server does not know refuses the whole alert. The alert comes first.
		body.Procedures, later = nil, true
		err = c.postAlert(ctx, body, a)
	}
	if badRequest(err) && !maybeDuplicate(err) && len(body.Observables)+len(body.Procedures) > 0 {
		// So may one observable that it does not like, or a technique.
		body.Observables, body.Procedures, later = nil, nil, true
		err = c.insist(ctx, body, a, err)
	}
	if badRequest(err) && !maybeDuplicate(err) && len(body.CustomFields) > 0 {
		// Or a custom field, whose definition was changed since it was read.
		refusal := failed(err).Message
		body.CustomFields = nil
		if err = c.insist(ctx, body, a, err); err == nil {
			w.notes = append(w.notes, "the custom fields were refused: "+refusal)
			c.forgetFields()
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
		if len(body.Observables) < len(w.obs) {
			if _, out.Rejected, err = c.addNew(ctx, kindAlert, a.ID, w.obs); err != nil {
				return nil, false, out, err
			}
		}
		if err := c.addTechniques(ctx, kindAlert, a.ID, w); err != nil {
			return nil, false, out, err
		}
	}
	return a, true, out, nil
}

func (c *Client) postAlert(ctx context.Context, body *inputAlert, a *object) error {
	return c.create(ctx, "create alert", "/api/v1/alert", body, a)
}

// insist tries again with less. If that is refused too, the first refusal is the one that tells.
func (c *Client) insist(ctx context.Context, body *inputAlert, a *object, first error) error {
	if second := c.postAlert(ctx, body, a); second == nil || !badRequest(second) || maybeDuplicate(second) {
		return second
	}
	return first
}

// findAlert fetches the alert with the composite id; nil if there is none.
func (c *Client) findAlert(ctx context.Context, ref string) (*object, error) {
	var found []object
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

// promote makes a case of the alert. Adopted says that somebody else had done so. A template or an assignee that is not
// there does not cost the case.
func (c *Client) promote(ctx context.Context, w *wanted, a *object) (cs *object, adopted bool, err error) {
	body := map[string]any{}
	if w.template != "" {
		body["caseTemplate"] = w.template
	}
	if w.assignee != "" {
		body["assignee"] = w.assignee
	}
	for {
		cs = &object{}
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
		if ferr != nil || again == nil {
			return nil, false, err
		}
		if again.CaseID != "" {
			cs, rerr := c.caseOfAlert(ctx, again)
			// After an uncertain outcome the case is most likely our own.
			return cs, e.Class() != "uncertain", rerr
		}
		what := unwanted(body, e.Message)
		if what == "" || !notFound(err) && !badRequest(err) {
			return nil, false, err
		}
		w.notes = append(w.notes, strings.ReplaceAll(what, "caseTemplate", "case_template")+" "+body[what].(string)+" was left out: "+e.Message)
		delete(body, what)
	}
}

// unwanted picks what to leave out of a refused promotion: what the refusal seems to be about, else the assignee first.
func unwanted(body map[string]any, refusal string) string {
	refusal = strings.ToLower(refusal)
	if body["caseTemplate"] != nil && (strings.Contains(refusal, "template") || body["assignee"] == nil) {
		return "caseTemplate"
	}
	if body["assignee"] != nil {
		return "assignee"
	}
	return ""
}
