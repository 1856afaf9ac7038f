// Package storetest is the one suite that every driver of a store passes. It is written against the interface alone.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin/event"
)

// Open opens a store whose state lives in dir; it fails the test if it cannot. The suite closes it. A driver without
// files maps the directory to a database or schema of its own.
type Open = func(t *testing.T, dir string) store.Store

// Exercise runs the suite. The crash test runs the test binary again as a writer and kills it: it needs t to be a
// top-level test that does nothing but call Exercise.
func Exercise(t *testing.T, open Open) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(t, open, dir)
		return
	}
	t.Parallel()
	for _, part := range []struct {
		name  string
		tests map[string]func(*testing.T, *env)
	}{
		{"Hints", hintTests},
		{"Ingest", ingestTests},
		{"Runs", runTests},
		{"Cancel", cancelTests},
		{"Prune", pruneTests},
		{"Effects", effectTests},
		{"Rest", restTests},
		{"Concurrent", concurrentTests},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			for name, test := range part.tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, newEnv(t, open))
				})
			}
		})
	}
	t.Run("Model", func(t *testing.T) {
		t.Parallel()
		exerciseModel(t, open)
	})
	t.Run("Crash", func(t *testing.T) {
		t.Parallel()
		exerciseCrash(t, open)
	})
}

// env is one store under test with a clock of its own.
type env struct {
	store.Store
	t    *testing.T
	ctx  context.Context
	open Open
	dir  string
	now  time.Time
	shut bool
}

// epoch is a time that every driver can keep exactly.
var epoch = time.Date(2031, 5, 17, 9, 30, 0, 123456000, time.UTC)

func newEnv(t *testing.T, open Open) *env {
	t.Helper()
	dir := t.TempDir()
	e := &env{Store: open(t, dir), t: t, ctx: t.Context(), open: open, dir: dir, now: epoch}
	t.Cleanup(func() {
		if !e.shut {
			e.noError(e.Close())
		}
	})
	return e
}

// reopen closes the store and opens it again.
func (e *env) reopen() {
	e.t.Helper()
	e.noError(e.Close())
	e.shut = true
	e.Store = e.open(e.t, e.dir)
	e.shut = false
}

// pass lets time go by.
func (e *env) pass(d time.Duration) { e.now = e.now.Add(d) }

func (e *env) noError(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) wantError(err, want error) {
	e.t.Helper()
	if !errors.Is(err, want) {
		e.t.Fatalf("error = %v, want %v", err, want)
	}
}

// same compares what the store gave with what it should have given; nil and empty slices count as equal.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

// news makes an event of an object at a revision.
func (e *env) news(key string, rev int, digest string, aliases ...string) event.Event {
	source := "https://alerts.example/" + key
	return event.Event{
		ID: fmt.Sprintf("ev-%s-%d-%s", key, rev, digest), Source: source, Type: event.TypeAlert, Subject: "subject-" + key,
		Time: e.now, PartitionKey: key, Rev: fmt.Sprintf("%015d", rev), Digest: digest, Aliases: aliases,
		Data: json.RawMessage(`{"class_uid":2004}`),
	}
}

const (
	testConnection = "alerts"
	testTrigger    = "alerts"
	testFlow       = "to-case"
)

func toCase() store.NewRun { return store.NewRun{Flow: testFlow, FlowVersion: "v1"} }

// ingest takes one event that starts the given runs.
func (e *env) ingest(ev event.Event, runs ...store.NewRun) store.Outcome {
	e.t.Helper()
	out, err := e.Ingest(e.ctx, store.Ingest{
		Connection: testConnection, Trigger: testTrigger, Via: store.ViaPoll, Now: e.now,
		Events: []store.Incoming{{Event: ev, Runs: runs}},
	})
	e.noError(err)
	if len(out) != 1 {
		e.t.Fatalf("%d outcomes for one event", len(out))
	}
	return out[0]
}

// claim leases up to n runs for 30 seconds.
func (e *env) claim(owner string, n int) []store.Run {
	e.t.Helper()
	runs, err := e.ClaimRuns(e.ctx, store.RunClaim{Owner: owner, Limit: n, Now: e.now, LeaseUntil: e.now.Add(30 * time.Second)})
	e.noError(err)
	for _, r := range runs {
		if r.State != store.RunRunning || r.Owner != owner || !r.LeaseEnd.Equal(e.now.Add(30*time.Second)) {
			e.t.Fatalf("claimed run is not leased: %+v", r)
		}
	}
	return runs
}

// one claims exactly one run.
func (e *env) one(owner string) store.Run {
	e.t.Helper()
	runs := e.claim(owner, 1)
	if len(runs) != 1 {
		e.t.Fatalf("claimed %d runs, want 1", len(runs))
	}
	return runs[0]
}

func lease(r store.Run) store.Lease { return store.Lease{Run: r.ID, Fence: r.Fence} }

// end finishes a run.
func (e *env) end(r store.Run, state store.RunState) {
	e.t.Helper()
	e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: state, Reason: "because"}))
}

func runIDs(runs []store.Run) []string {
	out := make([]string, len(runs))
	for i, r := range runs {
		out[i] = r.ID
	}
	return out
}
