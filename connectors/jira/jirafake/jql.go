package jirafake

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// query is a parsed JQL query with what helps to find candidates quickly.
type query struct {
	match   func(*entry) bool
	bounded bool
	order   []order

	label string    // every match has this label
	refs  []string  // every match is one of these (ids or keys); nil if not known
	since time.Time // every match was updated at or after this time
}

// jqlError is a complaint in Jira's words, which begin with a capital and end with a period.
type jqlError string

func (e jqlError) Error() string { return string(e) }

func complain(format string, args ...any) error { return jqlError(fmt.Sprintf(format, args...)) }

type order struct {
	field string
	desc  bool
}

// clause is a parsed condition; the hints hold for every entry that it matches.
type clause struct {
	match func(*entry) bool
	label string
	refs  []string
	since time.Time
}

type jqlParser struct {
	s      *Server
	src    string
	tok    string
	quoted bool
	now    time.Time
}

// parseJQL parses a query; the caller holds the lock, because the values in a query must exist.
func (s *Server) parseJQL(src string) (*query, error) {
	p := &jqlParser{s: s, src: src, now: s.opt.Now().UTC()}
	q := &query{match: func(*entry) bool { return true }}
	p.next()
	if p.tok != "" && !p.word("ORDER") {
		c, err := p.or(0)
		if err != nil {
			return nil, err
		}
		q.match, q.bounded, q.label, q.refs, q.since = c.match, true, c.label, c.refs, c.since
	}
	if p.word("ORDER") {
		p.next()
		if !p.word("BY") {
			return nil, p.unexpected("'by'")
		}
		if err := p.orderBy(q); err != nil {
			return nil, err
		}
	}
	if p.tok != "" {
		return nil, p.unexpected("the end of the query")
	}
	return q, nil
}

func (p *jqlParser) unexpected(want string) error {
	got := "'" + p.tok + "'"
	if p.tok == "" {
		got = "the end of the query"
	}
	return complain("Error in the JQL Query: Expecting %s but got %s.", want, got)
}

func (p *jqlParser) word(w string) bool { return !p.quoted && strings.EqualFold(p.tok, w) }

// next reads a token: a quoted string, an operator, a bracket or comma, or a word.
func (p *jqlParser) next() {
	p.src = strings.TrimLeft(p.src, " \t\r\n")
	p.tok, p.quoted = "", false
	if p.src == "" {
		return
	}
	switch c := p.src[0]; {
	case c == '"' || c == '\'':
		var b strings.Builder
		for i := 1; i < len(p.src); i++ {
			switch {
			case p.src[i] == '\\' && i+1 < len(p.src):
				i++
				b.WriteByte(p.src[i])
			case p.src[i] == c:
				p.tok, p.src, p.quoted = b.String(), p.src[i+1:], true
				return
			default:
				b.WriteByte(p.src[i])
			}
		}
		p.tok, p.src = p.src, "" // unterminated: a word that fits nowhere
	case strings.IndexByte("(),", c) >= 0:
		p.tok, p.src = p.src[:1], p.src[1:]
	case strings.IndexByte("=!<>~", c) >= 0:
		n := 1
		if len(p.src) > 1 && (p.src[1] == '=' || c == '!' && p.src[1] == '~') {
			n = 2
		}
		p.tok, p.src = p.src[:n], p.src[n:]
	default:
		n := strings.IndexAny(p.src, " \t\r\n(),=!<>~'\"")
		if n < 0 {
			n = len(p.src)
		}
		p.tok, p.src = p.src[:n], p.src[n:]
	}
}

func (p *jqlParser) orderBy(q *query) error {
	for {
		p.next()
		field := strings.ToLower(p.tok)
		if !slices.Contains([]string{"created", "updated", "key", "id", "issuekey", "priority"}, field) {
			return complain("Not able to sort using field '%s'.", p.tok)
		}
		o := order{field: field, desc: field == "created" || field == "updated"}
		p.next()
		if p.word("ASC") || p.word("DESC") {
			o.desc = p.word("DESC")
			p.next()
		}
		q.order = append(q.order, o)
		if p.tok != "," {
			if len(q.order) > 7 {
				return complain("The ORDER BY clause must not hold more than 7 fields.")
			}
			return nil
		}
	}
}

