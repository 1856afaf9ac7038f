//go:build unix

package conformance_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/host/internal/conformance"
	"github.com/casewire/casewire/plugin"
)

// The test binary plays the connectors.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "connector" {
		serve(os.Args[2])
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func decodeConfig(b []byte, cfg *boxConfig) error {
	var raw struct {
		BaseURL string `json:"base_url"`
		Token   string `json:"token"`
	}
	err := json.Unmarshal(b, &raw)
	cfg.BaseURL, cfg.Token = raw.BaseURL, plugin.NewSecret(raw.Token)
	return err
}

func judge(t *testing.T, sub conformance.Subject) *conformance.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	report, err := conformance.Run(ctx, sub, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// A good connector with a working vendor passes everything, and nothing is skipped.
func TestGood(t *testing.T) {
	t.Parallel()
	report := judge(t, conformance.Subject{Path: self(t), Args: []string{"connector", "good"}, Config: boxVendor(t), Writes: true})
	for _, r := range report.Results {
		if r.Status != conformance.Pass {
			t.Errorf("%s %s: %s", r.Status, r.ID, r.Detail)
		}
	}
	if len(report.Results) != len(conformance.Rules()) || report.Connector != "box" || report.Version != "1.2.3" {
		t.Errorf("%d results of %s %s", len(report.Results), report.Connector, report.Version)
	}
}

// Without a configuration one is made up; only what needs a vendor's answers is skipped, and each skip says why.
func TestGoodWithoutVendor(t *testing.T) {
	t.Parallel()
	report := judge(t, conformance.Subject{Path: self(t), Args: []string{"connector", "good"}})
	for _, r := range report.Results {
		needs := r.ID == "invoke.result" || r.ID == "invoke.keyed" || r.ID == "consume.poll" || r.ID == "consume.resume" || r.ID == "consume.stream" || r.ID == "consume.window"
		switch {
		case needs && (r.Status != conformance.Skip || !strings.Contains(r.Detail, "--")):
			t.Errorf("%s %s: %q", r.Status, r.ID, r.Detail)
		case !needs && r.Status != conformance.Pass:
			t.Errorf("%s %s: %s", r.Status, r.ID, r.Detail)
		}
	}
}

// Every fault is found by the check that is there for it. Each check is shown to be able to fail.
func TestMutants(t *testing.T) {
	t.Parallel()
	caught := map[string]bool{}
	mutants := []struct{ how, check, with string }{
		{"no cookie", "process.cookie", ""},
		{"no handshake", "process.handshake", ""},
		{"socket elsewhere", "process.socket", ""},
		{"deaf", "process.lifeline", ""},
		{"deaf", "process.sigterm", ""},
		{"children", "process.children", ""},
		{"random description", "process.restart", ""},
		{"random description", "describe.same", ""},
		{"chatty", "process.stdout", "describe"},
		{"phones home", "describe.offline", ""},
		{"strict fields", "describe.unknown-fields", ""},
		{"bad name", "describe.names", ""},
		{"bad version", "describe.names", ""},
		{"same name", "describe.names", ""},
		{"bad schema", "describe.schemas", ""},
		{"schema is a file", "describe.schemas", ""},
		{"unmarked secret", "describe.secrets", ""},
		{"no effect", "describe.effects", ""},
		{"window on read", "describe.effects", ""},
		{"bad example", "describe.examples", ""},
		{"reaches a path", "describe.egress", ""},
		{"reaches what nobody configures", "describe.egress", ""},
		{"large webhook", "describe.triggers", ""},
		{"no interval", "describe.triggers", ""},
		{"knows better", "configure.empty", ""},
		{"eager", "configure.outcomes", ""},
		{"one outcome", "configure.outcomes", ""},
		{"all or nothing", "configure.invalid", ""},
		{"no pointers", "configure.invalid", ""},
		{"takes everything", "configure.invalid", ""},
		{"not again", "configure.idempotent", ""},
		{"any generation", "configure.replace", ""},
		{"any connection", "configure.mismatch", "configure.idempotent"},
		{"unknown is fine", "invoke.unknown", ""},
		{"internal", "invoke.invalid", ""},
		{"oversize is throttling", "invoke.oversize", ""},
		{"no deadline", "invoke.deadline", ""},
		{"no cancellation", "invoke.cancel", ""},
		{"serial", "invoke.concurrent", ""},
		{"dry run unsure", "invoke.dry-run", ""},
		{"makes keys up", "invoke.key", ""},
		{"resolve executes", "invoke.resolve", ""},
		{"two results", "invoke.result", ""},
		{"no result", "invoke.result", ""},
		{"wrong output", "invoke.result", ""},
		{"wrong count", "invoke.result", ""},
		{"endless file", "invoke.result", ""},
		{"another each time", "invoke.keyed", ""},
		{"surely absent", "invoke.keyed", ""},
		{"any trigger", "consume.unknown", ""},
		{"counts from zero", "consume.poll", ""},
		{"never caught up", "consume.poll", ""},
		{"large cursor", "consume.poll", ""},
		{"other events", "consume.resume", ""},
		{"forgets", "consume.resume", ""},
		{"no window", "consume.window", ""},
		{"no stop", "consume.stop", ""},
		{"no stop", "consume.stream", ""},
		{"counts from zero", "consume.stream", ""},
		{"hint ends all", "consume.resolve", ""},
		{"loses hints", "consume.resolve", ""},
		{"outcome twice", "consume.resolve", ""},
		{"any trigger", "webhook.unknown", ""},
		{"webhook crashes", "webhook.garbage", ""},
		{"webhook believes", "webhook.garbage", ""},
		{"webhook is slow", "webhook.garbage", ""},
		{"webhook status", "webhook.garbage", ""},
		{"no remedy", "check.answers", ""},
		{"no probe status", "check.answers", ""},
		{"no drain", "drain.refuses", ""},
		{"patient drain", "drain.cancels", ""},
		{"hoards", "memory.growth", ""},
		{"untyped", "errors.failure", "invoke.unknown"},
		{"wordy", "errors.size", "invoke.unknown"},
		{"logs secrets", "secrets.hidden", "configure.outcomes"},
		{"tells secrets", "secrets.hidden", "invoke.deadline"},
	}
	for _, m := range mutants {
		caught[m.check] = true
		t.Run(m.check+"/"+m.how, func(t *testing.T) {
			t.Parallel()
			sub := conformance.Subject{
				Path: self(t), Args: []string{"connector", m.how}, Config: boxVendor(t), Writes: true, Only: []string{m.check},
			}
			if m.with != "" {
				sub.Only = append(sub.Only, m.with)
			}
			for _, r := range judge(t, sub).Results {
				if r.ID != m.check {
					continue
				}
				if r.Status != conformance.Fail || r.Detail == "" || r.Remedy == "" {
					t.Errorf("%s: %s %q %q", r.ID, r.Status, r.Detail, r.Remedy)
				}
				if strings.Contains(r.Detail, boxToken) {
					t.Errorf("the report shows the secret: %s", r.Detail)
				}
				t.Log(r.Detail)
			}
		})
	}
	for _, r := range conformance.Rules() {
		if !caught[r.ID] {
			t.Errorf("no mutant shows that %s can fail", r.ID)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for name, sub := range map[string]conformance.Subject{
		"no executable": {},
		"no JSON":       {Path: "x", Config: []byte("{")},
		"no such check": {Path: "x", Only: []string{"invoke.nothing"}},
	} {
		if _, err := conformance.Run(t.Context(), sub, nil); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
	// What is no connector fails, and does not hang.
	report := judge(t, conformance.Subject{Path: "/bin/true", Only: []string{"process.handshake", "describe", "invoke.unknown"}})
	if report.OK() || report.Passed > 0 {
		t.Errorf("%+v", report)
	}
}
