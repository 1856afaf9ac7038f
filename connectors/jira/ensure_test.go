package jira

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

const caseKey = "msincident:11111111-2222-3333-4444-555555555555:2941"

func label() string { return labelPrefix + caseRef(caseKey) }

func ensure(change ...func(*sdktest.Call)) sdktest.Call {
	c := sdktest.Call{Action: "issue.ensure", Key: caseKey, Input: map[string]any{
		"title": "Root login", "description": "**who**: root", "severity_id": 4, "labels": []string{"aws cloud"},
	}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func with(name string, value any) func(*sdktest.Call) {
	return func(c *sdktest.Call) { c.Input.(map[string]any)[name] = value }
}

func TestEnsureMakesOneMarkedIssue(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeSearch: answer(200, nothing), routeCreate: answer(201, created)})
	got := must[Ensured](t, s.open(), ensure(with("url", "https://portal.example/i/1"), with("fields", map[string]any{"customfield_10010": "x"})))
	four := 4
	want := Ensured{
		ID: "10024", Key: "SOC-24", URL: s.URL + "/browse/SOC-24", Created: true, ContentHash: got.ContentHash, SeverityID: &four,
		Priority: "High", Labels: []string{"casewire", "aws-cloud", label()},
	}
	if diff := cmp.Diff(want, got); diff != "" || got.ContentHash == "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{routeSearch, routeCreate}, s.asked()); diff != "" {
		t.Errorf("requests:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{
		"jql": `project = "SOC" AND labels = "` + label() + `"`, "maxResults": 20.0,
		"fields": []any{"labels", "status"}, "properties": []any{propertyKey},
	}, s.body(routeSearch)); diff != "" {
		t.Errorf("search:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{
		"fields": map[string]any{
			"project": map[string]any{"key": "SOC"}, "issuetype": map[string]any{"name": "Task"}, "summary": "Root login",
			"description": "[Open the alert|https://portal.example/i/1]\n\n*who*: root", "priority": map[string]any{"name": "High"},
			"labels": []any{"casewire", "aws-cloud", label()}, "customfield_10010": "x",
		},
		"properties": []any{map[string]any{"key": propertyKey, "value": map[string]any{
			"v": 1.0, "ref": caseRef(caseKey), "key": caseKey, "hash": got.ContentHash, "severity_id": 4.0, "priority": "High",
		}}},
	}, s.body(routeCreate)); diff != "" {
		t.Errorf("create:\n%s", diff)
	}
	for _, r := range s.seen {
		if r.header.Get("Accept") != "application/json" || !strings.HasPrefix(r.header.Get("User-Agent"), "casewire-jira/") {
			t.Errorf("%s: Accept %q, User-Agent %q", r.route, r.header.Get("Accept"), r.header.Get("User-Agent"))
		}
	}
}

func TestEnsureWithoutSearchIsOneRequest(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeSearch: answer(200, nothing), routeCreate: answer(201, created)})
	h := s.open(func(c *Config) { c.SearchBeforeCreate = false })
	// A false value is left out by the harness's encoding of the struct, which would bring the default back.
	cfg := map[string]any{
		"base_url": s.URL, "email": "bot@acme.example", "api_token": testToken, "project": "SOC", "issue_type": "10007",
		"deployment": "cloud", "search_before_create": false, "labels": []string{}, "priorities": map[string]string{"High": "2", "low": ""},
	}
	if err := h.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	must[Ensured](t, h, ensure())
	if diff := cmp.Diff([]string{routeCreate}, s.asked()); diff != "" {
		t.Errorf("requests:\n%s", diff)
	}
	fields := s.body(routeCreate)["fields"].(map[string]any)
	if diff := cmp.Diff(map[string]any{"id": "2"}, fields["priority"]); diff != "" {
		t.Errorf("priority:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"id": "10007"}, fields["issuetype"]); diff != "" {
		t.Errorf("issue type:\n%s", diff)
	}
	must[Ensured](t, h, ensure(with("severity_id", 2)))
	if p, ok := s.body(routeCreate)["fields"].(map[string]any)["priority"]; ok {
		t.Errorf("priority %v is sent although the table says none", p)
	}
	// A second attempt looks all the same.
	must[Ensured](t, h, ensure(func(c *sdktest.Call) { c.Attempt = 2 }))
	if n := len(s.asked()); n != 4 {
		t.Errorf("requests: %v", s.asked())
	}
}

