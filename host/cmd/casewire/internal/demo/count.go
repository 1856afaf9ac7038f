package demo

import (
	"context"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

// settled says whether every alert has its cases and its link back.
func settled(w *lab.World, alerts []lab.Alert) bool {
	if w.Issues() < len(alerts) || w.Hive.Count() < lab.Wanted(alerts) {
		return false
	}
	ledger := w.Azure.Ledger()
	return ledger.Comments >= len(alerts)
}

// count judges by the fakes' ledgers what became of every alert, and takes from the host's data file only what no ledger
// can know: how events came, and what waits for a person.
func count(ctx context.Context, w *lab.World, alerts []lab.Alert, path string) (result, error) {
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return result{}, err
	}
	defer st.Close()
	stats, err := st.Stats(ctx)
	if err != nil {
		return result{}, err
	}
	r := result{
		AlertsSent: len(alerts), EventsAccepted: stats.Events[store.Accepted], ByPush: stats.EventsVia[store.ViaPush],
		ByReconcile: stats.EventsVia[store.ViaPoll], Parked: stats.Runs[store.RunParked], DeadLetters: stats.DeadLetters,
		CasesJira: w.Issues(), CasesTheHive: w.Hive.Count(), wantHive: lab.Wanted(alerts),
		waiting: stats.Runs[store.RunReady] + stats.Runs[store.RunRunning] + stats.Runs[store.RunWaiting],
	}
	issues, cases, graph := w.IssuesByAlert(), w.CasesByAlert(), w.Azure.Ledger()
	held, err := parked(ctx, st)
	if err != nil {
		return result{}, err
	}
	for _, a := range alerts {
		comments := graph.ByAlert[a.ID].Comments
		r.backlinks += min(comments, 1)
		judge := func(n int, want bool) {
			switch {
			case n > 1:
				r.Duplicates += n - 1
				r.double = append(r.double, a.ID)
			case n == 0 && want && !held[a.ID]:
				r.Lost++
				r.missing = append(r.missing, a.ID)
			case n > 0 && !want:
				r.Duplicates += n
				r.double = append(r.double, a.ID)
			}
		}
		judge(issues[a.ID], true)
		judge(cases[a.ID], a.Hive)
		judge(comments, issues[a.ID] > 0)
	}
	pushes := graph.Pushes
	r.pushDropped, r.pushDoubled = pushes.Dropped, pushes.Doubled
	r.lateLookups = graph.Requests["graph.alerts.get"]["404"]
	for _, requests := range []map[string]map[string]uint64{graph.Requests, w.Jira.Ledger().Requests, w.Hive.Ledger().Requests} {
		lost, throttled := lab.Troubled(requests)
		r.lostAnswers, r.throttled = r.lostAnswers+lost, r.throttled+throttled
	}
	r.retries, err = retries(ctx, st)
	return r, err
}

// parked lists the alerts that a run parked for: not lost, but waiting for a person, with a reason.
func parked(ctx context.Context, st store.Store) (map[string]bool, error) {
	held := map[string]bool{}
	runs, err := st.ListRuns(ctx, store.RunFilter{State: store.RunParked})
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		ev, err := st.Event(ctx, run.EventSource, run.EventID)
		if err != nil {
			return nil, err
		}
		held[ev.Subject] = true
	}
	return held, nil
}

// retries counts attempts beyond the first.
func retries(ctx context.Context, st store.Store) (int, error) {
	runs, err := st.ListRuns(ctx, store.RunFilter{})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, run := range runs {
		steps, err := st.Steps(ctx, run.ID)
		if err != nil {
			return 0, err
		}
		for _, s := range steps {
			n += max(0, s.Attempt-1)
		}
	}
	return n, nil
}
