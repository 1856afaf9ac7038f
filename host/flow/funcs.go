package flow

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/casewire/casewire/host/internal/yamldoc"
)

// maxResult is the largest value, in bytes as JSON or so, that an expression may make.
const maxResult = 16 << 20

var errTooLarge = fmt.Errorf("the result is larger than %d MiB", maxResult>>20)

// helpers are the functions that expressions have beyond those of expr-lang, or instead of them: with a cap on what they
// make, in a fixed order where Go's maps have none, and never with a clock.
var helpers = map[string]func(args ...any) (any, error){
	"ago":      fnAgo,
	"concat":   fnConcat,
	"default":  fnDefault,
	"defang":   func(a ...any) (any, error) { return onText(a, defang) },
	"dur":      fnDur,
	"fromjson": fnFromJSON,
	"hash":     fnHash,
	"join":     fnJoin,
	"json":     func(a ...any) (any, error) { return jsonText(a[0]) },
	"keys":     fnKeys,
	"lower":    func(a ...any) (any, error) { return onText(a, strings.ToLower) },
	"md":       func(a ...any) (any, error) { return onText(a, escapeMarkdown) },
	"replace":  fnReplace,
	"split":    fnSplit,
	"string":   func(a ...any) (any, error) { return text(a[0]) },
	"trim":     func(a ...any) (any, error) { return onText(a, strings.TrimSpace) },
	"truncate": fnTruncate,
	"uniq":     fnUniq,
	"upper":    func(a ...any) (any, error) { return onText(a, strings.ToUpper) },
	"values":   fnValues,
	fnAt:       fnIndex,
	fnTick:     tick,
}

// Functions that the checker writes into programs; nobody can type their names.
const (
	fnAt      = "__at"
	fnTick    = "__tick"
	varBudget = "__budget"
)

// onText applies fn to a string. Null stays null, so that a missing value does not turn into text.
func onText(args []any, fn func(string) string) (any, error) {
	s, err := text(args[0])
	if err != nil {
		return nil, err
	}
	return fn(s), nil
}

// text is how a value looks inside a string: null is nothing, lists and maps are JSON.
func text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return number(v)
	case json.Number:
		return v.String(), nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case time.Duration:
		return v.String(), nil
	}
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.Pointer:
		if rv.IsNil() {
			return "", nil
		}
		return text(rv.Elem().Interface())
	case reflect.String:
		return rv.String(), nil
	}
	return jsonText(v)
}

func number(f float64) (string, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return "", fmt.Errorf("%v has no form in JSON", f)
	}
	b, err := json.Marshal(f)
	return string(b), err
}

func jsonText(v any) (string, error) {
	v, err := plain(v)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// Decode reads JSON as flows see it: integers are int as long as they fit, so that ids keep their digits; larger ones
// are json.Number.
func Decode(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("more than one JSON value")
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := strconv.Atoi(v.String()); err == nil {
			return i
		}
		if strings.ContainsAny(v.String(), ".eE") {
			if f, err := v.Float64(); err == nil {
				return f
			}
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

func fnFromJSON(args ...any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("fromjson wants a string, not %s", nameOf(args[0]))
	}
	v, err := Decode([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("fromjson: %w", err)
	}
	return v, nil
}

func fnHash(args ...any) (any, error) {
	s, err := text(args[0])
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:]), nil
}

func fnDefault(args ...any) (any, error) {
	switch v := args[0].(type) {
	case nil:
		return args[1], nil
	case string:
		if v == "" {
			return args[1], nil
		}
	default:
		switch rv := reflect.ValueOf(v); rv.Kind() {
		case reflect.Slice, reflect.Map:
			if rv.Len() == 0 {
				return args[1], nil
			}
		case reflect.Pointer:
			if rv.IsNil() {
				return args[1], nil
			}
		}
	}
	return args[0], nil
}

func fnDur(args ...any) (any, error) {
	s, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("dur wants a string such as \"24h\", not %s", nameOf(args[0]))
	}
	return yamldoc.ParseDuration(s)
}

