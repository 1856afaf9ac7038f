package normalize

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// node is a JSON value of the source, with a mark on what has been carried over into the event. What is not marked in
// the end goes along as it is, so that nothing gets lost.
type node struct {
	name string // in an object
	kind jsontext.Kind
	used bool
	text string // of a string; of a number, as it was written
	kids []node // of an object, sorted by name; of an array
}

// maxDepth bounds the recursion over a source's JSON.
const maxDepth = 200

// parser builds the tree with few allocations: texts without escapes are parts of one string, and nodes come from slabs
// that the next parse uses again.
type parser struct {
	d     *jsontext.Decoder
	src   string
	stack []node // the members of the objects and arrays that are open
	slab  []node
	free  []node // the rest of the slab
}

const slabSize = 512

var parsers = sync.Pool{New: func() any {
	return &parser{d: jsontext.NewDecoder(new(bytes.Buffer)), stack: make([]node, 0, 64), slab: make([]node, slabSize)}
}}

// withTree reads one JSON object and hands it to use, which must not keep it, nor parts of its texts. It refuses duplicate
// names, about which readers disagree. Bad UTF-8, such as half a surrogate pair in a command line, is replaced and no
// reason to lose an alert.
func withTree(raw []byte, use func(*node) error) error {
	p := parsers.Get().(*parser) //nolint:forcetypeassert // the pool has nothing else
	defer p.release()
	n, err := p.parse(raw)
	if err != nil {
		return err
	}
	return use(n)
}

// release makes the parser forget what it has read.
func (p *parser) release() {
	clear(p.slab[:len(p.slab)-len(p.free)])
	clear(p.stack[:cap(p.stack)])
	p.src, p.stack, p.free = "", p.stack[:0], nil
	p.d.Reset(new(bytes.Buffer))
	if len(p.slab) <= 16*slabSize { // a giant's memory is not kept
		parsers.Put(p)
	}
}

func (p *parser) parse(raw []byte) (*node, error) {
	p.d.Reset(bytes.NewBuffer(raw), jsontext.AllowInvalidUTF8(true))
	p.src, p.free = string(raw), p.slab
	n := &node{}
	if err := p.value(n, 0); err != nil {
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	if len(bytes.TrimSpace(p.d.UnreadBuffer())) > 0 {
		return nil, errors.New("is no JSON: something follows the first value")
	}
	if n.kind != '{' {
		return nil, errors.New("is no JSON object")
	}
	return n, nil
}

func (p *parser) value(n *node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	n.kind = p.d.PeekKind()
	switch n.kind {
	case '{', '[':
		return p.composite(n, depth)
	case '"':
		var err error
		n.text, err = p.str()
		return err
	case '0':
		v, err := p.d.ReadValue()
		if err != nil {
			return err
		}
		n.text = p.last(len(v))
		return nil
	default:
		_, err := p.d.ReadToken()
		return err
	}
}

func (p *parser) composite(n *node, depth int) error {
	if _, err := p.d.ReadToken(); err != nil {
		return err
	}
	base := len(p.stack)
	end := n.kind + 2 // '}' follows '{', and ']' '[', at this distance
	for p.d.PeekKind() != end {
		var k node
		if n.kind == '{' {
			var err error
			if k.name, err = p.str(); err != nil {
				return err
			}
		}
		if err := p.value(&k, depth+1); err != nil {
			return err
		}
		p.stack = append(p.stack, k)
	}
	if _, err := p.d.ReadToken(); err != nil {
		return err
	}
	n.kids = p.take(p.stack[base:])
	p.stack = p.stack[:base]
	if n.kind == '{' {
		slices.SortFunc(n.kids, func(a, b node) int { return strings.Compare(a.name, b.name) })
	}
	return nil
}

// take copies nodes to where they stay.
func (p *parser) take(list []node) []node {
	if len(list) == 0 {
		return nil
	}
	if len(p.free) < len(list) { // the slab before this one is the collector's when the tree is
		p.slab = make([]node, max(2*len(p.slab), len(list)))
		p.free = p.slab
	}
	out := p.free[:len(list):len(list)]
	p.free = p.free[len(list):]
	copy(out, list)
	return out
}

// last is the text of the n bytes that were read last.
func (p *parser) last(n int) string {
	end := int(p.d.InputOffset())
	return p.src[end-n : end]
}

func (p *parser) str() (string, error) {
	v, err := p.d.ReadValue()
	if err != nil {
		return "", err
	}
	if v.Kind() != '"' {
		return "", fmt.Errorf("want a string, have %s", v.Kind())
	}
	if text := p.last(len(v)); strings.IndexByte(text, '\\') < 0 && utf8.ValidString(text) {
		return text[1 : len(text)-1], nil
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil && !utf8.Valid(b) {
		return "", err
	}
	return string(b), nil
}

// get returns the member of an object; nil if there is none.
func (n *node) get(name string) *node {
	if n == nil || n.kind != '{' {
		return nil
	}
	for i := range n.kids {
		if k := &n.kids[i]; len(k.name) == len(name) && k.name == name {
			return k
		}
	}
	return nil
}

// str returns a string member, trimmed, without marking it.
func (n *node) str(name string) string {
	if k := n.get(name); k != nil && k.kind == '"' {
		return strings.TrimSpace(k.text)
	}
	return ""
}

// scalar returns a string or number member as text, without marking it: ids come as either.
func (n *node) scalar(name string) string {
	if k := n.get(name); k != nil && (k.kind == '"' || k.kind == '0') {
		return strings.TrimSpace(k.text)
	}
	return ""
}

// items returns the elements of an array member.
func (n *node) items(name string) []node {
	if k := n.get(name); k != nil && k.kind == '[' {
		return k.kids
	}
	return nil
}

// strings returns the strings of an array member that are not empty.
func (n *node) strings(name string) []string {
	var out []string
	for _, k := range n.items(name) {
		if s := strings.TrimSpace(k.text); k.kind == '"' && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// empty says whether a value says nothing: null, "", [], {}.
func (n *node) empty() bool {
	switch n.kind {
	case 'n':
		return true
	case '"':
		return n.text == ""
	case '{', '[':
		return len(n.kids) == 0
	default:
		return false
	}
}

// touched says whether anything in an object has been carried over.
func (n *node) touched() bool {
	if n.used {
		return true
	}
	if n.kind != '{' {
		return false
	}
	for i := range n.kids {
		if n.kids[i].touched() {
			return true
		}
	}
	return false
}

// appendRest appends what is left of an object: members that were not carried over and that say something; of a member
// object that was carried over in part, its rest. Untouched values go along whole. Members whose name begins with skip
// are left out, if skip is not empty. It appends nothing when nothing is left.
func (n *node) appendRest(b []byte, skip string) []byte {
	start := len(b)
	b = append(b, '{')
	for i := range n.kids {
		k := &n.kids[i]
		if k.used || k.empty() || (skip != "" && strings.HasPrefix(k.name, skip)) {
			continue
		}
		before := len(b)
		if len(b) > start+1 {
			b = append(b, ',')
		}
		b = appendString(b, k.name)
		b = append(b, ':')
		value := len(b)
		if k.kind == '{' && k.touched() {
			b = k.appendRest(b, "")
		} else {
			b = k.appendJSON(b)
		}
		if len(b) == value {
			b = b[:before]
		}
	}
	if len(b) == start+1 {
		return b[:start]
	}
	return append(b, '}')
}

// appendJSON appends the value, the members of objects sorted by name.
func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case '{':
		b = append(b, '{')
		for i := range n.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, n.kids[i].name)
			b = append(b, ':')
			b = n.kids[i].appendJSON(b)
		}
		return append(b, '}')
	case '[':
		b = append(b, '[')
		for i := range n.kids {
			if i > 0 {
				b = append(b, ',')
			}
			b = n.kids[i].appendJSON(b)
		}
		return append(b, ']')
	case '"':
		return appendString(b, n.text)
	case '0':
		return append(b, n.text...)
	case 't':
		return append(b, "true"...)
	case 'f':
		return append(b, "false"...)
	default:
		return append(b, "null"...)
	}
}

