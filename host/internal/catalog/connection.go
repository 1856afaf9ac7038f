package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Connection is a configured account at a vendor.
type Connection struct {
	Name, Connector, Tenant string
	// Config is JSON after the connector's config schema, secrets in place. It goes to the connector and nowhere else.
	Config json.RawMessage
	Hooks  []Hook
	// State is what OnState was last given for the connection, by this host or an earlier one, or what somebody else put in
	// its place. Nil says nothing: what the catalog has, if anything, stays.
	State []byte
	// Broken, if not nil, is why the host itself cannot put the connection into service. The connector is not told of it, and
	// calls fail with this error.
	Broken *plugin.Error
}

// Hook is the public endpoint of a trigger.
type Hook struct {
	Trigger string
	URL     string // empty when the host has no public address
	Secret  plugin.Secret
}

// Outcome is what became of one connection of a Configure.
type Outcome struct {
	Connection, Connector string
	Generation            uint64
	// Err is nil if the connector took the connection. An error of class unavailable says that the connector is down: it
	// will be given the connection when it is up again. Any other puts the connection out of service until it is changed.
	Err *plugin.Error
}

// conn is a connection at one generation. It is replaced, never changed.
type conn struct {
	spec       Connection
	generation uint64
	sup        *supervisor
	sealed     *sealed // shared by the generations
	epoch      int     // of the state that it was placed with
	refused    atomic.Pointer[plugin.Error]
}

// sealed is a connection's state: what the connector handed out last, or what the host was configured with.
type sealed struct {
	saving sync.Mutex // states become durable in the order in which they come

	mu         sync.Mutex
	cur, given []byte
	epoch      int // grows when somebody else than the connector changes the state
}

func (s *sealed) get() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// set takes what the connector handed out, unless it is about a state that was replaced since: whoever signs in anew does
// not want what an old call brings. It says whether it is news.
func (s *sealed) set(b []byte, epoch int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch != s.epoch || bytes.Equal(b, s.cur) {
		return false
	}
	s.cur = b
	return true
}

// offer takes a configured state and says whether it is news. A caller that gives nothing, what it gave before, or what
// the connector handed out, says nothing new; anything else was put there by somebody (a sign-in) and wins.
func (s *sealed) offer(b []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b == nil {
		return false
	}
	if bytes.Equal(b, s.given) || bytes.Equal(b, s.cur) {
		s.given = b
		return false
	}
	s.given, s.cur = b, b
	s.epoch++
	return true
}

func (s *sealed) at() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

func (a Connection) same(b Connection) bool {
	return a.Connector == b.Connector && a.Tenant == b.Tenant && bytes.Equal(a.Config, b.Config) && slices.Equal(a.Hooks, b.Hooks) &&
		(a.Broken == nil) == (b.Broken == nil)
}

// continues says whether what was kept for a connection is good for another of its name.
func (cn *conn) continues(with Connection) bool {
	return cn.spec.Connector == with.Connector && cn.spec.Tenant == with.Tenant
}

func (cn *conn) proto() *connectorv1.ConnectionConfig {
	p := &connectorv1.ConnectionConfig{
		Connection: cn.spec.Name, Generation: cn.generation, Config: cn.spec.Config, State: cn.sealed.get(), Tenant: cn.spec.Tenant,
	}
	for _, h := range cn.spec.Hooks {
		p.Hooks = append(p.Hooks, &connectorv1.HookEndpoint{Trigger: h.Trigger, Url: h.URL, Secret: []byte(h.Secret.Reveal())})
	}
	return p
}

