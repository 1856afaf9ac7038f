package flow

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/host/internal/schema"
)

// kind of a static type.
type kind int

const (
	kAny kind = iota // not known before it runs
	kNull
	kBool
	kInt
	kNumber
	kString
	kTime
	kDuration
	kList
	kObject
)

var kindNames = [...]string{"any", "null", "a boolean", "an integer", "a number", "a string", "a time", "a duration", "a list", "a map"}

// typ is what is known about a value before it exists. The zero value is any.
type typ struct {
	kind   kind
	null   bool   // may be null or missing
	why    string // why it may be missing
	elem   *typ   // of a list
	fields map[string]*typ
	extra  *typ   // of an object: the type of other keys; nil: there are none
	name   string // of an object, for messages: "alert", "output of jira.issue.ensure"
}

var (
	tAny      = &typ{}
	tNull     = &typ{kind: kNull, null: true}
	tBool     = &typ{kind: kBool}
	tInt      = &typ{kind: kInt}
	tNumber   = &typ{kind: kNumber}
	tString   = &typ{kind: kString}
	tTime     = &typ{kind: kTime}
	tDuration = &typ{kind: kDuration}
	tMap      = &typ{kind: kObject, extra: tAny}
)

func listOf(elem *typ) *typ { return &typ{kind: kList, elem: elem} }

// maybe is t, or null for the reason given.
func maybe(t *typ, why string) *typ {
	if t.null || t.kind == kAny {
		return t
	}
	c := *t
	c.null, c.why = true, why
	return &c
}

func sure(t *typ) *typ {
	if !t.null || t.kind == kNull {
		return t
	}
	c := *t
	c.null, c.why = false, ""
	return &c
}

func (t *typ) String() string {
	switch {
	case t.kind == kObject && t.name != "":
		return "the map " + t.name
	case t.kind == kList && t.elem != nil && t.elem.kind != kAny:
		return "a list of " + plural(t.elem)
	}
	return kindNames[t.kind]
}

func plural(t *typ) string {
	if t.kind == kObject {
		return "maps"
	}
	s := t.String()
	s = strings.TrimPrefix(strings.TrimPrefix(s, "an "), "a ")
	if first, rest, ok := strings.Cut(s, " of "); ok {
		return first + "s of " + rest
	}
	return s + "s"
}

func (t *typ) numeric() bool { return t.kind == kInt || t.kind == kNumber }

// join is what a value is that is one or the other.
func join(a, b *typ) *typ {
	switch {
	case a == b:
		return a
	case a.kind == kNull:
		return maybe(b, "one branch is null")
	case b.kind == kNull:
		return maybe(a, "one branch is null")
	}
	null, why := a.null || b.null, a.why+b.why
	if a.null {
		why = a.why
	}
	var t typ
	switch {
	case a.kind == b.kind && a.kind != kList && a.kind != kObject:
		t = *a
	case a.numeric() && b.numeric():
		t = *tNumber
	case a.kind == kList && b.kind == kList:
		var elem *typ
		switch {
		case a.elem == nil: // []
			elem = b.elem
		case b.elem == nil:
			elem = a.elem
		default:
			elem = join(a.elem, b.elem)
		}
		t = *listOf(elem)
	case a.kind == kObject && b.kind == kObject:
		t = *joinObjects(a, b)
	default:
		return tAny
	}
	t.null, t.why = null, why
	return &t
}

func joinObjects(a, b *typ) *typ {
	if a.name != "" && a.name == b.name {
		return a
	}
	t := &typ{kind: kObject, fields: map[string]*typ{}}
	for name, f := range a.fields {
		if g := b.fields[name]; g != nil {
			t.fields[name] = join(f, g)
		} else {
			t.fields[name] = maybe(f, "only one branch has it")
		}
	}
	for name, g := range b.fields {
		if a.fields[name] == nil {
			t.fields[name] = maybe(g, "only one branch has it")
		}
	}
	if a.extra != nil || b.extra != nil {
		t.extra = tAny
	}
	return t
}

