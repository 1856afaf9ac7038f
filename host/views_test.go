package host

import (
	"strconv"
	"testing"

	"github.com/casewire/casewire/host/flow/view"
	"github.com/casewire/casewire/plugin/event"
)

func TestViewCache(t *testing.T) {
	t.Parallel()
	ev := func(i int) *event.Event {
		return &event.Event{Source: "s", ID: strconv.Itoa(i), Data: make([]byte, 1024)}
	}
	c := newViewCache(10 * 2048)
	empty := func() {
		t.Helper()
		if len(c.views) != 0 || c.queue.Len() != 0 || c.size != 0 {
			t.Errorf("%d views, %d in the queue, %d bytes are left", len(c.views), c.queue.Len(), c.size)
		}
	}
	v := &view.View{}
	c.put(ev(1), v, 0)
	empty()
	c.put(ev(1), v, 2)
	c.put(ev(1), v, 2) // the same event once more
	for i, want := range []*view.View{v, v, nil} {
		if got := c.take("s", "1"); got != want {
			t.Errorf("take %d of a view for two runs: %p, want %p", i+1, got, want)
		}
	}
	empty()
	c.put(ev(1), v, 1)
	c.drop(ev(1))
	c.drop(ev(2))
	empty()
	for i := range 25 {
		c.put(ev(i), v, 1)
	}
	if len(c.views) != 10 || c.size > c.limit {
		t.Errorf("%d views with %d bytes are kept; the limit is 10 with %d", len(c.views), c.size, c.limit)
	}
	if c.take("s", "14") != nil || c.take("s", "15") == nil {
		t.Error("not the oldest were given up")
	}
}
