package launch

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
)

var errClosed = errors.New("the launcher is closed")

// spawner starts every process from one OS thread that lives as long as the host. A parent-death signal is bound to the
// thread that forked, not to the process: a child of a short-lived thread would be killed under a living host.
type spawner struct {
	mu     sync.Mutex
	closed bool
	reqs   chan spawnRequest
	done   chan struct{}
}

type spawnRequest struct {
	cmd *exec.Cmd
	err chan error
}

func newSpawner() *spawner {
	s := &spawner{reqs: make(chan spawnRequest), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for r := range s.reqs {
		r.err <- r.cmd.Start()
	}
}

func (s *spawner) start(cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	r := spawnRequest{cmd: cmd, err: make(chan error, 1)}
	s.reqs <- r
	return <-r.err
}

func (s *spawner) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.reqs)
	}
	<-s.done
}
