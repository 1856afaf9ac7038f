package schema_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/schema"
	"github.com/casewire/casewire/host/internal/yamldoc"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct{ schema, value, want string }{
		{``, `{ a: [1] }`, ``},
		{`true`, `1`, ``},
		{`{}`, `x`, ``},
		{`{"type": "integer"}`, `1`, ``},
		{`{"type": "integer"}`, `1.0`, ``},
		{`{"type": "integer"}`, `1.5`, `must be an integer, not the number 1.5`},
		{`{"type": "number"}`, `1`, ``},
		{`{"type": "number"}`, `"1"`, `must be a number, not the string "1"; leave the quotes out`},
		{`{"type": "boolean"}`, `on`, `must be a boolean, not the string "on"; write true or false`},
		{`{"type": "string"}`, `~`, `must be a string, not nothing; leave the key out if there is nothing to say`},
		{`{"type": ["string", "null"]}`, `~`, ``},
		{`{"type": "array"}`, `x`, `must be a list, not the string "x"; write it as a list: [x]`},
		{`{"type": "array"}`, `{ a: 1 }`, "must be a list, not a map; begin with `- ` for a list"},
		{`{"type": "object"}`, `[a]`, `must be a map, not a list`},
		{`{"const": "a"}`, `b`, `must be one of a, not the string "b"; did you mean "a"?`},
		{`{"enum": [1, "x", null, true]}`, `true`, ``},
		{`{"enum": [1]}`, `1.0`, ``},
		{`{"enum": [1]}`, `"1"`, `must be one of 1, not the string "1"; did you mean "1"?`},
		{`{"minimum": 2, "maximum": 3}`, `1`, `must be at least 2, not 1`},
		{`{"minimum": 2, "maximum": 3}`, `4`, `must be at most 3, not 4`},
		{`{"exclusiveMinimum": 2}`, `2`, `must be more than 2, not 2`},
		{`{"exclusiveMaximum": 2}`, `2`, `must be less than 2, not 2`},
		{`{"minLength": 2}`, `é`, `needs at least 2 characters, has 1`},
		{`{"minLength": 1}`, `""`, `must not be empty`},
		{`{"maxLength": 1}`, `ab`, `takes at most 1 character, has 2`},
		{`{"pattern": "^a", "description": "Begins with a."}`, `b`, `"b" does not match the pattern ^a; Begins with a`},
		{`{"pattern": "(?!x)"}`, `b`, ``}, // not an expression that Go knows
		{`{"format": "email"}`, `a@b.example`, ``},
		{`{"format": "email"}`, `A <a@b.example>`, `"A <a@b.example>" is no email; write it as name@example.com`},
		{`{"format": "uri"}`, `https://x.example`, ``},
		{`{"format": "date-time"}`, `2026-01-31T08:00:00Z`, ``},
		{`{"format": "unheard-of"}`, `x`, ``},
		{`{"minItems": 1}`, `[]`, `needs at least 1 item, has 0`},
		{`{"items": {"type": "integer"}}`, `[1, a]`, `v[1]: must be an integer, not the string "a"`},
		{`{"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}}`, `{ a: x, b: y }`, `v.b: must be an integer, not the string "y"`},
		{`{"properties": {"a": {}}}`, `{ b: 1 }`, ``},
		{`{"properties": {"abc": {}}, "additionalProperties": false}`, `{ abd: 1 }`, `v.abd: unknown property of the thing; did you mean "abc"?`},
		{`{"required": ["a", "b"]}`, `{ a: 1 }`, `the thing needs "b"`},
		{`{"anyOf": [{"type": "integer"}, {"type": "string", "minLength": 3}]}`, `ab`, `must be an integer, not the string "ab"`},
		{`{"oneOf": [{"type": "integer"}, {"type": "string"}]}`, `ab`, ``},
		{`{"allOf": [{"minLength": 3}, {"pattern": "^a"}]}`, `b`, "needs at least 3 characters, has 1\n\"b\" does not match the pattern ^a"},
		{`{"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}`, `x`, `must be an integer, not the string "x"`},
		{
			`{"$defs": {"tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "additionalProperties": false}}, "$ref": "#/$defs/tree"}`,
			`{ kids: [{ kids: [{ kid: 1 }] }] }`, `v.kids[0].kids[0].kid: unknown property of the thing; did you mean "kids"?`,
		},
		{`{"properties": {"self": {"$ref": "#"}}, "additionalProperties": false}`, `{ self: { self: { x: 1 } } }`, `v.self.self.x: unknown property of the thing; known: self`},
		{`{"properties": {"a": false}}`, `{ a: 1 }`, `v.a: must be a never, not the number 1`},
	}
	for _, tt := range tests {
		t.Run(tt.schema+" "+tt.value, func(t *testing.T) {
			t.Parallel()
			s, err := schema.Parse([]byte(tt.schema))
			if err != nil {
				t.Fatal(err)
			}
			n, found := yamldoc.Parse("f", []byte(tt.value))
			if len(found) > 0 {
				t.Fatal(found)
			}
			var out diag.List
			c := schema.Checker{What: "thing", Out: &out}
			c.Check(n, s, "v")
			var got []string
			for _, d := range out {
				_, text, _ := strings.Cut(d.String(), ": ")
				got = append(got, strings.TrimPrefix(text, "v: "))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`{`:                        "unexpected end",
		`{"type": 7}`:              "type",
		`[1]`:                      "cannot unmarshal",
		`{"$ref": "http://x"}`:     "leads nowhere",
		`{"$ref": "#/$defs/x"}`:    "leads nowhere",
		`{"properties": {"a": 1}}`: "schema at #/properties/a",
		strings.Repeat(`{"items":`, 100) + `{}` + strings.Repeat(`}`, 100): "nested more than",
	} {
		if _, err := schema.Parse([]byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", src, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}`), "a: 1")
	f.Add([]byte(`{"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}`), "a: [1]")
	f.Add([]byte(`{"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}`), "x")
	f.Fuzz(func(t *testing.T, b []byte, src string) {
		s, err := schema.Parse(b)
		if err != nil {
			return
		}
		if n, _ := yamldoc.Parse("f", []byte(src)); n != nil {
			var out diag.List
			c := schema.Checker{What: "thing", Out: &out}
			c.Check(n, s, "")
		}
	})
}

// A schema that asks for endless work gets little of it.
func TestHostileSchema(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		`{"type": "integer", "anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}`,
		`{"type": "integer", "allOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}`,
		`{"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"$ref": "#"}], "minLength": 5}`,
	} {
		s, err := schema.Parse([]byte(src))
		if err != nil {
			t.Fatal(err)
		}
		n, _ := yamldoc.Parse("f", []byte("x"))
		var out diag.List
		c := schema.Checker{What: "thing", Out: &out}
		c.Check(n, s, "v") // ends
	}
}
