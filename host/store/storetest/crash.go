package storetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

// childEnv names the directory in which a child writes until it is killed; childRound makes its alerts differ from those
// of the children before.
const (
	childEnv   = "CASEWIRE_STORETEST_DIR"
	childRound = "CASEWIRE_STORETEST_ROUND"
)

// What a child acknowledges, each with the alert's name, after the store did.
const (
	ackHint  = "hint"
	ackEvent = "event"
	ackBegun = "begun"
	ackEnded = "ended"
	ackDead  = "dead"
)

// crashWorkers write at once in a child.
const crashWorkers = 8

// child is the writing end of the crash test: it does all that a host does with alerts, and says on standard output what
// has been acknowledged.
func child(t *testing.T, open Open, dir string) {
	s := open(t, dir)
	round := os.Getenv(childRound)
	var mu sync.Mutex
	ack := func(kind, name string) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Fprintln(os.Stdout, "ack", kind, name); err != nil {
			os.Exit(3) // nobody listens
		}
	}
	var wg sync.WaitGroup
	for w := range crashWorkers {
		wg.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("r%s-w%d-n%d", round, w, n)
				if err := crashAlert(context.Background(), s, name, n, ack); err != nil {
					fmt.Fprintln(os.Stdout, "error", strings.ReplaceAll(err.Error(), "\n", " "))
					os.Exit(4)
				}
			}
		})
	}
	wg.Wait()
}

// crashData is the payload of an alert: every seventh is long enough to be kept by reference.
func crashData(name string, n int) json.RawMessage {
	if n%7 == 3 {
		return large(name)
	}
	return json.RawMessage(`{"name":"` + name + `","fill":"` + strings.Repeat("x", 3000) + `"}`)
}

// crashAlert takes one alert from its hint to the end of its run. Whatever runs it gets to claim belong to any worker, or
// to a child that was killed.
func crashAlert(ctx context.Context, s store.Store, name string, n int, ack func(kind, name string)) error {
	now := time.Now()
	e := &env{now: now}
	ev := e.news(name, 1, "d", "alias-"+name)
	ev.Data = crashData(name, n)
	hint := store.Hint{Connection: testConnection, Trigger: testTrigger, ID: name, Received: now}
	if _, err := s.AddHints(ctx, []store.Hint{hint}); err != nil {
		return err
	}
	ack(ackHint, name)
	in := store.Ingest{
		Connection: testConnection, Trigger: testTrigger, Via: store.ViaPush, Now: now, Cursor: []byte(name),
		Events: []store.Incoming{{Event: ev, Runs: []store.NewRun{toCase()}}}, Done: []store.Hint{hint},
	}
	if n%11 == 5 {
		in.DeadLetters = []store.DeadLetter{{ID: "dl-" + name, Kind: "event", Raw: ev.Data}}
	}
	if _, err := s.Ingest(ctx, in); err != nil {
		return err
	}
	ack(ackEvent, name)
	if in.DeadLetters != nil {
		ack(ackDead, name)
	}
	// Two claims for each alert, so that what a killed child left is taken up as soon as the store hands it out.
	runs, err := s.ClaimRuns(ctx, store.RunClaim{Owner: "w", Limit: 2, Now: now, LeaseUntil: now.Add(time.Hour)})
	if err != nil {
		return err
	}
	for _, r := range runs {
		if err := crashRun(ctx, s, r, ack); err != nil {
			return err
		}
	}
	return nil
}

func crashRun(ctx context.Context, s store.Store, r store.Run, ack func(kind, name string)) error {
	key := store.EffectKey{Connection: "cases", Action: "case.ensure", Key: r.CaseKey}
	step := store.Step{Path: "case", Seq: 1, State: store.StepIntent, Key: r.CaseKey}
	prior, err := s.BeginEffect(ctx, lease(r), store.Effect{EffectKey: key, Path: "case"}, []store.Step{step, {Path: "facts", State: store.StepSucceeded}})
	if err != nil {
		return err
	}
	if prior.State != "" && prior.State != store.EffectIntent {
		return fmt.Errorf("the effect of %s was %s although its run never ended", r.CaseKey, prior.State)
	}
	ack(ackBegun, r.CaseKey)
	step.State, step.Output = store.StepSucceeded, json.RawMessage(`{"id":"`+r.CaseKey+`"}`)
	err = s.Advance(ctx, store.Advance{
		Lease: lease(r), Now: time.Now(), Steps: []store.Step{step}, State: store.RunSucceeded, Output: step.Output,
		Effects: []store.Effect{{EffectKey: key, State: store.EffectDone, Result: step.Output}},
	})
	if err != nil {
		return err
	}
	ack(ackEnded, r.CaseKey)
	return nil
}

// exerciseCrash kills a writer at a random moment, several times over the same state, and then looks for everything that
// was acknowledged and for anything half-done.
func exerciseCrash(t *testing.T, open Open) {
	if strings.Contains(t.Name(), "/Crash/") || strings.Count(t.Name(), "/") != 1 {
		t.Fatalf("%s: Exercise must be called from a top-level test", t.Name())
	}
	top, _, _ := strings.Cut(t.Name(), "/")
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	acked := map[string]map[string]bool{}
	for _, kind := range []string{ackHint, ackEvent, ackBegun, ackEnded, ackDead} {
		acked[kind] = map[string]bool{}
	}
	for round := range rounds {
		killAfter := 1 + rand.IntN(300)
		runChild(t, top, dir, round, killAfter, acked)
		checkCrash(t, open, dir, acked)
	}
}