// fnAgo is ago("24h", event.time): a flow has no clock of its own, so that a replay sees what the first run saw.
func fnAgo(args ...any) (any, error) {
	d, ok := args[0].(time.Duration)
	if s, isText := args[0].(string); isText {
		var err error
		if d, err = yamldoc.ParseDuration(s); err != nil {
			return nil, err
		}
		ok = true
	}
	t, isTime := args[1].(time.Time)
	if !ok || !isTime {
		return nil, fmt.Errorf("ago wants a duration and a time, not %s and %s", nameOf(args[0]), nameOf(args[1]))
	}
	return t.Add(-d), nil
}

func fnTruncate(args ...any) (any, error) {
	s, err := text(args[0])
	if err != nil {
		return nil, err
	}
	n, ok := args[1].(int)
	if !ok || n < 1 {
		return nil, fmt.Errorf("truncate wants a length of at least 1, not %v", args[1])
	}
	if utf8.RuneCountInString(s) <= n {
		return s, nil
	}
	return string([]rune(s)[:n-1]) + "…", nil
}

// defang makes an address that nobody clicks by accident.
func defang(s string) string {
	for _, scheme := range []string{"http", "ftp"} {
		if len(s) > len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			s = strings.NewReplacer("ttp", "xxp", "TTP", "XXP", "ftp", "fxp", "FTP", "FXP").Replace(s[:len(scheme)]) + s[len(scheme):]
			break
		}
	}
	s = strings.NewReplacer("[.]", ".", "[:]", ":", "[@]", "@").Replace(s)
	s = strings.Replace(s, "://", "[:]//", 1)
	return strings.NewReplacer(".", "[.]", "@", "[@]").Replace(s)
}

var markdown = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "{", `\{`, "}", `\}`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;",
	"#", `\#`, "|", `\|`, "!", `\!`, "~", `\~`, "&", "&amp;",
)

// escapeMarkdown keeps text from being read as markup, and from breaking out of a table's row or a list's item.
func escapeMarkdown(s string) string {
	return markdown.Replace(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " "))
}

func fnReplace(args ...any) (any, error) {
	var s [3]string
	for i := range s {
		var err error
		if s[i], err = text(args[i]); err != nil {
			return nil, err
		}
	}
	if grow := len(s[2]) - len(s[1]); grow > 0 && strings.Count(s[0], s[1])*grow+len(s[0]) > maxResult {
		return nil, errTooLarge
	}
	return strings.ReplaceAll(s[0], s[1], s[2]), nil
}

func fnSplit(args ...any) (any, error) {
	s, err := text(args[0])
	if err != nil {
		return nil, err
	}
	sep, ok := args[1].(string)
	if !ok || sep == "" {
		return nil, errors.New("split wants a separator that is not empty")
	}
	parts := strings.Split(s, sep)
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out, nil
}

func fnJoin(args ...any) (any, error) {
	list, err := asList("join", args[0])
	if err != nil {
		return nil, err
	}
	sep := ", "
	if len(args) > 1 {
		if sep, err = text(args[1]); err != nil {
			return nil, err
		}
	}
	var b strings.Builder
	for i, item := range list {
		s, err := text(item)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(sep)
		}
		if b.WriteString(s); b.Len() > maxResult {
			return nil, errTooLarge
		}
	}
	return b.String(), nil
}

// fnUniq keeps the first of equal items, and their order.
func fnUniq(args ...any) (any, error) {
	list, err := asList("uniq", args[0])
	if err != nil {
		return nil, err
	}
	seen := make(map[any]bool, len(list))
	out := make([]any, 0, len(list))
	for _, item := range list {
		key := item
		switch item.(type) {
		case nil, string, bool, int, float64:
		default:
			s, err := jsonText(item)
			if err != nil {
				return nil, err
			}
			key = [1]string{s} // not to be confused with a string
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, item)
		}
	}
	return out, nil
}

func fnConcat(args ...any) (any, error) {
	out := []any{}
	for _, arg := range args {
		list, err := asList("concat", arg)
		if err != nil {
			return nil, err
		}
		if out = append(out, list...); len(out) > maxResult/16 {
			return nil, errTooLarge
		}
	}
	return out, nil
}

func fnKeys(args ...any) (any, error) {
	m := reflect.ValueOf(args[0])
	if m.Kind() != reflect.Map {
		return nil, fmt.Errorf("keys wants a map, not %s", nameOf(args[0]))
	}
	out := make([]any, 0, m.Len())
	for _, k := range sortedKeys(m) {
		out = append(out, k)
	}
	return out, nil
}

