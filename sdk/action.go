package sdk

import (
	"context"
	"encoding/json"
	"reflect"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk/internal/schema"
)

type connectorOrigin = connectorv1.Origin

// ActionOption changes how an action is declared.
type ActionOption func(*actionSpec)

type actionSpec struct {
	name, summary string
	effect        Effect
	rows          bool
	window        time.Duration
	examples      []actionExample
	sunset        time.Time
	deprecated    string
	dryRuns       bool
	byCaller      bool
	effectRules   []EffectRule
	blobs         bool
	vouched       bool
	shape         *rowShape
	input         *schema.Plan
	output        []byte // schema
	// run decodes the input, calls the author and encodes the output. Emit is for rows.
	run func(ctx context.Context, conn any, input []byte, w *rowWriter) ([]byte, error)
}

type actionExample struct {
	summary string
	input   any
}

// called is the action as one call sees it: with the effect that the caller declared, where it may.
func (a *actionSpec) called(p *connectorv1.CallContext) *actionSpec {
	declared := Effect(p.GetEffect())
	if !a.byCaller || declared < Read || declared > Unsafe {
		return a
	}
	c := *a
	c.effect = declared
	return &c
}

// changes says whether a call that executes the action may change something.
func (a *actionSpec) changes() bool { return a.effect != Read }

// ResolveWindow says how long the vendor's index may lag behind a keyed write. Zero, the default, says that a repeat
// with the same key is safe at once.
func ResolveWindow(d time.Duration) ActionOption {
	return func(a *actionSpec) { a.window = d }
}

// Example adds an example input to an action's documentation.
func Example(summary string, input any) ActionOption {
	return func(a *actionSpec) { a.examples = append(a.examples, actionExample{summary, input}) }
}

// Sunset says when the vendor ends what the action uses.
func Sunset(t time.Time) ActionOption {
	return func(a *actionSpec) { a.sunset = t }
}

// Deprecated says that the action is not for new flows, and what to use instead: "use issue.ensure".
func Deprecated(instead string) ActionOption {
	return func(a *actionSpec) { a.deprecated = instead }
}

// DryRuns says that the action honours Call.DryRun: it checks everything that it can and changes nothing. A dry run of a
// changing action that does not say so is refused before the author's code sees it.
func DryRuns() ActionOption {
	return func(a *actionSpec) { a.dryRuns = true }
}

// Vouched says that the author answers for rows that are json.RawMessage: each is one well-formed JSON object in UTF-8 on
// one line. They are not checked on their way out, which is for connectors that write large results themselves. The host
// checks them all the same, and ends the call of a connector that has not kept its word.
func Vouched() ActionOption {
	return func(a *actionSpec) { a.vouched = true }
}

// rowShape is x-casewire-shape of an output's rows.
type rowShape struct {
	Map     string              `json:"map"`
	Preset  string              `json:"preset,omitempty"`
	Presets map[string][]string `json:"presets,omitempty"`
}

// ShapedRows says that the input decides what fields the rows have, so that flows are checked against them: fields is a
// property that is an object whose keys name the fields, with dots where a field is inside another ("src_endpoint.ip").
// Preset is a property that names one of several sets of fields, or empty; fields adds to it. Rows of a call that gives
// neither are what they are.
func ShapedRows(fields, preset string, presets map[string][]string) ActionOption {
	return func(a *actionSpec) { a.shape = &rowShape{fields, preset, presets} }
}

// EffectRule gives the effect of calls whose input has one of the values at a property, such as a method GET.
type EffectRule struct {
	Property string
	Values   []string
	Effect   Effect
}

// EffectByCaller says that the action does whatever its input says, so that only its caller knows the effect: the flow
// declares it on the step, and Call.Effect tells. What it declares nothing for has the first rule's effect whose values
// fit the input, else the action's own.
func EffectByCaller(rules ...EffectRule) ActionOption {
	return func(a *actionSpec) { a.byCaller, a.effectRules = true, rules }
}

// Action declares a named call: Action(c, "issue.get", "Get an issue.", (*Client).Get, sdk.Read). An authoring mistake
// panics with a sentence that says what to change.
//
// In and Out are structs; their tags make the schemas (see the package comment). A nil slice or map of the output goes
// out as [] or {}.
func Action[T, In, Out any](c *Connector, name, summary string, fn func(T, context.Context, In) (Out, error), effect Effect, opts ...ActionOption) {
	a := declare[T, In](c, name, summary, fn == nil, effect, opts)
	a.output = outputSchema[Out](c, a)
	a.run = func(ctx context.Context, conn any, input []byte, w *rowWriter) ([]byte, error) {
		in, err := decodeInput[In](a.input, input)
		if err != nil {
			return nil, err
		}
		out, err := fn(as[T](conn), ctx, in)
		if werr := w.finish(); werr != nil {
			return nil, werr // whatever the author made of it
		}
		if err != nil {
			return nil, err
		}
		return encodeOutput(a, out)
	}
}

