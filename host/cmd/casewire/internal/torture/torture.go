// Package torture is the storm: thousands of alerts over hundreds of incidents come by push and poll, many twice; the case
// managers answer wrongly, late or not at all after they have committed; and the host and its connectors are killed at
// random all the while. One issue and one case for each incident, and one comment for each alert, must be what is there in
// the end, by the fakes' own count.
package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
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
	alerts, incidents, kills int
	lag, readLag, timeout    time.Duration
	seed                     uint64
	json, keep               bool
}

// Command is casewire torture.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Storm of alerts, lost answers and kills against bundled fakes; counts what became of every alert",
		Long: "Sends alerts of many incidents by push and poll to a host, with bundled fakes of Microsoft Graph, Jira and TheHive: 20 %\n" +
			"of the pushes come twice and 20 % not at all, the subscription is lost twice and all tokens are revoked once, 10 % of what\n" +
			"is created answers 500 or nothing after it was committed, Jira's search finds new issues only after --search-lag, there\n" +
			"are bursts of 429, and SIGKILL hits the host and its connectors --kills times. Counted on the fakes' side: one issue and one case for each incident, one comment for each\n" +
			"alert. What waits for a person is listed with its reason. The exit code is 0 only if nothing was lost or doubled.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.alerts, "alerts", 10_000, "alerts to send")
	f.IntVar(&o.incidents, "incidents", 0, "incidents that they belong to (default a tenth of the alerts)")
	f.IntVar(&o.kills, "kills", 50, "how often to kill the host or a connector while alerts come in")
	f.DurationVar(&o.lag, "search-lag", 30*time.Second, "how long Jira's search does not find what was created")
	f.DurationVar(&o.readLag, "read-lag", 300*time.Millisecond, "how long an alert that was pushed cannot be read yet")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute, "how long all of it may take")
	f.Uint64Var(&o.seed, "seed", 1, "seed of what goes wrong")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.keep, "keep", false, "keep the folder: configuration, flow, data file, log")
	return cmd
}

const storm = `name: storm
description: Every incident becomes one issue and one case, and every alert a comment.
on:
  sentinel.alerts: { connection: alerts, group_by: incident }
steps:
  - id: issue
    uses: jira.issue.ensure
    connection: tickets
    key: ${{ event.case_key }}
    with: { title: "incident ${{ alert.incident_id }}", severity_id: 4, labels: [storm] }
    retry: { on: [throttled, timeout, unavailable], max: 30 }
  - id: note
    uses: jira.issue.comment
    connection: tickets
    key: ${{ event.key }}
    with: { issue: "${{ steps.issue.key }}", text: "alert ${{ alert.id }}" }
    retry: { on: [throttled, timeout, unavailable], max: 30 }
  - id: case
    uses: thehive.case.ensure
    connection: cases
    key: ${{ event.case_key }}
    with: { title: "incident ${{ alert.incident_id }}", severity_id: 4, tags: [storm] }
    retry: { on: [throttled, timeout, unavailable], max: 30 }
`

// troubles are what the vendors do.
func troubles(o options) lab.Options {
	return lab.Options{
		Seed: o.seed,
		Push: azurefake.Push{Drop: 0.2, Double: 0.2, Reorder: 0.1, WrongState: 0.02},
		Graph: azurefake.Faults{RetryAfter: time.Second, Rates: map[string]map[azurefake.Fault]float64{
			azurefake.RouteAlertGet:  {"throttle": 0.005, "unavailable": 0.01, "reset": 0.005, "cut_body": 0.005},
			azurefake.RouteAlertList: {"unavailable": 0.05, "html": 0.02, "cut_body": 0.02},
		}},
		Jira: jirafake.Faults{RetryAfter: time.Second, Rates: map[string]map[jirafake.Fault]float64{
			jirafake.RouteCreate:  {"error_after": 0.05, "lost_answer": 0.05, "throttle": 0.01, "unavailable": 0.01},
			jirafake.RouteComment: {"error_after": 0.01, "lost_answer": 0.01, "throttle": 0.005},
		}},
		Hive: hivefake.Faults{Rates: map[string]map[hivefake.Fault]float64{
			hivefake.RouteAlertCreate: {"error_after": 0.05, "lost_answer": 0.05, "unavailable": 0.01},
			hivefake.RoutePromote:     {"error_after": 0.05, "lost_answer": 0.05},
		}},
		JiraIndexLag: o.lag, GraphReadLag: o.readLag,
	}
}

