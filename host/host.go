package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/engine"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Host loads connectors, takes events in and runs flows. Its methods are safe for concurrent use.
type Host struct {
	opts    Options
	log     *slog.Logger
	store   store.Store
	catalog *catalog.Catalog
	engine  *engine.Engine
	flows   *flows
	views   *viewCache
	states  *states

	counters *counters
	probes   probes
	limits   atomic.Pointer[map[string]engine.Limit] // by connection
	acks     atomic.Int64                            // webhooks in work

	conns   atomic.Pointer[[]Connection] // in force
	reloads atomic.Pointer[Reloads]

	imu     sync.RWMutex // guards intakes
	intakes map[triggerKey]*intake

	mu      sync.Mutex // one Start, Reload or Stop at a time
	started bool
	work    context.Context //nolint:containedctx // the life between Start and Stop
	cancel  context.CancelCauseFunc
	group   sync.WaitGroup
}

// triggerKey names a trigger of a connection.
type triggerKey struct{ connection, trigger string }

// errStopped is why the host's own work is cancelled at Stop.
var errStopped = errors.New("host: stopped")

// New makes a host. It starts nothing.
func New(o Options) (*Host, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Host{opts: o, log: o.Logger, store: o.Store, intakes: map[triggerKey]*intake{}, views: newViewCache(viewBytes), counters: newCounters()}
	h.conns.Store(&o.Connections)
	h.reloads.Store(&Reloads{})
	var err error
	if h.states, err = newStates(o.Store, o.StateKey, o.Logger); err != nil {
		return nil, err
	}
	o.Sandbox.Mode = cmp.Or(o.Sandbox.Mode, SandboxAuto)
	o.Limits = o.Limits.OrDefault(DefaultLimits)
	h.catalog, err = catalog.New(catalog.Options{
		Logger: o.Logger, RunDir: o.RunDir, Connectors: o.Connectors, HostVersion: o.Version, IdleStop: o.IdleStop,
		Redact: o.Redact, Sandbox: o.Sandbox, Limits: o.Limits,
	})
	if err != nil {
		return nil, err
	}
	h.catalog.OnState(h.keepState)
	h.flows = newFlows(o.Store, h)
	h.engine, err = engine.New(engine.Options{
		Store: o.Store, Caller: caller{h.catalog}, Flows: h.flows, Logger: o.Logger, Workers: o.Workers, Load: h.load,
		Limit: h.limit, Observer: h.counters,
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Connection describes the connector behind a connection; with Connections and Connector it makes the host a
// flow.Catalog, by which flows are checked before anything starts.
func (h *Host) Connection(name string) (*connectorv1.DescribeResponse, bool) {
	for _, c := range *h.conns.Load() {
		if c.Name == name {
			return h.catalog.Connector(c.Connector)
		}
	}
	return nil, false
}

// Connections lists connections; see flow.Catalog.
func (h *Host) Connections(connector string) []string {
	var names []string
	for _, c := range *h.conns.Load() {
		if connector == "" || c.Connector == connector {
			names = append(names, c.Name)
		}
	}
	return names
}

// Connector describes a connector; see flow.Catalog.
func (h *Host) Connector(name string) (*connectorv1.DescribeResponse, bool) {
	return h.catalog.Connector(name)
}

var _ flow.Catalog = (*Host)(nil)

// SetFlows puts flows into force. Runs that have begun stay on the version that they began with. Call it before Start.
func (h *Host) SetFlows(ctx context.Context, fs []*flow.Flow) error {
	for _, f := range fs {
		if err := h.store.PutFlow(ctx, store.FlowVersion{Version: f.Version, Name: f.Name, Bundle: f.Bundle}); err != nil {
			return fmt.Errorf("keep flow %s: %w", f.Name, err)
		}
	}
	h.flows.set(fs)
	return nil
}

// Start configures the connections, and begins to poll, to look hints up and to run flows. A connection that its connector
// refuses is an error; nothing is left running then. Ctx covers starting only.
func (h *Host) Start(ctx context.Context) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started {
		return errors.New("host: started already")
	}
	conns, err := h.desired(ctx, *h.conns.Load())
	if err != nil {
		return err
	}
	outcomes, err := h.catalog.Configure(ctx, conns)
	if err == nil {
		err = h.refusals(ctx, outcomes)
	}
	if err != nil {
		return errors.Join(err, h.catalog.Stop(context.WithoutCancel(ctx)))
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	h.work, h.cancel = work, cancel
	if err := h.engine.Start(ctx); err != nil {
		cancel(errStopped)
		return errors.Join(err, h.catalog.Stop(context.WithoutCancel(ctx)))
	}
	h.regroup(*h.conns.Load())
	h.group.Go(func() { h.states.settle(work, h.catalog.SettleState) })
	h.group.Go(func() { h.probeLoop(work) })
	h.group.Go(func() { h.pruneLoop(work) })
	h.takeIn(ctx)
	h.started = true
	return nil
}

// Stop lets attempts in flight finish until ctx ends, stops every connector process and returns when all of it is over.
// The store stays open.
func (h *Host) Stop(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started {
		return h.catalog.Stop(ctx)
	}
	h.started = false
	h.cancel(errStopped)
	err := h.engine.Stop(ctx)
	h.group.Wait()
	err = errors.Join(err, h.catalog.Stop(ctx))
	if n := h.states.pay(h.catalog.SettleState); n > 0 {
		err = errors.Join(err, fmt.Errorf("host: the newest state of %d connections is lost: the store did not take it", n))
	}
	return err
}

// hooks gives a connection an endpoint for each of its triggers that takes webhooks. The secret is made once and kept.
func (h *Host) hooks(ctx context.Context, c Connection) ([]catalog.Hook, error) {
	d, ok := h.catalog.Connector(c.Connector)
	if !ok {
		return nil, fmt.Errorf("connection %s: connector %q cannot be described", c.Name, c.Connector)
	}
	var hooks []catalog.Hook
	for _, t := range d.GetTriggers() {
		if t.GetWebhook() == nil {
			continue
		}
		fresh := make([]byte, 32)
		if _, err := rand.Read(fresh); err != nil {
			return nil, err
		}
		secret, err := h.store.PutIfAbsent(ctx, "hook-secret/"+c.Name+"/"+t.GetName(), fresh)
		if err != nil {
			return nil, fmt.Errorf("keep the hook secret of %s: %w", c.Name, err)
		}
		hook := catalog.Hook{Trigger: t.GetName(), Secret: plugin.NewSecret(string(secret))}
		if h.opts.PublicURL != "" {
			hook.URL = strings.TrimSuffix(h.opts.PublicURL, "/") + "/hooks/" + c.Name + "/" + t.GetName()
		}
		hooks = append(hooks, hook)
	}
	return hooks, nil
}
