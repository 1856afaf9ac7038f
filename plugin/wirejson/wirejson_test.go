package wirejson_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/plugin/wirejson"
)

// samples are good and bad; what is right about them is the oracles' to say.
var samples = []string{
	`{}`, `[]`, `""`, `0`, `-0`, `true`, `false`, `null`, ` null `, "\t[\r\n]\n", `{"a":1,"b":[1,2,{"c":null}],"a":2}`,
	`{"a" : [ 1 , 2 ] }`, `-1.5e-300`, `1e999999`, `1E+2`, `123456789012345678901234567890`, `01`, `-`, `+1`, `1.`, `.5`, `1e`, `1e+`, `0x1`, `- 1`,
	``, ` `, `{`, `}`, `[`, `]`, `[}`, `{]`, `[1}`, `{"a":1]`, `[1,]`, `[,1]`, `{,}`, `{"a":1,}`, `{"a"}`, `{"a":}`, `{"a",1}`, `{1:2}`, `{"a" 1}`, `[1 2]`,
	`1 2`, `{}{}`, `[][]`, `tru`, `truE`, `nul`, `nulll`, `fals`, `NaN`, `Infinity`, `-Infinity`, `'a'`, `undefined`, "\ufeff{}", "\x00", "\v1", "1\x00", "\xa01",
	`"abcdefgh"`, `"abcdefghi`, `"abcdefg\"`, `"abcdefg\""`, `"\u0041\n\t\\\/\b\f\r"`, `"\x"`, `"\u12"`, `"\u12G4"`, `"\`, `"\u`,
	`"\ud83d\ude00"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ud83dx"`, `"\ude00"`, `"\ud83d\ud83d"`, `"\ud83d\n"`, `"\ud83d\u0041"`, `"\udbff\udfff"`, `"\ud83d\u`,
	"\"\x01\"", "\"a\nb\"", "\"\x7f\"", "\"\xff\"", "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", "\"\xf4\x90\x80\x80\"",
	"\"1234567\x1f\"", "\"12345678\x80\"", "\"\ufffd\"", "\"\u2028\"", `[[[[[[[[]]]]]]]]`, `[{"a":[{"b":[{}]}]}]`, `{"":""}`,
	`["NaN","Infinity",1e400]`, `{"a":1}` + "\n", `{"a":"x\u000ay"}`,
}

func nested(n int, inner string) string {
	return strings.Repeat(`[{"a":`, n/2) + inner + strings.Repeat(`}]`, n/2)
}

// oracle is what the host held rows against before; it looks at the halves of surrogate pairs and at UTF-8.
func oracle(b []byte) bool { return jsontext.Value(b).IsValid(jsontext.AllowDuplicateNames(true)) }

func judge(t *testing.T, text string) {
	t.Helper()
	b := []byte(text)
	valid := wirejson.Valid(b)
	if want := oracle(b); valid != want {
		t.Fatalf("Valid(%.200q) = %v, want %v", text, valid, want)
	}
	// Beyond what encoding/json says there are just UTF-8 and surrogates.
	if valid && (!json.Valid(b) || !utf8.Valid(b)) || !valid && json.Valid(b) && utf8.Valid(b) && !strings.Contains(strings.ToLower(text), `\ud`) {
		t.Fatalf("Valid(%.200q) = %v, encoding/json says otherwise", text, valid)
	}
	compact := false
	if valid {
		var out bytes.Buffer
		if err := json.Compact(&out, b); err != nil {
			t.Fatal(err)
		}
		compact = bytes.Equal(out.Bytes(), b)
	}
	if got := wirejson.Compact(b, 10_000); got != compact {
		t.Fatalf("Compact(%.200q) = %v, want %v", text, got, compact)
	}
	// A string or a number at the beginning ends where the value ends.
	if len(b) == 0 {
		return
	}
	end, alone := -1, false
	switch c := b[0]; {
	case c == '"':
		end, alone = wirejson.String(b, 0), true
	case c == '-', '0' <= c && c <= '9':
		end, alone = wirejson.Number(b, 0), true
	}
	if alone && compact && end != len(b) || end >= 0 && !oracle(b[:end]) {
		t.Fatalf("%.200q ends at %d of %d", text, end, len(b))
	}
}

func TestValid(t *testing.T) {
	t.Parallel()
	for _, s := range samples {
		judge(t, s)
		judge(t, "["+s+"]")
		judge(t, `{"a":`+s+`,"b":0}`)
		judge(t, "[0,"+s+" , 1]")
		for i := range s {
			judge(t, s[:i])
			judge(t, s[i:])
		}
	}
	for _, n := range []int{2, 62, 64, 66, 126, 128, 130, 192, 194, 1000, 9998, 10_000, 10_002, 100_000} {
		judge(t, nested(n, "1"))
		judge(t, nested(n, `[],{}`))
		judge(t, nested(n, "]"))
		judge(t, strings.TrimSuffix(nested(n, "1"), "]"))
		judge(t, nested(n, "1")+"]")
		judge(t, "["+nested(n, "1")+","+nested(n, "2")+"]")
	}
}

// Each place of a string is looked at, wherever the eight bytes begin that are looked at together.
func TestStringEveryByte(t *testing.T) {
	t.Parallel()
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				b := []byte(`["` + strings.Repeat("x", size) + `"]`)
				b[2+at] = byte(c)
				judge(t, string(b))
			}
		}
	}
}

func TestCompactDepth(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 64, 512} {
		if b := []byte(nested(n, "1")); !wirejson.Compact(b, n) || wirejson.Compact(b, n-1) {
			t.Errorf("depth %d is not told from %d", n, n-1)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	row := []byte(`{"TimeGenerated":"2026-09-02T06:14:03.2718281Z","d":{"a":[1,2,{"b":"\u00e4ä"}]},"n":null}`)
	if n := testing.AllocsPerRun(100, func() { _ = wirejson.Valid(row) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzValid holds the check against the libraries that it stands in for.
func FuzzValid(f *testing.F) {
	for _, s := range samples {
		f.Add(s)
	}
	f.Add(nested(130, `"x"`))
	f.Fuzz(judge)
}

func BenchmarkValid(b *testing.B) {
	row := []byte(`{"TimeGenerated":"2026-09-02T06:14:03.2718281Z","EventName":"ConsoleLogin","SourceIpAddress":"203.0.113.7",` +
		`"UserIdentityArn":"arn:aws:iam::123456789012:user/u7","EventId":9007199254740993,"ResponseTime":17.5,"Succeeded":true,` +
		`"AdditionalEventData":{"MFAUsed":"No","n":17},"Region":"eu-central-1","Count":17,"CorrelationId":"74be27de-1e4e-49d9-b579-000000000017","ErrorCode":null}`)
	for name, valid := range map[string]func([]byte) bool{"ours": wirejson.Valid, "jsontext": oracle, "encoding-json": json.Valid} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(row)))
			for b.Loop() {
				if !valid(row) {
					b.Fatal("the row is not valid")
				}
			}
		})
	}
}
