// Package azure is what the Microsoft connectors share: Entra ID credentials and tokens (by MSAL), the endpoints of
// Microsoft's clouds, and the error envelope of Graph, Log Analytics and Azure Resource Manager. It knows no product.
package azure

import (
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/casewire/casewire/sdk"
)

// Credential is an Entra ID credential as it stands in a connection's configuration under "credential". Exactly one of
// client_secret, certificate, exec and token says how tokens are had.
type Credential struct {
	TenantID     string     `json:"tenant_id" doc:"Entra tenant: its id, or one of its domains" example:"5f1c9a1e-2b7d-4c55-9a0e-0d6b2f4c7a11"`
	ClientID     string     `json:"client_id" doc:"Application (client) id of the app registration" example:"0a3c7f52-6c1e-4b07-8a55-2f9d0c4b7e10"`
	ClientSecret sdk.Secret `json:"client_secret" doc:"Value (not the id) of a client secret of the app"`
	Certificate  sdk.Secret `json:"certificate" doc:"Certificate and unencrypted RSA private key, both as PEM, whose certificate the app knows"`
	Exec         []string   `json:"exec" doc:"Command and arguments; it prints a token, or JSON with access_token and expires_on. {scope} and {resource} in an argument are replaced; no shell is involved"`
	Token        sdk.Secret `json:"token" doc:"A bearer token that somebody else renews"`
	Cloud        string     `json:"cloud" enum:"public,us_gov,us_dod,china" default:"public" doc:"Microsoft cloud whose endpoints are used where no others are configured: public (and US GCC), us_gov (GCC High), us_dod, china (21Vianet)"`
	AuthorityURL string     `json:"authority_url,omitempty" doc:"Where tokens are issued; default that of the cloud"`
}

// Cloud names the endpoints of one of Microsoft's clouds. A connector's configuration overrides each of them.
type Cloud struct {
	Authority       string // issues tokens
	Graph           string
	ResourceManager string
	LogAnalytics    string
	// LogAnalyticsScope differs from the endpoint: the public service still goes by its old name.
	LogAnalyticsScope  string
	ThreatIntelligence string // uploads of STIX objects to Sentinel
	Defender           string // Defender for Endpoint; empty where there is none
	DefenderScope      string
}

// The clouds. Government community cloud (GCC, not High) uses Public.
var (
	Public = Cloud{
		Authority: "https://login.microsoftonline.com", Graph: "https://graph.microsoft.com",
		ResourceManager: "https://management.azure.com", LogAnalytics: "https://api.loganalytics.azure.com",
		LogAnalyticsScope: "https://api.loganalytics.io/.default", ThreatIntelligence: "https://api.ti.sentinel.azure.com",
		Defender: "https://api.security.microsoft.com", DefenderScope: "https://api.securitycenter.microsoft.com/.default",
	}
	USGovernment = Cloud{
		Authority: "https://login.microsoftonline.us", Graph: "https://graph.microsoft.us",
		ResourceManager: "https://management.usgovcloudapi.net", LogAnalytics: "https://api.loganalytics.us",
		LogAnalyticsScope: "https://api.loganalytics.us/.default", ThreatIntelligence: "https://api.ti.sentinel.azure.us",
		Defender: "https://api-gov.securitycenter.microsoft.us", DefenderScope: "https://api-gov.securitycenter.microsoft.us/.default",
	}
	USDefense = Cloud{
		Authority: "https://login.microsoftonline.us", Graph: "https://dod-graph.microsoft.us",
		ResourceManager: "https://management.usgovcloudapi.net", LogAnalytics: "https://api.loganalytics.us",
		LogAnalyticsScope: "https://api.loganalytics.us/.default", ThreatIntelligence: "https://api.ti.sentinel.azure.us",
		Defender: "https://api-gov.securitycenter.microsoft.us", DefenderScope: "https://api-gov.securitycenter.microsoft.us/.default",
	}
	China = Cloud{
		Authority: "https://login.partner.microsoftonline.cn", Graph: "https://microsoftgraph.chinacloudapi.cn",
		ResourceManager: "https://management.chinacloudapi.cn", LogAnalytics: "https://api.loganalytics.azure.cn",
		LogAnalyticsScope: "https://api.loganalytics.azure.cn/.default", ThreatIntelligence: "https://api.ti.sentinel.azure.cn",
	}
)

var clouds = map[string]Cloud{"public": Public, "us_gov": USGovernment, "us_dod": USDefense, "china": China}

// endpoints of the credential's cloud, with the configured authority.
func (c *Credential) endpoints() Cloud {
	cloud, ok := clouds[c.Cloud]
	if !ok {
		cloud = Public
	}
	cloud.Authority = cmp.Or(c.AuthorityURL, cloud.Authority)
	return cloud
}

