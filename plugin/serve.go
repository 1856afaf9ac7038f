package plugin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// exitGrace bounds everything between the decision to exit and the exit.
const exitGrace = 2 * time.Second

// lastGrace is how long calls may finish when the host is gone: a write that has begun is better finished than cut off.
const lastGrace = time.Second

// ServeOptions configure Serve. The zero value works.
type ServeOptions struct {
	// Level of the glue's own log lines: trace, debug, info, warn, error, off. Default info.
	Level string
	// Grace is how long SIGTERM lets calls finish. Default 5 s.
	Grace time.Duration
	// OnExit is called once before the process exits, and waited for at most 2 s.
	OnExit func()
}

// Serve runs srv as a connector process and does not return: it exits with 0 when the host lets go of it, and with 1
// when it was not started by a host or cannot listen.
//
// The process lives as long as its standard input: at end of file it finishes the calls that it has for at most a second,
// takes no others, and sends SIGTERM to its own process group, so that neither it nor a child of it outlives the host,
// whatever became of the host. SIGTERM drains first. Memory is paced as PaceMemory says.
func Serve(srv connectorv1.ConnectorServer, opts ServeOptions) {
	if h := Handshake(); os.Getenv(h.MagicCookieKey) != h.MagicCookieValue {
		fmt.Fprintln(os.Stderr, "This is a connector of Casewire: a host starts it by itself, for the connections that casewire.yaml gives it.")
		os.Exit(1)
	}
	PaceMemory()
	l := &life{srv: srv, opts: opts}
	// The glue replaces os.Stderr once it serves; what is logged here goes to the real one.
	l.log = hclog.New(&hclog.LoggerOptions{
		Level: hclog.LevelFromString(cmp.Or(opts.Level, "info")), Output: os.Stderr, JSONFormat: true,
	})
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: Handshake(),
		Plugins:         Plugins(srv),
		Logger:          l.log,
		GRPCServer:      l.server,
	})
	l.exit()
}

// life is the end of a connector process.
type life struct {
	srv    connectorv1.ConnectorServer
	opts   ServeOptions
	log    hclog.Logger
	served atomic.Pointer[grpc.Server]
}

// server is called by go-plugin once the cookie has been checked and the listener is open.
func (l *life) server(opts []grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append(ServerOptions(l.panicked), opts...)...)
	l.served.Store(s)
	// A log line written after the host has died must fail, not end the process: by default Go dies of a broken standard
	// error, and would leave its children behind. The signal is caught rather than ignored so that children do not inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go l.watchInput(os.Stdin)
	go l.watchSignal(terminate)
	return s
}

func (l *life) panicked(method string, value any, stack []byte) {
	l.log.Error("handler panicked", "method", method, "panic", value, "stack", string(stack))
}

// watchInput waits for the host to let go. Nothing is ever sent on standard input; what comes is ignored.
func (l *life) watchInput(r io.Reader) {
	_, _ = io.Copy(io.Discard, r)
	l.drain(lastGrace)
	l.stop()
}

func (l *life) watchSignal(terminate <-chan os.Signal) {
	<-terminate
	l.drain(cmp.Or(l.opts.Grace, 5*time.Second))
	l.stop()
}

func (l *life) drain(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace+exitGrace)
	defer cancel()
	if _, err := l.srv.Drain(ctx, &connectorv1.DrainRequest{Grace: durationpb.New(grace)}); err != nil {
		l.log.Warn("drain failed", "error", err)
	}
}

// stop makes go-plugin's Serve return. A handler that hangs cannot hold the process.
func (l *life) stop() {
	time.AfterFunc(exitGrace, func() { os.Exit(1) })
	if s := l.served.Load(); s != nil {
		s.Stop()
	}
}

func (l *life) exit() {
	if l.served.Load() == nil {
		os.Exit(1) // go-plugin has said why
	}
	time.AfterFunc(exitGrace, func() { os.Exit(1) })
	if l.opts.OnExit != nil {
		l.opts.OnExit()
	}
	endGroup()
	os.Exit(0)
}
