package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/host/internal/yamldoc"
)

// Checker checks a tree against a schema.
type Checker struct {
	// What names the thing that the schema describes, for messages: "input of jira.issue.ensure".
	What string
	// Visit may take a value over: expressions and secret references are not what the schema describes, they become it.
	// If it says true, the value is not looked at further.
	Visit func(n *yamldoc.Node, s *Schema, path string, required bool) bool
	Out   *diag.List

	left *int // values and schemas still to be compared
}

// maxWork bounds a check: a hostile schema can ask for as much work as it likes.
const maxWork = 100_000

// Check reports everything wrong with n.
func (c *Checker) Check(n *yamldoc.Node, s *Schema, path string) { c.value(n, s, path, true, 0) }

func (c *Checker) value(n *yamldoc.Node, s *Schema, path string, required bool, depth int) {
	if c.left == nil {
		c.left = new(maxWork)
	}
	if *c.left--; s == nil || depth > yamldoc.MaxDepth || *c.left < 0 {
		return
	}
	if c.Visit != nil && c.Visit(n, s, path, required) {
		return
	}
	for _, all := range s.AllOf {
		c.value(n, all, path, required, depth+1)
	}
	if len(s.AnyOf) > 0 {
		c.anyOf(n, s, path, required, depth)
	}
	if len(s.Enum) > 0 && !c.enum(n, s, path) {
		return
	}
	switch n.Kind {
	case yamldoc.Map:
		if c.typed(n, s, path, "object") {
			c.object(n, s, path, depth)
		}
	case yamldoc.List:
		if c.typed(n, s, path, "array") {
			c.list(n, s, path, depth)
		}
	default:
		c.scalar(n, s, path)
	}
}

// anyOf is content if one branch has nothing to say. If none is, it says what the branch with the fewest mistakes says.
func (c *Checker) anyOf(n *yamldoc.Node, s *Schema, path string, required bool, depth int) {
	var best diag.List
	for i, branch := range s.AnyOf {
		var found diag.List
		sub := Checker{What: c.What, Visit: c.Visit, Out: &found, left: c.left}
		sub.value(n, branch, path, required, depth+1)
		if !found.HasErrors() {
			return
		}
		if i == 0 || len(found) < len(best) {
			best = found
		}
	}
	*c.Out = append(*c.Out, best...)
}

func (c *Checker) typed(n *yamldoc.Node, s *Schema, path, typ string) bool {
	if s.Allows(typ) {
		return true
	}
	hint := ""
	if typ == "object" && s.Allows("array") {
		hint = "begin with `- ` for a list"
	}
	c.Out.Errorf(n.Pos, path, hint, "must be %s, not %s", s.TypeNames(), n.Describe())
	return false
}

func (c *Checker) object(n *yamldoc.Node, s *Schema, path string, depth int) {
	have := map[string]bool{}
	for _, e := range n.Entries {
		have[e.Key] = true
		at := yamldoc.Join(path, e.Key)
		switch p := s.Properties[e.Key]; {
		case p != nil:
			c.value(e.Value, p, at, s.IsRequired(e.Key), depth+1)
		case s.Additional != nil:
			c.value(e.Value, s.Additional, at, true, depth+1)
		case s.Closed:
			known := make([]string, 0, len(s.Properties))
			for name := range s.Properties {
				known = append(known, name)
			}
			c.Out.Errorf(e.Pos, at, yamldoc.DidYouMean(e.Key, known), "unknown property of the %s", c.What)
		default:
			// Unknown but allowed: expressions in it still want to be seen.
			c.value(e.Value, &Schema{}, at, true, depth+1)
		}
	}
	for _, name := range s.Required {
		if have[name] {
			continue
		}
		hint := ""
		if p := s.Properties[name]; p != nil {
			hint = strings.TrimSuffix(p.Description, ".")
		}
		c.Out.Errorf(n.Pos, path, hint, "the %s needs %q", c.What, name)
	}
}

