package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

const (
	// maxHandshake is the longest first line on standard output: room for a certificate.
	maxHandshake = 32 << 10
	// lastWords is how long the streams of a dead process are still read: a process that left its group may hold them.
	lastWords = 250 * time.Millisecond
)

// child is a process as go-plugin sees it. The only things of it that go-plugin gets are the first line of its standard
// output and the fact of its end: go-plugin panics on hostile log lines and stops draining on long ones.
type child struct {
	name  string
	cmd   *exec.Cmd
	dir   string // where its socket must be
	host  *Host
	out   *output
	held  confinement
	hello *io.PipeReader
	tell  *io.PipeWriter
	done  chan struct{}
	first atomic.Value // the first line on standard output, or what came of one

	mu       sync.Mutex
	lifeline *os.File // write end of its standard input; nil once closed
	doomed   bool     // killed before it started
	started  bool
	enforced Enforced
	reaped   bool   // its group id may belong to somebody else
	status   string // after done
	failed   error  // after done
}

var _ runner.Runner = (*child)(nil)

func newChild(h *Host, name, dir string, cmd *exec.Cmd, out *output, held confinement) *child {
	c := &child{name: name, cmd: cmd, dir: dir, host: h, out: out, held: held, done: make(chan struct{})}
	c.hello, c.tell = io.Pipe()
	return c
}

// Start spawns the process and begins to read what it prints.
func (c *child) Start(context.Context) error {
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err == nil {
			files = append(files, r, w)
		}
		return r, w, err
	}
	inR, inW, err1 := pipe()
	outR, outW, err2 := pipe()
	errR, errW, err3 := pipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		closeAll()
		return fmt.Errorf("make pipes: %w", err)
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = inR, outW, errW
	c.cmd.SysProcAttr = processAttr()

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doomed {
		closeAll()
		return errors.New("the start was called off")
	}
	var err error
	if c.enforced, err = c.host.spawn.start(c.cmd, c.held, c.done); err != nil {
		closeAll()
		return err
	}
	if err := c.held.limit(c.cmd.Process.Pid, &c.enforced); err != nil {
		// It is running: let it be reaped as any other.
		if c.held.sandbox.Mode == SandboxStrict {
			killGroup(c.cmd.Process)
		}
		c.enforced.Missing = append(c.enforced.Missing, err.Error())
		c.host.log.Warn("connector is not limited as configured", "connector", c.name, "error", err)
	}
	for _, f := range []*os.File{inR, outW, errW} {
		_ = f.Close()
	}
	c.started, c.lifeline = true, inW
	var streams sync.WaitGroup
	streams.Go(func() { c.readStderr(errR) })
	streams.Go(func() { c.readStdout(outR) })
	go c.reap(&streams, outR, errR)
	return nil
}

func (c *child) readStderr(r io.Reader) {
	w := c.out.stream("stderr", true)
	_, _ = io.Copy(w, r)
	w.end()
}

// readStdout gives the first line to go-plugin and drains the rest for as long as the process lives.
func (c *child) readStdout(r io.Reader) {
	b := bufio.NewReaderSize(r, maxHandshake)
	line, err := b.ReadSlice('\n')
	c.first.Store(string(line[:min(len(line), 256)]))
	if err != nil {
		// No line: the process ended, or talks too much. Go-plugin sees the end and reports what there is.
		_, _ = c.tell.Write(line[:min(len(line), 256)])
	} else {
		_, _ = c.tell.Write(line)
	}
	_ = c.tell.Close()
	w := c.out.stream("stdout", false)
	_, _ = io.Copy(w, b)
	w.end()
}

