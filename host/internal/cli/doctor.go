package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Finding is one thing that the doctor looked at.
type Finding struct {
	Area   string `json:"area"`           // config, secrets, store, host, webhook, connector, connection
	Name   string `json:"name,omitempty"` // of the connector or connection
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warning, failed, skipped
	// Summary says what was found, Remedy what to do about it.
	Summary string `json:"summary,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	// Sandbox is what a connector process is held to.
	Sandbox *host.Enforced `json:"sandbox,omitempty"`
}

// The statuses.
const (
	statusOK      = "ok"
	statusWarning = "warning"
	statusFailed  = "failed"
	statusSkipped = "skipped"
)

func doctorCommand(app App) *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try everything that a host needs: vendors, permissions, data file, webhooks, sandbox",
		Long: `Doctor checks the configuration, starts each connector, and has it try each connection: the token, the permissions,
whether the vendor can be reached. It changes nothing at any vendor, and can be used while a host runs. A connection for which
something is kept, such as a sign-in, is then tried by the host itself: a second user of a sign-in could end it for both.

Exit code 1 says that something failed, 2 that the configuration has mistakes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{app: app, path: path}
			if err := d.examine(cmd.Context(), cmd.ErrOrStderr()); err != nil {
				return err
			}
			return d.tell(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// doctor collects findings.
type doctor struct {
	app      App
	path     string
	file     *config.File
	secrets  *config.Resolved
	running  bool // a host works on the data file
	findings []Finding
}

func (d *doctor) add(f Finding) { d.findings = append(d.findings, f) }

// examine looks at everything. An error means that it could not begin.
func (d *doctor) examine(ctx context.Context, stderr io.Writer) error {
	known := newConnectors(d.app)
	file, diags := config.Load(d.path, known)
	if err := report(stderr, diags, "; nothing was tried"); err != nil {
		return err
	}
	d.file = file
	d.add(Finding{Area: "config", Check: "config", Status: statusOK, Summary: fmt.Sprintf("%s: %s, %s", d.path, count(len(file.Connections), "connection"), count(len(file.Flows), "flow"))})
	var missing diag.List
	d.secrets, missing = file.ResolveSecrets(ctx, diag.Warning)
	for _, m := range missing {
		d.add(Finding{Area: "secrets", Check: m.Path, Status: statusFailed, Summary: m.Summary, Remedy: m.Hint})
	}
	d.store(ctx)
	d.webhooks(ctx, known)
	if err := d.gap(ctx, known, time.Now()); err != nil {
		d.add(Finding{Area: "store", Check: "events", Status: statusFailed, Summary: err.Error()})
	}
	return d.connections(ctx, known)
}

// lowSpace is when a disk is about to be full: a night of alerts.
const lowSpace = 512 << 20

// store looks at the data file: can it be read, is there room, does a host hold it.
func (d *doctor) store(ctx context.Context) {
	path := d.file.Store.Path
	d.space(filepath.Dir(path))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		d.add(Finding{Area: "store", Check: "data file", Status: statusSkipped, Summary: path + " is not there yet; casewire run makes it"})
		return
	}
	st, err := sqlite.OpenReadOnly(ctx, path)
	var stats store.Stats
	if err == nil {
		stats, err = st.Stats(ctx)
		err = errors.Join(err, st.Close())
	}
	if err != nil {
		d.add(Finding{Area: "store", Check: "data file", Status: statusFailed, Summary: err.Error(), Remedy: "mend that, or move the file away to begin anew"})
		return
	}
	f := Finding{Area: "store", Check: "data file", Status: statusOK, Summary: path + " can be read"}
	if stats.DeadLetters > 0 {
		f.Status, f.Summary = statusWarning, fmt.Sprintf("%s can be read; %s wait for somebody", path, count(stats.DeadLetters, "dead letter"))
		f.Remedy = "casewire deadletters lists them"
	}
	d.add(f)
	rw, err := sqlite.Open(ctx, path, sqlite.Options{})
	switch {
	case errors.Is(err, sqlite.ErrLocked):
		d.running = true
		d.add(Finding{Area: "host", Check: "running", Status: statusOK, Summary: "a host works on the data file"})
	case err != nil:
		d.add(Finding{Area: "store", Check: "writing", Status: statusFailed, Summary: err.Error(), Remedy: "see who owns the file and its directory"})
	default:
		if err := rw.Close(); err != nil {
			d.add(Finding{Area: "store", Check: "writing", Status: statusFailed, Summary: err.Error()})
		}
		d.add(Finding{Area: "host", Check: "running", Status: statusSkipped, Summary: "no host works on the data file"})
	}
}

func (d *doctor) space(dir string) {
	free, err := freeSpace(dir)
	f := Finding{Area: "store", Check: "free space", Status: statusOK, Summary: fmt.Sprintf("%d MiB free in %s", free>>20, dir)}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		f.Status, f.Summary = statusSkipped, "not known on this system"
	case err != nil:
		f.Status, f.Summary = statusFailed, fmt.Sprintf("%s: %v", dir, err)
	case free < lowSpace:
		f.Status, f.Remedy = statusFailed, "make room: alerts that cannot be written are not acknowledged, and their vendors will give up"
	}
	d.add(f)
}