func (c *Checker) list(n *yamldoc.Node, s *Schema, path string, depth int) {
	for i, item := range n.Items {
		items := s.Items
		if items == nil {
			items = &Schema{}
		}
		c.value(item, items, yamldoc.Index(path, i), true, depth+1)
	}
	if s.MinItems != nil && len(n.Items) < *s.MinItems {
		c.Out.Errorf(n.Pos, path, "", "needs at least %s, has %d", count(*s.MinItems, "item"), len(n.Items))
	}
	if s.MaxItems != nil && len(n.Items) > *s.MaxItems {
		c.Out.Errorf(n.Pos, path, "", "takes at most %s, has %d", count(*s.MaxItems, "item"), len(n.Items))
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (c *Checker) scalar(n *yamldoc.Node, s *Schema, path string) {
	typ := TypeOf(n.Value)
	if !s.Allows(typ) {
		hint := ""
		switch {
		case typ == "null":
			hint = "leave the key out if there is nothing to say"
		case s.Allows("boolean") && slices.Contains([]string{"yes", "no", "on", "off"}, strings.ToLower(n.Text)):
			hint = "write true or false"
		case s.Allows("string") && typ != "null":
			hint = fmt.Sprintf("put it in quotes: %q", n.Text)
		case typ == "string" && s.Allows("array"):
			hint = fmt.Sprintf("write it as a list: [%s]", n.Text)
		case typ == "string" && n.Style != yamldoc.Plain && !s.Allows("object"):
			hint = "leave the quotes out"
		}
		c.Out.Errorf(n.Pos, path, hint, "must be %s, not %s", s.TypeNames(), n.Describe())
		return
	}
	switch typ {
	case "string":
		c.text(n, s, path)
	case "integer", "number":
		c.number(n, s, path)
	}
}

// TypeOf names the JSON type of a YAML scalar.
func TypeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case int, uint64:
		return "integer"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	}
	return "string"
}

func (c *Checker) text(n *yamldoc.Node, s *Schema, path string) {
	v, _ := n.Value.(string)
	length := utf8.RuneCountInString(v)
	switch {
	case s.MinLen != nil && length < *s.MinLen && length == 0:
		c.Out.Errorf(n.Pos, path, "", "must not be empty")
	case s.MinLen != nil && length < *s.MinLen:
		c.Out.Errorf(n.Pos, path, "", "needs at least %s, has %d", count(*s.MinLen, "character"), length)
	case s.MaxLen != nil && length > *s.MaxLen:
		c.Out.Errorf(n.Pos, path, "", "takes at most %s, has %d", count(*s.MaxLen, "character"), length)
	}
	if s.Pattern != nil && !s.Pattern.MatchString(v) {
		c.Out.Errorf(n.Pos, path, strings.TrimSuffix(s.Description, "."), "%s does not match the pattern %s", yamldoc.Quote(v), s.Pattern)
	}
	if hint := badFormat(s.Format, v); hint != "" {
		c.Out.Errorf(n.Pos, path, hint, "%s is no %s", yamldoc.Quote(v), s.Format)
	}
}

// badFormat returns a hint if v has not the format, and "" if it has or if the format is not known here.
func badFormat(format, v string) string {
	switch format {
	case "uri", "url":
		if u, err := url.Parse(v); err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" {
			return "write it with its scheme: https://…"
		}
	case "email":
		if a, err := mail.ParseAddress(v); err != nil || a.Address != v {
			return "write it as name@example.com"
		}
	case "date-time":
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			return "write it as 2026-01-31T08:00:00Z"
		}
	}
	return ""
}

func (c *Checker) number(n *yamldoc.Node, s *Schema, path string) {
	v, _ := new(big.Float).SetString(n.Text)
	if v == nil {
		return
	}
	f, _ := v.Float64()
	switch {
	case s.Min != nil && f < *s.Min:
		c.Out.Errorf(n.Pos, path, "", "must be at least %v, not %s", *s.Min, n.Text)
	case s.Max != nil && f > *s.Max:
		c.Out.Errorf(n.Pos, path, "", "must be at most %v, not %s", *s.Max, n.Text)
	case s.ExclMin != nil && f <= *s.ExclMin:
		c.Out.Errorf(n.Pos, path, "", "must be more than %v, not %s", *s.ExclMin, n.Text)
	case s.ExclMax != nil && f >= *s.ExclMax:
		c.Out.Errorf(n.Pos, path, "", "must be less than %v, not %s", *s.ExclMax, n.Text)
	}
}

func (c *Checker) enum(n *yamldoc.Node, s *Schema, path string) bool {
	if n.Kind != yamldoc.Scalar {
		return true // enums of lists and maps are the connector's to check
	}
	if slices.ContainsFunc(s.Enum, func(v any) bool { return equal(v, n) }) {
		return true
	}
	names := make([]string, len(s.Enum))
	for i, v := range s.Enum {
		names[i] = fmt.Sprint(v)
	}
	hint := yamldoc.Closest(n.Text, names)
	if hint != "" {
		hint = fmt.Sprintf("did you mean %q?", hint)
	}
	c.Out.Errorf(n.Pos, path, hint, "must be one of %s, not %s", strings.Join(names, ", "), n.Describe())
	return false
}

func equal(v any, n *yamldoc.Node) bool {
	switch v := v.(type) {
	case json.Number:
		switch n.Value.(type) {
		case int, uint64, float64:
			a, ok1 := new(big.Float).SetString(v.String())
			b, ok2 := new(big.Float).SetString(n.Text)
			return ok1 && ok2 && a.Cmp(b) == 0
		}
		return false
	case string, bool, nil:
		return v == n.Value
	}
	return false
}
