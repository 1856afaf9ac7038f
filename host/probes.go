package host

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

const (
	// probeFirst is when connections are probed first, and probeEvery how often afterwards: what a probe finds, such as a
	// secret that lapses in a month, is no matter of minutes.
	probeFirst = 30 * time.Second
	probeEvery = time.Hour
	// probeWithin bounds one connection's probes.
	probeWithin = 2 * time.Minute
)

// probes keeps what the live probes of connections found last.
type probes struct {
	mu    sync.Mutex
	found map[string][]ProbeMetric
}

func (p *probes) set(connection string, found []*connectorv1.Probe, now time.Time) {
	list := make([]ProbeMetric, 0, len(found))
	for _, f := range found {
		m := ProbeMetric{Connection: connection, Probe: f.GetName(), Status: ProbeStatus(f.GetStatus()), Checked: now}
		if f.GetExpires() != nil {
			m.Expires = f.GetExpires().AsTime()
		}
		// A name that comes twice would be one time series with two values.
		if len(list) < maxProbes && !slices.ContainsFunc(list, func(o ProbeMetric) bool { return o.Probe == m.Probe }) {
			list = append(list, m)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		p.found = map[string][]ProbeMetric{}
	}
	p.found[connection] = list
}

// maxProbes bounds the time series of one connection.
const maxProbes = 64

// keep forgets connections that are gone.
func (p *probes) keep(conns []Connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.found {
		if !slices.ContainsFunc(conns, func(c Connection) bool { return c.Name == name }) {
			delete(p.found, name)
		}
	}
}

func (p *probes) list() []ProbeMetric {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []ProbeMetric
	for _, list := range p.found {
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b ProbeMetric) int {
		return slices.Compare([]string{a.Connection, a.Probe}, []string{b.Connection, b.Probe})
	})
	return out
}

// ProbeStatus names a status: ok, warning, failed or skipped; one that is not known is a warning.
func ProbeStatus(s connectorv1.ProbeStatus) string {
	switch s {
	case connectorv1.ProbeStatus_PROBE_STATUS_OK, connectorv1.ProbeStatus_PROBE_STATUS_FAILED, connectorv1.ProbeStatus_PROBE_STATUS_SKIPPED:
		return strings.ToLower(strings.TrimPrefix(s.String(), "PROBE_STATUS_"))
	case connectorv1.ProbeStatus_PROBE_STATUS_WARNING, connectorv1.ProbeStatus_PROBE_STATUS_UNSPECIFIED:
	}
	return "warning"
}

// probeLoop probes every connection now and then, so that what is about to lapse shows before it costs an alert.
func (h *Host) probeLoop(ctx context.Context) {
	wait := probeFirst
	for pause(ctx, wait+time.Duration(rand.Int64N(int64(wait)/4)), nil) {
		conns := *h.conns.Load()
		for _, c := range conns {
			if ctx.Err() != nil {
				return
			}
			h.probe(ctx, c.Name)
		}
		h.probes.keep(conns)
		wait = probeEvery
	}
}

func (h *Host) probe(ctx context.Context, connection string) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	found, err := h.Check(ctx, connection)
	if e := plugin.FromError(err); e != nil {
		h.log.DebugContext(ctx, "connection cannot be probed", "connection", connection, "error", e)
		return
	}
	for _, f := range found {
		if f.GetStatus() == connectorv1.ProbeStatus_PROBE_STATUS_FAILED {
			h.log.WarnContext(ctx, "a probe of a connection failed", "connection", connection, "probe", f.GetName(),
				"summary", f.GetSummary(), "remedy", f.GetRemedy())
		}
	}
}
