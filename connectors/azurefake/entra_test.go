package azurefake

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{Apps: []App{
		{ClientID: "app", Secret: "right"}, {ClientID: "old", Secret: "right", SecretExpired: true},
	}})
	c := &client{t: t, http: &http.Client{Transport: s.Transport()}}
	const scope = "https://graph.microsoft.com/.default"
	for _, tc := range []struct {
		name, tenant, id, secret, scope, grant string
		status                                 int
		aadsts                                 string
	}{
		{"wrong secret", "", "app", "wrong", scope, "", 401, "7000215"},
		{"expired secret", "", "old", "right", scope, "", 401, "7000222"},
		{"no secret", "", "app", "", scope, "", 401, "7000218"},
		{"unknown app", "", "nobody", "right", scope, "", 400, "700016"},
		{"unknown tenant", "elsewhere", "app", "right", scope, "", 400, "90002"},
		{"plain scope", "", "app", "right", "User.Read", "", 400, "70011"},
		{"two resources", "", "app", "right", scope + " https://x/.default", "", 400, "70011"},
		{"no scope", "", "app", "right", "openid", "", 400, "70011"},
		{"other grant", "", "app", "right", scope, "password", 400, "70003"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tenant, grant := s.Tenant(), "client_credentials"
			if tc.tenant != "" {
				tenant = tc.tenant
			}
			if tc.grant != "" {
				grant = tc.grant
			}
			status, body := c.form(s, tenant, url.Values{
				"grant_type": {grant}, "client_id": {tc.id}, "client_secret": {tc.secret}, "scope": {tc.scope},
			})
			description, _ := body["error_description"].(string)
			if status != tc.status || !strings.HasPrefix(description, "AADSTS"+tc.aadsts+":") {
				t.Errorf("got %d %q, want %d AADSTS%s", status, description, tc.status, tc.aadsts)
			}
			for _, name := range []string{"error", "error_codes", "timestamp", "trace_id", "correlation_id"} {
				if body[name] == nil {
					t.Errorf("no %s in %v", name, body)
				}
			}
		})
	}
}

func TestTokenAnswer(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{TokenLife: 30 * time.Minute})
	c := &client{t: t, http: &http.Client{Transport: s.Transport()}}
	_, body := c.form(s, s.Tenant(), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {s.ClientID()}, "client_secret": {s.ClientSecret()},
		"scope": {"https://graph.microsoft.com/.default openid offline_access profile"},
	})
	if _, declined := body["scope"]; declined {
		t.Error("a scope in the answer makes MSAL fail with declined scopes")
	}
	if body["token_type"] != "Bearer" || body["expires_in"] != json.Number("1800") {
		t.Errorf("got %v", body)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := &client{t: t, http: &http.Client{Transport: s.Transport()}}
	body := c.want(200, "GET", "https://127.0.0.1:1234/"+s.Tenant()+"/v2.0/.well-known/openid-configuration", nil)
	if got, want := body["token_endpoint"], "https://127.0.0.1:1234/"+s.Tenant()+"/oauth2/v2.0/token"; got != want {
		t.Errorf("token_endpoint %v, want %v", got, want)
	}
	if body["issuer"] == nil || body["authorization_endpoint"] == nil {
		t.Errorf("incomplete: %v", body)
	}
	c.want(400, "GET", "/nobody/v2.0/.well-known/openid-configuration", nil)
	body = c.want(200, "GET", "/common/discovery/instance?api-version=1.1&authorization_endpoint="+url.QueryEscape("https://127.0.0.1:1234/t/oauth2/v2.0/authorize"), nil)
	if got, want := body["tenant_discovery_endpoint"], "https://127.0.0.1:1234/t/v2.0/.well-known/openid-configuration"; got != want {
		t.Errorf("tenant_discovery_endpoint %v, want %v", got, want)
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	clk := newClock()
	s := newFake(t, Options{Now: clk.now})
	c, l := graph(t, s), logsOf(t, s)
	const list = "/v1.0/security/alerts_v2"
	query := "/v1/workspaces/" + s.Workspace() + "/query"
	c.want(200, "GET", list, nil)
	l.want(200, "POST", query, map[string]any{"query": "print 1"})

	t.Log("a token for one API is no good at the other")
	if body := l.want(401, "GET", list, nil); code(body) != "InvalidAuthenticationToken" {
		t.Errorf("got %v", body)
	}
	if body := c.want(403, "POST", query, map[string]any{"query": "print 1"}); code(body) != "InvalidAuthenticationTokenAudience" {
		t.Errorf("got %v", body)
	}
	(&client{t: t, http: c.http}).want(401, "GET", list, nil)

	clk.advance(time.Hour)
	c.want(401, "GET", list, nil)
	l.want(401, "POST", query, map[string]any{"query": "print 1"})

	c = graph(t, s)
	c.want(200, "GET", list, nil)
	s.RevokeTokens()
	c.want(401, "GET", list, nil)

	led := s.Ledger()
	if led.TokensIssued != 3 || led.TokensRejected["expired"] != 2 || led.TokensRejected["unknown"] != 1 || led.TokensRejected["audience"] != 2 {
		t.Errorf("ledger %+v", led)
	}
}

func TestMissingRole(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{Apps: []App{{ClientID: "a", Secret: "s", Roles: []string{RoleAlertRead}}}})
	id := mustAdd(t, s, map[string]any{"id": "x"})
	c := graph(t, s)
	c.want(200, "GET", "/v1.0/security/alerts_v2/"+id, nil)
	c.want(403, "PATCH", "/v1.0/security/alerts_v2/"+id, map[string]any{"status": "resolved"})
	c.want(403, "POST", "/v1.0/security/alerts_v2/"+id+"/comments", map[string]any{"comment": "x"})
	body := logsOf(t, s).want(403, "POST", "/v1/workspaces/"+s.Workspace()+"/query", map[string]any{"query": "print 1"})
	if code(body) != "InsufficientAccessError" {
		t.Errorf("got %v", body)
	}
}

