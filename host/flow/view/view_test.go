package view_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/flow/view"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/plugin/ocsf"
)

func eventOf(tb testing.TB, typ string, data any) event.Event {
	tb.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		tb.Fatal(err)
	}
	e := event.Event{
		Source: "https://x.example/a", Type: typ, Subject: "da1_2", Time: time.UnixMilli(1772604000500).UTC(), PartitionKey: "msalert:t:1_2",
		CorrelationID: "msincident:t:7", Tenant: "t", TLP: "AMBER", Digest: "0123456789abcdef", Data: b,
	}
	e.Seal()
	return e
}

func detection() *ocsf.DetectionFinding {
	f := &ocsf.DetectionFinding{
		FindingInfo: ocsf.FindingInfo{
			UID: "da1_2", Title: "Title", Desc: "Desc", SrcURL: "https://p.example/a", CreatedTime: new(int64(1000)), ModifiedTime: new(int64(2000)),
			FirstSeenTime: new(int64(3000)), Analytic: &ocsf.Analytic{UID: "rule-1"},
			Types: []string{"CredentialAccess", "Malware"},
			Attacks: []ocsf.Attack{
				{Tactic: &ocsf.Named{Name: "Credential Access"}, Technique: &ocsf.Named{UID: "T1110"}, SubTechnique: &ocsf.Named{UID: "T1110.003"}},
				{Tactic: &ocsf.Named{Name: "Credential Access"}, Technique: &ocsf.Named{UID: "T1078"}},
				{Tactic: &ocsf.Named{UID: "TA0002"}},
			},
			Traits: []ocsf.Trait{{Type: "malware_family", Name: "Bad"}, {Type: "threat_actor", Name: "Storm-1"}},
			Tags: []ocsf.KeyValue{
				{Name: "customDetails.Count", Values: []string{"57"}},
				{Name: "customDetails.Hosts", Values: []string{"a", "b"}},
				{Name: "customDetails.Plain", Value: new("text")},
				{Name: "other", Value: new("no")},
			},
			RelatedEvents: []ocsf.RelatedEvent{{UID: "x", Type: "alert"}, {UID: "28282", Type: "incident"}},
		},
		VerdictID: new(2), Verdict: "True Positive", Assignee: &ocsf.User{Name: "Ana", EmailAddr: "ana@contoso.example"},
		SrcURL: "https://p.example/i", Comment: "newest", Malware: []ocsf.Malware{{Name: "Trojan:X"}, {Name: "Trojan:X"}},
		Cloud: &ocsf.Cloud{Provider: "AWS", Account: &ocsf.Account{UID: "123456789012"}, Region: "eu-central-1"},
		Evidences: []ocsf.Evidence{
			{VerdictID: new(4), Process: &ocsf.Process{
				PID: new(int64(1)), CmdLine: "evil -x", Name: "evil.exe", User: &ocsf.User{Name: "frei", Domain: "CONTOSO"},
			}, Device: &ocsf.Device{Hostname: "pc-9.contoso.example", Name: "PC-9"}},
			{VerdictID: new(2), SrcEndpoint: &ocsf.Endpoint{IP: "45.33.32.156"}},
			{VerdictID: new(0), User: &ocsf.User{Name: "mia", EmailAddr: "Mia@contoso.example"}, Actor: &ocsf.Actor{User: &ocsf.User{UID: "u-1"}}},
			{VerdictID: new(0), User: &ocsf.User{Name: "mia", EmailAddr: "mia@CONTOSO.example"}, Resources: []ocsf.Resource{{UID: "r-1", Name: "R"}, {Name: "only-name"}}},
		},
		Observables: []ocsf.Observable{
			{Name: "evidences[0].process.name", TypeID: 9, Type: "Process Name", Value: "evil.exe"},
			{Name: "evidences[0].process.pid", TypeID: 15, Type: "Process ID", Value: "1"},
			{Name: "evidences[0].process.file.name", TypeID: 7, Type: "File Name", Value: "evil.exe"},
			{Name: "evidences[0].process.file.hashes.value", TypeID: 8, Type: "Hash", Value: "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"},
			{Name: "evidences[0].device.hostname", TypeID: 1, Type: "Hostname", Value: "pc-9.contoso.example"},
			{Name: "evidences[1].src_endpoint.ip", TypeID: 2, Type: "IP Address", Value: "45.33.32.156"},
			{Name: "evidences[1].dst_endpoint.ip", TypeID: 2, Type: "IP Address", Value: "10.0.0.1"},
			{Name: "evidences[1].url.hostname", TypeID: 1, Type: "Hostname", Value: "bad.evil.com"},
			{Name: "evidences[1].url.url_string", TypeID: 6, Type: "URL String", Value: "https://bad.evil.com/"},
			{Name: "evidences[2].user.email_addr", TypeID: 5, Type: "Email Address", Value: "mia@contoso.example"},
			{Name: "evidences[99].url", TypeID: 6, Type: "URL String", Value: "https://a.evil.com/"},
			{Name: "evidences[-1].url", TypeID: 6, Type: "URL String", Value: "https://b.evil.com/"},
			{Name: "odd", TypeID: 99, Type: "Windows SID", Value: "S-1"},
		},
		Remediation: &ocsf.Remediation{Desc: "Do."},
		Unmapped:    json.RawMessage(`{"comments":[{"comment":"newest"},{"comment":"oldest"},{"other":1}]}`),
	}
	f.SetClass(ocsf.ClassDetectionFinding, ocsf.ActivityUpdate)
	f.SeverityID, f.Severity, f.StatusID, f.Status, f.StatusDetail = 4, "High", new(2), "In Progress", "queued"
	f.EndTime = new(int64(4000))
	f.Metadata = ocsf.Metadata{
		Version: "1.8.0", Product: ocsf.Product{Name: "Defender", UID: "svc", Feature: &ocsf.Feature{Name: "det"}}, Labels: []string{"l"}, TenantUID: "T",
	}
	return f
}

