package schema

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/plugin"
)

// MaxViolations is how many violations are told one by one; the last place says how many more there are.
const MaxViolations = 16

// Decode reads one JSON value into v, a pointer to the plan's type, fills in defaults, and returns everything that is
// wrong with it. Property names match exactly; a property that appears twice is refused. Empty input is the empty object.
// Null stands for an absent property where the property is optional.
//
// A whole number that float64 cannot hold arrives in an any as json.Number rather than rounded.
func (p *Plan) Decode(b []byte, v any) []plugin.Violation {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.Type().Elem() != p.typ {
		panic(fmt.Sprintf("schema: decode %s into %T", p.typ, v))
	}
	if len(bytes.TrimSpace(b)) == 0 {
		b = []byte("{}")
	}
	return decode(p.root, b, rv.Elem())
}

// decoder holds what one decoding needs.
type decoder struct {
	in   *jsontext.Decoder
	src  bytes.Buffer
	bad  []plugin.Violation
	more int
}

var decoders = sync.Pool{New: func() any { return &decoder{in: new(jsontext.Decoder)} }}

func decode(n *node, b []byte, v reflect.Value) []plugin.Violation {
	d := decoders.Get().(*decoder)
	d.src = *bytes.NewBuffer(b) // read in place: the tokenizer does not copy from a Buffer
	d.in.Reset(&d.src)
	d.bad, d.more = nil, 0
	err := d.value(n, v)
	if err == nil {
		if _, err = d.in.ReadToken(); err == nil {
			d.reportAt("", "must be one JSON value; there is more behind it")
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		d.syntax(err)
	}
	if d.more > 0 {
		d.bad[len(d.bad)-1].Description += fmt.Sprintf(" (and %d more)", d.more)
	}
	bad := d.bad
	d.bad = nil
	d.src = bytes.Buffer{}
	decoders.Put(d)
	return bad
}

// syntax reports what the tokenizer refused.
func (d *decoder) syntax(err error) {
	var syn *jsontext.SyntacticError
	if !errors.As(err, &syn) {
		d.reportAt("", "cannot be read as JSON: "+err.Error())
		return
	}
	at := string(syn.JSONPointer)
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		d.reportAt(at, "appears twice; a property may be given once")
	case errors.Is(err, io.ErrUnexpectedEOF):
		d.reportAt(at, fmt.Sprintf("is no valid JSON: it ends too early, at byte %d", syn.ByteOffset))
	default:
		d.reportAt(at, fmt.Sprintf("is no valid JSON: %s at byte %d", clip(syn.Err.Error()), syn.ByteOffset))
	}
}

// report says what is wrong with the value that was read last.
func (d *decoder) report(why string) { d.reportAt(string(d.in.StackPointer()), why) }

func (d *decoder) reportAt(at, why string) {
	if len(d.bad) == MaxViolations {
		d.more++
		return
	}
	d.bad = append(d.bad, plugin.Violation{Field: at, Description: why})
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "object"
	case '[':
		return "array"
	default:
		return "nothing"
	}
}

// wrong skips a value of the wrong type.
func (d *decoder) wrong(want string) error {
	got := d.in.PeekKind()
	if err := d.in.SkipValue(); err != nil {
		return err
	}
	d.report("must be " + want + ", got " + kindName(got))
	return nil
}

// value reads one value. Only errors of the tokenizer come back; violations are collected.
func (d *decoder) value(n *node, v reflect.Value) error {
	k := d.in.PeekKind()
	if k == 'n' && n.kind == kindPtr {
		_, err := d.in.ReadToken()
		return err
	}
	switch n.kind {
	case kindPtr:
		if v.IsNil() {
			v.Set(reflect.New(n.elem.typ))
		}
		return d.value(n.elem, v.Elem())
	case kindObject:
		if k != '{' {
			return d.wrong("an object")
		}
		return d.object(n, v)
	case kindMap:
		if k != '{' {
			return d.wrong("an object")
		}
		return d.mapping(n, v)
	case kindList:
		if k != '[' {
			return d.wrong("an array")
		}
		return d.list(n, v)
	case kindBool:
		if k != 't' && k != 'f' {
			return d.wrong("true or false")
		}
		tok, err := d.in.ReadToken()
		if err == nil {
			v.SetBool(tok.Bool())
		}
		return err
	case kindInt, kindUint, kindFloat:
		if k != '0' {
			return d.wrong(pick(n.kind == kindFloat, "a number", "a whole number"))
		}
		return d.number(n, v)
	case kindRaw, kindAny, kindCustom:
		return d.raw(n, v)
	default:
		if k != '"' {
			return d.wrong("a string")
		}
		return d.text(n, v)
	}
}

