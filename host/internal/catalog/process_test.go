//go:build unix

package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

// processes makes a catalog whose connector "jira" is the test binary in a process of its own, with connection "a".
func processes(tb testing.TB, opts catalog.Options) *catalog.Catalog {
	tb.Helper()
	opts.Connectors = map[string]catalog.Source{"jira": {Launcher: launch.Exec{Args: []string{"connector", "jira"}}}}
	c := newCatalog(tb, opts)
	configure(tb, c, conn("a", "jira", `{}`))
	return c
}

func do(tb testing.TB, c *catalog.Catalog, how string) (string, error) {
	tb.Helper()
	out, err := c.Invoke(tb.Context(), catalog.Invocation{Connection: "a", Action: "do", Input: fmt.Appendf(nil, "%q", how)}, nil)
	return string(out), err
}

func TestCrashInFlight(t *testing.T) {
	t.Parallel()
	for how, want := range map[string][]string{
		"panic": {"do on connection a", "exit status 2", "panic: out of coffee"},
		"exit":  {"exit status 3", "licence expired"},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := processes(t, catalog.Options{Timing: catalog.Timing{BackoffMin: 20 * time.Millisecond}})
			_, err := do(t, c, how)
			e := wantError(t, err)
			if e.Reason != plugin.ReasonPluginCrashed || e.Code != codes.Unavailable || e.SideEffect != plugin.EffectUnknown || e.Origin != plugin.OriginPlugin || e.Class() != plugin.ClassUncertain {
				t.Errorf("got %+v", e)
			}
			for _, w := range want {
				if !strings.Contains(e.Error(), w) {
					t.Errorf("%q is missing in: %v", w, e)
				}
			}
			awaitState(t, c, "jira", func(s catalog.Status) bool { return s.State == catalog.StateReady && s.Restarts == 1 })
			if out, err := do(t, c, "nothing"); err != nil || out != `"nothing"` {
				t.Errorf("after the restart: %s, %v", out, err)
			}
		})
	}
}

func TestHungConnectorIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{Timing: catalog.Timing{Probe: 50 * time.Millisecond, ProbeEvery: 50 * time.Millisecond, BackoffMin: 10 * time.Millisecond}})
	pid := awaitState(t, c, "jira", is(catalog.StateReady)).PID
	failed := make(chan error, 1)
	go func() { _, err := do(t, c, "wait"); failed <- err }()
	awaitState(t, c, "jira", func(s catalog.Status) bool { return s.InFlight == 1 })
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if e := wantError(t, <-failed); e.Reason != plugin.ReasonPluginCrashed || e.SideEffect != plugin.EffectUnknown {
		t.Errorf("the call in flight got %+v", e)
	}
	s := awaitState(t, c, "jira", func(s catalog.Status) bool { return s.State == catalog.StateReady && s.PID != pid })
	if s.Err == nil || !strings.Contains(s.Err.Error(), "health probes") {
		t.Errorf("status %+v", s)
	}
	if _, err := do(t, c, "nothing"); err != nil {
		t.Error(err)
	}
}

func TestFloodsAndHostileLinesHurtNobody(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	for _, how := range []string{"hostile", "flood", "nothing"} {
		if _, err := do(t, c, how); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	if s := c.Status()[0]; s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
}

// Whatever a connector does to itself, the host lives, says what it was, and has it back.
func TestNothingHurtsTheHost(t *testing.T) {
	t.Parallel()
	for how, tt := range map[string]struct {
		code   codes.Code
		reason string
		want   string
		dies   bool
	}{
		"handler": {codes.Internal, plugin.ReasonPanic, "no such luck", false},
		"hoard":   {codes.Unavailable, plugin.ReasonPluginCrashed, "out of memory", true},
		"deluge":  {codes.OutOfRange, plugin.ReasonTooLarge, "over 32 MiB", false},
		"wait":    {codes.DeadlineExceeded, "", "no answer in time", false},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := processes(t, catalog.Options{
				Timing:  catalog.Timing{BackoffMin: 10 * time.Millisecond},
				Sandbox: launch.Sandbox{Mode: launch.SandboxAuto}, Limits: launch.Limits{Memory: 64 << 20, Files: 256},
			})
			if s := awaitState(t, c, "jira", is(catalog.StateReady)); how == "hoard" && s.Enforced.Memory == 0 {
				t.Skipf("nothing would end it: %s", s.Enforced)
			}
			patience := 60 * time.Second
			if how == "wait" {
				patience = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := c.Invoke(ctx, catalog.Invocation{Connection: "a", Action: "do", Input: fmt.Appendf(nil, "%q", how)}, nil)
			e := wantError(t, err)
			if e.Code != tt.code || e.Reason != tt.reason || !strings.Contains(e.Error(), tt.want) {
				t.Errorf("got %+v", e)
			}
			s := awaitState(t, c, "jira", func(s catalog.Status) bool { return s.State == catalog.StateReady && (s.Restarts > 0 || !tt.dies) })
			if (s.Restarts > 0) != tt.dies || s.Enforced == nil {
				t.Errorf("status %+v", s)
			}
			if out, err := do(t, c, "nothing"); err != nil || out != `"nothing"` {
				t.Errorf("afterwards: %s, %v", out, err)
			}
		})
	}
}

