package normalize

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin/ocsf"
)

const legacyFixture = `{
 "@odata.context": "x", "id": "da638551234567890123_-42", "azureTenantId": "AAAA0000-0000-4000-8000-00000000000A", "azureSubscriptionId": "sub-1",
 "activityGroupName": "Storm-1", "assignedTo": "ana@contoso.example", "category": "Execution", "closedDateTime": "2026-03-05T00:00:00Z",
 "comments": ["first", "second"], "confidence": 75, "createdDateTime": "2026-03-04T05:06:08Z", "lastModifiedDateTime": "2026-03-04T06:00:00.5Z",
 "description": "What happened", "detectionIds": ["d-1"], "incidentIds": ["28282"], "eventDateTime": "2026-03-04T04:00:00Z", "lastEventDateTime": "2026-03-04T05:00:00Z",
 "feedback": "truePositive", "recommendedActions": ["One.", "Two."], "severity": "high", "sourceMaterials": ["https://portal.example/a"], "status": "inProgress",
 "tags": ["vip"], "title": "Old alert", "vendorInformation": {"provider": "MDATP", "providerVersion": "3.1", "subProvider": "AV", "vendor": "Microsoft"},
 "userStates": [{"aadUserId": "aad-1", "accountName": "mia", "domainName": "CONTOSO", "userPrincipalName": "mia@contoso.example", "logonIp": "45.33.32.150", "onPremisesSecurityIdentifier": "S-1-5-21-1"}],
 "hostStates": [{"fqdn": "WKS-1.contoso.example", "netBiosName": "WKS-1", "os": "Windows", "privateIpAddress": "10.0.0.5", "publicIpAddress": "45.33.32.151", "riskScore": "80"}],
 "fileStates": [{"name": "evil.exe", "path": "c:\\temp\\evil.exe", "riskScore": "1", "fileHash": {"hashType": "sha256", "hashValue": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}],
 "processes": [{"processId": 5, "name": "evil.exe", "path": "c:\\temp\\evil.exe", "commandLine": "evil -x", "createdDateTime": "2026-03-04T04:00:01Z", "parentProcessId": 1, "parentProcessName": "cmd.exe", "accountName": "mia"}],
 "networkConnections": [{"sourceAddress": "10.0.0.5", "sourcePort": "50000", "destinationAddress": "45.33.32.152", "destinationPort": "443", "protocol": "tcp", "destinationDomain": "bad.evil.com", "destinationUrl": "https://bad.evil.com/x"}],
 "malwareStates": [{"name": "Trojan:Win32/Bad", "category": "Trojan", "severity": "high"}],
 "registryKeyStates": [{"hive": "currentUser", "key": "software\\run", "valueName": "x", "valueData": "c:\\temp\\evil.exe"}],
 "messageSecurityStates": [{"emailSubject": "Pay", "internetMessageId": "<m@evil.com>", "networkMessageId": "n-1", "p1Sender": "b@evil.com", "p2Sender": "boss@evil.com", "recipientEmail": "mia@contoso.example", "senderIp": "45.33.32.153"}],
 "uriClickSecurityStates": [{"clickAction": "block", "uriDomain": "bad.evil.com", "sourceId": "s"}],
 "cloudAppStates": [{"destinationServiceName": "Box", "destinationServiceIp": "45.33.32.154"}],
 "securityResources": [{"resource": "/subscriptions/sub-1/x", "resourceType": "attacked"}],
 "vulnerabilityStates": [{"cve": "CVE-2026-1", "severity": "high"}],
 "historyStates": [{"appId": "a"}], "triggers": [{"name": "t", "type": "attributes", "value": "v"}], "novel": {"x": 9007199254740993}
}`

func TestLegacyAlert(t *testing.T) {
	t.Parallel()
	ev, err := LegacyAlert([]byte(legacyFixture), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Check(); err != nil {
		t.Error(err)
	}
	validate(t, ev.Data)
	assertNothingLost(t, []byte(legacyFixture), ev)
	const tenant = "aaaa0000-0000-4000-8000-00000000000a"
	if ev.PartitionKey != "msalert:"+tenant+":638551234567890123_-42" || ev.CorrelationID != "msincident:"+tenant+":28282" ||
		ev.Source != "https://graph.microsoft.com/"+tenant+"/security/alerts" {
		t.Errorf("envelope %+v", ev)
	}
	var f ocsf.DetectionFinding
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		t.Fatal(err)
	}
	if *f.StatusID != 2 || f.SeverityID != 4 || *f.VerdictID != 2 || *f.ConfidenceScore != 75 || *f.ConfidenceID != 3 || f.Comment != "second" ||
		f.Remediation.Desc != "One.\nTwo." || f.Device.Hostname != "wks-1.contoso.example" || len(f.Evidences) != 12 || f.Malware[0].Name != "Trojan:Win32/Bad" {
		t.Errorf("%+v", f)
	}
	have := map[string]bool{}
	for _, o := range f.Observables {
		have[o.Value] = true
	}
	for _, v := range []string{"45.33.32.150", "45.33.32.151", "45.33.32.152", "45.33.32.153", "45.33.32.154", "bad.evil.com", "mia@contoso.example", "evil.exe"} {
		if !have[v] {
			t.Errorf("%s is no observable", v)
		}
	}
	var all any
	d := json.NewDecoder(strings.NewReader(legacyFixture))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(23, 29))
	for range 100 {
		row, _ := thin(rng, all, 0.3).(map[string]any)
		row["id"], row["createdDateTime"] = "x", "2026-03-04T05:06:08Z"
		raw, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := LegacyAlert(raw, Options{Tenant: "t"})
		if err != nil {
			t.Fatal(err)
		}
		validate(t, ev.Data)
		assertNothingLost(t, raw, ev)
	}
	for _, raw := range []string{``, `[]`, `{"createdDateTime":"2026-03-04T05:06:08Z"}`, `{"id":"x"}`} {
		if _, err := LegacyAlert([]byte(raw), Options{Tenant: "t"}); err == nil {
			t.Errorf("%q was taken", raw)
		}
	}
}
