// Package catalog finds, starts, watches, restarts and describes connector processes, and is the one way to call them.
// Whether a process is alive is its business; what a call means is not.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Source says how a connector is reached.
type Source struct {
	Launcher launch.Launcher
	// Describe answers without starting a process; optional.
	Describe func() (*connectorv1.DescribeResponse, error)
}

// Options configure a Catalog. Connectors is required.
type Options struct {
	Logger     *slog.Logger
	RunDir     string            // see launch.Options
	Connectors map[string]Source // by connector name
	// HostVersion is told to connectors.
	HostVersion string
	// IdleStop stops a process that served no call for so long; the next call starts it again. Zero means never.
	IdleStop time.Duration
	// Grace is how long calls may finish when a process is stopped. Default 10 s.
	Grace time.Duration
	// Sandbox and Limits hold connector processes; see launch.
	Sandbox launch.Sandbox
	Limits  launch.Limits
	// Redact is applied to what connectors print before it is kept or logged.
	Redact func(string) string
	// Timing overrides the protocol's deadlines and the pace of supervision; zero fields keep the defaults.
	Timing Timing
}

// Timing is how long things may take. Zero fields mean the defaults named.
type Timing struct {
	Start, Describe, Configure, Check, Webhook, Probe time.Duration // the protocol's: plugin.StartTimeout and so on
	ProbeEvery                                        time.Duration // 15 s
	BackoffMin, BackoffMax                            time.Duration // 0.5 s, 60 s
	Stable                                            time.Duration // 5 min: after it a crash counts as the first
	Resolve                                           time.Duration // 60 s: of Resolve without a deadline
	CrashWindow                                       time.Duration // 10 min: so many crashes in it are a loop
	QuarantineMin, QuarantineMax                      time.Duration // 5 min, 1 h: until one start is tried
	Silence                                           time.Duration // plugin.PollSilence: of a poll that brings nothing
}

func (t Timing) withDefaults() Timing {
	return Timing{
		Start:      cmp.Or(t.Start, plugin.StartTimeout),
		Describe:   cmp.Or(t.Describe, plugin.DescribeTimeout),
		Configure:  cmp.Or(t.Configure, plugin.ConfigureTimeout),
		Check:      cmp.Or(t.Check, plugin.CheckTimeout),
		Webhook:    cmp.Or(t.Webhook, plugin.WebhookTimeout),
		Probe:      cmp.Or(t.Probe, plugin.ProbeTimeout),
		ProbeEvery: cmp.Or(t.ProbeEvery, 15*time.Second),
		BackoffMin: cmp.Or(t.BackoffMin, 500*time.Millisecond),
		BackoffMax: cmp.Or(t.BackoffMax, time.Minute),
		Stable:     cmp.Or(t.Stable, 5*time.Minute),
		Resolve:    cmp.Or(t.Resolve, time.Minute),

		CrashWindow:   cmp.Or(t.CrashWindow, 10*time.Minute),
		QuarantineMin: cmp.Or(t.QuarantineMin, 5*time.Minute),
		QuarantineMax: cmp.Or(t.QuarantineMax, time.Hour),
		Silence:       cmp.Or(t.Silence, plugin.PollSilence),
	}
}

// Catalog supervises one process per connector and many connections in it. It is safe for concurrent use.
type Catalog struct {
	opts   Options
	timing Timing
	log    *slog.Logger
	host   *launch.Host
	sups   map[string]*supervisor
	starts chan struct{} // semaphore: processes that start at once

	configuring sync.Mutex // one Configure at a time
	generation  uint64     // under configuring
	conns       atomic.Pointer[map[string]*conn]
	onState     atomic.Pointer[func(Connection, []byte)]

	ctx     context.Context // ends with Stop; what supervisors do on their own account
	cancel  context.CancelFunc
	stopCtx context.Context // how long stopping may take; set before ctx ends
	work    sync.WaitGroup
	life    sync.Mutex
	stopped bool // under life
	stop    sync.Once
	stopErr error
}

// New makes a catalog. It starts no connector.
func New(opts Options) (*Catalog, error) {
	if len(opts.Connectors) == 0 {
		return nil, errors.New("new catalog: no connectors; set Options.Connectors")
	}
	c := &Catalog{opts: opts, timing: opts.Timing.withDefaults(), log: opts.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.opts.Grace = cmp.Or(opts.Grace, 10*time.Second)
	for name, src := range opts.Connectors {
		if src.Launcher == nil {
			return nil, fmt.Errorf("new catalog: connector %s has no launcher", name)
		}
	}
	host, err := launch.NewHost(launch.Options{
		Logger: c.log, RunDir: opts.RunDir, StartTimeout: c.timing.Start, Redact: opts.Redact, Sandbox: opts.Sandbox, Limits: opts.Limits,
	})
	if err != nil {
		return nil, fmt.Errorf("new catalog: %w", err)
	}
	c.host = host
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.starts = make(chan struct{}, runtime.GOMAXPROCS(0))
	c.conns.Store(&map[string]*conn{})
	// Generations grow over restarts of the host too: a connector may outlive it.
	c.generation = uint64(time.Now().UnixMilli())
	c.sups = make(map[string]*supervisor, len(opts.Connectors))
	for name, src := range opts.Connectors {
		c.sups[name] = &supervisor{
			cat: c, name: name, src: src, log: c.log.With("connector", name), state: StateAbsent, ward: newWard(), lifted: make(chan struct{}, 1),
		}
	}
	return c, nil
}

// OnState sets what is called with a connection's sealed state whenever a connector hands out a new one. It is called
// before the call or batch that carried the state is reported, and must have made it durable when it returns.
func (c *Catalog) OnState(f func(of Connection, state []byte)) { c.onState.Store(&f) }

// Stop lets calls finish for Options.Grace, or until ctx ends if that is sooner, ends every process, and waits for all of
// that. New calls fail at once.
func (c *Catalog) Stop(ctx context.Context) error {
	c.stop.Do(func() {
		c.stopCtx = ctx
		c.life.Lock()
		c.stopped = true
		c.life.Unlock()
		for _, s := range c.sups {
			s.close()
		}
		c.cancel()
		c.work.Wait()
		c.stopErr = c.host.Close()
	})
	return c.stopErr
}

// Connector returns the descriptor of a connector, even one without a connection. It is kept; the first time it may have
// to start the connector for a moment.
func (c *Catalog) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	s, ok := c.sups[name]
	if !ok {
		return nil, false
	}
	d, err := s.describe(c.ctx)
	if err != nil {
		c.log.Error("connector cannot be described", "connector", name, "error", err)
		return nil, false
	}
	return d.resp, true
}

