package azure

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// connectProxy is a proxy that lets through to one server whatever host is asked for, and remembers the hosts.
type connectProxy struct {
	to string

	mu    sync.Mutex
	hosts []string
	auth  []string
	wg    sync.WaitGroup
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.hosts, p.auth = append(p.hosts, r.Host), append(p.auth, r.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	up, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", p.to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	down, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = up.Close()
		return
	}
	_, _ = io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	p.wg.Add(2)
	pipe := func(to net.Conn, from io.Reader) {
		defer p.wg.Done()
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}
	go pipe(up, bufio.NewReader(io.MultiReader(buf, down)))
	go pipe(down, up)
}

// An authority of one's own, behind a proxy, with a certificate of one's own authority: every kind of credential that
// speaks to it gets through with proxy and ca_file, and none without.
func TestProxyAndOwnCA(t *testing.T) {
	t.Parallel()
	pair := newChain(t, time.Now().Add(time.Hour))
	const host = "https://login.corp.example"
	f := azurefake.New(azurefake.Options{
		Tenants: []string{tenant}, Apps: []azurefake.App{{ClientID: appID, Secret: secret, Certificates: [][]byte{pair.leaf.Raw}}}, TokenLife: time.Hour,
		AuthorityURL: host, Entra: azurefake.EntraOptions{Redirects: []string{"http://localhost/done"}},
	})
	t.Cleanup(f.Close)
	srv := httptest.NewUnstartedServer(f)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{pair.leaf.Raw, pair.ca.Raw}, PrivateKey: pair.key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	proxy := &connectProxy{to: srv.Listener.Addr().String()}
	through := httptest.NewServer(proxy)
	t.Cleanup(func() {
		through.Close()
		proxy.wg.Wait()
	})
	t.Cleanup(srv.CloseClientConnections)
	at, err := url.Parse(through.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword("me", "proxy-secret")
	ca := file(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.ca.Raw}))

	open := func(c Credential, proxy sdk.Secret, ca string) *Session {
		s, err := Access{Credential: c, Proxy: proxy, CAFile: ca}.Open(sdk.Env{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Transport.CloseIdleConnections)
		return s
	}
	byCert, person := bySecret(host), bySecret(host)
	byCert.ClientSecret, byCert.Certificate = sdk.Secret{}, plugin.NewSecret(string(pair.pem(t)))
	person.SignIn = "user"
	for name, c := range map[string]Credential{"secret": bySecret(host), "certificate": byCert} {
		if _, err := open(c, plugin.NewSecret(at.String()), ca).Tokens.Token(t.Context(), graph); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(person, plugin.NewSecret(at.String()), ca).Tokens.begin(t.Context(), BeginInput{}); err != nil {
		t.Errorf("a person: %v", err)
	}
	proxy.mu.Lock()
	for i, h := range proxy.hosts {
		if h != "login.corp.example:443" || !strings.HasPrefix(proxy.auth[i], "Basic ") {
			t.Errorf("the proxy was asked for %s with %q", h, proxy.auth[i])
		}
	}
	if len(proxy.hosts) < 3 {
		t.Errorf("the proxy was asked %d times", len(proxy.hosts))
	}
	proxy.mu.Unlock()

	// Without the CA the authority is not trusted; the error says so and shows neither secret.
	_, err = open(bySecret(host), plugin.NewSecret(at.String()), "").Tokens.Token(t.Context(), graph)
	if e := asError(t, err); e.Class() != plugin.ClassUnavailable || !strings.Contains(e.Message, "certificate") || strings.Contains(e.Error(), "proxy-secret") {
		t.Errorf("got %v", e)
	}
}
