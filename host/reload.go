package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// Setup is what can be changed while a host runs.
type Setup struct {
	Connections []Connection
	// Flows were checked against the connections.
	Flows []*flow.Flow
}

// Reload puts other connections and flows into force without a pause. Everything is checked first, connections by their
// connectors: an error means that nothing has changed. Then changed connections get a new generation, on which new calls
// run while open ones finish on the old; runs that have begun stay on their version of the flow; triggers that are new
// are polled, and those that are gone are not. Calls of runs that still name a connection that is gone fail.
func (h *Host) Reload(ctx context.Context, s Setup) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started {
		return errors.New("host: not started")
	}
	err := h.reload(ctx, s)
	if err != nil {
		h.ReloadRefused(err)
		return err
	}
	h.reloads.Store(&Reloads{Last: time.Now(), Count: h.reloads.Load().Count + 1})
	return nil
}

// Reloads says how reloading fared.
type Reloads struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last,omitzero"`
	// Refused is why what came after Last was not put into force.
	Refused string `json:"refused,omitempty"`
}

// ReloadRefused notes that a configuration could not be read, so that the status shows it; Reload itself does so too.
func (h *Host) ReloadRefused(err error) {
	r := *h.reloads.Load()
	r.Refused = err.Error()
	h.reloads.Store(&r)
}

func (h *Host) reload(ctx context.Context, s Setup) error {
	if err := validateConnections(s.Connections, h.opts.Connectors); err != nil {
		return err
	}
	conns, err := h.desired(ctx, s.Connections)
	if err != nil {
		return err
	}
	outcomes, err := h.catalog.Try(ctx, conns)
	if err == nil {
		err = h.refusals(ctx, outcomes)
	}
	if err != nil {
		return err
	}
	for _, f := range s.Flows {
		if err := h.store.PutFlow(ctx, store.FlowVersion{Version: f.Version, Name: f.Name, Bundle: f.Bundle}); err != nil {
			return fmt.Errorf("keep flow %s: %w", f.Name, err)
		}
	}
	// From here on there is no way back, and a caller's impatience must leave nothing half done.
	ctx = context.WithoutCancel(ctx)
	if outcomes, err = h.catalog.Configure(ctx, conns); err != nil {
		return err
	}
	h.conns.Store(&s.Connections)
	h.regroup(s.Connections)
	h.flows.set(s.Flows)
	h.takeIn(ctx)
	h.engine.Wake()
	// What was taken on trial is taken, unless the connector has changed its mind: then the connection is out of service.
	if err := h.refusals(ctx, outcomes); err != nil {
		h.log.ErrorContext(ctx, "connections are out of service after a reload", "error", err)
	}
	return nil
}

// desired is what the catalog is to be configured with.
func (h *Host) desired(ctx context.Context, list []Connection) ([]catalog.Connection, error) {
	conns := make([]catalog.Connection, 0, len(list))
	for _, c := range list {
		hooks, err := h.hooks(ctx, c)
		if err != nil {
			return nil, err
		}
		to := catalog.Connection{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant, Config: c.Config, Hooks: hooks}
		if !h.catalog.Keeps(c.Name, c.Connector, c.Tenant) {
			if err := h.states.load(ctx, c, &to); err != nil {
				return nil, err
			}
		}
		conns = append(conns, to)
	}
	return conns, nil
}

// refusals joins what connectors say against their connections. A connector that is down says nothing.
func (h *Host) refusals(ctx context.Context, outcomes []catalog.Outcome) error {
	var err error
	for _, o := range outcomes {
		switch {
		case o.Err == nil:
		case o.Err.Reason == ReasonStateUnreadable: // others go on without it
			h.log.ErrorContext(ctx, "connection is out of service", "connection", o.Connection, "error", o.Err)
		case o.Err.Class() == plugin.ClassUnavailable:
			h.log.WarnContext(ctx, "connector is down; it is given its connection when it is up", "connection", o.Connection, "error", o.Err)
		default:
			err = errors.Join(err, fmt.Errorf("connection %s: %w", o.Connection, o.Err))
		}
	}
	return err
}

// takeIn makes the intakes those of the triggers that flows in force answer; under mu.
func (h *Host) takeIn(ctx context.Context) {
	wanted := h.flows.triggers()
	for key := range wanted {
		in, err := newIntake(h, key)
		if err != nil {
			h.log.ErrorContext(ctx, "trigger cannot be used", "connection", key.connection, "trigger", key.trigger, "error", err)
			continue
		}
		h.imu.Lock()
		was := h.intakes[key]
		if was != nil && was.same(in) {
			h.imu.Unlock()
			continue
		}
		if was != nil {
			was.mu.Lock()
			in.status = was.status
			was.mu.Unlock()
		}
		h.intakes[key] = in
		h.imu.Unlock()
		if was != nil {
			was.stop() // before the next begins: there is one cursor
		}
		in.run(h.work, &h.group)
	}
	h.imu.Lock()
	var gone []*intake
	for key, in := range h.intakes {
		if _, ok := wanted[key]; !ok {
			gone = append(gone, in)
			delete(h.intakes, key)
		}
	}
	h.imu.Unlock()
	for _, in := range gone {
		in.stop()
	}
}

// same says whether an intake would do what another does.
func (in *intake) same(other *intake) bool {
	return in.tenant == other.tenant && in.interval == other.interval && proto.Equal(in.trigger, other.trigger)
}

// stop ends the intake. What it had in hand and had not committed is brought again by the next poll or look-up.
func (in *intake) stop() {
	in.cancel()
	in.group.Wait()
}
