package hivefake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAlert(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	made := c.get(201, "POST", "/alert", alert("a1", "severity", 3, "tags", []string{"x"}, "externalLink", "https://x", "observables", []any{
		map[string]any{"dataType": "ip", "data": "203.0.113.5", "ioc": true},
		map[string]any{"dataType": "domain", "data": []string{"a.example", "A.EXAMPLE"}},
	}, "procedures", []any{map[string]any{"patternId": "T1059.006", "occurDate": 1763890000000}}))
	id := made["_id"].(string)
	if !strings.HasPrefix(id, "~") || made["status"] != "New" || made["severityLabel"] != "HIGH" || made["tlpLabel"] != "AMBER" || made["observableCount"] != json.Number("2") {
		t.Errorf("got %v", made)
	}
	if _, ok := made["_updatedAt"]; ok {
		t.Error("a new alert has no _updatedAt")
	}
	for _, ref := range []string{id, url.PathEscape("casewire;contoso;a1")} {
		if got := c.get(200, "GET", "/alert/"+ref, nil); got["sourceRef"] != "a1" {
			t.Errorf("%s: %v", ref, got)
		}
	}
	if got := c.get(404, "GET", "/alert/~1", nil); got["type"] != "NotFoundError" {
		t.Errorf("got %v", got)
	}
	c.want(204, "PATCH", "/alert/"+id, map[string]any{"addTags": []string{"y"}, "removeTags": []string{"x"}, "status": "InProgress", "sourceRef": "a2"})
	got := c.get(200, "GET", "/alert/"+url.PathEscape("casewire;contoso;a2"), nil)
	if fmt.Sprint(got["tags"]) != "[y]" || got["stage"] != "InProgress" || got["_updatedAt"] == nil {
		t.Errorf("got %v", got)
	}
	c.get(404, "GET", "/alert/"+url.PathEscape("casewire;contoso;a1"), nil)
	c.create("a1")
	c.get(409, "PATCH", "/alert/"+id, map[string]any{"sourceRef": "a1"})
	c.want(204, "DELETE", "/alert/"+id, nil)
	c.get(404, "GET", "/alert/"+id, nil)
	if led := s.Ledger(); len(led.Alerts) != 1 {
		t.Errorf("ledger %+v", led)
	}
}

func TestDuplicateAlert(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version string
		status  int
		kind    string
	}{{"5.5.13", 400, "CreateError"}, {"5.6.0", 409, "ConflictError"}, {"", 409, "ConflictError"}} {
		s, c := newFake(t, Options{Version: tc.version, Users: []User{{Login: "u", APIKey: "k", Organisations: []string{"a", "b"}}}})
		c.create("a1")
		if got := c.get(tc.status, "POST", "/alert", alert("a1")); got["type"] != tc.kind {
			t.Errorf("%s: %v", tc.version, got)
		}
		c.create("A1") // another alert: case counts
		c.org = "b"
		c.create("a1") // another organisation
		if led := s.Ledger(); led.Refused["Alert casewire;contoso;a1"] != 1 {
			t.Errorf("%s: ledger %+v", tc.version, led.Refused)
		}
	}
}