// Connection returns the descriptor of the connector behind a connection.
func (c *Catalog) Connection(name string) (*connectorv1.DescribeResponse, bool) {
	cn, ok := (*c.conns.Load())[name]
	if !ok {
		return nil, false
	}
	return c.Connector(cn.sup.name)
}

// Lift ends the quarantine or the backoff of a connector and forgets which inputs are held to be poison: somebody has
// mended it. It says whether there is such a connector.
func (c *Catalog) Lift(connector string) bool {
	s, ok := c.sups[connector]
	if ok {
		s.lift()
	}
	return ok
}

// Connections lists, in order, the connections whose connector is named so; "" lists all.
func (c *Catalog) Connections(connector string) []string {
	var out []string
	for name, cn := range *c.conns.Load() {
		if connector == "" || cn.sup.name == connector {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Connectors lists the names of all connectors, in order.
func (c *Catalog) Connectors() []string { return slices.Sorted(maps.Keys(c.sups)) }

// acquire returns a connection and a running instance of its connector, which the caller must leave.
func (c *Catalog) acquire(ctx context.Context, name string) (*conn, *instance, *plugin.Error) {
	cn, ok := (*c.conns.Load())[name]
	if !ok {
		e := hostError(codes.NotFound, "there is no connection %q; add it to the configuration", name)
		e.Origin = plugin.OriginConfig
		return nil, nil, e
	}
	if e := cn.spec.Broken; e != nil {
		return nil, nil, refusal(cn, e)
	}
	in, err := cn.sup.acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	if e := cn.refused.Load(); e != nil {
		in.leave()
		return nil, nil, refusal(cn, e)
	}
	return cn, in, nil
}

// saveState keeps what a connector handed out, and returns when that is durable.
func (c *Catalog) saveState(cn *conn, state []byte) {
	if len(state) == 0 {
		return
	}
	if len(state) > maxState {
		cn.sup.log.Error("connector hands out more state than can be kept; the last one stays",
			"connection", cn.spec.Name, "bytes", len(state), "limit", maxState)
		return
	}
	cn.sealed.saving.Lock()
	defer cn.sealed.saving.Unlock()
	// A connection that became another's by the same name keeps what is now under that name.
	if now := (*c.conns.Load())[cn.spec.Name]; now == nil || now.sealed != cn.sealed || !cn.sealed.set(state, cn.epoch) {
		return
	}
	if f := c.onState.Load(); f != nil && *f != nil {
		(*f)(cn.spec, state)
	}
}

// saveTrailer keeps what came with the end of a call. It must have ended.
func (c *Catalog) saveTrailer(cn *conn, trailer func() metadata.MD) {
	if v := trailer().Get(plugin.StateTrailer); len(v) > 0 {
		c.saveState(cn, []byte(v[len(v)-1]))
	}
}

// Keeps says whether the catalog has the state of a connection: what was handed out since is newer than what anybody read
// elsewhere.
func (c *Catalog) Keeps(connection, connector, tenant string) bool {
	cn := (*c.conns.Load())[connection]
	return cn != nil && cn.spec.Broken == nil && cn.continues(Connection{Connector: connector, Tenant: tenant})
}

// SettleState calls f with the newest state of a connection, while no other of it is on its way to OnState.
func (c *Catalog) SettleState(connection string, f func(state []byte)) {
	if cn := (*c.conns.Load())[connection]; cn != nil {
		cn.sealed.saving.Lock()
		defer cn.sealed.saving.Unlock()
		f(cn.sealed.get())
	}
}

// hostError is an error that the host itself raises before anything was sent.
func hostError(code codes.Code, format string, args ...any) *plugin.Error {
	e := plugin.Errorf(code, format, args...)
	e.Domain, e.Origin, e.SideEffect = plugin.Domain, plugin.OriginHost, plugin.EffectNone
	return e
}

// asError keeps a nil *plugin.Error from becoming a non-nil error.
func asError(e *plugin.Error) error {
	if e == nil {
		return nil
	}
	return e
}
