package flow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

var (
	stepKinds = []string{"uses", "call", "let", "for"}
	// stepKeys says which keys a kind of step has, beside its own.
	commonKeys = []string{"id", "if", "on_error"}
	stepKeys   = map[Kind][]string{
		KindUses: {"uses", "connection", "key", "effect", "with", "retry", "timeout"},
		KindCall: {"call", "with", "retry", "timeout"},
		KindLet:  {"let"},
		KindEach: {"for", "steps", "concurrency"},
	}
	laterKinds = []string{"wait", "approve", "jq"}
)

// steps checks a list of steps. The scope grows by each of them.
func (l *loader) steps(d *draft, list *yamldoc.Node, path string, sc *scope, nesting int) []*Step {
	sc.later = maps.Clone(sc.later)
	for _, n := range list.Items {
		if id := n.Get("id"); id.IsString() {
			sc.later[id.Text] = true
		}
	}
	var out []*Step
	for i, n := range list.Items {
		at := yamldoc.Index(path, i)
		if n.Kind != yamldoc.Map {
			l.out.Errorf(n.Pos, at, "write `- id: …` and below it `uses: …`", "a step must be a map, not %s", n.Describe())
			continue
		}
		d.steps++
		if d.steps == maxSteps+1 {
			l.out.Errorf(n.Pos, at, "move some into a flow of their own and call it", "the flow has more than %d steps", maxSteps)
			return out
		}
		s, t := l.step(d, n, at, sc, nesting)
		if s.ID != "" {
			delete(sc.later, s.ID)
			if s.Kind == KindLet {
				if viewTypes()[s.ID] != nil {
					l.out.Errorf(n.Get("id").Pos, at+".id", "choose another", "the name %q is taken by the event's %[1]s", s.ID)
				}
				sc.vars[s.ID] = t
				sc.lets[s.ID] = true
			} else {
				sc.vars["steps"].fields[s.ID] = t
			}
		}
		out = append(out, s)
	}
	return out
}

// step checks one step and returns what its result will be.
func (l *loader) step(d *draft, n *yamldoc.Node, path string, sc *scope, nesting int) (*Step, *typ) {
	s := &Step{Pos: n.Pos, OnError: OnErrorFail}
	s.ID = l.id(d, n, path)
	own := *sc
	own.self = s.ID
	sc = &own
	s.Kind = l.kind(n, path)
	if s.Kind != "" {
		l.stepKeys(n, path, s.Kind)
	}
	if v := n.Get("if"); v != nil {
		var t *typ
		var proven []string
		s.If, t, proven = expression(&l.out, v, path+".if", sc)
		if s.If != nil {
			wantBool(&l.out, v, path+".if", t)
			if s.If.program == nil && s.If.always == false {
				l.out.Warnf(v.Pos, path+".if", "", "the step never runs")
			}
		}
		sc = sc.withFacts(proven)
	}
	l.onError(s, n, path)
	l.pacing(s, n, path)
	t := tAny
	switch s.Kind {
	case KindUses:
		t = l.uses(d, s, n, path, sc, nesting)
	case KindCall:
		t = l.call(d, s, n, path, sc)
	case KindLet:
		t = l.let(s, n, path, sc)
	case KindEach:
		t = l.each(d, s, n, path, sc, nesting)
	}
	switch {
	case s.OnError == OnErrorContinue:
		t = maybeObject(t, fmt.Sprintf("step %q may fail", s.ID))
	case s.If != nil && (s.If.program != nil || s.If.always == false):
		t = maybeObject(t, fmt.Sprintf("step %q may be skipped", s.ID))
	}
	return s, t
}

// maybeObject is maybe, but it does not let go of what nothing is known about either.
func maybeObject(t *typ, why string) *typ {
	if t.kind == kAny {
		return &typ{kind: kAny, null: true, why: why}
	}
	return maybe(t, why)
}

// reserved are names that expressions know already.
func reserved(id string) bool {
	return slices.Contains([]string{
		"event", "alert", "incident", "row", "inputs", "steps", "item", "index", "run", "true", "false", "nil", "not", "in", "and",
		"or", "let", "if", "else", "matches", "contains", "startsWith", "endsWith", "secrets", "env", "result", "error",
	}, id) || isFunction(id)
}

