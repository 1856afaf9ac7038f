package flow

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/expr-lang/expr/builtin"
	exprchecker "github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/checker/nature"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/optimizer"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/casewire/casewire/host/diag"
)

// Limits of one expression.
const (
	maxExprBytes = 8 << 10
	maxExprNodes = 2_000
	// maxExprMemory is in values that the program makes, not in bytes.
	maxExprMemory = 4_000_000
)

// Expr is a compiled boolean or other expression.
type Expr struct {
	program *vm.Program
	budget  bool
	always  any // the value, if there is no program
	pos     diag.Pos
	path    string
	source  string
}

// EvalError is a failure of an expression at run time. It shows no values.
type EvalError struct {
	Pos    diag.Pos
	Path   string // steps[0].with.title
	Source string // the expression
	Err    error
}

// Error returns "file:line:col: path: expression: reason".
func (e *EvalError) Error() string {
	src := strings.Join(strings.Fields(e.Source), " ")
	if r := []rune(src); len(r) > 80 {
		src = string(r[:80]) + "…"
	}
	return fmt.Sprintf("%s: %s: ${{ %s }}: %v", e.Pos, e.Path, src, e.Err)
}

// Unwrap returns the cause.
func (e *EvalError) Unwrap() error { return e.Err }

// Eval evaluates the expression to what encoding/json can write. The result may share parts with env: it is read-only.
func (e *Expr) Eval(env Env) (any, error) {
	v, err := e.run(env)
	if err == nil {
		v, err = plain(v)
	}
	if err != nil {
		return nil, e.fail(err)
	}
	return v, nil
}

// Test evaluates a condition: anything but true or false is an error.
func (e *Expr) Test(env Env) (bool, error) {
	v, err := e.run(env)
	if err != nil {
		return false, e.fail(err)
	}
	b, ok := v.(bool)
	if !ok {
		return false, e.fail(fmt.Errorf("a condition must be true or false, not %s", nameOf(v)))
	}
	return b, nil
}

func (e *Expr) fail(err error) error {
	return &EvalError{Pos: e.pos, Path: e.path, Source: e.source, Err: err}
}

var machines = sync.Pool{New: func() any { return &vm.VM{MemoryBudget: maxExprMemory} }}

// run evaluates without looking at the result. Programs are safe for concurrent use, machines are not.
func (e *Expr) run(env Env) (any, error) {
	if e.program == nil {
		return e.always, nil
	}
	vars := map[string]any(env)
	if e.budget {
		left := maxTicks
		vars = maps.Clone(vars)
		if vars == nil {
			vars = map[string]any{}
		}
		vars[varBudget] = &left
	}
	m, _ := machines.Get().(*vm.VM)
	v, err := m.Run(e.program, vars)
	release(m)
	if err != nil {
		return nil, runtimeError(err)
	}
	return v, nil
}

// release gives a machine back without what it has seen.
func release(m *vm.VM) {
	if cap(m.Stack) > 1024 || len(m.Variables) > 64 {
		return
	}
	clear(m.Stack[:cap(m.Stack)])
	clear(m.Scopes[:cap(m.Scopes)])
	clear(m.Variables)
	machines.Put(m)
}

// runtimeError takes the reason out of the library's error, which comes with a snippet of several lines.
func runtimeError(err error) error {
	var fe *file.Error
	if !errors.As(err, &fe) {
		return err
	}
	switch msg := fe.Message; {
	case strings.HasPrefix(msg, "cannot fetch ") && strings.HasSuffix(msg, "from <nil>"):
		return errors.New(strings.TrimSuffix(msg, "from <nil>") + "from null: write ?. or give a fallback with ??")
	case strings.HasPrefix(msg, "invalid operation: int("):
		return errors.New("a name was asked of a list or of text; only maps have names")
	case strings.HasPrefix(msg, "interface conversion: "):
		is, _, _ := strings.Cut(strings.TrimPrefix(msg, "interface conversion: interface {} is "), ",")
		return fmt.Errorf("a value has the wrong type: %s", is)
	case msg == "memory budget exceeded":
		return errors.New("it makes more than 4 million values")
	default:
		return errors.New(msg)
	}
}

