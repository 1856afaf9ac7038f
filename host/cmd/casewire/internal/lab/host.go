// Package lab is what the demo and the benchmarks share: the fakes on loopback sockets, and the host as a process.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Host is casewire run, as a user starts it, in a process of its own.
type Host struct {
	dir  string
	url  string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// NewHost is a host that runs dir/casewire.yaml and listens at url. Its log is dir/host.log.
func NewHost(dir, url string) *Host { return &Host{dir: dir, url: url} }

// PID is the host's process id while it runs.
func (c *Host) PID() int { return c.cmd.Process.Pid }

// Start runs the host until it is ready, and says how long that took.
func (c *Host) Start(ctx context.Context) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "host.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := exec.Command(self, "run", "-c", filepath.Join(c.dir, "casewire.yaml")) //nolint:noctx // it is killed on purpose, and stopped in order
	cmd.Stdout, cmd.Stderr = log, log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	c.cmd, c.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		c.err = cmd.Wait()
		close(done)
	}(c.done)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-c.done:
			return 0, fmt.Errorf("the host ended before it was ready (%w); its log is %s", c.err, log.Name())
		case <-deadline:
			return 0, fmt.Errorf("the host was not ready in 20 s; its log is %s", log.Name())
		case <-tick.C:
			if isReady(ctx, c.url+"/readyz") {
				return time.Since(begin), nil
			}
		}
	}
}

func isReady(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Kill ends the host the hard way; its connectors must notice by themselves.
func (c *Host) Kill() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	c.cmd = nil
}

// Stop ends the host in order.
func (c *Host) Stop(ctx context.Context) error {
	if c.cmd == nil {
		return nil
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.done:
		c.cmd = nil
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(15 * time.Second):
		return errors.New("it did not end within 15 s of SIGTERM")
	}
}

// KillConnector kills one of the host's connector processes, chosen by pick, and returns false if it finds none. It knows
// how to look on Linux only.
func (c *Host) KillConnector(pick func(n int) int) bool {
	if c.cmd == nil {
		return false
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.PID()))
	if err != nil {
		return false
	}
	var children []int
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				children = append(children, pid)
			}
		}
	}
	if len(children) == 0 {
		return false
	}
	p, err := os.FindProcess(children[pick(len(children))])
	return err == nil && p.Kill() == nil
}
