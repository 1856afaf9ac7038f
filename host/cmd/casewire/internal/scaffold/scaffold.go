// Package scaffold writes new connectors that work: with tests that pass and a process that conforms to the protocol,
// untouched.
package scaffold

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/template"

	"github.com/casewire/casewire/connectors/bundle"
	"github.com/casewire/casewire/examples"
)

//go:embed templates
var templates embed.FS

// Options of a new connector. Name is required.
type Options struct {
	// Name of the connector: lower-case letters, digits and dashes.
	Name string
	// Lang is go or python; default go.
	Lang string
	// Dir is where it is written; it must not exist or be empty. Default Name.
	Dir string
	// Module is the Go module's path; default example.com/casewire-connector-NAME.
	Module string
	// Version of the library that it requires, such as v1.2.3. Anything else is no release: then its README says how to get one.
	Version string
	// Replace is a checkout of the library to be used instead of a released version.
	Replace string
}

// Langs lists what connectors can be written in.
func Langs() []string { return []string{"go", "python"} }

var nameRule = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// fill checks the options and fills in defaults.
func (o *Options) fill() error {
	switch {
	case !nameRule.MatchString(o.Name):
		return fmt.Errorf("a connector cannot be called %q: use lower-case letters, digits and dashes, such as virus-check", o.Name)
	case slices.Contains(bundle.Names(), o.Name):
		return fmt.Errorf("a connector %q is bundled; choose another name", o.Name)
	}
	o.Lang, o.Dir = cmp.Or(o.Lang, "go"), cmp.Or(o.Dir, o.Name)
	if !slices.Contains(Langs(), o.Lang) {
		return fmt.Errorf("there is no template for %q; there are %s", o.Lang, strings.Join(Langs(), " and "))
	}
	if o.Replace != "" {
		dir, err := filepath.Abs(o.Replace)
		if err != nil {
			return err
		}
		if !isCheckout(dir) {
			return fmt.Errorf("%s is no checkout of github.com/casewire/casewire", dir)
		}
		o.Replace = dir
	}
	o.Module = cmp.Or(o.Module, "example.com/casewire-connector-"+o.Name)
	if !released.MatchString(o.Version) {
		o.Version = ""
	}
	if o.Replace != "" {
		o.Version = "v0.0.0" // it does not matter, but Go wants one
	}
	return nil
}

func isCheckout(dir string) bool {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && bytes.HasPrefix(mod, []byte("module github.com/casewire/casewire\n"))
}

// Checkout is where the source of this program is, if the program lies where `make build` puts it; else empty.
func Checkout() string {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if dir := filepath.Dir(self); err == nil && isCheckout(dir) {
		return dir
	}
	return ""
}

var released = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)

// Released says whether a version is one that Go can fetch.
func Released(version string) bool { return released.MatchString(version) }

// Write writes a new connector and returns the names of its files. A directory that has something in it is refused;
// nothing is overwritten.
func Write(o Options) ([]string, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if have, err := os.ReadDir(o.Dir); err == nil && len(have) > 0 {
		return nil, fmt.Errorf("%s is not empty; name another directory with --dir", o.Dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files, err := o.files()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil { //nolint:gosec // source code is for everybody
		return nil, err
	}
	var names []string
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(o.Dir, f.name), f.text, f.mode); err != nil {
			return names, err
		}
		names = append(names, f.name)
	}
	return names, nil
}

type file struct {
	name string
	text []byte
	mode fs.FileMode
}

func (o *Options) files() ([]file, error) {
	var out []file
	dir := path.Join("templates", o.Lang)
	entries, err := templates.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := templates.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		t, err := template.New(e.Name()).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, struct {
			Options
			Go string
		}{*o, goVersion()}); err != nil {
			return nil, err
		}
		f := file{strings.TrimSuffix(e.Name(), ".tmpl"), b.Bytes(), 0o644}
		if f.name == "gitignore" { // a dot file would not be embedded
			f.name = ".gitignore"
		}
		if bytes.HasPrefix(f.text, []byte("#!")) {
			f.mode = 0o755
		}
		out = append(out, f)
	}
	if o.Lang != "python" {
		return out, nil
	}
	for _, name := range []string{"casewire.py", "connector.v1.binpb"} {
		text, err := examples.Python.ReadFile("connector-python/" + name)
		if err != nil {
			return nil, err
		}
		out = append(out, file{name, text, 0o644})
	}
	return out, nil
}

// goVersion is the language version of the toolchain that built this binary: 1.26.
func goVersion() string {
	parts := strings.SplitN(strings.TrimPrefix(runtime.Version(), "go"), ".", 3)
	if len(parts) < 2 || parts[0] != "1" {
		return "1.26"
	}
	return parts[0] + "." + parts[1]
}
