package plugin

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// heapFloor is what the garbage collector takes for used although nobody does: a heap of a few MiB, as a connector
	// has, would otherwise be collected dozens of times a second under load. The pages are never touched, so they cost
	// address space and no memory; garbage of about this size does.
	heapFloor = 24 << 20
	// restCheck is how often a process looks whether it rests, restAllocs what it may allocate meanwhile and still be
	// said to.
	restCheck  = 20 * time.Second
	restAllocs = 4 << 20
)

var paceOnce sync.Once

// PaceMemory makes this process collect garbage seldom while it works, and give memory back to the system when it rests.
// It is for processes of Casewire's own: Serve calls it, and so does the program casewire; who embeds a host decides for
// the whole process. It leaves alone a process that was started with GOGC, or with a tight GOMEMLIMIT.
func PaceMemory() {
	if os.Getenv("GOGC") != "" || debug.SetMemoryLimit(-1) < 8*heapFloor {
		return
	}
	paceOnce.Do(func() {
		floor := make([]byte, heapFloor)
		go func() {
			var r rest
			for range time.Tick(restCheck) {
				if r.begins(allocated()) {
					debug.FreeOSMemory()
				}
				runtime.KeepAlive(floor)
			}
		}()
	})
}

// rest tells from the growth of what was allocated when a process has come to rest.
type rest struct {
	last   uint64
	worked bool
}

// begins says whether a rest has just begun: once after each stretch of work.
func (r *rest) begins(allocs uint64) bool {
	busy := allocs-r.last > restAllocs
	r.last = allocs
	begins := r.worked && !busy
	r.worked = busy
	return begins
}

// allocated is how many bytes were allocated since the process began.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
