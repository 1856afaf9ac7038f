package catalog

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/host/internal/launch"
)

// grants are what a confined connector needs because of its connections: the ports of the URLs and the files that their
// configurations name, whatever the property is called. An operator who writes a path into a connection means the
// connector to read it.
func (c *Catalog) grants(s *supervisor) launch.Grants {
	var configs []json.RawMessage
	for _, cn := range c.connections(s) {
		configs = append(configs, cn.spec.Config)
	}
	return s.grantsFor(configs)
}

func (s *supervisor) grantsFor(configs []json.RawMessage) launch.Grants {
	g := launch.Grants{Ports: []uint16{53, 443}}
	var declared []string
	if d := s.desc.Load(); d != nil {
		declared = d.resp.GetEgress()
	}
	for _, host := range declared {
		if _, port, err := net.SplitHostPort(host); err == nil {
			g.Ports = addPort(g.Ports, port)
		}
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		grant(&g, os.Getenv(name))
	}
	for _, config := range configs {
		var tree any
		if json.Unmarshal(config, &tree) == nil {
			walk(tree, func(v string) { grant(&g, v) })
			for _, host := range declared {
				grantIf(&g, tree, host)
			}
		}
	}
	slices.Sort(g.Ports)
	slices.Sort(g.Files)
	return g
}

// grantIf adds the port of a host that is declared for connections with some property: "{config.proxy?host:80}".
func grantIf(g *launch.Grants, tree any, declared string) {
	inner, ok := strings.CutPrefix(declared, "{config.")
	property, host, conditional := strings.Cut(strings.TrimSuffix(inner, "}"), "?")
	if !ok || !conditional {
		return
	}
	for name := range strings.SplitSeq(property, ".") {
		object, _ := tree.(map[string]any)
		tree = object[name]
	}
	if _, port, err := net.SplitHostPort(host); err == nil && tree != nil {
		g.Ports = addPort(g.Ports, port)
	}
}

func walk(tree any, visit func(string)) {
	switch t := tree.(type) {
	case map[string]any:
		for _, v := range t {
			walk(v, visit)
		}
	case []any:
		for _, v := range t {
			walk(v, visit)
		}
	case string:
		visit(t)
	}
}

// grant adds what a configured text stands for, if it is a URL or the path of a file.
func grant(g *launch.Grants, v string) {
	if len(v) > 4096 {
		return
	}
	if filepath.IsAbs(v) {
		v = filepath.Clean(v)
		info, err := os.Stat(v) //nolint:gosec // the operator's own configuration names it
		if err != nil || !info.Mode().IsRegular() {
			return
		}
		if renewed(v) {
			v = filepath.Dir(v)
		}
		if !slices.Contains(g.Files, v) {
			g.Files = append(g.Files, v)
		}
		return
	}
	if !strings.Contains(v, "://") {
		return
	}
	u, err := url.Parse(v)
	if err != nil || u.Host == "" {
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	g.Ports = addPort(g.Ports, port)
}

// stats looks at granted files. A grant holds for the file that there is, not for one that takes its name later.
func stats(files []string) map[string]os.FileInfo {
	out := map[string]os.FileInfo{}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			out[name] = info
		}
	}
	return out
}

// replaced says whether another file has the name of one of these now. One that is gone may be on its way back.
func replaced(files map[string]os.FileInfo) bool {
	for name, was := range files {
		if now, err := os.Stat(name); err == nil && !os.SameFile(was, now) {
			return true
		}
	}
	return false
}

// renewed says whether a file is one of those that Kubernetes replaces while it is used: it leads through the link ..data
// beside it, which points at another directory from time to time. Then a grant of the file as it is now would not last.
func renewed(file string) bool {
	to, err := os.Readlink(file)
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(filepath.ToSlash(to), "/")
	return first == "..data"
}

func addPort(ports []uint16, text string) []uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || slices.Contains(ports, uint16(n)) {
		return ports
	}
	return append(ports, uint16(n))
}