func (p *jqlParser) or(depth int) (clause, error) {
	left, err := p.and(depth)
	for err == nil && p.word("OR") {
		p.next()
		var right clause
		if right, err = p.and(depth); err == nil {
			a, b := left.match, right.match
			left = clause{match: func(e *entry) bool { return a(e) || b(e) }}
		}
	}
	return left, err
}

func (p *jqlParser) and(depth int) (clause, error) {
	left, err := p.unary(depth)
	for err == nil && p.word("AND") {
		p.next()
		var right clause
		if right, err = p.unary(depth); err == nil {
			a, b := left.match, right.match
			left.match = func(e *entry) bool { return a(e) && b(e) }
			if left.label == "" {
				left.label = right.label
			}
			if left.refs == nil {
				left.refs = right.refs
			}
			if right.since.After(left.since) {
				left.since = right.since
			}
		}
	}
	return left, err
}

func (p *jqlParser) unary(depth int) (clause, error) {
	if depth > 32 {
		return clause{}, complain("Error in the JQL Query: it is nested too deeply.")
	}
	switch {
	case p.word("NOT") || p.word("!"):
		p.next()
		c, err := p.unary(depth + 1)
		if err != nil {
			return c, err
		}
		inner := c.match
		return clause{match: func(e *entry) bool { return !inner(e) }}, nil
	case p.word("("):
		p.next()
		c, err := p.or(depth + 1)
		if err == nil && !p.word(")") {
			err = p.unexpected("')'")
		}
		p.next()
		return c, err
	}
	return p.condition()
}

// condition parses field, operator and operand.
func (p *jqlParser) condition() (clause, error) {
	field := strings.ToLower(p.tok)
	if field == "" || strings.ContainsAny(p.tok, "()=!<>~,") && !p.quoted {
		return clause{}, p.unexpected("a field name")
	}
	p.next()
	op := strings.ToLower(p.tok)
	p.next()
	switch op {
	case "is":
		if p.word("NOT") {
			op = "is not"
			p.next()
		}
		if !p.word("EMPTY") && !p.word("NULL") {
			return clause{}, p.unexpected("EMPTY or NULL")
		}
		p.next()
		return p.empty(field, op == "is")
	case "not":
		if !p.word("IN") {
			return clause{}, p.unexpected("IN")
		}
		op = "not in"
		p.next()
	case "=", "!=", "<", "<=", ">", ">=", "~", "!~", "in":
	default:
		return clause{}, complain("Error in the JQL Query: Expecting an operator but got '%s'.", op)
	}
	values, err := p.operand(op == "in" || op == "not in")
	if err != nil {
		return clause{}, err
	}
	return p.compare(field, op, values)
}

// operand reads a value or a list of values; functions come back as name(argument).
func (p *jqlParser) operand(isList bool) ([]string, error) {
	if !isList || !p.word("(") {
		v, err := p.value()
		return []string{v}, err
	}
	var values []string
	for {
		p.next()
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if p.word(")") {
			p.next()
			return values, nil
		}
		if !p.word(",") {
			return nil, p.unexpected("',' or ')'")
		}
	}
}

func (p *jqlParser) value() (string, error) {
	if !p.quoted && (p.tok == "" || strings.ContainsAny(p.tok, "()=!<>~,'\"")) {
		return "", p.unexpected("a value")
	}
	v, quoted := p.tok, p.quoted
	p.next()
	if quoted || !p.word("(") {
		return v, nil
	}
	p.next()
	arg := ""
	if !p.word(")") {
		arg = p.tok
		p.next()
	}
	if !p.word(")") {
		return "", p.unexpected("')'")
	}
	p.next()
	return v + "(" + arg + ")", nil
}

