package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// fragile is a connector, in a process of its own, that dies of certain inputs.
func fragile() *sdk.Connector {
	c := sdk.New("fragile", "1.0.0", "Dies of certain inputs.", func(_ context.Context, _ sourceConfig, _ sdk.Env) (nothing, error) { return nothing{}, nil })
	die := func(text string) {
		if strings.Contains(text, "poison") {
			os.Exit(7)
		}
	}
	sdk.Action(c, "thing.get", "Get.", func(_ nothing, _ context.Context, in caseInput) (caseOutput, error) {
		die(in.Title)
		return caseOutput{ID: in.Title}, nil
	}, sdk.Read)
	sdk.AddTrigger(c, sdk.Trigger[nothing, cursor]{
		Name: "alerts", Summary: "Alerts.", Emits: []string{"io.casewire.alert.v1"},
		Hook: func(_ nothing, _ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
			die(string(req.Body))
			return &sdk.HookResponse{}, nil
		},
	})
	return c
}

// One input kills the connector's process each time: its run becomes a dead letter that says so, the connector is not
// quarantined for it, and the others come to their end.
func TestPoisonEndsAsADeadLetterAndOthersGoOn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts processes, and waits for them to be started again")
	}
	v := newVendor()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "casewire.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Options{
		Store: st, RunDir: filepath.Join(t.TempDir(), "r"),
		Connectors: map[string]host.Connector{
			"source": host.MemoryConnector(sdk.Server(v.source())), "fragile": host.ExecConnector(os.Args[0], []string{"fragile"}, nil),
		},
		Connections: []host.Connection{
			{Name: "in", Connector: "source", Config: json.RawMessage(`{}`)}, {Name: "out", Connector: "fragile", Config: json.RawMessage(`{}`)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	flows, diags := flow.Load([]flow.Source{
		{File: "f.yaml", Data: []byte("name: f\non: { source.alerts: { connection: in } }\nsteps:\n  - { id: get, uses: fragile.thing.get, connection: out, with: { title: \"${{ alert.title }}\" } }\n")},
		{File: "g.yaml", Data: []byte("name: g\non: { fragile.alerts: { connection: out } }\nsteps: [{ id: a, let: { x: 1 } }]\n")},
	}, h)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := h.SetFlows(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, host: h, store: st, v: v}
	t.Cleanup(w.stop)
	const good = 5
	v.add("bad", "poison", false)
	w.push("bad")
	for i := range good {
		v.add(fmt.Sprint("good-", i), fmt.Sprint("good ", i), false)
		w.push(fmt.Sprint("good-", i))
	}
	w.eventually("the dead letter", func() bool { return w.stats().Runs[store.RunDeadLetter] > 0 })
	w.eventually("the others", func() bool { return w.stats().Runs[store.RunSucceeded] == good })
	dls, err := st.ListDeadLetters(t.Context(), store.DeadLetterFilter{})
	if err != nil || len(dls) != 1 || dls[0].Class != string(plugin.ClassBug) || !strings.Contains(dls[0].Reason, plugin.ReasonPoisonInput) || !strings.Contains(dls[0].Reason, "exit status 7") {
		t.Errorf("dead letters %+v, %v", dls, err)
	}
	s, err := h.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Connectors {
		if c.Connector == "fragile" && (len(c.Poison) != 1 || c.State == "quarantined") {
			t.Errorf("status %+v", c)
		}
	}
	// A poison webhook is refused after as many crashes, so that its sender stops.
	for n := 0; ; n++ {
		_, err := h.Webhook(t.Context(), "out", "alerts", &connectorv1.HandleWebhookRequest{Method: "POST", Body: []byte("poison")})
		e := plugin.FromError(err)
		if e == nil || n > 1000 {
			t.Fatalf("poison was taken, or is never refused: %v", err)
		}
		if e.Reason == plugin.ReasonPoisonInput {
			break
		}
		w.eventually("the connector", func() bool {
			_, err := h.Webhook(t.Context(), "out", "alerts", &connectorv1.HandleWebhookRequest{Method: "POST", Body: []byte("good")})
			return err == nil
		})
	}
}
