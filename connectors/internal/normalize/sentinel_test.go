package normalize

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
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

func TestSentinelIncidentParts(t *testing.T) {
	t.Parallel()
	raw := sentinelRaw("73e01a99-5cd7-4139-a149-9f2736ff2ab5", `,"providerName":"Azure Sentinel","providerIncidentId":"28282","incidentNumber":28282,
		"classification":"BenignPositive","owner":{"objectId":"g-1","assignedTo":"SOC","ownerType":"Group","email":"soc desk","userPrincipalName":null},
		"labels":[{"labelName":"Ransomware","labelType":"AutoAssigned"},{"labelName":"casewire:tracked","labelType":"User"}],
		"relatedAnalyticRuleIds":["/rules/1"],"teamInformation":{"teamId":"t1"},"newProperty":{"a":1},
		"additionalData":{"alertsCount":2,"commentsCount":2,"tactics":["Execution","SomethingNew"],"techniques":["T1059.001"],"alertProductNames":["Azure Sentinel"]}`)
	parts := SentinelParts{
		Alerts: []json.RawMessage{
			json.RawMessage(`{"name":"b","kind":"SecurityAlert","properties":{"systemAlertId":"b","severity":"Low"}}`),
			json.RawMessage(`{"name":"a","kind":"SecurityAlert","properties":{"systemAlertId":"a","severity":"High"}}`),
		},
		Entities: []json.RawMessage{json.RawMessage(`{"name":"e","kind":"Ip","properties":{"address":"203.0.113.77","location":{"city":"Dallas"}}}`)},
		Comments: []json.RawMessage{
			json.RawMessage(`{"name":"c1","properties":{"message":"looked at it","createdTimeUtc":"2026-10-27T13:00:00Z"}}`),
			json.RawMessage(`{"name":"own-1","properties":{"message":"Case SEC-1","createdTimeUtc":"2026-10-27T12:00:00Z"}}`),
		},
	}
	ev, f, unmapped := sentinelEvent(t, raw, parts)
	validateAs(t, "incident_finding", ev.Data)
	if ev.CorrelationID != "" || ev.PartitionKey != "sentinelincident:73e01a99-5cd7-4139-a149-9f2736ff2ab5" {
		t.Errorf("Sentinel's own number was taken for Defender's: %q", ev.CorrelationID)
	}
	info := f.FindingInfoList[0]
	got := []any{
		f.ActivityID, *f.StatusID, *f.VerdictID, f.Comment, f.AssigneeGroup.Name, f.AssigneeGroup.UID, f.Metadata.Labels,
		info.RelatedEvents[0].UID, info.RelatedEvents[1].UID, *info.RelatedEventsCount, info.RelatedAnalytics[0].UID,
		f.Observables[0].Value, f.Observables[0].Name, len(f.Attacks), f.Attacks[1].SubTechnique.UID,
	}
	want := []any{
		2, 2, 5, "looked at it", "SOC", "g-1",
		[]string{"Ransomware", "casewire:tracked"},
		"a", "b", 2, "/rules/1",
		"203.0.113.77", "entities[0].address", 2, "T1059.001",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, k := range []string{"newProperty", "teamInformation", "etag", "email", "tactics", "alerts", "entities", "comments", "labelTypes", "incidentNumber"} {
		if unmapped[k] == nil {
			t.Errorf("%s got lost: %v", k, unmapped)
		}
	}
	assertNothingLost(t, raw, ev)
	for _, list := range [][]json.RawMessage{parts.Alerts, parts.Entities, parts.Comments} {
		for _, part := range list {
			assertNothingLost(t, part, ev)
		}
	}

	// The order of alerts and entities says nothing; own comments and labels are no news.
	parts.Alerts[0], parts.Alerts[1] = parts.Alerts[1], parts.Alerts[0]
	if again, _, _ := sentinelEvent(t, raw, parts); again.ID != ev.ID || string(again.Data) != string(ev.Data) {
		t.Error("another order makes another event")
	}
	more := parts
	more.Comments = append(more.Comments, json.RawMessage(`{"name":"own-2","properties":{"message":"x"}}`))
	if again, _, _ := sentinelEvent(t, raw, more); again.Digest != ev.Digest {
		t.Error("an own comment is news")
	}
	more.Comments = append(more.Comments, json.RawMessage(`{"name":"c2","properties":{"message":"x"}}`))
	if again, _, _ := sentinelEvent(t, raw, more); again.Digest == ev.Digest {
		t.Error("a comment is no news")
	}
	unlabeled := []byte(strings.Replace(string(raw), `,{"labelName":"casewire:tracked","labelType":"User"}`, "", 1))
	if again, _, _ := sentinelEvent(t, unlabeled, parts); again.Digest != ev.Digest {
		t.Error("an own label is news")
	}
	for _, change := range [][2]string{{`"High"`, `"Low"`}, {`"Active"`, `"New"`}, {`"g-1"`, `"g-2"`}, {"Strange", "Other"}, {"Benign", "True"}, {`"alertsCount":2`, `"alertsCount":3`}, {"Ransomware", "x"}} {
		if again, _, _ := sentinelEvent(t, []byte(strings.Replace(string(raw), change[0], change[1], 1)), parts); again.Digest == ev.Digest {
			t.Errorf("%s -> %s is no news", change[0], change[1])
		}
	}
}

// TestSentinelIncidentCollisions: the same number names two things, and two names one thing.
func TestSentinelIncidentCollisions(t *testing.T) {
	t.Parallel()
	const name = "73e01a99-5cd7-4139-a149-9f2736ff2ab5"
	defender := event.IncidentKey(sentinelOptions.Tenant, "28282")
	for provider, joined := range map[string]bool{"Microsoft XDR": true, "Microsoft 365 Defender": true, "Azure Sentinel": false, "": false} {
		ev, f, _ := sentinelEvent(t, sentinelRaw(name, `,"providerName":"`+provider+`","providerIncidentId":"28282"`), SentinelParts{})
		if (ev.CorrelationID == defender) != joined || f.Metadata.CorrelationUID != ev.CorrelationID {
			t.Errorf("%q: correlation %q", provider, ev.CorrelationID)
		}
	}
	ev, f, unmapped := sentinelEvent(t, sentinelRaw(name, `,"additionalData":{"mergedIncidentNumber":7}`), SentinelParts{MergedInto: "0d0c0b0a-5cd7-4139-a149-9f2736ff2ab5"})
	if ev.CorrelationID != "sentinelincident:0d0c0b0a-5cd7-4139-a149-9f2736ff2ab5" || *f.VerdictID != ocsf.VerdictDuplicate ||
		unmapped["redirectIncidentId"] != "0d0c0b0a-5cd7-4139-a149-9f2736ff2ab5" || unmapped["mergedIncidentNumber"] != 7. {
		t.Errorf("correlation %q, verdict %d, %v", ev.CorrelationID, *f.VerdictID, unmapped)
	}
}

func TestSentinelIncidentRefuses(t *testing.T) {
	t.Parallel()
	good := sentinelRaw("n", "")
	for _, tc := range []struct {
		raw  string
		o    SentinelOptions
		says string
	}{
		{`{}`, sentinelOptions, "name"},
		{`[]`, sentinelOptions, "JSON object"},
		{`{"name":"n"}`, sentinelOptions, "properties"},
		{`{"name":"n","properties":{}}`, sentinelOptions, "revision"},
		{`{"name":"n\u0001","properties":{}}`, sentinelOptions, "control"},
		{`{"name":"n","properties":{"a":1,"a":2}}`, sentinelOptions, "JSON"},
		{`{"name":`, sentinelOptions, "JSON"},
		{``, sentinelOptions, "JSON"},
		{`{},"alerts":[]`, sentinelOptions, "JSON"},
		{string(good), SentinelOptions{Workspace: sentinelWorkspace}, "tenant_id"},
		{string(good), SentinelOptions{Tenant: "t"}, "workspace"},
	} {
		if _, err := SentinelIncident([]byte(tc.raw), SentinelParts{}, tc.o); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v does not say %q", tc.raw, err, tc.says)
		}
	}
}

