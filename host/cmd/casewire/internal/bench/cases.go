package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
)

// caseCost measures what an ensure action costs, in its connector's own process against a fake without latency.
type caseCost struct {
	connector, action string
	fake              http.Handler
	config            func(url string) map[string]any
	input             func(key string, severity int) []byte
	ledger            func() map[string]map[string]uint64 // requests by route and outcome
	count             func() (cases, doubled int)
}

// How many cases are made to find out how many a second are.
const (
	costRounds  = 3
	costCases   = 3000
	costWorkers = 32
)

// costs are what was measured: requests, and cases a second.
type costs struct {
	fresh, same, worse uint64
	perSecond          float64
}

// measure makes cases. It fails if the fake counts anything but one for each key.
func (m *caseCost) measure(ctx context.Context) (out costs, err error) {
	err = folder(func(dir string) error {
		url, stop, err := lab.Serve(m.fake)
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
			Connectors: map[string]catalog.Source{m.connector: {Launcher: launch.Exec{Path: self, Args: []string{"connector", m.connector}}}},
		})
		if err != nil {
			return err
		}
		defer func() { _ = c.Stop(context.WithoutCancel(ctx)) }()
		config, err := json.Marshal(m.config(url))
		if err != nil {
			return err
		}
		made, err := c.Configure(ctx, []catalog.Connection{{Name: "cases", Connector: m.connector, Config: config}})
		if err == nil && made[0].Err != nil {
			err = made[0].Err
		}
		if err != nil {
			return err
		}
		out, err = m.run(ctx, c)
		return err
	})
	return out, err
}

func (m *caseCost) run(ctx context.Context, c *catalog.Catalog) (out costs, err error) {
	ensure := func(ctx context.Context, key string, severity int, prior json.RawMessage) (json.RawMessage, error) {
		return c.Invoke(ctx, catalog.Invocation{
			Connection: "cases", Action: m.action, Key: key, Attempt: 1, Prior: prior, Input: m.input(key, severity),
		}, nil)
	}
	if _, err := ensure(ctx, "first", 3, nil); err != nil {
		return out, err
	}
	asked := m.requests()
	cost := func() uint64 {
		n := m.requests() - asked
		asked += n
		return n
	}
	prior, err := ensure(ctx, "second", 3, nil)
	if err != nil {
		return out, err
	}
	out.fresh = cost()
	if prior, err = ensure(ctx, "second", 3, prior); err != nil {
		return out, err
	}
	out.same = cost()
	if _, err := ensure(ctx, "second", 5, prior); err != nil { // worse, so that there is something to write
		return out, err
	}
	out.worse = cost()
	best := time.Duration(1<<63 - 1)
	for round := range costRounds {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(costWorkers)
		begin := time.Now()
		for i := range costCases {
			g.Go(func() error {
				_, err := ensure(gctx, fmt.Sprintf("case %d of round %d", i, round), 3, nil)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return out, err
		}
		best = min(best, time.Since(begin))
	}
	out.perSecond = costCases / best.Seconds()
	if n, doubled := m.count(); n != 2+costRounds*costCases || doubled > 0 {
		return out, fmt.Errorf("the fake counts %d cases, %d doubled", n, doubled)
	}
	return out, nil
}

// requests counts what the fake was asked.
func (m *caseCost) requests() (n uint64) {
	for _, outcomes := range m.ledger() {
		for _, c := range outcomes {
			n += c
		}
	}
	return n
}
