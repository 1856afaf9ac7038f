package refdoc

import (
	"fmt"
	"io"
	"strings"
)

// Markdown writes the reference of a connector as a page.
func (c *Connector) Markdown(w io.Writer) error {
	p := printer{w: w}
	p.linef("# %s\n\n%s\n", c.Name, c.Summary)
	p.linef("Version %s, %s.", c.Version, c.Source)
	if len(c.Egress) > 0 {
		p.linef("It reaches `%s`.", strings.Join(c.Egress, "`, `"))
	}
	if c.Homepage != "" {
		p.linef("See <%s>.", c.Homepage)
	}
	if c.Licence != "" {
		p.linef("Licence: %s.", c.Licence)
	}
	for _, s := range c.Retirements() {
		p.linef("\n> Note: %s.", strings.TrimSuffix(s, "."))
	}
	p.linef("\n## Config\n")
	p.table(c.Config)
	if len(c.Actions) > 0 {
		p.linef("\n## Actions")
	}
	for i := range c.Actions {
		a := &c.Actions[i]
		p.linef("\n### %s.%s\n\n%s\n\nEffect: %s.", c.Name, a.Name, a.Summary, a.EffectText())
		p.linef("\nInput:\n")
		p.table(a.Inputs)
		p.linef("\nOutput:\n")
		p.table(a.Outputs)
		for _, x := range a.Examples {
			p.linef("\n%s:\n\n```yaml\n%s```", x.Summary, x.YAML(c.Name, a))
		}
	}
	if len(c.Triggers) > 0 {
		p.linef("\n## Triggers")
	}
	for i := range c.Triggers {
		t := &c.Triggers[i]
		p.linef("\n### %s.%s\n\n%s\n\nEmits `%s`.", c.Name, t.Name, t.Summary, strings.Join(t.Emits, "`, `"))
		if t.Streams {
			p.linef("Streamed.")
		}
		if t.Polls {
			p.linef("Polled every %s.", t.Interval)
		}
		if t.Webhook != nil {
			p.linef("Webhook: %s.", t.Webhook.text())
		}
	}
	return p.err
}

func (p *printer) table(list []Property) {
	if len(list) == 0 {
		p.linef("Nothing.")
		return
	}
	p.linef("| name | type | meaning |\n|---|---|---|")
	for i := range list {
		x := &list[i]
		doc := x.Doc
		if len(x.Enum) > 0 {
			doc += fmt.Sprintf(" One of: %s.", strings.Join(x.Enum, ", "))
		}
		if x.Example != "" {
			doc += " Such as `" + x.Example + "`."
		}
		p.linef("| `%s` | %s | %s |", x.Name, cell(x.about()), cell(doc))
	}
}

// cell keeps a text from breaking its table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(strings.TrimSpace(s))
}
