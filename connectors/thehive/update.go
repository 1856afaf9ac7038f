package thehive

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// kind tells alerts and cases apart, which share most of their API.
type kind struct{ noun, path, get string }

var (
	kindAlert = kind{"alert", "/api/v1/alert/", "getAlert"}
	kindCase  = kind{"case", "/api/v1/case/", "getCase"}
)

// update brings an alert or case up to date with as few requests as there are kinds of news, or none. Title and
// description are written only if they are not what was written last; severity and markings only ever rise; tags,
// observables and techniques are only added.
func (c *Client) update(ctx context.Context, k kind, w *wanted, have Ensured, dry bool) (Ensured, error) {
	have.Created, have.Updated, have.Rejected = false, false, nil
	body, next := w.changes(have)
	if body != nil {
		if !dry {
			if err := c.patch(ctx, "update "+k.noun+" "+have.ID, k.path+have.ID, body); err != nil {
				return Ensured{}, err
			}
		}
		next.Updated = true
	}
	if w.obsHash != have.ObservablesHash && len(w.obs) > 0 {
		missing, err := c.missing(ctx, k, have.ID, w.obs)
		if err != nil {
			return Ensured{}, err
		}
		if !dry && len(missing) > 0 {
			if _, next.Rejected, err = c.addNew(ctx, k, have.ID, missing); err != nil {
				return Ensured{}, err
			}
		}
		next.ObservablesHash = w.obsHash
		next.Updated = next.Updated || len(missing) > len(next.Rejected)
	}
	if fresh := without(w.techniques, have.Procedures); len(fresh) > 0 {
		there, err := c.techniques(ctx, k, have.ID)
		if err != nil {
			return Ensured{}, err
		}
		if fresh = without(fresh, there); len(fresh) > 0 && !dry {
			if err := c.addTechniques(ctx, k, have.ID, fresh, w.date); err != nil {
				return Ensured{}, err
			}
		}
		next.Procedures = append(slices.Clip(have.Procedures), without(w.techniques, have.Procedures)...)
		next.Updated = next.Updated || len(fresh) > 0
	}
	return next, nil
}

// changes compares what is wanted with what was written last. The body is nil when nothing has to be changed.
func (w *wanted) changes(have Ensured) (*inputUpdate, Ensured) {
	body, next, changed := &inputUpdate{}, have, false
	if w.hash != have.ContentHash {
		body.Title, body.Description, next.ContentHash, changed = w.title, w.description, w.hash, true
	}
	if w.rated && w.severity > have.Severity {
		body.Severity, next.Severity, changed = w.severity, w.severity, true
	}
	if was, _ := tlpLevel(have.TLP); w.tlp > was {
		n := w.server.tlp(w.tlp)
		body.TLP, next.TLP, changed = &n, w.tlp.String(), true
	}
	if was, _ := papLevel(have.PAP); w.pap > was {
		n := pap(w.pap)
		body.PAP, next.PAP, changed = &n, w.pap.String(), true
	}
	for _, t := range w.tags {
		if !hasTag(have.Tags, t) {
			body.AddTags = append(body.AddTags, t)
		}
	}
	if len(body.AddTags) > 0 {
		next.Tags, changed = append(slices.Clip(have.Tags), body.AddTags...), true
	}
	if !changed {
		return nil, next
	}
	return body, next
}

func without(list, drop []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(drop, s) {
			out = append(out, s)
		}
	}
	return out
}

// updateCase updates a known case. Cases are merged by people: the merged one is found through the alert.
func (c *Client) updateCase(ctx context.Context, w *wanted, prior Ensured, dry bool) (Ensured, error) {
	out, err := c.update(ctx, kindCase, w, prior, dry)
	if !notFound(err) {
		return out, err
	}
	a, ferr := c.findAlert(ctx, w.ref)
	if ferr != nil {
		return Ensured{}, ferr
	}
	if a == nil || a.CaseID == "" || a.CaseID == prior.ID {
		return Ensured{}, gone(err, "case", prior.ID)
	}
	cs, rerr := c.readCase(ctx, a.CaseID)
	if notFound(rerr) {
		return Ensured{}, gone(rerr, "case", a.CaseID)
	}
	if rerr != nil {
		return Ensured{}, rerr
	}
	return c.update(ctx, kindCase, w, c.describeCase(w, cs, a.ID, Ensured{}), dry)
}

// gone says that what was there is there no more. No second one is made: whoever deleted the first had a reason.
func gone(err error, noun, id string) error {
	out := sdk.NotFound("%s %s is gone: it was deleted or merged away, or the user may no longer see it; no second one is made by itself", noun, id)
	if e := failed(err); e != nil {
		out.HTTPStatus, out.RequestID = e.HTTPStatus, e.RequestID
	}
	out.Err = err
	return out
}

// pageSize is how many objects a query brings at once.
const pageSize = 500

