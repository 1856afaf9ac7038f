package azure

import (
	"path/filepath"
	"strings"
	"time"
)

const wayNames = "client_secret, certificate, certificate_file, federated_token_file, federated_token, managed_identity, sign_in, exec and token"

// ways lists how the credential says that tokens are had. A client secret beside sign_in is the app's, not a way.
func (c *Credential) ways() []string {
	var out []string
	for _, w := range []struct {
		name string
		set  bool
	}{
		{"client_secret", !c.ClientSecret.IsZero() && c.SignIn == ""},
		{"certificate", !c.Certificate.IsZero()},
		{"certificate_file", c.CertificateFile != ""},
		{"federated_token_file", c.FederatedTokenFile != ""},
		{"federated_token", len(c.FederatedToken) > 0},
		{"managed_identity", c.ManagedIdentity != nil},
		{"sign_in", c.SignIn != ""},
		{"exec", len(c.Exec) > 0},
		{"token", !c.Token.IsZero()},
	} {
		if w.set {
			out = append(out, w.name)
		}
	}
	return out
}

// checkWay says what else is wrong with the one way that there is.
func (c *Credential) checkWay(way string, fault func(name, text string)) {
	switch way {
	case "exec":
		if c.Exec[0] == "" {
			fault("/exec/0", "must be the command")
		}
	case "token":
	case "managed_identity":
		c.ManagedIdentity.check(fault)
	default:
		c.checkApp(way, fault)
	}
	for name, path := range map[string]string{"certificate_file": c.CertificateFile, "federated_token_file": c.FederatedTokenFile} {
		if path != "" && !filepath.IsAbs(path) {
			fault("/"+name, "must be an absolute path: connectors run in a directory of their own")
		}
	}
	if way == "federated_token" && c.FederatedToken[0] == "" {
		fault("/federated_token/0", "must be the command")
	}
	if c.ClientSecretExpires != "" {
		if _, err := time.Parse(time.DateOnly, c.ClientSecretExpires); err != nil {
			fault("/client_secret_expires", "must be a day such as 2027-01-31")
		}
	}
}

// checkApp is for the ways that name an app registration.
func (c *Credential) checkApp(way string, fault func(name, text string)) {
	switch t := strings.ToLower(c.TenantID); {
	case t == "":
		fault("/tenant_id", "is required with "+way)
	case t == "common" || t == "organizations" || t == "consumers":
		fault("/tenant_id", "must be the id of one tenant: an app signs in to its own tenant, not to "+t)
	case !tenantRule.MatchString(c.TenantID):
		fault("/tenant_id", "must be the tenant's id or one of its domains")
	}
	if c.ClientID == "" {
		fault("/client_id", "is required with "+way)
	}
}
