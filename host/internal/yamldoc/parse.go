package yamldoc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/casewire/casewire/host/diag"
)

// What a document may hold.
const (
	MaxBytes = 1 << 20
	MaxNodes = 20_000 // aliases expanded
	MaxDepth = 64
)

// Parse reads one YAML document. The node is nil if there is nothing to go on with; otherwise every further mistake can
// still be found in it.
func Parse(file string, data []byte) (*Node, diag.List) {
	var out diag.List
	start := diag.Pos{File: file, Line: 1, Col: 1}
	if len(data) > MaxBytes {
		out.Errorf(start, "", "split it", "the file is too large: the limit is %d bytes", MaxBytes)
		return nil, out
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) {
		out.Errorf(badUTF8(file, data), "", "save the file as UTF-8", "the file is not valid UTF-8")
		return nil, out
	}
	doc := &document{file: file, lines: splitLines(string(data))}
	root, more, err := decode(data)
	if err != nil {
		doc.explain(&out, err)
		return nil, out
	}
	if root == nil || len(root.Content) == 0 {
		out.Errorf(start, "", "", "the file is empty")
		return nil, out
	}
	if more > 0 {
		out.Errorf(diag.Pos{File: file, Line: more, Col: 1}, "", "one document a file: split it at the `---`",
			"the file holds more than one YAML document")
	}
	c := converter{doc: doc, out: &out, done: map[*yaml.Node]*Node{}, busy: map[*yaml.Node]bool{}}
	n := c.convert(root.Content[0], "", 0)
	if c.dead {
		return nil, out
	}
	return n, out
}

// lineBreaks are what YAML counts as one, beside CR LF.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

func splitLines(s string) []string { return strings.Split(lineBreaks.Replace(s), "\n") }

func badUTF8(file string, data []byte) diag.Pos {
	pos := diag.Pos{File: file, Line: 1, Col: 1}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		if r == '\n' {
			pos.Line, pos.Col = pos.Line+1, 0
		}
		pos.Col++
		data = data[n:]
	}
	return pos
}

// decode reads the first document and says on which line a second one starts. The library panics on some hostile input;
// that is an error like any other here.
func decode(data []byte) (root *yaml.Node, more int, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, fmt.Errorf("yaml: %v", r)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	root = new(yaml.Node)
	if err := dec.Decode(root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, 0, nil
		}
		return nil, 0, err
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, 0, err
	default:
		more = max(second.Line, 1)
	}
	return root, more, nil
}

type converter struct {
	doc  *document
	out  *diag.List
	done map[*yaml.Node]*Node
	busy map[*yaml.Node]bool
	dead bool // over a limit: nothing more to say
}

func (c *converter) pos(n *yaml.Node) diag.Pos {
	return diag.Pos{File: c.doc.file, Line: n.Line, Col: n.Column}
}

func (c *converter) fail(n *yaml.Node, path, hint, format string, args ...any) *Node {
	if !c.dead {
		c.out.Errorf(c.pos(n), path, hint, format, args...)
		c.dead = true
	}
	return c.null(n)
}

func (c *converter) null(n *yaml.Node) *Node {
	return &Node{Kind: Scalar, Pos: c.pos(n), size: 1, doc: c.doc}
}

func (c *converter) convert(n *yaml.Node, path string, depth int) *Node {
	if c.dead {
		return c.null(n)
	}
	if depth > MaxDepth {
		return c.fail(n, path, "", "nested more than %d deep", MaxDepth)
	}
	if n.Kind == yaml.AliasNode {
		if c.busy[n.Alias] {
			return c.fail(n, path, "", "the alias *%s is part of what it stands for", n.Value)
		}
		if done := c.done[n.Alias]; done != nil {
			return done
		}
		return c.convert(n.Alias, path, depth+1)
	}
	if done := c.done[n]; done != nil {
		return done
	}
	c.busy[n] = true
	defer delete(c.busy, n)
	node := &Node{Pos: c.pos(n), size: 1, doc: c.doc}
	switch n.Kind {
	case yaml.MappingNode:
		node.Kind = Map
		c.checkTag(n, path, "!!map")
		c.mapping(node, n, path, depth)
	case yaml.SequenceNode:
		node.Kind = List
		c.checkTag(n, path, "!!seq")
		for i, item := range n.Content {
			child := c.convert(item, Index(path, i), depth+1)
			node.Items = append(node.Items, child)
			c.grow(node, child, item, path)
		}
	default:
		node.Kind = Scalar
		c.scalar(node, n, path)
	}
	c.done[n] = node
	return node
}

