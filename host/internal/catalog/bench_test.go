package catalog_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/casewire/casewire/host/internal/catalog"
)

// payload is 2 KB of JSON of the usual kind.
var payload = []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(`{"id":12345,"name":"alert","severity":"high"},`, 44), ",") + `]}`)

// BenchmarkInvoke2K compares a call through the catalog with a bare gRPC unary call of the same bytes; each over a unix
// socket to a process of its own. The promise is a ratio of at most 1.4.
func BenchmarkInvoke2K(b *testing.B) {
	b.Run("raw-unary", func(b *testing.B) {
		conn := rawEcho(b)
		in := wrapperspb.Bytes(payload)
		b.ReportAllocs()
		for b.Loop() {
			out := new(wrapperspb.BytesValue)
			if err := conn.Invoke(b.Context(), "/raw.Echo/Echo", in, out); err != nil || len(out.GetValue()) != len(payload) {
				b.Fatal(err)
			}
		}
	})
	b.Run("catalog", func(b *testing.B) {
		c := processes(b, catalog.Options{})
		inv := catalog.Invocation{Connection: "a", Action: "echo", Input: payload, ID: "call-1", Key: "key-1", Attempt: 1}
		b.ReportAllocs()
		for b.Loop() {
			if out, err := c.Invoke(b.Context(), inv, nil); err != nil || len(out) != len(payload) {
				b.Fatal(err)
			}
		}
	})
}

type echoServer any

// serveRaw serves an echo at a unix socket: the baseline.
func serveRaw(path string) error {
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "raw.Echo", HandlerType: (*echoServer)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			return in, dec(in)
		},
	}}}, struct{}{})
	return s.Serve(lis)
}

// rawEcho starts the baseline in a process of its own.
func rawEcho(b *testing.B) *grpc.ClientConn {
	b.Helper()
	dir, err := os.MkdirTemp("", "cwb") //nolint:usetesting // b.TempDir is too long for a socket
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "raw.sock")
	startRaw(b, path)
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	if err := conn.Invoke(b.Context(), "/raw.Echo/Echo", wrapperspb.Bytes(nil), new(wrapperspb.BytesValue), grpc.WaitForReady(true)); err != nil {
		b.Fatal(err)
	}
	return conn
}

func startRaw(b *testing.B, path string) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "raw", path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
