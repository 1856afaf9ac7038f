package normalize

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// norm normalizes an alert and checks what must hold for every event.
func norm(tb testing.TB, raw []byte) (sdk.Event, *ocsf.DetectionFinding) {
	tb.Helper()
	ev, err := Alert(raw, Options{Tenant: "fallback-tenant"})
	if err != nil {
		tb.Fatal(err)
	}
	if err := ev.Check(); err != nil {
		tb.Fatalf("the event fails its check: %v\n%s", err, ev.Data)
	}
	validate(tb, ev.Data)
	assertNothingLost(tb, raw, ev)
	var f ocsf.DetectionFinding
	d := json.NewDecoder(bytes.NewReader(ev.Data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		tb.Fatalf("the structs do not read what they wrote: %v", err)
	}
	return ev, &f
}

func TestAlertEnvelope(t *testing.T) {
	t.Parallel()
	ev, f := norm(t, alertWith(t, nil))
	const tenant = "10101010-7a0e-4c9b-9f55-00000000000f"
	ev.Data = nil
	want := sdk.Event{
		ID:            event.ComputeID(ev.Source, ev.Subject, ev.Rev, ev.Digest),
		Source:        "https://graph.microsoft.com/" + tenant + "/security/alerts_v2",
		Type:          event.TypeAlert,
		Subject:       "da638651234567890123_-42",
		Time:          ev.Time,
		DataSchema:    event.SchemaOf(event.TypeAlert),
		PartitionKey:  "msalert:" + tenant + ":638651234567890123_-42",
		CorrelationID: "msincident:" + tenant + ":1234",
		Tenant:        tenant,
		Rev:           "001772604000500",
		Digest:        ev.Digest,
	}
	if diff := cmp.Diff(want, ev); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
	if f.Metadata.UID != ev.ID {
		t.Errorf("metadata.uid = %s, id = %s", f.Metadata.UID, ev.ID)
	}
	other, err := Alert(alertWith(t, nil), Options{GraphHost: "graph.microsoft.us"})
	if err != nil || other.ID == ev.ID || !strings.HasPrefix(other.Source, "https://graph.microsoft.us/") {
		t.Errorf("another cloud: %s, %v", other.Source, err)
	}
}

func TestAlertRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ raw, want string }{
		"nothing":          {"", "no JSON"},
		"half":             {`{"id":"x"`, "no JSON"},
		"list":             {`[]`, "no JSON object"},
		"two":              {`{} {}`, "follows"},
		"duplicate":        {`{"id":"a","id":"b"}`, "duplicate"},
		"deep":             {strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), "deeper"},
		"no id":            {`{"createdDateTime":"2026-01-01T00:00:00Z"}`, "no id"},
		"null id":          {`{"id":null,"createdDateTime":"2026-01-01T00:00:00Z"}`, "no id"},
		"id of an object":  {`{"id":{},"createdDateTime":"2026-01-01T00:00:00Z"}`, "no id"},
		"long id":          {`{"id":"` + strings.Repeat("x", 513) + `","createdDateTime":"2026-01-01T00:00:00Z"}`, "513 bytes"},
		"control in id":    {`{"id":"a\u0007b","createdDateTime":"2026-01-01T00:00:00Z"}`, "control"},
		"no time":          {`{"id":"x"}`, "revision is unknown"},
		"no time either":   {`{"id":"x","createdDateTime":"0001-01-01T00:00:00Z","lastUpdateDateTime":"soon"}`, "revision is unknown"},
		"no tenant at all": {`{"id":"x","createdDateTime":"2026-01-01T00:00:00Z"}`, "names no tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Tenant: "t"}
			if name == "no tenant at all" {
				o.Tenant = ""
			}
			_, err := Alert([]byte(c.raw), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want something about %q", err, c.want)
			}
		})
	}
}

