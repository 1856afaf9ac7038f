package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

// State of a connector's process.
type State string

// The states.
const (
	StateAbsent   State = "absent"   // not started yet
	StateStarting State = "starting" // calls wait
	StateReady    State = "ready"
	StateDraining State = "draining" // finishing its calls before it stops
	StateStopped  State = "stopped"  // idle, or without connections; the next call starts it
	StateBackoff  State = "backoff"  // it failed; calls fail at once until it is started again
	// StateQuarantined: it crashes in a loop; calls fail at once until, after a longer pause, one start is tried.
	StateQuarantined State = "quarantined"
)

// supervisor keeps one connector's process alive while it is wanted. One goroutine (run) owns the process from its start
// to its end; calls only read the current instance.
type supervisor struct {
	cat  *Catalog
	name string
	src  Source
	log  *slog.Logger

	cur        atomic.Pointer[instance] // nil unless ready
	desc       atomic.Pointer[descriptor]
	ward       *ward
	lifted     chan struct{} // an operator asks for a start
	describing sync.Mutex
	unknown    error     // why there is no descriptor; under describing
	asked      time.Time // when that was found; under describing

	mu       sync.Mutex
	state    State
	since    time.Time
	running  bool          // run lives
	starting chan struct{} // closed when the start under way has ended; nil when there is none
	closed   bool
	failures int // in a row
	restarts int // crashes and failed starts in all
	retryAt  time.Time
	lastErr  error

	crashes     []time.Time // within the window
	quarantines int         // in a row
	trial       bool        // the start after a quarantine: one failure is enough
}

// acquire returns the running instance, starting the process if need be, and counts the call in.
func (s *supervisor) acquire(ctx context.Context) (*instance, *plugin.Error) {
	if in := s.cur.Load(); in != nil && in.enter() {
		return in, nil
	}
	for waited := false; ; waited = true {
		s.mu.Lock()
		in, wait := s.cur.Load(), s.starting
		switch {
		case s.closed:
			s.mu.Unlock()
			return nil, stoppedError()
		case in != nil:
			s.mu.Unlock()
			if in.enter() {
				return in, nil
			}
			continue
		case s.state == StateBackoff, s.state == StateQuarantined, waited && !s.running && time.Now().Before(s.retryAt):
			e := s.down()
			s.mu.Unlock()
			return nil, e
		case wait == nil:
			wait = s.begin()
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			e := plugin.FromError(ctx.Err())
			e.Message = "waiting for the connector " + s.name + " to start: " + e.Message
			e.Domain, e.Origin, e.SideEffect = plugin.Domain, plugin.OriginHost, plugin.EffectNone
			return nil, e
		}
	}
}

// begin makes a start under way and returns what to wait for; under mu.
func (s *supervisor) begin() chan struct{} {
	s.starting = make(chan struct{})
	s.enterState(StateStarting)
	if !s.running { // else run is about to see it
		s.running = true
		s.cat.work.Go(s.run) // under mu and not closed: Stop has not begun to wait
	}
	return s.starting
}

func (s *supervisor) enterState(st State) { s.state, s.since = st, time.Now() }

// down is the answer while in backoff; under mu.
func (s *supervisor) down() *plugin.Error {
	e := hostError(codes.Unavailable, "the connector %s is down: %v", s.name, s.lastErr)
	e.Err, e.Reason = s.lastErr, plugin.ReasonBackoff
	if s.state == StateQuarantined {
		e.Message = fmt.Sprintf("the connector %s is quarantined until %s because it crashes in a loop: %v",
			s.name, s.retryAt.UTC().Format(time.RFC3339), s.lastErr)
		e.Reason = plugin.ReasonQuarantined
	}
	e.RetryAfter = max(time.Until(s.retryAt), time.Millisecond)
	return e
}

// run starts the process, watches it, and starts it again when it fails, until it is no longer wanted.
func (s *supervisor) run() {
	for {
		in, err := s.start()
		if err != nil {
			s.fail(failure{err: err})
		} else if s.watch(in) {
			if s.stopped() {
				return
			}
			continue
		}
		if !s.rest() {
			return
		}
	}
}

// stopped says whether run is to end after an intended stop; a call may already have asked for the next start.
func (s *supervisor) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.starting != nil && !s.closed {
		return false
	}
	s.enterState(StateStopped)
	s.endStart()
	s.running = false
	return true
}

// endStart releases those who wait for a start; under mu.
func (s *supervisor) endStart() {
	if s.starting != nil {
		close(s.starting)
		s.starting = nil
	}
}

// failure is a crash or a failed start.
type failure struct {
	err     error
	crashed bool          // it had been up
	lived   time.Duration // for so long
	known   bool          // an input was found to be the cause, and is quarantined instead of the connector
}

// crashLimit is how many crashes within the window are a loop.
const crashLimit = 5

