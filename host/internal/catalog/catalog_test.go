package catalog_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func TestDescriptorsAreOffline(t *testing.T) {
	t.Parallel()
	launched := 0
	f := newFake("jira")
	known, err := f.Describe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	source := func(describe func() (*connectorv1.DescribeResponse, error)) catalog.Source {
		return catalog.Source{Describe: describe, Launcher: launch.InMemory{Server: f, OnLaunch: func(func(string)) error { launched++; return nil }}}
	}
	c := newCatalog(t, catalog.Options{Connectors: map[string]catalog.Source{
		"jira": source(func() (*connectorv1.DescribeResponse, error) { return known, nil }),
	}})
	for range 3 {
		if d, ok := c.Connector("jira"); !ok || d.GetVersion() != "1.2.3" {
			t.Fatalf("got %v, %v", d, ok)
		}
	}
	if launched != 0 {
		t.Errorf("a process was started %d times", launched)
	}
	if _, ok := c.Connector("none"); ok {
		t.Error("an unknown connector has a descriptor")
	}
	if _, ok := c.Connection("none"); ok {
		t.Error("an unknown connection has a descriptor")
	}

	asks := newCatalog(t, catalog.Options{Connectors: map[string]catalog.Source{"jira": source(nil)}})
	for range 3 {
		if _, ok := asks.Connector("jira"); !ok {
			t.Fatal("not described")
		}
	}
	if launched != 1 {
		t.Errorf("a process was started %d times, want once", launched)
	}
	if s := asks.Status()[0]; s.State != catalog.StateAbsent || s.Version != "1.2.3" {
		t.Errorf("status %+v", s)
	}
}

func TestWrongDescriptorsAreRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*connectorv1.DescribeResponse){
		`calls itself "other"`:          func(d *connectorv1.DescribeResponse) { d.Name = "other" },
		"config schema is not JSON":     func(d *connectorv1.DescribeResponse) { d.ConfigSchema = []byte("{") },
		`action "echo" declares no`:     func(d *connectorv1.DescribeResponse) { d.Actions[0].Effect = 0 },
		`action "echo" has no name or`:  func(d *connectorv1.DescribeResponse) { d.Actions[1].Name = "echo" },
		`trigger "" has no name or`:     func(d *connectorv1.DescribeResponse) { d.Triggers[0].Name = "" },
		"input schema of do is not JSO": func(d *connectorv1.DescribeResponse) { d.Actions[2].InputSchema = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake("jira")
			f.describe = spoil
			c := newCatalog(t, catalog.Options{}, f)
			if _, ok := c.Connector("jira"); ok {
				t.Error("it was taken")
			}
			out, err := c.Configure(t.Context(), []catalog.Connection{conn("a", "jira", `{}`)})
			if err != nil {
				t.Fatal(err)
			}
			if e := out[0].Err; e == nil || !strings.Contains(e.Error(), name) || e.Class() != plugin.ClassUnavailable {
				t.Errorf("outcome: %v", e)
			}
		})
	}
}

