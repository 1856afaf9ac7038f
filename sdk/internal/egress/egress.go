// Package egress decides which hosts a connection may reach, and which addresses behind their names: what the connector
// declares (sdk.Connector.Egress) with the connection's configuration in place. The decision about addresses is made when
// a socket is about to be connected, so that a name that resolves differently the second time helps nobody.
package egress

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

// Reason is the reason of an error that refuses a request: nothing was sent.
const Reason = "EGRESS_REFUSED"

// Reach is how near the addresses behind a name may be.
type Reach int

// The reaches.
const (
	// Public: addresses of the Internet only.
	Public Reach = iota
	// Site: also private networks (RFC 1918, RFC 4193, shared address space): on-premises services live there.
	Site
	// Any: also this machine and the link. For hosts that the configuration names as such.
	Any
)

// Policy is what one connection may reach.
type Policy struct {
	// open: the connector declares nothing; any host will do, but only the configured one may be near.
	open  bool
	rules []rule
}

type rule struct {
	host  string // lower case; "*.example.com" stands for every name below
	port  string // empty: any
	reach Reach
}

var placeholder = regexp.MustCompile(`^\{config\.([^}?]+)(?:\?([^}]+))?\}$`)

// New makes the policy of a connection. Declared are hosts ("login.example.com", "*.example.com", "host:8443") and
// placeholders such as "{config.base_url}", which stand for the host of a URL in the configuration. An empty property
// declares nothing. "{config.credential.managed_identity?host:80}" is that host, if the property is there.
func New(declared []string, config any) *Policy {
	p := &Policy{open: len(declared) == 0}
	var tree any
	if b, err := json.Marshal(config); err == nil {
		_ = json.Unmarshal(b, &tree) // what was just written
	}
	for _, d := range declared {
		m := placeholder.FindStringSubmatch(d)
		switch {
		case m == nil:
			p.fixed(d)
		case m[2] == "":
			for _, v := range values(tree, strings.Split(m[1], ".")) {
				p.configured(v)
			}
		case has(tree, strings.Split(m[1], ".")):
			p.fixed(m[2])
		}
	}
	return p
}

// fixed adds a host that the connector declares.
func (p *Policy) fixed(declared string) {
	host, port := split(declared)
	p.rules = append(p.rules, rule{host: host, port: port})
}

// has says whether the configuration has a property.
func has(tree any, path []string) bool {
	for _, name := range path {
		object, _ := tree.(map[string]any)
		tree = object[name]
	}
	return tree != nil
}

// ForURL is the policy of a client outside of any connection: every host, and near addresses only for its own, whatever
// the port.
func ForURL(base *url.URL) *Policy {
	p := &Policy{open: true}
	p.configured(base.String())
	for i := range p.rules {
		p.rules[i].port = ""
	}
	return p
}

// configured adds a host that a person wrote into the configuration.
func (p *Policy) configured(v string) {
	u, err := url.Parse(strings.TrimSpace(v))
	if err != nil || u.Host == "" {
		if u, err = url.Parse("//" + strings.TrimSpace(v)); err != nil || u.Host == "" {
			return
		}
	}
	r := rule{host: canonical(u.Hostname()), port: Port(u), reach: Site}
	if u.Scheme == "" {
		r.port = u.Port()
	}
	if near(r.host) {
		r.reach = Any
	}
	p.rules = append(p.rules, r)
}

// near says whether a host is written as an address, or as the name of this machine: whoever wrote that means it.
func near(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

func values(tree any, path []string) []string {
	switch t := tree.(type) {
	case map[string]any:
		if len(path) > 0 {
			return values(t[path[0]], path[1:])
		}
	case []any:
		var out []string
		for _, v := range t {
			out = append(out, values(v, path)...)
		}
		return out
	case string:
		if len(path) == 0 && t != "" {
			return []string{t}
		}
	}
	return nil
}

func split(s string) (host, port string) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		return canonical(h), p
	}
	return canonical(s), ""
}

