package azurefake

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func rowsOf(t *testing.T, body map[string]any) (names, types []string, rows []any) {
	t.Helper()
	table := body["tables"].([]any)[0].(map[string]any)
	for _, c := range table["columns"].([]any) {
		names = append(names, c.(map[string]any)["name"].(string))
		types = append(types, c.(map[string]any)["type"].(string))
	}
	return names, types, table["rows"].([]any)
}

func TestPrint(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := logsOf(t, s)
	body := c.want(200, "POST", "/v1/workspaces/"+s.Workspace()+"/query", map[string]any{
		"query": `let x = "a;b"; // comment with "quote
print l=9007199254740993, r=1.5, b=true, s="it's, \"quoted\"", d=datetime(2026-11-23), n=int(null), ts=timespan(1.02:03:04), dyn=dynamic([1,2]), "plain"`,
		"timespan": "PT1H",
	})
	names, types, rows := rowsOf(t, body)
	if want := []string{"l", "r", "b", "s", "d", "n", "ts", "dyn", "print_8"}; !slices.Equal(names, want) {
		t.Errorf("names %v", names)
	}
	if want := []string{Long, Real, Bool, String, Datetime, Int, Timespan, Dynamic, String}; !slices.Equal(types, want) {
		t.Errorf("types %v", types)
	}
	row := rows[0].([]any)
	if row[0] != json.Number("9007199254740993") || row[2] != true || row[3] != `it's, "quoted"` || row[5] != nil || row[8] != "plain" {
		t.Errorf("row %v", row)
	}
}

func TestCannedRows(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	one := func(v string) Result {
		return Result{Tables: []Table{{Name: "PrimaryResult", Columns: []Column{{"v", String}}, Rows: [][]any{{v}}}}, Statistics: map[string]any{"query": 1}}
	}
	s.SetRows("203.0.113.77", one("by value"))
	s.SetRows("SigninLogs", one("by table"))
	c := logsOf(t, s)
	path := "/v1/workspaces/" + s.Workspace() + "/query"
	for query, want := range map[string]string{
		`let ip = "203.0.113.77"; SigninLogs | where IPAddress == ip`: "by value",
		`SigninLogs | where IPAddress == '203.0.113.78' | take 5`:     "by table",
		"// a note\nSigninLogs": "by table",
		`let ip = @"203.0.113.77"; Heartbeat | where ComputerIP == ip;`: "by value",
		`Heartbeat | where "x" == 'y'`:                                  "",
	} {
		_, _, rows := rowsOf(t, c.want(200, "POST", path, map[string]any{"query": query}))
		switch {
		case want == "" && len(rows) == 0:
		case want != "" && len(rows) == 1 && rows[0].([]any)[0] == want:
		default:
			t.Errorf("%s: got %v, want %q", query, rows, want)
		}
	}
	if body := c.want(200, "GET", path+"?query=SigninLogs&timespan="+url.QueryEscape("2026-11-01/P1D"), nil); body["statistics"] != nil {
		t.Error("statistics without being asked")
	}
	if body := c.want(200, "POST", path, map[string]any{"query": "SigninLogs"}, "Prefer", "wait=300,include-statistics=true"); body["statistics"] == nil {
		t.Error("no statistics")
	}
}

func TestQueryRefusals(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := logsOf(t, s)
	path := "/v1/workspaces/" + s.Workspace() + "/query"
	for _, query := range []string{"", "T | where x == \"open", "T | where (x", "T | where x)", "| take 5", "print f(x)", "let x = 5;"} {
		body := c.want(400, "POST", path, map[string]any{"query": query})
		if inner, ok := body["error"].(map[string]any)["innererror"].(map[string]any); !ok || code(body) != "BadArgumentError" || inner["code"] == nil {
			t.Errorf("%q: %v", query, body)
		}
	}
	c.want(400, "POST", path, map[string]any{"query": "T", "timespan": "yesterday"})
	c.want(404, "POST", "/v1/workspaces/elsewhere/query", map[string]any{"query": "T"})
	if body := c.want(404, "POST", "/v1/workspace/x", nil); code(body) != "PathNotFoundError" {
		t.Errorf("got %v", body)
	}
	if body := c.want(200, "POST", path, map[string]any{"query": "T"}, "Content-Type", "text/plain"); body != nil {
		t.Errorf("a wrong content type is answered with an empty 200, got %v", body)
	}
}

