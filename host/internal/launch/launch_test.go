//go:build unix

package launch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

func TestCallAndStop(t *testing.T) {
	t.Parallel()
	log := newLogbook()
	h := newHost(t, launch.Options{Logger: log.logger()})
	p := start(t, h, connector)
	if out, err := call(t.Context(), p, "anything"); err != nil || out != "ok" {
		t.Fatalf("got %q, %v", out, err)
	}
	p.Stop(t.Context(), time.Second)
	<-p.Done()
	if s := p.Exit().Status; s != "exit status 0" {
		t.Errorf("it ended with %s\n%s", p.Exit(), log)
	}
	p.Stop(t.Context(), time.Second) // twice is once
}

func TestEnvironmentIsScrubbed(t *testing.T) {
	t.Setenv("CANARY_TOKEN", "hunter2")
	t.Setenv("HTTPS_PROXY", "http://user:hunter2@proxy:3128")
	t.Setenv("HTTP_PROXY", "http://proxy:3128")
	h := newHost(t, launch.Options{})
	env, err := call(t.Context(), start(t, h, connector), "env")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(env, "hunter2") {
		t.Errorf("a secret of the host reached the connector:\n%s", env)
	}
	for _, want := range []string{"HTTP_PROXY=http://proxy:3128", "TMPDIR=", "PLUGIN_UNIX_SOCKET_DIR="} {
		if !strings.Contains(env, want) {
			t.Errorf("%s is missing in:\n%s", want, env)
		}
	}
	own := connector
	own.Env = []string{"ONLY=this"}
	if env, err = call(t.Context(), start(t, h, own), "env"); err != nil || strings.Contains(env, "PATH=") || !strings.Contains(env, "ONLY=this") {
		t.Errorf("an explicit environment: %v\n%s", err, env)
	}
}

func TestHostileOutputHurtsNobody(t *testing.T) {
	t.Parallel()
	log := newLogbook()
	p := start(t, newHost(t, launch.Options{Logger: log.logger()}), connector)
	for _, action := range []string{"hostile-json", "flood", "print", "anything"} {
		if _, err := call(t.Context(), p, action); err != nil {
			t.Fatalf("%s: %v", action, err)
		}
	}
	log.await(t, "text=1 ")
	p.Stop(t.Context(), time.Second)
	if !strings.Contains(log.String(), "connector log lines dropped") {
		t.Error("a flood of 20000 lines was not rated")
	}
	if n := strings.Count(log.String(), `text="stderr `); n > 2000 {
		t.Errorf("%d lines of a flood reached the log", n)
	}
}

func TestLogLinesAreUnderstood(t *testing.T) {
	t.Parallel()
	log := newLogbook()
	p := start(t, newHost(t, launch.Options{Logger: log.logger(), Redact: func(s string) string {
		return strings.ReplaceAll(s, "SEC-1", "[redacted]")
	}}), connector)
	if _, err := call(t.Context(), p, "print"); err != nil {
		t.Fatal(err)
	}
	log.await(t, `level=WARN msg="connector log" connector=puppet stream=stderr text=careful fields.issue=[redacted]`)
	log.await(t, `stream=stdout text="from os.Stdout"`)
}

func TestCrashIsReported(t *testing.T) {
	t.Parallel()
	log := newLogbook()
	p := start(t, newHost(t, launch.Options{Logger: log.logger()}), connector)
	_, err := call(t.Context(), p, "panic")
	if e := plugin.FromError(err); e == nil || e.Origin != 0 {
		t.Errorf("the call got %+v", e)
	}
	<-p.Done()
	exit := p.Exit()
	if exit.Status != "exit status 2" || !strings.Contains(exit.String(), "panic: puppet gave up") {
		t.Errorf("exit: %s", exit)
	}
	log.await(t, `level=ERROR msg="connector log" connector=puppet stream=stderr text="panic: puppet gave up"`)
	begin := time.Now()
	p.Stop(t.Context(), time.Minute)
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("stopping a dead process took %v", d)
	}
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		exec    launch.Exec
		timeout time.Duration
		want    []string
	}{
		"dies":      {launch.Exec{Args: []string{"play", "dies"}}, 0, []string{"start connector puppet", "ended without saying where it listens", "exit status 7", "no licence found"}},
		"silent":    {launch.Exec{Args: []string{"play", "silent"}}, 300 * time.Millisecond, []string{"could not be called within 300ms"}},
		"elsewhere": {launch.Exec{Args: []string{"play", "elsewhere"}}, 0, []string{"PLUGIN_UNIX_SOCKET_DIR"}},
		"babbles":   {launch.Exec{Args: []string{"play", "babbles"}}, 0, []string{"is no handshake", `"xxxx`, "1|1|unix|PATH|grpc|"}},
		"greets":    {launch.Exec{Args: []string{"play", "greets"}}, 0, []string{"is no handshake", `"hello"`}},
		"missing":   {launch.Exec{Path: "/nonexistent/connector"}, 0, []string{"no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, launch.Options{StartTimeout: tt.timeout})
			_, err := tt.exec.Launch(t.Context(), h, "puppet")
			if err == nil {
				t.Fatal("it started")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is missing in: %v", w, err)
				}
			}
			if n := strings.Count(err.Error(), "exit status"); n > 1 || strings.Contains(err.Error(), "\n") {
				t.Errorf("it is not one line that says everything once: %v", err)
			}
		})
	}
}

