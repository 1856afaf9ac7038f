package flow

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/casewire/casewire/host/internal/yamldoc"
)

func (c *checker) unary(n *ast.UnaryNode) *typ {
	t := c.present(n.Node, c.check(&n.Node), "an operand of "+n.Operator)
	switch n.Operator {
	case "!", "not":
		c.want(n.Node, t, kBool, "the operand of "+n.Operator)
		return tBool
	}
	if t.kind != kAny && !t.numeric() && t.kind != kDuration {
		return c.fail(n, "", "%s wants a number, not %s", n.Operator, t)
	}
	return t
}

func (c *checker) binary(n *ast.BinaryNode) *typ {
	switch n.Operator {
	case "??":
		return c.coalesce(n)
	case "&&", "and", "||", "or":
		return c.logical(n)
	}
	l, r := c.check(&n.Left), c.check(&n.Right)
	switch n.Operator {
	case "==", "!=":
		if !comparable2(l, r) {
			c.fail(n, "", "%s and %s are never equal", l, r)
		}
		return tBool
	}
	l, r = c.present(n.Left, l, "an operand of "+n.Operator), c.present(n.Right, r, "an operand of "+n.Operator)
	switch n.Operator {
	case "contains", "startsWith", "endsWith", "matches":
		return c.onStrings(n, l, r)
	case "in":
		return c.in(n, l, r)
	case "..":
		c.want(n.Left, l, kInt, "the start of a range")
		c.want(n.Right, r, kInt, "the end of a range")
		return listOf(tInt)
	}
	if l.kind == kAny || r.kind == kAny {
		return untyped(n.Operator, l, r)
	}
	if t := arithmetic(n.Operator, l, r); t != nil {
		return t
	}
	hint := ""
	if n.Operator == "+" && (l.kind == kString || r.kind == kString) {
		hint = "write string(…) to make text of the other"
	}
	return c.fail(n, hint, "%s does not work on %s and %s", n.Operator, l, r)
}

// coalesce is a ?? b: anything on the way to a may be missing.
func (c *checker) coalesce(n *ast.BinaryNode) *typ {
	soften(&n.Left)
	l, r := c.check(&n.Left), c.check(&n.Right)
	if l.kind == kNull {
		return r
	}
	if l.kind != kAny && !l.null && len(c.problems) == 0 && l.kind != r.kind && r.kind != kAny {
		return l // the right side is dead; harmless
	}
	if l.kind != kAny && r.kind == kAny {
		return tAny
	}
	t := join(sure(l), r)
	if r.null {
		return t
	}
	return sure(t)
}

// soften makes every link of a chain optional.
func soften(p *ast.Node) {
	if _, ok := (*p).(*ast.ChainNode); !ok {
		if _, ok := (*p).(*ast.MemberNode); !ok {
			return
		}
		chain := &ast.ChainNode{Node: *p}
		chain.SetLocation((*p).Location())
		*p = chain
	}
	chain, _ := (*p).(*ast.ChainNode)
	for at := &chain.Node; ; {
		switch n := (*at).(type) {
		case *ast.MemberNode:
			n.Optional = true
			at = &n.Node
		case *ast.ChainNode:
			*at = n.Node
		default:
			return
		}
	}
}

func (c *checker) logical(n *ast.BinaryNode) *typ {
	l := c.present(n.Left, c.check(&n.Left), "an operand of "+n.Operator)
	outer := c.scope
	c.scope = outer.withFacts(facts(n.Left, n.Operator == "&&" || n.Operator == "and"))
	r := c.present(n.Right, c.check(&n.Right), "an operand of "+n.Operator)
	c.scope = outer
	c.want(n.Left, l, kBool, "the operand of "+n.Operator)
	c.want(n.Right, r, kBool, "the operand of "+n.Operator)
	return tBool
}

func comparable2(l, r *typ) bool {
	switch {
	case l.kind == kAny, r.kind == kAny, l.kind == r.kind, l.numeric() && r.numeric():
		return true
	case l.kind == kNull:
		return true // a comparison with nil that is always false is harmless
	case r.kind == kNull:
		return true
	}
	return false
}