func TestAlert(t *testing.T) {
	t.Parallel()
	ev := eventOf(t, event.TypeAlert, detection())
	v, err := view.New(ev, "case-1")
	if err != nil {
		t.Fatal(err)
	}
	obs := func(typ, value, dataType, tag string, ioc bool) view.Observable {
		return view.Observable{Type: typ, Value: value, DataType: dataType, Tag: tag, IOC: ioc}
	}
	iocs := []view.Observable{
		obs("Hash", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "hash", "", true), obs("IP Address", "45.33.32.156", "ip", "", true),
		obs("Hostname", "bad.evil.com", "fqdn", "", true), obs("URL String", "https://bad.evil.com/", "url", "", true),
	}
	want := &view.View{
		Event: view.Event{
			ID: ev.ID, Source: ev.Source, Type: ev.Type, Subject: "da1_2", Time: ev.Time, Key: "msalert:t:1_2", CaseKey: "case-1",
			CorrelationID: "msincident:t:7", Tenant: "t", TLP: "AMBER",
		},
		Alert: &view.Alert{
			ID: "da1_2", Title: "Title", Description: "Desc", Severity: "High", SeverityID: 4, Status: "In Progress", StatusID: 2, StatusDetail: "queued",
			Verdict: "True Positive", VerdictID: 2, Category: "CredentialAccess", Categories: []string{"CredentialAccess", "Malware"}, Product: "Defender",
			ServiceSource: "svc", DetectionSource: "det", Rule: "rule-1", URL: "https://p.example/a", IncidentID: "28282", IncidentURL: "https://p.example/i",
			Tenant: "t", Created: time.UnixMilli(1000).UTC(), Updated: time.UnixMilli(2000).UTC(), FirstActivity: time.UnixMilli(3000).UTC(),
			LastActivity: time.UnixMilli(4000).UTC(), AssignedTo: "ana@contoso.example", Techniques: []string{"T1110.003", "T1078"},
			Tactics: []string{"Credential Access", "TA0002"}, Malware: []string{"Trojan:X"}, Actor: "Storm-1",
			Users: []string{`CONTOSO\frei`, "mia@contoso.example", "u-1"}, Hosts: []string{"pc-9.contoso.example"}, IPs: []string{"45.33.32.156", "10.0.0.1"},
			Domains: []string{"bad.evil.com"}, URLs: []string{"https://bad.evil.com/", "https://a.evil.com/", "https://b.evil.com/"}, Files: []string{"evil.exe"},
			Hashes: []string{"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"}, Mails: []string{"mia@contoso.example"}, Processes: []string{"evil -x"},
			Resources: []string{"r-1", "only-name"}, IOCs: iocs,
			Observables: []view.Observable{
				obs("Process Name", "evil.exe", "other", "process", false), obs("File Name", "evil.exe", "filename", "", false), iocs[0],
				obs("Hostname", "pc-9.contoso.example", "hostname", "", false), iocs[1], obs("IP Address", "10.0.0.1", "ip", "", false), iocs[2], iocs[3],
				obs("Email Address", "mia@contoso.example", "mail", "", false), obs("URL String", "https://a.evil.com/", "url", "", false),
				obs("URL String", "https://b.evil.com/", "url", "", false), obs("Windows SID", "S-1", "other", "windows-sid", false),
			},
			Recommended: "Do.", Labels: []string{"l"}, Comment: "newest", Comments: []string{"newest", "oldest"},
			Cloud:         view.Cloud{Account: "123456789012", Provider: "AWS", Region: "eu-central-1"},
			Custom:        map[string]any{"Count": "57", "Hosts": []string{"a", "b"}, "Plain": "text"},
			EvidenceCount: 4,
		},
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
}

func TestIncident(t *testing.T) {
	t.Parallel()
	f := &ocsf.IncidentFinding{
		Desc: "Desc", SrcURL: "https://p.example/i", Comment: "closed", VerdictID: new(5), AssigneeGroup: ocsf.PlaceholderGroup(),
		Attacks: []ocsf.Attack{{Tactic: &ocsf.Named{Name: "Impact"}}},
		FindingInfoList: []ocsf.FindingInfo{{
			UID: "guid", Title: "Title", CreatedTime: new(int64(1000)), ModifiedTime: new(int64(2000)), DataSources: []string{"P"},
			RelatedEvents: []ocsf.RelatedEvent{{UID: "a1", Type: "alert"}, {UID: "a2", Type: "alert"}, {UID: "a1", Type: "alert"}, {UID: "x"}}, RelatedEventsCount: new(5),
		}},
		Observables: []ocsf.Observable{{TypeID: 2, Type: "IP Address", Value: "8.8.8.8"}},
	}
	f.SetClass(ocsf.ClassIncidentFinding, ocsf.ActivityClose)
	f.SeverityID, f.StatusID, f.StatusDetail = 3, new(5), "reason"
	f.Metadata = ocsf.Metadata{Version: "1.8.0", Product: ocsf.Product{UID: "sentinel"}, Labels: []string{"vip"}}
	v, err := view.New(eventOf(t, event.TypeIncident, f), "k")
	if err != nil {
		t.Fatal(err)
	}
	want := &view.Incident{
		ID: "guid", Title: "Title", Description: "Desc", Severity: "Medium", SeverityID: 3, Status: "Closed", StatusID: 5, StatusDetail: "reason",
		Verdict: "Benign", VerdictID: 5, Product: "sentinel", URL: "https://p.example/i", Tenant: "t", Created: time.UnixMilli(1000).UTC(),
		Updated: time.UnixMilli(2000).UTC(), Techniques: []string{}, Tactics: []string{"Impact"}, AlertIDs: []string{"a1", "a2"}, AlertCount: 5,
		Products: []string{"P"}, IPs: []string{"8.8.8.8"}, Domains: []string{}, URLs: []string{}, Hashes: []string{}, Mails: []string{},
		Observables: []view.Observable{{Type: "IP Address", Value: "8.8.8.8", DataType: "ip"}}, Labels: []string{"vip"}, Comment: "closed", Comments: []string{"closed"},
	}
	if diff := cmp.Diff(want, v.Incident); diff != "" || v.Alert != nil || v.Row != nil {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	f.AssigneeGroup = &ocsf.Group{Name: "SOC"}
	if v, err = view.New(eventOf(t, event.TypeIncident, f), ""); err != nil || v.Incident.AssignedTo != "SOC" {
		t.Errorf("assigned to %q, %v", v.Incident.AssignedTo, err)
	}
}

func TestRow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typ, data, want string }{
		{event.TypeRow, `{"class_uid":0,"unmapped":{"row":{"Ip":"1.1.1.1","N":3}}}`, `{"Ip":"1.1.1.1","N":3}`},
		{event.TypeRow, `{"a":{"b":[1,null]}}`, `{"a":{"b":[1,null]}}`},
		{event.TypeIndicator, `{"unmapped":{"row":{"Ip":1}}}`, `{"unmapped":{"row":{"Ip":1}}}`},
		{"something.else", `{}`, `{}`},
	} {
		v, err := view.New(eventOf(t, c.typ, json.RawMessage(c.data)), "")
		if err != nil {
			t.Errorf("%s: %v", c.data, err)
			continue
		}
		if b, err := json.Marshal(v.Row); err != nil || string(b) != c.want || v.Alert != nil || v.Incident != nil {
			t.Errorf("row of %s is %s, %v", c.data, b, err)
		}
	}
}