// grow counts nodes as if aliases were written out: what is small in the file must not be huge in every walk.
func (c *converter) grow(parent, child *Node, at *yaml.Node, path string) {
	parent.size += child.size
	if parent.size > MaxNodes {
		c.fail(at, path, "use fewer aliases, or split the file", "more than %d values, aliases written out", MaxNodes)
	}
}

func (c *converter) checkTag(n *yaml.Node, path, want string) {
	if tag := n.ShortTag(); tag != want && n.Style&yaml.TaggedStyle != 0 {
		c.out.Errorf(c.pos(n), path, "leave it out; secrets are references such as env:NAME", "the YAML tag %s is not supported", tag)
	}
}

func (c *converter) mapping(node *Node, n *yaml.Node, path string, depth int) {
	first := map[string]diag.Pos{}
	var merged []Entry
	for i := 0; i+1 < len(n.Content) && !c.dead; i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			hint := "a key must be text"
			if k.Kind == yaml.MappingNode {
				hint = "write ${{ … }} in quotes if an expression is meant"
			}
			c.out.Errorf(c.pos(n.Content[i]), path, hint, "a key that is not text")
			continue
		}
		if k.ShortTag() == "!!merge" {
			child := c.convert(v, path, depth+1)
			merged = append(merged, c.merge(child, v, path)...)
			c.grow(node, child, v, path)
			continue
		}
		if at, dup := first[k.Value]; dup {
			c.out.Errorf(c.pos(k), Join(path, k.Value), fmt.Sprintf("the first is on line %d", at.Line), "the key %s is given twice", Quote(k.Value))
			c.convert(v, Join(path, k.Value), depth+1) // for its own mistakes
			continue
		}
		first[k.Value] = c.pos(k)
		child := c.convert(v, Join(path, k.Value), depth+1)
		node.Entries = append(node.Entries, Entry{Key: k.Value, Pos: c.pos(k), Value: child})
		c.grow(node, child, v, path)
	}
	for _, e := range merged {
		if _, have := first[e.Key]; !have {
			first[e.Key] = e.Pos
			node.Entries = append(node.Entries, e)
		}
	}
}

// merge returns what `<<: *anchor` brings; keys that are written out win over it.
func (c *converter) merge(child *Node, at *yaml.Node, path string) []Entry {
	switch child.Kind {
	case Map:
		return child.Entries
	case List:
		var all []Entry
		for _, item := range child.Items {
			if item.Kind != Map {
				c.out.Errorf(item.Pos, path, "", "<< wants a map, not %s", item.Describe())
				continue
			}
			all = append(all, item.Entries...)
		}
		return all
	}
	if !c.dead {
		c.out.Errorf(c.pos(at), path, "", "<< wants a map, not %s", child.Describe())
	}
	return nil
}

var leadingZero = regexp.MustCompile(`^[-+]?0[0-9_]+$`)

func (c *converter) scalar(node *Node, n *yaml.Node, path string) {
	node.Text, node.Value = n.Value, n.Value
	switch {
	case n.Style&yaml.SingleQuotedStyle != 0:
		node.Style = Single
	case n.Style&yaml.DoubleQuotedStyle != 0:
		node.Style = Double
	case n.Style&yaml.LiteralStyle != 0:
		node.Style = Literal
	case n.Style&yaml.FoldedStyle != 0:
		node.Style = Folded
	}
	if n.Style&yaml.TaggedStyle != 0 {
		switch n.ShortTag() {
		case "!!str":
			return
		case "!!int", "!!float", "!!bool", "!!null":
		default:
			c.checkTag(n, path, "")
			return
		}
	}
	if node.Style != Plain {
		return
	}
	switch n.ShortTag() {
	case "!!null":
		node.Value = nil
	case "!!bool":
		node.Value = strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if leadingZero.MatchString(n.Value) {
			c.out.Errorf(c.pos(n), path, "put it in quotes if it is an id; leave the zero out if it is a number",
				"%s begins with a zero: YAML readers disagree about what it is", n.Value)
			return
		}
		c.number(node, n, path)
	}
}

func (c *converter) number(node *Node, n *yaml.Node, path string) {
	var v any
	if err := n.Decode(&v); err != nil {
		c.out.Errorf(c.pos(n), path, "", "%s is no number: %v", n.Value, err)
		return
	}
	switch x := v.(type) {
	case int64:
		v = int(x)
	case float64:
		if math.IsInf(x, 0) || math.IsNaN(x) {
			c.out.Errorf(c.pos(n), path, "", "%s has no form in JSON", n.Value)
			return
		}
		if !strings.ContainsAny(n.Value, ".eE") {
			c.out.Errorf(c.pos(n), path, "put it in quotes to keep every digit", "%s is too large for a number", n.Value)
			return
		}
	}
	node.Value = v
}
