package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
)

// start measures the time from exec to ready with four connectors, and the memory of all processes at rest.
func start(ctx context.Context) (figures []figure, err error) {
	err = folder(func(dir string) error {
		w, err := lab.New(dir, lab.Options{})
		if err != nil {
			return err
		}
		defer w.Close()
		if err := w.WriteConfig(lab.Config{Push: "off", Poll: time.Hour, Flows: lab.DemoFlows()}); err != nil {
			return err
		}
		h := lab.NewHost(dir, w.HostURL)
		defer h.Kill()
		var times []time.Duration
		for range 7 {
			took, err := h.Start(ctx)
			if err != nil {
				return err
			}
			times = append(times, took)
			if err := h.Stop(ctx); err != nil {
				return err
			}
		}
		slices.Sort(times)
		if _, err := h.Start(ctx); err != nil {
			return err
		}
		// At rest: the first polls are over and the garbage of the start was collected.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
		}
		procs, rss, pss, err := memory(h.PID())
		if err != nil {
			return err
		}
		ready := float64(times[len(times)/2].Microseconds()) / 1000
		figures = []figure{
			atMost("ready_ms", ready, "ms", 300, fmt.Sprintf("median of %d starts, best %v", len(times), times[0].Round(time.Millisecond))),
			atMost("idle_rss_mb", pss, "MB", 120, fmt.Sprintf("%d processes; pages that they share counted once; %.0f MB counted in each", procs, rss)),
		}
		return h.Stop(ctx)
	})
	return figures, err
}