// list reads everything that belongs to an alert or case: its observables, procedures or comments.
func list[T any](ctx context.Context, c *Client, k kind, id, what string) ([]T, error) {
	var all []T
	for {
		var page []T
		err := c.query(ctx, "list "+what+" of "+k.noun+" "+id, []any{
			map[string]any{"_name": k.get, "idOrName": id},
			map[string]any{"_name": what},
			map[string]any{"_name": "page", "from": len(all), "to": len(all) + pageSize},
		}, &page)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageSize {
			return all, nil
		}
	}
}

// missing returns the observables that the alert or case does not have yet.
func (c *Client) missing(ctx context.Context, k kind, id string, obs []inputObservable) ([]inputObservable, error) {
	there, err := list[struct {
		DataType string `json:"dataType"`
		Data     string `json:"data"`
	}](ctx, c, k, id, "observables")
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(there))
	for _, o := range there {
		known[identity(o.DataType, o.Data)] = true
	}
	var out []inputObservable
	for i := range obs {
		if !known[identity(obs[i].DataType, obs[i].Data.(string))] {
			out = append(out, obs[i])
		}
	}
	return out, nil
}

// addNew adds observables. Those that differ in their value only share a request. One that TheHive refuses is reported
// and costs the others nothing; one that is there already counts as there.
func (c *Client) addNew(ctx context.Context, k kind, id string, obs []inputObservable) (added int, rejected []Rejected, err error) {
	for len(obs) > 0 {
		group := 1
		for group < len(obs) && group < 100 && alike(&obs[0], &obs[group]) {
			group++
		}
		n, bad, err := c.addGroup(ctx, k, id, obs[:group])
		if err != nil {
			return added, rejected, err
		}
		added, rejected, obs = added+n, append(rejected, bad...), obs[group:]
	}
	return added, rejected, nil
}

// alike says whether two observables differ in their value only.
func alike(a, b *inputObservable) bool {
	return a.DataType == b.DataType && a.Message == b.Message && a.IOC == b.IOC && a.Sighted == b.Sighted && slices.Equal(a.Tags, b.Tags)
}

func (c *Client) addGroup(ctx context.Context, k kind, id string, group []inputObservable) (added int, rejected []Rejected, err error) {
	body := group[0]
	if len(group) > 1 {
		values := make([]string, len(group))
		for i := range group {
			values[i] = group[i].Data.(string)
		}
		body.Data = values
	}
	err = c.do(ctx, "add observables to "+k.noun+" "+id, rest.Request{Method: http.MethodPost, Path: k.path + id + "/observable", Body: &body}, &json.RawMessage{})
	switch {
	case err == nil:
		return len(group), nil, nil
	case !badRequest(err) && !maybeDuplicate(err):
		return 0, nil, err
	case len(group) > 1:
		for i := range group {
			n, bad, err := c.addGroup(ctx, k, id, group[i:i+1])
			if err != nil {
				return added, rejected, err
			}
			added, rejected = added+n, append(rejected, bad...)
		}
		return added, rejected, nil
	case maybeDuplicate(err):
		// Refused as a duplicate, or for another reason under the same name: only looking tells.
		missing, lerr := c.missing(ctx, k, id, group)
		if lerr != nil || len(missing) == 0 {
			return 0, nil, lerr
		}
	}
	return 0, []Rejected{{DataType: body.DataType, Data: cut(group[0].Data.(string), 256), Reason: failed(err).Message}}, nil
}

// techniques lists the ATT&CK techniques that the alert or case has.
func (c *Client) techniques(ctx context.Context, k kind, id string) ([]string, error) {
	there, err := list[struct {
		PatternID string `json:"patternId"`
	}](ctx, c, k, id, "procedures")
	out := make([]string, len(there))
	for i, p := range there {
		out[i] = p.PatternID
	}
	return out, err
}

// addTechniques adds ATT&CK techniques one by one. TheHive knows those of its own catalogue; another becomes a tag.
func (c *Client) addTechniques(ctx context.Context, k kind, id string, techniques []string, date int64) error {
	var tags []string
	for _, t := range techniques {
		err := c.do(ctx, "add technique "+t+" to "+k.noun+" "+id, rest.Request{
			Method: http.MethodPost, Path: k.path + id + "/procedure", Body: &inputProcedure{PatternID: t, OccurDate: date},
		}, &json.RawMessage{})
		switch {
		case notFound(err), badRequest(err):
			tags = append(tags, "TTP:"+t)
		case err != nil:
			return err
		}
	}
	if len(tags) == 0 {
		return nil
	}
	return c.patch(ctx, "tag "+k.noun+" "+id, k.path+id, &inputUpdate{AddTags: tags})
}

// readCase reads a case by id or number.
func (c *Client) readCase(ctx context.Context, id string) (*caseObject, error) {
	var cs caseObject
	err := c.do(ctx, "read case "+id, rest.Request{Method: http.MethodGet, Path: "/api/v1/case/" + url.PathEscape(id)}, &cs)
	if err != nil {
		return nil, err
	}
	if !objectID(cs.ID) {
		return nil, sdk.Unavailable("read case %s: TheHive's answer names no case", id)
	}
	return &cs, nil
}
