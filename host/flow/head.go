package flow

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/flow/view"
	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

var viewTypes = sync.OnceValue(func() map[string]*typ {
	return map[string]*typ{
		"event":    fromGo(reflect.TypeFor[view.Event](), "event"),
		"alert":    fromGo(reflect.TypeFor[view.Alert](), "alert"),
		"incident": fromGo(reflect.TypeFor[view.Incident](), "incident"),
		"case":     fromGo(reflect.TypeFor[view.Case](), "case"),
		"row":      tMap,
	}
})

var runType = &typ{kind: kObject, name: "run", fields: map[string]*typ{"id": tString, "flow": tString, "attempt": tInt}}

// subjects are the names that belong to one kind of event, by its type.
var subjects = map[string]string{event.TypeAlert: "alert", event.TypeIncident: "incident", event.TypeCase: "case"}

// triggers reads `on` and returns what the steps may see.
func (l *loader) triggers(d *draft) *scope {
	sc := &scope{
		vars:   map[string]*typ{"run": runType, "steps": {kind: kObject, name: "steps", fields: map[string]*typ{}}},
		absent: map[string]string{"item": "it belongs to a loop", "index": "it belongs to a loop"},
		lets:   map[string]bool{},
		later:  map[string]bool{},
	}
	on := d.root.Get("on")
	if on == nil {
		for name := range viewTypes() {
			sc.absent[name] = "the flow has no `on`; take what it needs from its inputs"
		}
		sc.vars["inputs"] = &typ{kind: kObject, name: "inputs", fields: d.inputs}
		return sc
	}
	sc.absent["inputs"] = "the flow starts on an event; inputs are for flows that are called"
	if n := d.root.Get("inputs"); n != nil {
		l.out.Errorf(n.Pos, "inputs", "move the steps into a flow of their own and call it from both",
			"a flow has either `on` or `inputs`: events bring no inputs")
	}
	seen := map[string]bool{} // names of subjects
	switch {
	case on.IsString() || on.Kind == yamldoc.List:
		hint := "write `on:` and below it `sentinel.alerts: {}`"
		if on.IsString() {
			hint = fmt.Sprintf("write `on: { %s: {} }`", on.Text)
		}
		l.out.Errorf(on.Pos, "on", hint, "must be a map of triggers, not %s", on.Describe())
	case on.Kind != yamldoc.Map || len(on.Entries) == 0:
		l.out.Errorf(on.Pos, "on", "leave it out if the flow is only called", "must be a map of triggers, not %s", empty(on))
	}
	for _, e := range on.Entries {
		t, names := l.trigger(e)
		d.flow.Triggers = append(d.flow.Triggers, t)
		for _, name := range names {
			seen[name] = true
		}
	}
	maps.Copy(sc.vars, l.subjects(seen, sc.absent))
	return sc
}

// subjects says which of alert, incident, case and row an event brings. Nothing seen means that nothing is known.
func (l *loader) subjects(seen map[string]bool, absent map[string]string) map[string]*typ {
	vars := map[string]*typ{"event": viewTypes()["event"]}
	for _, name := range []string{"alert", "incident", "case", "row"} {
		t := viewTypes()[name]
		switch {
		case len(seen) == 0:
			vars[name] = tAny
		case !seen[name]:
			absent[name] = "the trigger brings " + strings.Join(brings(seen), " and ")
		case len(seen) > 1:
			vars[name] = maybe(t, "the flow also answers events without it")
		default:
			vars[name] = t
		}
	}
	return vars
}

func brings(seen map[string]bool) []string {
	names := slices.Sorted(maps.Keys(seen))
	for i, name := range names {
		names[i] = name + "s"
	}
	return names
}

