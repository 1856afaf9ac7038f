package normalize

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// incidentWith is an incident with these alerts; with has members to add or replace.
func incidentWith(tb testing.TB, with map[string]any, alerts ...[]byte) map[string]any {
	tb.Helper()
	inc := map[string]any{
		"@odata.context": "https://graph.example/$metadata#incidents", "id": "28282", "displayName": "Multi-stage <incident>",
		"status": "inProgress", "severity": "high", "classification": "truePositive", "determination": "multiStagedAttack",
		"assignedTo": "ana@contoso.example", "createdDateTime": "2026-03-04T05:06:08.1234567Z", "lastUpdateDateTime": "2026-03-04T06:00:00.5Z",
		"incidentWebUrl": "https://security.example/incidents/28282", "redirectIncidentId": nil, "customTags": []any{"vip", "casewire:tracked"},
		"systemTags": []any{"Defender Experts"}, "description": "Two alerts.", "summary": "Summary text", "resolvingComment": "",
		"lastModifiedBy": "API-App:Other", "priorityScore": json.Number("73"), "tenantId": "10101010-7a0e-4c9b-9f55-00000000000F",
		"comments": []any{
			map[string]any{"comment": "newest", "createdByDisplayName": "Ana", "createdDateTime": "2026-03-04T05:30:00Z"},
			map[string]any{"comment": "oldest", "createdByDisplayName": "Bo", "createdDateTime": "2026-03-04T05:20:00Z"},
		},
		"someFutureMember": map[string]any{"x": json.Number("9007199254740993")},
	}
	if len(alerts) > 0 {
		list := make([]any, len(alerts))
		for i, a := range alerts {
			list[i] = json.RawMessage(a)
		}
		inc["alerts"] = list
	}
	maps.Copy(inc, with)
	return inc
}

func normIncident(tb testing.TB, inc map[string]any) (sdk.Event, *ocsf.IncidentFinding) {
	tb.Helper()
	raw, err := json.Marshal(inc)
	if err != nil {
		tb.Fatal(err)
	}
	ev, err := Incident(raw, Options{Tenant: "fallback"})
	if err != nil {
		tb.Fatal(err)
	}
	if err := ev.Check(); err != nil {
		tb.Fatalf("%v\n%s", err, ev.Data)
	}
	validateAs(tb, "incident_finding", ev.Data)
	own := maps.Clone(inc)
	delete(own, "alerts") // which are events of their own
	if raw, err = json.Marshal(own); err != nil {
		tb.Fatal(err)
	}
	assertNothingLost(tb, raw, ev)
	var f ocsf.IncidentFinding
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		tb.Fatal(err)
	}
	return ev, &f
}

func TestIncident(t *testing.T) {
	t.Parallel()
	first := alertWith(t, map[string]any{"id": "da1_1"}, evidenceOf(t, "ip", nil), evidenceOf(t, "user", nil))
	second := alertWith(t, map[string]any{"id": "sn22222222-bbbb-4000-8000-000000000002", "productName": "Microsoft Sentinel", "mitreTechniques": []string{"T1566"}})
	ev, f := normIncident(t, incidentWith(t, nil, second, first))
	const tenant = "10101010-7a0e-4c9b-9f55-00000000000f"
	if ev.Source != "https://graph.microsoft.com/"+tenant+"/security/incidents" || ev.PartitionKey != "msincident:"+tenant+":28282" ||
		ev.CorrelationID != ev.PartitionKey || ev.Rev != "001772604000500" || ev.Type != event.TypeIncident {
		t.Errorf("envelope %+v", ev)
	}
	info := f.FindingInfoList[0]
	if len(info.RelatedEvents) != 2 || info.RelatedEvents[0].UID != "da1_1" || *info.RelatedEventsCount != 2 ||
		!slices.Equal(info.DataSources, []string{"Microsoft Defender for Endpoint", "Microsoft Sentinel"}) {
		t.Errorf("alerts %+v, sources %v", info.RelatedEvents, info.DataSources)
	}
	if *f.VerdictID != 2 || *f.StatusID != 2 || f.SeverityID != 4 || f.Assignee.EmailAddr != "ana@contoso.example" || f.Comment != "newest" ||
		!slices.Equal(f.Metadata.Labels, []string{"vip", "casewire:tracked", "Defender Experts"}) || *f.StartTime != 1772596800000 {
		t.Errorf("%+v", f)
	}
	if len(f.Observables) == 0 || !strings.HasPrefix(f.Observables[0].Name, "alerts[0].evidences[") {
		t.Errorf("observables %+v", f.Observables)
	}
	// The order in which Graph lists the alerts makes no difference.
	same, _ := normIncident(t, incidentWith(t, map[string]any{"@odata.context": "other"}, first, second))
	if same.ID != ev.ID || string(same.Data) != string(ev.Data) {
		t.Error("another order of the alerts is another event")
	}
	// PascalCase, as some pages of the documentation show it.
	if _, f := normIncident(t, incidentWith(t, map[string]any{"status": "Resolved", "severity": "Medium", "classification": "FalsePositive"})); *f.StatusID != 4 || f.SeverityID != 3 || *f.VerdictID != 1 || f.ActivityID != ocsf.ActivityClose {
		t.Errorf("PascalCase: %+v", f)
	}
	for word, want := range map[string]int{"active": 1, "inProgress": 2, "awaitingAction": 3, "resolved": 4, "redirected": 5, "unknownFutureValue": 99} {
		if _, f := normIncident(t, incidentWith(t, map[string]any{"status": word})); *f.StatusID != want || f.StatusCode != word {
			t.Errorf("status %s is %d", word, *f.StatusID)
		}
	}
}

