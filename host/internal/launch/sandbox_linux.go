package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock, by what they are for. A right that the kernel does not know yet is left out.
const (
	readFile   = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readAll    = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	runAll     = readAll | unix.LANDLOCK_ACCESS_FS_EXECUTE
	writeFile  = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	fileRights = readFile | unix.LANDLOCK_ACCESS_FS_EXECUTE | writeFile | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// No device nodes in a directory that may be written.
	writeAll = readAll | writeFile | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER

	// Which version of the interface brought what.
	firstFS    = 1<<13 - 1
	abiRefer   = 2
	abiTrunc   = 3
	abiNet     = 4
	abiIoctl   = 5
	abiScoped  = 6
	ruleNet    = 2 // LANDLOCK_RULE_NET_PORT
	rulesetLen = 24
)

// What every process may read. None of it is secret, and what is missing on a machine is left out.
var (
	programs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"}
	system   = []string{
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/resolv.conf", "/run/systemd/resolve",
		"/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
		"/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives",
		"/proc/sys/net/core/somaxconn", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage",
		"/dev/random", "/dev/urandom", "/dev/zero",
	}
	sinks = []string{"/dev/null"}
)

func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// enter confines the calling thread and what it starts. The thread must be locked to its goroutine and given up
// afterwards: there is no way back. In strict mode anything that is missing is an error.
func (c confinement) enter(abi int) (Enforced, error) {
	e := Enforced{Mode: c.sandbox.Mode}
	if abi == 0 {
		e.Missing = append(e.Missing, "files and TCP ports: this kernel has no Landlock (Linux 5.13, enabled at boot)")
	} else if abi < abiNet {
		e.Missing = append(e.Missing, fmt.Sprintf("TCP ports: this kernel has Landlock %d, which knows files only (Linux 6.7 knows ports)", abi))
	}
	if c.sandbox.Mode == SandboxStrict && len(e.Missing) > 0 {
		return e, fmt.Errorf("it cannot be confined, and plugins.sandbox is strict: %s", e.Missing[0])
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return c.without(e, "no_new_privs", err)
	}
	e.Privileges = true
	if err := filterCalls(); err != nil {
		if e, err = c.without(e, "system calls", err); err != nil {
			return e, err
		}
	} else {
		e.Calls = true
	}
	if abi == 0 {
		return e, nil
	}
	if err := c.landlock(abi); err != nil {
		return c.without(e, "files and TCP ports", err)
	}
	e.Files, e.Ports, e.Signals = true, abi >= abiNet, abi >= abiScoped
	return e, nil
}

func (c confinement) without(e Enforced, what string, err error) (Enforced, error) {
	if c.sandbox.Mode == SandboxStrict {
		return e, fmt.Errorf("it cannot be confined, and plugins.sandbox is strict: %s: %w", what, err)
	}
	e.Missing = append(e.Missing, fmt.Sprintf("%s: %v", what, err))
	return e, nil
}

func (c confinement) landlock(abi int) error {
	known := uint64(firstFS)
	attr := unix.LandlockRulesetAttr{}
	for _, more := range []struct {
		since int
		right uint64
	}{{abiRefer, unix.LANDLOCK_ACCESS_FS_REFER}, {abiTrunc, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {abiIoctl, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if abi >= more.since {
			known |= more.right
		}
	}
	attr.Handled_access_fs = known
	if abi >= abiNet {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= abiScoped {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), rulesetLen, 0) //nolint:gosec // the kernel reads it during the call
	if errno != 0 {
		return fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	ruleset := int(fd)
	defer func() { _ = unix.Close(ruleset) }()
	// What the process cannot do without must be there; of the rest, what is there.
	if err := allow(ruleset, c.exe, (readFile|unix.LANDLOCK_ACCESS_FS_EXECUTE)&known); err != nil {
		return err
	}
	if err := allow(ruleset, c.dir, writeAll&known); err != nil {
		return err
	}
	for _, group := range []struct {
		paths []string
		right uint64
	}{
		{programs, runAll},
		{system, readAll},
		{sinks, readFile | writeFile},
		{c.grants.Files, readAll},
		{c.sandbox.Read, runAll},
		{c.sandbox.Write, writeAll | unix.LANDLOCK_ACCESS_FS_EXECUTE},
	} {
		for _, p := range group.paths {
			if err := allow(ruleset, p, group.right&known); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if abi >= abiNet {
		for _, port := range c.grants.Ports {
			rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(port)}
			_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), ruleNet, uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // the kernel reads it during the call
			if errno != 0 {
				return fmt.Errorf("allow port %d: %w", port, errno)
			}
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("enter the Landlock domain: %w", errno)
	}
	return nil
}

// allow adds a rule for a file or for everything below a directory.
func allow(ruleset int, path string, right uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "allow", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "allow", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		right &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: right, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // the kernel reads it during the call
	if errno != 0 {
		return &fs.PathError{Op: "allow", Path: path, Err: errno}
	}
	return nil
}

// limit bounds a process that has just been started. It has had no input yet.
func (c confinement) limit(pid int, e *Enforced) error {
	set := func(what string, resource int, most uint64) error {
		var old unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
			return fmt.Errorf("limit its %s: %w", what, err)
		}
		most = min(most, old.Max)
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil); err != nil {
			return fmt.Errorf("limit its %s: %w", what, err)
		}
		return nil
	}
	var errs []error
	switch hard := c.limits.HardMemory(); {
	case hard <= 0:
	case raceDetector:
		e.Missing = append(e.Missing, "memory: this program is built with the race detector")
	default:
		// Not RLIMIT_AS: a Go runtime reserves over a gigabyte of addresses before it uses any.
		if err := set("memory", unix.RLIMIT_DATA, uint64(hard)); err != nil {
			errs = append(errs, err)
		} else {
			e.Memory = hard
		}
	}
	if n := c.limits.Files; n > 0 {
		if err := set("open files", unix.RLIMIT_NOFILE, uint64(n)); err != nil {
			errs = append(errs, err)
		} else {
			e.OpenFiles = n
		}
	}
	// A core dump would hold secrets.
	errs = append(errs, set("core dumps", unix.RLIMIT_CORE, 0))
	return errors.Join(errs...)
}

// onThread runs f on a thread that ends with it. It is never the process's first thread, which does not end, and by which
// the kernel judges what may be done to the process as a whole.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // never unlocked: the thread ends with the goroutine
			return
		}
		other := make(chan struct{})
		go func() {
			runtime.LockOSThread() // another one: the first is held
			close(other)
			f()
		}()
		<-other
		runtime.UnlockOSThread()
	}()
}

// startConfined starts a process from a thread that is confined first, and lives as long as the process: a parent-death
// signal is bound to the thread. When until or done is closed the thread ends.
func (c confinement) startConfined(cmd *exec.Cmd, until, done <-chan struct{}) (Enforced, error) {
	type outcome struct {
		enforced Enforced
		err      error
	}
	started := make(chan outcome, 1)
	onThread(func() {
		e, err := c.enter(landlockABI())
		if err == nil {
			err = startCommand(cmd)
		}
		started <- outcome{e, err}
		if err == nil {
			select {
			case <-until:
			case <-done:
			}
		}
	})
	o := <-started
	return o.enforced, o.err
}
