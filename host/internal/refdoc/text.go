package refdoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// width is where texts for terminals are wrapped.
const width = 100

// effects say in words what an effect means for a flow.
var effects = map[string]string{
	"read":       "changes nothing",
	"idempotent": "may be repeated freely",
	"keyed":      "one effect per key",
	"unsafe":     "never repeated by machine",
}

// EffectText says what an action's effect means.
func (a *Action) EffectText() string {
	s := a.Effect + ": " + effects[a.Effect]
	if a.EffectByCaller {
		parts := []string{s + ", unless the step says `effect: read`, `idempotent`, `keyed` or `unsafe`"}
		for _, r := range a.EffectRules {
			parts = append(parts, r.Effect+" when "+r.Property+" is "+strings.Join(r.Values, " or "))
		}
		return strings.Join(parts, "; ")
	}
	if a.ResolveWindow != "" {
		s += "; when an answer is lost, it is looked for up to " + a.ResolveWindow
	}
	return s
}

// Retirements lists what is about to end, for people: "desk.ticket.old ends on 2027-01-31; use ticket.ensure".
func (c *Connector) Retirements() []string {
	var out []string
	add := func(name string, r Retirement) {
		var parts []string
		if r.Sunset != "" {
			parts = append(parts, "ends on "+r.Sunset)
		}
		if r.Deprecated != "" {
			parts = append(parts, "is deprecated: "+r.Deprecated)
		}
		if len(parts) > 0 {
			out = append(out, name+" "+strings.Join(parts, "; "))
		}
	}
	add(c.Name, c.Retirement)
	for _, a := range c.Actions {
		add(c.Name+"."+a.Name, a.Retirement)
	}
	for _, t := range c.Triggers {
		add(c.Name+"."+t.Name, t.Retirement)
	}
	return out
}

// Text writes the reference of a connector for a terminal.
func (c *Connector) Text(w io.Writer) error {
	p := printer{w: w}
	p.linef("%s %s (%s)", c.Name, c.Version, c.Source)
	p.wrap("", c.Summary)
	if len(c.Egress) > 0 {
		p.wrap("", "reaches "+strings.Join(c.Egress, ", "))
	}
	if c.Homepage != "" {
		p.wrap("", "see "+c.Homepage)
	}
	if c.Licence != "" {
		p.wrap("", "licence "+c.Licence)
	}
	for _, s := range c.Retirements() {
		p.wrap("", "note: "+s)
	}
	p.linef("\nCONFIG of a connection")
	p.properties(c.Config)
	for i := range c.Actions {
		p.action(c.Name, &c.Actions[i])
	}
	for i := range c.Triggers {
		p.trigger(c.Name, &c.Triggers[i])
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) linef(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// wrap prints a text in lines of at most the width.
func (p *printer) wrap(indent, text string) {
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word)+1 > width && strings.TrimSpace(line) != "" {
			p.linef("%s", line)
			line = indent
		}
		if strings.TrimSpace(line) != "" {
			line += " "
		}
		line += word
	}
	if strings.TrimSpace(line) != "" {
		p.linef("%s", line)
	}
}

func (p *printer) properties(list []Property) {
	if len(list) == 0 {
		p.linef("  nothing")
	}
	for _, x := range list {
		p.linef("  %s  (%s)", x.Name, x.about())
		p.wrap("      ", x.Doc)
		if len(x.Enum) > 0 {
			p.wrap("      ", "one of: "+strings.Join(x.Enum, ", "))
		}
		if x.Example != "" {
			p.wrap("      ", "such as "+x.Example)
		}
	}
}

// about is a property's type with what else there is to know in a word.
func (x *Property) about() string {
	s := x.Type
	switch {
	case x.Output && !x.Required:
		s += ", may be missing"
	case x.Required && !x.Output:
		s += ", required"
	}
	if x.Default != "" {
		s += ", default " + x.Default
	}
	if x.Advanced {
		s += ", advanced"
	}
	return s
}

func (p *printer) action(connector string, a *Action) {
	p.linef("\nACTION %s.%s", connector, a.Name)
	p.wrap("  ", a.Summary)
	p.wrap("  ", a.EffectText())
	p.linef("  with:")
	p.nested(a.Inputs)
	p.linef("  gives:")
	p.nested(a.Outputs)
	for _, x := range a.Examples {
		p.linef("  example: %s", x.Summary)
		for line := range strings.Lines(x.YAML(connector, a)) {
			p.linef("    %s", strings.TrimRight(line, "\n"))
		}
	}
}

func (p *printer) nested(list []Property) {
	inner := printer{w: indenter{p.w}, err: p.err}
	inner.properties(list)
	p.err = inner.err
}

// indenter moves each write, which is one line, to the right.
type indenter struct{ w io.Writer }

func (i indenter) Write(b []byte) (int, error) {
	if _, err := i.w.Write(append([]byte("  "), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *printer) trigger(connector string, t *Trigger) {
	p.linef("\nTRIGGER %s.%s", connector, t.Name)
	p.wrap("  ", t.Summary)
	p.linef("  emits %s", strings.Join(t.Emits, ", "))
	if t.Streams {
		p.linef("  streamed")
	}
	if t.Polls {
		p.linef("  polled every %s", t.Interval)
	}
	if t.Webhook != nil {
		p.wrap("  ", t.Webhook.text())
	}
}

func (h *Webhook) text() string {
	s := fmt.Sprintf("takes %s at %s, at most %d KiB", strings.Join(h.Methods, ", "), h.Path, h.MaxBody>>10)
	if h.JSON {
		s += " of JSON"
	}
	if h.HandshakeQuery != "" {
		s += ", and answers ?" + h.HandshakeQuery + "=… with its value"
	}
	return s
}

// YAML is an example as a step of a flow.
func (x *Example) YAML(connector string, a *Action) string {
	var with yaml.Node
	if yaml.Unmarshal(x.Input, &with) != nil || len(with.Content) == 0 {
		return ""
	}
	unfold(&with)
	step := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, value *yaml.Node) {
		step.Content = append(step.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
	}
	add("id", &yaml.Node{Kind: yaml.ScalarNode, Value: "step"})
	add("uses", &yaml.Node{Kind: yaml.ScalarNode, Value: connector + "." + a.Name})
	if a.Effect == "keyed" {
		add("key", &yaml.Node{Kind: yaml.ScalarNode, Value: "${{ event.case_key }}"})
	}
	if len(with.Content[0].Content) > 0 {
		add("with", with.Content[0])
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if enc.Encode(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{step}}) != nil || enc.Close() != nil {
		return ""
	}
	return out.String()
}

// unfold takes JSON's braces and quotes away where YAML does without.
func unfold(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	if len(n.Content) == 0 && n.Kind != yaml.ScalarNode {
		n.Style = yaml.FlowStyle
	}
	for _, c := range n.Content {
		unfold(c)
	}
}

// Indent makes a schema readable.
func Indent(b []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return b
	}
	return append(bytes.TrimSpace(out.Bytes()), '\n')
}