func (l *loader) id(d *draft, n *yamldoc.Node, path string) string {
	id := n.Get("id")
	switch {
	case id == nil:
		l.out.Errorf(n.Pos, path, "add `id: …`", "the step has no id")
		return ""
	case !id.IsString(), !idRule.MatchString(id.Text), len(id.Text) > maxName, strings.HasPrefix(id.Text, "__"):
		l.out.Errorf(id.Pos, path+".id", identifierHint(id.Text), "%s cannot be an id", strings.TrimPrefix(id.Describe(), "the string "))
		return ""
	case reserved(id.Text):
		l.out.Errorf(id.Pos, path+".id", "choose another", "the name %q is taken by the expression language", id.Text)
		return ""
	}
	if first, dup := d.ids[id.Text]; dup {
		l.out.Errorf(id.Pos, path+".id", fmt.Sprintf("the first is on line %d", first.Line), "another step has the id %q", id.Text)
		return ""
	}
	d.ids[id.Text] = id.Pos
	return id.Text
}

func (l *loader) kind(n *yamldoc.Node, path string) Kind {
	var have []string
	for _, key := range stepKinds {
		if n.Get(key) != nil {
			have = append(have, key)
		}
	}
	for _, key := range laterKinds {
		if n.Get(key) != nil {
			l.out.Errorf(n.Get(key).Pos, yamldoc.Join(path, key), "", "%q is not supported by this version", key)
			return ""
		}
	}
	switch {
	case len(have) > 1:
		l.out.Errorf(n.Pos, path, "make two steps of it", "a step does one thing, not %s", strings.Join(have, " and "))
		return ""
	case len(have) == 0:
		hint := "add uses (an action), call (a flow), let (names) or for with steps (a loop)"
		for _, key := range n.Keys() {
			if slices.Contains([]string{"use", "action", "run", "each", "foreach", "set", "vars", "loop", "flow"}, key) {
				hint = fmt.Sprintf("write %q for %q", map[string]string{
					"use": "uses", "action": "uses", "run": "uses", "each": "for", "foreach": "for", "loop": "for", "set": "let", "vars": "let", "flow": "call",
				}[key], key)
			}
		}
		l.out.Errorf(n.Pos, path, hint, "the step does nothing")
		return ""
	case have[0] == "for":
		if n.Get("each") != nil && n.Get("steps") == nil {
			l.out.Errorf(n.Get("each").Pos, path+".each", "a loop of steps is `for` with `steps`; { for, each } builds a list inside a value",
				"a step has no each")
			return ""
		}
		return KindEach
	}
	return Kind(have[0])
}

func (l *loader) stepKeys(n *yamldoc.Node, path string, kind Kind) {
	own := append(slices.Clone(commonKeys), stepKeys[kind]...)
	for _, e := range n.Entries {
		at := yamldoc.Join(path, e.Key)
		if slices.Contains(own, e.Key) {
			continue
		}
		var others []string
		for _, k := range []Kind{KindUses, KindCall, KindLet, KindEach} {
			if slices.Contains(stepKeys[k], e.Key) {
				others = append(others, string(k))
			}
		}
		switch {
		case len(others) > 0:
			word := map[Kind]string{KindUses: "uses", KindCall: "call", KindLet: "let", KindEach: "for"}[kind]
			l.out.Errorf(e.Pos, at, "leave it out", "%q has no meaning in a step with %s", e.Key, word)
		case slices.Contains(unsupported, e.Key):
			l.out.Errorf(e.Pos, at, "leave it out", "%q is not supported by this version", e.Key)
		case e.Key == "name" || e.Key == "description":
			l.out.Errorf(e.Pos, at, "use the id, or a comment", "a step has no key %q", e.Key)
		default:
			l.out.Errorf(e.Pos, at, yamldoc.DidYouMean(e.Key, own), "a step has no key %q", e.Key)
		}
	}
}

