package event

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// strictly is what strictMembers must never be more lenient than.
func strictly(b []byte) bool {
	v := jsontext.Value(b)
	return v.Kind() == '{' && v.IsValid()
}

var strictCases = map[string]struct {
	data string
	fast bool // it must be sure
}{
	"empty":             {`{}`, true},
	"white space":       {" \t\r\n{ \"a\" : [ 1 , { } , [ ] ] , \"b\" : null } \n", true},
	"values":            {`{"a":-0.5e+10,"b":0,"c":true,"d":false,"e":null,"f":"x","g":[1,"2",{"h":3}],"i":10E-1}`, true},
	"same name, deeper": {`{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}`, true},
	"not ASCII":         {`{"a":"Zürich 日本 🙂","ü":1}`, true},
	"escapes":           {`{"a":"\"\\\/\b\f\n\r\t\u00e9\uFFFD\u0000"}`, true},
	"surrogates":        {`{"a":"\ud83d\ude42"}`, false},
	"escape in a name":  {`{"\u0061":1}`, false},
	"lone surrogate":    {`{"a":"\ud83d"}`, false},
	"no hex":            {`{"a":"\u00g0"}`, false},
	"half hex":          {`{"a":"\u00`, false},
	"odd hex":           {"{\"a\":\"\\u\x10\x11\x12\x13\"}", false},
	"unknown escape":    {`{"a":"\x41"}`, false},
	"twice":             {`{"a":1,"b":2,"a":3}`, false},
	"twice, deeper":     {`{"x":[{"a":1,"a":1}]}`, false},
	"twice, escaped":    {`{"a":1,"\u0061":1}`, false},
	"bad UTF-8":         {"{\"a\":\"\xff\"}", false},
	"bad UTF-8 name":    {"{\"\xc3\":1}", false},
	"control":           {"{\"a\":\"\x01\"}", false},
	"zero first":        {`{"a":01}`, false},
	"no digits":         {`{"a":-}`, false},
	"dot at the end":    {`{"a":1.}`, false},
	"empty exponent":    {`{"a":1e}`, false},
	"comma at the end":  {`{"a":1,}`, false},
	"comma in a list":   {`{"a":[1,]}`, false},
	"no colon":          {`{"a" 1}`, false},
	"no comma":          {`{"a":1 "b":2}`, false},
	"cut off":           {`{"a":[1,{"b":"c`, false},
	"something follows": {`{} {}`, false},
	"no object":         {`["a"]`, false},
	"word":              {`{"a":nul}`, false},
	"deep":              {`{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, false},
	"nothing":           {``, false},
}

func TestStrictMembers(t *testing.T) {
	t.Parallel()
	for name, c := range strictCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := strictMembers([]byte(c.data), func(_, _ []byte) {}); got != c.fast {
				t.Errorf("strictMembers(%q) = %v", c.data, got)
			}
			if c.fast && !strictly([]byte(c.data)) {
				t.Errorf("the case is wrong: jsontext refuses %q", c.data)
			}
		})
	}
}

func TestStrictMembersInOrder(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	ok := strictMembers([]byte(` { "a" : 1 , "b":"x\n" ,"c": {"d": [1, 2]} , "e":[ ]}`), func(name, value []byte) {
		got.WriteString(string(name) + "=" + string(value) + ";")
	})
	if want := `a=1;b="x\n";c={"d": [1, 2]};e=[ ];`; !ok || got.String() != want {
		t.Errorf("got %v, %s; want %s", ok, got.String(), want)
	}
}

func FuzzStrictMembers(f *testing.F) {
	for _, c := range strictCases {
		f.Add([]byte(c.data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		names := 0
		if strictMembers(data, func(_, value []byte) {
			names++
			if !jsontext.Value(value).IsValid() {
				t.Errorf("a member's value %q of %q is no strict JSON", value, data)
			}
		}) && !strictly(data) {
			t.Errorf("strictMembers takes %q, which jsontext refuses", data)
		}
	})
}