// A connection that names a file and a port gets them, also when it is changed: the process is started anew.
func TestSandboxGrowsWithConnections(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{Sandbox: launch.Sandbox{Mode: launch.SandboxAuto}})
	s := awaitState(t, c, "jira", is(catalog.StateReady))
	if s.Enforced == nil || !s.Enforced.Files {
		t.Skipf("no sandbox here: %+v", s.Enforced)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := fmt.Sprintf("read:%s", ca)
	if out, err := do(t, c, read); err != nil || out != `"denied"` {
		t.Errorf("before: %s, %v", out, err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := do(t, c, "moment"); waiting <- err }()
	awaitState(t, c, "jira", func(s catalog.Status) bool { return s.InFlight == 1 })
	configure(t, c, conn("a", "jira", fmt.Sprintf(`{"ca_file":%q,"base_url":"https://jira.example:8443"}`, ca)))
	if out, err := do(t, c, read); err != nil || out != `"ok"` {
		t.Errorf("after: %s, %v", out, err)
	}
	if now := awaitState(t, c, "jira", is(catalog.StateReady)); now.PID == s.PID || now.Restarts != 0 {
		t.Errorf("status %+v", now)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the call in flight got %v", err)
	}
	// Nothing new: the process stays.
	pid := awaitState(t, c, "jira", is(catalog.StateReady)).PID
	configure(t, c, conn("a", "jira", `{"base_url":"https://other.example:8443"}`))
	if now := awaitState(t, c, "jira", is(catalog.StateReady)); now.PID != pid {
		t.Error("the process was replaced for nothing")
	}
}

// A file that a connection names is granted also when another takes its name, as certificates are replaced, and when it
// comes later than the process.
func TestSandboxFollowsFiles(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{Sandbox: launch.Sandbox{Mode: launch.SandboxAuto}, Timing: catalog.Timing{ProbeEvery: 50 * time.Millisecond}})
	if s := awaitState(t, c, "jira", is(catalog.StateReady)); s.Enforced == nil || !s.Enforced.Files {
		t.Skipf("no sandbox here: %+v", s.Enforced)
	}
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	put := func() {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := errors.Join(os.WriteFile(next, []byte("x"), 0o600), os.Rename(next, ca)); err != nil {
			t.Fatal(err)
		}
	}
	await := func(what string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			out, err := do(t, c, "read:"+ca)
			if err == nil && out == `"ok"` {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %s, %v", what, out, err)
			}
		}
	}
	configure(t, c, conn("a", "jira", fmt.Sprintf(`{"ca_file":%q}`, ca)))
	put()
	await("a file that came later")
	pid := awaitState(t, c, "jira", is(catalog.StateReady)).PID
	put()
	await("a file that was replaced")
	if now := awaitState(t, c, "jira", is(catalog.StateReady)); now.PID == pid || now.Restarts != 0 {
		t.Errorf("status %+v, before process %d", now, pid)
	}
}

