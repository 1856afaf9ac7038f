package jirafake

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCreateAndGet(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	key, id := c.create(map[string]any{"labels": []string{"casewire", "cw-1"}, "priority": map[string]any{"name": "High"}, "description": "text"},
		map[string]any{"key": "casewire.correlation", "value": map[string]any{"v": 1}})
	if key != "SOC-1" || id != "10000" {
		t.Errorf("got %s %s", key, id)
	}
	for _, ref := range []string{key, id, "soc-1"} {
		got := c.get(200, "GET", "/rest/api/2/issue/"+ref+"?fields=labels,priority,description,status&properties=casewire.correlation", nil)
		f := got["fields"].(map[string]any)
		if got["key"] != "SOC-1" || len(f) != 4 || f["description"] != "text" || f["priority"].(map[string]any)["id"] != "2" ||
			f["status"].(map[string]any)["statusCategory"].(map[string]any)["key"] != "new" {
			t.Errorf("%s: %v", ref, got)
		}
		if p := got["properties"].(map[string]any)["casewire.correlation"]; p == nil {
			t.Errorf("%s: no property in %v", ref, got)
		}
	}
	if all := c.get(200, "GET", "/rest/api/2/issue/"+key, nil); all["fields"].(map[string]any)["summary"] != "A summary" || all["properties"] != nil {
		t.Errorf("got %v", all)
	}
	c.get(404, "GET", "/rest/api/2/issue/SOC-99", nil)
	if got := s.ByLabel("cw-1"); !slices.Equal(got, []string{"SOC-1"}) {
		t.Errorf("ledger %v", got)
	}
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{Projects: []Project{{ID: "1", Key: "SOC", Priorities: []string{"High"}, IssueTypes: []IssueType{
		{ID: "2", Name: "Task", Hidden: []string{"duedate"}, Fields: []Field{
			{ID: "customfield_1", Name: "Severity", Type: "option", Options: []string{"Sev1"}, Required: true},
			{ID: "customfield_2", Name: "Score", Type: "number"},
			{ID: "customfield_3", Name: "Line", Type: "string"},
			{ID: "customfield_4", Name: "When", Type: "datetime"},
			{ID: "customfield_5", Name: "Tags", Type: "options", Options: []string{"a"}},
			{ID: "customfield_6", Name: "Who", Type: "user"},
			{ID: "customfield_7", Name: "Marks", Type: "labels"},
		}},
	}}}})
	good := map[string]any{"customfield_1": map[string]any{"value": "Sev1"}}
	for _, tc := range []struct {
		name  string
		field string
		value any
	}{
		{"no project", "project", nil},
		{"unknown project", "project", map[string]any{"key": "NOPE"}},
		{"unknown type", "issuetype", map[string]any{"name": "Epic"}},
		{"no summary", "summary", nil},
		{"blank summary", "summary", "  "},
		{"long summary", "summary", strings.Repeat("x", 255)},
		{"two lines", "summary", "a\nb"},
		{"long description", "description", strings.Repeat("x", 32768)},
		{"ADF description", "description", map[string]any{"type": "doc"}},
		{"label with space", "labels", []string{"a b"}},
		{"long label", "labels", []string{strings.Repeat("x", 256)}},
		{"labels as text", "labels", "a"},
		{"unknown priority", "priority", map[string]any{"name": "Informational"}},
		{"priority out of scheme", "priority", map[string]any{"name": "Low"}},
		{"unknown assignee", "assignee", map[string]any{"accountId": "nobody"}},
		{"unknown field", "customfield_99", "x"},
		{"hidden field", "duedate", "2026-11-23"},
		{"required field", "customfield_1", nil},
		{"bad option", "customfield_1", map[string]any{"value": "Sev9"}},
		{"bad number", "customfield_2", "five"},
		{"long line", "customfield_3", strings.Repeat("x", 256)},
		{"bad time", "customfield_4", "2026-11-23"},
		{"bad options", "customfield_5", []any{map[string]any{"value": "b"}}},
		{"bad user", "customfield_6", map[string]any{"accountId": "nobody"}},
		{"bad labels", "customfield_7", []string{"a b"}},
	} {
		f := fields(good)
		if f[tc.field] = tc.value; tc.value == nil {
			delete(f, tc.field)
		}
		out := c.get(400, "POST", "/rest/api/2/issue", map[string]any{"fields": f})
		errs, _ := out["errors"].(map[string]any)
		if len(errs) != 1 || errs[tc.field] == nil {
			t.Errorf("%s: %v", tc.name, out)
		}
	}
	for _, body := range []string{`{`, `[]`, `{"fields":5}`, `{"colour":1}`, `{"properties":[{"key":"","value":1}]}`, `{"properties":[{"key":"a"}]}`} {
		out := c.get(400, "POST", "/rest/api/2/issue", body)
		if _, has := out["errors"]; has {
			t.Errorf("%s: a body that cannot be read gives no errors key: %v", body, out)
		}
	}
	c.get(415, "POST", "/rest/api/2/issue", "x=1", "Content-Type", "text/plain")
	if led := s.Ledger(); led.Creates != 0 || len(led.Issues) != 0 {
		t.Errorf("ledger %+v", led)
	}
	f := fields(good)
	maps.Copy(f, map[string]any{
		"summary": strings.Repeat("x", 254), "description": strings.Repeat("y", 32767), "labels": []string{strings.Repeat("z", 255)},
		"customfield_2": 1.5, "customfield_3": "line", "customfield_4": "2026-11-23T10:00:00.000+0000",
		"customfield_5": []any{map[string]any{"value": "a"}}, "customfield_7": []string{"m"},
		"customfield_6": map[string]any{"accountId": s.User().AccountID}, "priority": map[string]any{"id": "2"},
		"assignee": map[string]any{"Password": "", "accountId": s.User().AccountID},
	})
	c.get(201, "POST", "/rest/api/2/issue", map[string]any{"fields": f})
}

