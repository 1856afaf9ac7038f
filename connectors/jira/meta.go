package jira

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// metaLife is how long metadata of a site is believed.
const metaLife = time.Hour

// cache keeps answers for a while. Safe for concurrent use; the zero value is ready.
type cache[V any] struct {
	mu   sync.Mutex
	held map[string]held[V]
}

type held[V any] struct {
	v     V
	until time.Time
}

func (c *cache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.held[key]
	return h.v, ok && time.Now().Before(h.until)
}

func (c *cache[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil || len(c.held) > 10_000 {
		c.held = map[string]held[V]{}
	}
	c.held[key] = held[V]{v, time.Now().Add(metaLife)}
}

func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, key)
}

// recent remembers the issues that were written last, whose news the index may lack. Safe for concurrent use.
type recent struct {
	mu  sync.Mutex
	ids []int64 // oldest first
}

func (r *recent) add(id string) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(slices.DeleteFunc(r.ids, func(have int64) bool { return have == n }), n)
	if len(r.ids) > maxReconcile {
		r.ids = slices.Delete(r.ids, 0, len(r.ids)-maxReconcile)
	}
}

func (r *recent) list() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// createMeta is a page of create metadata. Cloud names its list issueTypes or fields, Data Center values.
type createMeta struct {
	IssueTypes []metaEntry `json:"issueTypes"`
	Fields     []metaEntry `json:"fields"`
	Values     []metaEntry `json:"values"`
	Total      int         `json:"total"`
}

// meta reads all pages of a list of create metadata.
func (c *Client) meta(ctx context.Context, project, path string) ([]metaEntry, error) {
	var all []metaEntry
	for {
		var page createMeta
		err := c.do(ctx, &request{
			verb: "read create metadata of", noun: project, method: http.MethodGet, path: fmt.Sprintf("%s?startAt=%d&maxResults=50", path, len(all)),
		}, &page)
		if err != nil {
			return nil, err
		}
		got := slices.Concat(page.IssueTypes, page.Fields, page.Values)
		all = append(all, got...)
		if len(got) == 0 || len(all) >= page.Total {
			return all, nil
		}
	}
}

func metaPath(project string) string { return "rest/api/2/issue/createmeta/" + project + "/issuetypes" }

// issueTypes are the types of a project.
func (c *Client) issueTypes(ctx context.Context, project string) ([]metaEntry, error) {
	if types, ok := c.types.get(project); ok {
		return types, nil
	}
	types, err := c.meta(ctx, project, metaPath(project))
	if err == nil {
		c.types.put(project, types)
	}
	return types, err
}

// typeNamed finds an issue type by id or name; Names are what there is.
func typeNamed(types []metaEntry, want string) (id string, names []string) {
	for _, t := range types {
		names = append(names, t.Name)
		if id == "" && (t.ID == want || strings.EqualFold(t.Name, want)) {
			id = t.ID
		}
	}
	return id, names
}

// createScreen is what can be set when an issue of a type is made.
func (c *Client) createScreen(ctx context.Context, project, issueType string) ([]metaEntry, error) {
	key := project + "/" + issueType
	if fields, ok := c.screens.get(key); ok {
		return fields, nil
	}
	types, err := c.issueTypes(ctx, project)
	if err != nil {
		return nil, err
	}
	id, names := typeNamed(types, issueType)
	if id == "" {
		c.types.drop(project)
		return nil, sdk.Invalid("/issue_type", "project %s has no issue type %q; it has %s", project, issueType, strings.Join(names, ", "))
	}
	fields, err := c.meta(ctx, project, metaPath(project)+"/"+url.PathEscape(id))
	if err == nil {
		c.screens.put(key, fields)
	}
	return fields, err
}

// forget drops what is believed of a project, because Jira said otherwise.
func (c *Client) forget(project, issueType string) {
	c.types.drop(project)
	c.screens.drop(project + "/" + issueType)
}

