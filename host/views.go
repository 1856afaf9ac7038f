package host

import (
	"container/list"
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
	v := h.views.take(run.EventSource, run.EventID)
	if v == nil {
		rec, err := h.store.Event(ctx, run.EventSource, run.EventID)
		if err != nil {
			return nil, fmt.Errorf("load event %s: %w", run.EventID, err)
		}
		if v, err = view.New(rec.Event, run.CaseKey); err != nil {
			return nil, fmt.Errorf("read event %s: %w", run.EventID, err)
		}
	}
	return env(v, run.CaseKey, run.MergedKey), nil
}

// env is a view as an environment, with the case key that this run goes by and the one that ended in it.
func env(v *view.View, caseKey, mergedKey string) flow.Env {
	ev := v.Event
	ev.CaseKey, ev.MergedCaseKey = caseKey, mergedKey
	e := flow.Env{"event": ev}
	switch {
	case v.Alert != nil:
		e["alert"] = *v.Alert
	case v.Incident != nil:
		e["incident"] = *v.Incident
	case v.Case != nil:
		e["case"] = *v.Case
	default:
		e["row"] = v.Row
	}
	return e
}

// viewBytes is how much data of events the views may stand for that wait for their runs: some two thousand alerts. A view
// takes about twice its data.
const viewBytes = 12 << 20

// viewCache keeps views from the moment that their events come until their runs begin, so that none of them is read and
// decoded again; with no backlog it is empty. Over its limit the oldest go. Views are never changed once made.
type viewCache struct {
	mu    sync.Mutex
	limit int
	size  int
	views map[viewKey]*list.Element
	queue list.List // of *keptView, the oldest first
}

type viewKey struct{ source, id string }

type keptView struct {
	key  viewKey
	view *view.View
	size int
	runs int // that have not begun
}

func newViewCache(limit int) *viewCache {
	return &viewCache{limit: limit, views: map[viewKey]*list.Element{}}
}

// put keeps a view for so many runs.
func (c *viewCache) put(ev *event.Event, v *view.View, runs int) {
	if runs == 0 {
		return
	}
	k := &keptView{key: viewKey{ev.Source, ev.ID}, view: v, size: len(ev.Data) + 1024, runs: runs}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(k.key)
	c.views[k.key] = c.queue.PushBack(k)
	c.size += k.size
	for c.size > c.limit {
		c.remove(c.queue.Front().Value.(*keptView).key)
	}
}

// take returns a view for one run, nil if it is not here.
func (c *viewCache) take(source, id string) *view.View {
	key := viewKey{source, id}
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.views[key]
	if el == nil {
		return nil
	}
	k := el.Value.(*keptView)
	if k.runs--; k.runs == 0 {
		c.remove(key)
	}
	return k.view
}

// drop forgets the view of an event that starts no runs.
func (c *viewCache) drop(ev *event.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(viewKey{ev.Source, ev.ID})
}

// remove is called under mu.
func (c *viewCache) remove(key viewKey) {
	el := c.views[key]
	if el == nil {
		return
	}
	c.size -= el.Value.(*keptView).size
	c.queue.Remove(el)
	delete(c.views, key)
}
