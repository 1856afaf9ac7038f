package scaffold

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/internal/cli"
)

// Command is connector new. Version is that of the binary; what `go install` built knows it better.
func Command(version string) *cobra.Command {
	o := Options{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok && !Released(version) {
		o.Version = info.Main.Version
	}
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Write a new connector, with tests, that works as it stands",
		Long: "Writes a connector in Go or Python that has an action that reads, one that makes something exist once per key, a check,\n" +
			"tests and a README. It passes its tests and connector conformance before a line of it is changed.",
		Example: "  casewire connector new virus-check\n  casewire connector new virus-check --lang python --dir connectors/virus-check",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			unreleased := o.Lang == "go" && o.Replace == "" && !Released(o.Version)
			if unreleased {
				o.Replace = Checkout()
			}
			names, err := Write(o)
			if err != nil {
				return cli.Invalid(err)
			}
			dir := o.Dir
			if dir == "" {
				dir = o.Name
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\nREADME.md says how to test, build, judge and use it.\n", dir, strings.Join(names, ", "))
			switch {
			case unreleased && o.Replace != "":
				fmt.Fprintf(cmd.OutOrStdout(), "It is built against the checkout %s, where this casewire lies; --replace names another.\n", o.Replace)
			case unreleased:
				fmt.Fprintln(cmd.OutOrStdout(), "This casewire is no release that Go could fetch: build against a checkout of it with --replace DIR, "+
					"or let README.md's first command fetch the latest release.")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Lang, "lang", "go", "language: "+strings.Join(Langs(), " or "))
	cmd.Flags().StringVar(&o.Dir, "dir", "", "directory to write it to (default NAME)")
	cmd.Flags().StringVar(&o.Module, "module", "", "path of the Go module (default example.com/casewire-connector-NAME)")
	cmd.Flags().StringVar(&o.Replace, "replace", "", "checkout of Casewire to build a Go connector against, instead of a release (default that which casewire was made in, if it lies there)")
	return cmd
}
