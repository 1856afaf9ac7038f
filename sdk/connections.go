package sdk

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk/internal/egress"
)

// connection is one configured connection at one generation.
type connection struct {
	name, tenant string
	generation   uint64
	value        any      // what the author's open returned
	err          *Error   // why it could not be opened; then value is nil
	secrets      []string // what must not appear in errors
	egress       *egress.Policy
	gone         chan struct{} // closed when it was replaced or removed
	refs         atomic.Int64  // one for the table, one per open call
	mu           sync.Mutex
	state        []byte // saved by the author and not yet handed to the host
}

// connections is the table of connections.
type connections struct {
	configure sync.Mutex // one Configure at a time
	mu        sync.RWMutex
	byName    map[string]*connection
}

// acquire finds the connection that a call names and holds it.
func (t *connections) acquire(p *connectorv1.CallContext) (*connection, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c := t.byName[p.GetConnection()]
	switch {
	case c == nil:
		return nil, mismatch("connection %q is not configured", p.GetConnection())
	case c.generation != p.GetGeneration():
		return nil, mismatch("connection %q is configured at generation %d, not %d", c.name, c.generation, p.GetGeneration())
	case c.err != nil:
		return nil, c.err
	}
	c.refs.Add(1)
	return c, nil
}

func mismatch(format string, args ...any) *Error {
	e := plugin.Errorf(codes.FailedPrecondition, format, args...)
	e.Origin, e.SideEffect, e.Reason = plugin.OriginPlugin, plugin.EffectNone, plugin.ReasonConfigMismatch
	return e
}

// put makes c the connection of its name and returns the one that it replaces.
func (t *connections) put(c *connection) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.byName[c.name]
	t.byName[c.name] = c
	return old
}

func (t *connections) remove(name string) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.byName[name]
	delete(t.byName, name)
	return old
}

// release gives up one hold; the last one closes the connection.
func (s *server) release(c *connection) {
	if c.refs.Add(-1) > 0 || c.value == nil {
		return
	}
	closer, ok := c.value.(io.Closer)
	if !ok {
		return
	}
	if err := s.guard("close", closer.Close); err != nil {
		s.log.Warn("connection did not close", "connection", c.name, "error", c.redact(err.Error()))
	}
}

// retire ends a connection that is no longer in the table.
func (s *server) retire(c *connection) {
	if c == nil {
		return
	}
	close(c.gone)
	s.release(c)
}

// closeAll retires every connection: the process is about to end.
func (s *server) closeAll() {
	s.conns.configure.Lock()
	defer s.conns.configure.Unlock()
	s.conns.mu.Lock()
	all := s.conns.byName
	s.conns.byName = map[string]*connection{}
	s.conns.mu.Unlock()
	for _, c := range all {
		s.retire(c)
	}
}

// Configure adds, replaces and removes connections. One that cannot be opened takes its predecessor's place all the
// same: the old configuration is no longer wanted, and calls are told why.
func (s *server) Configure(ctx context.Context, req *connectorv1.ConfigureRequest) (*connectorv1.ConfigureResponse, error) {
	leave, err := s.work.enter(func() {})
	if err != nil {
		return nil, s.seal(err, nil, false)
	}
	defer leave()
	s.conns.configure.Lock()
	defer s.conns.configure.Unlock()
	for _, name := range req.GetRemoves() {
		s.retire(s.conns.remove(name))
	}
	resp := &connectorv1.ConfigureResponse{}
	for _, u := range req.GetUpserts() {
		out := &connectorv1.ConnectionOutcome{Connection: u.GetConnection(), Generation: u.GetGeneration()}
		if err := s.upsert(ctx, u); err != nil {
			out.Status = plugin.MarshalStatus(err)
		}
		resp.Outcomes = append(resp.Outcomes, out)
	}
	return resp, nil
}

func (s *server) upsert(ctx context.Context, u *connectorv1.ConnectionConfig) error {
	if u.GetConnection() == "" {
		return s.seal(Invalid("/connection", "is required"), nil, false)
	}
	s.conns.mu.RLock()
	old := s.conns.byName[u.GetConnection()]
	s.conns.mu.RUnlock()
	if old != nil && old.err == nil && old.generation == u.GetGeneration() {
		return nil // a replay
	}
	c := &connection{
		name: u.GetConnection(), tenant: u.GetTenant(), generation: u.GetGeneration(), gone: make(chan struct{}),
	}
	c.refs.Store(1)
	env := Env{Connection: c.name, Tenant: c.tenant, State: u.GetState(), Hooks: map[string]HookEndpoint{}, SaveState: c.saveState}
	env.Logger = s.log.With("connection", c.name)
	for _, h := range u.GetHooks() {
		env.Hooks[h.GetTrigger()] = HookEndpoint{URL: h.GetUrl(), Secret: plugin.NewSecret(string(h.GetSecret()))}
	}
	cfg, secrets, err := s.c.decode(u.GetConfig())
	if err == nil {
		for _, h := range u.GetHooks() {
			secrets = append(secrets, string(h.GetSecret()))
		}
		c.secrets = usable(secrets)
		c.egress = egress.New(s.c.egress, cfg)
		ctx := egress.With(ctx, c.egress)
		err = s.guard("open connection "+c.name, func() error {
			var err error
			c.value, err = s.c.open(ctx, cfg, env)
			return err
		})
	}
	if err != nil {
		c.value = nil
		err = s.seal(err, c, false)
		if !errors.As(err, &c.err) {
			c.err = bug("open connection %s: %v", c.name, err)
		}
	}
	s.retire(s.conns.put(c))
	return err
}

// usable leaves out secrets so short that redacting them would only garble messages, and adds the other forms in which a
// vendor may quote one: escaped for a URL, and inside of base64, as in a Basic header.
func usable(secrets []string) []string {
	var out []string
	for _, s := range secrets {
		if len(s) < 6 {
			continue
		}
		out = append(out, s)
		if escaped := url.QueryEscape(s); escaped != s {
			out = append(out, escaped)
		}
		// Where it begins in what was encoded decides which of three texts it becomes; its edges mix with its neighbours.
		for before := range 3 {
			text := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), s...))
			from, to := (8*before+5)/6, 8*(before+len(s))/6
			out = append(out, text[from:to])
		}
	}
	return out
}

func (c *connection) redact(s string) string {
	for _, secret := range c.secrets {
		if strings.Contains(s, secret) {
			s = strings.ReplaceAll(s, secret, plugin.Redacted)
		}
	}
	return s
}

func (c *connection) saveState(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = append([]byte{}, b...)
}

// takeState returns state that the host has not been given yet.
func (c *connection) takeState() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.state
	c.state = nil
	return b
}

// trail sends state that the host has not been given yet along with the end of a call that has no other place for it. It
// stays to be given: whether a trailer arrives nobody can tell.
func (c *connection) trail(set func(metadata.MD)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != nil {
		set(metadata.Pairs(plugin.StateTrailer, string(c.state)))
	}
}

// unaryTrailer sets the trailer of a unary call.
func unaryTrailer(ctx context.Context) func(metadata.MD) {
	return func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) } // it fails only outside of a call
}

// keepState gives back state that could not be sent, unless there is newer.
func (c *connection) keepState(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		c.state = b
	}
}
