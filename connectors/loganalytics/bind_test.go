package loganalytics

import (
	"encoding/json"
	"strings"
	"testing"
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
		{"list", []any{"a\"", 1.0}, `parse_json("[\"a\\\"\",1]")`},
		{"object", map[string]any{"k": "v)"}, `parse_json("{\"k\":\"v)\"}")`},
		{"datetime", map[string]any{"type": "datetime", "value": "2026-09-02T06:14:03.5+02:00"}, "datetime(2026-09-02T04:14:03.5Z)"},
		{"datetime that is none", map[string]any{"type": "datetime", "value": "2026) | x"}, ""},
		{"timespan", map[string]any{"type": "timespan", "value": "1.02:03:04"}, "time(1.02:03:04)"},
		{"timespan that is none", map[string]any{"type": "timespan", "value": "1h) | x"}, ""},
		{"guid that is none", map[string]any{"type": "guid", "value": "x"}, ""},
		{"long over its size", map[string]any{"type": "long", "value": "9223372036854775808"}, ""},
		{"unknown type", map[string]any{"type": "evil", "value": "x"}, ""},
		{"object with a type of its own", map[string]any{"type": "x", "value": "y", "z": 1.0}, `parse_json("{\"type\":\"x\",\"value\":\"y\",\"z\":1}")`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := bind("T", map[string]any{"p": tc.val})
			if tc.want == "" {
				if err == nil {
					t.Fatalf("bound as %s", got)
				}
				return
			}
			if want := "let p = " + tc.want + ";\nT"; err != nil || got != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
	for _, name := range []string{"", "a b", "a;b", "1a", "a-b", strings.Repeat("a", 200)} {
		if _, err := bind("T", map[string]any{name: 1.0}); err == nil {
			t.Errorf("parameter name %q was taken", name)
		}
	}
	if got, err := bind("T", nil); got != "T" || err != nil {
		t.Errorf("no parameters: %q, %v", got, err)
	}
}

// FuzzQuote: whatever the value, the literal ends where it should: every quote inside is escaped and no line ends in it.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", `"`, `\`, `\"`, "\n", "a\x00", "\u2028", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lit, err := quote(s)
		if err != nil {
			if !strings.Contains(s, "\x00") {
				t.Fatalf("refused %q: %v", s, err)
			}
			return
		}
		body := lit[1 : len(lit)-1]
		if lit[0] != '"' || lit[len(lit)-1] != '"' || strings.ContainsAny(body, "\n\r") {
			t.Fatalf("%q", lit)
		}
		for i := 0; i < len(body); i++ {
			switch body[i] {
			case '\\':
				i++
				if i == len(body) {
					t.Fatalf("the closing quote of %q is escaped", lit)
				}
			case '"':
				t.Fatalf("%q ends early", lit)
			}
		}
	})
}
