package host_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

func setup(t *testing.T, w *world, flowText string, conns ...host.Connection) host.Setup {
	t.Helper()
	flows, diags := flow.Load([]flow.Source{{File: "one-case.yaml", Data: []byte(flowText)}}, w.host)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return host.Setup{Connections: conns, Flows: flows}
}

func connection(name, connector, config string) host.Connection {
	return host.Connection{Name: name, Connector: connector, Config: json.RawMessage(config)}
}

// A reload while a call is open: the call finishes, its run stays on its flow, and what comes later uses the new one.
func TestReloadDropsNothing(t *testing.T) {
	t.Parallel()
	v := newVendor()
	v.block = make(chan struct{})
	v.add("sn1", "one", true)
	w := newWorld(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase)
	w.push("sn1")
	w.eventually("a call is open", func() bool { return w.inFlight("target") == 1 })

	changed := strings.Replace(oneCase, `title: "${{ alert.title }}"`, `title: "new ${{ alert.title }}"`, 1)
	in, out := connection("in", "source", `{}`), connection("out", "target", `{"note":"changed"}`)
	if err := w.host.Reload(t.Context(), setup(t, w, changed, in, out)); err != nil {
		t.Fatal(err)
	}
	v.add("sn2", "two", false)
	w.push("sn2")
	close(v.block)
	w.eventually("two runs", w.ended(2))
	runs, err := w.store.ListRuns(t.Context(), store.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	titles := map[string]bool{}
	for _, r := range runs {
		steps, err := w.store.Steps(t.Context(), r.ID)
		if err != nil || r.State != store.RunSucceeded || len(steps) != 1 || steps[0].Attempt != 1 {
			t.Errorf("run %+v: %+v, %v", r, steps, err)
			continue
		}
		titles[string(steps[0].Input)] = true
	}
	if !titles[`{"title":"one"}`] || !titles[`{"title":"new two"}`] {
		t.Errorf("inputs %v", titles)
	}
	if s, err := w.host.Status(t.Context()); err != nil || s.Reloads.Count != 1 || s.Reloads.Refused != "" {
		t.Errorf("status %+v, %v", s.Reloads, err)
	}
}

func (w *world) inFlight(connector string) int64 {
	s, err := w.host.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range s.Connectors {
		if c.Connector == connector {
			return c.InFlight
		}
	}
	return 0
}

// Triggers come and go with their flows and connections.
func TestReloadAddsAndRemovesTriggers(t *testing.T) {
	t.Parallel()
	v := newVendor()
	v.add("sn1", "one", true)
	w := newWorld(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase)
	w.eventually("one run", w.ended(1))
	first, second, out := connection("in", "source", `{}`), connection("in2", "source", `{}`), connection("out", "target", `{}`)

	if err := w.host.Reload(t.Context(), setup(t, w, oneCase, first, second, out)); err != nil {
		t.Fatal(err)
	}
	elsewhere := strings.Replace(oneCase, "connection: in,", "connection: in2,", 1)
	if err := w.host.Reload(t.Context(), setup(t, w, elsewhere, second, out)); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.host.WebhookRules("in", "alerts"); ok {
		t.Error("the webhook of a connection that is gone answers")
	}
	if _, ok := w.host.WebhookRules("in2", "alerts"); !ok {
		t.Error("the webhook of the new connection does not answer")
	}
	w.eventually("the new trigger is polled", func() bool {
		s, err := w.host.Status(t.Context())
		return err == nil && len(s.Triggers) == 1 && s.Triggers[0].Connection == "in2" && !s.Triggers[0].LastPoll.IsZero()
	})
}

// What is wrong is told, and nothing has changed.
func TestReloadRefusesAsAWhole(t *testing.T) {
	t.Parallel()
	v := newVendor()
	w := newWorld(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase)
	in, out := connection("in", "source", `{}`), connection("out", "target", `{}`)
	s := setup(t, w, strings.Replace(oneCase, "one-case", "other", 1), in, out)
	for want, conns := range map[string][]host.Connection{
		"given twice":               {in, in},
		"there is no connector":     {in, connection("out", "nobody", `{}`)},
		"connection new: ":          {in, out, connection("new", "target", `{"unknown":1}`)},
		"connection out: invalid c": {in, connection("out", "target", `{"note":1}`)},
	} {
		s.Connections = conns
		err := w.host.Reload(t.Context(), s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		var e *plugin.Error
		if strings.HasPrefix(want, "connection") && (!errors.As(err, &e) || e.Class() != plugin.ClassConfig) {
			t.Errorf("got %+v", err)
		}
		if names := strings.Join(w.host.Connections(""), " "); names != "in out" {
			t.Errorf("connections: %s", names)
		}
		if st, err := w.host.Status(t.Context()); err != nil || st.Reloads.Count != 0 || !strings.Contains(st.Reloads.Refused, want) {
			t.Errorf("status %+v, %v", st.Reloads, err)
		}
	}
	v.add("sn1", "one", false)
	w.push("sn1")
	w.eventually("the old flow runs", w.ended(1))
	runs, err := w.store.ListRuns(t.Context(), store.RunFilter{})
	if err != nil || len(runs) != 1 || runs[0].Flow != "one-case" || runs[0].State != store.RunSucceeded {
		t.Errorf("runs %+v, %v", runs, err)
	}
}
