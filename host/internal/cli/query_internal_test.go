package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// printed runs rows through an output.
func printed(t *testing.T, o queryOptions, query, summary string, rows ...string) string {
	t.Helper()
	var b bytes.Buffer
	s := o.sink(&b, query)
	if err := s.chunk([]byte(strings.Join(rows, "\n") + "\n")); err != nil {
		t.Fatal(err)
	}
	var sum querySummary
	if err := json.Unmarshal([]byte(summary), &sum); err != nil {
		t.Fatal(err)
	}
	if err := s.end(json.RawMessage(summary), &sum); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const twoColumns = `{"columns":[{"name":"a","type":"string"},{"name":"n","type":"long"}],"row_count":2,"partial":false}`

func TestQueryOutputs(t *testing.T) {
	t.Parallel()
	evil := `{"a":"=cmd|' /C calc'!A0","n":-5}`
	ansi := "{\"a\":\"\\u001b[2J\u009b1m\u202eabc\\nü\",\"n\":null}"
	for _, tc := range []struct {
		name string
		o    queryOptions
		rows []string
		want string
	}{
		{"table", queryOptions{}, []string{evil, ansi}, "a                               n\n=cmd|' /C calc'!A0             -5\n\\u001b[2J\\u009b1m\\u202eabc\\nü\n"},
		{"csv", queryOptions{output: "csv"}, []string{evil, `{"a":"x,\"y\"\nz","n":null}`}, "a,n\r\n=cmd|' /C calc'!A0,-5\r\n\"x,\"\"y\"\"\r\nz\",\r\n"},
		{"csv for spreadsheets", queryOptions{output: "csv", csvSafe: true}, []string{evil, `{"a":"@x","n":1}`}, "a,n\r\n'=cmd|' /C calc'!A0,-5\r\n'@x,1\r\n"},
		{"ndjson", queryOptions{output: "ndjson"}, []string{evil, ansi}, evil + "\n" + ansi + "\n"},
		{"ndjson on a terminal", queryOptions{output: "ndjson", color: true}, []string{ansi}, `{"a":"\u001b[2J\u009b1m\u202eabc\nü","n":null}` + "\n"},
		{"json", queryOptions{output: "json"}, []string{evil, ansi}, "{\"rows\":[\n" + evil + ",\n" + ansi + "\n]," + twoColumns[1:] + "\n"},
		{"json without rows", queryOptions{output: "json"}, nil, "{\"rows\":[\n\n]," + twoColumns[1:] + "\n"},
		{"csv without rows", queryOptions{output: "csv"}, nil, "a,n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := printed(t, tc.o, "T", twoColumns, tc.rows...)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
			if tc.o.output == "json" && !json.Valid([]byte(got)) {
				t.Error("it is no JSON")
			}
		})
	}
}

func TestQueryTableFits(t *testing.T) {
	t.Parallel()
	row := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"column %d":"%s"`, i, strings.Repeat("界x", 3+i*7%40))
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, columns := range []int{1, 3, 7, 8, 9, 40} {
		for _, width := range []int{20, 80, 133} {
			got := printed(t, queryOptions{width: width}, "T", `{"columns":[]}`, row(columns), row(columns))
			for line := range strings.Lines(got) {
				if w := displayWidth(strings.TrimRight(line, "\n")); w > width {
					t.Errorf("%d columns on %d: a line of %d: %q", columns, width, w, line)
				}
			}
			if !utf8.ValidString(got) || !strings.Contains(got, "colum") {
				t.Errorf("%q", got)
			}
		}
	}
	// What is wider than the first rows let expect is cut, and nothing waits for the end.
	rows := make([]string, sampleRows+1)
	for i := range rows {
		rows[i] = `{"a":"x"}`
	}
	rows[sampleRows] = `{"a":"` + strings.Repeat("y", 100) + `"}`
	if got := printed(t, queryOptions{width: 40}, "T", `{"columns":[]}`, rows...); !strings.HasSuffix(got, "\nx\n…\n") {
		t.Errorf("…%q", got[len(got)-40:])
	}
}

func TestQueryCharts(t *testing.T) {
	t.Parallel()
	const columns = `{"columns":[{"name":"TimeGenerated","type":"datetime"},{"name":"user","type":"string"},{"name":"count_","type":"long"}],"render":{"visualization":"%s","title":"T"}}`
	rows := []string{
		`{"TimeGenerated":"2026-11-01T00:00:00Z","user":"a","count_":0}`, `{"TimeGenerated":"2026-11-01T01:00:00Z","user":"a","count_":7}`,
		`{"TimeGenerated":"2026-11-01T02:00:00Z","user":"b","count_":12500}`, `{"TimeGenerated":"2026-11-01T03:00:00Z","user":"a","count_":null}`,
		`{"TimeGenerated":"2026-11-01T04:00:00Z","user":"a","count_":3.5}`,
	}
	o := queryOptions{chart: true, width: 60}
	got := printed(t, o, "T | render timechart", fmt.Sprintf(columns, "timechart"), rows...)
	want := "T\n" +
		"a  ▁█  ▅  min 0 max 7 last 3.5\n" +
		"b    ▁    min 12.5k max 12.5k last 12.5k\n" +
		"   2026-11-01T00:00:00Z … 2026-11-01T04:00:00Z\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	got = printed(t, o, "T | render barchart", `{"columns":[{"name":"k","type":"string"},{"name":"n","type":"long"}],"render":{"visualization":"barchart"}}`,
		`{"k":"alpha","n":100}`, `{"k":"b\u001b","n":50}`, `{"k":"c","n":0}`, `{"k":"d","n":null}`)
	want = "alpha    100  " + strings.Repeat("█", 46) + "\nb\\u001b   50  " + strings.Repeat("█", 23) + "\nc          0  \nd          -  \n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// What cannot be drawn is a table, and so is what is not asked to be drawn.
	for _, tc := range []struct{ query, summary string }{
		{"T | render timechart", `{"columns":[{"name":"k","type":"string"}],"render":{"visualization":"timechart"}}`},
		{"T | render table", `{"columns":[{"name":"k","type":"string"},{"name":"n","type":"long"}],"render":{"visualization":"table"}}`},
		{"T", twoColumns},
	} {
		if got := printed(t, o, tc.query, tc.summary, `{"k":"x"}`); !strings.HasPrefix(got, "k\nx") {
			t.Errorf("%s: %q", tc.query, got)
		}
	}
}

func TestQueryParams(t *testing.T) {
	t.Parallel()
	got, err := queryParams([]string{"a=x=y", "b:long=5", "c:dynamic=[1]", "d="})
	want := map[string]any{
		"a": "x=y", "b": map[string]any{"type": "long", "value": "5"},
		"c": map[string]any{"type": "dynamic", "value": json.RawMessage("[1]")}, "d": "",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	for _, bad := range [][]string{{"a"}, {"=x"}, {"a:dynamic=x"}, {"a=1", "a=2"}} {
		if _, err := queryParams(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[31m\u202e\x9b\xff")
	f.Fuzz(func(t *testing.T, s string) {
		p := printable(s)
		if strings.ContainsFunc(p, unprintable) {
			t.Errorf("%q became %q", s, p)
		}
		if w := displayWidth(fitCell(p, 10)); w > 10 {
			t.Errorf("%q does not fit: %d", p, w)
		}
	})
}