func TestTerminationDrains(t *testing.T) {
	t.Parallel()
	log := newLogbook()
	p := start(t, newHost(t, launch.Options{Logger: log.logger()}), connector)
	if err := syscall.Kill(p.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if s := p.Exit().Status; s != "exit status 0" {
		t.Errorf("it ended with %s", p.Exit())
	}
	log.await(t, "text=drained")
}

func TestHungConnectorIsKilled(t *testing.T) {
	t.Parallel()
	p := start(t, newHost(t, launch.Options{}), connector)
	stopProcess(t, p.PID())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p.Stop(ctx, 100*time.Millisecond)
	<-p.Done()
	if s := p.Exit().Status; s != "signal: killed" {
		t.Errorf("it ended with %s", s)
	}
}

func TestChildrenDieWithTheConnector(t *testing.T) {
	t.Parallel()
	p := start(t, newHost(t, launch.Options{}), connector)
	out, err := call(t.Context(), p, "child")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	awaitGone(t, out)
}

func TestNothingOutlivesAKilledHost(t *testing.T) {
	t.Parallel()
	runDir := shortDir(t)
	cmd, line := firstLine(t, "host", runDir)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for pid := range strings.FieldsSeq(line) {
		awaitGone(t, pid)
	}
	newHost(t, launch.Options{RunDir: runDir})
	if dirs, _ := filepath.Glob(filepath.Join(runDir, "h*")); len(dirs) != 1 {
		t.Errorf("the dead host's directory was not swept: %v", dirs)
	}
}

// A stopped process does not see the end of its standard input; the next host ends it.
func TestSurvivorsAreEndedByTheNextHost(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("start times are not known here")
	}
	runDir := shortDir(t)
	cmd, line := firstLine(t, "host", runDir)
	pid := strings.Fields(line)[0]
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	stopProcess(t, n)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	newHost(t, launch.Options{RunDir: runDir})
	awaitGone(t, pid)
}

func TestLivingHostsAreNotSwept(t *testing.T) {
	t.Parallel()
	runDir := shortDir(t)
	a := start(t, newHost(t, launch.Options{RunDir: runDir}), connector)
	b := start(t, newHost(t, launch.Options{RunDir: runDir}), connector)
	for _, p := range []launch.Process{a, b} {
		if _, err := call(t.Context(), p, "anything"); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(runDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("run directory: %v, %v", info.Mode(), err)
	}
}

func TestCloseRemovesTheRunDirectory(t *testing.T) {
	t.Parallel()
	runDir := shortDir(t)
	h, err := launch.NewHost(launch.Options{RunDir: runDir})
	if err != nil {
		t.Fatal(err)
	}
	p, err := connector.Launch(t.Context(), h, "puppet")
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(t.Context(), time.Second)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(runDir, "h*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := connector.Launch(t.Context(), h, "puppet"); err == nil {
		t.Error("a closed host started a process")
	}
}

// shortDir returns a directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("", "cwt") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	dir := filepath.Join(d, "run")
	return dir
}

// stopProcess stops a process and returns once none of it runs: the signal alone takes its time.
func stopProcess(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		states, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		running := false
		for _, f := range states {
			b, err := os.ReadFile(f)
			running = running || err == nil && !strings.Contains(string(b), ") T ")
		}
		if !running {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the process does not stop")
		}
	}
}

// awaitGone waits until no process has the id, or only one that waits to be reaped by somebody else.
func awaitGone(t *testing.T, pid string) {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatalf("pid %q: %v", pid, err)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for {
		if syscall.Kill(n, 0) != nil {
			return
		}
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n)); err == nil && strings.Contains(string(b), ") Z ") {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			_ = syscall.Kill(n, syscall.SIGKILL)
			t.Fatalf("process %d is still there", n)
		}
	}
}