func TestQueryFunction(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{Workspaces: []string{"w1", "w2"}, Apps: []App{{ClientID: "a", Secret: "s", Workspaces: []string{"w1"}}}})
	all := Table{Name: "PrimaryResult", Columns: []Column{{"b", Bool}, {"l", Long}, {"r", Real}, {"dyn", Dynamic}}, Rows: [][]any{
		{true, int64(9007199254740993), "NaN", `{"a":1}`}, {nil, nil, nil, nil}, {false, -1, 1.5, map[string]any{"a": 1}},
	}}
	s.SetQuery(func(_, query, _ string) (Result, error) {
		switch query {
		case "partial":
			return Result{Tables: []Table{all}, Partial: ErrTooLarge}, nil
		case "none":
			return Result{NoContent: true}, nil
		case "empty":
			return Result{Empty: true}, nil
		case "timeout":
			return Result{}, ErrTimeout
		case "throttled":
			return Result{}, ErrThrottled
		case "stream":
			return Result{Stream: func(w io.Writer) error { _, err := io.WriteString(w, `{"tables":[]}`); return err }}, nil
		case "broken stream":
			return Result{Stream: func(w io.Writer) error {
				_, err := io.WriteString(w, `{"tables":[`)
				return errors.Join(err, errors.New("gone"))
			}}, nil
		}
		return Result{}, errors.New("unexpected")
	})
	c := logsOf(t, s)
	const path = "/v1/workspaces/w1/query"
	ask := func(q string) map[string]any { return map[string]any{"query": q} }

	body := c.want(200, "POST", path, ask("partial"))
	_, _, rows := rowsOf(t, body)
	if len(rows) != 3 || rows[0].([]any)[1] != json.Number("9007199254740993") || code(body) != "PartialError" {
		t.Errorf("got %v", body)
	}
	inner := body["error"].(map[string]any)["details"].([]any)[0].(map[string]any)["innererror"].(map[string]any)
	if inner["code"] != "-2133196797" {
		t.Errorf("got %v", inner)
	}
	if body := c.want(204, "POST", path, ask("none")); body != nil {
		t.Errorf("got %v", body)
	}
	if body := c.want(200, "POST", path, ask("empty")); body != nil {
		t.Errorf("got %v", body)
	}
	c.want(504, "POST", path, ask("timeout"))
	c.want(500, "POST", path, ask("unexpected"))
	resp, err := c.try("POST", path, ask("throttled"))
	if err != nil {
		t.Fatal(err)
	}
	if c.decode(resp); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	c.want(200, "POST", path, ask("stream"))
	resp, err = c.try("POST", path, ask("broken stream"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken stream reads as %v", err)
	}
	_ = resp.Body.Close()
	if body := c.want(403, "POST", "/v1/workspaces/w2/query", ask("none")); code(body) != "InsufficientAccessError" {
		t.Errorf("got %v", body)
	}
	if n := s.Ledger().Queries["w1"]; n != 8 {
		t.Errorf("%d queries in the ledger", n)
	}
}

func TestQueryLimits(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{QueriesAtOnce: 1, QueriesPer30s: 3})
	c := logsOf(t, s)
	path := "/v1/workspaces/" + s.Workspace() + "/query"
	inside, leave := make(chan struct{}), make(chan struct{})
	s.SetQuery(func(string, string, string) (Result, error) {
		close(inside)
		<-leave
		return Result{}, nil
	})
	done := make(chan int)
	go func() {
		resp, err := c.try("POST", path, map[string]any{"query": "T"})
		if err != nil {
			done <- 0
			return
		}
		_ = resp.Body.Close()
		done <- resp.StatusCode
	}()
	<-inside
	c.want(429, "POST", path, map[string]any{"query": "T"})
	close(leave)
	if status := <-done; status != 200 {
		t.Errorf("the first query: %d", status)
	}
	s.SetQuery(nil)
	c.want(200, "POST", path, map[string]any{"query": "T"})
	c.want(429, "POST", path, map[string]any{"query": "T"})
}

func TestUnknownErrorIsNotSwallowed(t *testing.T) {
	t.Parallel()
	if got := ErrSyntax.Error(); !strings.Contains(got, "BadArgumentError") {
		t.Errorf("got %q", got)
	}
}

func FuzzScanQuery(f *testing.F) {
	for _, seed := range []string{`print 1`, `let x = "a"; T | where y == x`, `"`, `@"`, `//`, `T | where ([{}])`, `print "`, `print a=b(`} {
		f.Add(seed)
	}
	s := New(Options{})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, query string) {
		r, err := s.interpret("", query, "")
		if err != nil {
			return
		}
		if _, err := json.Marshal(r.Tables); err != nil {
			t.Errorf("%q gives a result that does not encode: %v", query, err)
		}
	})
}