func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	if o.incidents == 0 {
		o.incidents = max(1, o.alerts/10)
	}
	switch {
	case o.alerts < 1 || o.alerts > 1_000_000:
		return cli.Invalid(fmt.Errorf("--alerts %d: give a number from 1 to 1000000", o.alerts))
	case o.incidents < 1 || o.incidents > o.alerts:
		return cli.Invalid(fmt.Errorf("--incidents %d: give a number from 1 to the number of alerts", o.incidents))
	case o.kills < 0 || o.kills > o.alerts:
		return cli.Invalid(fmt.Errorf("--kills %d: give a number from 0 to the number of alerts", o.kills))
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "casewire-torture-")
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
	w, err := lab.New(dir, troubles(o))
	if err != nil {
		return cli.Environment(err)
	}
	defer w.Close()
	if err := w.WriteConfig(lab.Config{Push: "manage", Poll: 5 * time.Second, Flows: map[string]string{"storm.yaml": storm}}); err != nil {
		return cli.Environment(err)
	}
	alerts, err := spread(o, w.Azure.Tenant(), begin)
	if err != nil {
		return err
	}
	h := lab.NewHost(dir, w.HostURL)
	defer h.Kill()
	if _, err := h.Start(ctx); err != nil {
		return err
	}
	if err := w.Subscribed(ctx, 15*time.Second); err != nil {
		return fmt.Errorf("%w; the host's log is %s", err, filepath.Join(dir, "host.log"))
	}
	say.Printf("sending %d alerts of %d incidents", len(alerts), o.incidents)

	feed, stopFeed := context.WithCancel(ctx)
	defer stopFeed()
	sent := make(chan error, 1)
	go func() { sent <- w.Feed(feed, alerts, time.Millisecond) }()
	killed, err := kills(ctx, o, w, h, say, len(alerts))
	if err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	say.Printf("all alerts are sent; SIGKILL hit the host %d and connectors %d times", killed.Host, killed.Connectors)

	data := filepath.Join(dir, "casewire.db")
	late := w.Until(ctx, o.timeout, func() bool { return settled(w, alerts, o.incidents) && ended(ctx, data) }, func() {
		say.Progress("%d of %d comments, %d issues, %d cases", notes(w), len(alerts), w.Issues(), w.Hive.Count())
	})
	if late != nil && !errors.Is(late, lab.ErrLate) && !errors.Is(late, context.DeadlineExceeded) {
		return late
	}
	// The way down has a time of its own: what came late is to be counted, too.
	down, done := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer done()
	stopErr := h.Stop(down)
	res, err := count(down, w, alerts, data)
	if err != nil {
		return err
	}
	res.Incidents, res.Kills, res.Seconds = o.incidents, killed, time.Since(begin).Seconds()
	res.judge(o.incidents)
	say.End()
	if o.json {
		err = json.NewEncoder(stdout).Encode(res)
	} else {
		err = res.table(stdout)
	}
	switch {
	case err != nil:
		return err
	case stopErr != nil:
		return fmt.Errorf("the host did not stop cleanly: %w", stopErr)
	case !res.good():
		return cli.Quiet(cli.ExitFailure)
	}
	return nil
}

// spread makes the alerts and deals them to the incidents.
func spread(o options, tenant string, now time.Time) ([]lab.Alert, error) {
	alerts, err := lab.Alerts(o.alerts, o.seed, tenant, now)
	if err != nil {
		return nil, err
	}
	for i := range alerts {
		var fields map[string]any
		if err := json.Unmarshal(alerts[i].Raw, &fields); err != nil {
			return nil, err
		}
		fields["incidentId"] = strconv.Itoa(50_000 + i%o.incidents)
		if alerts[i].Raw, err = json.Marshal(fields); err != nil {
			return nil, err
		}
	}
	return alerts, nil
}

// Killed says how often SIGKILL hit whom.
type Killed struct {
	Host       int `json:"host"`
	Connectors int `json:"connectors"`
}

// kills kills the host, or a connector of it, whenever so much of the work is done.
func kills(ctx context.Context, o options, w *lab.World, h *lab.Host, say *lab.Sayer, alerts int) (n Killed, err error) {
	rnd := rand.New(rand.NewPCG(o.seed, 11))
	for k := range o.kills {
		mark := alerts * 4 * (k + 1) / (5 * (o.kills + 1))
		err := w.Until(ctx, o.timeout, func() bool { return notes(w) >= mark }, func() {
			say.Progress("%d of %d comments, %d kills", notes(w), alerts, k)
		})
		if err != nil {
			return n, fmt.Errorf("before kill %d: %w", k+1, err)
		}
		switch k {
		case o.kills / 3, 2 * o.kills / 3:
			w.Azure.ExpireSubscriptions()
		case o.kills / 2:
			w.Azure.RevokeTokens()
		}
		if k%2 == 1 {
			if h.KillConnector(rnd.IntN) {
				n.Connectors++
				continue
			}
		}
		h.Kill()
		n.Host++
		if _, err := h.Start(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}