func fnValues(args ...any) (any, error) {
	m := reflect.ValueOf(args[0])
	if m.Kind() != reflect.Map {
		return nil, fmt.Errorf("values wants a map, not %s", nameOf(args[0]))
	}
	out := make([]any, 0, m.Len())
	for _, k := range sortedKeys(m) {
		out = append(out, m.MapIndex(reflect.ValueOf(k)).Interface())
	}
	return out, nil
}

func sortedKeys(m reflect.Value) []string {
	keys := make([]string, 0, m.Len())
	for _, k := range m.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}

// fnIndex is list[i]: beyond the end there is nothing, rather than an error in the middle of a run.
func fnIndex(args ...any) (any, error) {
	if args[0] == nil {
		return nil, nil
	}
	i, ok := args[1].(int)
	v := reflect.ValueOf(args[0])
	if !ok || v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return nil, fmt.Errorf("cannot take %v of %s", args[1], nameOf(args[0]))
	}
	if i < 0 {
		i += v.Len()
	}
	if i < 0 || i >= v.Len() {
		return nil, nil
	}
	return v.Index(i).Interface(), nil
}

func asList(fn string, v any) ([]any, error) {
	if list, ok := v.([]any); ok {
		return list, nil
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice && rv.Kind() != reflect.Array {
		return nil, fmt.Errorf("%s wants a list, not %s", fn, nameOf(v))
	}
	list := make([]any, rv.Len())
	for i := range list {
		list[i] = rv.Index(i).Interface()
	}
	return list, nil
}

// nameOf says what a value is without showing it.
func nameOf(v any) string {
	if v == nil {
		return "null"
	}
	t := fromGo(reflect.TypeOf(v), "")
	if t.kind == kAny {
		return reflect.TypeOf(v).String()
	}
	return t.String()
}

// maxTicks bounds nested loops: a few hundred milliseconds of work.
const maxTicks = 2_000_000

func tick(args ...any) (any, error) {
	left, ok := args[0].(*int)
	if !ok {
		return true, nil
	}
	*left--
	if *left < 0 {
		return nil, fmt.Errorf("more than %d rounds of nested loops; do it in steps, or in the query", maxTicks)
	}
	return true, nil
}

// plain makes v what encoding/json writes as people expect: durations as text, no NaN, nil slices as empty lists; and
// refuses what is too large. Nothing is copied unless it must be.
func plain(v any) (any, error) {
	left := maxResult
	fix, err := weigh(v, &left, 0)
	if err != nil || !fix {
		return v, err
	}
	return repair(v), nil
}

func weigh(v any, left *int, depth int) (fix bool, err error) {
	if depth > 200 {
		return false, errors.New("the result is nested more than 200 deep")
	}
	*left -= 8
	switch v := v.(type) {
	case nil, bool, int, int64, json.Number, time.Time:
	case string:
		*left -= len(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false, fmt.Errorf("%v has no form in JSON; was something divided by zero?", v)
		}
	case []any:
		fix = v == nil
		for _, item := range v {
			f, err := weigh(item, left, depth+1)
			if err != nil {
				return false, err
			}
			fix = fix || f
		}
	case map[string]any:
		for k, item := range v {
			*left -= len(k)
			f, err := weigh(item, left, depth+1)
			if err != nil {
				return false, err
			}
			fix = fix || f
		}
	case []string:
		fix = v == nil
		for _, s := range v {
			*left -= len(s) + 4
		}
	case time.Duration:
		return true, nil
	default:
		rv := reflect.ValueOf(v)
		switch rv.Kind() {
		case reflect.Slice, reflect.Pointer, reflect.Map:
			fix = rv.IsNil()
		case reflect.Func, reflect.Chan:
			return false, errors.New("a function is not a value; call it with ( )")
		}
	}
	if *left < 0 {
		return false, errTooLarge
	}
	return fix, nil
}

func repair(v any) any {
	switch v := v.(type) {
	case time.Duration:
		return v.String()
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = repair(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[k] = repair(item)
		}
		return out
	}
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.Slice:
		if rv.IsNil() {
			return []any{}
		}
	case reflect.Map:
		if rv.IsNil() {
			return map[string]any{}
		}
	case reflect.Pointer:
		if rv.IsNil() {
			return nil
		}
	}
	return v
}
