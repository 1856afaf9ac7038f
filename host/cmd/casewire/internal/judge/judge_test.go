package judge_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/bundle"
	"github.com/casewire/casewire/host/cmd/casewire/internal/judge"
	"github.com/casewire/casewire/host/internal/conformance"
	"github.com/casewire/casewire/sdk"
)

// The test binary plays the connectors, as the real one does.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "connector" {
		if c, ok := bundle.New(os.Args[2]); ok {
			sdk.Serve(c)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestBundled holds every bundled connector against the whole suite, with fakes as vendors.
func TestBundled(t *testing.T) {
	t.Parallel()
	for _, name := range bundle.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			sub, done, err := judge.Subject(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			report, err := conformance.Run(ctx, sub, func(r conformance.Result) {
				switch r.Status {
				case conformance.Fail:
					t.Errorf("%s: %s\n%s\n%s", r.ID, r.Rule, r.Detail, r.Remedy)
				case conformance.Skip:
					t.Logf("%s is skipped: %s", r.ID, r.Detail)
				case conformance.Pass:
					t.Logf("%s passes in %.2f s", r.ID, r.Seconds)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if report.Connector != name || report.Passed < 30 {
				t.Errorf("only %d checks of %s passed", report.Passed, report.Connector)
			}
		})
	}
}
