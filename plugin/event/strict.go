package event

import (
	"bytes"
	"unicode/utf8"
)

// strict reads strict JSON fast. It knows only what data is usually made of, and says no to whatever it is not sure of:
// then jsontext, which is the judge, reads it again and says what is wrong, if anything is. Its yes is as good as
// jsontext's: UTF-8 and escapes are valid, and no object has a name twice.
type strict struct {
	b     []byte
	i     int
	names []span // of the objects that are open
}

// span is a part of the text.
type span struct{ from, to int32 }

const (
	strictDepth = 64  // of nesting
	strictNames = 128 // in one object: each is compared with all before it
)

// strictMembers reads b, which must be one object, and hands every member of it to visit, in order: the name without
// quotes, and the value without white space around it. False means that it cannot tell; then visit may have seen some.
func strictMembers(b []byte, visit func(name, value []byte)) bool {
	s := strict{b: b, names: make([]span, 0, 48)}
	s.space()
	if len(b) > MaxData || s.peek() != '{' || !s.object(0, visit) {
		return false
	}
	s.space()
	return s.i == len(s.b)
}

// peek returns the next byte, 0 at the end.
func (s *strict) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *strict) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\n', '\t', '\r':
			s.i++
		default:
			return
		}
	}
}

// next reads what separates the members of an object or the elements of an array, and says whether another one comes.
func (s *strict) next(end byte) (more, ok bool) {
	s.space()
	switch s.peek() {
	case ',':
		s.i++
		s.space()
		return true, true
	case end:
		s.i++
		return false, true
	default:
		return false, false
	}
}

func (s *strict) object(depth int, visit func(name, value []byte)) bool {
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return true
	}
	first := len(s.names)
	for {
		begin := s.i + 1
		if s.peek() != '"' || !s.text(false) {
			return false
		}
		name := s.b[begin : s.i-1]
		for _, n := range s.names[first:] {
			if string(s.b[n.from:n.to]) == string(name) {
				return false
			}
		}
		s.names = append(s.names, span{int32(begin), int32(s.i - 1)})
		s.space()
		if s.peek() != ':' {
			return false
		}
		s.i++
		s.space()
		begin = s.i
		if !s.value(depth + 1) {
			return false
		}
		if visit != nil {
			visit(name, s.b[begin:s.i])
		}
		more, ok := s.next('}')
		switch {
		case !ok || len(s.names)-first > strictNames:
			return false
		case !more:
			s.names = s.names[:first]
			return true
		}
	}
}

func (s *strict) array(depth int) bool {
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		if more, ok := s.next(']'); !more {
			return ok
		}
	}
}

func (s *strict) value(depth int) bool {
	if depth > strictDepth {
		return false
	}
	switch c := s.peek(); c {
	case '"':
		return s.text(true)
	case '{':
		return s.object(depth, nil)
	case '[':
		return s.array(depth)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *strict) word(w string) bool {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return false
	}
	s.i += len(w)
	return true
}

func (s *strict) digits() bool {
	begin := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > begin
}

func (s *strict) number() bool {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		return s.digits()
	}
	return true
}

// plainText are the bytes that a text may hold and that mean themselves: ASCII without controls, quote and backslash.
var plainText = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// text reads a string. Escapes of surrogates are left to jsontext, and so are all in a name, which might be another's.
func (s *strict) text(escapes bool) bool {
	s.i++
	begin, ascii := s.i, true
	for s.i < len(s.b) {
		c := s.b[s.i]
		if plainText[c] {
			s.i++
			continue
		}
		switch {
		case c == '"':
			ok := ascii || utf8.Valid(s.b[begin:s.i])
			s.i++
			return ok
		case c == '\\':
			if !escapes || !s.escape() {
				return false
			}
		case c >= utf8.RuneSelf:
			ascii = false
			s.i++
		default:
			return false
		}
	}
	return false
}

func (s *strict) escape() bool {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		s.i++
		var r rune
		for range 4 {
			digit := bytes.IndexByte([]byte("0123456789abcdef"), s.peek()|0x20)
			if digit < 0 || s.peek() < '0' {
				return false
			}
			r = r<<4 | rune(digit)
			s.i++
		}
		return r < 0xd800 || r > 0xdfff
	default:
		return false
	}
}
