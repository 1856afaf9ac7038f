package azurefake

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

type token struct {
	app      *App
	audience string
	claims   string // that it was asked for with
	expires  time.Time
}

type tokens struct {
	mu       sync.RWMutex
	byValue  map[string]token
	issued   uint64
	refused  map[string]uint64 // by AADSTS code
	rejected map[string]uint64 // by APIs: reason
	revoked  uint64
}

func (s *Server) openIDConfiguration(c *fakekit.Call) fakekit.Reply {
	tenant := c.Args[0]
	if !s.knowsTenant(tenant) {
		return s.refuse(http.StatusBadRequest, "invalid_tenant", "90002", "Tenant '"+tenant+"' not found.")
	}
	base := s.opt.AuthorityURL
	if base == "" {
		base = "https://" + c.R.Host
	}
	base += "/" + tenant
	return fakekit.JSON(http.StatusOK, object{
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"device_authorization_endpoint":         base + "/oauth2/v2.0/devicecode",
		"end_session_endpoint":                  base + "/oauth2/v2.0/logout",
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"issuer":                                "https://login.microsoftonline.com/" + tenant + "/v2.0",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"tenant_region_scope":                   "EU", "cloud_instance_name": "microsoftonline.com",
		"cloud_graph_host_name": "graph.windows.net", "msgraph_host": "graph.microsoft.com",
	})
}