// found is a search's answer with issues of these ids; each property is raw JSON, or empty for none.
func found(issues ...[2]string) http.HandlerFunc {
	var list []string
	for _, is := range issues {
		props := ""
		if is[1] != "" {
			props = fmt.Sprintf(`,"properties":{%q:%s}`, propertyKey, is[1])
		}
		list = append(list, fmt.Sprintf(`{"id":%q,"key":"SOC-%s","fields":{"labels":["casewire","aws-cloud",%q],"status":{"name":"In Arbeit","statusCategory":{"key":"indeterminate"}}}%s}`,
			is[0], is[0], label(), props))
	}
	return answer(200, `{"issues":[`+strings.Join(list, ",")+`]}`)
}

func mark(hash string) string {
	return fmt.Sprintf(`{"v":1,"ref":%q,"key":%q,"hash":%q,"severity_id":4,"priority":"High"}`, caseRef(caseKey), caseKey, hash)
}

// wantedHash is the content hash of ensure().
func wantedHash(t *testing.T) string {
	t.Helper()
	c := &Client{cfg: Config{Project: "SOC", IssueType: "Task"}, priorities: defaultPriorities}
	w, err := c.want(caseKey, &EnsureInput{Title: "Root login", Description: "**who**: root"})
	if err != nil {
		t.Fatal(err)
	}
	return w.hash
}

func TestEnsureAdoptsWhatItFinds(t *testing.T) {
	t.Parallel()
	foreign := `{"v":1,"ref":"` + caseRef("another case") + `"}`
	hash := wantedHash(t)
	for name, tt := range map[string]struct {
		found      http.HandlerFunc
		id         string
		duplicates []string
		requests   []string
	}{
		"unchanged":       {found([2]string{"10024", mark(hash)}), "10024", nil, []string{routeSearch}},
		"older content":   {found([2]string{"10024", mark("0123456789abcdef")}), "10024", nil, []string{routeSearch, routeEdit}},
		"without a mark":  {found([2]string{"10024", ""}), "10024", nil, []string{routeSearch, routeEdit}},
		"the oldest":      {found([2]string{"10030", mark(hash)}, [2]string{"9999", mark(hash)}), "9999", []string{"SOC-10030"}, []string{routeSearch}},
		"marked first":    {found([2]string{"9", ""}, [2]string{"10024", mark(hash)}), "10024", nil, []string{routeSearch}},
		"a copy is none":  {found([2]string{"9", foreign}), "10024", nil, []string{routeSearch, routeCreate}},
		"rubbish is none": {answer(200, `{"issues":[{"id":"x","key":"SOC-1"}]}`), "10024", nil, []string{routeSearch, routeCreate}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, map[string]http.HandlerFunc{routeSearch: tt.found, routeCreate: answer(201, created), routeEdit: answer(204, "")})
			got := must[Ensured](t, s.open(), ensure())
			if got.ID != tt.id || !cmp.Equal(got.Duplicates, tt.duplicates) {
				t.Errorf("got %s with duplicates %v, want %s and %v", got.ID, got.Duplicates, tt.id, tt.duplicates)
			}
			if diff := cmp.Diff(tt.requests, s.asked()); diff != "" {
				t.Errorf("requests:\n%s", diff)
			}
			if made := len(tt.requests) == 2 && tt.requests[1] == routeCreate; got.Created != made {
				t.Errorf("created is %v", got.Created)
			}
		})
	}
}

func TestEnsureOnDataCenterProvesTheMarkByReading(t *testing.T) {
	t.Parallel()
	hash := wantedHash(t)
	full := func(id, property string) http.HandlerFunc {
		return answer(200, fmt.Sprintf(`{"id":%q,"key":"SOC-%s","fields":{"labels":["casewire","aws-cloud"]},"properties":{%q:%s}}`, id, id, propertyKey, property))
	}
	s := script(t, map[string]http.HandlerFunc{
		"GET /rest/api/2/serverInfo":  answer(200, `{"deploymentType":"Server","version":"9.12.1","baseUrl":"https://jira.example"}`),
		"POST /rest/api/2/search":     answer(200, `{"startAt":0,"total":2,"issues":[{"id":"7","key":"SOC-7"},{"id":"10024","key":"SOC-24"}]}`),
		"GET /rest/api/2/issue/7":     full("7", `{"v":1,"ref":"somebody else's"}`),
		"GET /rest/api/2/issue/10024": full("10024", mark(hash)),
	})
	h := s.open(func(c *Config) {
		c.Deployment, c.Email, c.APIToken, c.Token = "auto", "", plugin.Secret{}, plugin.NewSecret("pat-0123456789")
	})
	for range 2 {
		if got := must[Ensured](t, h, ensure()); got.ID != "10024" || got.Updated {
			t.Errorf("got %+v", got)
		}
	}
	if n := strings.Count(strings.Join(s.asked(), "\n"), "serverInfo"); n != 1 {
		t.Errorf("asked %d times which Jira it is", n)
	}
	if _, ok := s.body("POST /rest/api/2/search")["properties"]; ok {
		t.Error("Data Center's search takes no properties")
	}
	if got := s.seen[0].header.Get("Authorization"); got != "Bearer pat-0123456789" {
		t.Errorf("Authorization is %q", got)
	}
}

