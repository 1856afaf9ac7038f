// Package schema reads the part of JSON Schema 2020-12 that connectors describe themselves with, and checks YAML against
// it: every mistake with its place and a way out. What it does not know it lets pass; the connector has the last word.
package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Schema is one schema. It is immutable once parsed. Recursive schemas point back at themselves.
type Schema struct {
	Types       []string // empty: any type
	Properties  map[string]*Schema
	Required    []string
	Additional  *Schema // schema of other properties; nil: see Closed and Open
	Closed      bool    // additionalProperties: false
	Open        bool    // additionalProperties: true, said in so many words
	Items       *Schema
	Enum        []any // JSON values; json.Number for numbers
	Pattern     *regexp.Regexp
	Min, Max    *float64
	ExclMin     *float64
	ExclMax     *float64
	MinLen      *int // of strings
	MaxLen      *int
	MinItems    *int
	MaxItems    *int
	Format      string
	AnyOf       []*Schema // of anyOf and oneOf
	AllOf       []*Schema
	Default     any
	Description string
	Secret      bool // x-casewire-secret
	Shape       *Shape
}

// Shape says by what properties of an action's input the fields of its rows are chosen: x-casewire-shape.
type Shape struct {
	Map     string              `json:"map"`     // an object whose keys are the fields, with dots where one is inside another
	Preset  string              `json:"preset"`  // names one of the presets; empty: there is no such property
	Presets map[string][]string `json:"presets"` // fields by the preset's name
}

type raw struct {
	Ref         string                     `json:"$ref"`
	Defs        map[string]json.RawMessage `json:"$defs"`
	Type        json.RawMessage            `json:"type"`
	Properties  map[string]json.RawMessage `json:"properties"`
	Required    []string                   `json:"required"`
	Additional  json.RawMessage            `json:"additionalProperties"`
	Items       json.RawMessage            `json:"items"`
	Enum        json.RawMessage            `json:"enum"`
	Const       json.RawMessage            `json:"const"`
	Pattern     *string                    `json:"pattern"`
	Min         *float64                   `json:"minimum"`
	Max         *float64                   `json:"maximum"`
	ExclMin     *float64                   `json:"exclusiveMinimum"`
	ExclMax     *float64                   `json:"exclusiveMaximum"`
	MinLen      *int                       `json:"minLength"`
	MaxLen      *int                       `json:"maxLength"`
	MinItems    *int                       `json:"minItems"`
	MaxItems    *int                       `json:"maxItems"`
	Format      string                     `json:"format"`
	AnyOf       []json.RawMessage          `json:"anyOf"`
	OneOf       []json.RawMessage          `json:"oneOf"`
	AllOf       []json.RawMessage          `json:"allOf"`
	Default     json.RawMessage            `json:"default"`
	Description string                     `json:"description"`
	Secret      bool                       `json:"x-casewire-secret"`
	Shape       json.RawMessage            `json:"x-casewire-shape"`
}

const maxDepth = 32

// Parse reads a schema. Nothing at all is the schema that takes everything. The bytes come from a connector, so that
// nothing about them is taken for granted.
func Parse(b []byte) (*Schema, error) {
	p := parser{refs: map[string]*Schema{}}
	if len(b) == 0 {
		return &Schema{}, nil
	}
	var root struct {
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	_ = json.Unmarshal(b, &root) // a boolean is a schema, too
	p.defs = root.Defs
	s := &Schema{}
	p.refs["#"] = s
	if err := p.fill(s, b, "#", 0); err != nil {
		return nil, err
	}
	return s, nil
}

type parser struct {
	defs map[string]json.RawMessage
	refs map[string]*Schema
}

func (p *parser) parse(b []byte, at string, depth int) (*Schema, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("schema at %s: nested more than %d deep", at, maxDepth)
	}
	var head struct {
		Ref string `json:"$ref"`
	}
	_ = json.Unmarshal(b, &head) // what is no object is looked at below
	if head.Ref != "" {
		return p.ref(head.Ref, at, depth)
	}
	s := &Schema{}
	return s, p.fill(s, b, at, depth)
}

func (p *parser) ref(ref, at string, depth int) (*Schema, error) {
	if s, ok := p.refs[ref]; ok {
		return s, nil
	}
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	def, have := p.defs[name]
	if !ok || !have {
		return nil, fmt.Errorf("schema at %s: the reference %q leads nowhere", at, ref)
	}
	s := &Schema{}
	p.refs[ref] = s
	return s, p.fill(s, def, ref, depth+1)
}

