package launch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// File starts a program that somebody else wrote, if it is the one that was approved. What is hashed is an open file, and
// on Linux that open file is what the kernel executes: nothing can be put in its place in between. Elsewhere it is executed
// by its path, which must be one that only this user can write to.
//
// A script is run by the interpreter that its first line names, which is checked and executed in the same way. What a
// script loads by itself is not checked.
type File struct {
	Path string
	// SHA256 is the digest approved, in hex.
	SHA256 string
	Args   []string // without the program's name
	Env    []string // as in Exec
	// Interpreter is the digest of a script's interpreter at the time of approval; empty: it is not compared. One that
	// belongs to root and is nobody else's to change may change all the same, as system upgrades do; that is logged.
	Interpreter string
	// Digests remembers what was hashed; nil hashes at every start.
	Digests *Digests

	grants  Grants
	checked func() // for tests: between check and start
}

var _ Confiner = File{}

// Confined returns a launcher whose processes are granted this much, where they are confined.
func (f File) Confined(g Grants) Launcher {
	f.grants = g
	return f
}

// ErrDigest says that a file is not the one that was approved.
var ErrDigest = errors.New("its digest is not the one that was approved")

// Launch checks the file, starts the process and connects to it.
func (f File) Launch(ctx context.Context, h *Host, name string) (Process, error) {
	img, err := f.image(h.log.With("connector", name), name)
	if err != nil {
		return nil, fmt.Errorf("start connector %s: %w", name, err)
	}
	defer func() {
		for _, open := range img.files {
			_ = open.Close()
		}
	}()
	if f.checked != nil {
		f.checked()
	}
	if runtime.GOOS != "linux" {
		img.files = nil
	}
	return h.start(ctx, name, img)
}

// image checks what is to be executed. Its files stay open until the process has them.
func (f File) image(log *slog.Logger, name string) (image, error) {
	program, err := openRegular(f.Path)
	if err != nil {
		return image{}, err
	}
	sum, err := f.Digests.Sum(program)
	if err == nil && !strings.EqualFold(sum, f.SHA256) {
		err = fmt.Errorf("%s was changed: %w (it is %s, approved was %s); install it again", f.Path, ErrDigest, sum, f.SHA256)
	}
	var s shebang
	if err == nil {
		s, err = readShebang(program)
	}
	if err != nil {
		return image{}, errors.Join(err, program.Close())
	}
	if s.interpreter == "" {
		return f.executing(program, name, f.Args), nil
	}
	_ = program.Close()
	interpreter, err := f.openInterpreter(log, s)
	if err != nil {
		return image{}, err
	}
	path, err := filepath.Abs(f.Path) // the process has a working directory of its own
	if err != nil {
		return image{}, errors.Join(err, interpreter.Close())
	}
	args := append(append(append([]string{}, s.args...), path), f.Args...)
	img := f.executing(interpreter, s.interpreter, args)
	img.grants.Files = append(slices.Clone(img.grants.Files), path)
	return img, nil
}

// executing is an image of an open file. On Linux it is the first of the files that the process inherits.
func (f File) executing(program *os.File, argv0 string, args []string) image {
	img := image{argv0: argv0, args: args, env: f.Env, files: []*os.File{program}, grants: f.grants}
	if runtime.GOOS == "linux" {
		img.path, img.exe = "/proc/self/fd/3", fmt.Sprintf("/proc/self/fd/%d", program.Fd())
	} else {
		img.path, img.exe = program.Name(), program.Name()
	}
	return img
}

func (f File) openInterpreter(log *slog.Logger, s shebang) (*os.File, error) {
	file, err := openRegular(s.interpreter)
	if err != nil {
		return nil, fmt.Errorf("the script's interpreter: %w", err)
	}
	inner, err := readShebang(file)
	if err == nil && inner.interpreter != "" {
		err = fmt.Errorf("the script's interpreter %s is a script itself; name the program behind it in the first line, as in #!/usr/bin/python3", s.interpreter)
	}
	if err == nil && f.Interpreter != "" {
		var sum string
		sum, err = f.Digests.Sum(file)
		switch {
		case err != nil || strings.EqualFold(sum, f.Interpreter):
		case onlyRootCanChange(file):
			log.Warn("the interpreter of a connector has changed since it was installed", "interpreter", s.interpreter, "sha256", sum)
		default:
			err = fmt.Errorf("the script's interpreter %s was changed: %w; install the connector again", s.interpreter, ErrDigest)
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// shebang is what a script's first line says.
type shebang struct {
	interpreter string // empty: no script
	args        []string
}

// maxShebang is the longest first line that Linux reads.
const maxShebang = 255

// readShebang reads a script's first line. The way through env is gone here: its program is looked for in PATH.
func readShebang(f *os.File) (shebang, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return shebang{}, err
	}
	head, err := bufio.NewReaderSize(io.LimitReader(f, maxShebang), maxShebang+1).Peek(maxShebang)
	if err != nil && !errors.Is(err, io.EOF) {
		return shebang{}, err
	}
	return parseShebang(head)
}

func parseShebang(head []byte) (shebang, error) {
	line, isScript := bytes.CutPrefix(head, []byte("#!"))
	if !isScript {
		return shebang{}, nil
	}
	line, _, ended := bytes.Cut(line, []byte("\n"))
	if !ended && len(head) >= maxShebang {
		return shebang{}, fmt.Errorf("the script's first line is longer than %d bytes", maxShebang)
	}
	interpreter, arg, _ := strings.Cut(strings.Trim(string(line), " \t\r"), " ")
	arg = strings.Trim(arg, " \t")
	if !filepath.IsAbs(interpreter) {
		return shebang{}, fmt.Errorf("the script's first line names no program by an absolute path: %q", clip(string(line), 80))
	}
	s := shebang{interpreter: filepath.Clean(interpreter)}
	if filepath.Base(interpreter) != "env" {
		if arg != "" {
			s.args = []string{arg}
		}
		return s, nil
	}
	words := []string{arg}
	if rest, split := strings.CutPrefix(arg, "-S"); split {
		words = strings.Fields(rest)
	}
	if len(words) == 0 || words[0] == "" || strings.HasPrefix(words[0], "-") || strings.ContainsAny(words[0], "= \"'$\\") {
		return shebang{}, fmt.Errorf("the script's first line is more than env, -S and a program with arguments: %q", clip(string(line), 80))
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return shebang{}, fmt.Errorf("the script's interpreter: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return shebang{}, err
	}
	return shebang{interpreter: path, args: words[1:]}, nil
}

// Interpreter returns the program that runs the script at path, and its digest; empty if path is no script.
func Interpreter(path string) (program, sum string, err error) {
	f, err := openRegular(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	s, err := readShebang(f)
	if err != nil || s.interpreter == "" {
		return "", "", err
	}
	file, err := File{}.openInterpreter(slog.New(slog.DiscardHandler), s)
	if err != nil {
		return "", "", err
	}
	defer file.Close()
	sum, err = (*Digests)(nil).Sum(file)
	return s.interpreter, sum, err
}