// reap waits for the end of the process, ends what is left of its group, reads its last words, and says so.
func (c *child) reap(streams *sync.WaitGroup, pipes ...*os.File) {
	forget := record(c.host.dir, c.cmd.Process.Pid)
	var err error
	zombie := awaitExit(c.cmd.Process.Pid)
	if !zombie {
		err = c.cmd.Wait()
	}
	c.mu.Lock()
	killGroup(c.cmd.Process)
	if zombie {
		err = c.cmd.Wait()
	}
	c.reaped = true
	c.mu.Unlock()
	for _, p := range pipes {
		_ = p.SetReadDeadline(time.Now().Add(lastWords))
	}
	streams.Wait()
	for _, p := range pipes {
		_ = p.Close()
	}
	_ = c.hello.Close()
	c.letGo()
	forget()
	c.out.end()
	c.mu.Lock()
	c.failed, c.status = err, c.cmd.ProcessState.String()
	c.mu.Unlock()
	close(c.done)
}

// letGo closes the lifeline: a connector exits when its standard input ends.
func (c *child) letGo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lifeline != nil {
		_ = c.lifeline.Close()
		c.lifeline = nil
	}
}

// signalGroup calls send if the process has not been reaped.
func (c *child) signalGroup(send func(*os.Process)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doomed = true
	if !c.started || c.reaped {
		return
	}
	send(c.cmd.Process)
}

// heldTo says what the process is held to.
func (c *child) heldTo() Enforced {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enforced
}

// exit describes the end; only after done.
func (c *child) exit() Exit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Exit{Status: c.status, Lines: c.out.last()}
}

// Wait returns when the process has ended.
func (c *child) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		return c.failed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the process group.
func (c *child) Kill(context.Context) error {
	c.signalGroup(killGroup)
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if !started {
		return nil
	}
	t := time.NewTimer(killWait)
	defer t.Stop()
	select {
	case <-c.done:
		return nil
	case <-t.C:
		return errors.New("the process does not die")
	}
}

// Diagnose says how the process ended and what it said last.
func (c *child) Diagnose(context.Context) string {
	t := time.NewTimer(2 * lastWords)
	defer t.Stop()
	select {
	case <-c.done:
		return c.exit().String()
	case <-t.C:
		return Exit{Status: "the process is still running", Lines: c.out.last()}.String()
	}
}

// explain says in one line why a start failed. What go-plugin says of a first line that is none, or no handshake, is about
// itself, takes several lines, and has the end of the process in it once more.
func (c *child) explain(ctx context.Context, err error) error {
	how := c.Diagnose(ctx)
	if !strings.HasPrefix(err.Error(), "Unrecognized remote plugin message: ") {
		return fmt.Errorf("%w (%s)", err, how)
	}
	line, _ := c.first.Load().(string)
	if line = strings.TrimSpace(line); line == "" {
		return fmt.Errorf("it ended without saying where it listens: %s", how)
	}
	return fmt.Errorf("its first line on standard output is no handshake: %q; it must be 1|1|unix|PATH|grpc| and nothing else (%s)", clip(line, 80), how)
}

// Stdout carries the handshake line and then ends.
func (c *child) Stdout() io.ReadCloser { return c.hello }

// Stderr is empty: go-plugin never sees a line.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is for messages.
func (c *child) Name() string { return c.name }

// ID is the process id.
func (c *child) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		return ""
	}
	return strconv.Itoa(c.cmd.Process.Pid)
}

// PluginToHost refuses addresses that the connector has no business to name: it could send the host, with the host's
// rights, to another program's socket.
func (c *child) PluginToHost(network, addr string) (string, string, error) {
	if network == "unix" && filepath.Dir(filepath.Clean(addr)) == c.dir {
		return network, addr, nil
	}
	if runtime.GOOS == "windows" && network == "tcp" && strings.HasPrefix(addr, "127.0.0.1:") {
		return network, addr, nil
	}
	return "", "", fmt.Errorf("the connector listens at %s %s; it must listen on a unix socket in the directory named by PLUGIN_UNIX_SOCKET_DIR", clip(network, 16), clip(addr, 256))
}

// HostToPlugin is the identity: both ends share a file system.
func (c *child) HostToPlugin(network, addr string) (string, string, error) { return network, addr, nil }
