package schema

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin"
)

// Use says what a type describes.
type Use int

// The uses.
const (
	// Input is an action's input or a configuration: closed, required by cw:"required".
	Input Use = iota
	// Output is what a connector returns: open, and required unless omitempty or omitzero.
	Output
)

// Plan is a compiled type. It is immutable and safe for concurrent use.
type Plan struct {
	root *node
	typ  reflect.Type
	use  Use
	text []byte
}

type kind uint8

const (
	kindObject kind = iota
	kindMap
	kindList
	kindString
	kindInt
	kindUint
	kindFloat
	kindBool
	kindBytes
	kindTime
	kindDuration
	kindSecret
	kindText   // encoding.TextUnmarshaler
	kindRaw    // json.RawMessage
	kindAny    // any
	kindCustom // json.Unmarshaler
	kindPtr
)

// node is a type at the place where it stands, with the rules of that place.
type node struct {
	kind     kind
	typ      reflect.Type
	elem     *node // kindPtr, kindList, kindMap
	fields   []field
	index    map[string]int // property name to fields
	rules    rules
	defaults bool // some field below has a default
}

type field struct {
	name     string
	path     []int // reflect index, more than one element for embedded structs
	doc      string
	node     *node
	required bool
	optional bool // omitempty or omitzero
	advanced bool
	example  string
	// Default as JSON; nil for none.
	def []byte
	// Default as a value, when it may be shared.
	defValue reflect.Value
}

var (
	typeTime     = reflect.TypeFor[time.Time]()
	typeDuration = reflect.TypeFor[time.Duration]()
	typeSecret   = reflect.TypeFor[plugin.Secret]()
	typeRaw      = reflect.TypeFor[json.RawMessage]()
	typeNumber   = reflect.TypeFor[json.Number]()
	typeText     = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeTextOut  = reflect.TypeFor[encoding.TextMarshaler]()
	typeJSON     = reflect.TypeFor[json.Unmarshaler]()
	typeJSONOut  = reflect.TypeFor[json.Marshaler]()
)

// Compile makes the plan of t. The error is an authoring mistake and says what to change.
func Compile(t reflect.Type, use Use) (*Plan, error) {
	c := compiler{use: use, open: map[reflect.Type]*node{}}
	n, err := c.compile(t, t.String(), rules{})
	if err != nil {
		return nil, err
	}
	p := &Plan{root: n, typ: t, use: use}
	p.text = p.write(nil)
	return p, nil
}

// Schema returns the JSON Schema; the same bytes every time. The caller must not change them.
func (p *Plan) Schema() []byte { return p.text }

// IsObject says whether every value of the type is a JSON object, or may be one.
func (p *Plan) IsObject() bool {
	switch p.root.kind {
	case kindObject, kindMap, kindRaw, kindAny, kindCustom:
		return true
	case kindPtr:
		return p.root.elem.kind == kindObject || p.root.elem.kind == kindMap
	default:
		return false
	}
}

// Has says whether the type is a struct with this property.
func (p *Plan) Has(property string) bool {
	n := p.root
	if n.kind == kindPtr {
		n = n.elem
	}
	_, ok := n.index[property]
	return ok
}

type compiler struct {
	use  Use
	open map[reflect.Type]*node // structs being compiled or done: recursion ends here
}

func (c *compiler) compile(t reflect.Type, at string, r rules) (*node, error) {
	n := &node{typ: t, rules: r}
	var err error
	switch k := t.Kind(); {
	case t == typeTime:
		n.kind = kindTime
	case t == typeDuration:
		n.kind = kindDuration
		if c.use == Output {
			return nil, fmt.Errorf("%s: time.Duration has no JSON form that people agree on; return a string or a number of seconds", at)
		}
	case t == typeSecret:
		n.kind = kindSecret
		if c.use == Output {
			return nil, fmt.Errorf("%s: an output cannot carry a Secret: it would arrive as %q", at, plugin.Redacted)
		}
	case t == typeRaw:
		n.kind = kindRaw
	case t == typeNumber:
		n.kind = kindFloat
	case k == reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer {
			return nil, fmt.Errorf("%s: pointer to pointer; one is enough", at)
		}
		n.kind, n.rules = kindPtr, rules{}
		n.elem, err = c.compile(t.Elem(), at, r)
		return n, err
	case k == reflect.Interface:
		if t.NumMethod() != 0 {
			return nil, fmt.Errorf("%s: %s cannot be decoded; use a concrete type, any or json.RawMessage", at, t)
		}
		n.kind = kindAny
	case c.implements(t, typeJSON, typeJSONOut):
		n.kind = kindCustom
	case c.implements(t, typeText, typeTextOut):
		n.kind = kindText
	case k == reflect.Struct:
		return c.compileStruct(t, at, r)
	case k == reflect.Map:
		n.kind = kindMap
		if t.Key().Kind() != reflect.String || c.implements(t.Key(), typeText, typeTextOut) {
			return nil, fmt.Errorf("%s: a map needs plain strings as keys, not %s", at, t.Key())
		}
		n.elem, err = c.compile(t.Elem(), at+"[…]", r.items())
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		n.kind = kindBytes
	case k == reflect.Slice:
		n.kind = kindList
		n.elem, err = c.compile(t.Elem(), at+"[…]", r.items())
		n.rules = r.list()
		if err == nil {
			err = n.rules.fits(n, at)
		}
		return n, err
	case k == reflect.String:
		n.kind = kindString
	case k == reflect.Bool:
		n.kind = kindBool
	case k >= reflect.Int && k <= reflect.Int64:
		n.kind = kindInt
	case k >= reflect.Uint && k <= reflect.Uint64:
		n.kind = kindUint
	case k == reflect.Float32, k == reflect.Float64:
		n.kind = kindFloat
	default:
		return nil, fmt.Errorf("%s: %s has no JSON form; use a struct, slice, map, string, number or bool", at, t)
	}
	if err == nil {
		err = n.rules.fits(n, at)
	}
	return n, err
}

