package jirafake

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestSearchPages(t *testing.T) {
	t.Parallel()
	_, c := newFake(t, Options{})
	var want []string
	for range 25 {
		_, id := c.create(nil)
		want = append(want, id)
	}
	var got []string
	token, pages := "", 0
	for {
		body := map[string]any{"jql": "project = SOC ORDER BY key ASC", "maxResults": 10}
		if token != "" {
			body["nextPageToken"] = token
		}
		page := c.get(200, "POST", "/rest/api/2/search/jql", body)
		got = append(got, ids(page)...)
		pages++
		if page["total"] != nil || page["startAt"] != nil {
			t.Error("the new search tells no totals")
		}
		if first := page["issues"].([]any)[0].(map[string]any); len(first) != 1 {
			t.Errorf("more than ids by default: %v", first)
		}
		next, ok := page["nextPageToken"].(string)
		if page["isLast"] == ok {
			t.Errorf("isLast %v with a token %v", page["isLast"], ok)
		}
		if !ok {
			break
		}
		token = next
	}
	if pages != 3 || !slices.Equal(got, want) {
		t.Errorf("%d pages, got %v", pages, got)
	}
	c.get(400, "POST", "/rest/api/2/search/jql", map[string]any{"jql": "project = SOC", "nextPageToken": token})
	page := c.get(200, "GET", "/rest/api/2/search/jql?"+url.Values{
		"jql": {"key = SOC-3"}, "fields": {"summary,labels"}, "properties": {"a,b"}, "maxResults": {"1"},
	}.Encode(), nil)
	one := page["issues"].([]any)[0].(map[string]any)
	if one["key"] != "SOC-3" || one["fields"].(map[string]any)["summary"] != "A summary" || one["properties"] == nil {
		t.Errorf("got %v", one)
	}
}

func TestSearchRefusals(t *testing.T) {
	t.Parallel()
	_, c := newFake(t, Options{})
	const path = "/rest/api/2/search/jql"
	for name, body := range map[string]any{
		"no jql":             map[string]any{},
		"unbounded":          map[string]any{"jql": "ORDER BY created"},
		"empty":              map[string]any{"jql": ""},
		"startAt":            map[string]any{"jql": "project = SOC", "startAt": 0},
		"no results":         map[string]any{"jql": "project = SOC", "maxResults": 0},
		"too many":           map[string]any{"jql": "project = SOC", "maxResults": 5001},
		"six properties":     map[string]any{"jql": "project = SOC", "properties": []string{"a", "b", "c", "d", "e", "f"}},
		"bad token":          map[string]any{"jql": "project = SOC", "nextPageToken": "x"},
		"reconcile too many": map[string]any{"jql": "project = SOC", "reconcileIssues": make([]int, 51)},
		"reconcile text":     map[string]any{"jql": "project = SOC", "reconcileIssues": []string{"SOC-1"}},
		"no JSON":            `{`,
	} {
		if out := c.get(400, "POST", path, body); out["errorMessages"] == nil {
			t.Errorf("%s: %v", name, out)
		}
	}
	c.get(500, "POST", path, `{"jql":"project = SOC","reconcileIssues":null}`)
	c.get(415, "POST", path, map[string]any{"jql": "project = SOC"}, "Content-Type", "text/plain")
	c.get(400, "GET", path+"?jql=project+%3D+SOC&reconcileIssues=1,2", nil)
	c.get(200, "GET", path+"?jql=project+%3D+SOC&reconcileIssues=1&reconcileIssues=2", nil)
	c.get(410, "GET", "/rest/api/2/search?jql=project+%3D+SOC", nil)
	c.get(410, "POST", "/rest/api/2/search", map[string]any{"jql": "project = SOC"})
	c.login = nil
	c.get(415, "POST", path, "x", "Content-Type", "text/plain") // before the credential is looked at
}

