package flow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/flow/view"
)

// load compiles one flow that must be right.
func load(tb testing.TB, src string) *flow.Flow {
	tb.Helper()
	flows, found := flow.Load([]flow.Source{{File: "t.yaml", Data: []byte(src)}}, newCatalog())
	if found.HasErrors() {
		tb.Fatal(found)
	}
	return flows[0]
}

// letValue compiles one value as a let of a flow with a row trigger: row is free of types.
func letValue(tb testing.TB, yaml string) *flow.Value {
	tb.Helper()
	f := load(tb, "name: t\non: { loganalytics.query: {} }\nsteps:\n  - id: s\n    let:\n      v: "+yaml+"\n")
	return f.Steps[0].Let[0].Value
}

func env() flow.Env {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return flow.Env{
		"event": view.Event{ID: "e1", Subject: "Subject", CaseKey: "case-1", Time: at},
		"row": map[string]any{
			"n": 3, "f": 1.5, "s": "text", "yes": true, "list": []any{"b", "a", "b"}, "strings": []string{"x", "y"}, "none": nil,
			"map": map[string]any{"k": 1, "a": 2}, "at": at, "big": json.Number("12345678901234567890"),
			"rows": []any{map[string]any{"ip": "1.2.3.4", "n": 1}, map[string]any{"ip": "5.6.7.8", "n": 2}, map[string]any{"ip": "1.2.3.4", "n": 1}},
			"url":  "https://evil.example/a.b",
		},
		"run":   map[string]any{"id": "r1", "flow": "t", "attempt": 1},
		"steps": map[string]any{},
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	tests := []struct{ yaml, want string }{
		// Types are kept by a single expression only.
		{`${{ row.n }}`, `3`},
		{`"${{ row.n }}"`, `3`},
		{`"n=${{ row.n }} f=${{ row.f }} y=${{ row.yes }}"`, `"n=3 f=1.5 y=true"`},
		{`"${{ row.none }}${{ row.list }}${{ row.map }}"`, `"[\"b\",\"a\",\"b\"]{\"a\":2,\"k\":1}"`},
		{`"at ${{ row.at }}"`, `"at 2026-01-02T03:04:05Z"`},
		{"|\n        ${{ row.n }}\n", `3`},
		{`"<${{ row.url }}>"`, `"<https://evil.example/a.b>"`},
		{`$${{ row.n }}`, `"${{ row.n }}"`},
		{`"$${{ a }} ${{ row.n }}"`, `"${{ a }} 3"`},
		{`${{ "}}" }}`, `"}}"`},
		{`'${{ {a: {b: 1}} }}'`, `{"a":{"b":1}}`},
		{`[1, "${{ row.n }}", {a: "${{ row.s }}"}]`, `[1,3,{"a":"text"}]`},
		{`{ a: 1, b: [x, 1.50, true, ~] }`, `{"a":1,"b":["x",1.5,true,null]}`},
		{`"${{ row.big }}"`, `12345678901234567890`},
		{`"v${{ row.big }}"`, `"v12345678901234567890"`},
		// Lists.
		{
			`{ for: "${{ row.rows }}", each: { i: "${{ index }}", ip: "${{ item.ip }}" }, if: "${{ item.n == 1 }}" }`,
			`[{"i":0,"ip":"1.2.3.4"},{"i":2,"ip":"1.2.3.4"}]`,
		},
		{`{ for: [1, 2], each: { for: ["a", "b"], each: "${{ item }}${{ index }}" } }`, `[["a0","b1"],["a0","b1"]]`},
		{`${{ uniq(map(row.rows, .ip)) }}`, `["1.2.3.4","5.6.7.8"]`},
		{`${{ uniq(row.rows) }}`, `[{"ip":"1.2.3.4","n":1},{"ip":"5.6.7.8","n":2}]`},
		{`${{ uniq([1, "1", 1, nil, nil]) }}`, `[1,"1",null]`},
		{`${{ row.list[0] }}`, `"b"`},
		{`${{ row.list[:2] }}`, `["b","a"]`},
		{`'${{ [1, 2][5] ?? "none" }}'`, `"none"`},
		{`'${{ [1, 2][-1] ?? "none" }}'`, `2`},
		{`${{ sort(row.list) }}`, `["a","b","b"]`},
		{`${{ sortBy(row.rows, .n, "desc")[0].ip }}`, `"5.6.7.8"`},
		{`${{ concat(row.list, row.strings) }}`, `["b","a","b","x","y"]`},
		{`${{ flatten([[1], [2, 3]]) }}`, `[1,2,3]`},
		{`${{ keys(row.map) }}`, `["a","k"]`},
		{`${{ values(row.map) }}`, `[2,1]`},
		{`${{ sum(map(row.rows, .n)) }}`, `4`},
		{`${{ count(row.rows, .n == 1) }}`, `2`},
		{`${{ find(row.rows, .n == 2)?.ip }}`, `"5.6.7.8"`},
		{`${{ find(row.rows, .n == 9)?.ip }}`, `null`},
		{`'${{ find(row.rows, .n == 9).ip ?? "none" }}'`, `"none"`},
		{`'${{ filter(row.rows, any(row.rows, .n == 2)) | len() }}'`, `3`},
		{`'${{ map(row.rows, # .n) }}'`, `[1,2,1]`},
		{`${{ reverse([1, 2]) }}`, `[2,1]`},
		{`${{ take([1, 2, 3], 2) }}`, `[1,2]`},
		{`${{ max(1, 2.5) }}`, `2.5`},
		{`${{ min([3, 1]) }}`, `1`},
		{`${{ 1..3 }}`, `[1,2,3]`},
		// What may be missing.
		{`${{ row.nothing }}`, `null`},
		{`${{ row.nothing?.deeper }}`, `null`},
		{`${{ row.nothing.deeper.still ?? "x" }}`, `"x"`},
		{`${{ default(row.nothing.deeper, "x") }}`, `"x"`},
		{`${{ default("", "x") }}`, `"x"`},
		{`${{ default([], "x") }}`, `"x"`},
		{`${{ default(0, "x") }}`, `0`},
		// Text.
		{`${{ join(row.list) }}`, `"b, a, b"`},
		{`${{ join(row.rows, "|") }}`, `"{\"ip\":\"1.2.3.4\",\"n\":1}|{\"ip\":\"5.6.7.8\",\"n\":2}|{\"ip\":\"1.2.3.4\",\"n\":1}"`},
		{`${{ lower("ÄB") + upper("é") + trim(" x ") }}`, `"äbÉx"`},
		{`${{ defang(row.url) }}`, `"hxxps[:]//evil[.]example/a[.]b"`},
		{`${{ defang(defang("a@b.example")) }}`, `"a[@]b[.]example"`},
		{`${{ truncate("héllo wörld", 6) }}`, `"héllo…"`},
		{`${{ truncate("short", 5) }}`, `"short"`},
		{`'${{ md("a*b_c [x](y) <b> | # ` + "`" + `k` + "`" + `") }}'`, `"a\\*b\\_c \\[x\\](y) &lt;b&gt; \\| \\# \\` + "`" + `k\\` + "`" + `"`},
		{`${{ md("one\ntwo") }}`, `"one two"`},
		{`${{ hash("abc") }}`, `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`},
		{`${{ json(row.map) }}`, `"{\"a\":2,\"k\":1}"`},
		{`${{ json("<&>") }}`, `"\"<&>\""`},
		{"'${{ fromjson(\"{\\\"id\\\": 9007199254740993, \\\"f\\\": 1e3}\") }}'", `{"f":1000,"id":9007199254740993}`},
		{`${{ split("a,b", ",") }}`, `["a","b"]`},
		{`${{ replace("a-b", "-", "+") }}`, `"a+b"`},
		{`${{ string(1.0) + string(nil) + string(true) }}`, `"1true"`},
		{`${{ int("42") + 1 }}`, `43`},
		{`${{ float("1.5") }}`, `1.5`},
		{`${{ toBase64("hi") + fromBase64("aGk=") }}`, `"aGk=hi"`},
		{`${{ trimPrefix("xy", "x") + trimSuffix("xy", "y") }}`, `"yx"`},
		{`${{ indexOf("abc", "c") }}`, `2`},
		// Time.
		{`${{ event.time }}`, `"2026-01-02T03:04:05Z"`},
		{`${{ ago("24h", event.time) }}`, `"2026-01-01T03:04:05Z"`},
		{`${{ event.time - dur("PT1H") }}`, `"2026-01-02T02:04:05Z"`},
		{`${{ dur("90m") }}`, `"1h30m0s"`},
		{`'${{ {d: dur("1d")} }}'`, `{"d":"24h0m0s"}`},
		{`${{ event.time.Format("2006-01-02") }}`, `"2026-01-02"`},
		{`${{ (event.time - date("2026-01-01")).Hours() > 27 }}`, `true`},
		// Numbers and logic.
		{`${{ row.n / 2 }}`, `1.5`},
		{`${{ round(2.5) + floor(1.9) + ceil(1.1) + abs(-1) }}`, `7`},
		{`${{ row.n in [1, 3] && "k" in row.map && not ("z" in row.list) }}`, `true`},
		{`'${{ row.s matches "^t.*t$" ? "m" : "n" }}'`, `"m"`},
		{`'${{ let x = row.n; x * x }}'`, `9`},
	}
	for _, tt := range tests {
		t.Run(tt.yaml, func(t *testing.T) {
			t.Parallel()
			got, err := letValue(t, tt.yaml).Eval(env())
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var g, w any
			if err := json.Unmarshal([]byte(tt.want), &w); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &g); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(w, g); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if strings.Contains(tt.want, "9007199254740993") && !strings.Contains(string(b), "9007199254740993") {
				t.Errorf("digits were lost: %s", b)
			}
		})
	}
}

func TestEvalErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ yaml, want string }{
		{`${{ row.nothing.deeper }}`, `t.yaml:6:14: steps[0].let.v: ${{ row.nothing.deeper }}: cannot fetch deeper from null: write ?. or give a fallback with ??`},
		{`"x ${{ 1 / 0 }}"`, `no form in JSON`},
		{`${{ row.n / 0 }}`, `divided by zero`},
		{`${{ fromjson(row.s) }}`, `fromjson:`},
		{`${{ int(row.s) }}`, `steps[0].let.v`},
		{`${{ dur(row.s) }}`, `"text" is no duration`},
		{`${{ -row.s }}`, `steps[0].let.v`},
		{`{ for: "${{ row.s }}", each: 1 }`, `for wants a list, not a string`},
		{`{ for: "${{ row.list }}", each: 1, if: "${{ item }}" }`, `must be true or false, not a string`},
		{`'${{ map(1..5000, sum(1..(# + 5000))) }}'`, `4 million`},
		{`'${{ all(row.many, all(row.many, all(row.many, # >= 0))) }}'`, `rounds of nested loops`},
		{`${{ replace(row.long, "a", row.long) }}`, `larger than 16 MiB`},
		{`${{ join(map(row.many, row.long)) }}`, `larger than 16 MiB`},
		{`${{ map(row.many, map(row.many, row.long)) }}`, `larger than 16 MiB`},
		{`${{ row.long + row.long }}${{ row.long }}${{ row.long }}${{ row.long }}`, `larger than 16 MiB`},
		{`${{ split(row.s, "") }}`, `separator`},
		{`${{ truncate(row.s, 0) }}`, `at least 1`},
		{`${{ uniq(row.s) }}`, `uniq wants a list, not a string`},
		{`${{ row.s.x }}`, `only maps have names`},
		{`'${{ row.n ? 1 : 2 }}'`, `a value has the wrong type: int`},
	}
	many := make([]any, 1000)
	for i := range many {
		many[i] = i
	}
	long := strings.Repeat("a", 4<<20)
	for _, tt := range tests {
		t.Run(tt.yaml, func(t *testing.T) {
			t.Parallel()
			e := env()
			row := e["row"].(map[string]any)
			row["many"], row["long"] = many, long
			got, err := letValue(t, tt.yaml).Eval(e)
			if err == nil {
				t.Fatalf("got %.80v, want an error", got)
			}
			if _, ok := errors.AsType[*flow.EvalError](err); !ok {
				t.Errorf("%T is no EvalError", err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
				t.Errorf("got %q, want %q in one line", err, tt.want)
			}
		})
	}
}

