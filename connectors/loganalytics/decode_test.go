package loganalytics

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

func decodeAll(body string, lim limits) ([]string, Summary, error) {
	var rows []string
	sum, err := decode(strings.NewReader(body), lim, func(r rawRow) error {
		rows = append(rows, string(r))
		return nil
	})
	return rows, sum, err
}

func TestDecodeKeepsEveryType(t *testing.T) {
	t.Parallel()
	rows, sum, err := decodeAll(`{"tables":[{"name":"PrimaryResult","columns":[
		{"name":"b","type":"bool"},{"name":"l","type":"long"},{"name":"r","type":"real"},{"name":"n","type":"real"},
		{"name":"d","type":"dynamic"},{"name":"t","type":"dynamic"},{"name":"x","type":"decimal"},{"name":"x","type":"string"},{"name":"z","type":"datetime"}],
		"rows":[[true,9223372036854775807,0.1,"NaN","{\"a\": [1, 2]}","text","1.10","{\"not\":\"dynamic\"}","2026-09-02T06:14:03.2718281Z"],
		        [null,null,null,null,{"native":1},null,null,null,null]]},
		{"name":"Other","columns":[{"name":"q","type":"long"}],"rows":[[1]]}]}`, limits{rows: 10})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"b":true,"l":9223372036854775807,"r":0.1,"n":"NaN","d":{"a":[1,2]},"t":"text","x":"1.10","x_1":"{\"not\":\"dynamic\"}","z":"2026-09-02T06:14:03.2718281Z"}`,
		`{"b":null,"l":null,"r":null,"n":null,"d":{"native":1},"t":null,"x":null,"x_1":null,"z":null}`,
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
	if sum.RowCount != 2 || sum.Partial || len(sum.Columns) != 9 || sum.Columns[7].Name != "x_1" {
		t.Errorf("summary %+v", sum)
	}
}

func TestDecodeRowsBeforeColumns(t *testing.T) {
	t.Parallel()
	rows, _, err := decodeAll(`{"tables":[{"rows":[[1],[2]],"columns":[{"name":"a","type":"int"}]}]}`, limits{rows: 10})
	if err != nil || len(rows) != 2 || rows[1] != `{"a":2}` {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestDecodeFaults(t *testing.T) {
	t.Parallel()
	const table = `{"tables":[{"columns":[{"name":"a","type":"int"}],"rows":[[1],[2]]}]`
	for _, tc := range []struct {
		name, body string
		lim        limits
		code       codes.Code
		says       string
		partial    bool
	}{
		{"empty", "", limits{rows: 9}, codes.Unavailable, "is empty", false},
		{"HTML", "<html><body>Service</body></html>", limits{rows: 9}, codes.Unavailable, "<html>", false},
		{"truncated", table[:len(table)-8], limits{rows: 9}, codes.Unavailable, "ends in the middle", false},
		{"no tables", `{"value":1}`, limits{rows: 9}, codes.Unavailable, "no tables", false},
		{"wrong shape", `{"tables":{"a":1}}`, limits{rows: 9}, codes.Unavailable, "expected", false},
		{"short row", `{"tables":[{"columns":[{"name":"a","type":"int"},{"name":"b","type":"int"}],"rows":[[1]]}]}`, limits{rows: 9}, codes.Unavailable, "1 cells for 2 columns", false},
		{"long row", `{"tables":[{"columns":[{"name":"a","type":"int"}],"rows":[[1,2]]}]}`, limits{rows: 9}, codes.Unavailable, "more cells", false},
		{"too many rows", table + "}", limits{rows: 1}, codes.OutOfRange, "max_rows = 1", false},
		{"too many rows, partial allowed", table + "}", limits{rows: 1, partial: true}, codes.OK, "", true},
		{"partial error", table + `,"error":{"code":"PartialError","message":"m","details":[{"message":"d","innererror":{"code":"-2133196797","message":"too large"}}]}}`, limits{rows: 9}, codes.OutOfRange, "-2133196797", false},
		{"partial error allowed", table + `,"error":{"code":"PartialError","message":"m"}}`, limits{rows: 9, partial: true}, codes.OK, "", true},
		{"giant row", `{"tables":[{"columns":[{"name":"a","type":"string"}],"rows":[["` + strings.Repeat("x", 1<<20) + `"]]}]}`, limits{rows: 9}, codes.OutOfRange, "over the limit", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, sum, err := decodeAll(tc.body, tc.lim)
			if tc.code == codes.OK {
				if err != nil || sum.Partial != tc.partial {
					t.Errorf("%+v, %v", sum, err)
				}
				return
			}
			var e *sdk.Error
			if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %v saying %q", err, tc.code, tc.says)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"tables":[{"columns":[{"name":"a","type":"dynamic"}],"rows":[["{\"a\":1}"]]}]}`)
	f.Add(`{"tables":[{"rows":[[1]],"columns":[]}],"error":{}}`)
	f.Fuzz(func(t *testing.T, body string) {
		n := 0
		sum, err := decode(strings.NewReader(body), limits{rows: 100}, func(rawRow) error { n++; return nil })
		if err == nil && sum.RowCount != n {
			t.Fatalf("summary says %d rows, %d came", sum.RowCount, n)
		}
	})
}
