package loganalytics

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pipeline is what can be said of a query without understanding it: the last statement's source and its operators.
type pipeline struct {
	query   string
	head    []token // the source
	ops     []operator
	calls   []token // names that an opening bracket follows, anywhere
	end     int     // where the last statement's last token ends
	problem error   // it could not be read: brackets or quotes that are not closed
}

// operator is one step of a pipeline.
type operator struct {
	name string // "where", "project-away"
	at   int
	args []token
}

// token is a word or sign of a query.
type token struct {
	text    string
	at, end int
	depth   int // of brackets around it
	quoted  bool
}

// analyze reads a query's outline.
func analyze(query string) *pipeline {
	p := &pipeline{query: query}
	tokens, err := tokens(query)
	if err != nil {
		p.problem = err
		return p
	}
	for i, t := range tokens {
		if !t.quoted && isWord(t.text) && i+1 < len(tokens) && tokens[i+1].text == "(" && !tokens[i+1].quoted {
			p.calls = append(p.calls, t)
		}
	}
	// The last statement is the one that makes rows.
	begin := 0
	for i, t := range tokens {
		if t.depth == 0 && !t.quoted && t.text == ";" && i < len(tokens)-1 {
			begin = i + 1
		}
	}
	last := tokens[begin:]
	for len(last) > 0 && last[len(last)-1].text == ";" && !last[len(last)-1].quoted {
		last = last[:len(last)-1]
	}
	if len(last) == 0 {
		p.problem = errors.New("it has no statement that makes rows")
		return p
	}
	p.end = last[len(last)-1].end
	for part, rest := range splitPipes(last) {
		if part == 0 {
			p.head = rest
			continue
		}
		op := operator{at: p.end}
		if len(rest) > 0 {
			op = operator{name: strings.ToLower(rest[0].text), at: rest[0].at, args: rest[1:]}
		}
		p.ops = append(p.ops, op)
	}
	if len(p.head) == 0 {
		p.problem = errors.New("it begins with a pipe")
	}
	return p
}

// splitPipes numbers the parts between pipes that are in no bracket.
func splitPipes(list []token) func(func(int, []token) bool) {
	return func(yield func(int, []token) bool) {
		n, begin := 0, 0
		for i := 0; i <= len(list); i++ {
			if i < len(list) && (list[i].text != "|" || list[i].quoted || list[i].depth > 0) {
				continue
			}
			if !yield(n, list[begin:i]) {
				return
			}
			n, begin = n+1, i+1
		}
	}
}

// tokens cuts a query into words and signs; comments and white space are left out.
// https://learn.microsoft.com/kusto/query/scalar-data-types/string#string-literals.
func tokens(query string) ([]token, error) {
	var list []token
	var open []byte
	for i := 0; i < len(query); {
		c := query[i]
		t := token{at: i, depth: len(open)}
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
			continue
		case strings.HasPrefix(query[i:], "//"):
			if n := strings.IndexByte(query[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(query)
			}
			continue
		case strings.HasPrefix(query[i:], "```"), strings.HasPrefix(query[i:], "~~~"):
			n := strings.Index(query[i+3:], query[i:i+3])
			if n < 0 {
				return nil, fmt.Errorf("a string that begins at %s does not end", position(query, i))
			}
			i += n + 6
			t.quoted = true
		case c == '"' || c == '\'':
			end := stringEnd(query, i, i > 0 && query[i-1] == '@')
			if end < 0 {
				return nil, fmt.Errorf("a string that begins at %s does not end", position(query, i))
			}
			i = end
			t.quoted = true
		case wordByte(c):
			for i < len(query) && (wordByte(query[i]) || query[i] == '-' && operatorDash(query, t.at, i)) {
				i++
			}
		case c == '(' || c == '[' || c == '{':
			open = append(open, c)
			i++
		case c == ')' || c == ']' || c == '}':
			if len(open) == 0 || open[len(open)-1] != map[byte]byte{')': '(', ']': '[', '}': '{'}[c] {
				return nil, fmt.Errorf("%q at %s closes nothing", c, position(query, i))
			}
			open = open[:len(open)-1]
			t.depth = len(open)
			i++
		default:
			i++
		}
		t.end, t.text = i, query[t.at:i]
		list = append(list, t)
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("a bracket %q is not closed", open[len(open)-1])
	}
	return list, nil
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c >= 0x80
}

func isWord(s string) bool { return s != "" && wordByte(s[0]) }

// dashed are the first parts of operators with a dash in their names.
var dashed = []string{"project", "mv", "make", "parse", "top", "sample", "partition", "graph", "project-away", "top-nested", "sample-distinct"}

// operatorDash says whether the dash at i joins the word that begins at begin with what follows.
func operatorDash(query string, begin, i int) bool {
	return i+1 < len(query) && wordByte(query[i+1]) && slices.Contains(dashed, strings.ToLower(query[begin:i]))
}

