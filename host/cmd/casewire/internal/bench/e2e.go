package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
)

// endToEnd pushes alerts and waits until each is a Jira issue: push, look-up, normalization, one transaction of intake, a
// journaled run with one keyed step, through two connector processes, with fakes and load on the same machine. It fails
// if an alert has no issue or more than one.
func endToEnd(ctx context.Context) (figures []figure, err error) {
	const warm, n, rounds = 1000, 4000, 3
	err = folder(func(dir string) error {
		w, err := lab.New(dir, lab.Options{})
		if err != nil {
			return err
		}
		defer w.Close()
		if err := w.WriteConfig(lab.Config{Push: "manage", Poll: time.Hour, Flows: lab.JiraOnlyFlow()}); err != nil {
			return err
		}
		alerts, err := lab.Alerts(warm+rounds*n, 1, w.Azure.Tenant(), time.Now())
		if err != nil {
			return err
		}
		h := lab.NewHost(dir, w.HostURL)
		defer h.Kill()
		if _, err := h.Start(ctx); err != nil {
			return err
		}
		if err := w.Subscribed(ctx, 10*time.Second); err != nil {
			return err
		}
		done := 0
		feed := func(k int) error {
			if err := w.Feed(ctx, alerts[done:done+k], 0); err != nil {
				return err
			}
			done += k
			if err := w.Until(ctx, 2*time.Minute, func() bool { return w.Issues() >= done }, nil); err != nil {
				return fmt.Errorf("%d of %d issues: %w", w.Issues(), done, err)
			}
			return nil
		}
		if err := feed(warm); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
		var best, cost float64
		var about string
		for range rounds {
			before, err := cpu(h.PID())
			if err != nil {
				return err
			}
			begin := time.Now()
			if err := feed(n); err != nil {
				return err
			}
			best = max(best, n/time.Since(begin).Seconds())
			after, err := cpu(h.PID())
			if err != nil {
				return err
			}
			if us, parts := after.since(before, n); cost == 0 || us < cost {
				cost, about = us, parts
			}
		}
		if err := eachOnce(w, alerts); err != nil {
			return err
		}
		figures = []figure{
			atLeast("e2e_alerts_per_s", best, "alerts/s", 1500,
				fmt.Sprintf("best of %d times %d alerts of 12 kinds; %d alerts, each one issue", rounds, n, len(alerts))),
			atMost("e2e_cpu_us", cost, "µs/alert", 750, "processor time of host and connectors; "+about),
		}
		return nil
	})
	return figures, err
}

// eachOnce judges by the fake's ledger whether every alert has one issue.
func eachOnce(w *lab.World, alerts []lab.Alert) error {
	issues := w.IssuesByAlert()
	lost, doubled := 0, 0
	for _, a := range alerts {
		switch n := issues[a.ID]; {
		case n == 0:
			lost++
		case n > 1:
			doubled++
		}
	}
	if lost+doubled+w.DuplicateIssues() > 0 {
		return fmt.Errorf("of %d alerts, %d have no issue and %d have several; %d issues share a key", len(alerts), lost, doubled, w.DuplicateIssues())
	}
	return nil
}
