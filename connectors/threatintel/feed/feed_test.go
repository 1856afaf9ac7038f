package feed_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/threatintel/feed"
)

// read returns what a document has, one line for each record.
func read(t *testing.T, text, format string) (lines []string, r *feed.Reader, err error) {
	t.Helper()
	r, err = feed.New(strings.NewReader(text), format)
	if err != nil {
		return nil, nil, err
	}
	for d, err := range r.Drafts() {
		if err != nil {
			return lines, r, err
		}
		lines = append(lines, line(d))
	}
	return lines, r, nil
}

func line(d feed.Draft) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", d.At, d.Value)
	for _, x := range []struct{ name, value string }{
		{"type", d.Type},
		{"pattern", d.Pattern},
		{"name", d.Name},
		{"desc", d.Description},
		{"tlp", d.TLP},
		{"from", d.ValidFrom},
		{"until", d.ValidUntil},
		{"labels", strings.Join(d.Labels, ",")},
		{"threats", strings.Join(d.ThreatTypes, ",")},
		{"action", d.Action},
		{"severity", d.Severity},
		{"problem", d.Problem},
	} {
		if x.value != "" {
			fmt.Fprintf(&b, " %s=%s", x.name, x.value)
		}
	}
	if d.Confidence != nil {
		fmt.Fprintf(&b, " confidence=%d", *d.Confidence)
	}
	for _, p := range d.KillChain {
		fmt.Fprintf(&b, " phase=%s/%s", p.KillChain, p.Phase)
	}
	for _, r := range d.References {
		fmt.Fprintf(&b, " ref=%s:%s%s", r.Source, r.ExternalID, r.URL)
	}
	if d.Exact {
		b.WriteString(" exact")
	}
	if d.Revoked {
		b.WriteString(" revoked")
	}
	return b.String()
}

