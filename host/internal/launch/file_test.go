//go:build unix

package launch_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/casewire/casewire/host/internal/launch"
)

// program copies the test binary, which plays a connector, and returns it with its digest.
func program(t *testing.T) launch.File {
	t.Helper()
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	return approved(t, filepath.Join(t.TempDir(), "connector"), self)
}

func approved(t *testing.T, path string, data []byte) launch.File {
	t.Helper()
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return launch.File{Path: path, SHA256: hex.EncodeToString(sum[:]), Args: []string{"play", "connector"}}
}

// answers starts a connector and calls it.
func answers(t *testing.T, h *launch.Host, l launch.Launcher) {
	t.Helper()
	p, err := l.Launch(t.Context(), h, "puppet")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context(), 0)
	if out, err := call(t.Context(), p, "anything"); err != nil || out != "ok" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestApprovedFile(t *testing.T) {
	t.Parallel()
	f := program(t)
	f.Digests = &launch.Digests{}
	for name, opts := range map[string]launch.Options{"free": {}, "confined": {Sandbox: launch.Sandbox{Mode: launch.SandboxAuto}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, opts)
			answers(t, h, f)
			answers(t, h, f) // with its digest known
		})
	}
}

func TestTamperedFileIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, launch.Options{})
	f := program(t)
	f.Digests = &launch.Digests{}
	answers(t, h, f)
	b, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Path+".new", append(b, 0), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.Path+".new", f.Path); err != nil {
		t.Fatal(err)
	}
	_, err = f.Launch(t.Context(), h, "puppet")
	if !errors.Is(err, launch.ErrDigest) || !strings.Contains(err.Error(), "install it again") || !strings.Contains(err.Error(), f.SHA256) {
		t.Errorf("got %v", err)
	}
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "no such file", t.TempDir(): "no regular file", "/dev/null": "no regular file",
	} {
		f.Path = path
		if _, err := f.Launch(t.Context(), h, "puppet"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What is put in the file's place after the check is not what is executed.
func TestSwapBetweenCheckAndStart(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux executes an open file")
	}
	f := program(t)
	evil := filepath.Join(t.TempDir(), "evil")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\necho swapped >&2\nexit 9\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	swapped := false
	answers(t, newHost(t, launch.Options{}), f.OnChecked(func() {
		if err := os.Rename(evil, f.Path); err != nil {
			t.Error(err)
		}
		swapped = true
	}))
	if !swapped {
		t.Error("nothing was swapped")
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	f := approved(t, filepath.Join(t.TempDir(), "script"), []byte("#!/bin/sh -e\n[ \"$1\" = --quiet ]\nexec "+self+" play connector\n"))
	f.Args = []string{"--quiet"}
	program, sum, err := launch.Interpreter(f.Path)
	if err != nil || program != "/bin/sh" || len(sum) != 64 {
		t.Fatalf("interpreter %s %s, %v", program, sum, err)
	}
	f.Interpreter = sum
	answers(t, newHost(t, launch.Options{}), f)
}

// A data file that is named by a relative path makes the way to a script a relative one.
func TestScriptByRelativePath(t *testing.T) {
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	f := approved(t, "script", []byte("#!/bin/sh\nexec "+self+" play connector\n"))
	answers(t, newHost(t, launch.Options{}), f)
	answers(t, newHost(t, launch.Options{Sandbox: launch.Sandbox{Mode: launch.SandboxAuto, Read: []string{filepath.Dir(self)}}}), f)
}

func TestShebang(t *testing.T) {
	t.Parallel()
	sh, err := filepath.Abs("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]struct {
		interpreter string
		args        []string
		err         string
	}{
		"\x7fELF":                                {},
		"#!/usr/bin/python3\n":                   {interpreter: "/usr/bin/python3"},
		"#! /usr/bin/python3 -u -I \r\nimport x": {interpreter: "/usr/bin/python3", args: []string{"-u -I"}}, // as the kernel does
		"#!/bin/env -S " + sh + " -e -u\n":       {interpreter: sh, args: []string{"-e", "-u"}},
		"#!/bin/env " + sh:                       {interpreter: sh},
		"#!python3\n":                            {err: "absolute"},
		"#!\n":                                   {err: "absolute"},
		"#!/bin/env\n":                           {err: "more than env"},
		"#!/bin/env -i python3\n":                {err: "more than env"},
		"#!/bin/env -S A=1 python3\n":            {err: "more than env"},
		"#!/bin/env no-such-program-anywhere\n":  {err: "interpreter"},
		"#!/" + strings.Repeat("x", 300):         {err: "longer than"},
	} {
		head := []byte(line)[:min(len(line), 255)]
		interpreter, args, err := launch.ParseShebang(head)
		if interpreter != want.interpreter || !slices.Equal(args, want.args) {
			t.Errorf("%q: got %q %q", line, interpreter, args)
		}
		if (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%q: %v", line, err)
		}
	}
}
