package loganalytics_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

var alertColumns = []azurefake.Column{
	{Name: "TenantId", Type: "string"},
	{Name: "TimeGenerated", Type: "datetime"},
	{Name: "ProcessingEndTime", Type: "datetime"},
	{Name: "SystemAlertId", Type: "string"},
	{Name: "VendorOriginalId", Type: "string"},
	{Name: "ProviderName", Type: "string"},
	{Name: "DisplayName", Type: "string"},
	{Name: "AlertSeverity", Type: "string"},
	{Name: "Status", Type: "string"},
	{Name: "Entities", Type: "string"},
	{Name: azurefake.IngestedColumn, Type: "datetime"},
}

var incidentColumns = []azurefake.Column{
	{Name: "TenantId", Type: "string"},
	{Name: "TimeGenerated", Type: "datetime"},
	{Name: "IncidentName", Type: "string"},
	{Name: "IncidentNumber", Type: "int"},
	{Name: "ProviderName", Type: "string"},
	{Name: "ProviderIncidentId", Type: "string"},
	{Name: "Title", Type: "string"},
	{Name: "Severity", Type: "string"},
	{Name: "Status", Type: "string"},
	{Name: "CreatedTime", Type: "datetime"},
	{Name: "LastModifiedTime", Type: "datetime"},
	{Name: "Owner", Type: "dynamic"},
	{Name: "Labels", Type: "dynamic"},
	{Name: "AlertIds", Type: "dynamic"},
	{Name: "AdditionalData", Type: "dynamic"},
	{Name: azurefake.IngestedColumn, Type: "datetime"},
}

// took is what polls of a table's trigger brought.
type took struct {
	events   map[string]sdk.Event // by id
	rejected []sdk.Rejected
	cursor   any
}

func (p *took) poll(t *testing.T, b *bench, trigger string) {
	t.Helper()
	pages, err := b.Poll(t.Context(), trigger, p.cursor)
	if err != nil {
		t.Fatal(err)
	}
	if p.events == nil {
		p.events = map[string]sdk.Event{}
	}
	for _, page := range pages {
		for _, e := range page.Events {
			if err := e.Check(); err != nil {
				t.Errorf("%v in %s", err, e.Data)
			}
			p.events[e.ID] = e
		}
		p.rejected = append(p.rejected, page.Rejected...)
		p.cursor = page.Cursor
	}
}

// of returns the events of an object, the oldest first.
func (p *took) of(key string) (list []sdk.Event) {
	for _, e := range p.events {
		if e.PartitionKey == key {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b sdk.Event) int { return strings.Compare(a.Rev, b.Rev) })
	return list
}

const (
	ruleHit  = "1b0e7a52-3c55-4d0e-9d6f-0a1b2c3d4e5f"
	defender = "7c41fb0e-1d2e-4f4f-8b1e-52f0a9d1c7aa"
	detected = "da637551227677560813_-961444813"
)

