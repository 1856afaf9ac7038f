package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

// defaultConfig is read when -c is not given.
const defaultConfig = "casewire.yaml"

// storeFlags name the data file, directly or through the configuration.
type storeFlags struct {
	config string
	path   string
	json   bool
}

func (f *storeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", defaultConfig, "configuration file, for where the data file is")
	cmd.Flags().StringVar(&f.path, "store", "", "data file; overrides the configuration")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// file finds the data file.
func (f *storeFlags) file() (string, error) {
	if f.path != "" {
		return f.path, nil
	}
	at, err := config.Peek(f.config)
	if err != nil {
		return "", Environment(fmt.Errorf("%w; name the configuration with -c, or the data file with --store", err))
	}
	return at.Store, nil
}

// read opens the data file for reading, which works while a host runs on it.
func (f *storeFlags) read(ctx context.Context, use func(context.Context, store.Store) error) error {
	path, err := f.file()
	if err != nil {
		return err
	}
	if err := exists(path); err != nil {
		return err
	}
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return Environment(err)
	}
	defer st.Close()
	return use(ctx, st)
}

// exists keeps commands that look at a data file from making one.
func exists(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Environment(fmt.Errorf("there is no data file %s; casewire run makes it, or name another with --store", path))
	}
	if err != nil {
		return Environment(fmt.Errorf("the data file cannot be read: %w", err))
	}
	return nil
}

// tokenPath is where a host leaves the operator token that it made for itself.
func tokenPath(storePath string) string { return storePath + ".token" }

// connections puts the secrets into their places.
func connections(file *config.File, secrets *config.Resolved) []host.Connection {
	conns := make([]host.Connection, len(file.Connections))
	for i, c := range file.Connections {
		conns[i] = host.Connection{
			Name: c.Name, Connector: c.Connector, Tenant: c.Tenant, Poll: c.Poll, Config: secrets.Configs[c.Name],
			Credential: c.Credential, Limit: host.Limit(c.Limit),
		}
	}
	return conns
}

func sandbox(p config.Plugins) host.Sandbox {
	return host.Sandbox{Mode: host.SandboxMode(p.Sandbox), Read: p.SandboxRead, Write: p.SandboxWrite}
}

// newLogger logs for people or programs, and prints no secret whatever it is handed.
func newLogger(w io.Writer, l config.Log, redactor *secret.Redactor) *slog.Logger {
	opts := &slog.HandlerOptions{Level: l.Level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if l.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(redactor.Handler(h))
}