// webhooks asks the public address for itself, as a vendor does when it is subscribed to.
func (d *doctor) webhooks(ctx context.Context, known *connectors) {
	for _, c := range d.file.Connections {
		desc, ok := known.Connector(c.Connector)
		if !ok {
			continue
		}
		for _, t := range desc.GetTriggers() {
			param := t.GetWebhook().GetHandshakeQuery()
			if param == "" || !d.answered(c.Name, t.GetName()) {
				continue
			}
			f := Finding{Area: "webhook", Name: c.Name, Check: t.GetName(), Status: statusSkipped}
			switch {
			case d.file.HTTP.PublicURL == "":
				f.Summary = "there is no http.public_url: vendors cannot reach this host, and it polls only"
			case !d.running:
				f.Summary = "no host is running to answer at " + d.file.HTTP.PublicURL
			default:
				f.Status, f.Summary, f.Remedy = handshake(ctx, d.file.HTTP.PublicURL+"/hooks/"+url.PathEscape(c.Name)+"/"+url.PathEscape(t.GetName()), param)
			}
			d.add(f)
		}
	}
}

// answered says whether a flow answers a trigger: of others there is no webhook.
func (d *doctor) answered(connection, trigger string) bool {
	for _, f := range d.file.Flows {
		for _, t := range f.Triggers {
			if t.Connection == connection && t.Trigger == trigger {
				return true
			}
		}
	}
	return false
}

// handshake sends a token and expects it back.
func handshake(ctx context.Context, at, param string) (status, summary, remedy string) {
	const remedyText = "see that the proxy in front of this host passes /hooks/ on with its query, and that its certificate is valid"
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	token := rand.Text()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at+"?"+url.Values{param: {token}}.Encode(), http.NoBody)
	if err != nil {
		return statusFailed, err.Error(), ""
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return statusFailed, fmt.Sprintf("%s cannot be reached from here: %v", at, errors.Unwrap(err)), remedyText
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != token {
		return statusFailed, fmt.Sprintf("%s answers %s instead of the handshake's token", at, resp.Status), remedyText
	}
	return statusOK, at + " answers the handshake", ""
}

