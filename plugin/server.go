package plugin

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// PanicFunc is told of a panic that a handler did not catch. It must not panic itself.
type PanicFunc func(method string, value any, stack []byte)

// NewServer returns a gRPC server that serves srv just as Serve does, with the same limits and interceptors and with
// grpc.health.v1, for whoever brings a listener of their own. A nil onPanic drops the stack.
func NewServer(srv connectorv1.ConnectorServer, onPanic PanicFunc, opts ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(append(ServerOptions(onPanic), opts...)...)
	connectorv1.RegisterConnectorServer(s, srv)
	healthv1.RegisterHealthServer(s, health.NewServer())
	return s
}

// streamWorkers is how many calls are served by goroutines that stay, whose stacks have grown to what a call needs; those
// beyond get one of their own.
const streamWorkers = 64

// ServerOptions are what every connector's gRPC server runs with: the size limits, and interceptors that encode errors
// with ToError, turn a panic into INTERNAL, and an oversize answer into OUT_OF_RANGE.
func ServerOptions(onPanic PanicFunc) []grpc.ServerOption {
	if onPanic == nil {
		onPanic = func(string, any, []byte) {}
	}
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxReceive),
		grpc.MaxSendMsgSize(MaxSend),
		grpc.ForceServerCodecV2(wireCodec),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.UnaryInterceptor(unaryInterceptor(onPanic)),
		grpc.StreamInterceptor(streamInterceptor(onPanic)),
	}
}

func unaryInterceptor(onPanic PanicFunc) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if v := recover(); v != nil {
				resp, err = nil, panicked(onPanic, info.FullMethod, v)
			}
			err = ToError(err)
		}()
		if resp, err = next(ctx, req); err != nil {
			return nil, err
		}
		if m, ok := resp.(proto.Message); ok {
			if n := proto.Size(m); n > MaxSend {
				return nil, oversize(info.FullMethod, n)
			}
		}
		return resp, nil
	}
}

func streamInterceptor(onPanic PanicFunc) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = panicked(onPanic, info.FullMethod, v)
			}
			err = ToError(err)
		}()
		return next(srv, &limitedStream{ServerStream: ss, method: info.FullMethod})
	}
}

// limitedStream answers an oversize message with a typed error. It has to look before gRPC does: gRPC ends the stream by
// itself with RESOURCE_EXHAUSTED, which would read as throttling.
type limitedStream struct {
	grpc.ServerStream
	method string
}

func (s *limitedStream) SendMsg(m any) error {
	if msg, ok := m.(proto.Message); ok {
		if n := proto.Size(msg); n > MaxSend {
			return oversize(s.method, n)
		}
	}
	return s.ServerStream.SendMsg(m)
}

func oversize(method string, n int) *Error {
	e := Errorf(codes.OutOfRange, "%s: an answer of %d bytes is over the limit of %d", shortMethod(method), n, MaxSend)
	e.Reason, e.Domain, e.Origin, e.SideEffect = ReasonTooLarge, Domain, OriginPlugin, EffectUnknown
	return e
}

func panicked(onPanic PanicFunc, method string, v any) *Error {
	onPanic(method, v, debug.Stack())
	e := Errorf(codes.Internal, "%s: the connector panicked: %s", shortMethod(method), clip(fmt.Sprint(v), 512))
	e.Reason, e.Domain, e.Origin, e.SideEffect = ReasonPanic, Domain, OriginPlugin, EffectUnknown
	return e
}

// shortMethod turns "/casewire.connector.v1.Connector/Invoke" into "Invoke".
func shortMethod(full string) string { return full[strings.LastIndexByte(full, '/')+1:] }