func TestEdit(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	key, _ := c.create(map[string]any{"labels": []string{"a", "b"}})
	path := "/rest/api/2/issue/" + key
	c.want(204, "PUT", path+"?notifyUsers=false", map[string]any{
		"fields": map[string]any{"summary": "New"}, "update": map[string]any{"labels": []any{map[string]any{"add": "c"}, map[string]any{"add": "c"}, map[string]any{"remove": "a"}}},
	})
	f := c.get(200, "GET", path, nil)["fields"].(map[string]any)
	labels := []string{}
	for _, l := range f["labels"].([]any) {
		labels = append(labels, l.(string))
	}
	if f["summary"] != "New" || !slices.Equal(labels, []string{"b", "c"}) || f["updated"] == f["created"] {
		t.Errorf("got %v", f)
	}
	out := c.get(200, "PUT", path+"?returnIssue=true", map[string]any{"update": map[string]any{"comment": []any{map[string]any{"add": map[string]any{"body": "hello"}}}}})
	if n := out["fields"].(map[string]any)["comment"].(map[string]any)["total"]; n != json.Number("1") {
		t.Errorf("%v comments", n)
	}
	for _, bad := range []map[string]any{
		{},
		{"fields": map[string]any{"labels": []string{"x"}}, "update": map[string]any{"labels": []any{map[string]any{"add": "y"}}}},
		{"update": map[string]any{"labels": []any{map[string]any{"add": "y z"}}}},
		{"update": map[string]any{"summary": []any{map[string]any{"add": "y"}}}},
		{"fields": map[string]any{"project": map[string]any{"key": "SOC"}}},
		{"fields": map[string]any{"summary": "x\ny"}},
	} {
		c.get(400, "PUT", path, bad)
	}
	c.get(404, "PUT", "/rest/api/2/issue/SOC-99", map[string]any{"fields": map[string]any{"summary": "x"}})
	c.want(204, "PUT", path+"/assignee", map[string]any{"accountId": s.User().AccountID})
	c.get(400, "PUT", path+"/assignee", map[string]any{"accountId": "x", "avatarUrls": map[string]any{}})
	led := s.Ledger()
	if got := led.Issues[key]; led.Updates != 2 || led.Notified != 1 || got.Updates != 3 || got.Comments != 1 || !slices.Equal(got.Labels, []string{"b", "c"}) {
		t.Errorf("ledger %+v", led)
	}
	if s.ByLabel("a") == nil || len(s.ByLabel("a")) != 0 || len(s.ByLabel("c")) != 1 {
		t.Error("the ledger's labels are stale")
	}
}

