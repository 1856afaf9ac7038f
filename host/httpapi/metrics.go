package httpapi

import (
	"fmt"
	"strings"
	"time"

	"github.com/casewire/casewire/host"
)

// family begins a family of metrics in the text format.
func family(b *strings.Builder, name, kind, help string) {
	fmt.Fprintf(b, "# HELP casewire_%s %s\n# TYPE casewire_%s %s\n", name, help, name, kind)
}

// activity writes what was done since the start.
func activity(b *strings.Builder, m host.Metrics, triggers []host.TriggerStatus, now time.Time) {
	calls(b, m)
	family(b, "connection_throttled_total", "counter", "Answers that asked to wait, by connection.")
	for _, p := range m.Paused {
		fmt.Fprintf(b, "casewire_connection_throttled_total{connection=%s} %d\n", label(p.Connection), p.Throttled)
	}
	family(b, "connection_throttled_seconds", "gauge", "Seconds until calls are made again after a throttled answer.")
	for _, p := range m.Paused {
		fmt.Fprintf(b, "casewire_connection_throttled_seconds{connection=%s} %.0f\n", label(p.Connection), until(p.ThrottledUntil, now))
	}
	family(b, "breaker_opened_total", "counter", "Times that a connection's breaker opened or stayed open after a try.")
	for _, p := range m.Paused {
		fmt.Fprintf(b, "casewire_breaker_opened_total{connection=%s} %d\n", label(p.Connection), p.Broke)
	}
	family(b, "breaker_open", "gauge", "1 while calls on a connection are held back because it is down.")
	for _, p := range m.Paused {
		open := 0
		if p.BreakerOpenUntil.After(now) {
			open = 1
		}
		fmt.Fprintf(b, "casewire_breaker_open{connection=%s} %d\n", label(p.Connection), open)
	}
	family(b, "runs_released_total", "counter", "Runs that came to a state, waits included.")
	for _, r := range m.Runs {
		fmt.Fprintf(b, "casewire_runs_released_total{state=%s} %d\n", label(r.State), r.Count)
	}
	family(b, "runs_busy_seconds_total", "counter", "Seconds that runs were worked on before they came to a state.")
	for _, r := range m.Runs {
		fmt.Fprintf(b, "casewire_runs_busy_seconds_total{state=%s} %.6f\n", label(r.State), r.Seconds)
	}
	family(b, "runs_lost_total", "counter", "Runs given up because their lease was lost.")
	fmt.Fprintf(b, "casewire_runs_lost_total %d\n", m.Lost)
	family(b, "states_owed", "gauge", "Connections whose newest state, such as a sign-in, the store has not taken yet.")
	fmt.Fprintf(b, "casewire_states_owed %d\n", m.Owed)
	family(b, "trigger_last_push_age_seconds", "gauge", "Seconds since the last webhook that brought something.")
	for _, t := range triggers {
		if !t.LastPush.IsZero() {
			fmt.Fprintf(b, "casewire_trigger_last_push_age_seconds{connection=%s,trigger=%s} %.0f\n", label(t.Connection), label(t.Trigger), now.Sub(t.LastPush).Seconds())
		}
	}
	probes(b, m, now)
}

func calls(b *strings.Builder, m host.Metrics) {
	family(b, "calls_total", "counter", "Attempts by connection, action and outcome: ok, or the class of the error.")
	for _, c := range m.Calls {
		for _, outcome := range sorted(c.Outcomes) {
			fmt.Fprintf(b, "casewire_calls_total{connection=%s,action=%s,outcome=%s} %d\n", label(c.Connection), label(c.Action), label(outcome), c.Outcomes[outcome])
		}
	}
	family(b, "call_retries_total", "counter", "Attempts after the first.")
	for _, c := range m.Calls {
		fmt.Fprintf(b, "casewire_call_retries_total{connection=%s,action=%s} %d\n", label(c.Connection), label(c.Action), c.Retries)
	}
	family(b, "call_seconds", "histogram", "How long attempts took.")
	for _, c := range m.Calls {
		who := "connection=" + label(c.Connection) + ",action=" + label(c.Action)
		for i, most := range host.CallBuckets {
			fmt.Fprintf(b, "casewire_call_seconds_bucket{%s,le=\"%v\"} %d\n", who, most, c.Buckets[i])
		}
		fmt.Fprintf(b, "casewire_call_seconds_bucket{%s,le=\"+Inf\"} %d\n", who, c.Count)
		fmt.Fprintf(b, "casewire_call_seconds_sum{%s} %.6f\ncasewire_call_seconds_count{%s} %d\n", who, c.Seconds, who, c.Count)
	}
}

// probes writes what the live probes of connections found last. Those that could not be tried say nothing.
func probes(b *strings.Builder, m host.Metrics, now time.Time) {
	family(b, "probe_ok", "gauge", "1 if a live probe of a connection passed, 0.5 with a warning, 0 if it failed.")
	for _, p := range m.Probes {
		if v, told := map[string]string{"ok": "1", "warning": "0.5", "failed": "0"}[p.Status]; told {
			fmt.Fprintf(b, "casewire_probe_ok{connection=%s,probe=%s} %s\n", label(p.Connection), label(p.Probe), v)
		}
	}
	family(b, "expiry_seconds", "gauge", "Seconds until what a probe looked at lapses: a secret, a certificate, a subscription. Negative when it has.")
	for _, p := range m.Probes {
		if !p.Expires.IsZero() {
			fmt.Fprintf(b, "casewire_expiry_seconds{connection=%s,probe=%s} %.0f\n", label(p.Connection), label(p.Probe), p.Expires.Sub(now).Seconds())
		}
	}
}

func until(t, now time.Time) float64 { return max(0, t.Sub(now).Seconds()) }
