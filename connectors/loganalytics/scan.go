package loganalytics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"unicode/utf8"
)

// scanner reads JSON from a stream and copies values, checked and without white space, to where the caller wants them. It
// makes nothing of a value but bytes: of half a million rows, most cells are only carried from one place to another.
//
// What is no UTF-8, and halves of surrogate pairs, become U+FFFD: the protocol carries strict JSON.
type scanner struct {
	r        io.Reader
	buf      []byte
	pos, end int
	err      error // of r
	limit    int   // most bytes of a value
}

const (
	scanBuffer = 256 << 10
	// deepest is how deep values may be nested; the service's dynamic values stop at 100.
	deepest = 512
)

var (
	errTooLong = errors.New("the value is too long")
	errTooDeep = fmt.Errorf("values are nested more than %d deep", deepest)
)

func newScanner(r io.Reader, limit int) *scanner {
	return &scanner{r: r, buf: make([]byte, scanBuffer), limit: limit}
}

// over makes a scanner of bytes that are there already.
func (s *scanner) over(b []byte, limit int) {
	*s = scanner{buf: b, end: len(b), err: io.EOF, limit: limit}
}

// fill reads more behind what is unread, which moves to the front of the buffer. It returns io.ErrUnexpectedEOF when there
// is no more.
func (s *scanner) fill() error {
	if s.err == nil {
		if s.pos > 0 {
			s.end = copy(s.buf, s.buf[s.pos:s.end])
			s.pos = 0
		}
		for range 100 {
			var n int
			n, s.err = s.r.Read(s.buf[s.end:])
			s.end += n
			if n > 0 {
				return nil
			}
			if s.err != nil {
				break
			}
		}
	}
	if s.err == nil {
		return io.ErrNoProgress
	}
	if errors.Is(s.err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return s.err
}

// peek returns the next byte that is no white space.
func (s *scanner) peek() (byte, error) {
	for {
		for s.pos < s.end {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\r', '\n':
				s.pos++
			default:
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// expect takes the next byte, which must be c.
func (s *scanner) expect(c byte) error {
	got, err := s.peek()
	if err != nil {
		return err
	}
	if got != c {
		return fmt.Errorf("%q where %q is expected", got, c)
	}
	s.pos++
	return nil
}

// more says whether a list or object that ends with end goes on, and takes the comma or the end. First says that it has
// just begun.
func (s *scanner) more(end byte, first bool) (bool, error) {
	c, err := s.peek()
	switch {
	case err != nil:
		return false, err
	case c == end:
		s.pos++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.pos++
		return true, nil
	}
	return false, fmt.Errorf("%q where %q or ',' is expected", c, end)
}

// value appends the next value to dst.
func (s *scanner) value(dst []byte) ([]byte, error) { return s.nested(dst, len(dst)+s.limit, 0) }

func (s *scanner) nested(dst []byte, limit, depth int) ([]byte, error) {
	c, err := s.peek()
	if err != nil {
		return dst, err
	}
	switch {
	case c == '"':
		return s.text(dst, limit)
	case c == '-' || '0' <= c && c <= '9':
		return s.number(dst, limit)
	case c == '{' || c == '[':
		if depth == deepest {
			return dst, errTooDeep
		}
		return s.compound(dst, limit, depth+1, c)
	case c == 't':
		return s.word(dst, "true")
	case c == 'f':
		return s.word(dst, "false")
	case c == 'n':
		return s.word(dst, "null")
	}
	return dst, fmt.Errorf("%q where a value is expected", c)
}

func (s *scanner) compound(dst []byte, limit, depth int, open byte) ([]byte, error) {
	s.pos++
	dst = append(dst, open)
	end := open + 2 // ']' and '}' are two behind their openers
	for first := true; ; first = false {
		more, err := s.more(end, first)
		if err != nil {
			return dst, err
		}
		if !more {
			return append(dst, end), nil
		}
		if !first {
			dst = append(dst, ',')
		}
		if open == '{' {
			if c, err := s.peek(); err != nil {
				return dst, err
			} else if c != '"' {
				return dst, fmt.Errorf("%q where a name is expected", c)
			}
			if dst, err = s.text(dst, limit); err != nil {
				return dst, err
			}
			if err = s.expect(':'); err != nil {
				return dst, err
			}
			dst = append(dst, ':')
		}
		if dst, err = s.nested(dst, limit, depth); err != nil {
			return dst, err
		}
		if len(dst) > limit {
			return dst, errTooLong
		}
	}
}

func (s *scanner) word(dst []byte, w string) ([]byte, error) {
	for s.end-s.pos < len(w) {
		if err := s.fill(); err != nil {
			return dst, err
		}
	}
	if string(s.buf[s.pos:s.pos+len(w)]) != w {
		return dst, fmt.Errorf("%q where %s is expected", s.buf[s.pos:s.pos+len(w)], w)
	}
	s.pos += len(w)
	return append(dst, w...), nil
}

func (s *scanner) number(dst []byte, limit int) ([]byte, error) {
	begin := len(dst)
	for {
		i := s.pos
		for i < s.end && numeric(s.buf[i]) {
			i++
		}
		dst = append(dst, s.buf[s.pos:i]...)
		s.pos = i
		if len(dst) > limit {
			return dst, errTooLong
		}
		if i < s.end {
			break
		}
		if err := s.fill(); errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return dst, err
		}
	}
	if !isNumber(dst[begin:]) {
		return dst, fmt.Errorf("%.40q is no number", dst[begin:])
	}
	return dst, nil
}

func numeric(c byte) bool {
	return '0' <= c && c <= '9' || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'
}

// isNumber checks the grammar of JSON.
func isNumber(b []byte) bool {
	i := 0
	digits := func() bool {
		begin := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > begin
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return false
	}
	if i < len(b) && b[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(b)
}

// plain says how many of the first bytes of b need no second look inside a string: no quote, backslash, control character
// or byte beyond ASCII. Eight bytes are looked at a time.
func plain(b []byte) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		odd := (x - ones*0x20) | (quote - ones) | (slash - ones) | x
		if odd &= highs; odd != 0 {
			return i + bits.TrailingZeros64(odd)/8 // what is behind the first may be a false alarm, the first is none
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] < utf8.RuneSelf && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// text appends a string with its quotes.
func (s *scanner) text(dst []byte, limit int) ([]byte, error) {
	s.pos++
	dst = append(dst, '"')
	for {
		n := plain(s.buf[s.pos:s.end])
		dst = append(dst, s.buf[s.pos:s.pos+n]...)
		s.pos += n
		if len(dst) > limit {
			return dst, errTooLong
		}
		if s.pos == s.end {
			if err := s.fill(); err != nil {
				return dst, err
			}
			continue
		}
		var err error
		switch c := s.buf[s.pos]; {
		case c == '"':
			s.pos++
			return append(dst, '"'), nil
		case c == '\\':
			dst, err = s.escape(dst)
		case c < 0x20:
			err = fmt.Errorf("the control character %q in a string", c)
		default:
			dst = s.wide(dst)
		}
		if err != nil {
			return dst, err
		}
	}
}

// wide appends one character beyond ASCII.
func (s *scanner) wide(dst []byte) []byte {
	for !utf8.FullRune(s.buf[s.pos:s.end]) {
		if s.fill() != nil {
			break
		}
	}
	r, n := utf8.DecodeRune(s.buf[s.pos:s.end])
	s.pos += n
	return utf8.AppendRune(dst, r)
}

// escape appends one escape sequence.
func (s *scanner) escape(dst []byte) ([]byte, error) {
	if err := s.need(2); err != nil {
		return dst, err
	}
	switch c := s.buf[s.pos+1]; c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return append(dst, '\\', c), nil
	case 'u':
	default:
		return dst, fmt.Errorf("the escape \\%c in a string", c)
	}
	r, err := s.hex(0)
	if err != nil {
		return dst, err
	}
	switch {
	case 0xDC00 <= r && r < 0xE000: // the second half of a pair without a first
		s.pos += 6
		return append(dst, `\ufffd`...), nil
	case 0xD800 <= r && r < 0xDC00:
		if err := s.need(8); err != nil {
			return dst, err
		}
		if s.buf[s.pos+6] == '\\' && s.buf[s.pos+7] == 'u' {
			if low, err := s.hex(6); err != nil {
				return dst, err
			} else if 0xDC00 <= low && low < 0xE000 {
				dst = append(dst, s.buf[s.pos:s.pos+12]...)
				s.pos += 12
				return dst, nil
			}
		}
		s.pos += 6
		return append(dst, `\ufffd`...), nil
	}
	dst = append(dst, s.buf[s.pos:s.pos+6]...)
	s.pos += 6
	return dst, nil
}

// need makes n unread bytes be there.
func (s *scanner) need(n int) error {
	for s.end-s.pos < n {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

// hex reads the number of a \u escape that begins at an offset of the unread.
func (s *scanner) hex(at int) (rune, error) {
	if err := s.need(at + 6); err != nil {
		return 0, err
	}
	var r rune
	for _, c := range s.buf[s.pos+at+2 : s.pos+at+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, fmt.Errorf("%q in a \\u escape", c)
		}
		r = r<<4 | rune(c)
	}
	return r, nil
}

// skip passes over a value of any size. Scratch is overwritten.
func (s *scanner) skip(scratch []byte) error { return s.skipNested(scratch, 0) }

func (s *scanner) skipNested(scratch []byte, depth int) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != '{' && c != '[' {
		_, err = s.value(scratch[:0])
		return err
	}
	if depth == deepest {
		return errTooDeep
	}
	s.pos++
	for first := true; ; first = false {
		more, err := s.more(c+2, first)
		if err != nil || !more {
			return err
		}
		if c == '{' {
			if scratch, err = s.name(scratch); err != nil {
				return err
			}
		}
		if err = s.skipNested(scratch, depth+1); err != nil {
			return err
		}
	}
}

// name reads the name of a member and its colon, into scratch, quotes included.
func (s *scanner) name(scratch []byte) ([]byte, error) {
	c, err := s.peek()
	if err != nil {
		return scratch, err
	}
	if c != '"' {
		return scratch, fmt.Errorf("%q where a name is expected", c)
	}
	if scratch, err = s.text(scratch[:0], s.limit); err != nil {
		return scratch, err
	}
	return scratch, s.expect(':')
}

// unquote appends what a checked string, quotes included, stands for.
func unquote(dst, quoted []byte) []byte {
	b := quoted[1 : len(quoted)-1]
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c != '\\' {
			dst = append(dst, c)
			continue
		}
		i++
		switch b[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(b[i+1:])
			i += 4
			if 0xD800 <= r && r < 0xDC00 {
				r = (r-0xD800)<<10 + (hex4(b[i+3:]) - 0xDC00) + 0x10000
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, b[i])
		}
	}
	return dst
}

// hex4 reads four digits that have been checked.
func hex4(b []byte) rune {
	r := rune(0)
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c >= 'a':
			c -= 'a' - 10
		default:
			c -= 'A' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}
