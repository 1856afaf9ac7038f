// Package bench measures speed and size. Every figure is a ratio in one run, or is taken with the load generator and the
// fakes on the same machine; nothing fails because a machine is slow.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/internal/cli"
	"github.com/casewire/casewire/plugin"
)

// figure is one result; its JSON is stable.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target float64 `json:"target"`
	OK     bool    `json:"ok"`

	least bool // the target is the least, not the most
	note  string
}

// atMost and atLeast judge a figure.
func atMost(name string, value float64, unit string, target float64, note string) figure {
	return figure{Name: name, Value: round(value), Unit: unit, Target: target, OK: value <= target, note: note}
}

func atLeast(name string, value float64, unit string, target float64, note string) figure {
	return figure{Name: name, Value: round(value), Unit: unit, Target: target, OK: value >= target, least: true, note: note}
}

func round(v float64) float64 {
	if v > 100 {
		return float64(int64(v + 0.5))
	}
	return float64(int64(v*1000+0.5)) / 1000
}

// suite is one group of figures measured together.
type suite struct {
	name  string
	about string
	run   func(context.Context) ([]figure, error)
}

var suites = []suite{
	{"start", "start to ready, and memory at rest", start},
	{"invoke", "one call through the host against raw gRPC", invoke},
	{"wire", "rows and events from a connector against raw gRPC", wire},
	{"process", "what a connector costs: start and memory", process},
	{"logs", "a large and a small result of Log Analytics", logs},
	{"hooks", "webhook to durable answer", hooks},
	{"jira", "what a case costs in Jira, and how many a second", jiraCases},
	{"thehive", "what a case costs in TheHive, and how many a second", hiveCases},
	{"normalize", "an alert of Microsoft made an event", normalizeAlert},
	{"e2e", "push, look-up, Jira issue", endToEnd},
}

// Command is casewire bench.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "bench [SUITE]...",
		Short: "Measure speed and size: a table, then one JSON object a line",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if !slices.ContainsFunc(suites, func(s suite) bool { return s.name == a }) {
					return cli.Invalid(fmt.Errorf("there is no suite %q; there are %s", a, names()))
				}
			}
			return run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

func names() string {
	var out []string
	for _, s := range suites {
		out = append(out, s.name)
	}
	return strings.Join(out, ", ")
}

func run(ctx context.Context, only []string, stdout, stderr io.Writer) error {
	plugin.PaceMemory() // the fakes shall not take the processor from what is measured
	var all []figure
	for _, s := range suites {
		if len(only) > 0 && !slices.Contains(only, s.name) {
			continue
		}
		fmt.Fprintf(stderr, "%-7s %s …\n", s.name, s.about)
		figures, err := s.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, figures...)
	}
	t := tabwriter.NewWriter(stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "FIGURE\tVALUE\tUNIT\tTARGET\t\tNOTE")
	for _, f := range all {
		sign, verdict := "≤", "ok"
		if f.least {
			sign = "≥"
		}
		if !f.OK {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s %v\t%s\t%s\n", f.Name, f.Value, f.Unit, sign, f.Target, verdict, f.note)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	enc := json.NewEncoder(stdout)
	for _, f := range all {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// folder makes a working folder that is removed afterwards.
func folder(use func(dir string) error) error {
	dir, err := os.MkdirTemp("", "casewire-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return use(dir)
}
