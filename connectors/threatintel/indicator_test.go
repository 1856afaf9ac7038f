package threatintel

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/sdk/ioc"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// bench is a client that reaches nobody.
func bench(t testing.TB, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Target: targetSentinel, WorkspaceID: "9d2f7d8a-0c1e-4c7d-9a57-1f4a4b2f3c11", SourceSystem: "Casewire", TLP: "AMBER", Confidence: 50, Action: "audit"}
	cfg.Own = []string{"185.10.0.0/16", "2a01:4f8:1::/48", "5.45.207.99", "corp.example.com"}
	for _, f := range change {
		f(&cfg)
	}
	c := &Client{cfg: cfg, target: cfg.Target, tenant: "6d1f2f0a-7c1e-4d0b-9a55-2b1f0c3d4e5f", known: map[string]version{}, keys: map[string]SubmitOutput{}, now: func() time.Time { return noon }}
	if err := c.check0(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMake(t *testing.T) {
	t.Parallel()
	n := func(i int) *int { return &i }
	for _, c := range []struct {
		draft feed.Draft
		want  string // type and value, or the reason
	}{
		{feed.Draft{Value: "5[.]45[.]207[.]1"}, "ip 5.45.207.1"},
		{feed.Draft{Value: "2A01:04F9::1"}, "ip 2a01:4f9::1"},
		{feed.Draft{Value: "::ffff:5.45.207.1"}, "ip 5.45.207.1"},
		{feed.Draft{Value: "5.45.207.77/24"}, "! range of your own"},
		{feed.Draft{Value: "5.45.208.77/24"}, "cidr 5.45.208.0/24"},
		{feed.Draft{Value: "5.45.207.1/32"}, "ip 5.45.207.1"},
		{feed.Draft{Value: "5.45.207.1/32", Type: "IpAddress"}, "ip 5.45.207.1"},
		{feed.Draft{Value: "HXXPS://Bad[.]Evil[.]net:443/A/../b?q=1#f"}, "url https://bad.evil.net/b?q=1"},
		{feed.Draft{Value: "Bücher-evil.net.", Type: "FQDN"}, "domain xn--bcher-evil-9db.net"},
		{feed.Draft{Value: "Phisher [at] evil [dot] net"}, "email phisher@evil.net"},
		{feed.Draft{Value: "SHA256:" + strings.Repeat("AB", 32)}, "sha256 " + strings.Repeat("ab", 32)},
		{feed.Draft{Value: strings.Repeat("ab", 32), Type: "hash"}, "sha256 " + strings.Repeat("ab", 32)},
		{feed.Draft{Value: strings.Repeat("ab", 16), Type: "FileMd5"}, "md5 " + strings.Repeat("ab", 16)},
		{feed.Draft{Pattern: "[ipv4-addr:value = '5.45.207.1']", Exact: true}, "ip 5.45.207.1"},
		{feed.Draft{Pattern: "[ ipv4-addr:value ISSUBSET '5.45.208.0/24' ]"}, "cidr 5.45.208.0/24"},
		{feed.Draft{Pattern: `[file:hashes."SHA-256" = '` + strings.Repeat("cd", 32) + `']`}, "sha256 " + strings.Repeat("cd", 32)},
		{feed.Draft{Pattern: `[url:value = 'http://x.evil.net/it\'s']`}, "url http://x.evil.net/it's"},
		{feed.Draft{Pattern: "[url:value = 'http://x.evil.net/' AND domain-name:value = 'evil.net']"}, "pattern [url:value = 'http://x.evil.net/' AND domain-name:value = 'evil.net']"},
		{feed.Draft{Value: "[domain-name:value = 'evil.net']"}, "domain evil.net"},
		{feed.Draft{Value: "5[.]45[.]207[.]1:443"}, "ip 5.45.207.1"},
		{feed.Draft{Value: "5.45.207.1:443", Type: "ip:port"}, "ip 5.45.207.1"},
		{feed.Draft{Value: "[2a01:4f9::1]:8080"}, "ip 2a01:4f9::1"},
		{feed.Draft{Value: "[2a01:4f9::1]"}, "ip 2a01:4f9::1"},
		{feed.Draft{Value: "2a01:4f9::1:80"}, "ip 2a01:4f9::1:80"},
		{feed.Draft{Value: "c2[.]evil[.]net:8443"}, "domain c2.evil.net"},
		{feed.Draft{Value: "evil.net:99999"}, "! is no domain name"},
		{feed.Draft{Value: "evil.net:"}, "! is no domain name"},
		{feed.Draft{Value: "[2001:db8::1]"}, "! documentation"},
		{feed.Draft{Value: "[fe80::1%eth0]:80"}, "! private"},
		{feed.Draft{Value: "10.1.2.3:80"}, "! private"},
		{feed.Draft{Value: "[nonsense: at all]"}, "! is no domain name"},
		{feed.Draft{Pattern: "[a:b]"}, "! is no STIX pattern"},
		{feed.Draft{Pattern: "[ipv4-addr:value IN ('5.45.207.1', '10.1.2.3')]"}, `! compares "10.1.2.3", which is a private`},
		{feed.Draft{Pattern: "[ipv4-addr:value IN ('5.45.207.1', '5.45.207.2')]"}, "pattern [ipv4-addr:value IN ('5.45.207.1', '5.45.207.2')]"},
		{feed.Draft{Pattern: "([file:name = 'a.exe'] FOLLOWEDBY [file:size > 5]) WITHIN 300 SECONDS"}, "pattern ([file:name = 'a.exe'] FOLLOWEDBY [file:size > 5]) WITHIN 300 SECONDS"},
		{feed.Draft{Pattern: "[ (file:name LIKE 'a%' AND NOT file:size = 5) ]"}, "pattern [ (file:name LIKE 'a%' AND NOT file:size = 5) ]"},
		{feed.Draft{Pattern: "[EXISTS windows-registry-key:values]"}, "pattern [EXISTS windows-registry-key:values]"},
		{feed.Draft{Pattern: "[process:extensions.'windows-service-ext'.service_name NOT IN ('a')]"}, "pattern [process:extensions.'windows-service-ext'.service_name NOT IN ('a')]"},

		{feed.Draft{Value: "10.0.0.1"}, "! private"},
		{feed.Draft{Value: "203.0.113.7"}, "! documentation"},
		{feed.Draft{Value: "fe80::1%eth0"}, "! private"},
		{feed.Draft{Value: "0.0.0.0/0"}, "! is, or contains, a private"},
		{feed.Draft{Value: "185.0.0.0/8"}, "! range of your own"},
		{feed.Draft{Value: "185.10.1.2"}, "! address of your own"},
		{feed.Draft{Value: "5.45.207.99"}, "! address of your own"},
		{feed.Draft{Value: "2a01:4f8:1::5"}, "! address of your own"},
		{feed.Draft{Value: "https://wiki.corp.example.com/x"}, "! name of your own"},
		{feed.Draft{Value: "boss@corp.example.com"}, "! name of your own"},
		{feed.Draft{Value: "example.com"}, "! would match corp.example.com"},
		{feed.Draft{Value: "http://192.168.1.1/x"}, "! private"},
		{feed.Draft{Value: "http://intranet/x"}, "! name of your own network"},
		{feed.Draft{Value: "hxxp://1[.]2"}, "! is no URL"},
		{feed.Draft{Value: "com"}, "! single label"},
		{feed.Draft{Value: "co.uk"}, "! public suffix"},
		{feed.Draft{Value: "github.io"}, "! public suffix"},
		{feed.Draft{Value: "*.evil.net"}, "! wildcard"},
		{feed.Draft{Value: "010.0.0.1"}, "! is no domain name"},
		{feed.Draft{Value: "aabb", Type: "sha256"}, "! is no SHA-256"},
		{feed.Draft{Value: strings.Repeat("0", 64)}, "! placeholder"},
		{feed.Draft{Value: "aabb", Type: "hash"}, "! is no MD5, SHA-1"},
		{feed.Draft{Value: "x", Type: "mutex"}, `! there is no indicator of the type "mutex"`},
		{feed.Draft{}, "! has no value"},
		{feed.Draft{Problem: "is broken"}, "! is broken"},
		{feed.Draft{Value: "evil.net", Problem: "is broken"}, "! is broken"},
		{feed.Draft{Value: "evil.net", Revoked: true}, "! was revoked by its source"},
		{feed.Draft{Value: "evil.net", ValidUntil: "2026-11-23T11:59:59Z"}, "! expired on 2026-11-23T11:59:59Z"},
		{feed.Draft{Value: "evil.net", ValidFrom: "2027-01-02", ValidUntil: "2027-01-01"}, "! before it begins"},
		{feed.Draft{Value: "evil.net", ValidUntil: "soon"}, `! valid_until: "soon" is no time`},
		{feed.Draft{Value: "evil.net", TLP: "PURPLE"}, "! unknown TLP"},
		{feed.Draft{Value: "evil.net", Confidence: n(101)}, "! not 0 to 100"},
		{feed.Draft{Value: "evil.net", Action: "explode"}, `! the action "explode"`},
		{feed.Draft{Value: "evil.net", Severity: "awful"}, `! the severity "awful"`},
		{feed.Draft{Value: "http://evil.net/" + strings.Repeat("a", 3000)}, "! more than 2048"},
		{feed.Draft{Pattern: "[ipv4-addr:value = '10.1.2.3'] OR [domain-name:value = 'evil.net']"}, `! compares "10.1.2.3", which is a private`},
		{feed.Draft{Pattern: "[domain-name:value = 'corp.example.com' AND url:value = 'http://evil.net/']"}, "! name of your own"},
		{feed.Draft{Pattern: "[domain-name:value = 'evil.net'"}, "! is no STIX pattern"},
		{feed.Draft{Pattern: "domain-name"}, "! is no STIX pattern"},
		{feed.Draft{Value: strings.Repeat("ab", 20), Type: "CertificateThumbprint"}, "! only Defender"},
	} {
		w, err := bench(t).newWorkshop(Defaults{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		i, why := w.make(&c.draft)
		got := i.kind + " " + i.value
		if why != "" {
			got = "! " + why
		}
		if want, refused := strings.CutPrefix(c.want, "! "); refused && (why == "" || !strings.Contains(why, want)) || !refused && got != c.want {
			t.Errorf("%+v: %s, want %s", c.draft, got, c.want)
		}
	}
}

// A pattern that we write is read back as what it was.
func TestPatternRoundTrip(t *testing.T) {
	t.Parallel()
	for kind, value := range map[string]string{
		typeIP: "5.45.207.1", typeCIDR: "2a01:4f9::/32", typeDomain: "evil.net", typeURL: `http://evil.net/'a\b'`, typeEmail: "o'neil@evil.net",
		typeMD5: strings.Repeat("ab", 16), typeSHA1: strings.Repeat("ab", 20), typeSHA256: strings.Repeat("ab", 32), typeSHA512: strings.Repeat("ab", 64),
	} {
		k, v, ok := parsePattern(pattern(kind, value))
		if !ok || k != kind || v != value {
			t.Errorf("%s: %s %s %v", pattern(kind, value), k, v, ok)
		}
		if !balanced(pattern(kind, value)) {
			t.Errorf("%s is not balanced", pattern(kind, value))
		}
	}
}

func TestTimesOfIndicators(t *testing.T) {
	t.Parallel()
	c := bench(t, func(c *Config) { c.TTLDays = map[string]int{"hash": 10, "sha1": 20, "domain": 7} })
	for _, x := range []struct {
		defaults Defaults
		draft    feed.Draft
		want     string
	}{
		{Defaults{}, feed.Draft{Value: "5.45.207.1"}, "2026-12-23"},
		{Defaults{}, feed.Draft{Value: "evil.net"}, "2026-11-30"},
		{Defaults{}, feed.Draft{Value: "http://evil.net/"}, "2027-01-22"},
		{Defaults{}, feed.Draft{Value: strings.Repeat("ab", 32)}, "2026-12-03"},
		{Defaults{}, feed.Draft{Value: strings.Repeat("ab", 20)}, "2026-12-13"},
		{Defaults{ExpiresIn: "48h"}, feed.Draft{Value: "evil.net"}, "2026-11-25"},
		{Defaults{ExpiresIn: "2d"}, feed.Draft{Value: "evil.net", ValidUntil: "2026-12-31"}, "2026-12-31"},
		{Defaults{ValidUntil: "2027-03-01 08:00:00"}, feed.Draft{Value: "evil.net"}, "2027-03-01"},
	} {
		w, err := c.newWorkshop(x.defaults, noon)
		if err != nil {
			t.Fatal(err)
		}
		i, why := w.make(&x.draft)
		if why != "" || i.until.Format(time.DateOnly) != x.want {
			t.Errorf("%+v: %v %s, want %s", x.draft, i.until, why, x.want)
		}
	}
	for field, d := range map[string]Defaults{
		"/expires_in": {ExpiresIn: "soon"}, "/valid_until": {ExpiresIn: "2d", ValidUntil: "2027-01-01"}, "/tlp": {TLP: "x"},
	} {
		_, err := c.newWorkshop(d, noon)
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

// The id depends on what it is to depend on, and on nothing else; it is a UUID of version 5.
func TestIDs(t *testing.T) {
	t.Parallel()
	base := stixID("T", "Casewire", typeIP, "5.45.207.1")
	if base != stixID("t", "Casewire", typeIP, "5.45.207.1") || base[25] != '5' || !strings.HasPrefix(base, "indicator--") {
		t.Errorf("id %s", base)
	}
	const golden = "indicator--183c8dbe-8974-5b8f-a0e3-c98c4818c86d" // since the first release
	if base != golden {
		t.Errorf("the id of a value changed to %s: every indicator in every workspace would be doubled", base)
	}
	for _, other := range []string{stixID("u", "Casewire", typeIP, "5.45.207.1"), stixID("t", "SOC", typeIP, "5.45.207.1"), stixID("t", "Casewire", typeDomain, "5.45.207.1"), stixID("t", "Casewire", typeIP, "5.45.207.2")} {
		if other == base {
			t.Error("two values have one id")
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	c := bench(t)
	n := func(i int) *int { return &i }
	out, all, err := c.prepare(&SubmitInput{Indicators: []feed.Draft{
		{Value: "evil.net", Confidence: n(20), Labels: []string{"a"}, TLP: "GREEN"},
		{Value: "EVIL[.]net", Confidence: n(90), Labels: []string{"b", "a"}, TLP: "RED", Description: "bad", ValidUntil: "2028-01-01"},
	}}, noon)
	if err != nil {
		t.Fatal(err)
	}
	i := all[0]
	if out.Duplicates != 1 || all[1] != nil || i.confidence != 90 || i.tlp != ioc.TLPRed || i.description != "bad" || i.until.Year() != 2028 {
		t.Errorf("%+v of %+v", i, out)
	}
	if diff := cmp.Diff([]string{"a", "b"}, i.labels); diff != "" {
		t.Error(diff)
	}
}

// The digest of a content tells a change from the passing of time.
func TestDigest(t *testing.T) {
	t.Parallel()
	c := bench(t)
	digest := func(d feed.Draft, now time.Time) string {
		w, err := c.newWorkshop(Defaults{}, now)
		if err != nil {
			t.Fatal(err)
		}
		i, why := w.make(&d)
		if why != "" {
			t.Fatal(why)
		}
		return i.digest
	}
	base := digest(feed.Draft{Value: "evil.net"}, noon)
	if base != digest(feed.Draft{Value: "EVIL[.]net", At: "line 9"}, noon.Add(time.Hour)) {
		t.Error("time, place and spelling change the digest")
	}
	for _, d := range []feed.Draft{
		{Value: "evil.net", Description: "x"}, {Value: "evil.net", TLP: "RED"}, {Value: "evil.net", ValidUntil: "2027-01-01"}, {Value: "evil.net", Labels: []string{"x"}}, {Value: "evil.net", Action: "block"},
	} {
		if digest(d, noon) == base {
			t.Errorf("%+v has the digest of what it changes", d)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		known version
		want  [2]time.Time
	}{
		{version{}, [2]time.Time{noon, noon}},
		{version{Created: noon.Add(-time.Hour), Modified: noon.Add(-time.Minute)}, [2]time.Time{noon.Add(-time.Hour), noon}},
		{version{Created: noon.Add(-time.Hour), Modified: noon}, [2]time.Time{noon.Add(-time.Hour), noon.Add(time.Millisecond)}},
		{version{Created: noon.Add(-time.Hour), Modified: noon.Add(time.Hour)}, [2]time.Time{noon.Add(-time.Hour), noon.Add(time.Hour + time.Millisecond)}},
	} {
		i := &indicator{}
		i.versions(c.known, noon)
		if i.created != c.want[0] || i.modified != c.want[1] {
			t.Errorf("%+v: %v, %v", c.known, i.created, i.modified)
		}
	}
}

func TestMaxTLP(t *testing.T) {
	t.Parallel()
	c := bench(t, func(c *Config) { c.MaxTLP = "GREEN" })
	w, err := c.newWorkshop(Defaults{TLP: "CLEAR"}, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, why := w.make(&feed.Draft{Value: "evil.net", TLP: "tlp:amber"}); !strings.Contains(why, "takes at most TLP:GREEN") {
		t.Errorf("AMBER: %q", why)
	}
	if _, why := w.make(&feed.Draft{Value: "evil.net"}); why != "" {
		t.Errorf("CLEAR: %q", why)
	}
}

// Whatever is written, it is refused or becomes a value that means itself when it is read again, and never one of ours.
func FuzzMake(f *testing.F) {
	for _, s := range []string{"5.45.207.1", "hxxp://1[.]2", "a@b.net", "[ipv4-addr:value = '1.2.3.4']", "*.x", "１.2.3.4", "xn--a", "http://[::1]/", "sha256:00", "5.45.207.1/33"} {
		f.Add(s, "")
	}
	f.Add("evil.net", "FQDN")
	c := bench(f)
	own := netip.MustParsePrefix("185.10.0.0/16")
	f.Fuzz(func(t *testing.T, value, kind string) {
		w, err := c.newWorkshop(Defaults{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		i, why := w.make(&feed.Draft{Value: value, Type: kind})
		if why != "" {
			return
		}
		again, ok := canonical(i.kind, i.value)
		if !ok || again != i.value {
			t.Fatalf("%q became %s %q, which becomes %q", value, i.kind, i.value, again)
		}
		if a, err := netip.ParseAddr(i.value); err == nil && (own.Contains(a) || ioc.Special(a)) {
			t.Fatalf("%q became %q, which is not to be submitted", value, i.value)
		}
		if p := pattern(i.kind, i.value); !balanced(p) || !strings.HasPrefix(p, "[") {
			t.Fatalf("%q is no pattern", p)
		}
	})
}