func TestAlertRowsAreTheAlertsOfGraph(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	now := time.Now().UTC().Truncate(time.Millisecond)
	ago := func(d time.Duration) string { return at(now.Add(-d)) }
	ws := b.logs.Workspace()
	b.logs.SetTable("SecurityAlert", azurefake.Table{Columns: alertColumns, Rows: [][]any{
		{ws, ago(3 * time.Hour), ago(3 * time.Hour), ruleHit, ruleHit, "ASI Scheduled Alerts", "Rare domain", "High", "New", `[{"$id":"1","Type":"ip","Address":"45.33.32.156"}]`, ago(3 * time.Hour)},
		{ws, ago(3 * time.Hour), ago(3 * time.Hour), defender, detected, "MDATP", "Ransomware", "Medium", "New", "", ago(3 * time.Hour)},
		{ws, ago(2 * time.Hour), ago(3 * time.Hour), defender, detected, "MDATP", "Ransomware", "High", "InProgress", "", ago(2 * time.Hour)},
		{ws, ago(2 * time.Hour), ago(2 * time.Hour), "", "", "MDATP", "Nameless", "Low", "New", "", ago(2 * time.Hour)},
		{ws, ago(2 * time.Hour), nil, "", "odd\a-0000-4000-8000-000000000001", "MDATP", "Odd", "Low", "New", "", ago(2 * time.Hour)},
	}}, 0)
	p := &took{}
	p.poll(t, b, "alerts")

	// The same two alerts, as Microsoft Graph has them.
	for _, graph := range []string{
		`{"id":"sn` + ruleHit + `","tenantId":"` + b.logs.Tenant() + `","title":"Rare domain","createdDateTime":"2026-11-01T10:00:00Z","lastUpdateDateTime":"2026-11-01T10:00:00Z"}`,
		`{"id":"` + detected + `","tenantId":"` + b.logs.Tenant() + `","title":"Ransomware","createdDateTime":"2026-11-01T10:00:00Z","lastUpdateDateTime":"2026-11-01T10:00:00Z"}`,
	} {
		want, err := normalize.Alert([]byte(graph), normalize.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := p.of(want.PartitionKey)
		if len(got) == 0 {
			t.Errorf("no row became %s", want.PartitionKey)
			continue
		}
		e := got[len(got)-1]
		if e.Type != event.TypeAlert || e.Tenant != want.Tenant || e.Source != "https://api.loganalytics.io/v1/workspaces/"+ws+"/SecurityAlert" {
			t.Errorf("type %s, tenant %s, source %s", e.Type, e.Tenant, e.Source)
		}
	}
	if e := p.of(event.AlertKey(b.logs.Tenant(), detected)); !strings.Contains(string(e[len(e)-1].Data), `"severity":"High"`) {
		t.Errorf("the newest state is missing: %s", e[len(e)-1].Data)
	}
	var finding ocsf.DetectionFinding
	if err := json.Unmarshal(p.of(event.AlertKey(b.logs.Tenant(), ruleHit))[0].Data, &finding); err != nil || len(finding.Observables) == 0 {
		t.Errorf("the entities of a row are missing: %+v, %v", finding.Observables, err)
	}
	// What cannot be mapped is told, whole.
	if len(p.rejected) != 2 {
		t.Fatalf("%d rows were rejected: %+v", len(p.rejected), p.rejected)
	}
	for _, r := range p.rejected {
		var row map[string]any
		if err := json.Unmarshal(r.Raw, &row); err != nil || row["AlertSeverity"] != "Low" || r.Reason == "" || !strings.HasSuffix(r.Source, "/SecurityAlert") {
			t.Errorf("%+v: %v", r, err)
		}
		if row["DisplayName"] == "Odd" && r.Subject != row["VendorOriginalId"] {
			t.Errorf("it is of %q", r.Subject)
		}
	}
	// A row that is rejected again is not told again while the overlap can bring it, and forgotten then.
	b.logs.AddRows("SecurityAlert", []any{ws, at(now), at(now), "", "", "MDATP", "Nameless", "Low", "New", "", at(now.Add(-time.Minute))})
	for range 3 {
		p.poll(t, b, "alerts")
	}
	if raw, _ := p.cursor.(json.RawMessage); len(p.rejected) != 3 || strings.Count(string(raw), `"m":`) != 1 {
		t.Errorf("%d rows were rejected; the cursor is %s", len(p.rejected), raw)
	}
	// A change is another event of the same object; what the overlap brings again is the same one.
	before := len(p.events)
	b.logs.AddRows("SecurityAlert", []any{ws, at(now), ago(3 * time.Hour), ruleHit, ruleHit, "ASI Scheduled Alerts", "Rare domain", "High", "Resolved", "", at(now.Add(-time.Minute))})
	p.poll(t, b, "alerts")
	p.poll(t, b, "alerts")
	if key := event.AlertKey(b.logs.Tenant(), ruleHit); len(p.of(key)) != 2 || len(p.events) != before+1 {
		t.Errorf("%d events, %d of the alert that changed", len(p.events), len(p.of(key)))
	}
}

func TestIncidentRowsAreTheIncidentsOfSentinel(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	const xdr, own = "aaaa1111-0000-4000-8000-00000000000a", "bbbb2222-0000-4000-8000-00000000000b"
	now := time.Now().UTC().Truncate(time.Millisecond)
	ago := func(d time.Duration) string { return at(now.Add(-d)) }
	ws := b.logs.Workspace()
	row := func(name, provider, id, status string, changed time.Duration) []any {
		return []any{
			ws, ago(changed), name, 28282, provider, id, "Title of " + id, "High", status, ago(3 * time.Hour), ago(changed), `{"assignedTo":null}`,
			`[]`, `["` + ruleHit + `"]`, `{"alertsCount":1,"tactics":["InitialAccess"]}`, ago(changed),
		}
	}
	table := azurefake.Table{Columns: incidentColumns, Rows: [][]any{
		row(xdr, "Microsoft XDR", "28282", "New", 150*time.Minute), row(own, "Azure Sentinel", "28282", "New", 150*time.Minute),
		row(xdr, "Microsoft XDR", "28282", "Active", 149*time.Minute), row("", "Azure Sentinel", "5", "New", 140*time.Minute),
	}}
	b.logs.SetTable("SecurityIncident", table, 0)
	p := &took{}
	p.poll(t, b, "incidents")
	joined := p.of(event.SentinelIncidentKey(xdr))
	if len(joined) == 0 {
		t.Fatalf("%+v", slices.Collect(maps.Values(p.events)))
	}
	e := joined[len(joined)-1]
	if want := event.IncidentKey(b.logs.Tenant(), "28282"); e.Type != event.TypeIncident || e.CorrelationID != want || e.Rev != event.Rev(now.Add(-149*time.Minute)) {
		t.Errorf("type %s, correlation %s, revision %s", e.Type, e.CorrelationID, e.Rev)
	}
	// The number of an incident that Sentinel made is not that of one of Defender.
	if alone := p.of(event.SentinelIncidentKey(own)); len(alone) != 1 || alone[0].CorrelationID != "" {
		t.Errorf("%+v", alone)
	}
	if len(p.rejected) != 1 || !strings.Contains(p.rejected[0].Reason, "IncidentName") {
		t.Errorf("%+v", p.rejected)
	}
}

// TestTableWindowsAreHalved has more changed objects in a window than it may hold: the windows become shorter although the
// query aggregates, and nothing is missing.
func TestTableWindowsAreHalved(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, object{"alerts": object{"max_rows": 7, "lookback": "1h"}})
	now := time.Now().UTC()
	table := azurefake.Table{Columns: alertColumns}
	for i := range 50 {
		id, when := strings.Replace(ruleHit, "1b0e7a", "1b0e"+string(rune('a'+i/26))+string(rune('a'+i%26)), 1), at(now.Add(-time.Duration(i+1)*time.Minute))
		table.Rows = append(table.Rows, []any{b.logs.Workspace(), when, when, id, id, "ASI", "A", "High", "New", "", when})
	}
	b.logs.SetTable("SecurityAlert", table, 0)
	p := &took{}
	p.poll(t, b, "alerts")
	if len(p.events) != 50 || len(p.rejected) != 0 {
		t.Errorf("%d events, %d rejected", len(p.events), len(p.rejected))
	}
}

func TestTableQueryOfOnesOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, object{"alerts": object{"query": "SecurityAlert | where AlertSeverity == least", "params": object{"least": "High"}}})
	now := at(time.Now().Add(-time.Minute))
	b.logs.SetTable("SecurityAlert", azurefake.Table{Columns: alertColumns, Rows: [][]any{
		{b.logs.Workspace(), now, now, ruleHit, ruleHit, "ASI", "A", "High", "New", "", now},
		{b.logs.Workspace(), now, now, defender, defender, "ASI", "A", "Low", "New", "", now},
	}}, 0)
	p := &took{}
	p.poll(t, b, "alerts")
	if len(p.events) != 1 || len(p.of(event.AlertKey(b.logs.Tenant(), ruleHit))) != 1 {
		t.Errorf("%+v", p.events)
	}
	for _, tc := range []struct {
		config object
		field  string
	}{
		{object{"alerts": object{"query": "SecurityAlert | where (x"}}, "/alerts/query"},
		{object{"incidents": object{"overlap": "soon"}}, "/incidents/overlap"},
		{object{"incidents": object{"params": object{"a b": 1}}}, "/incidents"},
		{object{"alerts": object{"max_rows": 0}}, "/alerts/max_rows"},
	} {
		config := object{"credential": object{"token": "t"}, "workspace": "w"}
		maps.Copy(config, tc.config)
		_, err := sdktest.Try(t, loganalytics.Connector(), config)
		var e *sdk.Error
		if !errors.As(err, &e) || len(e.Violations) == 0 || e.Violations[0].Field != tc.field {
			t.Errorf("%v: %v, want %s", tc.config, err, tc.field)
		}
	}
}

// TestTableTriggersNeedTheTenant holds back rows whose alerts would be other ones than those of Graph.
func TestTableTriggersNeedTheTenant(t *testing.T) {
	t.Parallel()
	for _, credential := range []object{
		{"token": "t"},
		{"tenant_id": "contoso.example", "client_id": "c", "client_secret": "s"},
	} {
		h := sdktest.Open(t, loganalytics.Connector(), object{"credential": credential, "workspace": "w"}, sdktest.Options{Name: "logs"})
		for _, trigger := range []string{"alerts", "incidents"} {
			_, err := h.Poll(t.Context(), trigger, nil)
			var e *sdk.Error
			if !errors.As(err, &e) || len(e.Violations) == 0 || e.Violations[0].Field != "/credential/tenant_id" {
				t.Errorf("%v: %v", credential["tenant_id"], err)
			}
		}
	}
}
