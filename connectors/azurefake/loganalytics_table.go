package azurefake

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// IngestedColumn names a column of a stored table that is not shown: when each row came to be searchable, which is what
// ingestion_time() gives. Without it a row is there from the beginning.
const IngestedColumn = "$ingested"

// Asked is a query as it reached the fake.
type Asked struct {
	Workspace  string   // or the resource id that was asked in its place
	Query      string   // as it was sent
	Timespan   string   // as it was sent
	Workspaces []string // further ones
	Prefer     string
}

// maxAsked bounds what is remembered of queries.
const maxAsked = 10_000

// Asked returns the queries that reached the fake and were well-formed, oldest first.
func (s *Server) Asked() []Asked {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	return slices.Clone(s.logs.asked)
}

// SetTable stores a table that the default interpreter can query: timespan, comparisons of a column with a datetime or a
// string literal, isnull, project, extend of nothing, sort by a column, take, count, and summarize with an arg_max of all columns. Most is how many rows an answer
// may have before the service cuts it with a PartialError; 0 means 500,000.
func (s *Server) SetTable(name string, t Table, most int) {
	if most == 0 {
		most = 500_000
	}
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	if s.logs.tables == nil {
		s.logs.tables = map[string]stored{}
	}
	s.logs.tables[name] = stored{t, most}
}

// AddRows appends rows to a stored table.
func (s *Server) AddRows(name string, rows ...[]any) {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	t := s.logs.tables[name]
	t.Rows = append(slices.Clip(t.Rows), rows...)
	s.logs.tables[name] = t
}

type stored struct {
	Table

	most int
}

// evaluator runs one query over one table.
type evaluator struct {
	cols  []Column
	rows  [][]any
	lets  map[string]string // parameters that are string literals
	shown []string          // nil: all
}

var (
	letText    = regexp.MustCompile(`let\s+(\w+)\s*=\s*("(?:[^"\\]|\\.)*")\s*;`)
	timeTerm   = regexp.MustCompile(`(\w+|ingestion_time\(\))\s*(>=|<=|<|>)\s*datetime\(([^)]*)\)`)
	textTerm   = regexp.MustCompile(`(\w+)\s*==\s*("(?:[^"\\]|\\.)*"|\w+)`)
	nullTerm   = regexp.MustCompile(`or\s+isnull\((\w+)\)`)
	sortTerm   = regexp.MustCompile(`^(?:sort|order)\s+by\s+(\w+)(?:\s+(asc|desc))?`)
	comments   = regexp.MustCompile(`(?m)//[^"\n]*$`) // in strings there are none here
	newestTerm = regexp.MustCompile(`^summarize\s+arg_max\((\w+),\s*\*\)\s+by\s+(\w+(?:\s*,\s*\w+)*)$`)
	knownTerms = regexp.MustCompile(`^[\s()]*$`)
)

// evaluate runs the last statement of a query on a stored table.
func (t stored) evaluate(query, span string, now time.Time) (Result, error) {
	e := evaluator{cols: t.Columns, rows: t.Rows, lets: map[string]string{}}
	for _, m := range letText.FindAllStringSubmatch(query, -1) {
		e.lets[m[1]], _, _ = stringLiteral(m[2])
	}
	if span != "" {
		from, to := spanTimes(span, now)
		e.keep(func(row []any) bool {
			at, ok := e.time("TimeGenerated", row)
			return ok && !at.Before(from) && !at.After(to) // both ends belong to it
		})
	}
	e.keep(func(row []any) bool {
		at, ok := e.time("ingestion_time()", row)
		return !ok || !at.After(now)
	})
	for i, op := range splitPipeline(query) {
		if i == 0 {
			continue
		}
		if err := e.step(op); err != nil {
			return Result{}, err
		}
	}
	result := Result{}
	if len(e.rows) > t.most {
		e.rows, result.Partial = e.rows[:t.most], ErrTooLarge
	}
	result.Tables = []Table{e.table()}
	return result, nil
}

func (e *evaluator) index(name string) int {
	if name == "ingestion_time()" {
		name = IngestedColumn
	}
	return slices.IndexFunc(e.cols, func(c Column) bool { return c.Name == name })
}