func (l *loader) trigger(e yamldoc.Entry) (Trigger, []string) {
	path := yamldoc.Join("on", e.Key)
	t := Trigger{Pos: e.Pos}
	var found bool
	t.Connector, t.Trigger, found = strings.Cut(e.Key, ".")
	if !found || t.Connector == "" || t.Trigger == "" {
		hint := "such as sentinel.alerts"
		if slices.Contains([]string{"schedule", "webhook", "cron", "every"}, e.Key) {
			hint = e.Key + " is not supported by this version"
		}
		l.out.Errorf(e.Pos, path, hint, "a trigger is named connector.trigger, not %q", e.Key)
		return t, nil
	}
	var names []string
	var spec *connectorv1.Trigger
	if desc := l.connector(e.Pos, path, t.Connector); desc != nil {
		var known []string
		for _, have := range desc.GetTriggers() {
			known = append(known, t.Connector+"."+have.GetName())
			if have.GetName() == t.Trigger {
				spec = have
			}
		}
		if spec == nil {
			hint := yamldoc.DidYouMean(e.Key, known)
			if len(known) == 0 {
				hint = "it has none"
			}
			l.out.Errorf(e.Pos, path, hint, "the connector %s has no trigger %q", t.Connector, t.Trigger)
		}
	}
	for _, emits := range spec.GetEmits() {
		name := subjects[emits]
		if name == "" {
			name = "row"
		}
		names = append(names, name)
	}
	body := e.Value
	if body.IsNull() {
		body = &yamldoc.Node{Kind: yamldoc.Map, Pos: e.Pos}
	}
	if body.Kind != yamldoc.Map {
		l.out.Errorf(body.Pos, path, "write { connection: …, where: … }", "must be a map, not %s", body.Describe())
		return t, names
	}
	l.keys(body, path, "a trigger", []string{"connection", "where", "group_by"}, []string{"dedupe", "throttle", "filter"})
	t.Connection = l.connection(body.Get("connection"), e.Pos, path, t.Connector)
	if where := body.Get("where"); where != nil {
		t.Where = l.where(where, path+".where", names)
	}
	t.GroupBy = l.groupBy(body.Get("group_by"), path, names)
	return t, names
}

func (l *loader) where(n *yamldoc.Node, path string, names []string) *Expr {
	seen := map[string]bool{}
	for _, name := range names {
		seen[name] = true
	}
	absent := map[string]string{"steps": "no step has run yet", "run": "there is no run yet", "inputs": "events bring no inputs"}
	sc := &scope{absent: absent}
	sc.vars = l.subjects(seen, absent)
	e, t, _ := expression(&l.out, n, path, sc)
	if e != nil {
		wantBool(&l.out, n, path, t)
	}
	return e
}

func (l *loader) groupBy(n *yamldoc.Node, path string, names []string) string {
	incidents := len(names) == 1 && names[0] == "incident"
	switch {
	case n == nil && incidents:
		return "incident"
	case n == nil:
		return "alert"
	case !n.IsString() || n.Text != "alert" && n.Text != "incident":
		l.out.Errorf(n.Pos, path+".group_by", yamldoc.DidYouMean(n.Text, []string{"alert", "incident"}),
			"must be alert (a case for each alert) or incident (a case for each incident), not %s", n.Describe())
		return "alert"
	case n.Text == "alert" && incidents:
		l.out.Errorf(n.Pos, path+".group_by", "write incident, or leave it out", "the trigger brings incidents, not alerts")
	}
	return n.Text
}

// connector finds a descriptor or says what there is.
func (l *loader) connector(pos diag.Pos, path, name string) *connectorv1.DescribeResponse {
	if desc, ok := l.cat.Connector(name); ok {
		return desc
	}
	var known []string
	for _, c := range l.cat.Connections("") {
		if c == name {
			desc, _ := l.cat.Connection(c)
			l.out.Errorf(pos, path, fmt.Sprintf("write %s, and connection: %s", desc.GetName(), name), "%q is a connection, not a connector", name)
			return nil
		}
		if desc, ok := l.cat.Connection(c); ok && !slices.Contains(known, desc.GetName()) {
			known = append(known, desc.GetName())
		}
	}
	l.out.Errorf(pos, path, yamldoc.DidYouMean(name, known), "there is no connector %q", name)
	return nil
}

// connection finds the connection that a step or trigger means.
func (l *loader) connection(n *yamldoc.Node, pos diag.Pos, path, connector string) string {
	fitting := l.cat.Connections(connector)
	if n == nil {
		switch _, known := l.cat.Connector(connector); {
		case len(fitting) == 1:
			return fitting[0]
		case !known:
		case len(fitting) == 0:
			l.out.Errorf(pos, path, fmt.Sprintf("add one with `connector: %s` to the connections in casewire.yaml", connector),
				"there is no connection of the connector %s", connector)
		default:
			l.out.Errorf(pos, path, "add connection: "+strings.Join(slices.Sorted(slices.Values(fitting)), " or "),
				"there are %d connections of the connector %s", len(fitting), connector)
		}
		return ""
	}
	at := path + ".connection"
	if !n.IsString() {
		l.out.Errorf(n.Pos, at, "", "must be the name of a connection, not %s", n.Describe())
		return ""
	}
	if strings.Contains(n.Text, exprOpen) {
		l.out.Errorf(n.Pos, at, "use one step per connection, with `if`", "a connection cannot be an expression: it is checked before anything runs")
		return ""
	}
	desc, ok := l.cat.Connection(n.Text)
	switch {
	case !ok:
		l.out.Errorf(n.Pos, at, yamldoc.DidYouMean(n.Text, fitting), "there is no connection %q", n.Text)
	case desc.GetName() != connector:
		l.out.Errorf(n.Pos, at, yamldoc.DidYouMean(n.Text, fitting), "%q is a connection of %s, not of %s", n.Text, desc.GetName(), connector)
	}
	return n.Text
}

