// Package depot keeps the connectors that did not come with the binary: their files, each under its digest; the lock file
// that says which of them were approved; and what they said of themselves, so that a configuration can be checked without
// starting them. It does not run them for work: that is the catalog's.
package depot

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/casewire/casewire/host/internal/launch"
)

// Depot is a directory of connectors: <dir>/<sha256>/connector. The directory is made when the first one is put into it.
type Depot struct {
	// Sandbox confines connectors that are started to say what they are. They have no configuration then, and nothing to
	// reach. The zero value confines them as far as the system can.
	Sandbox launch.Sandbox

	dir     string
	digests launch.Digests
}

// ErrMissing says that the depot does not have a connector.
var ErrMissing = errors.New("it is not in the store of this host")

// Open returns the depot beside a data file.
func Open(dataDir string) *Depot { return &Depot{dir: filepath.Join(dataDir, "connectors")} }

// Dir is where the connectors are.
func (d *Depot) Dir() string { return d.dir }

// Path is where the connector with a digest is, or would be.
func (d *Depot) Path(sum string) string { return filepath.Join(d.dir, sum, "connector") }

// Put stores what r holds, at most limit bytes of it, and returns its digest. Check, if not nil, sees the file before it
// gets its place; its error is returned and nothing is kept. A connector that is there already is left as it is, if it is
// sound.
func (d *Depot) Put(r io.Reader, limit int64, check func(path, sum string) error) (sum string, err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return "", fmt.Errorf("store connector: %w", err)
	}
	tmp := filepath.Join(d.dir, ".new-"+rand.Text())
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return "", fmt.Errorf("store connector: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path := filepath.Join(tmp, "connector")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // it is to be executed
	if err != nil {
		return "", fmt.Errorf("store connector: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, limit+1))
	switch {
	case err == nil && n > limit:
		err = fmt.Errorf("it has more than %d MiB", limit>>20)
	case err == nil && n == 0:
		err = errors.New("it is empty")
	case err == nil:
		err = errors.Join(f.Chmod(0o555), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	if check != nil {
		if err := check(path, sum); err != nil {
			return "", err
		}
	}
	if d.Verify(sum) == nil {
		return sum, nil
	}
	// What is in its place is damaged.
	if err := os.RemoveAll(filepath.Join(d.dir, sum)); err != nil {
		return "", fmt.Errorf("store connector: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(d.dir, sum)); err != nil && d.Verify(sum) != nil { // else somebody else was faster
		return "", fmt.Errorf("store connector: %w", err)
	}
	return sum, syncDir(d.dir)
}

// Verify reads a stored connector and says whether it is the one with the digest: nil, ErrMissing or launch.ErrDigest,
// wrapped.
func (d *Depot) Verify(sum string) error { return d.verify(sum, nil) }

// Check is Verify for who has looked before: a file that looks unchanged is not read again.
func (d *Depot) Check(sum string) error { return d.verify(sum, &d.digests) }

func (d *Depot) verify(sum string, known *launch.Digests) error {
	f, err := os.Open(d.Path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrMissing
	}
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := known.Sum(f)
	if err != nil {
		return err
	}
	if got != sum {
		return fmt.Errorf("%s was changed: %w (it is %s)", d.Path(sum), launch.ErrDigest, got)
	}
	return nil
}

// Remove deletes a connector; one that is not there is no error.
func (d *Depot) Remove(sum string) error {
	if !isDigest(sum) {
		return fmt.Errorf("%q is no digest", sum)
	}
	return os.RemoveAll(filepath.Join(d.dir, sum))
}

// Import stores the program at path if it is the one with the digest, and leaves the original alone. What a host executes
// is the stored copy: the original may be replaced while the host runs.
func (d *Depot) Import(path, sum string) error {
	got, err := sumFile(path)
	if err != nil {
		return err
	}
	if !strings.EqualFold(got, sum) {
		return fmt.Errorf("%s: %w (it is %s)", path, launch.ErrDigest, got)
	}
	if d.Check(got) == nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = d.Put(f, MaxSize, func(copied, now string) error {
		if now != got {
			return fmt.Errorf("%s changed while it was read", path)
		}
		return CheckProgram(copied, Here())
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return d.noteInterpreter(got)
}

// Launcher starts a stored connector.
func (d *Depot) Launcher(sum string, args []string) launch.Launcher {
	return launch.File{
		Path: d.Path(sum), SHA256: sum, Args: args, Digests: &d.digests, Interpreter: d.interpreter(sum),
	}
}

// noteInterpreter keeps the digest of a script's interpreter: another one is refused later.
func (d *Depot) noteInterpreter(sum string) error {
	_, digest, err := launch.Interpreter(d.Path(sum))
	if err != nil || digest == "" {
		return err
	}
	return writeFile(filepath.Join(d.dir, sum, "interpreter"), []byte(digest+"\n"), 0o600)
}

func (d *Depot) interpreter(sum string) string {
	b, err := os.ReadFile(filepath.Join(d.dir, sum, "interpreter"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// sumFile returns the digest of a file.
func sumFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	switch {
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is no regular file", path)
	case info.Size() > MaxSize:
		return "", fmt.Errorf("%s has more than %d MiB", path, MaxSize>>20)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return (*launch.Digests)(nil).Sum(f)
}

// Sum returns the digest of the program at path.
func Sum(path string) (string, error) { return sumFile(path) }

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// writeFile replaces a file in one step that survives a crash.
func writeFile(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

// syncDir makes the names in a directory durable, where the system can.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
