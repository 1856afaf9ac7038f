package flow

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/casewire/casewire/host/internal/yamldoc"
)

// scope is what an expression sees at one place of a flow.
type scope struct {
	vars   map[string]*typ
	absent map[string]string // names that are known but not here, and why
	lets   map[string]bool   // let steps: steps.x means x
	later  map[string]bool   // steps that run after this one
	facts  map[string]bool   // paths that were found not to be null
	self   string            // the step that the expression belongs to
}

func (s *scope) clone() *scope {
	c := *s
	c.vars = maps.Clone(s.vars)
	c.absent = maps.Clone(s.absent)
	c.lets = maps.Clone(s.lets)
	return &c
}

func (s *scope) withFacts(facts []string) *scope {
	if len(facts) == 0 {
		return s
	}
	c := *s
	c.facts = maps.Clone(s.facts)
	if c.facts == nil {
		c.facts = map[string]bool{}
	}
	for _, f := range facts {
		c.facts[f] = true
	}
	return &c
}

// problem is a mistake in an expression, at a character of it.
type problem struct {
	at        int
	msg, hint string
}

// checker finds the type of an expression and every mistake in it. Where the language is more forgiving than a flow
// should be, it rewrites the tree: what stands left of ?? may be missing as a whole, list[9] of a short list is null, and
// nested loops count their rounds.
type checker struct {
	scope    *scope
	vars     []variable // let x = …; and the items of predicates
	loops    int
	budget   bool // the program needs varBudget
	problems []problem
}

type variable struct {
	name string
	typ  *typ
}

func (c *checker) fail(n ast.Node, hint, format string, args ...any) *typ {
	p := problem{n.Location().From, fmt.Sprintf(format, args...), hint}
	if !slices.Contains(c.problems, p) {
		c.problems = append(c.problems, p)
	}
	return tAny
}

// present complains if a value may be missing.
func (c *checker) present(n ast.Node, t *typ, use string) *typ {
	if t.null {
		c.fail(n, "give a fallback: … ?? "+fallback(t), "%s may be missing%s and cannot be %s", c.describe(n), because(t.why), use)
	}
	return sure(t)
}

func (c *checker) describe(n ast.Node) string {
	if p := path(n); p != "" {
		return p
	}
	return "this value"
}

