package view_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// fieldsFile documents what flows and templates see. CASEWIRE_UPDATE=1 go test ./host/flow/view writes it.
const fieldsFile = "FIELDS.md"

// TestFields keeps the documentation of the read model true: it is made of the structs, and every field says what it is.
func TestFields(t *testing.T) {
	t.Parallel()
	want := fieldsDoc(t)
	if os.Getenv("CASEWIRE_UPDATE") != "" {
		if err := os.WriteFile(fieldsFile, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(fieldsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what the structs say; write it again: CASEWIRE_UPDATE=1 go test ./host/flow/view", fieldsFile)
	}
}

func fieldsDoc(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "view.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]*ast.TypeSpec{}
	docs := map[string]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, s := range g.Specs {
			if ts, ok := s.(*ast.TypeSpec); ok {
				structs[ts.Name.Name], docs[ts.Name.Name] = ts, g.Doc.Text()
			}
		}
	}
	var b strings.Builder
	b.WriteString("# What flows see\n\nFlows and templates read these fields, whatever an event's source. Lists are never null, text that is not known is empty, and a\n" +
		"time that is not known is the zero time. What is made of the event as a whole is in `event`; of `alert`, `incident`, `case` and\n`row` there is the one that fits the event's type.\n" +
		"\nThis page is made of host/flow/view/view.go by its test.\n")
	for _, name := range []string{"Event", "Alert", "Incident", "Case", "Observable", "Cloud"} {
		ts := structs[name]
		if ts == nil {
			t.Fatalf("there is no type %s", name)
		}
		prefix := map[string]string{"Observable": "alert.observables[]", "Cloud": "alert.cloud"}[name]
		if prefix == "" {
			prefix = strings.ToLower(name)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| field | type | what, and an example |\n| --- | --- | --- |\n", prefix, strings.TrimSpace(docs[name]))
		st, ok := ts.Type.(*ast.StructType)
		if !ok {
			t.Fatalf("%s is no struct", name)
		}
		for _, f := range st.Fields.List {
			tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("expr")
			text := strings.TrimSpace(f.Comment.Text())
			if text == "" {
				t.Errorf("%s.%s says nothing about itself: give it a comment with an example", prefix, tag)
			}
			fmt.Fprintf(&b, "| `%s.%s` | %s | %s |\n", prefix, tag, typeName(f.Type), cell(text))
		}
	}
	return b.String()
}

var quotedText = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]`)

// cell writes a comment for a cell of a table, its examples as code.
func cell(s string) string {
	return strings.ReplaceAll(quotedText.ReplaceAllString(s, "`$0`"), "|", `\|`)
}

func typeName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return map[string]string{"string": "text", "int": "number", "bool": "true or false", "Cloud": "object"}[x.Name]
	case *ast.ArrayType:
		if id, ok := x.Elt.(*ast.Ident); ok && id.Name == "string" {
			return "list of texts"
		}
		return "list of observables"
	case *ast.MapType:
		return "object"
	case *ast.SelectorExpr:
		return "time"
	default:
		return ""
	}
}
