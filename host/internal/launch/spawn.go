package launch

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

var errClosed = errors.New("the launcher is closed")

// spawner starts every process from one OS thread that lives as long as the host. A parent-death signal is bound to the
// thread that forked, not to the process: a child of a short-lived thread would be killed under a living host.
type spawner struct {
	mu     sync.Mutex
	closed bool
	reqs   chan spawnRequest
	done   chan struct{}
	over   chan struct{} // closed by stop: threads of confined processes end
}

type spawnRequest struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() *spawner {
	s := &spawner{reqs: make(chan spawnRequest), done: make(chan struct{}), over: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for r := range s.reqs {
		r.err <- startCommand(r.cmd)
	}
}

// start starts a process, held to c from its first instruction on if it is to be confined. Done is closed when the
// process has ended.
func (s *spawner) start(cmd *exec.Cmd, c confinement, done <-chan struct{}) (Enforced, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Enforced{}, errClosed
	}
	if c.sandbox.Mode == SandboxAuto || c.sandbox.Mode == SandboxStrict {
		return c.startConfined(cmd, s.over, done)
	}
	r := spawnRequest{cmd: cmd, err: make(chan error, 1)}
	s.reqs <- r
	return Enforced{Mode: SandboxOff}, <-r.err
}

func (s *spawner) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.reqs)
		close(s.over)
	}
	<-s.done
}

// startCommand starts a command. A file that was written a moment ago may still be open for writing in a child that another
// thread has just forked, and is then busy until that child executes its own program.
func startCommand(cmd *exec.Cmd) error {
	const attempts = 40
	for i := 1; ; i++ {
		err := cmd.Start()
		if !busy(err) || i == attempts {
			return err
		}
		<-time.After(5 * time.Millisecond)
		*cmd = exec.Cmd{ // one that failed to start cannot be started again
			Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr,
			ExtraFiles: cmd.ExtraFiles, SysProcAttr: cmd.SysProcAttr,
		}
	}
}
