package azure

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/casewire/casewire/sdk"
)

// entra gets tokens by the client credentials grant.
type entra struct {
	teller
	field     string
	authority string // with tenant; always https, as MSAL wants it
	http      *authorityClient
	known     bool // one of Microsoft's authorities

	mu     sync.Mutex
	client *confidential.Client // replaced to forget its cache
}

func newEntra(c Credential, field string, transport http.RoundTripper) (*entra, error) {
	u, _ := c.authority() // checked before
	e := &entra{teller: teller{cred: c, host: u.Host}, field: field, http: &authorityClient{http: http.Client{Transport: transport, CheckRedirect: noRedirect}}}
	e.authority = u.Scheme + "://" + u.Host + u.Path + "/" + c.TenantID
	if u.Scheme == "http" {
		// MSAL speaks to https authorities only. It is told of the usual one, and its requests are turned around on the way.
		e.http.instead = u
		e.authority = Public.Authority + "/" + c.TenantID
	}
	e.known = e.http.instead != nil || isMicrosoft(u.Hostname())
	_, err := e.msal()
	return e, err
}

// noRedirect: a secret is not posted to where an answer points.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// isMicrosoft says whether the issuer of tokens is one that Microsoft's instance discovery knows. Of others (a private
// cloud, a test) discovery must not ask the public one.
func isMicrosoft(host string) bool {
	for _, suffix := range []string{
		"login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net", "login.microsoftonline.us",
		"login.usgovcloudapi.net", "login.partner.microsoftonline.cn", "login.chinacloudapi.cn",
		"login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg",
	} {
		if strings.EqualFold(host, suffix) {
			return true
		}
	}
	return false
}

// msal returns MSAL's client, made on first use: then the certificate is read, too.
func (e *entra) msal() (*confidential.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return e.client, nil
	}
	inner, err := e.cred.confidentialCredential(e.field)
	if err != nil {
		return nil, err
	}
	c, err := confidential.New(e.authority, e.cred.ClientID, inner,
		confidential.WithHTTPClient(e.http),
		confidential.WithInstanceDiscovery(e.known && e.http.instead == nil),
		// An environment variable must not send secrets to another region.
		confidential.WithAzureRegion("DisableMsalForceRegion"),
		// Tokens of those who can answer a demand for claims live up to a day, and are revoked within minutes.
		confidential.WithClientCapabilities([]string{"CP1"}),
		confidential.WithX5C(), // lets apps trust a subject name and issuer, so that certificates can be rotated
	)
	if err != nil {
		return nil, sdk.BadConfig(e.field, "is refused by MSAL: %s", e.redact(err.Error()))
	}
	e.client = &c
	return e.client, nil
}

func (e *entra) token(ctx context.Context, w want) (*issued, error) {
	if w.fresh {
		e.mu.Lock()
		e.client = nil // and its cache with it
		e.mu.Unlock()
	}
	c, err := e.msal()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var opts []confidential.AcquireByCredentialOption
	if w.claims != "" {
		opts = append(opts, confidential.WithClaims(w.claims))
	}
	res, err := c.AcquireTokenByCredential(ctx, []string{w.scope}, opts...)
	if err != nil {
		return nil, e.explain(ctx, w.scope, err)
	}
	tok := &issued{value: res.AccessToken, expires: res.ExpiresOn, renewAt: renewal(now, res.ExpiresOn)}
	if r := res.Metadata.RefreshOn; r.After(now) && r.Before(tok.renewAt) {
		tok.renewAt = r
	}
	if tok.value == "" || strings.ContainsFunc(tok.value, notInToken) {
		return nil, sdk.Unavailable("Entra ID answered with a token that cannot be sent")
	}
	return tok, nil
}

// authorityClient is the HTTP client that MSAL is given.
type authorityClient struct {
	http    http.Client
	instead *url.URL // where everything goes, if set
}

// Do sends one of MSAL's requests.
func (a *authorityClient) Do(req *http.Request) (*http.Response, error) {
	if a.instead == nil {
		return a.http.Do(req) //nolint:gosec // the address is the configured authority
	}
	out := req.Clone(req.Context())
	if strings.EqualFold("https://"+out.URL.Host, Public.Authority) {
		out.URL.Path = a.instead.Path + out.URL.Path
	}
	out.URL.Scheme, out.URL.Host, out.Host = a.instead.Scheme, a.instead.Host, ""
	return a.http.Do(out) //nolint:gosec // the address is the configured authority
}

// CloseIdleConnections closes what is open to the authority.
func (a *authorityClient) CloseIdleConnections() { a.http.CloseIdleConnections() }

func (e *entra) close() { e.http.CloseIdleConnections() }

// Close closes idle connections to where tokens come from.
func (t *Tokens) Close() error {
	if c, ok := t.source.(interface{ close() }); ok {
		c.close()
	}
	return nil
}
