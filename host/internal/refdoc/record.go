// Package refdoc shows what connectors say of themselves: as records for programs, as text and Markdown for people, and
// as JSON Schemas for editors. It asks nobody and starts nothing: a descriptor is all that it needs.
package refdoc

import (
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Connector is one connector. Its JSON form is stable.
type Connector struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Summary string `json:"summary"`
	// Source says where the connector comes from, such as "bundled".
	Source string `json:"source"`
	// Homepage is where people read about it; Licence, an SPDX expression.
	Homepage string `json:"homepage,omitempty"`
	Licence  string `json:"licence,omitempty"`
	Retirement
	// Egress lists the hosts that it may reach; {config.base_url} stands for a configured value,
	// and {config.proxy?host:80} for host:80 where that property is configured.
	Egress       []string        `json:"egress"`
	ConfigSchema json.RawMessage `json:"config_schema"`
	Actions      []Action        `json:"actions"`
	Triggers     []Trigger       `json:"triggers"`

	Config []Property `json:"-"` // the same as ConfigSchema, for people
}

// Retirement says what is about to end.
type Retirement struct {
	// Sunset is the day on which the vendor ends it.
	Sunset string `json:"sunset,omitempty"`
	// What to use instead, where it is not to be used for new things.
	Deprecated string `json:"deprecated,omitempty"`
}

// Action is one action of a connector.
type Action struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	// Effect is read, idempotent, keyed or unsafe.
	Effect string `json:"effect"`
	// EffectByCaller says that a flow may declare another effect on the step; EffectRules, what holds for certain inputs
	// when it does not.
	EffectByCaller bool         `json:"effect_by_caller,omitempty"`
	EffectRules    []EffectRule `json:"effect_rules,omitempty"`
	// ResolveWindow is how long a keyed write whose answer was lost is looked for.
	ResolveWindow string `json:"resolve_window,omitempty"`
	// Rows says that the output has the rows that it streams.
	Rows bool `json:"rows,omitempty"`
	// Blobs says that the output has the files that it sends.
	Blobs bool `json:"blobs,omitempty"`
	Retirement
	InputSchema  json.RawMessage `json:"input_schema"`
	OutputSchema json.RawMessage `json:"output_schema"`
	Examples     []Example       `json:"examples,omitempty"`

	Inputs  []Property `json:"-"`
	Outputs []Property `json:"-"`
}

// EffectRule gives the effect of calls with certain inputs.
type EffectRule struct {
	Property string   `json:"property"`
	Values   []string `json:"values"`
	Effect   string   `json:"effect"`
}

// Example is an input that an action takes.
type Example struct {
	Summary string          `json:"summary"`
	Input   json.RawMessage `json:"input"`
}

// Trigger is one trigger of a connector.
type Trigger struct {
	Name    string   `json:"name"`
	Summary string   `json:"summary"`
	Emits   []string `json:"emits"`
	Polls   bool     `json:"polls"`
	// Streams says that the host keeps a stream open rather than poll.
	Streams bool `json:"streams,omitempty"`
	// Interval is how often it is polled unless configured otherwise.
	Interval string   `json:"interval,omitempty"`
	Webhook  *Webhook `json:"webhook,omitempty"`
	Retirement
}

// Webhook says what a trigger takes from outside.
type Webhook struct {
	// Path is where senders post to, below the host's public address.
	Path           string   `json:"path"`
	Methods        []string `json:"methods"`
	MaxBody        int      `json:"max_body"`
	JSON           bool     `json:"json"`
	HandshakeQuery string   `json:"handshake_query,omitempty"`
}

// Describe makes the record of a descriptor.
func Describe(d *connectorv1.DescribeResponse, source string) Connector {
	c := Connector{
		Name: d.GetName(), Version: d.GetVersion(), Summary: d.GetSummary(), Source: source, Egress: list(d.GetEgress()),
		ConfigSchema: schemaOf(d.GetConfigSchema()), Config: properties(d.GetConfigSchema()),
		Actions: []Action{}, Triggers: []Trigger{}, Homepage: d.GetHomepage(), Licence: d.GetLicence(),
		Retirement: Retirement{Sunset: day(d.GetSunset()), Deprecated: d.GetDeprecated()},
	}
	for _, a := range d.GetActions() {
		rec := Action{
			Name: a.GetName(), Summary: a.GetSummary(), Effect: EffectName(a.GetEffect()), Rows: a.GetRows(),
			ResolveWindow: durationText(a.GetResolveWindow()), Blobs: a.GetBlobs(),
			Retirement:  Retirement{Sunset: day(a.GetSunset()), Deprecated: a.GetDeprecated()},
			InputSchema: schemaOf(a.GetInputSchema()), OutputSchema: schemaOf(a.GetOutputSchema()),
			Inputs: properties(a.GetInputSchema()), Outputs: outputs(a.GetOutputSchema()),
		}
		rec.EffectByCaller = a.GetEffectByCaller()
		for _, r := range a.GetEffectRules() {
			rec.EffectRules = append(rec.EffectRules, EffectRule{
				Property: r.GetProperty(), Values: list(r.GetValues()), Effect: EffectName(r.GetEffect()),
			})
		}
		for _, x := range a.GetExamples() {
			if json.Valid(x.GetInput()) {
				rec.Examples = append(rec.Examples, Example{Summary: x.GetSummary(), Input: x.GetInput()})
			}
		}
		c.Actions = append(c.Actions, rec)
	}
	for _, t := range d.GetTriggers() {
		c.Triggers = append(c.Triggers, trigger(t))
	}
	return c
}

func trigger(t *connectorv1.Trigger) Trigger {
	rec := Trigger{Name: t.GetName(), Summary: t.GetSummary(), Emits: list(t.GetEmits()), Polls: t.GetPolls(), Streams: t.GetStreams()}
	rec.Retirement = Retirement{Sunset: day(t.GetSunset()), Deprecated: t.GetDeprecated()}
	if t.GetPolls() {
		rec.Interval = durationText(t.GetInterval())
	}
	w := t.GetWebhook()
	if w == nil {
		return rec
	}
	rec.Webhook = &Webhook{
		Path: "/hooks/{connection}/" + t.GetName(), Methods: list(w.GetMethods()), MaxBody: int(w.GetMaxBody()),
		JSON: w.GetJson(), HandshakeQuery: w.GetHandshakeQuery(),
	}
	if len(rec.Webhook.Methods) == 0 {
		rec.Webhook.Methods = []string{"POST"}
	}
	if rec.Webhook.MaxBody == 0 {
		rec.Webhook.MaxBody = plugin.DefaultHookBody
	}
	return rec
}

// EffectName is the word for an effect that flows and people use. What says nothing is taken for the worst.
func EffectName(e connectorv1.Effect) string {
	switch e {
	case connectorv1.Effect_EFFECT_READ:
		return "read"
	case connectorv1.Effect_EFFECT_IDEMPOTENT:
		return "idempotent"
	case connectorv1.Effect_EFFECT_KEYED:
		return "keyed"
	default:
		return "unsafe"
	}
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// schemaOf is a schema that is JSON; nothing is the schema that takes everything.
func schemaOf(b []byte) json.RawMessage {
	if !json.Valid(b) {
		return json.RawMessage("{}")
	}
	return b
}

// durationText writes a duration as people do: 5m, not 5m0s.
func durationText(d *durationpb.Duration) string {
	v := d.AsDuration()
	if v <= 0 {
		return ""
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func day(t *timestamppb.Timestamp) string {
	if t == nil || !t.IsValid() {
		return ""
	}
	return t.AsTime().Format(time.DateOnly)
}