func TestComments(t *testing.T) {
	t.Parallel()
	_, c := newFake(t, Options{MaxComments: 2})
	key, _ := c.create(nil)
	path := "/rest/api/2/issue/" + key + "/comment"
	out := c.get(201, "POST", path, map[string]any{"body": "one", "properties": []any{map[string]any{"key": "casewire.c", "value": map[string]any{"ref": "r"}}}})
	c.get(201, "POST", path, map[string]any{"body": "two"})
	c.get(413, "POST", path, map[string]any{"body": "three"})
	c.get(400, "POST", path, map[string]any{"body": ""})
	c.get(400, "POST", path, map[string]any{"body": strings.Repeat("x", 32768)})
	page := c.get(200, "GET", path+"?maxResults=1&orderBy=-created", nil)
	if list := page["comments"].([]any); len(list) != 1 || list[0].(map[string]any)["body"] != "two" || list[0].(map[string]any)["properties"] != nil || page["total"] != json.Number("2") {
		t.Errorf("got %v", page)
	}
	if one := c.get(200, "GET", path+"/"+out["id"].(string)+"?expand=properties", nil); one["properties"] == nil {
		t.Errorf("got %v", one)
	}
	c.get(404, "GET", path+"/1", nil)
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{Transitions: []Transition{
		{ID: "11", Name: "Start", To: "In Progress", From: []string{"To Do"}},
		{ID: "31", Name: "Resolve", To: "Done", From: []string{"In Progress"}, RequiresResolution: true},
		{ID: "41", Name: "Reopen", To: "To Do", From: []string{"Done"}},
	}})
	key, id := c.create(nil)
	path := "/rest/api/2/issue/" + key + "/transitions"
	list := c.get(200, "GET", path, nil)["transitions"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["id"] != "11" || list[0].(map[string]any)["fields"] != nil {
		t.Errorf("got %v", list)
	}
	do := func(id string, fields map[string]any) map[string]any {
		return map[string]any{"transition": map[string]any{"id": id}, "fields": fields, "update": map[string]any{}}
	}
	c.get(400, "POST", path, do("31", nil))
	c.want(204, "POST", path, do("11", nil))
	if out := c.get(400, "POST", path, do("31", nil)); out["errors"].(map[string]any)["resolution"] == nil {
		t.Errorf("got %v", out)
	}
	required := c.get(200, "GET", path+"?expand=transitions.fields", nil)["transitions"].([]any)[0].(map[string]any)["fields"].(map[string]any)
	if required["resolution"].(map[string]any)["required"] != true {
		t.Errorf("got %v", required)
	}
	s.FailNext(RouteTransition, Conflict, 1)
	c.get(409, "POST", path, do("31", map[string]any{"resolution": map[string]any{"name": "Done"}}))
	c.want(204, "POST", path, map[string]any{
		"transition": map[string]any{"id": "31"}, "fields": map[string]any{"resolution": map[string]any{"name": "Done"}},
		"update": map[string]any{"comment": []any{map[string]any{"add": map[string]any{"body": "closed"}}}},
	})
	f := c.get(200, "GET", "/rest/api/2/issue/"+key, nil)["fields"].(map[string]any)
	if f["status"].(map[string]any)["statusCategory"].(map[string]any)["key"] != "done" || f["resolution"].(map[string]any)["name"] != "Done" {
		t.Errorf("got %v", f)
	}
	if got := c.search(`statusCategory = Done AND resolution = Done`, nil); !slices.Equal(got, []string{id}) {
		t.Errorf("got %v", got)
	}
	if led := s.Ledger().Issues[key]; led.Transitions != 2 || led.Comments != 1 {
		t.Errorf("ledger %+v", led)
	}
}

