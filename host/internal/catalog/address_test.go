package catalog_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

// A connector at an address is let go of and found again as often as it goes, is given its connections each time, and is
// never taken for one that crashes in a loop.
func TestAddressGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cwt") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr := plugin.Address{Network: "unix", Target: filepath.Join(dir, "s")}
	serve := func() (f *fake, stop func()) {
		f = newFake("jira")
		ctx, cancel := context.WithCancel(context.Background())
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- plugin.ServeAddress(ctx, f, addr, plugin.ListenOptions{OnListen: func(plugin.Address) { close(ready) }})
		}()
		<-ready
		return f, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	f, stop := serve()
	c := newCatalog(t, catalog.Options{
		Connectors: map[string]catalog.Source{"jira": {Launcher: launch.Address{Addr: addr}}},
		Timing:     catalog.Timing{BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond},
	})
	configure(t, c, conn("a", "jira", `{}`))
	for range 7 {
		if out, err := do(t, c, "nothing"); err != nil || out != `"nothing"` {
			t.Fatalf("got %s, %v", out, err)
		}
		stop()
		awaitState(t, c, "jira", is(catalog.StateBackoff))
		if _, err := do(t, c, "nothing"); wantError(t, err).SideEffect != plugin.EffectNone {
			t.Errorf("a call while it is away: %v", err)
		}
		f, stop = serve()
		awaitState(t, c, "jira", is(catalog.StateReady))
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	drained := f.drained
	f.mu.Unlock()
	if drained {
		t.Error("the host drained a connector that is not its own")
	}
	stop()
}
