package launch

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// processAttr puts a child in a process group of its own and asks the kernel to terminate it when the host dies, in case
// it does not watch its standard input.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// awaitExit returns when the process has ended, and leaves it to be reaped: until then its group id cannot be reused. It
// says whether it could wait.
func awaitExit(pid int) bool {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// startTime returns what tells a process from a later one with the same id: field 22 of its stat line.
func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command may contain spaces and parentheses; what follows its last ")" starts with field 3.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return ""
	}
	return f[19]
}

// selfPath is the running executable, even after the file on disk was replaced.
const selfPath = "/proc/self/exe"
