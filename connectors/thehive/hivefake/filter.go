package hivefake

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filter is a parsed filter with hints that hold for everything that it matches.
type filter struct {
	match func(doc) bool
	id    string // its id
	ref   string // its sourceRef
	tag   string // a tag that it has
	since int64  // it was changed at or after this time, in milliseconds
}

// Fields that can be filtered by, of all entities.
var filterable = []string{
	"_id", "_type", "_createdAt", "_createdBy", "_updatedAt", "_updatedBy", "type", "source", "sourceRef", "externalLink", "title",
	"description", "severity", "date", "tags", "tlp", "pap", "follow", "caseTemplate", "caseId", "status", "stage", "assignee",
	"summary", "number", "startDate", "endDate", "flag", "impactStatus", "newDate", "inProgressDate", "closedDate", "importedDate",
	"dataType", "data", "ioc", "sighted", "sightedAt", "message", "ignoreSimilarity", "createdAt", "createdBy", "updatedAt",
	"patternId", "tactic", "occurDate", "group", "order", "name", "value", "isAttachment", "mandatory", "dueDate", "alertDate",
}

type comparison struct {
	Field  string            `json:"_field"`
	Value  json.RawMessage   `json:"_value"`
	Values []json.RawMessage `json:"_values"`
	From   json.RawMessage   `json:"_from"`
	To     json.RawMessage   `json:"_to"`
}

// parseFilter reads a filter object, which must hold exactly one operator.
func (s *Server) parseFilter(in map[string]json.RawMessage, depth int) (*filter, string) {
	if depth > 32 {
		return nil, "The filter is nested too deeply"
	}
	if len(in) != 1 {
		return nil, "A filter must hold exactly one operator, got " + strconv.Itoa(len(in))
	}
	for op, raw := range in {
		switch op {
		case "_and", "_or":
			return s.parseJunction(op == "_and", raw, depth)
		case "_not":
			var inner map[string]json.RawMessage
			if json.Unmarshal(raw, &inner) != nil {
				return nil, "Invalid format for _not"
			}
			f, bad := s.parseFilter(inner, depth+1)
			if bad != "" {
				return nil, bad
			}
			return &filter{match: func(d doc) bool { return !f.match(d) }}, ""
		case "_any":
			return &filter{match: func(doc) bool { return true }}, ""
		case "_id":
			var id string
			if json.Unmarshal(raw, &id) != nil {
				return nil, "Invalid format for _id"
			}
			return &filter{id: id, match: func(d doc) bool { return d["_id"] == id }}, ""
		case "_has", "_contains":
			var field string
			if json.Unmarshal(raw, &field) != nil || !knownField(field) {
				return nil, "Invalid format for " + op
			}
			return &filter{match: func(d doc) bool { return len(values(d, field)) > 0 }}, ""
		}
		return s.parseComparison(op, raw)
	}
	return nil, "Empty filter"
}

func (s *Server) parseJunction(all bool, raw json.RawMessage, depth int) (*filter, string) {
	var inner []map[string]json.RawMessage
	if json.Unmarshal(raw, &inner) != nil || len(inner) == 0 {
		return nil, "Invalid format for _and or _or: expected an array of filters"
	}
	var list []*filter
	for _, one := range inner {
		f, bad := s.parseFilter(one, depth+1)
		if bad != "" {
			return nil, bad
		}
		list = append(list, f)
	}
	if !all {
		out := &filter{match: func(d doc) bool { return slices.ContainsFunc(list, func(f *filter) bool { return f.match(d) }) }}
		out.since = list[0].since
		for _, f := range list {
			out.since = min(out.since, f.since)
		}
		return out, ""
	}
	out := &filter{match: func(d doc) bool { return !slices.ContainsFunc(list, func(f *filter) bool { return !f.match(d) }) }}
	for _, f := range list {
		for _, hint := range []struct{ to, from *string }{{&out.id, &f.id}, {&out.ref, &f.ref}, {&out.tag, &f.tag}} {
			if *hint.to == "" {
				*hint.to = *hint.from
			}
		}
		out.since = max(out.since, f.since)
	}
	return out, ""
}

func knownField(name string) bool {
	return slices.Contains(filterable, name) || strings.HasPrefix(name, "customFields.")
}

// values returns the values of a field: the members of a list, or the one value if there is one.
func values(d doc, field string) []any {
	if name, ok := strings.CutPrefix(field, "customFields."); ok {
		list, _ := d["customFields"].([]doc)
		for _, f := range list {
			if f["name"] == name && f["value"] != nil {
				return []any{f["value"]}
			}
		}
		return nil
	}
	switch v := d[field].(type) {
	case nil:
		return nil
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out
	default:
		return []any{v}
	}
}

