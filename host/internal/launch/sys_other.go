//go:build !unix

package launch

import (
	"os"
	"syscall"
)

func processAttr() *syscall.SysProcAttr { return nil }
func awaitExit(int) bool                { return false }
func startTime(int) string              { return "" }
func terminateGroup(p *os.Process)      { _ = p.Kill() }
func killGroup(p *os.Process)           { _ = p.Kill() }
func killSurvivor(int)                  {}
func busy(error) bool                   { return false }

// personalDirs has none: what a dead host left behind is not known here.
func personalDirs() []string { return nil }
func ownDir(string) error    { return nil }

// tryLock never gets the lock, so that nothing is swept.
func tryLock(*os.File, bool) bool { return false }

const selfPath = ""
