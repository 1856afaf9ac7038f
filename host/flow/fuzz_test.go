package flow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/casewire/casewire/plugin/connectorv1"
)

type noCatalog struct{}

func (noCatalog) Connection(string) (*connectorv1.DescribeResponse, bool) { return nil, false }
func (noCatalog) Connections(string) []string                             { return nil }
func (noCatalog) Connector(string) (*connectorv1.DescribeResponse, bool)  { return nil, false }

// FuzzLoad: no input makes Load panic; findings are in the file; errors and flows exclude each other; a flow that loads
// loads again from its bundle, as the same version.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range txtar.Parse(data).Files {
			f.Add(string(part.Data))
		}
	}
	f.Add("name: a\nsteps: [{ id: a, let: { x: '${{ map([1], # + 1) }}' } }]")
	f.Fuzz(func(t *testing.T, src string) {
		flows, found := Load([]Source{{File: "f.yaml", Data: []byte(src)}}, noCatalog{})
		if found.HasErrors() == (flows != nil) {
			t.Fatalf("flows %v with findings %v", flows, found)
		}
		lines := 1
		for _, r := range src {
			if strings.ContainsRune("\r\n\u0085\u2028\u2029", r) {
				lines++
			}
		}
		for _, d := range found {
			if d.Pos.File != "f.yaml" || d.Pos.Line < 1 || d.Pos.Line > lines+1 || d.Pos.Col < 1 || d.Summary == "" {
				t.Errorf("a finding is nowhere: %#v", d)
			}
		}
		for _, fl := range flows {
			again, err := Compile(fl.Name, fl.Bundle, noCatalog{})
			if err != nil || again.Version != fl.Version {
				t.Errorf("again: %v", err)
			}
		}
	})
}

// FuzzSplit: the pieces of a string, put together, are the string, save that $${{ loses a dollar.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"a ${{ b }} c", "$${{ x }}", "${{ \"}}\" }}", "${{ {a: {b: 1}} }}", "${{", "${{ 'a }} b", "é${{ é }}é", "$$${{ a }}", "${{}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, open := split(s)
		var b strings.Builder
		for _, p := range list {
			if !p.expr {
				b.WriteString(strings.ReplaceAll(p.text, exprOpen, "$"+exprOpen))
				continue
			}
			b.WriteString(exprOpen + p.text + exprClose)
			if at := []rune(s); p.offset < 3 || p.offset > len(at) || !strings.HasPrefix(string(at[p.offset:]), string([]rune(p.text))) {
				if strings.ToValidUTF8(s, "") == s {
					t.Errorf("%q does not begin at %d of %q", p.text, p.offset, s)
				}
			}
		}
		switch {
		case open < 0 && b.String() != s:
			t.Errorf("%q became %q", s, b.String())
		case open >= 0 && !strings.HasPrefix(s, b.String()):
			t.Errorf("%q does not begin with %q", s, b.String())
		case open >= 0 && strings.ToValidUTF8(s, "") == s && !strings.HasPrefix(string([]rune(s)[open:]), exprOpen):
			t.Errorf("no expression is open at %d of %q", open, s)
		}
	})
}

// FuzzExpr: what the checker lets pass compiles and runs without a panic; what it says points into the expression.
func FuzzExpr(f *testing.F) {
	for _, s := range []string{
		"event.id", "row.a?.b ?? 3", "map(row.x, .y + 1)", "let a = 1; a", "steps.x", "uniq([1])[0]", "filter(row.l, any(row.l, # == 1))",
		"{a: 1}.a", "x ? y : z", "row.m['k']", "event.time - dur('1h')", "not (1 in [1])", "row.s[1:2]", "sortBy(row.l, .x, 'desc')",
		"first(row.l).x.y", "default(row.a.b, 1)", "1..3", "row.f()", "event.time.Format('x')", "max(1, row.x)", "'a' matches 'b'", "#",
	} {
		f.Add(s)
	}
	sc := &scope{vars: map[string]*typ{"event": viewTypes()["event"], "row": tMap, "steps": {kind: kObject}}}
	f.Fuzz(func(t *testing.T, src string) {
		e, _, problems := compile(src, sc)
		if (e == nil) == (len(problems) == 0) {
			t.Fatalf("expression %v with problems %v", e, problems)
		}
		for _, p := range problems {
			if p.at < 0 || p.at > len([]rune(src))+1 || p.msg == "" {
				t.Errorf("a problem is nowhere: %+v in %q", p, src)
			}
		}
		if e != nil {
			_, _ = e.Eval(Env{"row": map[string]any{"l": []any{1, "a", nil}, "s": "text", "x": 2}, "steps": map[string]any{}})
		}
	})
}
