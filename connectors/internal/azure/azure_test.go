package azure

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
	"github.com/casewire/casewire/sdk/sdktest"
)

// TestMain lets the test binary stand in for a command that prints a token.
func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv("AZURE_TEST_PRINT"); ok {
		fmt.Print(text)
		fmt.Fprint(os.Stderr, "first line\nsecond line\n")
		if strings.Contains(text, "fail") {
			os.Exit(3)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const (
	tenant = "5f1c9a1e-2b7d-4c55-9a0e-0d6b2f4c7a11"
	appID  = "0a3c7f52-6c1e-4b07-8a55-2f9d0c4b7e10"
	secret = "s3cr3t~of+the/app"
	graph  = "https://graph.microsoft.com/.default"
)

func asError(t *testing.T, err error) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want an *sdk.Error", err, err)
	}
	for _, s := range []string{secret, "PRIVATE KEY", "grant_type", "client_assertion="} {
		if strings.Contains(e.Error(), s) {
			t.Errorf("the error shows %q: %s", s, e.Error())
		}
	}
	return e
}

// keyPair makes a certificate with its key as PEM, and the certificate as DER.
func keyPair(t *testing.T) (both string, der []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "casewire test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if der, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})), der
}

// fake is Entra and the APIs, with one app.
func fake(t *testing.T, change ...func(*azurefake.Options)) (*azurefake.Server, *httptest.Server) {
	t.Helper()
	o := azurefake.Options{Tenants: []string{tenant}, Apps: []azurefake.App{{ClientID: appID, Secret: secret}}, TokenLife: time.Hour}
	for _, c := range change {
		c(&o)
	}
	f := azurefake.New(o)
	srv := httptest.NewServer(f)
	t.Cleanup(func() {
		srv.Close()
		f.Close()
	})
	return f, srv
}

func bySecret(authority string) Credential {
	return Credential{TenantID: tenant, ClientID: appID, ClientSecret: plugin.NewSecret(secret), AuthorityURL: authority}
}

func tokens(tb testing.TB, c Credential) *Tokens {
	tb.Helper()
	tok, err := NewTokens(c, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = tok.Close() })
	return tok
}

func TestSecretAndCertificate(t *testing.T) {
	t.Parallel()
	both, der := keyPair(t)
	f, srv := fake(t, func(o *azurefake.Options) { o.Apps[0].Certificates = [][]byte{der} })
	byCert := bySecret(srv.URL)
	byCert.ClientSecret, byCert.Certificate = sdk.Secret{}, plugin.NewSecret(both)
	for name, c := range map[string]Credential{"secret": bySecret(srv.URL), "certificate": byCert} {
		tok := tokens(t, c)
		a, err := tok.Token(t.Context(), graph)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := f.Ledger().TokensIssued
		again, err := tok.Token(t.Context(), graph)
		if err != nil || a.Reveal() != again.Reveal() || f.Ledger().TokensIssued != before {
			t.Errorf("%s: the token was not kept: %v", name, err)
		}
		other, err := tok.Token(t.Context(), Public.LogAnalyticsScope)
		if err != nil || other.Reveal() == a.Reveal() {
			t.Errorf("%s: another scope: %v", name, err)
		}
	}
}

