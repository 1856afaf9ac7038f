package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

func runsCancelCommand() *cobra.Command {
	var f storeFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "End a run that is not wanted",
		Long: "A run that is ready or waits ends at once, one that is executed before its next step. Where a write of it may have\n" +
			"happened, it is parked instead, so that somebody looks. While a host runs on the data file, the host is asked.",
		Args: exactly("RUN", "the id of a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := f.file()
			if err != nil {
				return err
			}
			if err := exists(path); err != nil {
				return err
			}
			run, err := cancelRun(cmd.Context(), f.config, path, args[0], reason)
			switch {
			case errors.Is(err, store.ErrNotFound):
				return Invalid(fmt.Errorf("there is no run %q; casewire runs lists them", args[0]))
			case errors.Is(err, host.ErrNotCancellable):
				return Invalid(err)
			case err != nil:
				return err
			case f.json:
				return printJSON(cmd.OutOrStdout(), map[string]any{"run": run})
			}
			tellCancelled(cmd.OutOrStdout(), run)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who read about it later")
	return cmd
}

func cancelRun(ctx context.Context, configPath, storePath, id, reason string) (httpapi.RunRecord, error) {
	st, err := sqlite.Open(ctx, storePath, sqlite.Options{})
	if errors.Is(err, sqlite.ErrLocked) {
		o, err := newOperator(ctx, configPath, storePath)
		if err != nil {
			return httpapi.RunRecord{}, err
		}
		defer o.close()
		var answer struct {
			Run httpapi.RunRecord `json:"run"`
		}
		q := url.Values{"reason": {reason}}
		err = o.ask(ctx, http.MethodPost, "/v1/runs/"+url.PathEscape(id)+"/cancel?"+q.Encode(), http.NoBody, &answer)
		return answer.Run, err
	}
	if err != nil {
		return httpapi.RunRecord{}, Environment(err)
	}
	defer func() { _ = st.Close() }() // every write is durable already
	run, err := host.CancelIn(ctx, st, id, reason)
	return httpapi.NewRunRecord(run, nil), err
}

func tellCancelled(w io.Writer, run httpapi.RunRecord) {
	switch run.State {
	case store.RunCancelled:
		fmt.Fprintf(w, "%s is cancelled\n", run.ID)
	case store.RunParked:
		fmt.Fprintf(w, "%s is parked: %s\n", run.ID, run.Reason)
	case store.RunReady, store.RunRunning, store.RunWaiting, store.RunSucceeded, store.RunFailed, store.RunDeadLetter:
		fmt.Fprintf(w, "%s ends before its next step\n", run.ID)
	}
}