func TestAlertAlertMembers(t *testing.T) {
	t.Parallel()
	_, f := norm(t, alertWith(t, nil))
	unmapped := map[string]json.RawMessage{}
	if err := json.Unmarshal(f.Unmapped, &unmapped); err != nil {
		t.Fatal(err)
	}
	product := ocsf.Product{
		Name: "Microsoft Defender for Endpoint", UID: "microsoftDefenderForEndpoint", VendorName: "Microsoft",
		Feature: &ocsf.Feature{Name: "customDetection"},
	}
	credential := ocsf.Named{UID: "TA0006", Name: "Credential Access"}
	f.Unmapped = nil
	f.Metadata.UID = ""
	want := &ocsf.DetectionFinding{
		Head: ocsf.Head{
			ActivityID: 2, ActivityName: "Update", CategoryUID: 2, CategoryName: "Findings", ClassUID: 2004,
			ClassName: "Detection Finding", TypeUID: 200402, TypeName: "Detection Finding: Update", Time: 1772604000500,
			StartTime: new(int64(1772596800000)), EndTime: new(int64(1772600400000)), Message: "Something <bad> & worse",
			SeverityID: 4, Severity: "High", StatusID: new(2), Status: "In Progress", StatusCode: "inProgress", StatusDetail: "running",
			Metadata: ocsf.Metadata{
				Version: "1.8.0", Product: product, Profiles: []string{"incident"}, Labels: []string{"DEV-0001"},
				TenantUID:      "10101010-7a0e-4c9b-9f55-00000000000F",
				CorrelationUID: "msincident:10101010-7a0e-4c9b-9f55-00000000000f:1234", LogName: "security/alerts_v2",
				LogProvider: "Microsoft Graph", OriginalEventUID: "da638651234567890123_-42", OriginalTime: "2026-03-04T05:06:08.1234567Z",
			},
		},
		IsAlert: new(true),
		FindingInfo: ocsf.FindingInfo{
			UID: "da638651234567890123_-42", UIDAlt: "638651234567890123_-42", Title: "Something <bad> & worse",
			Desc: "Long text\nwith lines", SrcURL: "https://security.example/alerts/1", CreatedTime: new(int64(1772600768123)),
			ModifiedTime: new(int64(1772604000500)), FirstSeenTime: new(int64(1772596800000)), LastSeenTime: new(int64(1772600400000)),
			Product: &product, Analytic: &ocsf.Analytic{UID: "detector-1", TypeID: 1, Type: "Rule"},
			RelatedAnalytics: []ocsf.Analytic{{UID: "policy-1", Category: "alertPolicy", TypeID: 1, Type: "Rule"}},
			Attacks: []ocsf.Attack{
				{Tactic: &credential, Technique: &ocsf.Named{UID: "T1110"}, SubTechnique: &ocsf.Named{UID: "T1110.003"}},
				{Tactic: &credential, Technique: &ocsf.Named{UID: "T1078"}},
				{Tactic: &ocsf.Named{UID: "TA0002", Name: "Execution"}},
			},
			Types:  []string{"CredentialAccess", "Execution", "Malware"},
			Traits: []ocsf.Trait{{Type: "threat_actor", Name: "Storm-1"}, {Type: "malware_family", Name: "Bad"}},
			Tags: []ocsf.KeyValue{
				{Name: "customDetails.Count", Values: []string{"57"}},
				{Name: "customDetails.Hosts", Values: []string{"a", "b"}},
				{Name: "customDetails.Plain", Value: new("text")},
			},
			RelatedEvents: []ocsf.RelatedEvent{{
				UID: "1234", Type: "incident", TypeUID: 200500, TypeName: "Incident Finding: Unknown",
				Product: &ocsf.Product{Name: "Microsoft Defender XDR", VendorName: "Microsoft"},
			}},
		},
		VerdictID: new(2), Verdict: "True Positive",
		Assignee: &ocsf.User{Name: "ana@contoso.example", EmailAddr: "ana@contoso.example"},
		Comment:  "newest", SrcURL: "https://security.example/incidents/1234",
		Malware:     []ocsf.Malware{{Name: "Trojan:Win32/Bad", Provider: "Microsoft", ClassificationIDs: []int{18}}},
		Remediation: &ocsf.Remediation{Desc: "Do this.\nDo that."},
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("finding (-want +got):\n%s", diff)
	}
	var names []string
	for k := range unmapped {
		names = append(names, k)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{
		"additionalData", "classification", "comments", "customDetails", "determination", "mitreTechniques", "resolvedDateTime", "someFutureMember",
	}, names); diff != "" {
		t.Errorf("unmapped (-want +got):\n%s", diff)
	}
	if got := string(unmapped["additionalData"]); !strings.Contains(got, "9007199254740993") {
		t.Errorf("a large number lost its precision: %s", got)
	}
}

func TestAlertEnums(t *testing.T) {
	t.Parallel()
	type result struct {
		severity int
		text     string
		status   int
		verdict  int
		activity int
	}
	for name, c := range map[string]struct {
		with map[string]any
		want result
	}{
		"absent":          {map[string]any{"severity": nil, "status": nil, "classification": nil, "determination": nil}, result{0, "Unknown", 0, 0, 2}},
		"null":            {map[string]any{"severity": json.RawMessage("null"), "status": json.RawMessage("null")}, result{0, "Unknown", 0, 2, 2}},
		"unknown":         {map[string]any{"severity": "unknown", "status": "unknown", "classification": "unknown"}, result{0, "Unknown", 0, 0, 2}},
		"informational":   {map[string]any{"severity": "Informational", "status": "New"}, result{1, "Informational", 1, 2, 2}},
		"low":             {map[string]any{"severity": "LOW"}, result{2, "Low", 2, 2, 2}},
		"medium":          {map[string]any{"severity": "medium", "status": "in_progress"}, result{3, "Medium", 2, 2, 2}},
		"future":          {map[string]any{"severity": "unknownFutureValue", "status": "paused"}, result{99, "unknownFutureValue", 99, 2, 2}},
		"resolved":        {map[string]any{"status": "resolved"}, result{4, "High", 4, 2, 3}},
		"false positive":  {map[string]any{"classification": "falsePositive", "determination": "notMalicious"}, result{4, "High", 2, 1, 2}},
		"expected":        {map[string]any{"classification": "informationalExpectedActivity", "determination": "confirmedUserActivity"}, result{4, "High", 2, 5, 2}},
		"test":            {map[string]any{"classification": "truePositive", "determination": "securityTesting"}, result{4, "High", 2, 6, 2}},
		"little data":     {map[string]any{"classification": "falsePositive", "determination": "notEnoughDataToValidate"}, result{4, "High", 2, 7, 2}},
		"little data old": {map[string]any{"classification": "falsePositive", "determination": "insufficientData"}, result{4, "High", 2, 7, 2}},
		"odd verdict":     {map[string]any{"classification": "maybe"}, result{4, "High", 2, 99, 2}},
		"created":         {map[string]any{"lastUpdateDateTime": "2026-03-04T05:06:09.0Z"}, result{4, "High", 2, 2, 1}},
		"a second later":  {map[string]any{"lastUpdateDateTime": "2026-03-04T05:06:09.1234567Z"}, result{4, "High", 2, 2, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, f := norm(t, alertWith(t, c.with))
			got := result{f.SeverityID, f.Severity, *f.StatusID, *f.VerdictID, f.ActivityID}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if f.ActivityID == 1 && f.Time != 1772600768123 {
				t.Errorf("time of a creation = %d", f.Time)
			}
		})
	}
}

func TestAlertSparse(t *testing.T) {
	t.Parallel()
	ev, f := norm(t, []byte(`{"id":7,"createdDateTime":"2026-01-01T00:00:00Z"}`))
	if ev.Subject != "7" || ev.Tenant != "fallback-tenant" || f.FindingInfo.Product.Name != "Microsoft Defender XDR" || f.ActivityID != 1 {
		t.Errorf("%+v\n%s", ev, ev.Data)
	}
	// Half a surrogate pair, as in a command line, is no reason to lose an alert.
	ev, _ = norm(t, []byte(`{"id":"x","lastUpdateDateTime":"2026-01-01T00:00:00Z","title":"a \ud800 b"}`))
	if !strings.Contains(string(ev.Data), "a \uFFFD b") {
		t.Errorf("%s", ev.Data)
	}
	// Members of another type than expected stay.
	norm(t, []byte(`{"id":"x","lastUpdateDateTime":"2026-01-01T00:00:00Z","title":7,"severity":[1],"comments":"no","evidence":[null,3,"x",{},{"@odata.type":7},{"roles":"all"}],"mitreTechniques":[1,"T1"],"systemTags":[{}],"customDetails":[1],"tenantId":5,"category":{}}`))
}

