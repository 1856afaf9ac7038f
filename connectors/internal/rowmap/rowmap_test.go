package rowmap_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/internal/rowmap"
)

func begin(t *testing.T, preset string, fields map[string]string, columns []rowmap.Column) *rowmap.Result {
	t.Helper()
	m, err := rowmap.New(preset, fields)
	if err != nil {
		t.Fatal(err)
	}
	return m.Begin(columns)
}

func TestMapFields(t *testing.T) {
	t.Parallel()
	fields := map[string]string{
		"src_endpoint.ip": "SourceIpAddress", "src_endpoint.port": "Port", "user.name": "Caller", "who": "Caller",
		"mfa": "Extra.MFAUsed", "deep": "Extra.list.1.a", "dotted": "a.b", "null": "Nothing",
	}
	for row, want := range map[string]string{
		`{"SourceIpAddress":"198.51.100.7","Port":9007199254740993,"Caller":"a \"b\"\u2028<","Extra":{"MFAUsed":"No","list":[0,{"a":[1, 2]}]},"a.b":1.50,"Nothing":null}`: `{"deep":[1, 2],"dotted":1.50,"mfa":"No","null":null,"src_endpoint":{"ip":"198.51.100.7","port":9007199254740993},"user":{"name":"a \"b\"\u2028<"},"who":"a \"b\"\u2028<"}`,
		// JSON in a text is entered, too; what is no JSON, or lacks the value, is null.
		`{"SourceIpAddress":"","Port":0,"Caller":false,"Extra":"{\"MFAUsed\" :\n \"Yes\", \"list\":[]}","a.b":"x","Nothing":1}`: `{"deep":null,"dotted":"x","mfa":"Yes","null":1,"src_endpoint":{"ip":"","port":0},"user":{"name":false},"who":false}`,
		`{"Extra":"no JSON","Port":1}`:                             `{"deep":null,"dotted":null,"mfa":null,"null":null,"src_endpoint":{"ip":null,"port":1},"user":{"name":null},"who":null}`,
		`{"Extra":"{\"MFAUsed\":"}`:                                `{"deep":null,"dotted":null,"mfa":null,"null":null,"src_endpoint":{"ip":null,"port":null},"user":{"name":null},"who":null}`,
		`{"Extra":[1],"Other":{"SourceIpAddress":"inside"},"x":1}`: `{"deep":null,"dotted":null,"mfa":null,"null":null,"src_endpoint":{"ip":null,"port":null},"user":{"name":null},"who":null}`,
		`{"Extra":null}`:                                           `{"deep":null,"dotted":null,"mfa":null,"null":null,"src_endpoint":{"ip":null,"port":null},"user":{"name":null},"who":null}`,
	} {
		got, err := begin(t, "", fields, nil).Row(nil, []byte(row))
		if err != nil || string(got) != want {
			t.Errorf("%s:\n%s, %v\nwant\n%s", row, got, err, want)
		}
	}
	// The memory of one row is not that of the next.
	r := begin(t, "", map[string]string{"a": "A", "b": "B.x"}, nil)
	var got []string
	for _, row := range []string{`{"A":"one","B":"{\"x\":1}"}`, `{"A":2,"B":{"x":"` + strings.Repeat("y", 5000) + `"}}`, `{"A":null,"B":0}`} {
		b, err := r.Row(nil, []byte(row))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	if d := cmp.Diff([]string{`{"a":"one","b":1}`, `{"a":2,"b":"` + strings.Repeat("y", 5000) + `"}`, `{"a":null,"b":null}`}, got); d != "" {
		t.Error(d)
	}
}

func TestMapRefuses(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 201 {
		many["f"+strings.Repeat("x", i)] = "C"
	}
	for name, c := range map[string]struct {
		preset string
		fields map[string]string
		want   string
	}{
		"name":     {"", map[string]string{"a-b": "C"}, "no name of a field"},
		"dots":     {"", map[string]string{"a..b": "C"}, "no name of a field"},
		"quote":    {"", map[string]string{`a":1,"b`: "C"}, "no name of a field"},
		"column":   {"", map[string]string{"a": ""}, "must name the column"},
		"conflict": {"", map[string]string{"a": "C", "a.b": "D"}, "a cannot be a value and have fields inside it, such as a.b"},
		"bundled":  {"", map[string]string{"a.b": "C", "a.b.c": "D"}, "a.b cannot be"},
		"preset":   {rowmap.AWSConsoleLogin, map[string]string{"user": "C"}, "user cannot be a value"},
		"unknown":  {"aws", nil, "there is no bundled map \"aws\"; there are aws_console_login"},
		"many":     {"", many, "has 201 fields"},
		"empty":    {"", map[string]string{"": "C"}, "no name of a field"},
	} {
		m, err := rowmap.New(c.preset, c.fields)
		if err == nil || !strings.Contains(err.Error(), c.want) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, preset := range []string{"", rowmap.None} {
		if m, err := rowmap.New(preset, nil); m != nil || err != nil {
			t.Errorf("nothing to map: %v, %v", m, err)
		}
	}
	for _, row := range []string{``, `[`, `{`, `{"A":`, `{"A":1`, `{"A" 1}`, `{"A":1,,}`, "\xff"} {
		if _, err := begin(t, "", map[string]string{"a": "A"}, []rowmap.Column{{Name: "A"}}).Row(nil, []byte(row)); err == nil {
			t.Errorf("%q was mapped", row)
		}
	}
}

func TestMapWarnings(t *testing.T) {
	t.Parallel()
	fields := map[string]string{"a": "Ip", "b": "Extra.x", "c": "Missing", "d": "ip", "e": "Gone.x", "g": "Extra.y"}
	r := begin(t, "", fields, nil)
	for _, row := range []string{`{"Ip":null,"Extra":{}}`, `{"Ip":1,"Extra":{"y":null}}`} {
		if _, err := r.Row(nil, []byte(row)); err != nil {
			t.Fatal(err)
		}
	}
	columns := []rowmap.Column{{"Ip", "string"}, {"Extra", "dynamic"}}
	want := []string{
		"map: Extra.x is in no row; b is null",
		"map: the result has no column Missing (there are Ip, Extra); c is null",
		"map: the result has no column ip (names count by case: there is Ip); d is null",
		"map: the result has no column Gone (there are Ip, Extra); e is null",
	}
	if d := cmp.Diff(want, r.Warnings(columns)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]rowmap.Column{{"a", "string"}, {"b", "dynamic"}, {"c", "dynamic"}, {"d", "dynamic"}, {"e", "dynamic"}, {"g", "dynamic"}}, r.Columns()); d != "" {
		t.Error(d)
	}
	// Without rows, what is known is which columns there are.
	if got := begin(t, "", map[string]string{"a": "Ip", "b": "Extra.x"}, nil).Warnings(columns); len(got) != 0 {
		t.Error(got)
	}
	if got := begin(t, "", map[string]string{"a": "No"}, nil).Warnings(columns); len(got) != 1 {
		t.Error(got)
	}
	got := begin(t, rowmap.AWSConsoleLogin, map[string]string{"user.name": "Renamed"}, []rowmap.Column{{"TimeGenerated", "datetime"}, {"SourceIpAddress", "string"}}).Warnings(nil)
	if len(got) != 2 || !strings.HasPrefix(got[0], "map: the result has no column Renamed") || !strings.HasPrefix(got[1], "normalize aws_console_login: the result has no columns for metadata.uid (AwsEventId), ") {
		t.Errorf("%q", got)
	}
}

// What AWS writes of a login, and what becomes of it.
func TestAWSConsoleLogin(t *testing.T) {
	t.Parallel()
	columns := map[string]any{
		"TimeGenerated": "2026-11-01T10:00:00Z", "AwsEventId": "3fcfb182", "EventName": "ConsoleLogin", "EventSource": "signin.amazonaws.com",
		"UserIdentityType": "Root", "UserIdentityUserName": nil, "UserIdentityPrincipalid": "123456789012", "UserIdentityArn": "arn:aws:iam::123456789012:root",
		"UserIdentityAccountId": "123456789012", "SourceIpAddress": "198.51.100.7", "UserAgent": "Mozilla/5.0", "RecipientAccountId": "123456789012",
		"AWSRegion": "us-east-1", "ErrorCode": "", "ErrorMessage": "", "ResponseElements": `{"ConsoleLogin":"Success"}`,
		"AdditionalEventData": `{"LoginTo":"https://console.aws.amazon.com/","MobileVersion":"No","MFAUsed":"No"}`,
	}
	for mfa, want := range map[string]any{"No": false, "Yes": true, "Maybe": nil} {
		columns["AdditionalEventData"] = `{"MFAUsed":"` + mfa + `"}`
		row, err := json.Marshal(columns)
		if err != nil {
			t.Fatal(err)
		}
		r := begin(t, rowmap.AWSConsoleLogin, nil, nil)
		b, err := r.Row(nil, row)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Time   string
			User   map[string]any
			Src    map[string]any `json:"src_endpoint"`
			Cloud  map[string]any
			Status string
			IsMFA  any `json:"is_mfa"`
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if got.Time != "2026-11-01T10:00:00Z" || got.User["type"] != "Root" || got.User["name"] != nil || got.Src["ip"] != "198.51.100.7" ||
			!reflect.DeepEqual(got.Cloud["account"], map[string]any{"uid": "123456789012"}) || got.Status != "Success" || got.IsMFA != want {
			t.Errorf("MFAUsed %s: %s", mfa, b)
		}
		if w := r.Warnings(nil); len(w) != 0 {
			t.Error(w)
		}
	}
	if d := cmp.Diff([]string{rowmap.AWSConsoleLogin}, rowmap.Presets()); d != "" {
		t.Error(d)
	}
	if f := rowmap.Fields()[rowmap.AWSConsoleLogin]; len(f) != 17 {
		t.Error(f)
	}
}

// Whatever a row is, what comes out is one JSON object on one line, with the fields of the map.
func FuzzRow(f *testing.F) {
	f.Add(`{"A":"{\"x\":[1,{\"y\":2}]}","B":null}`)
	f.Add("{\"A\":\"[\\n1]\",\"B\":{\"x\":1,\"x\":2}}")
	f.Add(`{"A":{"x":"\ud800"}}`)
	f.Fuzz(func(t *testing.T, row string) {
		if !json.Valid([]byte(row)) || strings.Contains(row, "\n") {
			t.Skip()
		}
		got, err := begin(t, "", map[string]string{"a": "A", "b.c": "A.x.1.y", "b.d": "B", "e": "A.0"}, nil).Row(nil, []byte(row))
		if err != nil {
			t.Skip() // no object, or no proper text
		}
		var out map[string]any
		if json.Unmarshal(got, &out) != nil || strings.Contains(string(got), "\n") || len(out) != 3 {
			t.Errorf("%q became %q", row, got)
		}
	})
}
