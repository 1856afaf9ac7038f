package engine

import (
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// Observer is told what happens, for metrics. It is called from the hot path and must not block.
type Observer interface {
	// RunsClaimed says that n runs were leased.
	RunsClaimed(n int)
	// RunReleased says that the run left this engine in state: an end, or waiting. took is the time under this lease.
	RunReleased(run store.Run, state store.RunState, class plugin.Class, took time.Duration)
	// RunLost says that the run was given up without a word because its lease was lost.
	RunLost(run store.Run)
	// CallEnded says how one attempt ended; class is "" for a success.
	CallEnded(c Call, class plugin.Class, took time.Duration)
	// ConnectionPaused says that no calls are begun on the connection until then, and why: "throttled" or "breaker".
	ConnectionPaused(connection, why string, until time.Time)
}

// Unobserved is an Observer that ignores everything; embed it to watch only some of it.
type Unobserved struct{}

var _ Observer = Unobserved{}

// RunsClaimed ignores it.
func (Unobserved) RunsClaimed(int) {}

// RunReleased ignores it.
func (Unobserved) RunReleased(store.Run, store.RunState, plugin.Class, time.Duration) {}

// RunLost ignores it.
func (Unobserved) RunLost(store.Run) {}

// CallEnded ignores it.
func (Unobserved) CallEnded(Call, plugin.Class, time.Duration) {}

// ConnectionPaused ignores it.
func (Unobserved) ConnectionPaused(string, string, time.Time) {}
