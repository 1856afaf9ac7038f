package schema

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/casewire/casewire/plugin"
)

type level string

type base struct {
	Site string `json:"site" cw:"required,format=uri" doc:"Site address"`
}

type tree struct {
	Name string `json:"name" cw:"required"`
	Kids []tree `json:"kids"`
}

type inner struct {
	Size int    `json:"size" default:"7" cw:"min=1,max=99"`
	Unit string `json:"unit" cw:"required"`
}

type everything struct {
	base
	Token    plugin.Secret   `json:"token" cw:"required"`
	Project  string          `json:"project" cw:"minlen=2,maxlen=10" pattern:"^[A-Z]{2,10}$"`
	Level    level           `json:"level" enum:"low,medium,high" default:"medium"`
	Count    int32           `json:"count" cw:"min=0,max=100"`
	Big      uint64          `json:"big"`
	Ratio    float64         `json:"ratio" default:"0.5"`
	On       bool            `json:"on" default:"true"`
	Since    time.Time       `json:"since"`
	Every    time.Duration   `json:"every" default:"30s"`
	Tags     []string        `json:"tags" enum:"a,b,c" cw:"maxlen=3" default:"a,b"`
	Labels   map[string]int  `json:"labels"`
	Inner    inner           `json:"inner" cw:"advanced"`
	Ptr      *inner          `json:"ptr"`
	MaybeInt *int            `json:"maybe_int" default:"4"`
	Raw      json.RawMessage `json:"raw"`
	Any      any             `json:"any" example:"{\"a\":1}"`
	Bytes    []byte          `json:"bytes"`
	Addr     netip.Addr      `json:"addr"`
	Num      json.Number     `json:"num"`
	Tree     *tree           `json:"tree"`
	Skipped  chan int        `json:"-"`
	Mail     string          `json:"mail" cw:"format=email" example:"jane@example.com"`
	When     string          `json:"when" cw:"format=date-time"`
}

