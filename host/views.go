package host

import (
	"context"
	"fmt"
	"sync"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/flow/view"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin/event"
)

// load makes what a run's expressions see of its event.
func (h *Host) load(ctx context.Context, run store.Run) (flow.Env, error) {
	if run.EventID == "" {
		return flow.Env{}, nil
	}
	v, ok := h.views.get(run.EventSource, run.EventID)
	if !ok {
		rec, err := h.store.Event(ctx, run.EventSource, run.EventID)
		if err != nil {
			return nil, fmt.Errorf("load event %s: %w", run.EventID, err)
		}
		if v, err = view.New(rec.Event, run.CaseKey); err != nil {
			return nil, fmt.Errorf("read event %s: %w", run.EventID, err)
		}
	}
	return env(v, run.CaseKey), nil
}

// env is a view as an environment, with the case key that this run goes by.
func env(v *view.View, caseKey string) flow.Env {
	ev := v.Event
	ev.CaseKey = caseKey
	e := flow.Env{"event": ev}
	switch {
	case v.Alert != nil:
		e["alert"] = *v.Alert
	case v.Incident != nil:
		e["incident"] = *v.Incident
	default:
		e["row"] = v.Row
	}
	return e
}

// viewCache keeps the views of the newest events: a run usually begins right after its event came. Views are never
// changed once made.
type viewCache struct {
	mu    sync.Mutex
	views map[[2]string]*view.View
	order [][2]string
	next  int
}

func newViewCache(size int) *viewCache {
	return &viewCache{views: make(map[[2]string]*view.View), order: make([][2]string, size)}
}

func (c *viewCache) get(source, id string) (*view.View, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.views[[2]string{source, id}]
	return v, ok
}

func (c *viewCache) put(ev event.Event, v *view.View) {
	key := [2]string{ev.Source, ev.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.views[key]; !ok {
		delete(c.views, c.order[c.next])
		c.order[c.next] = key
		c.next = (c.next + 1) % len(c.order)
	}
	c.views[key] = v
}