func TestAlertEvidence(t *testing.T) {
	t.Parallel()
	for _, kind := range everyKind() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, roles := range [][]string{nil, {"compromised"}, {"attacker"}, {"destination"}} {
				_, f := norm(t, alertWith(t, nil, evidenceOf(t, kind, map[string]any{"roles": roles})))
				e := f.Evidences[0]
				if e.Name != kind+"Evidence" || e.UID == "" || *e.VerdictID != 4 || e.Verdict != "Suspicious" {
					t.Errorf("%s %s %d %s", e.Name, e.UID, *e.VerdictID, e.Verdict)
				}
				if isBare(&e) && e.Container == nil && kind != "mailCluster" {
					t.Errorf("nothing but data: %s", e.Data)
				}
				for _, k := range []string{"verdict", "remediationStatus", "remediationStatusDetails", "createdDateTime", "tags", "detailedRoles"} {
					if !bytes.Contains(e.Data, []byte(`"`+k+`":`)) {
						t.Errorf("data has no %s: %s", k, e.Data)
					}
				}
				if len(f.Resources) > 0 && (len(roles) == 0 || roles[0] == "attacker") {
					t.Errorf("roles %v: %v among the resources", roles, f.Resources)
				}
			}
		})
	}
}

// TestAlertEvidenceRows checks every row of the mapping by what is special about it.
func TestAlertEvidenceRows(t *testing.T) {
	t.Parallel()
	const sha = "5AB5C0F6E3A1B2C3D4E5F60718293A4B5C6D7E8F90A1B2C3D4E5F60718293A4B"
	for _, c := range []struct {
		kind, role, uid string
		want            string // JSON that the evidence must contain
		observables     string // type:value, sorted
	}{
		{"user", "compromised", "6f3f2f9e-7a0e-4c9b-9f55-0000000000b1", `{"user":{"name":"m.frei","uid_alt":"S-1-5-21-9-8-7-500","email_addr":"Mia.Frei@contoso.example","account":{"type_id":6,"name":"Mia.Frei@contoso.example"},"org":{"uid":"aaaaaaaa-7a0e-4c9b-9f55-0000000000b3"}},"data":{"userAccount":{"resourceAccessEvents":[{"accountId":"acc-1"}]},"stream":{"name":"stream-1"}}}`, "31:6f3f2f9e-7a0e-4c9b-9f55-0000000000b1 4:m.frei 5:mia.frei@contoso.example 99:S-1-5-21-9-8-7-500"},
		{"user", "attacker", "6f3f2f9e-7a0e-4c9b-9f55-0000000000b1", `{"actor":{"user":{"name":"m.frei"}}}`, "31:6f3f2f9e-7a0e-4c9b-9f55-0000000000b1 4:m.frei 5:mia.frei@contoso.example 99:S-1-5-21-9-8-7-500"},
		{"mailbox", "", "shared.box@contoso.example", `{"user":{"email_addr":"Shared.Box@contoso.example","name":"m.frei"}}`, ""},
		{"mailboxConfiguration", "", "cfg-9", `{"user":{"email_addr":"boss@contoso.example","name":"the.boss@contoso.example","uid":"77777777-7a0e-4c9b-9f55-0000000000d1"}}`, "5:boss@contoso.example"},
		{"device", "", "mde-1", `{"device":{"uid_alt":"aad-1","hostname":"pc-9.corp.contoso.example","name":"PC-9","domain":"corp.contoso.example","type_id":6,"instance_uid":"vm-id-1","is_managed":true,"risk_level_id":3,"os":{"type_id":100,"build":"22631"},"groups":[{"name":"Group A","uid":"12"}],"first_seen_time":1767323045678},"resources":[{"provider":"Azure","name":"vm-7","type":"Microsoft.Compute/virtualMachines","group":{"name":"RG-Prod"}}],"data":{"ntDomain":"CONTOSO","healthStatus":"active"}}`, "10:" + vmOf + " 1:pc-9.corp.contoso.example 2:10.1.2.3 2:5.45.96.7 2:fe80::1 47:mde-1"},
		{"ioTDevice", "", "iot-1", `{"device":{"type_id":7,"mac":"00:1a:2b:3c:4d:5e","ip":"10.5.5.5","model":"P1","vendor_name":"ACME"},"resources":[{"name":"hub"}],"data":{"macAddress":"00-1A-2B-3C-4D-5E","isScanner":false}}`, "10:" + vmOf + " 2:10.5.5.5 3:00:1a:2b:3c:4d:5e 47:iot-1"},
		{"nic", "", "aa:bb:cc:dd:ee:ff", `{"src_endpoint":{"mac":"aa:bb:cc:dd:ee:ff","ip":"10.6.6.6","location":{"country":"Switzerland"}}}`, "2:10.6.6.6 3:aa:bb:cc:dd:ee:ff"},
		{"file", "", strings.ToLower(sha) + "|mde-2", `{"file":{"name":"drop.dll","path":"C:\\ProgramData\\x\\drop.dll","parent_folder":"C:\\ProgramData\\x","size":77,"hashes":[{"algorithm_id":3,"value":"` + sha + `"},{"algorithm_id":2},{"algorithm_id":1},{"algorithm_id":99,"algorithm":"SHA256AC"}]},"device":{"uid":"mde-2","type_id":0},"data":{"fileDetails":{"signer":"Signer S"}}}`, "45:C:\\ProgramData\\x\\drop.dll 47:mde-2 7:drop.dll 8:" + strings.ToLower(sha) + " 8:9e107d9d372bb6826bd81d3542a419d6 8:a94a8fe5ccb19ba61c4c0873d391e987982fbbd3 99:1111111111111111111111111111111111111111111111111111111111111112"},
		{"fileHash", "", "de9f2c7fd25e1b3afad3e85a0bd17d9b100db4b3", `{"file":{"name":"DE9F2C7FD25E1B3AFAD3E85A0BD17D9B100DB4B3","type_id":0,"hashes":[{"algorithm_id":2}]}}`, "8:de9f2c7fd25e1b3afad3e85a0bd17d9b100db4b3"},
		{"process", "", "mde-3|4321|2026-03-04T05:06:07.1234567Z|" + strings.ToLower(sha), `{"process":{"pid":4321,"cmd_line":"cmd /c evil","name":"drop.dll","created_time":1772600767123,"user":{"name":"m.frei"},"parent_process":{"pid":1,"name":"init","file":{"path":"/sbin/init"}}},"device":{"uid":"mde-3"}}`, ""},
		{"ip", "attacker", "8.8.4.4", `{"src_endpoint":{"ip":"8.8.4.4","location":{"city":"Mountain View","country":"United States","lat":37.4}}}`, "2:8.8.4.4"},
		{"ip", "destination", "8.8.4.4", `{"dst_endpoint":{"ip":"8.8.4.4"}}`, "2:8.8.4.4"},
		{"url", "", "https://evil.contoso.example/b?x=%2F", `{"url":{"url_string":"HTTPS://Evil.Contoso.example:443/a/../b?x=%2f#frag","scheme":"https","hostname":"evil.contoso.example","path":"/b","query_string":"x=%2F"}}`, "1:evil.contoso.example 6:https://evil.contoso.example/b?x=%2F"},
		{"dns", "", "c2.evil.example", `{"query":{"hostname":"C2.Evil.example."},"dst_endpoint":{"ip":"9.9.9.9"},"src_endpoint":{"ip":"10.7.7.7"}}`, "1:c2.evil.example 2:10.7.7.7 2:45.33.32.156 2:9.9.9.9"},
		{"networkConnection", "", "10.8.8.8:50000>45.33.32.157:443/tcp", `{"src_endpoint":{"port":50000},"dst_endpoint":{"port":443},"connection_info":{"protocol_num":6,"direction_id":0}}`, "2:10.8.8.8 2:45.33.32.157"},
		{"analyzedMessage", "", "nm-1|victim@contoso.example", `{"email":{"from":"CEO@evil.example","from_mailbox":"The CEO","return_path":"bounce@evil.example","to":["Victim@contoso.example"],"subject":"Invoice <now>","uid":"nm-1","message_uid":"<m1@x.example>","urls":[{"hostname":"evil.example"},{"url_string":"not a url"}],"x_originating_ip":["45.33.32.158"]},"src_endpoint":{"ip":"45.33.32.158"}}`, "1:evil.example 2:45.33.32.158 40:Invoice <now> 41:nm-1 42:<m1@x.example> 5:bounce@evil.example 5:ceo@evil.example 5:victim@contoso.example 6:http://evil.example/pay 6:not a url"},
		{"submissionMail", "", "nm-2|victim@contoso.example", `{"email":{"from":"bad@evil.example","subject":"Reported"},"actor":{"user":{"email_addr":"helpful@contoso.example"}}}`, "2:45.33.32.159 40:Reported 41:nm-2 5:bad@evil.example 5:victim@contoso.example"},
		{"mailCluster", "", `( subject:"Invoice" )`, `{"data":{"emailCount":17,"networkMessageIds":["a-1","a-2"]}}`, ""},
		{"teamsMessage", "", "1700000000000", `{"actor":{"user":{"name":"fake@evil.example"}},"src_endpoint":{"ip":"45.33.32.160"},"url":{"hostname":"evil.example"}}`, "1:evil.example 2:45.33.32.160 5:fake@evil.example 5:victim@contoso.example 6:https://evil.example/teams"},
		{"cloudApplication", "", "11162|2", `{"resources":[{"uid":"11162","uid_alt":"2","name":"Big SaaS","type":"cloudApplication","role_id":4}]}`, "10:11162"},
		{"oauthApplication", "attacker", "oa-1", `{"resources":[{"uid":"oa-1","uid_alt":"oo-1","owner":{"name":"Evil Corp"},"role_id":2}],"actor":{"app_name":"Mail Reader","app_uid":"oa-1"}}`, "10:oa-1"},
		{"servicePrincipal", "", "spo-1", `{"user":{"uid":"spo-1","uid_alt":"spa-1","name":"robot","type_id":4,"org":{"uid":"ten-1"}}}`, "31:spo-1 4:robot"},
		{"securityGroup", "", "sg-1", `{"resources":[{"uid":"sg-1","uid_alt":"S-1-5-21-1-2-3-512","name":"Domain Admins","type":"securityGroup"}]}`, "10:sg-1 32:Domain Admins 33:sg-1"},
		{"registryKey", "", `hklm\software\microsoft\windows\currentversion\run`, `{"reg_key":{"path":"HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run"}}`, `46:HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run`},
		{"registryValue", "", `hkey_current_user\software\evil|updater`, `{"reg_value":{"path":"HKEY_CURRENT_USER\\Software\\Evil","name":"Updater","type_id":10,"type":"REG_SZ","reg_string_data":"c:\\evil.exe"},"device":{"uid":"mde-4"}}`, `43:Updater 46:HKEY_CURRENT_USER\Software\Evil`},
		{"azureResource", "compromised", strings.ToLower(vmOf), `{"resources":[{"uid":"` + vmOf + `","name":"vm-seven","type":"Virtual Machine","provider":"Azure","group":{"name":"RG-Prod"},"role_id":3}]}`, "10:" + vmOf},
		{"amazonResource", "", "arn:aws:iam::123456789012:user/root", `{"resources":[{"provider":"AWS","name":"root","type":"user"}],"data":{"amazonAccountId":"123456789012"}}`, "10:arn:aws:iam::123456789012:user/root"},
		{"googleCloudResource", "", "//compute.googleapis.com/projects/proj-1/zones/europe-west6-a/instances/i-1", `{"resources":[{"provider":"GCP","zone":"europe-west6-a"}],"data":{"projectId":"proj-1"}}`, "10://compute.googleapis.com/projects/proj-1/zones/europe-west6-a/instances/i-1"},
		{"blobContainer", "", "https://store.blob.core.windows.net/backups", `{"databucket":{"type_id":2,"uid":"https://store.blob.core.windows.net/backups","name":"backups"}}`, "6:https://store.blob.core.windows.net/backups"},
		{"blob", "", "https://store.blob.core.windows.net/backups/a.zip", `{"file":{"name":"a.zip","uri":"https://store.blob.core.windows.net/backups/a.zip","hashes":[{"algorithm_id":1}]},"data":{"blobContainer":{"name":"backups"},"etag":"0x1"}}`, "6:https://store.blob.core.windows.net/backups/a.zip 8:0cc175b9c0f1b6a831c399e269772661"},
		{"container", "", "c0ffee", `{"container":{"uid":"c0ffee","name":"web","image":{"uid":"img@sha256:1"}},"data":{"containerId":"c0ffee","pod":{"name":"pod-1"}}}`, "99:c0ffee"},
		{"kubernetesPod", "", "pod-2", `{"resources":[{"uid":"pod-2","name":"pod-2","namespace":"ns-2","type":"kubernetesPod"}],"data":{"containers":[{"containerId":"c-2"}]}}`, "10:pod-2 2:10.244.0.9"},
		{"gitHubUser", "", "ghu-1", `{"resources":[{"uid":"ghu-1","name":"Mia","type":"gitHubUser"}],"data":{"login":"mfrei"}}`, "10:ghu-1 5:mia@git.example"},
		{"hostLogonSession", "", "999", `{"actor":{"session":{"uid":"999","created_time":1772600767000},"user":{"name":"m.frei"}},"device":{"uid":"mde-5"}}`, "1:srv-5.contoso.example 31:6f3f2f9e-7a0e-4c9b-9f55-0000000000b1 47:mde-5 4:m.frei 5:mia.frei@contoso.example 99:S-1-5-21-9-8-7-500"},
		{"cloudLogonSession", "", "998", `{"actor":{"session":{"uid":"998"}},"http_request":{"user_agent":"Mozilla/5.0 (iPhone)"},"device":{"name":"Phone"}}`, "16:Mozilla/5.0 (iPhone) 31:6f3f2f9e-7a0e-4c9b-9f55-0000000000b1 4:m.frei 5:mia.frei@contoso.example 99:S-1-5-21-9-8-7-500"},
		{"cloudLogonRequest", "", "req-1", `{"actor":{"session":{"uid":"req-1"}}}`, ""},
		{"malware", "", "Ransom:Win32/Lock.A", `{"file":{"name":"drop.dll"},"data":{"category":"Ransomware"}}`, ""},
	} {
		t.Run(c.kind+" "+c.role, func(t *testing.T) {
			t.Parallel()
			var roles []string
			if c.role != "" {
				roles = []string{c.role}
			}
			_, f := norm(t, alertWith(t, nil, evidenceOf(t, c.kind, map[string]any{"roles": roles})))
			if f.Evidences[0].UID != c.uid {
				t.Errorf("uid = %q, want %q", f.Evidences[0].UID, c.uid)
			}
			b, err := json.Marshal(f.Evidences[0])
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if json.Unmarshal(b, &got) != nil || json.Unmarshal([]byte(c.want), &want) != nil {
				t.Fatalf("no JSON: %s", c.want)
			}
			if missing := contains(got, want, ""); missing != "" {
				t.Errorf("%s\nin %s", missing, b)
			}
			if c.observables == "" {
				return
			}
			var list []string
			for _, o := range f.Observables {
				list = append(list, fmt.Sprintf("%d:%s", o.TypeID, o.Value))
			}
			slices.Sort(list)
			if got := strings.Join(list, " "); got != c.observables {
				t.Errorf("observables\n got %s\nwant %s", got, c.observables)
			}
		})
	}
}

