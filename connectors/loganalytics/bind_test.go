package loganalytics

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func TestBind(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		val  any
		want string // literal, or "" for an error
	}{
		{"string", "a", `"a"`},
		{"quote", `a" | drop table x //`, `"a\" | drop table x //"`},
		{"backslash", `a\`, `"a\\"`},
		{"backslash quote", `a\" or 1==1`, `"a\\\" or 1==1"`},
		{"line feed", "a\n| take 1", `"a\n| take 1"`},
		{"carriage return", "a\r\nb", `"a\r\nb"`},
		{"line separator", "a\u2028b", `"a\u2028b"`},
		{"unicode", "Ölüm 😀", `"Ölüm 😀"`},
		{"NUL", "a\x00b", ""},
		{"long", json.Number("9007199254740993"), "long(9007199254740993)"},
		{"long as float", float64(42), "long(42)"},
		{"real", 1.5, "real(1.5)"},
		{"number that is none", json.Number("1);evil("), ""},
		{"bool", true, "true"},
		{"null", nil, "dynamic(null)"},
		{"list", []any{"a\"", 1.0}, `dynamic(["a\"",1])`},
		{"object", map[string]any{"k": "v)"}, `dynamic({"k":"v)"})`},
		{"datetime", map[string]any{"type": "datetime", "value": "2026-09-02T06:14:03.5+02:00"}, "datetime(2026-09-02T04:14:03.5Z)"},
		{"datetime that is none", map[string]any{"type": "datetime", "value": "2026) | x"}, ""},
		{"timespan", map[string]any{"type": "timespan", "value": "1.02:03:04"}, "time(1.02:03:04)"},
		{"timespan that is none", map[string]any{"type": "timespan", "value": "1h) | x"}, ""},
		{"guid that is none", map[string]any{"type": "guid", "value": "x"}, ""},
		{"long over its size", map[string]any{"type": "long", "value": "9223372036854775808"}, ""},
		{"unknown type", map[string]any{"type": "evil", "value": "x"}, ""},
		{"object with two properties of its own", map[string]any{"type": "x", "id": 1.0}, `dynamic({"id":1,"type":"x"})`},
		{"list that would close its literal", []any{`]) | take 1 //`, "\u007f\u0085\u2028\n"}, `dynamic(["]) | take 1 //","\u007f\u0085\u2028\n"])`},
		{"nested", map[string]any{"a": []any{map[string]any{"b": nil}, true, json.Number("9007199254740993")}}, `dynamic({"a":[{"b":null},true,9007199254740993]})`},
		{"nested too deep", nest(70), ""},
		{"number beyond long", json.Number("9223372036854775808"), ""},
		{"number that is written in hexadecimal", json.Number("0x1p4"), ""},
		{"least long", json.Number("-9223372036854775808"), "long(-9223372036854775808)"},
		{"bad UTF-8", "a\xffb", "\"a\ufffdb\""},
		{"comment", "a // b /* c", `"a // b /* c"`},
		{"bracket", `["x"]`, `"[\"x\"]"`},
		{"typed string", map[string]any{"type": "string", "value": `"`}, `"\""`},
		{"typed null", map[string]any{"type": "datetime", "value": nil}, "datetime(null)"},
		{"typed null timespan", map[string]any{"type": "timespan", "value": nil}, "time(null)"},
		{"null string", map[string]any{"type": "string", "value": nil}, ""},
		{"null of unknown type", map[string]any{"type": "x); y(", "value": nil}, ""},
		{"typed list", map[string]any{"type": "long", "value": []any{1.0}}, ""},
		{"datetime with line feed", map[string]any{"type": "datetime", "value": "2026-09-02T06:14:03Z\n"}, ""},
		{"datetime of the year 1", map[string]any{"type": "datetime", "value": "0001-01-01T00:00:00Z"}, "datetime(0001-01-01T00:00:00Z)"},
		{"timespan in days", map[string]any{"type": "timespan", "value": "1.5d"}, "time(1.5d)"},
		{"negative timespan", map[string]any{"type": "timespan", "value": "-00:00:01"}, "time(-00:00:01)"},
		{"guid", map[string]any{"type": "guid", "value": "74be27de-1e4e-49d9-b579-fe0b331d3642"}, "guid(74be27de-1e4e-49d9-b579-fe0b331d3642)"},
		{"int", map[string]any{"type": "int", "value": json.Number("-2147483648")}, "int(-2147483648)"},
		{"int over its size", map[string]any{"type": "int", "value": "2147483648"}, ""},
		{"long as text", map[string]any{"type": "long", "value": "9007199254740993"}, "long(9007199254740993)"},
		{"decimal", map[string]any{"type": "decimal", "value": "79228162514264337593543950335"}, "decimal(79228162514264337593543950335)"},
		{"decimal that is none", map[string]any{"type": "decimal", "value": "1e5"}, ""},
		{"real NaN", map[string]any{"type": "real", "value": "NaN"}, "real(nan)"},
		{"real infinity", map[string]any{"type": "real", "value": "-Infinity"}, "real(-inf)"},
		{"real that is none", map[string]any{"type": "real", "value": "inf)"}, ""},
		{"real of a whole number", map[string]any{"type": "real", "value": 3.0}, "real(3)"},
		{"typed bool", map[string]any{"type": "bool", "value": true}, "true"},
		{"typed bool that is none", map[string]any{"type": "bool", "value": "True"}, ""},
		{"typed dynamic", map[string]any{"type": "dynamic", "value": "x"}, `dynamic("x")`},
		{"object with a type of its own", map[string]any{"type": "x", "value": "y", "z": 1.0}, `dynamic({"type":"x","value":"y","z":1})`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := bind("T", map[string]any{"p": tc.val})
			if tc.want == "" {
				if err == nil {
					t.Fatalf("bound as %s", got.text())
				}
				var e *sdk.Error
				if !errors.As(err, &e) || e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 || e.Violations[0].Field != "/params/p" {
					t.Errorf("the error does not name the parameter: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := "let p = " + tc.want + ";\nT"; got.text() != want {
				t.Errorf("got %q; want %q", got.text(), want)
			}
		})
	}
	for _, name := range []string{"", "a b", "a;b", "1a", "a-b", "ä", "where", "let", `["x"]`, "a\n", strings.Repeat("a", 200)} {
		if _, err := bind("T", map[string]any{name: 1.0}); err == nil {
			t.Errorf("parameter name %q was taken", name)
		}
	}
	if got, err := bind("\n\n  T\n", nil); err != nil || got.text() != "T" || got.skipped != 2 {
		t.Errorf("no parameters: %+v, %v", got, err)
	}
	if _, err := bind(" \n", nil); err == nil {
		t.Error("a query of white space was taken")
	}
}

