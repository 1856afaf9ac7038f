package thehive

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// call makes a call of an action; what is in it more than the input is set by change.
func call(action string, input map[string]any, change ...func(*sdktest.Call)) sdktest.Call {
	c := sdktest.Call{Action: action, Input: input}
	for _, f := range change {
		f(&c)
	}
	return c
}

var someFields = []hivefake.CustomField{
	{Name: "root-cause", Type: "string", Mandatory: true},
	{Name: "affected", Type: "integer"},
	{Name: "seen", Type: "date"},
	{Name: "external", Type: "boolean"},
	{Name: "score", Type: "float"},
	{Name: "colour", Type: "string", Options: []any{"red", "blue"}},
}

func writesOf(fake *hivefake.Server) uint64 {
	var n uint64
	for route, outcomes := range fake.Ledger().Requests {
		if slices.Contains([]string{hivefake.RouteQuery, hivefake.RouteCaseGet, hivefake.RouteStatus, hivefake.RouteAlertGet, hivefake.RouteLicence}, route) {
			continue
		}
		for _, k := range outcomes {
			n += k
		}
	}
	return n
}

func TestUpdateCaseWritesWhatDiffers(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{CustomFields: someFields})
	made := must[Ensured](t, h, plainCase("case.ensure"))
	in := map[string]any{
		"case": fmt.Sprint(made.Number), "title": "T", "description": "D", "summary": "S", "severity_id": 5, "status": "inprogress",
		"assignee": "casewire@example.com", "tlp": "green", "pap": "clear", "flag": true, "add_tags": []string{"vip", "AWS"}, "remove_tags": []string{"casewire"},
		"custom_fields": map[string]any{"affected": "3", "SEEN": "2026-11-23T10:00:00Z", "nope": "x", "colour": "green"},
	}
	got := must[Changed](t, h, call("case.update", in))
	want := []string{"assignee", "custom_fields", "description", "flag", "pap", "severity_id", "status", "summary", "tags", "title", "tlp"}
	if made.Closed || !got.Updated || got.Status != "InProgress" || len(got.Notes) != 2 {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(slices.DeleteFunc(want, func(s string) bool { return s == "assignee" }), got.Changes); diff != "" {
		t.Error(diff) // the case was its assignee's already
	}
	cs := must[Case](t, h, call("case.get", map[string]any{"case": made.ID}))
	if cs.Title != "T" || cs.TLP != "green" || cs.PAP != "clear" || cs.Severity != 4 || !cs.Flag || !cmp.Equal(cs.Tags, []string{"aws", "vip"}) ||
		!cmp.Equal(cs.Fields, map[string]any{"affected": 3.0, "seen": 1795428000000.0}) {
		t.Errorf("%+v", cs)
	}
	before := writesOf(fake)
	if again := must[Changed](t, h, call("case.update", in)); again.Updated || writesOf(fake) != before {
		t.Errorf("again: %+v", again)
	}
	dry := must[Changed](t, h, call("case.update", map[string]any{"case": made.ID, "title": "Other"}, func(c *sdktest.Call) { c.DryRun = true }))
	if !dry.Updated || writesOf(fake) != before {
		t.Errorf("dry run: %+v", dry)
	}
	for field, in := range map[string]map[string]any{
		"/status": {"case": made.ID, "status": "TruePositive"}, "/tlp": {"case": made.ID, "tlp": "purple"}, "/case": {"case": "x"},
	} {
		_, err := do[Changed](t, h, call("case.update", in))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 || e.Violations[0].Field != field {
			t.Errorf("%s: %v", field, e)
		}
	}
	_, err := do[Changed](t, h, call("case.update", map[string]any{"case": "999", "title": "x"}))
	if e := asError(t, err); e.Class() != plugin.ClassNotFound || !strings.Contains(e.Message, "deleted or merged") {
		t.Errorf("missing: %v", e)
	}
}

