package schema

import (
	"encoding/json"
	"strings"
)

// Dialect is the JSON Schema that Casewire writes.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// Embed makes a schema fit to stand inside another document, at a pointer such as "#/$defs/config.jira": its references
// to itself are moved there. Change is applied to each schema in it, the outermost last, and returns what takes its place.
// What is no schema becomes the one that takes everything.
func Embed(b []byte, at string, change func(map[string]any) map[string]any) map[string]any {
	v, err := decode(b)
	root, ok := v.(map[string]any)
	if err != nil || !ok {
		return map[string]any{}
	}
	delete(root, "$schema")
	delete(root, "$id")
	e := embedder{at: at, change: change}
	out, _ := e.schema(root).(map[string]any) // as it went in
	return out
}

type embedder struct {
	at     string
	change func(map[string]any) map[string]any
}

// schema rewrites one schema in place. True and false are schemas, too, and stay.
func (e *embedder) schema(v any) any {
	s, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if ref, ok := s["$ref"].(string); ok && strings.HasPrefix(ref, "#") {
		s["$ref"] = e.at + strings.TrimPrefix(ref, "#")
	}
	for _, key := range []string{"properties", "$defs", "patternProperties"} {
		if m, ok := s[key].(map[string]any); ok {
			for name := range m {
				m[name] = e.schema(m[name])
			}
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if below, ok := s[key]; ok {
			s[key] = e.schema(below)
		}
	}
	for _, key := range []string{"anyOf", "oneOf", "allOf", "prefixItems"} {
		if list, ok := s[key].([]any); ok {
			for i := range list {
				list[i] = e.schema(list[i])
			}
		}
	}
	return e.change(s)
}

// Document reads a schema that is written in the program, to be added to.
func Document(text string) map[string]any {
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		panic("schema.Document: " + err.Error()) // a mistake of the program's
	}
	return m
}

// Write writes a document for people to read, the same bytes every time.
func Write(doc map[string]any) []byte {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic("schema.Write: " + err.Error()) // it was read from JSON
	}
	return append(b, '\n')
}