// Configure makes the desired set of connections the one in force: new and changed ones get a new generation, those that
// are gone are removed, and the rest is not touched. Connectors that are concerned are started. There is one outcome for
// each desired connection, in order; the error is for failures of the whole, such as a stopped catalog.
func (c *Catalog) Configure(ctx context.Context, desired []Connection) ([]Outcome, error) {
	c.configuring.Lock()
	defer c.configuring.Unlock()
	if c.ctx.Err() != nil {
		return nil, stoppedError()
	}
	old, next := *c.conns.Load(), make(map[string]*conn, len(desired))
	outcomes := make([]Outcome, len(desired))
	concerned := map[*supervisor]bool{}
	for i, spec := range desired {
		outcomes[i] = Outcome{Connection: spec.Name, Connector: spec.Connector}
		if outcomes[i].Err = c.inadmissible(spec, next); outcomes[i].Err != nil {
			continue
		}
		cn := c.place(spec, old[spec.Name])
		next[spec.Name] = cn
		if cn != old[spec.Name] && cn.spec.Broken == nil {
			concerned[cn.sup] = true
		}
	}
	gone := map[*supervisor]bool{}
	for name, was := range old {
		if now := next[name]; now == nil || now.sup != was.sup || now.spec.Broken != nil {
			gone[was.sup] = true
		}
	}
	c.conns.Store(&next)

	var mu sync.Mutex
	down := map[*supervisor]*plugin.Error{}
	var wg sync.WaitGroup
	for _, s := range c.sups {
		if !concerned[s] && !gone[s] {
			continue
		}
		wg.Go(func() {
			err := s.reconcile(ctx, concerned[s])
			mu.Lock()
			down[s] = err
			mu.Unlock()
		})
	}
	wg.Wait()
	for i := range outcomes {
		o := &outcomes[i]
		cn := next[o.Connection]
		if o.Err != nil || cn == nil {
			continue
		}
		o.Generation = cn.generation
		if o.Err = cn.refused.Load(); o.Err == nil && concerned[cn.sup] {
			o.Err = down[cn.sup]
		}
	}
	return outcomes, nil
}

// inadmissible says what is wrong with a connection before any connector is asked.
func (c *Catalog) inadmissible(spec Connection, next map[string]*conn) *plugin.Error {
	bad := func(field, format string, args ...any) *plugin.Error {
		e := hostError(codes.InvalidArgument, format, args...)
		e.Origin = plugin.OriginConfig
		e.Violations, e.Message = []plugin.Violation{{Field: field, Description: e.Message}}, "invalid connection"
		return e
	}
	switch {
	case spec.Name == "":
		return bad("/name", "a connection needs a name")
	case next[spec.Name] != nil:
		return bad("/name", "there are two connections named %q", spec.Name)
	case c.sups[spec.Connector] == nil:
		return bad("/connector", "there is no connector %q; known are %s", spec.Connector, strings.Join(c.Connectors(), ", "))
	case len(spec.Config) > plugin.MaxInput:
		return bad("", "the configuration has %d bytes, more than %d", len(spec.Config), plugin.MaxInput)
	case len(spec.State) > maxState:
		return bad("/state", "the state has %d bytes, more than %d", len(spec.State), maxState)
	case len(spec.Config) > 0 && !json.Valid(spec.Config):
		return bad("", "the configuration is not JSON")
	}
	return nil
}

// maxState bounds a connection's sealed state, so that a configuration and a state fit into one message.
const maxState = 512 << 10

// place returns the connection to put in force: the one there is, if nothing about it changed.
func (c *Catalog) place(spec Connection, was *conn) *conn {
	seal := &sealed{cur: spec.State, given: spec.State}
	if was != nil && was.continues(spec) {
		seal = was.sealed
		if news := seal.offer(spec.State); !news && was.spec.same(spec) {
			return was
		}
	}
	c.generation++
	cn := &conn{spec: spec, generation: c.generation, sup: c.sups[spec.Connector], sealed: seal, epoch: seal.at()}
	cn.refused.Store(spec.Broken)
	return cn
}

// connections returns the connections of a connector in force, by name.
func (c *Catalog) connections(s *supervisor) map[string]*conn {
	out := map[string]*conn{}
	for name, cn := range *c.conns.Load() {
		if cn.sup == s {
			out[name] = cn
		}
	}
	return out
}

// offered are those of them that the connector is told of.
func (c *Catalog) offered(s *supervisor) map[string]*conn {
	out := c.connections(s)
	maps.DeleteFunc(out, func(_ string, cn *conn) bool { return cn.spec.Broken != nil })
	return out
}

// refusal is what a call on a refused connection is answered with.
func refusal(cn *conn, why *plugin.Error) *plugin.Error {
	e := *why
	e.Message = "connection " + cn.spec.Name + " is out of service: " + why.Message
	e.SideEffect, e.RetryAfter = plugin.EffectNone, 0
	return &e
}