func TestSentinelObservables(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ kind, props, want string }{
		{"Account", `{"accountName":"ada","upnSuffix":"example.com","aadUserId":"u1","sid":"S-1-5-21-1"}`, "mail=ada@example.com other=ada other=u1 other=S-1-5-21-1"},
		{"Account", `{"accountName":"SYSTEM"}`, ""},
		{"Account", `{"accountName":"administrator","ntDomain":"CORP"}`, "other=administrator"},
		{"Host", `{"hostName":"FIN-01","dnsDomain":"corp.example.com","azureID":"/vm/1"}`, "hostname=fin-01.corp.example.com other=/vm/1"},
		{"Ip", `{"address":"2001:DB8::1"}`, "ip=2001:db8::1"},
		{"Ip", `{"address":"not one"}`, ""},
		{"Url", `{"url":"https://Evil.example.net/x"}`, "fqdn=evil.example.net url=https://evil.example.net/x"},
		{"DnsResolution", `{"domainName":"Example.COM."}`, "domain=example.com"},
		{"File", `{"fileName":"a.exe","directory":"C:\\Users"}`, `filename=a.exe other=C:\Users\a.exe`},
		{"FileHash", `{"algorithm":"MD5","hashValue":"D41D8CD98F00B204E9800998ECF8427E"}`, "hash=d41d8cd98f00b204e9800998ecf8427e"},
		{"FileHash", `{"algorithm":"SHA256AC","hashValue":"` + strings.Repeat("ab", 32) + `"}`, "other=" + strings.Repeat("ab", 32)},
		{"Process", `{"commandLine":"powershell -enc AAA","processId":"4780"}`, "other=powershell -enc AAA"},
		{"RegistryKey", `{"hive":"HKEY_LOCAL_MACHINE","key":"SOFTWARE\\Run"}`, `registry=HKEY_LOCAL_MACHINE\SOFTWARE\Run`},
		{"RegistryValue", `{"valueName":"Updater"}`, "registry=Updater"},
		{"Mailbox", `{"mailboxPrimaryAddress":"a@example.com","upn":"a@example.com"}`, "mail=a@example.com"},
		{
			"MailMessage", `{"p1Sender":"x@evil.example","recipient":"a@example.com","senderIP":"203.0.113.9","subject":"Hi","networkMessageId":"n1","internetMessageId":"<m@x>","urls":["https://e.example.com/"]}`,
			"mail=x@evil.example mail=a@example.com mail-subject=Hi other=n1 other=<m@x> ip=203.0.113.9 fqdn=e.example.com url=https://e.example.com/",
		},
		{"SubmissionMail", `{"sender":"x@evil.example","senderIp":"203.0.113.9","subject":"Hi"}`, "mail=x@evil.example mail-subject=Hi ip=203.0.113.9"},
		{"AzureResource", `{"resourceId":"/subscriptions/1"}`, "other=/subscriptions/1"},
		{"CloudApplication", `{"appId":11161,"appName":"O365"}`, "other=11161"},
		{"SecurityGroup", `{"distinguishedName":"cn=g","sid":"S-1-5-32"}`, "other=cn=g other=S-1-5-32"},
		{"IoTDevice", `{"deviceName":"cam1","macAddress":"00-11-22-33-44-55","deviceId":"d1"}`, "hostname=cam1 other=00:11:22:33:44:55 other=d1"},
		{"Malware", `{"malwareName":"x"}`, ""},
		{"MailCluster", `{"query":"x"}`, ""},
		{"Bookmark", `{}`, ""},
		{"SecurityAlert", `{"systemAlertId":"x"}`, ""},
		{"FutureKind", `{"friendlyName":"x"}`, ""},
		{"Ip", `null`, ""},
	} {
		var got []string
		for _, o := range SentinelObservables([]byte(`[{"kind":"` + tc.kind + `","properties":` + tc.props + `}]`)) {
			if dt := o.DataType(); dt != "" {
				got = append(got, dt+"="+o.Value)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s %s:\n got %s\nwant %s", tc.kind, tc.props, s, tc.want)
		}
	}
	for _, bad := range []string{"", "{}", "[", "null", `[1,"x",null,[]]`} {
		if list := SentinelObservables([]byte(bad)); len(list) > 0 {
			t.Errorf("%q: %v", bad, list)
		}
	}
}

