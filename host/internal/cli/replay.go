package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

func replayCommand(app App) *cobra.Command {
	var f storeFlags
	var from, flow string
	var current, dead bool
	cmd := &cobra.Command{
		Use:   "replay [RUN]...",
		Short: "Run runs again: what is done stays done",
		Long: "Enqueues a new run for the event of each run named, or of every dead letter with --dead. Keyed steps go through the\n" +
			"ledger: a case that exists is updated, not made again. While a host runs on the data file, the host is asked.",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && !dead:
				return Invalid(errors.New("name the runs to replay, or give --dead for every dead letter"))
			case flow != "" && !dead:
				return Invalid(errors.New("--flow chooses among dead letters: give --dead too"))
			}
			path, err := f.file()
			if err != nil {
				return err
			}
			if err := exists(path); err != nil {
				return err
			}
			runs := args
			if dead {
				more, err := deadRuns(cmd.Context(), path, flow)
				if err != nil {
					return err
				}
				runs = append(runs, more...)
			}
			r := replayer{app: app, config: f.config, store: path, stderr: cmd.ErrOrStderr()}
			do, done, err := r.open(cmd.Context(), current)
			if err != nil {
				return err
			}
			defer done()
			return replayAll(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), f.json, runs, func(ctx context.Context, run string) (string, error) {
				return do(ctx, host.Replay{Run: run, FromStep: from, Current: current})
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&from, "from", "", "begin at this step, with the results of earlier ones")
	cmd.Flags().BoolVar(&current, "current", false, "use the flow as it is now, not as it was")
	cmd.Flags().BoolVar(&dead, "dead", false, "replay every run that is a dead letter")
	cmd.Flags().StringVar(&flow, "flow", "", "with --dead: only runs of this flow")
	return cmd
}

type replayed struct {
	Run   string `json:"run"`
	New   string `json:"new,omitempty"`
	Error string `json:"error,omitempty"`
}

func replayAll(ctx context.Context, stdout, stderr io.Writer, asJSON bool, runs []string, do func(context.Context, string) (string, error)) error {
	out, failed, unknown := []replayed{}, 0, 0
	for _, run := range runs {
		r := replayed{Run: run}
		var err error
		if r.New, err = do(ctx, run); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				err = fmt.Errorf("there is no run %q; casewire runs lists them", run)
				unknown++
			}
			r.Error = err.Error()
			failed++
			if !asJSON {
				fmt.Fprintf(stderr, "casewire: %v\n", err)
			}
		} else if !asJSON {
			fmt.Fprintf(stdout, "%s is run again as %s\n", run, r.New)
		}
		out = append(out, r)
	}
	if asJSON {
		if err := printJSON(stdout, map[string]any{"replayed": out}); err != nil {
			return err
		}
	}
	if len(runs) == 0 && !asJSON {
		fmt.Fprintln(stdout, "nothing to replay")
	}
	switch failed {
	case 0:
		return nil
	case unknown:
		return Quiet(ExitInvalid)
	}
	return Quiet(ExitFailure)
}

func deadRuns(ctx context.Context, path, flow string) ([]string, error) {
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return nil, Environment(err)
	}
	defer st.Close()
	dls, err := st.ListDeadLetters(ctx, store.DeadLetterFilter{Kind: "run", Flow: flow, Limit: 100_000})
	if err != nil {
		return nil, err
	}
	var runs []string
	for _, d := range dls {
		runs = append(runs, d.Run)
	}
	return runs, nil
}

// replayer works on the data file, or through the host that works on it.
type replayer struct {
	app           App
	config, store string // paths
	stderr        io.Writer
}

type replayFunc = func(context.Context, host.Replay) (string, error)

