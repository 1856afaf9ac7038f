package loganalytics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m) }

type object = map[string]any

type bench struct {
	*sdktest.Harness

	logs *azurefake.Server
}

// apps gives each test an identity of its own, as the limits of one are shared.
var apps atomic.Int64

func newBench(t *testing.T, o azurefake.Options, more object) *bench {
	t.Helper()
	if o.Apps == nil {
		o.Apps = []azurefake.App{{ClientID: fmt.Sprintf("3a1c9c52-0f2e-4b7a-8f10-%012d", apps.Add(1)), Secret: "a secret of the app"}}
	}
	b := &bench{logs: azurefake.New(o)}
	t.Cleanup(b.logs.Close)
	api := httptest.NewServer(b.logs)
	t.Cleanup(api.Close)
	config := object{
		"credential": object{"tenant_id": b.logs.Tenant(), "client_id": b.logs.ClientID(), "client_secret": b.logs.ClientSecret(), "authority_url": api.URL},
		"base_url":   api.URL, "workspace": b.logs.Workspace(),
	}
	maps.Copy(config, more)
	b.Harness = sdktest.Open(t, loganalytics.Connector(), config, sdktest.Options{Name: "logs"})
	return b
}

func (b *bench) query(t *testing.T, in object) (rows []string, sum loganalytics.Summary, err error) {
	t.Helper()
	res, err := b.Do(t.Context(), sdktest.Call{Action: "query", Input: in})
	for _, r := range res.Rows {
		rows = append(rows, string(r))
	}
	if err == nil {
		if uerr := json.Unmarshal(res.Output, &sum); uerr != nil {
			t.Fatal(uerr)
		}
	}
	return rows, sum, err
}

func canned(columns []azurefake.Column, rows ...[]any) azurefake.Result {
	return azurefake.Result{Tables: []azurefake.Table{{Name: "PrimaryResult", Columns: columns, Rows: rows}}}
}