func (c *checker) onStrings(n *ast.BinaryNode, l, r *typ) *typ {
	if l.kind == kList && n.Operator == "contains" {
		return c.fail(n, "write: item in list", "contains looks into text, not into %s", l)
	}
	c.want(n.Left, l, kString, "the left side of "+n.Operator)
	c.want(n.Right, r, kString, "the right side of "+n.Operator)
	if s, ok := n.Right.(*ast.StringNode); ok && n.Operator == "matches" {
		if _, err := regexp.Compile(s.Value); err != nil {
			c.fail(n.Right, "RE2 syntax: no look-around, no back-references", "not a regular expression: %s",
				strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
	}
	return tBool
}

func (c *checker) in(n *ast.BinaryNode, l, r *typ) *typ {
	switch r.kind {
	case kAny:
	case kList:
		if r.elem != nil && !comparable2(l, r.elem) {
			c.fail(n, "", "%s is never in %s", l, r)
		}
	case kObject:
		c.want(n.Left, l, kString, "the left side of in, with a map on the right,")
	case kString:
		c.fail(n, "write: text contains part", "in looks into lists and maps, not into a string")
	default:
		c.fail(n, "", "in looks into lists and maps, not into %s", r)
	}
	return tBool
}

func untyped(op string, l, r *typ) *typ {
	switch op {
	case "<", ">", "<=", ">=":
		return tBool
	case "/", "**", "^":
		return tNumber
	case "%":
		return tInt
	case "+":
		if l.kind == kString || r.kind == kString {
			return tString
		}
	}
	return tAny
}

func arithmetic(op string, l, r *typ) *typ {
	numbers := l.numeric() && r.numeric()
	same := func(kinds ...kind) bool { return l.kind == r.kind && slices.Contains(kinds, l.kind) }
	switch op {
	case "<", ">", "<=", ">=":
		if numbers || same(kString, kTime, kDuration) {
			return tBool
		}
	case "+":
		switch {
		case numbers:
			return join(l, r)
		case same(kString, kDuration):
			return l
		case l.kind == kTime && r.kind == kDuration, l.kind == kDuration && r.kind == kTime:
			return tTime
		}
	case "-":
		switch {
		case numbers:
			return join(l, r)
		case same(kTime), same(kDuration):
			return tDuration
		case l.kind == kTime && r.kind == kDuration:
			return tTime
		}
	case "*":
		switch {
		case numbers:
			return join(l, r)
		case l.kind == kDuration && r.numeric(), l.numeric() && r.kind == kDuration:
			return tDuration
		}
	case "/", "**", "^":
		if numbers {
			return tNumber
		}
	case "%":
		if same(kInt) {
			return tInt
		}
	}
	return nil
}

// loops are the functions that look at every item of a list.
var loops = map[string]func(item, body *typ) *typ{
	"all":       func(_, _ *typ) *typ { return tBool },
	"any":       func(_, _ *typ) *typ { return tBool },
	"none":      func(_, _ *typ) *typ { return tBool },
	"one":       func(_, _ *typ) *typ { return tBool },
	"count":     func(_, _ *typ) *typ { return tInt },
	"filter":    func(item, _ *typ) *typ { return listOf(item) },
	"find":      func(item, _ *typ) *typ { return maybe(item, "nothing may be found") },
	"findLast":  func(item, _ *typ) *typ { return maybe(item, "nothing may be found") },
	"findIndex": func(_, _ *typ) *typ { return tInt },
	"map":       func(_, body *typ) *typ { return listOf(body) },
	"sortBy":    func(item, _ *typ) *typ { return listOf(item) },
	"sum":       func(_, body *typ) *typ { return body },
}

// boolean lists the loops whose body is a condition.
var boolean = []string{"all", "any", "none", "one", "count", "filter", "find", "findLast", "findIndex"}

func (c *checker) builtin(n *ast.BuiltinNode) *typ {
	result, isLoop := loops[n.Name]
	if !isLoop {
		return c.function(n, n.Name, n.Arguments)
	}
	list := c.present(n.Arguments[0], c.check(&n.Arguments[0]), "looped over")
	item := tAny
	switch list.kind {
	case kAny:
	case kList:
		if item = list.elem; item == nil {
			item = tAny
		}
	case kObject:
		return c.fail(n, "write values(…) or keys(…) for a list", "%s wants a list, not %s", n.Name, list)
	default:
		return c.fail(n, fmt.Sprintf("write %s([…], …)", n.Name), "%s wants a list, not %s", n.Name, list)
	}
	body := item
	if len(n.Arguments) > 1 {
		body = c.predicate(n, item)
	}
	if len(n.Arguments) > 2 { // sortBy's order
		c.want(n.Arguments[2], c.check(&n.Arguments[2]), kString, "the order")
	}
	if n.Name == "sum" && body.kind != kAny && !body.numeric() && body.kind != kDuration {
		return c.fail(n, "", "sum wants numbers, not %s", plural(body))
	}
	return result(item, body)
}

func (c *checker) predicate(n *ast.BuiltinNode, item *typ) *typ {
	p, ok := n.Arguments[1].(*ast.PredicateNode)
	if !ok {
		return c.check(&n.Arguments[1])
	}
	outer := c.scope
	inner := *outer
	inner.facts = map[string]bool{}
	for f := range outer.facts {
		if !strings.HasPrefix(f, "#") {
			inner.facts[f] = true
		}
	}
	c.scope = &inner
	c.vars = append(c.vars, variable{"#", item})
	c.loops++
	body := c.check(&p.Node)
	if slices.Contains(boolean, n.Name) {
		body = c.present(p.Node, body, "a condition")
		c.want(p.Node, body, kBool, "the condition of "+n.Name)
	}
	if c.loops > 1 {
		c.count(&p.Node)
	}
	c.loops--
	c.vars = c.vars[:len(c.vars)-1]
	c.scope = outer
	return body
}

// count makes a loop inside a loop ask for leave on every round.
func (c *checker) count(body *ast.Node) {
	c.budget = true
	loc := (*body).Location()
	var cond ast.Node = &ast.NilNode{}
	cond.SetLocation(loc)
	budget := &ast.IdentifierNode{Value: varBudget}
	budget.SetLocation(loc)
	c.patchCall(&cond, fnTick, budget)
	nothing := &ast.NilNode{}
	nothing.SetLocation(loc)
	node := &ast.ConditionalNode{Ternary: true, Cond: cond, Exp1: *body, Exp2: nothing}
	node.SetLocation(loc)
	*body = node
}

func (c *checker) call(n *ast.CallNode) *typ {
	id, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return c.fail(n, "", "only functions can be called")
	}
	return c.function(n, id.Value, n.Arguments)
}

// signature of a function. A kind of kAny takes anything.
type signature struct {
	args     []kind
	optional int  // of the last arguments
	variadic bool // the last one repeats
	nullable bool // arguments may be null
	result   func(args []*typ) *typ
}

func returns(t *typ) func([]*typ) *typ { return func([]*typ) *typ { return t } }

func sameList(args []*typ) *typ {
	if args[0].kind == kList {
		return args[0]
	}
	return listOf(tAny)
}

func item(args []*typ) *typ {
	if args[0].kind != kList || args[0].elem == nil || args[0].elem.kind == kAny {
		return tAny
	}
	return maybe(args[0].elem, "the list may be empty")
}

func extreme(args []*typ) *typ {
	t := args[0]
	if t.kind == kList {
		t = item(args)
	}
	for _, a := range args[1:] {
		t = join(t, a)
	}
	return t
}

var functions = map[string]signature{
	"abs":        {args: []kind{kNumber}, result: func(a []*typ) *typ { return a[0] }},
	"ago":        {args: []kind{kAny, kTime}, result: returns(tTime)},
	"ceil":       {args: []kind{kNumber}, result: returns(tNumber)},
	"concat":     {args: []kind{kList}, variadic: true, result: extreme2},
	"date":       {args: []kind{kString}, result: returns(tTime)},
	"default":    {args: []kind{kAny, kAny}, nullable: true, result: func(a []*typ) *typ { return orElse(a[0], a[1]) }},
	"defang":     {args: []kind{kString}, result: returns(tString)},
	"dur":        {args: []kind{kString}, result: returns(tDuration)},
	"first":      {args: []kind{kList}, result: item},
	"flatten":    {args: []kind{kList}, result: returns(listOf(tAny))},
	"float":      {args: []kind{kAny}, result: returns(tNumber)},
	"floor":      {args: []kind{kNumber}, result: returns(tNumber)},
	"fromBase64": {args: []kind{kString}, result: returns(tString)},
	"fromjson":   {args: []kind{kString}, result: returns(tAny)},
	"hash":       {args: []kind{kAny}, result: returns(tString)},
	"indexOf":    {args: []kind{kString, kString}, result: returns(tInt)},
	"int":        {args: []kind{kAny}, result: returns(tInt)},
	"join":       {args: []kind{kList, kString}, optional: 1, result: returns(tString)},
	"json":       {args: []kind{kAny}, nullable: true, result: returns(tString)},
	"keys":       {args: []kind{kObject}, result: returns(listOf(tString))},
	"last":       {args: []kind{kList}, result: item},
	"len":        {args: []kind{kAny}, result: returns(tInt)},
	"lower":      {args: []kind{kString}, result: returns(tString)},
	"max":        {args: []kind{kAny}, variadic: true, result: extreme},
	"md":         {args: []kind{kAny}, result: returns(tString)},
	"min":        {args: []kind{kAny}, variadic: true, result: extreme},
	"replace":    {args: []kind{kString, kString, kString}, result: returns(tString)},
	"reverse":    {args: []kind{kList}, result: sameList},
	"round":      {args: []kind{kNumber}, result: returns(tNumber)},
	"sort":       {args: []kind{kList, kString}, optional: 1, result: sameList},
	"split":      {args: []kind{kString, kString}, result: returns(listOf(tString))},
	"string":     {args: []kind{kAny}, nullable: true, result: returns(tString)},
	"take":       {args: []kind{kList, kInt}, result: sameList},
	"toBase64":   {args: []kind{kString}, result: returns(tString)},
	"trim":       {args: []kind{kString}, result: returns(tString)},
	"trimPrefix": {args: []kind{kString, kString}, result: returns(tString)},
	"trimSuffix": {args: []kind{kString, kString}, result: returns(tString)},
	"truncate":   {args: []kind{kString, kInt}, result: returns(tString)},
	"uniq":       {args: []kind{kList}, result: sameList},
	"upper":      {args: []kind{kString}, result: returns(tString)},
	"values":     {args: []kind{kObject}, result: func(a []*typ) *typ { return listOf(tAny) }},
}

func extreme2(args []*typ) *typ {
	t := args[0]
	for _, a := range args[1:] {
		t = join(t, a)
	}
	if t.kind != kList {
		return listOf(tAny)
	}
	return t
}

func orElse(a, b *typ) *typ {
	if a.kind == kNull {
		return b
	}
	t := join(sure(a), b)
	if b.null {
		return t
	}
	return sure(t)
}

// advice is for functions of expr-lang that flows do not have, and for what people try first.
var advice = map[string]string{
	"now": "a flow has no clock, so that a replay sees what the first run saw; use event.time", "timezone": "times are UTC",
	"toJSON": "write json(…)", "fromJSON": "write fromjson(…)", "reduce": "write sum, count, map or filter", "contains": `write: text contains "part"`,
	"startsWith": `write: text startsWith "part"`, "endsWith": `write: text endsWith "part"`, "hasPrefix": `write: text startsWith "part"`,
	"hasSuffix": `write: text endsWith "part"`, "length": "write len(…)", "size": "write len(…)", "toLower": "write lower(…)", "toUpper": "write upper(…)",
	"unique": "write uniq(…)", "distinct": "write uniq(…)", "coalesce": "write a ?? b", "if": "write condition ? a : b", "exists": "write x != nil",
	"success": "a failed step ends the run unless it says on_error: continue", "failure": "give the step on_error: continue and look at its result",
	"always": "a failed step ends the run unless it says on_error: continue", "format": `write "text ${{ value }}"`, "str": "write string(…)",
	"get": "write list[0] or map[key]", "duration": `write dur("24h")`, "env": "secrets belong to the connection, in casewire.yaml",
	"b64encode": "write toBase64(…)", "b64decode": "write fromBase64(…)", "sha256": "write hash(…)", "tojson": "write json(…)", "to_json": "write json(…)",
}

func isFunction(name string) bool {
	_, ok := functions[name]
	_, loop := loops[name]
	return ok || loop
}

func functionNames() []string {
	names := make([]string, 0, len(functions)+len(loops))
	for name := range functions {
		names = append(names, name)
	}
	for name := range loops {
		names = append(names, name)
	}
	return names
}

func (c *checker) function(n ast.Node, name string, args []ast.Node) *typ {
	sig, ok := functions[name]
	if !ok {
		for i := range args {
			c.check(&args[i])
		}
		hint := advice[name]
		if hint == "" {
			hint = yamldoc.DidYouMean(name, functionNames())
		}
		return c.fail(n, hint, "there is no function %q", name)
	}
	if name == "default" && len(args) > 0 {
		soften(&args[0])
	}
	types := make([]*typ, len(args))
	for i := range args {
		t := c.check(&args[i])
		if !sig.nullable {
			t = c.present(args[i], t, "an argument of "+name)
		}
		types[i] = t
	}
	least, most := len(sig.args)-sig.optional, len(sig.args)
	if len(args) < least || len(args) > most && !sig.variadic {
		want := strconv.Itoa(least)
		if most != least {
			want = fmt.Sprintf("%d or %d", least, most)
		}
		return c.fail(n, "", "%s wants %s argument%s, not %d", name, want, map[bool]string{false: "s"}[want == "1"], len(args))
	}
	for i, t := range types {
		k := sig.args[min(i, len(sig.args)-1)]
		switch {
		case k == kAny, t.kind == kAny, t.kind == k, k == kNumber && t.kind == kInt:
		case k == kString && (name == "md" || name == "hash"):
		default:
			hint := ""
			if k == kString && t.kind != kList && t.kind != kObject {
				hint = "write string(…)"
			} else if k == kString && t.kind == kList {
				hint = "write join(…), or map(list, " + name + "(#))"
			}
			c.fail(args[i], hint, "%s wants %s, not %s", name, kindNames[k], t)
			return sig.result(anys(len(types)))
		}
	}
	return sig.result(types)
}

func anys(n int) []*typ {
	list := make([]*typ, n)
	for i := range list {
		list[i] = tAny
	}
	return list
}
