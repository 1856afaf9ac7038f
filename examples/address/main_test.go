package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store/sqlite"
)

// A host finds the connector, loses it, and finds it again.
func TestHostAtTheAddress(t *testing.T) {
	t.Parallel()
	addr, stop := start(t, "tcp://127.0.0.1:0")
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "casewire.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	clock, err := host.AddressConnector(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.New(host.Options{
		Store: st, Connectors: map[string]host.Connector{"clock": clock},
		Connections: []host.Connection{{Name: "oslo", Connector: "clock", Config: json.RawMessage(`{"zone":"Europe/Oslo"}`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ask := func() (Time, error) {
		var out Time
		b, err := h.Invoke(t.Context(), host.Invocation{Connection: "oslo", Action: "time.now", Input: json.RawMessage(`{}`)})
		if err == nil {
			err = json.Unmarshal(b, &out)
		}
		return out, err
	}
	if got, err := ask(); err != nil || got.PID != os.Getpid() || strings.HasSuffix(got.Time, "Z") {
		t.Fatalf("got %+v, %v", got, err)
	}
	stop()
	if _, err := ask(); err == nil {
		t.Error("a connector that is away answered")
	}
	start(t, addr)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(time.Minute)
	for {
		_, err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-patience:
			t.Fatal(err)
		}
	}
}

// start runs the program until the test ends, or stop is called.
func start(t *testing.T, at string) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- run(ctx, []string{at}, func(addr string) { ready <- addr }) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	select {
	case addr = <-ready:
	case err := <-ended:
		stopped = true
		t.Fatal(err)
	}
	return addr, stop
}
