package threatintel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/ioc"
)

// policy says which values are never submitted.
type policy struct {
	ranges  []netip.Prefix
	domains []string
}

// newPolicy reads the configured values of our own.
func newPolicy(own []string) (policy, error) {
	var p policy
	for i, s := range own {
		if c, ok := ioc.CIDR(s); ok {
			p.ranges = append(p.ranges, netip.MustParsePrefix(c))
			continue
		}
		if a, ok := ioc.IP(s); ok {
			addr := netip.MustParseAddr(a)
			p.ranges = append(p.ranges, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		d, ok := ioc.Host(strings.TrimPrefix(s, "*."))
		if !ok || !strings.Contains(d, ".") {
			return p, sdk.BadConfig(fmt.Sprintf("/own/%d", i), "%q is neither a network (203.0.113.0/24), an address, nor a domain", s)
		}
		p.domains = append(p.domains, d)
	}
	return p, nil
}

// longest are values that no API takes.
const longest = 2048

// refuses says why a canonical value is no indicator; empty if it is one.
func (p policy) refuses(kind, value string) string {
	if len(value) > longest && kind != typePattern {
		return fmt.Sprintf("has %d characters, more than %d", len(value), longest)
	}
	switch kind {
	case typeIP:
		return p.address(value)
	case typeCIDR:
		return p.network(value)
	case typeDomain:
		return p.name(value)
	case typeURL:
		parts, ok := ioc.ParseURL(value)
		if !ok {
			return "is no URL with a host"
		}
		return p.host(parts.Host)
	case typeEmail:
		return p.own(value[strings.LastIndexByte(value, '@')+1:])
	case typeMD5, typeSHA1, typeSHA256, typeSHA512, typeCertificate:
		if ioc.MeaninglessHash(value) {
			return "is the hash of an empty file, or a placeholder"
		}
	case typePattern:
		return p.pattern(value)
	}
	return ""
}

func (p policy) host(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return p.address(host)
	}
	if !strings.Contains(host, ".") {
		return fmt.Sprintf("its host %q is a name of your own network", host)
	}
	return p.own(host)
}

func (p policy) address(value string) string {
	a, err := netip.ParseAddr(value)
	switch {
	case err != nil:
		return "is no IP address"
	case ioc.Special(a):
		return "is a private, local, documentation or reserved address"
	case slices.ContainsFunc(p.ranges, func(r netip.Prefix) bool { return r.Contains(a) }):
		return "is an address of your own (own in the connection's configuration)"
	}
	return ""
}

func (p policy) network(value string) string {
	n, err := netip.ParsePrefix(value)
	switch {
	case err != nil:
		return "is no network"
	case ocsf.SpecialPrefix(n):
		return "is, or contains, a private, local, documentation or reserved range"
	case slices.ContainsFunc(p.ranges, n.Overlaps):
		return "is, or contains, a range of your own (own in the connection's configuration)"
	}
	return ""
}

func (p policy) name(value string) string {
	if !strings.Contains(value, ".") {
		return "is a single label: a top-level domain, or a name of your own network"
	}
	if suffix, _ := publicsuffix.PublicSuffix(value); suffix == value {
		return "is a public suffix: names of many owners lie below it"
	}
	return p.own(value)
}

func (p policy) own(name string) string {
	for _, d := range p.domains {
		switch {
		case name == d || strings.HasSuffix(name, "."+d):
			return "is a name of your own (own in the connection's configuration)"
		case strings.HasSuffix(d, "."+name):
			return fmt.Sprintf("would match %s, which is your own", d)
		}
	}
	return ""
}

// pattern looks at the values that a pattern compares: one that would fire on us is refused whole.
func (p policy) pattern(text string) string {
	for _, c := range compared(text) {
		kind := pathType(c.path)
		if kind == typeIP && (c.op == "ISSUBSET" || strings.Contains(c.value, "/")) {
			kind = typeCIDR
		}
		if kind == "" || c.op != "=" && c.op != "ISSUBSET" {
			continue
		}
		if value, ok := canonical(kind, c.value); ok {
			if why := p.refuses(kind, value); why != "" {
				return fmt.Sprintf("compares %q, which %s", c.value, why)
			}
		}
	}
	return ""
}