func prior(t *testing.T) Ensured {
	t.Helper()
	four := 4
	return Ensured{
		ID: "10024", Key: "SOC-24", URL: "https://x/browse/SOC-24", Created: true, ContentHash: wantedHash(t), SeverityID: &four,
		Priority: "High", Labels: []string{"casewire", "aws-cloud", label()},
	}
}

func TestEnsureUpdatesWhatItKnows(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change []func(*sdktest.Call)
		want   map[string]any // fields and update of the edit; nil for no request
	}{
		"nothing new":      {nil, nil},
		"milder severity":  {[]func(*sdktest.Call){with("severity_id", 2)}, nil},
		"unknown severity": {[]func(*sdktest.Call){with("severity_id", 99)}, nil},
		"comment alone":    {[]func(*sdktest.Call){with("comment_on_update", "news")}, nil},
		"title": {
			[]func(*sdktest.Call){with("title", "Two root logins"), with("comment_on_update", "**news**")},
			map[string]any{
				"fields": map[string]any{"summary": "Two root logins", "description": "*who*: root"},
				"update": map[string]any{"comment": []any{map[string]any{"add": map[string]any{"body": "*news*\n\n\\[" + label() + "\\]"}}}},
			},
		},
		"description emptied": {
			[]func(*sdktest.Call){with("description", "")},
			map[string]any{"fields": map[string]any{"summary": "Root login", "description": ""}},
		},
		"severity": {
			[]func(*sdktest.Call){with("severity_id", 5)},
			map[string]any{"fields": map[string]any{"priority": map[string]any{"name": "Highest"}}},
		},
		"priority by name": {
			[]func(*sdktest.Call){with("priority", "Low")},
			map[string]any{"fields": map[string]any{"priority": map[string]any{"name": "Low"}}},
		},
		"label": {
			[]func(*sdktest.Call){with("labels", []string{"AWS cloud", "new one"})},
			map[string]any{"update": map[string]any{"labels": []any{map[string]any{"add": "new-one"}}}},
		},
		"field": {
			[]func(*sdktest.Call){with("fields", map[string]any{"customfield_1": []int{1}})},
			map[string]any{"fields": map[string]any{"summary": "Root login", "description": "*who*: root", "customfield_1": []any{1.0}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, map[string]http.HandlerFunc{routeEdit: answer(204, "")})
			c := ensure(tt.change...)
			c.Prior = prior(t)
			got := must[Ensured](t, s.open(), c)
			if got.ID != "10024" || got.Created || got.Updated != (tt.want != nil) {
				t.Errorf("got %+v", got)
			}
			if tt.want == nil {
				if len(s.asked()) != 0 {
					t.Errorf("requests: %v", s.asked())
				}
				return
			}
			body := s.body(routeEdit)
			property := body["properties"].([]any)[0].(map[string]any)["value"].(map[string]any)
			if property["hash"] != got.ContentHash || property["ref"] != caseRef(caseKey) || property["priority"] != got.Priority {
				t.Errorf("property %v does not match the output %+v", property, got)
			}
			delete(body, "properties")
			if diff := cmp.Diff(tt.want, body); diff != "" {
				t.Errorf("edit:\n%s", diff)
			}
			// What was written is known afterwards.
			c.Prior = got
			if again := must[Ensured](t, s.open(), c); again.Updated || len(s.asked()) != 1 {
				t.Errorf("the same again: %+v, requests %v", again, s.asked())
			}
		})
	}
}

func TestRepeatedUpdateLooksFirst(t *testing.T) {
	t.Parallel()
	now := fmt.Sprintf(`{"id":"10024","key":"SOC-24","fields":{"labels":["casewire","aws-cloud"]},"properties":{%q:%s}}`, propertyKey, mark(wantedHash(t)))
	s := script(t, map[string]http.HandlerFunc{routeRead: answer(200, now), routeEdit: answer(204, "")})
	c := ensure(with("comment_on_update", "once"), func(c *sdktest.Call) { c.Attempt = 2 })
	old := prior(t)
	old.ContentHash = "0000000000000000"
	c.Prior = old
	if got := must[Ensured](t, s.open(), c); !got.Updated || got.Created {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{routeRead}, s.asked()); diff != "" {
		t.Errorf("the update had arrived; requests:\n%s", diff)
	}
}

