package flow

import (
	"fmt"
	"maps"
	"strings"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
)

// Value is a YAML value with expressions in it. A string that is exactly one expression keeps its type.
type Value struct{ root part }

// Eval evaluates the value to what encoding/json can write. The result may share parts with the flow and with env: it is
// read-only.
func (v *Value) Eval(env Env) (any, error) { return v.root.eval(env) }

// part of a value.
type part interface{ eval(env Env) (any, error) }

type constPart struct{ value any }

func (p constPart) eval(Env) (any, error) { return p.value, nil }

type exprPart struct {
	*Expr
	// omit: null means that the key is left out, because the property is optional and does not take null.
	omit bool
}

func (p *exprPart) eval(env Env) (any, error) { return p.Eval(env) }

// textPart is text with expressions in it.
type textPart struct {
	pieces []textPiece
}

type textPiece struct {
	text string
	expr *Expr
}

func (p *textPart) eval(env Env) (any, error) {
	var b strings.Builder
	for _, piece := range p.pieces {
		if piece.expr == nil {
			b.WriteString(piece.text)
			continue
		}
		v, err := piece.expr.run(env)
		if err == nil {
			var s string
			if s, err = text(v); err == nil && b.Len()+len(s) > maxResult {
				err = errTooLarge
			}
			b.WriteString(s)
		}
		if err != nil {
			return nil, piece.expr.fail(err)
		}
	}
	return b.String(), nil
}

type mapPart struct {
	keys  []string
	parts []part
}

func (p *mapPart) eval(env Env) (any, error) {
	m := make(map[string]any, len(p.keys))
	for i, key := range p.keys {
		v, err := p.parts[i].eval(env)
		if err != nil {
			return nil, err
		}
		if e, ok := p.parts[i].(*exprPart); ok && v == nil && e.omit {
			continue
		}
		m[key] = v
	}
	return m, nil
}

type listPart []part