func (l *loader) onError(s *Step, n *yamldoc.Node, path string) {
	v := n.Get("on_error")
	if v == nil {
		return
	}
	at := path + ".on_error"
	known := []string{string(OnErrorFail), string(OnErrorContinue), string(OnErrorDeadLetter)}
	switch {
	case v.IsString() && slices.Contains(known, v.Text):
		s.OnError = OnError(v.Text)
	case v.IsString() && strings.HasPrefix(v.Text, "call:"), v.Kind == yamldoc.Map && v.Get("call") != nil:
		l.out.Errorf(v.Pos, at, "write continue and look at the result in the next step's `if`", "on_error: call is not supported by this version")
	default:
		l.out.Errorf(v.Pos, at, yamldoc.DidYouMean(v.Text, known), "must be fail, continue or dead_letter, not %s", v.Describe())
	}
}

var retryClasses = []plugin.Class{
	plugin.ClassThrottled, plugin.ClassTimeout, plugin.ClassUnavailable, plugin.ClassConflict, plugin.ClassUncertain,
	plugin.ClassInvalid, plugin.ClassConfig, plugin.ClassAuth, plugin.ClassDenied, plugin.ClassNotFound, plugin.ClassTooLarge,
	plugin.ClassCancelled, plugin.ClassBug,
}

const (
	maxAttempts = 100
	maxPause    = 24 * time.Hour
	maxTimeout  = time.Hour
)

// pacing reads retry and timeout.
func (l *loader) pacing(s *Step, n *yamldoc.Node, path string) {
	if v := n.Get("timeout"); v != nil {
		s.Timeout = l.duration(v, path+".timeout", maxTimeout)
	}
	r := n.Get("retry")
	if r == nil {
		return
	}
	at := path + ".retry"
	if r.Kind != yamldoc.Map {
		hint := "write { max: 5 }"
		if v, ok := r.Value.(int); ok {
			hint = fmt.Sprintf("write { max: %d }", v)
		}
		l.out.Errorf(r.Pos, at, hint, "must be a map, not %s", r.Describe())
		return
	}
	l.keys(r, at, "retry", []string{"on", "max", "base", "limit"}, nil)
	if v := r.Get("max"); v != nil {
		m, ok := v.Value.(int)
		if !ok || m < 1 || m > maxAttempts {
			l.out.Errorf(v.Pos, at+".max", "it counts the first attempt, too", "must be a number from 1 to %d, not %s", maxAttempts, v.Describe())
		}
		s.Retry.Max = m
	}
	if v := r.Get("base"); v != nil {
		s.Retry.Base = l.duration(v, at+".base", maxPause)
	}
	if v := r.Get("limit"); v != nil {
		s.Retry.Limit = l.duration(v, at+".limit", maxPause)
		if s.Retry.Limit > 0 && s.Retry.Limit < s.Retry.Base {
			l.out.Errorf(v.Pos, at+".limit", "", "the longest pause (%s) is shorter than the first (%s)",
				yamldoc.FormatDuration(s.Retry.Limit), yamldoc.FormatDuration(s.Retry.Base))
		}
	}
	if v := r.Get("on"); v != nil {
		l.retryOn(s, v, at+".on")
	}
}

func (l *loader) retryOn(s *Step, v *yamldoc.Node, at string) {
	known := make([]string, len(retryClasses))
	for i, c := range retryClasses {
		known[i] = string(c)
	}
	if v.Kind != yamldoc.List {
		l.out.Errorf(v.Pos, at, "write [throttled, timeout]", "must be a list of classes of errors, not %s", v.Describe())
		return
	}
	s.Retry.On = []plugin.Class{}
	for i, item := range v.Items {
		if !item.IsString() || !slices.Contains(known, item.Text) {
			l.out.Errorf(item.Pos, yamldoc.Index(at, i), yamldoc.DidYouMean(item.Text, known), "%s is no class of errors",
				strings.TrimPrefix(item.Describe(), "the string "))
			continue
		}
		s.Retry.On = append(s.Retry.On, plugin.Class(item.Text))
	}
}