// fieldID says whether a name is the id of a field, which needs no looking up: its value then goes as it is.
func fieldID(name string) bool {
	if n, ok := strings.CutPrefix(name, "customfield_"); ok {
		return digits(n)
	}
	switch name {
	case "assignee", "reporter", "duedate", "environment", "components", "fixVersions", "versions", "parent", "security", "timetracking", "resolution":
		return true
	}
	return false
}

// byName says whether some field is given by its name.
func byName(given map[string]json.RawMessage) bool {
	for name := range given {
		if !fieldID(name) {
			return true
		}
	}
	return false
}

// createFields resolves the fields of an issue to be made. Ids go as they are, at no cost; names cost a look at the create
// metadata, which is kept for an hour.
func (c *Client) createFields(ctx context.Context, w *wanted) (map[string]json.RawMessage, error) {
	if !byName(w.extra) {
		return w.extra, nil
	}
	entries, err := c.createScreen(ctx, w.project, w.issueType)
	if err != nil {
		return nil, err
	}
	s := &fieldSet{entries: entries, at: "the create screen of " + w.project + " " + w.issueType, root: "/fields/", format: w.format}
	out, bad := s.convert(ctx, c, w.extra)
	for i := range entries {
		f := &entries[i]
		if _, given := out[f.name()]; !given && f.Required && !f.HasDefault && !ours(f.name()) {
			bad = append(bad, sdk.Violation{Field: "/fields/" + pointerPart(f.name()), Description: f.called() + " is required" + f.choices()})
		}
	}
	if len(bad) > 0 {
		c.forget(w.project, w.issueType) // what is wrong today may be mended by the next attempt
		e := sdk.Invalid("", "the fields do not fit %s %s", w.project, w.issueType)
		e.Violations = bad
		return nil, e
	}
	return out, nil
}

// ours are the fields that the connector fills itself, and those that Jira fills.
func ours(name string) bool {
	return reserved[name] || name == "reporter"
}

// teach adds to a refusal what the create metadata knows: the names of fields, and what they allow. It may have to ask
// Jira; when that fails, the refusal stays as it is.
func (c *Client) teach(ctx context.Context, err error, w *wanted) error {
	var e *sdk.Error
	if !errors.As(err, &e) || e.HTTPStatus != http.StatusBadRequest || len(e.Violations) == 0 {
		return err
	}
	c.forget(w.project, w.issueType)
	entries, merr := c.createScreen(ctx, w.project, w.issueType)
	var ne *sdk.Error
	if errors.As(merr, &ne) && ne.Code == codes.InvalidArgument && len(ne.Violations) > 0 {
		e.Violations = append(slices.Clone(e.Violations), ne.Violations...) // there is no such type: nothing can be more to the point
		return err
	}
	if merr != nil {
		return err
	}
	taught := slices.Clone(e.Violations)
	for i, v := range taught {
		id := strings.TrimPrefix(v.Field, "/fields/")
		f, ok := field(entries, id)
		switch {
		case ok && f.called() != id:
			taught[i].Description = f.called() + ": " + v.Description + f.choices()
		case ok:
			taught[i].Description = v.Description + f.choices()
		default:
			taught[i].Description = v.Description + "; it is not on the create screen of " + w.project + " " + w.issueType
		}
	}
	e.Violations = taught
	return err
}

// editScreen is what can be set on an issue.
func (c *Client) editScreen(ctx context.Context, ref string) ([]metaEntry, error) {
	var answer struct {
		Fields map[string]*metaEntry `json:"fields"`
	}
	err := c.do(ctx, &request{verb: "read edit metadata of issue", noun: ref, method: http.MethodGet, path: "rest/api/2/issue/" + ref + "/editmeta"}, &answer)
	if err != nil {
		return nil, err
	}
	out := make([]metaEntry, 0, len(answer.Fields))
	for _, id := range slices.Sorted(maps.Keys(answer.Fields)) {
		if f := answer.Fields[id]; f != nil {
			f.FieldID = id
			out = append(out, *f)
		}
	}
	return out, nil
}
