package sentinel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// parseTree reads one JSON object. It refuses duplicate names, about which readers disagree. Bad UTF-8, such as half a
// surrogate pair in a command line, is replaced and no reason to lose an alert.
func parseTree(raw []byte) (*node, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowInvalidUTF8(true))
	var n node
	if err := n.parse(d, 0); err != nil {
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	if len(bytes.TrimSpace(d.UnreadBuffer())) > 0 {
		return nil, errors.New("is no JSON: something follows the first value")
	}
	if n.kind != '{' {
		return nil, errors.New("is no JSON object")
	}
	return &n, nil
}

func (n *node) parse(d *jsontext.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := d.ReadToken()
	if err != nil {
		return err
	}
	n.kind = tok.Kind()
	switch n.kind {
	case '"', '0':
		n.text = tok.String()
	case '{':
		n.kids = make([]node, 0, 16)
		for d.PeekKind() != '}' {
			name, err := d.ReadToken()
			if err != nil {
				return err
			}
			n.kids = append(n.kids, node{name: name.String()})
			if err := n.kids[len(n.kids)-1].parse(d, depth+1); err != nil {
				return err
			}
		}
		_, err = d.ReadToken()
		slices.SortFunc(n.kids, func(a, b node) int { return strings.Compare(a.name, b.name) })
	case '[':
		for d.PeekKind() != ']' {
			n.kids = append(n.kids, node{})
			if err := n.kids[len(n.kids)-1].parse(d, depth+1); err != nil {
				return err
			}
		}
		_, err = d.ReadToken()
	}
	return err
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
