package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// memory sums the resident memory of a process and its descendants: rss counts shared pages in each process, pss once.
func memory(pid int) (procs int, rss, pss float64, err error) {
	pids := append(descendants(pid), pid)
	for _, p := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return 0, 0, 0, err
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			fields := strings.Fields(sc.Text())
			if len(fields) < 2 {
				continue
			}
			kb, _ := strconv.ParseFloat(fields[1], 64)
			switch fields[0] {
			case "Rss:":
				rss += kb / 1024
			case "Pss:":
				pss += kb / 1024
			}
		}
		_ = f.Close()
	}
	return len(pids), rss, pss, nil
}

// descendants lists the processes below pid.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue // it ended meanwhile
		}
		// The name in brackets may hold anything.
		rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(rest) < 2 {
			continue
		}
		ppid, _ := strconv.Atoi(rest[1])
		p, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		children[ppid] = append(children[ppid], p)
	}
	var all []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		all = append(all, next[0])
		next = append(next, children[next[0]]...)
	}
	return all
}
