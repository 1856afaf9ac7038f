// Package azure is what the Microsoft connectors share: Entra ID credentials and tokens (by MSAL), the endpoints of
// Microsoft's clouds, and the error envelope of Graph, Log Analytics and Azure Resource Manager. It knows no product.
package azure

import (
	"cmp"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// Credential is an Entra ID credential as it stands in a connection's configuration under "credential". Exactly one of
// client_secret, certificate, certificate_file, federated_token_file, federated_token, managed_identity, sign_in, exec and
// token says how tokens are had; client_secret may stand beside sign_in.
type Credential struct {
	TenantID            string     `json:"tenant_id" doc:"Entra tenant: its id, or one of its domains" example:"5f1c9a1e-2b7d-4c55-9a0e-0d6b2f4c7a11"`
	ClientID            string     `json:"client_id" doc:"Application (client) id of the app registration" example:"0a3c7f52-6c1e-4b07-8a55-2f9d0c4b7e10"`
	ClientSecret        sdk.Secret `json:"client_secret" doc:"Value (not the id) of a client secret of the app"`
	ClientSecretExpires string     `json:"client_secret_expires,omitempty" doc:"Day on which the secret ends, so that casewire doctor warns before. Not needed where the app may read its own registration (Application.Read.All)" example:"2027-01-31" cw:"advanced"`
	Certificate         sdk.Secret `json:"certificate" doc:"Certificate (with its chain, if there is one) and RSA private key: PEM, or PKCS#12 (PFX) in base64"`
	CertificateFile     string     `json:"certificate_file,omitempty" doc:"Absolute path of a PEM or PKCS#12 file with the same; it is read again at each renewal, so that it can be replaced while the host runs"`
	CertificatePassword sdk.Secret `json:"certificate_password,omitzero" doc:"Password of the PKCS#12 file"`
	FederatedTokenFile  string     `json:"federated_token_file,omitempty" doc:"Absolute path of a token that another issuer renews (workload identity federation); it is read for each request. On Kubernetes the value of AZURE_FEDERATED_TOKEN_FILE"`
	FederatedToken      []string   `json:"federated_token,omitempty" doc:"Command and arguments; it prints such a token. No shell is involved"`
	ManagedIdentity     *Identity  `json:"managed_identity,omitempty" doc:"Identity of the Azure machine, app or container that the host runs on; {} is the system-assigned one"`
	SignIn              string     `json:"sign_in,omitempty" enum:"user" doc:"user: a person signs in once (casewire auth login), and the app acts for that person from then on"`
	Exec                []string   `json:"exec" doc:"Command and arguments; it prints a token, or JSON with access_token and expires_on. {scope} and {resource} in an argument are replaced; no shell is involved"`
	Token               sdk.Secret `json:"token" doc:"A bearer token that somebody else renews"`
	Cloud               string     `json:"cloud" enum:"public,us_gov,us_dod,china" default:"public" doc:"Microsoft cloud whose endpoints are used where no others are configured: public (and US GCC), us_gov (GCC High), us_dod, china (21Vianet)"`
	AuthorityURL        string     `json:"authority_url,omitempty" doc:"Where tokens are issued; default that of the cloud"`
}

// Identity is a managed identity. At most one of the three ids is given; none means the system-assigned identity.
type Identity struct {
	ClientID   string     `json:"client_id,omitempty" doc:"Client id of a user-assigned identity"`
	ResourceID string     `json:"resource_id,omitempty" doc:"Azure resource id of a user-assigned identity"`
	ObjectID   string     `json:"object_id,omitempty" doc:"Object (principal) id of a user-assigned identity"`
	Source     string     `json:"source,omitempty" enum:"imds,app_service,arc" doc:"What issues tokens: imds (virtual machines, scale sets, Kubernetes), app_service (also Functions and Container Apps), arc. Default app_service where endpoint and header are given, else imds"`
	Endpoint   sdk.Secret `json:"endpoint,omitzero" doc:"Address of the token endpoint: env:IDENTITY_ENDPOINT on App Service and Arc; not needed for imds"`
	Header     sdk.Secret `json:"header,omitzero" doc:"env:IDENTITY_HEADER on App Service"`
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
	// Connection is what people call the connection, for messages.
	Connection string
}

var tenantRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,251}[A-Za-z0-9]$`)

// check says everything that is wrong with the credential. The error is an *sdk.Error with one violation per fault.
func (c *Credential) check(field string) error {
	bad := sdk.BadConfig("", "invalid configuration")
	fault := func(name, text string) {
		bad.Violations = append(bad.Violations, sdk.BadConfig(field+name, "%s", text).Violations...)
	}
	ways := c.ways()
	switch {
	case len(ways) == 0:
		fault("", "says no way to have a token: give one of "+wayNames)
	case len(ways) > 1:
		fault("", "says several ways to have a token ("+strings.Join(ways, ", ")+"); keep one of "+wayNames)
	default:
		c.checkWay(ways[0], fault)
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
