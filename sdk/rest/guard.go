package rest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/internal/egress"
)

// direct is a transport's Proxy: it is asked about every request, redirected ones too, before anything is connected.
func direct(r *http.Request) (*url.URL, error) {
	if p := egress.From(r.Context()); p != nil && !p.Open() {
		return nil, p.Check(r.URL)
	}
	return nil, nil
}

// guard connects to what the policy of the context allows. The proxy is a host that the configuration names; what lies
// behind it is the proxy's to judge.
type guard struct {
	proxy    *egress.Policy
	resolver *net.Resolver // nil: the system's
}

func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Resolver: g.resolver}
	policy := egress.From(ctx)
	if policy == nil {
		return d.DialContext(ctx, network, addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	reach, err := policy.Dial(host, port)
	if g.proxy != nil {
		if r, perr := g.proxy.Dial(host, port); perr == nil && r != egress.Public {
			reach, err = r, nil
		}
	}
	if err != nil {
		return nil, err
	}
	// Control sees the address that is about to be connected to, after the name was resolved.
	d.Control = func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return reach.Allows(host, at.Addr())
	}
	conn, err := d.DialContext(ctx, network, addr)
	if refused, ok := errors.AsType[*sdk.Error](err); ok {
		return nil, refused // without "dial tcp …" around it
	}
	return conn, err
}
