// Package launch starts connector processes and ends them. It owns what a process can do to the host: its environment,
// its standard streams, its socket, its children, and how long every one of its phases may take. When a process is needed
// and what is said to it is not its business.
package launch

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/casewire/casewire/plugin"
)

// Launcher starts connectors of one kind. An error says what failed and, if a process was there, how it ended and what
// it said last.
type Launcher interface {
	// Launch starts the connector called name. The context covers the start only; the process lives until Stop or Kill.
	// Whoever got a Process must Stop it, even one that has died.
	Launch(ctx context.Context, h *Host, name string) (Process, error)
}

// Process is a running connector.
type Process interface {
	// Conn is the connection to the connector. It breaks when the process ends.
	Conn() grpc.ClientConnInterface
	// PID is the process's id; zero when there is no process of its own.
	PID() int
	// Done is closed once the process has ended and its last words are read.
	Done() <-chan struct{}
	// Exit says how the process ended; only after Done.
	Exit() Exit
	// Stop drains for at most grace, lets go of the process, terminates its group, kills its group, and cleans up, going on
	// to the next measure as soon as one has not helped in time. When ctx ends it kills at once. It may be called twice.
	Stop(ctx context.Context, grace time.Duration)
	// Kill ends the process group now and does not wait. Stop is still due.
	Kill()
}

// Exit is the end of a process.
type Exit struct {
	// Status is "exit status 2", "signal: killed" or the like.
	Status string
	// Lines are the last lines on standard error, or the head of a panic where there was one.
	Lines []string
}

// String puts the exit in a sentence's tail.
func (e Exit) String() string {
	if len(e.Lines) == 0 {
		return e.Status
	}
	return e.Status + "; last on stderr: " + strings.Join(e.Lines, " | ")
}

// Options configure a Host. The zero value works.
type Options struct {
	Logger *slog.Logger
	// RunDir is where sockets live. Left-overs of dead hosts in it are swept. Empty means a directory of this
	// user's in the system's place for temporary files. Socket paths are short: 53 bytes or less is fine, longer ones fall
	// back to that place.
	RunDir string
	// StartTimeout is how long a process may take until it can be called. Default plugin.StartTimeout.
	StartTimeout time.Duration
	// Redact is applied to every line that a process prints before it is kept or logged.
	Redact func(string) string
	// Sandbox and Limits are for every process.
	Sandbox Sandbox
	Limits  Limits
}

// Host is what the processes of one host share.
type Host struct {
	opts  Options
	log   *slog.Logger
	dir   string
	close []func() error
	spawn *spawner
}

// NewHost makes the run directory, sweeps what dead hosts left in it, and starts the thread that processes are spawned
// from.
func NewHost(opts Options) (*Host, error) {
	h := &Host{opts: opts, log: opts.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.opts.StartTimeout = cmp.Or(opts.StartTimeout, plugin.StartTimeout)
	if h.opts.Redact == nil {
		h.opts.Redact = func(s string) string { return s }
	}
	dir, release, err := openRunDir(opts.RunDir, h.log)
	if err != nil {
		return nil, err
	}
	h.dir = dir
	h.spawn = newSpawner()
	h.close = append(h.close, func() error { h.spawn.stop(); return nil }, release)
	return h, nil
}

// Close removes the run directory and ends the spawning thread. On Linux that also ends processes that were not stopped.
func (h *Host) Close() error {
	var first error
	for _, f := range h.close {
		if err := f(); err != nil && first == nil {
			first = err
		}
	}
	h.close = nil
	return first
}
