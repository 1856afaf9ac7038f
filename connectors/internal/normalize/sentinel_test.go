package normalize

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
)

const sentinelWorkspace = "/subscriptions/00000000-0000-4000-8000-0000000000aa/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-ws"

var sentinelOptions = SentinelOptions{
	Tenant: "11111111-2222-4333-8444-555555555555", Workspace: sentinelWorkspace, Version: "2025-09-01",
	IsOwn: func(name string) bool { return strings.HasPrefix(name, "own-") },
}

func sentinelRaw(name string, props string) []byte {
	return fmt.Appendf(nil, `{"id":"%s/providers/Microsoft.SecurityInsights/Incidents/%s","name":"%s","type":"Microsoft.SecurityInsights/Incidents","etag":"\"1\"","properties":{
		"title":"Strange sign-ins","severity":"High","status":"Active","createdTimeUtc":"2026-10-27T12:20:00Z","lastModifiedTimeUtc":"2026-10-27T14:03:00.25Z"%s}}`,
		sentinelWorkspace, name, name, props)
}

func sentinelEvent(t *testing.T, raw []byte, parts SentinelParts) (event.Event, ocsf.IncidentFinding, map[string]any) {
	t.Helper()
	ev, err := SentinelIncident(raw, parts, sentinelOptions)
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Check(); err != nil {
		t.Error(err)
	}
	var f ocsf.IncidentFinding
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		t.Fatal(err)
	}
	unmapped := map[string]any{}
	if len(f.Unmapped) > 0 {
		if err := json.Unmarshal(f.Unmapped, &unmapped); err != nil {
			t.Fatal(err)
		}
	}
	return ev, f, unmapped
}

// TestContractSentinelIncident compares with the events that the published samples became.
func TestContractSentinelIncident(t *testing.T) {
	t.Parallel()
	dir := contracts(t, "contracts/events/samples")
	raw, err := os.ReadFile(filepath.Join(dir, "sentinel-incident.raw.json"))
	if err != nil {
		t.Fatal(err)
	}
	var unassigned map[string]any
	if err := json.Unmarshal(raw, &unassigned); err != nil {
		t.Fatal(err)
	}
	p := unassigned["properties"].(map[string]any)
	p["owner"] = map[string]any{"objectId": nil, "email": nil, "assignedTo": "null", "userPrincipalName": nil}
	p["status"], p["lastModifiedTimeUtc"] = "New", p["createdTimeUtc"]
	for _, k := range []string{"classification", "classificationReason", "classificationComment"} {
		delete(p, k)
	}
	second, err := json.Marshal(unassigned)
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string][]byte{"sentinel-incident": raw, "sentinel-incident-unassigned": second} {
		var want map[string]any
		read(t, filepath.Join(dir, name+".event.json"), &want)
		ev, err := SentinelIncident(source, SentinelParts{}, sentinelOptions)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ev.MarshalCloudEvent()
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		for _, x := range []map[string]any{want, got} {
			delete(x, "dataschema")
			if name != "sentinel-incident" { // of this one, only the event was published: its source is ours
				delete(x, "id")
				delete(x, "cwdigest")
				delete(x["data"].(map[string]any)["metadata"].(map[string]any), "uid")
				delete(x["data"].(map[string]any), "unmapped")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-sample +got):\n%s", name, diff)
		}
	}
}