var newConfig = sync.OnceValue(func() *conf.Config {
	c := conf.CreateNew()
	c.MaxNodes = maxExprNodes
	for name, fn := range helpers {
		c.Functions[name] = &builtin.Function{Name: name, Func: fn}
	}
	// What flows do not have stays an unknown function, so that the checker can say what to write instead.
	for name := range c.Builtins {
		if !isFunction(name) {
			c.Disabled[name] = true
			delete(c.Builtins, name)
		}
	}
	return c
})

// exprConfig makes a config for one compilation: the library writes its caches of types, also that behind the type of the
// environment, without a lock.
func exprConfig() *conf.Config {
	c := *newConfig()
	c.NtCache = nature.Cache{}
	c.WithEnv(map[string]any{})
	c.Strict = false
	return &c
}

// compile checks an expression and makes a program of it. If there are problems, the program is nil and the type still
// the best guess.
func compile(src string, sc *scope) (*Expr, *typ, []problem) {
	e, t, _, problems := compileFacts(src, sc)
	return e, t, problems
}

// compileFacts says in addition which paths are there if the expression is true.
func compileFacts(src string, sc *scope) (*Expr, *typ, []string, []problem) {
	trimmed := strings.TrimSpace(src)
	switch {
	case trimmed == "":
		return nil, tAny, nil, []problem{{0, "the expression is empty", ""}}
	case len(src) > maxExprBytes:
		return nil, tAny, nil, []problem{{0, fmt.Sprintf("the expression has %d bytes; the limit is %d", len(src), maxExprBytes), "move parts of it into a let step"}}
	}
	config := exprConfig()
	tree, err := parser.ParseWithConfig(src, config)
	if err != nil {
		return nil, tAny, nil, []problem{syntaxProblem(src, err)}
	}
	c := checker{scope: sc}
	t := c.check(&tree.Node)
	if len(c.problems) > 0 {
		return nil, t, nil, c.problems
	}
	proven := facts(tree.Node, true) // before the optimizer changes the tree
	program, err := generate(tree, config)
	if err != nil {
		return nil, t, nil, []problem{syntaxProblem(src, err)}
	}
	return &Expr{program: program, budget: c.budget, source: trimmed}, t, proven, nil
}

func generate(tree *parser.Tree, config *conf.Config) (p *vm.Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	if _, err := exprchecker.Check(tree, config); err != nil {
		return nil, err
	}
	if err := optimizer.Optimize(&tree.Node, config); err != nil {
		return nil, err
	}
	return compiler.Compile(tree, config)
}

func syntaxProblem(src string, err error) problem {
	var fe *file.Error
	if !errors.As(err, &fe) {
		return problem{0, err.Error(), ""}
	}
	p := problem{at: fe.From, msg: fe.Message}
	switch {
	case strings.Contains(fe.Message, "cannot be mixed"):
		p.msg, p.hint = "?? cannot be mixed with another operator", "put ( ) around it: (a ?? b)"
	case strings.Contains(fe.Message, "EOF") || strings.Contains(fe.Message, "unexpected end"):
		p.msg = "the expression is not finished"
	case strings.Contains(fe.Message, "literal not terminated"):
		p.msg = "a string is not closed"
	case strings.Contains(fe.Message, `Operator("=")`):
		p.msg, p.hint = "= does not compare", "write =="
	case strings.Contains(fe.Message, `Operator("|")`):
		p.hint = "write || for or"
	case strings.Contains(src, "{{"):
		p.hint = "inside ${{ }} write no further {{ }}"
	case strings.Contains(fe.Message, "exceeds maximum allowed nodes"):
		p.msg, p.hint = fmt.Sprintf("the expression has more than %d parts", maxExprNodes), "move parts of it into a let step"
	default:
		p.msg = "not an expression: " + strings.Replace(fe.Message, "unexpected token", "unexpected", 1)
	}
	return p
}
