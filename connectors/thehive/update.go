package thehive

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// kind tells alerts and cases apart, which share most of their API.
type kind struct{ noun, path, get string }

var (
	kindAlert = kind{"alert", "/api/v1/alert/", "getAlert"}
	kindCase  = kind{"case", "/api/v1/case/", "getCase"}
)

// existing does with what is there what the policy says. Known says that have is what the last call with this key returned,
// and not what was just read.
func (c *Client) existing(ctx context.Context, k kind, w *wanted, o *object, have Ensured, known bool) (Ensured, error) {
	call := sdk.CallFrom(ctx)
	have.Created, have.Updated, have.Status, have.Closed = false, false, o.Status, o.closed()
	have.Rejected, have.Notes = w.rejected, w.notes
	opts := bringOptions{dry: call.DryRun, look: !known || repeated(call)}
	switch w.policy {
	case onIgnore:
		return have, nil
	case onComment:
		mark := w.mark("comment", w.comment)
		if w.comment == "" || have.CommentMark == mark {
			return have, nil
		}
		have.CommentMark, have.Updated = mark, true
		return have, c.say(ctx, k, o.ID, w.comment, mark, opts)
	case onReopen:
		opts.reopen = o.closed()
	case onUpdate:
	}
	return c.bring(ctx, k, w, o, have, opts)
}

// bringOptions say how to bring something up to date.
type bringOptions struct {
	dry    bool
	quiet  bool // without a comment
	look   bool // for the comment, which may have been written already
	reopen bool
}

// bring brings an alert or case up to date with as few requests as there are kinds of news, or none. Only what is news to
// the last call with this key is written, and only if it is not there: what people changed since stays theirs. Severity and
// markings only ever rise; tags, observables and techniques are only added.
func (c *Client) bring(ctx context.Context, k kind, w *wanted, o *object, have Ensured, opts bringOptions) (Ensured, error) {
	have.Created, have.Updated = false, false
	body, next, news := w.changes(have, o)
	if opts.reopen {
		status, err := c.openStatus(ctx, k, "")
		if err != nil {
			return Ensured{}, err
		}
		if body == nil {
			body = &inputUpdate{}
		}
		body.Status, next.Status, next.Closed, news = status, status, false, true
	}
	if body != nil && !opts.dry {
		if err := c.patch(ctx, "update "+k.noun+" "+have.ID, k.path+have.ID, body); err != nil {
			return Ensured{}, err
		}
	}
	var missing []inputObservable
	if w.obsHash != have.ObservablesHash && len(w.obs) > 0 {
		var err error
		if missing, err = c.missing(ctx, k, have.ID, w.obs); err != nil {
			return Ensured{}, err
		}
		next.ObservablesHash, news = w.obsHash, news || len(missing) > 0
	}
	var fresh []string
	if unknown := without(w.techniques, have.Procedures); len(unknown) > 0 {
		there, err := c.techniques(ctx, k, have.ID)
		if err != nil {
			return Ensured{}, err
		}
		for _, t := range unknown {
			if hasTag(o.Tags, "TTP:"+t) { // which this server took as a tag
				there = append(there, t)
			}
		}
		fresh = without(unknown, there)
		next.Procedures = append(slices.Clip(have.Procedures), unknown...)
		news = news || len(fresh) > 0
	}
	next.Updated = news
	// The comment comes before the observables, because what is missing can be told only as long as it is.
	if text := newsText(k, w.comment, missing, fresh); news && text != "" && !opts.quiet {
		next.CommentMark = w.mark("news", w.comment, w.hash, w.obsHash, strings.Join(w.techniques, " "), strconv.Itoa(w.severity))
		if err := c.say(ctx, k, have.ID, text, next.CommentMark, opts); err != nil {
			return Ensured{}, err
		}
	}
	if opts.dry {
		return next, nil
	}
	if len(missing) > 0 {
		_, refused, err := c.addNew(ctx, k, have.ID, missing)
		if err != nil {
			return Ensured{}, err
		}
		next.Rejected = append(next.Rejected, refused...)
	}
	if len(fresh) > 0 {
		w.techniques = fresh
		if err := c.addTechniques(ctx, k, have.ID, w); err != nil {
			return Ensured{}, err
		}
	}
	return next, nil
}

// maxListed is how many new observables a comment lists.
const maxListed = 50

// newsText is the comment about an update: what the flow says, and of a case what evidence came late.
func newsText(k kind, said string, missing []inputObservable, techniques []string) string {
	if k != kindCase || len(missing)+len(techniques) == 0 {
		return said
	}
	var lines []string
	for i := range missing[:min(len(missing), maxListed)] {
		lines = append(lines, missing[i].DataType+" `"+strings.ReplaceAll(cut(missing[i].Data.(string), 200), "`", "'")+"`")
	}
	if n := len(missing) - maxListed; n > 0 {
		lines = append(lines, strconv.Itoa(n)+" more")
	}
	for _, t := range techniques {
		lines = append(lines, "technique "+t)
	}
	return strings.TrimSpace(said + "\n\nNew evidence:\n" + bullets(lines))
}

// mark is the mark of a comment that an ensure action writes: the same for every attempt at the same news.
func (w *wanted) mark(parts ...string) string {
	return markOf(digest(append([]string{w.key}, parts...)...))
}