func (d *decoder) object(n *node, v reflect.Value) error {
	if _, err := d.in.ReadToken(); err != nil {
		return err
	}
	var few uint64 // which fields were seen, for up to 64 of them
	var many []bool
	if len(n.fields) > 64 {
		many = make([]bool, len(n.fields))
	}
	for d.in.PeekKind() != '}' {
		name, err := d.in.ReadValue()
		if err != nil {
			return err
		}
		i, ok := -1, false
		if len(name) >= 2 && bytes.IndexByte(name, '\\') < 0 {
			i, ok = n.index[string(name[1:len(name)-1])]
		} else if plain, uerr := jsontext.AppendUnquote(nil, name); uerr == nil {
			i, ok = n.index[string(plain)]
		}
		if !ok {
			if err := d.unknown(n, name); err != nil {
				return err
			}
			continue
		}
		f := &n.fields[i]
		if d.in.PeekKind() == 'n' && !takesNull(f.node) {
			if _, err := d.in.ReadToken(); err != nil {
				return err
			}
			continue // as if it were absent
		}
		if many != nil {
			many[i] = true
		} else {
			few |= 1 << i
		}
		if err := d.value(f.node, v.FieldByIndex(f.path)); err != nil {
			return err
		}
	}
	if _, err := d.in.ReadToken(); err != nil {
		return err
	}
	for i := range n.fields {
		if many != nil && many[i] || many == nil && few&(1<<i) != 0 {
			continue
		}
		d.absent(&n.fields[i], v)
	}
	return nil
}

// takesNull says whether null is a value of its own rather than the absence of one.
func takesNull(n *node) bool {
	return n.kind == kindRaw || n.kind == kindAny || n.kind == kindCustom
}

func (d *decoder) unknown(n *node, quoted jsontext.Value) error {
	plain, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return err
	}
	if err := d.in.SkipValue(); err != nil {
		return err
	}
	why := "unknown property"
	if near := nearest(string(plain), n.names()); near != "" {
		why += fmt.Sprintf("; did you mean %q?", near)
	}
	d.report(why)
	return nil
}

// names are the properties in the order of their declaration.
func (n *node) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range n.fields {
			if !yield(n.fields[i].name) {
				return
			}
		}
	}
}

// absent fills in a default or reports what is missing.
func (d *decoder) absent(f *field, v reflect.Value) {
	switch {
	case f.required:
		d.reportAt(string(d.in.StackPointer().AppendToken(f.name)), "is required")
	case f.def != nil:
		f.fill(v.FieldByIndex(f.path))
	case f.node.kind == kindObject && f.node.defaults:
		fillObject(f.node, v.FieldByIndex(f.path))
	}
}

func (f *field) fill(v reflect.Value) {
	if f.defValue.IsValid() {
		v.Set(f.defValue)
		return
	}
	_ = decode(f.node, f.def, v) // it was decoded once at compile time
}

// fillObject sets the defaults below an absent struct.
func fillObject(n *node, v reflect.Value) {
	for i := range n.fields {
		f := &n.fields[i]
		switch {
		case f.def != nil:
			f.fill(v.FieldByIndex(f.path))
		case f.node.kind == kindObject && f.node.defaults:
			fillObject(f.node, v.FieldByIndex(f.path))
		}
	}
}

func (d *decoder) mapping(n *node, v reflect.Value) error {
	if _, err := d.in.ReadToken(); err != nil {
		return err
	}
	m := reflect.MakeMap(n.typ)
	for d.in.PeekKind() != '}' {
		name, err := d.in.ReadToken()
		if err != nil {
			return err
		}
		key := reflect.ValueOf(name.String()).Convert(n.typ.Key())
		e := reflect.New(n.elem.typ).Elem()
		if err := d.value(n.elem, e); err != nil {
			return err
		}
		m.SetMapIndex(key, e)
	}
	v.Set(m)
	_, err := d.in.ReadToken()
	return err
}

func (d *decoder) list(n *node, v reflect.Value) error {
	if _, err := d.in.ReadToken(); err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(n.typ, 0, 0))
	for i := 0; d.in.PeekKind() != ']'; i++ {
		v.Grow(1)
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		if err := d.value(n.elem, v.Index(i)); err != nil {
			return err
		}
	}
	if _, err := d.in.ReadToken(); err != nil {
		return err
	}
	if why := n.rules.length(v.Len(), "items"); why != "" {
		d.report(why)
	}
	return nil
}

