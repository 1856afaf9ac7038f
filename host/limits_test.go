package host

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/host/internal/engine"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func TestThrottledTogether(t *testing.T) {
	t.Parallel()
	const identity = "{config.credential.managed_identity?169.254.169.254:80}" // nobody's host
	egress := map[string][]string{
		"alerts": {"{config.credential.authority_url}", identity, "{config.graph_url}", "login.example", "graph.example", "graph.example.us"},
		"both":   {"{config.arm_url}", "login.example", "graph.example", "arm.example"},
		"arm":    {"login.example", "arm.example"},
		"logs":   {identity, "{config.base_url}", "login.example", "logs.example"},
		"http":   {"{config.base_urls}"},
	}
	conn := func(name, connector, credential, config string) Connection {
		return Connection{Name: name, Connector: connector, Credential: credential, Config: json.RawMessage(config), Limit: Limit{Concurrency: 3}}
	}
	conns := []Connection{
		conn("a1", "alerts", "entra", `{}`), conn("a2", "alerts", "entra", `{"push":"off"}`), conn("a3", "alerts", "other", `{}`),
		conn("a4", "alerts", "", `{}`), conn("logs", "logs", "entra", `{"credential":{"managed_identity":{}}}`), conn("arm", "arm", "entra", `{}`),
		conn("test", "alerts", "entra", `{"graph_url":"http://127.0.0.1:9999/graph","credential":{"authority_url":"http://graph.example"}}`),
		conn("test-logs", "logs", "entra", `{"base_url":"http://127.0.0.1:9999/logs"}`),
		conn("h1", "http", "key", `{"base_urls":["https://x.example","https://y.example/v1"]}`), conn("h2", "http", "key", `{"base_urls":["https://y.example"]}`),
		conn("h3", "http", "key", `{"base_urls":["https://z.example"]}`), conn("odd", "http", "key", `[`),
	}
	want := map[string]string{
		"a1": "credential entra at a1", "a2": "credential entra at a1", "a3": "credential other at a3", "a4": "connection a4",
		"logs": "credential entra at logs", "arm": "credential entra at arm",
		"test": "credential entra at test", "test-logs": "credential entra at test",
		"h1": "credential key at h1", "h2": "credential key at h1", "h3": "credential key at h3", "odd": "credential key at odd",
	}
	check := func() {
		t.Helper()
		got := map[string]string{}
		for name, l := range throttled(conns, func(c string) []string { return egress[c] }) {
			got[name] = l.Name
			if l != (engine.Limit{Name: l.Name, Concurrent: 3}) {
				t.Errorf("%s: %+v", name, l)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	check()
	// One that calls both joins the others.
	conns = append(conns, conn("both", "both", "entra", `{}`))
	want["both"], want["arm"] = "credential entra at a1", "credential entra at a1"
	check()
}

func TestProbesAreKept(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	var p probes
	p.set("b", []*connectorv1.Probe{
		{Name: "token", Status: connectorv1.ProbeStatus_PROBE_STATUS_OK, Expires: timestamppb.New(now.Add(time.Hour))},
		{Name: "read", Status: connectorv1.ProbeStatus_PROBE_STATUS_FAILED},
		{Name: "read", Status: connectorv1.ProbeStatus_PROBE_STATUS_OK},
		{Name: "odd", Status: 77},
	}, now)
	p.set("a", []*connectorv1.Probe{{Name: "token", Status: connectorv1.ProbeStatus_PROBE_STATUS_SKIPPED}}, now)
	want := []ProbeMetric{
		{Connection: "a", Probe: "token", Status: "skipped", Checked: now},
		{Connection: "b", Probe: "odd", Status: "warning", Checked: now},
		{Connection: "b", Probe: "read", Status: "failed", Checked: now},
		{Connection: "b", Probe: "token", Status: "ok", Expires: now.Add(time.Hour), Checked: now},
	}
	if diff := cmp.Diff(want, p.list()); diff != "" {
		t.Error(diff)
	}
	p.keep([]Connection{{Name: "a"}})
	if diff := cmp.Diff(want[:1], p.list()); diff != "" {
		t.Error(diff)
	}
}
