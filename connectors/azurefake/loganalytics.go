package azurefake

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Column types of query results.
const (
	Bool     = "bool"
	Datetime = "datetime"
	Decimal  = "decimal"
	Dynamic  = "dynamic"
	GUID     = "guid"
	Int      = "int"
	Long     = "long"
	Real     = "real"
	String   = "string"
	Timespan = "timespan"
)

// Column is one column of a table.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Table is one table of a result. Cells are encoded with encoding/json as they are; give a dynamic as a string of JSON
// (what the service does as a rule) or as any value (what it does now and then), NaN as the string "NaN".
type Table struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
	Rows    [][]any  `json:"rows"`
}

// Result is the answer to a query.
type Result struct {
	Tables []Table
	// Partial makes the answer a 200 with tables and an error of code PartialError, as when a limit was hit.
	Partial *QueryError
	// Statistics and Render are sent if the client asks for them in Prefer.
	Statistics, Render any
	// NoContent answers 204, as for a workspace without data; Empty answers 200 without a body.
	NoContent, Empty bool
	// Stream, if set, writes the whole body itself: for results too big to hold. An error cuts the connection.
	Stream func(io.Writer) error
	// Gzip compresses the answer, if the client accepts that.
	Gzip bool
	// Delay holds the answer back.
	Delay time.Duration
}

// QueryError is an error body of the query API. Returned as an error from a query function it becomes the answer, with
// Status (default 400) and Retry-After if RetryAfter is set.
type QueryError struct {
	Status        int
	Code, Message string
	Inner         *QueryError
	RetryAfter    time.Duration
}

// Error makes QueryError an error.
func (e *QueryError) Error() string { return e.Code + ": " + e.Message }

func (e *QueryError) object() object {
	out := object{"code": e.Code, "message": e.Message}
	if e.Inner != nil {
		out["innererror"] = e.Inner.object()
	}
	return out
}

// Ready-made query errors, in the service's words.
var (
	ErrSyntax = &QueryError{Status: http.StatusBadRequest, Code: "BadArgumentError", Message: "The request had some invalid properties", Inner: &QueryError{
		Code: "SyntaxError", Message: "A recognition error occurred in the query.",
		Inner: &QueryError{Code: "SYN0002", Message: "Query could not be parsed."},
	}}
	ErrTooLarge = &QueryError{
		Code:    "-2133196797",
		Message: "The results of this query exceed the set limit of 500000 records, so not all records were returned (E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003).",
	}
	ErrTimeout = &QueryError{Status: http.StatusGatewayTimeout, Code: "GatewayTimeout", Message: "Gateway timeout", Inner: &QueryError{
		Code: "GatewayTimeout", Message: "Unable to unzip response",
	}}
	ErrThrottled = &QueryError{
		Status: http.StatusTooManyRequests, Code: "ThrottledError", Message: "Too many requests. Please retry later.", RetryAfter: time.Second,
	}
)

// ErrDefault returned by a query function leaves the query to the default interpreter.
var ErrDefault = errors.New("the default interpreter")

type logs struct {
	mu       sync.Mutex
	custom   func(workspace, query, timespan string) (Result, error)
	canned   map[string]Result
	executed map[string]uint64
	running  map[string]int
	tables   map[string]stored
	asked    []Asked
}

// SetQuery replaces the interpreter of queries; nil brings back the default, which knows `print` and the rows that
// SetRows put in.
func (s *Server) SetQuery(f func(workspace, query, timespan string) (Result, error)) {
	s.logs.mu.Lock()
	s.logs.custom = f
	s.logs.mu.Unlock()
}

// SetRows makes the default interpreter answer with r whenever key occurs in a query as a quoted string, or as the
// name of the table that it starts from. Quoted strings win, the earliest first.
func (s *Server) SetRows(key string, r Result) {
	s.logs.mu.Lock()
	s.logs.canned[key] = r
	s.logs.mu.Unlock()
}

func logsError(status int, code, message string, inner *QueryError) fakekit.Reply {
	e := &QueryError{Code: code, Message: message, Inner: inner}
	return fakekit.Reply{Status: status, Type: "application/json; charset=utf-8", Body: fakekit.JSON(0, object{"error": e.object()}).Body}
}

