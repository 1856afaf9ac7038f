package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// How hints are looked up.
const (
	hintWorkers = 3
	hintBatch   = 48
	hintLease   = time.Minute
	// hintTick bounds how long a due hint can wait when no wake-up came.
	hintTick = time.Second
	// ackBusy is how many webhooks are in work at once before look-ups give way: an answer that comes late costs a
	// subscription, a look-up that comes later costs nothing. ackYield bounds how long a batch gives way, so that look-ups
	// go on under any storm; ackPoll is how often it looks.
	ackBusy  = 4
	ackYield = 100 * time.Millisecond
	ackPoll  = 5 * time.Millisecond
	// hintGone is when a hint whose object cannot be found is given up; the poll still brings what exists.
	hintGone = time.Hour
	// tellEvery is how often failed look-ups are logged.
	tellEvery = 30 * time.Second
	// hintLife is when a hint that fails for any other reason is given up.
	hintLife = 24 * time.Hour
	// longestWait caps what a connector may ask for.
	longestWait = 24 * time.Hour
)

// intake brings the events of one trigger of one connection: it polls, and it looks hints up.
type intake struct {
	host     *Host
	key      triggerKey
	tenant   string
	trigger  *connectorv1.Trigger
	interval time.Duration
	pollNow  chan struct{}
	hints    chan struct{}
	cancel   context.CancelFunc // of run
	group    sync.WaitGroup

	mu     sync.Mutex
	status TriggerStatus
	told   time.Time // when a failed look-up was last logged
	untold int       // look-ups that failed since
}

// TriggerStatus says how a trigger fares.
type TriggerStatus struct {
	Connection string    `json:"connection"`
	Trigger    string    `json:"trigger"`
	LastPoll   time.Time `json:"last_poll,omitzero"`   // last poll that succeeded, or sign of life of a stream
	PolledFrom time.Time `json:"polled_from,omitzero"` // when this host began to poll or stream; zero: the trigger does neither
	LastPush   time.Time `json:"last_push,omitzero"`
	PollError  string    `json:"poll_error,omitempty"`
	PollErrors int       `json:"poll_errors"`
	// Streaming says that a stream is open.
	Streaming bool `json:"streaming,omitempty"`
	// Found counts accepted events by the way that they came.
	FoundByPush int `json:"found_by_push"`
	FoundByPoll int `json:"found_by_poll"`
	// Refused counts what webhooks were refused for, or found odd, by reason.
	Refused map[string]int `json:"refused,omitempty"`
}

func newIntake(h *Host, key triggerKey) (*intake, error) {
	d, ok := h.Connection(key.connection)
	if !ok {
		return nil, fmt.Errorf("there is no connection %q", key.connection)
	}
	in := &intake{host: h, key: key, pollNow: make(chan struct{}, 1), hints: make(chan struct{}, 1)}
	in.status = TriggerStatus{Connection: key.connection, Trigger: key.trigger, Refused: map[string]int{}}
	for _, t := range d.GetTriggers() {
		if t.GetName() == key.trigger {
			in.trigger = t
		}
	}
	if in.trigger == nil {
		return nil, fmt.Errorf("connector %s has no trigger %q", d.GetName(), key.trigger)
	}
	in.interval = in.trigger.GetInterval().AsDuration()
	for _, c := range *h.conns.Load() {
		if c.Name == key.connection {
			in.tenant = c.Tenant
			if c.Poll > 0 {
				in.interval = c.Poll
			}
		}
	}
	if in.interval <= 0 {
		in.interval = time.Minute
	}
	return in, nil
}

// run begins the intake's work; it ends with ctx or with stop.
func (in *intake) run(ctx context.Context, all *sync.WaitGroup) {
	ctx, in.cancel = context.WithCancel(ctx)
	group := &in.group
	defer func() { all.Go(group.Wait) }()
	switch {
	case in.trigger.GetStreams(): // one of them moves the cursor, and a stream is sooner
		in.begun()
		group.Go(func() { in.streamLoop(ctx) })
	case in.trigger.GetPolls():
		in.begun()
		group.Go(func() { in.pollLoop(ctx) })
	}
	if in.trigger.GetResolves() {
		for range hintWorkers {
			group.Go(func() { in.hintLoop(ctx) })
		}
	}
}