func TestAlertRefusals(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{Version: "5.7.2", CustomFields: []CustomField{{Name: "n", Type: "integer"}}})
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		field  string
		value  any
		status int
	}{
		{"type", nil, 400},
		{"source", nil, 400},
		{"sourceRef", nil, 400},
		{"title", nil, 400},
		{"description", nil, 400},
		{"type", long(33), 400},
		{"source", long(33), 400},
		{"sourceRef", long(129), 400},
		{"title", long(513), 400},
		{"title", "", 400},
		{"description", long(megabyte + 1), 400},
		{"externalLink", long(513), 400},
		{"severity", 0, 400},
		{"severity", 5, 400},
		{"severity", "3", 400},
		{"tlp", 5, 400},
		{"pap", 4, 400},
		{"date", "now", 400},
		{"tags", []string{"a", "a"}, 400},
		{"tags", []string{long(129)}, 400},
		{"tags", []string{""}, 400},
		{"status", "Nope", 400},
		{"assignee", "nobody", 404},
		{"caseTemplate", "nope", 404},
		{"colour", "red", 400},
		{"customFields", map[string]any{"m": 1}, 400},
		{"customFields", map[string]any{"n": 1 << 40}, 400},
		{"customFields", []any{map[string]any{"name": "n", "value": "x"}}, 400},
		{"observables", []any{map[string]any{"dataType": "hash-of-doom", "data": "x"}}, 400},
		{"observables", []any{map[string]any{"dataType": "ip"}}, 400},
		{"observables", []any{map[string]any{"dataType": "ip", "data": ""}}, 400},
		{"observables", []any{map[string]any{"dataType": "url", "data": long(4097)}}, 400},
		{"observables", []any{map[string]any{"dataType": "ip", "data": 5}}, 400},
		{"observables", "x", 400},
		{"procedures", []any{map[string]any{"patternId": "T9999", "occurDate": 1}}, 404},
		{"procedures", []any{map[string]any{"patternId": "T1059"}}, 400},
	} {
		got := c.get(tc.status, "POST", "/alert", alert("a1", tc.field, tc.value))
		want := map[int]string{400: "BadRequest", 404: "NotFoundError"}[tc.status]
		if got["type"] != want || got["message"] == "" {
			t.Errorf("%s %.40v: %v", tc.field, tc.value, got)
		}
	}
	c.get(400, "POST", "/alert", `{`)
	c.get(400, "POST", "/alert", `[]`)
	if led := s.Ledger(); len(led.Alerts) != 0 {
		t.Errorf("half an alert stayed behind: %+v", led.Alerts)
	}
	c.get(201, "POST", "/alert", alert(long(128), "type", long(32), "source", long(32), "title", long(512), "externalLink", long(512),
		"tags", []string{long(128)}, "tlp", 4, "pap", 3, "customFields", map[string]any{"n": 7},
		"observables", []any{map[string]any{"dataType": "url", "data": long(4096)}}))

	_, c = newFake(t, Options{Version: "5.7.3"})
	c.get(201, "POST", "/alert", alert("a", "externalLink", long(4096)))
	c.get(400, "POST", "/alert", alert("b", "externalLink", long(4097)))
	_, c = newFake(t, Options{Version: "5.1.0"})
	c.get(400, "POST", "/alert", alert("a", "tlp", 4))
	if got := c.get(201, "POST", "/alert", alert("a", "tlp", 3)); got["tlpLabel"] != "RED" {
		t.Errorf("got %v", got)
	}
	twice := []any{map[string]any{"dataType": "ip", "data": "a"}, map[string]any{"dataType": "ip", "data": "a"}}
	if got := c.get(400, "POST", "/alert", alert("b", "observables", twice)); got["type"] != "CreateError" {
		t.Errorf("got %v", got)
	}
}

