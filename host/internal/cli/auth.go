package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
)

// The actions of a connector that has people sign in. Auth.begin says what a person has to do, auth.finish whether it was
// done; what is to be kept comes as the connection's state.
const (
	actionBegin  = "auth.begin"
	actionFinish = "auth.finish"
)

func authCommand(app App) *cobra.Command {
	cmd := &cobra.Command{Use: "auth", Short: "Sign in where a person has to, once", Args: cobra.NoArgs}
	cmd.AddCommand(loginCommand(app))
	return cmd
}

func loginCommand(app App) *cobra.Command {
	l := &login{app: app}
	cmd := &cobra.Command{
		Use:   "login CONNECTION|CREDENTIAL",
		Short: "Sign in for a connection, and for every other one with the same credential",
		Long: `Login has a person sign in in a browser, and keeps what the vendor gives for it: sealed, in the data file, for each
connection that has the same credential. It can be used while a host runs; the host takes it over at once.

Each connection renews its own copy. Entra ID lets copies live beside each other; where an authority ends the others when one
is renewed, sign in once for each connection, with --only.

Without --device the browser must be on this machine. With it, any browser will do: the command prints a code to type there.`,
		Args: exactly("CONNECTION|CREDENTIAL", "the name of a connection or of a credential"),
		RunE: func(cmd *cobra.Command, args []string) error {
			l.out = cmd.OutOrStdout()
			return l.run(cmd.Context(), args[0], cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&l.path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().BoolVar(&l.device, "device", false, "print a code to type in a browser on any machine")
	cmd.Flags().BoolVar(&l.noBrowser, "no-browser", false, "only print the address to open")
	cmd.Flags().BoolVar(&l.only, "only", false, "keep it for the connection that is named, and no other")
	cmd.Flags().IntVar(&l.port, "port", 0, "port on this machine that the browser is sent back to; default any")
	return cmd
}

// login is one sign-in.
type login struct {
	app               App
	path              string
	device, noBrowser bool
	only              bool // the connection that is named
	port              int
	out               io.Writer

	file    *config.File
	secrets *config.Resolved
	cat     *catalog.Catalog
	conn    string // that is used to sign in
	state   []byte // what is to be kept
}

func (l *login) run(ctx context.Context, name string, stderr io.Writer) error {
	known := newConnectors(l.app)
	var diags diag.List
	if l.file, diags = config.Load(l.path, known); l.file == nil {
		return report(stderr, diags, "; nobody was asked to sign in")
	}
	targets, err := l.targets(name, known)
	if err != nil {
		return Invalid(err)
	}
	l.secrets, diags = l.file.ResolveSecrets(ctx, diag.Warning)
	config, ok := l.secrets.Configs[targets[0].Name]
	if !ok {
		return report(stderr, append(diags, diag.Diagnostic{Severity: diag.Error, Pos: targets[0].Pos, Path: "connections." + targets[0].Name, Summary: "a secret of it is missing"}), "; nobody was asked to sign in")
	}
	// Where it is to be kept is looked at first: a sign-in that cannot be kept is worth nothing.
	keep, done, err := l.keeper(ctx, targets)
	if err != nil {
		return err
	}
	defer done()
	if err := l.start(ctx, known, targets[0], config); err != nil {
		return err
	}
	defer l.stop(ctx)
	account, err := l.signIn(ctx)
	if err != nil {
		return l.told(err)
	}
	if len(l.state) == 0 {
		return fmt.Errorf("the connector %s gave nothing to keep; tell its author", targets[0].Connector)
	}
	names := make([]string, len(targets))
	for i, c := range targets {
		if err := keep(ctx, c, l.state); err != nil {
			return fmt.Errorf("the sign-in could not be kept for connection %s: %w", c.Name, err)
		}
		names[i] = c.Name
	}
	who := ""
	if account != "" {
		who = " as " + account
	}
	fmt.Fprintf(l.out, "Signed in%s; kept for %s.\n", who, strings.Join(names, ", "))
	return nil
}

// targets are the connections that a sign-in is for: the one that is named, and all with the same credential.
func (l *login) targets(name string, known *connectors) ([]config.Connection, error) {
	credential, found := name, false
	for _, c := range l.file.Connections {
		if c.Name == name {
			credential, found = c.Credential, true
			if credential == "" || l.only {
				return l.able([]config.Connection{c}, name, known)
			}
		}
	}
	var same []config.Connection
	for _, c := range l.file.Connections {
		if c.Credential == credential {
			same = append(same, c)
		}
	}
	if len(same) > 0 && l.only {
		return nil, fmt.Errorf("--only is for one connection, and %s is a credential: name one of the connections with it", name)
	}
	if len(same) == 0 && !found {
		var names []string
		for _, c := range l.file.Connections {
			names = append(names, c.Name)
			if c.Credential != "" && !slices.Contains(names, c.Credential) {
				names = append(names, c.Credential)
			}
		}
		return nil, fmt.Errorf("there is no connection or credential %q; there are %s", name, strings.Join(names, ", "))
	}
	// The one that is named comes first: it is used to sign in.
	slices.SortStableFunc(same, func(a, b config.Connection) int {
		switch name {
		case a.Name:
			return -1
		case b.Name:
			return 1
		}
		return 0
	})
	return l.able(same, name, known)
}

// able keeps the connections whose connector has people sign in.
func (l *login) able(conns []config.Connection, name string, known *connectors) ([]config.Connection, error) {
	able := slices.DeleteFunc(slices.Clone(conns), func(c config.Connection) bool {
		desc, ok := known.Connector(c.Connector)
		has := 0
		for _, a := range desc.GetActions() {
			if a.GetName() == actionBegin || a.GetName() == actionFinish {
				has++
			}
		}
		return !ok || has != 2
	})
	if len(able) == 0 {
		return nil, fmt.Errorf("nobody has to sign in for %s: the connector %s knows no sign-in", name, conns[0].Connector)
	}
	return able, nil
}

// start runs the connector with the one connection. It is given no state: what there was is no longer wanted.
func (l *login) start(ctx context.Context, known *connectors, c config.Connection, cfg json.RawMessage) error {
	limits := host.Limits{Memory: l.file.Plugins.Memory, Files: l.file.Plugins.Files}
	cat, err := catalog.New(catalog.Options{
		Connectors: known.all(), HostVersion: l.app.Version, Grace: time.Second, Redact: l.secrets.Redactor.String,
		Sandbox: sandbox(l.file.Plugins), Limits: limits.OrDefault(host.DefaultLimits),
	})
	if err != nil {
		return Environment(err)
	}
	l.cat, l.conn = cat, c.Name
	cat.OnState(func(_ catalog.Connection, state []byte) { l.state = bytes.Clone(state) })
	outcomes, err := cat.Configure(ctx, []catalog.Connection{{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant, Config: cfg}})
	if err == nil && outcomes[0].Err != nil {
		l.stop(ctx)
		return Invalid(fmt.Errorf("connection %s: %w", c.Name, outcomes[0].Err))
	}
	if err != nil {
		l.stop(ctx)
		return Environment(err)
	}
	return nil
}

func (l *login) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	_ = l.cat.Stop(ctx) // what is left behind ends with this process
}

// told makes what a connector says fit for the command line.
func (l *login) told(err error) error {
	var e *plugin.Error
	if !errors.As(err, &e) {
		return err
	}
	text := errors.New(l.secrets.Redactor.String(e.Error()))
	switch e.Class() {
	case plugin.ClassConfig, plugin.ClassInvalid:
		return Invalid(text)
	case plugin.ClassUnavailable, plugin.ClassTimeout:
		return Environment(text)
	}
	return text
}

// begun is what auth.begin answers with.
type begun struct {
	URL      string    `json:"url"`
	UserCode string    `json:"user_code"`
	Message  string    `json:"message"`
	State    string    `json:"state"`
	Session  string    `json:"session"`
	Expires  time.Time `json:"expires"`
	Wait     int       `json:"wait"`
}

// finished is what auth.finish answers with.
type finished struct {
	Done    bool   `json:"done"`
	Wait    int    `json:"wait"`
	Account string `json:"account"`
}

func (l *login) invoke(ctx context.Context, action string, in map[string]any, out any) error {
	input, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	answer, err := l.cat.Invoke(ctx, catalog.Invocation{Connection: l.conn, Action: action, Input: input, Attempt: 1}, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

func (l *login) signIn(ctx context.Context) (account string, err error) {
	if l.device {
		return l.byDevice(ctx)
	}
	return l.byBrowser(ctx)
}

func (l *login) byDevice(ctx context.Context) (string, error) {
	var b begun
	if err := l.invoke(ctx, actionBegin, map[string]any{}, &b); err != nil {
		return "", err
	}
	fmt.Fprintln(l.out, oneLine(b.Message))
	ctx, cancel := context.WithDeadline(ctx, b.Expires)
	defer cancel()
	wait := max(b.Wait, 1)
	for {
		timer := time.NewTimer(time.Duration(wait) * time.Second)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", gaveUp(ctx)
		}
		var f finished
		if err := l.invoke(ctx, actionFinish, map[string]any{"session": b.Session}, &f); err != nil {
			if e := plugin.FromError(err); e != nil && (e.Class() == plugin.ClassUnavailable || e.Class() == plugin.ClassThrottled) && ctx.Err() == nil {
				wait += 5 // the code is good for some time yet
				continue
			}
			return "", err
		}
		if f.Done {
			return f.Account, nil
		}
		if f.Wait > b.Wait {
			wait += f.Wait - b.Wait // asked to slow down, from now on
		}
	}
}

func gaveUp(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("nobody signed in in time; begin anew")
	}
	return context.Cause(ctx)
}

func (l *login) byBrowser(ctx context.Context) (string, error) {
	back, err := listenForCode(ctx, l.port)
	if err != nil {
		return "", Environment(fmt.Errorf("listen for the browser: %w; choose a port with --port, or use --device", err))
	}
	defer back.close()
	var b begun
	if err := l.invoke(ctx, actionBegin, map[string]any{"redirect_uri": back.address}, &b); err != nil {
		return "", err
	}
	back.expect(b.State)
	fmt.Fprintf(l.out, "Sign in in a browser on this machine:\n\n  %s\n\n", b.URL)
	if !l.noBrowser && isatty.IsTerminal(os.Stdin.Fd()) {
		openBrowser(ctx, b.URL)
	}
	ctx, cancel := context.WithDeadline(ctx, b.Expires)
	defer cancel()
	select {
	case <-ctx.Done():
		return "", gaveUp(ctx)
	case got := <-back.got:
		if got.err != nil {
			return "", got.err
		}
		var f finished
		if err := l.invoke(ctx, actionFinish, map[string]any{"session": b.Session, "code": got.code}, &f); err != nil {
			back.tell("It did not work. The command line says why.")
			return "", err
		}
		back.tell("Signed in. You can close this window.")
		return f.Account, nil
	}
}

// keepFunc makes a sign-in durable for one connection.
type keepFunc func(ctx context.Context, c config.Connection, state []byte) error

// keeper finds who keeps the sign-in: the host that works on the data file, or else this process, which then holds the
// file.
func (l *login) keeper(ctx context.Context, targets []config.Connection) (keepFunc, func(), error) {
	st, err := sqlite.Open(ctx, l.file.Store.Path, sqlite.Options{})
	if errors.Is(err, sqlite.ErrLocked) {
		o, err := newOperator(ctx, l.path, l.file.Store.Path)
		if err != nil {
			return nil, nil, err
		}
		// A host that does not know them yet would refuse it when everything is done.
		if err := l.hostKnows(ctx, o, targets); err != nil {
			o.close()
			return nil, nil, err
		}
		return func(ctx context.Context, c config.Connection, state []byte) error {
			return o.ask(ctx, http.MethodPut, "/v1/connections/"+url.PathEscape(c.Name)+"/state", bytes.NewReader(state), nil)
		}, o.close, nil
	}
	if err != nil {
		return nil, nil, Environment(err)
	}
	done := func() { _ = st.Close() } // every write is durable already
	key, err := stateKeyOf(l.file, l.secrets, true)
	if err != nil {
		done()
		return nil, nil, Environment(err)
	}
	keeper, err := host.NewStateKeeper(st, key)
	if err != nil {
		done()
		return nil, nil, Environment(err)
	}
	return func(ctx context.Context, c config.Connection, state []byte) error {
		return keeper.Keep(ctx, host.Connection{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant}, state)
	}, done, nil
}

func (l *login) hostKnows(ctx context.Context, o *operator, targets []config.Connection) error {
	for _, c := range targets {
		err := o.ask(ctx, http.MethodPost, "/v1/connections/"+url.PathEscape(c.Name)+"/check", http.NoBody, nil)
		if errors.Is(err, store.ErrNotFound) {
			return Invalid(fmt.Errorf("the running host has no connection %q yet; have it read its configuration again (kill -HUP), then sign in", c.Name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
