package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/internal/depot"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Where a connector comes from.
const (
	sourceBundled   = "bundled"   // part of this binary
	sourceInstalled = "installed" // pinned in the lock file
	sourceFile      = "file"      // a program that the configuration pins
	sourceAddress   = "address"   // one that the configuration says the address of
)

const (
	// reachIn is how long a connector at an address may take to say what it is while a configuration is checked.
	reachIn = 3 * time.Second
	// describeIn is how long one that must be started may take.
	describeIn = plugin.StartTimeout + plugin.DescribeTimeout
)

// connectors are those that a host can use: the bundled, those that the lock file beside the configuration pins, and those
// that the configuration brings along.
type connectors struct {
	app    App
	depot  *depot.Depot
	lock   *depot.Lock
	dir    string // of the configuration
	broken error  // of the lock file
	own    map[string]config.Connector
	built  map[string]*source
}

var (
	_ config.Descriptors = (*connectors)(nil)
	_ config.Declarer    = (*connectors)(nil)
	_ config.Explainer   = (*connectors)(nil)
)

// source is one connector.
type source struct {
	kind    string
	version string // as the lock file has it
	place   string // digest, or address
	host.Connector
	// err is why it cannot be used, said to people.
	err error

	asked bool
	desc  *connectorv1.DescribeResponse
	why   error // there is no descriptor, or only an old one
}

func newConnectors(app App) *connectors { return &connectors{app: app, built: map[string]*source{}} }

// connectorsOf are the connectors around a configuration that may have mistakes, or may not be there.
func connectorsOf(app App, path string) (*connectors, error) {
	c := newConnectors(app)
	_, _ = config.Load(path, declareOnly{c}) // for what it declares; its mistakes are told elsewhere
	if c.depot != nil {
		return c, c.broken
	}
	return c, c.open(filepath.Dir(path), filepath.Join(filepath.Dir(path), config.DefaultStore))
}

// declareOnly learns what a configuration brings along, and keeps its check from starting anything.
type declareOnly struct{ *connectors }

// Connector describes nothing.
func (declareOnly) Connector(string) (*connectorv1.DescribeResponse, bool) { return nil, false }

// Explain says nothing.
func (declareOnly) Explain(string) error { return nil }

func (c *connectors) open(dir, storePath string) (err error) {
	c.dir, c.depot = dir, depot.Open(filepath.Dir(storePath))
	c.lock, err = depot.ReadLock(dir)
	if err != nil {
		c.lock = &depot.Lock{}
	}
	return err
}

// Declare learns where the host works and what the configuration brings along.
func (c *connectors) Declare(f *config.File) diag.List {
	var out diag.List
	c.own, c.built = map[string]config.Connector{}, map[string]*source{}
	if c.broken = c.open(f.Dir(), f.Store.Path); c.broken != nil {
		out.Errorf(diag.Pos{File: filepath.Join(f.Dir(), depot.LockName)}, "", "", "%v", c.broken)
	}
	c.depot.Sandbox = sandbox(f.Plugins)
	for _, own := range f.Plugins.Connectors {
		_, bundled := c.app.Connectors[own.Name]
		_, installed := c.lock.Connectors[own.Name]
		if (bundled || installed) && !own.Replace {
			kind := sourceBundled
			if installed {
				kind = sourceInstalled
			}
			out.Errorf(own.Pos, own.Path, "add replace: true if this one is meant to stand in for it", "there is a connector %q already, %s", own.Name, kind)
			continue
		}
		c.own[own.Name] = own
		if own.File == "" {
			continue
		}
		if hint, err := c.admit(own); err != nil {
			out.Errorf(own.Pos, own.Path, hint, "%v", err)
			c.built[own.Name] = &source{kind: sourceFile, place: own.SHA256, err: err}
		}
	}
	return out
}

// admit takes a program that the configuration pins into the store.
func (c *connectors) admit(own config.Connector) (hint string, err error) {
	if own.SHA256 == "" {
		sum, err := depot.Sum(own.File)
		if err != nil {
			return "", fmt.Errorf("the program cannot be used: %w", err)
		}
		return fmt.Sprintf("if it is the program that you trust, add sha256: %q", sum), errors.New("a program is started only if its digest is pinned")
	}
	if err := c.depot.Import(own.File, own.SHA256); err != nil {
		if errors.Is(err, launch.ErrDigest) {
			hint = "find out who changed it; if it was somebody you trust, change sha256"
		}
		return hint, fmt.Errorf("the program cannot be used: %w", err)
	}
	return "", nil
}

// Connector describes a connector. What was started once to describe itself is not started again.
func (c *connectors) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	s := c.source(name)
	if s == nil || s.err != nil {
		return nil, false
	}
	if !s.asked {
		s.asked = true
		s.desc, s.why = s.Describe()
		if s.kind == sourceAddress {
			s.desc, s.why = c.recall(name, s)
		}
	}
	return s.desc, s.desc != nil
}

// recall falls back on what a connector at an address said last.
func (c *connectors) recall(name string, s *source) (*connectorv1.DescribeResponse, error) {
	if s.why == nil {
		return s.desc, c.depot.Remember(name, s.place, s.desc)
	}
	if last := c.depot.Recall(name, s.place); last != nil {
		return last, fmt.Errorf("the connector is away, and is believed to be what it was: %w", s.why)
	}
	return nil, fmt.Errorf("%w; start it once, so that the configuration can be checked against it", s.why)
}