func TestUpdateAnsweredByAWebPageIsNoUpdate(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeEdit: answer(200, "<html><title>Sign in</title></html>", "Content-Type", "text/html")})
	c := ensure(with("title", "News"))
	c.Prior = prior(t)
	_, err := do[Ensured](t, s.open(), c)
	if e := asError(t, err); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, "Sign in") {
		t.Errorf("%v of class %s", e, e.Class())
	}
}

func TestKnownIssueThatIsGoneIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	s := script(t, map[string]http.HandlerFunc{routeEdit: answer(404, `{"errorMessages":["Issue does not exist"],"errors":{}}`)})
	c := ensure(with("title", "News"))
	c.Prior = prior(t)
	_, err := do[Ensured](t, s.open(), c)
	e := asError(t, err)
	if e.Class() != plugin.ClassNotFound || !strings.Contains(e.Message, "SOC-24 (id 10024) is gone") {
		t.Errorf("error %v of class %s", e, e.Class())
	}
	if diff := cmp.Diff([]string{routeEdit}, s.asked()); diff != "" {
		t.Errorf("requests:\n%s", diff)
	}
}

func TestResolveNeverWrites(t *testing.T) {
	t.Parallel()
	resolve := func(c *sdktest.Call) { c.Resolve = true }
	s := script(t, map[string]http.HandlerFunc{routeSearch: answer(200, nothing)})
	_, err := do[Ensured](t, s.open(), ensure(resolve))
	if e := asError(t, err); e.Reason != plugin.ReasonUnresolved || e.Class() != plugin.ClassNotFound {
		t.Errorf("error %v, reason %q", e, e.Reason)
	}
	s = script(t, map[string]http.HandlerFunc{routeSearch: found([2]string{"10024", mark("0123456789abcdef")})})
	got := must[Ensured](t, s.open(), ensure(resolve))
	if got.ID != "10024" || !got.Created || got.ContentHash != "0123456789abcdef" || got.Status != "In Arbeit" {
		t.Errorf("got %+v", got)
	}
	// A lost update of a known issue.
	read := fmt.Sprintf(`{"id":"10024","key":"SOC-24","fields":{"labels":["casewire","aws-cloud"]},"properties":{%q:%s}}`, propertyKey, mark("0123456789abcdef"))
	s = script(t, map[string]http.HandlerFunc{routeRead: answer(200, read)})
	c := ensure(resolve)
	c.Prior = prior(t)
	_, err = do[Ensured](t, s.open(), c)
	if e := asError(t, err); e.Class() != plugin.ClassConflict || e.SideEffect != plugin.EffectNone {
		t.Errorf("error %v of class %s", e, e.Class())
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	dry := func(c *sdktest.Call) { c.DryRun = true }
	s := script(t, map[string]http.HandlerFunc{routeSearch: answer(200, nothing)})
	if got := must[Ensured](t, s.open(), ensure(dry)); !got.Created || got.ID != "" {
		t.Errorf("got %+v", got)
	}
	c := ensure(dry, with("title", "News"))
	c.Prior = prior(t)
	if got := must[Ensured](t, s.open(), c); !got.Updated {
		t.Errorf("got %+v", got)
	}
}

func TestEnsureRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	s := script(t, nil)
	h := s.open()
	for name, tt := range map[string]struct{ field, input, value string }{
		"no title":       {"/title", "title", "\u200b \n"},
		"project":        {"/project", "project", `X" OR project = Y`},
		"url":            {"/url", "url", "javascript:alert(1)"},
		"prior":          {"", "", ""},
		"reserved field": {"/fields/Summary", "fields", `{"Summary":"x"}`},
	} {
		c := ensure()
		switch tt.input {
		case "":
			c.Prior = "not an object"
		case "fields":
			c.Input.(map[string]any)["fields"] = json.RawMessage(tt.value)
		default:
			with(tt.input, tt.value)(&c)
		}
		_, err := do[Ensured](t, h, c)
		e := asError(t, err)
		if e.Class() != plugin.ClassInvalid || tt.field != "" && (len(e.Violations) != 1 || e.Violations[0].Field != tt.field) {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
	}
	if len(s.asked()) != 0 {
		t.Errorf("requests: %v", s.asked())
	}
}