func TestPromote(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{
		CustomFields: []CustomField{{Name: "tenant", Type: "string"}},
		Templates:    []Template{{Name: "tpl", TitlePrefix: "[IR]", Tags: []string{"tpl"}, Tasks: []string{"triage", "contain"}}},
	})
	id := c.create("a1", "severity", 3, "tlp", 3, "tags", []string{"x"}, "customFields", map[string]any{"tenant": "contoso"},
		"observables", []any{map[string]any{"dataType": "ip", "data": "203.0.113.5"}})
	made := c.get(201, "POST", "/alert/"+id+"/case", map[string]any{"caseTemplate": "tpl", "pap": 1})
	if made["title"] != "[IR] Title of a1" || made["severity"] != json.Number("3") || made["tlpLabel"] != "AMBER+STRICT" || made["papLabel"] != "GREEN" ||
		fmt.Sprint(made["tags"]) != "[x tpl]" || made["number"] != json.Number("1") || made["stage"] != "New" ||
		made["customFields"].([]any)[0].(map[string]any)["value"] != "contoso" {
		t.Errorf("got %v", made)
	}
	after := c.get(200, "GET", "/alert/"+id, nil)
	if after["caseId"] != made["_id"] || after["status"] != "Imported" || after["stage"] != "Imported" {
		t.Errorf("got %v", after)
	}
	if got := c.query(op("getCase", "idOrName", "1"), op("tasks"), op("sort", "_fields", []any{map[string]any{"order": "asc"}})); len(got) != 2 || got[0]["title"] != "triage" {
		t.Errorf("got %v", got)
	}
	if got := c.query(op("getCase", "idOrName", made["_id"]), op("observables")); len(got) != 1 || got[0]["data"] != "203.0.113.5" {
		t.Errorf("got %v", got)
	}
	if got := c.get(400, "POST", "/alert/"+id+"/case", nil); got["type"] != "BadRequest" {
		t.Errorf("got %v", got)
	}
	if got := s.CasesOf("casewire;contoso;a1"); !slices.Equal(got, []int64{1}) || len(s.Duplicates("")) != 0 {
		t.Errorf("got %v %v", got, s.Duplicates(""))
	}
	c.get(404, "POST", "/alert/~1/case", nil)
	c.get(400, "POST", "/alert/"+c.create("a2")+"/case", map[string]any{"severity": 9})

	s, c = newFake(t, Options{PromoteTwice: true})
	id = c.create("a1")
	c.promote(id)
	c.promote(id)
	if got := s.CasesOf("casewire;contoso;a1"); !slices.Equal(got, []int64{1, 2}) || len(s.Duplicates("")["casewire;contoso;a1"]) != 2 {
		t.Errorf("got %v %v", got, s.Duplicates(""))
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	first := c.promote(c.create("a1", "observables", []any{map[string]any{"dataType": "ip", "data": "1"}}))
	second := c.create("a2", "observables", []any{map[string]any{"dataType": "ip", "data": "1"}, map[string]any{"dataType": "ip", "data": "2"}})
	third := c.create("a3")
	number := first["number"].(json.Number).String()
	c.get(200, "POST", "/alert/"+second+"/merge/"+number, nil)
	c.get(200, "POST", "/alert/merge/_bulk", map[string]any{"caseId": first["_id"], "alertIds": []string{third}})
	if got := c.query(op("getCase", "idOrName", number), op("alerts")); len(got) != 3 {
		t.Errorf("%d alerts", len(got))
	}
	if got := s.Ledger().Cases[1]; got.Observables != 2 || len(got.Alerts) != 3 {
		t.Errorf("ledger %+v", got)
	}
	c.want(204, "PATCH", "/case/1", map[string]any{"status": "FalsePositive"})
	c.get(400, "POST", "/alert/"+c.create("a4")+"/merge/1", nil)
	c.get(404, "POST", "/alert/"+second+"/merge/99", nil)
	other := c.get(201, "POST", "/case", map[string]any{"title": "bare", "description": "d", "tags": []string{"cw-x"}})
	merged := c.get(201, "POST", "/case/_merge/"+url.PathEscape(first["_id"].(string)+","+other["_id"].(string)), nil)
	if merged["number"] != json.Number("3") {
		t.Errorf("got %v", merged)
	}
	c.get(404, "GET", "/case/1", nil)
	c.get(404, "GET", "/case/"+other["_id"].(string), nil)
	if got := c.get(200, "GET", "/alert/"+second, nil); got["caseId"] != merged["_id"] {
		t.Errorf("got %v", got)
	}
}