func (p *jqlParser) empty(field string, want bool) (clause, error) {
	var is func(*entry) bool
	switch field {
	case "labels":
		is = func(e *entry) bool { return len(e.labels) == 0 }
	case "assignee":
		is = func(e *entry) bool { return e.assignee == nil }
	case "resolution":
		is = func(e *entry) bool { return e.resolution == "" }
	default:
		return clause{}, unknownField(field)
	}
	return clause{match: func(e *entry) bool { return is(e) == want }}, nil
}

func unknownField(field string) error {
	return complain("Field '%s' does not exist or you do not have permission to view it.", field)
}

func unknownValue(value, field string) error {
	return complain("The value '%s' does not exist for the field '%s'.", value, field)
}

func badOperator(op, field string) error {
	return complain("The operator '%s' is not supported by the '%s' field.", op, field)
}

func (p *jqlParser) compare(field, op string, values []string) (clause, error) {
	switch field {
	case "updated", "updateddate", "created", "createddate":
		return p.dates(field, op, values)
	case "description":
		if op != "~" && op != "!~" {
			return clause{}, badOperator(op, field)
		}
		word := strings.ToLower(strings.Trim(values[0], `"`))
		return clause{match: func(e *entry) bool {
			return slices.Contains(strings.FieldsFunc(strings.ToLower(e.description), func(r rune) bool {
				return !unicode.IsLetter(r) && !unicode.IsDigit(r)
			}), word) == (op == "~")
		}}, nil
	case "summary", "text":
		if op != "~" && op != "!~" {
			return clause{}, badOperator(op, field)
		}
		words := strings.Fields(strings.ToLower(strings.Trim(values[0], `"*`)))
		return clause{match: func(e *entry) bool {
			summary := strings.ToLower(e.summary)
			all := !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(summary, w) })
			return all == (op == "~")
		}}, nil
	case "key", "issuekey", "id", "issue":
		return p.keys(field, op, values)
	}
	if !slices.Contains([]string{"=", "!=", "in", "not in"}, op) {
		return clause{}, badOperator(op, field)
	}
	get, err := p.getter(field, values)
	if err != nil {
		return clause{}, err
	}
	want := op == "=" || op == "in"
	c := clause{match: func(e *entry) bool {
		return slices.ContainsFunc(get(e), func(v string) bool { return slices.Contains(values, v) }) == want
	}}
	if !want && field == "labels" { // Jira leaves out issues without any label here
		c.match = func(e *entry) bool {
			return len(e.labels) > 0 && !slices.ContainsFunc(e.labels, func(v string) bool { return slices.Contains(values, v) })
		}
	}
	if want && field == "labels" && len(values) == 1 {
		c.label = values[0]
	}
	return c, nil
}

// getter returns what a field of an entry may be called, after checking that the values exist.
func (p *jqlParser) getter(field string, values []string) (func(*entry) []string, error) {
	o := &p.s.opt
	check := func(known func(string) bool) error {
		for _, v := range values {
			if !known(v) {
				return unknownValue(v, field)
			}
		}
		return nil
	}
	switch field {
	case "labels":
		return func(e *entry) []string { return e.labels }, nil
	case "project":
		return func(e *entry) []string { return []string{e.iss.project.Key, e.iss.project.ID, e.iss.project.Name} },
			check(func(v string) bool {
				return slices.ContainsFunc(o.Projects, func(p Project) bool { return v == p.Key || v == p.ID || v == p.Name })
			})
	case "status":
		return func(e *entry) []string { return []string{e.status.Name, e.status.ID} },
			check(func(v string) bool {
				return slices.ContainsFunc(o.Statuses, func(s Status) bool { return v == s.Name || v == s.ID })
			})
	case "statuscategory":
		return func(e *entry) []string {
			return []string{e.status.Category, map[string]string{"new": "To Do", "indeterminate": "In Progress", "done": "Done"}[e.status.Category]}
		}, nil
	case "issuetype", "type":
		return func(e *entry) []string { return []string{e.iss.typ.Name, e.iss.typ.ID} }, nil
	case "priority":
		return func(e *entry) []string {
				if e.priority == nil {
					return nil
				}
				return []string{e.priority.Name, e.priority.ID}
			}, check(func(v string) bool {
				return slices.ContainsFunc(o.Priorities, func(p Priority) bool { return v == p.Name || v == p.ID })
			})
	case "assignee":
		return func(e *entry) []string {
			if e.assignee == nil {
				return nil
			}
			return []string{e.assignee.AccountID, e.assignee.Name}
		}, nil
	case "resolution":
		return func(e *entry) []string { return []string{e.resolution} }, nil
	}
	return nil, unknownField(field)
}

