package sdktest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var updateFlag = flag.Bool("sdktest.update", false, "write golden files instead of comparing with them")

// updating says whether golden files are written: by -sdktest.update, or by the test's own -update where it has one.
func updating() bool {
	if *updateFlag {
		return true
	}
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// Golden holds v, as JSON, against the file: keys in any order and spaces do not matter. V may be a value, or JSON as
// []byte or json.RawMessage. With -sdktest.update (or an -update flag of the test's own) it writes the file, indented and
// with sorted keys; look at the difference before you commit it.
func Golden(tb testing.TB, file string, v any) {
	tb.Helper()
	raw := encode(tb, v, false)
	if raw == nil {
		raw = []byte("null")
	}
	got, err := canonical(raw)
	if err != nil {
		tb.Fatalf("%s: what is to be compared is no JSON: %v", file, err)
	}
	if updating() {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // test data is for everybody
			tb.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil { //nolint:gosec // test data is for everybody
			tb.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Errorf("%v; run the test with -sdktest.update to write it", err)
		return
	}
	want, err := canonical(text)
	if err != nil {
		tb.Errorf("%s is no JSON: %v", file, err)
		return
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		tb.Errorf("%s (-want +got); if it is meant, run the test with -sdktest.update:\n%s", file, d)
	}
}

// canonical is indented JSON with sorted keys and numbers as they were written.
func canonical(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}

// Main runs the tests of a package and then looks for goroutines that they left behind: a connection that is closed must
// have ended what it started. Use it as TestMain: func TestMain(m *testing.M) { sdktest.Main(m) }.
func Main(m *testing.M) { goleak.VerifyTestMain(m) }