func nest(n int) any {
	var v any = "x"
	for range n {
		v = []any{v}
	}
	return v
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, query string
		params      map[string]any
		said, want  string
	}{
		{"no parameters", "T\n| wher x", nil, "could not be parsed at 'wher' on line [2,2]", "could not be parsed at 'wher' at line 2, position 2 (| wher x)"},
		{"parameters", "T\n| wher x", map[string]any{"a": 1.0, "b": "x"}, "on line [3,2]", "at line 2, position 2 (| wher x)"},
		{"blank lines in front", "\n\nT\n| wher x", map[string]any{"a": 1.0}, "on line [3,2]", "at line 4, position 2 (| wher x)"},
		{"the other form", "T | x", map[string]any{"a": 1.0}, "Failed [line:position=2:4]", "Failed at line 1, position 4 (T | x)"},
		{"in a parameter", "T", map[string]any{"a": 1.0}, "on line [1,4]", "in a parameter"},
		{"behind the end", "T |", nil, "at '<EOF>' on line [2,0]", "at '<EOF>' at line 2, position 0"},
		{"nothing to move", "T", nil, "Failed to resolve column 'x'", "Failed to resolve column 'x'"},
	} {
		b, err := bind(tc.query, tc.params)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.locate(tc.said); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// FuzzBind reads every literal back: whatever the value, the text is one let statement with one literal, which means
// what was bound, and then the query.
func FuzzBind(f *testing.F) {
	for _, s := range []string{"", `"`, `\`, `\"`, "\n", "\u2028", "\xff", `]) | x`, "// x", "'", "```", "\x7f"} {
		f.Add(s, s, int64(1)<<60+1)
	}
	f.Fuzz(func(t *testing.T, s, key string, n int64) {
		if strings.Contains(s, "\x00") {
			return
		}
		object := map[string]any{key: []any{s, json.Number(strconv.FormatInt(n, 10)), nil}, "other": s}
		b, err := bind("T | where x == s", map[string]any{"s": s, "o": object, "n": json.Number(strconv.FormatInt(n, 10))})
		if err != nil {
			t.Fatal(err)
		}
		list, err := tokens(b.text())
		if err != nil {
			t.Fatalf("%v in %q", err, b.text())
		}
		var statements [][]token
		var cur []token
		for _, tok := range list {
			if tok.text == ";" && tok.depth == 0 && !tok.quoted {
				statements, cur = append(statements, cur), nil
				continue
			}
			cur = append(cur, tok)
		}
		if len(statements) != 3 || words(cur) != "T | where x = = s" || strings.Count(b.text(), "\n") != 1 {
			t.Fatalf("%d statements and %q", len(statements), words(cur))
		}
		valid := strings.ToValidUTF8(s, "\ufffd")
		if n, o, s := statements[0], statements[1], statements[2]; words(n[:3]) != "let n =" || words(o[:3]) != "let o =" ||
			words(s[:3]) != "let s =" || len(s) != 4 || !s[3].quoted || o[3].text != "dynamic" {
			t.Fatalf("%q", b.text())
		}
		last := statements[2][3]
		var back string
		if err := json.Unmarshal([]byte(last.text), &back); err != nil || back != valid {
			t.Fatalf("%s is %q, %v; want %q", last.text, back, err, valid)
		}
		lit := b.text()[statements[1][4].end:statements[1][len(statements[1])-1].at]
		var gotObject map[string]any
		if err := json.Unmarshal([]byte(lit), &gotObject); err != nil || gotObject["other"] != valid && key != "other" {
			t.Fatalf("%s is %v, %v", lit, gotObject, err)
		}
	})
}