func (l *loader) duration(n *yamldoc.Node, path string, most time.Duration) time.Duration {
	v, err := n.Duration()
	switch {
	case n.IsString() && strings.Contains(n.Text, exprOpen):
		l.out.Errorf(n.Pos, path, "write a plain duration such as 30s", "an expression is not possible here")
		return 0
	case err != nil:
		l.out.Errorf(n.Pos, path, "", "%v", err)
		return 0
	case v == 0 || v > most:
		l.out.Errorf(n.Pos, path, "", "must be more than zero and at most %s, not %s", yamldoc.FormatDuration(most), n.Text)
		return 0
	}
	return v
}

// uses checks the call of an action.
func (l *loader) uses(d *draft, s *Step, n *yamldoc.Node, path string, sc *scope, nesting int) *typ {
	v := n.Get("uses")
	at := path + ".uses"
	vc := newValueCompiler(&l.out)
	with := l.with(vc, s, n, path, sc)
	var key *typ
	if k := n.Get("key"); k != nil {
		p, t := vc.compile(k, path+".key", sc)
		s.Key, key = &Value{p}, t
		vc.check(k, &schema.Schema{Types: []string{"string"}, MinLen: new(1)}, path+".key", "key")
	}
	var found bool
	if v.IsString() {
		s.Connector, s.Action, found = strings.Cut(v.Text, ".")
	}
	if !found || s.Connector == "" || s.Action == "" || strings.Contains(v.Text, exprOpen) {
		l.out.Errorf(v.Pos, at, "such as thehive.case.ensure", "an action is named connector.noun.verb, not %s", v.Describe())
		return tAny
	}
	desc := l.connector(v.Pos, at, s.Connector)
	if desc == nil {
		return tAny
	}
	s.Connection = l.connection(n.Get("connection"), v.Pos, path, s.Connector)
	action := l.action(v, at, desc, s)
	if action == nil {
		return tAny
	}
	input, output := l.actionSchemas(action, v.Pos, at)
	s.Effect = l.effect(n.Get("effect"), with, action, input, path+".effect", v.Text)
	s.ResolveWindow = action.GetResolveWindow().AsDuration()
	if slices.Contains(s.Retry.On, plugin.ClassUncertain) && s.Effect == connectorv1.Effect_EFFECT_UNSAFE {
		l.out.Errorf(n.Get("retry").Pos, path+".retry.on", "take uncertain out; the run is parked for a person instead",
			"%s cannot be repeated while nobody knows whether it was done", v.Text)
	}
	if sunset := action.GetSunset(); sunset != nil {
		l.out.Warnf(v.Pos, at, "look for another action of the connector", "the vendor ends what this action uses on %s", sunset.AsTime().Format(time.DateOnly))
	}
	if instead := action.GetDeprecated(); instead != "" {
		l.out.Warnf(v.Pos, at, instead, "%s is deprecated", v.Text)
	}
	vc.check(with, input, path+".with", "input of "+v.Text)
	if k := n.Get("key"); k != nil && action.GetEffectByCaller() && s.Effect != connectorv1.Effect_EFFECT_KEYED {
		l.out.Warnf(k.Pos, path+".key", "write effect: keyed if it is to be done once per key, else leave the key out",
			"%s takes a key only with effect: keyed", v.Text)
	} else {
		l.key(d, s, n, path, key, nesting, sc)
	}
	t := fromSchema(output, "output of "+v.Text)
	for name, streamed := range map[string]bool{"rows": action.GetRows(), "blobs": action.GetBlobs()} {
		if streamed && t.kind == kObject && t.fields[name] == nil {
			c := *t
			c.fields = maps.Clone(t.fields)
			c.fields[name] = listOf(tAny)
			t = &c
		}
	}
	return shaped(t, output, with, s.ID)
}

// effects are the words for them.
var effects = map[string]connectorv1.Effect{
	"read": connectorv1.Effect_EFFECT_READ, "idempotent": connectorv1.Effect_EFFECT_IDEMPOTENT,
	"keyed": connectorv1.Effect_EFFECT_KEYED, "unsafe": connectorv1.Effect_EFFECT_UNSAFE,
}