// contains says what of want is not in got; empty for nothing.
func contains(got, want any, path string) string {
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return path + " is no object"
		}
		for k, w := range want {
			if s := contains(g[k], w, path+"."+k); s != "" {
				return s
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return fmt.Sprintf("%s is %v, want %d elements", path, got, len(want))
		}
		for i, w := range want {
			if s := contains(g[i], w, fmt.Sprintf("%s[%d]", path, i)); s != "" {
				return s
			}
		}
	default:
		if got != want {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
	}
	return ""
}

func TestAlertSideEffects(t *testing.T) {
	t.Parallel()
	_, f := norm(t, alertWith(t, nil,
		evidenceOf(t, "device", nil), evidenceOf(t, "amazonResource", map[string]any{"roles": []string{"attacked"}}),
		evidenceOf(t, "azureResource", map[string]any{"roles": []string{"contextual"}}), evidenceOf(t, "registryKey", nil),
		evidenceOf(t, "malware", nil),
	))
	if c := f.Cloud; c == nil || c.Provider != "AWS" || c.Account.UID != "123456789012" || *c.Account.TypeID != 10 || c.Org != nil {
		t.Errorf("cloud = %+v: want that of the first resource", f.Cloud)
	}
	if diff := cmp.Diff([]string{"cloud", "incident"}, f.Metadata.Profiles); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]ocsf.Extension{{Name: "win", UID: "2", Version: "1.8.0"}}, f.Metadata.Extensions); diff != "" {
		t.Error(diff)
	}
	if f.Device == nil || f.Device.Hostname != "pc-9.corp.contoso.example" {
		t.Errorf("device = %+v", f.Device)
	}
	if len(f.Resources) != 1 || f.Resources[0].UID != "arn:aws:iam::123456789012:user/root" || *f.Resources[0].RoleID != 3 {
		t.Errorf("resources = %+v", f.Resources)
	}
	if len(f.Malware) != 2 || f.Malware[0].ClassificationIDs[0] != 10 || len(f.Malware[0].Files) != 1 {
		t.Errorf("malware = %+v", f.Malware)
	}
	for kind, want := range map[string][3]string{
		"azureResource": {"Azure", "33333333-7a0e-4c9b-9f55-0000000000c1", ""}, "device": {"Azure", "33333333-7a0e-4c9b-9f55-0000000000c1", ""},
		"googleCloudResource": {"GCP", "proj-1", "europe-west6-a"},
	} {
		_, f := norm(t, alertWith(t, nil, evidenceOf(t, kind, nil)))
		if f.Cloud == nil || f.Cloud.Provider != want[0] || f.Cloud.Account.UID != want[1] || f.Cloud.Zone != want[2] {
			t.Errorf("%s: cloud = %+v", kind, f.Cloud)
		}
	}
}