func TestCloseAndReopen(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{CustomFields: someFields})
	made := must[Ensured](t, h, plainCase("case.ensure", with("tasks", []map[string]any{{"title": "Look"}, {"title": "Ask"}})))
	in := func(more map[string]any) map[string]any {
		out := map[string]any{"case": made.ID, "verdict_id": 1, "summary": "Planned."}
		maps.Copy(out, more)
		return out
	}
	// The mandatory field is named, and nothing is half done.
	_, err := do[Changed](t, h, call("case.close", in(nil)))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 || e.Violations[0].Field != "/custom_fields/root-cause" {
		t.Errorf("mandatory: %v %+v", e, e.Violations)
	}
	_, err = do[Changed](t, h, call("case.close", in(map[string]any{"open_tasks": "refuse"})))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || !strings.Contains(e.Error(), "2 tasks that are not done: Look; Ask") {
		t.Errorf("tasks: %v", e)
	}
	done := in(map[string]any{"open_tasks": "complete", "impact": "NoImpact", "custom_fields": map[string]any{"Root-Cause": "test"}})
	got := must[Changed](t, h, call("case.close", done))
	if !got.Closed || got.Status != "FalsePositive" || got.Stage != "Closed" || !cmp.Equal(got.Changes, []string{"custom_fields", "impact", "status", "summary"}) {
		t.Errorf("closed: %+v", got)
	}
	n := writesOf(fake)
	if again := must[Changed](t, h, call("case.close", done)); again.Updated || !again.Closed || writesOf(fake) != n {
		t.Errorf("again: %+v", again)
	}
	// What somebody else decided stays, unless the flow insists.
	if other := must[Changed](t, h, call("case.close", in(map[string]any{"verdict_id": 2}))); other.Updated || other.Status != "FalsePositive" || len(other.Notes) != 1 {
		t.Errorf("other verdict: %+v", other)
	}
	if other := must[Changed](t, h, call("case.close", in(map[string]any{"verdict_id": 2, "overwrite": true, "summary": "More."}))); other.Status != "TruePositive" {
		t.Errorf("insisted: %+v", other)
	}
	if cs := must[Case](t, h, call("case.get", map[string]any{"case": made.ID})); cs.Summary != "Planned.\n\nMore." || cs.Impact != "NoImpact" || cs.VerdictID != 2 {
		t.Errorf("case: %+v", cs)
	}
	open := must[Changed](t, h, call("case.reopen", map[string]any{"case": made.ID}))
	if open.Closed || open.Status != "InProgress" || open.Stage != "InProgress" || !open.Updated {
		t.Errorf("reopened: %+v", open)
	}
	if again := must[Changed](t, h, call("case.reopen", map[string]any{"case": made.ID, "status": "New"})); again.Updated || again.Status != "InProgress" {
		t.Errorf("reopened again: %+v", again)
	}
	_, err = do[Changed](t, h, call("case.close", map[string]any{"case": made.ID}))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || e.Violations[0].Field != "/status" {
		t.Errorf("neither status nor verdict: %v", e)
	}
	for _, status := range []string{"InProgress", "Nonsense"} {
		_, err := do[Changed](t, h, call("case.close", map[string]any{"case": made.ID, "status": status}))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || !strings.Contains(e.Error(), "TruePositive, FalsePositive, Indeterminate, Other, Duplicated") {
			t.Errorf("%s: %v", status, e)
		}
	}
}

func TestHomemadeStatuses(t *testing.T) {
	t.Parallel()
	_, h := fakeHive(t, hivefake.Options{CaseStatuses: []hivefake.Status{
		{Value: "New", Stage: "New"},
		{Value: "Triage", Stage: "InProgress"},
		{Value: "True Positive", Stage: "Closed"},
		{Value: "Benign", Stage: "Closed"},
		{Value: "Red team", Stage: "Closed"},
	}}, func(c *Config) { c.Verdicts = map[string]string{"red team": "test"} })
	made := must[Ensured](t, h, plainCase("case.ensure"))
	if got := must[Changed](t, h, call("case.close", map[string]any{"case": made.ID, "verdict_id": 8})); got.Status != "True Positive" {
		t.Errorf("closed: %+v", got)
	}
	if got := must[Changed](t, h, call("case.reopen", map[string]any{"case": made.ID})); got.Status != "Triage" {
		t.Errorf("reopened: %+v", got)
	}
	tested := must[Changed](t, h, call("case.close", map[string]any{"case": made.ID, "verdict_id": 6}))
	if cs := must[Case](t, h, call("case.get", map[string]any{"case": made.ID})); tested.Status != "Red team" || cs.VerdictID != 6 {
		t.Errorf("closed: %+v, %+v", tested, cs)
	}
	must[Changed](t, h, call("case.reopen", map[string]any{"case": made.ID}))
	_, err := do[Changed](t, h, call("case.close", map[string]any{"case": made.ID, "verdict_id": 10}))
	if e := asError(t, err); e.Violations[0].Field != "/verdict_id" || !strings.Contains(e.Error(), "True Positive, Benign, Red team") {
		t.Errorf("duplicate: %v", e)
	}
}

