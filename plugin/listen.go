package plugin

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// ListenOptions configure ServeAddress. The zero value works for unix sockets and loopback addresses.
type ListenOptions struct {
	// TLS is what the connector proves itself with and whom it lets in. An address that other machines can reach demands
	// Certificates and ClientCAs; a client without a certificate of theirs is always refused.
	TLS *tls.Config
	// Grace is how long calls may finish once the context has ended. Default 5 s.
	Grace time.Duration
	// OnPanic is told of panics in handlers.
	OnPanic PanicFunc
	// OnListen is told the address once hosts can connect: with the port that the system chose.
	OnListen func(Address)
}

// ServeAddress serves srv at an address until ctx ends, for connectors that no host starts: in a container, or under a
// debugger. Hosts come and go; each configures its connections anew. A unix socket is readable and writable by its owner
// only, and replaces one that nobody listens on any more.
func ServeAddress(ctx context.Context, srv connectorv1.ConnectorServer, addr Address, opts ListenOptions) error {
	var serverOpts []grpc.ServerOption
	switch {
	case opts.TLS != nil:
		conf := opts.TLS.Clone()
		if len(conf.Certificates) == 0 && conf.GetCertificate == nil || conf.ClientCAs == nil {
			return errors.New("serve connector: TLS needs a certificate with its key, and the CA of the hosts that may connect")
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
		conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
		serverOpts = append(serverOpts, grpc.Creds(credentials.NewTLS(conf)))
	case !addr.Local():
		return fmt.Errorf("serve connector: whoever reaches %s could use it; give a certificate, its key and the CA of the hosts that may connect, or listen on a unix socket or on 127.0.0.1", addr)
	}
	lis, err := listen(ctx, addr)
	if err != nil {
		return fmt.Errorf("serve connector: %w", err)
	}
	s := NewServer(srv, opts.OnPanic, serverOpts...)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	if opts.OnListen != nil {
		if addr.Network == "tcp" {
			addr.Target = lis.Addr().String()
		}
		opts.OnListen(addr)
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve connector at %s: %w", addr, err)
	case <-ctx.Done():
	}
	grace := cmp.Or(opts.Grace, 5*time.Second)
	drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+exitGrace)
	defer cancel()
	_, err = srv.Drain(drained, &connectorv1.DrainRequest{Grace: durationpb.New(grace)})
	s.Stop()
	<-served //nolint:errcheck // it was told to stop, and has no more to say
	if err != nil {
		return fmt.Errorf("drain connector: %w", err)
	}
	return nil
}

func listen(ctx context.Context, addr Address) (net.Listener, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, addr.Network, addr.Target)
	if err != nil && addr.Network == "unix" && abandoned(ctx, addr.Target) {
		if err := os.Remove(addr.Target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove the socket of a connector that is gone: %w", err)
		}
		lis, err = lc.Listen(ctx, addr.Network, addr.Target)
	}
	if err != nil {
		return nil, err
	}
	if addr.Network == "unix" {
		// Until now the umask has kept others from writing, which is what connecting takes.
		if err := os.Chmod(addr.Target, 0o600); err != nil {
			return nil, errors.Join(err, lis.Close())
		}
	}
	return lis, nil
}

// abandoned says whether there is a socket that nobody listens on.
func abandoned(ctx context.Context, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
	}
	return refused(err)
}

// MutualTLS makes the TLS configuration of either end: cert and key prove who we are, ca says whom we believe. All are PEM.
func MutualTLS(ca, cert, key []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// Its errors name the kind of block that is missing, never what is in one.
		return nil, fmt.Errorf("certificate and key do not fit: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the CA holds no PEM certificate")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}, nil
}
