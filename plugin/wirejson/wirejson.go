// Package wirejson checks JSON in one pass and without allocations, as what crosses the protocol has to be: by RFC 8259, in
// UTF-8, without halves of surrogate pairs. Names that are there twice are let through: vendors do that. Rows go by the
// hundreds of thousands, and who receives them believes none.
package wirejson

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// deepest is how deep values may be nested in Valid; encoding/json has the same limit.
const deepest = 10_000

// Valid says whether b is one JSON value, with white space around it or not.
func Valid(b []byte) bool {
	ok, _ := check(b, deepest)
	return ok
}

// Compact says whether b is one JSON value without white space around or in it, but for strings, and nested no more than
// depth deep. Such a value is a single line.
func Compact(b []byte, depth int) bool {
	ok, spaced := check(b, depth)
	return ok && !spaced
}

// nesting remembers of each value that is open whether it is an object: a bit for each, the innermost in the lowest.
type nesting struct {
	low   uint64   // the innermost 64 at most
	high  []uint64 // those around them, 64 in each
	depth int
}

func (n *nesting) open(object bool) {
	if n.depth > 0 && n.depth%64 == 0 {
		n.high = append(n.high, n.low)
		n.low = 0
	}
	n.low <<= 1
	if object {
		n.low |= 1
	}
	n.depth++
}

func (n *nesting) shut() {
	n.low >>= 1
	n.depth--
	if n.depth > 0 && n.depth%64 == 0 {
		last := len(n.high) - 1
		n.low, n.high = n.high[last], n.high[:last]
	}
}

// check says whether b is one value, and whether there is white space outside its strings.
func check(b []byte, deepest int) (ok, spaced bool) {
	var in nesting
	i, first := 0, false // first: a list or an object has just been opened
	for {
		// A value, or the end of what has just been opened.
		if i < len(b) && b[i] <= ' ' {
			i, spaced = space(b, i), true
		}
		if i >= len(b) {
			return false, spaced
		}
		if first {
			first = false
			object := in.low&1 == 1
			switch {
			case object && b[i] == '}', !object && b[i] == ']':
				i++
				in.shut()
				goto behind
			case object:
				goto name
			}
		}
	value:
		switch c := b[i]; c {
		case '"':
			i = String(b, i)
		case '{', '[':
			if in.depth == deepest {
				return false, spaced
			}
			in.open(c == '{')
			first = true
			i++
			continue
		case 't':
			i = word(b, i, "true")
		case 'f':
			i = word(b, i, "false")
		case 'n':
			i = word(b, i, "null")
		default:
			i = Number(b, i)
		}
		if i < 0 {
			return false, spaced
		}
	behind:
		for {
			if i < len(b) && b[i] <= ' ' {
				i, spaced = space(b, i), true
			}
			if in.depth == 0 {
				return i == len(b), spaced
			}
			if i >= len(b) {
				return false, spaced
			}
			c := b[i]
			i++
			if c == ',' {
				break
			}
			if in.low&1 == 1 && c != '}' || in.low&1 == 0 && c != ']' {
				return false, spaced
			}
			in.shut()
		}
		if i < len(b) && b[i] <= ' ' {
			i, spaced = space(b, i), true
		}
		if i >= len(b) {
			return false, spaced
		}
		if in.low&1 == 0 {
			goto value
		}
	name:
		if b[i] != '"' {
			return false, spaced
		}
		if i = String(b, i); i < 0 {
			return false, spaced
		}
		if i < len(b) && b[i] <= ' ' {
			i, spaced = space(b, i), true
		}
		if i >= len(b) || b[i] != ':' {
			return false, spaced
		}
		i++
	}
}

// space returns the index behind the white space at i.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// word returns the index behind the word at i, or a negative one if it is another.
func word(b []byte, i int, w string) int {
	if len(b)-i < len(w) || string(b[i:i+len(w)]) != w {
		return -1
	}
	return i + len(w)
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// String returns where the string ends that begins with the quote at i: the index behind its last quote. It is negative
// if there is no such end in b, or if the string is not as this package demands.
func String(b []byte, i int) int {
	i++
	for {
		// Eight bytes at a time while they need no second look: no quote, backslash, control character or byte beyond ASCII.
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			quote, slash := x^(ones*'"'), x^(ones*'\\')
			odd := ((x - ones*0x20) | (quote - ones) | (slash - ones) | x) & highs
			if odd != 0 {
				i += bits.TrailingZeros64(odd) / 8 // what is behind the first may be a false alarm, the first is none
				break
			}
			i += 8
		}
		if i >= len(b) {
			return -1
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = escape(b, i); i < 0 {
				return -1
			}
		case c < 0x20:
			return -1
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n < 2 {
				return -1
			}
			i += n
		}
	}
}

// escape returns the index behind the escape sequence at i, or a negative one.
func escape(b []byte, i int) int {
	if i+1 >= len(b) {
		return -1
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
	default:
		return -1
	}
	switch r := hex(b, i+2); {
	case r < 0, 0xDC00 <= r && r < 0xE000:
		return -1
	case 0xD800 <= r && r < 0xDC00:
		i += 6
		if i+1 >= len(b) || b[i] != '\\' || b[i+1] != 'u' {
			return -1
		}
		if low := hex(b, i+2); low < 0xDC00 || low >= 0xE000 {
			return -1
		}
	}
	return i + 6
}

// hex reads four digits at i; what are no digits is negative.
func hex(b []byte, i int) rune {
	if i+4 > len(b) {
		return -1
	}
	r := rune(0)
	for _, c := range b[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// Number returns where the number ends that begins at i: the index behind its last digit, which may be the end of b. It is
// negative if there is none. What is behind it is not looked at.
func Number(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i == len(b):
		return -1
	case b[i] == '0':
		i++
	default:
		if i = digits(b, i); i < 0 {
			return -1
		}
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i = digits(b, i); i < 0 {
			return -1
		}
	}
	return i
}

// digits returns the index behind the digits at i, or a negative one if there are none.
func digits(b []byte, i int) int {
	begin := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i == begin {
		return -1
	}
	return i
}