func TestIncidentDigest(t *testing.T) {
	t.Parallel()
	digest := func(with map[string]any, alerts ...[]byte) string {
		ev, _ := normIncident(t, incidentWith(t, with, alerts...))
		return ev.Digest
	}
	base := digest(nil)
	comments := func(more ...string) []any {
		list, _ := incidentWith(t, nil)["comments"].([]any)
		for _, c := range more {
			list = append(list, map[string]any{"comment": c, "createdDateTime": "2026-03-04T05:40:00Z"})
		}
		return list
	}
	for name, with := range map[string]map[string]any{
		"our comment": {"comments": comments("Case 1\n[cw-0123456789abcdef]")}, "our tag": {"customTags": []any{"vip"}},
		"score": {"priorityScore": json.Number("1")}, "writer": {"lastModifiedBy": "API-App:Casewire"}, "time": {"lastUpdateDateTime": "2026-03-05T00:00:00Z"},
	} {
		if digest(with) != base {
			t.Errorf("%s is news", name)
		}
	}
	seen := map[string]string{base: "nothing"}
	for name, with := range map[string]map[string]any{
		"comment": {"comments": comments("Look")}, "tag": {"customTags": []any{"vip", "more"}}, "status": {"status": "resolved"},
		"redirect": {"redirectIncidentId": "9"}, "owner": {"assignedTo": nil}, "title": {"displayName": "x"}, "closing": {"resolvingComment": "done"},
	} {
		d := digest(with)
		if other := seen[d]; other != "" {
			t.Errorf("%s is the same as %s", name, other)
		}
		seen[d] = name
	}
	if digest(nil, alertWith(t, nil)) == base {
		t.Error("an alert that joined is no news")
	}
}

// TestIncidentRandomSparse takes members away at random: every result is valid, and nothing gets lost.
func TestIncidentRandomSparse(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(17, 19))
	var all []map[string]any
	for _, kind := range everyKind() {
		all = append(all, evidenceOf(t, kind, nil))
	}
	for i := range 60 {
		inc, _ := thin(rng, incidentWith(t, nil), 0.3).(map[string]any)
		inc["id"], inc["lastUpdateDateTime"] = "1", "2026-03-04T06:00:00Z"
		if i%4 == 0 {
			inc["alerts"] = []any{json.RawMessage(alertWith(t, nil, all...)), map[string]any{"id": "x"}, nil, map[string]any{}, "odd", map[string]any{"id": "x"}}
		}
		normIncident(t, inc)
	}
}

func TestIncidentTooLarge(t *testing.T) {
	t.Parallel()
	evidence := make([]map[string]any, 0, 2500)
	for i := range 2500 {
		evidence = append(evidence, map[string]any{
			"@odata.type": "#microsoft.graph.security.urlEvidence", "url": fmt.Sprintf("https://evil.example/%d/%s", i, strings.Repeat("x", 500)),
		})
	}
	_, f := normIncident(t, incidentWith(t, nil, alertWith(t, nil, evidence...)))
	if f.Metadata.IsTruncated == nil || len(f.Observables) == 0 {
		t.Errorf("truncated %v, %d observables", f.Metadata.IsTruncated, len(f.Observables))
	}
}

func TestIncidentRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ raw, want string }{
		"nothing": {"", "no JSON"}, "list": {`[]`, "no JSON object"}, "duplicate": {`{"id":"a","id":"b"}`, "duplicate"},
		"no id": {`{"createdDateTime":"2026-01-01T00:00:00Z"}`, "no id"}, "no time": {`{"id":"x"}`, "revision is unknown"},
		"long": {`{"id":"` + strings.Repeat("x", 511) + `","createdDateTime":"2026-01-01T00:00:00Z"}`, "together"},
	} {
		if _, err := Incident([]byte(c.raw), Options{Tenant: "t"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want something about %q", name, err, c.want)
		}
	}
}