func (c *compiler) implements(t, in, out reflect.Type) bool {
	if c.use == Output {
		return t.Implements(out) || reflect.PointerTo(t).Implements(out)
	}
	return reflect.PointerTo(t).Implements(in)
}

func (c *compiler) compileStruct(t reflect.Type, at string, r rules) (*node, error) {
	if n, ok := c.open[t]; ok {
		return n, nil
	}
	n := &node{kind: kindObject, typ: t, index: map[string]int{}, rules: r}
	if err := r.fits(n, at); err != nil {
		return nil, err
	}
	c.open[t] = n
	if err := c.addFields(n, t, nil, at); err != nil {
		return nil, err
	}
	for _, f := range n.fields {
		below := f.node
		n.defaults = n.defaults || f.def != nil || below.kind == kindObject && below.defaults
	}
	return n, nil
}

func (c *compiler) addFields(n *node, t reflect.Type, path []int, at string) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		here := at + "." + sf.Name
		tag, tagged := sf.Tag.Lookup("json")
		name, opts, _ := strings.Cut(tag, ",")
		index := append(slices.Clone(path), i)
		if sf.Anonymous && !(tagged && name != "") && tag != "-" {
			if sf.Type.Kind() != reflect.Struct || sf.Type == typeTime || sf.Type == typeSecret {
				return fmt.Errorf("%s: only a plain struct can be embedded; give it a name", here)
			}
			if err := c.addFields(n, sf.Type, index, here); err != nil {
				return err
			}
			continue
		}
		if !sf.IsExported() {
			if tagged && tag != "-" {
				return fmt.Errorf("%s: has a json tag but is not exported; write it with a capital letter", here)
			}
			continue
		}
		if tag == "-" {
			continue
		}
		if name == "" {
			name = sf.Name
		}
		f, err := c.field(sf, name, opts, here)
		if err != nil {
			return err
		}
		f.path = index
		if _, ok := n.index[name]; ok {
			return fmt.Errorf("%s: property %q is declared twice", here, name)
		}
		n.index[name] = len(n.fields)
		n.fields = append(n.fields, f)
	}
	return nil
}

func (c *compiler) field(sf reflect.StructField, name, opts, at string) (field, error) {
	f := field{name: name, doc: sf.Tag.Get("doc"), example: sf.Tag.Get("example")}
	for o := range strings.SplitSeq(opts, ",") {
		switch o {
		case "":
		case "omitempty", "omitzero":
			f.optional = true
		default:
			return f, fmt.Errorf("%s: json option %q is not supported; use omitempty, omitzero, or another type", at, o)
		}
	}
	r, err := parseRules(sf.Tag, &f)
	if err != nil {
		return f, fmt.Errorf("%s: %w", at, err)
	}
	if f.node, err = c.compile(sf.Type, at, r); err != nil {
		return f, err
	}
	if c.use == Output {
		f.required = !f.optional
		return f, nil
	}
	if f.required && underneath(f.node).kind == kindSecret && !f.node.rules.hasMinLen {
		// An empty secret is a missing one.
		n := underneath(f.node)
		n.rules.hasMinLen, n.rules.minLen = true, 1
	}
	def, ok := sf.Tag.Lookup("default")
	if !ok {
		return f, nil
	}
	if f.required {
		return f, fmt.Errorf("%s: required and default exclude each other; a default makes the property optional", at)
	}
	if f.def, err = defaultJSON(f.node, def); err != nil {
		return f, fmt.Errorf("%s: default %q: %w", at, def, err)
	}
	v := reflect.New(sf.Type)
	if bad := decode(f.node, f.def, v.Elem()); len(bad) > 0 {
		return f, fmt.Errorf("%s: default %q breaks the property's own rule: %s", at, def, bad[0].Description)
	}
	if !shared(f.node) {
		f.defValue = v.Elem()
	}
	return f, nil
}

func underneath(n *node) *node {
	if n.kind == kindPtr {
		return n.elem
	}
	return n
}

// shared says whether two decoded values could alias one default.
func shared(n *node) bool {
	switch n.kind {
	case kindPtr, kindList, kindMap, kindBytes, kindRaw, kindAny, kindCustom, kindText:
		return true
	case kindObject:
		return slices.ContainsFunc(n.fields, func(f field) bool { return shared(f.node) })
	default:
		return false
	}
}

// defaultJSON reads the text of a default tag: JSON, or for what is a string in JSON the bare text, or for lists a comma
// list.
func defaultJSON(n *node, text string) ([]byte, error) {
	n = underneath(n)
	switch n.kind {
	case kindString, kindDuration, kindTime, kindText, kindBytes:
		return json.Marshal(text)
	case kindSecret:
		return nil, errors.New("a secret has no default")
	case kindList:
		if !strings.HasPrefix(text, "[") {
			var items []json.RawMessage
			for s := range strings.SplitSeq(text, ",") {
				b, err := defaultJSON(n.elem, strings.TrimSpace(s))
				if err != nil {
					return nil, err
				}
				items = append(items, b)
			}
			return json.Marshal(items)
		}
	default:
	}
	if !json.Valid([]byte(text)) {
		return nil, errors.New("is no JSON")
	}
	return []byte(text), nil
}
