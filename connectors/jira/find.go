package jira

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
)

// searchBody asks Cloud (POST search/jql) or Data Center (POST search). Unknown members are refused by Cloud, hence the
// omissions.
type searchBody struct {
	JQL           string   `json:"jql"`
	NextPageToken string   `json:"nextPageToken,omitempty"`
	StartAt       int      `json:"startAt,omitempty"`
	MaxResults    int      `json:"maxResults"`
	Fields        []string `json:"fields,omitempty"`
	Properties    []string `json:"properties,omitempty"`
	Reconcile     []int64  `json:"reconcileIssues,omitempty"` // brought up to date in Cloud's index before the search
}

type searchAnswer struct {
	Issues        []issue `json:"issues"`
	NextPageToken string  `json:"nextPageToken"`
	IsLast        *bool   `json:"isLast"`
	StartAt       int     `json:"startAt"`
	Total         int     `json:"total"`
}

var (
	markFields     = []string{"labels", "status"}
	markProperties = []string{propertyKey}
)

// maxCandidates is how many issues with one mark are looked at. More than one is a fault already.
const maxCandidates = 20

// find looks for the issue with the mark of ref. A label alone proves nothing: people copy issues together with their
// labels. Of the issues whose property names the ref the oldest counts; an issue with the label and no property at all
// (imported, or the property is hidden) counts only if there is none of those. Others are the keys of the issues left
// over. Jira's index may lag, so that nothing found does not mean that there is nothing.
func (c *Client) find(ctx context.Context, project, ref string) (found *issue, others []string, err error) {
	s, err := c.where(ctx)
	if err != nil {
		return nil, nil, err
	}
	body := &searchBody{
		JQL:        `project = "` + project + `" AND labels = "` + labelPrefix + ref + `"`,
		MaxResults: maxCandidates, Fields: markFields,
	}
	if c.asDesk() {
		body.JQL = `project = "` + project + `" AND (labels = "` + labelPrefix + ref + `" OR description ~ "` + ref + `")`
		body.Fields = append(slices.Clip(markFields), "description")
	}
	if s.cloud {
		body.Properties = markProperties
	}
	answer, err := c.searchPage(ctx, s, body)
	if err != nil {
		return nil, nil, err
	}
	var proven, bare []*issue
	for i := range answer.Issues {
		is := &answer.Issues[i]
		if !digits(is.ID) {
			continue
		}
		p, ok := is.mark()
		if !ok && !s.cloud {
			// Data Center's search returns no properties.
			full, err := c.fetch(ctx, is.ID)
			if err != nil {
				return nil, nil, err
			}
			is = full
			p, ok = is.mark()
		}
		switch {
		case ok && p.Ref == ref, c.asDesk() && !ok && carries(is.text("description"), ref):
			proven = append(proven, is)
		case !ok && !c.asDesk(), !ok && contains(is.labels(), labelPrefix+ref):
			bare = append(bare, is)
		}
	}
	if len(proven) == 0 {
		proven = bare
	}
	if len(proven) == 0 {
		return nil, nil, nil
	}
	slices.SortFunc(proven, func(a, b *issue) int { return cmp.Compare(number(a.ID), number(b.ID)) })
	for _, is := range proven[1:] {
		others = append(others, is.Key)
	}
	return proven[0], others, nil
}

// fetch reads an issue by id with what find needs. It does not depend on the index.
func (c *Client) fetch(ctx context.Context, id string) (*issue, error) {
	var is issue
	err := c.do(ctx, &request{
		verb: "read issue", noun: id, method: http.MethodGet,
		path: "rest/api/2/issue/" + id + "?fields=labels,status" + map[bool]string{true: ",description"}[c.asDesk()] + "&properties=" + propertyKey,
	}, &is)
	if err != nil {
		return nil, err
	}
	return &is, nil
}

// searchPage reads one page. A search changes nothing although it is a POST: JQL in an address is cut by proxies.
func (c *Client) searchPage(ctx context.Context, s *site, body *searchBody) (*searchAnswer, error) {
	path := "rest/api/2/search"
	if s.cloud {
		path += "/jql"
	}
	var answer searchAnswer
	err := c.do(ctx, &request{verb: "search issues", method: http.MethodPost, path: path, body: body}, &answer)
	return &answer, err
}

func number(id string) uint64 {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return 1<<64 - 1
	}
	return n
}
