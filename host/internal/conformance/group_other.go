//go:build !unix

package conformance

import (
	"os"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { _ = p.Kill() }

func terminate(*os.Process) error { return skipf("there is no SIGTERM on this system") }
