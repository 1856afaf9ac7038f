package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/internal/yamldoc"
)

// flowRecord is a flow as --json shows it.
type flowRecord struct {
	Name        string                 `json:"name"`
	Description string                 `json:"description,omitempty"`
	Tags        []string               `json:"tags,omitempty"`
	File        string                 `json:"file"`
	Version     string                 `json:"version"`
	Disabled    bool                   `json:"disabled,omitempty"`
	Triggers    []flowTriggerRecord    `json:"triggers,omitempty"`
	Inputs      map[string]inputRecord `json:"inputs,omitempty"`
	Output      map[string]string      `json:"output,omitempty"` // field: what it is
	Steps       []flowStepRecord       `json:"steps"`
}

type flowTriggerRecord struct {
	Connection string `json:"connection"`
	Trigger    string `json:"trigger"` // connector.trigger
}

type inputRecord struct {
	Type     string `json:"type"`
	Required bool   `json:"required,omitempty"`
	Default  any    `json:"default,omitempty"`
	Doc      string `json:"doc,omitempty"`
}

type flowStepRecord struct {
	ID         string           `json:"id"`
	Kind       string           `json:"kind"`
	Does       string           `json:"does,omitempty"` // connector.action, or a flow
	Connection string           `json:"connection,omitempty"`
	Effect     string           `json:"effect,omitempty"`
	Steps      []flowStepRecord `json:"steps,omitempty"`
}

// flowsCommand lists the flows of a configuration, which it checks for that.
func flowsCommand(app App) *cobra.Command {
	var path string
	var asJSON bool
	load := func(stderr io.Writer) ([]*flow.Flow, error) {
		file, diags := config.Load(path, newConnectors(app))
		if diags.HasErrors() { // warnings are for casewire validate
			return nil, report(stderr, diags, "")
		}
		return file.Flows, nil
	}
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List flows: what starts them, and what they do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flows, err := load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			recs := make([]flowRecord, len(flows))
			for i, f := range flows {
				recs[i] = newFlowRecord(f)
			}
			slices.SortFunc(recs, func(a, b flowRecord) int { return cmp.Compare(a.Name, b.Name) })
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]any{"flows": recs})
			}
			return tableFlows(cmd.OutOrStdout(), recs)
		},
	}
	describe := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a flow's inputs, output and steps, and how to call it",
		Args:  exactly("NAME", "the name of a flow"),
		RunE: func(cmd *cobra.Command, args []string) error {
			flows, err := load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			var names []string
			for _, f := range flows {
				if f.Name == args[0] {
					rec := newFlowRecord(f)
					if asJSON {
						return printJSON(cmd.OutOrStdout(), rec)
					}
					return describeFlow(cmd.OutOrStdout(), &rec)
				}
				names = append(names, f.Name)
			}
			hint := yamldoc.DidYouMean(args[0], names)
			if hint == "" {
				slices.Sort(names)
				hint = "there are " + strings.Join(names, ", ")
			}
			return Invalid(fmt.Errorf("there is no flow %q in %s; %s", args[0], path, hint))
		},
	}
	cmd.PersistentFlags().StringVarP(&path, "config", "c", defaultConfig, "configuration file")
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(describe)
	return cmd
}

func newFlowRecord(f *flow.Flow) flowRecord {
	rec := flowRecord{
		Name: f.Name, Description: f.Description, Tags: f.Tags, File: f.Pos.File, Version: f.Version, Disabled: f.Disabled,
		Output: f.Outputs, Steps: flowSteps(f.Steps),
	}
	for _, t := range f.Triggers {
		rec.Triggers = append(rec.Triggers, flowTriggerRecord{t.Connection, t.Connector + "." + t.Trigger})
	}
	if len(f.Inputs) > 0 {
		rec.Inputs = map[string]inputRecord{}
		for name, in := range f.Inputs {
			rec.Inputs[name] = inputRecord(in)
		}
	}
	return rec
}

