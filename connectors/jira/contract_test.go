package jira

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/casewire/casewire/connectors/internal/contract"
	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

// description is Atlassian's of Jira Cloud, where it is at hand; else nil.
var description = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := contract.Load("cases/jira-cloud-platform-v2-derived.trimmed.openapi.json")
	if doc == nil || err != nil {
		return nil, err
	}
	// Jira writes zones without a colon, whatever the format is called. And the schema of a field's value is {}: anything,
	// which a validator of OpenAPI 3.0 takes for anything but null.
	openapi3.DefineStringFormatValidator("date-time", openapi3.NewRegexpFormatValidator(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$`))
	for _, name := range []string{"IssueBean", "IssueUpdateDetails"} {
		for _, p := range doc.Components.Schemas[name].Value.Properties {
			if more := p.Value.AdditionalProperties.Schema; more != nil && more.Value.Type == nil {
				more.Value.Nullable = true
			}
		}
	}
	return doc, nil
})

// silent lists what the contract does not describe, and where it was checked by hand instead: the fact sheet, and the
// service desk's and OAuth's own pages.
var silent = []string{"/oauth/token", "/rest/servicedeskapi/"}

// judged has the fake judged, where the contract is at hand. It serves Cloud only: there is no contract of Data Center's.
func judged(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	doc, err := description()
	if err != nil {
		t.Fatalf("contract: %v", err)
	}
	if doc == nil {
		return next
	}
	return &contract.Judge{T: t, Doc: doc, Next: next, Silent: silent, Path: func(path string) string {
		if i := strings.Index(path, "/rest/"); i > 0 { // below /ex/jira/{cloudId}
			path = path[i:]
		}
		// Version 3 differs in the form of texts only, which the contract leaves open.
		return strings.Replace(path, "/rest/api/3/", "/rest/api/2/", 1)
	}}
}

// TestEveryRequestKeepsTheContract sends every kind of request that the connector can send to Cloud, and looks whether
// none was left out; other tests send them in all their forms through the same judge.
func TestEveryRequestKeepsTheContract(t *testing.T) {
	t.Parallel()
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	if doc == nil {
		t.Skip(contract.Variable + " names no folder with the vendors' contracts")
	}
	fake := jirafake.New(jirafake.Options{NoIssueLimit: true, Projects: richProject()})
	j, _ := judged(t, fake).(*contract.Judge)
	srv := httptest.NewServer(j)
	t.Cleanup(func() { srv.Close(); fake.Close() })
	cfg := testConfig(srv.URL)
	cfg.Deployment, cfg.IssueType, cfg.Email, cfg.APIToken = "auto", "Incident", fake.User().Email, plugin.NewSecret(fake.User().APIToken)
	h := sdktest.Open(t, Connector(), cfg)
	if probes, err := h.Check(t.Context()); err != nil || len(probes) == 0 {
		t.Errorf("check: %v", err)
	}
	first := one(t, h, "a", with("fields", map[string]any{"Team": "Blue", "Analyst": fake.User().Email}), with("url", "https://portal.example/1"))
	one(t, h, "b", with("fields", map[string]any{"Team": "Blue"}))
	c := ensure(with("title", "News"), with("severity_id", 5), with("comment_on_update", "c"), with("labels", []string{"l"}))
	c.Key = "a"
	must[Ensured](t, h, c)
	call := func(action string, in map[string]any, more ...func(*sdktest.Call)) {
		t.Helper()
		in["issue"] = first.Key
		c := sdktest.Call{Action: action, Input: in, Key: "key of " + action}
		for _, f := range more {
			f(&c)
		}
		if _, err := h.Do(t.Context(), c); err != nil {
			t.Errorf("%s: %v", action, err)
		}
	}
	call("issue.comment", map[string]any{"text": "x", "role": "Administrators"})
	call("issue.comment", map[string]any{"text": "x", "role": "Administrators"}, func(c *sdktest.Call) { c.Attempt = 2 })
	call("issue.comment", map[string]any{"text": "y"}, func(c *sdktest.Call) { c.Prior = Commented{ID: "10002", Issue: first.Key} })
	call("issue.update", map[string]any{"title": "T", "fields": map[string]any{"Sources": []string{"Entra"}}, "assignee": fake.User().Email})
	call("issue.transition", map[string]any{"to": "done", "comment": "x"})
	call("issue.attach", map[string]any{"files": []any{file("a", "b")}})
	fake.FailNext(jirafake.RouteAttach, jirafake.LostAnswer, 1)
	_, _ = h.Do(t.Context(), sdktest.Call{Action: "issue.attach", Input: map[string]any{"issue": first.Key, "files": []any{file("c", "d")}}})
	call("issue.attach", map[string]any{"files": []any{file("c", "d")}})
	call("issue.link", map[string]any{"to": "SOC-2", "type": "Duplicate"})
	call("issue.remote_link", map[string]any{"url": "https://portal.example/1", "title": "t", "relationship": "r"})
	call("issue.get", map[string]any{"fields": []string{"customfield_10001"}})
	must[searched](t, h, sdktest.Call{Action: "issue.search", Input: map[string]any{"jql": "project = SOC"}})
	if events, _ := pollAll(t, h, nil); len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
	for _, want := range []string{
		"GET /rest/api/2/serverInfo", "GET /rest/api/2/myself", "GET /rest/api/2/mypermissions", "GET /rest/api/2/project/{projectIdOrKey}",
		"GET /rest/api/2/issue/createmeta/{projectIdOrKey}/issuetypes", "GET /rest/api/2/issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}",
		"GET /rest/api/2/user/search", "POST /rest/api/2/search/jql", "POST /rest/api/2/issue", "GET /rest/api/2/issue/{issueIdOrKey}",
		"PUT /rest/api/2/issue/{issueIdOrKey}", "GET /rest/api/2/issue/{issueIdOrKey}/editmeta", "POST /rest/api/2/issue/{issueIdOrKey}/comment",
		"GET /rest/api/2/issue/{issueIdOrKey}/comment", "PUT /rest/api/2/issue/{issueIdOrKey}/comment/{id}",
		"GET /rest/api/2/issue/{issueIdOrKey}/transitions", "POST /rest/api/2/issue/{issueIdOrKey}/transitions",
		"POST /rest/api/2/issue/{issueIdOrKey}/attachments", "GET /rest/api/2/attachment/meta", "GET /rest/api/2/attachment/content/{id}",
		"PUT /rest/api/2/issue/{issueIdOrKey}/properties/{propertyKey}", "POST /rest/api/2/issueLink", "POST /rest/api/2/issue/{issueIdOrKey}/remotelink",
	} {
		if !j.Seen(want) {
			t.Errorf("no test sends %s", want)
		}
	}
}
