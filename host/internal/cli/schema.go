package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/internal/refdoc"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// schemaCommand prints JSON Schemas of the files that people write.
func schemaCommand(app App) *cobra.Command {
	writers := map[string]func([]*connectorv1.DescribeResponse) []byte{"config": config.Schema, "flow": flow.Schema}
	var path string
	cmd := &cobra.Command{
		Use:   "schema config|flow",
		Short: "Print the JSON Schema of casewire.yaml or of flow files, for editors",
		Long: "Prints a JSON Schema with what the connectors know in it. Editors that speak yaml-language-server check and complete\n" +
			"with it: write it to a file, and begin the YAML with  # yaml-language-server: $schema=FILE",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"config", "flow"},
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := allDescriptors(app, path)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(writers[args[0]](all))
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", defaultConfig, "configuration file, for the connectors installed beside it and those that it names")
	return cmd
}

// allDescriptors describes every connector, by name.
func allDescriptors(app App, path string) ([]*connectorv1.DescribeResponse, error) {
	known, err := connectorsOf(app, path)
	if err != nil {
		return nil, Environment(err)
	}
	var all []*connectorv1.DescribeResponse
	var errs []error
	for _, name := range known.Connectors() {
		d, err := connectorDescriptor(known, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, d)
	}
	return all, errors.Join(errs...)
}

// connectorSchemaCommand prints one schema as the connector has it.
func connectorSchemaCommand(app App, path *string) *cobra.Command {
	var action string
	var output bool
	cmd := &cobra.Command{
		Use:   "schema NAME",
		Short: "Print the JSON Schema of a connector's configuration, or of an action's input or output",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			known, err := connectorsOf(app, *path)
			if err != nil {
				return Environment(err)
			}
			d, err := connectorDescriptor(known, args[0])
			if err != nil {
				return err
			}
			text := d.GetConfigSchema()
			switch {
			case action != "":
				if text, err = actionSchema(d, action, output); err != nil {
					return err
				}
			case output:
				return Invalid(errors.New("--output is about an action; name one with --action"))
			}
			if len(text) == 0 {
				text = []byte("{}")
			}
			_, err = cmd.OutOrStdout().Write(refdoc.Indent(text))
			return err
		},
	}
	cmd.Flags().StringVar(&action, "action", "", "the input of this action")
	cmd.Flags().BoolVar(&output, "output", false, "with --action: its output")
	return cmd
}

func actionSchema(d *connectorv1.DescribeResponse, name string, output bool) ([]byte, error) {
	var names []string
	for _, a := range d.GetActions() {
		switch {
		case a.GetName() == name && output:
			return a.GetOutputSchema(), nil
		case a.GetName() == name:
			return a.GetInputSchema(), nil
		}
		names = append(names, a.GetName())
	}
	return nil, Invalid(fmt.Errorf("the connector %s has no action %q; %s", d.GetName(), name, yamldoc.DidYouMean(name, names)))
}
