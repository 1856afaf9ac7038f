package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

func replayCommand() *cobra.Command {
	var f storeFlags
	var from, flow string
	var current, dead bool
	cmd := &cobra.Command{
		Use:   "replay [RUN]...",
		Short: "Run runs again: what is done stays done",
		Long: "Enqueues a new run for the event of each run named, or of every dead letter with --dead. Keyed steps go through the\n" +
			"ledger: a case that exists is updated, not made again. While a host runs on the data file, the host is asked.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !dead {
				return Invalid(errors.New("name the runs to replay, or give --dead for every dead letter"))
			}
			path, err := f.file()
			if err != nil {
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
			do, done, err := replayer(cmd.Context(), f.config, path)
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
	out, failed := []replayed{}, 0
	for _, run := range runs {
		r := replayed{Run: run}
		var err error
		if r.New, err = do(ctx, run); err != nil {
			r.Error = err.Error()
			failed++
			if !asJSON {
				fmt.Fprintf(stderr, "%s: %v\n", run, err)
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
	if failed > 0 {
		return Quiet(ExitFailure)
	}
	return nil
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
func replayer(ctx context.Context, configPath, storePath string) (do func(context.Context, host.Replay) (string, error), done func(), err error) {
	st, err := sqlite.Open(ctx, storePath, sqlite.Options{})
	if err == nil {
		do = func(ctx context.Context, r host.Replay) (string, error) {
			run, err := host.Requeue(ctx, st, r, func(string) (string, bool) { return "", false })
			return run.ID, err
		}
		return do, func() { _ = st.Close() }, nil
	}
	if !errors.Is(err, sqlite.ErrLocked) {
		return nil, nil, Environment(err)
	}
	at, err := config.Peek(configPath)
	if err != nil {
		return nil, nil, Environment(fmt.Errorf("a host works on %s, and how to ask it cannot be read: %w", storePath, err))
	}
	token, err := os.ReadFile(tokenPath(storePath))
	if t := os.Getenv("CASEWIRE_TOKEN"); t != "" {
		token, err = []byte(t), nil
	}
	if err != nil {
		return nil, nil, Environment(fmt.Errorf("a host works on %s; set CASEWIRE_TOKEN to its operator token: %w", storePath, err))
	}
	client := &http.Client{Timeout: 30 * time.Second}
	return func(ctx context.Context, r host.Replay) (string, error) {
		return askHost(ctx, client, at.Listen, strings.TrimSpace(string(token)), r)
	}, client.CloseIdleConnections, nil
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
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var answer struct {
		Detail string `json:"detail"`
		Run    struct{ ID string }
	}
	_ = json.Unmarshal(body, &answer)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the host answered %s: %s", resp.Status, answer.Detail)
	}
	return answer.Run.ID, nil
}