func (s *Server) instanceDiscovery(c *fakekit.Call) fakekit.Reply {
	endpoint, err := url.Parse(c.R.URL.Query().Get("authorization_endpoint"))
	if err != nil || endpoint.Path == "" {
		return s.refuse(http.StatusBadRequest, "invalid_instance", "50049", "Unknown or invalid instance.")
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(endpoint.Path, "/"), "/")
	aliases := []string{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"}
	metadata := []object{{"preferred_network": aliases[0], "preferred_cache": aliases[1], "aliases": aliases}}
	if !slices.Contains(aliases, endpoint.Host) {
		metadata = append(metadata, object{"preferred_network": endpoint.Host, "preferred_cache": endpoint.Host, "aliases": []string{endpoint.Host}})
	}
	return fakekit.JSON(http.StatusOK, object{
		"tenant_discovery_endpoint": "https://" + endpoint.Host + "/" + tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  metadata,
	})
}

func (s *Server) knowsTenant(tenant string) bool {
	return slices.ContainsFunc(s.opt.Tenants, func(t string) bool { return strings.EqualFold(t, tenant) })
}

// refuse answers as the token endpoint does, with an AADSTS code.
func (s *Server) refuse(status int, kind, code, text string) fakekit.Reply {
	s.tokens.mu.Lock()
	if s.tokens.refused == nil {
		s.tokens.refused = map[string]uint64{}
	}
	s.tokens.refused[code]++
	s.tokens.mu.Unlock()
	trace, correlation, at := newGUID(), newGUID(), s.opt.Now().UTC().Format("2006-01-02 15:04:05Z")
	return fakekit.JSON(status, object{
		"error":             kind,
		"error_description": "AADSTS" + code + ": " + text + " Trace ID: " + trace + " Correlation ID: " + correlation + " Timestamp: " + at,
		"error_codes":       []json.RawMessage{json.RawMessage(code)},
		"timestamp":         at, "trace_id": trace, "correlation_id": correlation,
		"error_uri": "https://login.microsoftonline.com/error?code=" + code,
	})
}

func (s *Server) token(c *fakekit.Call) fakekit.Reply {
	body, ok := fakekit.ReadBody(c.R, 64<<10)
	form, err := url.ParseQuery(string(body))
	if !ok || err != nil || !strings.HasPrefix(c.R.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return s.refuse(http.StatusBadRequest, "invalid_request", "900144", "The request body must contain the following parameter: 'grant_type'.")
	}
	if !s.knowsTenant(c.Args[0]) {
		return s.refuse(http.StatusBadRequest, "invalid_request", "90002", "Tenant '"+c.Args[0]+"' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.")
	}
	grant := form.Get("grant_type")
	people := slices.Contains([]string{"refresh_token", "authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "device_code"}, grant)
	if grant != "client_credentials" && !people {
		return s.refuse(http.StatusBadRequest, "unsupported_grant_type", "70003", "The app requested an unsupported grant type '"+grant+"'.")
	}
	id := form.Get("client_id")
	if id == "" { // client_secret_basic
		user, secret, _ := c.R.BasicAuth()
		id = user
		form.Set("client_secret", secret)
	}
	app := s.findApp(id)
	if app == nil {
		return s.refuse(http.StatusBadRequest, "unauthorized_client", "700016", "Application with identifier '"+id+"' was not found in the directory.")
	}
	s.grants.mu.Lock()
	s.grants.byGrant[grant]++
	s.grants.mu.Unlock()
	if people {
		return s.personGrant(app, c, form)
	}
	if reply, ok := s.checkApp(app, c, form); !ok {
		return reply
	}
	audience, refusal := s.audience(form.Get("scope"))
	if refusal != "" {
		return s.refuse(http.StatusBadRequest, "invalid_scope", "70011", refusal)
	}
	return fakekit.JSON(http.StatusOK, s.mint(app, audience, "", form.Get("claims"))).With("Cache-Control", "no-store, no-cache")
}

// checkApp judges the secret or assertion of an app.
func (s *Server) checkApp(app *App, c *fakekit.Call, form url.Values) (reply fakekit.Reply, ok bool) {
	switch secret, assertion := form.Get("client_secret"), form.Get("client_assertion"); {
	case assertion != "":
		if code, text := s.checkAssertion(app, c, form.Get("client_assertion_type"), assertion); code != "" {
			return s.refuse(http.StatusUnauthorized, "invalid_client", code, text), false
		}
	case secret == "":
		return s.refuse(http.StatusUnauthorized, "invalid_client", "7000218", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."), false
	case app.Secret == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(app.Secret)) != 1:
		return s.refuse(http.StatusUnauthorized, "invalid_client", "7000215", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '"+app.ClientID+"'."), false
	case s.secretExpired(app):
		return s.refuse(http.StatusUnauthorized, "invalid_client", "7000222", "The provided client secret keys for app '"+app.ClientID+"' are expired."), false
	}
	return reply, true
}

// audience finds the one resource in a scope string; the OpenID scopes, which clients append, are tolerated.
func (*Server) audience(scope string) (audience, refusal string) {
	for one := range strings.FieldsSeq(scope) {
		switch one {
		case "openid", "profile", "offline_access", "email":
			continue
		}
		resource, ok := strings.CutSuffix(one, "/.default")
		if !ok {
			return "", "The provided value for the input parameter 'scope' is not valid. The scope " + one + " is not valid for client credentials; use <resource>/.default."
		}
		if audience != "" && audience != resource {
			return "", "The provided value for the input parameter 'scope' is not valid. Scopes of more than one resource were requested."
		}
		audience = resource
	}
	if audience == "" {
		return "", "The provided request must include a 'scope' input parameter."
	}
	return strings.TrimSuffix(audience, "/"), ""
}

// mint makes an access token and the answer that brings it. Who is not empty for a person's.
func (s *Server) mint(app *App, audience, who, claims string) object {
	now := s.opt.Now()
	says := object{
		"aud": audience, "iss": "https://sts.windows.net/" + s.opt.Tenants[0] + "/", "tid": s.opt.Tenants[0], "appid": app.ClientID,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.opt.TokenLife).Unix(), "uti": rand.Text(), "ver": "1.0",
	}
	switch {
	case who != "":
		says["upn"], says["idtyp"], says["scp"] = who, "user", strings.Join(app.roles(), " ")
	default:
		says["idtyp"] = "app"
		if roles := app.roles(); len(roles) > 0 {
			says["roles"] = roles
		}
	}
	value := unsigned(says)
	s.tokens.mu.Lock()
	for old, t := range s.tokens.byValue {
		if now.Sub(t.expires) > time.Hour { // kept for a while, so that APIs can tell expired from unknown
			delete(s.tokens.byValue, old)
		}
	}
	s.tokens.byValue[value] = token{app, audience, claims, now.Add(s.opt.TokenLife)}
	s.tokens.issued++
	s.tokens.mu.Unlock()
	life := int(s.opt.TokenLife / time.Second)
	return object{"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": value}
}

// roles are what a token says that an app may do.
func (a *App) roles() []string {
	if a.Roles != nil {
		return a.Roles
	}
	return []string{RoleAlertReadWrite, RoleIncidentReadWrite, RoleHuntingRead, RoleLogsRead, RoleApplicationRead, RoleIndicatorReadWrite}
}

// unsigned makes a JWT whose signature is noise: nobody but the fake's own APIs judges it, and they look it up.
func unsigned(claims object) string {
	part := func(v any) string { return base64.RawURLEncoding.EncodeToString(fakekit.JSON(0, v).Body) }
	return part(object{"typ": "JWT", "alg": "RS256", "kid": "fake"}) + "." + part(claims) + "." + base64.RawURLEncoding.EncodeToString([]byte(rand.Text()+rand.Text()))
}

// RevokeTokens makes every token that was issued so far invalid.
func (s *Server) RevokeTokens() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.revoked += uint64(len(s.tokens.byValue))
	clear(s.tokens.byValue)
}

// ExpireSecret makes the secret of an app expired, or valid again. It reports whether the app exists.
func (s *Server) ExpireSecret(clientID string, expired bool) bool {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	for i := range s.opt.Apps {
		if s.opt.Apps[i].ClientID == clientID {
			s.opt.Apps[i].SecretExpired = expired
			return true
		}
	}
	return false
}

// Register adds a certificate (DER) and a federated credential to an app's registration; either may be empty. It reports
// whether the app exists.
func (s *Server) Register(clientID string, certificate []byte, f Federation) bool {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	app := s.findApp(clientID)
	if app == nil {
		return false
	}
	if len(certificate) > 0 {
		app.Certificates = append(slices.Clip(app.Certificates), certificate)
	}
	if f != (Federation{}) {
		app.Federated = append(slices.Clip(app.Federated), f)
	}
	return true
}

func (s *Server) secretExpired(app *App) bool {
	s.tokens.mu.RLock()
	defer s.tokens.mu.RUnlock()
	return app.SecretExpired
}

type verdict int

const (
	tokenGood verdict = iota
	tokenMissing
	tokenUnknown
	tokenExpired
	tokenAudience
	tokenClaims // the API demands claims that it was not issued for
)

// bearer judges the token of a request.
func (s *Server) bearer(r *http.Request, audiences []string) (*App, verdict) {
	value, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || value == "" {
		return nil, s.reject("missing", tokenMissing)
	}
	s.tokens.mu.RLock()
	t, ok := s.tokens.byValue[value]
	s.tokens.mu.RUnlock()
	switch {
	case !ok:
		return nil, s.reject("unknown", tokenUnknown)
	case !s.opt.Now().Before(t.expires):
		return nil, s.reject("expired", tokenExpired)
	case !slices.Contains(audiences, t.audience):
		return nil, s.reject("audience", tokenAudience)
	}
	if d := s.demanded(); d != "" && !sameClaims(t.claims, d) {
		return nil, s.reject("claims", tokenClaims)
	}
	return t.app, tokenGood
}

func (s *Server) reject(why string, v verdict) verdict {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	if s.tokens.rejected == nil {
		s.tokens.rejected = map[string]uint64{}
	}
	s.tokens.rejected[why]++
	return v
}

func (a *App) may(roles ...string) bool {
	return a.Roles == nil || slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(a.Roles, r) })
}