// effect says what happens when the action is called twice: the action knows, or leaves it to the flow.
func (l *loader) effect(n, with *yamldoc.Node, a *connectorv1.Action, input *schema.Schema, path, what string) connectorv1.Effect {
	declared, known := a.GetEffect(), []string{"read", "idempotent", "keyed", "unsafe"}
	if declared == connectorv1.Effect_EFFECT_UNSPECIFIED {
		declared = connectorv1.Effect_EFFECT_UNSAFE
	}
	switch {
	case n == nil && a.GetEffectByCaller():
		return effectByRule(with, a, input, declared)
	case n == nil:
		return declared
	case !a.GetEffectByCaller():
		l.out.Errorf(n.Pos, path, "leave it out", "%s knows its effect by itself", what)
		return declared
	case !n.IsString() || !slices.Contains(known, n.Text):
		l.out.Errorf(n.Pos, path, yamldoc.DidYouMean(n.Text, known), "must be read, idempotent, keyed or unsafe, not %s", n.Describe())
		return declared
	}
	return effects[n.Text]
}

// effectByRule is the effect of an action that the flow says nothing about: the first rule's that fits what is written in
// the input, or its default. What an expression will give is not known.
func effectByRule(with *yamldoc.Node, a *connectorv1.Action, input *schema.Schema, otherwise connectorv1.Effect) connectorv1.Effect {
	for _, r := range a.GetEffectRules() {
		var value string
		switch v := with.Get(r.GetProperty()); {
		case v == nil:
			if p := input.Properties[r.GetProperty()]; p != nil {
				value, _ = p.Default.(string)
			}
		case v.IsString():
			value = v.Text
		}
		if value != "" && slices.Contains(r.GetValues(), value) && r.GetEffect() != connectorv1.Effect_EFFECT_UNSPECIFIED {
			return r.GetEffect()
		}
	}
	return otherwise
}

// with compiles the input of a step. Without one it is an empty map.
func (l *loader) with(vc *valueCompiler, s *Step, n *yamldoc.Node, path string, sc *scope) *yamldoc.Node {
	with := n.Get("with")
	if with == nil || with.IsNull() {
		with = &yamldoc.Node{Kind: yamldoc.Map, Pos: n.Pos}
	}
	p, t := vc.compile(with, path+".with", sc)
	s.With = &Value{p}
	if t.kind != kObject && t.kind != kAny {
		l.out.Errorf(with.Pos, path+".with", "", "must be a map, not %s", t)
		return &yamldoc.Node{Kind: yamldoc.Map, Pos: n.Pos}
	}
	return with
}

func (l *loader) action(v *yamldoc.Node, at string, desc *connectorv1.DescribeResponse, s *Step) *connectorv1.Action {
	known := make([]string, 0, len(desc.GetActions()))
	for _, a := range desc.GetActions() {
		if a.GetName() == s.Action {
			return a
		}
		known = append(known, s.Connector+"."+a.GetName())
	}
	for _, t := range desc.GetTriggers() {
		if t.GetName() == s.Action {
			l.out.Errorf(v.Pos, at, "put it under `on`", "%s is a trigger, not an action", v.Text)
			return nil
		}
	}
	hint := yamldoc.DidYouMean(v.Text, known)
	if noun, ok := strings.CutSuffix(s.Action, ".create"); ok && slices.Contains(known, s.Connector+"."+noun+".ensure") {
		hint = fmt.Sprintf("write %s.%s.ensure: it creates once and updates from then on", s.Connector, noun)
	}
	l.out.Errorf(v.Pos, at, hint, "the connector %s has no action %q", s.Connector, s.Action)
	return nil
}

func (l *loader) actionSchemas(a *connectorv1.Action, pos diag.Pos, at string) (input, output *schema.Schema) {
	if have, ok := l.schemas[a]; ok {
		return have[0], have[1]
	}
	var pair [2]*schema.Schema
	for i, b := range [][]byte{a.GetInputSchema(), a.GetOutputSchema()} {
		s, err := schema.Parse(b)
		if err != nil {
			l.out.Warnf(pos, at, "tell the connector's author", "the connector describes %s of %s badly, so that it is not checked: %v",
				[]string{"the input", "the output"}[i], a.GetName(), err)
			s = &schema.Schema{}
		}
		pair[i] = s
	}
	l.schemas[a] = pair
	return pair[0], pair[1]
}

