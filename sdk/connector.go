package sdk

import (
	"context"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/internal/schema"
)

// Connector is a connector under construction, and what Serve serves.
type Connector struct {
	name, version, summary string
	egress                 []string
	homepage, licence      string
	deprecated             string
	sunset                 time.Time
	conn                   reflect.Type // what open returns
	config                 *schema.Plan
	decode                 func(config []byte) (cfg any, secrets []string, err error)
	open                   func(ctx context.Context, cfg any, env Env) (any, error)
	check                  func(ctx context.Context, conn any) []Probe
	actions                []*actionSpec
	triggers               []*triggerSpec
}

// Name returns the connector's name.
func (c *Connector) Name() string { return c.name }

var (
	nameRule    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	memberRule  = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)
	versionRule = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)([-+][0-9A-Za-z.+-]+)?$`)
)

// New makes a connector whose connections are T, opened from configuration C. Open must not reach the network. If T has
// a method Close() error, it is called when the connection is replaced or removed, after the calls on it have finished.
//
// Like every declaration of this package it panics on an authoring mistake, with a sentence that says what to change, so
// that the mistake is found at the first start.
func New[C, T any](name, version, summary string, open func(ctx context.Context, cfg C, env Env) (T, error)) *Connector {
	c := &Connector{name: name, version: version, summary: summary, conn: reflect.TypeFor[T]()}
	switch {
	case !nameRule.MatchString(name):
		mistake("sdk.New(%q): the name must be lower-case letters, digits and dashes, such as \"jira\"", name)
	case !versionRule.MatchString(version):
		mistake("sdk.New(%q): version %q must be a semantic version, such as 1.0.0", name, version)
	case summary == "":
		mistake("sdk.New(%q): the summary is empty; say in one sentence what the connector talks to", name)
	case open == nil:
		mistake("sdk.New(%q): open is nil; it makes a connection from its configuration", name)
	}
	var err error
	if c.config, err = schema.Compile(reflect.TypeFor[C](), schema.Input); err != nil {
		mistake("sdk.New(%q): configuration %v", name, err)
	}
	if !c.config.IsObject() || reflect.TypeFor[C]().Kind() == reflect.Pointer {
		mistake("sdk.New(%q): the configuration is %s; it must be a struct", name, reflect.TypeFor[C]())
	}
	if path := unmarked(c.config.Schema()); path != "" {
		mistake("sdk.New(%q): %s of the configuration is called like a secret and is a string, which shows in logs and errors; "+
			"make it an sdk.Secret, or give it another name if it is none", name, path)
	}
	c.decode = func(config []byte) (any, []string, error) {
		var cfg C
		if bad := c.config.Decode(config, &cfg); bad != nil {
			return nil, nil, violations(plugin.OriginConfig, "invalid configuration", bad)
		}
		return cfg, c.config.Secrets(cfg), nil
	}
	c.open = func(ctx context.Context, cfg any, env Env) (any, error) { return open(ctx, as[C](cfg), env) }
	return c
}

// Egress declares the hosts that the connector reaches: "login.example.com", "*.example.com", "host:8443", or
// "{config.base_url}" and "{config.credential.authority_url}" for the host of a configured URL, or
// "{config.metadata?169.254.169.254:80}" for a host that is reached only where that property is configured. Clients of package rest
// reach no other host, whatever a link or a redirect says. Declared hosts must be on the Internet; configured ones may be
// on a private network, and on this machine if the configuration says so by address or as localhost. A connector that
// declares nothing reaches every host on the Internet.
func (c *Connector) Egress(hosts ...string) *Connector {
	for _, h := range hosts {
		if h == "" {
			mistake("%s: Egress has an empty host; name one, or a configured value as {config.base_url}", c.name)
		}
		switch ref, ok := configRef(h); {
		case ok && !c.config.Has(ref):
			mistake("%s: Egress names {config.%s}, but the configuration has no such property", c.name, ref)
		case !hostRule.MatchString(declaredHost(h, ok)):
			mistake("%s: Egress(%q): write a host, such as api.example.com, *.example.com or api.example.com:8443, without scheme and path; "+
				"or {config.base_url} for the host of a configured URL", c.name, h)
		}
		if !slices.Contains(c.egress, h) {
			c.egress = append(c.egress, h)
		}
	}
	return c
}

// Homepage says where people read about the connector: an https URL.
func (c *Connector) Homepage(address string) *Connector {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
		mistake("%s: Homepage(%q): give an https URL, such as https://example.com/connector", c.name, address)
	}
	c.homepage = address
	return c
}

// Licence names the connector's licence as an SPDX expression, such as "Apache-2.0".
func (c *Connector) Licence(spdx string) *Connector {
	if !licenceRule.MatchString(spdx) {
		mistake("%s: Licence(%q): give an SPDX expression, such as \"Apache-2.0\" or \"MIT OR Apache-2.0\"", c.name, spdx)
	}
	c.licence = spdx
	return c
}

var licenceRule = regexp.MustCompile(`^[A-Za-z0-9(][A-Za-z0-9.+() -]*$`)

// Sunset says when what the connector talks to comes to its end. Single actions and triggers have sunsets of their own.
func (c *Connector) Sunset(t time.Time) *Connector {
	if t.IsZero() {
		mistake("%s: Sunset of the zero time; leave it out where no end is announced", c.name)
	}
	c.sunset = t
	return c
}

// Deprecated says that the connector is not for new connections, and what to use instead: "use connector jira".
func (c *Connector) Deprecated(instead string) *Connector {
	if instead == "" {
		mistake("%s: Deprecated is empty; say what to use instead", c.name)
	}
	c.deprecated = instead
	return c
}

// hostRule is a name or an address, with a port if it has one. A star stands for whole labels.
var hostRule = regexp.MustCompile(`^((\*\.)?[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

var configRefRule = regexp.MustCompile(`^\{config\.([^.}?]+)[^}]*\}$`)

// declaredHost is the host that a declaration names: of one in braces, the host behind the question mark, if there is one.
func declaredHost(h string, braces bool) string {
	if !braces {
		return h
	}
	_, host, ok := strings.Cut(strings.TrimSuffix(h, "}"), "?")
	if !ok {
		return "configured"
	}
	return host
}

func configRef(h string) (string, bool) {
	m := configRefRule.FindStringSubmatch(h)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// OnCheck declares the live probes of a connection. Each probe is best named after what it tries: "token",
// "permission: SecurityAlert.Read.All".
func OnCheck[T any](c *Connector, fn func(T, context.Context) []Probe) {
	receiver[T](c, "OnCheck")
	if c.check != nil {
		mistake("%s: OnCheck is called twice; return all probes from one function", c.name)
	}
	c.check = func(ctx context.Context, conn any) []Probe { return fn(as[T](conn), ctx) }
}

// receiver refuses a function whose first parameter is not the connector's connection.
func receiver[T any](c *Connector, what string) {
	if t := reflect.TypeFor[T](); t != c.conn {
		mistake("%s: %s works on %s, but the connections that sdk.New opens are %s; use methods of %[4]s", c.name, what, t, c.conn)
	}
}

// as is a type assertion that lets a nil interface through.
func as[T any](conn any) T {
	t, _ := conn.(T)
	return t
}

// mistake stops a program whose author has to change something.
func mistake(format string, args ...any) {
	panic("casewire sdk: " + fmt.Sprintf(format, args...))
}

func violations(origin connectorOrigin, message string, bad []plugin.Violation) *Error {
	e := Invalid("", "%s", message)
	e.Origin, e.Violations = origin, bad
	return e
}
