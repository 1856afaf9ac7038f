package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// ErrLocked means that another process works on the file.
var ErrLocked = errors.New("it is in use")

// realPath is the absolute path of the data file without symbolic links: a host that comes by another name must find the
// same lock. A file that is not there yet goes by the real name of its folder; so does a link to one that is not there,
// which SQLite itself refuses.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return path, fmt.Errorf("open %s: %w", path, err)
	}
	full, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			return filepath.Join(dir, filepath.Base(path)), nil
		}
		return path, nil // to be told when it is made
	}
	if err != nil {
		return path, fmt.Errorf("open %s: %w", path, err)
	}
	return full, nil
}

// lockFile holds path.lock for this process. The lock is what entitles the store to keep its index of live work in
// memory; the file itself stays behind, which is harmless.
func lockFile(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	ok, err := tryLock(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	if !ok {
		who, _ := io.ReadAll(io.LimitReader(f, 32))
		holder := "another process"
		if pid := bytes.TrimSpace(who); len(pid) > 0 {
			holder = "process " + string(pid)
		}
		return nil, errors.Join(fmt.Errorf("open %s: %w by %s: stop that one first, or give this one its own file",
			path, ErrLocked, holder), f.Close())
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0) // for the message above only
	}
	return f, nil
}

// unlockFile gives the lock up by name: a child process that is just being started may hold a copy of the descriptor
// for a moment longer.
func unlockFile(f *os.File) error { return errors.Join(unlock(f), f.Close()) }