// stringEnd finds where the string that begins at i ends: behind its quote. Negative when it does not.
func stringEnd(query string, i int, verbatim bool) int {
	q := query[i]
	for i++; i < len(query); i++ {
		switch {
		case query[i] == q && verbatim && i+1 < len(query) && query[i+1] == q:
			i++
		case query[i] == q:
			return i + 1
		case query[i] == '\\' && !verbatim:
			i++
		case query[i] == '\n' && !verbatim:
			return -1
		}
	}
	return -1
}

// position tells people where something is: line:column, both from 1.
func position(query string, at int) string {
	at = min(at, len(query))
	line := strings.Count(query[:at], "\n") + 1
	return fmt.Sprintf("%d:%d", line, at-strings.LastIndexByte(query[:at], '\n'))
}

// rowWise are the operators that look at one row at a time, so that rows can be cut apart in front of them.
var rowWise = []string{
	"where", "filter", "extend", "project", "project-away", "project-keep", "project-rename", "project-reorder",
	"parse", "parse-where", "parse-kv", "mv-expand", "mvexpand", "mv-apply", "lookup", "render", "sort", "order", "as",
}

// afterSort are those that keep the order of rows.
var afterSort = []string{
	"where", "filter", "extend", "project", "project-away", "project-keep", "project-rename", "project-reorder", "parse",
	"parse-where", "parse-kv", "render", "as",
}

// notTables are sources without a time column of their own.
var notTables = []string{"print", "range", "datatable", "externaldata", "evaluate", "find", "search"}

// windowed are functions that look at other rows.
var windowed = []string{"prev", "next", "row_number", "row_cumsum", "row_rank_dense", "row_rank_min", "row_window_session"}

// direction is how the rows of a query are ordered by time.
type direction int

const (
	unordered direction = iota
	ascending
	descending
)

// splittable says whether the rows of the query are the rows of its parts, when it is cut by its time column, and how the
// parts follow one another. The error says what stands in the way, and where.
func (p *pipeline) splittable(column string) (direction, error) {
	if p.problem != nil {
		return 0, p.problem
	}
	at := func(i int) string { return position(p.query, i) }
	if first := strings.ToLower(p.head[0].text); slices.Contains(notTables, first) {
		return 0, fmt.Errorf("%s at %s is no table with a time column", first, at(p.head[0].at))
	}
	for _, c := range p.calls {
		if slices.Contains(windowed, strings.ToLower(c.text)) {
			return 0, fmt.Errorf("%s() at %s looks at other rows", c.text, at(c.at))
		}
	}
	order := unordered
	for _, op := range p.ops {
		switch {
		case !slices.Contains(rowWise, op.name):
			return 0, fmt.Errorf("%s at %s works on all rows together", op.name, at(op.at))
		case order != unordered && !slices.Contains(afterSort, op.name):
			return 0, fmt.Errorf("%s at %s comes after sort", op.name, at(op.at))
		case op.name == "sort" || op.name == "order":
			var by string
			by, order = sortKey(op.args)
			if by != column {
				return 0, fmt.Errorf("%s at %s is by %s and not by the time column %s", op.name, at(op.at), by, column)
			}
		case order == unordered && assigns(op, column):
			return 0, fmt.Errorf("%s at %s makes a new %s", op.name, at(op.at), column)
		}
	}
	return order, nil
}

// sortKey reads "by NAME [asc|desc] …". The language sorts descending unless told.
func sortKey(args []token) (string, direction) {
	if len(args) < 2 || !strings.EqualFold(args[0].text, "by") {
		return "", descending
	}
	if len(args) == 2 || args[2].text == "," {
		return args[1].text, descending
	}
	switch strings.ToLower(args[2].text) {
	case "asc":
		return args[1].text, ascending
	case "desc", "nulls":
		return args[1].text, descending
	}
	return words(args[1:]), descending // an expression
}

func words(list []token) string {
	var texts []string
	for _, t := range list {
		texts = append(texts, t.text)
	}
	return strings.Join(texts, " ")
}

// assigns says whether an operator gives a column another value or meaning.
func assigns(op operator, column string) bool {
	if op.name == "where" || op.name == "filter" || op.name == "lookup" {
		return false
	}
	for i, t := range op.args {
		if t.depth > 0 || t.quoted || t.text != column || i+1 == len(op.args) || op.args[i+1].text != "=" {
			continue
		}
		if i+2 < len(op.args) && (op.args[i+2].text == "=" || op.args[i+2].text == "~") {
			continue // a comparison
		}
		return true
	}
	return false
}

// with puts a condition on the rows of the source, in front of all operators. Lines stay where they are.
func (p *pipeline) with(condition string) string {
	at := p.head[len(p.head)-1].end
	return p.query[:at] + " | where " + condition + p.query[at:]
}

// mentions says whether a name occurs in the query, outside of strings and comments.
func mentions(query, name string) bool {
	list, err := tokens(query)
	if err != nil {
		return strings.Contains(query, name)
	}
	return slices.ContainsFunc(list, func(t token) bool { return !t.quoted && t.text == name })
}