// The whole way: an API refuses a revoked token once, the token is renewed, and the request is repeated.
func TestRevokedTokenIsRenewedOnce(t *testing.T) {
	t.Parallel()
	f, srv := fake(t)
	tok := tokens(t, bySecret(srv.URL))
	auth := tok.Authorizer(graph)
	var refused atomic.Bool
	api, err := rest.New(rest.Options{
		BaseURL: srv.URL, API: "Microsoft Graph", Auth: auth.Authorize, OnUnauthorized: auth.OnUnauthorized,
		Explain: Explain, RequestIDHeaders: RequestIDHeaders,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close() })
	get := func() error { return api.Get(t.Context(), "/v1.0/security/alerts_v2", nil, nil) }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	f.RevokeTokens()
	before := f.Ledger().TokensIssued
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := get(); err != nil {
				refused.Store(true)
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.Ledger().TokensIssued - before; n != 1 {
		t.Errorf("%d tokens were issued for 20 refusals at once", n)
	}
	// A token that was just renewed and is refused as well is not renewed again: that would hammer the authority.
	f.RevokeTokens()
	before = f.Ledger().TokensIssued
	e := asError(t, get())
	if e.Class() != plugin.ClassAuth || f.Ledger().TokensIssued != before || !strings.Contains(e.Message, "Microsoft Graph: GET /v1.0/security/alerts_v2: 401") {
		t.Errorf("got %v, %d tokens", e, f.Ledger().TokensIssued-before)
	}
}

func TestManyAskAtOnce(t *testing.T) {
	t.Parallel()
	f, srv := fake(t)
	tok := tokens(t, bySecret(srv.URL))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := tok.Token(t.Context(), graph); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.Ledger().TokensIssued; n != 1 {
		t.Errorf("%d tokens were issued for 100 callers", n)
	}
}

// A caller that gives up does not take the token away from the others.
func TestGivingUpAlone(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	tok := &Tokens{byScope: map[string]*issued{}, source: sourceFunc(func(ctx context.Context) (*issued, error) {
		close(started)
		<-release
		return &issued{value: "t", expires: time.Now().Add(time.Hour), renewAt: time.Now().Add(time.Hour)}, ctx.Err()
	})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { _, err := tok.Token(ctx, "s"); done <- err }()
	<-started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	go func() { _, err := tok.Token(t.Context(), "s"); done <- err }()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
}

type sourceFunc func(context.Context) (*issued, error)

func (f sourceFunc) token(ctx context.Context, _ want) (*issued, error) { return f(ctx) }

// When the authority is down, a token that still lives goes on being used.
func TestOldTokenOutlivesTheAuthority(t *testing.T) {
	t.Parallel()
	tok := &Tokens{source: sourceFunc(func(context.Context) (*issued, error) { return nil, sdk.Unavailable("down") })}
	now := time.Now()
	tok.byScope = map[string]*issued{
		"alive": {value: "a", expires: now.Add(2 * time.Minute), renewAt: now.Add(-time.Minute)},
		"dying": {value: "d", expires: now.Add(5 * time.Second), renewAt: now.Add(-time.Minute)},
	}
	if v, err := tok.Token(t.Context(), "alive"); err != nil || v.Reveal() != "a" {
		t.Errorf("got %v, %v", v, err)
	}
	for _, scope := range []string{"dying", "none"} {
		if _, err := tok.Token(t.Context(), scope); err == nil {
			t.Errorf("%s: no error", scope)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f, srv := fake(t)
	wrong, unknownApp, unknownTenant := bySecret(srv.URL), bySecret(srv.URL), bySecret(srv.URL)
	wrong.ClientSecret = plugin.NewSecret("wrong-" + secret)
	unknownApp.ClientID = "11111111-2222-3333-4444-555555555555"
	unknownTenant.TenantID = "nowhere.example"
	for _, tc := range []struct {
		c     Credential
		scope string
		want  string
	}{
		{wrong, graph, "AADSTS7000215: the client secret is wrong: client_secret must be the secret's value, not its id"},
		{unknownApp, graph, "AADSTS700016: there is no app with this client_id in this tenant"},
		{unknownTenant, graph, "nowhere.example"},
		{bySecret(srv.URL), "User.Read", "AADSTS70011: the scope is not valid"},
	} {
		_, err := tokens(t, tc.c).Token(t.Context(), tc.scope)
		e := asError(t, err)
		if e.Class() != plugin.ClassAuth || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, tc.want) {
			t.Errorf("want %q, got %s: %s", tc.want, e.Class(), e.Message)
		}
	}
	f.ExpireSecret(appID, true)
	_, err := tokens(t, bySecret(srv.URL)).Token(t.Context(), graph)
	e := asError(t, err)
	if !strings.Contains(e.Message, "AADSTS7000222: the client secret has expired: create a new one") || !strings.Contains(e.Message, "trace id") || e.Reason != "AADSTS7000222" {
		t.Errorf("got %+v", e)
	}
}

// authority answers discovery as it should and tokens as the test likes.
func authority(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			base := "https://login.microsoftonline.com/" + tenant
			_ = json.NewEncoder(w).Encode(map[string]string{
				"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/authorize",
			})
			return
		}
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestAuthorityTrouble(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, body string
		status     int
		class      plugin.Class
		want       string
	}{
		{"throttled", `{"error":"x","error_codes":[50196]}`, 429, plugin.ClassThrottled, "in a loop"},
		{"down", `oops`, 503, plugin.ClassUnavailable, "HTTP status 503"},
		{"empty", ``, 500, plugin.ClassUnavailable, "HTTP status 500"},
		{"passing", `{"error":"temporarily_unavailable","error_codes":[90033]}`, 400, plugin.ClassUnavailable, "AADSTS90033"},
		{"conditional access", `{"error":"invalid_grant","error_codes":[53003],"error_description":"AADSTS53003: blocked","trace_id":"T1","correlation_id":"C1"}`, 400, plugin.ClassAuth, "a Conditional Access policy blocks the app: allow its workload identity, or the address that it comes from (trace id T1, correlation id C1)"},
		{"unheard of", `{"error":"odd","error_codes":[123456],"error_description":"AADSTS123456: Something odd. Trace ID: t Correlation ID: c"}`, 400, plugin.ClassAuth, "AADSTS123456: Something odd."},
		{"no description", `{"error":"odd"}`, 400, plugin.ClassAuth, "odd (HTTP status 400)"},
		{"echo", `{"error":"odd","error_description":"you sent ` + secret + `"}`, 400, plugin.ClassAuth, "you sent [redacted]"},
		{"redirect", ``, 307, plugin.ClassAuth, "HTTP status 307"},
		{"html", `<html>login ` + secret + `</html>`, 200, plugin.ClassUnavailable, "no JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := authority(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "9")
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := tokens(t, bySecret(srv.URL)).Token(t.Context(), graph)
			e := asError(t, err)
			if e.Class() != tc.class || !strings.Contains(e.Message, tc.want) {
				t.Errorf("got %s: %s", e.Class(), e.Message)
			}
			if tc.status >= 400 && e.RetryAfter != 9*time.Second {
				t.Errorf("RetryAfter %v", e.RetryAfter)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		srv := httptest.NewServer(nil)
		srv.Close()
		_, err := tokens(t, bySecret(srv.URL)).Token(t.Context(), graph)
		if e := asError(t, err); e.Class() != plugin.ClassUnavailable || !strings.Contains(e.Message, "cannot be reached") || !strings.Contains(e.Message, "refused") {
			t.Errorf("got %s: %s", e.Class(), e.Message)
		}
	})
}

// Nothing leaves for the Internet when the authority is on the loopback, whatever its discovery says; and MSAL's
// environment variable has no say.
func TestLoopbackAuthorityIsTheOnlyOne(t *testing.T) {
	t.Setenv("MSAL_FORCE_REGION", "westeurope")
	var paths []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if strings.HasSuffix(r.URL.Path, "openid-configuration") {
			base := "https://login.microsoftonline.com/" + tenant
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": base, "token_endpoint": base + "/token", "authorization_endpoint": base})
			return
		}
		_, _ = io.WriteString(w, `{"token_type":"Bearer","expires_in":"3600","access_token":"tok"}`)
	}))
	t.Cleanup(srv.Close)
	v, err := tokens(t, bySecret(srv.URL+"/entra/")).Token(t.Context(), graph)
	if err != nil || v.Reveal() != "tok" {
		t.Fatalf("got %v, %v", v, err)
	}
	if got := strings.Join(paths, " "); got != "/entra/"+tenant+"/v2.0/.well-known/openid-configuration /entra/"+tenant+"/token" {
		t.Errorf("requests: %s", got)
	}
}

