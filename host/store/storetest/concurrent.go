package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

// together runs f n times at once and reports the first error.
func together(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

var concurrentTests = map[string]func(*testing.T, *env){
	"one event from many": func(t *testing.T, e *env) {
		var mu sync.Mutex
		verdicts := map[store.Verdict]int{}
		together(t, 32, func(int) error {
			out, err := e.Ingest(e.ctx, store.Ingest{
				Connection: testConnection, Trigger: testTrigger, Now: e.now,
				Events: []store.Incoming{{Event: e.news("k", 1, "a"), Runs: []store.NewRun{toCase()}}},
			})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			verdicts[out[0].Verdict]++
			return nil
		})
		same(t, "verdicts", verdicts, map[store.Verdict]int{store.Accepted: 1, store.Duplicate: 31})
		same(t, "runs", len(e.claim("w", 99)), 1)
	},
	"one holder of an effect": func(t *testing.T, e *env) {
		for i := range 16 {
			e.start(fmt.Sprint("k", i), 1)
		}
		runs := e.claim("w", 16)
		var mu sync.Mutex
		got := map[string]int{}
		together(t, len(runs), func(i int) error {
			_, err := e.BeginEffect(e.ctx, lease(runs[i]), store.Effect{EffectKey: caseKey, Updated: e.now}, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got["began"]++
			case errors.Is(err, store.ErrBusy):
				got["busy"]++
			default:
				return err
			}
			return nil
		})
		same(t, "outcomes", got, map[string]int{"began": 1, "busy": 15})
	},
	"one refusal does not spoil the others": func(t *testing.T, e *env) {
		for i := range 16 {
			e.start(fmt.Sprint("k", i), 1)
		}
		runs := e.claim("w", 16)
		together(t, len(runs), func(i int) error {
			l := lease(runs[i])
			if i%2 == 1 {
				l.Fence--
			}
			err := e.Advance(e.ctx, store.Advance{Lease: l, Now: e.now, State: store.RunSucceeded})
			if fenced := errors.Is(err, store.ErrFenced); fenced != (i%2 == 1) {
				return fmt.Errorf("run %d: %w", i, err)
			}
			return nil
		})
		counts, err := e.CountRuns(e.ctx)
		e.noError(err)
		same(t, "counts", counts, map[store.RunState]int{store.RunSucceeded: 8, store.RunRunning: 8})
	},
	"one end of a run": func(t *testing.T, e *env) {
		e.start("k", 1)
		r := e.one("w")
		var mu sync.Mutex
		ends := 0
		together(t, 16, func(int) error {
			err := e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunSucceeded})
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				ends++
				return nil
			}
			if !errors.Is(err, store.ErrFenced) {
				return err
			}
			return nil
		})
		same(t, "ends", ends, 1)
	},
	"every run once, in order": func(t *testing.T, e *env) {
		const keys, revs = 8, 6
		together(t, keys, func(k int) error {
			for rev := range revs {
				_, err := e.Ingest(e.ctx, store.Ingest{
					Connection: testConnection, Trigger: testTrigger, Now: e.now,
					Events: []store.Incoming{{Event: e.news(fmt.Sprint("k", k), rev, fmt.Sprint("d", rev)), Runs: []store.NewRun{toCase()}}},
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		var mu sync.Mutex
		seen, running := map[string][]string{}, map[string]bool{}
		total := 0
		together(t, 4, func(w int) error {
			for {
				runs, err := e.ClaimRuns(e.ctx, store.RunClaim{Owner: fmt.Sprint("w", w), Limit: 3, Now: e.now, LeaseUntil: e.now.Add(time.Hour)})
				if err != nil {
					return err
				}
				mu.Lock()
				for _, r := range runs {
					if running[r.OrderKey] {
						mu.Unlock()
						return fmt.Errorf("two runs of %s at once", r.OrderKey)
					}
					running[r.OrderKey] = true
					seen[r.OrderKey] = append(seen[r.OrderKey], r.EventID)
				}
				done := total == keys*revs
				mu.Unlock()
				if done {
					return nil
				}
				for _, r := range runs {
					mu.Lock()
					running[r.OrderKey] = false
					total++
					mu.Unlock()
					if err := e.Advance(e.ctx, store.Advance{Lease: lease(r), Now: e.now, State: store.RunSucceeded}); err != nil {
						return err
					}
				}
			}
		})
		for k := range keys {
			var want []string
			for rev := range revs {
				want = append(want, fmt.Sprintf("ev-k%d-%d-d%d", k, rev, rev))
			}
			same(t, "order", seen[fmt.Sprint("k", k)], want)
		}
	},
	"readers beside writers": func(t *testing.T, e *env) {
		together(t, 8, func(i int) error {
			for n := range 20 {
				if i%2 == 0 {
					ev := e.news(fmt.Sprint("k", i), n, fmt.Sprint("d", n))
					ev.Data = json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))
					_, err := e.Ingest(e.ctx, store.Ingest{Now: e.now, Events: []store.Incoming{{Event: ev, Runs: []store.NewRun{toCase()}}}})
					if err != nil {
						return err
					}
					got, err := e.Event(e.ctx, ev.Source, ev.ID) // acknowledged is visible
					if err != nil {
						return err
					}
					if string(got.Data) != string(ev.Data) {
						return fmt.Errorf("read %s, wrote %s", got.Data, ev.Data)
					}
					continue
				}
				if _, err := e.Events(e.ctx, store.EventFilter{Limit: 5}); err != nil {
					return err
				}
				if _, err := e.ListRuns(e.ctx, store.RunFilter{State: store.RunReady, Limit: 5}); err != nil {
					return err
				}
			}
			return nil
		})
	},
}