// TestOdd: what is valid and odd, or not even valid, does not keep a flow from starting.
func TestOdd(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		`{}`, `{"finding_info":{}}`, `{"evidences":[{}],"observables":[{"type_id":99}],"cloud":{"provider":"X"}}`,
		`{"unmapped":{"comments":"none"},"finding_info":{"title":"T"}}`, `{"severity_id":"4","finding_info":{"title":"T","types":[1]},"message":"m"}`,
		`{"unmapped":[],"evidences":{"a":1},"finding_info":{"title":"T"}}`, `{"severity_id":7.5,"finding_info":{"title":"T"}}`,
		` {"finding_info_list":[],"finding_info":{"title":"T"}} `,
	} {
		for _, typ := range []string{event.TypeAlert, event.TypeIncident} {
			v, err := view.New(event.Event{Type: typ, Data: json.RawMessage(data)}, "")
			if err != nil {
				t.Errorf("%s: %v", data, err)
				continue
			}
			if strings.Contains(data, `"T"`) && typ == event.TypeAlert && v.Alert.Title != "T" {
				t.Errorf("%s: title %q", data, v.Alert.Title)
			}
			noNil(t, data, reflect.ValueOf(*v))
		}
	}
	for _, data := range []string{``, `[]`, `{`, `null`, `3`, `{"a":1} x`} {
		for _, typ := range []string{event.TypeAlert, event.TypeIncident, event.TypeRow} {
			if v, err := view.New(event.Event{Type: typ, Data: json.RawMessage(data)}, ""); err == nil {
				t.Errorf("%s %q is taken: %+v", typ, data, v)
			}
		}
	}
}