// field looks a key up. A map with free keys may lack any of them, but what is known of nothing is not nagged about.
func (t *typ) field(name string) *typ {
	if f := t.fields[name]; f != nil {
		return f
	}
	if t.extra == nil {
		return nil
	}
	if t.extra.kind == kAny {
		return tAny
	}
	return maybe(t.extra, "the map may lack the key")
}

func (t *typ) fieldNames() []string { return slices.Sorted(maps.Keys(t.fields)) }

const maxTypeDepth = 12

// fromSchema says what a value of the schema is. A property that is not required may be missing.
func fromSchema(s *schema.Schema, name string) *typ {
	return schemaTypes{}.of(s, name, 0)
}

// schemaTypes holds the types of schemas that were seen: a schema may use a part of itself many times, or contain itself.
type schemaTypes map[*schema.Schema]*typ

func (m schemaTypes) of(s *schema.Schema, name string, depth int) *typ {
	if s == nil || depth > maxTypeDepth {
		return tAny
	}
	if t := m[s]; t != nil {
		return t
	}
	m[s] = tAny // inside itself
	t := m.convert(s, name, depth)
	m[s] = t
	return t
}

func (m schemaTypes) convert(s *schema.Schema, name string, depth int) *typ {
	if len(s.AllOf) == 1 && len(s.Types) == 0 && len(s.Properties) == 0 {
		return m.of(s.AllOf[0], name, depth+1)
	}
	if len(s.AnyOf) > 0 && len(s.Types) == 0 {
		t := m.of(s.AnyOf[0], name, depth+1)
		for _, other := range s.AnyOf[1:] {
			t = join(t, m.of(other, name, depth+1))
		}
		return t
	}
	types := s.Types
	if len(types) == 0 {
		if len(s.Properties) == 0 {
			return tAny
		}
		types = []string{"object"}
	}
	var t *typ
	null := false
	for _, one := range types {
		var u *typ
		switch one {
		case "null":
			null = true
			continue
		case "boolean":
			u = tBool
		case "integer":
			u = tInt
		case "number":
			u = tNumber
		case "string":
			u = tString
		case "array":
			u = listOf(m.of(s.Items, "", depth+1))
		case "object":
			u = m.object(s, name, depth)
		default:
			u = tAny
		}
		if t == nil {
			t = u
		} else {
			t = join(t, u)
		}
	}
	switch {
	case t == nil:
		return tNull
	case null:
		return maybe(t, "it may be null")
	}
	return t
}

func (m schemaTypes) object(s *schema.Schema, name string, depth int) *typ {
	t := &typ{kind: kObject, name: name, fields: make(map[string]*typ, len(s.Properties))}
	for key, p := range s.Properties {
		f := m.of(p, "", depth+1)
		if f.kind == kObject && f.name == "" && name != "" {
			c := *f
			c.name = key + " of the " + name
			f = &c
		}
		if !s.IsRequired(key) {
			f = maybe(f, "it is optional")
		}
		t.fields[key] = f
	}
	switch {
	case s.Additional != nil:
		t.extra = m.of(s.Additional, "", depth+1)
	case s.Open, len(s.Properties) == 0 && !s.Closed:
		t.extra = tAny
	}
	return t
}

// fromGo says what a Go value is to an expression: fields go by their expr tag, pointers may be null.
func fromGo(t reflect.Type, name string) *typ { return goType(t, name, 0) }

func goType(t reflect.Type, name string, depth int) *typ {
	if depth > maxTypeDepth {
		return tAny
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return tTime
	case reflect.TypeFor[time.Duration]():
		return tDuration
	}
	switch t.Kind() {
	case reflect.Bool:
		return tBool
	case reflect.String:
		return tString
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return tInt
	case reflect.Float32, reflect.Float64:
		return tNumber
	case reflect.Pointer:
		return maybe(goType(t.Elem(), name, depth+1), "it is optional")
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return tAny
		}
		return listOf(goType(t.Elem(), "", depth+1))
	case reflect.Map:
		return &typ{kind: kObject, name: name, extra: goType(t.Elem(), "", depth+1)}
	case reflect.Struct:
		if t.NumField() == 0 {
			return tAny
		}
		o := &typ{kind: kObject, name: name, fields: map[string]*typ{}}
		for f := range fields(t) {
			key := f.Name
			if tag := f.Tag.Get("expr"); tag != "" {
				key = tag
			}
			if key == "-" {
				continue
			}
			o.fields[key] = goType(f.Type, join2(name, key), depth+1)
		}
		return o
	}
	return tAny
}