func TestLinksAndProperties(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	key, id := c.create(nil)
	other, _ := c.create(nil)
	path := "/rest/api/2/issue/" + key
	link := func(title string) map[string]any {
		return map[string]any{"globalId": "casewire:1", "relationship": "alert", "object": map[string]any{"url": "https://x", "title": title}}
	}
	first := c.get(201, "POST", path+"/remotelink", link("a"))
	second := c.get(200, "POST", path+"/remotelink", link("b"))
	if first["id"] != second["id"] {
		t.Errorf("%v became %v", first, second)
	}
	c.get(400, "POST", path+"/remotelink", map[string]any{"object": map[string]any{"url": "https://x"}})
	if list := c.want(200, "GET", path+"/remotelink", nil).([]any); len(list) != 1 || list[0].(map[string]any)["object"].(map[string]any)["title"] != "b" {
		t.Errorf("got %v", list)
	}
	if got := c.search(`issue in issuesWithRemoteLinksByGlobalId("casewire:1")`, nil); !slices.Equal(got, []string{id}) {
		t.Errorf("got %v", got)
	}

	c.want(201, "PUT", path+"/properties/casewire.x", map[string]any{"a": 1})
	c.want(200, "PUT", path+"/properties/casewire.x", map[string]any{"a": 2})
	c.get(400, "PUT", path+"/properties/casewire.x", `{`)
	c.get(400, "PUT", path+"/properties/casewire.x", `"`+strings.Repeat("x", 32768)+`"`)
	if got := c.get(200, "GET", path+"/properties/casewire.x", nil); got["value"].(map[string]any)["a"] != json.Number("2") {
		t.Errorf("got %v", got)
	}
	if got := c.get(200, "GET", path+"/properties", nil)["keys"].([]any); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	c.want(204, "DELETE", path+"/properties/casewire.x", nil)
	c.get(404, "GET", path+"/properties/casewire.x", nil)

	c.want(201, "POST", "/rest/api/2/issueLink", map[string]any{"type": map[string]any{"name": "Relates"}, "inwardIssue": map[string]any{"key": key}, "outwardIssue": map[string]any{"key": other}})
	c.get(404, "POST", "/rest/api/2/issueLink", map[string]any{"type": map[string]any{"name": "Relates"}, "inwardIssue": map[string]any{"key": key}, "outwardIssue": map[string]any{"key": "SOC-99"}})

	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("file", "evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write([]byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.want(403, "POST", path+"/attachments", form.String(), "Content-Type", w.FormDataContentType())
	files := c.want(200, "POST", path+"/attachments", form.String(), "Content-Type", w.FormDataContentType(), "X-Atlassian-Token", "no-check").([]any)
	if len(files) != 1 || files[0].(map[string]any)["filename"] != "evidence.json" || files[0].(map[string]any)["size"] != json.Number("2") {
		t.Errorf("got %v", files)
	}
	if led := s.Ledger().Issues[key]; led.RemoteLinks != 1 || led.Links != 1 || len(led.Attachments) != 1 {
		t.Errorf("ledger %+v", led)
	}
}

func TestIssueLimit(t *testing.T) {
	t.Parallel()
	clk := newClock()
	_, c := newFake(t, Options{Now: clk.now})
	key, _ := c.create(nil)
	other, _ := c.create(nil)
	put := func(key string) *http.Response {
		resp, err := c.try("PUT", "/rest/api/2/issue/"+key, map[string]any{"fields": map[string]any{"summary": "x"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	for i := range 20 {
		if got := put(key).StatusCode; got != 204 {
			t.Fatalf("write %d: %d", i, got)
		}
	}
	resp := put(key)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "2" || resp.Header.Get("RateLimit-Reason") != "jira-per-issue-on-write" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	if got := put(other).StatusCode; got != 204 {
		t.Errorf("another issue: %d", got)
	}
	clk.advance(2 * time.Second)
	if got := put(key).StatusCode; got != 204 {
		t.Errorf("after the window: %d", got)
	}
	c.get(200, "GET", "/rest/api/2/issue/"+key, nil)
}

// TestUnknownOutcome is the case that the connector's resolution is made for: the issue exists, the answer is lost, and
// search does not know it yet.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{LostAnswer, ErrorAfter} {
		clk := newClock()
		s, c := newFake(t, Options{Now: clk.now, IndexLag: 30 * time.Second})
		s.FailNext(RouteCreate, fault, 1)
		resp, err := c.try("POST", "/rest/api/2/issue", map[string]any{"fields": fields(map[string]any{"labels": []string{"cw-1"}})})
		switch {
		case fault == LostAnswer && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("got %v", err)
		case fault == ErrorAfter && (err != nil || resp.StatusCode != 500):
			t.Fatalf("got %v %v", resp, err)
		}
		const jql = `project = SOC AND labels = "cw-1"`
		if got := c.search(jql, nil); len(got) != 0 {
			t.Errorf("%s: found before the index knows: %v", fault, got)
		}
		if got := c.search(jql, map[string]any{"reconcileIssues": []int{10000}}); len(got) != 1 {
			t.Errorf("%s: reconcileIssues does not help: %v", fault, got)
		}
		clk.advance(30 * time.Second)
		if got := c.search(jql, nil); !slices.Equal(got, []string{"10000"}) {
			t.Errorf("%s: got %v", fault, got)
		}
		if led := s.Ledger(); led.Creates != 1 || len(s.Duplicates("cw-")) != 0 {
			t.Errorf("%s: ledger %+v", fault, led)
		}
		c.create(map[string]any{"labels": []string{"cw-1"}})
		if got := s.Duplicates("cw-"); !slices.Equal(got["cw-1"], []string{"SOC-1", "SOC-2"}) {
			t.Errorf("%s: duplicates %v", fault, got)
		}
	}
}

func TestThrottled(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	s.SetThrottleReason("jira-quota-tenant-based")
	s.SetFaults(Faults{RetryAfter: 30 * time.Minute, Rates: map[string]map[Fault]float64{"write": {Throttle: 1}}})
	resp, err := c.try("POST", "/rest/api/2/issue", map[string]any{"fields": fields(nil)})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1800" || resp.Header.Get("RateLimit-Reason") != "jira-quota-tenant-based" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	if s.Ledger().Creates != 0 {
		t.Error("a throttled request was executed")
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	u := s.User()
	as := func(base string, login func(*http.Request)) *client {
		return &client{t: t, s: s, http: c.http, base: base, login: login}
	}
	basic := func(secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(u.Email, secret) }
	}
	bearer := func(secret string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }
	}
	site, scoped := "https://jira.example", "https://api.atlassian.example/ex/jira/"+DefaultCloudID
	as(site, basic(u.APIToken)).get(200, "GET", "/rest/api/2/myself", nil)
	as(scoped, basic(u.ScopedToken)).get(200, "GET", "/rest/api/2/myself", nil)
	as(scoped, bearer(u.Bearer)).get(200, "GET", "/rest/api/2/myself", nil)
	as(site, basic(u.ScopedToken)).want(401, "GET", "/rest/api/2/myself", nil)
	as(scoped, basic(u.APIToken)).want(401, "GET", "/rest/api/2/myself", nil)
	as(site, basic("wrong")).want(401, "GET", "/rest/api/2/myself", nil)
	as(site, nil).want(401, "GET", "/rest/api/2/myself", nil)
	as(site, nil).get(200, "GET", "/rest/api/2/serverInfo", nil)
	if out := as(site, bearer(u.Bearer)).get(403, "GET", "/rest/api/2/myself", nil); out["error"] != "Failed to parse Connect Session Auth Token" {
		t.Errorf("got %v", out)
	}
	resp, err := as(site, nil).try("GET", "/rest/api/2/myself", nil, "Accept", "*/*")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/html") {
		t.Errorf("a 401 follows Accept, got %s", got)
	}
	as("https://api.atlassian.example/ex/jira/another", basic(u.ScopedToken)).get(404, "GET", "/rest/api/2/myself", nil)
	c.get(404, "GET", "/rest/api/9/myself", nil)
}

