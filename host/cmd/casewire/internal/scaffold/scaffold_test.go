package scaffold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/host/internal/conformance"
	"github.com/casewire/casewire/host/internal/depot"
)

func checkout(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a program in dir, without a network.
func run(t *testing.T, dir string, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOSUMDB=off", "GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// conforms holds a connector against the suite that judges any.
func conforms(t *testing.T, path string) {
	t.Helper()
	report, err := conformance.Run(t.Context(), conformance.Subject{
		Path: path, Env: []string{"PATH=" + os.Getenv("PATH")},
		// The rest takes long, or needs a vendor that works.
		Only: []string{"process", "describe", "configure", "invoke", "consume.unknown", "check", "drain", "errors", "secrets"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Status == conformance.Fail {
			t.Errorf("%s: %s: %s", r.ID, r.Rule, r.Detail)
		}
	}
	if report.Passed < 20 {
		t.Errorf("only %d checks passed", report.Passed)
	}
}

// A new connector in Go is formatted, passes vet and its own tests, and conforms, untouched.
func TestGo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a module")
	}
	dir := filepath.Join(t.TempDir(), "new")
	names, err := Write(Options{Name: "virus-check", Dir: dir, Replace: checkout(t)})
	if err != nil || !slices.Contains(names, "README.md") || !slices.Contains(names, ".gitignore") {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		if nice, err := format.Source(text); err != nil || !bytes.Equal(nice, text) {
			t.Errorf("%s is not formatted: %v", name, err)
		}
	}
	run(t, dir, "go", "vet", "./...")
	run(t, dir, "go", "test", "./...")
	bin := filepath.Join(dir, "casewire-connector-virus-check")
	run(t, dir, "go", "build", "-o", bin, ".")
	conforms(t, bin)
}

// So does one in Python.
func TestPython(t *testing.T) {
	t.Parallel()
	py := python(t)
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Write(Options{Name: "virus-check", Lang: "python", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	run(t, dir, py, "-B", "-m", "unittest")
	script := filepath.Join(dir, "connector.py")
	if st, err := os.Stat(script); err != nil || st.Mode()&0o111 == 0 {
		t.Fatalf("connector.py cannot be executed: %v", err)
	}
	wrapper := filepath.Join(dir, "run") // the interpreter that has the libraries may not be the first on PATH
	if err := os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec %s -B %s\n", py, script), 0o755); err != nil {
		t.Fatal(err)
	}
	conforms(t, wrapper)

	// What a host installs is one file, the same however often it is made, and does what the folder does.
	program, err := filepath.EvalSymlinks(py)
	if err != nil {
		t.Fatal(err)
	}
	first := []byte("#!" + program + "\n")
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	if err := os.WriteFile(script, append(first, rest...), 0o755); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(t.TempDir(), "packed")
	run(t, dir, py, "-B", script, "pack", packed)
	run(t, dir, py, "-B", script, "pack")
	a, err1 := os.ReadFile(packed)
	b, err2 := os.ReadFile(filepath.Join(dir, "casewire-connector-virus-check"))
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(a, b) || !bytes.HasPrefix(a, first) || bytes.Contains(a, []byte("import unittest")) {
		t.Fatalf("packed twice: %d and %d bytes, %v", len(a), len(b), err)
	}
	lock, err := depot.ReadLock(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := depot.Installer{Depot: depot.Open(t.TempDir()), Lock: lock}
	in.Depot.Sandbox.Read = []string{filepath.Dir(filepath.Dir(program))} // a Python of one's own and its libraries
	got, err := in.Install(t.Context(), depot.Request{Source: packed})
	for try := 1; err != nil && strings.Contains(err.Error(), "could not be called within") && try < 6; try++ { // a busy machine
		got, err = in.Install(t.Context(), depot.Request{Source: packed})
	}
	if err != nil || got.Name != "virus-check" || got.Version != "0.1.0" {
		t.Errorf("installed %+v, %v", got, err)
	}
	conforms(t, packed)
}

// python finds an interpreter with the libraries, or skips; where CASEWIRE_NEED_PYTHON is set, their absence is a failure.
func python(t *testing.T) string {
	t.Helper()
	var missing error
	for _, name := range []string{"python3", "/usr/bin/python3"} { // the one on PATH may be without Debian's packages
		path, err := exec.LookPath(name)
		if err == nil {
			if err = exec.CommandContext(t.Context(), path, "-c", "import grpc, google.protobuf").Run(); err == nil {
				return path
			}
		}
		missing = errors.Join(missing, err)
	}
	if os.Getenv("CASEWIRE_NEED_PYTHON") != "" {
		t.Fatalf("python3 with grpcio and protobuf is wanted here: %v", missing)
	}
	t.Skipf("NOT TESTED: the template in Python, for want of python3 with grpcio and protobuf "+
		"(Debian: apt-get install python3-grpcio python3-protobuf): %v", missing)
	return ""
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"cannot be called":      {Name: "Virus Check"},
		"is bundled":            {Name: "jira"},
		"there is no template":  {Name: "x", Lang: "cobol"},
		"is not empty":          {Name: "x", Dir: full},
		"is no checkout":        {Name: "x", Dir: filepath.Join(t.TempDir(), "n"), Replace: full},
		"cannot be called \"\"": {},
	} {
		if names, err := Write(o); err == nil || !strings.Contains(err.Error(), want) || len(names) > 0 {
			t.Errorf("%+v: %v, %v, want …%s…", o, names, err, want)
		}
	}
	if have, err := os.ReadDir(full); err != nil || len(have) != 1 {
		t.Errorf("something was written: %v, %v", have, err)
	}
}

// Without a checkout the module asks for the release that the binary is, or leaves it to the README to get one: Go cannot get
// past a version that does not exist.
func TestVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"v1.2.3": "casewire v1.2.3\n", "dev": "", "v1.2.3-4-gabc": ""} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := Write(Options{Name: "x", Dir: dir, Version: version}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil || !strings.Contains(string(text), want) || strings.Contains(string(text), "replace") || want == "" && strings.Contains(string(text), "require") {
			t.Errorf("%s: %s, %v", version, text, err)
		}
		readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil || strings.Contains(string(readme), "go get") != (want == "") {
			t.Errorf("%s: %s, %v", version, readme, err)
		}
	}
}
