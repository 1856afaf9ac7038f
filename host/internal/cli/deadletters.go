package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/httpapi"
	"github.com/casewire/casewire/host/store"
)

var letterKinds = []string{"run", "event", "hint"}

func deadLettersCommand() *cobra.Command {
	var f storeFlags
	var filter store.DeadLetterFilter
	cmd := &cobra.Command{
		Use:   "deadletters",
		Short: "List what will not be tried again by itself: runs, events that could not be read, hints that led nowhere",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(oneOf("kind", filter.Kind, letterKinds...), atLeastOne("limit", filter.Limit)); err != nil {
				return err
			}
			return f.read(cmd.Context(), func(ctx context.Context, st store.Store) error {
				dls, err := st.ListDeadLetters(ctx, filter)
				if err != nil {
					return err
				}
				recs := make([]httpapi.DeadLetterRecord, len(dls))
				for i, d := range dls {
					recs[i] = httpapi.NewDeadLetterRecord(d)
				}
				if f.json {
					return printJSON(cmd.OutOrStdout(), map[string]any{"dead_letters": recs})
				}
				return tableDeadLetters(cmd.OutOrStdout(), recs)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&filter.Flow, "flow", "", "only those of this flow")
	cmd.Flags().StringVar(&filter.Kind, "kind", "", "only this kind: run, event or hint")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(letterKinds, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&filter.All, "all", false, "those that were dealt with, too")
	cmd.Flags().IntVar(&filter.Limit, "limit", 100, "most to list")
	cmd.AddCommand(deadLettersShowCommand(), deadLettersDropCommand())
	return cmd
}

func deadLettersShowCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one dead letter whole, with what was received",
		Args:  exactly("ID", "the id of a dead letter"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.read(cmd.Context(), func(ctx context.Context, st store.Store) error {
				dls, err := st.ListDeadLetters(ctx, store.DeadLetterFilter{ID: args[0], All: true, Limit: 1})
				if err != nil {
					return err
				}
				if len(dls) == 0 {
					return Invalid(fmt.Errorf("there is no dead letter %q; casewire deadletters lists them", args[0]))
				}
				rec := httpapi.NewDeadLetterRecord(dls[0])
				if f.json {
					return printJSON(cmd.OutOrStdout(), rec)
				}
				return showDeadLetter(cmd.OutOrStdout(), rec)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func tableDeadLetters(w io.Writer, dls []httpapi.DeadLetterRecord) error {
	if len(dls) == 0 {
		fmt.Fprintln(w, "no dead letters")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tKIND\tFLOW\tSTEP\tSUBJECT\tCREATED\tREASON")
	for _, d := range dls {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Kind, d.Flow, d.Step, clip(d.Subject, 40), stamp(d.Created), clip(d.Reason, 90))
	}
	return t.Flush()
}

func showDeadLetter(w io.Writer, d httpapi.DeadLetterRecord) error {
	for _, l := range [][2]string{
		{"id", d.ID},
		{"kind", d.Kind},
		{"run", d.Run},
		{"flow", d.Flow},
		{"step", d.Step},
		{"from", d.Connection + "/" + d.Trigger},
		{"subject", indent(d.Subject, "         ")},
		{"created", stamp(d.Created)},
		{"class", d.Class},
		{"reason", indent(d.Reason, "         ")},
		{"dealt", d.Resolution},
	} {
		if l[1] != "" && l[1] != "/" {
			fmt.Fprintf(w, "%-8s %s\n", l[0], l[1])
		}
	}
	if d.Raw != "" {
		fmt.Fprintf(w, "\nreceived:\n%s\n", plain(d.Raw))
	}
	return nil
}
