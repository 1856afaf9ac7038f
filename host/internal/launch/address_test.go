//go:build unix

package launch_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
)

// listening is a connector at an address, and how it is stopped.
func listening(t *testing.T, addr string, conf *tls.Config) (plugin.Address, func()) {
	t.Helper()
	a, err := plugin.ParseAddress(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan plugin.Address, 1), make(chan error, 1)
	go func() {
		ended <- plugin.ServeAddress(ctx, &puppet{}, a, plugin.ListenOptions{TLS: conf, OnListen: func(a plugin.Address) { ready <- a }})
	}()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	select {
	case a = <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return a, stop
}

func socket(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return "unix://" + filepath.Join(dir, "s")
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, at := range []string{socket(t), "tcp://127.0.0.1:0"} {
		addr, _ := listening(t, at, nil)
		h := newHost(t, launch.Options{})
		l := launch.Address{Addr: addr}
		answers(t, h, l)
		// It was let go of, not ended and not drained: the next host finds it as it was.
		answers(t, h, l)
	}
}

func TestAddressGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	at := socket(t)
	addr, stop := listening(t, at, nil)
	h := newHost(t, launch.Options{})
	l := launch.Address{Addr: addr}
	p, err := l.Launch(t.Context(), h, "puppet")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context(), 0)
	stop()
	<-p.Done()
	if s := p.Exit().Status; !strings.Contains(s, "was lost") || !strings.Contains(s, addr.String()) {
		t.Errorf("it ended with %q", s)
	}
	if _, err := call(t.Context(), p, "anything"); err == nil {
		t.Error("a lost connection answered")
	}
	if _, err := l.Launch(t.Context(), h, "puppet"); err == nil || !strings.Contains(err.Error(), "connect to connector puppet at "+addr.String()) {
		t.Errorf("nobody listens: %v", err)
	}
	listening(t, at, nil)
	answers(t, h, l)
	if _, err := call(t.Context(), p, "anything"); err == nil {
		t.Error("the old connection reached the new process, which has no configuration from it")
	}
}

// Stop waits for open calls, and no longer than it may.
func TestAddressStopWaits(t *testing.T) {
	t.Parallel()
	addr, _ := listening(t, socket(t), nil)
	p, err := launch.Address{Addr: addr}.Launch(t.Context(), newHost(t, launch.Options{}), "puppet")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := grpc_health_v1.NewHealthClient(p.Conn()).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { p.Stop(t.Context(), time.Hour); close(stopped) }()
	select {
	case <-stopped:
		t.Error("it did not wait for the open call")
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	<-stopped
	<-p.Done()
}

func TestAddressRefusals(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for addr, want := range map[string]string{
		"tcp://connector.example:7001":      "mutual TLS only",
		"unix://" + filepath.Join(dir, "n"): "no such file",
		"unix://" + file:                    "no socket",
		"tcp://" + silent.Addr().String():   "did not answer within 300ms",
	} {
		a, err := plugin.ParseAddress(addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = launch.Address{Addr: a}.Launch(t.Context(), newHost(t, launch.Options{StartTimeout: 300 * time.Millisecond}), "puppet")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestAddressByMutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newCA(t), newCA(t)
	conf := func(ca, issuer *authority, name string) *tls.Config {
		cert, key := issuer.issue(t, name)
		c, err := plugin.MutualTLS(ca.pem, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	addr, _ := listening(t, "tcp://127.0.0.1:0", conf(ours, ours, "127.0.0.1"))
	h := newHost(t, launch.Options{StartTimeout: 5 * time.Second})
	use := func(c *tls.Config) launch.Address {
		return launch.Address{Addr: addr, TLS: func(context.Context) (*tls.Config, error) { return c, nil }}
	}
	answers(t, h, use(conf(ours, ours, "host")))
	for name, l := range map[string]launch.Address{
		"a host of another CA":      use(conf(ours, theirs, "host")),
		"a connector of another CA": use(conf(theirs, ours, "host")),
		"no TLS":                    {Addr: addr},
	} {
		if p, err := l.Launch(t.Context(), h, "puppet"); err == nil {
			p.Stop(t.Context(), 0)
			t.Errorf("%s was let in", name)
		} else if strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v", name, err)
		}
	}
	misnamed, _ := listening(t, "tcp://127.0.0.1:0", conf(ours, ours, "other.example"))
	l := use(conf(ours, ours, "host"))
	l.Addr = misnamed
	if _, err := l.Launch(t.Context(), h, "puppet"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a connector of another name: %v", err)
	}
}

type authority struct {
	pem  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert: ca, key: key}
}

func (a *authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}
