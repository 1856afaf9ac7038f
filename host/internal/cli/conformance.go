package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/internal/conformance"
	"github.com/casewire/casewire/host/internal/launch"
)

// Bundled finds a bundled connector with vendors to work against, which last until done is called.
type Bundled func(ctx context.Context, name string) (sub conformance.Subject, done func(), err error)

// conformanceFlags are the flags of connector conformance.
type conformanceFlags struct {
	bundled, config, inputs string
	only                    []string
	writes, json            bool
}

// ConformanceCommand is connector conformance.
func ConformanceCommand(bundled Bundled) *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance BINARY [-- ARG...]",
		Short: "Judge a connector by the rules of the protocol",
		Long: "Starts a connector as a host would and holds it against every rule of the protocol (plugin/PROTOCOL.md), whatever language\n" +
			"it is written in. Without --config a configuration is made from the connector's schema and pointed at stand-ins that never\n" +
			"answer or always refuse; what needs a working vendor is then skipped. The exit code is 0 only if nothing failed.",
		Example: "  casewire connector conformance ./casewire-connector-hashes\n" +
			"  casewire connector conformance --config hashes.json --inputs inputs.json ./connector.py -- --quiet\n" +
			"  casewire connector conformance --bundled jira",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), bundled, args, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&f.bundled, "bundled", "", "judge a bundled connector, against fakes")
	cmd.Flags().StringVar(&f.config, "config", "", "JSON file with a connection's configuration, secrets in place, behind which a vendor answers")
	cmd.Flags().StringVar(&f.inputs, "inputs", "", "JSON file with an object of inputs by action, to use before the examples")
	cmd.Flags().BoolVar(&f.writes, "writes", false, "allow actions that change something at the vendor")
	cmd.Flags().StringSliceVar(&f.only, "only", nil, "run only these checks, or those of a group, such as invoke")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

func (f *conformanceFlags) run(ctx context.Context, bundled Bundled, args []string, stdout io.Writer) error {
	sub, done, err := f.subject(ctx, bundled, args)
	if err != nil {
		return err
	}
	defer done()
	sub.Env, sub.Only = launch.DefaultEnv(), f.only
	var progress func(conformance.Result)
	if !f.json {
		progress = func(r conformance.Result) { printResult(stdout, r) }
	}
	report, err := conformance.Run(ctx, sub, progress)
	if err != nil {
		return Invalid(err)
	}
	if f.json {
		if err := printJSON(stdout, report); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(stdout, "\n%s %s: %d passed, %d failed, %d skipped\n", report.Connector, report.Version, report.Passed, report.Failed, report.Skipped)
	}
	if !report.OK() {
		return Quiet(ExitFailure)
	}
	return nil
}

func (f *conformanceFlags) subject(ctx context.Context, bundled Bundled, args []string) (sub conformance.Subject, done func(), err error) {
	switch {
	case f.bundled != "" && (len(args) > 0 || f.config != "" || f.inputs != ""):
		return sub, nil, Invalid(errors.New("--bundled stands alone: it brings its own executable, configuration and inputs"))
	case f.bundled != "":
		sub, done, err := bundled(ctx, f.bundled)
		if err != nil {
			return sub, nil, Invalid(err)
		}
		return sub, done, nil
	case len(args) == 0:
		return sub, nil, Invalid(errors.New("name the executable of a connector, or a bundled one with --bundled"))
	}
	sub = conformance.Subject{Path: args[0], Args: args[1:], Writes: f.writes}
	if _, err := os.Stat(sub.Path); err != nil {
		return sub, nil, Environment(err)
	}
	if f.config != "" {
		if sub.Config, err = readJSON[json.RawMessage](f.config); err != nil {
			return sub, nil, err
		}
	}
	if f.inputs != "" {
		if sub.Inputs, err = readJSON[map[string]json.RawMessage](f.inputs); err != nil {
			return sub, nil, err
		}
	}
	return sub, func() {}, nil
}

func readJSON[T any](path string) (v T, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return v, Environment(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, Invalid(fmt.Errorf("%s: %w", path, err))
	}
	return v, nil
}

func printResult(w io.Writer, r conformance.Result) {
	fmt.Fprintf(w, "%-4s  %-24s %s\n", r.Status, r.ID, r.Rule)
	switch r.Status {
	case conformance.Fail:
		fmt.Fprintf(w, "      %s\n      → %s\n", r.Detail, r.Remedy)
	case conformance.Skip:
		fmt.Fprintf(w, "      because %s\n", r.Detail)
	case conformance.Pass:
	}
}
