package loganalytics

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

var (
	paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	guidForm  = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	spanForm  = regexp.MustCompile(`^-?(\d+(\.\d+)?(d|h|m|s|ms|microseconds?|ticks?)|(\d+\.)?\d{1,2}:\d{2}(:\d{2}(\.\d{1,7})?)?)$`)
	decForm   = regexp.MustCompile(`^-?\d+(\.\d+)?$`)
)

// bind puts parameters in front of a query as let statements. A value can be nothing but one literal, whatever it holds.
// https://learn.microsoft.com/kusto/query/scalar-data-types.
func bind(query string, params map[string]any) (string, error) {
	if len(params) == 0 {
		return query, nil
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !paramName.MatchString(name) {
			return "", sdk.Invalid("params", "%q is no name for a parameter: use letters, digits and underscores", name)
		}
		lit, err := literal(params[name])
		if err != nil {
			return "", sdk.Invalid("params."+name, "%v", err)
		}
		b.WriteString("let " + name + " = " + lit + ";\n")
	}
	b.WriteString(query)
	return b.String(), nil
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
	if f, err := strconv.ParseFloat(s, 64); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return "", fmt.Errorf("%q is no number that KQL can hold", s)
	}
	return "real(" + s + ")", nil
}

// typed writes a literal of a named type, and only if the value has that type's form.
func typed(typ string, val any) (string, error) {
	s := fmt.Sprint(val)
	switch typ {
	case "string":
		return quote(s)
	case "datetime":
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return "", fmt.Errorf("%q is no RFC 3339 time", s)
		}
		return "datetime(" + t.UTC().Format("2006-01-02T15:04:05.9999999Z") + ")", nil
	case "timespan":
		if !spanForm.MatchString(s) {
			return "", fmt.Errorf("%q is no timespan such as 1h, 30m or 1.02:03:04", s)
		}
		return "time(" + s + ")", nil
	case "guid":
		if !guidForm.MatchString(s) {
			return "", fmt.Errorf("%q is no GUID", s)
		}
		return "guid(" + s + ")", nil
	case "long", "int":
		n, ok := new(big.Int).SetString(s, 10)
		bits := map[string]int{"long": 64, "int": 32}[typ]
		if !ok || n.BitLen() > bits-1 {
			return "", fmt.Errorf("%q does not fit %s", s, typ)
		}
		return typ + "(" + n.String() + ")", nil
	case "real":
		return number(s)
	case "decimal":
		if !decForm.MatchString(s) {
			return "", fmt.Errorf("%q is no decimal", s)
		}
		return "decimal(" + s + ")", nil
	case "bool":
		if s != "true" && s != "false" {
			return "", fmt.Errorf("%q is no bool", s)
		}
		return s, nil
	case "dynamic":
		return dynamic(val)
	default:
		return "", fmt.Errorf("type %q is not known; use string, datetime, timespan, guid, long, int, real, decimal, bool or dynamic", typ)
	}
}

// dynamic writes a list or an object through parse_json of a quoted string: only one quoting rule has to hold.
func dynamic(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	s, err := quote(string(b))
	if err != nil {
		return "", err
	}
	return "parse_json(" + s + ")", nil
}

// quote writes a string literal. What KQL has no escape for cannot end a literal either, except line ends, which are
// escaped; a NUL is refused because the service cuts the text there.
func quote(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for _, r := range s {
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