func (s *Server) query(c *fakekit.Call) fakekit.Reply {
	app, v := s.bearer(c.R, s.opt.LogsAudiences)
	switch v {
	case tokenMissing, tokenExpired, tokenUnknown, tokenClaims:
		return logsError(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing, or its token is expired or unknown.", nil)
	case tokenAudience:
		return logsError(http.StatusForbidden, "InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong audience or resource.", nil)
	case tokenGood:
	}
	workspace := c.Args[0]
	resource := strings.HasPrefix(workspace, "/subscriptions/") // a resource that logs to a workspace
	if !resource && !slices.Contains(s.opt.Workspaces, workspace) {
		return logsError(http.StatusNotFound, "PathNotFoundError", "The requested path does not exist", nil)
	}
	if !app.may(RoleLogsRead) || app.Workspaces != nil && !resource && !slices.Contains(app.Workspaces, workspace) {
		return logsError(http.StatusForbidden, "InsufficientAccessError", "The provided credentials have insufficient access to perform the requested operation", &QueryError{
			Code: "UnauthorizedClient", Message: "The service principal does not have sufficient permissions to access this resource: " + workspace,
		})
	}
	asked, reply, ok := readQuery(c.R)
	if !ok {
		return reply
	}
	text, span := asked.Query, asked.Timespan
	s.noted(c.R, workspace, asked)
	leave, wait := s.enter(app)
	if wait > 0 {
		e := *ErrThrottled
		e.RetryAfter = wait
		return e.reply()
	}
	defer leave()

	s.logs.mu.Lock()
	if s.logs.executed == nil {
		s.logs.executed = map[string]uint64{}
	}
	s.logs.executed[workspace]++
	run := s.logs.custom
	s.logs.mu.Unlock()
	if run == nil {
		run = s.interpret
	}
	result, err := run(workspace, text, span)
	if errors.Is(err, ErrDefault) {
		result, err = s.interpret(workspace, text, span)
	}
	if err != nil {
		var qe *QueryError
		if !errors.As(err, &qe) {
			qe = &QueryError{Status: http.StatusInternalServerError, Code: "GeneralError", Message: err.Error()}
		}
		return qe.reply()
	}
	if result.Delay > 0 {
		t := time.NewTimer(result.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.R.Context().Done():
		case <-s.ctx.Done():
		}
	}
	if c.Fault == Partial {
		result.Partial = ErrTooLarge
		for i := range result.Tables {
			result.Tables[i].Rows = result.Tables[i].Rows[:len(result.Tables[i].Rows)/2]
		}
	}
	return result.reply(c.R)
}

// readQuery reads the query out of a request; if it cannot, reply says why.
func readQuery(r *http.Request) (q queryBody, reply fakekit.Reply, ok bool) {
	if r.Method == http.MethodGet {
		v := r.URL.Query()
		q.Query, q.Timespan = v.Get("query"), v.Get("timespan")
	} else {
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		body, whole := fakekit.ReadBody(r, 16<<20)
		if err != nil || kind != "application/json" || len(body) == 0 {
			return q, fakekit.Reply{Status: http.StatusOK}, false // the service's documented way to say nothing
		}
		if q, ok = parseBody(body); !ok || !whole {
			return q, logsError(http.StatusBadRequest, "BadArgumentError", "The request had some invalid properties", &QueryError{Code: "InvalidJsonBody", Message: "Unexpected end of JSON input."}), false
		}
	}
	if len(q.Workspaces) > 99 {
		return q, logsError(http.StatusBadRequest, "BadArgumentError", "The request had some invalid properties", &QueryError{Code: "TooManyWorkspaces", Message: "A query may span 100 workspaces at most."}), false
	}
	if strings.TrimSpace(q.Query) == "" {
		return q, logsError(http.StatusBadRequest, "BadArgumentError", "The request had some invalid properties", &QueryError{Code: "QueryValidationError", Message: "Failed parsing the query: the query is empty."}), false
	}
	if q.Timespan != "" && !validTimespan(q.Timespan) {
		return q, logsError(http.StatusBadRequest, "BadArgumentError", "The request had some invalid properties", &QueryError{Code: "ValidationError", Message: "timespan is not an ISO 8601 duration or interval: " + q.Timespan}), false
	}
	return q, fakekit.Reply{}, true
}

// validTimespan checks the shape of an ISO 8601 duration, or of an interval of times and at most one duration.
func validTimespan(span string) bool {
	parts := strings.Split(span, "/")
	durations := 0
	for _, p := range parts {
		if strings.HasPrefix(p, "P") {
			durations++
			if len(p) < 3 || strings.Trim(p[1:], "0123456789.YMWDTHS") != "" {
				return false
			}
			continue
		}
		_, err := time.Parse(time.RFC3339Nano, p)
		_, day := time.Parse(time.DateOnly, p)
		_, local := time.Parse("2006-01-02T15:04:05", p)
		if err != nil && day != nil && local != nil {
			return false
		}
	}
	return len(parts) == 1 && durations == 1 || len(parts) == 2 && durations < 2
}

// enter applies the limits of the query API to an app.
func (s *Server) enter(app *App) (leave func(), wait time.Duration) {
	if n := s.opt.QueriesPer30s; n > 0 {
		if wait := s.limits.Take("logs "+app.ClientID, s.opt.Now(), n, 30*time.Second); wait > 0 {
			return nil, wait
		}
	}
	if s.opt.QueriesAtOnce == 0 {
		return func() {}, 0
	}
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	if s.logs.running == nil {
		s.logs.running = map[string]int{}
	}
	if s.logs.running[app.ClientID] >= s.opt.QueriesAtOnce {
		return nil, time.Second
	}
	s.logs.running[app.ClientID]++
	return func() {
		s.logs.mu.Lock()
		s.logs.running[app.ClientID]--
		s.logs.mu.Unlock()
	}, 0
}

func (e *QueryError) reply() fakekit.Reply {
	reply := logsError(cmp.Or(e.Status, http.StatusBadRequest), e.Code, e.Message, e.Inner)
	if e.RetryAfter > 0 {
		reply = reply.With("Retry-After", fakekit.Seconds(e.RetryAfter))
	}
	return reply
}

func (r Result) reply(req *http.Request) fakekit.Reply {
	const kind = "application/json; charset=utf-8"
	switch {
	case r.NoContent:
		return fakekit.Reply{Status: http.StatusNoContent}
	case r.Empty:
		return fakekit.Reply{Status: http.StatusOK}
	case r.Stream != nil:
		return fakekit.Reply{Status: http.StatusOK, Type: kind, Stream: r.Stream}
	}
	for i, t := range r.Tables {
		if t.Rows == nil {
			r.Tables[i].Rows = [][]any{}
		}
	}
	out := object{"tables": r.Tables}
	if r.Tables == nil {
		out["tables"] = []Table{}
	}
	prefer := req.Header.Get("Prefer")
	if r.Statistics != nil && strings.Contains(prefer, "include-statistics=true") {
		out["statistics"] = r.Statistics
	}
	if r.Render != nil && strings.Contains(prefer, "include-render=true") {
		out["render"] = r.Render
	}
	if r.Partial != nil {
		inner := r.Partial.object()
		inner["severity"], inner["severityName"] = 2, "Error"
		out["error"] = object{
			"code": "PartialError", "message": "There were some errors when processing your query.",
			"details": []object{{
				"code": "EngineError", "message": "Something went wrong processing your query on the server.", "innererror": inner,
			}},
		}
	}
	reply := fakekit.JSON(http.StatusOK, out)
	reply.Type = kind
	if r.Gzip && strings.Contains(req.Header.Get("Accept-Encoding"), "gzip") {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(reply.Body) // into memory
		_ = w.Close()
		reply.Body = b.Bytes()
		return reply.With("Content-Encoding", "gzip")
	}
	return reply
}

// interpret is the default: canned rows by key, `print` with literals, an empty table for anything else that has the
// shape of a query.
func (s *Server) interpret(_, query, span string) (Result, error) {
	literals, table, printed, err := scanQuery(query)
	if err != nil {
		return Result{}, err
	}
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	for _, key := range append(literals, table) {
		if r, ok := s.logs.canned[key]; ok {
			r.Tables = slices.Clone(r.Tables)
			return r, nil
		}
	}
	if printed != "" {
		return evalPrint(printed)
	}
	if t, ok := s.logs.tables[table]; ok {
		return t.evaluate(query, span, s.opt.Now())
	}
	return Result{Tables: []Table{{Name: "PrimaryResult", Columns: []Column{{"TimeGenerated", Datetime}}}}}, nil
}

// scanQuery reads just enough of KQL to be of use: the string literals, the table that the last statement starts from
// or the arguments of its print, and whether quotes and brackets are closed.
func scanQuery(query string) (literals []string, table, printed string, err error) {
	var open []byte
	last := 0 // where the last statement starts
	for i := 0; i < len(query); i++ {
		switch c := query[i]; c {
		case '"', '\'':
			value, n, ok := stringLiteral(query[i:])
			if !ok {
				return nil, "", "", ErrSyntax
			}
			if verbatim := i > 0 && query[i-1] == '@'; verbatim {
				end := strings.IndexByte(query[i+1:], c)
				if end < 0 {
					return nil, "", "", ErrSyntax
				}
				value, n = query[i+1:i+1+end], end+2
			}
			literals = append(literals, value)
			i += n - 1
		case '/':
			if strings.HasPrefix(query[i:], "//") {
				if n := strings.IndexByte(query[i:], '\n'); n >= 0 {
					i += n
				} else {
					i = len(query)
				}
			}
		case '(', '[', '{':
			open = append(open, c)
		case ')', ']', '}':
			if len(open) == 0 || open[len(open)-1] != map[byte]byte{')': '(', ']': '[', '}': '{'}[c] {
				return nil, "", "", ErrSyntax
			}
			open = open[:len(open)-1]
		case ';':
			if strings.TrimSpace(query[i+1:]) != "" {
				last = i + 1
			}
		}
	}
	if len(open) > 0 {
		return nil, "", "", ErrSyntax
	}
	statement := strings.TrimSpace(strings.TrimRight(strings.TrimSpace(query[last:]), ";"))
	for strings.HasPrefix(statement, "//") {
		_, statement, _ = strings.Cut(statement, "\n")
		statement = strings.TrimSpace(statement)
	}
	if rest, ok := strings.CutPrefix(statement, "print "); ok {
		return literals, "", rest, nil
	}
	end := strings.IndexFunc(statement, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	if end < 0 {
		end = len(statement)
	}
	if end == 0 || statement[:end] == "let" || strings.HasPrefix(strings.TrimSpace(statement[end:]), "=") {
		return nil, "", "", ErrSyntax
	}
	return literals, statement[:end], "", nil
}

// stringLiteral reads a quoted string with backslash escapes at the start of s.
func stringLiteral(s string) (value string, length int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case s[0]:
			return b.String(), i + 1, true
		case '\n':
			return "", 0, false
		case '\\':
			if i++; i == len(s) {
				return "", 0, false
			}
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			default:
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", 0, false
}

// evalPrint evaluates the arguments of print, which must be literals.
func evalPrint(args string) (Result, error) {
	t := Table{Name: "PrimaryResult", Rows: [][]any{{}}}
	for i, arg := range splitArgs(args) {
		name := "print_" + strconv.Itoa(i)
		if left, right, ok := strings.Cut(arg, "="); ok && isName(strings.TrimSpace(left)) {
			name, arg = strings.TrimSpace(left), right
		}
		value, kind, ok := kqlLiteral(strings.TrimSpace(arg))
		if !ok {
			return Result{}, &QueryError{Code: "BadArgumentError", Message: "The request had some invalid properties", Inner: &QueryError{
				Code: "SemanticError", Message: fmt.Sprintf("A semantic error occurred: %q is no literal.", arg),
			}}
		}
		t.Columns = append(t.Columns, Column{name, kind})
		t.Rows[0] = append(t.Rows[0], value)
	}
	return Result{Tables: []Table{t}}, nil
}

func isName(s string) bool {
	return s != "" && strings.Trim(s, "_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == ""
}

// splitArgs splits at commas outside of quotes and brackets; scanQuery has checked that both are closed.
func splitArgs(s string) []string {
	var out []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"', '\'':
			if _, n, ok := stringLiteral(s[i:]); ok {
				i += n - 1
			}
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case ',':
			if depth == 0 {
				out, start = append(out, s[start:i]), i+1
			}
		}
	}
	return append(out, s[start:])
}

func kqlLiteral(s string) (value any, kind string, ok bool) {
	if s == "true" || s == "false" {
		return s == "true", Bool, true
	}
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		value, n, ok := stringLiteral(s)
		return value, String, ok && n == len(s)
	}
	if name, rest, call := strings.Cut(s, "("); call && strings.HasSuffix(rest, ")") {
		inner := strings.TrimSpace(strings.TrimSuffix(rest, ")"))
		if !slices.Contains([]string{Bool, Datetime, Decimal, Dynamic, GUID, Int, Long, Real, Timespan}, name) {
			return nil, "", false
		}
		switch {
		case inner == "null":
			return nil, name, true
		case name == Int || name == Long:
			_, err := strconv.ParseInt(inner, 10, 64)
			return json.RawMessage(inner), name, err == nil && json.Valid([]byte(inner))
		case name == Bool:
			return inner == "true", Bool, true
		}
		return inner, name, true
	}
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		return json.RawMessage(s), Long, json.Valid([]byte(s))
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil && json.Valid([]byte(s)) {
		return json.RawMessage(s), Real, true
	}
	return nil, "", false
}