func TestCredentialFaults(t *testing.T) {
	t.Parallel()
	both, _ := keyPair(t)
	another, _ := keyPair(t)
	certOnly, _, _ := strings.Cut(both, "-----BEGIN PRIVATE KEY")
	_, foreignKey, _ := strings.Cut(another, "-----END CERTIFICATE-----\n")
	s := plugin.NewSecret(secret)
	for _, tc := range []struct {
		name string
		c    Credential
		want []string
	}{
		{"nothing", Credential{}, []string{"/credential: says no way to have a token"}},
		{"two ways", Credential{ClientSecret: s, Token: s}, []string{"/credential: says several ways"}},
		{"no ids", Credential{ClientSecret: s}, []string{"/credential/tenant_id: is required with client_secret", "/credential/client_id: is required"}},
		{"common", Credential{TenantID: "Common", ClientID: appID, ClientSecret: s}, []string{"not to common"}},
		{"path", Credential{TenantID: "a/../b", ClientID: appID, ClientSecret: s}, []string{"tenant_id: must be the tenant's id"}},
		{"plain http", Credential{TenantID: tenant, ClientID: appID, ClientSecret: s, AuthorityURL: "http://login.example"}, []string{"/credential/authority_url: is plain http"}},
		{"no URL", Credential{Token: s, AuthorityURL: "login.example"}, []string{"authority_url: must be a URL"}},
		{"no PEM", Credential{TenantID: tenant, ClientID: appID, Certificate: s}, []string{"/credential/certificate: must be PEM"}},
		{"no key", Credential{TenantID: tenant, ClientID: appID, Certificate: plugin.NewSecret(certOnly)}, []string{"no private key found"}},
		{"foreign key", Credential{TenantID: tenant, ClientID: appID, Certificate: plugin.NewSecret(certOnly + foreignKey)}, []string{"belongs to none of its certificates"}},
		{"encrypted", Credential{TenantID: tenant, ClientID: appID, Certificate: plugin.NewSecret("-----BEGIN ENCRYPTED PRIVATE KEY-----")}, []string{"encrypted private key"}},
		{"no command", Credential{Exec: []string{""}}, []string{"/credential/exec/0"}},
		{"token with line feed", Credential{Token: plugin.NewSecret("abc\ndef")}, []string{"/credential/token: has a character"}},
	} {
		_, err := NewTokens(tc.c, Options{})
		e := asError(t, err)
		if e.Class() != plugin.ClassConfig {
			t.Errorf("%s: class %s", tc.name, e.Class())
		}
		for _, w := range tc.want {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("%s: got %v, want %s", tc.name, e, w)
			}
		}
	}
	if _, err := NewTokens(Credential{}, Options{Field: "/login"}); !strings.Contains(asError(t, err).Error(), "/login: ") {
		t.Errorf("got %v", err)
	}
}

