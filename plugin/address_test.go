package plugin_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		addr  plugin.Address
		local bool
		err   string
	}{
		"unix:///run/x.sock":                  {addr: plugin.Address{Network: "unix", Target: "/run/x.sock"}, local: true},
		"unix:///run/../run//x.sock":          {addr: plugin.Address{Network: "unix", Target: "/run/x.sock"}, local: true},
		"tcp://127.0.0.1:7001":                {addr: plugin.Address{Network: "tcp", Target: "127.0.0.1:7001"}, local: true},
		"tcp://[::1]:7001":                    {addr: plugin.Address{Network: "tcp", Target: "[::1]:7001"}, local: true},
		"tcp://localhost:7001":                {addr: plugin.Address{Network: "tcp", Target: "localhost:7001"}, local: true},
		"tcp://localhost.example:7001":        {addr: plugin.Address{Network: "tcp", Target: "localhost.example:7001"}},
		"tcp://0.0.0.0:7001":                  {addr: plugin.Address{Network: "tcp", Target: "0.0.0.0:7001"}},
		"/run/x.sock":                         {err: "no address"},
		"http://x:1":                          {err: "no address"},
		"unix://x.sock":                       {err: "absolute"},
		"unix:///" + strings.Repeat("x", 103): {err: "no longer than"},
		"unix:///a\x00b":                      {err: "names no socket"},
		"tcp://x":                             {err: "no host and port"},
		"tcp://:7001":                         {err: "no host and port"},
		"tcp://a/b:7001":                      {err: "no host and port"},
		"tcp://x:http":                        {err: "no port number"},
		"tcp://x:70000":                       {err: "no port number"},
	} {
		a, err := plugin.ParseAddress(text)
		if a != want.addr || err == nil && a.Local() != want.local {
			t.Errorf("%q: got %+v, local %t", text, a, a.Local())
		}
		if (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("unix:///run/x.sock")
	f.Add("tcp://[::1]:7001")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := plugin.ParseAddress(s)
		if err != nil {
			return
		}
		if again, err := plugin.ParseAddress(a.String()); err != nil || again != a {
			t.Errorf("%q: %+v is read back as %+v, %v", s, a, again, err)
		}
	})
}

type nobody struct {
	connectorv1.UnimplementedConnectorServer
}

func (nobody) Drain(context.Context, *connectorv1.DrainRequest) (*connectorv1.DrainResponse, error) {
	return &connectorv1.DrainResponse{}, nil
}

func TestServeAddressRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		addr plugin.Address
		conf *tls.Config
		want string
	}{
		"every interface, no TLS": {plugin.Address{Network: "tcp", Target: "0.0.0.0:0"}, nil, "whoever reaches"},
		"TLS without certificate": {plugin.Address{Network: "tcp", Target: "127.0.0.1:0"}, &tls.Config{MinVersion: tls.VersionTLS13}, "certificate"},
	} {
		err := plugin.ServeAddress(t.Context(), nobody{}, tt.addr, plugin.ListenOptions{TLS: tt.conf})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A socket that was left behind is replaced; one that somebody listens on, or a file, is not.
func TestSocketsInTheWay(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cwt") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	serve := func() error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		return plugin.ServeAddress(ctx, nobody{}, plugin.Address{Network: "unix", Target: path}, plugin.ListenOptions{
			OnListen: func(plugin.Address) {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the socket: %v, %v", info, err)
				}
				cancel()
			},
		})
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if serve() == nil {
		t.Error("it took a socket that somebody listens on")
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	if err := serve(); err != nil {
		t.Errorf("a socket left behind: %v", err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if serve() == nil {
		t.Error("it took the place of a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file: %q, %v", b, err)
	}
}
