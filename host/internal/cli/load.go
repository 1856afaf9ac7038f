package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

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
	return storePath(f.config)
}

// read opens the data file for reading, which works while a host runs on it.
func (f *storeFlags) read(ctx context.Context, use func(context.Context, store.Store) error) error {
	path, err := f.file()
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return Environment(fmt.Errorf("the data file %s cannot be read: %w; has casewire run been started with this configuration?", path, errors.Unwrap(err)))
	}
	st, err := sqlite.OpenReadOnly(ctx, path)
	if err != nil {
		return Environment(err)
	}
	defer st.Close()
	return use(ctx, st)
}

// tokenPath is where a host leaves the operator token that it made for itself.
func tokenPath(storePath string) string { return storePath + ".token" }

func abs(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(base, path)
}

func fileMissing(w io.Writer, path string) {
	fmt.Fprintf(w, "there is no file %s\n", path)
}