func TestQueryEveryType(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	var columns []azurefake.Column
	for _, typ := range []string{"bool", "datetime", "dynamic", "guid", "int", "long", "real", "string", "timespan", "decimal", "object"} {
		columns = append(columns, azurefake.Column{Name: typ[:1] + "_" + typ, Type: typ})
	}
	r := canned(columns,
		[]any{true, "2026-09-02T06:14:03.2718281Z", `{"a":[1,null]}`, "74be27de-1e4e-49d9-b579-fe0b331d3642", 2147483647, json.Number("9007199254740993"), 1.5, "x", "1.02:03:04.5678901", "79228162514264337593543950335", object{"k": 1}},
		[]any{false, "0001-01-01T00:00:00Z", object{"native": []any{1}}, nil, -1, json.Number("-9223372036854775808"), "NaN", "", "-00:00:01", 3.5, nil},
		[]any{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil},
		[]any{true, "9999-12-31T23:59:59.9999999Z", `"just a string"`, nil, 0, 0, "-Infinity", "a\r\nb\x00", "00:00:00.0010000", "0.10", "o"},
	)
	r.Gzip = true
	b.logs.SetRows("T", r)
	rows, sum, err := b.query(t, object{"query": "T"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"b_bool":true,"d_datetime":"2026-09-02T06:14:03.2718281Z","d_dynamic":{"a":[1,null]},"g_guid":"74be27de-1e4e-49d9-b579-fe0b331d3642","i_int":2147483647,"l_long":9007199254740993,"r_real":1.5,"s_string":"x","t_timespan":"1.02:03:04.5678901","d_decimal":"79228162514264337593543950335","o_object":{"k":1}}`,
		`{"b_bool":false,"d_datetime":"0001-01-01T00:00:00Z","d_dynamic":{"native":[1]},"g_guid":null,"i_int":-1,"l_long":-9223372036854775808,"r_real":"NaN","s_string":"","t_timespan":"-00:00:01","d_decimal":3.5,"o_object":null}`,
		`{"b_bool":null,"d_datetime":null,"d_dynamic":null,"g_guid":null,"i_int":null,"l_long":null,"r_real":null,"s_string":null,"t_timespan":null,"d_decimal":null,"o_object":null}`,
		`{"b_bool":true,"d_datetime":"9999-12-31T23:59:59.9999999Z","d_dynamic":"\"just a string\"","g_guid":null,"i_int":0,"l_long":0,"r_real":"-Infinity","s_string":"a\r\nb\u0000","t_timespan":"00:00:00.0010000","d_decimal":"0.10","o_object":"o"}`,
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
	if sum.RowCount != 4 || len(sum.Columns) != 11 || sum.Partial || sum.Columns[10].Type != "object" {
		t.Errorf("%+v", sum)
	}
}

func TestQueryParametersArrive(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	const evil = "x\" | take 1 //\n'); drop"
	b.logs.SetRows(evil, canned([]azurefake.Column{{Name: "ok", Type: "bool"}}, []any{true}))
	rows, _, err := b.query(t, object{"query": "T | where a == p", "params": object{"p": evil}})
	if err != nil || len(rows) != 1 {
		t.Errorf("the fake did not find the literal: %v, %v", rows, err)
	}
}

func TestQueryAsksAsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	const resource = "/subscriptions/5b1e0c7a-3d5f-4f0e-9d39-2f8f3a2b6c10/resourceGroups/prod"
	r := canned([]azurefake.Column{{Name: "a", Type: "int"}}, []any{1})
	r.Statistics, r.Render = object{"query": object{"executionTime": 0.5}}, object{"visualization": "barchart"}
	b.logs.SetRows("T", r)
	_, sum, err := b.query(t, object{"query": "T", "workspaces": []string{"other", resource + "/x"}, "wait": "20s", "statistics": true, "render": true})
	if err != nil || sum.Statistics == nil || sum.Render["visualization"] != "barchart" {
		t.Errorf("%+v, %v", sum, err)
	}
	if _, sum, err = b.query(t, object{"query": "T", "resource": resource}); err != nil || sum.Statistics != nil || sum.Render != nil {
		t.Errorf("%+v, %v", sum, err)
	}
	asked := b.logs.Asked()
	if len(asked) != 2 || asked[0].Prefer != "wait=20,include-statistics=true,include-render=true" || len(asked[0].Workspaces) != 2 ||
		asked[0].Workspace != b.logs.Workspace() || asked[1].Workspace != resource || asked[1].Prefer != "wait=180" {
		t.Errorf("%+v", asked)
	}
	// Nobody listens for longer than the caller's deadline.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.Call(ctx, "query", object{"query": "T"}, nil); err != nil {
		t.Fatal(err)
	}
	var wait int
	if n, err := fmt.Sscanf(b.logs.Asked()[2].Prefer, "wait=%d", &wait); n != 1 || wait < 1 || wait > 59 {
		t.Errorf("with a minute left: %q, %v", b.logs.Asked()[2].Prefer, err)
	}
}

func TestQueryRefusesInput(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	for field, in := range map[string]object{
		"/query":        {"query": "  "},
		"/timespan":     {"query": "T", "timespan": "24h"},
		"/resource":     {"query": "T", "resource": "/subscriptions/../x"},
		"/workspaces/1": {"query": "T", "workspaces": []string{"w", "a b"}},
		"/workspaces":   {"query": "T", "workspaces": make([]string, 100)},
		"/wait":         {"query": "T", "wait": "11m"},
		"/time_column":  {"query": "T", "time_column": "a b"},
		"/split":        {"query": "T", "split": "force"},
		"/max_rows":     {"query": "T", "max_rows": 0},
		"/tables":       {"query": "T", "tables": "some"},
		"/params":       {"query": "T", "params": object{"a b": 1}},
	} {
		_, _, err := b.query(t, in)
		var e *sdk.Error
		if !errors.As(err, &e) || e.Class() != plugin.ClassInvalid || len(e.Violations) == 0 || e.Violations[0].Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if n := len(b.logs.Asked()); n != 0 {
		t.Errorf("%d queries were sent", n)
	}
}

func TestQueryErrors(t *testing.T) {
	t.Parallel()
	syntax := &azurefake.QueryError{Status: 400, Code: "BadArgumentError", Message: "The request had some invalid properties", Inner: &azurefake.QueryError{
		Code: "SyntaxError", Message: "A recognition error occurred in the query.",
		Inner: &azurefake.QueryError{Code: "SYN0002", Message: "Query could not be parsed at 'wher' on line [3,2]"},
	}}
	for _, tc := range []struct {
		name  string
		err   error
		fault azurefake.Fault
		class plugin.Class
		says  []string
	}{
		{"syntax", syntax, "", plugin.ClassInvalid, []string{"Log Analytics", "400", "SYN0002", "at line 2, position 2 (| wher x == p)"}},
		{"semantic", &azurefake.QueryError{Status: 400, Code: "BadArgumentError", Message: "m", Inner: &azurefake.QueryError{Code: "SemanticError", Message: "Failed to resolve column 'x'"}}, "", plugin.ClassInvalid, []string{"Failed to resolve column 'x'"}},
		{"timeout", azurefake.ErrTimeout, "", plugin.ClassTimeout, []string{"504", "wait = 3m0s", "raise wait"}},
		{"throttled", azurefake.ErrThrottled, "", plugin.ClassThrottled, []string{"429", "5 queries at once"}},
		{"throttled without a word", &azurefake.QueryError{Status: 429, Code: "ThrottledError", Message: "m"}, "", plugin.ClassThrottled, []string{"429"}},
		{"workspace unknown", &azurefake.QueryError{Status: 400, Code: "BadArgumentError", Message: "m", Inner: &azurefake.QueryError{Code: "FailedToResolveResource", Message: "m"}}, "", plugin.ClassInvalid, []string{"Workspace ID"}},
		{"workspace gone", &azurefake.QueryError{Status: 404, Code: "PathNotFoundError", Message: "The requested path does not exist"}, "", plugin.ClassNotFound, []string{"deleted or moved"}},
		{"denied", &azurefake.QueryError{Status: 403, Code: "InsufficientAccessError", Message: "m"}, "", plugin.ClassDenied, []string{"Log Analytics Reader", "Data.Read"}},
		{"server", &azurefake.QueryError{Status: 500, Code: "GeneralError", Message: "m"}, "", plugin.ClassUnavailable, []string{"500"}},
		{"unavailable", nil, azurefake.Unavailable, plugin.ClassUnavailable, []string{"503", "request id"}},
		{"reset", nil, azurefake.Reset, plugin.ClassUnavailable, []string{"Log Analytics"}},
		{"HTML", nil, azurefake.HTML, plugin.ClassUnavailable, []string{"Log Analytics", "is not the JSON", "<"}},
		{"cut", nil, azurefake.CutBody, plugin.ClassUnavailable, []string{"broke off"}},
		{"half of the JSON", nil, azurefake.BadJSON, plugin.ClassUnavailable, []string{"ends in the middle"}},
		{"partial", nil, azurefake.Partial, plugin.ClassTooLarge, []string{"-2133196797", "only a part", "allow_partial"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, azurefake.Options{}, nil)
			r := canned([]azurefake.Column{{Name: "a", Type: "int"}}, []any{1}, []any{2})
			b.logs.SetQuery(func(_, _, _ string) (azurefake.Result, error) { return r, tc.err })
			if tc.fault != "" {
				b.logs.FailNext(azurefake.RouteQuery, tc.fault, 2)
			}
			_, _, err := b.query(t, object{"query": "T\n| wher x == p", "params": object{"p": 1}})
			var e *sdk.Error
			if !errors.As(err, &e) || e.Class() != tc.class || e.SideEffect != sdk.EffectNone {
				t.Fatalf("%v (%v), want %v", err, e, tc.class)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("no word of %q in: %v", s, err)
				}
			}
			if tc.class == plugin.ClassThrottled && e.RetryAfter <= 0 {
				t.Error("it does not say when to come again")
			}
			if strings.Contains(err.Error(), b.logs.ClientSecret()) {
				t.Error("the secret is in the error")
			}
		})
	}
}

func TestQueryOddAnswers(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	b.logs.SetRows("None", azurefake.Result{NoContent: true})
	rows, sum, err := b.query(t, object{"query": "None"})
	if err != nil || len(rows) != 0 || sum.RowCount != 0 || sum.Columns == nil {
		t.Errorf("204: %+v, %v", sum, err)
	}
	b.logs.SetRows("Empty", azurefake.Result{Empty: true})
	if _, _, err = b.query(t, object{"query": "Empty"}); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("an empty 200: %v", err)
	}
	b.logs.SetRows("Giant", azurefake.Result{Stream: func(w io.Writer) error {
		if _, err := io.WriteString(w, `{"tables":[{"name":"PrimaryResult","columns":[{"name":"a","type":"string"}],"rows":[["`); err != nil {
			return err
		}
		chunk := strings.Repeat("x", 1<<16)
		for range 1024 {
			if _, err := io.WriteString(w, chunk); err != nil {
				return err
			}
		}
		return nil
	}})
	if _, _, err = b.query(t, object{"query": "Giant"}); err == nil || !strings.Contains(err.Error(), "column a") {
		t.Errorf("a giant cell: %v", err)
	}
	b.logs.SetRows("Wrong", azurefake.Result{Stream: func(w io.Writer) error {
		_, err := io.WriteString(w, `{"tables":"none"}`)
		return err
	}})
	if _, _, err = b.query(t, object{"query": "Wrong"}); err == nil || !strings.Contains(err.Error(), "list of tables") {
		t.Errorf("a wrong type: %v", err)
	}
}

// series is a table with a row for each step of time.
func series(from time.Time, step time.Duration, n int) azurefake.Table {
	t := azurefake.Table{Columns: []azurefake.Column{{Name: "TimeGenerated", Type: "datetime"}, {Name: "n", Type: "long"}}}
	for i := range n {
		t.Rows = append(t.Rows, []any{from.Add(time.Duration(i) * step).Format("2006-01-02T15:04:05.9999999Z"), i})
	}
	return t
}

func numbers(rows []string) []int {
	var out []int
	for _, r := range rows {
		var v struct{ N int }
		_ = json.Unmarshal([]byte(r), &v)
		out = append(out, v.N)
	}
	return out
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestQuerySplitsByTime(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	span := func(to time.Time) string {
		return from.Format(time.RFC3339) + "/" + to.Format(time.RFC3339)
	}
	for _, tc := range []struct {
		name, query string
		rows, most  int
		step        time.Duration
		reversed    bool
	}{
		{"one answer", "S", 100, 100, time.Minute, false},
		{"two", "S", 101, 100, time.Minute, false},
		{"many", "S | where n2 == \"x\"", 300, 7, time.Minute, false},
		{"descending", "S | sort by TimeGenerated desc", 333, 10, time.Minute, true},
		{"ascending", "S // of old\n| order by TimeGenerated asc | project n", 333, 10, time.Minute, false},
		// Rows on every edge: intervals are halved where rows are.
		{"rows on the edges", "S", 129, 2, time.Minute, false},
		{"bursts of the same time", "S", 64, 8, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, azurefake.Options{}, nil)
			table := series(from, tc.step, tc.rows)
			table.Columns = append(table.Columns, azurefake.Column{Name: "n2", Type: "string"})
			for i := range table.Rows {
				table.Rows[i] = append(table.Rows[i], "x")
				if tc.step == 0 { // eight at a time
					table.Rows[i][0] = from.Add(time.Duration(i/8) * time.Hour).Format(time.RFC3339)
				}
			}
			b.logs.SetTable("S", table, tc.most)
			to := from.Add(time.Duration(max(tc.rows-1, 1)) * max(tc.step, time.Hour))
			if tc.step > 0 {
				to = from.Add(time.Duration(tc.rows-1) * tc.step)
			}
			rows, sum, err := b.query(t, object{"query": tc.query, "timespan": span(to)})
			if err != nil {
				t.Fatal(err)
			}
			want := upTo(tc.rows)
			if tc.reversed {
				slices.Reverse(want)
			}
			if d := cmp.Diff(want, numbers(rows)); d != "" {
				t.Error(d)
			}
			if sum.RowCount != tc.rows || sum.Partial || (sum.Slices > 1) != (tc.rows > tc.most) {
				t.Errorf("%+v", sum)
			}
			for _, a := range b.logs.Asked() {
				if a.Timespan != b.logs.Asked()[0].Timespan {
					t.Errorf("the timespan moved: %s", a.Timespan)
				}
			}
		})
	}
}

func TestQueryThatCannotBeSplit(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	b := newBench(t, azurefake.Options{}, nil)
	b.logs.SetTable("S", series(from, time.Second, 100), 10)
	const span = "2026-09-01T00:00:00Z/PT2M"
	for _, tc := range []struct {
		in    object
		asked int
		says  string // empty: it succeeds
		rows  int
	}{
		{object{"query": "S | take 50", "timespan": span}, 1, "take at 1:5 works on all rows together", 0},
		{object{"query": "S | take 50", "timespan": span, "split": "force", "max_rows": 1000}, 30, "", 100},
		{object{"query": "S", "timespan": span, "split": "off"}, 1, "only a part", 0},
		{object{"query": "S"}, 1, "only a part", 0},
		{object{"query": "S", "timespan": span, "split": "off", "allow_partial": true}, 1, "", 10},
		{object{"query": "S", "timespan": span, "max_rows": 25}, 100, "max_rows = 25", 0},
		{object{"query": "S", "timespan": span, "max_rows": 25, "allow_partial": true}, 100, "", 25},
		{object{"query": "S", "timespan": "2026-09-01T00:00:00Z/PT1.5S", "max_rows": 1000}, 1, "", 2},
	} {
		before := len(b.logs.Asked())
		rows, sum, err := b.query(t, tc.in)
		asked := len(b.logs.Asked()) - before
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) || asked > tc.asked {
				t.Errorf("%v: %v after %d queries", tc.in, err, asked)
			}
			continue
		}
		if err != nil || len(rows) != tc.rows || sum.RowCount != tc.rows || asked > tc.asked {
			t.Errorf("%v: %d rows, %+v, %v after %d queries", tc.in, len(rows), sum, err, asked)
		}
		if allowed := tc.in["allow_partial"] == true; sum.Partial != allowed {
			t.Errorf("%v: partial is %v", tc.in, sum.Partial)
		}
		if d := cmp.Diff(upTo(tc.rows), numbers(rows)); d != "" {
			t.Error(d)
		}
	}
	// More in one instant than an answer holds.
	table := series(from, 0, 11)
	b.logs.SetTable("S", table, 10)
	if _, _, err := b.query(t, object{"query": "S", "timespan": span}); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("%v", err)
	}
}

