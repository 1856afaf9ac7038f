package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// object is a JSON object.
type object = map[string]any

// readSchema reads a schema as JSON; none at all takes everything.
func readSchema(b []byte) (object, error) {
	if len(b) == 0 {
		return object{}, nil
	}
	v, err := decode(b)
	if err != nil {
		return nil, err
	}
	o, ok := v.(object)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	return o, nil
}

// decode reads one JSON value, numbers as they are written.
func decode(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

// validator is a compiled schema.
type validator struct{ schema *jsonschema.Resolved }

// Validate says what is wrong with a value.
func (v validator) Validate(value any) error { return v.schema.Validate(plain(value)) }

// plain turns numbers as they are written into numbers, as the library wants them.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return f
	case object:
		out := make(object, len(v))
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	}
	return v
}

// compile compiles a schema of the dialect 2020-12.
func compile(b []byte) (validator, error) {
	doc, err := readSchema(b)
	if err != nil {
		return validator{}, err
	}
	if dialect, ok := doc["$schema"]; ok && strings.TrimSuffix(fmt.Sprint(dialect), "#") != "https://json-schema.org/draft/2020-12/schema" {
		return validator{}, fmt.Errorf("it is written in %v, not in JSON Schema 2020-12", dialect)
	}
	if err := checkTypes(doc, 0); err != nil {
		return validator{}, err
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return validator{}, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return validator{}, err
	}
	r, err := s.Resolve(&jsonschema.ResolveOptions{Loader: func(at *url.URL) (*jsonschema.Schema, error) {
		return nil, fmt.Errorf("it refers to %s; a schema must stand alone", at)
	}})
	return validator{r}, err
}

// checkTypes looks for types that JSON Schema does not have, which the library takes for types that nothing has.
func checkTypes(v any, depth int) error {
	s, ok := v.(object)
	if !ok || depth > 64 {
		return nil
	}
	types, many := s["type"].([]any)
	if !many && s["type"] != nil {
		types = []any{s["type"]}
	}
	for _, t := range types {
		if name, _ := t.(string); !slices.Contains([]string{"object", "array", "string", "integer", "number", "boolean", "null"}, name) {
			return fmt.Errorf("%v is no type", t)
		}
	}
	for _, k := range []string{"items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"} {
		if err := checkTypes(s[k], depth+1); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	for _, k := range []string{"properties", "patternProperties", "$defs", "dependentSchemas"} {
		group, _ := s[k].(object)
		for name, sub := range group {
			if err := checkTypes(sub, depth+1); err != nil {
				return fmt.Errorf("%s/%s: %w", k, name, err)
			}
		}
	}
	for _, k := range []string{"anyOf", "oneOf", "allOf", "prefixItems"} {
		list, _ := s[k].([]any)
		for i, sub := range list {
			if err := checkTypes(sub, depth+1); err != nil {
				return fmt.Errorf("%s/%d: %w", k, i, err)
			}
		}
	}
	return nil
}

// follow resolves references inside the document.
func follow(root, s object) object {
	for range 16 {
		ref, ok := s["$ref"].(string)
		if !ok {
			return s
		}
		var at any = root
		for part := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(ref, "#"), "/"), "/") {
			if part == "" {
				continue
			}
			o, _ := at.(object)
			at = o[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
		}
		next, ok := at.(object)
		if !ok {
			return s
		}
		s = next
	}
	return s
}

// sampler makes a value that satisfies a schema: what is required, and nothing else but secrets.
type sampler struct {
	root   object
	url    string // for addresses
	secret string // for secrets
}

func (m *sampler) sample() (any, error) {
	text, err := json.Marshal(m.root)
	if err != nil {
		return nil, err
	}
	schema, err := compile(text)
	if err != nil {
		return nil, err
	}
	v, err := m.make(m.root, 0)
	if err != nil {
		return nil, err
	}
	if err := schema.Validate(v); err != nil {
		return nil, fmt.Errorf("the best guess does not fit: %w", err)
	}
	return v, nil
}

