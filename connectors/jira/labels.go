package jira

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLabel is Jira's limit for one label, in UTF-16 units.
const maxLabel = 255

// sanitizeLabel makes s a label that Jira accepts: white space becomes a dash, what cannot be seen is dropped, and the
// rest is cut to 255. A text that looks like one of our markers gets a prefix, so that an alert cannot pass for
// another's case. The result is empty when nothing is left.
func sanitizeLabel(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	dash := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			dash = b.Len() > 0
			continue
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			continue
		}
		if dash {
			b.WriteByte('-')
			dash = false
		}
		b.WriteRune(r)
	}
	out := b.String()
	if len(out) == len(labelPrefix)+refLen && strings.EqualFold(out[:len(labelPrefix)], labelPrefix) && isRef(out[len(labelPrefix):]) {
		out = "x-" + out
	}
	return cutUnits(out, maxLabel)
}

// sanitizeLabels applies sanitizeLabel to each, and drops empty and repeated ones. Jira compares labels without regard
// to case when it searches, but keeps them as they are: so does this.
func sanitizeLabels(lists ...[]string) []string {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	out := make([]string, 0, n+1)
	for _, l := range lists {
		for _, s := range l {
			if s = sanitizeLabel(s); s != "" && !contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// contains compares labels as JQL does.
func contains(labels []string, l string) bool {
	for _, have := range labels {
		if strings.EqualFold(have, l) {
			return true
		}
	}
	return false
}

// units counts s as Jira does: in UTF-16 code units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x10000 {
			n++
		}
	}
	return n
}

// cutUnits returns the longest prefix of s of at most limit UTF-16 units that does not split a character.
func cutUnits(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n := 0
	for i, r := range s {
		w := 1
		if r >= 0x10000 {
			w = 2
		}
		if n += w; n > limit {
			return s[:i]
		}
	}
	return s
}

// oneLine makes s a summary: no line breaks or control characters, single spaces, at most limit units with an ellipsis
// where something was cut.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	s = strings.Map(dropInvisible, s)
	if cut := cutUnits(s, limit); len(cut) < len(s) {
		return strings.TrimRight(cutUnits(s, limit-1), " ") + "…"
	}
	return s
}

// dropInvisible removes controls that reorder or hide text (bidi overrides and isolates, zero-width marks), and what no
// XML document may hold; line feeds and tabs stay.
func dropInvisible(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
		return r
	case r < 0x20 || r >= 0x7f && r <= 0x9f,
		r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069,
		r == 0x200b, r == 0x200e, r == 0x200f, r == 0x2060, r == 0xfeff, r == 0xfffe, r == 0xffff:
		return -1
	}
	return r
}
