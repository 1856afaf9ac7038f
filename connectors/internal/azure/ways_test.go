package azure

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// chain is a certificate that an authority of one's own has signed.
type chain struct {
	key      *rsa.PrivateKey
	leaf, ca *x509.Certificate
}

func newChain(t *testing.T, expires time.Time) chain {
	t.Helper()
	make1 := func(name string, isCA bool, parent *x509.Certificate, by *rsa.PrivateKey) (*x509.Certificate, *rsa.PrivateKey) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: expires,
			IsCA: isCA, BasicConstraintsValid: true, DNSNames: []string{"login.corp.example"},
		}
		if parent == nil {
			parent, by = tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, caKey := make1("own authority", true, nil, nil)
	leaf, key := make1("casewire", false, ca, caKey)
	return chain{key: key, leaf: leaf, ca: ca}
}

func (c chain) pem(t *testing.T) []byte {
	t.Helper()
	k, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw}) // the order does not matter
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.leaf.Raw})...)
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})...)
}

func (c chain) pfx(t *testing.T, password string) []byte {
	t.Helper()
	b, err := pkcs12.Modern.Encode(c.key, c.leaf, []*x509.Certificate{c.ca}, password)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := newChain(t, time.Now().Add(90*24*time.Hour))
	_, srv := fake(t, func(o *azurefake.Options) { o.Apps[0].Certificates = [][]byte{c.leaf.Raw} })
	base := bySecret(srv.URL)
	base.ClientSecret = sdk.Secret{}
	b64 := base64.StdEncoding.EncodeToString(c.pfx(t, "pass word"))
	wrapped := strings.Join([]string{b64[:64], b64[64:128], b64[128:]}, "\n") + "\n"
	for name, change := range map[string]func(*Credential){
		"PEM with chain": func(x *Credential) { x.Certificate = plugin.NewSecret(string(c.pem(t))) },
		"PEM file":       func(x *Credential) { x.CertificateFile = file(t, "app.pem", c.pem(t)) },
		"PKCS#12 in base64": func(x *Credential) {
			x.Certificate, x.CertificatePassword = plugin.NewSecret(wrapped), plugin.NewSecret("pass word")
		},
		"PKCS#12 file": func(x *Credential) { x.CertificateFile = file(t, "app.pfx", c.pfx(t, "")) },
		"PKCS#12 and password": func(x *Credential) {
			x.CertificateFile, x.CertificatePassword = file(t, "app.pfx", c.pfx(t, "pw")), plugin.NewSecret("pw")
		},
	} {
		cred := base
		change(&cred)
		if _, err := tokens(t, cred).Token(t.Context(), graph); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		change func(*Credential)
		want   string
	}{
		"no password": {func(x *Credential) { x.CertificateFile = file(t, "a", c.pfx(t, "pw")) }, "certificate_file: is a PKCS#12 file with a password: give it as certificate_password"},
		"wrong password": {func(x *Credential) {
			x.CertificateFile, x.CertificatePassword = file(t, "a", c.pfx(t, "pw")), plugin.NewSecret("other")
		}, "certificate_password: is not the password"},
		"no file":  {func(x *Credential) { x.CertificateFile = "/nonexistent/app.pem" }, "certificate_file: cannot be read"},
		"relative": {func(x *Credential) { x.CertificateFile = "app.pem" }, "must be an absolute path"},
		"DER":      {func(x *Credential) { x.CertificateFile = file(t, "a", c.leaf.Raw) }, "PKCS#12 file that cannot be read"},
		"noise":    {func(x *Credential) { x.CertificateFile = file(t, "a", []byte("noise")) }, "must be PEM"},
		"old encryption": {func(x *Credential) {
			x.Certificate = plugin.NewSecret("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")
		}, "has an encrypted private key; decrypt it"},
	} {
		cred := base
		tc.change(&cred)
		_, err := NewTokens(cred, Options{})
		if e := asError(t, err); e.Class() != plugin.ClassConfig || !strings.Contains(e.Error(), tc.want) {
			t.Errorf("%s: got %v", name, e)
		}
	}
}

