package jira

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// GetInput names an issue.
type GetInput struct {
	Issue  string   `json:"issue" cw:"required" doc:"Key or id of the issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	Fields []string `json:"fields,omitempty" doc:"Further fields by id, such as customfield_10010; they appear under fields"`
}

// Issue is an issue as it is now.
type Issue struct {
	ID          string     `json:"id" doc:"Id of the issue"`
	Key         string     `json:"key" doc:"Key of the issue, such as SOC-24"`
	URL         string     `json:"url" doc:"Where people open it"`
	Project     string     `json:"project,omitempty" doc:"Key of its project"`
	Type        string     `json:"type,omitempty" doc:"Name of its type"`
	Summary     string     `json:"summary,omitempty"`
	Description string     `json:"description,omitempty" doc:"Wiki markup"`
	Status      string     `json:"status,omitempty" doc:"Name of its status"`
	Category    string     `json:"status_category,omitempty" doc:"What the status means: new, indeterminate or done"`
	Resolution  string     `json:"resolution,omitempty" doc:"Name of its resolution; empty while it is open"`
	Priority    string     `json:"priority,omitempty"`
	Labels      []string   `json:"labels,omitempty"`
	Assignee    string     `json:"assignee,omitempty" doc:"Display name"`
	Reporter    string     `json:"reporter,omitempty" doc:"Display name"`
	Created     *time.Time `json:"created,omitempty"`
	Updated     *time.Time `json:"updated,omitempty"`
	CaseKey     string     `json:"case_key,omitempty" doc:"The key that the issue was made for, if it was made here"`

	Fields map[string]json.RawMessage `json:"fields,omitempty" doc:"The further fields that were asked for"`
}

// baseFields are what Issue shows.
var baseFields = []string{
	"project", "issuetype", "summary", "description", "status", "resolution", "priority", "labels", "assignee", "reporter", "created", "updated",
}

// Get reads one issue.
func (c *Client) Get(ctx context.Context, in GetInput) (Issue, error) {
	if !issueRef(in.Issue) {
		return Issue{}, sdk.Invalid("/issue", "%q is neither an issue's key nor its id", in.Issue)
	}
	s, err := c.where(ctx)
	if err != nil {
		return Issue{}, err
	}
	fields, err := fieldList(in.Fields)
	if err != nil {
		return Issue{}, err
	}
	q := url.Values{"fields": {strings.Join(fields, ",")}, "properties": {propertyKey}}
	var is issue
	err = c.do(ctx, &request{
		verb: "read issue", noun: in.Issue, method: http.MethodGet, path: "rest/api/2/issue/" + in.Issue + "?" + q.Encode(),
	}, &is)
	if err != nil {
		return Issue{}, err
	}
	return is.show(s, in.Fields), nil
}

// fieldList adds the caller's fields to the base; names go into an address and a list separated by commas.
func fieldList(more []string) ([]string, error) {
	out := slices.Clone(baseFields)
	for _, f := range more {
		if f == "" || strings.ContainsAny(f, ", \t\n*") {
			return nil, sdk.Invalid("/fields", "%q is not the id of a field", f)
		}
		out = append(out, f)
	}
	return out, nil
}

func (i *issue) show(s *site, more []string) Issue {
	var project struct {
		Key string `json:"key"`
	}
	i.field("project", &project)
	p, _ := i.mark()
	out := Issue{
		ID: i.ID, Key: i.Key, URL: s.browse(i.Key), Project: project.Key, Type: i.name("issuetype"), Summary: i.text("summary"),
		Description: i.text("description"), Status: i.name("status"), Category: i.category(), Resolution: i.name("resolution"),
		Priority: i.name("priority"), Labels: i.labels(), Assignee: i.name("assignee"), Reporter: i.name("reporter"), CaseKey: p.Key,
	}
	if t := i.time("created"); !t.IsZero() {
		out.Created = &t
	}
	if t := i.time("updated"); !t.IsZero() {
		out.Updated = &t
	}
	for _, f := range more {
		if raw, ok := i.Fields[f]; ok {
			if out.Fields == nil {
				out.Fields = make(map[string]json.RawMessage, len(more))
			}
			out.Fields[f] = raw
		}
	}
	return out
}

// SearchInput is a question in JQL.
type SearchInput struct {
	JQL    string            `json:"jql" cw:"required" doc:"The question. Cloud wants a condition in it, such as a project. :name stands for a param" example:"project = SOC AND labels = :label ORDER BY created DESC"`
	Params map[string]string `json:"params,omitempty" doc:"Values for :name in jql; they are quoted, so that a value cannot change the question"`
	Fields []string          `json:"fields,omitempty" doc:"Further fields by id; they appear under fields"`
	Limit  int               `json:"limit,omitempty" doc:"Most issues to bring" default:"1000" cw:"min=1,max=100000"`
}

// SearchOutput sums a search up.
type SearchOutput struct {
	Count int  `json:"count" doc:"Number of issues brought"`
	More  bool `json:"more" doc:"There are more than limit"`
}

// Search brings the issues that a JQL question finds, page by page: by token on Cloud, by offset on Data Center.
func (c *Client) Search(ctx context.Context, in SearchInput, emit func(Issue) error) (SearchOutput, error) {
	var out SearchOutput
	jql, err := bindJQL(in.JQL, in.Params)
	if err != nil {
		return out, err
	}
	fields, err := fieldList(in.Fields)
	if err != nil {
		return out, err
	}
	s, err := c.where(ctx)
	if err != nil {
		return out, err
	}
	limit := in.Limit
	if limit <= 0 {
		limit = 1000
	}
	body := &searchBody{JQL: jql, MaxResults: min(limit, 100), Fields: fields}
	if s.cloud {
		body.Properties = markProperties
	}
	for {
		page, err := c.searchPage(ctx, s, body)
		if err != nil {
			return out, err
		}
		for i := range page.Issues {
			if out.Count == limit {
				out.More = true
				return out, nil
			}
			if err := emit(page.Issues[i].show(s, in.Fields)); err != nil {
				return out, err
			}
			out.Count++
		}
		if s.cloud {
			// IsLast may be absent; the token alone says whether there is more. The same token twice would never end.
			if page.NextPageToken == "" || page.NextPageToken == body.NextPageToken {
				return out, nil
			}
			body.NextPageToken = page.NextPageToken
		} else {
			body.StartAt += len(page.Issues)
			if len(page.Issues) == 0 || body.StartAt >= page.Total {
				return out, nil
			}
		}
		if out.Count == limit {
			out.More = true
			return out, nil
		}
	}
}

// bindJQL puts quoted values in the places of :name. Names inside quotes are left alone, and so is a colon that no name
// follows; a name without a value, or a value without its name, is an error.
func bindJQL(jql string, params map[string]string) (string, error) {
	if strings.TrimSpace(jql) == "" {
		return "", sdk.Invalid("/jql", "is empty")
	}
	var b strings.Builder
	used := make(map[string]bool, len(params))
	quote := byte(0)
	for i := 0; i < len(jql); i++ {
		ch := jql[i]
		switch {
		case quote != 0:
			if ch == '\\' && i+1 < len(jql) {
				b.WriteByte(ch)
				i++
				ch = jql[i]
			} else if ch == quote {
				quote = 0
			}
		case ch == '"' || ch == '\'':
			quote = ch
		case ch == ':':
			end := i + 1
			for end < len(jql) && nameByte(jql[end], end > i+1) {
				end++
			}
			if name := jql[i+1 : end]; name != "" {
				value, ok := params[name]
				if !ok {
					return "", sdk.Invalid("/params/"+name, "is used in jql but not given")
				}
				used[name] = true
				b.WriteString(quoteJQL(value))
				i = end - 1
				continue
			}
		}
		b.WriteByte(ch)
	}
	if quote != 0 {
		return "", sdk.Invalid("/jql", "has a quote that does not end")
	}
	for name := range params {
		if !used[name] {
			return "", sdk.Invalid("/params/"+name, "is given but jql has no :%s", name)
		}
	}
	return b.String(), nil
}

func nameByte(c byte, inside bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || inside && c >= '0' && c <= '9'
}

// quoteJQL writes a JQL string: quotes and backslashes escaped, line breaks as JQL's escapes, other controls dropped.
func quoteJQL(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
