package thehive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/casewire/casewire/connectors/internal/contract"
	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// description is StrangeBee's description of TheHive 5.6.2, where it is at hand; else nil.
var description = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := contract.Load("cases/thehive-5.6.2.prism.openapi.json")
	if doc != nil {
		// The options of a custom field are one of three kinds of lists, and an empty list is all of them.
		options := doc.Components.Schemas["OutputCustomField_options"].Value
		options.AnyOf, options.OneOf = options.OneOf, nil
	}
	return doc, err
})

// queried are the schemas of what a query brings, by its type: the description of the query itself leaves them out.
var queried = map[string]string{
	"Alert": "OutputAlert", "Case": "OutputCase", "Observable": "OutputObservable", "Comment": "OutputComment", "Task": "OutputTask",
	"Attachment": "OutputAttachment", "CaseStatus": "OutputCaseStatus", "AlertStatus": "OutputAlertStatus", "CustomField": "OutputCustomField",
	"CaseTemplate": "OutputCaseTemplate", "ObservableType": "OutputObservableType",
}

// judged wraps the fake, where the description is at hand.
func judged(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	doc, err := description()
	if err != nil {
		t.Fatalf("contract: %v", err)
	}
	if doc == nil {
		return next
	}
	return &contract.Judge{T: t, Doc: doc, Next: next, Reply: func(operation string, _, reply []byte) error {
		if operation != "POST /api/v1/query" {
			return nil
		}
		var list []map[string]any
		if err := json.Unmarshal(reply, &list); err != nil {
			return err
		}
		for _, d := range list {
			name, _ := d["_type"].(string)
			schema := doc.Components.Schemas[queried[name]]
			if name != "" && schema == nil {
				return fmt.Errorf("no schema for %s", name)
			}
			if schema == nil {
				continue
			}
			if err := schema.Value.VisitJSON(d); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}}
}

// TestEveryRequestKeepsTheContract sends every kind of request that the connector can send, and looks whether none was left
// out; other tests send them in all their forms through the same judge.
func TestEveryRequestKeepsTheContract(t *testing.T) {
	t.Parallel()
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	if doc == nil {
		t.Skip(contract.Variable + " names no folder with the vendors' contracts")
	}
	fake := hivefake.New(hivefake.Options{
		Version: "5.6.2", CustomFields: someFields, Templates: []hivefake.Template{{Name: "Cloud", TitlePrefix: "[C]", Tags: []string{"t"}, Tasks: []string{"x"}}},
	})
	j := judged(t, fake).(*contract.Judge)
	srv := httptest.NewServer(j)
	t.Cleanup(func() { srv.Close(); fake.Close() })
	cfg := testConfig(srv.URL)
	cfg.APIKey, cfg.Organisation, cfg.CaseTemplate = plugin.NewSecret(fake.APIKey()), hivefake.DefaultOrganisation, "Cloud"
	h := sdktest.Open(t, Connector(), cfg)
	if probes, err := h.Check(t.Context()); err != nil || len(probes) == 0 {
		t.Errorf("check: %v", err)
	}
	whole := []func(*sdktest.Call){
		with("origin", "incident:1"), with("custom_fields", map[string]any{"affected": 1, "seen": "2026-11-23", "external": true, "score": 1.5, "colour": "red"}),
		with("tasks", []map[string]any{{"title": "t", "group": "g", "due": "2026-11-24T10:00:00Z", "assignee": "casewire@example.com", "mandatory": true, "flag": true}}),
		with("procedures", []string{"T1078.004", "T9999"}), with("assignee", "casewire@example.com"), with("title", strings.Repeat("long ", 200)),
		with("observables", []map[string]any{
			{"dataType": "ip", "data": "10.0.0.1", "sighted_at": "2026-11-23T10:00:00Z", "tlp": "red", "pap": "red", "tags": []string{"a"}, "message": "m"},
			{"type": "IP Address", "value": "45.83.64.2", "data_type": "ip", "ioc": true},
			{"dataType": "url", "data": "https://x.example/" + strings.Repeat("a", 6000)},
		}),
	}
	first := must[Ensured](t, h, ensure("case.ensure", whole...))
	second := must[Ensured](t, h, ensure("case.ensure", func(c *sdktest.Call) { c.Key = "second" }))
	c := ensure("case.ensure", append(whole, with("title", "News"), with("severity_id", 5), with("tlp", "red"), with("pap", "red"), with("tags", []string{"new"}),
		with("on_existing", "reopen"), with("comment_on_update", "news"), with("procedures", []string{"T1003", "T8888"}),
		with("observables", []map[string]any{{"dataType": "domain", "data": "late.example"}, {"dataType": "ip", "data": "192.0.2.8"}, {"dataType": "ip", "data": "192.0.2.9"}}))...)
	c.Prior = first
	must[Ensured](t, h, c)
	must[Ensured](t, h, ensure("alert.ensure", with("on_existing", "comment"), with("comment_on_update", "c")))
	call := func(action string, in map[string]any, more ...func(*sdktest.Call)) {
		t.Helper()
		if in["alert"] == nil && in["cases"] == nil {
			in["case"] = first.ID
		}
		c := sdktest.Call{Action: action, Input: in, Key: "key of " + action}
		for _, f := range more {
			f(&c)
		}
		if _, err := h.Do(t.Context(), c); err != nil {
			t.Errorf("%s: %v", action, err)
		}
	}
	file := sdk.NewBlob("a.txt", "text/plain", []byte("hello"))
	call("case.comment", map[string]any{"text": "x"})
	call("case.comment", map[string]any{"text": "y"}, func(c *sdktest.Call) { c.Attempt = 2 })
	all, err := list[comment](t.Context(), openFor(t, cfg), kindCase, first.ID, "comments")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	call("case.comment", map[string]any{"text": "z"}, func(c *sdktest.Call) { c.Prior = Commented{ID: all[0].ID, Case: first.ID} })
	call("task.add", map[string]any{"title": "t", "description": "d"})
	call("observable.add", map[string]any{"alert": first.AlertID, "observables": []map[string]any{{"dataType": "ip", "data": "192.0.2.77"}}})
	call("observable.upload", map[string]any{"file": file})
	call("attachment.add", map[string]any{"file": file})
	call("attachment.add", map[string]any{"alert": first.AlertID, "file": file})
	call("case.update", map[string]any{
		"title": "T", "description": "D", "summary": "S", "severity_id": 2, "status": "InProgress", "assignee": "casewire@example.com", "tlp": "clear",
		"pap": "green", "flag": true, "add_tags": []string{"x"}, "remove_tags": []string{"aws"}, "custom_fields": map[string]any{"affected": 9},
	})
	call("case.link", map[string]any{"other": second.ID, "comment": "c"})
	call("case.close", map[string]any{"verdict_id": 2, "summary": "s", "impact": "WithImpact", "open_tasks": "complete", "custom_fields": map[string]any{"root-cause": "x"}})
	call("case.reopen", map[string]any{})
	call("case.get", map[string]any{})
	call("alert.get", map[string]any{"alert": first.AlertID})
	for _, in := range []map[string]any{{"observable": "192.0.2.9"}, {"tags": []string{"x"}, "stage": []string{"New"}, "title": "a*", "created_after": "2020-01-01T00:00:00Z"}} {
		if _, err := h.Do(t.Context(), sdktest.Call{Action: "case.search", Input: in}); err != nil {
			t.Error(err)
		}
	}
	if events, _, _ := pollCases(t, h, nil); len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
	call("case.merge", map[string]any{"cases": []string{first.ID, second.ID}})
	for _, want := range []string{
		"GET /api/v1/status/public", "GET /api/v1/status", "GET /api/v1/user/current", "POST /api/v1/query", "POST /api/v1/alert", "GET /api/v1/alert/{alertId}",
		"POST /api/v1/alert/{alertId}/case", "POST /api/v1/alert/{alertId}/comment", "POST /api/v1/alert/{alertId}/observable",
		"POST /api/v1/alert/{alertId}/procedure", "POST /api/v1/alert/{alertId}/attachments", "GET /api/v1/case/{idOrName}", "PATCH /api/v1/case/{idOrName}",
		"POST /api/v1/case/{caseId}/comment", "PATCH /api/v1/comment/{commentId}", "POST /api/v1/case/{caseId}/observable", "POST /api/v1/case/{caseId}/procedure",
		"POST /api/v1/case/{caseId}/task", "PATCH /api/v1/task/{taskId}", "POST /api/v1/case/{caseId}/attachments",
		"POST /api/v1/case/{caseId}/link/case/add", "POST /api/v1/case/_merge/{ids}",
	} {
		if !j.Seen(want) {
			t.Errorf("no test sends %s", want)
		}
	}
	for _, schema := range slices.Sorted(maps.Values(queried)) {
		if doc.Components.Schemas[schema] == nil {
			t.Errorf("the contract has no schema %s", schema)
		}
	}
}

// openFor opens the connector's own client.
func openFor(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := open(t.Context(), cfg, sdk.Env{Connection: "cases"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// strict is the strict schema of Incident Finding, where it is at hand; else nil.
var strict = sync.OnceValues(func() (*jsonschema.Schema, error) {
	dir := os.Getenv(contract.Variable)
	if dir == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "events", "ocsf-1.8.0", "strict", "*.json"))
	if err != nil {
		return nil, err
	}
	c, id := jsonschema.NewCompiler(), ""
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		url, _ := doc.(map[string]any)["$id"].(string)
		if err := c.AddResource(url, doc); err != nil {
			return nil, err
		}
		if strings.HasSuffix(url, "/incident_finding.schema.json") {
			id = url
		}
	}
	return c.Compile(id)
})

// validOCSF holds an event's data against the schema.
func validOCSF(t *testing.T, ev *sdk.Event) {
	t.Helper()
	schema, err := strict()
	if err != nil {
		t.Fatal(err)
	}
	if schema == nil {
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(ev.Data))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("data is not what the strict schema wants: %v\n%.2000s", err, ev.Data)
	}
}