// A certificate that is replaced while the connector runs is used at the next renewal.
func TestCertificateFileIsReadAgain(t *testing.T) {
	t.Parallel()
	old, next := newChain(t, time.Now().Add(time.Hour)), newChain(t, time.Now().Add(time.Hour))
	_, srv := fake(t, func(o *azurefake.Options) { o.Apps[0].Certificates = [][]byte{next.leaf.Raw} })
	cred := bySecret(srv.URL)
	cred.ClientSecret, cred.CertificateFile = sdk.Secret{}, file(t, "app.pem", old.pem(t))
	tok := tokens(t, cred)
	_, err := tok.Token(t.Context(), graph)
	if e := asError(t, err); e.Reason != "AADSTS700027" || !strings.Contains(e.Message, "upload this certificate") {
		t.Fatalf("got %v", e)
	}
	if err := os.WriteFile(cred.CertificateFile, next.pem(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tok.acquire(t.Context(), want{scope: graph, fresh: true}); err != nil {
		t.Error(err)
	}
}

func jwt(t *testing.T, claims map[string]any) string {
	t.Helper()
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(b) + ".c2ln"
}

func TestFederatedToken(t *testing.T) {
	t.Setenv("AZURE_TEST_PRINT", jwt(t, map[string]any{"iss": "https://idp.example", "sub": "system:serviceaccount:soc:casewire", "aud": "api://AzureADTokenExchange", "exp": time.Now().Add(time.Hour).Unix()}))
	f, srv := fake(t, func(o *azurefake.Options) {
		o.Apps[0].Federated = []azurefake.Federation{{Issuer: "https://idp.example", Subject: "system:serviceaccount:soc:casewire", Audience: "api://AzureADTokenExchange"}}
	})
	claims := func(sub string, life time.Duration) map[string]any {
		return map[string]any{"iss": "https://idp.example", "sub": sub, "aud": "api://AzureADTokenExchange", "exp": time.Now().Add(life).Unix()}
	}
	cred := bySecret(srv.URL)
	cred.ClientSecret, cred.FederatedTokenFile = sdk.Secret{}, file(t, "token", []byte(jwt(t, claims("somebody else", time.Hour))))
	tok := tokens(t, cred)
	write := func(b string) {
		if err := os.WriteFile(cred.FederatedTokenFile, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := tok.Token(t.Context(), graph)
	if e := asError(t, err); e.Reason != "AADSTS700213" || !strings.Contains(e.Message, "Federated credentials") {
		t.Errorf("got %v", e)
	}
	// The file is read for each request.
	write(jwt(t, claims("system:serviceaccount:soc:casewire", time.Hour)) + "\n")
	if _, err := tok.Token(t.Context(), graph); err != nil {
		t.Error(err)
	}
	before := f.Ledger().TokensIssued
	for content, want := range map[string]string{
		"noise": "federated_token_file holds something that is no JWT",
		jwt(t, claims("system:serviceaccount:soc:casewire", -time.Minute)): "a token that expired at",
	} {
		write(content)
		_, err := tok.Token(t.Context(), Public.LogAnalyticsScope)
		if e := asError(t, err); !strings.Contains(e.Message, want) || strings.Contains(e.Message, "system:serviceaccount") {
			t.Errorf("got %v, want %q", e, want)
		}
	}
	if err := os.Remove(cred.FederatedTokenFile); err != nil {
		t.Fatal(err)
	}
	_, err = tok.Token(t.Context(), Public.LogAnalyticsScope)
	if e := asError(t, err); !strings.Contains(e.Message, "federated_token_file cannot be read") || e.Class() != plugin.ClassAuth {
		t.Errorf("got %v", e)
	}
	if f.Ledger().TokensIssued != before {
		t.Error("asked the authority with a token that cannot be good")
	}
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cred.FederatedTokenFile, cred.FederatedToken = "", []string{me}
	if _, err := tokens(t, cred).Token(t.Context(), graph); err != nil {
		t.Error(err)
	}
}

func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	keys := t.TempDir()
	f, srv := fake(t, func(o *azurefake.Options) {
		o.Entra.Identities = []azurefake.MachineIdentity{
			{ClientID: "system-id", System: true}, {ClientID: "user-id", ObjectID: "object-id", ResourceID: "/subscriptions/s/identities/i"},
		}
		o.Entra.IdentityHeader, o.Entra.ArcKeys = "header-secret", keys
	})
	at := func(path string) sdk.Secret { return plugin.NewSecret(srv.URL + path) }
	open := func(m Identity) *Tokens {
		tok := tokens(t, Credential{ManagedIdentity: &m})
		tok.source.(*identity).arcKeys = keys
		return tok
	}
	apps := map[string]string{"": "system-id", "user-id": "user-id", "object-id": "user-id", "/subscriptions/S/identities/i": "user-id"}
	for name, m := range map[string]Identity{
		"imds, system":     {Endpoint: at("")},
		"imds, whole path": {Endpoint: at("/metadata/identity/oauth2/token")},
		"imds, client":     {Endpoint: at(""), ClientID: "user-id"},
		"imds, object":     {Endpoint: at(""), ObjectID: "object-id"},
		"imds, resource":   {Endpoint: at(""), ResourceID: "/subscriptions/S/identities/i"},
		"app service":      {Endpoint: at("/msi/token"), Header: plugin.NewSecret("header-secret")},
		"app service, id":  {Endpoint: at("/msi/token"), Header: plugin.NewSecret("header-secret"), ObjectID: "object-id"},
		"arc":              {Endpoint: at("/arc/token"), Source: fromArc},
	} {
		a, err := open(m).get(t.Context(), graph)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c, ok := readClaims(a.value); !ok || c.Audience != "https://graph.microsoft.com" || c.App != apps[m.ClientID+m.ObjectID+m.ResourceID] {
			t.Errorf("%s: claims %+v", name, c)
		}
		if life := time.Until(a.expires); life < 50*time.Minute || life > time.Hour {
			t.Errorf("%s: lives %v", name, life)
		}
	}
	if led := f.Ledger().Identities; led["imds"] != 5 || led["app_service"] != 2 || led["arc"] != 2 {
		t.Errorf("asked: %v", led)
	}
	for name, tc := range map[string]struct {
		m     Identity
		fault azurefake.Fault
		class plugin.Class
		want  string
	}{
		"unknown identity": {Identity{Endpoint: at(""), ClientID: "nobody"}, "", plugin.ClassAuth, "Identity not found; assign an identity"},
		"wrong header":     {Identity{Endpoint: at("/msi/token"), Header: plugin.NewSecret("wrong-header")}, "", plugin.ClassAuth, "HTTP status 401: Unauthorized"},
		"throttled":        {Identity{Endpoint: at("")}, azurefake.Throttle, plugin.ClassThrottled, "429"},
		"updating":         {Identity{Endpoint: at("")}, azurefake.Unavailable, plugin.ClassUnavailable, "503"},
		"html":             {Identity{Endpoint: at("")}, azurefake.HTML, plugin.ClassUnavailable, "no token"},
		"cut":              {Identity{Endpoint: at("")}, azurefake.CutBody, plugin.ClassUnavailable, "broke its answer off"},
		"reset":            {Identity{Endpoint: at("")}, azurefake.Reset, plugin.ClassUnavailable, "cannot be reached"},
		"nobody there":     {Identity{Endpoint: plugin.NewSecret("http://127.0.0.1:1")}, "", plugin.ClassUnavailable, "does this host run on Azure"},
	} {
		if tc.fault != "" {
			f.FailNext(azurefake.RouteIdentity, tc.fault, 1)
		}
		_, err := open(tc.m).Token(t.Context(), graph)
		if e := asError(t, err); e.Class() != tc.class || !strings.Contains(e.Message, tc.want) || strings.Contains(e.Message, "wrong-header") {
			t.Errorf("%s: got %s: %v", name, e.Class(), e)
		}
	}
}

// An agent that points elsewhere is no agent: the file is not read.
func TestArcChallengeElsewhere(t *testing.T) {
	t.Parallel()
	secretFile := file(t, "secret.key", []byte("very secret"))
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		w.Header().Set("WWW-Authenticate", "Basic realm="+secretFile)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(srv.Close)
	_, err := tokens(t, Credential{ManagedIdentity: &Identity{Endpoint: plugin.NewSecret(srv.URL), Source: fromArc}}).Token(t.Context(), graph)
	if e := asError(t, err); !strings.Contains(e.Message, "this is not its agent") || len(seen) != 1 {
		t.Errorf("got %v, %v", e, seen)
	}
}

func TestIdentityFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		c    Credential
		want string
	}{
		"two ids":        {Credential{ManagedIdentity: &Identity{ClientID: "a", ObjectID: "b"}}, "keep one of client_id, resource_id and object_id"},
		"no header":      {Credential{ManagedIdentity: &Identity{Source: fromAppService, Endpoint: plugin.NewSecret("http://127.0.0.1/")}}, "managed_identity/header: is required"},
		"no endpoint":    {Credential{ManagedIdentity: &Identity{Header: plugin.NewSecret("h")}}, "managed_identity/endpoint: is required"},
		"no URL":         {Credential{ManagedIdentity: &Identity{Endpoint: plugin.NewSecret("localhost")}}, "managed_identity/endpoint: must be a URL"},
		"arc with id":    {Credential{ManagedIdentity: &Identity{Source: fromArc, ClientID: "a"}}, "always the system-assigned one"},
		"two ways":       {Credential{ManagedIdentity: &Identity{}, SignIn: "user"}, "several ways to have a token (managed_identity, sign_in)"},
		"no app":         {Credential{SignIn: "user"}, "client_id: is required with sign_in"},
		"relative":       {Credential{TenantID: tenant, ClientID: appID, FederatedTokenFile: "token"}, "federated_token_file: must be an absolute path"},
		"no command":     {Credential{TenantID: tenant, ClientID: appID, FederatedToken: []string{""}}, "federated_token/0: must be the command"},
		"day of expiry":  {Credential{TenantID: tenant, ClientID: appID, ClientSecret: plugin.NewSecret("x"), ClientSecretExpires: "soon"}, "client_secret_expires: must be a day"},
		"secret no file": {Credential{TenantID: tenant, ClientID: appID, ClientSecret: plugin.NewSecret("x"), CertificateFile: "/x"}, "several ways"},
	} {
		_, err := NewTokens(tc.c, Options{})
		if e := asError(t, err); e.Class() != plugin.ClassConfig || !strings.Contains(e.Error(), tc.want) {
			t.Errorf("%s: got %v", name, e)
		}
	}
}

// An API that demands claims of the token gets one with them, once.
func TestClaimsChallenge(t *testing.T) {
	t.Parallel()
	f, srv := fake(t)
	tok := tokens(t, bySecret(srv.URL))
	auth := tok.Authorizer(graph)
	api, err := rest.New(rest.Options{BaseURL: srv.URL, API: "Microsoft Graph", Auth: auth.Authorize, OnUnauthorized: auth.OnUnauthorized, Explain: Explain})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close() })
	get := func() error { return api.Get(t.Context(), "/v1.0/security/alerts_v2", nil, nil) }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	f.DemandClaims(`{"access_token":{"nbf":{"essential":true,"value":"1764000000"}}}`)
	if err := get(); err != nil {
		t.Fatalf("the demand was not met: %v", err)
	}
	if led := f.Ledger(); led.TokensIssued != 2 || led.TokensRejected["claims"] != 1 {
		t.Errorf("ledger: %d issued, %v", led.TokensIssued, led.TokensRejected)
	}
	// Another demand is met, too; the same one again is not run after.
	f.DemandClaims(`{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`)
	if err := get(); err != nil {
		t.Error(err)
	}
	f.DemandClaims("")
	f.RevokeTokens()
	if err := get(); err != nil { // a plain refusal is not the same as a demand
		t.Error(err)
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	const claims = `{"access_token":{"nbf":{"essential":true,"value":"1>?"}}}`
	std, raw := base64.StdEncoding.EncodeToString([]byte(claims)), base64.RawURLEncoding.EncodeToString([]byte(claims))
	for header, want := range map[string]string{
		`Bearer realm="", error="insufficient_claims", claims="` + std + `"`: claims,
		`Bearer claims="` + raw + `", error="insufficient_claims"`:           claims,
		`Bearer error="insufficient_claims",claims="` + std + `"`:            claims,
		`Bearer error="invalid_token"`:                                       "",
		`Bearer claims="%%%"`:                                                "",
		`Bearer claims="bm8="`:                                               "",
		`Bearer otherclaims="` + std + `"`:                                   "",
		"":                                                                   "",
	} {
		if got := challenge(http.Header{"Www-Authenticate": {header}}); got != want {
			t.Errorf("%s: got %q", header, got)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer claims="eyJhIjoxfQ=="`)
	f.Fuzz(func(t *testing.T, header string) {
		if got := challenge(http.Header{"Www-Authenticate": {header}}); got != "" && !json.Valid([]byte(got)) {
			t.Errorf("got %q", got)
		}
	})
}

// A machine whose clock is wrong signs assertions that do not hold, and is told so.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	pair := newChain(t, time.Now().Add(48*time.Hour))
	_, srv := fake(t, func(o *azurefake.Options) {
		o.Apps[0].Certificates = [][]byte{pair.leaf.Raw}
		o.Now = func() time.Time { return time.Now().Add(time.Hour) }
	})
	c := bySecret(srv.URL)
	c.ClientSecret, c.Certificate = sdk.Secret{}, plugin.NewSecret(string(pair.pem(t)))
	_, err := tokens(t, c).Token(t.Context(), graph)
	if e := asError(t, err); e.Reason != "AADSTS700024" || !strings.Contains(e.Message, "check this machine's clock") {
		t.Errorf("got %v", e)
	}
}

func TestAuthorityOfEachCloud(t *testing.T) {
	t.Parallel()
	for cloud, want := range map[string]string{
		"": "https://login.microsoftonline.com/", "public": "https://login.microsoftonline.com/", "us_gov": "https://login.microsoftonline.us/",
		"us_dod": "https://login.microsoftonline.us/", "china": "https://login.partner.microsoftonline.cn/",
	} {
		c := bySecret("")
		c.Cloud = cloud
		if got := tokens(t, c).source.(*entra).authority; got != want+tenant {
			t.Errorf("%s: an app goes to %s", cloud, got)
		}
		c.SignIn = "user"
		if got := tokens(t, c).source.(*person).base; got != want+tenant {
			t.Errorf("%s: a person goes to %s", cloud, got)
		}
	}
}

func TestIdentityRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		m    Identity
		want string
	}{
		"imds":        {Identity{ClientID: "c"}, "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&client_id=c&resource=https%3A%2F%2Fgraph.microsoft.com"},
		"arc":         {Identity{Source: fromArc}, "http://localhost:40342/metadata/identity/oauth2/token?api-version=2020-06-01&resource=https%3A%2F%2Fgraph.microsoft.com"},
		"app service": {Identity{Endpoint: plugin.NewSecret("http://127.0.0.1:41/msi/token/?a=b"), Header: plugin.NewSecret("h"), ResourceID: "/r"}, "http://127.0.0.1:41/msi/token/?a=b&api-version=2019-08-01&mi_res_id=%2Fr&resource=https%3A%2F%2Fgraph.microsoft.com"},
	} {
		req, err := newIdentity(tc.m).request(t.Context(), graph)
		if err != nil || req.URL.String() != tc.want {
			t.Errorf("%s: got %v, %v", name, req.URL, err)
		}
	}
}
