package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

// People look at runs while a host works on the file, and after it died.
func TestOpenReadOnly(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a.db")
	if _, err := sqlite.OpenReadOnly(ctx, path); err == nil {
		t.Fatal("a file that does not exist was opened")
	}
	rw, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rw.Close()
	if err := rw.PutFlow(ctx, store.FlowVersion{Version: "v1", Name: "f"}); err != nil {
		t.Fatal(err)
	}
	runs, err := rw.AddRuns(ctx, []store.NewRun{{Flow: "f", FlowVersion: "v1", OrderKey: "a"}, {Flow: "f", FlowVersion: "v1", OrderKey: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := rw.ClaimRuns(ctx, store.RunClaim{Owner: "o", Limit: 1, Now: time.Now(), LeaseUntil: time.Now().Add(time.Minute)})
	if err != nil || len(claimed) != 1 {
		t.Fatal(claimed, err)
	}
	done := store.Advance{
		Lease: store.Lease{Run: claimed[0].ID, Fence: claimed[0].Fence}, Now: time.Now(), State: store.RunDeadLetter, Reason: "why",
		Steps: []store.Step{{Path: "s", State: store.StepFailed}}, DeadLetter: &store.DeadLetter{Kind: "run", Run: claimed[0].ID, Reason: "why"},
	}
	if err := rw.Advance(ctx, done); err != nil {
		t.Fatal(err)
	}

	ro, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	all, err := ro.ListRuns(ctx, store.RunFilter{})
	if err != nil || len(all) != len(runs) {
		t.Errorf("%d runs, %v", len(all), err)
	}
	if ready, err := ro.ListRuns(ctx, store.RunFilter{State: store.RunReady}); err != nil || len(ready) != 1 {
		t.Errorf("%d ready runs, %v", len(ready), err)
	}
	if r, err := ro.Run(ctx, claimed[0].ID); err != nil || r.State != store.RunDeadLetter || r.Reason != "why" {
		t.Errorf("%+v, %v", r, err)
	}
	if steps, err := ro.Steps(ctx, claimed[0].ID); err != nil || len(steps) != 1 {
		t.Errorf("%v, %v", steps, err)
	}
	dls, err := ro.ListDeadLetters(ctx, store.DeadLetterFilter{Run: claimed[0].ID})
	if err != nil || len(dls) != 1 {
		t.Errorf("%v, %v", dls, err)
	}
	if dls, err := ro.ListDeadLetters(ctx, store.DeadLetterFilter{Run: "another"}); err != nil || len(dls) != 0 {
		t.Errorf("%v, %v", dls, err)
	}
	st, err := ro.Stats(ctx)
	if err != nil || st.Runs[store.RunReady] != 1 || st.Runs[store.RunDeadLetter] != 1 || st.DeadLetters != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := ro.Put(ctx, "k", nil); !errors.Is(err, sqlite.ErrReadOnly) {
		t.Errorf("a change gave %v", err)
	}
	if _, err := ro.AddHints(ctx, []store.Hint{{Connection: "c", Trigger: "t", ID: "i"}}); !errors.Is(err, sqlite.ErrReadOnly) {
		t.Errorf("a change gave %v", err)
	}
	if _, err := sqlite.Open(ctx, path, sqlite.Options{}); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("a second writer was given %v", err)
	}
}