func (s *Server) parseComparison(op string, raw json.RawMessage) (*filter, string) {
	var c comparison
	if json.Unmarshal(raw, &c) != nil || !knownField(c.Field) {
		return nil, "Invalid format for " + op + ": _field must be a known field"
	}
	read := func(raw json.RawMessage) (any, bool) { return s.literal(raw) }
	any1 := func(pass func(v any) bool) func(doc) bool {
		return func(d doc) bool { return slices.ContainsFunc(values(d, c.Field), pass) }
	}
	switch op {
	case "_in":
		var list []any
		for _, raw := range c.Values {
			v, ok := read(raw)
			if !ok {
				return nil, "Invalid format for _in"
			}
			list = append(list, v)
		}
		return &filter{match: any1(func(v any) bool {
			return slices.ContainsFunc(list, func(w any) bool { return equal(v, w) })
		})}, ""
	case "_between":
		from, ok1 := read(c.From)
		to, ok2 := read(c.To)
		if !ok1 || !ok2 {
			return nil, "Invalid format for _between: _from and _to are mandatory"
		}
		f := &filter{match: any1(func(v any) bool { return compareValues(v, from) >= 0 && compareValues(v, to) < 0 })}
		f.hintSince(c.Field, from)
		return f, ""
	}
	want, ok := read(c.Value)
	if !ok {
		return nil, "Invalid format for " + op + ": _value is missing"
	}
	text, isText := want.(string)
	pass, known := map[string]func(any) bool{
		"_eq":         func(v any) bool { return equal(v, want) },
		"_is":         func(v any) bool { return equal(v, want) },
		"_ne":         func(v any) bool { return equal(v, want) },
		"_lt":         func(v any) bool { return compareValues(v, want) < 0 },
		"_lte":        func(v any) bool { return compareValues(v, want) <= 0 },
		"_gt":         func(v any) bool { return compareValues(v, want) > 0 },
		"_gte":        func(v any) bool { return compareValues(v, want) >= 0 },
		"_startsWith": func(v any) bool { return isText && strings.HasPrefix(asText(v), text) },
		"_endsWith":   func(v any) bool { return isText && strings.HasSuffix(asText(v), text) },
		"_like": func(v any) bool {
			return isText && strings.Contains(lower(v), strings.Trim(strings.ToLower(text), "*"))
		},
		"_match": func(v any) bool { return isText && slices.Contains(strings.Fields(lower(v)), strings.ToLower(text)) },
	}[op]
	if !known {
		return nil, "Unknown filter " + op
	}
	f := &filter{match: any1(pass)}
	switch {
	case op == "_ne":
		f.match = func(d doc) bool { return !slices.ContainsFunc(values(d, c.Field), pass) }
	case (op == "_eq" || op == "_is") && isText:
		f.hint(c.Field, text)
	case op == "_gte" || op == "_gt":
		f.hintSince(c.Field, want)
	}
	return f, ""
}

func (f *filter) hint(field, value string) {
	switch field {
	case "_id":
		f.id = value
	case "sourceRef":
		f.ref = value
	case "tags":
		f.tag = value
	}
}

// hintSince: what was created or updated at a time was last changed then or later.
func (f *filter) hintSince(field string, at any) {
	if ms, ok := at.(int64); ok && (field == "_updatedAt" || field == "_createdAt") {
		f.since = ms
	}
}

func equal(a, b any) bool {
	if an, ok := toNumber(a); ok {
		bn, ok := toNumber(b)
		return ok && an == bn
	}
	return a == b
}

// literal reads a filter's value: text, number, boolean, or a time relative to now.
func (s *Server) literal(raw json.RawMessage) (any, bool) {
	if len(raw) == 0 {
		return nil, false
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return n, true
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil, false
	}
	m, ok := v.(map[string]any)
	if !ok {
		_, isList := v.([]any)
		return v, !isList
	}
	amount, _ := m["amount"].(float64)
	sign := -1
	if m["look"] == "ahead" {
		sign = 1
	}
	n, now := sign*int(amount), s.opt.Now()
	unit, _ := m["unit"].(string)
	switch unit {
	case "minutes":
		now = now.Add(time.Duration(n) * time.Minute)
	case "hours":
		now = now.Add(time.Duration(n) * time.Hour)
	case "days":
		now = now.AddDate(0, 0, n)
	case "weeks":
		now = now.AddDate(0, 0, 7*n)
	case "months":
		now = now.AddDate(0, n, 0)
	case "years":
		now = now.AddDate(n, 0, 0)
	default:
		return nil, false
	}
	return now.UnixMilli(), true
}