func TestCase(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{CustomFields: []CustomField{{Name: "a", Type: "string"}, {Name: "b", Type: "integer", Mandatory: true}}})
	id := c.promote(c.create("a1"))["_id"].(string)
	values := func() map[string]any {
		out := map[string]any{}
		for _, f := range c.get(200, "GET", "/case/"+id, nil)["customFields"].([]any) {
			out[f.(map[string]any)["name"].(string)] = f.(map[string]any)["value"]
		}
		return out
	}
	c.want(204, "PATCH", "/case/"+id, map[string]any{"customFields": map[string]any{"a": "x"}, "addTags": []string{"t"}})
	if got := c.get(400, "PATCH", "/case/1", map[string]any{"status": "TruePositive", "impactStatus": "WithImpact"}); !strings.Contains(got["message"].(string), "b") {
		t.Errorf("got %v", got)
	}
	c.want(204, "PATCH", "/case/1", map[string]any{"customFields": map[string]any{"b": 5}})
	if got := values(); got["a"] != "x" || got["b"] != json.Number("5") {
		t.Errorf("an object merges, got %v", got)
	}
	c.want(201, "POST", "/case/1/task", map[string]any{"title": "look"})
	c.want(204, "PATCH", "/case/1", map[string]any{"status": "TruePositive", "impactStatus": "WithImpact", "summary": "done"})
	if got := c.get(200, "GET", "/case/1", nil); got["stage"] != "Closed" || got["endDate"] == nil || got["impactStatus"] != "WithImpact" {
		t.Errorf("got %v", got)
	}
	if got := c.query(op("getCase", "idOrName", "1"), op("tasks")); got[0]["status"] != "Cancel" {
		t.Errorf("closing a case closes its tasks, got %v", got)
	}
	c.want(204, "PATCH", "/case/1", map[string]any{"status": "InProgress", "customFields": []any{map[string]any{"name": "a", "value": "y"}}})
	if got := values(); len(got) != 1 || got["a"] != "y" {
		t.Errorf("a list replaces, got %v", got)
	}
	if got := c.get(200, "GET", "/case/1", nil); got["endDate"] != nil {
		t.Errorf("a reopened case has no end: %v", got)
	}
	for _, bad := range []map[string]any{{"impactStatus": "x"}, {"status": "Nope"}, {"owner": "me"}, {"title": ""}, {"tags": "x"}} {
		c.get(400, "PATCH", "/case/1", bad)
	}
	task := c.get(201, "POST", "/case/1/task", map[string]any{"title": "again", "group": "g"})["_id"].(string)
	c.want(204, "PATCH", "/task/"+task, map[string]any{"status": "Completed"})
	c.get(400, "PATCH", "/task/"+task, map[string]any{"status": "Sleeping"})
	c.get(201, "POST", "/task/"+task+"/log", map[string]any{"message": "did it"})
	if got := c.query(op("getTask", "idOrName", task), op("logs")); len(got) != 1 || got[0]["message"] != "did it" {
		t.Errorf("got %v", got)
	}
	c.get(400, "POST", "/case/1/task", map[string]any{"title": strings.Repeat("x", 129)})
	c.get(400, "POST", "/case", map[string]any{"title": "no description"})
	c.want(204, "DELETE", "/case/1", nil)
	c.get(404, "GET", "/case/"+id, nil)
	if n := len(s.Ledger().Cases); n != 0 {
		t.Errorf("%d cases", n)
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	id := c.create("a1")
	c.promote(id)
	for _, path := range []string{"/alert/" + id, "/case/1"} {
		got := c.want(201, "POST", path+"/observable", map[string]any{"dataType": "ip", "data": []string{"1", "2", "1"}, "tags": []string{"t"}}).([]any)
		if len(got) != 2 {
			t.Errorf("%s: %v", path, got)
		}
		if got := c.want(201, "POST", path+"/observable", map[string]any{"dataType": "ip", "data": []string{"2", "3"}}).([]any); len(got) != 1 {
			t.Errorf("%s: %v", path, got)
		}
		c.get(409, "POST", path+"/observable", map[string]any{"dataType": "ip", "data": "3"})
		c.get(400, "POST", path+"/observable", map[string]any{"dataType": "nope", "data": "3"})
		if got := c.get(201, "POST", path+"/comment", map[string]any{"message": "hello"}); got["message"] != "hello" {
			t.Errorf("%s: %v", path, got)
		}
		c.get(400, "POST", path+"/comment", map[string]any{"message": ""})
		c.get(201, "POST", path+"/procedure", map[string]any{"patternId": "T1059", "occurDate": 1, "tactic": "execution"})
		c.get(404, "POST", path+"/procedure", map[string]any{"patternId": "T9999", "occurDate": 1})
	}
	c.get(404, "POST", "/case/9/comment", map[string]any{"message": "x"})
	led := s.Ledger()
	if a, k := led.Alerts["casewire;contoso;a1"], led.Cases[1]; a.Observables != 3 || a.Comments != 1 || k.Observables != 3 || !slices.Equal(k.Comments, []string{"hello"}) || k.Procedures != 1 {
		t.Errorf("ledger %+v", led)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s, c := newFake(t, Options{Now: clk.now, CustomFields: []CustomField{{Name: "tenant", Type: "string"}}})
	for i := range 5 {
		c.create(fmt.Sprintf("a%d", i), "severity", i%4+1, "tags", []string{"all", fmt.Sprintf("n%d", i)}, "customFields", map[string]any{"tenant": fmt.Sprint(i % 2)})
		clk.advance(time.Minute)
	}
	start := clk.now().Add(-5 * time.Minute).UnixMilli()
	c.want(204, "PATCH", "/alert/"+url.PathEscape("casewire;contoso;a1"), map[string]any{"status": "InProgress", "addTags": []string{"moved"}})
	for name, tc := range map[string]struct {
		filter map[string]any
		want   []string
	}{
		"eq":             {is("_eq", "sourceRef", "a2"), []string{"a2"}},
		"ne":             {is("_ne", "sourceRef", "a2"), []string{"a0", "a1", "a3", "a4"}},
		"tag":            {is("_eq", "tags", "n3"), []string{"a3"}},
		"new tag":        {is("_eq", "tags", "moved"), []string{"a1"}},
		"and":            {map[string]any{"_and": []any{is("_eq", "type", "casewire"), is("_eq", "sourceRef", "a0")}}, []string{"a0"}},
		"or":             {map[string]any{"_or": []any{is("_eq", "sourceRef", "a0"), is("_eq", "tags", "n4")}}, []string{"a0", "a4"}},
		"not":            {map[string]any{"_not": is("_eq", "severity", 1)}, []string{"a1", "a2", "a3"}},
		"any":            {map[string]any{"_any": nil}, []string{"a0", "a1", "a2", "a3", "a4"}},
		"in":             {map[string]any{"_in": map[string]any{"_field": "severity", "_values": []int{2, 3}}}, []string{"a1", "a2"}},
		"between":        {map[string]any{"_between": map[string]any{"_field": "severity", "_from": 2, "_to": 4}}, []string{"a1", "a2"}},
		"gte":            {is("_gte", "_createdAt", start+180000), []string{"a3", "a4"}},
		"gt":             {is("_gt", "_createdAt", start+180000), []string{"a4"}},
		"lt":             {is("_lt", "_createdAt", start+60000), []string{"a0"}},
		"lte":            {is("_lte", "_createdAt", start+60000), []string{"a0", "a1"}},
		"updated":        {is("_gte", "_updatedAt", start), []string{"a1"}},
		"recent":         {map[string]any{"_or": []any{is("_gte", "_updatedAt", start+200000), is("_gte", "_createdAt", start+200000)}}, []string{"a1", "a4"}},
		"relative":       {is("_gte", "_createdAt", map[string]any{"amount": 3, "unit": "minutes", "look": "behind"}), []string{"a2", "a3", "a4"}},
		"startsWith":     {is("_startsWith", "title", "Title of a3"), []string{"a3"}},
		"endsWith":       {is("_endsWith", "title", "a3"), []string{"a3"}},
		"like":           {is("_like", "title", "OF A4"), []string{"a4"}},
		"match":          {is("_match", "title", "a4"), []string{"a4"}},
		"has":            {map[string]any{"_has": "_updatedAt"}, []string{"a1"}},
		"custom field":   {is("_eq", "customFields.tenant", "1"), []string{"a1", "a3"}},
		"several levels": {map[string]any{"_and": []any{is("_eq", "tags", "all"), map[string]any{"_or": []any{is("_eq", "severity", 2), is("_eq", "severity", 3)}}}}, []string{"a1", "a2"}},
	} {
		f := op("filter")
		maps.Copy(f, tc.filter)
		got := []string{}
		for _, d := range c.query(op("listAlert"), f, op("sort", "_fields", []any{map[string]any{"sourceRef": "asc"}})) {
			got = append(got, d["sourceRef"].(string))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}

	resp, err := c.try("POST", "/query", map[string]any{"query": []any{
		op("listAlert"), op("sort", "_fields", []any{map[string]any{"_createdAt": "desc"}}), op("page", "from", 1, "to", 3, "extraData", []string{"total"}),
	}, "excludeFields": []string{"description"}})
	if err != nil {
		t.Fatal(err)
	}
	var page []map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.Header.Get("X-Total") != "5" || len(page) != 2 || page[0]["sourceRef"] != "a3" || page[0]["description"] != nil || page[0]["title"] == nil {
		t.Errorf("got %v %v", resp.Header, page)
	}
	if n := c.want(200, "POST", "/query", map[string]any{"query": []any{op("listAlert"), op("count")}}); n != json.Number("5") {
		t.Errorf("count %v", n)
	}
	if got := c.query(op("getAlert", "idOrName", "casewire;contoso;a2")); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	if got := c.query(op("getAlert", "idOrName", "casewire;contoso;nope")); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for list, least := range map[string]int{"listObservableType": 17, "listCaseStatus": 7, "listAlertStatus": 7, "listCustomField": 1} {
		if got := c.query(op(list)); len(got) < least {
			t.Errorf("%s: %v", list, got)
		}
	}
	if got := c.query(op("listCaseStatus"), op("filter", "_eq", map[string]any{"_field": "stage", "_value": "Closed"})); len(got) != 5 {
		t.Errorf("got %v", got)
	}
	if got := c.query(op("getPattern", "idOrName", "T9999")); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	c.get(400, "POST", "/query", map[string]any{"query": []any{}})
	for _, bad := range [][]any{
		{op("listNothing")},
		{op("filter")},
		{op("listAlert"), op("filter")},
		{op("listAlert"), op("page", "from", 0)},
		{op("listAlert"), op("tasks")},
		{op("listAlert"), op("filter", "_eq", map[string]any{"_field": "colour", "_value": 1})},
		{op("listAlert"), op("filter", "_eq", map[string]any{"_field": "title"})},
		{op("listAlert"), op("filter", "_near", map[string]any{"_field": "title", "_value": 1})},
		{op("listAlert"), op("filter", "_eq", map[string]any{"_field": "title", "_value": "a"}, "_ne", 1)},
		{op("listAlert"), op("sort", "_fields", []any{map[string]any{"title": "up"}})},
		{"x"},
		{op("listObservableType"), op("observables")},
	} {
		c.get(400, "POST", "/query", map[string]any{"query": bad})
	}
	for range 300 { // enough changes to sweep the log
		clk.advance(time.Second)
		c.want(204, "PATCH", "/alert/"+url.PathEscape("casewire;contoso;a0"), map[string]any{"title": "x"})
	}
	if n := len(s.alerts.log); n > 150 {
		t.Errorf("the log holds %d entries of 5 alerts", n)
	}
	if got := c.query(op("listAlert")); len(got) != 5 {
		t.Errorf("%d alerts", len(got))
	}
}

func TestIndexLag(t *testing.T) {
	t.Parallel()
	clk := newClock()
	_, c := newFake(t, Options{Now: clk.now, IndexLag: 10 * time.Second})
	id := c.create("a1")
	c.get(200, "GET", "/alert/"+id, nil)
	if got := c.query(op("listAlert"), op("filter", "_eq", map[string]any{"_field": "sourceRef", "_value": "a1"})); len(got) != 0 {
		t.Errorf("listed before its time: %v", got)
	}
	if got := c.query(op("getAlert", "idOrName", "casewire;contoso;a1")); len(got) != 1 {
		t.Errorf("direct lookups know no lag: %v", got)
	}
	clk.advance(10 * time.Second)
	if got := c.query(op("listAlert")); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestUnknownOutcome: the alert and the case exist, the answers are lost; asking again tells.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	s.FailNext(RouteAlertCreate, LostAnswer, 1)
	if resp, err := c.try("POST", "/alert", alert("a1")); !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = resp.Body.Close()
		t.Fatalf("got %v", err)
	}
	c.get(409, "POST", "/alert", alert("a1"))
	id := c.query(op("getAlert", "idOrName", "casewire;contoso;a1"))[0]["_id"].(string)
	s.FailNext(RoutePromote, ErrorAfter, 1)
	if got := c.get(500, "POST", "/alert/"+id+"/case", nil); got["type"] != "GenericError" {
		t.Errorf("got %v", got)
	}
	if got := c.get(200, "GET", "/alert/"+id, nil); got["caseId"] == nil {
		t.Errorf("got %v", got)
	}
	if got := s.Ledger().Requests[RoutePromote]["201-500"]; got != 1 {
		t.Errorf("ledger %v", s.Ledger().Requests)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	_, c := newFake(t, Options{ContextPath: "/thehive", Users: []User{
		{Login: "rw", APIKey: "rw", Organisations: []string{"a", "b"}}, {Login: "ro", APIKey: "ro", Organisations: []string{"a"}, ReadOnly: true},
	}})
	id := c.create("a1")
	if got := c.get(200, "GET", "/user/current", nil); got["organisation"] != "a" || got["login"] != "rw" {
		t.Errorf("got %v", got)
	}
	c.org = "b"
	c.get(404, "GET", "/alert/"+id, nil)
	if got := c.query(op("listAlert")); len(got) != 0 {
		t.Errorf("another organisation's alerts: %v", got)
	}
	c.org = "c"
	if got := c.get(403, "GET", "/user/current", nil); got["type"] != "AuthorizationError" {
		t.Errorf("got %v", got)
	}
	c.org, c.key = "", "ro"
	c.get(200, "GET", "/alert/"+id, nil)
	c.get(403, "POST", "/alert", alert("a2"))
	c.key = "wrong"
	if got := c.get(401, "GET", "/user/current", nil); got["type"] != "AuthenticationError" {
		t.Errorf("got %v", got)
	}
	c.key = ""
	c.get(401, "POST", "/query", map[string]any{})
	if got := c.get(200, "GET", "/status/public", nil); got["version"] != "5.7.3" {
		t.Errorf("got %v", got)
	}
	c.key = "rw"
	c.get(404, "GET", "/nothing", nil)
}

// TestOverSockets: a lost answer to a real client, and parallel creates of one key.
func TestOverSockets(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	c.http, c.base = srv.Client(), srv.URL+"/api/v1"
	statuses := make(chan int)
	for range 8 {
		go func() {
			resp, err := c.try("POST", "/alert", alert("a1"))
			if err != nil {
				statuses <- 0
				return
			}
			_ = resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	counts := map[int]int{}
	for range 8 {
		counts[<-statuses]++
	}
	if counts[201] != 1 || counts[409] != 7 {
		t.Errorf("got %v", counts)
	}
	s.FailNext("write", LostAnswer, 1)
	if resp, err := c.try("POST", "/alert", alert("a2")); err == nil {
		_ = resp.Body.Close()
		t.Error("a lost answer went unnoticed")
	}
	if n := len(s.Ledger().Alerts); n != 2 {
		t.Errorf("%d alerts", n)
	}
}

// TestAgainstContract holds the names in the fake's answers against TheHive's description, where that is at hand.
func TestAgainstContract(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CASEWIRE_CONTRACTS")
	if dir == "" {
		t.Skip("CASEWIRE_CONTRACTS names no folder with the vendors' contracts")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cases/thehive-5.6.2.prism.openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Components struct {
			Schemas map[string]struct {
				Required   []string
				Properties map[string]struct{ MaxLength *int }
			}
		}
	}
	if err := json.Unmarshal(raw, &contract); err != nil {
		t.Fatal(err)
	}
	s, c := newFake(t, Options{Version: "5.6.2"})
	id := c.create("a1", "observables", []any{map[string]any{"dataType": "ip", "data": "1"}})
	made := c.promote(id)
	first := func(v any) map[string]any { return v.([]any)[0].(map[string]any) }
	for schema, got := range map[string]map[string]any{
		"OutputAlert": c.get(200, "GET", "/alert/"+id, nil), "OutputCase": made,
		"OutputObservable":       first(c.want(201, "POST", "/case/1/observable", map[string]any{"dataType": "ip", "data": "2"})),
		"OutputComment":          c.get(201, "POST", "/case/1/comment", map[string]any{"message": "m"}),
		"OutputProcedure":        c.get(201, "POST", "/case/1/procedure", map[string]any{"patternId": "T1059", "occurDate": 1, "tactic": "execution"}),
		"OutputTask":             c.get(201, "POST", "/case/1/task", map[string]any{"title": "t"}),
		"OutputUser":             c.get(200, "GET", "/user/current", nil),
		"OutputPublicStatus":     c.get(200, "GET", "/status/public", nil),
		"OutputObservableType":   c.query(op("listObservableType"))[0],
		"OutputCaseStatus":       c.query(op("listCaseStatus"))[0],
		"Query_API_400_response": c.get(404, "GET", "/case/99", nil),
	} {
		known := contract.Components.Schemas[schema]
		if len(known.Properties) == 0 {
			t.Errorf("the contract has no schema %s", schema)
		}
		for name := range got {
			if _, ok := known.Properties[name]; !ok {
				t.Errorf("%s has no %s", schema, name)
			}
		}
		for _, name := range known.Required {
			if _, ok := got[name]; !ok {
				t.Errorf("%s lacks %s", schema, name)
			}
		}
	}
	for schema, rules := range map[string]map[string]rule{
		"InputCreateAlert": s.rules.newAlert, "InputUpdateAlert": s.rules.alert, "InputCreateCase": s.rules.newCase,
		"InputUpdateCase": s.rules.kase, "InputCreateCaseFromAlert": s.rules.promote, "InputCreateObservable": s.rules.observable,
		"InputComment": commentRules, "InputProcedure": procedureRules, "InputCreateTask": taskRules,
	} {
		known := contract.Components.Schemas[schema]
		for name, p := range known.Properties {
			r, ok := rules[name]
			if !ok {
				t.Errorf("%s: no rule for %s", schema, name)
			}
			if p.MaxLength != nil && r.kind == "text" && r.max != *p.MaxLength {
				t.Errorf("%s.%s: at most %d characters, contract says %d", schema, name, r.max, *p.MaxLength)
			}
		}
		for name, r := range rules {
			if _, ok := known.Properties[name]; !ok {
				t.Errorf("%s has no %s", schema, name)
			}
			if r.required != slices.Contains(known.Required, name) {
				t.Errorf("%s.%s: required %v", schema, name, r.required)
			}
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		`{"query":[{"_name":"listAlert"},{"_name":"filter","_and":[{"_eq":{"_field":"tags","_value":"a"}}]},{"_name":"page","from":0,"to":1}]}`,
		`{"query":[{"_name":"getCase","idOrName":"1"},{"_name":"observables"},{"_name":"sort","_fields":[{"a":"asc"}]}]}`, `{"query":[{}]}`, `{}`,
	} {
		f.Add(seed)
	}
	s := New(Options{})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/query", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+s.APIKey())
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	})
}