// TestAlertUnknownEvidence: a type that Microsoft adds tomorrow is kept whole.
func TestAlertUnknownEvidence(t *testing.T) {
	t.Parallel()
	ev := evidenceOf(t, "aiAgent", map[string]any{"@odata.type": "#microsoft.graph.security.quantumThingEvidence", "spin": 0.5})
	_, f := norm(t, alertWith(t, nil, ev))
	e := f.Evidences[0]
	if e.Name != "quantumThingEvidence" || e.Resources[0].Type != "quantumThing" || !bytes.Contains(e.Data, []byte(`"spin":0.5`)) {
		t.Errorf("%+v %s", e, e.Data)
	}
	_, f = norm(t, alertWith(t, nil, map[string]any{"@odata.type": "something.else", "verdict": "odd"}))
	if *f.Evidences[0].VerdictID != 99 || f.Evidences[0].Verdict != "odd" {
		t.Errorf("%+v", f.Evidences[0])
	}
}

// TestAlertTransactional: what cannot be emitted goes back to data.
func TestAlertTransactional(t *testing.T) {
	t.Parallel()
	for name, ev := range map[string]map[string]any{
		"user without a name": {"@odata.type": "#microsoft.graph.security.userEvidence", "userAccount": map[string]any{"domainName": "D", "tenantId": "T"}},
		"UPN with a space": {"@odata.type": "#microsoft.graph.security.userEvidence", "userAccount": map[string]any{
			"accountName": "x", "userPrincipalName": "no address",
		}},
		"process without a pid":  {"@odata.type": "#microsoft.graph.security.processEvidence", "processCommandLine": "only this"},
		"process without itself": {"@odata.type": "#microsoft.graph.security.processEvidence", "parentProcessCreationDateTime": "2026-01-01T00:00:00Z"},
		"file without a name":    {"@odata.type": "#microsoft.graph.security.fileEvidence", "fileDetails": map[string]any{"fileSize": 5, "filePublisher": "P"}},
		"file with a folder":     {"@odata.type": "#microsoft.graph.security.fileEvidence", "fileDetails": map[string]any{"filePath": "/tmp/x"}},
		"message without people": {"@odata.type": "#microsoft.graph.security.analyzedMessageEvidence", "subject": "S", "networkMessageId": "N", "p2Sender": map[string]any{"emailAddress": "The Boss <boss@x.example>"}},
		"address with zeros":     {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "010.0.0.1", "countryLetterCode": "US"},
		"device without a name":  {"@odata.type": "#microsoft.graph.security.deviceEvidence", "osPlatform": "Linux", "ipInterfaces": []string{"fe80::1%eth0", "nonsense"}},
		"os without a platform":  {"@odata.type": "#microsoft.graph.security.deviceEvidence", "mdeDeviceId": "d", "version": "1", "osBuild": 3, "riskScore": "none"},
		"empty registry":         {"@odata.type": "#microsoft.graph.security.registryValueEvidence", "registryValue": "v", "registryValueType": "odd"},
		"value without a name":   {"@odata.type": "#microsoft.graph.security.registryValueEvidence", "registryKey": "k", "registryValueType": "odd"},
		"blob without anything":  {"@odata.type": "#microsoft.graph.security.blobEvidence", "fileHashes": []any{map[string]any{"algorithm": "md5"}}},
		"place without a place":  {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "::ffff:1.2.3.4", "location": map[string]any{"latitude": 1.5}},
		"location of a state":    {"@odata.type": "#microsoft.graph.security.ipEvidence", "ipAddress": "fe80::1%1", "location": map[string]any{"state": "GR"}},
		"mac of nonsense":        {"@odata.type": "#microsoft.graph.security.nicEvidence", "macAddress": "xx"},
		"nothing at all":         {"@odata.type": "#microsoft.graph.security.nicEvidence"},
		"old date":               {"@odata.type": "#microsoft.graph.security.deviceEvidence", "mdeDeviceId": "d", "firstSeenDateTime": "0001-01-01T00:00:00Z"},
		"port out of range":      {"@odata.type": "#microsoft.graph.security.networkConnectionEvidence", "destinationPort": 70000, "protocol": "sctp"},
		"hash of odd algorithm":  {"@odata.type": "#microsoft.graph.security.fileHashEvidence", "algorithm": "ssdeep", "value": "3:a:b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			norm(t, alertWith(t, nil, ev)) // checks schema and losses
		})
	}
}

