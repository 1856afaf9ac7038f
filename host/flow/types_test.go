package flow

import (
	"reflect"
	"testing"
	"time"

	"github.com/casewire/casewire/host/internal/schema"
)

type sample struct {
	Name    string            `expr:"name"`
	At      time.Time         `expr:"at"`
	Took    time.Duration     `expr:"took"`
	Maybe   *sample           `expr:"maybe"`
	List    []sample          `expr:"list"`
	Words   []string          `expr:"words"`
	Labels  map[string]string `expr:"labels"`
	Free    map[string]any    `expr:"free"`
	Any     any               `expr:"any"`
	Raw     []byte            `expr:"raw"`
	N       int64             `expr:"n"`
	F       float64           `expr:"f"`
	Hidden  string            `expr:"-"`
	Untaged bool
}

// What the checker knows about Go values: the places of problems tell what it found.
func TestGoTypes(t *testing.T) {
	t.Parallel()
	sc := &scope{vars: map[string]*typ{"s": fromGo(reflect.TypeFor[sample](), "s")}}
	for src, want := range map[string]string{
		"s.name + 'x'":                   "a string",
		"s.at - s.took":                  "a time",
		"s.maybe.name":                   "s.maybe may be missing (it is optional)",
		"s.maybe?.name":                  "a string?",
		"s.maybe.maybe.name ?? 'x'":      "a string",
		"s.maybe?.list":                  "a list of maps?",
		"map(s.list, .name)":             "a list of strings",
		"map(s.list, .nam)":              `the map has no "nam"`,
		"s.words[0]":                     "a string?",
		"s.labels.x":                     "a string?",
		"s.labels['x'] ?? ''":            "a string",
		"s.free.x.y":                     "any",
		"s.any.x.y":                      "any",
		"s.raw":                          "any",
		"s.n + 1":                        "an integer",
		"s.n + 1.5":                      "a number",
		"s.n / 2":                        "a number",
		"s.f":                            "a number",
		"s.hidden":                       `s has no "hidden"`,
		"s.Hidden":                       `s has no "Hidden"`,
		"s.Untaged":                      "a boolean",
		"true ? s.n : s.f":               "a number",
		"true ? s.n : nil":               "an integer?",
		"true ? s.n : s.name":            "any",
		"[1, 's']":                       "a list",
		"concat(s.words, ['x'])":         "a list of strings",
		"uniq(s.words)":                  "a list of strings",
		"[s.words]":                      "a list of lists of strings",
		"s.maybe != nil ? s.maybe.n : 0": "an integer",
		"s.maybe == nil ? 0 : s.maybe.n": "an integer",
		"filter(s.list, .maybe != nil && .maybe.n > 1)":    "a list of maps",
		"filter(s.list, .maybe.n > 1)":                     "#.maybe may be missing (it is optional)",
		"s.maybe != nil && any(s.list, s.maybe.n == .n)":   "a boolean",
		"any(s.list, # != nil && any(s.words, # == 'x'))":  "a boolean",
		"not (s.maybe == nil) && s.maybe.Untaged":          "a boolean",
		"s.maybe == nil || s.maybe.Untaged":                "a boolean",
		"s.maybe != nil || s.maybe.Untaged":                "s.maybe may be missing (it is optional)",
		"(s.maybe?.Untaged ?? false) ? s.maybe.name : 'x'": "a string",
		"s.maybe?.name == 'x' ? s.maybe.name : 'x'":        "a string",
		"s.maybe?.name != 'x' ? s.maybe.name : 'x'":        "s.maybe may be missing (it is optional)",
	} {
		_, got, problems := compile(src, sc)
		text := got.String()
		if got.null {
			text += "?"
		}
		if len(problems) > 0 {
			text = problems[0].msg
		}
		if text != want {
			t.Errorf("%s: %s, want %s", src, text, want)
		}
	}
}

func TestSchemaTypes(t *testing.T) {
	t.Parallel()
	s, err := schema.Parse([]byte(`{
		"type": "object", "required": ["id", "tree", "rows"],
		"properties": {
			"id": {"type": "string"}, "n": {"type": ["integer", "null"]}, "tree": {"$ref": "#/$defs/tree"},
			"either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
			"rows": {"type": "array", "items": {"type": "object", "additionalProperties": true, "properties": {"k": {"type": "string"}}}},
			"map": {"type": "object", "additionalProperties": {"type": "integer"}}, "free": {"type": "object"}, "any": {}
		},
		"$defs": {"tree": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}, "v": {"type": "number"}}}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	sc := &scope{vars: map[string]*typ{"o": fromSchema(s, "output")}}
	for src, want := range map[string]string{
		"o.id":                    "a string",
		"o.n":                     "an integer?",
		"o.nn":                    `output has no "nn"`,
		"o.tree.v":                "a number?",
		"o.tree.w":                `tree of the output has no "w"`,
		"o.tree.kids[0].v ?? 0.5": "any", // a tree in a tree is not followed
		"o.either":                "any",
		"map(o.rows, .unknown)":   "a list",
		"map(o.rows, .k)":         "a list of strings",
		"o.map?.x":                "an integer?",
		"o.free?.x.y":             "any",
		"o.any.x":                 "any",
	} {
		_, got, problems := compile(src, sc)
		text := got.String()
		if got.null {
			text += "?"
		}
		if len(problems) > 0 {
			text = problems[0].msg
		}
		if text != want {
			t.Errorf("%s: %s, want %s", src, text, want)
		}
	}
}

// A schema that contains itself in many ways costs no more than its size.
func TestSchemaTypesOfHostileSchema(t *testing.T) {
	t.Parallel()
	src := `{"type": "object", "properties": {`
	for _, c := range "abcdefghijklmnop" {
		src += `"` + string(c) + `": {"$ref": "#"}, `
	}
	s, err := schema.Parse([]byte(src + `"x": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := fromSchema(s, "o")
	if len(got.fields) != 17 {
		t.Errorf("fields: %d", len(got.fields))
	}
	_, _ = mismatch(got, s)
}