func (in *intake) begun() {
	in.mu.Lock()
	in.status.PolledFrom = time.Now()
	in.mu.Unlock()
}

// pollLoop polls at the interval, with jitter so that many hosts do not march in step, and at once when asked to.
func (in *intake) pollLoop(ctx context.Context) {
	failures := 0
	for {
		if !in.holdBack(ctx, "poll ") {
			return
		}
		err := in.poll(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := in.interval + time.Duration((rand.Float64()-0.5)*0.2*float64(in.interval))
		if err != nil {
			failures++
			wait = max(wait, min(plugin.FromError(err).RetryAfter, longestWait), min(time.Second<<min(failures, 8), 5*time.Minute))
			in.host.log.WarnContext(ctx, "poll failed", "connection", in.key.connection, "trigger", in.key.trigger,
				"error", err, "next", wait.Round(time.Millisecond))
		} else {
			failures = 0
		}
		in.fared(err)
		if !pause(ctx, wait, in.pollNow) {
			return
		}
	}
}

func (in *intake) poll(ctx context.Context) (err error) {
	began := time.Now()
	defer func() { in.host.heard(in.key.connection, "poll "+in.key.trigger, err, began) }()
	cursor, err := in.host.store.Cursor(ctx, in.key.connection, in.key.trigger)
	if err != nil {
		return err
	}
	return in.host.catalog.Poll(ctx, in.key.connection, in.key.trigger, cursor, func(ctx context.Context, b *connectorv1.Batch) error {
		req := in.ingest(store.ViaPoll, b.GetEvents(), b.GetRejected())
		// An empty cursor in a batch means that the position did not move.
		if len(b.GetCursor()) > 0 {
			req.Cursor = b.GetCursor()
		}
		return in.commit(ctx, req)
	})
}

// hintLoop looks hints up in batches.
func (in *intake) hintLoop(ctx context.Context) {
	for {
		in.giveWay(ctx)
		if !in.holdBack(ctx, "look up ") {
			return
		}
		n, err := in.lookUp(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			in.lookUpFailed(ctx, err)
		}
		if err == nil && n > 0 {
			wake(in.hints) // there may be more, for another worker too
			continue
		}
		if !pause(ctx, hintTick, in.hints) {
			return
		}
	}
}

// holdBack waits as long as the vendor asked somebody with the same credential to wait. It returns false when ctx is over.
func (in *intake) holdBack(ctx context.Context, verb string) bool {
	for {
		wait := time.Until(in.host.engine.PausedUntil(in.key.connection, verb+in.key.trigger))
		if wait <= 0 {
			return ctx.Err() == nil
		}
		if !pause(ctx, min(wait, time.Minute), nil) {
			return false
		}
	}
}

// giveWay waits while many webhooks are in work, but not for long.
func (in *intake) giveWay(ctx context.Context) {
	for begin := time.Now(); in.host.acks.Load() >= ackBusy && time.Since(begin) < ackYield; {
		if !pause(ctx, ackPoll, nil) {
			return
		}
	}
}

// lookUp claims a batch of hints and turns them into events. It returns how many it claimed.
func (in *intake) lookUp(ctx context.Context) (int, error) {
	now := time.Now()
	hints, err := in.host.store.ClaimHints(ctx, store.HintClaim{
		Connection: in.key.connection, Trigger: in.key.trigger, Limit: hintBatch, Now: now, LeaseUntil: now.Add(hintLease),
	})
	if err != nil || len(hints) == 0 {
		return 0, err
	}
	wire := make([]*connectorv1.Hint, len(hints))
	for i, h := range hints {
		wire[i] = &connectorv1.Hint{Id: h.ID, Data: h.Data, Attempt: uint32(h.Attempt) + 1}
	}
	began := time.Now()
	lookup, cancel := context.WithTimeout(ctx, hintLease-10*time.Second)
	outcomes, err := in.host.catalog.Resolve(lookup, in.key.connection, in.key.trigger, wire)
	cancel()
	if ctx.Err() != nil {
		return 0, ctx.Err() // the lease lapses, and the hint is looked up after the restart
	}
	byID := make(map[string]*connectorv1.HintOutcome, len(outcomes))
	for _, o := range outcomes {
		byID[o.GetId()] = o
	}
	req := in.ingest(store.ViaPush, nil, nil)
	var failed error // one that throttles comes first
	for _, h := range hints {
		o := byID[h.ID]
		var fault *plugin.Error
		switch {
		case o != nil:
			fault = plugin.UnmarshalStatus(o.GetStatus())
		case err != nil:
			fault = plugin.FromError(err)
		default:
			fault = plugin.FromError(errors.New("the connector gave no answer for this hint"))
		}
		if fault != nil {
			if failed == nil || fault.Class() == plugin.ClassThrottled {
				failed = fault
			}
			in.postpone(&req, h, fault)
			continue
		}
		in.add(&req, o.GetEvents(), o.GetRejected())
		req.Done = append(req.Done, h)
		if o.GetPollNow() {
			wake(in.pollNow)
		}
	}
	in.host.heard(in.key.connection, "look up "+in.key.trigger, failed, began)
	if err := in.commit(ctx, req); err != nil {
		return 0, err
	}
	if failed != nil && len(req.Done) == 0 {
		return 0, failed
	}
	return len(hints), nil
}

// lookUpFailed logs failures now and then. That a notification overtook its alert is everyday, and no failure yet.
func (in *intake) lookUpFailed(ctx context.Context, err error) {
	log := in.host.log.With("connection", in.key.connection, "trigger", in.key.trigger, "error", err)
	if plugin.FromError(err).Class() == plugin.ClassNotFound {
		log.DebugContext(ctx, "look-up came too early")
		return
	}
	in.mu.Lock()
	in.untold++
	n, due := in.untold, time.Since(in.told) >= tellEvery
	if due {
		in.told, in.untold = time.Now(), 0
	}
	in.mu.Unlock()
	if due {
		log.WarnContext(ctx, "look-ups failed; they are tried again", "count", n)
	}
}

// postpone puts a hint back with growing pauses, or gives it up as a dead letter.
func (in *intake) postpone(req *store.Ingest, h store.Hint, fault *plugin.Error) {
	age := req.Now.Sub(h.Received)
	limit := hintLife
	switch fault.Class() {
	case plugin.ClassNotFound:
		limit = hintGone
	case plugin.ClassInvalid:
		limit = -1 // it will not become valid
	}
	if fault.Reason == plugin.ReasonPoisonInput {
		limit = -1 // the connector crashed each time
	}
	if age > limit {
		req.Done = append(req.Done, h)
		req.DeadLetters = append(req.DeadLetters, store.DeadLetter{
			Kind: "hint", Connection: in.key.connection, Trigger: in.key.trigger, Subject: h.ID, Raw: h.Data,
			Reason:  fmt.Sprintf("given up after %d look-ups in %v: %v", h.Attempt+1, age.Round(time.Second), fault),
			Class:   string(fault.Class()),
			Created: req.Now,
		})
		return
	}
	wait := min(time.Second<<min(h.Attempt, 8), 2*time.Minute)
	wait = max(time.Duration((0.75+rand.Float64()/2)*float64(wait)), min(fault.RetryAfter, longestWait))
	h.Attempt++
	h.NotBefore = req.Now.Add(wait)
	h.Reason = fault.Error()
	req.Retry = append(req.Retry, h)
}

// pause waits for d, or until woken. It returns false when ctx is over.
func pause(ctx context.Context, d time.Duration, woken <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-woken:
	}
	return ctx.Err() == nil
}

// wake signals without waiting; a signal that is pending already is enough.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