func TestConfigureReportsEveryMistake(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	c := newCatalog(t, catalog.Options{}, f)
	out, err := c.Configure(t.Context(), []catalog.Connection{
		conn("good", "jira", `{}`), conn("bad", "jira", `{"bad":"no such site"}`), conn("good", "jira", `{}`),
		conn("x", "nojira", `{}`), conn("y", "jira", `{`), conn("", "jira", `{}`), conn("mute", "jira", `{"silent":true}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "/bad: no such site", `two connections named "good"`, `no connector "nojira"; known are jira`, "not JSON", "needs a name", "no outcome"}
	for i, w := range want {
		switch e := out[i].Err; {
		case w == "" && e != nil, w != "" && (e == nil || !strings.Contains(e.Error(), w)):
			t.Errorf("connection %d: got %v, want %q", i, e, w)
		case e != nil && e.SideEffect != plugin.EffectNone:
			t.Errorf("connection %d: side effect %v", i, e.SideEffect)
		}
	}
	e := wantError(t, second(c.Invoke(t.Context(), catalog.Invocation{Connection: "bad", Action: "echo", Input: []byte(`{}`)}, nil)))
	if e.Class() != plugin.ClassConfig || !strings.Contains(e.Error(), "out of service") || !strings.Contains(e.Error(), "/bad: no such site") {
		t.Errorf("a call on a refused connection: %v (%s)", e, e.Class())
	}
	if names := strings.Join(c.Connections("jira"), " "); names != "bad good mute" {
		t.Errorf("connections: %s", names)
	}
	// Mended, it works.
	configure(t, c, conn("bad", "jira", `{}`))
	if _, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "bad", Action: "echo", Input: []byte(`{}`)}, nil); err != nil {
		t.Error(err)
	}
}

func second[A any](_ A, err error) error { return err }

func TestConfigureSendsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	c := newCatalog(t, catalog.Options{}, f)
	first := configure(t, c, conn("a", "jira", `{"v":1}`))
	again := configure(t, c, conn("a", "jira", `{"v":1}`), conn("b", "jira", `{}`))
	if again[0].Generation != first[0].Generation {
		t.Error("an unchanged connection got a new generation")
	}
	changed := configure(t, c, conn("a", "jira", `{"v":2}`), conn("b", "jira", `{}`))
	if changed[0].Generation <= first[0].Generation {
		t.Error("a changed connection has no later generation")
	}
	configure(t, c, conn("b", "jira", `{}`))
	if got := f.history(); got != "a b a -a" {
		t.Errorf("the connector was told: %s", got)
	}
	configure(t, c)
	awaitState(t, c, "jira", is(catalog.StateStopped))
	if !f.drained {
		t.Error("a connector without connections was not drained")
	}
	configure(t, c, conn("c", "jira", `{}`))
	awaitState(t, c, "jira", is(catalog.StateReady))
}

func TestStateComesBack(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	c := newCatalog(t, catalog.Options{}, f)
	saved := map[string]string{}
	c.OnState(func(of catalog.Connection, state []byte) { saved[of.Name] = string(state) })
	a := conn("a", "jira", `{}`)
	a.State = []byte("stored")
	gen := configure(t, c, a)[0].Generation
	state := func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return string(f.conns["a"].GetState())
	}
	if state() != "stored" {
		t.Errorf("the connector got state %q", state())
	}
	if probes, err := c.Check(t.Context(), "a"); err != nil || len(probes) != 1 {
		t.Fatalf("check: %v, %v", probes, err)
	}
	if saved["a"] != "checked" {
		t.Errorf("saved %v", saved)
	}
	// Neither the state that was stored before nor the one handed out is a change.
	for _, s := range []string{"stored", "checked"} {
		a.State = []byte(s)
		if got := configure(t, c, a)[0].Generation; got != gen {
			t.Errorf("state %q made a new generation", s)
		}
	}
	f.lose()
	if _, err := c.Check(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if state() != "checked" {
		t.Errorf("after a replay the connector has state %q", state())
	}
	// A state from elsewhere is: somebody signed in.
	a.State = []byte("signed in")
	if got := configure(t, c, a)[0].Generation; got <= gen || state() != "signed in" {
		t.Errorf("generation %d after %d, state %q", got, gen, state())
	}
}

func TestIdleProcessIsStoppedAndStartedOnDemand(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	c := newCatalog(t, catalog.Options{IdleStop: 20 * time.Millisecond}, f)
	configure(t, c, conn("a", "jira", `{}`))
	awaitState(t, c, "jira", is(catalog.StateStopped))
	for range 3 {
		if _, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: []byte(`1`)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	awaitState(t, c, "jira", is(catalog.StateStopped))
}

func TestStopIsFinal(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	c := newCatalog(t, catalog.Options{}, f)
	configure(t, c, conn("a", "jira", `{}`))
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := wantError(t, second(c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo"}, nil)))
	if e.Reason != plugin.ReasonDraining || e.SideEffect != plugin.EffectNone {
		t.Errorf("got %+v", e)
	}
	if _, err := c.Configure(t.Context(), nil); err == nil {
		t.Error("a stopped catalog was configured")
	}
	if s := c.Status()[0]; s.State != catalog.StateStopped {
		t.Errorf("state %s", s.State)
	}
	if !f.drained {
		t.Error("the connector was not drained")
	}
}

// crasher counts starts, makes them fail, and ends the current one.
type crasher struct {
	starts atomic.Int32
	last   atomic.Pointer[func(string)]
	fail   atomic.Pointer[error]
}

func (k *crasher) crash(status string) { (*k.last.Load())(status) }

func (k *crasher) source(f *fake) map[string]catalog.Source {
	return map[string]catalog.Source{f.name: {Launcher: launch.InMemory{Server: f, OnLaunch: func(crash func(string)) error {
		k.starts.Add(1)
		k.last.Store(&crash)
		if err := k.fail.Load(); err != nil {
			return *err
		}
		return nil
	}}}}
}

func TestCrashesAreBackedOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		c, err := catalog.New(catalog.Options{Connectors: k.source(f), Timing: catalog.Timing{CrashWindow: 1}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Stop(context.Background()) }()
		configure(t, c, conn("a", "jira", `{}`))
		echo := func() error {
			return second(c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: []byte(`1`)}, nil))
		}
		want := 500 * time.Millisecond
		for i := range 10 {
			k.crash("exit status 2")
			synctest.Wait()
			e := wantError(t, echo())
			if e.Reason != plugin.ReasonBackoff || e.Code != codes.Unavailable || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Error(), "exit status 2") {
				t.Fatalf("crash %d: %+v", i, e)
			}
			if e.RetryAfter < want*3/4 || e.RetryAfter > want*5/4 {
				t.Errorf("crash %d: retry after %v, want about %v", i, e.RetryAfter, want)
			}
			time.Sleep(e.RetryAfter) //nolint:forbidigo // the bubble's clock
			synctest.Wait()
			if err := echo(); err != nil {
				t.Fatalf("after backoff %d: %v", i, err)
			}
			want = min(2*want, time.Minute)
		}
		if n := k.starts.Load(); n != 11 {
			t.Errorf("%d starts", n)
		}
		// Five minutes later a crash is the first again.
		time.Sleep(5 * time.Minute) //nolint:forbidigo // the bubble's clock
		k.crash("exit status 2")
		synctest.Wait()
		if e := wantError(t, echo()); e.RetryAfter > 625*time.Millisecond {
			t.Errorf("after a stable time: retry after %v", e.RetryAfter)
		}
	})
}

func TestFailedStartIsBackedOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		broken := errors.New("exec format error")
		k.fail.Store(&broken)
		c, err := catalog.New(catalog.Options{Connectors: k.source(f)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Stop(context.Background()) }()
		out, err := c.Configure(t.Context(), []catalog.Connection{conn("a", "jira", `{}`)})
		if err != nil || out[0].Err == nil || !strings.Contains(out[0].Err.Error(), "exec format error") || out[0].Err.RetryAfter == 0 {
			t.Fatalf("got %v, %v", out, err)
		}
		k.fail.Store(nil)
		time.Sleep(out[0].Err.RetryAfter) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if s := c.Status()[0]; s.State != catalog.StateReady || s.Restarts != 1 || s.Err == nil {
			t.Errorf("status %+v", s)
		}
		if _, err := c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: []byte(`1`)}, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestHungConfigureFailsTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake("jira")
		c, err := catalog.New(catalog.Options{Connectors: (&crasher{}).source(f)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Stop(context.Background()) }()
		begin := time.Now()
		out, err := c.Configure(t.Context(), []catalog.Connection{conn("a", "jira", `{"hang":true}`)})
		if err != nil || out[0].Err == nil || out[0].Err.Class() != plugin.ClassUnavailable {
			t.Fatalf("got %v, %v", out, err)
		}
		if d := time.Since(begin); d > plugin.ConfigureTimeout+2*time.Second {
			t.Errorf("it took %v", d)
		}
		// The others of the catalog are not concerned: mending the connection is enough.
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		if _, err := c.Configure(t.Context(), []catalog.Connection{conn("a", "jira", `{}`)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if s := c.Status()[0]; s.State != catalog.StateReady {
			t.Errorf("status %+v", s)
		}
	})
}
