package host

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/casewire/casewire/host/internal/engine"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// CallBuckets are the upper bounds, in seconds, of the buckets of CallMetric. What took longer is only in Count.
var CallBuckets = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

// Metrics counts what happened since the host was made.
type Metrics struct {
	Calls  []CallMetric   // by connection and action
	Paused []PausedMetric // by connection
	Runs   []RunMetric    // by state
	Lost   int            // runs given up because their lease was lost
	Owed   int            // states of connections that are not durable yet
	Probes []ProbeMetric
}

// CallMetric is about one action of one connection. Polls and look-ups are actions too: "poll alerts", "look up alerts".
type CallMetric struct {
	Connection, Action string
	Outcomes           map[string]int // by class of error; "ok"
	Retries            int            // attempts after the first
	Buckets            []int          // parallel to CallBuckets: calls that took at most so long
	Count              int
	Seconds            float64 // in all
}

// PausedMetric says how often a connection was held back, and until when it is, if that is in the future.
type PausedMetric struct {
	Connection       string
	Throttled        int // answers that asked to wait
	Broke            int // times that the breaker opened
	ThrottledUntil   time.Time
	BreakerOpenUntil time.Time // a try is due after it
}

// RunMetric counts the runs that came to a state, and how long they were worked on before.
type RunMetric struct {
	State   store.RunState
	Count   int
	Seconds float64
}

// ProbeMetric is what a live probe of a connection found last.
type ProbeMetric struct {
	Connection, Probe string
	Status            string // ok, warning, failed, skipped
	Expires           time.Time
	Checked           time.Time
}

// counters is the engine's Observer. It never blocks for long.
type counters struct {
	mu     sync.Mutex
	calls  map[[2]string]*CallMetric
	paused map[string]*PausedMetric
	runs   map[store.RunState]*RunMetric
	lost   int
}

var _ engine.Observer = (*counters)(nil)

func newCounters() *counters {
	return &counters{calls: map[[2]string]*CallMetric{}, paused: map[string]*PausedMetric{}, runs: map[store.RunState]*RunMetric{}}
}

// RunsClaimed implements engine.Observer; the store knows it.
func (*counters) RunsClaimed(int) {}

// RunReleased implements engine.Observer.
func (c *counters) RunReleased(_ store.Run, state store.RunState, _ plugin.Class, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.runs[state]
	if r == nil {
		r = &RunMetric{State: state}
		c.runs[state] = r
	}
	r.Count++
	r.Seconds += took.Seconds()
}

// RunLost implements engine.Observer.
func (c *counters) RunLost(store.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost++
}

// CallEnded implements engine.Observer.
func (c *counters) CallEnded(call engine.Call, class plugin.Class, took time.Duration) {
	c.called(call.Connection, call.Action, class, took, call.Attempt > 1)
}

func (c *counters) called(connection, action string, class plugin.Class, took time.Duration, again bool) {
	outcome := string(class)
	if outcome == "" {
		outcome = "ok"
	}
	seconds := took.Seconds()
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{connection, action}
	m := c.calls[key]
	if m == nil {
		m = &CallMetric{Connection: connection, Action: action, Outcomes: map[string]int{}, Buckets: make([]int, len(CallBuckets))}
		c.calls[key] = m
	}
	m.Outcomes[outcome]++
	if again {
		m.Retries++
	}
	m.Count++
	m.Seconds += seconds
	for i, most := range CallBuckets {
		if seconds <= most {
			m.Buckets[i]++
		}
	}
}

// ConnectionPaused implements engine.Observer.
func (c *counters) ConnectionPaused(connection, why string, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.paused[connection]
	if p == nil {
		p = &PausedMetric{Connection: connection}
		c.paused[connection] = p
	}
	if why == "breaker" {
		p.Broke++
		p.BreakerOpenUntil = until
		return
	}
	p.Throttled++
	p.ThrottledUntil = until
}

// Metrics reads the counters.
func (h *Host) Metrics() Metrics {
	c := h.counters
	c.mu.Lock()
	m := Metrics{Lost: c.lost}
	for _, v := range c.calls {
		call := *v
		call.Outcomes, call.Buckets = maps.Clone(v.Outcomes), slices.Clone(v.Buckets)
		m.Calls = append(m.Calls, call)
	}
	for _, v := range c.paused {
		m.Paused = append(m.Paused, *v)
	}
	for _, v := range c.runs {
		m.Runs = append(m.Runs, *v)
	}
	c.mu.Unlock()
	h.states.mu.Lock()
	m.Owed = len(h.states.owed)
	h.states.mu.Unlock()
	m.Probes = h.probes.list()
	slices.SortFunc(m.Calls, func(a, b CallMetric) int {
		return slices.Compare([]string{a.Connection, a.Action}, []string{b.Connection, b.Action})
	})
	slices.SortFunc(m.Paused, func(a, b PausedMetric) int { return slices.Compare([]string{a.Connection}, []string{b.Connection}) })
	slices.SortFunc(m.Runs, func(a, b RunMetric) int { return slices.Compare([]string{string(a.State)}, []string{string(b.State)}) })
	return m
}

// heard takes what a call of the host's own, such as a poll, came to: it is counted, and what throttled it holds the
// connection's siblings back too.
func (h *Host) heard(connection, action string, err error, began time.Time) {
	class := plugin.Class("")
	if e := plugin.FromError(err); e != nil {
		class = e.Class()
		h.engine.Heard(connection, action, e)
	}
	h.counters.called(connection, action, class, time.Since(began), false)
}