// key sees to it that a keyed action has a key that is one effect's and no other's.
func (l *loader) key(d *draft, s *Step, n *yamldoc.Node, path string, t *typ, nesting int, sc *scope) {
	k := n.Get("key")
	if s.Effect != connectorv1.Effect_EFFECT_KEYED {
		if k != nil {
			l.out.Warnf(k.Pos, path+".key", "leave it out", "%s.%s takes no key", s.Connector, s.Action)
		}
		return
	}
	source := "event.case_key"
	switch {
	case k != nil:
		source = k.Text
		if nesting > 0 && t != nil && !l.varies(k.Text, sc) {
			l.out.Warnf(k.Pos, path+".key", "put ${{ item }} or ${{ index }} in it", "the key is the same in every round of the loop, so that the rounds write one thing")
		}
	case nesting > 0:
		l.out.Errorf(n.Pos, path, "add a key with ${{ item }} or ${{ index }} in it, or every round would write the same thing", "%s.%s needs a key", s.Connector, s.Action)
		return
	case sc.vars["event"] == nil:
		l.out.Errorf(n.Pos, path, "add one, such as key: ${{ inputs.key }}; a flow without `on` has no event to take it from", "%s.%s needs a key", s.Connector, s.Action)
		return
	case strings.HasSuffix(s.Action, ".ensure"):
		e, _, problems := compile("event.case_key", sc)
		if len(problems) > 0 {
			l.out.Errorf(n.Pos, path, "", "the default key does not compile: %s", problems[0].msg)
			return
		}
		e.pos, e.path = n.Pos, path+".key"
		s.Key = &Value{&exprPart{Expr: e}}
	default:
		l.out.Errorf(n.Pos, path, "add one that is the same whenever the same thing is meant, such as key: ${{ steps.case.id }}", "%s.%s needs a key", s.Connector, s.Action)
		return
	}
	same := s.Connection + " " + s.Action + " " + strings.Join(strings.Fields(strings.Trim(source, "${} ")), " ")
	if other := d.writes[same]; other != "" && s.ID != "" {
		l.out.Warnf(n.Pos, path, "give one of them another key if two things are meant", "the steps %q and %q write the same thing: %s.%s with the same key", other, s.ID, s.Connector, s.Action)
	}
	d.writes[same] = s.ID
}

// varies says whether a key mentions anything of the loop.
func (l *loader) varies(key string, sc *scope) bool {
	for _, word := range strings.FieldsFunc(key, func(r rune) bool { return !strings.ContainsRune("_", r) && !isAlnum(r) }) {
		if word == "item" || word == "index" || sc.lets[word] || sc.vars["steps"].fields[word] != nil {
			return true
		}
	}
	return false
}

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// call checks the call of a flow.
func (l *loader) call(d *draft, s *Step, n *yamldoc.Node, path string, sc *scope) *typ {
	v := n.Get("call")
	at := path + ".call"
	vc := newValueCompiler(&l.out)
	with := l.with(vc, s, n, path, sc)
	if !v.IsString() || strings.Contains(v.Text, exprOpen) {
		l.out.Errorf(v.Pos, at, "", "must be the name of a flow, not %s", v.Describe())
		return tAny
	}
	target := l.drafts[v.Text]
	if target == nil {
		l.out.Errorf(v.Pos, at, yamldoc.DidYouMean(v.Text, slices.Collect(maps.Keys(l.drafts))), "there is no flow %q", v.Text)
		return tAny
	}
	if target.state == 1 {
		from := max(slices.Index(l.stack, v.Text), 0)
		l.out.Errorf(v.Pos, at, "a flow cannot call itself", "the calls go round in a circle: %s", strings.Join(append(slices.Clone(l.stack[from:]), v.Text), " -> "))
		return tAny
	}
	if on := target.root.Get("on"); on != nil {
		l.out.Errorf(v.Pos, at, "move the steps into a flow with inputs and call it from both", "the flow %q starts on events and cannot be called", v.Text)
		return tAny
	}
	l.check(target)
	if target.flow.Disabled {
		l.out.Errorf(v.Pos, at, "enable it, or take the step out", "the flow %q is not enabled", v.Text)
	}
	d.calls[v.Text] = target
	if d.depth = max(d.depth, target.depth+1); target.depth+1 == maxCallDepth+1 {
		l.out.Errorf(v.Pos, at, "", "calls are nested more than %d deep", maxCallDepth)
	}
	s.Call = target.flow
	in := &schema.Schema{Types: []string{"object"}, Closed: true, Properties: map[string]*schema.Schema{}}
	for name, input := range target.flow.Inputs {
		p := inputSchema(input.Type)
		p.Description = input.Doc
		in.Properties[name] = p
		if input.Required {
			in.Required = append(in.Required, name)
		}
	}
	slices.Sort(in.Required)
	vc.check(with, in, path+".with", "input of flow "+v.Text)
	return target.output
}

