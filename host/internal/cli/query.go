package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// queryOptions are the flags of casewire query.
type queryOptions struct {
	config, file, action string
	params, fields       []string
	normalize            string
	timespan, wait       string
	split, resource      string
	workspaces           []string
	maxRows              int
	output               string
	json                 bool
	csvSafe              bool
	allowPartial         bool
	chart                bool
	timeout              time.Duration

	color bool // standard output is a terminal
	width int  // of it; zero: none
}

// maxQuery bounds the text of a query, as connectors do.
const maxQuery = 1 << 20

func queryCommand(app App) *cobra.Command {
	o := &queryOptions{}
	cmd := &cobra.Command{
		Use:   "query CONNECTION [QUERY]",
		Short: "Run a query, such as KQL, and print its rows",
		Long: `Query runs a query through a connection and prints the rows as they come. No host has to run, and one that does is not
disturbed. Without QUERY, and without -f, the query is read from standard input.

Values are handed over with --param and never pasted into the text: NAME=TEXT, or NAME:TYPE=VALUE with a type of string,
long, int, real, decimal, bool, datetime, timespan, guid or dynamic (JSON).

Rows can have other names than their columns: --map FIELD=COLUMN, where src_endpoint.ip is a field inside another and
AdditionalEventData.MFAUsed a value inside a column, or --normalize with the name of a bundled map. A column that is not
there is null, and a warning.

Tables fit the terminal; what would not fit is written as a record for each row. CSV is as RFC 4180 has it; spreadsheets
take cells that begin with =, +, - or @ for formulas, which --csv-safe prevents with a quote mark in front. In CSV, null and
the empty text look the same; JSON tells them apart. A query that ends in render is drawn as a chart on a terminal, or
anywhere with --chart.

Exit code 1 says that the query failed, 2 that the query, a flag or the configuration is wrong, 3 that the connector could
not be started.`,
		Example: `  casewire query logs 'SecurityAlert | take 5'
  casewire query logs -f roots.kql --param acct=123456789012 --timespan PT24H -o csv > roots.csv
  casewire query logs 'AWSCloudTrail | where EventName == "ConsoleLogin"' --timespan P1D --normalize aws_console_login -o json
  casewire query logs 'SigninLogs | summarize count() by bin(TimeGenerated, 1h) | render timechart' --timespan P1D`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.json {
				o.output = cmp.Or(o.output, "json")
			}
			o.output = cmp.Or(o.output, "table")
			text, err := o.text(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			o.terminal(cmd.OutOrStdout())
			return o.run(cmd.Context(), app, args[0], text, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", defaultConfig, "configuration file")
	f.StringVarP(&o.file, "file", "f", "", "file with the query; - is standard input")
	f.StringArrayVarP(&o.params, "param", "p", nil, "a value for the query: NAME=TEXT or NAME:TYPE=VALUE; can be repeated")
	f.StringArrayVar(&o.fields, "map", nil, "a field of the rows and its column: FIELD=COLUMN; can be repeated")
	f.StringVar(&o.normalize, "normalize", "", "bundled map of columns to fields, such as aws_console_login")
	f.StringVar(&o.timespan, "timespan", "", "ISO 8601 duration or interval, such as PT24H")
	f.IntVar(&o.maxRows, "max-rows", 10_000, "most rows; more is an error unless --allow-partial")
	f.StringVarP(&o.output, "output", "o", "", "table, json, ndjson or csv; default table")
	f.BoolVar(&o.json, "json", false, "print JSON: the same as -o json")
	f.BoolVar(&o.csvSafe, "csv-safe", false, "keep spreadsheets from taking a cell for a formula")
	f.BoolVar(&o.allowPartial, "allow-partial", false, "take what there is when the result is cut")
	f.BoolVar(&o.chart, "chart", false, "draw what the query renders even where there is no terminal")
	f.StringVar(&o.wait, "wait", "", "how long the service may work on the query")
	f.StringVar(&o.split, "split", "", "auto, off or force: whether a result that is too large is asked for in intervals of time")
	f.StringVar(&o.resource, "resource", "", "resource to query in place of the connection's workspace")
	f.StringArrayVar(&o.workspaces, "workspace", nil, "a further workspace to query across; can be repeated")
	f.StringVar(&o.action, "action", "", "action to call; default the connector's query")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "when to give up")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(queryOutputs, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var queryOutputs = []string{"table", "json", "ndjson", "csv"}

// terminal learns what standard output is.
func (o *queryOptions) terminal(w io.Writer) {
	f, ok := w.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		return
	}
	o.color, o.width = true, terminalWidth(f)
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		o.width = n
	}
	if o.width <= 0 {
		o.width = 80
	}
}

// text finds the query.
func (o *queryOptions) text(args []string, stdin io.Reader) (string, error) {
	if err := errors.Join(oneOf("output", o.output, queryOutputs...), oneOf("split", o.split, "auto", "off", "force"), atLeastOne("max-rows", o.maxRows)); err != nil {
		return "", Invalid(err)
	}
	if len(args) == 2 {
		if o.file != "" {
			return "", Invalid(errors.New("give the query or -f, not both"))
		}
		return args[1], nil
	}
	in, name := stdin, "standard input"
	if o.file != "" && o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return "", Environment(err)
		}
		defer f.Close()
		in, name = f, o.file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxQuery+1))
	if err != nil {
		return "", Environment(fmt.Errorf("read the query: %w", err))
	}
	switch {
	case len(b) > maxQuery:
		return "", Invalid(fmt.Errorf("the query in %s has more than %d bytes", name, maxQuery))
	case strings.TrimSpace(string(b)) == "":
		return "", Invalid(fmt.Errorf("there is no query in %s", name))
	}
	return string(b), nil
}

