//go:build unix

package indicators

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock takes the journal for this process; it ends with the process at the latest.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("another casewire submits this file over this connection right now")
	}
	return err
}
