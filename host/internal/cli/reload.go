package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/secret"
)

// reloading puts a changed configuration into force while a host runs.
type reloading struct {
	app      App
	path     string
	host     *host.Host
	redactor *secret.Redactor
	log      *slog.Logger
	stdout   io.Writer
	stderr   io.Writer

	file  *config.File // in force
	known *connectors  // that the host can start
}

// hangups returns a channel of SIGHUP and what ends it.
func hangups() (c <-chan os.Signal, stop func()) {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGHUP)
	return sig, func() { signal.Stop(sig) }
}

// reload reads the configuration and the flows again, and checks all of it before it changes anything. What it says goes
// where the host says the rest.
func (r *reloading) reload(ctx context.Context) {
	known := newConnectors(r.app)
	file, diags := config.Load(r.path, known)
	if !diags.HasErrors() {
		diags = append(diags, r.known.otherThan(known, file.Connections)...)
	}
	var secrets *config.Resolved
	if !diags.HasErrors() {
		var more diag.List
		secrets, more = file.ResolveSecrets(ctx, diag.Error)
		diags = append(diags, more...)
	}
	if err := report(r.stderr, diags, "; nothing was changed"); err != nil {
		r.host.ReloadRefused(fmt.Errorf("%s has mistakes", r.path))
		r.log.ErrorContext(ctx, "reload refused: the configuration has mistakes; what is in force stays", "config", r.path)
		return
	}
	r.redactor.Join(secrets.Redactor) // before anything can be logged
	conns := connections(file, secrets)
	if err := r.host.Reload(ctx, host.Setup{Connections: conns, Flows: file.Flows}); err != nil {
		fmt.Fprintf(r.stderr, "%s: %v; nothing was changed\n", r.path, err)
		r.log.ErrorContext(ctx, "reload refused; what is in force stays", "error", err)
		return
	}
	if fixed := fixedChanges(r.file, file); len(fixed) > 0 {
		r.log.WarnContext(ctx, "changed settings take effect with the next start", "settings", fixed)
	}
	r.file = file
	fmt.Fprintf(r.stdout, "reloaded: %s, %s\n", count(len(conns), "connection"), count(len(file.Flows), "flow"))
	r.log.InfoContext(ctx, "reloaded", "connections", len(conns), "flows", len(file.Flows))
}

// fixedChanges names what changed that a running host cannot change.
func fixedChanges(was, now *config.File) []string {
	var out []string
	for name, changed := range map[string]bool{
		"store": was.Store != now.Store, "http": was.HTTP != now.HTTP, "log": was.Log != now.Log, "retention": was.Retention != now.Retention,
		"plugins": !reflect.DeepEqual(was.Plugins, now.Plugins),
	} {
		if changed {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
