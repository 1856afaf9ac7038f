package sdktest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/casewire/casewire/plugin"
)

// exitWait is how long a program may take to end when it is let go of.
const exitWait = 5 * time.Second

// Binary is a built connector, in any language: path is the executable, args what follows its name. Harnesses start it as
// a host does, with an environment that holds nothing of the test's but PATH, speak to it over its socket, hold the rules
// of a process against it (the line that it announces itself with, nothing else on standard output, an end when its
// standard input ends), and look for secrets on its standard error. A Crash is a SIGKILL.
func Binary(tb testing.TB, path string, args ...string) *Program {
	tb.Helper()
	found, err := exec.LookPath(path)
	if err != nil {
		tb.Fatalf("find the connector: %v", err)
	}
	if found, err = filepath.Abs(found); err != nil {
		tb.Fatalf("find the connector: %v", err)
	}
	return &Program{name: filepath.Base(path), start: func(tb testing.TB, line func(string)) func(context.Context) (*process, error) {
		tb.Helper()
		return func(ctx context.Context) (*process, error) { return startBinary(ctx, tb, line, found, args) }
	}}
}

// binary is a connector in a process of its own.
type binary struct {
	tb      testing.TB
	cmd     *exec.Cmd
	dir     string // of its socket
	conn    *grpc.ClientConn
	stdin   io.Closer
	streams sync.WaitGroup
	exited  chan struct{}
	killed  sync.Once
	over    sync.Once

	mu   sync.Mutex
	last []string // lines on standard error
}

func startBinary(ctx context.Context, tb testing.TB, line func(string), path string, args []string) (*process, error) {
	tb.Helper()
	// Not the test's own directory: its path may be too long for a socket.
	dir, err := os.MkdirTemp("", "cw")
	if err != nil {
		return nil, err
	}
	cookie := plugin.Handshake()
	version := strconv.Itoa(plugin.ProtocolVersion)
	b := &binary{tb: tb, dir: dir, exited: make(chan struct{})}
	b.cmd = exec.Command(path, args...) //nolint:noctx,gosec // it ends with its standard input; starting the named program is the job
	b.cmd.Dir = dir
	b.cmd.Env = []string{
		cookie.MagicCookieKey + "=" + cookie.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS=" + version, "PLUGIN_MIN_PORT=10000",
		"PLUGIN_MAX_PORT=25000", "PLUGIN_UNIX_SOCKET_DIR=" + dir, "TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"),
	}
	ownGroup(b.cmd) // it may end by signalling its group, which must not be the test's
	stdin, err1 := b.cmd.StdinPipe()
	stdout, err2 := b.cmd.StdoutPipe()
	stderr, err3 := b.cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3, b.cmd.Start()); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	b.stdin = stdin
	hello := make(chan string, 1)
	b.streams.Go(func() { b.readStdout(stdout, hello) })
	b.streams.Go(func() { b.readStderr(stderr, line) })
	go func() {
		b.streams.Wait()
		_ = b.cmd.Wait() // how it ended does not matter: its own signal may have ended it
		close(b.exited)
	}()
	if err := b.connect(ctx, hello); err != nil {
		b.kill()
		b.mu.Lock()
		defer b.mu.Unlock()
		return nil, fmt.Errorf("%w; last on standard error: %s", err, strings.Join(b.last, " | "))
	}
	p := &process{conn: b.conn, kill: b.kill, end: b.end}
	tb.Cleanup(b.end)
	return p, nil
}

// connect reads the line by which the program announces itself, "1|1|unix|PATH|grpc", and dials.
func (b *binary) connect(ctx context.Context, hello <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, plugin.StartTimeout)
	defer cancel()
	var line string
	select {
	case line = <-hello:
	case <-b.exited:
		return errors.New("it ended before it announced itself")
	case <-ctx.Done():
		return fmt.Errorf("it did not announce itself within %v", plugin.StartTimeout)
	}
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 5 || parts[0] != "1" || parts[1] != strconv.Itoa(plugin.ProtocolVersion) || parts[2] != "unix" || parts[4] != "grpc" {
		return fmt.Errorf("its first line is %.200q; it must be 1|1|unix|PATH|grpc", line)
	}
	if filepath.Dir(filepath.Clean(parts[3])) != b.dir {
		return fmt.Errorf("it listens at %s; the socket must be in the directory that PLUGIN_UNIX_SOCKET_DIR names", parts[3])
	}
	var err error
	b.conn, err = grpc.NewClient("unix:"+parts[3], append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	return err
}

func (b *binary) readStdout(r io.Reader, hello chan<- string) {
	in := bufio.NewReader(r)
	line, err := in.ReadString('\n')
	if err != nil {
		return // it ended without a line
	}
	hello <- line
	for {
		line, err := in.ReadString('\n')
		if strings.TrimSpace(line) != "" {
			b.tb.Errorf("a line on standard output, where only the first belongs: %.200q; write logs to standard error", line)
		}
		if err != nil {
			return
		}
	}
}

func (b *binary) readStderr(r io.Reader, line func(string)) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		line(in.Text())
		b.mu.Lock()
		if b.last = append(b.last, in.Text()); len(b.last) > 20 {
			b.last = b.last[1:]
		}
		b.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r) // a line of megabytes
}

// kill ends the process and its children now.
func (b *binary) kill() {
	b.killed.Do(func() {
		killGroup(b.cmd)
		<-b.exited
		b.clean()
	})
}

// end lets go of the process, which has to end by itself.
func (b *binary) end() {
	b.over.Do(func() {
		select {
		case <-b.exited:
			b.kill() // what it left behind
			return
		default:
		}
		_ = b.conn.Close()
		_ = b.stdin.Close()
		t := time.NewTimer(exitWait)
		defer t.Stop()
		select {
		case <-b.exited:
		case <-t.C:
			b.tb.Errorf("the connector did not end within %v after its standard input had", exitWait)
		}
		b.kill()
	})
}

func (b *binary) clean() {
	_ = b.stdin.Close()
	if b.conn != nil {
		_ = b.conn.Close()
	}
	_ = os.RemoveAll(b.dir)
}
