package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// ErrLocked means that another process works on the file.
var ErrLocked = errors.New("it is in use")

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
		return nil, errors.Join(fmt.Errorf("open %s: %w by %s: stop that one first, or give this one its own file "+
			"(hosts that share their state need PostgreSQL)", path, ErrLocked, holder), f.Close())
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0) // for the message above only
	}
	return f, nil
}

// unlockFile gives the lock up by name: a child process that is just being started may hold a copy of the descriptor
// for a moment longer.
func unlockFile(f *os.File) error { return errors.Join(unlock(f), f.Close()) }