func canonical(host string) string {
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return host
}

// Open says whether the connector declares nothing.
func (p *Policy) Open() bool { return p.open }

// Port is the port of a URL.
func Port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// Check says whether a URL may be asked for. The error is a *plugin.Error.
func (p *Policy) Check(u *url.URL) error {
	reach, err := p.Dial(u.Hostname(), Port(u))
	if a, aerr := netip.ParseAddr(u.Hostname()); err == nil && aerr == nil {
		err = reach.Allows(u.Host, a) // also where a proxy would connect
	}
	return err
}

// Dial says how near the addresses of a host may be, or that it may not be reached.
func (p *Policy) Dial(host, port string) (Reach, error) {
	host = canonical(host)
	reach, known := Public, p.open
	for _, r := range p.rules {
		if r.matches(host, port) {
			reach, known = max(reach, r.reach), true
		}
	}
	if known {
		return reach, nil
	}
	return Public, refuse("the host %s is not among those that this connection may reach (%s); "+
		"if a redirect or a link leads there, check the configured address", net.JoinHostPort(host, port), p)
}

func (r rule) matches(host, port string) bool {
	if r.port != "" && r.port != port {
		return false
	}
	if suffix, ok := strings.CutPrefix(r.host, "*"); ok {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return r.host == host
}

// String lists what may be reached.
func (p *Policy) String() string {
	var out []string
	for _, r := range p.rules {
		s := r.host
		if r.port != "" && r.port != "443" {
			s = net.JoinHostPort(r.host, r.port)
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

var (
	shared    = netip.MustParsePrefix("100.64.0.0/10") // carriers, and some clouds' insides
	thisNet   = netip.MustParsePrefix("0.0.0.0/8")
	reserved  = netip.MustParsePrefix("240.0.0.0/4")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	compat    = netip.MustParsePrefix("::/96")          // IPv4-compatible: an old way to write one
	siteLocal = netip.MustParsePrefix("fec0::/10")      // what private networks had before RFC 4193
	ownNAT64  = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215: where it leads is a network's own affair
	metadata  = []netip.Addr{
		netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
		netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
		netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
		netip.MustParseAddr("fd00:ec2::254"),   // AWS
		netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	}
)

// Allows says whether an address that a name resolved to may be connected to. 169.254.169.254 is a link-local address.
func (reach Reach) Allows(host string, a netip.Addr) error {
	a = embedded(a.Unmap().WithZone(""))
	switch {
	case reach == Any:
		return nil
	case a.IsLoopback(), a.IsUnspecified(), a.IsLinkLocalUnicast(), a.IsMulticast(), thisNet.Contains(a), reserved.Contains(a),
		slices.Contains(metadata, a):
		return refuse("%s is at %s, which is this machine, its link or its cloud's metadata service; "+
			"if that is meant, write the address itself into the configuration", host, a)
	case a.IsPrivate(), shared.Contains(a), siteLocal.Contains(a), ownNAT64.Contains(a):
		if reach == Site {
			return nil
		}
		return refuse("%s is at %s, a private address, and only hosts that the configuration names may be", host, a)
	}
	return nil
}

// embedded is the IPv4 address that a translated IPv6 address leads to.
func embedded(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	b := a.As16()
	switch {
	case nat64.Contains(a), compat.Contains(a) && !a.IsLoopback() && !a.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

func refuse(format string, args ...any) *plugin.Error {
	return &plugin.Error{
		Code: codes.PermissionDenied, Message: "egress refused: " + fmt.Sprintf(format, args...), Reason: Reason, Domain: plugin.Domain,
		Origin: plugin.OriginPlugin, SideEffect: plugin.EffectNone,
	}
}

type key struct{}

// With puts the policy in force into a context.
func With(ctx context.Context, p *Policy) context.Context { return context.WithValue(ctx, key{}, p) }

// From returns the policy in force, or nil.
func From(ctx context.Context) *Policy {
	p, _ := ctx.Value(key{}).(*Policy)
	return p
}
