package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/casewire/casewire/plugin"
)

// Address connects to a connector that somebody else runs: in a container, or under a debugger. Its process is never
// ended from here. One connection stands for one process: when it breaks, Done is closed, and a new Launch, which
// configures anew, is the way back.
type Address struct {
	Addr plugin.Address
	// TLS is asked at every start, so that certificates can be renewed. It may be nil for local addresses only.
	TLS func(context.Context) (*tls.Config, error)
}

// Launch connects. The error says what does not answer, and where.
func (a Address) Launch(ctx context.Context, h *Host, name string) (Process, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.StartTimeout)
	defer cancel()
	p, err := a.connect(ctx, h, name)
	if err != nil {
		return nil, fmt.Errorf("connect to connector %s at %s: %w", name, a.Addr, err)
	}
	return p, nil
}

func (a Address) connect(ctx context.Context, h *Host, name string) (*remote, error) {
	wire, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	p := &remote{addr: a.Addr, log: h.log.With("connector", name, "address", a.Addr.String()), done: make(chan struct{})}
	p.calls.idle = make(chan struct{}, 1)
	var used atomic.Bool
	dial := append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), // the wire is secured by now
		grpc.WithStatsHandler(&p.calls),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errors.New("the connection was lost")
			}
			return wire, nil
		}))
	if p.conn, err = grpc.NewClient("passthrough:///"+name, dial...); err != nil {
		return nil, errors.Join(err, wire.Close())
	}
	// Any answer says that somebody speaks gRPC there; a connector need not serve health checks.
	_, err = healthv1.NewHealthClient(p.conn).Check(ctx, &healthv1.HealthCheckRequest{})
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		if e := ctx.Err(); e != nil && errors.Is(e, context.DeadlineExceeded) {
			err = fmt.Errorf("it did not answer within %v", h.opts.StartTimeout)
		} else if s, ok := status.FromError(err); ok {
			err = errors.New(s.Message())
		}
		return nil, errors.Join(err, p.conn.Close(), ignoreClosed(wire.Close()))
	}
	p.watching.Go(p.watch)
	return p, nil
}

func (a Address) dial(ctx context.Context) (net.Conn, error) {
	var conf *tls.Config
	if a.TLS != nil {
		c, err := a.TLS(ctx)
		if err != nil {
			return nil, err
		}
		conf = c.Clone()
		conf.NextProtos = []string{"h2"}
		conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
		if conf.ServerName == "" {
			conf.ServerName = a.Addr.Host()
		}
	} else if !a.Addr.Local() {
		return nil, errors.New("other machines are reached by mutual TLS only; give ca, cert and key")
	}
	if a.Addr.Network == "unix" {
		if err := trustSocket(a.Addr.Target); err != nil {
			return nil, err
		}
	}
	var d net.Dialer
	wire, err := d.DialContext(ctx, a.Addr.Network, a.Addr.Target)
	if err != nil || conf == nil {
		return wire, err
	}
	secured := tls.Client(wire, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS: %w", err), ignoreClosed(wire.Close()))
	}
	return secured, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// remote is a connection to a connector at an address.
type remote struct {
	addr     plugin.Address
	log      *slog.Logger
	conn     *grpc.ClientConn
	calls    callCount
	watching sync.WaitGroup

	once sync.Once
	done chan struct{}
	exit Exit
}

var _ Process = (*remote)(nil)

func (p *remote) Conn() grpc.ClientConnInterface { return p.conn }
func (p *remote) PID() int                       { return 0 }
func (p *remote) Done() <-chan struct{}          { return p.done }
func (p *remote) Exit() Exit                     { return p.exit }

// Kill gives the connection up: the process is not ours.
func (p *remote) Kill() { p.end("the connection was given up") }

// watch ends the connection when it breaks. Calls can be made a moment before the state says so: until then it is still
// connecting.
func (p *remote) watch() {
	ready := false
	for {
		s := p.conn.GetState()
		switch {
		case s == connectivity.Ready:
			ready = true
		case s == connectivity.Connecting && !ready:
		case s == connectivity.Shutdown:
			return
		default:
			p.end("the connection to " + p.addr.String() + " was lost")
			return
		}
		if !p.conn.WaitForStateChange(context.Background(), s) {
			return
		}
	}
}

func (p *remote) end(status string) {
	p.once.Do(func() {
		p.exit.Status = status
		close(p.done)
		if err := p.conn.Close(); err != nil {
			p.log.Debug("connection did not close", "error", err)
		}
	})
}

// Stop waits for open calls for at most grace and closes the connection. The connector is not drained: it would take no
// work of the next host.
func (p *remote) Stop(ctx context.Context, grace time.Duration) {
	if grace > 0 {
		t := time.NewTimer(grace)
		defer t.Stop()
		for p.calls.open.Load() > 0 {
			select {
			case <-p.calls.idle:
				continue
			case <-p.done:
			case <-ctx.Done():
			case <-t.C:
			}
			break
		}
	}
	p.end("disconnected")
	p.watching.Wait()
}

// callCount counts the open calls of a connection.
type callCount struct {
	open atomic.Int64
	idle chan struct{} // a word that there may be none
}

var _ stats.Handler = (*callCount)(nil)

// HandleRPC counts a call in and out.
func (c *callCount) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s.(type) {
	case *stats.Begin:
		c.open.Add(1)
	case *stats.End:
		if c.open.Add(-1) == 0 {
			select {
			case c.idle <- struct{}{}:
			default:
			}
		}
	}
}

// TagRPC does nothing.
func (c *callCount) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (c *callCount) HandleConn(context.Context, stats.ConnStats) {}

// TagConn does nothing.
func (c *callCount) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
