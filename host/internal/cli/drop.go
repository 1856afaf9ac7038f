package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

func deadLettersDropCommand() *cobra.Command {
	var f storeFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "drop ID...",
		Short: "Mark dead letters as dealt with, without doing anything again",
		Long: "For what cannot or need not be replayed: an event that could not be read, a hint that led nowhere, a run whose case\n" +
			"somebody made by hand. They stay on record (deadletters --all) until retention removes them, and count no longer.\n" +
			"While a host runs on the data file, the host is asked.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := f.file()
			if err != nil {
				return err
			}
			if err := exists(path); err != nil {
				return err
			}
			drop, done, err := dropper(cmd.Context(), f.config, path, reason)
			if err != nil {
				return err
			}
			defer done()
			dropped := make([]httpapi.DeadLetterRecord, 0, len(args))
			for _, id := range args {
				d, err := drop(id)
				if errors.Is(err, store.ErrNotFound) {
					err = Invalid(fmt.Errorf("there is no dead letter %q that nobody dealt with; casewire deadletters lists them", id))
				}
				if err != nil {
					return err
				}
				if dropped = append(dropped, d); !f.json {
					fmt.Fprintf(cmd.OutOrStdout(), "%s is dropped\n", id)
				}
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"dead_letters": dropped})
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who read about it later")
	return cmd
}

// dropper drops by way of the host that works on the data file, or in the file itself.
func dropper(ctx context.Context, configPath, storePath, reason string) (drop func(id string) (httpapi.DeadLetterRecord, error), done func(), err error) {
	st, err := sqlite.Open(ctx, storePath, sqlite.Options{})
	if errors.Is(err, sqlite.ErrLocked) {
		o, err := newOperator(ctx, configPath, storePath)
		if err != nil {
			return nil, nil, err
		}
		return func(id string) (httpapi.DeadLetterRecord, error) {
			var answer struct {
				DeadLetter httpapi.DeadLetterRecord `json:"dead_letter"`
			}
			q := url.Values{"reason": {reason}}
			err := o.ask(ctx, http.MethodPost, "/v1/deadletters/"+url.PathEscape(id)+"/drop?"+q.Encode(), http.NoBody, &answer)
			return answer.DeadLetter, err
		}, o.close, nil
	}
	if err != nil {
		return nil, nil, Environment(err)
	}
	return func(id string) (httpapi.DeadLetterRecord, error) {
		d, err := host.DropIn(ctx, st, id, reason)
		return httpapi.NewDeadLetterRecord(d), err
	}, func() { _ = st.Close() }, nil // every write is durable already
}
