package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/plugin/connectorv1"
)

type reader struct {
	file        *File
	root        *yamldoc.Node
	dir         string
	known       Descriptors
	out         *diag.List
	descriptors map[string]*connectorv1.DescribeResponse // by connection, of those that are sound
	unsound     map[string]bool                          // connectors of the file that have findings of their own
	limitOf     map[string]Limit                         // by credential
	broken      bool                                     // a connection could not be read: flows that use it would be blamed for it
}

var sections = []string{"store", "http", "credentials", "connections", "flows", "plugins", "log", "retention"}

// later are sections that come with a later version.
var later = []string{"tenants", "include"}

func (r *reader) read() {
	r.keys(r.root, "", sections, later)
	r.store()
	r.http()
	r.plugins()
	r.log()
	r.retention()
	r.connections()
	r.flows()
}

func (r *reader) keys(n *yamldoc.Node, path string, known, later []string) {
	for _, e := range n.Entries {
		at := yamldoc.Join(path, e.Key)
		switch {
		case slices.Contains(known, e.Key):
		case slices.Contains(later, e.Key):
			r.out.Errorf(e.Pos, at, "leave it out", "%q is not supported by this version", e.Key)
		default:
			what := "the config file"
			if path != "" {
				what = path
			}
			r.out.Errorf(e.Pos, at, yamldoc.DidYouMean(e.Key, known), "%s has no key %q", what, e.Key)
		}
	}
}

// section returns a section that is a map, or nil.
func (r *reader) section(name string, known, later []string) *yamldoc.Node {
	n := r.root.Get(name)
	if n == nil || n.IsNull() {
		return nil
	}
	if n.Kind != yamldoc.Map {
		r.out.Errorf(n.Pos, name, fmt.Sprintf("write %s: { %s: … }", name, known[0]), "must be a map, not %s", n.Describe())
		return nil
	}
	r.keys(n, name, known, later)
	return n
}

// text returns a string, or "" and a finding.
func (r *reader) text(n *yamldoc.Node, path string) string {
	switch {
	case n == nil:
		return ""
	case !n.IsString():
		r.out.Errorf(n.Pos, path, "", "must be text, not %s", n.Describe())
		return ""
	case strings.TrimSpace(n.Text) == "":
		r.out.Errorf(n.Pos, path, "", "must not be empty")
		return ""
	}
	r.noVariables(n, path)
	return n.Text
}

// noVariables complains about what other tools would expand.
func (r *reader) noVariables(n *yamldoc.Node, path string) {
	switch {
	case strings.HasPrefix(n.Text, "env:"):
		r.out.Errorf(n.Pos, path, "write the value itself", "a reference is possible only for a secret")
	case strings.Contains(n.Text, "${"):
		r.out.Warnf(n.Pos, path, "secrets are written env:NAME", "${…} is not replaced by anything")
	}
}

func (r *reader) store() {
	r.file.Store.Path = r.path(DefaultStore)
	n := r.section("store", []string{"path", "key"}, []string{"postgres", "sqlite", "url"})
	if p := r.text(n.Get("path"), "store.path"); p != "" {
		if strings.Contains(p, "://") {
			r.out.Errorf(n.Get("path").Pos, "store.path", "write the path of a file", "only a file is supported by this version")
		}
		r.file.Store.Path = r.path(p)
	}
	if k := n.Get("key"); k != nil {
		if s := r.reference(k, "store.key", "the key that seals connections' state"); s != nil {
			r.file.storeKey, r.file.Store.Key = s, s.ref.String()
		}
	}
}

func (r *reader) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(r.dir, p)
}

func (r *reader) http() {
	h := &r.file.HTTP
	h.Listen = DefaultListen
	n := r.section("http", []string{"listen", "public_url", "operator_token"}, []string{"tls", "cert", "key"})
	if t := n.Get("operator_token"); t != nil {
		if s := r.reference(t, "http.operator_token", "an operator token"); s != nil {
			r.file.token, h.OperatorToken = s, s.ref.String()
		}
	}
	if l := n.Get("listen"); l != nil {
		r.listen(l, n.Get("operator_token") != nil)
	}
	if u := n.Get("public_url"); u != nil {
		h.PublicURL = r.publicURL(u)
	}
}

