package sdk_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

func TestServeAddress(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &world{closing: make(chan struct{}, 8), act: func(_ context.Context, b *box, _ input) (output, error) { return output{ID: b.cfg.URL}, nil }}
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- sdk.ServeAddress(ctx, newConnector(w), "tcp://127.0.0.1:0", sdk.ListenOptions{OnListen: func(a string) { ready <- a }})
	}()
	addr := strings.TrimPrefix(<-ready, "tcp://")
	// Two hosts, one after the other: each configures, and the process is there for the next.
	for generation := range uint64(2) {
		conn, err := grpc.NewClient("passthrough:///"+addr, append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		c := connectorv1.NewConnectorClient(conn)
		configure(t, c, "c", generation+1, good())
		in, err := json.Marshal(map[string]string{"name": "x"})
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Invoke(ctx, &connectorv1.InvokeRequest{
			Call: &connectorv1.CallContext{Connection: "c", Generation: generation + 1, CallId: "1", IdempotencyKey: "k"}, Action: "thing.get", Input: in,
		})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Errorf("host %d: %v", generation, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if opened, closed := w.opened.Load(), w.closed.Load(); opened != 2 || closed != 2 {
		t.Errorf("%d connections were opened, %d closed", opened, closed)
	}
}

func TestServeAddressRefuses(t *testing.T) {
	t.Parallel()
	pem := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(pem, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		addr string
		opts sdk.ListenOptions
		want string
	}{
		"no address":  {"here", sdk.ListenOptions{}, "no address"},
		"no TLS":      {"tcp://0.0.0.0:0", sdk.ListenOptions{}, "whoever reaches"},
		"half of TLS": {"tcp://0.0.0.0:0", sdk.ListenOptions{Cert: pem}, "three files"},
		"no file":     {"tcp://0.0.0.0:0", sdk.ListenOptions{CA: pem + "x", Cert: pem, Key: pem}, "no such file"},
		"no PEM":      {"tcp://0.0.0.0:0", sdk.ListenOptions{CA: pem, Cert: pem, Key: pem}, "do not fit"},
	} {
		err := sdk.ServeAddress(t.Context(), newConnector(&world{}), tt.addr, tt.opts)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
