package launch

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are system calls that a connector has no use for: they reach into other processes, change the system, or do
// by another door what the other rules forbid (io_uring opens sockets that no filter sees).
var forbidden = []uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_REBOOT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD,
	unix.SYS_CLOCK_SETTIME, unix.SYS_SETTIMEOFDAY, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// families are the sockets that a connector may have.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}

// Offsets in struct seccomp_data; the low halves of arguments on little-endian machines.
const (
	offNr, offArch   = 0, 4
	offArg0, offArg2 = 16, 32
)

// filter is the program, or nil where the machine is not known to it.
func filter() []unix.SockFilter {
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if arch == 0 {
		return nil
	}
	const ld, jeq, jge, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	fail := func(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }
	var p []unix.SockFilter
	add := func(code uint16, k uint32, yes, no uint8) {
		p = append(p, unix.SockFilter{Code: code, K: k, Jt: yes, Jf: no})
	}
	// Calls by another convention (32 bit, x32) have other numbers: none of them.
	add(ld, offArch, 0, 0)
	add(jeq, arch, 1, 0)
	add(ret, unix.SECCOMP_RET_KILL_PROCESS, 0, 0)
	add(ld, offNr, 0, 0)
	if runtime.GOARCH == "amd64" {
		add(jge, 0x40000000, 0, 1)
		add(ret, fail(unix.ENOSYS), 0, 0)
	}
	for _, nr := range forbidden {
		add(jeq, nr, 0, 1)
		add(ret, fail(unix.EPERM), 0, 0)
	}
	// Of sockets, the usual families, and TCP itself: Landlock does not see its multipath variant.
	add(jeq, unix.SYS_SOCKET, 1, 0)
	add(ret, unix.SECCOMP_RET_ALLOW, 0, 0)
	add(ld, offArg2, 0, 0)
	add(jeq, unix.IPPROTO_MPTCP, 0, 1)
	add(ret, fail(unix.EPROTONOSUPPORT), 0, 0)
	add(ld, offArg0, 0, 0)
	for _, f := range families {
		add(jeq, f, 0, 1)
		add(ret, unix.SECCOMP_RET_ALLOW, 0, 0)
	}
	// Netlink tells of network interfaces and routes. It also tells of everybody's sockets, those of other connectors among
	// them, and where they listen; that is nobody's business.
	add(jeq, unix.AF_NETLINK, 1, 0)
	add(ret, fail(unix.EAFNOSUPPORT), 0, 0)
	add(ld, offArg2, 0, 0)
	add(jeq, unix.NETLINK_ROUTE, 0, 1)
	add(ret, unix.SECCOMP_RET_ALLOW, 0, 0)
	add(ret, fail(unix.EPROTONOSUPPORT), 0, 0)
	return p
}

// filterCalls puts the filter on the calling thread and what it starts. It needs no_new_privs.
func filterCalls() error {
	p := filter()
	if p == nil {
		return errors.New("there is no filter for " + runtime.GOARCH)
	}
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))) //nolint:gosec // the kernel reads it during the call
	if errno != 0 {
		return fmt.Errorf("set a seccomp filter: %w", errno)
	}
	return nil
}