func (r *reader) listen(n *yamldoc.Node, token bool) {
	const at = "http.listen"
	text := n.Text
	if n.Kind != yamldoc.Scalar || n.IsNull() {
		r.out.Errorf(n.Pos, at, "write 127.0.0.1:8088", "must be host:port, not %s", n.Describe())
		return
	}
	host, port, err := net.SplitHostPort(text)
	p, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil {
		hint := "write 127.0.0.1:8088"
		if _, isPort := strconv.ParseUint(text, 10, 16); isPort == nil {
			hint = "write 127.0.0.1:" + text
		}
		r.out.Errorf(n.Pos, at, hint, "%s is no host:port", yamldoc.Quote(text))
		return
	}
	_ = p // zero asks the system for a free port
	r.file.HTTP.Listen = text
	if !loopback(host) && !token {
		r.out.Errorf(n.Pos, at, "set http.operator_token, or listen on 127.0.0.1", "whoever reaches %s could operate this host", text)
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (r *reader) publicURL(n *yamldoc.Node) string {
	const at = "http.public_url"
	text := r.text(n, at)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		r.out.Errorf(n.Pos, at, "write https://casewire.example", "%s is no address", yamldoc.Quote(text))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		r.out.Errorf(n.Pos, at, "write https://"+u.Host+u.Path, "vendors send webhooks over https only")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		r.out.Errorf(n.Pos, at, "leave out ?, # and @", "only scheme, host and path are possible")
	}
	return strings.TrimRight(text, "/")
}

func (r *reader) plugins() {
	r.file.Plugins.IdleStop = DefaultIdleStop
	n := r.section("plugins", []string{"idle_stop", "sandbox", "limits", "connectors"}, []string{"dir", "path", "sha256", "files"})
	if v := n.Get("idle_stop"); v != nil {
		d, ok := r.duration(v, "plugins.idle_stop", 0, 7*24*time.Hour)
		if ok {
			r.file.Plugins.IdleStop = d
		}
	}
	r.sandbox(n.Get("sandbox"))
	r.limits(n.Get("limits"))
	r.ownConnectors(n.Get("connectors"))
}

func (r *reader) duration(n *yamldoc.Node, path string, least, most time.Duration) (time.Duration, bool) {
	if v, ok := n.Value.(int); ok && v == 0 && n.Kind == yamldoc.Scalar && least == 0 {
		return 0, true
	}
	d, err := n.Duration()
	switch {
	case err != nil:
		r.out.Errorf(n.Pos, path, "", "%v", err)
		return 0, false
	case d < least || d > most:
		r.out.Errorf(n.Pos, path, "", "must be from %s to %s, not %s", yamldoc.FormatDuration(least), yamldoc.FormatDuration(most), n.Text)
		return 0, false
	}
	return d, true
}

func (r *reader) log() {
	n := r.section("log", []string{"level", "format"}, []string{"file"})
	levels := []string{"debug", "info", "warn", "error"}
	if v := n.Get("level"); v != nil {
		if !v.IsString() || !slices.Contains(levels, v.Text) {
			r.out.Errorf(v.Pos, "log.level", yamldoc.DidYouMean(v.Text, levels), "must be debug, info, warn or error, not %s", v.Describe())
		} else if err := r.file.Log.Level.UnmarshalText([]byte(v.Text)); err != nil {
			r.file.Log.Level = slog.LevelInfo
		}
	}
	if v := n.Get("format"); v != nil {
		if !v.IsString() || v.Text != "text" && v.Text != "json" {
			r.out.Errorf(v.Pos, "log.format", yamldoc.DidYouMean(v.Text, []string{"text", "json"}), "must be text or json, not %s", v.Describe())
			return
		}
		r.file.Log.Format = v.Text
	}
}

// reference reads a secret's place. What stands there instead is never shown.
func (r *reader) reference(n *yamldoc.Node, path, what string) *slot {
	const hint = "write env:NAME, file:PATH or exec:COMMAND, and keep the value there"
	if !n.IsString() {
		r.out.Errorf(n.Pos, path, hint, "%s is a secret and must be a reference", what)
		return nil
	}
	if !secret.IsReference(n.Text) {
		r.out.Errorf(n.Pos, path, hint, "%s is a secret and must not stand in the file", what)
		return nil
	}
	ref, err := secret.Parse(n.Text)
	if err != nil {
		r.out.Errorf(n.Pos, path, "", "%v", err)
		return nil
	}
	return &slot{ref: ref, pos: n.Pos, path: path}
}

// flows finds the flow files and has them checked against the connections.
func (r *reader) flows() {
	n := r.root.Get("flows")
	if n == nil || n.IsNull() || n.Kind == yamldoc.List && len(n.Items) == 0 {
		r.out.Warnf(r.root.Pos, "flows", "add flows: [flows/*.yaml]", "there are no flows: nothing will happen")
		return
	}
	if n.Kind != yamldoc.List {
		hint := "write [flows/*.yaml]"
		if n.IsString() {
			hint = fmt.Sprintf("write [%s]", n.Text)
		}
		r.out.Errorf(n.Pos, "flows", hint, "must be a list of file patterns, not %s", n.Describe())
		return
	}
	seen := map[string]bool{}
	for i, item := range n.Items {
		for _, file := range r.glob(item, yamldoc.Index("flows", i)) {
			if seen[file] {
				continue
			}
			seen[file] = true
			data, err := readFile(file)
			if err != nil {
				r.out.Errorf(diag.Pos{File: file}, "", "", "the flow cannot be read: %v", err)
				continue
			}
			r.file.Sources = append(r.file.Sources, flow.Source{File: file, Data: data})
		}
	}
	flows, found := flow.Load(r.file.Sources, connections{r})
	if !r.broken {
		*r.out = append(*r.out, found...)
	} else {
		// With a connection missing, some findings would only repeat that.
		for _, d := range found {
			if !strings.Contains(d.Summary, "connection") {
				*r.out = append(*r.out, d)
			}
		}
	}
	r.file.Flows = flows
}

func (r *reader) glob(n *yamldoc.Node, path string) []string {
	pattern := r.text(n, path)
	if pattern == "" {
		return nil
	}
	full := r.path(pattern)
	matches, err := filepath.Glob(full)
	switch {
	case err != nil:
		r.out.Errorf(n.Pos, path, "", "%s is no file pattern: %v", yamldoc.Quote(pattern), err)
		return nil
	case strings.Contains(pattern, "**"):
		r.out.Errorf(n.Pos, path, "list the folders one by one", "** is not supported")
		return nil
	}
	matches = slices.DeleteFunc(matches, func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && info.IsDir() || strings.HasSuffix(file, "_test.yaml") || strings.HasSuffix(file, "_test.yml")
	})
	if len(matches) == 0 {
		hint := "paths are relative to " + r.dir
		if info, err := os.Stat(full); err == nil && info.IsDir() {
			hint = fmt.Sprintf("write %s/*.yaml", strings.TrimRight(pattern, "/"))
		} else if err := unreadable(full); err != nil { // which a pattern passes over in silence
			r.out.Errorf(n.Pos, path, "", "%s: %v", yamldoc.Quote(pattern), err)
			return nil
		}
		r.out.Errorf(n.Pos, path, hint, "%s matches no flow", yamldoc.Quote(pattern))
	}
	return matches
}

// unreadable says why nothing can be found in the folder of a pattern, if that is so.
func unreadable(pattern string) error {
	dir := filepath.Dir(pattern)
	if strings.ContainsAny(dir, `*?[`) {
		return nil
	}
	_, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("the folder %s cannot be read: %w", dir, e.Err)
	}
	return err
}

// connections is the flow.Catalog of a file.
type connections struct{ r *reader }

var _ flow.Catalog = connections{}

// Connection returns the descriptor behind a connection of the file.
func (c connections) Connection(name string) (*connectorv1.DescribeResponse, bool) {
	d, ok := c.r.descriptors[name]
	return d, ok
}

// Connections lists the connections of a connector, in order.
func (c connections) Connections(connector string) []string {
	var names []string
	for name, d := range c.r.descriptors {
		if connector == "" || d.GetName() == connector {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Connector returns the descriptor of a connector.
func (c connections) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	return c.r.known.Connector(name)
}
