package jira

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// icons are what Jira draws instead of text, without their brackets.
var icons = map[string]bool{
	"y": true, "n": true, "i": true, "/": true, "x": true, "!": true, "+": true, "-": true, "?": true, "on": true,
	"off": true, "*": true, "*r": true, "*g": true, "*b": true, "*y": true, "flag": true, "flagoff": true,
}

// appendText appends plain text in such a way that Jira's wiki renderer shows it as it is. LineStart says that the text
// begins a line, where lists, headings and quotes could begin. Escaping is by backslash, which the renderer honours
// before punctuation; a backslash that would itself escape or break the line becomes an entity. Characters are escaped
// only where they could mean something, so that ordinary prose and file names stay readable in the source.
func appendText(dst []byte, s string, lineStart bool) []byte {
	if lineStart {
		lead := len(s) - len(strings.TrimLeft(s, " \t"))
		dst, s = append(dst, s[:lead]...), s[lead:]
		if n := blockPrefix(s); n > 0 {
			dst = append(append(dst, s[:n-1]...), `\.`...)
			s, lineStart = s[n:], false
		}
	}
	prev := rune(0)
	for i, r := range s {
		if r < utf8.RuneSelf && r != 0 && strings.IndexByte(special, byte(r)) >= 0 {
			rest := s[i+1:]
			next, _ := utf8.DecodeRuneInString(rest)
			if rest == "" {
				next = 0
			}
			if r == '\\' {
				if !word(next) {
					dst = append(dst, backslash...)
				} else {
					dst = append(dst, '\\')
				}
				prev = r
				continue
			}
			if active(r, prev, next, rest, lineStart && i == 0) {
				dst = append(dst, '\\')
			}
		}
		dst = utf8.AppendRune(dst, r)
		prev = r
	}
	return dst
}

// backslash is the entity for a backslash that would mean something.
const backslash = "&#92;"

// special are the characters that appendText looks at.
const special = `\{}[]|^~*_-+?!#(:;&`

// active says whether r could be markup where it stands.
func active(r, prev, next rune, rest string, first bool) bool {
	switch r {
	case '{', '}', '[', ']', '|', '^', '~':
		return true
	case '*', '_', '-', '+':
		if word(prev) && word(next) {
			return false
		}
		// Alone between spaces none of them means anything, except as the mark of a list.
		return first || !space(prev) || !space(next)
	case '?':
		return prev == '?' || next == '?'
	case '!':
		return !space(next)
	case '#':
		return first || prev == '#'
	case '(':
		end := strings.IndexByte(rest[:min(len(rest), 9)], ')')
		return end > 0 && icons[rest[:end]]
	case '&': // an entity
		end := strings.IndexByte(rest[:min(len(rest), 12)], ';')
		return end > 0 && (next == '#' || word(next))
	case ':', ';':
		if next == ')' || next == '(' {
			return true
		}
		return (next == 'D' || next == 'P') && (len(rest) == 1 || !word(rune(rest[1])))
	}
	return false
}

// blockPrefix returns the length of "h1." to "h6." or "bq." at the start of s, or 0.
func blockPrefix(s string) int {
	if len(s) >= 3 && s[2] == '.' && (s[0] == 'h' && s[1] >= '1' && s[1] <= '6' || s[:2] == "bq") {
		return 3
	}
	return 0
}

func word(r rune) bool  { return unicode.IsLetter(r) || unicode.IsDigit(r) }
func space(r rune) bool { return r == 0 || unicode.IsSpace(r) }

// appendURL appends u, or what makes it safe inside [text|u]; nothing if it is not linkable.
func appendURL(dst []byte, u string) []byte {
	if !linkable(u) {
		return dst
	}
	for i := range len(u) {
		switch c := u[i]; {
		case c <= ' ' || c == 0x7f || strings.IndexByte("|[]{}\\^\"<>`", c) >= 0:
			const digits = "0123456789ABCDEF"
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// linkable allows web and mail addresses only: no javascript:, file: or data:.
func linkable(u string) bool {
	for _, scheme := range []string{"https://", "http://", "mailto:"} {
		if len(u) > len(scheme) && strings.EqualFold(u[:len(scheme)], scheme) {
			return true
		}
	}
	return false
}

// appendLabel appends the text of a link. Backslashes do not help inside a link, so what could end it, open a macro or
// load an image is replaced by a look-alike.
func appendLabel(dst []byte, s string) []byte {
	for _, r := range s {
		switch r {
		case '[', '{':
			r = '('
		case ']', '}':
			r = ')'
		case '|', '\\':
			r = '/'
		case '!':
			r = '.'
		case '^', '~':
			r = '-'
		case '\n', '\t':
			r = ' '
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
