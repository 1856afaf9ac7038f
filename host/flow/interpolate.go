package flow

import (
	"strings"
	"unicode/utf8"
)

// piece is a part of a string: text, or an expression.
type piece struct {
	text   string
	expr   bool
	offset int // of text in the string, in runes
}

// start is where the expression begins behind its spaces.
func (p piece) start() int {
	return p.offset + utf8.RuneCountInString(p.text) - utf8.RuneCountInString(strings.TrimLeft(p.text, " \t\n"))
}

const (
	exprOpen  = "${{"
	exprClose = "}}"
)

// split takes a string apart. If an expression has no end, open is its offset in runes; otherwise it is -1.
func split(s string) (pieces []piece, open int) {
	var text strings.Builder
	start, at := 0, 0 // bytes
	flush := func() {
		if text.Len() > 0 {
			pieces = append(pieces, piece{text: text.String(), offset: utf8.RuneCountInString(s[:start])})
			text.Reset()
		}
	}
	for at < len(s) {
		i := strings.Index(s[at:], exprOpen)
		if i < 0 {
			text.WriteString(s[at:])
			break
		}
		if i > 0 && s[at+i-1] == '$' { // $${{ is a plain ${{
			text.WriteString(s[at:at+i-1] + exprOpen)
			at += i + len(exprOpen)
			continue
		}
		text.WriteString(s[at : at+i])
		flush()
		body := at + i + len(exprOpen)
		end := exprEnd(s[body:])
		if end < 0 {
			return pieces, utf8.RuneCountInString(s[:at+i])
		}
		pieces = append(pieces, piece{text: s[body : body+end], expr: true, offset: utf8.RuneCountInString(s[:body])})
		at = body + end + len(exprClose)
		start = at
	}
	flush()
	return pieces, -1
}

// exprEnd finds the }} that ends an expression: not one in a string, nor one that closes nested maps.
func exprEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\'', '`':
			end := stringEnd(s[i+1:], c)
			if end < 0 {
				return strings.Index(s, exprClose) // the parser will say what is wrong
			}
			i += end + 1
		case '(', '[', '{':
			depth++
		case ')', ']':
			depth--
		case '}':
			if depth <= 0 && strings.HasPrefix(s[i:], exprClose) {
				return i
			}
			depth--
		}
	}
	return strings.Index(s, exprClose)
}

func stringEnd(s string, quote byte) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quote != '`':
			i++
		case s[i] == quote:
			return i
		}
	}
	return -1
}