func TestCustomFields(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{CustomFields: someFields})
	fields := map[string]any{
		"root-cause": "phish", "affected": 12, "seen": "2026-11-23", "external": "yes", "score": "0.5", "colour": "red",
		"missing": []any{"a", 1}, "Affected\nby": "x", "empty": "",
	}
	made := must[Ensured](t, h, plainCase("case.ensure", with("custom_fields", fields)))
	if len(made.Notes) != 2 || !strings.Contains(made.Notes[1], "missing: a, 1 (there is no such field)") {
		t.Errorf("notes: %q", made.Notes)
	}
	cs := must[Case](t, h, call("case.get", map[string]any{"case": made.ID}))
	want := map[string]any{"root-cause": "phish", "affected": 12.0, "seen": 1795392000000.0, "external": true, "score": 0.5, "colour": "red"}
	if diff := cmp.Diff(want, cs.Fields); diff != "" || !strings.Contains(cs.Description, "missing: a, 1") {
		t.Errorf("%s\n%s", diff, cs.Description)
	}
	// Known to the host, nothing is written again; a changed one alone is.
	c := plainCase("case.ensure", with("custom_fields", fields))
	c.Prior = made
	n := writesOf(fake)
	if again := must[Ensured](t, h, c); again.Updated || writesOf(fake) != n {
		t.Errorf("again: %+v", again)
	}
	fields["affected"] = 13
	if again := must[Ensured](t, h, c); !again.Updated || writesOf(fake) != n+1 {
		t.Errorf("changed: %+v", again)
	}
	for name, v := range map[string]any{"affected": 1 << 40, "seen": "yesterday", "external": "perhaps", "score": "NaN", "colour": "green"} {
		got := must[Ensured](t, h, plainCase("alert.ensure", with("custom_fields", map[string]any{name: v}), func(c *sdktest.Call) { c.Key = name }))
		if !got.Created || len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], name+": ") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAStrangeTemplateOrAssigneeDoesNotCostTheCase(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"5.3.0", "5.7.3"} {
		fake, h := fakeHive(t, hivefake.Options{Version: version, Templates: []hivefake.Template{{Name: "Cloud", TitlePrefix: "[C]", Tasks: []string{"Standard"}}}})
		for key, change := range map[string]func(*sdktest.Call){"a": with("case_template", "Nope"), "b": with("assignee", "nobody")} {
			got := must[Ensured](t, h, plainCase("case.ensure", change, with("tasks", []map[string]any{{"title": "one", "assignee": "nobody"}}), func(c *sdktest.Call) { c.Key = key }))
			if !got.Created || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "was left out") {
				t.Errorf("%s: %+v", key, got)
			}
		}
		got := must[Ensured](t, h, plainCase("case.ensure", with("case_template", "Cloud"), with("assignee", "nobody"), with("tasks", []map[string]any{{"title": "more"}}), func(c *sdktest.Call) { c.Key = "c" }))
		cs := fake.Ledger().Cases[int64(got.Number)]
		if len(got.Notes) != 1 || cs.Tasks != 2 || cs.Title != "[C] Root login" {
			t.Errorf("%+v is %+v", got, cs)
		}
		// What the template puts before the title stays.
		c := plainCase("case.ensure", with("title", "News"), func(c *sdktest.Call) { c.Key, c.Prior = "c", got })
		must[Ensured](t, h, c)
		if title := fake.Ledger().Cases[int64(got.Number)].Title; title != "[C] News" {
			t.Errorf("title %q", title)
		}
	}
}