func TestDataCenter(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{DataCenter: true, ContextPath: "/jira"})
	u := s.User()
	c.login = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+u.Bearer) }
	if got := c.get(200, "GET", "/rest/api/2/serverInfo", nil)["deploymentType"]; got != "Server" {
		t.Errorf("got %v", got)
	}
	key, _ := c.create(map[string]any{"labels": []string{"cw-1"}, "assignee": map[string]any{"name": u.Name}})
	c.create(map[string]any{"labels": []string{"cw-1"}})
	c.get(404, "POST", "/rest/api/2/search/jql", map[string]any{"jql": "project = SOC"})
	page := c.get(200, "POST", "/rest/api/2/search", map[string]any{"jql": "labels = cw-1 ORDER BY key ASC", "startAt": 0, "maxResults": 1})
	if page["total"] != json.Number("2") || len(ids(page)) != 1 || page["issues"].([]any)[0].(map[string]any)["key"] != key {
		t.Errorf("got %v", page)
	}
	if page := c.get(200, "GET", "/rest/api/2/search?jql=labels+%3D+cw-1&startAt=1&fields=summary", nil); len(ids(page)) != 1 {
		t.Errorf("got %v", page)
	}
	if got := c.get(200, "GET", "/rest/api/2/issue/createmeta/SOC/issuetypes", nil)["values"].([]any); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if got := c.get(200, "GET", "/rest/api/2/myself", nil); got["name"] != u.Name || got["accountId"] != nil {
		t.Errorf("got %v", got)
	}
}

