// Package python tests the connector in Python: it is judged like any other.
package python

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// The protocol that the Python code reads is the one that the Go code was generated from.
func TestDescriptorsAreUpToDate(t *testing.T) {
	t.Parallel()
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(connectorv1.File_casewire_connector_v1_connector_proto)
	add(spb.File_google_rpc_status_proto)
	add(errdetails.File_google_rpc_error_details_proto)
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	const file = "connector.v1.binpb"
	if os.Getenv("CASEWIRE_GENERATE") != "" {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var have descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(text, &have); err != nil || !proto.Equal(&have, &set) {
		t.Errorf("%s is not up to date (%v): make generate writes it", file, err)
	}
}

// python finds an interpreter with the libraries, or skips; in CI their absence is a failure.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"casewire.py", "connector.py"} { // what the outcome of a test hangs on, as go test knows it
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	var missing error
	for _, name := range []string{"python3", "/usr/bin/python3"} { // the one on PATH may be without Debian's packages
		path, err := exec.LookPath(name)
		if err == nil {
			var out []byte
			if out, err = exec.CommandContext(t.Context(), path, "-c", "import grpc, google.protobuf").CombinedOutput(); err == nil {
				return path
			}
			err = fmt.Errorf("%s: %w: %s", path, err, out)
		}
		missing = errors.Join(missing, err)
	}
	if os.Getenv("CASEWIRE_NEED_PYTHON") != "" {
		t.Fatalf("python3 with grpcio and protobuf is wanted here: %v", missing)
	}
	t.Skipf("NOT TESTED: the connector in Python, for want of python3 with grpcio and protobuf "+
		"(Debian: apt-get install python3-grpcio python3-protobuf): %v", missing)
	return ""
}

type verdict struct {
	Known bool   `json:"known"`
	Name  string `json:"name"`
}

const at = "2026-01-02T03:04:05.678Z"

func service(t *testing.T) *httptest.Server {
	t.Helper()
	bad := strings.Repeat("a", 64)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/ping", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	mux.HandleFunc("/v1/hashes/"+bad, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"known":true,"name":"EICAR"}`) })
	mux.HandleFunc("/v1/hashes/"+strings.Repeat("c", 64), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	mux.HandleFunc("/v1/hashes", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"hashes":[{"sha256":%q,"name":"EICAR"},{"sha256":%q,"name":%q}]}`, bad, bad, r.FormValue("limit"))
	})
	mux.HandleFunc("/v1/verdicts", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("since") == at {
			fmt.Fprint(w, `{"verdicts":[]}`)
			return
		}
		fmt.Fprintf(w, `{"verdicts":[{"sha256":%q,"name":"Ünïcode","score":7,"at":%q}]}`, bad, at)
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a-token-of-tests" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestConnector(t *testing.T) {
	t.Parallel()
	py := python(t)
	script, err := filepath.Abs("connector.py")
	if err != nil {
		t.Fatal(err)
	}
	program := sdktest.Binary(t, py, "-B", script)
	cfg := map[string]string{"base_url": service(t).URL, "token": "a-token-of-tests"}
	h := program.Open(t, cfg)

	var v verdict
	if err := h.Call(t.Context(), "hash.lookup", map[string]string{"sha256": strings.Repeat("a", 64)}, &v); err != nil || v != (verdict{true, "EICAR"}) {
		t.Errorf("got %+v, %v", v, err)
	}
	for hash, want := range map[string]plugin.Class{strings.Repeat("b", 64): plugin.ClassNotFound, "short": plugin.ClassInvalid, strings.Repeat("c", 64): plugin.ClassThrottled} {
		err := h.Call(t.Context(), "hash.lookup", map[string]string{"sha256": hash}, nil)
		e := (*sdk.Error)(nil)
		if !errors.As(err, &e) || e.Class() != want || e.SideEffect != plugin.EffectNone {
			t.Errorf("%.5s: got %v, want class %s", hash, err, want)
		}
		if want == plugin.ClassThrottled && e != nil && e.RetryAfter.Seconds() != 7 {
			t.Errorf("the pause is %v", e.RetryAfter)
		}
	}
	res, err := h.Do(t.Context(), sdktest.Call{Action: "hash.list"})
	if err != nil || len(res.Rows) != 2 || !strings.Contains(string(res.Rows[1]), `"1000"`) {
		t.Errorf("got %+v, %v", res, err)
	}

	pages, err := h.Poll(t.Context(), "verdicts", nil)
	if err != nil || len(pages) != 1 || len(pages[0].Events) != 1 {
		t.Fatalf("got %+v, %v", pages, err)
	}
	e := pages[0].Events[0] // the kit has checked it by the rules of events
	row := map[string]any{}
	if err := json.Unmarshal([]byte(fmt.Sprintf(`{"sha256":%q,"name":"Ünïcode","score":7,"at":%q}`, strings.Repeat("a", 64), at)), &row); err != nil {
		t.Fatal(err)
	}
	if e.Digest != event.Digest(row) || e.Rev != "001767323045678" {
		t.Errorf("digest %s, revision %s", e.Digest, e.Rev)
	}
	pages, err = h.Poll(t.Context(), "verdicts", pages[0].Cursor)
	if err != nil || slices.ContainsFunc(pages, func(p sdktest.Page) bool { return len(p.Events) > 0 }) {
		t.Errorf("nothing is new, but got %+v, %v", pages, err)
	}

	h.Crash()
	if probes, err := h.Check(t.Context()); err != nil || len(probes) != 1 || probes[0].Status != sdk.ProbeOK {
		t.Errorf("after a crash: %+v, %v", probes, err)
	}
	cfg["token"] = "a-wrong-one"
	if err := h.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if probes, err := h.Check(t.Context()); err != nil || probes[0].Status != sdk.ProbeFailed {
		t.Errorf("with a wrong token: %+v, %v", probes, err)
	}
	_, err = program.Try(t, map[string]any{"base_url": "ftp://x", "typo": 1})
	var refused *sdk.Error
	if !errors.As(err, &refused) || len(refused.Violations) != 3 {
		t.Errorf("a wrong configuration: %v", err)
	}
}

// A mistake in a declaration stops the program at its start, and says what to write.
func TestAuthoringMistakes(t *testing.T) {
	t.Parallel()
	py := python(t)
	for egress, want := range map[string]string{
		"api.example.com:8443": "", "*.example.com": "", "{config.base_url}": "", "{config.base_url?10.0.0.1:80}": "",
		"https://api.example.com": "write a host", "api.example.com/v1": "write a host", "*": "write a host", "{base_url}": "write a host",
		"{config.site}": "no such property", "{config.base_url?http://x}": "write a host",
	} {
		code := fmt.Sprintf(`import casewire; casewire.Connector("x", "1.0.0", "X.", {"type": "object", "properties": {"base_url": {}}}, dict, egress=[%q])`, egress)
		out, err := exec.CommandContext(t.Context(), py, "-B", "-c", code).CombinedOutput()
		if (want == "") != (err == nil) || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", egress, err, out)
		}
	}
}
