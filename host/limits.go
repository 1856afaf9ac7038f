package host

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/internal/engine"
)

// throttled tells which connections share a limiter: those that use one credential at one vendor's host. A vendor that
// throttles one of them throttles all of them, whatever their names here. The answer is by connection.
func throttled(conns []Connection, egress func(connector string) []string) map[string]engine.Limit {
	limits := make(map[string]engine.Limit, len(conns))
	hosts := make([][]string, len(conns))
	for i, c := range conns {
		hosts[i] = reaches(c.Config, egress(c.Connector))
		limits[c.Name] = engine.Limit{Name: "connection " + c.Name, Concurrent: c.Limit.Concurrency, PerSecond: c.Limit.PerSecond}
	}
	done := make([]bool, len(conns))
	for i, c := range conns {
		if c.Credential == "" || done[i] {
			continue
		}
		// All that hang together by some host, however many are between.
		group, open := []int{i}, []int{i}
		done[i] = true
		for len(open) > 0 {
			at := open[0]
			open = open[1:]
			for j, other := range conns {
				if !done[j] && other.Credential == c.Credential && meet(hosts[at], hosts[j]) {
					done[j] = true
					group, open = append(group, j), append(open, j)
				}
			}
		}
		names := make([]string, len(group))
		for k, j := range group {
			names[k] = conns[j].Name
		}
		slices.Sort(names)
		for _, j := range group {
			l := limits[conns[j].Name]
			l.Name = "credential " + c.Credential + " at " + names[0]
			limits[conns[j].Name] = l
		}
	}
	return limits
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(h string) bool { return slices.Contains(b, h) })
}

// reaches lists the hosts that a connection calls: those that its connector declares, with what its configuration says in
// the place of properties. Where tokens come from does not count: all that share a credential share that.
func reaches(config json.RawMessage, egress []string) []string {
	var tree any
	_ = json.Unmarshal(config, &tree) // it was checked; without it only the fixed hosts count
	var own, fixed []string
	for _, e := range egress {
		name, isProperty := strings.CutPrefix(e, "{config.")
		if !isProperty {
			fixed = append(fixed, e)
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if strings.HasPrefix(name, "credential.") {
			continue
		}
		own = append(own, hostsAt(tree, strings.Split(name, "."))...)
	}
	// What is configured replaces what is built in.
	hosts := own
	if len(hosts) == 0 {
		hosts = fixed
	}
	return slices.DeleteFunc(hosts, func(h string) bool { return strings.HasPrefix(h, "login.") })
}

// hostsAt finds the hosts of the URLs at a path.
func hostsAt(tree any, path []string) []string {
	switch t := tree.(type) {
	case map[string]any:
		if len(path) > 0 {
			return hostsAt(t[path[0]], path[1:])
		}
	case []any:
		var out []string
		for _, item := range t {
			out = append(out, hostsAt(item, path)...)
		}
		return out
	case string:
		if u, err := url.Parse(t); err == nil && len(path) == 0 && cmp.Or(u.Host, t) != "" {
			return []string{cmp.Or(u.Host, t)}
		}
	}
	return nil
}

// regroup puts the limits of the connections in force into force.
func (h *Host) regroup(conns []Connection) {
	limits := throttled(conns, func(connector string) []string {
		d, _ := h.catalog.Connector(connector)
		return d.GetEgress()
	})
	h.limits.Store(&limits)
	if h.engine != nil {
		h.engine.LimitsChanged()
	}
}

// limit answers the engine.
func (h *Host) limit(connection string) engine.Limit {
	if limits := h.limits.Load(); limits != nil {
		return (*limits)[connection]
	}
	return engine.Limit{}
}
