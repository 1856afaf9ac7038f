//go:build unix

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// trustSocket refuses a socket that another user could have put where the connector's is expected: a connection to it
// carries secrets. What this user or root owns is trusted, and so is what lies where only they can put things.
func trustSocket(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is no socket", path)
	}
	if ours(info) {
		return nil
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if ours(dir) && dir.Mode().Perm()&0o022 == 0 {
		return nil
	}
	return errors.New("the socket belongs to another user, and lies in a directory that others can write to; put it into a directory that only this user can write to")
}

func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}
