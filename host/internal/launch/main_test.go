package launch_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// The test binary plays two more parts: a connector, and a host that is about to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		play(os.Args[2:])
		return
	}
	goleak.VerifyTestMain(m)
}

func play(args []string) {
	switch args[0] {
	case "connector":
		plugin.Serve(&puppet{}, plugin.ServeOptions{})
	case "silent":
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "dies":
		fmt.Fprintln(os.Stderr, "no licence found")
		os.Exit(7)
	case "elsewhere":
		fmt.Println("1|1|unix|/var/run/other.sock|grpc|")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "greets":
		fmt.Println("hello")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "babbles":
		_, _ = os.Stdout.Write(bytes.Repeat([]byte("x"), 1<<20))
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "host":
		hostToBeKilled(args[1:])
	}
}

// hostToBeKilled starts a connector with a child, says their ids, and waits for the end.
func hostToBeKilled(args []string) {
	opts := launch.Options{RunDir: args[0]}
	if len(args) > 1 {
		opts.Sandbox.Mode = launch.SandboxMode(args[1])
	}
	h, err := launch.NewHost(opts)
	must(err)
	p, err := launch.Exec{Args: []string{"play", "connector"}}.Launch(context.Background(), h, "puppet")
	must(err)
	out, err := call(context.Background(), p, "child")
	must(err)
	fmt.Printf("%d %s\n", p.PID(), out)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// stderr is the real one: os.Stderr becomes go-plugin's. It is never collected, which would close it.
var stderr = os.NewFile(2, "stderr")

// puppet is a connector that does what it is told.
type puppet struct {
	connectorv1.UnimplementedConnectorServer
}

func (p *puppet) Drain(context.Context, *connectorv1.DrainRequest) (*connectorv1.DrainResponse, error) {
	fmt.Fprintln(stderr, "drained")
	return &connectorv1.DrainResponse{}, nil
}

func (p *puppet) Invoke(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
	out := "ok"
	switch r.GetAction() {
	case "child":
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }()
		out = fmt.Sprint(cmd.Process.Pid)
	case "env":
		out = strings.Join(os.Environ(), "\n")
	case "hostile-json":
		fmt.Fprintln(stderr, `{"@message":1,"@level":{},"@timestamp":[]}`)
	case "flood":
		line := strings.Repeat("stderr ", 20) + "\n"
		for range 20000 {
			_, _ = io.WriteString(stderr, line)
		}
		_, _ = os.NewFile(1, "stdout").Write(bytes.Repeat([]byte("o"), 4<<20))
	case "hoard":
		var all [][]byte
		for len(all) < 1<<20 { // which no limit allows
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
		}
		out = fmt.Sprint(len(all))
	case "try":
		out = try(strings.Fields(string(r.GetInput())))
	case "panic":
		fmt.Fprintln(stderr, "about to go")
		go func() { panic("puppet gave up") }()
		<-s.Context().Done()
		return s.Context().Err()
	case "print":
		fmt.Println("from os.Stdout")
		fmt.Fprintln(stderr, `{"level":"WARN","msg":"careful","issue":"SEC-1"}`)
	}
	return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{Result: &connectorv1.Result{Output: []byte(out)}}})
}

// try does something that may be forbidden and says what came of it.
func try(what []string) string {
	err := func() error {
		switch what[0] {
		case "read":
			_, err := os.ReadFile(what[1])
			return err
		case "list":
			_, err := os.ReadDir(what[1])
			return err
		case "write":
			return os.WriteFile(what[1], []byte("x"), 0o600)
		case "connect":
			c, err := net.DialTimeout("tcp", what[1], 5*time.Second)
			if err == nil {
				err = c.Close()
			}
			return err
		case "listen":
			l, err := net.Listen("tcp", what[1])
			if err == nil {
				err = l.Close()
			}
			return err
		case "signal":
			pid, err := strconv.Atoi(what[1])
			if err != nil {
				return err
			}
			p, err := os.FindProcess(pid)
			if err != nil {
				return err
			}
			return p.Signal(syscall.Signal(0))
		case "netlink":
			protocol, err := strconv.Atoi(what[1])
			if err != nil {
				return err
			}
			return netlink(protocol)
		case "run":
			return exec.Command(what[1], what[2:]...).Run()
		case "open":
			var files []*os.File
			defer func() {
				for _, f := range files {
					_ = f.Close()
				}
			}()
			for range 4096 {
				f, err := os.Open(os.DevNull)
				if err != nil {
					return err
				}
				files = append(files, f)
			}
			return nil
		}
		return errors.New("unknown")
	}()
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, os.ErrPermission):
		return "denied"
	}
	return err.Error()
}

// call invokes an action of the puppet.
func call(ctx context.Context, p launch.Process, action string, input ...string) (string, error) {
	s, err := connectorv1.NewConnectorClient(p.Conn().(*grpc.ClientConn)).Invoke(ctx, &connectorv1.InvokeRequest{
		Action: action, Input: []byte(strings.Join(input, " ")),
	})
	if err != nil {
		return "", err
	}
	r, err := s.Recv()
	if err != nil {
		return "", err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(r.GetResult().GetOutput()), nil
}

// logbook is a slog handler's output that tests can wait on.
type logbook struct {
	mu   sync.Mutex
	more *sync.Cond
	text strings.Builder
}

func newLogbook() *logbook {
	l := &logbook{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.more.Broadcast()
	return l.text.Write(p)
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns once the log contains text.
func (l *logbook) await(t *testing.T, text string) {
	t.Helper()
	stop := context.AfterFunc(t.Context(), l.more.Broadcast)
	defer stop()
	timeout := time.AfterFunc(time.Minute, l.more.Broadcast)
	defer timeout.Stop()
	end := time.Now().Add(20 * time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.text.String(), text) {
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("the log never said %q:\n%s", text, l.text.String())
		}
		l.more.Wait()
	}
}

func newHost(t *testing.T, opts launch.Options) *launch.Host {
	t.Helper()
	h, err := launch.NewHost(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func start(t *testing.T, h *launch.Host, e launch.Exec) launch.Process {
	t.Helper()
	p, err := e.Launch(t.Context(), h, "puppet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(context.Background(), 0) })
	return p
}

var connector = launch.Exec{Args: []string{"play", "connector"}}

// firstLine starts the test binary in another part and returns the first line that it prints.
func firstLine(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"play"}, args...)...)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatal(err)
	}
	return cmd, line
}