func TestSearchCases(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{})
	for i := range 12 {
		c := plainCase("case.ensure", with("severity_id", i%5+1), with("title", fmt.Sprintf("Case %d", i)), func(c *sdktest.Call) { c.Key = fmt.Sprint(i) },
			with("observables", []map[string]any{{"dataType": "ip", "data": fmt.Sprintf("192.0.2.%d", i%3)}}))
		made := must[Ensured](t, h, c)
		if i%4 == 0 {
			person(t, fake, "PATCH", "/case/"+made.ID, map[string]any{"status": "Other"})
		}
	}
	person(t, fake, "POST", "/case", map[string]any{"title": "Foreign", "description": "d"})
	for name, tt := range map[string]struct {
		in   map[string]any
		want []int
		more bool
	}{
		"all":        {map[string]any{"sort": "number", "order": "asc"}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, false},
		"limit":      {map[string]any{"sort": "number", "order": "asc", "limit": 5}, []int{1, 2, 3, 4, 5}, true},
		"exactly":    {map[string]any{"sort": "number", "order": "asc", "limit": 13}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, false},
		"closed":     {map[string]any{"stage": []string{"Closed"}, "sort": "number"}, []int{9, 5, 1}, false},
		"tag":        {map[string]any{"tags": []string{"casewire", "aws"}, "min_severity_id": 4, "sort": "number", "order": "asc"}, []int{4, 5, 9, 10}, false},
		"observable": {map[string]any{"observable": "192.0.2.1", "sort": "number"}, []int{11, 8, 5, 2}, false},
		"words":      {map[string]any{"title": "case 1*", "sort": "number"}, []int{12, 11, 2}, false},
		"filter":     {map[string]any{"filter": map[string]any{"_in": map[string]any{"_field": "number", "_values": []int{3, 7}}}, "sort": "number"}, []int{7, 3}, false},
		"none":       {map[string]any{"assignee": "nobody"}, nil, false},
	} {
		res, err := h.Do(t.Context(), call("case.search", tt.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []int
		for _, row := range res.Rows {
			var c Case
			if err := json.Unmarshal(row, &c); err != nil {
				t.Fatal(err)
			}
			got = append(got, c.Number)
		}
		var sum Searched
		if err := json.Unmarshal(res.Output, &sum); err != nil || sum.Count != len(got) || sum.More != tt.more || !cmp.Equal(got, tt.want) {
			t.Errorf("%s: %v, %+v, %v", name, got, sum, err)
		}
	}
	_, err := h.Do(t.Context(), call("case.search", map[string]any{"filter": map[string]any{"_nonsense": 1}}))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid {
		t.Errorf("bad filter: %v", e)
	}
}

func TestGetAlert(t *testing.T) {
	t.Parallel()
	_, h := fakeHive(t, hivefake.Options{})
	made := must[Ensured](t, h, plainCase("case.ensure", with("origin", "alert:9")))
	byKey := must[Alert](t, h, call("alert.get", map[string]any{"key": caseKey}))
	byID := must[Alert](t, h, call("alert.get", map[string]any{"alert": made.AlertID}))
	if diff := cmp.Diff(byKey, byID); diff != "" || byKey.CaseID != made.ID || byKey.Origin != "alert:9" || byKey.Stage != "Imported" || byKey.SourceRef != caseRef(caseKey) {
		t.Errorf("%+v\n%s", byKey, diff)
	}
	_, err := do[Alert](t, h, call("alert.get", map[string]any{"key": "other"}))
	if e := asError(t, err); e.Class() != plugin.ClassNotFound {
		t.Errorf("other key: %v", e)
	}
	for _, in := range []map[string]any{{}, {"alert": "~1", "key": "x"}} {
		if _, err := do[Alert](t, h, call("alert.get", in)); asError(t, err).Class() != plugin.ClassInvalid {
			t.Errorf("%v: %v", in, err)
		}
	}
}

func TestLinkAndMerge(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		fake, h := fakeHive(t, hivefake.Options{NoLinks: old})
		a := must[Ensured](t, h, plainCase("case.ensure", func(c *sdktest.Call) { c.Key = "a" }))
		b := must[Ensured](t, h, plainCase("case.ensure", func(c *sdktest.Call) { c.Key = "b" }))
		in := map[string]any{"case": fmt.Sprint(a.Number), "other": b.ID, "type": "duplicate", "comment": "Merged incidents."}
		for i := range 2 {
			got := must[Linked](t, h, call("case.link", in))
			if got.Created != (i == 0) || got.Case != a.ID || got.Other != b.ID || i == 0 && (got.By == "comment") != old {
				t.Errorf("old %v: %+v", old, got)
			}
		}
		led := fake.Ledger().Cases
		if one, two := led[int64(a.Number)], led[int64(b.Number)]; len(one.Comments) != 1 || len(two.Comments) != 1 || len(one.Links) != map[bool]int{false: 1}[old] {
			t.Errorf("old %v: %+v, %+v", old, one, two)
		}
		_, err := do[Linked](t, h, call("case.link", map[string]any{"case": a.ID, "other": fmt.Sprint(a.Number)}))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || e.Violations[0].Field != "/other" {
			t.Errorf("itself: %v", e)
		}
		if _, err := do[Changed](t, h, call("case.merge", map[string]any{"cases": []string{a.ID, fmt.Sprint(a.Number)}})); asError(t, err).Class() != plugin.ClassInvalid {
			t.Errorf("the same twice: %v", err)
		}
		dry := must[Changed](t, h, call("case.merge", map[string]any{"cases": []string{a.ID, b.ID}}, func(c *sdktest.Call) { c.DryRun = true }))
		merged := must[Changed](t, h, call("case.merge", map[string]any{"cases": []string{a.ID, fmt.Sprint(b.Number)}}))
		if dry.ID != "" || merged.Number != 3 || len(fake.Ledger().Cases) != 1 {
			t.Errorf("merged: %+v, %+v", dry, merged)
		}
		// A call that knows the old case comes to the new one.
		later := must[Ensured](t, h, plainCase("case.ensure", with("title", "News"), func(c *sdktest.Call) { c.Key, c.Prior = "b", b }))
		if later.ID != merged.ID {
			t.Errorf("later: %+v", later)
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{})
	made := must[Ensured](t, h, plainCase("case.ensure"))
	file := sdk.NewBlob(`C:\mail\"bad".eml`, "message/rfc822", []byte("From: x\r\n\r\nhello"))
	attach := func(more map[string]any, change ...func(*sdktest.Call)) Attached {
		in := map[string]any{"case": made.ID, "file": file}
		maps.Copy(in, more)
		return must[Attached](t, h, call("attachment.add", in, change...))
	}
	first := attach(nil)
	if !first.Created || first.Name != "_bad_.eml" || first.ID == "" {
		t.Errorf("first: %+v", first)
	}
	if again := attach(nil); again.Created || again.ID != first.ID {
		t.Errorf("again: %+v", again)
	}
	if dry := attach(map[string]any{"name": "other.eml"}, func(c *sdktest.Call) { c.DryRun = true }); !dry.Created || dry.ID != "" {
		t.Errorf("dry: %+v", dry)
	}
	if other := attach(map[string]any{"name": "other.eml"}); !other.Created {
		t.Errorf("other name: %+v", other)
	}
	onAlert := map[string]any{"alert": made.AlertID, "file": file}
	if a := must[Attached](t, h, call("attachment.add", onAlert)); !a.Created {
		t.Errorf("alert: %+v", a)
	}
	up := map[string]any{"case": made.ID, "file": file, "ioc": true, "tags": []string{"phish"}, "tlp": "red", "message": "as received"}
	one, two := must[Attached](t, h, call("observable.upload", up)), must[Attached](t, h, call("observable.upload", up))
	if !one.Created || two.Created || one.ID != two.ID {
		t.Errorf("upload: %+v, %+v", one, two)
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, err := z.Create("evil.exe")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write([]byte("MZ")); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	zipped := map[string]any{"case": made.ID, "file": sdk.NewBlob("evil.zip", "application/zip", archive.Bytes()), "zip": true, "zip_password": "infected"}
	one, two = must[Attached](t, h, call("observable.upload", zipped)), must[Attached](t, h, call("observable.upload", zipped))
	if !one.Created || two.Created || one.ID != two.ID || two.Name != "evil.exe" {
		t.Errorf("archive: %+v, %+v", one, two)
	}
	cs := fake.Ledger().Cases[int64(made.Number)]
	if cs.Attachments != 2 || cs.Observables != 2 {
		t.Errorf("case: %+v", cs)
	}
	for field, in := range map[string]map[string]any{
		"/file":         {"case": made.ID, "file": map[string]any{"name": "x", "data": ""}},
		"/name":         {"case": made.ID, "file": map[string]any{"data": "eA=="}},
		"/zip_password": {"case": made.ID, "file": file, "zip_password": "x"},
		"/case":         {"file": file},
	} {
		_, err := do[Attached](t, h, call("observable.upload", in))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || len(e.Violations) == 0 || e.Violations[0].Field != field {
			t.Errorf("%s: %v", field, e)
		}
	}
	bad := file
	bad.SHA256 = strings.Repeat("0", 64)
	if _, err := do[Attached](t, h, call("attachment.add", map[string]any{"case": made.ID, "file": bad})); asError(t, err).Class() != plugin.ClassInvalid {
		t.Errorf("wrong digest: %v", err)
	}
}

func TestTaskOncePerKey(t *testing.T) {
	t.Parallel()
	fake, h := fakeHive(t, hivefake.Options{})
	made := must[Ensured](t, h, plainCase("case.ensure"))
	task := func(change ...func(*sdktest.Call)) sdktest.Call {
		c := call("task.add", map[string]any{"case": made.ID, "title": "Call\nthe owner", "group": "talk", "due": "2026-11-24T10:00:00Z", "assignee": "nobody"}, change...)
		c.Key = "task 1"
		return c
	}
	if dry := must[AddedTask](t, h, task(func(c *sdktest.Call) { c.DryRun = true })); !dry.Created || dry.ID != "" {
		t.Errorf("dry: %+v", dry)
	}
	_, err := do[AddedTask](t, h, task(func(c *sdktest.Call) { c.Resolve = true }))
	if e := asError(t, err); e.Reason != plugin.ReasonUnresolved {
		t.Errorf("resolve before: %v", e)
	}
	first := must[AddedTask](t, h, task())
	again := must[AddedTask](t, h, task(func(c *sdktest.Call) { c.Attempt = 2 }))
	resolved := must[AddedTask](t, h, task(func(c *sdktest.Call) { c.Resolve = true }))
	known := must[AddedTask](t, h, task(func(c *sdktest.Call) { c.Prior = first }))
	if !first.Created || again.ID != first.ID || resolved.ID != first.ID || known.ID != first.ID || known.Created || first.Status != "Waiting" {
		t.Errorf("%+v, %+v, %+v, %+v", first, again, resolved, known)
	}
	if n := fake.Ledger().Cases[int64(made.Number)].Tasks; n != 1 {
		t.Errorf("%d tasks", n)
	}
	_, err = do[AddedTask](t, h, task(func(c *sdktest.Call) { c.Prior = AddedTask{ID: first.ID, Case: "~1"} }))
	if e := asError(t, err); e.Class() != plugin.ClassInvalid || e.Violations[0].Field != "/case" {
		t.Errorf("another case: %v", e)
	}
}

func TestReadOnlyIsSaid(t *testing.T) {
	t.Parallel()
	_, h := fakeHive(t, hivefake.Options{NoLicence: true})
	_, err := do[Ensured](t, h, plainCase("case.ensure"))
	if e := asError(t, err); e.Class() != plugin.ClassDenied || !strings.Contains(e.Message, "the licence is not valid") {
		t.Errorf("%v of class %s", e, e.Class())
	}
	_, h = fakeHive(t, hivefake.Options{Users: []hivefake.User{{Login: "ro", APIKey: "a-read-only-key", ReadOnly: true}}})
	_, err = do[Ensured](t, h, plainCase("case.ensure"))
	if e := asError(t, err); e.Class() != plugin.ClassDenied || !strings.Contains(e.Message, "the user's profile in organisation soc does not permit it") {
		t.Errorf("%v of class %s", e, e.Class())
	}
}

func TestEmptyErrorsOfDuplicates(t *testing.T) {
	t.Parallel()
	_, h := fakeHive(t, hivefake.Options{Version: "5.2.1", EmptyErrors: true})
	first := must[Ensured](t, h, plainCase("case.ensure"))
	if again := must[Ensured](t, h, plainCase("case.ensure")); again.ID != first.ID || again.Created {
		t.Errorf("again: %+v", again)
	}
}
