package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
)

// ensureInput is an alert of ordinary size.
const ensureInput = `{"title":"[Sentinel] %s","severity_id":%d,"labels":["aws","t1078.004"],"url":"https://portal.example/i/1","origin":"alert:%[1]s","description":` +
	`"## What\n**Who:** root\n**From:** 203.0.113.5\n\n| Entity | Value |\n|---|---|\n| ip | 203.0.113.5 |\n| account | 123456789012 |\n"}`

// jiraCases measures issue.ensure in the Jira connector's own process against the fake without latency: what a new and a
// known case cost in requests, and how many cases a second are made while fake, connector and caller share the machine. It
// fails if the fake counts anything but one issue for each case.
func jiraCases(ctx context.Context) (figures []figure, err error) {
	err = folder(func(dir string) error {
		fake := jirafake.New(jirafake.Options{NoIssueLimit: true})
		defer fake.Close()
		url, stop, err := lab.Serve(fake)
		if err != nil {
			return err
		}
		defer stop()
		self, err := os.Executable()
		if err != nil {
			return err
		}
		c, err := catalog.New(catalog.Options{
			RunDir:     filepath.Join(dir, "run"),
			Connectors: map[string]catalog.Source{"jira": {Launcher: launch.Exec{Path: self, Args: []string{"connector", "jira"}}}},
		})
		if err != nil {
			return err
		}
		defer func() { _ = c.Stop(context.WithoutCancel(ctx)) }()
		config, err := json.Marshal(map[string]any{
			"base_url": url, "email": fake.User().Email, "api_token": fake.User().APIToken, "project": jirafake.DefaultProject,
			"issue_type": "Task", "deployment": "cloud",
		})
		if err != nil {
			return err
		}
		out, err := c.Configure(ctx, []catalog.Connection{{Name: "tickets", Connector: "jira", Config: config}})
		if err == nil && out[0].Err != nil {
			err = out[0].Err
		}
		if err != nil {
			return err
		}
		ensure := func(ctx context.Context, key string, severity int, prior json.RawMessage) (json.RawMessage, error) {
			return c.Invoke(ctx, catalog.Invocation{
				Connection: "tickets", Action: "issue.ensure", Key: key, Attempt: 1, Prior: prior, Input: fmt.Appendf(nil, ensureInput, key, severity),
			}, nil)
		}
		prior, err := ensure(ctx, "first", 3, nil)
		if err != nil {
			return err
		}
		asked := requests(fake)
		if prior, err = ensure(ctx, "second", 3, nil); err != nil {
			return err
		}
		made := requests(fake) - asked
		asked += made
		if _, err := ensure(ctx, "second", 5, prior); err != nil { // worse, so that there is something to write
			return err
		}
		known := requests(fake) - asked
		const rounds, cases, workers = 3, 3000, 32
		best := time.Duration(1<<63 - 1)
		for round := range rounds {
			g, gctx := errgroup.WithContext(ctx)
			g.SetLimit(workers)
			begin := time.Now()
			for i := range cases {
				g.Go(func() error {
					_, err := ensure(gctx, fmt.Sprintf("case %d of round %d", i, round), 3, nil)
					return err
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
			best = min(best, time.Since(begin))
		}
		if n, dup := fake.Count(), fake.Duplicates("cw-"); n != 2+rounds*cases || len(dup) > 0 {
			return errors.New("the fake counts " + fmt.Sprint(n, " issues, ", len(dup), " doubled"))
		}
		figures = []figure{
			atMost("ensure_requests_new", float64(made), "requests", 2, "issue.ensure of a case that Jira does not have: look for its mark, make it"),
			atMost("ensure_requests_known", float64(known), "requests", 1, "issue.ensure of a known case that got worse"),
			atLeast("ensure_per_s", cases/best.Seconds(), "1/s", 1500, fmt.Sprintf("new cases, two requests each, %d at a time; best of %d rounds of %d", workers, rounds, cases)),
		}
		return nil
	})
	return figures, err
}

// requests counts what a fake was asked.
func requests(fake *jirafake.Server) (n uint64) {
	for _, outcomes := range fake.Ledger().Requests {
		for _, c := range outcomes {
			n += c
		}
	}
	return n
}