const (
	mispDoc = `{"Event":{"uuid":"5f1c9a1e-0000-4000-8000-000000000001","info":"Casino phish","date":"2026-11-01","Tag":[{"name":"tlp:green"},{"name":"phishing"}],
 "Attribute":[
  {"type":"ip-dst","category":"Network activity","value":"5.45.207.1","to_ids":true,"timestamp":"1793000000","Tag":[{"name":"tlp:amber+strict"}]},
  {"type":"domain|ip","value":"bad.net|5.45.207.2","to_ids":true,"timestamp":1793000000},
  {"type":"ip-src","value":"5.45.207.0/25","to_ids":true},
  {"type":"comment","value":"nothing","to_ids":false},
  {"type":"btc","value":"1BoatSLRHtKNngkdXEeobR76b53LETtpyT","to_ids":true},
  {"type":"filename|sha256","value":"evil.exe","to_ids":true},
  {"type":"md5","value":"44d88612fea8a8f36de82e1278abb02f","to_ids":true,"deleted":true}],
 "Object":[{"name":"file","Attribute":[{"type":"sha1","value":"3395856ce81f2b7382dee72602f798b642f14140","to_ids":true,"comment":"dropper","first_seen":"2026-10-01T00:00:00Z"}]}]}}`
	stixDoc = `{"type":"bundle","id":"bundle--1","objects":[
 {"type":"identity","id":"identity--1","name":"x"},
 {"type":"indicator","spec_version":"2.1","id":"indicator--0d1f9a10-0000-4000-8000-000000000001","created":"2026-09-02T06:30:00Z","modified":"2026-09-02T06:30:00Z",
  "name":"C2","description":"seen","pattern":"[ipv4-addr:value = '5.45.207.1']","pattern_type":"stix","valid_from":"2026-09-02T06:30:00Z","valid_until":"2027-09-02T06:30:00Z",
  "labels":["apt"],"indicator_types":["malicious-activity"],"confidence":80,
  "object_marking_refs":["marking-definition--f88d31f6-486f-44da-b317-01333bde0b82","marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9"],
  "kill_chain_phases":[{"kill_chain_name":"mitre-attack","phase_name":"command-and-control"}]},
 {"type":"indicator","id":"indicator--2","pattern":"alert tcp any","pattern_type":"snort"},
 {"type":"indicator","id":"indicator--3","pattern":"[url:value = 'http://x.net/'] OR [url:value = 'http://y.net/']","pattern_type":"stix","revoked":true},
 {"type":"indicator","id":"indicator--4","confidence":"high"},
 {"type":"indicator","id":"indicator--5"}]}`
)

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text, format string
		want               []string
		is                 string
	}{
		{"list", "# feed\n\n 5.45.207.1 \nhxxp://bad[.]net/#x\nbad.net # comment\n", "auto", []string{"line 3: 5.45.207.1", "line 4: hxxp://bad[.]net/#x", "line 5: bad.net"}, feed.List},
		{"list without an end", "bad.net", "list", []string{"line 1: bad.net"}, feed.List},
		{
			"csv with a mark", "\ufeffIndicator;Indicator Type;Confidence;TLP;Tags;Valid Until;Title\r\n5.45.207.1;IpAddress;high;amber;a|b;2027-01-01;\"C2; main\"\r\n;domain;;;;;\r\n", "auto",
			[]string{"line 2: 5.45.207.1 type=IpAddress name=C2; main tlp=amber until=2027-01-01 labels=a,b confidence=85", "line 3:  type=domain problem=has no value"},
			feed.CSV,
		},
		{
			"csv of columns", "ip,sha256,comment\n5.45.207.1,aa,two in one\n,bb,\n", "auto",
			[]string{"line 2: 5.45.207.1 type=ip desc=two in one", "line 2: aa type=sha256 desc=two in one", "line 3: bb type=sha256"},
			feed.CSV,
		},
		{"csv with quotes over lines", "value,description\nbad.net,\"one\ntwo\"\nworse.net,\"a \"\"b\"\"\"\n", "auto", []string{"line 2: bad.net desc=one\ntwo", "line 4: worse.net desc=a \"b\""}, feed.CSV},
		{
			"csv with too much", "value,confidence\nbad.net,1,2\nx.net,lots\n", "csv",
			[]string{"line 2: bad.net problem=has 3 cells, and the header 2", `line 3: x.net problem=column "confidence": confidence "lots" is not a number from 0 to 100, nor low, medium or high`},
			feed.CSV,
		},
		{"csv of tabs", "domain\tmitre\tkill chain\nbad.net\tx\tCommand and Control\n", "auto", []string{"line 2: bad.net type=domain phase=mitre-attack/command-and-control"}, feed.CSV},
		{
			"json", `{"count":2,"indicators":["bad.net",{"value":"5.45.207.1","type":"IpAddress","confidence":70,"tags":["a","b"],"tlp":"RED"},{"sha256":"aa","expires":"2027-01-01"},7,null,{"a":1}]}`, "auto",
			[]string{
				"item 1: bad.net", "item 2: 5.45.207.1 type=IpAddress tlp=RED labels=a,b confidence=70", "item 3: aa type=sha256 until=2027-01-01",
				"item 4:  problem=is neither text nor an object: 7", "item 5:  problem=is null where an indicator was expected",
				"item 6:  problem=has no value: name it value, indicator, ip, domain, url, sha256 or the like",
			},
			feed.JSON,
		},
		{"json on lines", "{\"url\":\"http://x.net/\"}\n{\"ip\":\"5.45.207.1\",\"score\":\"12\"}\n", "auto", []string{"item 1: http://x.net/ type=url", "item 2: 5.45.207.1 type=ip confidence=12"}, feed.JSON},
		{
			"observables", `[{"type":"IP Address","value":"5.45.207.1","data_type":"ip","tag":"","ioc":true},{"type":"Subnet","value":"5.45.0.0/16","data_type":"other","tag":"cidr"}]`, "json",
			[]string{"item 1: 5.45.207.1 type=ip exact", "item 2: 5.45.0.0/16 type=Subnet exact"},
			feed.JSON,
		},
		{"stix", stixDoc, "auto", []string{
			"object 2:  pattern=[ipv4-addr:value = '5.45.207.1'] name=C2 desc=seen tlp=AMBER from=2026-09-02T06:30:00Z until=2027-09-02T06:30:00Z labels=apt threats=malicious-activity confidence=80 phase=mitre-attack/command-and-control ref=stix:indicator--0d1f9a10-0000-4000-8000-000000000001 exact",
			"object 3:  pattern=alert tcp any problem=its pattern is written in snort, which Sentinel does not take from us: only STIX patterns ref=stix:indicator--2 exact",
			"object 4:  pattern=[url:value = 'http://x.net/'] OR [url:value = 'http://y.net/'] ref=stix:indicator--3 exact revoked",
			"object 5:  problem=has another shape than STIX: json: cannot unmarshal string into Go struct field stixObject.confidence of type int",
			"object 6:  problem=has no pattern ref=stix:indicator--5 exact",
		}, feed.STIX},
		{"misp", mispDoc, "auto", []string{
			"attribute 1: 5.45.207.1 type=ip name=Casino phish desc=Network activity tlp=AMBER STRICT from=2026-10-26T07:33:20Z labels=phishing ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
			"attribute 2: bad.net type=domain name=Casino phish tlp=GREEN from=2026-10-26T07:33:20Z labels=phishing ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
			"attribute 2: 5.45.207.2 type=ip name=Casino phish tlp=GREEN from=2026-10-26T07:33:20Z labels=phishing ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
			"attribute 3: 5.45.207.0/25 type=cidr name=Casino phish tlp=GREEN from=2026-11-01 labels=phishing ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
			"attribute 5: 1BoatSLRHtKNngkdXEeobR76b53LETtpyT name=Casino phish tlp=GREEN from=2026-11-01 labels=phishing problem=there is no indicator for MISP's type btc ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
			"attribute 6:  type=sha256 name=Casino phish tlp=GREEN from=2026-11-01 labels=phishing problem=filename|sha256 has no second part: evil.exe ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
			"attribute 8: 3395856ce81f2b7382dee72602f798b642f14140 type=sha1 name=Casino phish desc=dropper tlp=GREEN from=2026-10-01T00:00:00Z labels=phishing ref=misp:5f1c9a1e-0000-4000-8000-000000000001 exact",
		}, feed.MISP},
		{"misp search", `{"response":[` + `{"Event":{"info":"a","Attribute":[{"type":"url","value":"http://x.net/a"}]}}` + `]}`, "auto", []string{"attribute 1: http://x.net/a type=url name=a exact"}, feed.MISP},
		{"misp attributes", `{"response":{"Attribute":[{"type":"md5","value":"aa","to_ids":true}]}}`, "auto", []string{"attribute 1: aa type=md5 exact"}, feed.MISP},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, r, err := read(t, c.text, c.format)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if r.Format() != c.is {
				t.Errorf("read as %s", r.Format())
			}
		})
	}
}