func compile(tb testing.TB, v any, use Use) *Plan {
	tb.Helper()
	p, err := Compile(reflect.TypeOf(v), use)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// validator compiles a schema with an independent implementation.
func validator(tb testing.TB, text []byte) *jsonschema.Schema {
	tb.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		tb.Fatalf("schema is no JSON: %v\n%s", err, text)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:schema", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("mem:schema")
	if err != nil {
		tb.Fatalf("not a JSON Schema: %v\n%s", err, text)
	}
	return s
}

const minimal = `{"site":"https://x.example","token":"s3cret"}`

func TestDefaults(t *testing.T) {
	t.Parallel()
	p := compile(t, everything{}, Input)
	var got everything
	if bad := p.Decode([]byte(minimal), &got); bad != nil {
		t.Fatal(bad)
	}
	four := 4
	want := everything{
		base: base{Site: "https://x.example"}, Token: plugin.NewSecret("s3cret"), Level: "medium", Ratio: 0.5, On: true,
		Every: 30 * time.Second, Tags: []string{"a", "b"}, MaybeInt: &four, Inner: inner{Size: 7},
	}
	opt := cmp.AllowUnexported(everything{}, plugin.Secret{}, netip.Addr{})
	if diff := cmp.Diff(want, got, opt, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	// Defaults are not shared between values.
	var other everything
	if bad := p.Decode([]byte(minimal), &other); bad != nil {
		t.Fatal(bad)
	}
	got.Tags[0], *got.MaybeInt = "changed", 99
	if other.Tags[0] != "a" || *other.MaybeInt != 4 {
		t.Error("two decoded values share a default")
	}
}

func TestEveryKind(t *testing.T) {
	t.Parallel()
	p := compile(t, everything{}, Input)
	in := `{"site":"https://x.example","token":"t","project":"SEC","level":"high","count":1e1,"big":18446744073709551615,
	"ratio":2,"on":false,"since":"2026-01-02T03:04:05.6Z","every":"5m","tags":["c"],"labels":{"a/b":1},
	"inner":{"unit":"kg"},"ptr":{"size":3,"unit":"m"},"maybe_int":null,"raw":{"a":[1, 2]},
	"any":{"n":9007199254740993,"f":0.1,"i":3,"e":1e300},"bytes":"aGk=","addr":"2001:db8::1","num":12345678901234567890,
	"tree":{"name":"r","kids":[{"name":"k"}]},"mail":"j@x.example","when":"2026-01-02T03:04:05Z"}`
	var got everything
	if bad := p.Decode([]byte(in), &got); bad != nil {
		t.Fatal(bad)
	}
	if got.Count != 10 || got.Big != 1<<64-1 || got.Ratio != 2 || got.On || got.Every != 5*time.Minute ||
		got.Inner != (inner{7, "kg"}) || *got.Ptr != (inner{3, "m"}) || string(got.Bytes) != "hi" ||
		got.Addr != netip.MustParseAddr("2001:db8::1") || got.Num != "12345678901234567890" || got.Labels["a/b"] != 1 ||
		got.Tree.Kids[0].Name != "k" || got.Since.Nanosecond() != 6e8 {
		t.Errorf("decoded %+v", got)
	}
	// Null is as if absent: the default holds.
	if got.MaybeInt == nil || *got.MaybeInt != 4 {
		t.Errorf("null for an optional property lost its default: %v", got.MaybeInt)
	}
	want := map[string]any{"n": json.Number("9007199254740993"), "f": 0.1, "i": 3.0, "e": 1e300}
	if diff := cmp.Diff(want, got.Any); diff != "" {
		t.Error(diff)
	}
	if err := validator(t, p.Schema()).Validate(decodeFor(t, strings.Replace(in, `"maybe_int":null,`, "", 1))); err != nil {
		t.Errorf("the schema refuses what the plan takes: %v", err)
	}
}

func decodeFor(tb testing.TB, s string) any {
	tb.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(s))
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestViolations(t *testing.T) {
	t.Parallel()
	p := compile(t, everything{}, Input)
	with := func(s string) string { return strings.TrimSuffix(minimal, "}") + "," + s + "}" }
	for _, tc := range []struct{ in, want string }{
		{`{}`, `/site: is required; /token: is required`},
		{``, `/site: is required; /token: is required`},
		{`[]`, `: must be an object, got array`},
		{`null`, `: must be an object, got null`},
		{`{"site":"https://x.example","token":null}`, `/token: is required`},
		{`{"site":"https://x.example","token":""}`, `/token: must not be empty`},
		{`{"site":"x","token":"t"}`, `/site: must be a URL with scheme and host, such as https://example.com; got "x"`},
		{with(`"projct":"SEC"`), `/projct: unknown property; did you mean "project"?`},
		{with(`"Project":"SEC"`), `/Project: unknown property; did you mean "project"?`},
		{with(`"maybeInt":1`), `/maybeInt: unknown property; did you mean "maybe_int"?`},
		{with(`"zzz":1`), `/zzz: unknown property`},
		{with(`"a/b~c":1`), `/a~1b~0c: unknown property`},
		{with(`"project":"sec"`), `/project: must match ^[A-Z]{2,10}$; got "sec"`},
		{with(`"project":"S"`), `/project: must have at least 2 characters, has 1`},
		{with(`"project":7`), `/project: must be a string, got number`},
		{with(`"level":"hihg"`), `/level: must be one of low, medium, high; got "hihg"; did you mean "high"?`},
		{with(`"count":101`), `/count: must be at most 100, got 101`},
		{with(`"count":1.5`), `/count: must be a whole number, got 1.5`},
		{with(`"count":3000000000`), `/count: is out of range: 3000000000`},
		{with(`"big":-1`), `/big: is out of range: -1`},
		{with(`"ratio":1e999`), `/ratio: is out of range: 1e999`},
		{with(`"on":"yes"`), `/on: must be true or false, got string`},
		{with(`"since":"yesterday"`), `/since: must be a time such as 2026-01-31T08:00:00Z; got "yesterday"`},
		{with(`"every":"5 minutes"`), `/every: must be a duration such as 90s, 5m or 1h30m; got "5 minutes"`},
		{with(`"every":"-5m"`), `/every: must not be negative`},
		{with(`"tags":["a","x"]`), `/tags/1: must be one of a, b, c; got "x"`},
		{with(`"tags":["a","a","a","a"]`), `/tags: must have at most 3 items, has 4`},
		{with(`"tags":[null]`), `/tags/0: must be a string, got null`},
		{with(`"labels":{"x":"y"}`), `/labels/x: must be a whole number, got string`},
		{with(`"inner":{"size":100}`), `/inner/size: must be at most 99, got 100; /inner/unit: is required`},
		{with(`"bytes":"*"`), `/bytes: must be base64 (RFC 4648, with padding)`},
		{with(`"tree":{"name":"r","kids":[{"nam":"k"}]}`), `/tree/kids/0/nam: unknown property; did you mean "name"?; /tree/kids/0/name: is required`},
		{with(`"mail":"Jane <j@x.example>"`), `/mail: must be an e-mail address, such as jane@example.com; got "Jane <j@x.example>"`},
		{with(`"count":1,"count":2`), `/count: appears twice; a property may be given once`},
		{with(`"raw":{"a":1,"a":2}`), `/raw/a: appears twice; a property may be given once`},
		{minimal + `{}`, `: must be one JSON value; there is more behind it`},
		{`{"site":`, `/site: is no valid JSON: it ends too early, at byte 8`},
		// Several at once, in order of appearance.
		{`{"token":5,"count":-1,"nope":[1,{"x":2}]}`, `/token: must be a string, got number; /count: must be at least 0, got -1; /nope: unknown property; /site: is required`},
	} {
		var v everything
		var got []string
		for _, x := range p.Decode([]byte(tc.in), &v) {
			got = append(got, x.Field+": "+x.Description)
		}
		if s := strings.Join(got, "; "); s != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.in, s, tc.want)
		}
	}
}