// checkAssertion judges a client assertion and returns the AADSTS code and text of a refusal.
func (s *Server) checkAssertion(app *App, c *fakekit.Call, kind, assertion string) (code, text string) {
	if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return "50027", "Invalid JWT token. The client_assertion_type is not supported."
	}
	var header struct {
		Alg    string `json:"alg"`
		SHA1   string `json:"x5t"`
		SHA256 string `json:"x5t#S256"`
	}
	var claims struct {
		Aud, Iss, Sub string
		Exp, Nbf      float64
	}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 || !decodePart(parts[0], &header) || !decodePart(parts[1], &claims) {
		return "50027", "JWT token is invalid or malformed."
	}
	now := float64(s.opt.Now().Unix())
	if claims.Exp <= now || claims.Nbf > now+300 || claims.Exp > now+24*3600 {
		return "700024", "Client assertion is not within its valid time range."
	}
	s.tokens.mu.RLock()
	federated, certificates := app.Federated, app.Certificates
	s.tokens.mu.RUnlock()
	for _, f := range federated {
		if f.Issuer == claims.Iss && f.Subject == claims.Sub && f.Audience == claims.Aud {
			return "", ""
		}
	}
	if !strings.EqualFold(claims.Iss, app.ClientID) || !strings.EqualFold(claims.Sub, app.ClientID) {
		return "700213", "No matching federated identity record found for presented assertion subject."
	}
	if u, err := url.Parse(claims.Aud); err != nil || u.Path != c.R.URL.Path {
		return "700023", "Client assertion audience claim does not match Realm issuer."
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return "50027", "JWT token is invalid or malformed."
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	for _, der := range certificates {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		if !ok || !named(header.SHA256, header.SHA1, der) {
			continue
		}
		switch header.Alg {
		case "PS256":
			err = rsa.VerifyPSS(key, crypto.SHA256, digest[:], sig, nil)
		case "RS256":
			err = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig)
		default:
			return "50027", "JWT token is signed with an unsupported algorithm."
		}
		if err == nil {
			return "", ""
		}
	}
	return "700027", "The certificate with identifier used to sign the client assertion is not registered on application."
}

// named says whether a header names a certificate by its thumbprint.
func named(byte256, byte1 string, der []byte) bool {
	same := func(text string, sum []byte) bool {
		text = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(text), "=")
		return text == base64.RawURLEncoding.EncodeToString(sum)
	}
	sum256, sum1 := sha256.Sum256(der), sha1.Sum(der)
	if byte256 != "" {
		return same(byte256, sum256[:])
	}
	return byte1 != "" && same(byte1, sum1[:])
}

func decodePart(part string, v any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, v) == nil
}

// sameClaims says whether a request for a token carried what an API demanded, among other things.
func sameClaims(asked, demanded string) bool {
	var a, d map[string]map[string]any
	if json.Unmarshal([]byte(asked), &a) != nil || json.Unmarshal([]byte(demanded), &d) != nil {
		return false
	}
	for kind, all := range d {
		for name := range all {
			if _, ok := a[kind][name]; !ok {
				return false
			}
		}
	}
	return true
}