func TestSkipped(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]int{
		stixDoc: {"identity": 1},
		mispDoc: {"deleted attribute": 1, "attribute that is not for detection (to_ids)": 1},
	} {
		_, r, err := read(t, text, feed.Auto)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, r.Skipped); diff != "" {
			t.Error(diff)
		}
	}
}

// A document that cannot be read says where and why.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, format, want string }{
		{"", "auto", "nothing in it"},
		{" \n\n", "auto", "nothing in it"},
		{"\xff\xfeb\x00", "auto", "UTF-16"},
		{"PK\x03\x04\x00\x00", "auto", "no text"},
		{"a,b\n1,2\n", "csv", "no column for the values"},
		{"value,d\nbad.net,\"never ends\n", "csv", "line 2 cannot be read"},
		{`{"indicators":["a",`, "json", "ends too early"},
		{`[1 2]`, "json", "not JSON, at byte"},
		{`{"type":"bundle","objects":{}}`, "stix", "objects is not a list"},
		{`{"type":"bundle","objects":[{"type":"indicator"`, "stix", "ends too early"},
		{`7`, "stix", "no STIX"},
		{`{"a":1}`, "misp", "no MISP event"},
		{`{"Event":{"Attribute":7}}`, "misp", "no MISP event"},
		{`{"Event":`, "misp", "not JSON"},
		{strings.Repeat("x", 1<<17), "list", "more than"},
		{"a", "yaml", "unknown format"},
	} {
		_, _, err := read(t, c.text, c.format)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q as %s: %v, want %q", c.text, c.format, err, c.want)
		}
	}
	r, err := feed.New(iotest.TimeoutReader(strings.NewReader(strings.Repeat("bad.net\n", 1<<15))), feed.List)
	if err != nil {
		return
	}
	for _, err = range r.Drafts() {
		if err != nil {
			return
		}
	}
	t.Error("a reader that fails is taken for the end of the document")
}

// Whoever has had enough may stop.
func TestStop(t *testing.T) {
	t.Parallel()
	for format, text := range map[string]string{feed.List: "a.net\nb.net\n", feed.CSV: "ip,domain\n1.1.1.1,a.net\n", feed.JSON: `["a.net","b.net"]`, feed.STIX: stixDoc, feed.MISP: mispDoc} {
		r, err := feed.New(strings.NewReader(text), format)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range r.Drafts() {
			if err != nil {
				t.Errorf("%s: %v", format, err)
			}
			n++
			break
		}
		if n != 1 {
			t.Errorf("%s: %d records", format, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{stixDoc, mispDoc, "value,type\nbad.net,domain\n", "bad.net\n", `{"indicators":[{"value":1}]}`, "\ufeff[", `{"response":{}}`} {
		f.Add(text, "auto")
	}
	f.Add("a\"b;\n", "csv")
	f.Add(`{"objects":[{"value":[[]]}]}`, "json")
	f.Fuzz(func(t *testing.T, text, format string) {
		r, err := feed.New(strings.NewReader(text), format)
		if err != nil {
			return
		}
		n := 0
		for d, err := range r.Drafts() {
			if err != nil {
				break
			}
			if d.At == "" {
				t.Fatalf("a record without a place: %+v", d)
			}
			if d.Value == "" && d.Pattern == "" && d.Problem == "" && r.Format() != feed.MISP {
				t.Fatalf("a record with nothing in it: %+v", d)
			}
			if n++; n > len(text)+1 {
				t.Fatalf("%d records in %d bytes", n, len(text))
			}
		}
	})
}
