package host_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/sdk"
)

// radio is a vendor that a connector listens to. It hangs up whenever it is told to.
type radio struct {
	v *vendor

	mu     sync.Mutex
	hangUp context.CancelFunc // of the open stream
	opened []int              // cursors that streams began at
	news   chan struct{}
}

func (r *radio) connector() *sdk.Connector {
	c := sdk.New("source", "1.0.0", "Makes alerts.", func(context.Context, sourceConfig, sdk.Env) (*radio, error) { return r, nil })
	sdk.AddTrigger(c, sdk.Trigger[*radio, cursor]{Name: "alerts", Summary: "Alerts.", Emits: []string{"io.casewire.alert.v1"}, Stream: (*radio).listen})
	return c
}

func (r *radio) listen(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	line, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.hangUp, r.opened = cancel, append(r.opened, cur.N)
	r.mu.Unlock()
	sdk.Idle(ctx, 0, nil)
	for {
		r.v.mu.Lock()
		list := r.v.list[min(cur.N, len(r.v.list)):]
		r.v.mu.Unlock()
		for _, id := range list {
			ev, err := r.v.event(id)
			if err != nil {
				return err
			}
			cur.N++
			if err := emit(sdk.Page[cursor]{Events: []sdk.Event{ev}, Cursor: cur}); err != nil {
				return err
			}
		}
		select {
		case <-r.news:
		case <-line.Done():
			return sdk.Unavailable("the vendor hung up")
		}
	}
}

// A trigger that streams makes one case of each alert, goes on where it stood when the vendor hangs up and when the host
// starts again, and says how it fares.
func TestStreamMakesCases(t *testing.T) {
	t.Parallel()
	r := &radio{v: newVendor(), news: make(chan struct{}, 1)}
	path := filepath.Join(t.TempDir(), "c.db")
	start := func() *world {
		st, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, v: r.v, path: path, store: st}
		w.host, err = host.New(host.Options{
			Store: st, RunDir: filepath.Join(t.TempDir(), "r"),
			Connectors: map[string]host.Connector{
				"source": host.MemoryConnector(sdk.Server(r.connector())), "target": host.MemoryConnector(sdk.Server(r.v.target())),
			},
			Connections: []host.Connection{{Name: "in", Connector: "source"}, {Name: "out", Connector: "target"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		flows, diags := flow.Load([]flow.Source{{File: "f.yaml", Data: []byte(oneCase)}}, w.host)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if err := w.host.SetFlows(t.Context(), flows); err != nil {
			t.Fatal(err)
		}
		if err := w.host.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w
	}
	tell := func(n int) {
		for range n {
			r.v.mu.Lock()
			id := fmt.Sprintf("a%d", len(r.v.list))
			r.v.mu.Unlock()
			r.v.add(id, "t", true)
		}
		select {
		case r.news <- struct{}{}:
		default:
		}
	}
	w := start()
	tell(3)
	w.eventually("3 runs", w.ended(3))
	status := func() host.TriggerStatus {
		s, err := w.host.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Triggers[0]
	}
	if s := status(); !s.Streaming || s.FoundByPoll != 3 || s.PollError != "" || time.Since(s.LastPoll) > time.Minute {
		t.Errorf("status %+v", s)
	}
	r.mu.Lock()
	r.hangUp()
	r.mu.Unlock()
	w.eventually("the fault to be told", func() bool { return status().PollErrors == 1 })
	tell(2)
	w.eventually("5 runs", w.ended(5))
	w.stop()
	tell(2)
	w = start()
	w.eventually("7 runs", w.ended(7))
	w.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if fmt.Sprint(r.opened) != "[0 3 5]" {
		t.Errorf("streams began at %v", r.opened)
	}
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	for key, n := range r.v.cases {
		if n != 1 {
			t.Errorf("%s: %d cases", key, n)
		}
	}
	if len(r.v.cases) != 7 {
		t.Errorf("%d cases", len(r.v.cases))
	}
}
