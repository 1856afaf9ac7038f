package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/store"
)

var runStates = []string{
	string(store.RunReady), string(store.RunRunning), string(store.RunWaiting), string(store.RunSucceeded),
	string(store.RunFailed), string(store.RunParked), string(store.RunDeadLetter), string(store.RunCancelled),
}

func runsCommand() *cobra.Command {
	var f storeFlags
	var flow, state, object string
	var limit int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List runs, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(oneOf("state", state, runStates...), atLeastOne("limit", limit)); err != nil {
				return err
			}
			return f.read(cmd.Context(), func(ctx context.Context, st store.Store) error {
				runs, err := httpapi.FindRuns(ctx, st, object, store.RunFilter{Flow: flow, State: store.RunState(state), Limit: limit})
				if errors.Is(err, store.ErrNotFound) {
					return Invalid(fmt.Errorf("nothing came that is named %q: --object takes the id of an alert, incident or case at its vendor, or its key", object))
				}
				if err != nil {
					return err
				}
				recs := make([]httpapi.RunRecord, len(runs))
				for i, r := range runs {
					recs[i] = httpapi.NewRunRecord(r, nil)
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), map[string]any{"runs": recs})
				}
				if len(recs) == 0 && object != "" && flow == "" && state == "" {
					fmt.Fprintln(cmd.OutOrStdout(), "no runs: it came, and no flow took it; see the flows' on and where")
					return nil
				}
				return tableRuns(cmd.OutOrStdout(), recs)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&flow, "flow", "", "only runs of this flow")
	cmd.Flags().StringVar(&object, "object", "", "only runs for this alert, incident or case: its id at the vendor, or its key")
	cmd.Flags().StringVar(&state, "state", "", "only runs in this state: "+strings.Join(runStates, ", "))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(runStates, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().IntVar(&limit, "limit", 50, "most runs to list")
	cmd.AddCommand(runsShowCommand(), runsCancelCommand())
	return cmd
}

func runsShowCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Show one run: every step's input, output, attempts and timing",
		Args:  exactly("RUN", "the id of a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.read(cmd.Context(), func(ctx context.Context, st store.Store) error {
				run, err := st.Run(ctx, args[0])
				if errors.Is(err, store.ErrNotFound) {
					return Invalid(fmt.Errorf("there is no run %q; casewire runs lists them", args[0]))
				}
				if err != nil {
					return err
				}
				steps, err := st.Steps(ctx, run.ID)
				if err != nil {
					return err
				}
				rec := httpapi.NewRunRecord(run, steps)
				if f.json {
					return printJSON(cmd.OutOrStdout(), rec)
				}
				return showRun(cmd.OutOrStdout(), rec)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func tableRuns(w io.Writer, runs []httpapi.RunRecord) error {
	if len(runs) == 0 {
		fmt.Fprintln(w, "no runs")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "RUN\tFLOW\tSTATE\tCREATED\tTOOK\tOBJECT\tREASON")
	for _, r := range runs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Flow, r.State, stamp(r.Created), took(r.Seconds), clip(r.Object, 48), clip(r.Reason, 80))
	}
	return t.Flush()
}

func showRun(w io.Writer, r httpapi.RunRecord) error {
	fmt.Fprintf(w, "run      %s\nflow     %s (version %.12s)\nstate    %s\n", r.ID, r.Flow, r.Version, r.State)
	for _, l := range [][2]string{
		{"reason", r.Reason}, {"class", r.Class}, {"event", r.EventID}, {"object", r.Object}, {"case key", r.CaseKey}, {"replays", r.Parent},
	} {
		if l[1] != "" {
			fmt.Fprintf(w, "%-8s %s\n", l[0], indent(l[1], "         "))
		}
	}
	fmt.Fprintf(w, "created  %s, took %s\n", stamp(r.Created), took(r.Seconds))
	if !r.NotBefore.IsZero() && r.State == store.RunWaiting {
		fmt.Fprintf(w, "waits    until %s\n", stamp(r.NotBefore))
	}
	for _, s := range r.Steps {
		fmt.Fprintf(w, "\nstep %s  %s  %s", s.Path, s.Action, s.State)
		if s.Attempts > 0 {
			fmt.Fprintf(w, "  attempts %d", s.Attempts)
		}
		fmt.Fprintf(w, "  %s\n", took(s.Seconds))
		if s.Key != "" {
			fmt.Fprintf(w, "  key     %s\n", s.Key)
		}
		if s.Error != "" {
			fmt.Fprintf(w, "  error   %s (%s)\n", indent(s.Error, "          "), s.Class)
		}
		for _, warning := range warnings(s.Output) {
			fmt.Fprintf(w, "  warning %s\n", indent(printable(warning), "          "))
		}
		showJSON(w, "input", s.Input)
		showJSON(w, "output", s.Output)
	}
	if len(r.Output) > 0 {
		fmt.Fprintln(w)
		showJSON(w, "result", r.Output)
	}
	return nil
}

// warnings are what a step's output says of itself: a list of texts by that name. It would drown among many rows.
func warnings(output json.RawMessage) []string {
	var out struct {
		Warnings []string `json:"warnings"`
	}
	if json.Unmarshal(output, &out) != nil {
		return nil
	}
	return out.Warnings
}

// showJSON prints a value small enough to read; --json has it whole.
func showJSON(w io.Writer, label string, v json.RawMessage) {
	if len(v) == 0 {
		return
	}
	var b bytes.Buffer
	if err := json.Indent(&b, v, "          ", "  "); err != nil {
		b.Reset()
		b.Write(v)
	}
	text := b.String()
	if len(text) > 4000 {
		text = strings.ToValidUTF8(text[:4000], "") + fmt.Sprintf(" … (%d bytes in all; --json shows them)", len(v))
	}
	fmt.Fprintf(w, "  %-7s %s\n", label, text)
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func took(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return (time.Duration(seconds*1e6) * time.Microsecond).Round(100 * time.Microsecond).String()
}

// plain keeps what vendors say from moving the cursor of a terminal, or worse.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func clip(s string, n int) string {
	s = strings.ReplaceAll(plain(s), "\n", " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func indent(s, by string) string { return strings.ReplaceAll(plain(s), "\n", "\n"+by) }