func (d *decoder) number(n *node, v reflect.Value) error {
	raw, err := d.in.ReadValue()
	if err != nil {
		return err
	}
	text := string(raw)
	f, ferr := strconv.ParseFloat(text, 64)
	why := ""
	switch {
	case n.typ == typeNumber:
		v.SetString(text)
	case ferr != nil:
		why = "is out of range: " + quoteRaw(text)
	case n.kind == kindFloat && v.OverflowFloat(f):
		why = "is out of range: " + quoteRaw(text)
	case n.kind == kindFloat:
		v.SetFloat(f)
	case n.kind == kindInt:
		i, ok := wholeInt(text, f)
		if !ok || v.OverflowInt(i) {
			why = notWhole(f, text)
			break
		}
		v.SetInt(i)
	default:
		u, ok := wholeUint(text, f)
		if !ok || v.OverflowUint(u) {
			why = notWhole(f, text)
			break
		}
		v.SetUint(u)
	}
	if why == "" {
		why = n.rules.number(f, text)
	}
	if why != "" {
		d.report(why)
	}
	return nil
}

// wholeInt reads a whole number; 1e3 and 1.0 are whole numbers too.
func wholeInt(text string, f float64) (int64, bool) {
	i, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		return i, true
	}
	return int64(f), exact(f) && f == math.Trunc(f)
}

func wholeUint(text string, f float64) (uint64, bool) {
	u, err := strconv.ParseUint(text, 10, 64)
	if err == nil {
		return u, true
	}
	return uint64(max(0, f)), f >= 0 && exact(f) && f == math.Trunc(f)
}

func notWhole(f float64, text string) string {
	if f == math.Trunc(f) {
		return "is out of range: " + quoteRaw(text)
	}
	return "must be a whole number, got " + quoteRaw(text)
}

func (d *decoder) raw(n *node, v reflect.Value) error {
	if n.kind == kindAny {
		x, err := d.free()
		if err != nil {
			return err
		}
		if x == nil {
			v.SetZero()
		} else {
			v.Set(reflect.ValueOf(x))
		}
		return nil
	}
	raw, err := d.in.ReadValue()
	if err != nil {
		return err
	}
	if n.kind == kindRaw {
		v.SetBytes(bytes.Clone(raw))
		return nil
	}
	if err := v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(bytes.Clone(raw)); err != nil {
		d.report("cannot be read: " + clip(err.Error()))
	}
	return nil
}

// free reads a value of no declared type as encoding/json does, except for numbers that float64 cannot hold. The
// tokenizer bounds the nesting.
func (d *decoder) free() (any, error) {
	switch d.in.PeekKind() {
	case '{':
		if _, err := d.in.ReadToken(); err != nil {
			return nil, err
		}
		m := map[string]any{}
		for d.in.PeekKind() != '}' {
			name, err := d.in.ReadToken()
			if err != nil {
				return nil, err
			}
			key := name.String()
			if m[key], err = d.free(); err != nil {
				return nil, err
			}
		}
		_, err := d.in.ReadToken()
		return m, err
	case '[':
		if _, err := d.in.ReadToken(); err != nil {
			return nil, err
		}
		list := []any{}
		for d.in.PeekKind() != ']' {
			x, err := d.free()
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		_, err := d.in.ReadToken()
		return list, err
	case '0':
		raw, err := d.in.ReadValue()
		return freeNumber(string(raw)), err
	default:
		tok, err := d.in.ReadToken()
		if err != nil {
			return nil, err
		}
		switch tok.Kind() {
		case '"':
			return tok.String(), nil
		case 't', 'f':
			return tok.Bool(), nil
		default:
			return nil, nil
		}
	}
}

func freeNumber(text string) any {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !exact(f) && !strings.ContainsAny(text, ".eE") {
		return json.Number(text)
	}
	return f
}

// text reads what is a string in JSON.
func (d *decoder) text(n *node, v reflect.Value) error {
	tok, err := d.in.ReadToken()
	if err != nil {
		return err
	}
	s := tok.String()
	why := ""
	switch n.kind {
	case kindString:
		v.SetString(s)
		why = n.rules.text(s)
	case kindSecret:
		v.Set(reflect.ValueOf(plugin.NewSecret(s)))
		why = n.rules.length(len(s), "characters") // and never the value
	case kindTime:
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			why = "must be a time such as 2026-01-31T08:00:00Z; got " + quote(s)
		}
		v.Set(reflect.ValueOf(t))
	case kindDuration:
		dur, err := time.ParseDuration(s)
		if err != nil {
			why = "must be a duration such as 90s, 5m or 1h30m; got " + quote(s)
		} else if dur < 0 {
			why = "must not be negative"
		}
		v.SetInt(int64(dur))
	case kindBytes:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			why = "must be base64 (RFC 4648, with padding)"
		}
		v.SetBytes(b)
	case kindText:
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			why = "cannot be read: " + clip(err.Error())
		}
	default:
	}
	if why != "" {
		d.report(why)
	}
	return nil
}
