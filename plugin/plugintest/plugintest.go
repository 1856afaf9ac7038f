// Package plugintest joins a connector to a client in memory: the same protocol, limits and interceptors as between
// processes, without a process.
package plugintest

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Join serves srv over an in-memory listener and returns a client of it. Both end with the test. A panic in a handler is
// logged by the test and answered as INTERNAL, as it would be by a process. The end waits for handlers: one that ignores its
// context hangs the test.
func Join(tb testing.TB, srv connectorv1.ConnectorServer) connectorv1.ConnectorClient {
	tb.Helper()
	conn, _ := Start(tb, srv)
	return connectorv1.NewConnectorClient(conn)
}

// Start is Join for a test that ends the connector itself: end breaks every call that is open, as the death of a process
// would, waits for the handlers, and may be called twice. It is called when the test ends.
func Start(tb testing.TB, srv connectorv1.ConnectorServer) (conn *grpc.ClientConn, end func()) {
	tb.Helper()
	lis := bufconn.Listen(1 << 20)
	s := plugin.NewServer(srv, func(method string, value any, stack []byte) {
		tb.Logf("%s panicked: %v\n%s", method, value, stack)
	}, grpc.WaitForHandlers(true))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(lis); err != nil {
			tb.Errorf("serve the connector: %v", err)
		}
	}()
	dial := append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///connector", dial...)
	if err != nil {
		tb.Fatalf("dial the connector: %v", err)
	}
	end = sync.OnceFunc(func() {
		if err := conn.Close(); err != nil {
			tb.Errorf("close the client: %v", err)
		}
		s.Stop()
		<-done
	})
	tb.Cleanup(end)
	return conn, end
}
