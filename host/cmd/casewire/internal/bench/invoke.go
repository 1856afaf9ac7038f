package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// EchoName is the connector that the invoke suite calls; the binary serves it as it does the real ones.
const EchoName = "bench-echo"

// RawName makes the binary serve the bare gRPC baseline on the socket given in place of standard input's lifeline.
const RawName = "bench-raw"

type echo struct {
	Text string `json:"text" cw:"required" doc:"Anything"`
}

// Echo answers with its input.
func Echo() *sdk.Connector {
	c := sdk.New(EchoName, "0.0.1", "Answers with its input, for measuring.", func(context.Context, struct{}, sdk.Env) (struct{}, error) {
		return struct{}{}, nil
	})
	sdk.Action(c, "echo", "Echo.", func(_ struct{}, _ context.Context, in echo) (echo, error) { return in, nil }, sdk.Read)
	addStreams(c)
	return c
}

var rawDesc = grpc.ServiceDesc{
	ServiceName: "casewire.bench.Raw", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := &wrapperspb.BytesValue{}
			if err := dec(in); err != nil {
				return nil, err
			}
			return in, nil
		},
	}},
	Streams: rawStreams,
}

// ServeRaw serves bare grpc-go on a unix socket, says so on standard output, and ends with its standard input.
func ServeRaw(socket string) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", socket)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	srv.RegisterService(&rawDesc, struct{}{})
	fmt.Println("ready")
	go func() {
		buf := make([]byte, 1)
		_, _ = os.Stdin.Read(buf)
		srv.Stop()
	}()
	return srv.Serve(ln)
}

// invoke compares one call of 2 KB each way through the whole host with bare gRPC over a unix socket, in turns.
func invoke(ctx context.Context) (figures []figure, err error) {
	err = folder(func(dir string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		raw, stop, err := rawEcho(ctx, self, filepath.Join(dir, "raw"))
		if err != nil {
			return err
		}
		defer stop()
		through, done, err := hostEcho(ctx, self, dir)
		if err != nil {
			return err
		}
		defer done()
		const rounds, calls = 15, 400
		var rawTimes, hostTimes []time.Duration
		for range rounds {
			r, err := timed(calls, raw)
			if err != nil {
				return err
			}
			h, err := timed(calls, through)
			if err != nil {
				return err
			}
			rawTimes, hostTimes = append(rawTimes, r/calls), append(hostTimes, h/calls)
		}
		r, h := slices.Min(rawTimes), slices.Min(hostTimes)
		figures = []figure{atMost("invoke_2k_ratio", float64(h)/float64(r), "x", 1.4,
			fmt.Sprintf("%v against %v bare; best of %d rounds each", h.Round(100*time.Nanosecond), r.Round(100*time.Nanosecond), rounds))}
		return nil
	})
	return figures, err
}

func timed(n int, call func() error) (time.Duration, error) {
	begin := time.Now()
	for range n {
		if err := call(); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

func rawEcho(ctx context.Context, self, socket string) (call func() error, stop func(), err error) {
	p, err := startRaw(ctx, self, socket)
	if err != nil {
		return nil, nil, err
	}
	in := &wrapperspb.BytesValue{Value: payload()}
	call = func() error {
		return p.conn.Invoke(ctx, "/casewire.bench.Raw/Echo", in, &wrapperspb.BytesValue{}, grpc.WaitForReady(true))
	}
	return call, p.stop, call()
}

func hostEcho(ctx context.Context, self, dir string) (call func() error, stop func(), err error) {
	st, err := sqlite.Open(ctx, filepath.Join(dir, "bench.db"), sqlite.Options{})
	if err != nil {
		return nil, nil, err
	}
	h, err := host.New(host.Options{
		Store: st,
		Connectors: map[string]host.Connector{EchoName: host.ExecConnector(self, []string{"connector", EchoName},
			func() (*connectorv1.DescribeResponse, error) {
				return sdk.Server(Echo()).Describe(ctx, &connectorv1.DescribeRequest{})
			})},
		Connections: []host.Connection{{Name: "echo", Connector: EchoName, Config: json.RawMessage(`{}`)}},
		RunDir:      filepath.Join(dir, "run"),
	})
	if err != nil {
		return nil, nil, err
	}
	if err := h.Start(ctx); err != nil {
		return nil, nil, err
	}
	in := payload()
	call = func() error {
		out, err := h.Invoke(ctx, host.Invocation{Connection: "echo", Action: "echo", Input: in})
		if err == nil && len(out) < len(in)/2 {
			err = errors.New("the echo is short")
		}
		return err
	}
	return call, func() {
		_ = h.Stop(context.WithoutCancel(ctx))
		_ = st.Close()
	}, call()
}

func payload() []byte { return []byte(`{"text":"` + strings.Repeat("x", 2030) + `"}`) }