// fail takes the connector out of service after a crash or a failed start, and sets when it is started again.
func (s *supervisor) fail(f failure) {
	t := s.cat.timing
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur.Store(nil)
	now := time.Now()
	if f.lived >= t.Stable {
		s.failures, s.quarantines, s.trial = 0, 0, false
	}
	if f.known {
		s.failures, s.crashes = 0, nil
	} else if f.crashed && !s.remote() {
		s.crashes = slices.DeleteFunc(append(s.crashes, now), func(at time.Time) bool { return now.Sub(at) > t.CrashWindow })
	}
	most := t.BackoffMax
	if s.remote() {
		most = min(most, remoteBackoff)
	}
	state, pause := StateBackoff, exponential(t.BackoffMin, most, s.failures)
	if len(s.crashes) >= crashLimit || s.trial && !f.known {
		state, pause = StateQuarantined, exponential(t.QuarantineMin, t.QuarantineMax, s.quarantines)
		s.quarantines++
		s.crashes, s.trial = nil, false
	}
	s.failures++
	s.restarts++
	s.lastErr, s.retryAt = f.err, now.Add(pause)
	s.enterState(state)
	s.endStart()
	if s.closed {
		return
	}
	if state == StateQuarantined {
		s.log.Error("connector crashes in a loop and is quarantined", "error", f.err, "retry_in", pause, "times", s.quarantines)
	} else {
		s.log.Error("connector is down", "error", f.err, "retry_in", pause)
	}
}

// remoteBackoff is the longest pause before a connector at an address is looked for again: that costs next to nothing.
const remoteBackoff = 10 * time.Second

// remote says whether somebody else runs the connector. A lost connection is then no crash that could be one of a loop: it is
// what a new version or a debugger looks like from here.
func (s *supervisor) remote() bool {
	_, is := s.src.Launcher.(launch.Address)
	return is
}

// exponential is the pause after n failures, with jitter.
func exponential(least, most time.Duration, n int) time.Duration {
	pause := most
	if n < 20 {
		pause = min(pause, least<<n)
	}
	return time.Duration(float64(pause) * (0.75 + rand.Float64()/2))
}

// lift ends a pause now.
func (s *supervisor) lift() {
	s.ward.pardon()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes, s.failures, s.quarantines = nil, 0, 0
	if s.state == StateBackoff || s.state == StateQuarantined {
		s.retryAt = time.Now()
		signal(s.lifted)
		s.log.Info("connector is started again on request")
	}
}

// rest waits out the backoff and says whether to start again.
func (s *supervisor) rest() bool {
	s.mu.Lock()
	timer := time.NewTimer(time.Until(s.retryAt))
	s.mu.Unlock()
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.lifted:
	case <-s.cat.ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trial = s.state == StateQuarantined && s.quarantines > 0
	if s.closed || len(s.cat.connections(s)) == 0 {
		s.enterState(StateStopped)
		s.running = false
		return false
	}
	s.begin()
	return true
}