func (p *parser) fill(s *Schema, b []byte, at string, depth int) error {
	switch strings.TrimSpace(string(b)) {
	case "true":
		return nil
	case "false":
		s.Types = []string{"never"}
		return nil
	}
	var r raw
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("schema at %s: %w", at, err)
	}
	if r.Ref != "" && r.Ref != "#" {
		target, err := p.ref(r.Ref, at, depth)
		if err != nil {
			return err
		}
		if target != s {
			s.AllOf = append(s.AllOf, target)
		}
	}
	s.Required, s.Min, s.Max, s.ExclMin, s.ExclMax = r.Required, r.Min, r.Max, r.ExclMin, r.ExclMax
	s.MinLen, s.MaxLen, s.MinItems, s.MaxItems = r.MinLen, r.MaxLen, r.MinItems, r.MaxItems
	s.Format, s.Description, s.Secret = r.Format, r.Description, r.Secret
	var shape Shape
	if json.Unmarshal(r.Shape, &shape) == nil && shape.Map != "" { // a connector that says it otherwise has rows of any shape
		s.Shape = &shape
	}
	if len(r.Type) > 0 {
		var one string
		if json.Unmarshal(r.Type, &one) == nil {
			s.Types = []string{one}
		} else if err := json.Unmarshal(r.Type, &s.Types); err != nil {
			return fmt.Errorf("schema at %s: type: %w", at, err)
		}
	}
	if r.Pattern != nil {
		// ECMA expressions that Go does not know are the connector's to check.
		s.Pattern, _ = regexp.Compile(*r.Pattern)
	}
	if err := p.values(s, &r); err != nil {
		return fmt.Errorf("schema at %s: %w", at, err)
	}
	return p.children(s, &r, at, depth)
}

func (p *parser) values(s *Schema, r *raw) error {
	var err error
	if len(r.Enum) > 0 {
		var list any
		if list, err = decode(r.Enum); err != nil {
			return err
		}
		s.Enum, _ = list.([]any)
	}
	if len(r.Const) > 0 {
		v, err := decode(r.Const)
		if err != nil {
			return err
		}
		s.Enum = []any{v}
	}
	if len(r.Default) > 0 {
		s.Default, err = decode(r.Default)
	}
	return err
}

func decode(b []byte) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

func (p *parser) children(s *Schema, r *raw, at string, depth int) error {
	var err error
	if r.Properties != nil {
		s.Properties = make(map[string]*Schema, len(r.Properties))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Properties)) {
		if s.Properties[name], err = p.parse(r.Properties[name], at+"/properties/"+name, depth+1); err != nil {
			return err
		}
	}
	switch extra := strings.TrimSpace(string(r.Additional)); extra {
	case "":
	case "false":
		s.Closed = true
	case "true", "{}":
		s.Open = true
	default:
		if s.Additional, err = p.parse(r.Additional, at+"/additionalProperties", depth+1); err != nil {
			return err
		}
	}
	if len(r.Items) > 0 {
		if s.Items, err = p.parse(r.Items, at+"/items", depth+1); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		from []json.RawMessage
		to   *[]*Schema
	}{{r.AnyOf, &s.AnyOf}, {r.OneOf, &s.AnyOf}, {r.AllOf, &s.AllOf}} {
		for i, b := range list.from {
			child, err := p.parse(b, fmt.Sprintf("%s/%d", at, i), depth+1)
			if err != nil {
				return err
			}
			*list.to = append(*list.to, child)
		}
	}
	return nil
}

// Allows says whether a JSON type may stand here: null, boolean, integer, number, string, array or object.
func (s *Schema) Allows(typ string) bool {
	if s == nil || len(s.Types) == 0 {
		return true
	}
	return slices.Contains(s.Types, typ) || typ == "integer" && slices.Contains(s.Types, "number")
}

// Nullable says whether null is a value of the schema.
func (s *Schema) Nullable() bool {
	if s == nil {
		return true
	}
	if len(s.Types) == 0 && len(s.AnyOf) > 0 {
		return slices.ContainsFunc(s.AnyOf, (*Schema).Nullable)
	}
	return s.Allows("null")
}

// IsRequired says whether a property must be there.
func (s *Schema) IsRequired(property string) bool { return slices.Contains(s.Required, property) }

// TypeNames says what may stand here, for people: "a string or null".
func (s *Schema) TypeNames() string {
	names := make([]string, 0, len(s.Types))
	for _, t := range s.Types {
		names = append(names, Article(t))
	}
	return strings.Join(names, " or ")
}

// Article names a JSON type with its article.
func Article(typ string) string {
	switch typ {
	case "null":
		return "null"
	case "array":
		return "a list"
	case "object":
		return "a map"
	case "integer":
		return "an integer"
	}
	return "a " + typ
}
