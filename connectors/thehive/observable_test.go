package thehive

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/plugin"
)

func TestObservablesAreMadeReady(t *testing.T) {
	t.Parallel()
	rules, err := ownRules([]string{"contoso.example"}, []string{"45.83.64.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	c, s := &Client{own: rules}, &server{types: defaultTypes}
	md5 := "9e107d9d372bb6826bd81d3542a419d6"
	type brief struct {
		Type, Data   string
		IOC, Sighted bool
		Ignore       bool
		Tags         []string
	}
	for name, tt := range map[string]struct {
		in   Observable
		want brief
	}{
		"of an alert":            {Observable{Type: "IP Address", Value: "8.8.4.4", PlainType: "ip", IOC: true}, brief{"ip", "8.8.4.4", true, true, false, nil}},
		"of an alert, other":     {Observable{Type: "User Name", Value: "ana", PlainType: "other", SpecificTag: "user"}, brief{"other", "ana", false, true, false, []string{"user"}}},
		"by caption":             {Observable{Type: "Email Address", Value: "Ana@Contoso.example"}, brief{"mail", "ana@contoso.example", false, false, false, nil}},
		"by type":                {Observable{Type: "domain", Value: "BAD.example."}, brief{"domain", "bad.example", false, false, false, nil}},
		"unknown type":           {Observable{DataType: "Cloud ARN", Data: "arn:x", Tags: []string{"a"}}, brief{"other", "arn:x", false, false, false, []string{"type:cloud arn", "a"}}},
		"no type":                {Observable{Data: "x"}, brief{"other", "x", false, false, false, nil}},
		"a file takes a file":    {Observable{DataType: "file", Data: "x.exe"}, brief{"other", "x.exe", false, false, false, []string{"type:file"}}},
		"private address":        {Observable{DataType: "ip", Data: "10.1.2.3", IOC: true, Sighted: true}, brief{"ip", "10.1.2.3", false, true, true, nil}},
		"address for documents":  {Observable{DataType: "ip", Data: "203.0.113.5", IOC: true}, brief{"ip", "203.0.113.5", false, false, false, nil}},
		"our address":            {Observable{DataType: "ip", Data: "45.83.64.7", IOC: true}, brief{"ip", "45.83.64.7", false, false, false, nil}},
		"our name":               {Observable{DataType: "fqdn", Data: "www.contoso.example", IOC: true}, brief{"fqdn", "www.contoso.example", false, false, false, nil}},
		"our mailbox":            {Observable{DataType: "mail", Data: "a@contoso.example", IOC: true}, brief{"mail", "a@contoso.example", false, false, false, nil}},
		"their name":             {Observable{DataType: "domain", Data: "evilcontoso.example", IOC: true}, brief{"domain", "evilcontoso.example", true, false, false, nil}},
		"hash of nothing":        {Observable{DataType: "hash", Data: "D41D8CD98F00B204E9800998ECF8427E", IOC: true}, brief{"hash", "d41d8cd98f00b204e9800998ecf8427e", false, false, false, nil}},
		"a name called a hash":   {Observable{DataType: "hash", Data: "powershell.exe", IOC: true}, brief{"filename", "powershell.exe", true, false, false, nil}},
		"a hash called a name":   {Observable{DataType: "filename", Data: strings.ToUpper(md5), IOC: true}, brief{"hash", md5, true, false, false, nil}},
		"neither hash nor name":  {Observable{DataType: "hash", Data: "deadbeef"}, brief{"other", "deadbeef", false, false, false, []string{"type:malformed-hash"}}},
		"a registry key":         {Observable{DataType: "registry", Data: `hklm\Software\X`}, brief{"registry", `HKEY_LOCAL_MACHINE\Software\X`, false, false, false, nil}},
		"similarity on our word": {Observable{DataType: "ip", Data: "8.8.8.8", IgnoreSimilarity: true}, brief{"ip", "8.8.8.8", false, false, true, nil}},
	} {
		out, rejected, err := c.prepare(s, []Observable{tt.in}, levelAmber, levelAmber)
		if err != nil || len(out) != 1 || len(rejected) != 0 {
			t.Errorf("%s: %v, %v, %v", name, out, rejected, err)
			continue
		}
		o := out[0]
		if diff := cmp.Diff(tt.want, brief{o.DataType, o.Data.(string), o.IOC, o.Sighted, o.IgnoreSimilarity, o.Tags}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// Of two that are one, the stricter marking and both flags count.
	out, rejected, err := c.prepare(s, []Observable{
		{DataType: "ip", Data: "8.8.8.8", TLP: "red", Tags: []string{"a"}}, {DataType: "IP", Data: " 8.8.8.8", PAP: "red", IOC: true, Tags: []string{"b"}}, {DataType: "ip", Data: " "},
	}, levelGreen, levelGreen)
	if err != nil || len(out) != 1 || out[0].TLP != 4 || out[0].PAP != 3 || !out[0].IOC || !cmp.Equal(out[0].Tags, []string{"a", "b"}) || len(rejected) != 1 {
		t.Errorf("%+v, %v, %v", out, rejected, err)
	}
}

func TestObservablesWithMistakes(t *testing.T) {
	t.Parallel()
	_, h := fakeHive(t, hivefake.Options{})
	for field, bad := range map[string]map[string]any{
		"/observables/1/tlp": {"dataType": "ip", "data": "8.8.8.8", "tlp": "purple"}, "/observables/1/pap": {"dataType": "ip", "data": "8.8.8.8", "pap": "amber+strict"},
	} {
		_, err := do[Ensured](t, h, plainCase("case.ensure", with("observables", []map[string]any{{"dataType": "ip", "data": "8.8.8.8"}, bad})))
		if e := asError(t, err); e.Class() != plugin.ClassInvalid || e.Violations[0].Field != field {
			t.Errorf("%s: %v", field, e)
		}
	}
	got := must[Ensured](t, h, plainCase("case.ensure", with("observables", []map[string]any{{"dataType": "ip"}, {"dataType": "ip", "data": "8.8.8.8"}})))
	if !got.Created || len(got.Rejected) != 1 || got.Rejected[0].Reason != "it has no value" {
		t.Errorf("%+v", got)
	}
}