// Scope is the scope for everything that an app may do at an endpoint.
func Scope(endpoint string) string { return strings.TrimRight(endpoint, "/") + "/.default" }

// Options of NewTokens. The zero value works.
type Options struct {
	// Transport reaches the authority; default rest.Transport(rest.TransportOptions{}).
	Transport http.RoundTripper
	// Field is the JSON pointer of the credential in the configuration; default "/credential".
	Field string
	// State is what an earlier Tokens saved by SaveState: what must survive a restart, such as a refresh token.
	State     []byte
	SaveState func([]byte)
}

var tenantRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,251}[A-Za-z0-9]$`)

// check says everything that is wrong with the credential. The error is an *sdk.Error with one violation per fault.
func (c *Credential) check(field string) error {
	bad := sdk.BadConfig("", "invalid configuration")
	fault := func(name, text string) {
		bad.Violations = append(bad.Violations, sdk.BadConfig(field+name, "%s", text).Violations...)
	}
	var ways []string
	for name, set := range map[string]bool{
		"client_secret": !c.ClientSecret.IsZero(), "certificate": !c.Certificate.IsZero(), "exec": len(c.Exec) > 0, "token": !c.Token.IsZero(),
	} {
		if set {
			ways = append(ways, name)
		}
	}
	switch {
	case len(ways) == 0:
		fault("", "says no way to have a token: give one of client_secret, certificate, exec and token")
	case len(ways) > 1:
		fault("", "says several ways to have a token; keep one of client_secret, certificate, exec and token")
	case ways[0] == "client_secret" || ways[0] == "certificate":
		switch t := strings.ToLower(c.TenantID); {
		case t == "":
			fault("/tenant_id", "is required with "+ways[0])
		case t == "common" || t == "organizations" || t == "consumers":
			fault("/tenant_id", "must be the id of one tenant: an app signs in to its own tenant, not to "+t)
		case !tenantRule.MatchString(c.TenantID):
			fault("/tenant_id", "must be the tenant's id or one of its domains")
		}
		if c.ClientID == "" {
			fault("/client_id", "is required with "+ways[0])
		}
	case ways[0] == "exec" && c.Exec[0] == "":
		fault("/exec/0", "must be the command")
	}
	if _, err := c.authority(); err != "" {
		fault("/authority_url", err)
	}
	if len(bad.Violations) > 0 {
		return bad
	}
	return nil
}

// authority reads authority_url; the text says what is wrong with it.
func (c *Credential) authority() (*url.URL, string) {
	u, err := url.Parse(c.endpoints().Authority)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, "must be a URL such as " + Public.Authority
	case u.Scheme == "http" && !loopback(u):
		return nil, "is plain http: secrets would travel in clear; use https (http is for loopback addresses only)"
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, ""
}

func loopback(u *url.URL) bool {
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && a.Unmap().IsLoopback()
}

// confidentialCredential makes MSAL's credential out of ours.
func (c *Credential) confidentialCredential(field string) (confidential.Credential, error) {
	if c.Certificate.IsZero() {
		cred, err := confidential.NewCredFromSecret(c.ClientSecret.Reveal())
		if err != nil {
			return cred, sdk.BadConfig(field+"/client_secret", "cannot be used")
		}
		return cred, nil
	}
	var zero confidential.Credential
	pem := c.Certificate.Reveal()
	if strings.Contains(pem, "ENCRYPTED") {
		return zero, sdk.BadConfig(field+"/certificate", "has an encrypted private key; decrypt it (openssl pkcs8 -topk8 -nocrypt) and keep the result where secrets are kept")
	}
	certs, key, err := confidential.CertFromPEM([]byte(pem), "")
	if err != nil {
		return zero, sdk.BadConfig(field+"/certificate", "must be PEM with a certificate and its RSA private key: %v", err)
	}
	leaf, why := matching(certs, key)
	if why != "" {
		return zero, sdk.BadConfig(field+"/certificate", "%s", why)
	}
	cred, err := confidential.NewCredFromCert(leaf, key)
	if err != nil {
		return zero, sdk.BadConfig(field+"/certificate", "cannot be used: %v", err)
	}
	return cred, nil
}

// matching puts the certificate that belongs to the key first.
func matching(certs []*x509.Certificate, key crypto.PrivateKey) ([]*x509.Certificate, string) {
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, "has a private key that is not RSA; Entra ID takes RSA keys only"
	}
	for i, cert := range certs {
		if public, ok := cert.PublicKey.(*rsa.PublicKey); ok && public.Equal(&private.PublicKey) {
			certs[0], certs[i] = certs[i], certs[0]
			return certs, ""
		}
	}
	return nil, "has a private key that belongs to none of its certificates"
}
