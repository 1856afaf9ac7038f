package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/internal/refdoc"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// connectorsCommand is the parent of what is about connectors; alone it lists them.
func connectorsCommand(app App) *cobra.Command {
	var asJSON, asMarkdown bool
	var path string
	cmd := &cobra.Command{
		Use:   "connectors",
		Short: "List connectors: what they can do, and what starts flows",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			recs, err := connectorRecords(app, path)
			if err != nil {
				return err
			}
			switch w := cmd.OutOrStdout(); {
			case asJSON:
				return printJSON(w, map[string]any{"connectors": recs})
			case asMarkdown:
				return markdownConnectors(w, recs)
			default:
				return tableConnectors(w, recs)
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, schemas and all")
	cmd.Flags().BoolVar(&asMarkdown, "markdown", false, "print a table in Markdown")
	cmd.MarkFlagsMutuallyExclusive("json", "markdown")
	cmd.PersistentFlags().StringVarP(&path, "config", "c", defaultConfig, "configuration file, for the connectors installed beside it and those that it names")
	cmd.AddCommand(describeConnectorCommand(app, &path), connectorSchemaCommand(app, &path))
	cmd.AddCommand(installCommand(app, &path), listCommand(app, &path), verifyCommand(app, &path), removeCommand(app, &path))
	return cmd
}

func describeConnectorCommand(app App, path *string) *cobra.Command {
	var asJSON, asMarkdown bool
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a connector's configuration, actions and triggers, with examples",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rec, err := connectorRecordOf(app, *path, args[0])
			if err != nil {
				return err
			}
			switch w := cmd.OutOrStdout(); {
			case asJSON:
				return printJSON(w, rec)
			case asMarkdown:
				return rec.Markdown(w)
			default:
				return rec.Text(w)
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, schemas and all")
	cmd.Flags().BoolVar(&asMarkdown, "markdown", false, "print a page in Markdown")
	cmd.MarkFlagsMutuallyExclusive("json", "markdown")
	return cmd
}

// connectorRecords describes every connector, by name.
func connectorRecords(app App, path string) ([]refdoc.Connector, error) {
	known, err := connectorsOf(app, path)
	if err != nil {
		return nil, Environment(err)
	}
	recs := []refdoc.Connector{}
	var errs []error
	for _, name := range known.Connectors() {
		rec, err := connectorRecord(known, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		recs = append(recs, rec)
	}
	return recs, errors.Join(errs...)
}

func connectorRecordOf(app App, path, name string) (refdoc.Connector, error) {
	known, err := connectorsOf(app, path)
	if err != nil {
		return refdoc.Connector{}, Environment(err)
	}
	return connectorRecord(known, name)
}

func connectorRecord(known *connectors, name string) (refdoc.Connector, error) {
	d, err := connectorDescriptor(known, name)
	if err != nil {
		return refdoc.Connector{}, err
	}
	return refdoc.Describe(d, known.source(name).kind), nil
}

// connectorDescriptor is what a connector says of itself.
func connectorDescriptor(known *connectors, name string) (*connectorv1.DescribeResponse, error) {
	if known.source(name) == nil {
		names := known.Connectors()
		hint := yamldoc.DidYouMean(name, names)
		if hint == "" {
			hint = "there are " + strings.Join(names, ", ")
		}
		return nil, Invalid(fmt.Errorf("there is no connector %q; %s", name, hint))
	}
	d, ok := known.Connector(name)
	if !ok {
		return nil, Environment(fmt.Errorf("connector %s cannot be described: %w", name, known.Explain(name)))
	}
	return d, nil
}

func tableConnectors(w io.Writer, recs []refdoc.Connector) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVERSION\tSOURCE\tACTIONS\tTRIGGERS")
	for _, c := range recs {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.Name, c.Version, c.Source, orDash(actionNames(&c)), orDash(triggerNames(&c)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range recs {
		for _, s := range c.Retirements() {
			fmt.Fprintf(w, "\nnote: %s\n", s)
		}
	}
	fmt.Fprintln(w, "\ncasewire connectors describe NAME tells more")
	return nil
}

func markdownConnectors(w io.Writer, recs []refdoc.Connector) error {
	fmt.Fprintln(w, "| connector | version | source | what for | actions | triggers |\n|---|---|---|---|---|---|")
	for _, c := range recs {
		_, err := fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s | %s |\n", c.Name, c.Version, c.Source,
			strings.ReplaceAll(c.Summary, "|", `\|`), actionNames(&c), triggerNames(&c))
		if err != nil {
			return err
		}
	}
	return nil
}

func actionNames(c *refdoc.Connector) string {
	names := make([]string, len(c.Actions))
	for i, a := range c.Actions {
		names[i] = a.Name
	}
	return strings.Join(names, ", ")
}

func triggerNames(c *refdoc.Connector) string {
	names := make([]string, len(c.Triggers))
	for i, t := range c.Triggers {
		names[i] = t.Name
	}
	return strings.Join(names, ", ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
