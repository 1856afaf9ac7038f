package host_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// A poll that is throttled holds back the calls of every flow on every connection with the same credential there, and the
// polls of the siblings; others go on. The metrics say so.
func TestThrottledPollHoldsSiblingsBack(t *testing.T) {
	t.Parallel()
	v := newVendor()
	var throttle atomic.Bool
	var polls atomic.Int32
	source := v.source()
	source.Egress("vendor.example")
	slow := sdk.New("slow", "1.0.0", "Throttles.", func(context.Context, sourceConfig, sdk.Env) (*vendor, error) { return v, nil })
	slow.Egress("vendor.example")
	sdk.AddTrigger(slow, sdk.Trigger[*vendor, cursor]{
		Name: "alerts", Summary: "Alerts.", Emits: []string{"io.casewire.alert.v1"}, Interval: time.Hour,
		Poll: func(*vendor, context.Context, cursor, func(sdk.Page[cursor]) error) error {
			polls.Add(1)
			if throttle.Load() {
				return sdk.Throttled(time.Hour, "too many")
			}
			return nil
		},
	})
	sdk.Action(slow, "thing.get", "Get.", func(*vendor, context.Context, nothing) (turned, error) {
		return turned{}, nil
	}, sdk.Read)

	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "casewire.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn := func(name, connector, credential string) host.Connection {
		return host.Connection{Name: name, Connector: connector, Credential: credential, Config: json.RawMessage(`{}`)}
	}
	h, err := host.New(host.Options{
		Store: st, RunDir: filepath.Join(t.TempDir(), "r"),
		Connectors: map[string]host.Connector{
			"source": host.MemoryConnector(sdk.Server(source)), "slow": host.MemoryConnector(sdk.Server(slow)),
		},
		Connections: []host.Connection{conn("in", "source", "free"), conn("one", "slow", "shared"), conn("two", "slow", "shared"), conn("other", "slow", "apart")},
	})
	if err != nil {
		t.Fatal(err)
	}
	flows, diags := flow.Load([]flow.Source{
		{File: "held.yaml", Data: []byte("name: held\non: { source.alerts: { connection: in } }\nsteps: [{ id: a, uses: slow.thing.get, connection: two }]\n")},
		{File: "free.yaml", Data: []byte("name: free\non: { source.alerts: { connection: in } }\nsteps: [{ id: a, uses: slow.thing.get, connection: other }]\n")},
		{File: "poll.yaml", Data: []byte("name: poll\non: { slow.alerts: { connection: one } }\nsteps: [{ id: a, let: { x: 1 } }]\n")},
	}, h)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := h.SetFlows(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	throttle.Store(true)
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, host: h, store: st, v: v}
	t.Cleanup(w.stop)
	w.eventually("the throttled poll", func() bool { return len(h.Metrics().Paused) > 0 })
	v.add("alert-1", "An alert", false)
	w.push("alert-1")
	w.eventually("the free flow", func() bool { return w.stats().Runs[store.RunSucceeded] == 1 })
	w.eventually("the held flow", func() bool { return w.stats().Runs[store.RunWaiting] == 1 })
	runs, err := st.ListRuns(t.Context(), store.RunFilter{State: store.RunWaiting})
	if err != nil || len(runs) != 1 || runs[0].Flow != "held" {
		t.Fatalf("waiting: %+v, %v", runs, err)
	}
	if !h.PollNow("one", "alerts") || polls.Load() != 1 {
		t.Errorf("%d polls", polls.Load())
	}
	m := h.Metrics()
	if p := m.Paused[0]; len(m.Paused) != 1 || p.Connection != "one" || p.Throttled != 1 || time.Until(p.ThrottledUntil) < 50*time.Minute {
		t.Errorf("paused: %+v", m.Paused)
	}
	found := map[string]map[string]int{}
	for _, c := range m.Calls {
		found[c.Connection+" "+c.Action] = c.Outcomes
	}
	if found["one poll alerts"][string(plugin.ClassThrottled)] != 1 || found["other thing.get"]["ok"] != 1 || found["two thing.get"] != nil {
		t.Errorf("calls: %v", found)
	}
}
