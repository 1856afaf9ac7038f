package egress_test

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/internal/egress"
)

type config struct {
	BaseURL    string         `json:"base_url"`
	Token      plugin.Secret  `json:"token"`
	Empty      string         `json:"empty"`
	Mirrors    []string       `json:"mirrors"`
	Credential map[string]any `json:"credential"`
}

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestHosts(t *testing.T) {
	t.Parallel()
	p := egress.New(
		[]string{
			"{config.base_url}", "{config.empty}", "{config.mirrors}", "{config.credential.authority_url}",
			"Login.Example.com", "*.cdn.example", "api.example:8443",
			"{config.credential.machine?tokens.example:8080}", "{config.credential.nothing?never.example}",
		},
		config{
			BaseURL: "https://Jira.corp.example:8080/jira", Mirrors: []string{"https://m1.example", "m2.example"},
			Credential: map[string]any{"authority_url": "https://login.sovereign.example", "machine": map[string]any{}},
		},
	)
	for u, want := range map[string]bool{
		"https://jira.corp.example:8080/rest": true, "https://JIRA.corp.example.:8080/": true, "https://jira.corp.example/": false,
		"https://m1.example": true, "https://m2.example": true, "https://login.sovereign.example/x": true,
		"https://login.example.com": true, "https://evil-login.example.com": false, "https://login.example.com.evil.example": false,
		"https://a.cdn.example": true, "https://a.b.cdn.example": true, "https://cdn.example": false, "https://evilcdn.example": false,
		"https://api.example:8443": true, "https://api.example": false,
		"http://tokens.example:8080": true, "http://tokens.example": false, "https://never.example": false,
		"https://169.254.169.254/latest": false, "http://localhost/": false, "https://": false,
	} {
		err := p.Check(parse(t, u))
		if (err == nil) != want {
			t.Errorf("%s: %v", u, err)
		}
		var e *plugin.Error
		if err != nil && (!errors.As(err, &e) || e.Reason != egress.Reason || e.SideEffect != plugin.EffectNone || e.Class() != plugin.ClassDenied) {
			t.Errorf("%s: %+v", u, err)
		}
	}
	if err := p.Check(parse(t, "https://other.example")); !strings.Contains(err.Error(), "jira.corp.example:8080, m1.example") {
		t.Errorf("what may be reached is not said: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	const public, site, local = "public", "site", "local"
	kinds := map[string]string{
		"20.190.151.7": public, "2603:1030::1": public,
		"10.1.2.3": site, "172.16.0.1": site, "192.168.1.1": site, "fd12::1": site, "100.64.0.1": site, "::ffff:10.0.0.1": site,
		"127.0.0.1": local, "::1": local, "0.0.0.0": local, "::": local, "169.254.169.254": local, "fe80::1%eth0": local,
		"168.63.129.16": local, "fd00:ec2::254": local, "100.100.100.200": local, "224.0.0.1": local, "0.1.2.3": local, "255.255.255.255": local,
		"::ffff:127.0.0.1": local, "64:ff9b::a9fe:a9fe": local, "2002:7f00:1::": local, "64:ff9b::a00:1": site,
		"::127.0.0.1": local, "::169.254.169.254": local, "::10.0.0.1": site, "fec0::1": site, "64:ff9b:1::a00:1": site,
	}
	for s, kind := range kinds {
		for reach, ok := range map[egress.Reach]bool{
			egress.Public: kind == public, egress.Site: kind != local, egress.Any: true,
		} {
			if err := reach.Allows("host.example", netip.MustParseAddr(s)); (err == nil) != ok {
				t.Errorf("%s at reach %d: %v", s, reach, err)
			}
		}
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]egress.Reach{
		"https://jira.example": egress.Site, "http://127.0.0.1:8080": egress.Any, "http://localhost:1": egress.Any,
		"https://10.0.0.7": egress.Any, "https://[::1]:9": egress.Any,
	} {
		p := egress.New([]string{"{config.base_url}", "vendor.example"}, config{BaseURL: base})
		u := parse(t, base)
		if got, err := p.Dial(u.Hostname(), egress.Port(u)); err != nil || got != want {
			t.Errorf("%s: %d, %v", base, got, err)
		}
		if got, err := p.Dial("vendor.example", "443"); err != nil || got != egress.Public {
			t.Errorf("a declared host: %d, %v", got, err)
		}
	}
	open := egress.New(nil, config{})
	if r, err := open.Dial("anything.example", "443"); err != nil || r != egress.Public {
		t.Errorf("nothing declared: %d, %v", r, err)
	}
	if open.Check(parse(t, "https://169.254.169.254/")) == nil {
		t.Error("an address is a name too: a proxy would connect to it")
	}
}