// TestCollisions has the cases in which one object must not become two, nor two one.
func TestCollisions(t *testing.T) {
	t.Parallel()
	const tenant = "aaaa0000-0000-4000-8000-00000000000a"
	alert := alertWith(t, map[string]any{"tenantId": tenant, "id": "sn22222222-bbbb-4000-8000-000000000002", "providerAlertId": nil})
	must := func(ev sdk.Event, err error) sdk.Event {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	row := func(with map[string]any) sdk.Event {
		return must(AlertRow(asRow(t, alertRowWith(t, nil, with), true), rowOptions))
	}
	incidentOf := func(provider, id string) sdk.Event {
		raw, err := json.Marshal(incidentRowWith(map[string]any{"ProviderName": provider, "ProviderIncidentId": id}))
		if err != nil {
			t.Fatal(err)
		}
		return must(IncidentRow(raw, rowOptions))
	}
	t.Run("webhook and poll, or two hosts, make one event", func(t *testing.T) {
		a, b := must(Alert(alert, Options{})), must(Alert(alert, Options{Tenant: "whatever"}))
		if a.ID != b.ID || string(a.Data) != string(b.Data) {
			t.Error("two")
		}
	})
	t.Run("an alert of Graph and its row are two events of one object", func(t *testing.T) {
		a, b := must(Alert(alert, Options{})), row(nil)
		if a.ID == b.ID || a.PartitionKey != b.PartitionKey {
			t.Errorf("%s, %s", a.PartitionKey, b.PartitionKey)
		}
	})
	t.Run("so are those of another product", func(t *testing.T) {
		a := must(Alert(alertWith(t, map[string]any{"tenantId": tenant}), Options{}))
		b := row(map[string]any{"ProviderName": "MDATP", "VendorOriginalId": "638651234567890123_-42"})
		if a.PartitionKey != b.PartitionKey || !slices.Contains(b.Aliases, "msalert:"+tenant+":22222222-bbbb-4000-8000-000000000002") {
			t.Errorf("%s, %s, %v", a.PartitionKey, b.PartitionKey, b.Aliases)
		}
	})
	t.Run("an incident of Defender and Sentinel's copy are two objects of one case", func(t *testing.T) {
		raw, err := json.Marshal(incidentWith(t, map[string]any{"tenantId": tenant}))
		if err != nil {
			t.Fatal(err)
		}
		a, b := must(Incident(raw, Options{})), incidentOf("Microsoft XDR", "28282")
		if a.PartitionKey == b.PartitionKey || a.CorrelationID != b.CorrelationID {
			t.Errorf("%s, %s", a.CorrelationID, b.CorrelationID)
		}
	})
	t.Run("Sentinel's own incident of the same number is another", func(t *testing.T) {
		if b := incidentOf("Azure Sentinel", "28282"); b.CorrelationID != "" {
			t.Error(b.CorrelationID)
		}
	})
}

// TestContractIncidents normalizes every incident of the published collections.
func TestContractIncidents(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(contracts(t, "samples/incidents"), "*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Value []json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			t.Fatal(err)
		}
		if page.Value == nil {
			page.Value = []json.RawMessage{raw}
		}
		for _, one := range page.Value {
			ev, err := Incident(one, Options{Tenant: "t"})
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
				continue
			}
			if err := ev.Check(); err != nil {
				t.Errorf("%s: %v", filepath.Base(file), err)
			}
			validateAs(t, "incident_finding", ev.Data)
		}
	}
}

func FuzzIncident(f *testing.F) {
	for _, raw := range []string{
		`{"id":"1","createdDateTime":"2026-01-01T00:00:00Z"}`, `{"id":1,"lastUpdateDateTime":"2026-01-01T00:00:00Z","alerts":[{"id":"a","evidence":[{}]}]}`,
		`{"IncidentName":"x","LastModifiedTime":"2026-01-01T00:00:00Z","Owner":"{\"objectId\":\"o\"}","AlertIds":"[\"a\"]"}`,
		`{"SystemAlertId":"x","TimeGenerated":"2026-01-01T00:00:00Z","Entities":"[{\"$id\":\"1\",\"Type\":\"process\",\"ParentProcess\":{\"$ref\":\"1\"}}]"}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o := RowOptions{Tenant: "t", Workspace: "w"}
		for name, normalize := range map[string]func() (sdk.Event, error){
			"incident":     func() (sdk.Event, error) { return Incident(raw, Options{Tenant: "t"}) },
			"alert row":    func() (sdk.Event, error) { return AlertRow(raw, o) },
			"incident row": func() (sdk.Event, error) { return IncidentRow(raw, o) },
		} {
			ev, err := normalize()
			if err != nil {
				continue
			}
			if err := ev.Check(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			again, err := normalize()
			if err != nil || again.ID != ev.ID || string(again.Data) != string(ev.Data) {
				t.Errorf("%s: the second time it is another event: %v", name, err)
			}
		}
	})
}
