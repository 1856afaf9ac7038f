package flow_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

const caller = `
name: caller
description: Calls.
tags: [a, b]
on:
  sentinel.alerts: { group_by: incident, where: '${{ event.tenant == "x" }}' }
steps:
  - id: help
    call: helper
    with: { id: "${{ event.id }}" }
    if: ${{ event.subject != "" }}
  - id: case
    uses: thehive.case.ensure
    with: { title: "x" }
    retry: { on: [throttled], max: 3, base: 2s, limit: 1m }
    timeout: 90s
    on_error: dead_letter
  - id: loop
    for: ${{ [1, 2] }}
    concurrency: 2
    steps:
      - { id: note, let: { b: "${{ item }}", a: "${{ index }}" } }
output: { case: "${{ steps.case.id }}" }
`

const helper = `
name: helper
inputs: { id: { type: string, required: true, doc: An id. }, n: { type: integer, default: 3 } }
steps: [{ id: s, let: { x: "${{ inputs.id }}" } }]
output: ${{ s.x }}
`

func sources(texts ...string) []flow.Source {
	var list []flow.Source
	for i, text := range texts {
		list = append(list, flow.Source{File: string(rune('a'+i)) + ".yaml", Data: []byte(text)})
	}
	return list
}

func mustLoad(t *testing.T, texts ...string) []*flow.Flow {
	t.Helper()
	flows, found := flow.Load(sources(texts...), newCatalog())
	if len(found) > 0 {
		t.Fatal(found)
	}
	return flows
}

// Load fills in what the engine needs.
func TestLoad(t *testing.T) {
	t.Parallel()
	flows := mustLoad(t, caller, helper)
	f, h := flows[0], flows[1]
	if f.Name != "caller" || f.Description != "Calls." || !cmp.Equal(f.Tags, []string{"a", "b"}) || f.Disabled || f.Output == nil {
		t.Errorf("head: %+v", f)
	}
	tr := f.Triggers[0]
	if tr.Connection != "alerts" || tr.Connector != "sentinel" || tr.Trigger != "alerts" || tr.GroupBy != "incident" || tr.Where == nil {
		t.Errorf("trigger: %+v", tr)
	}
	help, c, loop := f.Steps[0], f.Steps[1], f.Steps[2]
	if help.Kind != flow.KindCall || help.Call != h || help.If == nil || help.OnError != flow.OnErrorFail {
		t.Errorf("call: %+v", help)
	}
	want := flow.Retry{On: []plugin.Class{plugin.ClassThrottled}, Max: 3, Base: 2 * time.Second, Limit: time.Minute}
	if c.Kind != flow.KindUses || c.Connection != "cases" || c.Connector != "thehive" || c.Action != "case.ensure" ||
		c.Effect != connectorv1.Effect_EFFECT_KEYED || c.ResolveWindow != 90*time.Second || c.Key == nil || c.With == nil ||
		!cmp.Equal(c.Retry, want) || c.Timeout != 90*time.Second || c.OnError != flow.OnErrorDeadLetter {
		t.Errorf("uses: %+v", c)
	}
	if c.Pos != (diag.Pos{File: "a.yaml", Line: 12, Col: 5}) {
		t.Errorf("pos: %v", c.Pos)
	}
	if loop.Kind != flow.KindEach || loop.Concurrency != 2 || len(loop.Body) != 1 || loop.Body[0].Let[0].Name != "b" || loop.Body[0].Let[1].Name != "a" {
		t.Errorf("each: %+v", loop)
	}
	wantIn := map[string]flow.Input{"id": {Type: "string", Required: true, Doc: "An id."}, "n": {Type: "integer", Default: 3}}
	if diff := cmp.Diff(wantIn, h.Inputs); diff != "" {
		t.Error(diff)
	}
	off := mustLoad(t, "name: \"off\"\nenabled: false\nsteps: [{ id: a, let: { x: 1 } }]")
	if !off[0].Disabled {
		t.Error("enabled: false is not kept")
	}
}