// start brings one process up: launched, described, configured.
func (s *supervisor) start() (*instance, error) {
	ctx := s.cat.ctx
	select {
	case s.cat.starts <- struct{}{}:
		defer func() { <-s.cat.starts }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	granted := s.cat.grants(s)
	files := stats(granted.Files) // before the grant: one that is replaced in between counts as replaced
	proc, err := s.launcher(granted).Launch(ctx, s.cat.host, s.name)
	if err != nil {
		return nil, err
	}
	in := newInstance(s, proc)
	in.granted, in.files = granted, files
	if err := s.introduce(ctx, in); err != nil {
		proc.Kill()
		in.end(ctx, 0)
		return nil, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		in.end(s.cat.stopCtx, 0)
		return nil, errors.New("the catalog was stopped")
	}
	s.cur.Store(in)
	s.enterState(StateReady)
	s.endStart()
	s.mu.Unlock()
	// What was configured between introduce and now found no instance to tell.
	if len(s.cat.connections(s)) == 0 {
		in.dismiss()
	} else if err := in.sync(ctx); err != nil {
		in.prod()
	}
	s.log.Info("connector is ready", "pid", proc.PID(), "version", s.desc.Load().resp.GetVersion())
	return in, nil
}

// launcher starts processes that are granted this much, if they can be confined.
func (s *supervisor) launcher(g launch.Grants) launch.Launcher {
	if c, ok := s.src.Launcher.(launch.Confiner); ok {
		return c.Confined(g)
	}
	return s.src.Launcher
}

// fits says whether the sandbox of a process, if it has one, leaves room for its connections.
func (in *instance) fits() bool {
	r, ok := in.proc.(launch.Reporter)
	if !ok {
		return true
	}
	e := r.Enforced()
	if !e.Files && !e.Ports {
		return true
	}
	if e.Files && replaced(in.files) {
		return false
	}
	return in.granted.Covers(in.sup.cat.grants(in.sup))
}

func (s *supervisor) introduce(ctx context.Context, in *instance) error {
	resp, err := s.cat.describeWith(ctx, in.client)
	if err != nil {
		return in.failure(ctx, attempt{verb: "describe", sent: true, harmless: true}, err)
	}
	d, err := newDescriptor(s.name, resp)
	if err != nil {
		return err
	}
	if was := s.desc.Swap(d); was != nil && was.resp.GetVersion() != resp.GetVersion() {
		s.log.Warn("connector changed its version", "was", was.resp.GetVersion(), "now", resp.GetVersion())
	}
	if err := in.sync(ctx); err != nil {
		return err
	}
	return nil
}

// watch returns when the instance has ended, and says whether that was intended.
func (s *supervisor) watch(in *instance) bool {
	t := s.cat.timing
	probe := time.NewTicker(t.ProbeEvery)
	defer probe.Stop()
	var idle <-chan time.Time
	if d := s.cat.opts.IdleStop; d > 0 {
		tick := time.NewTicker(max(d/4, time.Millisecond))
		defer tick.Stop()
		idle = tick.C
	}
	misses := 0
	for {
		select {
		case <-in.proc.Done():
			exit := in.proc.Exit()
			s.crashed(in, fmt.Errorf("it ended: %s", exit), slices.Contains(endedFromOutside, exit.Status))
			return false
		case <-s.cat.ctx.Done():
			s.retire(in, s.cat.stopCtx)
			return true
		case <-in.unwanted:
			if s.withdraw(in, 0) {
				s.retire(in, s.cat.ctx)
				return true
			}
		case <-in.outgrown:
			s.log.Info("connector is started anew: its connections need other files or ports")
			in.quiet(s.cat.ctx, s.cat.opts.Grace)
			s.retire(in, s.cat.ctx)
			return true
		case <-idle:
			if in.idleFor() >= s.cat.opts.IdleStop && s.withdraw(in, s.cat.opts.IdleStop) {
				s.log.Debug("connector is idle")
				s.retire(in, s.cat.ctx)
				return true
			}
			continue
		case <-probe.C:
			if !in.fits() { // a file was replaced, or is there now
				s.replace(in)
				continue
			}
		case <-in.poke:
		}
		if err := in.probe(); err == nil || s.cat.ctx.Err() != nil {
			misses = 0
		} else if misses++; misses < maxMisses {
			s.log.Warn("connector does not answer its health probe", "misses", misses, "error", err)
		} else {
			s.log.Error("connector hangs; killing it", "misses", misses, "error", err)
			in.proc.Kill()
			<-in.proc.Done()
			s.crashed(in, fmt.Errorf("it did not answer %d health probes and was killed", misses), false)
			return false
		}
	}
}

// maxMisses is how many health probes in a row may fail.
const maxMisses = 3

// crashed cleans up after a process that ended by itself.
func (s *supervisor) crashed(in *instance, why error, outside bool) {
	found := s.ward.crashed(in.inputs.all(), in.proc.Exit().String(), outside)
	if found > 0 {
		s.log.Error("inputs are quarantined: the connector crashed each time that it had them", "count", found)
	}
	s.fail(failure{err: why, crashed: true, lived: time.Since(in.started), known: found > 0})
	in.end(s.cat.ctx, 0)
}

// withdraw takes an instance out of service if no call is in it, and, unless idle is zero, none was for that long.
func (s *supervisor) withdraw(in *instance, idle time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if idle == 0 && len(s.cat.connections(s)) > 0 {
		return false // wanted again
	}
	s.cur.Store(nil)
	// A call enters before it looks whether the instance is still current: one of the two sees the other.
	if in.inflight.Load() > 0 && idle > 0 {
		s.cur.Store(in)
		return false
	}
	s.enterState(StateDraining)
	return true
}

// retire drains and stops an instance.
func (s *supervisor) retire(in *instance, ctx context.Context) {
	s.mu.Lock()
	s.cur.Store(nil)
	s.enterState(StateDraining)
	s.mu.Unlock()
	in.stopping.Store(true)
	in.end(ctx, stopWithin(ctx, s.cat.opts.Grace))
}

// reconcile tells the connector what changed about its connections. With start the process is started if need be;
// without, there is only something to take away.
func (s *supervisor) reconcile(ctx context.Context, start bool) *plugin.Error {
	in := s.cur.Load()
	if start {
		var err *plugin.Error
		if in, err = s.acquire(ctx); err != nil {
			return err
		}
		if !in.fits() {
			s.replace(in)
			in.leave()
			if in, err = s.acquire(ctx); err != nil {
				return err
			}
		}
		defer in.leave()
	}
	if in == nil {
		return nil
	}
	if len(s.cat.connections(s)) == 0 {
		in.dismiss()
		return nil
	}
	return in.sync(ctx)
}

// replace takes an instance out of service: calls that it has finish, new ones wait for the next.
func (s *supervisor) replace(in *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.CompareAndSwap(in, nil) {
		s.enterState(StateDraining)
		signal(in.outgrown)
	}
}

// close makes new calls fail; run sees the end of the catalog's context.
func (s *supervisor) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.endStart()
}

// replay gives the connector a connection again that it says it does not know.
func (s *supervisor) replay(ctx context.Context, in *instance, cn *conn) *plugin.Error {
	s.log.Warn("connector does not have a connection's configuration; replaying it", "connection", cn.spec.Name)
	in.forget(cn)
	return in.sync(ctx)
}
