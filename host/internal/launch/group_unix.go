//go:build unix

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// personalDirs are where this user's hosts may live: in the place for temporary files or, where its path is too long for
// sockets as on macOS, in /tmp.
func personalDirs() []string {
	name := "casewire-" + strconv.Itoa(os.Getuid())
	return []string{filepath.Join(os.TempDir(), name), filepath.Join("/tmp", name)}
}

// ownDir makes a directory of this user's that nobody else can look into, or makes sure that an existing one is that:
// others may write to its parent.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o077 != 0 || int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user's alone", dir)
	}
	return nil
}

func terminateGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

func killSurvivor(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// tryLock takes an exclusive lock that the kernel drops when the process ends. It says whether it got it.
func tryLock(f *os.File, wait bool) bool {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return err == nil
		}
	}
}

// busy says whether a program could not be executed because somebody has it open for writing.
func busy(err error) bool { return errors.Is(err, syscall.ETXTBSY) }
