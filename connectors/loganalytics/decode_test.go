package loganalytics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// decodeAll decodes an answer that comes at once, and again byte by byte: what becomes of it must not depend on that.
func decodeAll(t *testing.T, body string, lim limits) ([]string, Summary, error) {
	t.Helper()
	read := func(r io.Reader) (rows []string, sum Summary, err error) {
		sum, err = decode(r, lim, func(r rawRow) error {
			rows = append(rows, string(r))
			return nil
		})
		return rows, sum, err
	}
	rows, sum, err := read(strings.NewReader(body))
	pieces, piecesSum, piecesErr := read(iotest.OneByteReader(strings.NewReader(body)))
	if d := cmp.Diff(rows, pieces); d != "" {
		t.Fatalf("%.2000q: rows at once, and byte by byte: %s", body, d)
	}
	if d := cmp.Diff(sum, piecesSum); d != "" {
		t.Fatalf("%.2000q: the summary at once, and byte by byte: %s", body, d)
	}
	if fmt.Sprint(err) != fmt.Sprint(piecesErr) {
		t.Fatalf("%.2000q: at once: %v\nbyte by byte: %v", body, err, piecesErr)
	}
	return rows, sum, err
}

func TestDecodeKeepsEveryType(t *testing.T) {
	t.Parallel()
	rows, sum, err := decodeAll(t, `{"tables":[{"name":"PrimaryResult","columns":[
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
	rows, _, err := decodeAll(t, `{"tables":[{"rows":[[1],[2]],"columns":[{"name":"a","type":"int"}]}]}`, limits{rows: 10})
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
		{"rows without columns", `{"tables":[{"rows":[[1]]}]}`, limits{rows: 9}, codes.Unavailable, "no columns", false},
		{"control character", "{\"tables\":[{\"columns\":[{\"name\":\"a\",\"type\":\"string\"}],\"rows\":[[\"\x01\"]]}]}", limits{rows: 9}, codes.Unavailable, "control character", false},
		{"nested without end", `{"tables":` + strings.Repeat("[", 100_000), limits{rows: 9}, codes.Unavailable, "where", false},
		{"deep cell", `{"tables":[{"columns":[{"name":"a","type":"dynamic"}],"rows":[[` + strings.Repeat("[", 100_000), limits{rows: 9}, codes.Unavailable, "deep", false},
		{"short row", `{"tables":[{"columns":[{"name":"a","type":"int"},{"name":"b","type":"int"}],"rows":[[1]]}]}`, limits{rows: 9}, codes.Unavailable, "1 cells for 2 columns", false},
		{"long row", `{"tables":[{"columns":[{"name":"a","type":"int"}],"rows":[[1,2]]}]}`, limits{rows: 9}, codes.Unavailable, "more cells", false},
		{"too many rows", table + "}", limits{rows: 1}, codes.OutOfRange, "max_rows = 1", false},
		{"too many rows, partial allowed", table + "}", limits{rows: 1, partial: true}, codes.OK, "", true},
		{"partial error", table + `,"error":{"code":"PartialError","message":"m","details":[{"message":"d","innererror":{"code":"-2133196797","message":"too large"}}]}}`, limits{rows: 9}, codes.OutOfRange, "-2133196797", false},
		{"partial error allowed", table + `,"error":{"code":"PartialError","message":"m"}}`, limits{rows: 9, partial: true}, codes.OK, "", true},
		{"no error", table + `,"error":null}`, limits{rows: 9}, codes.OK, "", false},
		{"more behind the end", table + `} {}`, limits{rows: 9}, codes.Unavailable, "behind its end", false},
		{"white space behind the end", table + "}\r\n ", limits{rows: 9}, codes.OK, "", false},
		{"a cell that is no JSON", `{"tables":[{"columns":[{"name":"a","type":"real"}],"rows":[[NaN]]}]}`, limits{rows: 9}, codes.Unavailable, "where a value is expected", false},
		{"a number cut short", `{"tables":[{"columns":[{"name":"a","type":"real"}],"rows":[[1.]]}]}`, limits{rows: 9}, codes.Unavailable, "is no number", false},
		{"no comma between cells", `{"tables":[{"columns":[{"name":"a","type":"int"},{"name":"b","type":"int"}],"rows":[[1 2]]}]}`, limits{rows: 9}, codes.Unavailable, "is expected", false},
		{"giant row", `{"tables":[{"columns":[{"name":"a","type":"string"}],"rows":[["` + strings.Repeat("x", 1<<20) + `"]]}]}`, limits{rows: 9}, codes.OutOfRange, "over the limit", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, sum, err := decodeAll(t, tc.body, tc.lim)
			err = (&Client{}).failed(&ask{bound: &bound{}}, err, "")
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

func TestDecodeTables(t *testing.T) {
	t.Parallel()
	const side = `{"name":"Side","columns":[{"name":"s","type":"string"}],"rows":[["x"],["y"]]}`
	const main = `{"name":"PrimaryResult","columns":[{"name":"a","type":"int"}],"rows":[[1],[2]]}`
	for _, tc := range []struct {
		name, tables string
		lim          limits
		want         []string
	}{
		{"primary first", main + "," + side, limits{rows: 9}, []string{`{"a":1}`, `{"a":2}`}},
		{"primary last", side + "," + main, limits{rows: 9}, []string{`{"a":1}`, `{"a":2}`}},
		{"two primaries", main + "," + main, limits{rows: 9}, []string{`{"a":1}`, `{"a":2}`}},
		{"none called so", side + "," + side, limits{rows: 9}, []string{`{"s":"x"}`, `{"s":"y"}`}},
		{"all", side + "," + main, limits{rows: 9, all: true}, []string{`{"$table":"Side","s":"x"}`, `{"$table":"Side","s":"y"}`, `{"$table":"PrimaryResult","a":1}`, `{"$table":"PrimaryResult","a":2}`}},
		{"no columns, no cells", `{"name":"PrimaryResult","columns":[],"rows":[[],[]]}`, limits{rows: 9}, []string{`{}`, `{}`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rows, sum, err := decodeAll(t, `{"tables":[`+tc.tables+`]}`, tc.lim)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, rows); d != "" {
				t.Error(d)
			}
			if sum.RowCount != len(rows) || tc.lim.all && (len(sum.Tables) != 2 || sum.Tables[1].RowCount != 2 || sum.Tables[0].Name != "Side") {
				t.Errorf("%+v", sum)
			}
		})
	}
	_, sum, err := decodeAll(t, `{"tables":[`+side+`]}`, limits{rows: 1})
	if err == nil || sum.RowCount != 1 {
		t.Errorf("max_rows does not bound what was held back: %+v, %v", sum, err)
	}
}

func TestDecodeMendsText(t *testing.T) {
	t.Parallel()
	rows, _, err := decodeAll(t, `{"tables":[{"columns":[{"name":"a\"b","type":"string"},{"name":"d","type":"dynamic"},{"name":"o","type":"object"}],"rows":[
		["\ud800 \ud83d\ude00 \udc00x","{\"k\":\"\\ud83d\\ude00 \\n\",\"k\":1e5}",{ "native" : [ 1 , { } ] }],
		["a\u0000b","{not json",-0.5e-3],["\/","[1,2","" ],["","[1] x",[]]]}]}`, limits{rows: 10})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"a\"b":"\ufffd \ud83d\ude00 \ufffdx","d":{"k":"\ud83d\ude00 \n","k":1e5},"o":{"native":[1,{}]}}`,
		`{"a\"b":"a\u0000b","d":"{not json","o":-0.5e-3}`,
		`{"a\"b":"\/","d":"[1,2","o":""}`,
		`{"a\"b":"","d":"[1] x","o":[]}`,
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
	rows, _, err = decodeAll(t, "{\"tables\":[{\"columns\":[{\"name\":\"a\",\"type\":\"string\"}],\"rows\":[[\"\xff \xe2\x82\xac \xe2\x82\"]]}]}", limits{rows: 10})
	if err != nil || rows[0] != "{\"a\":\"\ufffd € \ufffd\ufffd\"}" && rows[0] != "{\"a\":\"\ufffd € \ufffd\"}" {
		t.Errorf("%q, %v", rows, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"tables":[{"columns":[{"name":"a","type":"dynamic"}],"rows":[["{\"a\":1}"]]}]}`,
		`{"tables":[{"rows":[[1]],"columns":[]}],"error":{}}`,
		`{"tables":[{"name":"Side","columns":[{"name":"a","type":"int"},{"name":"a","type":"real"}],"rows":[[1,-2.5e1],[null , 0]]},{"name":"PrimaryResult","columns":[],"rows":[[]]}]}`,
		`{"tables":[{"name":"PrimaryResult","columns":[{"name":"a","type":"string"}],"rows":[["x"],["\ud800"],["NaN"],[true]]}],"error":{"code":"PartialError"}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, lim := range []limits{{rows: 100}, {rows: 2, partial: true}, {rows: 100, all: true}} {
			rows, sum, err := decodeAll(t, body, lim)
			for _, row := range rows {
				if !json.Valid([]byte(row)) || !utf8.ValidString(row) || strings.ContainsAny(row, "\n\r") {
					t.Fatalf("row %q is not one line of JSON", row)
				}
			}
			if err == nil && (sum.RowCount != len(rows) || !json.Valid([]byte(body)) && !sum.Partial) {
				t.Fatalf("%q: summary says %d rows, %d came", body, sum.RowCount, len(rows))
			}
		}
	})
}

// FuzzRow holds rows against what encoding/json makes of their cells.
func FuzzRow(f *testing.F) {
	for _, s := range []string{
		`"x",1,"{\"a\":[1,{\"b\":\"\\ud800\"}]}"`, `"\ud83d\ude00","NaN","[1, 2 ]"`, `null,1e400,{"a":1,"a":2}`, `"\udc00x",-0,"{\"a\":1} x"`, `1,2`, `1,2,3,4`,
		"\"\xff\",12345678901234567890123456789,\"[\"", "true , false\n,\"{\xff}\"", `"\u0000","\/",[[[]]]`, `[],{},"{\"a\":1,\"a\":2}"`, `01,1,1`, `"a"b,1,1`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, cells string) {
		body := `{"tables":[{"name":"PrimaryResult","columns":[{"name":"s","type":"string"},{"name":"x","type":"real"},{"name":"d","type":"dynamic"}],"rows":[[` + cells + `]]}]}`
		rows, _, err := decodeAll(t, body, limits{rows: 100})
		var want struct {
			Tables []struct{ Rows [][]any }
		}
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		good := json.Valid([]byte(body)) && dec.Decode(&want) == nil && len(want.Tables) == 1
		for i := 0; good && i < len(want.Tables[0].Rows); i++ {
			good = len(want.Tables[0].Rows[i]) == 3
		}
		if strings.Count(body, "[") > deepest || !good && len(want.Tables) > 0 && err == nil {
			return // nested too deep, or cells that end the table and begin another
		}
		if good != (err == nil) {
			t.Fatalf("%s: %v, and encoding/json says %v", cells, err, good)
		}
		for i, row := range rows {
			if !good {
				break
			}
			var have map[string]any
			d := json.NewDecoder(strings.NewReader(row))
			d.UseNumber()
			if err := d.Decode(&have); err != nil || len(have) != 3 {
				t.Fatalf("%s became %s: %v", cells, row, err)
			}
			cell := want.Tables[0].Rows[i]
			if text, ok := cell[2].(string); ok {
				var inner any
				in := json.NewDecoder(strings.NewReader(text))
				in.UseNumber()
				if _, same := have["d"].(string); !same && json.Valid([]byte(text)) && in.Decode(&inner) == nil {
					cell[2] = inner
				}
			}
			if diff := cmp.Diff(map[string]any{"s": cell[0], "x": cell[1], "d": cell[2]}, have); diff != "" {
				t.Fatalf("%s became %s: %s", cells, row, diff)
			}
		}
	})
}

// FuzzScan holds the scanner against encoding/json, however the bytes come.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+7,"x\\ud83d\\ude00",true,false,null,{}]}`, "01", "-", "1.", `"\x`, "\"\xff\"", "[1,]", `{"a" 1}`, `"abcdefgh\"ijk"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s scanner
		s.over([]byte(text), 1<<20)
		got, err := s.value(nil)
		if err == nil {
			if _, trailing := s.peek(); trailing == nil {
				err = errors.New("trailing")
			}
		}
		if (err == nil) != json.Valid([]byte(text)) {
			t.Fatalf("%q: %v, and encoding/json says %v", text, err, json.Valid([]byte(text)))
		}
		if err != nil {
			return
		}
		var want, have any
		if json.Unmarshal([]byte(text), &want) != nil || json.Unmarshal(got, &have) != nil || !cmp.Equal(want, have) {
			t.Fatalf("%q became %q", text, got)
		}
		in := newScanner(iotest.HalfReader(strings.NewReader(text)), 1<<20)
		if again, err := in.value(nil); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q in pieces became %q, %v", text, again, err)
		}
		if len(text) > 0 && (text[0] == '"') && !bytes.Contains(got, []byte("ufffd")) {
			if s, _ := have.(string); string(unquote(nil, got)) != s {
				t.Fatalf("%q unquoted is %q", got, unquote(nil, got))
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := benchBody(20_000)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := decode(bytes.NewReader(body), limits{rows: 1 << 30}, func(rawRow) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeWithEncodingJSON(b *testing.B) {
	body := benchBody(20_000)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		var in struct {
			Tables []struct {
				Columns []Column
				Rows    [][]any
			}
		}
		if err := json.Unmarshal(body, &in); err != nil {
			b.Fatal(err)
		}
		rows := make([]map[string]any, 0, len(in.Tables[0].Rows))
		for _, r := range in.Tables[0].Rows {
			m := make(map[string]any, len(r))
			for i, c := range in.Tables[0].Columns {
				m[c.Name] = r[i]
			}
			rows = append(rows, m)
		}
		if len(rows) != 20_000 {
			b.Fatal(len(rows))
		}
	}
}

func benchBody(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"tables":[{"name":"PrimaryResult","columns":[`)
	for i := range 12 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"Column%d","type":%q}`, i, []string{"datetime", "string", "long", "dynamic"}[i%4])
	}
	b.WriteString(`],"rows":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('[')
		for c := range 12 {
			if c > 0 {
				b.WriteByte(',')
			}
			switch c % 4 {
			case 0:
				fmt.Fprintf(&b, `"2026-09-02T06:14:%02d.2718281Z"`, i%60)
			case 1:
				fmt.Fprintf(&b, `"user%d@contoso.example"`, i)
			case 2:
				fmt.Fprint(&b, i*31)
			case 3:
				fmt.Fprintf(&b, `"{\"ip\":\"203.0.113.%d\"}"`, i%256)
			}
		}
		b.WriteByte(']')
	}
	b.WriteString(`]}]}`)
	return b.Bytes()
}
