package flow

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Limits of a flow.
const (
	maxSteps     = 200
	maxNesting   = 4 // loops in loops
	maxCallDepth = 8
)

// Load parses and checks flow files together. It reports every mistake at once; flows are returned only if there is no
// error.
func Load(sources []Source, cat Catalog) ([]*Flow, diag.List) {
	l := loader{cat: cat, drafts: map[string]*draft{}, schemas: map[*connectorv1.Action][2]*schema.Schema{}}
	var all []*draft
	for _, src := range sources {
		if d := l.open(src); d != nil {
			all = append(all, d)
		}
	}
	for _, d := range all {
		l.check(d)
	}
	sortFindings(l.out)
	if l.out.HasErrors() {
		return nil, l.out
	}
	flows := make([]*Flow, len(all))
	for i, d := range all {
		l.seal(d)
		flows[i] = d.flow
	}
	return flows, l.out
}

func sortFindings(list diag.List) {
	slices.SortStableFunc(list, func(a, b diag.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
}

// Compile makes a pinned version of a flow from its bundle. The connectors of today may no longer fit it: the error says
// where.
func Compile(name string, bundle map[string]string, cat Catalog) (*Flow, error) {
	if _, ok := bundle[name]; !ok {
		return nil, fmt.Errorf("compile flow %s: its bundle does not hold it", name)
	}
	var sources []Source
	for _, n := range slices.Sorted(maps.Keys(bundle)) {
		sources = append(sources, Source{File: n + ".yaml", Data: []byte(bundle[n])})
	}
	flows, found := Load(sources, cat)
	if found.HasErrors() {
		return nil, fmt.Errorf("compile flow %s: %w", name, found)
	}
	for _, f := range flows {
		if f.Name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("compile flow %s: its bundle holds a flow of another name", name)
}

// draft is a flow on its way.
type draft struct {
	src     Source
	root    *yamldoc.Node
	flow    *Flow
	inputs  map[string]*typ
	output  *typ
	calls   map[string]*draft
	depth   int // of calls below
	state   int // 0 new, 1 being checked, 2 done
	steps   int
	ids     map[string]diag.Pos
	writes  map[string]string // connection, action and key of keyed steps: the step that has it
	indexed bool
}

type loader struct {
	cat     Catalog
	out     diag.List
	drafts  map[string]*draft
	stack   []string
	schemas map[*connectorv1.Action][2]*schema.Schema
}

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

const maxName = 64

// open parses a file and reads its head, so that flows can name each other.
func (l *loader) open(src Source) *draft {
	root, found := yamldoc.Parse(src.File, src.Data)
	l.out = append(l.out, found...)
	if root == nil {
		return nil
	}
	if root.Kind != yamldoc.Map {
		l.out.Errorf(root.Pos, "", "begin with `name: …` and `steps:`", "a flow must be a map, not %s", root.Describe())
		return nil
	}
	d := &draft{src: src, root: root, flow: &Flow{Pos: root.Pos}, calls: map[string]*draft{}, ids: map[string]diag.Pos{}, writes: map[string]string{}}
	if name := l.name(d); name != "" {
		l.drafts[name] = d
		d.indexed = true
	}
	l.inputs(d)
	return d
}

func (l *loader) name(d *draft) string {
	n := d.root.Get("name")
	switch {
	case n == nil:
		l.out.Errorf(d.root.Pos, "", "begin with `name: …`", "the flow has no name")
		return ""
	case !n.IsString() || !nameRule.MatchString(n.Text) || len(n.Text) > maxName:
		hint := "lower-case letters, digits and dashes, at most 64"
		if fixed := strings.Trim(notName.ReplaceAllString(strings.ToLower(n.Text), "-"), "-"); n.IsString() && nameRule.MatchString(fixed) && len(fixed) <= maxName {
			hint += fmt.Sprintf("; such as %q", fixed)
		}
		l.out.Errorf(n.Pos, "name", hint, "%s cannot be a name", strings.TrimPrefix(n.Describe(), "the string "))
		return ""
	}
	d.flow.Name = n.Text
	if other := l.drafts[n.Text]; other != nil {
		l.out.Errorf(n.Pos, "name", "the first is at "+other.root.Get("name").Pos.String(), "another flow is named %q", n.Text)
		return ""
	}
	return n.Text
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// unsupported are words of flows that come with a later version: an answer is better than silence.
var unsupported = []string{"concurrency", "dedupe", "throttle", "schedule", "webhook", "tenants"}

var flowKeys = []string{"name", "description", "tags", "on", "inputs", "steps", "output", "enabled"}

// check checks a flow once, and the flows that it calls before it.
func (l *loader) check(d *draft) {
	if d.state != 0 {
		return
	}
	d.state = 1
	l.stack = append(l.stack, d.flow.Name)
	defer func() {
		l.stack = l.stack[:len(l.stack)-1]
		d.state = 2
	}()
	l.keys(d.root, "", "a flow", flowKeys, unsupported)
	l.header(d)
	sc := l.triggers(d)
	steps := d.root.Get("steps")
	switch {
	case steps == nil:
		l.out.Errorf(d.root.Pos, "", "add `steps:` with at least one step", "the flow has no steps")
	case steps.Kind != yamldoc.List || len(steps.Items) == 0:
		l.out.Errorf(steps.Pos, "steps", "begin each step with `- id: …`", "steps must be a list of at least one step, not %s", empty(steps))
	default:
		d.flow.Steps = l.steps(d, steps, "steps", sc, 0)
	}
	d.output = &typ{kind: kObject, name: "the output of flow " + d.flow.Name}
	if out := d.root.Get("output"); out != nil {
		vc := newValueCompiler(&l.out)
		p, t := vc.compile(out, "output", sc)
		d.flow.Output = &Value{p}
		if t.kind == kObject && t.name == "" {
			named := *t
			named.name = d.output.name
			t = &named
		}
		d.output = t
		d.flow.Outputs = map[string]string{}
		for name, f := range t.fields {
			d.flow.Outputs[name] = f.String()
		}
	}
}

func empty(n *yamldoc.Node) string {
	if n.Kind != yamldoc.Scalar && len(n.Items) == 0 && len(n.Entries) == 0 {
		return "an empty one"
	}
	return n.Describe()
}

// keys complains about keys that mean nothing.
func (l *loader) keys(n *yamldoc.Node, path, what string, known, later []string) {
	for _, e := range n.Entries {
		switch {
		case slices.Contains(known, e.Key):
		case slices.Contains(later, e.Key):
			l.out.Errorf(e.Pos, yamldoc.Join(path, e.Key), "leave it out", "%q is not supported by this version", e.Key)
		default:
			l.out.Errorf(e.Pos, yamldoc.Join(path, e.Key), yamldoc.DidYouMean(e.Key, known), "%s has no key %q", what, e.Key)
		}
	}
}

func (l *loader) header(d *draft) {
	if n := d.root.Get("description"); n != nil {
		if n.IsString() {
			d.flow.Description = n.Text
		} else {
			l.out.Errorf(n.Pos, "description", "", "must be text, not %s", n.Describe())
		}
	}
	if n := d.root.Get("enabled"); n != nil {
		on, ok := n.Value.(bool)
		if !ok || n.Kind != yamldoc.Scalar {
			l.out.Errorf(n.Pos, "enabled", "", "must be true or false, not %s", n.Describe())
		}
		d.flow.Disabled = ok && !on
	}
	tags := d.root.Get("tags")
	switch {
	case tags == nil:
		return
	case tags.Kind != yamldoc.List:
		l.out.Errorf(tags.Pos, "tags", "write [a, b]", "must be a list, not %s", tags.Describe())
		return
	}
	for i, item := range tags.Items {
		if !item.IsString() || item.Text == "" {
			l.out.Errorf(item.Pos, yamldoc.Index("tags", i), "", "a tag must be text, not %s", item.Describe())
			continue
		}
		d.flow.Tags = append(d.flow.Tags, item.Text)
	}
}

// seal computes the version and gathers the bundle.
func (l *loader) seal(d *draft) {
	if d.flow.Version != "" {
		return
	}
	reach := map[string]*draft{}
	d.reach(reach)
	d.flow.Bundle = make(map[string]string, len(reach))
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(reach)) {
		d.flow.Bundle[name] = string(reach[name].src.Data)
		canonical(h, reach[name].root)
	}
	d.flow.Version = hex.EncodeToString(h.Sum(nil)[:16])
}

func (d *draft) reach(all map[string]*draft) {
	if all[d.flow.Name] != nil {
		return
	}
	all[d.flow.Name] = d
	for _, called := range d.calls {
		called.reach(all)
	}
}

// canonical writes what a flow says, without how it is laid out: comments, quotes and line breaks make no new version.
func canonical(w io.Writer, n *yamldoc.Node) {
	switch n.Kind {
	case yamldoc.Map:
		fmt.Fprintf(w, "{%d", len(n.Entries))
		for _, e := range n.Entries {
			fmt.Fprintf(w, "%q", e.Key)
			canonical(w, e.Value)
		}
	case yamldoc.List:
		fmt.Fprintf(w, "[%d", len(n.Items))
		for _, item := range n.Items {
			canonical(w, item)
		}
	default:
		b, err := json.Marshal(n.Value)
		if err != nil {
			b = []byte(n.Text)
		}
		_, _ = w.Write(append(b, '\n')) // a hash does not fail
	}
}
