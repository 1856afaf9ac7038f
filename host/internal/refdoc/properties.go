package refdoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Property is one line of a reference: a property of a schema, by its dotted name.
type Property struct {
	Name     string // "credential.token", "observables[].data"
	Type     string // for people: "text", "list of text", "secret"
	Doc      string
	Default  string // JSON
	Example  string // JSON
	Enum     []string
	Required bool
	Advanced bool
	Output   bool // of what an action gives: all of it is there unless it is not required
}

// maxNesting is how deep properties of properties are listed.
const maxNesting = 3

// node is the part of a schema that a reference shows.
type node struct {
	Ref         string                     `json:"$ref"`
	Defs        map[string]json.RawMessage `json:"$defs"`
	Type        any                        `json:"type"`
	Description string                     `json:"description"`
	Properties  object                     `json:"properties"`
	Required    []string                   `json:"required"`
	Items       json.RawMessage            `json:"items"`
	Additional  json.RawMessage            `json:"additionalProperties"`
	Enum        []json.RawMessage          `json:"enum"`
	Default     json.RawMessage            `json:"default"`
	Examples    []json.RawMessage          `json:"examples"`
	Format      string                     `json:"format"`
	AnyOf       []json.RawMessage          `json:"anyOf"`
	OneOf       []json.RawMessage          `json:"oneOf"`
	Pattern     string                     `json:"pattern"`
	Secret      bool                       `json:"x-casewire-secret"`
	Advanced    bool                       `json:"x-casewire-advanced"`
}

// object is a JSON object whose members keep their order: the author's.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON reads an object.
func (o *object) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	open, err := dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errors.New("no object")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		text, _ := name.(string) // member names are strings
		*o = append(*o, member{text, value})
	}
	return nil
}

// outputs lists the properties of what an action gives.
func outputs(schema []byte) []Property {
	list := properties(schema)
	for i := range list {
		list[i].Output = true
	}
	return list
}

// properties lists the properties of an object schema, required ones first. A schema that cannot be read lists nothing.
func properties(schema []byte) []Property {
	var root node
	if json.Unmarshal(schema, &root) != nil {
		return nil
	}
	w := walker{defs: root.Defs}
	w.object(&root, "", 0)
	return w.out
}

type walker struct {
	defs map[string]json.RawMessage
	out  []Property
}

func (w *walker) object(n *node, prefix string, depth int) {
	if depth >= maxNesting {
		return
	}
	members := slices.Clone(n.Properties)
	slices.SortStableFunc(members, func(a, b member) int { return rank(n, a.name) - rank(n, b.name) })
	for _, m := range members {
		p := w.read(m.value)
		w.out = append(w.out, Property{
			Name: prefix + m.name, Type: w.typeText(p, 0), Doc: p.Description, Default: compact(p.Default),
			Example: first(p.Examples), Enum: texts(w.values(p)), Required: slices.Contains(n.Required, m.name), Advanced: p.Advanced,
		})
		w.object(p, prefix+m.name+".", depth+1)
		if len(p.Items) > 0 {
			w.object(w.read(p.Items), prefix+m.name+"[].", depth+1)
		}
	}
}

// rank puts what is required first; the rest keeps the author's order.
func rank(n *node, name string) int {
	if slices.Contains(n.Required, name) {
		return 0
	}
	return 1
}

// read decodes a schema and follows its reference.
func (w *walker) read(b []byte) *node {
	var n node
	if json.Unmarshal(b, &n) != nil {
		return &node{} // true, or something that only its author understands
	}
	for range maxNesting {
		name, ok := strings.CutPrefix(n.Ref, "#/$defs/")
		if !ok {
			break
		}
		doc := n.Description
		n = node{}
		if json.Unmarshal(w.defs[name], &n) != nil {
			return &node{}
		}
		if doc != "" {
			n.Description = doc
		}
	}
	return &n
}

// values are the values that may stand there, of a list those of its items.
func (w *walker) values(n *node) []json.RawMessage {
	if len(n.Enum) == 0 && len(n.Items) > 0 {
		return w.read(n.Items).Enum
	}
	return n.Enum
}

// typeText names a type for people.
func (w *walker) typeText(n *node, depth int) string {
	if depth > maxNesting {
		return "anything"
	}
	var types []string
	switch t := n.Type.(type) {
	case string:
		types = []string{t}
	case []any:
		for _, x := range t {
			types = append(types, fmt.Sprint(x))
		}
	}
	for i, t := range types {
		switch t {
		case "string":
			types[i] = w.textType(n)
		case "integer":
			types[i] = "whole number"
		case "boolean":
			types[i] = "yes or no"
		case "object":
			types[i] = "map"
			if len(n.Properties) == 0 && len(n.Additional) > 0 && n.Additional[0] == '{' {
				types[i] = "map of " + w.typeText(w.read(n.Additional), depth+1)
			}
		case "array":
			types[i] = "list"
			if len(n.Items) > 0 {
				types[i] = "list of " + w.typeText(w.read(n.Items), depth+1)
			}
		}
	}
	if len(types) > 0 {
		return strings.Join(types, " or ")
	}
	for _, b := range append(slices.Clone(n.AnyOf), n.OneOf...) {
		if t := w.typeText(w.read(b), depth+1); !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if len(types) > 0 {
		return strings.Join(types, " or ")
	}
	return "anything"
}

// durationMark begins the pattern of what Go calls a duration.
const durationMark = `^([0-9]+(\.[0-9]+)?(ns|us|`

func (w *walker) textType(n *node) string {
	switch {
	case n.Secret:
		return "secret"
	case n.Format == "uri":
		return "URL"
	case n.Format == "date-time":
		return "time"
	case n.Format == "email":
		return "e-mail address"
	case strings.HasPrefix(n.Pattern, durationMark):
		return "duration"
	default:
		return "text"
	}
}

func compact(b json.RawMessage) string {
	var out bytes.Buffer
	if len(b) == 0 || json.Compact(&out, b) != nil {
		return ""
	}
	return out.String()
}

func first(list []json.RawMessage) string {
	if len(list) == 0 {
		return ""
	}
	return compact(list[0])
}

// texts shows values as they are written in YAML.
func texts(list []json.RawMessage) []string {
	var out []string
	for _, b := range list {
		var s string
		if json.Unmarshal(b, &s) != nil || s == "" {
			s = compact(b)
		}
		out = append(out, s)
	}
	return out
}