func TestJQL(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s, c := newFake(t, Options{Now: clk.now, Projects: []Project{
		{ID: "1", Key: "SOC", IssueTypes: []IssueType{{ID: "1", Name: "Task"}}},
		{ID: "2", Key: "OPS", IssueTypes: []IssueType{{ID: "1", Name: "Task"}}},
	}})
	add := func(project, priority string, labels ...string) string {
		_, id := c.create(map[string]any{"project": map[string]any{"key": project}, "priority": map[string]any{"name": priority}, "labels": labels, "summary": "Root login " + id(labels)})
		clk.advance(time.Hour)
		return id
	}
	a := add("SOC", "High", "casewire", "cw-a") // 10:00
	b := add("SOC", "Low", "casewire", "cw-b")  // 11:00
	o := add("OPS", "High", "casewire", "cw-a") // 12:00
	n := add("SOC", "Medium")                   // 13:00
	for jql, want := range map[string][]string{
		`project = SOC AND labels = "cw-a"`:                             {a},
		`project = "SOC" and labels in (cw-a, 'cw-b') ORDER BY key ASC`: {a, b},
		`project in (SOC, OPS) AND labels = cw-a ORDER BY created DESC`: {o, a},
		`labels = casewire AND labels != cw-a`:                          {b},
		`labels is EMPTY`:                                               {n},
		`project = SOC AND labels is not EMPTY ORDER BY updated`:        {b, a},
		`key = SOC-1`:                       {a},
		`key in (SOC-1, OPS-1) ORDER BY id`: {a, o},
		`id = ` + b:                         {b},
		`updated >= "2026-11-23 11:00" order by created ASC`:  {b, o, n},
		`updated > "2026/11/23 11:00" AND project = SOC`:      {n},
		`created < "2026-11-23 11:00"`:                        {a},
		`updated >= -90m`:                                     {n},
		`updated >= "-1d" AND priority = Low`:                 {b},
		`NOT project = SOC`:                                   {o},
		`(labels = cw-a OR labels = cw-b) AND project != OPS`: {b, a},
		`priority in (High, Low) ORDER BY priority, key DESC`: {b, o, a},
		`summary ~ "root LOGIN cw-b"`:                         {b},
		`assignee is EMPTY AND statusCategory = "To Do" AND status = "To Do" AND issuetype = Task AND project = OPS`: {o},
	} {
		if got := c.search(jql, nil); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", jql, got, want)
		}
	}
	for _, bad := range []string{
		`project = NOPE`, `key = SOC-99`, `colour = red`, `project`, `project =`, `project = SOC AND`, `(project = SOC`, `project = SOC)`,
		`labels = "x`, `updated >= "2026-11-23T11:00:00Z"`, `updated >= soon`, `labels > 5`, `priority = Sev1`, `status = Nope`,
		`project = SOC ORDER created`, `project = SOC ORDER BY colour`, `labels in (`, `labels in (a b)`, `assignee is 5`, `summary is EMPTY`,
		`project = SOC ORDER BY key,key,key,key,key,key,key,key`, `f(x) = 1`, `not`, `project ! SOC`,
	} {
		c.get(400, "POST", "/rest/api/2/search/jql", map[string]any{"jql": bad})
	}
	if !s.DeleteIssue("SOC-1") {
		t.Fatal("no SOC-1")
	}
	if got := c.search(`labels = cw-a`, nil); !slices.Equal(got, []string{o}) {
		t.Errorf("a deleted issue is found: %v", got)
	}
}

func id(labels []string) string {
	if len(labels) > 1 {
		return labels[1]
	}
	return ""
}

// TestIndexLag: the index shows an issue as it was, until the lag is over.
func TestIndexLag(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s, c := newFake(t, Options{Now: clk.now})
	key, _ := c.create(map[string]any{"labels": []string{"old"}})
	s.SetIndexLag(time.Minute)
	c.want(204, "PUT", "/rest/api/2/issue/"+key, map[string]any{"fields": map[string]any{"labels": []string{"new"}}})
	if len(c.search("labels = old", nil)) != 1 || len(c.search("labels = new", nil)) != 0 {
		t.Error("the index is ahead of its lag")
	}
	if got := c.search("labels = new", map[string]any{"reconcileIssues": []int{10000}}); len(got) != 1 {
		t.Errorf("reconcile: %v", got)
	}
	if got := c.search("labels = old", map[string]any{"reconcileIssues": []int{10000}}); len(got) != 0 {
		t.Errorf("reconcile: %v", got)
	}
	clk.advance(time.Minute)
	if len(c.search("labels = old", nil)) != 0 || len(c.search("labels = new", nil)) != 1 {
		t.Error("the index is behind its lag")
	}
	s.SetIndexLag(0)
	for i := range 300 { // enough to sweep the log
		c.want(204, "PUT", "/rest/api/2/issue/"+key, map[string]any{"fields": map[string]any{"labels": []string{fmt.Sprint(i)}}})
		clk.advance(time.Second)
	}
	if got := c.search(`updated >= "2026-11-23 10:00"`, nil); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	if n := len(s.index.log); n > 150 {
		t.Errorf("the log holds %d entries of one issue", n)
	}
}

func TestMeta(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	for _, path := range []string{"field", "priority", "status", "resolution", "user/search?query=case"} {
		if got := c.want(200, "GET", "/rest/api/2/"+path, nil).([]any); len(got) == 0 {
			t.Errorf("%s is empty", path)
		}
	}
	if got := c.get(200, "GET", "/rest/api/2/project/SOC", nil); len(got["issueTypes"].([]any)) != 2 {
		t.Errorf("got %v", got)
	}
	if got := c.get(200, "GET", "/rest/api/2/mypermissions?permissions=CREATE_ISSUES", nil)["permissions"].(map[string]any); got["CREATE_ISSUES"] == nil {
		t.Errorf("got %v", got)
	}
	c.get(404, "GET", "/rest/api/2/project/NOPE", nil)
	c.get(404, "GET", "/rest/api/2/issue/createmeta/NOPE/issuetypes", nil)
	c.get(404, "GET", "/rest/api/2/issue/createmeta/SOC/issuetypes/1", nil)
	c.get(400, "GET", "/rest/api/2/issue/createmeta/SOC/issuetypes?startAt=x", nil)
	if got := s.Ledger().Requests[RouteMeta]["200"]; got == 0 {
		t.Error("nothing was counted")
	}
}

func FuzzJQL(f *testing.F) {
	for _, seed := range []string{`project = SOC AND labels = "a" ORDER BY key`, `updated >= -5m`, `not (labels in (a,'b'))`, `"`, `((((`, `issue in f("x")`, `updated > -w`} {
		f.Add(seed)
	}
	s := New(Options{})
	f.Cleanup(s.Close)
	p := &s.opt.Projects[0]
	iss := &issue{id: 10000, key: "SOC-1", project: p, typ: &p.IssueTypes[0], status: &s.opt.Statuses[0]}
	s.byID[iss.id], s.byKey[iss.key] = iss, iss
	s.reindex(iss)
	f.Fuzz(func(_ *testing.T, jql string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if q, err := s.parseJQL(jql); err == nil {
			s.run(q, nil)
		}
	})
}