func join2(a, b string) string {
	if a == "" {
		return ""
	}
	return a + "." + b
}

func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && !f.Anonymous && !yield(f) {
				return
			}
		}
	}
}

// mismatch says why a value of type t cannot stand where the schema is, and "" if it can or if nobody can tell.
func mismatch(t *typ, s *schema.Schema) (problem, hint string) {
	left := 10_000
	return fit(t, s, "", 0, &left)
}

func fit(t *typ, s *schema.Schema, at string, depth int, left *int) (problem, hint string) {
	if *left--; *left < 0 || s == nil || t.kind == kAny || depth > maxTypeDepth {
		return "", ""
	}
	for _, all := range s.AllOf {
		if p, h := fit(t, all, at, depth+1, left); p != "" {
			return p, h
		}
	}
	if len(s.AnyOf) > 0 {
		for _, branch := range s.AnyOf {
			if problem, hint = fit(t, branch, at, depth+1, left); problem == "" {
				break
			}
		}
		if problem != "" {
			return problem, hint
		}
	}
	if t.null && !s.Nullable() {
		return at + "may be missing" + because(t.why), "give a fallback: … ?? " + fallback(t)
	}
	var ok bool
	switch t.kind {
	case kNull:
		return "", ""
	case kBool:
		ok = s.Allows("boolean")
	case kInt:
		ok, hint = s.Allows("integer"), "write string(…) to make it text"
	case kNumber:
		ok, hint = s.Allows("number"), "write string(…) to make it text"
		if !ok && s.Allows("integer") {
			hint = "write int(…) to cut the fraction off"
		}
	case kString:
		ok = s.Allows("string")
		switch {
		case s.Allows("integer"):
			hint = "write int(…) if it holds a number"
		case s.Allows("array"):
			hint = "write [ … ] for a list of one"
		}
	case kTime, kDuration:
		ok, hint = s.Allows("string"), ""
	case kList:
		if ok = s.Allows("array"); ok && t.elem != nil {
			return fit(t.elem, s.Items, at+"each item ", depth+1, left)
		}
		hint = "write first(…) for one of them, or join(…, \", \") for a text of all"
	case kObject:
		if ok = s.Allows("object"); ok {
			return fitObject(t, s, at, depth, left)
		}
	}
	if ok {
		return "", ""
	}
	return at + "is " + t.String() + ", but must be " + s.TypeNames(), hint
}

func fitObject(t *typ, s *schema.Schema, at string, depth int, left *int) (problem, hint string) {
	for _, key := range t.fieldNames() {
		p := s.Properties[key]
		if p == nil {
			p = s.Additional
		}
		if p == nil {
			if s.Closed {
				return at + "has the key " + key + ", which is not known there", ""
			}
			continue
		}
		f := t.fields[key]
		if !s.IsRequired(key) && s.Properties[key] != nil {
			f = sure(f) // the connector treats null like a missing key only at the top; be lenient below
		}
		if problem, hint = fit(f, p, at+key+" ", depth+1, left); problem != "" {
			return problem, hint
		}
	}
	if t.extra != nil {
		return "", ""
	}
	for _, key := range s.Required {
		if t.fields[key] == nil {
			return at + "lacks the key " + key, ""
		}
	}
	return "", ""
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// fallback suggests what to write after ??.
func fallback(t *typ) string {
	switch t.kind {
	case kString:
		return `""`
	case kList:
		return "[]"
	case kObject:
		return "{}"
	case kInt, kNumber:
		return "0"
	case kBool:
		return "false"
	}
	return "…"
}
