//go:build unix

package plugin

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// endGroup sends SIGTERM to the children that the connector started, which share its process group. A process that does
// not lead its group was started by something else than a host, and signals nobody.
func endGroup() {
	if syscall.Getpgrp() != os.Getpid() {
		return
	}
	signal.Ignore(syscall.SIGTERM)
	_ = syscall.Kill(0, syscall.SIGTERM)
}

// refused says whether nobody listened.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
