package flow_test

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func flowSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := newCatalog()
	delete(c.connectors, "broken")
	var all []*connectorv1.DescribeResponse
	for _, name := range slices.Sorted(maps.Keys(c.connectors)) {
		all = append(all, c.connectors[name])
	}
	text := flow.Schema(all)
	if !bytes.Equal(text, flow.Schema(all)) {
		t.Error("the schema is another every time")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("flow.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := compiler.Compile("flow.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fromYAML(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// What the loader takes, an editor must not complain about.
func TestSchemaTakesGoodFlows(t *testing.T) {
	t.Parallel()
	s := flowSchema(t)
	texts := map[string]string{"caller": caller, "helper": helper, "lists": `
name: lists
on: { sentinel.alerts: null }
steps:
  - { id: whole, uses: thehive.case.ensure, with: "${{ {title: 'x'} }}" }
  - id: parts
    uses: thehive.case.ensure
    key: "${{ event.id }}"
    with:
      title: x
      severity: "${{ 1 + 1 }}"
      tags: { for: "${{ alert.tactics }}", each: "${{ item }}" }
      due: "${{ string(alert.created) }}"
      observables: [{ dataType: "${{ 'ip' }}", data: x }]
      custom: { a: 1, b: null }
`}
	files, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if w := archive.Files[len(archive.Files)-1]; w.Name == "want" && len(bytes.TrimSpace(w.Data)) == 0 && f.Name != "want" {
				texts[filepath.Base(file)+"/"+f.Name] = string(f.Data)
			}
		}
	}
	if len(texts) < 5 {
		t.Fatalf("only %d flows", len(texts))
	}
	for name, text := range texts {
		if err := s.Validate(fromYAML(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSchemaRefusesMistakes(t *testing.T) {
	t.Parallel()
	s := flowSchema(t)
	const head = "name: a\non: { sentinel.alerts: {} }\nsteps:\n"
	for name, text := range map[string]string{
		"no steps":         "name: a\n",
		"unknown key":      head + "  - { id: a, let: { x: 1 } }\nfoo: 1\n",
		"unknown trigger":  "name: a\non: { sentinel.alrts: {} }\nsteps: [{ id: a, let: { x: 1 } }]\n",
		"unknown action":   head + "  - { id: a, uses: thehive.case.ensur, with: { title: x } }\n",
		"missing input":    head + "  - { id: a, uses: thehive.case.ensure, with: {} }\n",
		"no input":         head + "  - { id: a, uses: thehive.case.ensure }\n",
		"unknown input":    head + "  - { id: a, uses: thehive.case.ensure, with: { title: x, titel: x } }\n",
		"wrong type":       head + "  - { id: a, uses: thehive.case.ensure, with: { title: x, severity: high } }\n",
		"of another":       head + "  - { id: a, uses: loganalytics.query, with: { title: x } }\n",
		"wrong item":       head + "  - { id: a, uses: thehive.case.ensure, with: { title: x, observables: [{ dataType: ip }] } }\n",
		"two kinds":        head + "  - { id: a, let: { x: 1 }, call: b }\n",
		"no id":            head + "  - { let: { x: 1 } }\n",
		"unknown class":    head + "  - { id: a, call: b, retry: { on: [never] } }\n",
		"unknown effect":   head + "  - { id: a, uses: http.request, effect: keyd }\n",
		"wrong in a loop":  head + "  - { id: a, for: [1], steps: [{ id: b, uses: thehive.case.ensure, with: {} }] }\n",
		"on_error unknown": head + "  - { id: a, call: b, on_error: ignore }\n",
	} {
		if s.Validate(fromYAML(t, text)) == nil {
			t.Errorf("%s: nothing is wrong with\n%s", name, text)
		}
		if strings.Contains(text, "\t") {
			t.Errorf("%s: has a tab", name)
		}
	}
}
