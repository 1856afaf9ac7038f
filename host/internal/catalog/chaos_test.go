package catalog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// The connector whose process is killed: everything that it does leaves a trace in a folder.

type chaosConfig struct {
	Folder string `json:"folder" cw:"required"`
	Events int    `json:"events"`
}

type chaosThing struct {
	ID string `json:"id" cw:"required"`
}

type chaosCursor struct {
	Next int `json:"next"`
}

type chaosConn struct{ cfg chaosConfig }

// leave writes one byte to the file of an id: the effect.
func (c *chaosConn) leave(id string) error {
	f, err := os.OpenFile(filepath.Join(c.cfg.Folder, id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("x")
	return err
}

func (c *chaosConn) left(id string) bool {
	st, err := os.Stat(filepath.Join(c.cfg.Folder, id))
	return err == nil && st.Size() > 0
}

// do has an effect each time that it is called.
func (c *chaosConn) do(_ context.Context, in chaosThing) (chaosThing, error) {
	return in, c.leave(in.ID)
}

// ensure has one effect for each key.
func (c *chaosConn) ensure(ctx context.Context, in chaosThing) (chaosThing, error) {
	call := sdk.CallFrom(ctx)
	switch {
	case c.left(call.Key):
		return in, nil
	case call.Resolve:
		return in, sdk.Absent("%s was not made", call.Key)
	}
	return in, c.leave(call.Key)
}

func (c *chaosConn) poll(_ context.Context, cur chaosCursor, emit func(sdk.Page[chaosCursor]) error) error {
	for cur.Next < c.cfg.Events {
		var events []sdk.Event
		for range min(5, c.cfg.Events-cur.Next) {
			events = append(events, chaosEvent(fmt.Sprintf("poll-%d", cur.Next)))
			cur.Next++
		}
		if err := emit(sdk.Page[chaosCursor]{Events: events, Cursor: cur}); err != nil {
			return err
		}
	}
	return nil
}

func (c *chaosConn) resolve(_ context.Context, h sdk.Hint) (sdk.Found, error) {
	return sdk.Found{Events: []sdk.Event{chaosEvent(h.ID)}}, nil
}

func serveChaos() {
	c := sdk.New("chaos", "1.0.0", "Is killed.", func(_ context.Context, cfg chaosConfig, _ sdk.Env) (*chaosConn, error) {
		return &chaosConn{cfg}, nil
	})
	sdk.Action(c, "thing.do", "Do.", (*chaosConn).do, sdk.Unsafe)
	sdk.Action(c, "thing.ensure", "Ensure.", (*chaosConn).ensure, sdk.Keyed)
	sdk.AddTrigger(c, sdk.Trigger[*chaosConn, chaosCursor]{
		Name: "things", Summary: "Things.", Emits: []string{event.TypeAlert}, Poll: (*chaosConn).poll, Resolve: (*chaosConn).resolve,
		Hook: func(*chaosConn, context.Context, *sdk.HookRequest) (*sdk.HookResponse, error) {
			return &sdk.HookResponse{}, nil
		},
	})
	sdk.Serve(c)
}

func chaosEvent(subject string) sdk.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := sdk.Event{
		Source: "https://chaos.example", Type: event.TypeAlert, Subject: subject, Time: at, PartitionKey: "chaos/" + subject,
		Rev: event.Rev(at), Digest: event.Digest(map[string]any{"subject": subject}),
	}
	e.ID = event.ComputeID(e.Source, e.Subject, e.Rev, e.Digest)
	e.Data = fmt.Appendf(nil, `{"class_uid":2004,"category_uid":2,"activity_id":1,"type_uid":200401,"severity_id":3,"time":%d,`+
		`"metadata":{"version":%q,"product":{"vendor_name":"chaos"},"uid":%q},"finding_info":{"uid":%q,"title":"t"}}`,
		at.UnixMilli(), event.DataVersion, e.ID, subject)
	return e
}

// chaos is one run: what is done to the connector, and what came of it.
type chaos struct {
	t      *testing.T
	c      *catalog.Catalog
	folder string
	done   atomic.Int64 // calls, events and outcomes so far

	mu      sync.Mutex
	events  map[string]int  // by subject: how often one was taken
	unsure  int             // calls that ended with an unknown side effect
	spared  int             // calls that ended with none
	reasons map[string]int  // of errors
	cursor  json.RawMessage // durable together with the events
}

// TestChaos kills the connector's process again and again while it is called, polled and asked to look hints up. Nothing
// is lost, nothing is doubled, and every call ends with a result or an error that tells the truth about its side effect.
// It is 10,000 calls, 10,000 events and 100 kills; a tenth of that with -short.
func TestChaos(t *testing.T) {
	t.Parallel()
	calls, events, kills := 10_000, 10_000, 100
	if testing.Short() {
		calls, events, kills = 1000, 1000, 10
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	x := &chaos{t: t, folder: t.TempDir(), events: map[string]int{}, reasons: map[string]int{}}
	x.c = newCatalog(t, catalog.Options{
		Connectors: map[string]catalog.Source{"chaos": {Launcher: launch.Exec{Args: []string{"chaos", "chaos"}}}},
		Timing:     catalog.Timing{BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond, QuarantineMin: time.Millisecond, QuarantineMax: 5 * time.Millisecond},
	})
	polled, hinted := events/2, events-events/2
	configure(t, x.c, conn("a", "chaos", fmt.Sprintf(`{"folder":%q,"events":%d}`, x.folder, polled)))

	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() {
			for i := w; i < calls; i += 8 {
				if i%2 == 0 {
					x.do(ctx, fmt.Sprintf("do-%d", i))
				} else {
					x.ensure(ctx, fmt.Sprintf("key-%d", i))
				}
				x.done.Add(1)
			}
		})
	}
	work.Go(func() { x.poll(ctx, polled) })
	for w := range 4 {
		work.Go(func() {
			for i := w; i < hinted; i += 4 {
				x.hint(ctx, fmt.Sprintf("hint-%d", i))
			}
		})
	}
	stop := make(chan struct{})
	var killed int
	var killer sync.WaitGroup
	killer.Go(func() { killed = x.kill(stop, kills, int64(calls+events)) })
	work.Wait()
	close(stop)
	killer.Wait()
	if ctx.Err() != nil {
		t.Fatalf("it was not over in time: %d of %d", x.done.Load(), calls+events)
	}
	if killed < kills*3/4 {
		t.Errorf("the connector was killed %d times, want about %d", killed, kills)
	}
	for i := range polled {
		if n := x.events[fmt.Sprintf("poll-%d", i)]; n != 1 {
			t.Errorf("polled event %d was taken %d times", i, n)
		}
	}
	for i := range hinted {
		if n := x.events[fmt.Sprintf("hint-%d", i)]; n != 1 {
			t.Errorf("hinted event %d was taken %d times", i, n)
		}
	}
	if len(x.events) != events {
		t.Errorf("%d events were taken, want %d", len(x.events), events)
	}
	t.Logf("%d kills; %d calls ended with an unknown side effect, %d with none; errors %v", killed, x.unsure, x.spared, x.reasons)
}