func (p listPart) eval(env Env) (any, error) {
	list := make([]any, len(p))
	for i, item := range p {
		v, err := item.eval(env)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

// maxItems is the longest list that {for, each} builds.
const maxItems = 100_000

// eachPart is { for: list, each: value, if: condition }.
type eachPart struct {
	list, each part
	cond       *Expr
	at         *Expr // for errors
}

func (p *eachPart) eval(env Env) (any, error) {
	v, err := p.list.eval(env)
	if err != nil {
		return nil, err
	}
	items, err := asList("for", v)
	if err != nil {
		return nil, p.at.fail(err)
	}
	if len(items) > maxItems {
		return nil, p.at.fail(fmt.Errorf("for goes over %d items; the limit is %d", len(items), maxItems))
	}
	inner := maps.Clone(env)
	if inner == nil {
		inner = Env{}
	}
	out := make([]any, 0, len(items))
	for i, item := range items {
		inner["item"], inner["index"] = item, i
		if p.cond != nil {
			ok, err := p.cond.Test(inner)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		v, err := p.each.eval(inner)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// valueCompiler makes Values of YAML and remembers what it knows about them.
type valueCompiler struct {
	out   *diag.List
	types map[*yamldoc.Node]*typ // of the nodes that have expressions
	parts map[*yamldoc.Node]part
}

func newValueCompiler(out *diag.List) *valueCompiler {
	return &valueCompiler{out: out, types: map[*yamldoc.Node]*typ{}, parts: map[*yamldoc.Node]part{}}
}

// report puts the problems of an expression at their places in the file. The offset is where the expression begins in
// the node's text.
func report(out *diag.List, n *yamldoc.Node, path string, offset int, problems []problem) {
	for _, p := range problems {
		out.Errorf(n.At(offset+p.at), path, p.hint, "%s", p.msg)
	}
}

// expression compiles a node that must be exactly one expression, or true or false.
func expression(out *diag.List, n *yamldoc.Node, path string, sc *scope) (*Expr, *typ, []string) {
	if b, ok := n.Value.(bool); ok && n.Kind == yamldoc.Scalar {
		return &Expr{always: b, pos: n.Pos, path: path, source: n.Text}, tBool, nil
	}
	if !n.IsString() {
		out.Errorf(n.Pos, path, "write ${{ … }}", "must be an expression, not %s", n.Describe())
		return nil, tAny, nil
	}
	pieces, ok := pieces(out, n, path)
	if !ok {
		return nil, tAny, nil
	}
	one, ok := single(n, pieces)
	if !ok {
		hint := "write the whole condition inside one ${{ … }}"
		if len(pieces) == 1 && !pieces[0].expr {
			hint = fmt.Sprintf("write ${{ %s }}", strings.TrimSpace(pieces[0].text))
		}
		out.Errorf(n.Pos, path, hint, "must be one expression, not text")
		return nil, tAny, nil
	}
	e, t, proven, problems := compileFacts(one.text, sc)
	report(out, n, path, one.offset, problems)
	if e != nil {
		e.pos, e.path = n.At(one.start()), path
	}
	return e, t, proven
}

func pieces(out *diag.List, n *yamldoc.Node, path string) ([]piece, bool) {
	list, open := split(n.Text)
	if open >= 0 {
		hint := "close it with }}"
		if n.Style == yamldoc.Plain {
			hint = "close it with }}; if it is closed in the file, put the value in quotes: YAML takes ` #` for the beginning of a comment"
		}
		out.Errorf(n.At(open), path, hint, "the expression that begins here has no end")
		return nil, false
	}
	return list, true
}

// single says whether the pieces are exactly one expression. The line break at the end of a block does not count.
func single(n *yamldoc.Node, list []piece) (piece, bool) {
	if n.Style == yamldoc.Literal || n.Style == yamldoc.Folded {
		for len(list) > 1 && !list[len(list)-1].expr && strings.TrimSpace(list[len(list)-1].text) == "" {
			list = list[:len(list)-1]
		}
	}
	if len(list) == 1 && list[0].expr {
		return list[0], true
	}
	return piece{}, false
}

// compile makes a part of a node and says what it will be.
func (c *valueCompiler) compile(n *yamldoc.Node, path string, sc *scope) (part, *typ) {
	p, t := c.node(n, path, sc)
	if _, fixed := p.(constPart); !fixed {
		c.types[n], c.parts[n] = t, p
	}
	return p, t
}

func (c *valueCompiler) node(n *yamldoc.Node, path string, sc *scope) (part, *typ) {
	switch n.Kind {
	case yamldoc.List:
		return c.list(n, path, sc)
	case yamldoc.Map:
		if isEach(n) {
			return c.each(n, path, sc)
		}
		return c.mapping(n, path, sc)
	}
	if !n.IsString() {
		return constPart{n.Value}, literalType(n.Value)
	}
	return c.text(n, path, sc)
}

func literalType(v any) *typ {
	switch v.(type) {
	case nil:
		return tNull
	case bool:
		return tBool
	case int, uint64:
		return tInt
	case float64:
		return tNumber
	}
	return tString
}

func (c *valueCompiler) text(n *yamldoc.Node, path string, sc *scope) (part, *typ) {
	list, ok := pieces(c.out, n, path)
	if !ok {
		return constPart{nil}, tAny
	}
	if one, ok := single(n, list); ok {
		e, t, problems := compile(one.text, sc)
		report(c.out, n, path, one.offset, problems)
		if e == nil {
			e = &Expr{}
		}
		e.pos, e.path = n.At(one.start()), path
		return &exprPart{Expr: e}, t
	}
	p := &textPart{}
	var plainText strings.Builder
	dynamic := false
	for _, piece := range list {
		if !piece.expr {
			if strings.Contains(piece.text, "{{") && !strings.Contains(piece.text, exprOpen) && strings.Contains(piece.text, exprClose) {
				c.out.Warnf(n.Pos, path, "an expression is written ${{ … }}", "{{ … }} is text here")
			}
			plainText.WriteString(piece.text)
			p.pieces = append(p.pieces, textPiece{text: piece.text})
			continue
		}
		dynamic = true
		e, t, problems := compile(piece.text, sc)
		report(c.out, n, path, piece.offset, problems)
		if e == nil {
			e = &Expr{}
		} else if t.kind == kObject && t.extra == nil && len(t.fields) > 8 {
			c.out.Warnf(n.At(piece.offset), path, "name one of its fields", "the whole of %s is written as JSON here", t)
		}
		e.pos, e.path = n.At(piece.start()), path
		p.pieces = append(p.pieces, textPiece{expr: e})
	}
	if !dynamic {
		return constPart{plainText.String()}, tString
	}
	return p, tString
}

func (c *valueCompiler) list(n *yamldoc.Node, path string, sc *scope) (part, *typ) {
	parts := make(listPart, len(n.Items))
	t := &typ{kind: kList}
	fixed := true
	for i, item := range n.Items {
		p, it := c.compile(item, yamldoc.Index(path, i), sc)
		parts[i] = p
		if i == 0 {
			t.elem = it
		} else {
			t.elem = join(t.elem, it)
		}
		_, isConst := p.(constPart)
		fixed = fixed && isConst
	}
	if fixed {
		v, _ := parts.eval(nil)
		return constPart{v}, t
	}
	return parts, t
}

func (c *valueCompiler) mapping(n *yamldoc.Node, path string, sc *scope) (part, *typ) {
	m := &mapPart{}
	t := &typ{kind: kObject, fields: map[string]*typ{}}
	fixed := true
	for _, e := range n.Entries {
		at := yamldoc.Join(path, e.Key)
		if strings.Contains(e.Key, exprOpen) {
			c.out.Errorf(e.Pos, at, "build the map in an expression: ${{ {(key): value} }}", "a key cannot be an expression")
		}
		p, et := c.compile(e.Value, at, sc)
		m.keys, m.parts = append(m.keys, e.Key), append(m.parts, p)
		t.fields[e.Key] = et
		_, isConst := p.(constPart)
		fixed = fixed && isConst
	}
	if fixed {
		v, _ := m.eval(nil)
		return constPart{v}, t
	}
	return m, t
}

// isEach says whether a map is the form that builds a list.
func isEach(n *yamldoc.Node) bool {
	if n.Kind != yamldoc.Map || n.Get("for") == nil || n.Get("each") == nil {
		return false
	}
	for _, key := range n.Keys() {
		if key != "for" && key != "each" && key != "if" {
			return false
		}
	}
	return true
}

func (c *valueCompiler) each(n *yamldoc.Node, path string, sc *scope) (part, *typ) {
	list, t := c.compile(n.Get("for"), path+".for", sc)
	inner := sc.clone()
	inner.vars["item"], inner.vars["index"] = eachItem(c.out, n.Get("for"), path+".for", t), tInt
	delete(inner.absent, "item")
	delete(inner.absent, "index")
	p := &eachPart{list: list, at: &Expr{pos: n.Get("for").Pos, path: path + ".for", source: n.Get("for").Text}}
	if cond := n.Get("if"); cond != nil {
		var ct *typ
		var proven []string
		p.cond, ct, proven = expression(c.out, cond, path+".if", inner)
		wantBool(c.out, cond, path+".if", ct)
		inner = inner.withFacts(proven)
	}
	var et *typ
	p.each, et = c.compile(n.Get("each"), path+".each", inner)
	return p, listOf(et)
}

// eachItem is what a loop over a value of type t sees as item.
func eachItem(out *diag.List, n *yamldoc.Node, path string, t *typ) *typ {
	switch {
	case t.null:
		out.Errorf(n.Pos, path, "give a fallback: … ?? []", "the list may be missing%s", because(t.why))
	case t.kind != kAny && t.kind != kList:
		hint := "a list is needed"
		if t.kind == kObject {
			hint = "write keys(…) or values(…) for a list"
		} else if n.IsString() && !strings.Contains(n.Text, exprOpen) {
			hint = fmt.Sprintf("write ${{ %s }}", n.Text)
		}
		out.Errorf(n.Pos, path, hint, "for cannot go over %s", t)
		return tAny
	}
	if t.elem == nil {
		return tAny
	}
	return t.elem
}

func wantBool(out *diag.List, n *yamldoc.Node, path string, t *typ) {
	switch {
	case t.null:
		out.Errorf(n.Pos, path, "write (…) ?? false", "the condition may be missing%s", because(t.why))
	case t.kind != kAny && t.kind != kBool:
		out.Errorf(n.Pos, path, "compare it with something", "a condition must be true or false, not %s", t)
	}
}

// check compares a compiled value with a schema.
func (c *valueCompiler) check(n *yamldoc.Node, s *schema.Schema, path, what string) {
	k := &schema.Checker{What: what, Out: c.out}
	k.Visit = func(n *yamldoc.Node, s *schema.Schema, path string, required bool) bool {
		return c.visit(k, n, s, path, required)
	}
	k.Check(n, s, path)
}

func (c *valueCompiler) visit(k *schema.Checker, n *yamldoc.Node, s *schema.Schema, path string, required bool) bool {
	if n.IsString() && c.types[n] == nil && strings.Contains(n.Text, exprOpen) {
		return true // it did not compile, or holds an escaped ${{
	}
	switch p := c.parts[n].(type) {
	case *exprPart:
		t := c.types[n]
		if !required && !s.Nullable() {
			p.omit = true
			t = sure(t)
			if t.kind == kNull {
				return true
			}
		}
		if problem, hint := mismatch(t, s); problem != "" {
			k.Out.Errorf(n.Pos, path, hint, "%s", problem)
		}
		return true
	case *textPart:
		if !s.Allows("string") {
			k.Out.Errorf(n.Pos, path, "let the value be exactly one ${{ … }} to keep its type", "is text, but must be %s", s.TypeNames())
		}
		return true
	case *eachPart:
		if !s.Allows("array") {
			k.Out.Errorf(n.Pos, path, "", "is a list, but must be %s", s.TypeNames())
			return true
		}
		if s.Items != nil {
			k.Check(n.Get("each"), s.Items, path+".each")
		}
		return true
	}
	return false
}
