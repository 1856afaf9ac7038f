package yamldoc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/internal/yamldoc"
)

func parse(t *testing.T, src string) *yamldoc.Node {
	t.Helper()
	n, found := yamldoc.Parse("f.yaml", []byte(src))
	if len(found) > 0 {
		t.Fatal(found)
	}
	return n
}

func TestPlain(t *testing.T) {
	t.Parallel()
	n := parse(t, `
int: 1
hex: 0x1F
neg: -7
big: 18446744073709551615
float: 1.50
exp: 1e3
text: plain
quoted: "1"
yes: yes
on: on
true: true
null_: ~
empty:
date: 2026-01-31
zero: 0
list: [a, {b: c}]
base: &base { a: 1, b: 2 }
merged: { <<: *base, b: 3 }
two: { <<: [*base, { c: 4 }] }
alias: *base
tagged: !!str 5
`)
	want := map[string]any{
		"int": 1, "hex": 31, "neg": -7, "big": uint64(18446744073709551615), "float": 1.5, "exp": 1000.0, "text": "plain", "quoted": "1", "yes": "yes",
		"on": "on", "true": true, "null_": nil, "empty": nil, "date": "2026-01-31", "zero": 0, "list": []any{"a", map[string]any{"b": "c"}},
		"base": map[string]any{"a": 1, "b": 2}, "merged": map[string]any{"a": 1, "b": 3}, "two": map[string]any{"a": 1, "b": 2, "c": 4},
		"alias": map[string]any{"a": 1, "b": 2}, "tagged": "5",
	}
	if diff := cmp.Diff(want, n.Plain()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n.Get("int").Get("x") != nil || n.Get("none") != nil {
		t.Error("Get makes things up")
	}
}

// Every character of every kind of scalar is found where it stands. The mark is the character X, once in each scalar.
func TestAt(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"k: plain X",
		"k:    plain X  # comment",
		"k: é\u00fcX",
		"k: 'it''s X'",
		`k: "a\"b\\c\u00e9\x41\tX"`,
		"k: plain\n  goes on X",
		"k: plain\n\n  goes X",
		"k: \"double\n\n\n   on X\"",
		"k: \"escaped \\\n   break X\"",
		"k: 'single\n  on X'",
		"k: |\n  one\n  two X\n",
		"k: |-\n   deep\n     deeper X",
		"k: >\n  folded\n  text X\n",
		"k: >-\n  folded\n\n  text\n    more X\n",
		"k:\n  |\n  text X",
		"- a\n- k: [one, \"X\"]",
		"k: |\r\n  one\r\n  two X\r\n",
		"\"k\": X",
		"? k\n: X",
	} {
		n := parse(t, src)
		line, col := 1, 1
		for _, r := range src[:strings.IndexByte(src, 'X')] {
			if col++; r == '\n' {
				line, col = line+1, 1
			}
		}
		for _, v := range n.All("") {
			at := strings.IndexByte(v.Text, 'X')
			if at < 0 {
				continue
			}
			got := v.At(len([]rune(v.Text[:at])))
			if got.Line != line || got.Col != col {
				t.Errorf("%q: X is at %d:%d, not at %d:%d", src, line, col, got.Line, got.Col)
			}
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "PT24H": 24 * time.Hour,
		"P1DT1M0.5S": 24*time.Hour + time.Minute + 500*time.Millisecond, "P2W": 336 * time.Hour, "0s": 0,
	} {
		if got, err := yamldoc.ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "5", "5 minutes", "P", "PT", "-5s", "1y", "xd", "99999999d", "P99999999999D", "1d-5h", "9999999h"} {
		if got, err := yamldoc.ParseDuration(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
	for d, want := range map[time.Duration]string{time.Hour: "1h", 90 * time.Second: "1m30s", 48 * time.Hour: "2d", 0: "0s", time.Minute: "1m", 10 * time.Second: "10s"} {
		if got := yamldoc.FormatDuration(d); got != want {
			t.Errorf("%v is written %s", d, got)
		}
	}
}

func TestClosest(t *testing.T) {
	t.Parallel()
	candidates := []string{"title", "severity", "tags", "tlp", "id"}
	for word, want := range map[string]string{"titel": "title", "Title": "title", "severty": "severity", "tag": "tags", "tpl": "tlp", "zzz": "", "x": "", "observables": ""} {
		if got := yamldoc.Closest(word, candidates); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
	if got := yamldoc.DidYouMean("zzz", candidates); got != "known: id, severity, tags, title, tlp" {
		t.Error(got)
	}
	if got := yamldoc.DidYouMean("zzz", nil); got != "" {
		t.Error(got)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	n := parse(t, "a: [{ b.c: 1, '': 2 }]")
	var got []string
	for p := range n.All("") {
		got = append(got, p)
	}
	if diff := cmp.Diff([]string{"", "a", "a[0]", `a[0]["b.c"]`, `a[0][""]`}, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzParse: no panic; either a tree or an error; every position is in the file, and At stays in it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a: 1", "a: &x [*x]", "a: &x b\nc: *x", "<<: {a: 1}", "- |\n  x\n - y", "a: \"\\u00e9\n  b\"", "? {a: 1}\n: b", "\t", "a: b: c", "---\n---\n", "%YAML 1.2\n---\na",
		"a: >2-\n    x", "a: !!binary x", "\xef\xbb\xbfa: 1", "a: 0123", "{a: [b, {c: d}]}", "a: 'b''c'",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		n, found := yamldoc.Parse("f.yaml", []byte(src))
		if n == nil && !found.HasErrors() {
			t.Fatal("neither a tree nor an error")
		}
		lines := 1
		for _, r := range src {
			if strings.ContainsRune("\r\n\u0085\u2028\u2029", r) {
				lines++
			}
		}
		for _, d := range found {
			if d.Pos.Line < 1 || d.Pos.Line > lines+1 || d.Pos.Col < 1 {
				t.Errorf("nowhere: %v", d)
			}
		}
		if n == nil {
			return
		}
		count := 0
		for _, v := range n.All("") {
			if count++; count > 100 {
				break
			}
			for _, at := range []int{-1, 0, len([]rune(v.Text)) / 2, len([]rune(v.Text)), len(v.Text) + 5} {
				if p := v.At(at); p.Line < 1 || p.Line > lines+1 || p.Col < 1 {
					t.Errorf("%q at %d is nowhere: %v", v.Text, at, p)
				}
			}
			_ = fmt.Sprint(v.Describe())
		}
	})
}
