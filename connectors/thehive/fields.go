package thehive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// customField is the definition of a custom field.
type customField struct {
	Name        string            `json:"name"`
	DisplayName string            `json:"displayName"`
	Type        string            `json:"type"` // string, integer, float, boolean, date, url
	Mandatory   bool              `json:"mandatory"`
	Options     []json.RawMessage `json:"options"`
}

// definitions are the custom fields that TheHive has, as of some minutes ago.
type definitions struct {
	list  []customField
	until time.Time
}

// fieldsFor is how long definitions are believed.
const fieldsFor = 10 * time.Minute

// definitions lists the custom fields.
func (c *Client) definitions(ctx context.Context) ([]customField, error) {
	if d := c.fieldDefs.Load(); d != nil && time.Now().Before(d.until) {
		return d.list, nil
	}
	var found []customField
	err := c.query(ctx, "list custom fields", []any{
		map[string]any{"_name": "listCustomField"}, map[string]any{"_name": "page", "from": 0, "to": 5000},
	}, &found)
	if err != nil {
		return nil, err
	}
	c.fieldDefs.Store(&definitions{list: found, until: time.Now().Add(fieldsFor)})
	return found, nil
}

func (c *Client) forgetFields() { c.fieldDefs.Store(nil) }

// fields turns the custom fields of an input into those of TheHive: by name, with values of the right type. What does not
// exist or does not fit is told in lost, one line each.
func (c *Client) fields(ctx context.Context, in map[string]any) (out map[string]any, lost string, err error) {
	if len(in) == 0 {
		return nil, "", nil
	}
	defs, err := c.definitions(ctx)
	if err != nil {
		return nil, "", err
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if in[name] == nil || in[name] == "" {
			continue
		}
		def := fieldNamed(defs, name)
		if def == nil {
			lines = append(lines, oneLine(name)+": "+oneLine(textOf(in[name]))+" (there is no such field)")
			continue
		}
		v, why := def.value(in[name])
		if why != "" {
			lines = append(lines, oneLine(name)+": "+oneLine(textOf(in[name]))+" ("+why+")")
			continue
		}
		if out == nil {
			out = map[string]any{}
		}
		out[def.Name] = v
	}
	return out, strings.Join(lines, "\n"), nil
}

// fieldNamed finds a field by its name, else by its display name if that is unique; case counts only if it must.
func fieldNamed(defs []customField, name string) *customField {
	for _, same := range []func(d *customField) bool{
		func(d *customField) bool { return d.Name == name },
		func(d *customField) bool { return strings.EqualFold(d.Name, name) },
		func(d *customField) bool { return strings.EqualFold(d.DisplayName, name) },
	} {
		var found *customField
		n := 0
		for i := range defs {
			if same(&defs[i]) {
				found, n = &defs[i], n+1
			}
		}
		if n == 1 {
			return found
		}
	}
	return nil
}

// maxFieldText is TheHive's limit for the text of a custom field.
const maxFieldText = 8191

// value converts a value to the field's type, or says why it cannot.
func (d *customField) value(v any) (out any, why string) {
	text := strings.TrimSpace(textOf(v))
	switch d.Type {
	case "integer":
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n != math.Trunc(n) || n > math.MaxInt32 || n < math.MinInt32 {
			return nil, "the field takes a whole number of 32 bits"
		}
		out = int64(n)
	case "float":
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
			return nil, "the field takes a number"
		}
		out = n
	case "boolean":
		switch strings.ToLower(text) {
		case "true", "yes", "1":
			out = true
		case "false", "no", "0":
			out = false
		default:
			return nil, "the field takes true or false"
		}
	case "date":
		ms, ok := millisOf(text)
		if !ok {
			return nil, "the field takes a date, such as 2026-11-23T10:00:00Z"
		}
		out = ms
	default: // string, url
		out = fit(text, maxFieldText, "…")
	}
	if len(d.Options) > 0 && !slices.ContainsFunc(d.Options, func(o json.RawMessage) bool { return sameJSON(out, o) }) {
		return nil, "it is none of the field's options"
	}
	return out, ""
}

// millisOf reads a date: RFC 3339, a day, or a number of milliseconds since 1970.
func millisOf(s string) (int64, bool) {
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), true
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > 1e15 {
		return 0, false
	}
	return int64(n), true
}

// textOf writes a value as text: lists with commas, objects as JSON.
func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = textOf(v[i])
		}
		return strings.Join(parts, ", ")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func oneLine(s string) string { return cut(strings.Join(strings.Fields(s), " "), 300) }

// sameJSON compares a value that is to be written with JSON that was read.
func sameJSON(v any, raw json.RawMessage) bool {
	b, err := json.Marshal(v)
	if err != nil || len(raw) == 0 {
		return false
	}
	if bytes.Equal(b, bytes.TrimSpace(raw)) {
		return true
	}
	var x, y any
	return json.Unmarshal(b, &x) == nil && json.Unmarshal(raw, &y) == nil && x == y && x != nil
}

// differingFields are the wanted fields that are not as wanted.
func differingFields(want map[string]any, have []fieldValue) map[string]any {
	out := map[string]any{}
	for name, v := range want {
		if !slices.ContainsFunc(have, func(f fieldValue) bool { return f.Name == name && sameJSON(v, f.Value) }) {
			out[name] = v
		}
	}
	return out
}

func fieldsDigest(fields map[string]any) string {
	if len(fields) == 0 {
		return ""
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, name, textOf(fields[name]))
	}
	return digest(parts...)
}
