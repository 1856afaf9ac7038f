package launch_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

// confined starts the puppet in a sandbox, or skips where the kernel has none.
func confined(t *testing.T, opts launch.Options, g launch.Grants) (launch.Process, launch.Enforced) {
	t.Helper()
	opts.Sandbox.Mode = launch.SandboxAuto
	h := newHost(t, opts)
	p, err := connector.Confined(g).Launch(t.Context(), h, "puppet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(t.Context(), 0) })
	e := p.(launch.Reporter).Enforced()
	if !e.Files {
		t.Skipf("this kernel does not confine: %s", e)
	}
	return p, e
}

func listener(t *testing.T) (net.Listener, uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, uint16(l.Addr().(*net.TCPAddr).Port)
}

func write(t *testing.T, name string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	granted, secret := write(t, filepath.Join(dir, "ca.pem")), write(t, filepath.Join(dir, "secret"))
	tools := t.TempDir()
	write(t, filepath.Join(tools, "tool"))
	state := t.TempDir()
	open, port := listener(t)
	shut, _ := listener(t)
	p, e := confined(t, launch.Options{Sandbox: launch.Sandbox{Read: []string{tools, "/nonexistent"}, Write: []string{state}}},
		launch.Grants{Files: []string{granted}, Ports: []uint16{port}})
	env, err := call(t.Context(), p, "env")
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(env, "TMPDIR=")
	own, _, _ = strings.Cut(own, "\n")
	for _, tt := range []struct {
		what, want string
		needs      bool
	}{
		{"read " + granted, "ok", true},
		{"read " + secret, "denied", true},
		{"list " + dir, "denied", true},
		{"write " + granted, "denied", true},
		{"write " + filepath.Join(dir, "new"), "denied", true},
		{"read " + filepath.Join(tools, "tool"), "ok", true},
		{"write " + filepath.Join(tools, "tool"), "denied", true},
		{"write " + filepath.Join(state, "new"), "ok", true},
		{"write " + filepath.Join(own, "scratch"), "ok", true},
		{"read /etc/hosts", "ok", true},
		{"read /etc/passwd", "denied", true},
		{"list /root", "denied", true},
		{"list /proc", "denied", true},
		{"read " + fmt.Sprintf("/proc/%d/environ", os.Getpid()), "denied", true},
		{"run /bin/sh -c true", "ok", true},
		{"run /bin/cat " + secret, "exit status 1", true}, // what it starts is held to the same
		{"connect " + open.Addr().String(), "ok", true},
		{"connect " + shut.Addr().String(), "denied", e.Ports},
		{"listen 127.0.0.1:0", "denied", e.Ports},
		{"signal " + strconv.Itoa(os.Getpid()), "denied", e.Signals},
		{"netlink 0", "ok", e.Calls},
		{"netlink 4", "protocol not supported", e.Calls}, // NETLINK_SOCK_DIAG: where everybody listens
	} {
		if !tt.needs {
			t.Logf("not enforced here: %s", tt.what)
			continue
		}
		if got, err := call(t.Context(), p, "try", tt.what); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.what, got, err, tt.want)
		}
	}
	if !e.Privileges || !strings.Contains(e.String(), "files") {
		t.Errorf("enforced: %+v", e)
	}
	// The host itself is not confined, whatever thread it runs on.
	for range 64 {
		if _, err := os.ReadFile(secret); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever confines a process must still be able to end it, and its children.
func TestConfinedProcessesEnd(t *testing.T) {
	t.Parallel()
	p, _ := confined(t, launch.Options{}, launch.Grants{})
	child, err := call(t.Context(), p, "child")
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(t.Context(), time.Second)
	<-p.Done()
	if s := p.Exit().Status; s != "exit status 0" {
		t.Errorf("it ended with %s", p.Exit())
	}
	awaitGone(t, child)
}

func TestNothingConfinedOutlivesAKilledHost(t *testing.T) {
	t.Parallel()
	cmd, line := firstLine(t, "host", shortDir(t), "auto")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for pid := range strings.FieldsSeq(line) {
		awaitGone(t, pid)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, mode := range []launch.SandboxMode{launch.SandboxOff, launch.SandboxAuto} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, launch.Options{
				Sandbox: launch.Sandbox{Mode: mode}, Limits: launch.Limits{Memory: 64 << 20, Files: 256},
			})
			p := start(t, h, connector)
			e := p.(launch.Reporter).Enforced()
			bounded := e.Memory > 0
			if bounded && e.Memory != 320<<20 || !bounded && len(e.Missing) != 1 || e.OpenFiles != 256 {
				t.Errorf("enforced: %+v", e)
			}
			if env, err := call(t.Context(), p, "env"); err != nil || !strings.Contains(env, "GOMEMLIMIT=67108864") {
				t.Errorf("environment: %s, %v", env, err)
			}
			if got, err := call(t.Context(), p, "try", "open"); err != nil || !strings.Contains(got, "too many open files") {
				t.Errorf("files: %s, %v", got, err)
			}
			if got, err := call(t.Context(), p, "anything"); err != nil || got != "ok" {
				t.Errorf("afterwards: %s, %v", got, err)
			}
			if !bounded {
				t.Skip(e.Missing[0])
			}
			// It allocates without end: the limit ends it, and the host lives to tell.
			_, err := call(t.Context(), p, "hoard")
			if e := plugin.FromError(err); e == nil || e.Origin != 0 {
				t.Errorf("got %+v", e)
			}
			<-p.Done()
			if exit := p.Exit(); exit.Status != "exit status 2" || !strings.Contains(exit.String(), "out of memory") {
				t.Errorf("exit: %s", exit)
			}
		})
	}
}