func (r replayer) open(ctx context.Context, current bool) (do replayFunc, done func(), err error) {
	st, err := sqlite.Open(ctx, r.store, sqlite.Options{})
	if errors.Is(err, sqlite.ErrLocked) {
		return r.ask(ctx)
	}
	if err != nil {
		return nil, nil, Environment(err)
	}
	version := func(string) (string, bool) { return "", false }
	if current {
		if version, err = r.currentFlows(ctx, st); err != nil {
			return nil, nil, errors.Join(err, st.Close())
		}
	}
	do = func(ctx context.Context, r host.Replay) (string, error) {
		run, err := host.Requeue(ctx, st, r, version)
		return run.ID, err
	}
	return do, func() { _ = st.Close() }, nil
}

// currentFlows puts the flows of the configuration into the store, as a host does when it starts.
func (r replayer) currentFlows(ctx context.Context, st store.Store) (func(string) (string, bool), error) {
	file, diags := config.Load(r.config, newConnectors(r.app))
	if err := report(r.stderr, diags, "; nothing was replayed"); err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, f := range file.Flows {
		if err := st.PutFlow(ctx, store.FlowVersion{Version: f.Version, Name: f.Name, Bundle: f.Bundle}); err != nil {
			return nil, fmt.Errorf("keep flow %s: %w", f.Name, err)
		}
		versions[f.Name] = f.Version
	}
	return func(name string) (string, bool) {
		v, ok := versions[name]
		return v, ok
	}, nil
}

// ask makes the host that works on the data file do it.
func (r replayer) ask(ctx context.Context) (replayFunc, func(), error) {
	at, err := config.Peek(r.config)
	if err != nil {
		return nil, nil, Environment(fmt.Errorf("a host works on %s, and where it listens is not known: %w; name its configuration with -c", r.store, err))
	}
	token, err := hostToken(ctx, at, r.config, r.store)
	if err != nil {
		return nil, nil, Environment(fmt.Errorf("a host works on %s; set CASEWIRE_TOKEN to its operator token: %w", r.store, err))
	}
	client := &http.Client{Timeout: 30 * time.Second}
	do := func(ctx context.Context, r host.Replay) (string, error) {
		return askHost(ctx, client, at.Listen, token, r)
	}
	return do, client.CloseIdleConnections, nil
}

// hostToken finds the operator token: in the environment, where the configuration says, or where the host left its own.
func hostToken(ctx context.Context, at config.At, configPath, storePath string) (string, error) {
	if t := os.Getenv("CASEWIRE_TOKEN"); t != "" {
		return t, nil
	}
	if at.OperatorToken != "" {
		ref, err := secret.Parse(at.OperatorToken)
		if err != nil {
			return "", fmt.Errorf("http.operator_token: %w", err)
		}
		v, err := (&secret.Resolver{Dir: filepath.Dir(configPath)}).Resolve(ctx, ref)
		return v.Reveal(), err
	}
	b, err := os.ReadFile(tokenPath(storePath))
	return strings.TrimSpace(string(b)), err
}

func askHost(ctx context.Context, client *http.Client, listen, token string, r host.Replay) (string, error) {
	q := url.Values{}
	if r.FromStep != "" {
		q.Set("from", r.FromStep)
	}
	if r.Current {
		q.Set("current", "true")
	}
	target := "http://" + listen + "/v1/runs/" + url.PathEscape(r.Run) + "/replay?" + q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the host: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("ask the host: %w", err)
	}
	var answer struct {
		Detail string `json:"detail"`
		Run    struct {
			ID string `json:"id"`
		} `json:"run"`
	}
	_ = json.Unmarshal(body, &answer) // what is no JSON has no detail
	switch {
	case resp.StatusCode == http.StatusOK && answer.Run.ID != "":
		return answer.Run.ID, nil
	case resp.StatusCode == http.StatusNotFound && answer.Detail != "":
		return "", fmt.Errorf("%w: %s", store.ErrNotFound, answer.Detail)
	case resp.StatusCode == http.StatusUnauthorized:
		return "", errors.New("the host refuses the operator token; set CASEWIRE_TOKEN to the one that it was started with")
	}
	return "", fmt.Errorf("the host at %s answered %s: %s", listen, resp.Status, cmp.Or(answer.Detail, "no reason given"))
}
