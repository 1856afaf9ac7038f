package launch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// SandboxMode says what happens when the kernel cannot confine a connector.
type SandboxMode string

// The modes. The zero value is off.
const (
	SandboxOff    SandboxMode = "off"
	SandboxAuto   SandboxMode = "auto"   // enforce what can be enforced, and report what cannot
	SandboxStrict SandboxMode = "strict" // do not start what cannot be confined
)

// Sandbox says how connector processes are confined: on Linux by Landlock, seccomp and no_new_privs. A confined process reads
// programs, libraries, certificates, and what name resolution and time zones need; writes only in its own directory;
// connects by TCP only to the ports that it is granted; listens on no TCP port; gains no privileges; and sends signals
// only to itself and its children; and has no system calls for tracing, mounting, kernel keys, modules, io_uring and the like
// (seccomp). What Landlock cannot do: it does not tell one host from another, and leaves UDP and the unix sockets of other
// programs alone.
type Sandbox struct {
	Mode SandboxMode
	// Read and Write are further files and directories for all connectors, such as those of a program that prints tokens.
	Read, Write []string
}

// Limits bound what one connector process takes. Zero fields bound nothing.
type Limits struct {
	// Memory in bytes is what the Go runtime of a connector keeps to (GOMEMLIMIT). The hard limit (RLIMIT_DATA), at which
	// allocating fails, is HardMemory.
	Memory int64
	// Files is how many descriptors may be open.
	Files int
}

// OrDefault fills fields that are zero.
func (l Limits) OrDefault(d Limits) Limits {
	return Limits{Memory: cmp.Or(l.Memory, d.Memory), Files: cmp.Or(l.Files, d.Files)}
}

// hardSlack is what a runtime reserves on top of what it uses: stacks, heap arenas that are mostly empty.
const hardSlack = 256 << 20

// HardMemory is the limit at which a process cannot allocate any more: twice Memory, and at least 256 MiB above it.
func (l Limits) HardMemory() int64 {
	if l.Memory <= 0 {
		return 0
	}
	return l.Memory + max(l.Memory, hardSlack)
}

// Grants are what one connector needs because of its connections.
type Grants struct {
	Files []string // absolute paths to read
	Ports []uint16 // TCP ports to connect to
}

// Covers says whether a process that was granted g may do what other asks for.
func (g Grants) Covers(other Grants) bool {
	for _, f := range other.Files {
		if !slices.Contains(g.Files, f) {
			return false
		}
	}
	for _, p := range other.Ports {
		if !slices.Contains(g.Ports, p) {
			return false
		}
	}
	return true
}

// Confiner is a Launcher whose processes can be confined.
type Confiner interface {
	// Confined returns a launcher that grants its processes this much.
	Confined(g Grants) Launcher
}

// Enforced says what the kernel really holds a process to.
type Enforced struct {
	Mode SandboxMode `json:"mode"`
	// Files: it reads and writes only what it was granted. Ports: it connects to no TCP port but those granted, and listens
	// on none. Privileges: it gains none by running a program. Signals: it signals nobody else.
	Files      bool `json:"files"`
	Ports      bool `json:"ports"`
	Privileges bool `json:"privileges"`
	Signals    bool `json:"signals"`
	// Calls: system calls that a connector has no use for fail, those that would go around the other rules among them.
	Calls     bool  `json:"system_calls"`
	Memory    int64 `json:"memory_bytes,omitempty"` // hard limit
	OpenFiles int   `json:"open_files,omitempty"`
	// Missing says what was wanted and cannot be had here.
	Missing []string `json:"missing,omitempty"`
}

// String is for people.
func (e Enforced) String() string {
	var on []string
	for _, p := range []struct {
		on   bool
		name string
	}{
		{e.Files, "files"},
		{e.Ports, "tcp ports"},
		{e.Privileges, "no new privileges"},
		{e.Signals, "signals"},
		{e.Calls, "system calls"},
		{e.Memory > 0, fmt.Sprintf("memory %d MiB", e.Memory>>20)},
		{e.OpenFiles > 0, fmt.Sprintf("%d open files", e.OpenFiles)},
	} {
		if p.on {
			on = append(on, p.name)
		}
	}
	s := cmp.Or(strings.Join(on, ", "), "nothing")
	if len(e.Missing) > 0 {
		s += "; missing: " + strings.Join(e.Missing, "; ")
	}
	return s
}

// Reporter is a Process that knows what it is held to.
type Reporter interface{ Enforced() Enforced }

// confinement is what one process is to be held to.
type confinement struct {
	sandbox Sandbox
	limits  Limits
	grants  Grants
	exe     string
	dir     string
}