// run queries once, and again when the service asks for a pause before there was any row.
func (o *queryOptions) run(ctx context.Context, app App, connection, text string, stdout, stderr io.Writer) error {
	params, err := queryParams(o.params)
	if err != nil {
		return Invalid(err)
	}
	fields, err := queryFields(o.fields)
	if err != nil {
		return Invalid(err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	conn, err := Connect(ctx, app, o.config, connection, "", stderr)
	if err != nil {
		return err
	}
	defer conn.Close()
	action, err := queryAction(conn.desc, o.action)
	if err != nil {
		return Invalid(fmt.Errorf("connection %s: %w", connection, err))
	}
	input, err := o.input(action, text, params, fields)
	if err != nil {
		return Invalid(err)
	}
	sink := o.sink(stdout, text)
	tell := newTicker(stderr)
	defer tell.clear()
	for try := 1; ; try++ {
		out, err := conn.Invoke(ctx, Call{Action: action.GetName(), Input: input, Attempt: 1}, func(m *connectorv1.InvokeResponse) error {
			switch k := m.GetKind().(type) {
			case *connectorv1.InvokeResponse_Rows:
				tell.rows += uint64(k.Rows.GetCount())
				tell.show("")
				return sink.chunk(k.Rows.GetNdjson())
			case *connectorv1.InvokeResponse_Progress:
				tell.show(k.Progress.GetMessage())
			}
			return nil
		})
		tell.clear()
		if err == nil {
			return o.finish(sink, out, stderr)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stopped after %s", count(int(tell.rows), "row"))
		}
		e := plugin.FromError(err)
		pause := min(e.RetryAfter, time.Minute)
		if tell.rows == 0 && try < 4 && (e.Class() == plugin.ClassThrottled || e.Class() == plugin.ClassUnavailable && e.RetryAfter > 0) {
			fmt.Fprintf(stderr, "the service asks for a pause: trying again in %s\n", pause.Round(time.Second))
			if sleep(ctx, pause) {
				continue
			}
		}
		return queryFailed(conn, e)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, time.Second))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// finish closes the output and says what else there is to know.
func (o *queryOptions) finish(sink *querySink, out json.RawMessage, stderr io.Writer) error {
	var sum querySummary
	if err := json.Unmarshal(out, &sum); err != nil {
		return fmt.Errorf("the connector's summary: %w", err)
	}
	if err := sink.end(out, &sum); err != nil {
		return err
	}
	if sum.Partial {
		fmt.Fprintf(stderr, "the result is only a part: it was cut after %s", count(sink.rows, "row"))
		if sum.PartialReason != "" {
			fmt.Fprintf(stderr, ": %s", printable(sum.PartialReason))
		}
		fmt.Fprintln(stderr)
	}
	for _, warning := range sum.Warnings {
		fmt.Fprintf(stderr, "warning: %s\n", printable(warning))
	}
	return nil
}

// queryFailed gives an error its exit code.
func queryFailed(conn *Connected, e *plugin.Error) error {
	err := errors.New(conn.Redact(e.Error()))
	switch e.Class() {
	case plugin.ClassInvalid, plugin.ClassConfig:
		return Invalid(err)
	case plugin.ClassThrottled, plugin.ClassTimeout, plugin.ClassUnavailable, plugin.ClassUncertain, plugin.ClassConflict,
		plugin.ClassAuth, plugin.ClassDenied, plugin.ClassNotFound, plugin.ClassTooLarge, plugin.ClassBug, plugin.ClassCancelled:
	}
	return err
}

// queryParams reads --param.
func queryParams(flags []string) (map[string]any, error) {
	params := map[string]any{}
	for _, f := range flags {
		name, value, ok := strings.Cut(f, "=")
		name, typ, typed := strings.Cut(name, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("--param %q: write NAME=TEXT or NAME:TYPE=VALUE", f)
		}
		if _, twice := params[name]; twice {
			return nil, fmt.Errorf("--param %s is given twice", name)
		}
		switch {
		case !typed:
			params[name] = value
		case typ == "dynamic" || typ == "json":
			if !json.Valid([]byte(value)) {
				return nil, fmt.Errorf("--param %s: %q is no JSON", name, value)
			}
			params[name] = map[string]any{"type": "dynamic", "value": json.RawMessage(value)}
		default:
			params[name] = map[string]any{"type": typ, "value": value}
		}
	}
	return params, nil
}

// queryFields reads --map.
func queryFields(flags []string) (map[string]string, error) {
	fields := map[string]string{}
	for _, f := range flags {
		name, column, ok := strings.Cut(f, "=")
		if !ok || name == "" || column == "" {
			return nil, fmt.Errorf("--map %q: write FIELD=COLUMN", f)
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("--map %s is given twice", name)
		}
		fields[name] = column
	}
	return fields, nil
}

// queryAction finds what to call: an action that streams rows and takes a query.
func queryAction(desc *connectorv1.DescribeResponse, name string) (*connectorv1.Action, error) {
	var fit []*connectorv1.Action
	var names []string
	for _, a := range desc.GetActions() {
		if a.GetRows() && inputHas(a, "query") {
			fit, names = append(fit, a), append(names, a.GetName())
		}
	}
	for _, a := range fit {
		if a.GetName() == cmp.Or(name, "query") || name == "" && len(fit) == 1 {
			return a, nil
		}
	}
	switch {
	case len(fit) == 0:
		return nil, fmt.Errorf("the connector %s has no action that takes a query and gives rows", desc.GetName())
	case name != "":
		return nil, fmt.Errorf("the connector %s has no action %q that takes a query; there are %s", desc.GetName(), name, strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("the connector %s has several actions that take a query; say which by --action: %s", desc.GetName(), strings.Join(names, ", "))
}

func inputHas(a *connectorv1.Action, property string) bool {
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	return json.Unmarshal(a.GetInputSchema(), &schema) == nil && schema.Properties[property] != nil
}

// input makes the action's input of the flags. A flag that the action does not know is refused.
func (o *queryOptions) input(a *connectorv1.Action, text string, params map[string]any, fields map[string]string) ([]byte, error) {
	in := map[string]any{"query": text}
	given := map[string]any{}
	if len(params) > 0 {
		given["params"] = params
	}
	for name, v := range map[string]string{"timespan": o.timespan, "wait": o.wait, "split": o.split, "resource": o.resource, "normalize": o.normalize} {
		if v != "" {
			given[name] = v
		}
	}
	if len(fields) > 0 {
		given["map"] = fields
	}
	if len(o.workspaces) > 0 {
		given["workspaces"] = o.workspaces
	}
	if o.allowPartial {
		given["allow_partial"] = true
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !inputHas(a, name) {
			return nil, fmt.Errorf("the action %s takes no %s", a.GetName(), name)
		}
		in[name] = given[name]
	}
	if inputHas(a, "max_rows") {
		in["max_rows"] = o.maxRows
	}
	if inputHas(a, "render") {
		in["render"] = true
	}
	return json.Marshal(in)
}

// ticker tells on a terminal how far a query is.
type ticker struct {
	w     io.Writer // nil: it is no terminal
	begun time.Time
	last  time.Time
	rows  uint64
	shown bool
}

func newTicker(stderr io.Writer) *ticker {
	t := &ticker{begun: time.Now()}
	if f, ok := stderr.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		t.w = stderr
	}
	return t
}

func (t *ticker) show(message string) {
	now := time.Now()
	if t.w == nil || now.Sub(t.last) < 100*time.Millisecond || now.Sub(t.begun) < 500*time.Millisecond {
		return
	}
	t.last, t.shown = now, true
	if message == "" {
		message = count(int(t.rows), "row")
	}
	fmt.Fprintf(t.w, "\r\x1b[K%s, %s", clip(printable(message), 60), now.Sub(t.begun).Round(100*time.Millisecond))
}

func (t *ticker) clear() {
	if t.shown {
		fmt.Fprint(t.w, "\r\x1b[K")
		t.shown = false
	}
}