func (p *jqlParser) keys(field, op string, values []string) (clause, error) {
	if !slices.Contains([]string{"=", "!=", "in", "not in"}, op) {
		return clause{}, badOperator(op, field)
	}
	want := op == "=" || op == "in"
	if global, ok := strings.CutPrefix(values[0], "issuesWithRemoteLinksByGlobalId("); ok && len(values) == 1 {
		global = strings.TrimSuffix(global, ")")
		return clause{match: func(e *entry) bool { return slices.Contains(e.globalIDs, global) == want }}, nil
	}
	var found []*issue
	for _, v := range values {
		iss := p.s.find(v)
		if iss == nil {
			return clause{}, complain("An issue with key '%s' does not exist for field '%s'.", v, field)
		}
		found = append(found, iss)
	}
	c := clause{match: func(e *entry) bool { return slices.Contains(found, e.iss) == want }}
	if want {
		c.refs = values
	}
	return c, nil
}

func (p *jqlParser) dates(field, op string, values []string) (clause, error) {
	if strings.Contains(op, "in") || strings.Contains(op, "~") {
		return clause{}, badOperator(op, field)
	}
	at, ok := p.date(values[0])
	if !ok {
		return clause{}, complain("Date value '%s' for field '%s' is invalid. Valid formats include: 'yyyy/MM/dd HH:mm', 'yyyy-MM-dd HH:mm', 'yyyy/MM/dd', 'yyyy-MM-dd', or a period format e.g. '-5d', '4w 2d'.", values[0], field)
	}
	updated := strings.HasPrefix(field, "updated")
	c := clause{match: func(e *entry) bool {
		t := e.created
		if updated {
			t = e.updated
		}
		switch n := t.Compare(at); op {
		case ">=":
			return n >= 0
		case ">":
			return n > 0
		case "<=":
			return n <= 0
		case "<":
			return n < 0
		case "=":
			return n == 0
		default:
			return n != 0
		}
	}}
	if updated && (op == ">=" || op == ">") {
		c.since = at
	}
	return c, nil
}

// date reads the forms that JQL knows: to the minute, in the time zone of the account (here UTC), or relative to now.
func (p *jqlParser) date(v string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02 15:04", "2006/01/02 15:04", time.DateOnly, "2006/01/02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, true
		}
	}
	if v == "now()" {
		return p.now, true
	}
	if v == "startOfDay()" {
		return p.now.Truncate(24 * time.Hour), true
	}
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil && len(v) > 10 {
		return time.UnixMilli(ms).UTC(), true
	}
	sign := time.Duration(1)
	rest, negative := strings.CutPrefix(v, "-")
	if negative {
		sign = -1
	}
	total := time.Duration(0)
	for one := range strings.FieldsSeq(rest) {
		unit, ok := map[byte]time.Duration{'w': 7 * 24 * time.Hour, 'd': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute}[one[len(one)-1]]
		n, err := strconv.Atoi(one[:len(one)-1])
		if !ok || err != nil || n < 0 || n > 100000 {
			return time.Time{}, false
		}
		total += time.Duration(n) * unit
	}
	if rest == "" || total == 0 && !strings.Contains(rest, "0") {
		return time.Time{}, false
	}
	return p.now.Add(total * time.Duration(int64(sign))), true
}