func (e *evaluator) time(name string, row []any) (time.Time, bool) {
	i := e.index(name)
	if i < 0 {
		return time.Time{}, false
	}
	text, _ := row[i].(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

func (e *evaluator) keep(ok func(row []any) bool) {
	var kept [][]any
	for _, row := range e.rows {
		if ok(row) {
			kept = append(kept, row)
		}
	}
	e.rows = kept
}

func (e *evaluator) step(op string) error {
	name, rest, _ := strings.Cut(op, " ")
	switch name {
	case "where":
		return e.where(rest)
	case "project":
		e.shown = nil
		for c := range strings.SplitSeq(rest, ",") {
			c = strings.TrimSpace(c)
			if e.index(c) < 0 {
				return unresolved("project", c)
			}
			e.shown = append(e.shown, c)
		}
	case "take", "limit":
		n, err := strconv.Atoi(strings.TrimSpace(rest))
		if err != nil {
			return ErrSyntax
		}
		e.rows = e.rows[:min(n, len(e.rows))]
	case "count":
		e.cols, e.rows, e.shown = []Column{{"Count", Long}}, [][]any{{len(e.rows)}}, nil
	case "summarize":
		return e.newest(op)
	case "sort", "order":
		m := sortTerm.FindStringSubmatch(op)
		if m == nil || e.index(m[1]) < 0 {
			return unresolved("sort", rest)
		}
		i, sign := e.index(m[1]), -1
		if m[2] == "asc" {
			sign = 1
		}
		e.rows = slices.Clone(e.rows)
		slices.SortStableFunc(e.rows, func(a, b []any) int { return sign * cmp.Compare(fmt.Sprint(a[i]), fmt.Sprint(b[i])) })
	case "render":
	default:
		return &QueryError{Code: "BadArgumentError", Message: "The request had some invalid properties", Inner: &QueryError{
			Code: "SyntaxError", Message: "A recognition error occurred in the query.",
			Inner: &QueryError{Code: "SYN0002", Message: "Query could not be parsed at '" + name + "' on line [1,0]"},
		}}
	}
	return nil
}

// newest keeps one row of each group: the one with the greatest value in a column. Of equals it is any; here the first.
func (e *evaluator) newest(op string) error {
	m := newestTerm.FindStringSubmatch(op)
	if m == nil {
		return &QueryError{Code: "BadArgumentError", Message: "The fake cannot evaluate: " + op}
	}
	var by []int
	for name := range strings.SplitSeq(m[2], ",") {
		i := e.index(strings.TrimSpace(name))
		if i < 0 {
			return unresolved("summarize", name)
		}
		by = append(by, i)
	}
	if e.index(m[1]) < 0 {
		return unresolved("summarize", m[1])
	}
	best := map[string]int{} // index in kept, by group
	var kept [][]any
	for _, row := range e.rows {
		var group []any
		for _, i := range by {
			group = append(group, row[i])
		}
		key := fmt.Sprintf("%q", group)
		have, known := best[key]
		if !known {
			best[key], kept = len(kept), append(kept, row)
			continue
		}
		at, _ := e.time(m[1], row)
		if former, _ := e.time(m[1], kept[have]); at.After(former) {
			kept[have] = row
		}
	}
	e.rows = kept
	return nil
}

func unresolved(op, name string) error {
	return &QueryError{Code: "BadArgumentError", Message: "The request had some invalid properties", Inner: &QueryError{
		Code: "SemanticError", Message: "A semantic error occurred.",
		Inner: &QueryError{Code: "SEM0100", Message: fmt.Sprintf("'%s' operator: Failed to resolve column or scalar expression named '%s'", op, name)},
	}}
}

// where keeps the rows that fulfil all terms. It knows no "or" but with isnull.
func (e *evaluator) where(cond string) error {
	nullable := map[string]bool{}
	for _, m := range nullTerm.FindAllStringSubmatch(cond, -1) {
		nullable[m[1]] = true
	}
	times, texts := timeTerm.FindAllStringSubmatch(cond, -1), textTerm.FindAllStringSubmatch(cond, -1)
	rest := textTerm.ReplaceAllString(timeTerm.ReplaceAllString(nullTerm.ReplaceAllString(cond, ""), ""), "")
	if !knownTerms.MatchString(strings.ReplaceAll(rest, "and", "")) {
		return &QueryError{Code: "BadArgumentError", Message: "The fake cannot evaluate: " + cond}
	}
	for _, m := range slices.Concat(times, texts) {
		if e.index(m[1]) < 0 && m[1] != "ingestion_time()" {
			return unresolved("where", m[1])
		}
	}
	e.keep(func(row []any) bool {
		for _, m := range times {
			bound, err := time.Parse(time.RFC3339Nano, m[3])
			at, ok := e.time(m[1], row)
			if err != nil || !ok && !nullable[m[1]] {
				return false
			}
			c := at.Compare(bound)
			if ok && !map[string]bool{">=": c >= 0, ">": c > 0, "<": c < 0, "<=": c <= 0}[m[2]] {
				return false
			}
		}
		for _, m := range texts {
			want, known := e.lets[m[2]]
			if !known {
				want, _, _ = stringLiteral(m[2])
			}
			if text, _ := row[e.index(m[1])].(string); text != want {
				return false
			}
		}
		return true
	})
	return nil
}

// table is what the client sees.
func (e *evaluator) table() Table {
	t := Table{Name: "PrimaryResult"}
	var at []int
	for i, c := range e.cols {
		if e.shown == nil && c.Name != IngestedColumn {
			at = append(at, i)
		}
	}
	for _, name := range e.shown {
		at = append(at, e.index(name))
	}
	for _, i := range at {
		t.Columns = append(t.Columns, e.cols[i])
	}
	for _, row := range e.rows {
		cells := make([]any, len(at))
		for k, i := range at {
			cells[k] = row[i]
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// splitPipeline cuts the last statement at its pipes.
func splitPipeline(query string) []string {
	var parts []string
	depth, begin := 0, 0
	query = comments.ReplaceAllString(query, "")
	for i := 0; i < len(query); i++ {
		switch query[i] {
		case '"', '\'':
			if _, n, ok := stringLiteral(query[i:]); ok {
				i += n - 1
			}
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ';':
			if depth == 0 && strings.TrimSpace(query[i+1:]) != "" {
				parts, begin = nil, i+1
			}
		case '|':
			if depth == 0 {
				parts, begin = append(parts, strings.TrimSpace(query[begin:i])), i+1
			}
		}
	}
	return append(parts, strings.TrimSpace(strings.TrimRight(strings.TrimSpace(query[begin:]), ";")))
}

// spanTimes reads a timespan whose shape was checked. Of durations it knows days, hours, minutes and seconds.
func spanTimes(span string, now time.Time) (from, to time.Time) {
	left, right, two := strings.Cut(span, "/")
	if !two {
		return now.Add(-isoSpan(span)), now
	}
	from, lerr := time.Parse(time.RFC3339Nano, left)
	to, rerr := time.Parse(time.RFC3339Nano, right)
	if lerr != nil {
		from = to.Add(-isoSpan(left))
	}
	if rerr != nil {
		to = from.Add(isoSpan(right))
	}
	return from, to
}

func isoSpan(s string) time.Duration {
	var d time.Duration
	units := map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}
	n := ""
	for i := range len(s) {
		if unit, ok := units[s[i]]; ok {
			f, _ := strconv.ParseFloat(n, 64)
			d, n = d+time.Duration(f*float64(unit)), ""
		} else if s[i] == '.' || '0' <= s[i] && s[i] <= '9' {
			n += s[i : i+1]
		}
	}
	return d
}

// queryBody is the body of a query.
type queryBody struct {
	Query      string   `json:"query"`
	Timespan   string   `json:"timespan"`
	Workspaces []string `json:"workspaces"`
}

// noted remembers a query.
func (s *Server) noted(r *http.Request, target string, q queryBody) {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	if len(s.logs.asked) < maxAsked {
		s.logs.asked = append(s.logs.asked, Asked{target, q.Query, q.Timespan, q.Workspaces, r.Header.Get("Prefer")})
	}
}

func parseBody(body []byte) (q queryBody, ok bool) {
	return q, json.Unmarshal(body, &q) == nil
}