// Explain says why a connector cannot be described, or cannot be believed.
func (c *connectors) Explain(name string) error {
	s := c.source(name)
	switch {
	case s == nil:
		return nil
	case s.err != nil:
		return s.err
	}
	return s.why
}

// Connectors lists the names.
func (c *connectors) Connectors() []string {
	names := map[string]bool{}
	for name := range c.app.Connectors {
		names[name] = true
	}
	for name := range c.own {
		names[name] = true
	}
	if c.lock != nil {
		for name := range c.lock.Connectors {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// all are the connectors that can be used, as a host takes them.
func (c *connectors) all() map[string]host.Connector {
	out := map[string]host.Connector{}
	for _, name := range c.Connectors() {
		if s := c.source(name); s != nil && s.err == nil {
			out[name] = s.Connector
		}
	}
	return out
}

// otherThan says which connections need a connector that is not the one that a running host has: it was checked against what
// the host would not call.
func (c *connectors) otherThan(now *connectors, conns []config.Connection) diag.List {
	var out diag.List
	for _, conn := range conns {
		have, want := c.source(conn.Connector), now.source(conn.Connector)
		if have == nil || have.err != nil || want == nil || have.kind != want.kind || have.place != want.place {
			out.Errorf(conn.Pos, "connections."+conn.Name+".connector", "start the host again", "the connector %s is not the one that this host began with", conn.Connector)
		}
	}
	return out
}

// source finds a connector: the configuration's own first, then the installed, then the bundled. It starts nothing.
func (c *connectors) source(name string) *source {
	if s, ok := c.built[name]; ok {
		return s
	}
	var s *source
	own, isOwn := c.own[name]
	bundled, isBundled := c.app.Connectors[name]
	isInstalled := false
	if c.lock != nil {
		_, isInstalled = c.lock.Connectors[name]
	}
	switch {
	case isOwn && own.Address != nil:
		s = c.remote(own)
	case isOwn:
		s = c.stored(name, sourceFile, own.SHA256, own.Args)
	case isInstalled:
		s = c.installed(name, isBundled)
	case isBundled:
		s = &source{kind: sourceBundled, Connector: bundled}
	}
	if s != nil && s.err == nil && s.Describe == nil {
		s.err = fmt.Errorf("the connector %s cannot be described without starting it", name)
	}
	c.built[name] = s
	return s
}

func (c *connectors) installed(name string, bundled bool) *source {
	e := c.lock.Connectors[name]
	sum, err := c.lock.Pinned(name, depot.Here())
	if err == nil && bundled && !e.ReplacesBundled {
		err = fmt.Errorf("%s pins a connector %q, and this binary bundles one of that name; install it again with --replace, or `casewire connectors remove %[2]s`", depot.LockName, name)
	}
	if err != nil {
		return &source{kind: sourceInstalled, version: e.Version, place: sum, err: err}
	}
	s := c.stored(name, sourceInstalled, sum, nil)
	s.version = e.Version
	return s
}

// stored is a program in the depot.
func (c *connectors) stored(name, kind, sum string, args []string) *source {
	s := &source{kind: kind, place: sum}
	switch err := c.depot.Check(sum); {
	case errors.Is(err, depot.ErrMissing):
		s.err = fmt.Errorf("the program of connector %s: %w, %s; run `casewire connectors install`, which fetches what %s pins", name, err, c.depot.Dir(), depot.LockName)
		return s
	case errors.Is(err, launch.ErrDigest):
		s.err = fmt.Errorf("the connector %s is not the one that was approved: %w; find out who changed it, then install it again", name, err)
		return s
	case err != nil:
		s.err = fmt.Errorf("the connector %s: %w", name, err)
		return s
	}
	s.Launcher = c.depot.Launcher(sum, args)
	s.Describe = func() (*connectorv1.DescribeResponse, error) {
		ctx, cancel := context.WithTimeout(context.Background(), describeIn)
		defer cancel()
		return c.depot.Describe(ctx, name, sum, args)
	}
	return s
}

// remote is a connector at an address. A host is told what was found when the configuration was checked.
func (c *connectors) remote(own config.Connector) *source {
	l := launch.Address{Addr: *own.Address}
	if own.TLS != nil {
		l.TLS = func(ctx context.Context) (*tls.Config, error) { return clientTLS(ctx, *own.TLS, c.dir) }
	}
	s := &source{kind: sourceAddress, place: own.Address.String()}
	s.Launcher = l
	s.Describe = func() (*connectorv1.DescribeResponse, error) {
		if s.desc != nil {
			return s.desc, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), reachIn)
		defer cancel()
		return c.depot.Ask(ctx, l, own.Name)
	}
	return s
}

func clientTLS(ctx context.Context, t config.TLS, dir string) (*tls.Config, error) {
	r := secret.Resolver{Dir: dir}
	ca, err1 := r.Resolve(ctx, t.CA)
	cert, err2 := r.Resolve(ctx, t.Cert)
	key, err3 := r.Resolve(ctx, t.Key)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return plugin.MutualTLS([]byte(ca.Reveal()), []byte(cert.Reveal()), []byte(key.Reveal()))
}