func appendString(b []byte, s string) []byte {
	out, err := jsontext.AppendQuote(b, s)
	if err != nil { // bad UTF-8, which the parser has replaced
		return strconv.AppendQuote(b, "")
	}
	return out
}

// taker reads members and remembers which, so that they are marked only when what was made of them is emitted: what
// cannot be emitted stays with the rest.
type taker struct{ marks []*node }

// commit marks everything that was read as carried over.
func (t *taker) commit() {
	for _, n := range t.marks {
		n.used = true
	}
	t.marks = t.marks[:0]
}

// mark remembers a member.
func (t *taker) mark(n *node, name string) {
	if k := n.get(name); k != nil {
		t.marks = append(t.marks, k)
	}
}

// str reads a string member.
func (t *taker) str(n *node, name string) string {
	k := n.get(name)
	if k == nil || k.kind != '"' {
		return ""
	}
	s := strings.TrimSpace(k.text)
	if s != "" {
		t.marks = append(t.marks, k)
	}
	return s
}

// scalar reads a string or number member as text.
func (t *taker) scalar(n *node, name string) string {
	s := n.scalar(name)
	if s != "" {
		t.mark(n, name)
	}
	return s
}

// integer reads a whole number; nil for anything else.
func (t *taker) integer(n *node, name string) *int64 {
	k := n.get(name)
	if k == nil || k.kind != '0' {
		return nil
	}
	v, err := strconv.ParseInt(k.text, 10, 64)
	if err != nil {
		return nil
	}
	t.marks = append(t.marks, k)
	return &v
}

// float reads a number.
func (t *taker) float(n *node, name string) *float64 {
	k := n.get(name)
	if k == nil || k.kind != '0' {
		return nil
	}
	v, err := strconv.ParseFloat(k.text, 64)
	if err != nil {
		return nil
	}
	t.marks = append(t.marks, k)
	return &v
}

// time reads a time as UTC epoch milliseconds; nil for none. Times before 1970 are Microsoft's way of saying none.
func (t *taker) time(n *node, name string) *int64 {
	at, ok := n.time(name)
	if !ok {
		return nil
	}
	t.mark(n, name)
	ms := at.UnixMilli()
	return &ms
}

func (n *node) time(name string) (time.Time, bool) {
	s := n.str(name)
	if s == "" {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || at.Unix() < 0 {
		return time.Time{}, false
	}
	return at, true
}
