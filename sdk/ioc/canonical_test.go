package ioc_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

const refused = "\x00"

func check(t *testing.T, name string, f func(string) (string, bool), cases map[string]string) {
	t.Helper()
	for in, want := range cases {
		got, ok := f(in)
		if want == refused {
			if ok {
				t.Errorf("%s(%q) = %q, want a refusal", name, in, got)
			}
			continue
		}
		if !ok || got != want {
			t.Errorf("%s(%q) = %q, %v; want %q", name, in, got, ok, want)
		}
		if again, ok := f(got); !ok || again != got {
			t.Errorf("%s is not idempotent: %q, %q, %v", name, got, again, ok)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	check(t, "Host", ioc.Host, map[string]string{
		"Evil.Example.COM.": "evil.example.com", "bücher.example": "xn--bcher-kva.example", "faß.example": "xn--fa-hia.example",
		"_dmarc.x.example": "_dmarc.x.example", "WKS-042": "wks-042", "xn--bcher-kva.example": "xn--bcher-kva.example",
		label + ".com": label + ".com", "a" + label + ".com": refused, "": refused, ".": refused, "a..b": refused,
		"1.2.3.4": refused, "12345": refused, "a.b.1": refused, "a b": refused, "a/b": refused, "例え。テスト": "xn--r8jz45g.xn--zckzah",
		strings.Repeat("abcdefghi.", 26) + "com": refused,
	})
	check(t, "IP", ioc.IP, map[string]string{
		"1.2.3.4": "1.2.3.4", "\t1.2.3.4\n": "1.2.3.4", "::FFFF:1.2.3.4": "1.2.3.4", "2001:DB8:0:0::1": "2001:db8::1", "fe80::1%eth0": "fe80::1",
		"010.0.0.1": refused, "1.2.3": refused, "x": refused, "1.2.3.4:80": refused,
	})
	check(t, "CIDR", ioc.CIDR, map[string]string{"10.1.2.3/8": "10.0.0.0/8", "2001:db8::1/32": "2001:db8::/32", "10.0.0.0": refused, "10.0.0.0/33": refused})
	check(t, "Email", ioc.Email, map[string]string{
		"mailto:Ana.B@Example.COM": "ana.b@example.com", "a@bücher.example": "a@xn--bcher-kva.example", "a#EXT#@b.example": "a#ext#@b.example",
		"@b.example": refused, "a@b": refused, "The Boss <a@b.example>": refused, "a@1.2.3.4": refused, "": refused, "a b@c.example": refused,
	})
	check(t, "MAC", ioc.MAC, map[string]string{
		"00-1A-2b-3C-4D-5E": "00:1a:2b:3c:4d:5e", "001a.2b3c.4d5e": "00:1a:2b:3c:4d:5e", "001A2B3C4D5E": "00:1a:2b:3c:4d:5e",
		"00-1A-2b-3C-4D": refused, "00-1A-2b-3C-4D-5E-6F": refused, "zz-1A-2b-3C-4D-5E": refused,
	})
	check(t, "Registry", ioc.Registry, map[string]string{
		`HKLM\Software\X\`: `HKEY_LOCAL_MACHINE\Software\X`, `hkcu:\X`: `HKEY_CURRENT_USER\X`, `hkey_users/S-1`: `HKEY_USERS\S-1`, `\REGISTRY\X`: `REGISTRY\X`,
		`HKU`: `HKEY_USERS`, ``: refused, `\`: refused,
	})
	check(t, "URL", ioc.URL, map[string]string{
		"HTTP://User:Pw@Evil.Example:80/a/./b/../c?B=2&a=%2f#f": "http://evil.example/a/c?B=2&a=%2F",
		"https://evil.example":                "https://evil.example/",
		"https://evil.example:8443/X/":        "https://evil.example:8443/X/",
		"https://evil.example/%7euser/%41%2F": "https://evil.example/~user/A%2F",
		"https://evil.example/?":              "https://evil.example/",
		"https://evil.example/a b":            "https://evil.example/a%20b",
		"https://evil.example/%zz%":           "https://evil.example/%zz%",
		"https://evil.example/../../x":        "https://evil.example/x",
		"https://evil.example/a/..":           "https://evil.example/",
		"https://evil.example/a/.":            "https://evil.example/a/",
		`https://evil.example\a\b`:            "https://evil.example/a/b",
		"https://[2001:DB8::1]:443/":          "https://[2001:db8::1]/",
		"http://1.2.3.4/":                     "http://1.2.3.4/",
		"http://bücher.example/ü":             "http://xn--bcher-kva.example/ü",
		"https://good.example@evil.example/":  "https://evil.example/",
		"ftp://evil.example:21/x":             "ftp://evil.example/x",
		"http://evil.example:0/":              "http://evil.example/",
		"evil.example/x":                      refused, "//evil.example": refused, "http://": refused, "http:///x": refused, "http://0x7f.1/": refused,
		"http://a:b:c/": refused, "http://evil.example:99999/": refused, "http://[::1": refused, "http://[evil.example]/": refused, "http://[::1]x/": refused,
		"mailto:a@b.example": refused, "1http://x.example": refused,
	})
	for in, want := range map[string]int{
		"D41D8CD98F00B204E9800998ECF8427E": 1, "sha1: da39a3ee5e6b4b0d3255bfef95601890afd80709": 2,
		"SHA-256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": 3, strings.Repeat("ab", 64): 4,
		strings.Repeat("x", 32): 0, "abc": 0, "": 0,
	} {
		v, alg, ok := ioc.Hash(in)
		if alg != want || ok != (want != 0) || v != strings.ToLower(v) {
			t.Errorf("Hash(%q) = %q, %d, %v", in, v, alg, ok)
		}
	}
	for typeID, c := range map[int][2]string{
		ocsf.ObservableHostname: {"A.B.", "a.b"}, ocsf.ObservableIP: {"::ffff:1.1.1.1", "1.1.1.1"}, ocsf.ObservableMAC: {"001A2B3C4D5E", "00:1a:2b:3c:4d:5e"},
		ocsf.ObservableEmail: {"A@B.c", "a@b.c"}, ocsf.ObservableURL: {"HTTP://A.b", "http://a.b/"}, ocsf.ObservableHash: {strings.Repeat("AB", 16), strings.Repeat("ab", 16)},
		ocsf.ObservableSubnet: {"1.1.1.1/8", "1.0.0.0/8"}, ocsf.ObservablePort: {"080", "80"}, ocsf.ObservableRegKey: {"HKLM", "HKEY_LOCAL_MACHINE"},
		ocsf.ObservableFilePath: {` C:\X `, `C:\X`},
	} {
		if got, ok := ioc.Canonical(typeID, c[0]); !ok || got != c[1] {
			t.Errorf("Canonical(%d, %q) = %q, %v; want %q", typeID, c[0], got, ok, c[1])
		}
		if got, ok := ioc.Canonical(typeID, ""); ok && typeID != ocsf.ObservablePort {
			t.Errorf("Canonical(%d, nothing) = %q", typeID, got)
		}
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://a.b/%2e%2e/c", "https://[::1]:1/?#", "http://x@y@z.w//..//a", "h://a.b/%41%", "http://ß.de/."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ioc.URL(s)
		if !ok {
			return
		}
		if again, ok := ioc.URL(v); !ok || again != v {
			t.Errorf("URL(%q) = %q, and of that %q, %v", s, v, again, ok)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	f.Add(1, "Bücher.example.")
	f.Add(5, "mailto:a@b.c")
	f.Add(46, `HKLM\x\\`)
	f.Fuzz(func(t *testing.T, typeID int, s string) {
		v, ok := ioc.Canonical(typeID, s)
		if !ok {
			return
		}
		if again, ok := ioc.Canonical(typeID, v); !ok || again != v {
			t.Errorf("Canonical(%d, %q) = %q, and of that %q, %v", typeID, s, v, again, ok)
		}
	})
}

func TestMarkings(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]ioc.TLP{
		"TLP:AMBER+STRICT": ioc.TLPAmberStrict, "amber strict": ioc.TLPAmberStrict, "AMBER_STRICT": ioc.TLPAmberStrict, "tlp:white": ioc.TLPClear,
		"Clear": ioc.TLPClear, "green": ioc.TLPGreen, " RED ": ioc.TLPRed, "TLP: AMBER": ioc.TLPAmber,
		"marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003": ioc.TLPAmberStrict,
		"marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed": ioc.TLPRed,
	} {
		if got, err := ioc.ParseTLP(in); err != nil || got != want {
			t.Errorf("ParseTLP(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "PURPLE", "TLP", "STRICT"} {
		if got, err := ioc.ParseTLP(bad); err == nil {
			t.Errorf("ParseTLP(%q) = %q", bad, got)
		}
		if got, err := ioc.ParsePAP(bad); err == nil {
			t.Errorf("ParsePAP(%q) = %q", bad, got)
		}
	}
	// TheHive 5: RED is 4. With 3 a sink would share too much.
	for n, want := range []ioc.TLP{ioc.TLPClear, ioc.TLPGreen, ioc.TLPAmber, ioc.TLPAmberStrict, ioc.TLPRed} {
		got, err := ioc.TLPOf(n)
		if err != nil || got != want || got.Number() != n {
			t.Errorf("TLPOf(%d) = %q, %v, number %d", n, got, err, got.Number())
		}
		if back, err := ioc.ParseTLP(got.Marking()); err != nil || back != got {
			t.Errorf("marking %q of %q is %q, %v", got.Marking(), got, back, err)
		}
	}
	for n, want := range []ioc.PAP{ioc.PAPClear, ioc.PAPGreen, ioc.PAPAmber, ioc.PAPRed} {
		got, err := ioc.PAPOf(n)
		if err != nil || got != want || got.Number() != n {
			t.Errorf("PAPOf(%d) = %q, %v", n, got, err)
		}
		if parsed, err := ioc.ParsePAP("pap:" + strings.ToLower(string(want))); err != nil || parsed != want {
			t.Errorf("ParsePAP = %q, %v", parsed, err)
		}
	}
	if _, err := ioc.TLPOf(5); err == nil {
		t.Error("TLP 5 is taken")
	}
	if _, err := ioc.PAPOf(-1); err == nil {
		t.Error("PAP -1 is taken")
	}
	if ioc.TLP("odd").Number() != 4 || ioc.PAP("").Number() != 3 || ioc.TLP("odd").Marking() != "" {
		t.Error("an unknown marking is not the strictest")
	}
	if ioc.StricterTLP(ioc.TLPAmber, ioc.TLPRed) != ioc.TLPRed || ioc.StricterTLP(ioc.TLPAmber, "") != ioc.TLPAmber || ioc.StricterTLP("", ioc.TLPClear) != ioc.TLPClear {
		t.Error("StricterTLP")
	}
	if ioc.StricterPAP(ioc.PAPAmber, ioc.PAPGreen) != ioc.PAPAmber || ioc.StricterPAP("", "") != "" {
		t.Error("StricterPAP")
	}
}

func TestFlag(t *testing.T) {
	t.Parallel()
	rules := ioc.Rules{OwnDomains: []string{"contoso.example"}, OwnRanges: []netip.Prefix{netip.MustParsePrefix("5.45.96.0/24")}}
	for _, c := range []struct {
		typeID  int
		value   string
		path    string
		verdict int
		want    bool
	}{
		{2, "45.33.32.156", "evidences[0].src_endpoint.ip", 2, true},
		{2, "45.33.32.156", "evidences[0].src_endpoint.ip", 4, true},
		{2, "45.33.32.156", "evidences[0].src_endpoint.ip", 8, true},
		{2, "45.33.32.156", "evidences[0].src_endpoint.ip", 0, false},
		{2, "45.33.32.156", "evidences[0].src_endpoint.ip", 5, false},
		{2, "45.33.32.156", "evidences[0].src_endpoint.ip", 99, false},
		{2, "45.33.32.156", "evidences[0].device.ip", 2, false},
		{2, "45.33.32.156", "evidences[0].data.dnsServerIp.ipAddress", 2, false},
		{2, "10.1.1.1", "x", 2, false},
		{2, "100.64.0.1", "x", 2, false},
		{2, "192.0.2.1", "x", 2, false},
		{2, "2001:db8::1", "x", 2, false},
		{2, "fe80::1", "x", 2, false},
		{2, "2a00:1450::1", "x", 2, true},
		{2, "5.45.96.7", "x", 2, false},
		{2, "nonsense", "x", 2, false},
		{12, "45.33.0.0/16", "x", 2, true},
		{12, "5.45.0.0/16", "x", 2, false},
		{12, "10.0.0.0/8", "x", 2, false},
		{12, "0.0.0.0/0", "x", 2, false},
		{1, "evil.example", "x", 2, true},
		{1, "mail.contoso.example", "x", 2, false},
		{1, "notcontoso.example", "x", 2, true},
		{1, "pc-1", "x", 2, false},
		{5, "bad@evil.example", "evidences[0].email.from", 2, true},
		{5, "victim@evil.example", "evidences[0].email.to", 2, false},
		{5, "ana@evil.example", "evidences[0].process.user.email_addr", 2, false},
		{5, "ceo@contoso.example", "evidences[0].email.from", 2, false},
		{6, "https://evil.example/", "x", 2, true},
		{6, "https://www.contoso.example/", "x", 2, false},
		{6, "https://5.45.96.7/", "x", 2, false},
		{8, "de9f2c7fd25e1b3afad3e85a0bd17d9b100db4b3", "evidences[0].file.hashes.value", 2, true},
		{8, "de9f2c7fd25e1b3afad3e85a0bd17d9b100db4b3", "evidences[0].process.parent_process.file.hashes.value", 2, false},
		{8, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "x", 2, false},
		{8, strings.Repeat("0", 64), "x", 2, false},
		{16, "evil-agent", "x", 4, true},
		{46, `HKEY_LOCAL_MACHINE\Run`, "x", 4, true},
		{4, "root", "x", 2, false},
		{7, "powershell.exe", "x", 2, false},
		{9, "powershell.exe", "x", 2, false},
		{99, "x", "x", 2, false},
	} {
		o := ocsf.Observable{TypeID: c.typeID, Value: c.value, Name: c.path}
		if got := rules.Flag(o, c.verdict); got != c.want {
			t.Errorf("Flag(%+v, %d) = %v", o, c.verdict, got)
		}
	}
	if !ioc.Special(netip.Addr{}) || ioc.Special(netip.MustParseAddr("8.8.8.8")) || !ioc.Special(netip.MustParseAddr("::ffff:10.0.0.1")) {
		t.Error("Special")
	}
	if !ioc.MeaninglessHash("") || ioc.MeaninglessHash("ab") {
		t.Error("MeaninglessHash")
	}
}

func TestDataType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typeID     int
		value      string
		path, kind string
		want, tag  string
	}{
		{1, "evil.com", "x", "", "domain", ""},
		{1, "evil.co.uk", "x", "", "domain", ""},
		{1, "www.evil.co.uk", "x", "", "fqdn", ""},
		{1, "store.blob.core.windows.net", "x", "", "domain", ""},
		{1, "pc-9", "x", "", "hostname", ""},
		{1, "pc-9.contoso.com", "evidences[0].device.hostname", "", "hostname", ""},
		{1, "co.uk", "x", "", "hostname", ""},
		{1, "srv.corp.local", "x", "", "hostname", ""},
		{2, "1.1.1.1", "x", "", "ip", ""},
		{3, "m", "x", "", "other", "mac"},
		{4, "u", "x", "", "other", "user"},
		{5, "a@b.c", "x", "", "mail", ""},
		{6, "u", "x", "", "url", ""},
		{7, "f", "x", "", "filename", ""},
		{8, "h", "x", "", "hash", ""},
		{9, "p", "x", "", "other", "process"},
		{10, "r", "x", "", "other", "resource"},
		{13, "c", "x", "", "other", "cmdline"},
		{14, "CH", "x", "", "", ""},
		{15, "1", "x", "", "", ""},
		{16, "ua", "x", "", "user-agent", ""},
		{31, "u", "x", "", "other", "user-id"},
		{40, "s", "x", "", "mail-subject", ""},
		{42, "m", "x", "", "other", "message-id"},
		{43, "v", "x", "", "registry", ""},
		{46, "k", "x", "", "registry", ""},
		{47, "d", "x", "", "other", "device-id"},
		{99, "s", "x", "Windows SID", "other", "windows-sid"},
		{25, "o", "x", "", "", ""},
	} {
		got, tag := ioc.DataType(ocsf.Observable{TypeID: c.typeID, Value: c.value, Name: c.path, Type: c.kind})
		if got != c.want || tag != c.tag {
			t.Errorf("DataType(%d %s) = %q, %q; want %q, %q", c.typeID, c.value, got, tag, c.want, c.tag)
		}
	}
}