// TestAlertOrder: the order of members and what Graph adds per request make no difference; evidence's order makes
// none for the identity.
func TestAlertOrder(t *testing.T) {
	t.Parallel()
	var evidence []map[string]any
	for _, kind := range everyKind() {
		evidence = append(evidence, evidenceOf(t, kind, nil))
	}
	raw := alertWith(t, nil, evidence...)
	first, _ := norm(t, raw)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		other := shuffle(t, raw, rng)
		other = bytes.Replace(other, []byte(`{`), fmt.Appendf(nil, `{"@odata.etag":"W/\"%d\"",`, i), 1)
		got, err := Alert(other, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data, first.Data) || got.ID != first.ID {
			t.Fatalf("reordering %d gives another event", i)
		}
	}
	slices.Reverse(evidence)
	reversed, _ := norm(t, alertWith(t, nil, evidence...))
	if reversed.ID != first.ID {
		t.Error("reversed evidence gives another id")
	}
	if bytes.Equal(reversed.Data, first.Data) {
		t.Error("reversed evidence is not seen in data")
	}
}

// shuffle writes a JSON object with its members, at every level, in random order.
func shuffle(t *testing.T, raw []byte, rng *rand.Rand) []byte {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var write func(b *bytes.Buffer, v any)
	write = func(b *bytes.Buffer, v any) {
		switch v := v.(type) {
		case map[string]any:
			keys := make([]string, 0, len(v))
			for k := range v {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			b.WriteByte('{')
			for i, k := range keys {
				if i > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(b, "%q:", k)
				write(b, v[k])
			}
			b.WriteByte('}')
		case []any:
			b.WriteByte('[')
			for i, x := range v {
				if i > 0 {
					b.WriteByte(',')
				}
				write(b, x)
			}
			b.WriteByte(']')
		default:
			out, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(out)
		}
	}
	var b bytes.Buffer
	write(&b, v)
	return b.Bytes()
}

// TestAlertDigest: what is news, and what is not.
func TestAlertDigest(t *testing.T) {
	t.Parallel()
	base := func(with, device map[string]any) sdk.Event {
		ev, _ := norm(t, alertWith(t, with, evidenceOf(t, "device", device), evidenceOf(t, "url", nil)))
		return ev
	}
	first := base(nil, nil)
	comment := func(text string) map[string]any {
		return map[string]any{"comment": text, "createdByDisplayName": "Casewire", "createdDateTime": "2026-03-04T05:40:00Z"}
	}
	old := []any{
		map[string]any{"comment": "newest", "createdByDisplayName": "Ana", "createdDateTime": "2026-03-04T05:30:00Z"},
		map[string]any{"comment": "oldest", "createdByDisplayName": "Bo", "createdDateTime": "2026-03-04T05:20:00Z"},
	}
	for name, c := range map[string]struct {
		with, device map[string]any
		same         bool
	}{
		"risk, address, health":   {nil, map[string]any{"riskScore": "low", "lastIpAddress": "10.1.2.99", "healthStatus": "inactive", "loggedOnUsers": []any{}}, true},
		"our own comment":         {map[string]any{"comments": append(slices.Clone(old), comment("Case 7 [cw-0123456789abcdefghij]"))}, nil, true},
		"order of techniques":     {map[string]any{"mitreTechniques": []string{"T1078", "Proprietary", "T1110.003"}}, nil, true},
		"description":             {map[string]any{"description": "other"}, nil, true},
		"somebody's comment":      {map[string]any{"comments": append(slices.Clone(old), comment("look: [cw-short]"))}, nil, false},
		"status, same time":       {map[string]any{"status": "new"}, nil, false},
		"severity":                {map[string]any{"severity": "low"}, nil, false},
		"classification":          {map[string]any{"classification": "falsePositive"}, nil, false},
		"determination":           {map[string]any{"determination": "apt"}, nil, false},
		"assignee":                {map[string]any{"assignedTo": "bo@contoso.example"}, nil, false},
		"title":                   {map[string]any{"title": "other"}, nil, false},
		"category":                {map[string]any{"category": "Malware"}, nil, false},
		"incident":                {map[string]any{"incidentId": "1235"}, nil, false},
		"techniques":              {map[string]any{"mitreTechniques": []string{"T1078"}}, nil, false},
		"investigation":           {map[string]any{"investigationState": "terminated"}, nil, false},
		"verdict of evidence":     {nil, map[string]any{"verdict": "malicious"}, false},
		"remediation of evidence": {nil, map[string]any{"remediationStatus": "remediated"}, false},
		"another device":          {nil, map[string]any{"mdeDeviceId": "mde-9"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if ev := base(c.with, c.device); (ev.ID == first.ID) != c.same {
				t.Errorf("same id: %v, want %v", ev.ID == first.ID, c.same)
			}
		})
	}
	later := base(map[string]any{"lastUpdateDateTime": "2026-03-04T06:00:00.501Z"}, nil)
	if later.Digest != first.Digest || later.ID == first.ID || later.Rev <= first.Rev || later.PartitionKey != first.PartitionKey {
		t.Errorf("a later revision: %+v", later)
	}
}

// TestAlertCollisions has the cases in which one alert must not become two, nor two one.
func TestAlertCollisions(t *testing.T) {
	t.Parallel()
	const guid = "D699F9CC-d8f9-5b5b-afa4-4e1e1702dd59"
	polled, _ := norm(t, alertWith(t, map[string]any{"id": "sn" + guid}))
	pushed, _ := norm(t, alertWith(t, map[string]any{"id": "sn" + guid, "@odata.context": "another", "@odata.etag": "x"}))
	if polled.ID != pushed.ID || !bytes.Equal(polled.Data, pushed.Data) {
		t.Error("poll and push of one revision are two events")
	}
	if want := event.AlertKey(polled.Tenant, guid); polled.PartitionKey != want {
		t.Errorf("partition key %s, that of the workspace's row is %s", polled.PartitionKey, want)
	}
	elsewhere, _ := norm(t, alertWith(t, map[string]any{"id": "sn" + guid, "tenantId": "20202020-7a0e-4c9b-9f55-000000000000"}))
	if elsewhere.PartitionKey == polled.PartitionKey || elsewhere.ID == polled.ID {
		t.Error("two tenants share an alert")
	}
	// Before and after the alert gets its incident it is one object.
	early, _ := norm(t, alertWith(t, map[string]any{"incidentId": nil}))
	late, _ := norm(t, alertWith(t, nil))
	if early.PartitionKey != late.PartitionKey || early.CorrelationID != "" || late.CorrelationID == "" || early.ID == late.ID {
		t.Errorf("%+v\n%+v", early, late)
	}
	// Another id at the provider is an alias, unless it says nothing.
	aliased, _ := norm(t, alertWith(t, map[string]any{"providerAlertId": "ABCDEF0123456789"}))
	if diff := cmp.Diff([]string{"msalert:" + aliased.Tenant + ":abcdef0123456789"}, aliased.Aliases); diff != "" {
		t.Error(diff)
	}
	for _, id := range []any{"0", "n/a", "00000000-0000-0000-0000-000000000000", nil} {
		if ev, _ := norm(t, alertWith(t, map[string]any{"providerAlertId": id})); len(ev.Aliases) > 0 {
			t.Errorf("provider id %v is an alias: %v", id, ev.Aliases)
		}
	}
}

func TestAlertObservablesVerdict(t *testing.T) {
	t.Parallel()
	quiet := evidenceOf(t, "ip", map[string]any{"verdict": "unknown", "ipAddress": "45.33.32.150"})
	loud := evidenceOf(t, "ip", map[string]any{"verdict": "malicious", "ipAddress": "45.33.32.150"})
	_, f := norm(t, alertWith(t, nil, quiet, loud, quiet))
	if len(f.Observables) != 1 || f.Observables[0].Name != "evidences[1].src_endpoint.ip" {
		t.Errorf("%+v: want one, at the worst evidence", f.Observables)
	}
	// A malicious process does not make its user or device bad.
	_, f = norm(t, alertWith(t, nil, evidenceOf(t, "user", map[string]any{"verdict": "unknown"}), evidenceOf(t, "process", map[string]any{"verdict": "malicious"})))
	for _, o := range f.Observables {
		if o.TypeID == ocsf.ObservableEmail && (o.Name != "evidences[0].user.email_addr" || o.IsIndicator(2)) {
			t.Errorf("%+v", o)
		}
	}
}

func TestAlertTooLarge(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 3000)
	var evidence []map[string]any
	for i := range 700 {
		verdict := "unknown"
		if i%7 == 0 {
			verdict = "malicious"
		}
		evidence = append(evidence, evidenceOf(t, "url", map[string]any{
			"url": fmt.Sprintf("https://h%d.example/", i), "verdict": verdict, "remediationStatusDetails": big,
		}))
	}
	ev, err := Alert(alertWith(t, nil, evidence...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ev.Check(); err != nil {
		t.Fatal(err)
	}
	validate(t, ev.Data)
	var f ocsf.DetectionFinding
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		t.Fatal(err)
	}
	if f.Metadata.IsTruncated == nil || *f.Metadata.UntruncatedSize <= event.MaxData || len(f.Evidences) != 700 {
		t.Errorf("%d evidences, %+v", len(f.Evidences), f.Metadata)
	}
	if len(f.Evidences[0].Data) == 0 || len(f.Evidences[1].Data) != 0 {
		t.Error("the data of evidence with a verdict is more than that of evidence without")
	}
	if _, err := Alert(alertWith(t, map[string]any{"description": strings.Repeat("y", event.MaxData)}), Options{}); err == nil || !strings.Contains(err.Error(), "more than the limit") {
		t.Errorf("error = %v", err)
	}
	// When that is not enough, evidence beyond the 500th goes, and what was seen in it.
	for i := range evidence {
		evidence[i]["url"] = fmt.Sprintf("https://i%d.example/%s", i, big[:300])
	}
	ev, err = Alert(alertWith(t, nil, evidence...), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f = ocsf.DetectionFinding{}
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Evidences) != 500 || len(f.Observables) > 1000 {
		t.Errorf("%d evidences, %d observables", len(f.Evidences), len(f.Observables))
	}
}

// TestAlertRandomSparse takes members away at random: every result is valid, and nothing gets lost.
func TestAlertRandomSparse(t *testing.T) {
	t.Parallel()
	n := 150
	if testing.Short() {
		n = 30
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for range n {
		var evidence []map[string]any
		for _, kind := range everyKind() {
			if rng.IntN(6) == 0 {
				evidence = append(evidence, thin(rng, evidenceOf(t, kind, nil), 0.4).(map[string]any))
			}
		}
		var alert map[string]any
		if err := json.Unmarshal(alertWith(t, nil, evidence...), &alert); err != nil {
			t.Fatal(err)
		}
		alert = thin(rng, alert, 0.3).(map[string]any)
		alert["id"], alert["createdDateTime"] = "x", "2026-01-01T00:00:00Z"
		raw, err := json.Marshal(alert)
		if err != nil {
			t.Fatal(err)
		}
		norm(t, raw)
		if t.Failed() {
			t.Fatalf("%s", raw)
		}
	}
}

// thin drops members, or makes them null or of another type.
func thin(rng *rand.Rand, v any, p float64) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			switch x := rng.Float64(); {
			case k == "@odata.type" || x > p:
				out[k] = thin(rng, v[k], p)
			case x < p*0.1:
				out[k] = nil
			case x < p*0.15:
				out[k] = ""
			case x < p*0.2:
				out[k] = []any{map[string]any{}}
			}
		}
		return out
	case []any:
		out := []any{}
		for _, x := range v {
			out = append(out, thin(rng, x, p))
		}
		return out
	default:
		return v
	}
}

func FuzzAlert(f *testing.F) {
	for _, kind := range everyKind() {
		f.Add(alertWith(f, nil, evidenceOf(f, kind, nil)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		ev, err := Alert(raw, Options{Tenant: "t"})
		if err != nil {
			return
		}
		if err := ev.Check(); err != nil {
			t.Fatalf("%v\n%s", err, ev.Data)
		}
		again, err := Alert(raw, Options{Tenant: "t"})
		if err != nil || !bytes.Equal(again.Data, ev.Data) || again.ID != ev.ID {
			t.Fatal("not a function of its input")
		}
	})
}

func BenchmarkAlert(b *testing.B) {
	raw := alertWith(b, nil, evidenceOf(b, "device", nil), evidenceOf(b, "process", nil), evidenceOf(b, "user", nil),
		evidenceOf(b, "url", nil), evidenceOf(b, "ip", nil))
	ev, err := Alert(raw, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(ev.Data)), "B/event")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Alert(raw, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
