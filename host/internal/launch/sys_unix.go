//go:build unix && !linux

package launch

import "syscall"

// processAttr puts a child in a process group of its own.
func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitExit leaves the waiting to exec.Cmd.Wait.
func awaitExit(int) bool { return false }

// startTime is not known here, so that survivors of dead hosts are left alone.
func startTime(int) string { return "" }

const selfPath = ""
