package host

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/depot"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Options configure a host. Store and Connectors are required.
type Options struct {
	Store store.Store
	// Connectors says how to start each connector, by name.
	Connectors  map[string]Connector
	Connections []Connection
	Logger      *slog.Logger
	// PublicURL is where vendors reach this host's webhooks, such as "https://casewire.example"; empty means that they
	// cannot.
	PublicURL string
	// RunDir is a directory of this host's own for sockets; default under the system's temporary directory.
	RunDir string
	// Workers is how many runs execute at once; default 64.
	Workers int
	// IdleStop stops a connector process that was not called for so long; zero never does.
	IdleStop time.Duration
	// Sandbox and Limits hold connector processes. The zero value is SandboxAuto, and DefaultLimits.
	Sandbox Sandbox
	Limits  Limits
	// Retention says how long records are kept; zero keeps them for ever.
	Retention Retention
	// Version of the program, told to connectors.
	Version string
	// StateKey seals what connectors keep for their connections, such as a refresh token: 32 random bytes in hexadecimal or
	// base64. Without it such state is lost when the host ends. It must be the same at the next start.
	StateKey plugin.Secret
	// Redact scrubs what connectors print before it is logged; nil leaves it.
	Redact func(string) string
}

// Sandbox says how connector processes are confined.
type Sandbox = launch.Sandbox

// SandboxMode says what happens when the system cannot confine a connector.
type SandboxMode = launch.SandboxMode

// The modes: do not confine; confine as far as the system can, and report what it cannot; do not start what cannot be
// confined.
const (
	SandboxOff    = launch.SandboxOff
	SandboxAuto   = launch.SandboxAuto
	SandboxStrict = launch.SandboxStrict
)

// Limits bound what one connector process takes. A negative field bounds nothing.
type Limits = launch.Limits

// Enforced says what the system really holds a connector process to.
type Enforced = launch.Enforced

// Poisoned is an input that a connector is not given any more.
type Poisoned = catalog.Poisoned

// DefaultLimits are those of Options without.
var DefaultLimits = Limits{Memory: 512 << 20, Files: 1024}

// Connector says how to start a connector.
type Connector = catalog.Source

// ExecConnector runs a program as a connector process of its own. Describe, if not nil, answers what the connector is
// without starting it.
func ExecConnector(path string, args []string, describe func() (*connectorv1.DescribeResponse, error)) Connector {
	return Connector{Launcher: launch.Exec{Path: path, Args: args}, Describe: describe}
}

// FileConnector runs a program that somebody else wrote, if its SHA-256 (hex) is the one given: a copy of it is kept below
// dir, checked at every start, and what is executed is what was checked. The program is started once to say what it is, and
// never again for that.
func FileConnector(dir, path, sha256, name string, args ...string) (Connector, error) {
	d := depot.Open(dir)
	sum := strings.ToLower(sha256)
	if err := d.Import(path, sum); err != nil {
		return Connector{}, fmt.Errorf("host: connector %s: %w", name, err)
	}
	return Connector{Launcher: d.Launcher(sum, args), Describe: func() (*connectorv1.DescribeResponse, error) {
		ctx, cancel := context.WithTimeout(context.Background(), plugin.StartTimeout+plugin.DescribeTimeout)
		defer cancel()
		return d.Describe(ctx, name, sum, args)
	}}, nil
}

// AddressConnector connects to a connector that somebody else runs, at "unix:///run/hashes.sock" or "tcp://host:port", and
// never ends it. TLS holds the host's certificate and the CA of the connector's; it may be nil for addresses of this machine.
func AddressConnector(addr string, conf *tls.Config) (Connector, error) {
	a, err := plugin.ParseAddress(addr)
	if err != nil {
		return Connector{}, fmt.Errorf("host: %w", err)
	}
	l := launch.Address{Addr: a}
	if conf != nil {
		l.TLS = func(context.Context) (*tls.Config, error) { return conf, nil }
	} else if !a.Local() {
		return Connector{}, fmt.Errorf("host: %s is reached by mutual TLS only; give a certificate and the connector's CA", a)
	}
	return Connector{Launcher: l}, nil
}

// MemoryConnector serves a connector inside this process, over the same protocol: for tests.
func MemoryConnector(srv connectorv1.ConnectorServer) Connector {
	return Connector{Launcher: launch.InMemory{Server: srv}}
}

// Connection is one configured account at a vendor.
type Connection struct {
	Name, Connector string
	Tenant          string
	// Config is JSON after the connector's config schema, with its secrets in place.
	Config json.RawMessage
	// Poll is how often its triggers are polled; zero leaves it to the trigger.
	Poll time.Duration
	// Credential names what it signs in with. Connections that share a credential and a vendor's host are throttled together.
	Credential string
	// Limit bounds how hard the vendor is driven by all connections that are throttled together.
	Limit Limit
}

// Limit says how hard a vendor is driven. Zero fields bound nothing.
type Limit struct {
	Concurrency int     // calls in flight
	PerSecond   float64 // calls begun
}

func (o Options) validate() error {
	var errs []error
	if o.Store == nil {
		errs = append(errs, errors.New("host: Options.Store is required"))
	}
	errs = append(errs, validateConnections(o.Connections, o.Connectors))
	if o.PublicURL != "" {
		if u, err := url.Parse(o.PublicURL); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			errs = append(errs, fmt.Errorf("host: public URL %q: give an absolute URL such as https://casewire.example", o.PublicURL))
		}
	}
	return errors.Join(errs...)
}

func validateConnections(conns []Connection, connectors map[string]Connector) error {
	var errs []error
	names := map[string]bool{}
	for _, c := range conns {
		switch {
		case c.Name == "" || strings.ContainsAny(c.Name, "/ \t\n"):
			errs = append(errs, fmt.Errorf("host: connection name %q: give it a name without spaces and slashes", c.Name))
		case names[c.Name]:
			errs = append(errs, fmt.Errorf("host: connection %q is given twice", c.Name))
		}
		if _, ok := connectors[c.Connector]; !ok {
			errs = append(errs, fmt.Errorf("host: connection %q: there is no connector %q", c.Name, c.Connector))
		}
		names[c.Name] = true
	}
	return errors.Join(errs...)
}
