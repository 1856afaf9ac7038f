package jira

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// Jira Service Management makes issues as requests: https://developer.atlassian.com/cloud/jira/service-desk/rest/. A
// request takes the fields of its request type only, and neither properties nor, as a rule, labels. What is written
// together with it is the text: the description of a request therefore ends with the mark, by which it is found after a
// lost answer, and label, property and priority are written right after. Whoever finds a request with the mark and
// without the rest completes it.

// desk is a service desk and the request type that cases become.
type desk struct {
	id, requestType string
	fields          []metaEntry
}

type deskPage struct {
	Values []struct {
		ID         json.RawMessage `json:"id"`
		ProjectKey string          `json:"projectKey"`
		ProjectID  json.RawMessage `json:"projectId"`
		Name       string          `json:"name"`
	} `json:"values"`
	IsLast bool `json:"isLastPage"`
	Size   int  `json:"size"`
}

// asDesk says whether cases are made as requests.
func (c *Client) asDesk() bool { return c.cfg.RequestType != "" }

// desk finds the service desk of a project, the request type and its fields; the answer is kept for a while.
func (c *Client) desk(ctx context.Context, project string) (desk, error) {
	if d, ok := c.desks.get(project); ok {
		return d, nil
	}
	var d desk
	names, err := c.deskList(ctx, "service desks", "rest/servicedeskapi/servicedesk", func(key, id, name string) bool {
		return strings.EqualFold(key, project) || id == project
	}, &d.id)
	if err == nil && d.id == "" {
		err = sdk.BadConfig("/request_type", "project %s has no service desk that the account can see; there are those of %s", project, listOr(names))
	}
	if err != nil {
		return desk{}, err
	}
	names, err = c.deskList(ctx, "request types of service desk "+d.id, "rest/servicedeskapi/servicedesk/"+d.id+"/requesttype", func(_, id, name string) bool {
		return strings.EqualFold(name, c.cfg.RequestType) || id == c.cfg.RequestType
	}, &d.requestType)
	if err == nil && d.requestType == "" {
		err = sdk.BadConfig("/request_type", "the service desk of %s has no request type %q; it has %s", project, c.cfg.RequestType, listOr(names))
	}
	if err != nil {
		return desk{}, err
	}
	var answer struct {
		Fields []deskField `json:"requestTypeFields"`
	}
	err = c.do(ctx, &request{
		verb: "read fields of request type", noun: d.requestType, method: http.MethodGet,
		path: "rest/servicedeskapi/servicedesk/" + d.id + "/requesttype/" + d.requestType + "/field",
	}, &answer)
	if err != nil {
		return desk{}, err
	}
	for i := range answer.Fields {
		d.fields = append(d.fields, answer.Fields[i].entry())
	}
	c.desks.put(project, d)
	return d, nil
}

func listOr(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return clip(strings.Join(names, ", "), 600)
}

// deskList pages through a list until one fits, whose id goes into id.
func (c *Client) deskList(ctx context.Context, what, path string, fits func(key, id, name string) bool, id *string) (names []string, err error) {
	for start := 0; ; {
		var page deskPage
		err := c.do(ctx, &request{verb: "list", noun: what, method: http.MethodGet, path: path + "?limit=50&start=" + strconv.Itoa(start)}, &page)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Values {
			this, _ := asText(v.ID)
			names = append(names, strings.TrimSpace(v.ProjectKey+" "+v.Name))
			if digits(this) && fits(v.ProjectKey, this, v.Name) {
				*id = this
				return names, nil
			}
		}
		start += len(page.Values)
		if page.IsLast || len(page.Values) == 0 {
			return names, nil
		}
	}
}

// deskField is a field of a request type.
type deskField struct {
	FieldID     string          `json:"fieldId"`
	Name        string          `json:"name"`
	Required    bool            `json:"required"`
	Defaults    json.RawMessage `json:"defaultValues"`
	Schema      json.RawMessage `json:"jiraSchema"`
	ValidValues []deskValue     `json:"validValues"`
}

type deskValue struct {
	Value    string      `json:"value"`
	Label    string      `json:"label"`
	Children []deskValue `json:"children"`
}

func (v *deskValue) choice() choice {
	o := choice{ID: v.Value, Value: v.Label}
	for i := range v.Children {
		o.Children = append(o.Children, v.Children[i].choice())
	}
	return o
}

