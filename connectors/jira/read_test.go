package jira

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestGetShowsAnIssue(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{"GET /rest/api/2/issue/SOC-1": answer(200, `{"id":"10001","key":"SOC-1","fields":{
		"project":{"key":"SOC"},"issuetype":{"name":"Task"},"summary":"s","description":null,
		"status":{"name":"Erledigt","statusCategory":{"key":"done"}},"resolution":{"name":"Done"},"priority":{"name":"High"},"labels":["a"],
		"assignee":{"displayName":"Ada","name":"ada"},"reporter":null,"created":"2026-11-23T10:00:00.000+0100","updated":"odd",
		"customfield_1":{"value":"x"}},"properties":{"casewire.correlation":{"v":1,"ref":"r","key":"k"}}}`)})
	got := must[Issue](t, s.open(), sdktest.Call{Action: "issue.get", Input: map[string]any{"issue": "SOC-1", "fields": []string{"customfield_1"}}})
	if got.Created == nil || got.Created.Format("15:04") != "09:00" || got.Updated != nil {
		t.Errorf("times %v and %v", got.Created, got.Updated)
	}
	got.Created = nil
	want := Issue{
		ID: "10001", Key: "SOC-1", URL: s.URL + "/browse/SOC-1", Project: "SOC", Type: "Task", Summary: "s", Status: "Erledigt", Category: "done",
		Resolution: "Done", Priority: "High", Labels: []string{"a"}, Assignee: "Ada", CaseKey: "k",
		Fields: map[string]json.RawMessage{"customfield_1": json.RawMessage(`{"value":"x"}`)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if q := s.seen[0].query; !strings.Contains(q, "customfield_1") || !strings.Contains(q, "properties=casewire.correlation") {
		t.Errorf("query %q", q)
	}
}

func TestIssueReferencesAreChecked(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"SOC-1": true, "10001": true, "A_B1-22": true, "": false, "-1": false, "SOC-": false, "SOC": false, "../x": false, "SOC-1/comment": false,
		"SOC-1?x": false, "SOC-1#": false, "1SOC-1": false, "SOC-1-2": false, strings.Repeat("9", 30): false, "SÖC-1": false, "SOC-%31": false,
	} {
		if got := issueRef(in); got != want {
			t.Errorf("issueRef(%q) = %v", in, got)
		}
	}
}

type searched struct {
	Count int     `json:"count"`
	More  bool    `json:"more"`
	Rows  []Issue `json:"rows"`
}

func TestSearchFollowsTokensOnCloud(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeSearch: func(w http.ResponseWriter, r *http.Request) {
		var q searchBody
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		next := map[string]string{"": "one", "one": "two", "two": ""}[q.NextPageToken]
		answer(200, fmt.Sprintf(`{"issues":[{"id":"1","key":"SOC-1"},{"id":"2","key":"SOC-2"}],"nextPageToken":%q}`, next))(w, r)
	}})
	h := s.open()
	got := must[searched](t, h, sdktest.Call{Action: "issue.search", Input: map[string]any{"jql": "labels = :l", "params": map[string]string{"l": `a" OR "b`}}})
	if got.Count != 6 || got.More || len(got.Rows) != 6 {
		t.Errorf("got %d issues, more %v, %d rows", got.Count, got.More, len(got.Rows))
	}
	if jql := s.body(routeSearch)["jql"]; jql != `labels = "a\" OR \"b"` {
		t.Errorf("jql %q", jql)
	}
	got = must[searched](t, h, sdktest.Call{Action: "issue.search", Input: map[string]any{"jql": "x = 1", "limit": 3}})
	if got.Count != 3 || !got.More {
		t.Errorf("limited: %d issues, more %v", got.Count, got.More)
	}
}

func TestSearchEndsOnATokenThatRepeats(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeSearch: answer(200, `{"issues":[{"id":"1","key":"SOC-1"}],"nextPageToken":"same"}`)})
	if got := must[searched](t, s.open(), sdktest.Call{Action: "issue.search", Input: map[string]any{"jql": "x = 1"}}); got.Count != 2 {
		t.Errorf("%d issues", got.Count)
	}
}

func TestSearchFollowsOffsetsOnDataCenter(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{"POST /rest/api/2/search": func(w http.ResponseWriter, r *http.Request) {
		var q searchBody
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		n := min(2, 5-q.StartAt)
		answer(200, fmt.Sprintf(`{"startAt":%d,"total":5,"issues":[%s]}`, q.StartAt,
			strings.TrimSuffix(strings.Repeat(`{"id":"1","key":"SOC-1"},`, n), ",")))(w, r)
	}})
	got := must[searched](t, s.open(func(c *Config) { c.Deployment = "datacenter" }),
		sdktest.Call{Action: "issue.search", Input: map[string]any{"jql": "x = 1"}})
	if got.Count != 5 || len(s.asked()) != 3 {
		t.Errorf("%d issues in %d requests", got.Count, len(s.asked()))
	}
}