func TestQuerySharesTheLimitsOfAnIdentity(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{QueriesAtOnce: 5}, nil)
	release := make(chan struct{})
	var running, most atomic.Int64
	b.logs.SetQuery(func(_, _, _ string) (azurefake.Result, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			was := most.Load()
			if n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		<-release
		return canned([]azurefake.Column{{Name: "a", Type: "int"}}, []any{1}), nil
	})
	done := make(chan error, 12)
	for range cap(done) {
		go func() { done <- b.Call(context.WithoutCancel(t.Context()), "query", object{"query": "T"}, nil) }()
	}
	for range cap(done) {
		release <- struct{}{}
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err) // the fake refuses the sixth
		}
	}
	if most.Load() > 5 {
		t.Errorf("%d queries at once", most.Load())
	}
}

func TestQueryWaitsForItsTurnNoLongerThanItsCaller(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	release := make(chan struct{})
	begun := make(chan struct{}, 5)
	b.logs.SetQuery(func(_, _, _ string) (azurefake.Result, error) {
		begun <- struct{}{}
		<-release
		return azurefake.Result{NoContent: true}, nil
	})
	done := make(chan error, 5)
	for range cap(done) {
		go func() { done <- b.Call(context.WithoutCancel(t.Context()), "query", object{"query": "T"}, nil) }()
	}
	for range cap(begun) {
		<-begun
	}
	ctx, cancel := context.WithCancel(t.Context())
	late := make(chan error, 1)
	go func() { late <- b.Call(ctx, "query", object{"query": "T"}, nil) }()
	cancel()
	if err := <-late; err == nil {
		t.Error("a sixth query got through")
	}
	close(release)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestQueryWithAWrongIdentity(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{Apps: []azurefake.App{{ClientID: "3a1c9c52-0f2e-4b7a-8f10-ffffffffffff", Secret: "s", Workspaces: []string{}}}}, nil)
	_, _, err := b.query(t, object{"query": "T"})
	var e *sdk.Error
	if !errors.As(err, &e) || e.Class() != plugin.ClassDenied || !strings.Contains(err.Error(), "InsufficientAccessError") || !strings.Contains(err.Error(), "Log Analytics Reader") {
		t.Errorf("%v", err)
	}
	b = newBench(t, azurefake.Options{}, object{"scope": "https://graph.microsoft.com/.default"})
	if _, _, err = b.query(t, object{"query": "T"}); !errors.As(err, &e) || e.Class() != plugin.ClassConfig && e.Class() != plugin.ClassAuth || !strings.Contains(err.Error(), "scope") {
		t.Errorf("a token for another API: %v", err)
	}
	b = newBench(t, azurefake.Options{}, object{"workspace": "11111111-90aa-4a3e-8a35-1f6f0f9f2c11"})
	if _, _, err = b.query(t, object{"query": "T"}); !errors.As(err, &e) || e.Class() != plugin.ClassNotFound || e.HTTPStatus != http.StatusNotFound {
		t.Errorf("a workspace that is not there: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for field, more := range map[string]object{
		"/workspace": {"workspace": "my workspace"}, "/wait": {"wait": "1h"}, "/base_url": {"base_url": "http://example.com"},
	} {
		config := object{"credential": object{"token": "t"}, "workspace": "w"}
		maps.Copy(config, more)
		_, err := sdktest.Try(t, loganalytics.Connector(), config)
		var e *sdk.Error
		if !errors.As(err, &e) || len(e.Violations) != 1 || e.Violations[0].Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	probes, err := b.Check(t.Context())
	if err != nil || len(probes) == 0 || probes[0].Status != sdk.ProbeOK {
		t.Errorf("%+v, %v", probes, err)
	}
}