func TestManyViolationsAreCounted(t *testing.T) {
	t.Parallel()
	p := compile(t, struct {
		N []int `json:"n"`
	}{}, Input)
	var v struct {
		N []int `json:"n"`
	}
	bad := p.Decode([]byte(`{"n":[`+strings.Repeat(`"x",`, 99)+`"x"]}`), &v)
	if len(bad) != MaxViolations || !strings.HasSuffix(bad[len(bad)-1].Description, "(and 84 more)") {
		t.Errorf("got %d, last %q", len(bad), bad[len(bad)-1].Description)
	}
}

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	type conf struct {
		Key plugin.Secret `json:"key" cw:"minlen=20"`
	}
	p := compile(t, conf{}, Input)
	var v conf
	bad := p.Decode([]byte(`{"key":"hunter2"}`), &v)
	if len(bad) != 1 || strings.Contains(bad[0].Description, "hunter2") {
		t.Errorf("got %v", bad)
	}
	type nested struct {
		M map[string]conf `json:"m"`
		L []plugin.Secret `json:"l"`
		P *plugin.Secret  `json:"p"`
	}
	p = compile(t, nested{}, Input)
	one := plugin.NewSecret("one")
	got := p.Secrets(nested{M: map[string]conf{"a": {Key: plugin.NewSecret("two")}}, L: []plugin.Secret{one, {}}, P: &one})
	if diff := cmp.Diff([]string{"two", "one", "one"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSchemaText(t *testing.T) {
	t.Parallel()
	type in struct {
		base
		Key   plugin.Secret `json:"key" cw:"required"`
		N     int           `json:"n" cw:"min=1" default:"3" doc:"How <many>"`
		Tags  []string      `json:"tags" enum:"a,b" cw:"minlen=1"`
		Tree  *tree         `json:"tree"`
		Extra any           `json:"extra"`
	}
	want := `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{` +
		`"site":{"type":"string","description":"Site address","format":"uri"},` +
		`"key":{"type":"string","minLength":1,"x-casewire-secret":true,"writeOnly":true},` +
		`"n":{"type":"integer","description":"How <many>","default":3,"minimum":1},` +
		`"tags":{"type":"array","minItems":1,"items":{"type":"string","enum":["a","b"]}},` +
		`"tree":{"type":"object","properties":{"name":{"type":"string"},"kids":{"type":"array","items":{"type":"object"}}},"required":["name"],"additionalProperties":false},` +
		`"extra":{}},"required":["site","key"],"additionalProperties":false}`
	if diff := cmp.Diff(want, string(compile(t, in{}, Input).Schema())); diff != "" {
		t.Error(diff)
	}
	type out struct {
		ID    string    `json:"id"`
		Note  string    `json:"note,omitempty"`
		Owner *string   `json:"owner"`
		Kids  []out     `json:"kids"`
		At    time.Time `json:"at,omitzero"`
	}
	want = `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{` +
		`"id":{"type":"string"},"note":{"type":"string"},"owner":{"type":["string","null"]},` +
		`"kids":{"type":"array","items":{"type":"object"}},"at":{"type":"string","format":"date-time"}},` +
		`"required":["id","owner","kids"]}`
	p := compile(t, out{}, Output)
	if diff := cmp.Diff(want, string(p.Schema())); diff != "" {
		t.Error(diff)
	}
	withRows := p.SchemaWith(Extra{Name: "rows", Schema: []byte(`{"type":"array"}`)})
	validator(t, withRows)
	if !strings.Contains(string(withRows), `"rows":{"type":"array"}},"required":["id","owner","kids","rows"]`) {
		t.Errorf("rows are missing: %s", withRows)
	}
	for _, v := range []any{everything{}, tree{}, map[string]string{}, json.RawMessage{}} {
		p := compile(t, v, Input)
		validator(t, p.Schema())
		validator(t, p.SchemaWith(Extra{Name: "rows", Schema: []byte(`{"type":"array"}`)}))
		if string(p.Schema()) != string(compile(t, v, Input).Schema()) {
			t.Errorf("%T: two compilations differ", v)
		}
	}
}

// structOf makes a struct whose fields all claim the property x: vet would not let us write it down.
func structOf(names ...string) any {
	var fields []reflect.StructField
	for _, n := range names {
		f := reflect.StructField{Name: n, Type: reflect.TypeFor[int](), Tag: `json:"x"`}
		if n == strings.ToLower(n) {
			f.PkgPath = "example"
		}
		fields = append(fields, f)
	}
	return reflect.Zero(reflect.StructOf(fields)).Interface()
}

func TestAuthoringMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		v    any
		use  Use
		want string
	}{
		{struct{ C chan int }{}, Input, "has no JSON form"},
		{struct{ F func() }{}, Input, "has no JSON form"},
		{struct{ P **int }{}, Input, "pointer to pointer"},
		{struct{ M map[int]string }{}, Input, "plain strings as keys"},
		{struct{ E error }{}, Input, "use a concrete type"},
		{struct{ D time.Duration }{}, Output, "no JSON form that people agree on"},
		{struct{ S plugin.Secret }{}, Output, "cannot carry a Secret"},
		{struct {
			N int `cw:"requird"`
		}{}, Input, "cw option \"requird\" is unknown"},
		{struct {
			N int `cw:"min=x"`
		}{}, Input, "needs a number"},
		{struct {
			N int `cw:"min=5,max=1"`
		}{}, Input, "is over max"},
		{struct {
			N int `cw:"minlen=5"`
		}{}, Input, "use min and max for numbers"},
		{struct {
			S string `cw:"max=5"`
		}{}, Input, "use minlen and maxlen"},
		{struct {
			S string `pattern:"("`
		}{}, Input, "pattern \"(\""},
		{struct {
			N int `pattern:"a"`
		}{}, Input, "pattern and format are for text"},
		{struct {
			S string `cw:"format=phone"`
		}{}, Input, "use uri, email or date-time"},
		{struct {
			S string `cw:"required" default:"x"`
		}{}, Input, "exclude each other"},
		{struct {
			N int `default:"x"`
		}{}, Input, "is no JSON"},
		{struct {
			N int `default:"5" cw:"max=4"`
		}{}, Input, "breaks the property's own rule"},
		{struct {
			S plugin.Secret `default:"x"`
		}{}, Input, "a secret has no default"},
		{structOf("A", "B"), Input, "declared twice"},
		{structOf("a"), Input, "not exported"},
		{struct {
			A int `json:"x,string"`
		}{}, Input, "not supported"},
		{struct {
			A bool `enum:"a,b"`
		}{}, Input, "enum is for text and numbers"},
		{struct {
			A int `enum:"a,b"`
		}{}, Input, "is no number"},
		{struct{ *base }{}, Input, "only a plain struct can be embedded"},
	} {
		_, err := Compile(reflect.TypeOf(tc.v), tc.use)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%T: got %v, want %q", tc.v, err, tc.want)
		}
	}
}