// connections has each connector try its connections, in processes of its own.
func (d *doctor) connections(ctx context.Context, known *connectors) error {
	keeper := d.keeper(ctx)
	defer keeper.close()
	var conns []catalog.Connection
	for _, c := range d.file.Connections {
		cfg, ok := d.secrets.Configs[c.Name]
		if !ok {
			d.add(Finding{Area: "connection", Name: c.Name, Check: "config", Status: statusSkipped, Summary: "a secret of it is missing"})
			continue
		}
		desc, _ := known.Connector(c.Connector)
		to := catalog.Connection{Name: c.Name, Connector: c.Connector, Tenant: c.Tenant, Config: cfg, Hooks: d.hooks(ctx, c.Name, desc)}
		if keeper.give(ctx, &to) {
			conns = append(conns, to)
		}
	}
	if len(conns) == 0 {
		return nil
	}
	limits := host.Limits{Memory: d.file.Plugins.Memory, Files: d.file.Plugins.Files}
	cat, err := catalog.New(catalog.Options{
		Connectors: known.all(), HostVersion: d.app.Version, Grace: time.Second, Redact: d.secrets.Redactor.String,
		Sandbox: sandbox(d.file.Plugins), Limits: limits.OrDefault(host.DefaultLimits),
	})
	if err != nil {
		return Environment(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		_ = cat.Stop(ctx) // what is left behind ends with this process
	}()
	cat.OnState(keeper.keep)
	outcomes, err := cat.Configure(ctx, conns)
	if err != nil {
		return Environment(err)
	}
	used := map[string]bool{}
	for _, o := range outcomes {
		used[o.Connector] = true
	}
	for _, s := range cat.Status() {
		if used[s.Connector] {
			d.add(connectorFinding(s))
		}
	}
	for _, o := range outcomes {
		d.connection(ctx, cat, o)
	}
	return nil
}

func connectorFinding(s catalog.Status) Finding {
	f := Finding{Area: "connector", Name: s.Connector, Check: "process", Status: statusOK, Sandbox: s.Enforced}
	switch {
	case s.State != catalog.StateReady:
		f.Status, f.Summary = statusFailed, "it does not start"
		if s.Err != nil {
			f.Summary += ": " + s.Err.Error()
		}
	case s.Enforced == nil:
		f.Summary = "version " + s.Version + "; not confined: it is not a process of this host"
	case s.Enforced.Mode == host.SandboxOff:
		f.Status, f.Summary = statusWarning, "version "+s.Version+"; confined: "+s.Enforced.String()
		f.Remedy = "plugins.sandbox is off; auto confines what can be confined"
	case len(s.Enforced.Missing) > 0:
		f.Status, f.Summary = statusWarning, "version "+s.Version+"; confined: "+s.Enforced.String()
		f.Remedy = "plugins.sandbox: strict refuses to start what cannot be confined; a newer kernel can do more"
	default:
		f.Summary = "version " + s.Version + "; confined: " + s.Enforced.String()
	}
	return f
}

// hooks are those of the host that usually runs; where there was none yet, others, as good as any for a try.
func (d *doctor) hooks(ctx context.Context, connection string, desc *connectorv1.DescribeResponse) []catalog.Hook {
	var hooks []catalog.Hook
	for _, t := range desc.GetTriggers() {
		if t.GetWebhook() == nil {
			continue
		}
		hook := catalog.Hook{Trigger: t.GetName(), Secret: plugin.NewSecret(rand.Text())}
		if d.file.HTTP.PublicURL != "" {
			hook.URL = d.file.HTTP.PublicURL + "/hooks/" + connection + "/" + t.GetName()
		}
		if st, err := sqlite.OpenReadOnly(ctx, d.file.Store.Path); err == nil {
			if kept, err := st.Get(ctx, "hook-secret/"+connection+"/"+t.GetName()); err == nil && len(kept) > 0 {
				hook.Secret = plugin.NewSecret(string(kept))
			}
			_ = st.Close() // it was only read
		}
		d.secrets.Redactor.Add(hook.Secret)
		hooks = append(hooks, hook)
	}
	return hooks
}

// connection runs the live probes of one connection.
func (d *doctor) connection(ctx context.Context, cat *catalog.Catalog, o catalog.Outcome) {
	if o.Err != nil {
		d.add(Finding{Area: "connection", Name: o.Connection, Check: "config", Status: statusFailed, Summary: o.Err.Error()})
		return
	}
	probes, err := cat.Check(ctx, o.Connection)
	if e := plugin.FromError(err); e != nil {
		f := Finding{Area: "connection", Name: o.Connection, Check: "probes", Status: statusFailed, Summary: e.Error()}
		if strings.Contains(e.Message, "has no checks") {
			f.Status = statusSkipped
		}
		d.add(f)
		return
	}
	for _, p := range probes {
		d.probe(o.Connection, httpapi.NewProbeRecord(p))
	}
}

func (d *doctor) probe(connection string, p httpapi.ProbeRecord) {
	d.add(Finding{
		Area: "connection", Name: connection, Check: p.Name, Status: p.Status,
		Summary: d.secrets.Redactor.String(p.Summary), Remedy: d.secrets.Redactor.String(p.Remedy),
	})
}

// tell prints the findings, and fails if any of them did.
func (d *doctor) tell(w io.Writer, asJSON bool) error {
	failed := slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Status == statusFailed })
	if asJSON {
		if err := printJSON(w, map[string]any{"ok": !failed, "findings": d.findings}); err != nil {
			return err
		}
	} else if err := d.table(w); err != nil {
		return err
	}
	if failed {
		return Quiet(ExitFailure)
	}
	return nil
}

func (d *doctor) table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	counts := map[string]int{}
	for _, f := range d.findings {
		counts[f.Status]++
		what := f.Check
		if f.Name != "" {
			what = f.Name + ": " + f.Check
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", f.Status, f.Area, what, oneLine(f.Summary))
		if f.Remedy != "" && f.Status != statusOK {
			fmt.Fprintf(tw, "\t\t\t→ %s\n", oneLine(f.Remedy))
		}
	}
	fmt.Fprintf(tw, "%d ok, %s, %d failed, %d skipped\n", counts[statusOK], count(counts[statusWarning], "warning"), counts[statusFailed], counts[statusSkipped])
	return tw.Flush()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