func TestStopEndsProcessAndChildren(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{})
	pid := awaitState(t, c, "jira", is(catalog.StateReady)).PID
	child, err := do(t, c, "child")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := do(t, c, "wait"); waiting <- err }()
	awaitState(t, c, "jira", func(s catalog.Status) bool { return s.InFlight == 1 })
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := wantError(t, <-waiting); e.Reason != plugin.ReasonDraining || e.SideEffect != plugin.EffectUnknown {
		t.Errorf("the call in flight got %+v", e)
	}
	for _, p := range []string{fmt.Sprint(pid), child} {
		awaitGone(t, p)
	}
}

func TestNeverAnsweredConfigure(t *testing.T) {
	t.Parallel()
	c := newCatalog(t, catalog.Options{
		Connectors: map[string]catalog.Source{"jira": {Launcher: launch.Exec{Args: []string{"connector", "jira"}}}},
		Timing:     catalog.Timing{Configure: 100 * time.Millisecond},
	})
	out, err := c.Configure(t.Context(), []catalog.Connection{conn("a", "jira", `{"hang":true}`)})
	if err != nil || out[0].Err == nil || out[0].Err.Class() != plugin.ClassUnavailable || !strings.Contains(out[0].Err.Error(), "configure") {
		t.Errorf("got %v, %v", out, err)
	}
	if s := c.Status()[0]; s.State != catalog.StateBackoff || s.RetryAt.IsZero() {
		t.Errorf("status %+v", s)
	}
}

// A connector in another language need not cap what it sends, nor know of lifelines; its size is the host's to judge.
func TestOversizeMessageOfAForeignConnector(t *testing.T) {
	t.Parallel()
	c := newCatalog(t, catalog.Options{Connectors: map[string]catalog.Source{"jira": {Launcher: launch.Exec{Args: []string{"foreign", "jira"}}}}})
	configure(t, c, conn("a", "jira", `{}`))
	_, err := do(t, c, "oversize")
	if e := wantError(t, err); e.Class() != plugin.ClassTooLarge || e.Reason != plugin.ReasonTooLarge || e.SideEffect != plugin.EffectUnknown || e.Origin != plugin.OriginPlugin {
		t.Errorf("got %+v", e)
	}
	if out, err := do(t, c, "nothing"); err != nil || out != `"nothing"` {
		t.Errorf("afterwards: %s, %v", out, err)
	}
}

func TestOutputAtTheLimit(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{})
	in := bytes.Repeat([]byte("1"), plugin.MaxInput)
	if out, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: in}, nil); err != nil || !bytes.Equal(out, in) {
		t.Errorf("at the limit: %d bytes, %v", len(out), err)
	}
}

func TestWrongExecutable(t *testing.T) {
	t.Parallel()
	c := newCatalog(t, catalog.Options{Connectors: map[string]catalog.Source{"jira": {Launcher: launch.Exec{Path: "/nonexistent/connector"}}}})
	if _, ok := c.Connector("jira"); ok {
		t.Error("described")
	}
	out, err := c.Configure(t.Context(), []catalog.Connection{conn("a", "jira", `{}`)})
	if err != nil || out[0].Err == nil || !strings.Contains(out[0].Err.Error(), "no such file") {
		t.Errorf("got %v, %v", out, err)
	}
	_, err = do(t, c, "nothing")
	if e := wantError(t, err); e.Reason != plugin.ReasonBackoff || e.RetryAfter <= 0 || e.SideEffect != plugin.EffectNone {
		t.Errorf("got %+v", e)
	}
}

// A start outlives the call that asked for it.
func TestImpatientCallerDoesNotCancelTheStart(t *testing.T) {
	t.Parallel()
	c := processes(t, catalog.Options{IdleStop: 10 * time.Millisecond})
	awaitState(t, c, "jira", is(catalog.StateStopped))
	ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
	defer cancel()
	_, err := c.Invoke(ctx, catalog.Invocation{Connection: "a", Action: "echo"}, nil)
	if e := wantError(t, err); e.SideEffect != plugin.EffectNone || e.Code != codes.DeadlineExceeded {
		t.Errorf("got %+v", e)
	}
	if _, err := do(t, c, "nothing"); err != nil {
		t.Error(err)
	}
	if s := c.Status()[0]; s.Restarts != 0 {
		t.Errorf("status %+v", s)
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
