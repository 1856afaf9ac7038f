package kql

import (
	"strings"
	"testing"
)

func TestLets(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		params map[string]any
		want   string
	}{
		"none":      {nil, ""},
		"in order":  {map[string]any{"b": true, "a": `x" | take 1 // `}, `let a = "x\" | take 1 // "; let b = true;` + "\n"},
		"of a type": {map[string]any{"at": map[string]any{"type": "timespan", "value": "1h"}}, "let at = time(1h);\n"},
	} {
		if got, err := Lets(tc.params); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
	for _, name := range []string{"", "1a", "a b", "let", "a;b"} {
		if got, err := Lets(map[string]any{name: 1}); err == nil || !strings.Contains(err.Error(), "params") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
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
