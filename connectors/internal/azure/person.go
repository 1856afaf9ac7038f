package azure

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/sdk"
)

// person gets tokens for a person who signed in once, by the refresh token that the sign-in left. The grant is RFC 6749,
// section 6; MSAL is not asked, because what has to survive is one refresh token and not MSAL's cache with every access
// token in it, and because of the order: a new refresh token is handed to the host before the access token that came with
// it is used.
type person struct {
	teller
	base string // authority with tenant
	http http.Client
	save func([]byte)

	mu    sync.Mutex // one refresh at a time: each may replace the refresh token
	state signedIn
}

// signedIn is what survives of a sign-in. It holds for one app in one tenant of one authority.
type signedIn struct {
	Authority    string    `json:"authority"`
	Tenant       string    `json:"tenant_id"`
	Client       string    `json:"client_id"`
	Account      string    `json:"account,omitempty"`
	RefreshToken string    `json:"refresh_token"`
	SignedIn     time.Time `json:"signed_in,omitzero"`
	Renewed      time.Time `json:"renewed,omitzero"`
}

// sealedState is a connection's state.
type sealedState struct {
	SignIn *signedIn `json:"sign_in,omitempty"`
}

func newPerson(c Credential, o Options) *person {
	u, _ := c.authority() // checked before
	p := &person{
		teller: teller{cred: c, host: u.Host, login: "casewire auth login " + cmp.Or(o.Connection, "CONNECTION")},
		base:   u.String() + "/" + url.PathEscape(c.TenantID),
		http:   http.Client{Transport: o.Transport, CheckRedirect: noRedirect},
		save:   o.SaveState,
	}
	var kept sealedState
	if json.Unmarshal(o.State, &kept) == nil && kept.SignIn != nil && p.mine(kept.SignIn) {
		p.state = *kept.SignIn
		p.refresh = sdk.NewSecret(p.state.RefreshToken)
	}
	return p
}

// mine says whether a sign-in was made for this credential: a configuration may have changed since.
func (p *person) mine(s *signedIn) bool {
	return s.Authority == p.authorityName() && strings.EqualFold(s.Tenant, p.cred.TenantID) && strings.EqualFold(s.Client, p.cred.ClientID)
}

func (p *person) authorityName() string { return p.cred.endpoints().Authority }

func (p *person) close() { p.http.CloseIdleConnections() }

func (p *person) token(ctx context.Context, w want) (*issued, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.RefreshToken == "" {
		e := sdk.Auth("nobody has signed in for app %s in tenant %s: run %s", p.cred.ClientID, p.cred.TenantID, p.login)
		e.Origin, e.Reason = sdk.OriginConfig, "SIGN_IN_REQUIRED"
		return nil, e
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {p.state.RefreshToken}, "scope": {w.scope + openIDScopes}}
	if w.claims != "" {
		form.Set("claims", w.claims)
	}
	a, err := p.post(ctx, "token", w.scope, form)
	if err != nil {
		return nil, err
	}
	return p.keep(a)
}

// openIDScopes go with every request of a person's token: without offline_access there is no new refresh token.
const openIDScopes = " openid profile offline_access"

// granted is an answer of the token endpoint.
type granted struct {
	AccessToken  string      `json:"access_token"`
	RefreshToken string      `json:"refresh_token"`
	IDToken      string      `json:"id_token"`
	ExpiresIn    json.Number `json:"expires_in"`
	RefreshIn    json.Number `json:"refresh_in"`
}

// keep hands the refresh token to the host and returns the access token, in this order.
func (p *person) keep(a *granted) (*issued, error) {
	now := time.Now()
	if a.AccessToken == "" || strings.ContainsFunc(a.AccessToken, notInToken) {
		return nil, sdk.Unavailable("Entra ID answered with a token that cannot be sent")
	}
	if a.RefreshToken != "" && a.RefreshToken != p.state.RefreshToken {
		p.state.RefreshToken, p.state.Renewed = a.RefreshToken, now.UTC()
		p.refresh = sdk.NewSecret(a.RefreshToken)
		if err := p.saveState(); err != nil {
			return nil, err
		}
	}
	tok := &issued{value: a.AccessToken, expires: now.Add(plainLife)}
	if s, err := strconv.ParseFloat(a.ExpiresIn.String(), 64); err == nil && s > 0 && s < 1e9 {
		tok.expires = now.Add(time.Duration(s * float64(time.Second)))
	}
	tok.renewAt = renewal(now, tok.expires)
	if s, err := strconv.ParseFloat(a.RefreshIn.String(), 64); err == nil && s > 0 && now.Add(time.Duration(s)*time.Second).Before(tok.renewAt) {
		tok.renewAt = now.Add(time.Duration(s) * time.Second)
	}
	return tok, nil
}

func (p *person) saveState() error {
	if p.save == nil {
		return nil
	}
	b, err := json.Marshal(sealedState{SignIn: &p.state})
	if err != nil {
		return err
	}
	p.save(b)
	return nil
}

// post asks an endpoint of the authority. Errors are *sdk.Error.
func (p *person) post(ctx context.Context, endpoint, scope string, form url.Values) (*granted, error) {
	var a granted
	if err := p.exchange(ctx, endpoint, scope, form, &a); err != nil {
		return nil, err
	}
	return &a, nil
}

func (p *person) exchange(ctx context.Context, endpoint, scope string, form url.Values, into any) error {
	form.Set("client_id", p.cred.ClientID)
	if !p.cred.ClientSecret.IsZero() && endpoint == "token" {
		form.Set("client_secret", p.cred.ClientSecret.Reveal())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/oauth2/v2.0/"+endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return sdk.BadConfig("/credential/authority_url", "must be a URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return p.explain(ctx, scope, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return p.explain(ctx, scope, &url.Error{Op: "Post", URL: p.base, Err: err})
	}
	if resp.StatusCode != http.StatusOK {
		return p.refused(scope, resp.StatusCode, resp.Header, body)
	}
	if len(body) > maxAnswer || json.Unmarshal(body, into) != nil {
		return sdk.Unavailable("Entra ID at %s answered with something that is no JSON (a proxy?)", p.where())
	}
	return nil
}

// maxAnswer bounds an answer of the authority.
const maxAnswer = 256 << 10

// accountOf reads who signed in. The token came from the authority itself over TLS, so that its signature proves nothing
// more (OpenID Connect Core 3.1.3.7).
func accountOf(idToken string) string {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var c struct {
		Name string `json:"preferred_username"`
		UPN  string `json:"upn"`
		OID  string `json:"oid"`
	}
	if err != nil || json.Unmarshal(b, &c) != nil {
		return ""
	}
	return cmp.Or(c.Name, c.UPN, c.OID)
}
