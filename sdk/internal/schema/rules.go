package schema

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// rules are what tags demand of a value beyond its type.
type rules struct {
	min, max             float64
	minLen, maxLen       int
	hasMin, hasMax       bool
	hasMinLen, hasMaxLen bool
	format               string
	enum                 []string
	pattern              *regexp.Regexp
}

var formats = map[string]func(string) error{
	"uri": func(s string) error {
		u, err := url.Parse(s)
		if err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" {
			return errors.New("must be a URL with scheme and host, such as https://example.com")
		}
		return nil
	},
	"email": func(s string) error {
		a, err := mail.ParseAddress(s)
		if err != nil || a.Address != s {
			return errors.New("must be an e-mail address, such as jane@example.com")
		}
		return nil
	},
	"date-time": func(s string) error {
		if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
			return errors.New("must be a time such as 2026-01-31T08:00:00Z")
		}
		return nil
	},
}

// parseRules reads the tags of one field.
func parseRules(tag reflect.StructTag, f *field) (rules, error) {
	var r rules
	var err error
	for opt := range strings.SplitSeq(tag.Get("cw"), ",") {
		key, val, hasVal := strings.Cut(strings.TrimSpace(opt), "=")
		switch key {
		case "":
			continue
		case "required", "advanced":
			if hasVal {
				return r, fmt.Errorf("cw:%q takes no value", key)
			}
			f.required = f.required || key == "required"
			f.advanced = f.advanced || key == "advanced"
			continue
		case "min":
			r.hasMin = true
			r.min, err = strconv.ParseFloat(val, 64)
		case "max":
			r.hasMax = true
			r.max, err = strconv.ParseFloat(val, 64)
		case "minlen":
			r.hasMinLen = true
			r.minLen, err = strconv.Atoi(val)
		case "maxlen":
			r.hasMaxLen = true
			r.maxLen, err = strconv.Atoi(val)
		case "format":
			r.format = val
			if _, ok := formats[val]; !ok {
				return r, fmt.Errorf("cw format %q is unknown; use uri, email or date-time", val)
			}
		default:
			return r, fmt.Errorf("cw option %q is unknown; use required, advanced, min, max, minlen, maxlen or format", opt)
		}
		if err != nil {
			return r, fmt.Errorf("cw option %q needs a number", opt)
		}
	}
	if e, ok := tag.Lookup("enum"); ok {
		for v := range strings.SplitSeq(e, ",") {
			r.enum = append(r.enum, strings.TrimSpace(v))
		}
	}
	if p, ok := tag.Lookup("pattern"); ok {
		if r.pattern, err = regexp.Compile(p); err != nil {
			return r, fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	if r.hasMin && r.hasMax && r.min > r.max {
		return r, fmt.Errorf("min=%v is over max=%v", r.min, r.max)
	}
	if r.hasMinLen && r.hasMaxLen && r.minLen > r.maxLen {
		return r, fmt.Errorf("minlen=%d is over maxlen=%d", r.minLen, r.maxLen)
	}
	return r, nil
}

// items are the rules that go from a list or map to what is in it; list are the ones that stay.
func (r rules) items() rules {
	r.hasMinLen, r.hasMaxLen, r.minLen, r.maxLen = false, false, 0, 0
	return r
}

func (r rules) list() rules {
	return rules{hasMinLen: r.hasMinLen, hasMaxLen: r.hasMaxLen, minLen: r.minLen, maxLen: r.maxLen}
}

// fits says whether the rules make sense for the node.
func (r rules) fits(n *node, at string) error {
	number := n.kind == kindInt || n.kind == kindUint || n.kind == kindFloat
	text := n.kind == kindString
	switch {
	case (r.hasMin || r.hasMax) && !number && n.kind != kindMap:
		return fmt.Errorf("%s: min and max are for numbers; use minlen and maxlen for text and lists", at)
	case (r.hasMinLen || r.hasMaxLen) && !text && n.kind != kindList && n.kind != kindSecret:
		return fmt.Errorf("%s: minlen and maxlen are for text and lists; use min and max for numbers", at)
	case (r.pattern != nil || r.format != "") && !text && n.kind != kindMap:
		return fmt.Errorf("%s: pattern and format are for text", at)
	case r.enum != nil && !text && !number && n.kind != kindMap:
		return fmt.Errorf("%s: enum is for text and numbers", at)
	}
	if number {
		for _, e := range r.enum {
			if _, err := strconv.ParseFloat(e, 64); err != nil {
				return fmt.Errorf("%s: enum value %q is no number", at, e)
			}
		}
	}
	return nil
}

// text checks a string and returns what is wrong, or nothing.
func (r *rules) text(s string) string {
	if r.hasMinLen || r.hasMaxLen {
		if why := r.length(utf8.RuneCountInString(s), "characters"); why != "" {
			return why
		}
	}
	if r.enum != nil && !slices.Contains(r.enum, s) {
		why := "must be one of " + strings.Join(r.enum, ", ") + "; got " + quote(s)
		if near := nearest(s, slices.Values(r.enum)); near != "" {
			why += fmt.Sprintf("; did you mean %q?", near)
		}
		return why
	}
	if r.pattern != nil && !r.pattern.MatchString(s) {
		return "must match " + r.pattern.String() + "; got " + quote(s)
	}
	if r.format != "" {
		if err := formats[r.format](s); err != nil {
			return err.Error() + "; got " + quote(s)
		}
	}
	return ""
}

func (r *rules) length(n int, unit string) string {
	switch {
	case r.hasMinLen && n < r.minLen && r.minLen == 1:
		return "must not be empty"
	case r.hasMinLen && n < r.minLen:
		return fmt.Sprintf("must have at least %d %s, has %d", r.minLen, unit, n)
	case r.hasMaxLen && n > r.maxLen:
		return fmt.Sprintf("must have at most %d %s, has %d", r.maxLen, unit, n)
	}
	return ""
}

func (r *rules) number(f float64, raw string) string {
	switch {
	case r.hasMin && f < r.min:
		return "must be at least " + number(r.min) + ", got " + quoteRaw(raw)
	case r.hasMax && f > r.max:
		return "must be at most " + number(r.max) + ", got " + quoteRaw(raw)
	case r.enum != nil && !slices.ContainsFunc(r.enum, func(e string) bool { v, _ := strconv.ParseFloat(e, 64); return v == f }):
		return "must be one of " + strings.Join(r.enum, ", ") + "; got " + quoteRaw(raw)
	}
	return ""
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// quote shows a value in a message, clipped: an input can be megabytes.
func quote(s string) string { return strconv.Quote(clip(s)) }

func quoteRaw(s string) string { return clip(s) }

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