func TestClientAssertion(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := newFake(t, Options{Apps: []App{{
		ClientID: "app", Certificates: [][]byte{der}, Federated: []Federation{{"https://idp", "job", "api://AzureADTokenExchange"}},
	}}})
	c := &client{t: t, http: &http.Client{Transport: s.Transport()}}
	endpoint := "https://login.microsoftonline.com/" + s.Tenant() + "/oauth2/v2.0/token"
	good := map[string]any{"aud": endpoint, "iss": "app", "sub": "app", "exp": time.Now().Add(time.Minute).Unix(), "nbf": time.Now().Unix()}
	but := func(name string, value any) map[string]any { return with(good, name, value) }
	for _, tc := range []struct {
		name   string
		claims map[string]any
		spoil  bool
		want   string
	}{
		{"good", good, false, ""},
		{"expired", but("exp", time.Now().Add(-time.Minute).Unix()), false, "700024"},
		{"other audience", but("aud", "https://elsewhere/t/token"), false, "700023"},
		{"other issuer", but("iss", "somebody"), false, "700213"},
		{"bad signature", good, true, "700027"},
		{"no thumbprint", good, false, "700027"},
		{"another thumbprint", good, false, "700027"},
		{"too long a life", but("exp", time.Now().Add(48*time.Hour).Unix()), false, "700024"},
		{"federated", map[string]any{"aud": "api://AzureADTokenExchange", "iss": "https://idp", "sub": "job", "exp": good["exp"]}, true, ""},
		{"federated, other subject", map[string]any{"aud": "api://AzureADTokenExchange", "iss": "https://idp", "sub": "x", "exp": good["exp"]}, true, "700213"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			part := func(v any) string {
				raw, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				return base64.RawURLEncoding.EncodeToString(raw)
			}
			header := map[string]any{"alg": "PS256", "typ": "JWT"}
			sum := sha256.Sum256(der)
			if strings.Contains(tc.name, "another thumbprint") {
				sum[0]++
			}
			if !strings.Contains(tc.name, "no thumbprint") {
				header["x5t#S256"] = base64.StdEncoding.EncodeToString(sum[:])
			}
			signed := part(header) + "." + part(tc.claims)
			digest := sha256.Sum256([]byte(signed))
			sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.spoil {
				sig[0]++
			}
			status, body := c.form(s, s.Tenant(), url.Values{
				"grant_type": {"client_credentials"}, "client_id": {"app"}, "scope": {"https://graph.microsoft.com/.default"},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {signed + "." + base64.RawURLEncoding.EncodeToString(sig)},
			})
			if tc.want == "" && status != 200 || tc.want != "" && !strings.Contains(body["error_description"].(string), "AADSTS"+tc.want+":") {
				t.Errorf("got %d %v, want %q", status, body, tc.want)
			}
		})
	}
}