// say comments once: the mark tells whether an earlier attempt has.
func (c *Client) say(ctx context.Context, k kind, id, text, mark string, opts bringOptions) error {
	if opts.dry {
		return nil
	}
	if opts.look {
		there, err := c.findComment(ctx, k, id, mark)
		if err != nil || there != nil {
			return err
		}
	}
	_, err := c.postComment(ctx, k, id, text, mark)
	return err
}

// changes compares what is wanted with what was written last, and that with what is there. The body is nil when nothing has
// to be written; news says that something is wanted that was not before, even if somebody has done it already.
func (w *wanted) changes(have Ensured, o *object) (body *inputUpdate, next Ensured, news bool) {
	body, next = &inputUpdate{}, have
	write := false
	if w.hash != have.ContentHash {
		next.ContentHash, next.Title, news = w.hash, w.title, true
		title := w.title
		if before, ok := strings.CutSuffix(o.Title, have.Title); ok && have.Title != "" {
			title = fit(before+w.title, maxTitle, "…") // what the template puts before titles stays
		}
		if o.Title != title || o.Description != w.description {
			body.Title, body.Description, write = title, w.description, true
		}
	}
	if w.rated && w.severity > have.Severity {
		next.Severity, news = w.severity, true
		if w.severity > o.Severity {
			body.Severity, write = w.severity, true
		}
	}
	if was, _ := tlpLevel(have.TLP); w.tlp > was {
		next.TLP, news = w.tlp.String(), true
		if w.tlp > w.server.tlpOf(o.TLP) {
			n := w.server.tlp(w.tlp)
			body.TLP, write = &n, true
		}
	}
	if was, _ := papLevel(have.PAP); w.pap > was {
		next.PAP, news = w.pap.String(), true
		if w.pap > papOf(o.PAP) {
			n := pap(w.pap)
			body.PAP, write = &n, true
		}
	}
	if w.fieldsHash != have.FieldsHash && len(w.fields) > 0 {
		next.FieldsHash = w.fieldsHash
		if differ := differingFields(w.fields, o.CustomFields); len(differ) > 0 {
			body.CustomFields, write, news = differ, true, true
		}
	}
	for _, t := range w.tags {
		if hasTag(have.Tags, t) {
			continue
		}
		next.Tags, news = append(slices.Clip(next.Tags), t), true
		if !hasTag(o.Tags, t) {
			body.AddTags, write = append(body.AddTags, t), true
		}
	}
	if !write {
		body = nil
	}
	return body, next, news
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

// knownCase brings a case up to date that an earlier call with the key returned. Cases are merged by people: the merged one
// is found through the alert.
func (c *Client) knownCase(ctx context.Context, w *wanted, prior Ensured) (Ensured, error) {
	cs, err := c.readCase(ctx, prior.ID)
	if err == nil {
		return c.existing(ctx, kindCase, w, cs, prior, true)
	}
	if !notFound(err) {
		return Ensured{}, err
	}
	a, ferr := c.findAlert(ctx, w.ref)
	if ferr != nil {
		return Ensured{}, ferr
	}
	if a == nil || a.CaseID == "" || a.CaseID == prior.ID {
		return Ensured{}, gone(err, "case", prior.ID)
	}
	if cs, err = c.caseOfAlert(ctx, a); err != nil {
		return Ensured{}, err
	}
	return c.existing(ctx, kindCase, w, cs, c.describeCase(w, cs, a.ID, Ensured{CommentMark: prior.CommentMark}), false)
}

// caseOfAlert reads the case that an alert belongs to.
func (c *Client) caseOfAlert(ctx context.Context, a *object) (*object, error) {
	cs, err := c.readCase(ctx, a.CaseID)
	if notFound(err) {
		return nil, gone(err, "case", a.CaseID)
	}
	return cs, err
}

// gone says that what was there is there no more. No second one is made: whoever deleted the first had a reason.
func gone(err error, noun, id string) error {
	out := sdk.NotFound("%s %s is gone: it was deleted or merged away, or the user may no longer see it; no second one is made by itself. "+
		"To have one made anew, delete what is left of it in TheHive (the alert, too) and run this again", noun, id)
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

// addTechniques adds ATT&CK techniques one by one. TheHive knows those of its own catalogue; another becomes a tag, and is
// remembered.
func (c *Client) addTechniques(ctx context.Context, k kind, id string, w *wanted) error {
	var tags []string
	for _, t := range w.techniques {
		err := c.do(ctx, "add technique "+t+" to "+k.noun+" "+id, rest.Request{
			Method: http.MethodPost, Path: k.path + id + "/procedure", Body: &inputProcedure{PatternID: t, OccurDate: w.date},
		}, &json.RawMessage{})
		switch {
		case notFound(err):
			w.server.unknown.Store(t, true)
			tags = append(tags, "TTP:"+t)
		case badRequest(err):
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
func (c *Client) readCase(ctx context.Context, id string) (*object, error) {
	return c.read(ctx, kindCase, id)
}

// readAlert reads an alert by id.
func (c *Client) readAlert(ctx context.Context, id string) (*object, error) {
	return c.read(ctx, kindAlert, id)
}

func (c *Client) read(ctx context.Context, k kind, id string) (*object, error) {
	var o object
	if err := c.do(ctx, "read "+k.noun+" "+id, rest.Request{Method: http.MethodGet, Path: k.path + url.PathEscape(id)}, &o); err != nil {
		return nil, err
	}
	if !objectID(o.ID) {
		return nil, sdk.Unavailable("read %s %s: TheHive's answer names no %s", k.noun, id, k.noun)
	}
	return &o, nil
}
