package sdktest

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// process is a running connector.
type process struct {
	conn grpc.ClientConnInterface
	kill func() // at once, as a crash
	end  func() // in order
	dead atomic.Bool
}

// client returns a client of the running connector, and starts it when it is not running: after a crash the connection is
// configured again with what the host knew.
func (h *Harness) client(ctx context.Context) (connectorv1.ConnectorClient, error) {
	h.starting.Lock()
	defer h.starting.Unlock()
	h.mu.Lock()
	p := h.proc
	h.mu.Unlock()
	if p != nil {
		return connectorv1.NewConnectorClient(&wire{p.conn, h, p}), nil
	}
	p, err := h.start(ctx)
	if err != nil {
		return nil, err
	}
	// Registered after what the start registered itself, so that it comes before it.
	h.t.Cleanup(func() { h.close(p) })
	if h.configured {
		if err := h.configure(ctx, connectorv1.NewConnectorClient(p.conn)); err != nil {
			p.dead.Store(true)
			p.end()
			return nil, err
		}
	}
	h.mu.Lock()
	h.proc = p
	h.mu.Unlock()
	return connectorv1.NewConnectorClient(&wire{p.conn, h, p}), nil
}

// Crash ends the connector at once: calls in flight fail as they do when a process dies, and nobody knows what became of
// them. In memory their contexts end and their goroutines are waited for; a Binary is killed. The next call starts the
// connector again, with its configuration and the state that it had handed to the host.
func (h *Harness) Crash() {
	h.t.Helper()
	h.mu.Lock()
	p := h.proc
	h.mu.Unlock()
	if p != nil {
		h.crash(p)
	}
}

// CrashAt makes the connector crash in the moment in which it sends its nth message from now, which is lost: an answer, a
// batch, rows, progress. CrashAt(1) before a write is the lost answer that every keyed action must stand. Zero calls it off.
func (h *Harness) CrashAt(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fuse = max(0, n)
}

func (h *Harness) crash(p *process) {
	h.mu.Lock()
	if h.proc == p {
		h.proc = nil
	}
	h.mu.Unlock()
	p.dead.Store(true)
	p.kill()
}

// burn counts a message that the connector has sent, and says whether it dies of it.
func (h *Harness) burn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fuse == 0 {
		return false
	}
	h.fuse--
	return h.fuse == 0
}

// wire is the connection to one process, where messages are counted.
type wire struct {
	grpc.ClientConnInterface
	h *Harness
	p *process
}

func crashed() error { return status.Error(codes.Unavailable, "the connector crashed") }

// received is what becomes of a message or an error that came from the connector.
func (w *wire) received(err error) error {
	if err == nil && w.h.burn() {
		w.h.crash(w.p)
	}
	if w.p.dead.Load() {
		return crashed()
	}
	return err
}

// Invoke makes a unary call.
func (w *wire) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return w.received(w.ClientConnInterface.Invoke(ctx, method, args, reply, opts...))
}

// NewStream opens a stream.
func (w *wire) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := w.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil {
		if w.p.dead.Load() {
			return nil, crashed()
		}
		return nil, err
	}
	return &wireStream{s, w}, nil
}

type wireStream struct {
	grpc.ClientStream
	w *wire
}

// RecvMsg takes one message.
func (s *wireStream) RecvMsg(m any) error { return s.w.received(s.ClientStream.RecvMsg(m)) }