func (f *deskField) entry() metaEntry {
	e := metaEntry{FieldID: f.FieldID, Name: f.Name, Required: f.Required}
	e.HasDefault = len(f.Defaults) > 0 && string(f.Defaults) != "[]" && string(f.Defaults) != "null"
	if len(f.Schema) > 0 {
		_ = json.Unmarshal(f.Schema, &e.Schema) // an unknown kind of field takes what it is given
	}
	for i := range f.ValidValues {
		e.AllowedValues = append(e.AllowedValues, encoded(f.ValidValues[i].choice()))
	}
	return e
}

// raise makes the case as a request. The result is that of the request: what has to be written after it, and fails, is a
// warning, and the next call with the same key completes it.
func (c *Client) raise(ctx context.Context, s *site, w *wanted, out Ensured) (Ensured, error) {
	d, err := c.desk(ctx, w.project)
	if err != nil {
		return Ensured{}, err
	}
	set := &fieldSet{entries: d.fields, at: "the form of request type " + c.cfg.RequestType, root: "/fields/", format: w.format}
	values, bad := set.convert(ctx, c, w.extra)
	for i := range d.fields {
		f := &d.fields[i]
		if _, given := values[f.name()]; !given && f.Required && !f.HasDefault && !reserved[f.name()] {
			bad = append(bad, sdk.Violation{Field: "/fields/" + pointerPart(f.name()), Description: f.called() + " is required" + f.choices()})
		}
	}
	if len(bad) > 0 {
		c.desks.drop(w.project)
		e := sdk.Invalid("", "the fields do not fit request type %s", c.cfg.RequestType)
		e.Violations = bad
		return Ensured{}, e
	}
	values["summary"], values["description"] = quoted(w.summary), w.description
	body := map[string]any{"serviceDeskId": d.id, "requestTypeId": d.requestType, "requestFieldValues": values}
	if c.cfg.API == apiDocuments {
		body["isAdfRequest"] = true
	}
	r := &request{
		verb: "raise request in", noun: w.project, method: http.MethodPost, path: "rest/servicedeskapi/request", outcome: writes, body: body,
	}
	var made struct {
		ID  string `json:"issueId"`
		Key string `json:"issueKey"`
	}
	if err := c.do(ctx, r, &made); err != nil {
		return Ensured{}, err
	}
	if !digits(made.ID) || !issueRef(made.Key) {
		return Ensured{}, c.unknown(r, "Jira's answer names no request")
	}
	c.recent.add(made.ID)
	out.ID, out.Key, out.URL = made.ID, made.Key, s.browse(made.Key)
	rest := &issueUpdate{Properties: w.property(), Update: map[string][]map[string]any{}}
	for _, l := range out.Labels {
		rest.Update["labels"] = append(rest.Update["labels"], map[string]any{"add": l})
	}
	if w.priority != "" {
		rest.Fields = &issueFields{Priority: named(w.priority)}
	}
	err = c.do(ctx, &request{
		verb: "mark request", noun: made.Key, method: http.MethodPut, path: "rest/api/2/issue/" + made.ID, body: rest, outcome: repeatable,
	}, nil)
	if err != nil {
		out.Warnings = append(out.Warnings, "labels, priority and property were not written: "+err.Error())
		out.Labels, out.Priority, out.SeverityID, out.ContentHash = nil, "", nil, ""
	}
	return out, nil
}

// deskComment is a comment as the service desk takes it: seen by the customer, or by agents only.
func (c *Client) deskComment(ctx context.Context, in *CommentInput, body string) (comment, error) {
	var made struct {
		ID json.RawMessage `json:"id"`
	}
	err := c.do(ctx, &request{
		verb: "comment on request", noun: in.Issue, method: http.MethodPost, path: "rest/servicedeskapi/request/" + url.PathEscape(in.Issue) + "/comment",
		body: map[string]any{"body": body, "public": !*in.Internal}, outcome: writes,
	}, &made)
	var e *sdk.Error
	if errors.As(err, &e) && e.Code == codes.NotFound {
		e.Message += "; internal needs an issue of a service desk"
	}
	id, _ := asText(made.ID)
	return comment{ID: id}, err
}

// carries says whether a text ends with the mark of ref. Nothing that an alert says can stand behind it.
func carries(text, ref string) bool {
	text = strings.TrimRight(text, " \r\n\t\\]")
	return strings.HasSuffix(text, labelPrefix+ref)
}