// TestSentinelIncidentTooLarge: an incident with more than an event takes is cut, and says so.
func TestSentinelIncidentTooLarge(t *testing.T) {
	t.Parallel()
	var parts SentinelParts
	for i := range 3000 {
		parts.Entities = append(parts.Entities, json.RawMessage(fmt.Sprintf(`{"name":"e%d","kind":"Url","properties":{"url":"https://h%d.example.net/%s"}}`, i, i, strings.Repeat("x", 500))))
	}
	ev, f, unmapped := sentinelEvent(t, sentinelRaw("n", ""), parts)
	if len(ev.Data) > event.MaxData || f.Metadata.IsTruncated == nil || *f.Metadata.UntruncatedSize <= event.MaxData || unmapped["entities"] != nil || unmapped["etag"] == nil {
		t.Errorf("%d bytes, truncated %v, %d unmapped", len(ev.Data), f.Metadata.IsTruncated, len(unmapped))
	}
}

// TestSentinelIncidentSparse: nothing of an incident gets lost, whatever it has and has not.
func TestSentinelIncidentSparse(t *testing.T) {
	t.Parallel()
	full := sentinelRaw("73e01a99-5cd7-4139-a149-9f2736ff2ab5", `,"description":"d","classification":"FalsePositive","classificationReason":"InaccurateData","classificationComment":"c",
		"owner":{"objectId":"o","email":"a@example.com","assignedTo":"Ada","userPrincipalName":"ada@example.com","ownerType":"User"},
		"labels":[{"labelName":"a","labelType":"User"}],"firstActivityTimeUtc":"2026-10-27T12:00:00Z","lastActivityTimeUtc":"2026-10-27T12:10:00Z",
		"incidentNumber":7,"incidentUrl":"https://portal.azure.com/x","providerName":"Microsoft XDR","providerIncidentId":"9","relatedAnalyticRuleIds":["/r/1",null],
		"additionalData":{"alertsCount":1,"bookmarksCount":2,"commentsCount":3,"alertProductNames":["p"],"tactics":["Execution"],"providerIncidentUrl":"https://security.microsoft.com/9","techniques":["T1059"]}`)
	var doc any
	if err := json.Unmarshal(full, &doc); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		raw, err := json.Marshal(thin(rng, doc, float64(i%10)/12))
		if err != nil {
			t.Fatal(err)
		}
		ev, err := SentinelIncident(raw, SentinelParts{}, sentinelOptions)
		if err != nil {
			continue // without its identity
		}
		if err := ev.Check(); err != nil {
			t.Errorf("%v in %s", err, raw)
		}
		validateAs(t, "incident_finding", ev.Data)
		assertNothingLost(t, raw, ev)
	}
}

// FuzzSentinelIncident: whatever comes, an event that the host takes comes out, or a reason why not.
func FuzzSentinelIncident(f *testing.F) {
	f.Add(sentinelRaw("n", ""), []byte(`{"kind":"Ip","properties":{"address":"203.0.113.7"}}`))
	f.Add([]byte(`{}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, raw, entity []byte) {
		ev, err := SentinelIncident(raw, SentinelParts{Entities: []json.RawMessage{entity}}, sentinelOptions)
		if err != nil {
			return
		}
		if err := ev.Check(); err != nil {
			t.Errorf("%v in %s", err, ev.Data)
		}
	})
}
