package lab

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
)

// Connection is the configuration of a connection of one of the bundled connectors to the fakes, secrets in place. With
// token, Microsoft's are not signed in to, but given a token that the fakes do not know.
func (w *World) Connection(connector string, token bool) (json.RawMessage, error) {
	entra := map[string]any{
		"tenant_id": w.Azure.Tenant(), "client_id": w.Azure.ClientID(), "client_secret": w.Azure.ClientSecret(), "authority_url": w.azureURL,
	}
	if token {
		entra = map[string]any{"token": rand.Text()}
	}
	configs := map[string]map[string]any{
		"sentinel": {
			"credential": entra, "graph_url": w.azureURL, "graph_scope": "https://graph.microsoft.com/.default",
			"push": "receive", "client_state": "conformance-client-state", "page_size": 5,
		},
		"loganalytics": {"credential": entra, "base_url": w.azureURL, "workspace": w.Azure.Workspace(), "trigger": map[string]any{"query": "AWSCloudTrail"}, "queries_per_30s": 100_000},
		"jira": {
			"base_url": w.jiraURL, "email": account, "api_token": w.jiraToken, "project": w.project, "issue_type": "Task",
			"index_lag": w.indexLag.String(),
		},
		"threatintel": {
			"credential": entra, "workspace_id": w.Azure.Workspace(), "upload_url": w.azureURL, "arm_url": w.azureURL,
			"scope": "https://management.azure.com/.default", "requests_per_minute": 1000,
			"workspace": map[string]any{"subscription": "5f1c9a1e-2b7d-4c55-9a0e-0d6b2f4c7a11", "resource_group": "soc", "name": "soc"},
		},
		"thehive": {"base_url": w.hiveURL, "api_key": w.hiveKey},
		"http": {
			"base_url": w.webURL, "auth": map[string]any{"bearer": rand.Text()},
			"webhook": map[string]any{"header": map[string]any{"name": "X-Secret", "value": rand.Text()}},
		},
	}
	config, ok := configs[connector]
	if !ok {
		return nil, fmt.Errorf("there is no fake for the connector %q", connector)
	}
	return json.Marshal(config)
}

// Inputs are inputs for actions of a bundled connector that have something to work on in the fakes.
func (w *World) Inputs(connector string) (map[string]json.RawMessage, error) {
	in := map[string]json.RawMessage{}
	switch connector {
	case "sentinel":
		alerts, err := Alerts(12, 1, w.Azure.Tenant(), time.Now())
		if err != nil {
			return nil, err
		}
		for _, a := range alerts {
			if _, err := w.Azure.AddAlert(a.Raw); err != nil {
				return nil, err
			}
		}
		in["alert.get"] = fmt.Appendf(nil, `{"alert":%q}`, alerts[0].ID)
		in["alert.update"] = fmt.Appendf(nil, `{"alert":%q,"status":"inProgress"}`, alerts[0].ID)
		incident, err := w.Azure.AddIncident([]byte(`{"displayName":"An incident","severity":"high"}`))
		if err != nil {
			return nil, err
		}
		w.Azure.SetHunting("DeviceInfo", nil, []map[string]any{{"DeviceName": "pc-1"}})
		in["alert.entities"] = fmt.Appendf(nil, `{"alert":%q}`, alerts[0].ID)
		in["incident.get"] = fmt.Appendf(nil, `{"incident":%q}`, incident)
		in["incident.entities"] = fmt.Appendf(nil, `{"incident":%q}`, incident)
		in["incident.update"] = fmt.Appendf(nil, `{"incident":%q,"status":"inProgress"}`, incident)
		in["incident.comment"] = fmt.Appendf(nil, `{"incident":%q,"text":"Casewire was here."}`, incident)
		in["hunting.query"] = json.RawMessage(`{"query":"DeviceInfo"}`)
		in["alert.comment"] = fmt.Appendf(nil, `{"alert":%q,"text":"Casewire was here."}`, alerts[0].ID)
	case "http":
		in["request"] = json.RawMessage(`{"method":"POST","path":"/things","json":{"a":1}}`)
	case "jira":
		in["issue.search"] = json.RawMessage(`{"jql":"project = SOC"}`)
	}
	return in, nil
}
