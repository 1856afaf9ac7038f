// Package cli is the casewire command: flags, files, exit codes and what people see. What it prints as JSON is stable.
//
// Exit codes: 0 ok, 1 failure, 2 invalid input (flags, configuration, flows), 3 environment (a port in use, a file that
// cannot be opened).
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/diag"
)

// The exit codes.
const (
	ExitOK          = 0
	ExitFailure     = 1
	ExitInvalid     = 2
	ExitEnvironment = 3
)

// App is what a binary brings along.
type App struct {
	Version string
	// Connectors are the bundled ones.
	Connectors map[string]host.Connector
	// Commands are added to the built-in ones.
	Commands []*cobra.Command
}

// exitError carries an exit code. A quiet one has been told already.
type exitError struct {
	code  int
	err   error
	quiet bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Invalid marks err as the user's input being wrong.
func Invalid(err error) error { return &exitError{code: ExitInvalid, err: err} }

// Environment marks err as the machine's.
func Environment(err error) error { return &exitError{code: ExitEnvironment, err: err} }

// Quiet fails without another word: what there is to say has been said.
func Quiet(code int) error { return &exitError{code: code, err: errors.New("failed"), quiet: true} }

// Main runs the command and returns its exit code.
func Main(app App, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(app)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var e *exitError
	if !errors.As(err, &e) {
		// What cobra itself finds wrong is a wrong command line.
		e = &exitError{code: ExitFailure, err: err}
	}
	if !e.quiet {
		fmt.Fprintf(stderr, "casewire: %v\n", err)
	}
	return e.code
}

func newRoot(app App) *cobra.Command {
	root := &cobra.Command{
		Use:           "casewire",
		Short:         "Each Microsoft Sentinel alert becomes exactly one case",
		Version:       app.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("casewire {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Invalid(fmt.Errorf("%w; see %q", err, cmd.CommandPath()+" --help"))
	})
	root.AddCommand(runCommand(app), doctorCommand(app), validateCommand(app), flowsCommand(app), queryCommand(app), runsCommand(), deadLettersCommand(), replayCommand(app), stateCommand(app), authCommand(app), connectorsCommand(app), schemaCommand(app), versionCommand(app))
	root.AddCommand(app.Commands...)
	root.InitDefaultHelpCmd()
	noTopic(root)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if !c.Runnable() { // or cobra would show its help whatever follows
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
	invalidArgs(root)
	return root
}

// noTopic has help say what it does not know, as every other command does.
func noTopic(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			continue
		}
		help := c.Run
		c.Run, c.RunE = nil, func(cmd *cobra.Command, args []string) error {
			if found, rest, err := root.Find(args); err != nil || len(args) > 0 && found == root || len(rest) > 0 && found.HasSubCommands() {
				return Invalid(fmt.Errorf("there is no help on %q; see \"casewire --help\"", strings.Join(args, " ")))
			}
			help(cmd, args)
			return nil
		}
	}
}

// report prints findings and, if any of them is an error, how many there are and what that means.
func report(w io.Writer, diags diag.List, so string) error {
	for _, d := range diags {
		fmt.Fprintln(w, d)
	}
	if !diags.HasErrors() {
		return nil
	}
	n := 0
	for _, d := range diags {
		if d.Severity == diag.Error {
			n++
		}
	}
	fmt.Fprintf(w, "%s%s\n", count(n, "mistake"), so)
	return Quiet(ExitInvalid)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
