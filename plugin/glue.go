package plugin

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// Flow control of a connection. Fixed windows switch off gRPC's bandwidth estimator, whose pings cost a round trip each,
// and bound what a connector can push at a host that does not read.
const (
	streamWindow = 512 << 10
	connWindow   = 4 << 20
	// maxHeaderList bounds headers and trailers; error details travel in trailers.
	maxHeaderList = 256 << 10
)

// Glue joins the Connector service to go-plugin: on the connector's side it registers Connector, on the host's side it
// dispenses a connectorv1.ConnectorClient.
type Glue struct {
	goplugin.NetRPCUnsupportedPlugin
	Connector connectorv1.ConnectorServer // nil on the host's side
}

var _ goplugin.GRPCPlugin = (*Glue)(nil)

// GRPCServer registers the connector.
func (g *Glue) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if g.Connector == nil {
		return errors.New("no connector to serve: Glue.Connector is nil")
	}
	connectorv1.RegisterConnectorServer(s, g.Connector)
	return nil
}

// GRPCClient returns a connectorv1.ConnectorClient.
func (g *Glue) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return connectorv1.NewConnectorClient(conn), nil
}

// Plugins returns the plugin map of either end; srv is nil on the host's side.
func Plugins(srv connectorv1.ConnectorServer) goplugin.PluginSet {
	return goplugin.PluginSet{Name: &Glue{Connector: srv}}
}

// DialOptions are the host's: receives are capped at MaxReceive, sends at MaxSend, nothing is retried behind the host's
// back, and there are no keepalive pings, which a default gRPC server answers with GOAWAY.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxReceive), grpc.MaxCallSendMsgSize(MaxSend), grpc.ForceCodecV2(wireCodec)),
		grpc.WithMaxHeaderListSize(maxHeaderList),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: StartTimeout}),
	}
}
