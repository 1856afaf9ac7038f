package launch

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// InMemory serves a connector inside the host's own process: for tests. It isolates nothing.
type InMemory struct {
	Server connectorv1.ConnectorServer
	// OnLaunch, if set, sees every start; its error fails the start. The function that it is given ends the connector as a
	// crash would.
	OnLaunch func(crash func(status string)) error
}

// Launch serves the connector over an in-memory listener.
func (m InMemory) Launch(_ context.Context, h *Host, name string) (Process, error) {
	p := &memory{done: make(chan struct{})}
	lis := bufconn.Listen(1 << 20)
	log := h.log.With("connector", name)
	p.server = plugin.NewServer(m.Server, func(method string, value any, stack []byte) {
		log.Error("handler panicked", "method", method, "panic", value, "stack", string(stack))
	})
	dial := append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///"+name, dial...)
	if err != nil {
		return nil, err
	}
	p.conn = conn
	p.serving.Go(func() { _ = p.server.Serve(lis) })
	if m.OnLaunch != nil {
		if err := m.OnLaunch(p.end); err != nil {
			p.Stop(context.Background(), 0)
			return nil, err
		}
	}
	return p, nil
}

type memory struct {
	server  *grpc.Server
	conn    *grpc.ClientConn
	serving sync.WaitGroup
	once    sync.Once
	done    chan struct{}
	exit    Exit
}

func (p *memory) Conn() grpc.ClientConnInterface { return p.conn }
func (p *memory) PID() int                       { return 0 }
func (p *memory) Done() <-chan struct{}          { return p.done }
func (p *memory) Exit() Exit                     { return p.exit }
func (p *memory) Kill()                          { p.end("signal: killed") }

func (p *memory) end(status string) {
	p.once.Do(func() {
		p.exit.Status = status
		p.server.Stop()
		close(p.done)
	})
}

func (p *memory) Stop(ctx context.Context, grace time.Duration) {
	select {
	case <-p.done:
	default:
		if grace > 0 {
			ctx, cancel := context.WithTimeout(ctx, grace+time.Second)
			defer cancel()
			_, _ = connectorv1.NewConnectorClient(p.conn).Drain(ctx, &connectorv1.DrainRequest{})
		}
	}
	p.end("exit status 0")
	p.serving.Wait()
	_ = p.conn.Close()
}