// Rows declares an action that streams rows of type Row and ends with a summary Out. In a flow its output is Out's
// properties and "rows". Emit blocks while the host is busy; return its error.
func Rows[T, In, Row, Out any](c *Connector, name, summary string, fn func(T, context.Context, In, func(Row) error) (Out, error), effect Effect, opts ...ActionOption) {
	a := declare[T, In](c, name, summary, fn == nil, effect, opts)
	a.rows = true
	row, err := schema.Compile(reflect.TypeFor[Row](), schema.Output)
	if err != nil {
		mistake("%s: action %q: row %v", c.name, name, err)
	}
	list := []byte(`{"type":"array","description":"The rows, in order",`)
	if s := a.shape; s != nil {
		if !a.input.Has(s.Map) || s.Preset != "" && !a.input.Has(s.Preset) {
			mistake("%s: action %q: ShapedRows: %q and %q must be properties of the input", c.name, name, s.Map, s.Preset)
		}
		b, err := json.Marshal(s)
		if err != nil {
			mistake("%s: action %q: ShapedRows: %v", c.name, name, err)
		}
		list = append(append(append(list, `"x-casewire-shape":`...), b...), ',')
	}
	list = append(append(list, `"items":`...), row.Fragment()...)
	a.output = outputSchema[Out](c, a, schema.Extra{Name: "rows", Schema: append(list, '}')})
	a.run = func(ctx context.Context, conn any, input []byte, w *rowWriter) ([]byte, error) {
		in, err := decodeInput[In](a.input, input)
		if err != nil {
			return nil, err
		}
		out, err := fn(as[T](conn), ctx, in, func(r Row) error {
			if raw, ok := any(&r).(*json.RawMessage); ok { // by its address: a row is not worth an allocation
				return w.raw(*raw)
			}
			return w.row(r)
		})
		if werr := w.finish(); werr != nil {
			return nil, werr // whatever the author made of it
		}
		if err != nil {
			return nil, err
		}
		return encodeOutput(a, out)
	}
}

// declare checks what Action and Rows have in common and adds the action.
func declare[T, In any](c *Connector, name, summary string, isNil bool, effect Effect, opts []ActionOption) *actionSpec {
	receiver[T](c, "action "+name)
	a := &actionSpec{name: name, summary: summary, effect: effect}
	for _, o := range opts {
		o(a)
	}
	switch {
	case !memberRule.MatchString(name):
		mistake("%s: action %q: a name is \"noun.verb\" of lower-case letters, digits and underscores, such as \"issue.get\"", c.name, name)
	case c.action(name) != nil:
		mistake("%s: action %q is declared twice", c.name, name)
	case summary == "":
		mistake("%s: action %q: the summary is empty; say in one sentence what it does", c.name, name)
	case isNil:
		mistake("%s: action %q: the function is nil", c.name, name)
	case effect < Read || effect > Unsafe:
		mistake("%s: action %q: effect %d is unknown; use sdk.Read, sdk.Idempotent, sdk.Keyed or sdk.Unsafe", c.name, name, effect)
	case a.window != 0 && effect != Keyed && !a.byCaller:
		mistake("%s: action %q: ResolveWindow is for sdk.Keyed actions only: nothing else is looked up after an unknown outcome", c.name, name)
	case a.window < 0:
		mistake("%s: action %q: ResolveWindow is negative", c.name, name)
	}
	in := reflect.TypeFor[In]()
	var err error
	if a.input, err = schema.Compile(in, schema.Input); err != nil {
		mistake("%s: action %q: input %v", c.name, name, err)
	}
	if !a.input.IsObject() || in.Kind() == reflect.Pointer {
		mistake("%s: action %q: the input is %s; take a struct by value (struct{} for none)", c.name, name, in)
	}
	for _, x := range a.examples {
		b, err := json.Marshal(x.input)
		if err != nil {
			mistake("%s: action %q: example %q: %v", c.name, name, x.summary, err)
		}
		var v In
		if bad := a.input.Decode(b, &v); bad != nil {
			mistake("%s: action %q: example %q is refused by the input's own rules: %v", c.name, name, x.summary,
				violations(plugin.OriginInput, "invalid input", bad))
		}
	}
	for _, r := range a.effectRules {
		if !a.input.Has(r.Property) || len(r.Values) == 0 || r.Effect < Read || r.Effect > Unsafe {
			mistake("%s: action %q: EffectByCaller: rule %+v must name a property of the input, values, and a known effect", c.name, name, r)
		}
	}
	c.actions = append(c.actions, a)
	return a
}

func (c *Connector) action(name string) *actionSpec {
	for _, a := range c.actions {
		if a.name == name {
			return a
		}
	}
	return nil
}

// outputSchema describes what an action returns together with what it streams.
func outputSchema[Out any](c *Connector, a *actionSpec, streamed ...schema.Extra) []byte {
	t := reflect.TypeFor[Out]()
	p, err := schema.Compile(t, schema.Output)
	if err != nil {
		mistake("%s: action %q: output %v", c.name, a.name, err)
	}
	if !p.IsObject() {
		mistake("%s: action %q: the output is %s; return a struct, so that flows can name what they use", c.name, a.name, t)
	}
	if a.blobs {
		streamed = append(streamed, blobsExtra())
	}
	for _, x := range streamed {
		if p.Has(x.Name) {
			mistake("%s: action %q: the output %s has a property %q, where what is streamed goes; rename it", c.name, a.name, t, x.Name)
		}
	}
	return p.SchemaWith(streamed...)
}

func decodeInput[In any](p *schema.Plan, input []byte) (In, error) {
	var in In
	if bad := p.Decode(input, &in); bad != nil {
		return in, violations(plugin.OriginInput, "invalid input", bad)
	}
	return in, nil
}