// What an optional index does not find ends the chain.
func TestOptionalIndex(t *testing.T) {
	t.Parallel()
	f := load(t, `
name: t
on: { loganalytics.query: {} }
steps:
  - { id: q, if: "${{ row.n == 1 }}", uses: loganalytics.query, with: { query: T } }
  - { id: s, let: { a: "${{ steps.q?.rows?.[0].x.y }}", b: "${{ steps.q.rows[0].x ?? 7 }}" } }
`)
	for want, steps := range map[any]map[string]any{
		nil: {},
		5:   {"q": map[string]any{"rows": []any{map[string]any{"x": map[string]any{"y": 5}}}}},
	} {
		e := env()
		e["steps"] = steps
		if got, err := f.Steps[1].Let[0].Value.Eval(e); err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
		got, err := f.Steps[1].Let[1].Value.Eval(e)
		if err != nil || want == nil && got != 7 {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

// A value must not change the environment, whatever is in scope.
func TestEvalLeavesEnvAlone(t *testing.T) {
	t.Parallel()
	v := letValue(t, `{ for: "${{ row.list }}", each: "${{ filter(row.rows, any(row.rows, .n == 2)) | len() }}${{ item }}" }`)
	e := env()
	if _, err := v.Eval(e); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(env(), e); diff != "" {
		t.Errorf("the environment changed:\n%s", diff)
	}
}

func TestTest(t *testing.T) {
	t.Parallel()
	f := load(t, `
name: t
on: { loganalytics.query: { where: '${{ row.yes }}' } }
steps: [{ id: a, if: true, let: { x: 1 } }, { id: b, if: '${{ row.n > 5 }}', let: { x: 1 } }]
`)
	where := f.Triggers[0].Where
	if ok, err := where.Test(env()); err != nil || !ok {
		t.Errorf("where: %v, %v", ok, err)
	}
	e := env()
	e["row"] = map[string]any{"yes": "yes"}
	if _, err := where.Test(e); err == nil || !strings.Contains(err.Error(), "must be true or false, not a string") {
		t.Errorf("where of a string: %v", err)
	}
	if ok, err := f.Steps[0].If.Test(nil); err != nil || !ok {
		t.Errorf("if: true: %v, %v", ok, err)
	}
	if ok, err := f.Steps[1].If.Test(env()); err != nil || ok {
		t.Errorf("if: %v, %v", ok, err)
	}
}

// Null leaves out an optional property, and stays where the schema takes null.
func TestNullIsLeftOut(t *testing.T) {
	t.Parallel()
	f := load(t, `
name: t
on: { loganalytics.query: {} }
steps:
  - id: c
    uses: thehive.case.ensure
    with: { title: x, assignee: "${{ row.who }}", parent: "${{ row.parent }}", custom: { a: "${{ row.a }}" } }
`)
	got, err := f.Steps[0].With.Eval(env())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"title": "x", "parent": nil, "custom": map[string]any{"a": nil}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	key, err := f.Steps[0].Key.Eval(env())
	if err != nil || key != "case-1" {
		t.Errorf("default key: %v, %v", key, err)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	got, err := flow.Decode([]byte(`{"i": 9007199254740993, "f": 1.5, "e": 1e2, "h": 123456789012345678901, "l": [1]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"i": 9007199254740993, "f": 1.5, "e": 100.0, "h": json.Number("123456789012345678901"), "l": []any{1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{``, `{`, `1 2`, `{"a":}`} {
		if v, err := flow.Decode([]byte(bad)); err == nil {
			t.Errorf("%q decoded to %v", bad, v)
		}
	}
}

func BenchmarkWith(b *testing.B) {
	f := load(b, `
name: t
on: { loganalytics.query: {} }
steps:
  - id: c
    uses: thehive.case.ensure
    with:
      title: "[Sentinel] ${{ event.subject }}"
      severity: 3
      tlp: amber
      tags: [a, "${{ row.s }}"]
      assignee: ${{ row.none ?? "nobody" }}
      link: https://example.com/
      score: 0.5
      custom: { a: "${{ row.n }}", b: fixed }
      observables: { for: "${{ uniq(map(row.rows, .ip)) }}", each: { dataType: ip, data: "${{ item }}" } }
`)
	e := env()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Steps[0].With.Eval(e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWhere(b *testing.B) {
	f := load(b, `
name: t
on: { sentinel.alerts: { where: '${{ event.tenant == "contoso" && event.subject contains "Root" }}' } }
steps: [{ id: a, let: { x: 1 } }]
`)
	e := flow.Env{"event": view.Event{Tenant: "contoso", Subject: "AWS Root login"}}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := f.Triggers[0].Where.Test(e); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	var src strings.Builder
	src.WriteString("name: t\non: { sentinel.alerts: {} }\nsteps:\n")
	for i := range 20 {
		fmt.Fprintf(&src, "  - id: s%d\n    uses: thehive.case.ensure\n    key: ${{ event.id }}-%d\n    with: { title: \"x ${{ event.subject }}\", tags: [\"${{ event.tenant }}\"] }\n", i, i)
	}
	sources := []flow.Source{{File: "t.yaml", Data: []byte(src.String())}}
	for b.Loop() {
		if _, found := flow.Load(sources, newCatalog()); found.HasErrors() {
			b.Fatal(found)
		}
	}
}

// The structs of the read model are seen by their names in flows, through pointers and in lists.
func TestEvalReadModel(t *testing.T) {
	t.Parallel()
	f := load(t, `
name: t
on: { sentinel.alerts: { where: '${{ alert.severity_id >= 4 && alert.title contains "Root" }}' } }
steps:
  - id: s
    let:
      ips: ${{ uniq(map(filter(alert.observables, .data_type == "ip"), .value)) }}
      account: ${{ alert.cloud.account }}
      day: ${{ alert.created.Format("2006-01-02") }}
      none: ${{ alert.users }}
      observables:
        for: ${{ alert.observables }}
        if: ${{ item.ioc }}
        each: { dataType: "${{ item.data_type }}", data: "${{ item.value }}" }
      first: ${{ first(alert.observables)?.value ?? "none" }}
`)
	e := flow.Env{"event": view.Event{}, "alert": &view.Alert{
		Title: "Root login", SeverityID: 5, Created: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Cloud: view.Cloud{Account: "123456789012"},
		Observables: []view.Observable{{Value: "1.2.3.4", DataType: "ip"}, {Value: "1.2.3.4", DataType: "ip", IOC: true}, {Value: "x", DataType: "user"}},
	}}
	if ok, err := f.Triggers[0].Where.Test(e); err != nil || !ok {
		t.Errorf("where: %v, %v", ok, err)
	}
	got := map[string]any{}
	for _, b := range f.Steps[0].Let {
		v, err := b.Value.Eval(e)
		if err != nil {
			t.Fatal(err)
		}
		got[b.Name] = v
	}
	want := map[string]any{
		"ips": []any{"1.2.3.4"}, "account": "123456789012", "day": "2026-01-02", "none": []any{},
		"observables": []any{map[string]any{"dataType": "ip", "data": "1.2.3.4"}}, "first": "1.2.3.4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
