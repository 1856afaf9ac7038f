package threatintel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/azurefake"
)

func TestSubmit(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	h := v.open(func(c *Config) { c.Own = []string{"185.10.0.0/16", "corp.example.com"} })
	in := map[string]any{
		"values": []any{
			"5.45.207.1", "hxxps://bad[.]casino-evil[.]net/Drop?a=1", "5.45.207[.]1", "10.0.0.1", "185.10.3.4", "mail.corp.example.com", "com", "*.evil.net",
			map[string]any{"type": "Hash", "data_type": "hash", "value": "44D88612FEA8A8F36DE82E1278ABB02F", "ioc": true},
			"example.com", "not a value at all", "d41d8cd98f00b204e9800998ecf8427e",
		},
		"tlp": "AMBER+STRICT", "labels": []string{"case-1204"}, "confidence": 90,
	}
	out := submit(t, h, in)
	got := []string{}
	for _, r := range out.Results {
		got = append(got, strings.TrimSpace(r.Status+" "+r.Type+" "+r.Value+" "+r.Reason))
	}
	want := []string{
		"accepted ip 5.45.207.1",
		"accepted url https://bad.casino-evil.net/Drop?a=1",
		"duplicate ip 5.45.207.1 the same value as values[0]",
		"rejected ip 10.0.0.1 is a private, local, documentation or reserved address",
		"rejected ip 185.10.3.4 is an address of your own (own in the connection's configuration)",
		"rejected domain mail.corp.example.com is a name of your own (own in the connection's configuration)",
		"rejected domain com is a single label: a top-level domain, or a name of your own network",
		"rejected  *.evil.net has a wildcard: an indicator is one exact value",
		"accepted md5 44d88612fea8a8f36de82e1278abb02f",
		"rejected domain example.com would match corp.example.com, which is your own",
		"rejected domain not a value at all is no domain name",
		"rejected md5 d41d8cd98f00b204e9800998ecf8427e is the hash of an empty file, or a placeholder",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if out.Accepted != 3 || out.Rejected != 8 || out.Duplicates != 1 || out.Requests != 1 {
		t.Errorf("counts %+v", out)
	}
	o := v.STIX(v.Workspace(), out.Results[0].ID)
	if o["pattern"] != "[ipv4-addr:value = '5.45.207.1']" || o["confidence"] != 90.0 {
		t.Errorf("object %v", o)
	}
	if m := o["object_marking_refs"].([]any); m[0] != "marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003" {
		t.Errorf("marking %v", m)
	}

	// Again: nothing is sent. Changed: one version more, later than the last.
	again := submit(t, h, in)
	if again.Accepted != 0 || again.Unchanged != 3 || again.Requests != 0 {
		t.Errorf("again: %+v", again)
	}
	in["description"] = "now with a reason"
	changed := submit(t, h, in)
	led := v.TI()
	if changed.Accepted != 3 || led.Created != 3 || led.Updated != 3 || led.Objects != 3 || led.Uploads != 2 {
		t.Errorf("changed: %+v, ledger %+v", changed, led)
	}
	if changed.Results[0].ID != out.Results[0].ID || changed.Results[0].Created != out.Results[0].Created || changed.Results[0].Modified <= out.Results[0].Modified {
		t.Errorf("versions %+v, then %+v", out.Results[0], changed.Results[0])
	}
}
