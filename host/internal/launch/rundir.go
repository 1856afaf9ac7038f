package launch

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A socket's path is RunDir/h4294967295/plugin-dir4294967295/plugin4294967295, and the shortest limit of the systems that
// we run on is 104 bytes with the final zero.
const (
	maxSocketPath = 103
	belowHostDir  = len("/plugin-dir4294967295/plugin4294967295")
	belowRunDir   = len("/h4294967295") + belowHostDir
)

// openRunDir makes the directory of this host and returns it with what removes it again. The lock on the directory's lock
// file says that its owner lives.
func openRunDir(parent string, log *slog.Logger) (dir string, release func() error, err error) {
	if parent != "" && len(parent)+belowRunDir > maxSocketPath {
		log.Warn("run directory is too long for socket paths; using the temporary directory", "run_dir", parent)
		parent = ""
	}
	if parent == "" {
		// One place for all hosts of this user, so that what a dead one left behind is found.
		for _, p := range personalDirs() {
			if len(p)+belowRunDir <= maxSocketPath && ownDir(p) == nil {
				parent = p
				break
			}
		}
	}
	if parent == "" {
		return temporaryRunDir()
	}
	if parent, err = filepath.Abs(parent); err != nil {
		return "", nil, fmt.Errorf("open run directory: %w", err)
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, fmt.Errorf("make run directory: %w", err)
	}
	// Sweeping and making are one thing under this lock: otherwise a directory could be swept before its owner has locked it.
	gate, err := os.OpenFile(filepath.Join(parent, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("lock run directory: %w", err)
	}
	defer func() { _ = gate.Close() }()
	if tryLock(gate, true) {
		sweep(parent, log)
	}
	dir, err = os.MkdirTemp(parent, "h")
	if err != nil {
		return "", nil, fmt.Errorf("make run directory: %w", err)
	}
	own, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, fmt.Errorf("lock run directory: %w", err)
	}
	tryLock(own, false)
	return dir, func() error {
		err := os.RemoveAll(dir)
		_ = own.Close()
		return err
	}, nil
}

func temporaryRunDir() (string, func() error, error) {
	dir, err := os.MkdirTemp("", "cw")
	if err != nil {
		return "", nil, fmt.Errorf("make run directory: %w", err)
	}
	if len(dir)+belowHostDir > maxSocketPath {
		_ = os.Remove(dir)
		return "", nil, fmt.Errorf("the path %s is too long for a socket; set TMPDIR to a directory of at most %d bytes", filepath.Dir(dir), maxSocketPath-belowHostDir-len("/cw4294967295"))
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// sweep removes the directories of hosts that are gone, and ends their processes if any has survived (a stopped one does
// not notice that its standard input has ended).
func sweep(parent string, log *slog.Logger) {
	dirs, _ := filepath.Glob(filepath.Join(parent, "h*"))
	for _, dir := range dirs {
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0o600)
		if err == nil && !tryLock(f, false) {
			_ = f.Close()
			continue // its owner lives
		}
		for _, pid := range survivors(dir) {
			log.Warn("ending a connector process that a dead host left behind", "pid", pid)
			killSurvivor(pid)
		}
		if err := os.RemoveAll(dir); err != nil {
			log.Warn("run directory of a dead host cannot be removed", "dir", dir, "error", err)
		}
		if f != nil {
			_ = f.Close()
		}
	}
}

// record notes a process, so that a later host can end it should this one die and the process survive.
func record(dir string, pid int) (forget func()) {
	start := startTime(pid)
	if start == "" {
		return func() {}
	}
	file := filepath.Join(dir, "p"+strconv.Itoa(pid))
	_ = os.WriteFile(file, []byte(start), 0o600)
	return func() { _ = os.Remove(file) }
}

// survivors returns recorded processes that still run: same id and same start time.
func survivors(dir string) []int {
	files, _ := filepath.Glob(filepath.Join(dir, "p*"))
	var out []int
	for _, f := range files {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(f), "p"))
		if err != nil || pid <= 1 {
			continue
		}
		if b, err := os.ReadFile(f); err == nil && len(b) > 0 && string(b) == startTime(pid) {
			out = append(out, pid)
		}
	}
	return out
}
