// Package secret turns references to secrets into values, and keeps the values out of what people read. A reference
// (env:NAME, file:PATH, exec:COMMAND ARGS…) is no secret and may be printed; a value has the type plugin.Secret and never
// is. The package does not store anything.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin"
)

// Limits of resolving.
const (
	// MaxSize is the largest secret in bytes: a certificate with its chain and key fits many times.
	MaxSize = 256 << 10
	// ExecTimeout is how long a command may take.
	ExecTimeout = 10 * time.Second
)

// Reference says where a secret is.
type Reference struct {
	scheme string // env, file or exec
	target string
	args   []string // of exec, the command first
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Parse reads a reference. Its errors do not show s: what is no reference may be a secret that somebody pasted.
func Parse(s string) (Reference, error) {
	scheme, target, found := strings.Cut(s, ":")
	if !found || !IsReference(s) {
		return Reference{}, errors.New("not a reference; write env:NAME, file:PATH or exec:COMMAND, and keep the value there")
	}
	r := Reference{scheme: scheme, target: target}
	switch {
	case strings.TrimSpace(target) == "":
		return Reference{}, fmt.Errorf("%s: names nothing; write %s", scheme, map[string]string{
			"env": "env:NAME", "file": "file:PATH", "exec": "exec:COMMAND ARGS",
		}[scheme])
	case scheme == "env" && !envName.MatchString(target):
		return Reference{}, errors.New("env: wants the name of an environment variable: letters, digits and underscores")
	case scheme == "exec":
		args, err := fields(target)
		if err != nil {
			return Reference{}, err
		}
		r.args = args
	}
	return r, nil
}

// IsReference says whether s begins like a reference.
func IsReference(s string) bool {
	return strings.HasPrefix(s, "env:") || strings.HasPrefix(s, "file:") || strings.HasPrefix(s, "exec:")
}

// String returns the reference as it was written.
func (r Reference) String() string { return r.scheme + ":" + r.target }

// fields splits a command line at spaces. Quotes keep spaces; there is no shell, and no escape characters.
func fields(s string) ([]string, error) {
	var args []string
	var word strings.Builder
	var quote rune
	inWord := false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				args = append(args, word.String())
				word.Reset()
				inWord = false
			}
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, errors.New("exec: a quote is not closed")
	}
	if inWord {
		args = append(args, word.String())
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("exec: names no command")
	}
	return args, nil
}

// Resolver fetches secrets. The zero value resolves against the working directory and the environment of the process.
type Resolver struct {
	// Dir is what relative paths and commands with a slash are relative to.
	Dir string
	// Timeout of a command; default ExecTimeout.
	Timeout time.Duration
}

// Resolve fetches the value behind a reference. Line breaks at its end do not belong to it. Errors name the reference and
// never the value; an empty secret is an error.
func (r Resolver) Resolve(ctx context.Context, ref Reference) (plugin.Secret, error) {
	value, err := r.fetch(ctx, ref)
	if err != nil {
		return plugin.Secret{}, fmt.Errorf("%s: %w", ref, err)
	}
	value = strings.TrimRight(value, "\r\n")
	switch {
	case value == "":
		return plugin.Secret{}, fmt.Errorf("%s: the secret is empty", ref)
	case strings.ContainsRune(value, 0):
		return plugin.Secret{}, fmt.Errorf("%s: the secret contains a zero byte; is it a binary file?", ref)
	}
	return plugin.NewSecret(value), nil
}

func (r Resolver) fetch(ctx context.Context, ref Reference) (string, error) {
	switch ref.scheme {
	case "env":
		v, ok := os.LookupEnv(ref.target)
		if !ok {
			return "", errors.New("the environment variable is not set")
		}
		return v, nil
	case "file":
		return r.file(ref.target)
	case "exec":
		return r.exec(ctx, ref)
	}
	return "", errors.New("not a reference")
}

func (r Resolver) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(r.Dir, p)
}

func (r Resolver) file(name string) (string, error) {
	f, err := os.Open(r.path(name))
	if err != nil {
		return "", reason(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	if info, err := f.Stat(); err != nil {
		return "", reason(err)
	} else if info.IsDir() {
		return "", errors.New("is a directory, not a file")
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return "", reason(err)
	}
	if len(b) > MaxSize {
		return "", fmt.Errorf("has more than %d bytes", MaxSize)
	}
	return string(b), nil
}

// reason drops the operation and the path, which the reference says already.
func reason(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}

// exec runs the command without a shell, in a process group of its own that does not outlive the call.
func (r Resolver) exec(ctx context.Context, ref Reference) (string, error) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = ExecTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	name := ref.args[0]
	if strings.ContainsRune(name, '/') {
		name = r.path(name)
	}
	cmd := exec.CommandContext(ctx, name, ref.args[1:]...)
	cmd.Dir = r.Dir
	ownGroup(cmd)
	cmd.WaitDelay = time.Second
	out, stderr := &capped{max: MaxSize}, &capped{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, stderr
	err := cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf("the command did not finish within %s", timeout)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("the command failed with %s%s", exit.ProcessState, complaint(stderr.String(), out.String()))
		}
		if ee, ok := errors.AsType[*exec.Error](err); ok {
			err = ee.Err
		}
		return "", fmt.Errorf("the command could not be run: %w", reason(err))
	case out.over:
		return "", fmt.Errorf("the command printed more than %d bytes", MaxSize)
	}
	return out.String(), nil
}

// complaint is the first line of what a failed command said, unless it repeats what it printed as the secret.
func complaint(stderr, stdout string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	line = strings.ToValidUTF8(line, "")
	if out := strings.TrimSpace(stdout); line == "" || out != "" && strings.Contains(stderr, out) {
		return ""
	}
	if r := []rune(line); len(r) > 160 {
		line = string(r[:160]) + "…"
	}
	return ": " + line
}

// capped keeps the first bytes and lets the writer go on.
type capped struct {
	buf  bytes.Buffer // not embedded: its ReadFrom would let io.Copy go around the cap
	max  int
	over bool
}

// String returns what was kept.
func (c *capped) String() string { return c.buf.String() }

// Write keeps what fits.
func (c *capped) Write(p []byte) (int, error) {
	room := c.max - c.buf.Len()
	if len(p) > room {
		c.over = true
		_, _ = c.buf.Write(p[:max(room, 0)]) // a buffer does not fail
		return len(p), nil
	}
	return c.buf.Write(p)
}
