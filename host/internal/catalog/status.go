package catalog

import (
	"cmp"
	"slices"
	"time"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

// Status is how one connector is.
type Status struct {
	Connector string
	Version   string // empty until it has been described
	State     State
	Since     time.Time // when it entered the state; zero if it was never started
	PID       int       // zero when there is no process
	InFlight  int64     // calls
	Restarts  int       // crashes and failed starts since the catalog was made
	RetryAt   time.Time // in backoff or quarantine: when it is started again
	Err       error     // why it went down last
	// Enforced says what the process is held to; nil when there is none that can be.
	Enforced *launch.Enforced
	// Poison are the inputs that it is not given any more.
	Poison []Poisoned
	// Connections, by name.
	Connections []ConnectionStatus
}

// ConnectionStatus is how one connection is.
type ConnectionStatus struct {
	Name       string
	Tenant     string
	Generation uint64
	Refused    *plugin.Error // why the connector does not take it
}

// Status describes every connector, by name.
func (c *Catalog) Status() []Status {
	out := make([]Status, 0, len(c.sups))
	for _, name := range c.Connectors() {
		out = append(out, c.sups[name].status())
	}
	return out
}

func (s *supervisor) status() Status {
	s.mu.Lock()
	st := Status{Connector: s.name, State: s.state, Since: s.since, Restarts: s.restarts, Err: s.lastErr}
	if s.state == StateBackoff || s.state == StateQuarantined {
		st.RetryAt = s.retryAt
	}
	s.mu.Unlock()
	if d := s.desc.Load(); d != nil {
		st.Version = d.resp.GetVersion()
	}
	if in := s.cur.Load(); in != nil {
		st.PID, st.InFlight = in.proc.PID(), in.inflight.Load()
		if r, ok := in.proc.(launch.Reporter); ok {
			e := r.Enforced()
			st.Enforced = &e
		}
	}
	st.Poison = s.ward.list()
	for name, cn := range s.cat.connections(s) {
		st.Connections = append(st.Connections, ConnectionStatus{
			Name: name, Tenant: cn.spec.Tenant, Generation: cn.generation, Refused: cn.refused.Load(),
		})
	}
	slices.SortFunc(st.Connections, func(a, b ConnectionStatus) int { return cmp.Compare(a.Name, b.Name) })
	return st
}