func TestBindJQL(t *testing.T) {
	t.Parallel()
	params := map[string]string{"a": "x", "b2": "line\nbreak\\\x00"}
	for jql, want := range map[string]string{
		`p = :a AND t ~ :b2`:               `p = "x" AND t ~ "line\nbreak\\"`,
		`p = ":a" AND q = :a AND r = :b2`:  `p = ":a" AND q = "x" AND r = "line\nbreak\\"`,
		`t > "10:30" AND a=:a, b=:b2`:      `t > "10:30" AND a="x", b="line\nbreak\\"`,
		`p = 'it\'s :a' AND q = :a OR :b2`: `p = 'it\'s :a' AND q = "x" OR "line\nbreak\\"`,
	} {
		got, err := bindJQL(jql, params)
		if err != nil || got != want {
			t.Errorf("bindJQL(%q) = %q, %v; want %q", jql, got, err, want)
		}
	}
	for jql, field := range map[string]string{
		"": "/jql", `p = "open`: "/jql", "p = :nope": "/params/nope", "p = :a": "/params/b2",
	} {
		_, err := bindJQL(jql, params)
		if e := asError(t, err); e.Violations[0].Field != field {
			t.Errorf("bindJQL(%q): %v", jql, e)
		}
	}
}

func FuzzBindJQL(f *testing.F) {
	f.Add("p = :a", `x" OR "y`)
	f.Add(`p = "\\:a" and :a`, "\\")
	f.Fuzz(func(t *testing.T, jql, value string) {
		got, err := bindJQL(jql, map[string]string{"a": value})
		if err != nil {
			return
		}
		plain, err := bindJQL(jql, map[string]string{"a": "v"})
		if err != nil {
			t.Fatalf("a value decides whether %q is valid: %v", jql, err)
		}
		if a, b := outside(got), outside(plain); a != b {
			t.Fatalf("the value %q changed the question %q into %q", value, plain, got)
		}
	})
}

// outside is jql with its strings emptied.
func outside(jql string) string {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(jql); i++ {
		switch c := jql[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
			b.WriteByte(c)
		case quote != 0:
		default:
			if c == '"' || c == '\'' {
				quote = c
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestConfigMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		field  string
	}{
		"no address":      {func(c *Config) { c.BaseURL = "https:///x" }, "/base_url"},
		"user in address": {func(c *Config) { c.BaseURL = "https://a:b@x.example" }, "/base_url"},
		"query":           {func(c *Config) { c.BaseURL = "https://x.example/?a" }, "/base_url"},
		"rest path":       {func(c *Config) { c.BaseURL = "https://x.example/rest/api/2" }, "/base_url"},
		"no cloud id":     {func(c *Config) { c.BaseURL = "https://api.atlassian.com" }, "/base_url"},
		"plain http":      {func(c *Config) { c.BaseURL = "http://jira.example" }, "base_url"},
		"no credential":   {func(c *Config) { c.Email, c.APIToken = "", plugin.Secret{} }, "/api_token"},
		"no email":        {func(c *Config) { c.Email = "" }, "/email"},
		"no token":        {func(c *Config) { c.APIToken = plugin.Secret{} }, "/api_token"},
		"two ways":        {func(c *Config) { c.Token = plugin.NewSecret("x1234567") }, "/token"},
		"two places":      {func(c *Config) { c.Credential = &Credential{Token: plugin.NewSecret("x1234567")} }, "/credential"},
		"severity":        {func(c *Config) { c.Priorities = map[string]string{"hgih": "High"} }, "/priorities/hgih"},
		"site":            {func(c *Config) { c.SiteURL = "jira.example" }, "/site_url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig("https://acme.atlassian.net")
			tt.change(&cfg)
			_, err := open(t.Context(), cfg, sdk.Env{})
			e := asError(t, err)
			if e.Class() != plugin.ClassConfig || len(e.Violations) == 0 || strings.TrimPrefix(e.Violations[0].Field, "/") != strings.TrimPrefix(tt.field, "/") {
				t.Errorf("%v of class %s", e, e.Class())
			}
		})
	}
	cfg := testConfig("https://api.atlassian.com/ex/jira/11111111-2222-3333-4444-555555555555/")
	cfg.Credential, cfg.Email, cfg.APIToken = &Credential{Email: cfg.Email, APIToken: cfg.APIToken}, "", plugin.Secret{}
	if _, err := open(t.Context(), cfg, sdk.Env{}); err != nil {
		t.Errorf("a scoped address with a shared credential: %v", err)
	}
}

func TestScopedAddressKeepsItsPathAndLinksToTheSite(t *testing.T) {
	t.Parallel()
	const base = "/ex/jira/1111"
	s := script(t, map[string]http.HandlerFunc{
		"GET " + base + "/rest/api/2/serverInfo":  answer(200, `{"deploymentType":"Cloud","baseUrl":"https://acme.atlassian.net"}`),
		"POST " + base + "/rest/api/2/search/jql": answer(200, nothing),
		"POST " + base + "/rest/api/2/issue":      answer(201, created),
	})
	h := s.open(func(c *Config) { c.BaseURL += base })
	if got := must[Ensured](t, h, ensure()); got.URL != "https://acme.atlassian.net/browse/SOC-24" {
		t.Errorf("url %q", got.URL)
	}
}
