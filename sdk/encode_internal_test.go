package sdk

import (
	"encoding/json"
	"testing"
)

// A row is one line of JSON whatever its author wrote.
func TestRawRow(t *testing.T) {
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
		w := &rowWriter{a: &actionSpec{name: "rows"}, stream: silent{ctx: t.Context()}}
		err := w.row(json.RawMessage(in))
		w.close()
		if want == "" {
			if err == nil {
				t.Errorf("%q was written as %q", in, w.buf.String())
			}
			continue
		}
		if got := w.buf.String(); err != nil || got != want+"\n" {
			t.Errorf("%q was written as %q, %v; want %q", in, got, err, want)
		}
	}
}