// TestOverSockets: what a lost answer looks like to a real client.
func TestOverSockets(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	c.http, c.base = srv.Client(), srv.URL
	c.create(nil)
	s.FailNext(RouteCreate, LostAnswer, 1)
	if resp, err := c.try("POST", "/rest/api/2/issue", map[string]any{"fields": fields(nil)}); err == nil {
		_ = resp.Body.Close()
		t.Error("a lost answer went unnoticed")
	}
	if n := s.Ledger().Creates; n != 2 {
		t.Errorf("%d creates; a client must not repeat a POST by itself", n)
	}
	if !s.DeleteIssue("SOC-1") || s.DeleteIssue("SOC-1") || s.Issue("SOC-1") != nil || s.Issue("SOC-2") == nil {
		t.Error("DeleteIssue")
	}
}

// TestAgainstContract holds the names in the fake's answers against Atlassian's description, where that is at hand.
func TestAgainstContract(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CASEWIRE_CONTRACTS")
	if dir == "" {
		t.Skip("CASEWIRE_CONTRACTS names no folder with the vendors' contracts")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cases/jira-cloud-platform-v2-derived.trimmed.openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	_, c := newFake(t, Options{})
	created := c.get(201, "POST", "/rest/api/2/issue", map[string]any{"fields": fields(nil)})
	path := "/rest/api/2/issue/" + created["key"].(string)
	issue := c.get(200, "GET", path, nil)
	f := issue["fields"].(map[string]any)
	transitions := c.get(200, "GET", path+"/transitions", nil)
	types := c.get(200, "GET", "/rest/api/2/issue/createmeta/SOC/issuetypes", nil)
	meta := c.get(200, "GET", "/rest/api/2/issue/createmeta/SOC/issuetypes/10001", nil)
	first := func(v any) map[string]any { return v.([]any)[0].(map[string]any) }
	for schema, got := range map[string]map[string]any{
		"CreatedIssue": created, "IssueBean": issue, "StatusDetails": f["status"].(map[string]any),
		"StatusCategory": f["status"].(map[string]any)["statusCategory"].(map[string]any),
		"UserDetails":    f["reporter"].(map[string]any), "Transitions": transitions,
		"IssueTransition": first(transitions["transitions"]), "PageOfCreateMetaIssueTypes": types,
		"IssueTypeIssueCreateMetadata": first(types["issueTypes"]), "PageOfCreateMetaIssueTypeWithField": meta,
		"FieldCreateMetadata":       first(meta["fields"]),
		"Comment":                   c.get(201, "POST", path+"/comment?expand=properties", map[string]any{"body": "x"}),
		"PageOfComments":            c.get(200, "GET", path+"/comment", nil),
		"RemoteIssueLinkIdentifies": c.get(201, "POST", path+"/remotelink", map[string]any{"object": map[string]any{"url": "u", "title": "t"}}),
		"RemoteIssueLink":           first(c.want(200, "GET", path+"/remotelink", nil)),
		"SearchAndReconcileResults": c.get(200, "POST", "/rest/api/2/search/jql", map[string]any{"jql": "project = SOC"}),
		"ServerInformation":         c.get(200, "GET", "/rest/api/2/serverInfo", nil),
		"User":                      c.get(200, "GET", "/rest/api/2/myself", nil),
		"Priority":                  first(c.want(200, "GET", "/rest/api/2/priority", nil)),
		"FieldDetails":              first(c.want(200, "GET", "/rest/api/2/field", nil)),
		"ErrorCollection":           c.get(404, "GET", "/rest/api/2/issue/SOC-99", nil),
	} {
		known := doc.Components.Schemas[schema].Properties
		if len(known) == 0 {
			t.Errorf("the contract has no schema %s", schema)
		}
		for name := range got {
			if _, ok := known[name]; !ok {
				t.Errorf("%s has no %s", schema, name)
			}
		}
	}
}
