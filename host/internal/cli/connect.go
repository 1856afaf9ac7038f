package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Connected is one connection of a configuration, served by a connector process of its own beside any host. Close it.
type Connected struct {
	Connection, Connector string
	// Store is where the data file of the configuration is, or would be.
	Store string
	// Config is the connection's configuration with references in place of secrets.
	Config json.RawMessage
	// Redact takes the configuration's secrets out of a text.
	Redact func(string) string

	desc   *connectorv1.DescribeResponse
	cat    *catalog.Catalog
	keeper *stateful
}

// Call is one attempt at one action.
type Call = catalog.Invocation

// Connect starts the connector of a connection. Without a name it is the only one of the connector given; without a
// connector it is the one of that name, whatever it connects to. Mistakes of the configuration go to stderr; the error then is
// quiet, with the exit code of the mistake. Secrets of other connections are not asked for.
func Connect(ctx context.Context, app App, path, connection, connector string, stderr io.Writer) (_ *Connected, err error) {
	known := newConnectors(app)
	file, diags := config.Load(path, known)
	if !diags.HasErrors() {
		diags = nil // warnings are for casewire validate
	}
	if err := report(stderr, diags, "; nothing was tried"); err != nil {
		return nil, err
	}
	conn, err := choose(file, connection, connector)
	if err != nil {
		return nil, err
	}
	alone := *file
	alone.Connections = []config.Connection{*conn}
	secrets, missing := alone.ResolveSecrets(ctx, diag.Error)
	cfg, ok := secrets.Configs[conn.Name]
	if !ok {
		if err := report(stderr, missing, "; nothing was tried"); err != nil {
			return nil, err
		}
		return nil, Invalid(fmt.Errorf("a secret of the connection %s is missing", conn.Name))
	}
	c := &Connected{
		Connection: conn.Name, Connector: conn.Connector, Store: file.Store.Path, Config: conn.Config, Redact: secrets.Redactor.String,
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	c.desc, _ = known.Connector(conn.Connector)
	limits := host.Limits{Memory: file.Plugins.Memory, Files: file.Plugins.Files}
	c.cat, err = catalog.New(catalog.Options{
		Connectors: known.all(), HostVersion: app.Version, Grace: time.Second, Redact: c.Redact,
		Sandbox: sandbox(file.Plugins), Limits: limits.OrDefault(host.DefaultLimits),
	})
	if err != nil {
		return nil, Environment(err)
	}
	d := &doctor{app: app, path: path, file: &alone, secrets: secrets}
	to := catalog.Connection{Name: conn.Name, Connector: conn.Connector, Tenant: conn.Tenant, Config: cfg, Hooks: d.hooks(ctx, conn.Name, c.desc)}
	if err := c.state(ctx, d, &to); err != nil {
		return nil, err
	}
	c.cat.OnState(c.keeper.keep)
	outcomes, err := c.cat.Configure(ctx, []catalog.Connection{to})
	if err != nil {
		return nil, Environment(err)
	}
	for _, o := range outcomes {
		if o.Err != nil {
			o.Err.Message = c.Redact(o.Err.Message)
			return nil, startError(fmt.Errorf("connection %s: %w", conn.Name, o.Err))
		}
	}
	return c, nil
}

// choose finds a connection by name, of a connector or of any, or the only one of a connector.
func choose(file *config.File, name, connector string) (*config.Connection, error) {
	var names []string
	var found *config.Connection
	for i := range file.Connections {
		c := &file.Connections[i]
		if c.Name == name {
			if connector != "" && c.Connector != connector {
				return nil, Invalid(fmt.Errorf("the connection %s is one of %s, not of %s", name, c.Connector, connector))
			}
			return c, nil
		}
		if connector == "" || c.Connector == connector {
			names = append(names, c.Name)
			found = c
		}
	}
	slices.Sort(names)
	switch {
	case connector == "":
		return nil, Invalid(fmt.Errorf("there is no connection %q in %s; there are %s", name, file.Path, strings.Join(names, ", ")))
	case name != "" && len(names) > 0:
		return nil, Invalid(fmt.Errorf("there is no connection %q; of %s there are %s", name, connector, strings.Join(names, ", ")))
	case len(names) == 0:
		return nil, Invalid(fmt.Errorf("%s has no connection of the connector %s", file.Path, connector))
	case len(names) > 1:
		return nil, Invalid(fmt.Errorf("there are several connections of %s; say --connection %s", connector, strings.Join(names, " or ")))
	}
	return found, nil
}

// state gives the connection what is kept for it, as the doctor does. While a host runs, what is good for one use is the
// host's.
func (c *Connected) state(ctx context.Context, d *doctor, to *catalog.Connection) error {
	c.keeper = d.keeper(ctx)
	if c.keeper.reader == nil {
		return nil
	}
	has, err := host.HasState(ctx, c.keeper.reader, to.Name)
	if err != nil {
		return Environment(err)
	}
	if !has {
		return nil
	}
	rw, err := sqlite.Open(ctx, d.file.Store.Path, sqlite.Options{})
	switch {
	case errors.Is(err, sqlite.ErrLocked):
		return Environment(fmt.Errorf("a host runs and holds what connection %s keeps, such as a sign-in; a second user of it could end it for both: stop the host for this, or use a credential that is good for many", to.Name))
	case err != nil:
		return Environment(err)
	}
	if err := rw.Close(); err != nil {
		return Environment(err)
	}
	if !c.keeper.give(ctx, to) {
		return Environment(fmt.Errorf("connection %s: %s", to.Name, c.Redact(d.findings[len(d.findings)-1].Summary)))
	}
	return nil
}

// Invoke calls an action. Progress, rows and files go to onEvent, if there is one. Errors are *plugin.Error.
func (c *Connected) Invoke(ctx context.Context, call Call, onEvent func(*connectorv1.InvokeResponse) error) (json.RawMessage, error) {
	call.Connection = c.Connection
	out, err := c.cat.Invoke(ctx, call, onEvent)
	if e := plugin.FromError(err); e != nil {
		e.Message = c.Redact(e.Message)
		return nil, e
	}
	return out, nil
}

// Close ends the connector.
func (c *Connected) Close() {
	if c.cat != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
		defer cancel()
		_ = c.cat.Stop(ctx) // what is left behind ends with this process
	}
	if c.keeper != nil {
		c.keeper.close()
	}
}