// What the plan takes, the schema must take, and what the schema refuses, the plan must refuse: an independent validator
// is the judge. (The plan is laxer in one point only: null for an optional property.)
func FuzzDecode(f *testing.F) {
	p := compile(f, everything{}, Input)
	judge := validator(f, p.Schema())
	f.Add(minimal)
	f.Add(`{"site":"https://x.example","token":"t","inner":{"size":3},"tags":["a"],"any":[1,2,{"x":null}]}`)
	f.Add(`{"site":"https://x.example","token":"t","count":5e0,"tree":{"name":"a","kids":[]}}`)
	f.Add("{\"site\":\"https://x.example\",\"token\":\"\xff\"}")
	f.Fuzz(func(t *testing.T, in string) {
		var v everything
		bad := p.Decode([]byte(in), &v)
		for _, b := range bad {
			if b.Description == "" {
				t.Errorf("a violation at %q says nothing", b.Field)
			}
		}
		if strings.Contains(in, "null") || strings.TrimSpace(in) == "" {
			return
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(in))
		if err != nil {
			if bad == nil {
				t.Errorf("taken, but no JSON: %q: %v", in, err)
			}
			return
		}
		if err := judge.Validate(doc); bad == nil && err != nil {
			t.Errorf("taken, but the schema refuses %q: %v", in, err)
		}
	})
}

func BenchmarkDecode2K(b *testing.B) {
	type item struct {
		Type  string   `json:"type" cw:"required" enum:"ip,domain,hash"`
		Value string   `json:"value" cw:"required"`
		Tags  []string `json:"tags"`
		Score int      `json:"score" cw:"min=0,max=100" default:"50"`
	}
	type in struct {
		Title string `json:"title" cw:"required,maxlen=255"`
		Items []item `json:"items"`
		Body  string `json:"body"`
	}
	p := compile(b, in{}, Input)
	v := in{Title: "A title", Body: strings.Repeat("word ", 200)}
	for range 12 {
		v.Items = append(v.Items, item{"ip", "192.0.2.1", []string{"one", "two"}, 30})
	}
	text, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plan", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var out in
			if bad := p.Decode(text, &out); bad != nil {
				b.Fatal(bad)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var out in
			if err := json.Unmarshal(text, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