// The credential stands in a connector's configuration, over the real protocol.
func TestCredentialInAConfiguration(t *testing.T) {
	t.Parallel()
	type config struct {
		Credential Credential `json:"credential" cw:"required"`
	}
	c := sdk.New("entra-user", "1.0.0", "Uses a credential.", func(_ context.Context, cfg config, _ sdk.Env) (*Tokens, error) {
		if cfg.Credential.endpoints() != Public {
			t.Errorf("authority %q", cfg.Credential.AuthorityURL)
		}
		return NewTokens(cfg.Credential, Options{})
	})
	sdk.Action(c, "nothing", "Do nothing.", func(*Tokens, context.Context, struct{}) (struct{}, error) { return struct{}{}, nil }, sdk.Read)
	h := sdktest.Open(t, c, config{bySecret("")})
	if err := h.Call(t.Context(), "nothing", nil, nil); err != nil {
		t.Error(err)
	}
	_, err := sdktest.Try(t, c, map[string]any{"credential": map[string]any{"tenant": "x"}})
	if e := asError(t, err); !strings.Contains(e.Error(), `/credential/tenant: unknown property; did you mean "tenant_id"?`) {
		t.Errorf("got %v", e)
	}
}

func TestFixedToken(t *testing.T) {
	t.Parallel()
	a := tokens(t, Credential{Token: plugin.NewSecret("abc.def")}).Authorizer(graph)
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	if err := a.Authorize(t.Context(), req); err != nil || req.Header.Get("Authorization") != "Bearer abc.def" {
		t.Errorf("got %v, %v", req.Header, err)
	}
	if e := asError(t, a.OnUnauthorized(t.Context(), &http.Response{Request: req})); e.Class() != plugin.ClassAuth || !strings.Contains(e.Message, "configure a new one") {
		t.Errorf("got %v", e)
	}
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	jwt := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1800003600}`)) + ".sig"
	for _, tc := range []struct {
		in, value string
		life      time.Duration
		why       string
	}{
		{"tok\n", "tok", plainLife, ""},
		{jwt, jwt, time.Hour, ""},
		{`{"access_token":"t","expires_on":1800000600}`, "t", 10 * time.Minute, ""},
		{`{"access_token":"t","expires_on":"1800000600"}`, "t", 10 * time.Minute, ""},
		{`{"access_token":"t","expires_on":"2027-01-15T09:00:00Z"}`, "t", time.Hour, ""},
		{`{"accessToken":"t","expiresOn":"2027-01-15 09:00:00.000000","expires_on":1800000600}`, "t", 10 * time.Minute, ""},
		{`{"access_token":"t","expires_in":60}`, "t", time.Minute, ""},
		{`{"access_token":"t"}`, "t", plainLife, ""},
		{`{"access_token":"t","expires_on":"tomorrow"}`, "", 0, "neither seconds"},
		{`{"token":"t"}`, "", 0, "without access_token"},
		{`{"access_token":`, "", 0, "cannot be read"},
		{"", "", 0, "printed nothing"},
		{"two words", "", 0, "no token"},
		{"a\r\nX-Evil: 1", "", 0, "no token"},
		{`{"access_token":"a\nb"}`, "", 0, "no token"},
	} {
		value, expires, why := readToken(now, []byte(tc.in))
		if value != tc.value && tc.why == "" || !strings.Contains(why, tc.why) || (tc.why == "") != (why == "") {
			t.Errorf("%q: got %q, %q", tc.in, value, why)
		}
		if tc.why == "" && expires.Sub(now) != tc.life {
			t.Errorf("%q: lives %v, want %v", tc.in, expires.Sub(now), tc.life)
		}
	}
}

func TestCommand(t *testing.T) {
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(printed string) (sdk.Secret, error) {
		t.Setenv("AZURE_TEST_PRINT", printed)
		return tokens(t, Credential{Exec: []string{me, "--scope={scope}", "{resource}"}}).Token(t.Context(), graph)
	}
	if v, err := run("a-token"); err != nil || v.Reveal() != "a-token" {
		t.Errorf("got %v, %v", v, err)
	}
	for printed, want := range map[string]string{
		"fail " + secret:                       `exit status 3: "first line"`,
		"not a token " + secret:                "no token",
		strings.Repeat("x", maxTokenOutput+10): "more than",
		`{"access_token":"t","expires_on":1}`:  "has expired",
	} {
		_, err := run(printed)
		if e := asError(t, err); e.Class() != plugin.ClassAuth || !strings.Contains(e.Message, want) {
			t.Errorf("%.20s: got %v", printed, e)
		}
	}
	_, err = tokens(t, Credential{Exec: []string{t.TempDir() + "/none"}}).Token(t.Context(), graph)
	if e := asError(t, err); !strings.Contains(e.Message, "does not run") {
		t.Errorf("got %v", e)
	}
	// One that may not be run, and one that is nowhere: the check says what to do.
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, want string }{
		{plain, "plugins.sandbox.read"}, {"no-such-command-anywhere", "give its absolute path"},
	} {
		for _, c := range []Credential{{Exec: []string{tc.name}}, {TenantID: tenant, ClientID: appID, FederatedToken: []string{tc.name}, AuthorityURL: "http://127.0.0.1:9"}} {
			_, err := c.assertionOrToken(t)
			if e := asError(t, err); e.Class() != plugin.ClassAuth || !strings.Contains(e.Message, tc.want) {
				t.Errorf("%s: got %v", tc.name, e)
			}
		}
		p := openSession(t, Credential{Exec: []string{tc.name}}, "").Check(t.Context(), alertNeeds[0])[0]
		if p.Status != sdk.ProbeFailed || !strings.Contains(p.Remedy, "HOME") {
			t.Errorf("%s: got %+v", tc.name, p)
		}
	}
}

// assertionOrToken runs the credential's command.
func (c *Credential) assertionOrToken(t *testing.T) (string, error) {
	t.Helper()
	if len(c.FederatedToken) > 0 {
		return c.assertion(t.Context())
	}
	v, err := tokens(t, *c).Token(t.Context(), graph)
	return v.Reveal(), err
}

func BenchmarkAuthorize(b *testing.B) {
	a := tokens(b, Credential{Token: plugin.NewSecret("abc.def")}).Authorizer(graph)
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Authorize(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