// kill kills the process n times, at random points of the work.
func (x *chaos) kill(stop chan struct{}, n int, total int64) (killed int) {
	at := make([]int64, n)
	for i := range at {
		at[i] = rand.Int64N(total * 9 / 10)
	}
	slices.Sort(at)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	last := 0
	for killed < n {
		select {
		case <-stop:
			return killed
		case <-tick.C:
		}
		pid := x.c.Status()[0].PID
		if pid == 0 || pid == last || x.done.Load() < at[killed] {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil && p.Kill() == nil {
			killed++
			last = pid
		}
	}
	return killed
}

// judge demands a typed error and says what it claims.
func (x *chaos) judge(what string, err error) *plugin.Error {
	e, ok := err.(*plugin.Error) //nolint:errorlint // the promise is about the type itself
	if !ok || e.SideEffect == 0 || e.Origin == 0 {
		x.t.Errorf("%s: %T %+v names no side effect or origin", what, err, err)
		return &plugin.Error{SideEffect: plugin.EffectUnknown}
	}
	x.mu.Lock()
	x.reasons[e.Reason]++
	x.mu.Unlock()
	if e.Reason == plugin.ReasonPoisonInput {
		x.t.Errorf("%s: an innocent input is held to be poison: %v", what, e)
		x.c.Lift("chaos") // so that the rest can be judged
	}
	return e
}

func (x *chaos) traces(id string) int {
	st, err := os.Stat(filepath.Join(x.folder, id))
	if err != nil {
		return 0
	}
	return int(st.Size())
}

// do calls until the call has reached the connector, and holds what came of it against the trace.
func (x *chaos) do(ctx context.Context, id string) {
	for n := 0; ctx.Err() == nil; n++ {
		try := fmt.Sprintf("%s.%d", id, n)
		_, err := x.c.Invoke(ctx, catalog.Invocation{Connection: "a", Action: "thing.do", Input: fmt.Appendf(nil, `{"id":%q}`, try), ID: try}, nil)
		switch traces := x.traces(try); {
		case traces > 1:
			x.t.Errorf("%s was done %d times", try, traces)
		case err == nil && traces != 1:
			x.t.Errorf("%s succeeded without a trace", try)
		}
		if err == nil {
			return
		}
		switch e := x.judge(try, err); e.SideEffect {
		case plugin.EffectUnknown:
			x.mu.Lock()
			x.unsure++
			x.mu.Unlock()
			return
		case plugin.EffectApplied:
			x.t.Errorf("%s: nothing says so: %v", try, err)
			return
		default:
			if x.traces(try) != 0 {
				x.t.Errorf("%s was done, but its error says that nothing was: %v", try, err)
			}
			x.mu.Lock()
			x.spared++
			x.mu.Unlock()
			rest(ctx, e)
		}
	}
}

// ensure calls as the host does: after an unknown outcome it finds out, and sends again only what surely is not there.
func (x *chaos) ensure(ctx context.Context, key string) {
	inv := catalog.Invocation{Connection: "a", Action: "thing.ensure", Input: fmt.Appendf(nil, `{"id":%q}`, key), Key: key}
	for ctx.Err() == nil {
		inv.Attempt++
		_, err := x.c.Invoke(ctx, inv, nil)
		if err == nil {
			if n := x.traces(key); n != 1 {
				x.t.Errorf("%s was made %d times", key, n)
			}
			return
		}
		e := x.judge(key, err)
		switch {
		case e.SideEffect == plugin.EffectUnknown:
			inv.Resolve = true
		case inv.Resolve && e.Reason == plugin.ReasonAbsent:
			inv.Resolve = false
		}
		rest(ctx, e)
	}
}

// poll polls until everything is there; events and cursor become durable together.
func (x *chaos) poll(ctx context.Context, total int) {
	for got := 0; got < total && ctx.Err() == nil; {
		err := x.c.Poll(ctx, "a", "things", x.cursor, func(_ context.Context, b *connectorv1.Batch) error {
			if rand.IntN(50) == 0 {
				return errors.New("the disk is full for a moment") // nothing of the batch is kept
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			for _, e := range b.GetEvents() {
				x.events[e.GetSubject()]++
				got++
			}
			if len(b.GetRejected()) > 0 {
				x.t.Errorf("rejected: %v", b.GetRejected())
			}
			x.cursor = b.GetCursor()
			x.done.Add(int64(len(b.GetEvents())))
			return nil
		})
		if err != nil {
			rest(ctx, x.judge("poll", err))
		}
	}
}

// hint looks a hint up until there is an outcome.
func (x *chaos) hint(ctx context.Context, id string) {
	defer x.done.Add(1)
	for ctx.Err() == nil {
		out, err := x.c.Resolve(ctx, "a", "things", []*connectorv1.Hint{{Id: id, Data: []byte(`{}`)}})
		if err == nil && len(out) == 1 {
			if e := plugin.UnmarshalStatus(out[0].GetStatus()); e != nil {
				err = e
			}
		}
		if err == nil {
			x.mu.Lock()
			defer x.mu.Unlock()
			for _, e := range out[0].GetEvents() {
				x.events[e.GetSubject()]++
			}
			return
		}
		e := x.judge(id, err)
		if e.SideEffect != plugin.EffectNone {
			x.t.Errorf("looking %s up may have changed something: %v", id, err)
		}
		rest(ctx, e)
	}
}

// rest waits as the error asks, but not long.
func rest(ctx context.Context, e *plugin.Error) {
	t := time.NewTimer(min(max(e.RetryAfter, time.Millisecond), 10*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