// An action without `with` gets an empty map.
func TestWithIsNeverNil(t *testing.T) {
	t.Parallel()
	f := load(t, "name: t\nsteps: [{ id: a, uses: sentinel.playbook.run }]")
	got, err := f.Steps[0].With.Eval(nil)
	if err != nil || !cmp.Equal(got, map[string]any{}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// The version follows what flows say, not how they are written; and it follows the flows that are called.
func TestVersion(t *testing.T) {
	t.Parallel()
	base := mustLoad(t, caller, helper)
	version := func(texts ...string) string { return mustLoad(t, texts...)[0].Version }
	first := base[0].Version
	if len(first) != 32 || first == base[1].Version {
		t.Errorf("versions: %q %q", first, base[1].Version)
	}
	same := map[string]string{
		"comment": strings.Replace(caller, "steps:", "# a comment\nsteps:", 1),
		"quotes":  strings.Replace(caller, `title: "x"`, `title: 'x'`, 1),
		"spaces":  strings.ReplaceAll(caller, "\n", "\n\n"),
		"crlf":    strings.ReplaceAll(caller, "\n", "\r\n"),
	}
	for name, text := range same {
		if v := version(text, helper); v != first {
			t.Errorf("%s changes the version", name)
		}
	}
	if v := version(caller, strings.Replace(helper, "default: 3", "default: 4", 1)); v == first {
		t.Error("a change of the callee does not change the version")
	}
	if v := version(strings.Replace(caller, "max: 3", "max: 4", 1), helper); v == first {
		t.Error("a change does not change the version")
	}
	if v := version(caller, helper, "name: other\nsteps: [{ id: a, let: { x: 1 } }]"); v != first {
		t.Error("a flow that is not reached changes the version")
	}
	if v := mustLoad(t, helper, caller)[1].Version; v != first {
		t.Error("the order of the files changes the version")
	}
}

// A pinned version can be compiled from its bundle alone.
func TestCompile(t *testing.T) {
	t.Parallel()
	f := mustLoad(t, caller, helper, "name: other\nsteps: [{ id: a, let: { x: 1 } }]")[0]
	if len(f.Bundle) != 2 || f.Bundle["caller"] != caller || f.Bundle["helper"] != helper {
		t.Fatalf("bundle: %v", f.Bundle)
	}
	again, err := flow.Compile("caller", f.Bundle, newCatalog())
	if err != nil {
		t.Fatal(err)
	}
	if again.Version != f.Version || len(again.Steps) != len(f.Steps) {
		t.Errorf("compiled again: %s, %d steps", again.Version, len(again.Steps))
	}
	if _, err := flow.Compile("nobody", f.Bundle, newCatalog()); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v", err)
	}
	cat := newCatalog()
	delete(cat.connections, "cases")
	_, err = flow.Compile("caller", f.Bundle, cat)
	var list diag.List
	if !errors.As(err, &list) || !strings.Contains(err.Error(), "caller.yaml:13:11") || !strings.Contains(err.Error(), "no connection of the connector thehive") {
		t.Errorf("got %v", err)
	}
}

// Flows are safe for concurrent use: run with -race.
func TestConcurrentEval(t *testing.T) {
	t.Parallel()
	v := letValue(t, `{ for: "${{ row.rows }}", each: "${{ item.ip }} ${{ count(row.rows, any(row.rows, .n == 1)) }}" }`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				got, err := v.Eval(env())
				if err != nil || !cmp.Equal(got, []any{"1.2.3.4 3", "5.6.7.8 3", "1.2.3.4 3"}) {
					t.Errorf("got %v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Limits hold against files that are small and mean much.
func TestLimits(t *testing.T) {
	t.Parallel()
	laughs := "name: t\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"
	for i := 1; i < 10; i++ {
		d, p := string(rune('0'+i)), string(rune('0'+i-1))
		laughs += "x" + d + ": &x" + d + " [" + strings.Repeat("*x"+p+", ", 9) + "*x" + p + "]\n"
	}
	manySteps := "name: t\nsteps:\n"
	for i := range 300 {
		manySteps += "  - { id: s" + strings.Repeat("x", i/26) + string(rune('a'+i%26)) + ", let: { x: 1 } }\n"
	}
	for name, tt := range map[string]struct{ src, want string }{
		"laughs":    {laughs, "aliases written out"},
		"deep":      {"name: t\nx: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "nested more than 64 deep"},
		"large":     {"name: t\n#" + strings.Repeat("x", 2<<20), "the limit is 1048576"},
		"steps":     {manySteps, "more than 200 steps"},
		"expr":      {"name: t\nsteps: [{ id: a, let: { x: '${{ " + strings.Repeat("1 + ", 5000) + "1 }}' } }]", "the limit is 8192"},
		"nodes":     {"name: t\nsteps: [{ id: a, let: { x: '${{ " + strings.Repeat("1+", 1500) + "1 }}' } }]", "more than 2000 parts"},
		"nesting":   {"name: t\nsteps: [{ id: a, let: { x: '${{ " + strings.Repeat("(", 3000) + "1" + strings.Repeat(")", 3000) + " }}' } }]", ""},
		"not utf-8": {"name: t\ndescription: \xff\xfe", "not valid UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, found := flow.Load(sources(tt.src), newCatalog())
			if tt.want != "" && !strings.Contains(found.Error(), tt.want) {
				t.Errorf("got %.300s, want %q", found.Error(), tt.want)
			}
		})
	}
}

// What the flow says of an effect holds where the action leaves it to it; else what is known of the input.
func TestEffectByCaller(t *testing.T) {
	t.Parallel()
	flows := mustLoad(t, `
name: web
on: { sentinel.alerts: {} }
steps:
  - { id: plain, uses: http.request, with: { path: /x } }
  - { id: get, uses: http.request, with: { method: GET } }
  - { id: post, uses: http.request, with: { method: POST } }
  - { id: either, uses: http.request, with: { method: '${{ alert.severity_id > 3 ? "GET" : "POST" }}' } }
  - { id: search, uses: http.request, effect: read, with: { method: POST } }
  - { id: put, uses: http.request, effect: idempotent, with: { method: POST } }
  - { id: once, uses: http.request, effect: keyed, key: "${{ event.id }}", with: { method: POST } }
  - { id: fetch, uses: http.request, effect: unsafe, with: { method: GET } }
`)
	want := map[string]connectorv1.Effect{
		"plain": connectorv1.Effect_EFFECT_READ, "get": connectorv1.Effect_EFFECT_READ, "post": connectorv1.Effect_EFFECT_UNSAFE,
		"either": connectorv1.Effect_EFFECT_UNSAFE, "search": connectorv1.Effect_EFFECT_READ, "put": connectorv1.Effect_EFFECT_IDEMPOTENT,
		"once": connectorv1.Effect_EFFECT_KEYED, "fetch": connectorv1.Effect_EFFECT_UNSAFE,
	}
	got := map[string]connectorv1.Effect{}
	for _, s := range flows[0].Steps {
		got[s.ID] = s.Effect
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}
