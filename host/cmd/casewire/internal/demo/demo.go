// Package demo runs the main job against the bundled fakes: alerts go in by push and poll while pushes are dropped and
// doubled and vendors misbehave; the host is killed in the middle; and what became of every alert is counted on the
// fakes' side.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/connectors/thehive/hivefake"
	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/internal/cli"
)

// options are the flags.
type options struct {
	alerts  int
	kills   int
	json    bool
	keep    bool
	seed    uint64
	timeout time.Duration
}

// Command is casewire demo.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the main job against bundled fakes, kill the host in the middle, and count",
		Long: "Runs the main job against bundled fakes of Microsoft Graph, Log Analytics, Jira and TheHive: alerts arrive by push and\n" +
			"poll while 20 % of the pushes are dropped, 20 % doubled and some look-ups come too early; Jira sometimes answers 500 after\n" +
			"it has committed; and the host is killed with SIGKILL in the middle. What became of every alert is counted on the fakes'\n" +
			"side. The exit code is 0 only if nothing was lost and nothing doubled.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&o.alerts, "alerts", 240, "alerts to send")
	cmd.Flags().IntVar(&o.kills, "kills", 1, "how often to kill the host while alerts come in")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "keep the demo's folder: configuration, flows, data file, log")
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "seed of what goes wrong")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait for every alert to become a case")
	return cmd
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	if o.alerts < 1 || o.alerts > 100_000 {
		return cli.Invalid(fmt.Errorf("--alerts %d: give a number from 1 to 100000", o.alerts))
	}
	if o.kills < 0 || o.kills > o.alerts/4 {
		return cli.Invalid(fmt.Errorf("--kills %d: give a number from 0 to a quarter of the alerts", o.kills))
	}
	begin := time.Now()
	dir, err := os.MkdirTemp("", "casewire-demo-")
	if err != nil {
		return cli.Environment(err)
	}
	progress := stdout
	if o.json {
		progress = stderr
	}
	say := lab.NewSayer(progress)
	defer func() {
		say.End()
		if o.keep || err != nil {
			fmt.Fprintf(stderr, "kept: %s (casewire.yaml, flows, casewire.db, host.log)\n", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()

	w, err := lab.New(dir, troubles(o.seed))
	if err != nil {
		return cli.Environment(err)
	}
	defer w.Close()
	if err := w.WriteConfig(lab.Config{Push: "manage", Poll: 4 * time.Second, Flows: lab.DemoFlows()}); err != nil {
		return cli.Environment(err)
	}
	alerts, err := lab.Alerts(o.alerts, o.seed, w.Azure.Tenant(), begin)
	if err != nil {
		return err
	}

	say.Printf("fakes of Microsoft Graph, Log Analytics, Jira and TheHive are up")
	h := lab.NewHost(dir, w.HostURL)
	defer h.Kill()
	took, err := h.Start(ctx)
	if err != nil {
		return err
	}
	say.Printf("host ready in %v", took.Round(time.Millisecond))
	if err := w.Subscribed(ctx, 15*time.Second); err != nil {
		return fmt.Errorf("%w; the host's log is %s", err, filepath.Join(dir, "host.log"))
	}
	say.Printf("subscribed to change notifications; sending %d alerts", len(alerts))

	sent := make(chan error, 1)
	go func() { sent <- w.Feed(ctx, alerts, 25*time.Millisecond) }()
	for k := range o.kills {
		mark := len(alerts) * 4 * (k + 1) / (5 * (o.kills + 1))
		if err := w.Until(ctx, o.timeout, func() bool { return w.Issues() >= mark }, func() {
			say.Progress("issues %d of %d", w.Issues(), len(alerts))
		}); err != nil {
			return fmt.Errorf("before kill %d: %w; the host's log is %s", k+1, err, filepath.Join(dir, "host.log"))
		}
		inFlight := w.Issues()
		h.Kill()
		if took, err = h.Start(ctx); err != nil {
			return err
		}
		say.Printf("host killed with SIGKILL after %d issues, ready again in %v", inFlight, took.Round(time.Millisecond))
	}
	if err := <-sent; err != nil {
		return err
	}

	late := w.Until(ctx, o.timeout, func() bool { return settled(w, alerts) }, func() {
		say.Progress("issues %d of %d, cases %d of %d", w.Issues(), len(alerts), w.Hive.Count(), lab.Wanted(alerts))
	})
	if late != nil && !errors.Is(late, lab.ErrLate) {
		return late
	}
	stopErr := h.Stop(ctx)
	res, err := count(ctx, w, alerts, filepath.Join(dir, "casewire.db"))
	if err != nil {
		return err
	}
	res.Kills, res.Seconds = o.kills, time.Since(begin).Seconds()
	say.End()
	if o.json {
		err = res.json(stdout)
	} else {
		err = res.table(stdout)
	}
	if err == nil && stopErr != nil {
		err = fmt.Errorf("the host did not stop cleanly: %w", stopErr)
	}
	if err == nil && !res.good() {
		fmt.Fprintf(stderr, "casewire: lost %d, duplicates %d, parked %d, dead letters %d\n", res.Lost, res.Duplicates, res.Parked, res.DeadLetters)
		return cli.Quiet(cli.ExitFailure)
	}
	return err
}

// troubles are what the vendors do on a bad day.
func troubles(seed uint64) lab.Options {
	return lab.Options{
		Seed: seed,
		Push: azurefake.Push{Drop: 0.2, Double: 0.2, Reorder: 0.1, WrongState: 0.05},
		Graph: azurefake.Faults{RetryAfter: time.Second, Rates: map[string]map[azurefake.Fault]float64{
			azurefake.RouteAlertGet: {"throttle": 0.02, "unavailable": 0.02}, azurefake.RouteAlertComment: {"lost_answer": 0.03},
			azurefake.RouteQuery: {"throttle": 0.03, "unavailable": 0.02},
		}},
		Jira: jirafake.Faults{RetryAfter: time.Second, Rates: map[string]map[jirafake.Fault]float64{
			jirafake.RouteCreate: {"error_after": 0.03, "lost_answer": 0.02, "throttle": 0.02, "unavailable": 0.01},
		}},
		Hive: hivefake.Faults{Rates: map[string]map[hivefake.Fault]float64{
			hivefake.RouteAlertCreate: {"error_after": 0.02, "lost_answer": 0.02}, hivefake.RoutePromote: {"lost_answer": 0.03},
		}},
		JiraIndexLag: time.Second, GraphReadLag: 400 * time.Millisecond,
	}
}
