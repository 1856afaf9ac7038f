// Package indicators is casewire indicators: a file of threat indicators is submitted in batches, goes on where it was when
// it was interrupted, and sends nothing for what is there already.
package indicators

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/host/internal/cli"
)

// Options of a submission.
type options struct {
	config, connection, format string
	journal, report            string
	again, dryRun, json        bool
	defaults                   defaults
	expires                    string
}

// defaults are what the action calls so.
type defaults struct {
	TLP         string   `json:"tlp,omitempty"`
	Confidence  *int     `json:"confidence,omitempty"`
	ExpiresIn   string   `json:"expires_in,omitempty"`
	ValidUntil  string   `json:"valid_until,omitempty"`
	Description string   `json:"description,omitempty"`
	Labels      []string `json:"labels,omitempty"`
	Action      string   `json:"action,omitempty"`
}

// Command is casewire indicators. App is asked for when the command runs.
func Command(app func() cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "indicators",
		Short: "Threat indicators for Sentinel and Defender",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(submitCommand(app))
	return cmd
}

func submitCommand(app func() cli.App) *cobra.Command {
	var o options
	confidence := -1
	cmd := &cobra.Command{
		Use:   "submit FILE|-",
		Short: "Submit a file of indicators: a list, CSV, JSON, STIX 2.1 or MISP",
		Long: `Submit reads a file (or standard input), brings every indicator into one form, refuses what must not be submitted and says
why, and submits the rest through a connection of the connector threatintel.

It goes on where it was when it was interrupted: run the same command again. What is known to be there as it is costs no
upload, so that to submit a file twice changes nothing. What it knows lies beside the data file, in the folder
NAME.indicators; --again forgets it.

Exit codes: 0 everything was accepted or was there already; 1 some indicators were rejected, or it could not be finished;
2 the command line, the configuration or the document is wrong; 3 the environment.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes one file, or - for standard input", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("confidence") {
				if confidence < 0 || confidence > 100 {
					return cli.Invalid(fmt.Errorf("--confidence %d is not 0 to 100", confidence))
				}
				o.defaults.Confidence = &confidence
			}
			if !knownFormat(o.format) {
				return cli.Invalid(fmt.Errorf("--format %q is not one of %s", o.format, strings.Join(feed.Formats, ", ")))
			}
			if strings.ContainsAny(o.expires, "-T") {
				o.defaults.ValidUntil = o.expires
			} else {
				o.defaults.ExpiresIn = o.expires
			}
			if o.dryRun && o.again {
				return cli.Invalid(errors.New("--dry-run sends nothing, so that there is nothing to do --again"))
			}
			s := &submission{o: o, file: args[0], stdin: cmd.InOrStdin(), stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
			return s.run(cmd.Context(), app())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "casewire.yaml", "configuration file")
	f.StringVar(&o.connection, "connection", "", "connection of the connector threatintel; needed if there are several")
	f.StringVar(&o.format, "format", feed.Auto, strings.Join(feed.Formats, ", "))
	f.StringVar(&o.defaults.TLP, "tlp", "", "marking of indicators that have none")
	f.IntVar(&confidence, "confidence", -1, "confidence of those that have none, 0 to 100")
	f.StringVar(&o.expires, "expires", "", "when those end that do not say: 90d, 36h, or a date")
	f.StringVar(&o.defaults.Description, "description", "", "description of those that have none")
	f.StringSliceVar(&o.defaults.Labels, "label", nil, "tag for all of them; can be repeated")
	f.StringVar(&o.defaults.Action, "action", "", "what Defender does on those that do not say: allow, audit, warn, block")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be submitted, and send nothing")
	f.BoolVar(&o.again, "again", false, "send everything, whatever is known to be there")
	f.StringVar(&o.report, "report", "", "write what became of each indicator: CSV if the name ends so, else a JSON document on each line")
	f.StringVar(&o.journal, "journal", "", "folder for what is known of submissions; default beside the data file")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

func knownFormat(s string) bool {
	return slices.Contains(feed.Formats, s)
}