var inputTypes = []string{"any", "string", "integer", "number", "boolean", "array", "object"}

var idRule = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (l *loader) inputs(d *draft) {
	n := d.root.Get("inputs")
	d.inputs = map[string]*typ{}
	if n == nil {
		return
	}
	if n.Kind != yamldoc.Map {
		l.out.Errorf(n.Pos, "inputs", "write `name: {type: string}`", "must be a map, not %s", n.Describe())
		return
	}
	d.flow.Inputs = map[string]Input{}
	for _, e := range n.Entries {
		path := yamldoc.Join("inputs", e.Key)
		if !idRule.MatchString(e.Key) {
			l.out.Errorf(e.Pos, path, identifierHint(e.Key), "%q cannot be the name of an input", e.Key)
		}
		in, t := l.input(e.Value, path)
		d.flow.Inputs[e.Key], d.inputs[e.Key] = in, t
	}
}

func identifierHint(s string) string {
	hint := "letters, digits and underscores, and a letter first"
	if fixed := strings.ReplaceAll(s, "-", "_"); fixed != s && idRule.MatchString(fixed) {
		hint = fmt.Sprintf("write %q: in an expression a dash is a minus", fixed)
	}
	return hint
}

func (l *loader) input(n *yamldoc.Node, path string) (Input, *typ) {
	in := Input{Type: "any"}
	switch {
	case n.IsNull():
	case n.IsString():
		in.Type = l.inputType(n, path)
	case n.Kind != yamldoc.Map:
		l.out.Errorf(n.Pos, path, "write {type: string, required: true}", "must be a type or a map, not %s", n.Describe())
	default:
		l.keys(n, path, "an input", []string{"type", "required", "default", "doc"}, nil)
		if t := n.Get("type"); t != nil {
			in.Type = l.inputType(t, path+".type")
		}
		if r := n.Get("required"); r != nil {
			b, ok := r.Value.(bool)
			if !ok {
				l.out.Errorf(r.Pos, path+".required", "", "must be true or false, not %s", r.Describe())
			}
			in.Required = b
		}
		if doc := n.Get("doc"); doc != nil {
			in.Doc = doc.Text
		}
		if def := n.Get("default"); def != nil {
			c := schema.Checker{What: "input", Out: &l.out}
			c.Check(def, inputSchema(in.Type), path+".default")
			in.Default = def.Plain()
			if in.Required {
				l.out.Errorf(def.Pos, path+".default", "leave one of the two out", "an input that is required needs no default")
			}
			l.noExpressions(def, path+".default")
		}
	}
	t := fromSchema(inputSchema(in.Type), "")
	if !in.Required && in.Default == nil {
		t = maybe(t, "the input is not required and has no default")
	}
	return in, t
}

func (l *loader) noExpressions(n *yamldoc.Node, path string) {
	for p, v := range n.All(path) {
		if v.IsString() && strings.Contains(v.Text, exprOpen) {
			l.out.Errorf(v.Pos, p, "write a plain value", "an expression is not possible here")
		}
	}
}

func (l *loader) inputType(n *yamldoc.Node, path string) string {
	if n.IsString() && slices.Contains(inputTypes, n.Text) {
		return n.Text
	}
	hint := yamldoc.DidYouMean(n.Text, inputTypes)
	if better := map[string]string{"int": "integer", "bool": "boolean", "list": "array", "map": "object", "text": "string", "str": "string", "float": "number"}[n.Text]; better != "" {
		hint = fmt.Sprintf("write %q", better)
	}
	l.out.Errorf(n.Pos, path, hint, "%s is no type", strings.TrimPrefix(n.Describe(), "the string "))
	return "any"
}

func inputSchema(typ string) *schema.Schema {
	if typ == "any" {
		return &schema.Schema{}
	}
	return &schema.Schema{Types: []string{typ}}
}