func (c *checker) check(p *ast.Node) *typ {
	switch n := (*p).(type) {
	case *ast.NilNode:
		return tNull
	case *ast.BoolNode:
		return tBool
	case *ast.IntegerNode:
		return tInt
	case *ast.FloatNode:
		return tNumber
	case *ast.StringNode:
		return tString
	case *ast.BytesNode:
		return c.fail(n, "write a string", "byte strings are not supported")
	case *ast.IdentifierNode:
		return c.known(n, c.identifier(n))
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.ChainNode:
		t, cut := c.chain(&n.Node)
		if cut != "" {
			return c.known(n, maybe(t, cut))
		}
		return t
	case *ast.MemberNode, *ast.SliceNode, *ast.CallNode:
		t, cut := c.chain(p)
		if cut != "" {
			t = maybe(t, cut)
		}
		return t
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.BuiltinNode:
		return c.builtin(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.VariableDeclaratorNode:
		return c.declare(n)
	case *ast.SequenceNode:
		t := tAny
		for i := range n.Nodes {
			t = c.check(&n.Nodes[i])
		}
		return t
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.MapNode:
		return c.mapping(n)
	case *ast.PredicateNode:
		return c.check(&n.Node)
	}
	return c.fail(*p, "", "this is not supported")
}

// known applies what a condition has shown.
func (c *checker) known(n ast.Node, t *typ) *typ {
	if t.null && c.scope.facts[path(n)] {
		return sure(t)
	}
	return t
}

func (c *checker) names() []string {
	names := slices.Collect(maps.Keys(c.scope.vars))
	for _, v := range c.vars {
		if v.name != "#" {
			names = append(names, v.name)
		}
	}
	return names
}

func (c *checker) identifier(n *ast.IdentifierNode) *typ {
	for _, v := range slices.Backward(c.vars) {
		if v.name == n.Value {
			return v.typ
		}
	}
	if t := c.scope.vars[n.Value]; t != nil {
		return t
	}
	why, absent := c.scope.absent[n.Value]
	if steps := c.scope.vars["steps"]; absent && (steps == nil || steps.fields[n.Value] == nil) { // a step may be called case
		return c.fail(n, "", "%s is not available here: %s", n.Value, why)
	}
	switch {
	case n.Value == c.scope.self && n.Value != "":
		return c.fail(n, "use it in a later step", "a step cannot use its own result")
	case c.scope.later[n.Value]:
		return c.fail(n, "only earlier steps can be used", "step %q runs later", n.Value)
	case n.Value == "secrets", n.Value == "env", n.Value == "$env":
		return c.fail(n, "secrets belong to the connection, in casewire.yaml", "expressions see no secrets and no environment")
	case isFunction(n.Value):
		return c.fail(n, fmt.Sprintf("call it: %s(…)", n.Value), "%s is a function", n.Value)
	}
	if steps := c.scope.vars["steps"]; steps != nil && steps.fields[n.Value] != nil {
		return c.fail(n, "write steps."+n.Value, "unknown name %q", n.Value)
	}
	hint := yamldoc.DidYouMean(n.Value, c.names())
	if alert := c.scope.vars["alert"]; alert != nil && alert.fields[n.Value] != nil && yamldoc.Closest(n.Value, c.names()) == "" {
		hint = fmt.Sprintf("did you mean alert.%s?", n.Value)
	}
	return c.fail(n, hint, "unknown name %q", n.Value)
}

func (c *checker) pointer(n *ast.PointerNode) *typ {
	switch n.Name {
	case "":
		for _, v := range slices.Backward(c.vars) {
			if v.name == "#" {
				return c.known(n, v.typ)
			}
		}
		return c.fail(n, "", "# has a meaning only inside a function such as map(list, …)")
	case "index":
		return tInt
	}
	return c.fail(n, "# is the item, #index its number", "unknown name #%s", n.Name)
}

// chain checks a member, an index, a slice or a method call. Cut says why the chain may end early at a ?.
func (c *checker) chain(p *ast.Node) (t *typ, cut string) {
	switch n := (*p).(type) {
	case *ast.MemberNode:
		return c.member(p, n)
	case *ast.SliceNode:
		t := c.present(n.Node, c.check(&n.Node), "sliced")
		for _, bound := range []*ast.Node{&n.From, &n.To} {
			if *bound != nil {
				c.want(*bound, c.check(bound), kInt, "a bound of a slice")
			}
		}
		if t.kind != kAny && t.kind != kList && t.kind != kString {
			return c.fail(n, "", "cannot slice %s", t), ""
		}
		return t, ""
	case *ast.CallNode:
		if m, ok := n.Callee.(*ast.MemberNode); ok {
			return c.method(n, m)
		}
		return c.call(n), ""
	}
	return c.check(p), ""
}

func (c *checker) member(p *ast.Node, n *ast.MemberNode) (*typ, string) {
	name, isField := n.Property.(*ast.StringNode)
	if id, ok := n.Node.(*ast.IdentifierNode); ok && isField && id.Value == "steps" && c.scope.vars["steps"] != nil {
		if c.scope.lets[name.Value] {
			ast.Patch(p, &ast.IdentifierNode{Value: name.Value})
			return c.known(*p, c.scope.vars[name.Value]), ""
		}
		return c.known(n, c.step(n, name.Value)), ""
	}
	inner, _ := n.Node.(*ast.MemberNode)
	base, cut := c.chain(&n.Node)
	base = c.known(n.Node, base)
	if _, patched := n.Node.(*ast.CallNode); patched && inner != nil && inner.Optional {
		n.Optional = true // list?.[0].x: the call that stands for ?.[0] ends no chain by itself
	}
	if base.null {
		switch {
		case n.Optional:
			cut = base.why
			if cut == "" {
				cut = c.describe(n.Node) + " may be missing"
			}
		case isField:
			c.fail(n, softer(n.Node, name.Value), "%s may be missing%s", c.describe(n.Node), because(base.why))
		}
		base = sure(base)
	}
	if isField {
		return c.known(n, c.fieldOf(n, base, name.Value)), cut
	}
	return c.index(p, n, base), cut
}

// softer suggests the optional form of a member.
func softer(base ast.Node, name string) string {
	if p := path(base); p != "" {
		return fmt.Sprintf("write %s?.%s", p, name)
	}
	return "write ?." + name
}

func (c *checker) step(n ast.Node, id string) *typ {
	steps := c.scope.vars["steps"]
	if t := steps.fields[id]; t != nil {
		return t
	}
	if id == c.scope.self {
		return c.fail(n, "use it in a later step", "a step cannot use its own result")
	}
	if c.scope.later[id] {
		return c.fail(n, "only earlier steps can be used", "step %q runs later", id)
	}
	if len(steps.fields) == 0 {
		return c.fail(n, "", "no step %q comes before this one", id)
	}
	return c.fail(n, yamldoc.DidYouMean(id, steps.fieldNames()), "no step %q comes before this one", id)
}

func (c *checker) fieldOf(n ast.Node, base *typ, name string) *typ {
	switch base.kind {
	case kAny:
		return tAny
	case kObject:
		if t := base.field(name); t != nil {
			return t
		}
		what := "the map"
		if base.name != "" {
			what = base.name
		}
		if len(base.fields) == 0 {
			return c.fail(n, "", "%s has no %q: it is empty", what, name)
		}
		return c.fail(n, yamldoc.DidYouMean(name, base.fieldNames()), "%s has no %q", what, name)
	case kList:
		return c.fail(n, fmt.Sprintf("write map(list, .%s) for all items, or first(list)?.%s for one", name, name), "a list has no %q", name)
	case kNull:
		return tAny
	}
	return c.fail(n, "", "%s has no %q", base, name)
}

func (c *checker) index(p *ast.Node, n *ast.MemberNode, base *typ) *typ {
	at := c.check(&n.Property)
	at = c.present(n.Property, at, "used as an index")
	switch base.kind {
	case kAny:
		return tAny
	case kList:
		c.want(n.Property, at, kInt, "the index of a list")
		c.patchCall(p, fnAt, n.Node, n.Property)
		if base.elem == nil {
			return tNull
		}
		if base.elem.kind == kAny {
			return tAny
		}
		return maybe(base.elem, "the list may be shorter")
	case kObject:
		c.want(n.Property, at, kString, "the key of a map")
		t := base.extra
		for _, name := range base.fieldNames() {
			if t == nil {
				t = base.fields[name]
			}
			t = join(t, base.fields[name])
		}
		if t == nil {
			return tAny
		}
		return maybe(t, "the map may lack the key")
	}
	return c.fail(n, "", "cannot take an item of %s", base)
}

func (c *checker) patchCall(p *ast.Node, name string, args ...ast.Node) {
	callee := &ast.IdentifierNode{Value: name}
	callee.SetLocation((*p).Location())
	ast.Patch(p, &ast.CallNode{Callee: callee, Arguments: args})
}

var timeMethods = map[string]*typ{
	"Format": tString, "Unix": tInt, "UnixMilli": tInt, "UTC": tTime, "Year": tInt, "Day": tInt, "Hour": tInt, "Minute": tInt,
	"Add": tTime, "Sub": tDuration, "Before": tBool, "After": tBool, "IsZero": tBool,
}

var durationMethods = map[string]*typ{"Hours": tNumber, "Minutes": tNumber, "Seconds": tNumber, "Milliseconds": tInt, "String": tString}

func (c *checker) method(n *ast.CallNode, m *ast.MemberNode) (*typ, string) {
	for i := range n.Arguments {
		c.check(&n.Arguments[i])
	}
	base, cut := c.chain(&m.Node)
	name, _ := m.Property.(*ast.StringNode)
	if name == nil {
		return c.fail(n, "", "only functions can be called"), ""
	}
	if base.null {
		if m.Optional {
			cut = cmpOr(base.why, "it may be missing")
		} else {
			c.fail(m, softer(m.Node, name.Value+"(…)"), "%s may be missing%s", c.describe(m.Node), because(base.why))
		}
	}
	methods := map[kind]map[string]*typ{kTime: timeMethods, kDuration: durationMethods}[base.kind]
	if t := methods[name.Value]; t != nil {
		return t, cut
	}
	hint := ""
	switch {
	case methods != nil:
		hint = yamldoc.DidYouMean(name.Value, slices.Collect(maps.Keys(methods)))
	case isFunction(strings.ToLower(name.Value)):
		hint = fmt.Sprintf("write %s(…)", strings.ToLower(name.Value))
	case advice[strings.ToLower(name.Value[:1])+name.Value[1:]] != "":
		hint = advice[strings.ToLower(name.Value[:1])+name.Value[1:]]
	case isFunction(name.Value):
		hint = fmt.Sprintf("write %s(…)", name.Value)
	}
	return c.fail(m, hint, "%s has no method %q", base, name.Value), cut
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// want complains if a value is known to be of another kind.
func (c *checker) want(n ast.Node, t *typ, k kind, use string) {
	if t.kind != kAny && t.kind != k && !(k == kNumber && t.kind == kInt) {
		c.fail(n, "", "%s must be %s, not %s", use, kindNames[k], t)
	}
}

func (c *checker) conditional(n *ast.ConditionalNode) *typ {
	t := c.present(n.Cond, c.check(&n.Cond), "a condition")
	if t.kind != kAny && t.kind != kBool {
		c.fail(n.Cond, "compare it with something", "a condition must be true or false, not %s", t)
	}
	outer := c.scope
	c.scope = outer.withFacts(facts(n.Cond, true))
	a := c.check(&n.Exp1)
	c.scope = outer.withFacts(facts(n.Cond, false))
	b := c.check(&n.Exp2)
	c.scope = outer
	return join(a, b)
}

func (c *checker) declare(n *ast.VariableDeclaratorNode) *typ {
	t := c.check(&n.Value)
	switch {
	case c.scope.vars[n.Name] != nil, isFunction(n.Name), strings.HasPrefix(n.Name, "__"):
		c.fail(n, "choose another name", "%q is taken", n.Name)
	}
	c.vars = append(c.vars, variable{n.Name, t})
	t = c.check(&n.Expr)
	c.vars = c.vars[:len(c.vars)-1]
	return t
}

func (c *checker) array(n *ast.ArrayNode) *typ {
	t := &typ{kind: kList}
	for i := range n.Nodes {
		e := c.check(&n.Nodes[i])
		if t.elem == nil {
			t.elem = e
		} else {
			t.elem = join(t.elem, e)
		}
	}
	return t
}

func (c *checker) mapping(n *ast.MapNode) *typ {
	t := &typ{kind: kObject, fields: map[string]*typ{}}
	for i := range n.Pairs {
		pair, ok := n.Pairs[i].(*ast.PairNode)
		if !ok {
			continue
		}
		v := c.check(&pair.Value)
		if key, ok := pair.Key.(*ast.StringNode); ok {
			if t.fields[key.Value] != nil {
				c.fail(pair.Key, "", "the key %q is given twice", key.Value)
			}
			t.fields[key.Value] = v
			continue
		}
		c.want(pair.Key, c.present(pair.Key, c.check(&pair.Key), "the key of a map"), kString, "the key of a map")
		t.extra = tAny
	}
	return t
}

// path names an expression that is a chain of names, so that what is known of it can be remembered.
func path(n ast.Node) string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value
	case *ast.PointerNode:
		return "#" + n.Name
	case *ast.ChainNode:
		return path(n.Node)
	case *ast.MemberNode:
		if name, ok := n.Property.(*ast.StringNode); ok {
			if base := path(n.Node); base != "" {
				return base + "." + name.Value
			}
		}
	}
	return ""
}

// facts lists the paths that cannot be null if a condition came out as given.
func facts(n ast.Node, outcome bool) []string {
	switch n := n.(type) {
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			return facts(n.Node, !outcome)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "&&", "and":
			if outcome {
				return append(facts(n.Left, true), facts(n.Right, true)...)
			}
		case "||", "or":
			if !outcome {
				return append(facts(n.Left, false), facts(n.Right, false)...)
			}
		case "==", "!=":
			left, right := n.Left, n.Right
			if _, ok := left.(*ast.NilNode); ok {
				left, right = right, left
			}
			_, isNil := right.(*ast.NilNode)
			if isNil == (n.Operator == "!=") == outcome && (isNil || literal(right)) {
				return prefixes(path(left))
			}
		case "??":
			// (x ?? false) is true only if x is there.
			if b, ok := n.Right.(*ast.BoolNode); ok && b.Value != outcome {
				return prefixes(path(n.Left))
			}
		}
	default:
		if outcome {
			return prefixes(path(n))
		}
	}
	return nil
}

func literal(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	return false
}

func prefixes(p string) []string {
	if p == "" {
		return nil
	}
	var all []string
	for i, r := range p {
		if r == '.' {
			all = append(all, p[:i])
		}
	}
	return append(all, p)
}
