package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// exactly asks for one argument, named as in the command's usage.
func exactly(name, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return fmt.Errorf("%s needs %s: %s %s", cmd.CommandPath(), what, cmd.CommandPath(), name)
		}
		return fmt.Errorf("%s takes one %s, not %d", cmd.CommandPath(), name, len(args))
	}
}

// invalidArgs makes wrong arguments, here and below, an invalid input, and suggests commands for a name that is none.
func invalidArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil {
				return nil
			}
			if len(args) > 0 && c.HasAvailableSubCommands() {
				c.SuggestionsMinimumDistance = 2
				if near := c.SuggestionsFor(args[0]); len(near) > 0 {
					return Invalid(fmt.Errorf("%w; did you mean %q?", err, c.CommandPath()+" "+near[0]))
				}
			}
			return Invalid(fmt.Errorf("%w; see %q", err, c.CommandPath()+" --help"))
		}
	}
	for _, c := range cmd.Commands() {
		invalidArgs(c)
	}
}

// oneOf checks a flag that takes one of a few words, or none.
func oneOf(flag, value string, words ...string) error {
	if value == "" || slices.Contains(words, value) {
		return nil
	}
	return Invalid(fmt.Errorf("--%s %q is not one of %s", flag, value, strings.Join(words, ", ")))
}

// atLeastOne checks a flag that limits a list.
func atLeastOne(flag string, n int) error {
	if n >= 1 {
		return nil
	}
	return Invalid(fmt.Errorf("--%s %d: give a number from 1", flag, n))
}

// count writes a number of things: one in singular.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
