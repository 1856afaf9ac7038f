package schema

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

const dialect = "https://json-schema.org/draft/2020-12/schema"

// SecretKey marks a secret property in a schema.
const SecretKey = "x-casewire-secret" //nolint:gosec // the name of a mark, no credential

// Extra is a property that is added to a written object schema.
type Extra struct {
	Name   string
	Doc    string
	Schema []byte
}

// SchemaWith returns the schema of an object type with more required properties.
func (p *Plan) SchemaWith(x ...Extra) []byte { return p.write(x) }

// Fragment returns the schema without the dialect, to stand inside another.
func (p *Plan) Fragment() []byte {
	w := writer{use: p.use}
	w.node(p.root, nil)
	return w.b.Bytes()
}

func (p *Plan) write(x []Extra) []byte {
	w := writer{use: p.use}
	w.open()
	w.key("$schema")
	w.value(dialect)
	w.body(p.root, nil, x)
	w.b.WriteByte('}')
	return w.b.Bytes()
}

// writer writes schemas with keys in a fixed order.
type writer struct {
	b     bytes.Buffer
	use   Use
	stack []*node
}

func (w *writer) open() { w.b.WriteByte('{') }

// key starts a member of the current object.
func (w *writer) key(k string) {
	if c := w.b.Bytes()[w.b.Len()-1]; c != '{' && c != '[' {
		w.b.WriteByte(',')
	}
	w.value(k)
	w.b.WriteByte(':')
}

func (w *writer) member(k string, v any) {
	w.key(k)
	w.value(v)
}

func (w *writer) value(v any) {
	enc := json.NewEncoder(&w.b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings, numbers and valid raw JSON only
	}
	w.b.Truncate(w.b.Len() - 1)
}

func (w *writer) node(n *node, f *field) {
	w.open()
	w.body(n, f, nil)
	w.b.WriteByte('}')
}

func (w *writer) body(n *node, f *field, x []Extra) {
	nullable := false
	if n.kind == kindPtr {
		// An output's pointer that is not left out when nil can be null.
		nullable = w.use == Output && f != nil && !f.optional
		n = n.elem
	}
	if t := typeName(n); t != "" {
		if nullable {
			w.member("type", []string{t, "null"})
		} else {
			w.member("type", t)
		}
	}
	if f != nil {
		if f.doc != "" {
			w.member("description", f.doc)
		}
		if f.def != nil {
			w.member("default", json.RawMessage(f.def))
		}
		if f.example != "" {
			w.member("examples", []json.RawMessage{exampleJSON(n, f.example)})
		}
		if f.advanced {
			w.member("x-casewire-advanced", true)
		}
	}
	w.rules(n)
	switch n.kind {
	case kindObject:
		w.object(n, x)
	case kindMap:
		if len(x) > 0 {
			w.extra(x)
		}
		w.key("additionalProperties")
		w.node(n.elem, nil)
	case kindList:
		w.key("items")
		w.node(n.elem, nil)
	case kindRaw, kindAny, kindCustom:
		if len(x) > 0 {
			w.member("type", "object")
			w.extra(x)
		}
	case kindTime:
		w.member("format", "date-time")
	case kindDuration:
		w.member("pattern", durationPattern)
	case kindBytes:
		w.member("contentEncoding", "base64")
	case kindSecret:
		w.member(SecretKey, true)
		w.member("writeOnly", true)
	case kindUint:
		if !n.rules.hasMin {
			w.member("minimum", 0)
		}
	default:
	}
}

// durationPattern describes what time.ParseDuration takes, signs apart.
const durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`

func (w *writer) extra(xs []Extra) {
	w.key("properties")
	w.open()
	var required []string
	for _, x := range xs {
		w.member(x.Name, json.RawMessage(x.Schema))
		required = append(required, x.Name)
	}
	w.b.WriteByte('}')
	w.member("required", required)
}

func (w *writer) object(n *node, xs []Extra) {
	if slices.Contains(w.stack, n) {
		return // a type that contains itself: an object, and no more is said
	}
	w.stack = append(w.stack, n)
	defer func() { w.stack = w.stack[:len(w.stack)-1] }()
	w.key("properties")
	w.open()
	var required []string
	for i := range n.fields {
		f := &n.fields[i]
		w.key(f.name)
		w.node(f.node, f)
		if f.required {
			required = append(required, f.name)
		}
	}
	for _, x := range xs {
		w.member(x.Name, json.RawMessage(x.Schema))
		required = append(required, x.Name)
	}
	w.b.WriteByte('}')
	if len(required) > 0 {
		w.member("required", required)
	}
	if w.use == Input {
		w.member("additionalProperties", false)
	}
}

func (w *writer) rules(n *node) {
	r := &n.rules
	list := n.kind == kindList
	if r.hasMin {
		w.member("minimum", r.min)
	}
	if r.hasMax {
		w.member("maximum", r.max)
	}
	if r.hasMinLen {
		w.member(pick(list, "minItems", "minLength"), r.minLen)
	}
	if r.hasMaxLen {
		w.member(pick(list, "maxItems", "maxLength"), r.maxLen)
	}
	if n.kind == kindMap {
		return // the rest stands on the values
	}
	if r.format != "" {
		w.member("format", r.format)
	}
	if r.pattern != nil {
		w.member("pattern", r.pattern.String())
	}
	if r.enum == nil {
		return
	}
	if n.kind == kindString {
		w.member("enum", r.enum)
		return
	}
	var nums []float64
	for _, e := range r.enum {
		v, _ := strconv.ParseFloat(e, 64)
		nums = append(nums, v)
	}
	w.member("enum", nums)
}

func pick(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

func typeName(n *node) string {
	switch n.kind {
	case kindObject, kindMap:
		return "object"
	case kindList:
		return "array"
	case kindString, kindBytes, kindTime, kindDuration, kindSecret, kindText:
		return "string"
	case kindInt, kindUint:
		return "integer"
	case kindFloat:
		return "number"
	case kindBool:
		return "boolean"
	default:
		return ""
	}
}

// exampleJSON reads an example tag as JSON where that fits the type, else as text.
func exampleJSON(n *node, text string) json.RawMessage {
	if typeName(n) != "string" && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	b, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage(strconv.Quote(text))
	}
	return b
}

// exact says whether a whole number survives float64.
func exact(f float64) bool { return math.Abs(f) < 1<<53 }