func flowSteps(steps []*flow.Step) []flowStepRecord {
	recs := make([]flowStepRecord, len(steps))
	for i, s := range steps {
		recs[i] = flowStepRecord{ID: s.ID, Kind: string(s.Kind)}
		switch s.Kind {
		case flow.KindUses:
			recs[i].Does, recs[i].Connection = s.Connector+"."+s.Action, s.Connection
			recs[i].Effect = strings.ToLower(strings.TrimPrefix(s.Effect.String(), "EFFECT_"))
		case flow.KindCall:
			recs[i].Does = s.Call.Name
		case flow.KindEach:
			recs[i].Steps = flowSteps(s.Body)
		case flow.KindLet:
		}
	}
	return recs
}

// starts says what starts a flow.
func (r *flowRecord) starts() string {
	var out []string
	for _, t := range r.Triggers {
		out = append(out, t.Trigger+" of "+t.Connection)
	}
	switch {
	case r.Disabled:
		return "nothing: it is disabled"
	case len(out) == 0:
		return "calls"
	}
	return strings.Join(out, ", ")
}

func tableFlows(w io.Writer, recs []flowRecord) error {
	if len(recs) == 0 {
		fmt.Fprintln(w, "no flows")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTARTED BY\tDESCRIPTION")
	for i := range recs {
		fmt.Fprintf(t, "%s\t%s\t%s\n", recs[i].Name, recs[i].starts(), clip(recs[i].Description, 100))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\ncasewire flows describe NAME tells more")
	return err
}

func describeFlow(w io.Writer, r *flowRecord) error {
	fmt.Fprintf(w, "%s: %s\n\nfile        %s\nversion     %.12s\nstarted by  %s\n", r.Name, cmp.Or(r.Description, "no description"), r.File, r.Version, r.starts())
	if len(r.Tags) > 0 {
		fmt.Fprintf(w, "tags        %s\n", strings.Join(r.Tags, ", "))
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if len(r.Inputs) > 0 {
		fmt.Fprintln(t, "\nINPUT\tTYPE\tDEFAULT\tWHAT IT IS")
		names := slices.SortedFunc(maps.Keys(r.Inputs), func(a, b string) int {
			if r.Inputs[a].Required != r.Inputs[b].Required {
				if r.Inputs[a].Required {
					return -1
				}
				return 1
			}
			return cmp.Compare(a, b)
		})
		for _, name := range names {
			in := r.Inputs[name]
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, in.Type, defaultText(in), in.Doc)
		}
	}
	if len(r.Output) > 0 {
		fmt.Fprintln(t, "\nOUTPUT\tTYPE")
		for _, name := range slices.Sorted(maps.Keys(r.Output)) {
			fmt.Fprintf(t, "%s\t%s\n", name, r.Output[name])
		}
	}
	fmt.Fprintln(t, "\nSTEP\tDOES\tCONNECTION\tEFFECT")
	tableSteps(t, r.Steps, "")
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Triggers) > 0 {
		return nil
	}
	body, err := json.Marshal(r.example())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nover HTTP    POST /v1/flows/%s/runs?wait=30s with %s\nin a flow    call: %s, with: %[2]s\n", r.Name, body, r.Name)
	return err
}

func tableSteps(w io.Writer, steps []flowStepRecord, in string) {
	for _, s := range steps {
		does := cmp.Or(s.Does, map[string]string{"let": "names values", "each": "for each"}[s.Kind])
		if s.Kind == string(flow.KindCall) {
			does = "calls " + does
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", in, s.ID, does, s.Connection, s.Effect)
		tableSteps(w, s.Steps, in+"  ")
	}
}

func defaultText(in inputRecord) string {
	if in.Required {
		return "required"
	}
	if in.Default == nil {
		return "-"
	}
	b, err := json.Marshal(in.Default)
	if err != nil { // it came out of YAML
		return fmt.Sprint(in.Default)
	}
	return string(b)
}

// example is the least that a call must give.
func (r *flowRecord) example() map[string]any {
	out := map[string]any{}
	for name, in := range r.Inputs {
		if !in.Required {
			continue
		}
		switch in.Type {
		case "integer", "number":
			out[name] = 1
		case "boolean":
			out[name] = true
		case "array":
			out[name] = []any{}
		case "object":
			out[name] = map[string]any{}
		default:
			out[name] = "…"
		}
	}
	return out
}
