package jira

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestCaseRef(t *testing.T) {
	t.Parallel()
	// Computed apart from this code: SHA-256 of "cwcase1" and the key, 16 bytes, base32hex.
	for key, want := range map[string]string{
		"":                 "mqirmcou2m96m3jms594lh0dnk",
		"msincident:t:123": "cehkaqf7jclv45l1nr1up72ero",
	} {
		if got := caseRef(key); got != want {
			t.Errorf("caseRef(%q) = %q, want %q", key, got, want)
		}
	}
	if got := caseRef("x"); !isRef(got) || len(got) != refLen {
		t.Errorf("caseRef(x) = %q is not a ref", got)
	}
}

func TestDigestKeepsPartsApart(t *testing.T) {
	t.Parallel()
	if digest("ab", "c") == digest("a", "bc") {
		t.Error("parts run into each other")
	}
	if len(digest("x")) != 16 {
		t.Errorf("digest is %q", digest("x"))
	}
}

func TestSanitizeLabel(t *testing.T) {
	t.Parallel()
	marker := labelPrefix + caseRef("someone else's case")
	for in, want := range map[string]string{
		"plain":                  "plain",
		"  Credential Access\t ": "Credential-Access",
		"a\n\nb":                 "a-b",
		"a\u00a0b":               "a-b",
		"\u202ea\u200b\x00b":     "ab",
		" ":                      "",
		marker:                   "x-" + marker,
		strings.ToUpper(marker):  "x-" + strings.ToUpper(marker),
		"cw-short":               "cw-short",
		"ümläut":                 "ümläut",
	} {
		if got := sanitizeLabel(in); got != want {
			t.Errorf("sanitizeLabel(%q) = %q, want %q", in, got, want)
		}
	}
	if got := sanitizeLabel(strings.Repeat("😀", 200)); units(got) != 254 {
		t.Errorf("cut to %d units", units(got))
	}
}

func TestSanitizeLabels(t *testing.T) {
	t.Parallel()
	got := sanitizeLabels([]string{"casewire"}, []string{"A b", "a-B", "", "c"})
	if diff := cmp.Diff([]string{"casewire", "A-b", "c"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\r\nb\tc":               "a b c",
		"\u202eevil":              "evil",
		strings.Repeat("x", 300):  strings.Repeat("x", 253) + "…",
		strings.Repeat("x", 254):  strings.Repeat("x", 254),
		"  a  ":                   "a",
		"\x00\n":                  "",
		strings.Repeat("é ", 200): strings.TrimRight(strings.Repeat("é ", 127)[:len(strings.Repeat("é ", 126))+len("é")], " ") + "…",
	} {
		if got := oneLine(in, maxSummary); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSanitizeLabel(f *testing.F) {
	for _, s := range []string{"", "a b", "\u202e", "cw-" + strings.Repeat("0", 26), strings.Repeat("é", 300), "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := sanitizeLabel(in)
		if !utf8.ValidString(out) || units(out) > maxLabel || strings.ContainsFunc(out, unicode.IsSpace) || strings.ContainsFunc(out, unicode.IsControl) {
			t.Fatalf("sanitizeLabel(%q) = %q", in, out)
		}
		if strings.HasPrefix(strings.ToLower(out), labelPrefix) && isRef(out[len(labelPrefix):]) {
			t.Fatalf("%q passes for a mark", out)
		}
		if again := sanitizeLabel(out); again != out {
			t.Fatalf("not stable: %q, then %q", out, again)
		}
	})
}
