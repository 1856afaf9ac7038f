package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/host/webhook"
	"github.com/casewire/casewire/plugin"
)

// stopGrace is how long attempts in flight may take to end once the host was told to stop.
const stopGrace = 10 * time.Second

func runCommand(app App) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the host until it is told to stop",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plugin.PaceMemory()
			return runHost(cmd.Context(), app, path, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	return cmd
}

func validateCommand(app App) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration and the flows; every mistake at once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known := newConnectors(app)
			file, diags := config.Load(path, known)
			if !diags.HasErrors() {
				// A secret that is not here now may be where the host will run.
				_, missing := file.ResolveSecrets(cmd.Context(), diag.Warning)
				diags = append(diags, missing...)
			}
			if err := report(cmd.ErrOrStderr(), diags, ""); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s, no mistakes\n", path, count(len(file.Connections), "connection"), count(len(file.Flows), "flow"))
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	return cmd
}

// runHost is the whole life of a host: check everything, then open, then start; and undo in the other order.
func runHost(ctx context.Context, app App, path string, stdout, stderr io.Writer) (err error) {
	known := newConnectors(app)
	file, diags := config.Load(path, known)
	var secrets *config.Resolved
	if !diags.HasErrors() {
		var more diag.List
		secrets, more = file.ResolveSecrets(ctx, diag.Error)
		diags = append(diags, more...)
	}
	if err := report(stderr, diags, "; nothing was started"); err != nil {
		return err
	}
	conns := connections(file, secrets)
	log := newLogger(stderr, file.Log, secrets.Redactor)

	st, err := sqlite.Open(ctx, file.Store.Path, sqlite.Options{})
	if err != nil {
		return Environment(err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	token, err := operatorToken(file, secrets)
	if err != nil {
		return Environment(err)
	}
	key, err := stateKeyOf(file, secrets, true)
	if err != nil {
		return Environment(fmt.Errorf("the key that seals connections' state: %w", err))
	}
	secrets.Redactor.Add(key)
	h, err := host.New(host.Options{
		Store: st, StateKey: key, Connectors: known.all(), Connections: conns, Logger: log, PublicURL: file.HTTP.PublicURL,
		Retention: host.Retention(file.Retention), IdleStop: file.Plugins.IdleStop, Version: app.Version, Redact: secrets.Redactor.String,
		Sandbox: sandbox(file.Plugins), Limits: host.Limits{Memory: file.Plugins.Memory, Files: file.Plugins.Files},
	})
	if err != nil {
		return Environment(err)
	}
	if err := h.SetFlows(ctx, file.Flows); err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", file.HTTP.Listen)
	if err != nil {
		return Environment(fmt.Errorf("listen on %s (http.listen): %w", file.HTTP.Listen, err))
	}
	// Listening comes first: a vendor that is subscribed to asks at once whether this address is ours.
	var ready atomic.Bool
	srv := &http.Server{
		Handler: routes(h, st, log, token, ready.Load), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	hup, unhook := hangups() // before it says that it is ready
	defer unhook()
	if err := h.Start(ctx); err != nil {
		_ = srv.Close()
		return startError(err)
	}
	ready.Store(true)
	fmt.Fprintf(stdout, "casewire %s ready on http://%s: %s, %s, data in %s\n",
		app.Version, ln.Addr(), count(len(conns), "connection"), count(len(file.Flows), "flow"), file.Store.Path)
	log.InfoContext(ctx, "ready", "listen", ln.Addr().String(), "connections", len(conns), "flows", len(file.Flows))

	r := &reloading{
		app: app, path: path, host: h, redactor: secrets.Redactor, log: log, stdout: stdout, stderr: stderr, file: file, known: known,
	}
	for running := true; running; {
		select {
		case <-hup:
			r.reload(ctx)
		case <-ctx.Done():
			running = false
		case err = <-served:
			err = Environment(fmt.Errorf("the HTTP server ended: %w", err))
			running = false
		}
	}
	fmt.Fprintln(stdout, "stopping")
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	// No new webhooks first; those that are in are answered.
	err = errors.Join(err, srv.Shutdown(grace), h.Stop(grace))
	if err == nil {
		fmt.Fprintln(stdout, "stopped")
	}
	return err
}

func routes(h *host.Host, st store.Store, log *slog.Logger, token plugin.Secret, ready func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/hooks/", webhook.Handler(h, webhook.Options{Logger: log}))
	mux.Handle("/", httpapi.Handler(h, st, httpapi.Options{Token: token, Ready: ready}))
	return mux
}

// startError tells a refused configuration from a machine that does not play along.
func startError(err error) error {
	if e, ok := errors.AsType[*plugin.Error](err); ok {
		switch e.Class() {
		case plugin.ClassConfig, plugin.ClassInvalid:
			return Invalid(err)
		}
	}
	return Environment(err)
}

// operatorToken is the configured one, or one of the host's own that it leaves beside the data file for its owner.
func operatorToken(file *config.File, secrets *config.Resolved) (plugin.Secret, error) {
	if !secrets.OperatorToken.IsZero() {
		return secrets.OperatorToken, nil
	}
	path := tokenPath(file.Store.Path)
	if b, err := os.ReadFile(path); err == nil && len(b) >= 32 {
		return plugin.NewSecret(string(b)), nil
	}
	raw := make([]byte, 24)
	if _, err := rand.Read(raw); err != nil {
		return plugin.Secret{}, err
	}
	token := hex.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		return plugin.Secret{}, fmt.Errorf("leave the operator token: %w", err)
	}
	return plugin.NewSecret(token), nil
}