func (m *sampler) make(s object, depth int) (any, error) {
	if depth > 16 {
		return nil, errors.New("it is nested too deeply")
	}
	s = follow(m.root, s)
	if v, ok := s["const"]; ok {
		return v, nil
	}
	if list, ok := s["enum"].([]any); ok && len(list) > 0 {
		return list[0], nil
	}
	if v, ok := s["default"]; ok && s["x-casewire-secret"] != true && s["format"] != "uri" {
		return v, nil
	}
	if list, ok := s["examples"].([]any); ok && len(list) > 0 && s["format"] != "uri" {
		return list[0], nil
	}
	for _, k := range []string{"anyOf", "oneOf"} {
		if list, ok := s[k].([]any); ok && len(list) > 0 {
			if first, ok := list[0].(object); ok {
				return m.make(first, depth+1)
			}
		}
	}
	switch typeOf(s) {
	case "object", "":
		return m.object(s, depth)
	case "array":
		list := []any{}
		item, _ := s["items"].(object)
		for range count(s["minItems"]) {
			v, err := m.make(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case "string":
		return m.text(s)
	case "integer", "number":
		for _, k := range []string{"minimum", "maximum"} {
			if v, ok := s[k]; ok {
				return v, nil
			}
		}
		return json.Number("1"), nil
	case "boolean":
		return false, nil
	case "null":
		return nil, nil //nolint:nilnil // it is the value null
	}
	return nil, fmt.Errorf("type %v is unknown", s["type"])
}

func (m *sampler) object(s object, depth int) (any, error) {
	out := object{}
	props, _ := s["properties"].(object)
	for name, p := range props {
		p, ok := p.(object)
		if !ok {
			continue
		}
		if p = follow(m.root, p); !requires(s, name) && p["x-casewire-secret"] != true {
			continue
		}
		v, err := m.make(p, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

func requires(s object, name string) bool {
	list, _ := s["required"].([]any)
	return slices.Contains(list, any(name))
}

func (m *sampler) text(s object) (any, error) {
	if s["x-casewire-secret"] == true {
		return m.secret, nil
	}
	switch s["format"] {
	case "uri", "url", "iri":
		return m.url, nil
	case "uuid":
		return "3f2b8a54-8c0e-4a57-9a52-0d5f6b1c7e21", nil
	case "date-time":
		return "2026-01-02T03:04:05Z", nil
	case "date":
		return "2026-01-02", nil
	case "email":
		return "casewire@example.com", nil
	case "hostname":
		return "example.com", nil
	case "ipv4":
		return "203.0.113.5", nil
	}
	text := "conformance"
	if pattern, ok := s["pattern"].(string); ok {
		re, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		shortest(&b, re.Simplify())
		text = b.String()
	}
	if n := count(s["minLength"]); len(text) < n {
		text += strings.Repeat("x", n-len(text))
	}
	if _, ok := s["maxLength"]; ok && len(text) > count(s["maxLength"]) {
		text = text[:count(s["maxLength"])]
	}
	return text, nil
}

// shortest writes a text that a regular expression matches.
func shortest(b *strings.Builder, re *syntax.Regexp) {
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		if len(re.Rune) > 0 {
			b.WriteRune(re.Rune[0])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('a')
	case syntax.OpCapture, syntax.OpPlus:
		shortest(b, re.Sub[0])
	case syntax.OpRepeat:
		for range re.Min {
			shortest(b, re.Sub[0])
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			shortest(b, sub)
		}
	case syntax.OpAlternate:
		shortest(b, re.Sub[0])
	default: // anchors, and what may be left out
	}
}

// count reads a small number of a schema.
func count(v any) int {
	n, ok := v.(json.Number)
	if !ok {
		return 0
	}
	i, err := n.Int64()
	if err != nil || i < 0 || i > 4096 {
		return 0
	}
	return int(i)
}

func typeOf(s object) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		if len(t) > 0 {
			first, _ := t[0].(string)
			return first
		}
	}
	return ""
}

// spoil returns values that break a schema, each in another way, the plainest first.
func spoil(root object, good any) []any {
	var out []any
	o, _ := good.(object)
	props, _ := root["properties"].(object)
	names := slices.Sorted(maps.Keys(props))
	with := func(change func(object)) {
		c := maps.Clone(o)
		if c == nil {
			c = object{}
		}
		change(c)
		out = append(out, c)
	}
	for _, n := range names {
		p, _ := props[n].(object)
		with(func(c object) {
			if t := typeOf(follow(root, p)); t == "array" || t == "object" {
				c[n] = "not this"
			} else {
				c[n] = []any{object{}}
			}
		})
	}
	for _, n := range names {
		if requires(root, n) {
			with(func(c object) { delete(c, n) })
		}
	}
	with(func(c object) { c["x_conformance"] = true })
	return append(out, []any{"not an object"})
}

// violating returns the first of the values that a schema refuses; false if it takes them all.
func violating(schema []byte, values []any) ([]byte, bool) {
	s, err := compile(schema)
	if err != nil {
		return nil, false
	}
	for _, v := range values {
		if s.Validate(v) == nil {
			continue
		}
		if b, err := json.Marshal(v); err == nil {
			return b, true
		}
	}
	return nil, false
}

// redirect points every address in a configuration at another place, those that the schema has as defaults included. It
// returns how many there were.
func redirect(root object, v any, to string) (any, int) { return redirectAt(root, root, v, to, 0) }

func redirectAt(root, s object, v any, to string, depth int) (any, int) {
	if depth > 16 {
		return v, 0
	}
	s = follow(root, s)
	switch v := v.(type) {
	case object:
		out, n := object{}, 0
		props, _ := s["properties"].(object)
		rest, _ := s["additionalProperties"].(object)
		for k, e := range v {
			p, ok := props[k].(object)
			if !ok {
				p = rest
			}
			var m int
			out[k], m = redirectAt(root, p, e, to, depth+1)
			n += m
		}
		for k, p := range props {
			p, _ := p.(object)
			if _, set := out[k]; !set && isAddress(follow(root, p)["default"]) {
				out[k] = to
				n++
			}
		}
		return out, n
	case []any:
		out, n := make([]any, len(v)), 0
		items, _ := s["items"].(object)
		for i, e := range v {
			var m int
			out[i], m = redirectAt(root, items, e, to, depth+1)
			n += m
		}
		return out, n
	}
	if !isAddress(v) || s["x-casewire-secret"] == true {
		return v, 0
	}
	u, _ := url.Parse(v.(string)) // isAddress has parsed it
	return to + strings.TrimRight(u.Path, "/"), 1
}

func isAddress(v any) bool {
	text, ok := v.(string)
	if !ok {
		return false
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// secretsOf returns the values in a configuration that its schema marks as secret.
func secretsOf(schema, config []byte) []string {
	root, err := readSchema(schema)
	if err != nil {
		return nil
	}
	v, err := decode(config)
	if err != nil {
		return nil
	}
	var out []string
	var walk func(s object, v any, depth int)
	walk = func(s object, v any, depth int) {
		if depth > 16 {
			return
		}
		s = follow(root, s)
		switch v := v.(type) {
		case string:
			if s["x-casewire-secret"] == true {
				out = append(out, v)
			}
		case object:
			props, _ := s["properties"].(object)
			rest, _ := s["additionalProperties"].(object)
			for k, e := range v {
				p, ok := props[k].(object)
				if !ok {
					p = rest
				}
				walk(p, e, depth+1)
			}
		case []any:
			items, _ := s["items"].(object)
			for _, e := range v {
				walk(items, e, depth+1)
			}
		}
	}
	walk(root, v, 0)
	return out
}
