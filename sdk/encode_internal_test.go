package sdk

import (
	"bytes"
	"encoding/json"
	"testing"
)

// A row is one line of JSON whatever its author wrote.
func TestWriteJSONRaw(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a": 1,"b":"<x>"}`:   `{"a": 1,"b":"<x>"}`, // well-formed, one line: as it is
		"{\n\"a\":\r\n1}":      `{"a":1}`,
		`{"a":1,"a":2}`:        `{"a":1,"a":2}`, // vendors do that
		"{\"a\":\"\xff\"}":     "{\"a\":\"\uFFFD\"}",
		`{"a":`:                "",
		`{} {}`:                "",
		"":                     "",
		`{"a":"line\nescape"}`: `{"a":"line\nescape"}`,
	} {
		var b bytes.Buffer
		err := writeJSON(&b, json.RawMessage(in))
		if want == "" {
			if err == nil {
				t.Errorf("%q was written as %q", in, b.String())
			}
			continue
		}
		if err != nil || b.String() != want {
			t.Errorf("%q was written as %q, %v; want %q", in, b.String(), err, want)
		}
	}
}
