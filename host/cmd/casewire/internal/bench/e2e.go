package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
)

// endToEnd pushes alerts and waits until each is a Jira issue: push, look-up, normalization, one transaction of intake, a
// journaled run with one keyed step, through two connector processes, with fakes and load on the same machine.
func endToEnd(ctx context.Context) (figures []figure, err error) {
	const warm, n = 500, 8000
	err = folder(func(dir string) error {
		w, err := lab.New(dir, lab.Options{})
		if err != nil {
			return err
		}
		defer w.Close()
		if err := w.WriteConfig(lab.Config{Push: "manage", Poll: time.Hour, Flows: lab.JiraOnlyFlow()}); err != nil {
			return err
		}
		alerts, err := lab.Alerts(warm+n, 1, w.Azure.Tenant(), time.Now())
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
		if err := w.Feed(ctx, alerts[:warm], 0); err != nil {
			return err
		}
		if err := w.Until(ctx, 30*time.Second, func() bool { return w.Issues() >= warm }, nil); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
		begin := time.Now()
		if err := w.Feed(ctx, alerts[warm:], 0); err != nil {
			return err
		}
		if err := w.Until(ctx, 2*time.Minute, func() bool { return w.Issues() >= warm+n }, nil); err != nil {
			return fmt.Errorf("%d of %d issues: %w", w.Issues()-warm, n, err)
		}
		took := time.Since(begin)
		figures = []figure{atLeast("e2e_alerts_per_s", n/took.Seconds(), "alerts/s", 1500,
			fmt.Sprintf("%d alerts of 12 kinds in %v; %d issues with the same key", n, took.Round(10*time.Millisecond), w.DuplicateIssues()))}
		return nil
	})
	return figures, err
}