// noNil: a list of nothing is a list, so that flows can loop over it and count it.
func noNil(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			noNil(t, name, v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "Row" {
				noNil(t, name+" "+f.Name, v.Field(i))
			}
		}
	case reflect.Slice, reflect.Map:
		if v.IsNil() {
			t.Errorf("%s is nil", name)
		}
	}
}

// TestTags: expressions and JSON know the same names, in lower case with underscores.
func TestTags(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{
		reflect.TypeFor[view.View](), reflect.TypeFor[view.Event](), reflect.TypeFor[view.Alert](), reflect.TypeFor[view.Incident](),
		reflect.TypeFor[view.Observable](), reflect.TypeFor[view.Cloud](),
	} {
		for f := range typ.Fields() {
			name := f.Tag.Get("expr")
			jsonName, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name != jsonName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
				t.Errorf("%s.%s: expr %q, json %q", typ.Name(), f.Name, name, jsonName)
			}
		}
	}
}

// TestContractSamples reads the published samples, if they lie next to the repository.
func TestContractSamples(t *testing.T) {
	t.Parallel()
	var files []string
	for _, up := range []string{"../../../..", "../../../../.."} {
		found, err := filepath.Glob(filepath.Join(up, "shared", "contracts", "events", "samples", "*.event.json"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skip("NOT CHECKED: ../shared/contracts/events does not lie next to the repository")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := event.ParseCloudEvent(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := ev.Check(); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		v, err := view.New(ev, "k")
		switch {
		case err != nil:
			t.Errorf("%s: %v", filepath.Base(file), err)
		case v.Alert != nil && (v.Alert.Title == "" || v.Alert.ID != ev.Subject && !strings.Contains(file, "securityalert")):
			t.Errorf("%s: %+v", filepath.Base(file), v.Alert)
		case v.Incident != nil && (v.Incident.Title == "" || v.Incident.URL == ""):
			t.Errorf("%s: %+v", filepath.Base(file), v.Incident)
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte(`{"observables":[{"name":"evidences[0].a","type_id":1,"value":"a.b"}],"evidences":[{"verdict_id":2}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, typ := range []string{event.TypeAlert, event.TypeIncident, event.TypeRow} {
			v, err := view.New(event.Event{Type: typ, Data: data}, "")
			if (err == nil) != (v != nil) {
				t.Fatal("neither a view nor an error")
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	d := detection()
	for len(d.Evidences) < 12 {
		d.Evidences = append(d.Evidences, ocsf.Evidence{
			VerdictID: new(0), File: &ocsf.File{Name: "a", Path: strings.Repeat(`C:\x`, 20), Hashes: []ocsf.Fingerprint{{Value: strings.Repeat("a", 64)}}},
			Data: json.RawMessage(`{"roles":["a","b"],"verdict":"unknown","createdDateTime":"2026-10-27T12:19:27.7211305Z","remediationStatus":"none","x":{"y":[1,2,3]}}`),
		})
	}
	d.FindingInfo.Desc = strings.Repeat("text ", 400)
	ev := eventOf(b, event.TypeAlert, d)
	b.SetBytes(int64(len(ev.Data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := view.New(ev, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCase(t *testing.T) {
	t.Parallel()
	e := eventOf(t, event.TypeCase, map[string]any{
		"severity_id": 4, "status_id": 5, "status_code": "Won't do", "verdict_id": 10, "message": "Title", "comment": "done",
		"assignee":          map[string]any{"email_addr": "ana@contoso.example"},
		"tickets":           []any{map[string]any{"uid": "SOC-24", "src_url": "https://jira.example/browse/SOC-24"}},
		"finding_info_list": []any{map[string]any{"uid": "da1_2", "created_time": 1000, "modified_time": 2000}},
		"metadata":          map[string]any{"labels": []any{"casewire"}},
		"unmapped":          map[string]any{"casewire": map[string]any{"origin": "alert:da1:2", "key": "msalert:t:1"}},
	})
	e.Subject, e.PartitionKey = "10042", "case:jira:jira.example:10042"
	v, err := view.New(e, "k")
	if err != nil {
		t.Fatal(err)
	}
	want := &view.Case{
		ID: "10042", Number: "SOC-24", System: "jira", Title: "Title", URL: "https://jira.example/browse/SOC-24", Status: "Closed", StatusID: 5,
		StatusText: "Won't do", Closed: true, Severity: "High", SeverityID: 4, Verdict: "Duplicate", VerdictID: 10, Comment: "done",
		AssignedTo: "ana@contoso.example", OriginKind: "alert", OriginID: "da1:2", Key: "msalert:t:1", Labels: []string{"casewire"},
		Created: time.UnixMilli(1000).UTC(), Updated: time.UnixMilli(2000).UTC(),
	}
	if diff := cmp.Diff(want, v.Case); diff != "" || v.Alert != nil || v.Incident != nil || v.Row != nil {
		t.Errorf("case (-want +got):\n%s", diff)
	}
}
