// Package kql writes values as literals of the Kusto Query Language, so that what comes with an alert can be asked about
// and never becomes part of the question.
package kql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/sdk"
)

var (
	// Forms are compiled on first use: what is made at start, every connector process pays for.
	paramName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`) })
	guidForm  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	})
	spanForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(-?\d{1,12}(\.\d{1,7})?(d|h|m|s|ms|microseconds?|ticks?)|-?(\d{1,8}\.)?\d{1,2}:\d{2}(:\d{2}(\.\d{1,7})?)?)$`)
	})
	decForm  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^-?\d{1,34}(\.\d{1,34})?$`) })
	realForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^-?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,4})?$`) })
)

// reserved are words that the language does not take as the name of a let statement.
var reserved = []string{
	"and", "as", "between", "by", "contains", "has", "in", "let", "not", "null", "of", "on", "or", "to", "true", "false", "where", "with",
}

// Lets writes parameters as let statements on one line, with a line break behind them; nothing for none. A value can be
// nothing but one literal, whatever it holds. The error is of the input's property params.
// https://learn.microsoft.com/kusto/query/scalar-data-types.
func Lets(params map[string]any) (string, error) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !paramName().MatchString(name) {
			return "", sdk.Invalid("params", "%q is no name for a parameter: use letters, digits and underscores, and no digit first", name)
		}
		if slices.Contains(reserved, name) {
			return "", sdk.Invalid("params", "%q is a word of the language; call the parameter something else", name)
		}
		lit, err := literal(params[name])
		if err != nil {
			return "", sdk.Invalid("params."+name, "%v", err)
		}
		b.WriteString("let " + name + " = " + lit + "; ")
	}
	if b.Len() == 0 {
		return "", nil
	}
	return strings.TrimSuffix(b.String(), " ") + "\n", nil
}

// literal writes one value as a KQL literal.
func literal(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "dynamic(null)", nil
	case bool:
		return strconv.FormatBool(v), nil
	case string:
		return quote(v)
	case json.Number:
		return number(v.String())
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return number(strconv.FormatInt(int64(v), 10))
		}
		return number(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return number(strconv.Itoa(v))
	case int64:
		return number(strconv.FormatInt(v, 10))
	case map[string]any:
		if typ, ok := v["type"].(string); ok && len(v) == 2 {
			if val, ok := v["value"]; ok {
				return typed(typ, val)
			}
		}
		return dynamic(v)
	case []any:
		return dynamic(v)
	default:
		return "", fmt.Errorf("a %T cannot be bound", v)
	}
}

func number(s string) (string, error) {
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return "long(" + s + ")", nil
	}
	if strings.Trim(s, "-0123456789") == "" {
		return "", fmt.Errorf("%.80q does not fit long; bind it as {type: decimal, value: \"…\"}", s)
	}
	if f, err := strconv.ParseFloat(s, 64); err != nil || math.IsInf(f, 0) || !realForm().MatchString(s) {
		return "", fmt.Errorf("%.80q is no number that KQL can hold", s)
	}
	return "real(" + s + ")", nil
}

// typed writes a literal of a named type, and only if the value has that type's form.
func typed(typ string, val any) (string, error) {
	if val == nil {
		return null(typ)
	}
	s, ok := scalar(val)
	if !ok && typ != "dynamic" {
		return "", fmt.Errorf("a %s is given as a string or number, not as %T", typ, val)
	}
	switch typ {
	case "string":
		return quote(s)
	case "datetime":
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
			return "", fmt.Errorf("%.80q is no RFC 3339 time", s)
		}
		return "datetime(" + t.UTC().Format("2006-01-02T15:04:05.9999999Z") + ")", nil
	case "timespan":
		if !spanForm().MatchString(s) {
			return "", fmt.Errorf("%.80q is no timespan such as 1h, 30m or 1.02:03:04", s)
		}
		return "time(" + s + ")", nil
	case "guid":
		if !guidForm().MatchString(s) {
			return "", fmt.Errorf("%.80q is no GUID", s)
		}
		return "guid(" + s + ")", nil
	case "long", "int":
		n, err := strconv.ParseInt(s, 10, map[string]int{"long": 64, "int": 32}[typ])
		if err != nil {
			return "", fmt.Errorf("%.80q does not fit %s", s, typ)
		}
		return typ + "(" + strconv.FormatInt(n, 10) + ")", nil
	case "real":
		// https://learn.microsoft.com/kusto/query/scalar-data-types/real.
		if special := map[string]string{"NaN": "nan", "Infinity": "+inf", "-Infinity": "-inf"}[s]; special != "" {
			return "real(" + special + ")", nil
		}
		if f, err := strconv.ParseFloat(s, 64); err != nil || math.IsInf(f, 0) || !realForm().MatchString(s) {
			return "", fmt.Errorf("%.80q is no real", s)
		}
		return "real(" + s + ")", nil
	case "decimal":
		if !decForm().MatchString(s) {
			return "", fmt.Errorf("%.80q is no decimal", s)
		}
		return "decimal(" + s + ")", nil
	case "bool":
		if s != "true" && s != "false" {
			return "", fmt.Errorf("%.80q is no bool", s)
		}
		return s, nil
	case "dynamic":
		return dynamic(val)
	default:
		return "", unknownType(typ)
	}
}

// null is the null of a type; strings have none.
func null(typ string) (string, error) {
	switch typ {
	case "datetime", "timespan", "guid", "long", "int", "real", "decimal", "bool", "dynamic":
		return strings.Replace(typ, "timespan", "time", 1) + "(null)", nil
	case "string":
		return "", errors.New("a string cannot be null; bind an empty one")
	}
	return "", unknownType(typ)
}

func unknownType(typ string) error {
	return fmt.Errorf("type %.80q is not known; use string, datetime, timespan, guid, long, int, real, decimal, bool or dynamic", typ)
}

// scalar is the text of a JSON scalar.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatInt(int64(v), 10), true
		}
		return strconv.FormatFloat(v, 'g', -1, 64), true
	}
	return "", false
}

// maxDepth is how deep a dynamic parameter may be nested.
const maxDepth = 64

// dynamic writes a value as a dynamic literal, whose form is JSON. In the JSON that is written every character that could
// mean anything is escaped by the rules that KQL's own strings have too.
func dynamic(v any) (string, error) {
	if depth(v) > maxDepth {
		return "", fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return "dynamic(" + string(escapeDEL(b)) + ")", nil
}

// escapeDEL escapes the control characters that JSON leaves alone.
func escapeDEL(b []byte) []byte {
	if bytes.IndexByte(b, 0x7f) < 0 && !bytes.Contains(b, []byte("\u0085")) {
		return b
	}
	b = bytes.ReplaceAll(b, []byte{0x7f}, []byte(`\u007f`))
	return bytes.ReplaceAll(b, []byte("\u0085"), []byte(`\u0085`))
}

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	case []any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	default:
		return 0
	}
	return deepest + 1
}

// quote writes a string literal. What KQL has no escape for cannot end a literal either, except line ends, which are
// escaped; a NUL is refused because the service cuts the text there.
func quote(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == 0:
			return "", errors.New("a NUL character cannot be bound")
		case r < 0x20 || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String(), nil
}