// let checks names and their values.
func (l *loader) let(s *Step, n *yamldoc.Node, path string, sc *scope) *typ {
	v := n.Get("let")
	t := &typ{kind: kObject, name: s.ID, fields: map[string]*typ{}}
	if v.Kind != yamldoc.Map || len(v.Entries) == 0 {
		l.out.Errorf(v.Pos, path+".let", "write `name: ${{ … }}` below it", "must be a map of at least one name, not %s", empty(v))
		return t
	}
	for _, e := range v.Entries {
		at := yamldoc.Join(path+".let", e.Key)
		if !idRule.MatchString(e.Key) {
			l.out.Errorf(e.Pos, at, identifierHint(e.Key), "%q cannot be a name", e.Key)
		}
		p, et := newValueCompiler(&l.out).compile(e.Value, at, sc)
		s.Let = append(s.Let, Binding{Name: e.Key, Value: &Value{p}})
		t.fields[e.Key] = et
	}
	return t
}

const maxConcurrency = 32

// each checks a loop of steps.
func (l *loader) each(d *draft, s *Step, n *yamldoc.Node, path string, sc *scope, nesting int) *typ {
	v, body := n.Get("for"), n.Get("steps")
	p, t := newValueCompiler(&l.out).compile(v, path+".for", sc)
	s.For = &Value{p}
	item := eachItem(&l.out, v, path+".for", t)
	s.Concurrency = 1
	if c := n.Get("concurrency"); c != nil {
		m, ok := c.Value.(int)
		if !ok || m < 1 || m > maxConcurrency {
			l.out.Errorf(c.Pos, path+".concurrency", "", "must be a number from 1 to %d, not %s", maxConcurrency, c.Describe())
			m = 1
		}
		s.Concurrency = m
	}
	switch {
	case body == nil:
		l.out.Errorf(n.Pos, path, "add `steps:`; { for, each } builds a list inside a value", "the loop has no steps")
		return listOf(tAny)
	case body.Kind != yamldoc.List || len(body.Items) == 0:
		l.out.Errorf(body.Pos, path+".steps", "", "steps must be a list of at least one step, not %s", empty(body))
		return listOf(tAny)
	case nesting+1 > maxNesting:
		l.out.Errorf(v.Pos, path+".for", "move the inner loop into a flow of its own", "loops are nested more than %d deep", maxNesting)
		return listOf(tAny)
	}
	inner := sc.clone()
	before := sc.vars["steps"].fields
	inner.vars["steps"] = &typ{kind: kObject, name: "steps", fields: maps.Clone(before)}
	inner.self = ""
	inner.vars["item"], inner.vars["index"] = item, tInt
	delete(inner.absent, "item")
	delete(inner.absent, "index")
	s.Body = l.steps(d, body, path+".steps", inner, nesting+1)
	result := &typ{kind: kObject, fields: map[string]*typ{}}
	for _, b := range s.Body {
		switch {
		case b.ID == "":
		case b.Kind == KindLet:
			result.fields[b.ID] = inner.vars[b.ID]
		default:
			result.fields[b.ID] = inner.vars["steps"].fields[b.ID]
		}
	}
	return listOf(result)
}
