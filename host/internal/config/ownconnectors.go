package config

import (
	"encoding/hex"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/plugin"
)

// Connector is one that the file brings along: a program, pinned by its digest, or the address of one that somebody else
// runs.
type Connector struct {
	Pos    diag.Pos
	Path   string // plugins.connectors.NAME
	Name   string
	File   string // of a program; else Address is set
	SHA256 string // in lower-case hex; empty if the file does not say
	Args   []string
	// Address and what both ends prove themselves by. TLS is nil if nothing is given, which is possible for local
	// addresses only.
	Address *plugin.Address
	TLS     *TLS
	// Replace lets it stand in for another one of that name, bundled or installed.
	Replace bool
}

// TLS says where certificates are, as PEM: the CA that issued the connector's, and the host's own with its key.
type TLS struct{ CA, Cert, Key secret.Reference }

var (
	connectorRule = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	ownKeys       = []string{"file", "sha256", "args", "address", "ca", "cert", "key", "replace"}
)

// ownConnectors reads plugins.connectors and has what it names looked at.
func (r *reader) ownConnectors(n *yamldoc.Node) {
	const path = "plugins.connectors"
	if n != nil && !n.IsNull() {
		if n.Kind != yamldoc.Map {
			r.out.Errorf(n.Pos, path, "write hashes: { file: ./hashes, sha256: … } below it", "must be a map, not %s", n.Describe())
		}
		for _, e := range n.Entries {
			before := len(*r.out)
			c := r.ownConnector(e, yamldoc.Join(path, e.Key))
			if (*r.out)[before:].HasErrors() {
				r.unsound[e.Key] = true
				continue
			}
			r.file.Plugins.Connectors = append(r.file.Plugins.Connectors, c)
		}
		slices.SortFunc(r.file.Plugins.Connectors, func(a, b Connector) int { return strings.Compare(a.Name, b.Name) })
	}
	d, ok := r.known.(Declarer)
	if !ok {
		return
	}
	found := d.Declare(r.file)
	*r.out = append(*r.out, found...)
	for _, c := range r.file.Plugins.Connectors {
		for _, f := range found {
			if f.Severity == diag.Error && f.Path == c.Path {
				r.unsound[c.Name] = true
			}
		}
	}
}

func (r *reader) ownConnector(e yamldoc.Entry, path string) Connector {
	c := Connector{Pos: e.Pos, Path: path, Name: e.Key}
	n := e.Value
	if !connectorRule.MatchString(e.Key) || len(e.Key) > 64 {
		r.out.Errorf(e.Pos, path, "lower-case letters, digits and dashes, as the connector calls itself", "%s cannot be a connector's name", yamldoc.Quote(e.Key))
	}
	if n.Kind != yamldoc.Map {
		r.out.Errorf(n.Pos, path, "write { file: ./"+e.Key+", sha256: … } or { address: unix:///run/"+e.Key+".sock }", "must be a map, not %s", n.Describe())
		return c
	}
	r.keys(n, path, ownKeys, nil)
	if v := n.Get("replace"); v != nil {
		b, ok := v.Value.(bool)
		if !ok {
			r.out.Errorf(v.Pos, path+".replace", "", "must be true or false, not %s", v.Describe())
		}
		c.Replace = b
	}
	file, address := n.Get("file"), n.Get("address")
	switch {
	case file == nil && address == nil:
		r.out.Errorf(e.Pos, path, "add file: and sha256:, or address:", "it says neither where the program is nor where it listens")
	case file != nil && address != nil:
		r.out.Errorf(address.Pos, path+".address", "leave out file: or address:", "a connector is started or connected to, not both")
	case file != nil:
		r.ownFile(&c, n, path)
	default:
		r.ownAddress(&c, n, path)
	}
	return c
}

func (r *reader) ownFile(c *Connector, n *yamldoc.Node, path string) {
	r.only(n, path, "address", "ca", "cert", "key")
	if f := r.text(n.Get("file"), path+".file"); f != "" {
		c.File = r.path(f)
	}
	if v := n.Get("sha256"); v != nil {
		sum := strings.ToLower(v.Text)
		if b, err := hex.DecodeString(sum); v.Kind != yamldoc.Scalar || err != nil || len(b) != 32 {
			r.out.Errorf(v.Pos, path+".sha256", "it is what `sha256sum` prints, 64 hex digits; quote it if it has no letters", "%s is no SHA-256", yamldoc.Quote(v.Text))
		}
		c.SHA256 = sum
	}
	args := n.Get("args")
	if args == nil || args.IsNull() {
		return
	}
	if args.Kind != yamldoc.List {
		r.out.Errorf(args.Pos, path+".args", "write [a, b]", "must be a list of text, not %s", args.Describe())
		return
	}
	for i, item := range args.Items {
		at := yamldoc.Index(path+".args", i)
		if item.Kind != yamldoc.Scalar || item.IsNull() {
			r.out.Errorf(item.Pos, at, "", "must be text, not %s", item.Describe())
			continue
		}
		r.noVariables(item, at)
		c.Args = append(c.Args, item.Text)
	}
}

func (r *reader) ownAddress(c *Connector, n *yamldoc.Node, path string) {
	r.only(n, path, "file", "sha256", "args")
	at := n.Get("address")
	text := r.text(at, path+".address")
	if text == "" {
		return
	}
	if rest, ok := strings.CutPrefix(text, "unix://"); ok && rest != "" && !filepath.IsAbs(rest) {
		if abs, err := filepath.Abs(r.path(rest)); err == nil {
			text = "unix://" + abs
		}
	}
	a, err := plugin.ParseAddress(text)
	if err != nil {
		r.out.Errorf(at.Pos, path+".address", "", "%v", err)
		return
	}
	if strings.HasSuffix(a.Target, ":0") && a.Network == "tcp" {
		r.out.Errorf(at.Pos, path+".address", "write the port that it listens on", "nobody listens on port 0")
	}
	c.Address = &a
	var t TLS
	given, missing := 0, []string{}
	for _, part := range []struct {
		key, what string
		ref       *secret.Reference
	}{{"ca", "the CA", &t.CA}, {"cert", "the certificate", &t.Cert}, {"key", "the key", &t.Key}} {
		v := n.Get(part.key)
		if v == nil {
			missing = append(missing, part.key)
			continue
		}
		given++
		if s := r.reference(v, path+"."+part.key, part.what); s != nil {
			*part.ref = s.ref
		}
	}
	switch {
	case given > 0 && len(missing) > 0:
		r.out.Errorf(c.Pos, path, "add "+strings.Join(missing, " and "), "TLS takes ca, cert and key")
	case given > 0:
		c.TLS = &t
	case !a.Local():
		r.out.Errorf(at.Pos, path+".address", "add ca, cert and key, each as file:PATH", "the way to %s is not private: other machines are reached by mutual TLS only", a)
	}
}

// only complains about keys that belong to the other kind.
func (r *reader) only(n *yamldoc.Node, path string, others ...string) {
	for _, e := range n.Entries {
		if slices.Contains(others, e.Key) {
			kind := "a file"
			if n.Get("address") != nil {
				kind = "an address"
			}
			r.out.Errorf(e.Pos, yamldoc.Join(path, e.Key), "leave it out", "a connector at %s has no %q", kind, e.Key)
		}
	}
}
