package rest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/internal/egress"
)

// names is a DNS server that answers every question about an address by one function.
func names(t *testing.T, lookup func(name string) [4]byte) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = pc.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			m.Response = true
			m.Additionals = nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: lookup(strings.TrimSuffix(q.Name.String(), "."))},
				}}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

type egressConfig struct {
	BaseURL string `json:"base_url"`
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.Reason != egress.Reason || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want a refusal that says %q", err, want)
	}
}

// A name that is allowed but resolves to this machine is refused when the socket is about to be connected.
func TestNameThatLeadsHomeIsRefused(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer srv.Close()
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	tr, err := Transport(TransportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr.DialContext = (&guard{resolver: names(t, func(string) [4]byte { return [4]byte{127, 0, 0, 1} })}).dial
	for _, declared := range [][]string{{"{config.base_url}"}, {"rebound.example:" + port}, nil} {
		base := "http://rebound.example:" + port
		ctx := egress.With(t.Context(), egress.New(declared, egressConfig{BaseURL: base}))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		refused(t, err, "127.0.0.1")
	}
	if hits.Load() != 0 {
		t.Error("it was reached")
	}
}

// What the configuration names may be on this machine; where it redirects to may not.
func TestRedirectsAndLinksAreChecked(t *testing.T) {
	t.Parallel()
	var leaked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Add(1) }))
	defer other.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Add(1) }))
	defer secure.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}))
	defer srv.Close()
	for name, declared := range map[string][]string{"declared": {"{config.base_url}"}, "nothing declared": nil} {
		c, err := New(Options{BaseURL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		ctx := egress.With(t.Context(), egress.New(declared, egressConfig{BaseURL: srv.URL}))
		if _, err := c.Do(ctx, Request{Path: "/"}); err != nil {
			t.Errorf("%s: the configured host: %v", name, err)
		}
		for _, to := range []string{secure.URL, "https://169.254.169.254/latest/meta-data"} {
			if to == secure.URL && declared == nil {
				continue // the same host: whoever declares nothing is held to addresses only
			}
			_, err := c.Do(ctx, Request{Path: "/", Query: url.Values{"to": {to}}})
			refused(t, err, "egress refused")
			_, err = c.Do(ctx, Request{Path: to})
			refused(t, err, "egress refused")
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/?to="+to, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.HTTPClient().Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			refused(t, err, "egress refused")
		}
		_ = c.Close()
	}
	// A bare transport, as the Entra client uses it, is held to the same.
	tr, err := Transport(TransportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := egress.With(t.Context(), egress.New([]string{"{config.base_url}"}, egressConfig{BaseURL: srv.URL}))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, other.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	refused(t, err, "not among those")
	if n := leaked.Load(); n != 0 {
		t.Errorf("%d requests went astray", n)
	}
}

// A proxy stands where it stands; what is asked of it is held to the policy.
func TestProxyIsNoWayAround(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer proxy.Close()
	tr, err := Transport(TransportOptions{Proxy: sdk.NewSecret(proxy.URL)})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.CloseIdleConnections()
	ctx := egress.With(t.Context(), egress.New([]string{"{config.base_url}"}, egressConfig{BaseURL: "http://jira.example"}))
	for u, ok := range map[string]bool{"http://jira.example/": true, "http://other.example/": false, "http://10.0.0.1/": false} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if ok != (err == nil) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("the proxy was asked %d times", asked.Load())
	}
}
