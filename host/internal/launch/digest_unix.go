//go:build unix

package launch

import (
	"os"
	"syscall"
)

// identify reads what tells one state of a file from another; false if the system does not say.
func identify(f *os.File) (fileID, bool) {
	info, err := f.Stat()
	if err != nil {
		return fileID{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{
		dev: uint64(st.Dev), ino: st.Ino, size: uint64(st.Size), //nolint:unconvert // their types differ by system
		modified: info.ModTime().UnixNano(), changed: changeTime(st),
	}, true
}

// onlyRootCanChange says whether a file belongs to root, and nobody else may write to it.
func onlyRootCanChange(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && info.Mode().Perm()&0o022 == 0 && os.Geteuid() != 0
}
