// Package engine runs flows: it leases runs, executes their steps through connectors, journals what happened, and resumes
// after a crash without repeating a finished step. It has no HTTP, no YAML and no SQL, and takes its clock from time, so
// that all of it runs under testing/synctest.
//
// # What a run costs
//
// Steps that change nothing are journaled with the next write. A keyed step costs two transactions: BeginEffect before it
// is sent and, after it, the one that records its result, which for the last step is the end of the run. An unsafe step
// costs the same two.
//
// # What is repeated
//
//	effect        the attempt failed, nothing changed   the outcome is unknown
//	read          by class                              by class
//	idempotent    by class                              by class
//	keyed         by class                              window > 0: look (resolve), never send again, at the end park
//	                                                    window = 0: send again with the same key, at the end park
//	unsafe        by class                              park at once
//
// Parking wins over on_error: a run whose write may have happened waits for a person, whatever the flow says.
package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Caller calls actions. Errors are *plugin.Error: FromError has been applied, and what carries no Failure (the connector
// or the transport died) has side effect unknown, or none if the call surely never left the host.
type Caller interface {
	Call(ctx context.Context, c Call) (json.RawMessage, error)
}

// Call is one attempt at one action.
type Call struct {
	Connection, Action string
	Input              json.RawMessage
	ID                 string // unique per attempt
	Key                string // idempotency key
	Attempt            int
	Resolve            bool            // find out only (MODE_RESOLVE)
	Prior              json.RawMessage // output of the last success with the same key
	FirstSent          time.Time
	Effect             connectorv1.Effect // that of the step
}

// Flows gives compiled flows by version. It is asked once per claim of a run, so it should keep what it compiled.
type Flows interface {
	Flow(ctx context.Context, name, version string) (*flow.Flow, error)
}

// Options configure an engine. Store, Caller and Flows are required.
type Options struct {
	Store   store.Store
	Caller  Caller
	Flows   Flows
	Logger  *slog.Logger
	Owner   string        // unique per process; default random
	Workers int           // runs at once; default 64
	Lease   time.Duration // default 30 s; renewed at a third
	Timeout time.Duration // of one attempt of a step that sets none; default 60 s

	// Load gives what a run's expressions see of the event: event, alert, incident, row. The engine adds steps, inputs,
	// run, item, index and the let steps to a copy; what Load returns is not changed, so it may be shared between runs.
	// nil: runs see no event.
	Load func(ctx context.Context, run store.Run) (flow.Env, error)
	// Limit says how hard a connection may be driven; nil or a zero Limit: as hard as there are workers.
	Limit func(connection string) Limit
	// Observer is told what happens; nil: nobody.
	Observer Observer
}

// Engine executes runs. Make it with New; Start and Stop it once.
type Engine struct {
	o     Options
	log   *slog.Logger
	obs   Observer
	eval  evaluator
	gates gates

	work  chan *task
	wake  chan struct{} // capacity 1: something may be claimable
	drain chan struct{} // closed by Stop: begin nothing new

	mu     sync.Mutex
	active map[string]*task // by run
	state  lifecycle

	ctx                     context.Context //nolint:containedctx // the engine's own life, ended by Stop
	cancel                  context.CancelCauseFunc
	claimer, hands, renewer sync.WaitGroup
	busy, asleep            atomic.Int64
}

type lifecycle int

const (
	stateNew lifecycle = iota
	stateStarted
	stateStopped
)

// Causes of a run's cancelled context.
var (
	errLost    = errors.New("engine: the lease was lost")
	errStopped = errors.New("engine: the host is stopping")
)

// stopGrace is how long Stop waits for cancelled attempts to return and to be journaled.
const stopGrace = 5 * time.Second

// New makes an engine. It starts nothing.
func New(o Options) (*Engine, error) {
	var errs []error
	for name, missing := range map[string]bool{"Store": o.Store == nil, "Caller": o.Caller == nil, "Flows": o.Flows == nil} {
		if missing {
			errs = append(errs, fmt.Errorf("engine: Options.%s is required", name))
		}
	}
	if o.Workers < 0 || o.Lease < 0 || o.Timeout < 0 {
		errs = append(errs, errors.New("engine: Workers, Lease and Timeout must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	o.Owner = cmp.Or(o.Owner, rand.Text())
	o.Workers = cmp.Or(o.Workers, 64)
	o.Lease = cmp.Or(o.Lease, 30*time.Second)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Load == nil {
		o.Load = func(context.Context, store.Run) (flow.Env, error) { return flow.Env{}, nil }
	}
	e := &Engine{
		o: o, log: o.Logger, obs: o.Observer, eval: compiled{},
		work: make(chan *task, o.Workers), wake: make(chan struct{}, 1), drain: make(chan struct{}),
		active: make(map[string]*task, o.Workers),
	}
	if e.obs == nil {
		e.obs = Unobserved{}
	}
	e.gates.init(o.Limit, e.obs)
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	return e, nil
}

// Start begins to claim and to execute runs. Its context covers starting only; Stop ends the engine's life.
func (e *Engine) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != stateNew {
		return errors.New("start the engine: it was started or stopped before")
	}
	e.state = stateStarted
	e.claimer.Go(e.claimRuns)
	e.renewer.Go(e.renewLeases)
	for range e.o.Workers {
		e.hands.Go(func() {
			for t := range e.work {
				e.execute(t)
			}
		})
	}
	return nil
}

// Stop drains the engine: it claims nothing more, begins no further attempt, and lets those in flight finish until ctx
// ends; then it cancels them. What is known is journaled, and unfinished runs are handed back to the store, due at once.
// It returns ctx's error if attempts had to be cancelled, and another if some did not even return then.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	was := e.state
	e.state = stateStopped
	e.mu.Unlock()
	switch was {
	case stateNew:
		e.cancel(errStopped)
		return nil
	case stateStopped:
		return errors.New("stop the engine: it was stopped before")
	case stateStarted:
	}
	close(e.drain)

	idle := make(chan struct{})
	go func() {
		defer close(idle)
		e.claimer.Wait() // nobody sends work any more
		close(e.work)
		e.hands.Wait()
		e.cancel(errStopped) // leases are renewed as long as anybody works
		e.renewer.Wait()
	}()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = fmt.Errorf("stop the engine: attempts in flight were cancelled: %w", ctx.Err())
	}
	e.cancel(errStopped)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-idle:
	case <-grace.C:
		return errors.Join(err, fmt.Errorf("stop the engine: %d runs did not let go within %s; their leases will lapse", e.busy.Load(), stopGrace))
	}
	return err
}

// Wake says that new runs may be there. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// LimitsChanged says that Options.Limit gives other answers than before.
func (e *Engine) LimitsChanged() { e.gates.renew() }

// Heard tells the engine how a call ended that it did not make, such as a poll: what throttles one call throttles all that
// share a limiter. Action is what was done, such as "poll alerts".
func (e *Engine) Heard(connection, action string, err error) {
	if err != nil {
		e.gates.heard(connection, action, plugin.FromError(err), time.Now())
	}
}

// PausedUntil says until when a throttled answer asked that such calls wait; the past or zero means that none did.
func (e *Engine) PausedUntil(connection, action string) time.Time {
	return e.gates.pausedUntil(connection, action)
}

// Active says how many runs are being executed.
func (e *Engine) Active() int { return int(e.busy.Load()) }

func (e *Engine) draining() bool {
	select {
	case <-e.drain:
		return true
	default:
		return false
	}
}
