package azurefake

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// filter is a parsed $filter: comparisons of filterable properties with literals, joined by and, or and not.
type filter struct {
	match func(*version) bool
	// since and until bound lastUpdateDateTime (inclusive) as far as the top-level conjunction says so; zero if not.
	since, until time.Time
}

var errTooDeep = errors.New("the filter is nested too deeply")

func parseFilter(src string) (*filter, error) {
	f := &filter{match: func(*version) bool { return true }}
	if strings.TrimSpace(src) == "" {
		return f, nil
	}
	p := &filterParser{src: src}
	p.next()
	match, bound, err := p.or(0)
	if err != nil {
		return nil, fmt.Errorf("invalid filter clause: %w", err)
	}
	if p.tok != "" {
		return nil, fmt.Errorf("invalid filter clause: unexpected %q", p.tok)
	}
	f.match, f.since, f.until = match, bound.since, bound.until
	return f, nil
}

type bounds struct{ since, until time.Time }

func (b bounds) and(c bounds) bounds {
	if c.since.After(b.since) {
		b.since = c.since
	}
	if !c.until.IsZero() && (b.until.IsZero() || c.until.Before(b.until)) {
		b.until = c.until
	}
	return b
}

type predicate = func(*version) bool

type filterParser struct {
	src, tok string
	literal  bool // tok was quoted
}

// next reads a token: a parenthesis or comma, a quoted string (doubled quotes stand for one), or a word.
func (p *filterParser) next() {
	p.src = strings.TrimLeft(p.src, " \t\r\n")
	p.tok, p.literal = "", false
	if p.src == "" {
		return
	}
	switch c := p.src[0]; c {
	case '(', ')', ',':
		p.tok, p.src = p.src[:1], p.src[1:]
	case '\'':
		var b strings.Builder
		rest := p.src[1:]
		for {
			i := strings.IndexByte(rest, '\'')
			if i < 0 { // unterminated: leave it as a word that matches nothing
				p.tok, p.src = p.src, ""
				return
			}
			b.WriteString(rest[:i])
			rest = rest[i+1:]
			if !strings.HasPrefix(rest, "'") {
				break
			}
			b.WriteByte('\'')
			rest = rest[1:]
		}
		p.tok, p.src, p.literal = "'"+b.String(), rest, true
	default:
		i := strings.IndexAny(p.src, " \t\r\n(),'")
		if i < 0 {
			i = len(p.src)
		}
		p.tok, p.src = p.src[:i], p.src[i:]
	}
}

func (p *filterParser) or(depth int) (predicate, bounds, error) {
	left, bound, err := p.and(depth)
	for err == nil && p.tok == "or" {
		p.next()
		var right predicate
		if right, _, err = p.and(depth); err == nil {
			l := left
			left, bound = func(v *version) bool { return l(v) || right(v) }, bounds{}
		}
	}
	return left, bound, err
}

func (p *filterParser) and(depth int) (predicate, bounds, error) {
	left, bound, err := p.unary(depth)
	for err == nil && p.tok == "and" {
		p.next()
		var right predicate
		var more bounds
		if right, more, err = p.unary(depth); err == nil {
			l := left
			left, bound = func(v *version) bool { return l(v) && right(v) }, bound.and(more)
		}
	}
	return left, bound, err
}

func (p *filterParser) unary(depth int) (predicate, bounds, error) {
	if depth > 32 {
		return nil, bounds{}, errTooDeep
	}
	switch p.tok {
	case "not":
		p.next()
		inner, _, err := p.unary(depth + 1)
		if err != nil {
			return nil, bounds{}, err
		}
		return func(v *version) bool { return !inner(v) }, bounds{}, nil
	case "(":
		p.next()
		inner, bound, err := p.or(depth + 1)
		if err != nil {
			return nil, bounds{}, err
		}
		if p.tok != ")" {
			return nil, bounds{}, fmt.Errorf("expected ) instead of %q", p.tok)
		}
		p.next()
		return inner, bound, nil
	}
	return p.comparison()
}

func (p *filterParser) comparison() (predicate, bounds, error) {
	name := p.tok
	p.next()
	op := p.tok
	p.next()
	if name == "createdDateTime" || name == "lastUpdateDateTime" {
		return p.times(name, op)
	}
	i := slices.Index(filterable[:], name)
	if i < 0 {
		return nil, bounds{}, fmt.Errorf("property %q cannot be filtered by", name)
	}
	if op == "in" {
		return p.in(i)
	}
	want, ok := strings.CutPrefix(p.tok, "'")
	isNull := p.tok == "null" && !p.literal
	if !isNull && (!ok || !p.literal) {
		return nil, bounds{}, fmt.Errorf("expected a quoted value after %s %s", name, op)
	}
	if isNull {
		want = ""
	}
	p.next()
	switch op {
	case "eq":
		return func(v *version) bool { return v.props[i] == want }, bounds{}, nil
	case "ne":
		return func(v *version) bool { return v.props[i] != want }, bounds{}, nil
	}
	return nil, bounds{}, fmt.Errorf("operator %q does not apply to %s", op, name)
}

func (p *filterParser) in(i int) (predicate, bounds, error) {
	if p.tok != "(" {
		return nil, bounds{}, errors.New("expected ( after in")
	}
	var list []string
	for {
		p.next()
		if !p.literal {
			return nil, bounds{}, errors.New("expected a quoted value in the list")
		}
		list = append(list, p.tok[1:])
		p.next()
		if p.tok == ")" {
			p.next()
			return func(v *version) bool { return slices.Contains(list, v.props[i]) }, bounds{}, nil
		}
		if p.tok != "," {
			return nil, bounds{}, errors.New("expected , or ) in the list")
		}
	}
}

func (p *filterParser) times(name, op string) (predicate, bounds, error) {
	at, err := time.Parse(time.RFC3339Nano, p.tok)
	if err != nil || p.literal {
		return nil, bounds{}, fmt.Errorf("expected an unquoted time after %s %s", name, op)
	}
	p.next()
	var pass func(int) bool
	var b bounds
	switch op {
	case "ge", "gt":
		pass, b.since = func(c int) bool { return c > 0 || c == 0 && op == "ge" }, at
	case "le", "lt":
		pass, b.until = func(c int) bool { return c < 0 || c == 0 && op == "le" }, at
	case "eq":
		pass, b = func(c int) bool { return c == 0 }, bounds{at, at}
	case "ne":
		pass = func(c int) bool { return c != 0 }
	default:
		return nil, bounds{}, fmt.Errorf("unknown operator %q", op)
	}
	if name == "createdDateTime" {
		return func(v *version) bool { return pass(v.created.Compare(at)) }, bounds{}, nil
	}
	return func(v *version) bool { return pass(v.updated.Compare(at)) }, b, nil
}

// within returns the part of the update index that a filter's bounds leave.
func (st *store) within(f *filter) []*version {
	list := st.byUpdated
	if !f.since.IsZero() {
		i, _ := slices.BinarySearchFunc(list, f.since, func(v *version, at time.Time) int {
			return cmp.Or(v.updated.Compare(at), 1) // before the first of equals
		})
		list = list[i:]
	}
	if !f.until.IsZero() {
		i, _ := slices.BinarySearchFunc(list, f.until, func(v *version, at time.Time) int {
			return cmp.Or(v.updated.Compare(at), -1) // behind the last of equals
		})
		list = list[:i]
	}
	return list
}
