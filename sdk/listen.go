package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/casewire/casewire/plugin"
)

// ListenOptions say how a connector at an address proves who it is, and whom it lets in. Each is the path of a PEM file;
// all or none are given. An address that other machines can reach demands them.
type ListenOptions struct {
	// CA has issued the certificates of the hosts that may connect.
	CA string
	// Cert and Key are the connector's own. The certificate's names must hold the host that hosts dial.
	Cert, Key string
	// OnListen is told the address once hosts can connect: with the port that the system chose for port 0.
	OnListen func(addr string)
}

// ServeAddress serves the connector at "unix:///run/hashes.sock" or "tcp://host:port" until ctx ends, and then lets calls
// finish for up to 5 s. Hosts come and go: each configures its connections when it connects, and none ends the process.
//
// The configuration of a host names the address: plugins: { connectors: { hashes: { address: "unix:///run/hashes.sock" } } }.
func ServeAddress(ctx context.Context, c *Connector, addr string, opts ListenOptions) error {
	a, err := plugin.ParseAddress(addr)
	if err != nil {
		return err
	}
	s := newServer(c)
	o := plugin.ListenOptions{OnPanic: func(method string, value any, stack []byte) {
		s.log.Error("handler panicked", "method", method, "panic", value, "stack", string(stack))
	}}
	if opts.OnListen != nil {
		o.OnListen = func(a plugin.Address) { opts.OnListen(a.String()) }
	}
	if opts.CA != "" || opts.Cert != "" || opts.Key != "" {
		if opts.CA == "" || opts.Cert == "" || opts.Key == "" {
			return errors.New("serve connector: TLS takes three files: the hosts' CA, the connector's certificate and its key")
		}
		ca, err1 := os.ReadFile(opts.CA)
		cert, err2 := os.ReadFile(opts.Cert)
		key, err3 := os.ReadFile(opts.Key)
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("serve connector: %w", err)
		}
		if o.TLS, err = plugin.MutualTLS(ca, cert, key); err != nil {
			return fmt.Errorf("serve connector: %w", err)
		}
	}
	defer s.closeAll()
	return plugin.ServeAddress(ctx, s, a, o)
}

// listening is what arguments say about an address.
type listening struct {
	addr string
	opts ListenOptions
	err  error
}

// listenArgs looks for --listen and what belongs to it. Other arguments are the program's own.
func listenArgs(args []string) (l listening, ok bool) {
	places := map[string]*string{
		"listen": &l.addr, "tls-ca": &l.opts.CA, "tls-cert": &l.opts.Cert, "tls-key": &l.opts.Key,
	}
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-"), "=")
		place := places[name]
		if place == nil {
			continue
		}
		ok = ok || name == "listen"
		if !inline {
			if i++; i >= len(args) {
				l.err = fmt.Errorf("--%s needs a value", name)
				break
			}
			value = args[i]
		}
		*place = value
	}
	return l, ok
}

// serveListening is Serve with --listen: it returns the exit code.
func serveListening(c *Connector, l listening, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := l.err
	if err == nil {
		l.opts.OnListen = func(addr string) { fmt.Fprintf(stderr, "%s %s listens at %s\n", c.name, c.version, addr) }
		err = ServeAddress(ctx, c, l.addr, l.opts)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", c.name, err)
		return 1
	}
	return 0
}
