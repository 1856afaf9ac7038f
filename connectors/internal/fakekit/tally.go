package fakekit

import (
	"maps"
	"sync"
)

// Tally counts requests by route and outcome. It is safe for concurrent use.
type Tally struct {
	mu     sync.Mutex
	counts map[tallyKey]uint64
}

type tallyKey struct{ route, outcome string }

func (t *Tally) count(route, outcome string) {
	t.mu.Lock()
	if t.counts == nil {
		t.counts = map[tallyKey]uint64{}
	}
	t.counts[tallyKey{route, outcome}]++
	t.mu.Unlock()
}

// Requests returns the counts so far: route, then outcome. An outcome is the status ("200"), or what spoiled the
// request: "reset" and "gone" (not executed), "200-html" (not executed), "201-lost", "201-500", "200-cut" and "200-bad"
// (executed with the given status, which the client did not learn).
func (t *Tally) Requests() map[string]map[string]uint64 {
	t.mu.Lock()
	counts := maps.Clone(t.counts)
	t.mu.Unlock()
	out := map[string]map[string]uint64{}
	for key, n := range counts {
		if out[key.route] == nil {
			out[key.route] = map[string]uint64{}
		}
		out[key.route][key.outcome] = n
	}
	return out
}