// runChild starts a writer, kills it after so many acknowledgements, and adds them to acked.
func runChild(t *testing.T, top, dir string, round, killAfter int, acked map[string]map[string]bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+top+"$", "-test.timeout=120s") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childRound+"="+strconv.Itoa(round))
	cmd.Dir = filepath.Dir(dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen, complaint := 0, []string(nil)
	lines := bufio.NewScanner(out)
	for lines.Scan() { // goes on after the kill: what is in the pipe was acknowledged
		word, rest, _ := strings.Cut(lines.Text(), " ")
		kind, name, ok := strings.Cut(rest, " ")
		if word != "ack" || !ok {
			complaint = append(complaint, lines.Text())
			continue
		}
		acked[kind][name] = true
		if seen++; seen == killAfter {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	if seen < killAfter {
		t.Fatalf("the writer ended by itself after %d acknowledgements: %v\n%s", seen, err, strings.Join(complaint, "\n"))
	}
}

// checkCrash opens what a killed writer left.
func checkCrash(t *testing.T, open Open, dir string, acked map[string]map[string]bool) {
	t.Helper()
	ctx := t.Context()
	s := open(t, dir)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	events, err := s.Events(ctx, store.EventFilter{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, ev := range events {
		there[ev.PartitionKey] = true
		if want := len(crashData(ev.PartitionKey, nameNumber(ev.PartitionKey))); len(ev.Data) != want {
			t.Errorf("event %s has %d bytes of %d", ev.PartitionKey, len(ev.Data), want)
		}
	}
	for name := range acked[ackEvent] {
		if !there[name] {
			t.Errorf("event %s was acknowledged and is lost", name)
		}
	}
	checkCrashHints(t, s, acked, there)

	runs, err := s.ListRuns(ctx, store.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	perEvent, counts := map[string]int{}, map[store.RunState]int{}
	for _, r := range runs {
		perEvent[r.OrderKey]++
		counts[r.State]++
		checkCrashRun(t, s, r, acked)
	}
	for name := range there {
		if perEvent[name] != 1 {
			t.Errorf("event %s has %d runs", name, perEvent[name])
		}
		o, err := s.Object(ctx, "alias-"+name)
		if err != nil || o.Key != name {
			t.Errorf("alias of %s: %q, %v", name, o.Key, err)
		}
	}
	st, err := s.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "counted runs", st.Runs, counts)
	same(t, "counted events", st.Events[store.Accepted], len(events))
	dead, err := s.ListDeadLetters(ctx, store.DeadLetterFilter{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "counted dead letters", st.DeadLetters, len(dead))
	letters := map[string]bool{}
	for _, d := range dead {
		letters[strings.TrimPrefix(d.ID, "dl-")] = true
	}
	for name := range acked[ackDead] {
		if !letters[name] {
			t.Errorf("dead letter of %s was acknowledged and is lost", name)
		}
	}
	cursor, err := s.Cursor(ctx, testConnection, testTrigger)
	if err != nil || len(events) > 0 && !there[string(cursor)] {
		t.Errorf("cursor %q is of an event that is not there, %v", cursor, err)
	}
}

func nameNumber(name string) int {
	n, _ := strconv.Atoi(name[strings.LastIndexByte(name, 'n')+1:])
	return n
}

// checkCrashHints claims every hint: each is there if and only if its event is not. It gives them back by letting the
// lease lapse at once.
func checkCrashHints(t *testing.T, s store.Store, acked map[string]map[string]bool, there map[string]bool) {
	t.Helper()
	now := time.Now().Add(24 * time.Hour)
	hints, err := s.ClaimHints(t.Context(), store.HintClaim{Connection: testConnection, Trigger: testTrigger, Limit: 1 << 20, Now: now, LeaseUntil: now})
	if err != nil {
		t.Fatal(err)
	}
	waiting := map[string]bool{}
	for _, h := range hints {
		if waiting[h.ID] {
			t.Errorf("hint %s waits twice", h.ID)
		}
		waiting[h.ID] = true
		if there[h.ID] {
			t.Errorf("hint %s waits although its event was taken in the transaction that removes it", h.ID)
		}
	}
	for name := range acked[ackHint] {
		if !waiting[name] && !there[name] {
			t.Errorf("hint %s was acknowledged and is lost", name)
		}
	}
}

// checkCrashRun looks for a run's journal and effect, which go with its states.
func checkCrashRun(t *testing.T, s store.Store, r store.Run, acked map[string]map[string]bool) {
	t.Helper()
	steps, err := s.Steps(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	eff, err := s.Effect(t.Context(), store.EffectKey{Connection: "cases", Action: "case.ensure", Key: r.CaseKey})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	var stepState store.StepState
	for _, p := range steps {
		if p.Path == "case" {
			stepState = p.State
		}
	}
	state := string(r.State)
	if r.State.Live() {
		state = "live" // whose lease it was, and whether that survives, is the driver's business
	}
	got := fmt.Sprintf("run %s, %d steps, case %s, effect %s", state, len(steps), stepState, eff.State)
	switch got {
	case "run live, 0 steps, case , effect ":
		if acked[ackBegun][r.CaseKey] {
			t.Errorf("%s: the intent was acknowledged and is lost", r.CaseKey)
		}
	case "run live, 2 steps, case intent, effect intent":
	case "run succeeded, 2 steps, case succeeded, effect done":
		return
	default:
		t.Errorf("%s is half-done: %s", r.CaseKey, got)
	}
	if acked[ackEnded][r.CaseKey] {
		t.Errorf("%s: its end was acknowledged and is lost: %s", r.CaseKey, got)
	}
}
