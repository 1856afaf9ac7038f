package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/internal/egress"
)

// TransportOptions configure Transport. The zero value reaches the Internet directly and trusts the system's CAs.
type TransportOptions struct {
	// Proxy is the URL of a proxy: http, https or socks5. Loopback addresses are reached without it.
	Proxy sdk.Secret
	// CAFile holds PEM certificates that are trusted besides the system's; CA is the same in place.
	CAFile string
	CA     string
	// Certificate is sent to servers that ask for one.
	Certificate *tls.Certificate
}

// Transport makes a pooled transport. It looks at no environment variable: what a connector reaches is what its
// configuration says. Within a call of the SDK it reaches only what the connector declares (sdk.Connector.Egress), and
// addresses of this machine, its link or a private network only where the configuration names the host. Errors are sdk.BadConfig for the properties proxy, ca_file and ca.
func Transport(o TransportOptions) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 direct,
		DialContext:           (&guard{}).dial,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if !o.Proxy.IsZero() {
		u, err := url.Parse(o.Proxy.Reveal())
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
			return nil, sdk.BadConfig("/proxy", "is no proxy URL: want something like http://proxy.example:3128")
		}
		t.DialContext = (&guard{proxy: egress.ForURL(u)}).dial
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			if _, err := direct(r); err != nil || loopback(r.URL) {
				return nil, err
			}
			return u, nil
		}
	}
	if o.CAFile != "" || o.CA != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool() // a system without one
		}
		if o.CAFile != "" {
			pem, err := os.ReadFile(o.CAFile)
			if err != nil {
				return nil, sdk.BadConfig("/ca_file", "cannot be read: %v", err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, sdk.BadConfig("/ca_file", "%s holds no PEM certificate", o.CAFile)
			}
		}
		if o.CA != "" && !pool.AppendCertsFromPEM([]byte(o.CA)) {
			return nil, sdk.BadConfig("/ca", "holds no PEM certificate")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if o.Certificate != nil {
		t.TLSClientConfig.Certificates = []tls.Certificate{*o.Certificate}
	}
	return t, nil
}

// transport adds the credential where it belongs and takes away what does not belong elsewhere. It sees every hop of a
// redirect.
type transport struct{ c *Client }

var errPlainHTTP = &sdk.Error{
	Code: codes.FailedPrecondition, Message: "a link leads to plain http; it is not followed",
	Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone,
}

// RoundTrip sends one request.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ours := t.c.sameOrigin(req.URL)
	if !ours && req.URL.Scheme != "https" {
		closeBody(req)
		return nil, errPlainHTTP
	}
	ctx := req.Context()
	policy := egress.From(ctx)
	if policy == nil || policy.Open() {
		policy = t.c.reach
		ctx = egress.With(ctx, policy)
	}
	if err := policy.Check(req.URL); err != nil {
		closeBody(req)
		return nil, err
	}
	out := req.WithContext(ctx) // a RoundTripper must not change what it is given
	out.Header = make(http.Header, len(req.Header)+len(t.c.opts.Header)+3)
	for k, v := range req.Header {
		if ours || harmless(k) {
			out.Header[k] = v
		}
	}
	if ours {
		for k, v := range t.c.opts.Header {
			if _, ok := out.Header[k]; !ok {
				out.Header[k] = v
			}
		}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{userAgent}
	}
	if ours && t.c.opts.Auth != nil {
		u := *req.URL
		out.URL = &u
		if err := t.c.opts.Auth(req.Context(), out); err != nil {
			closeBody(req)
			return nil, t.authError(req.Context(), err)
		}
	}
	if tr := tripOf(req.Context()); tr != nil {
		tr.remember(out)
	}
	return t.c.inner.RoundTrip(out)
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the pool.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.c.inner.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// timed bounds a request and the reading of its answer. http.Client's own Timeout, over a transport that it does not know,
// spends two goroutines on each request.
type timed struct {
	inner http.RoundTripper
	limit time.Duration
}

// RoundTrip sends one request.
func (t *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), t.limit)
	resp, err := t.inner.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &timedBody{resp.Body, cancel}
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the pool.
func (t *timed) CloseIdleConnections() {
	if c, ok := t.inner.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// timedBody lets go of its timer when it is closed or has ended.
type timedBody struct {
	io.ReadCloser

	cancel context.CancelFunc
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.cancel()
	}
	return n, err
}

func (b *timedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// authError keeps what a credential says of itself: nothing was sent.
func (t *transport) authError(ctx context.Context, err error) error {
	var e *sdk.Error
	if errors.As(err, &e) || ctx.Err() != nil {
		return err
	}
	e = sdk.Auth("%s: no credential: %v", t.c.opts.API, err)
	e.Err = err
	return e
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // RoundTrip's duty, whatever happens
	}
}

// harmless lists the headers that may go to another host.
func harmless(name string) bool {
	switch name {
	case "Accept", "Accept-Language", "Content-Type", "Content-Length", "User-Agent", "Range", "Prefer",
		"If-None-Match", "If-Modified-Since", "Cache-Control":
		return true
	default:
		return false
	}
}

// maxRedirects is how many redirects of a GET are followed.
const maxRedirects = 5

// redirect follows a GET, and nothing that could repeat or lose a change.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if m := via[0].Method; m != http.MethodGet && m != http.MethodHead && m != "" {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return sdk.Unavailable("%s redirects in circles: more than %d redirects", c.opts.API, maxRedirects)
	}
	return nil
}

// secretHeader says whether a header's value must not be quoted.
func secretHeader(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"auth", "key", "token", "cookie", "secret", "signature", "password"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
