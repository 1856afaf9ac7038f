package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
)

// keyPath is where a host leaves the key that it made for itself.
func keyPath(storePath string) string { return storePath + ".key" }

// stateKeyOf is the configured key, or the one beside the data file, which fresh makes if there is none; without it, a
// missing file is fs.ErrNotExist.
func stateKeyOf(file *config.File, secrets *config.Resolved, fresh bool) (plugin.Secret, error) {
	switch {
	case !secrets.StateKey.IsZero():
		return secrets.StateKey, nil
	case file.Store.Key != "":
		return plugin.Secret{}, fmt.Errorf("store.key: %s is not to be had", file.Store.Key)
	case fresh:
		return host.StateKeyFile(keyPath(file.Store.Path))
	}
	return host.ReadStateKeyFile(keyPath(file.Store.Path))
}

// KeptState is what is kept for one connection.
type KeptState struct {
	Connection string `json:"connection"`
	Connector  string `json:"connector"`
	Bytes      int    `json:"bytes"`
	Error      string `json:"error,omitempty"` // why it cannot be opened
}

func stateCommand(app App) *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "state",
		Short: "What is kept, sealed, for connections: sign-ins and the like",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := listStates(cmd.Context(), app, path, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]any{"states": list})
			}
			return tableStates(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(stateDropCommand())
	return cmd
}

func stateDropCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "drop CONNECTION",
		Short: "Forget what is kept for a connection; somebody has to sign in again",
		Args:  exactly("CONNECTION", "the name of a connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := f.file()
			if err != nil {
				return err
			}
			if err := exists(path); err != nil {
				return err
			}
			if err := dropState(cmd.Context(), f.config, path, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: forgotten\n", args[0])
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func dropState(ctx context.Context, configPath, storePath, connection string) error {
	st, err := sqlite.Open(ctx, storePath, sqlite.Options{})
	if errors.Is(err, sqlite.ErrLocked) {
		o, err := newOperator(ctx, configPath, storePath)
		if err != nil {
			return err
		}
		defer o.close()
		return asInvalid(o.ask(ctx, http.MethodDelete, "/v1/connections/"+url.PathEscape(connection)+"/state", http.NoBody, nil))
	}
	if err != nil {
		return Environment(err)
	}
	defer func() { _ = st.Close() }() // every write is durable already
	has, err := host.HasState(ctx, st, connection)
	if err != nil {
		return err
	}
	if !has {
		return Invalid(fmt.Errorf("nothing is kept for a connection %q; casewire state lists what is", connection))
	}
	return host.DropState(ctx, st, connection)
}

// asInvalid says that what was not found was named wrongly.
func asInvalid(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return Invalid(err)
	}
	return err
}

func listStates(ctx context.Context, app App, path string, stderr io.Writer) ([]KeptState, error) {
	file, diags := config.Load(path, newConnectors(app))
	if err := report(stderr, diags, ""); err != nil {
		return nil, err
	}
	if err := exists(file.Store.Path); err != nil {
		return nil, err
	}
	secrets, _ := file.ResolveSecrets(ctx, diag.Warning) // of those only the key matters here
	key, kerr := stateKeyOf(file, secrets, false)
	st, err := sqlite.OpenReadOnly(ctx, file.Store.Path)
	if err != nil {
		return nil, Environment(err)
	}
	defer func() { _ = st.Close() }() // it was only read
	list := []KeptState{}
	for _, c := range connections(file, secrets) {
		has, err := host.HasState(ctx, st, c.Name)
		if err != nil {
			return nil, err
		}
		if !has {
			continue
		}
		k := KeptState{Connection: c.Name, Connector: c.Connector}
		if kerr != nil {
			k.Error = keyError(file, kerr).Error()
		} else if keeper, err := host.NewStateKeeper(st, key); err != nil {
			return nil, Environment(err)
		} else if plain, err := keeper.State(ctx, c); err != nil {
			k.Error = err.Error()
		} else {
			k.Bytes = len(plain)
		}
		list = append(list, k)
	}
	return list, nil
}

// keyError says that the key is missing.
func keyError(file *config.File, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the key is missing: there is no file %s, and store.key is not set", keyPath(file.Store.Path))
	}
	return err
}

func tableStates(w io.Writer, list []KeptState) error {
	if len(list) == 0 {
		fmt.Fprintln(w, "nothing is kept")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "CONNECTION\tCONNECTOR\tBYTES\t")
	for _, k := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", k.Connection, k.Connector, k.Bytes, k.Error)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(k KeptState) bool { return k.Error != "" }) {
		return Quiet(ExitFailure)
	}
	return nil
}
