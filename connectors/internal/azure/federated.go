package azure

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/casewire/casewire/sdk"
)

// confidentialCredential makes MSAL's credential out of ours.
func (c *Credential) confidentialCredential(field string) (cred confidential.Credential, err error) {
	switch way := c.ways()[0]; way {
	case "client_secret":
		if cred, err = confidential.NewCredFromSecret(c.ClientSecret.Reveal()); err != nil {
			return cred, sdk.BadConfig(field+"/client_secret", "cannot be used")
		}
		return cred, nil
	case "federated_token_file", "federated_token":
		return confidential.NewCredFromAssertionCallback(func(ctx context.Context, _ confidential.AssertionRequestOptions) (string, error) {
			return c.assertion(ctx)
		}), nil
	default:
		pair, err := c.appKey(field)
		if err != nil {
			return cred, err
		}
		if cred, err = confidential.NewCredFromCert(pair.chain, pair.key); err != nil {
			return cred, sdk.BadConfig(field+"/"+way, "cannot be used: %v", err)
		}
		return cred, nil
	}
}

// assertion reads the token of another issuer, anew each time: files of this kind are replaced about once an hour.
func (c *Credential) assertion(ctx context.Context) (string, error) {
	if len(c.FederatedToken) > 0 {
		out, err := run(ctx, c.FederatedToken)
		if err != nil {
			return "", err
		}
		return checkAssertion(string(bytes.TrimSpace(out)), "the command "+quote(c.FederatedToken[0])+" printed")
	}
	b, err := readSmall(c.FederatedTokenFile)
	if err != nil {
		e := commandError("federated_token_file cannot be read: %v", err)
		e.Message += " (on Kubernetes the pod needs the label azure.workload.identity/use; a confined connector may read the file that is configured, and directories in plugins.sandbox.read)"
		return "", e
	}
	return checkAssertion(string(bytes.TrimSpace(b)), "federated_token_file holds")
}

// checkAssertion says in plain words what Entra ID would say in others.
func checkAssertion(token, where string) (string, error) {
	if strings.Count(token, ".") != 2 || strings.ContainsFunc(token, notInToken) {
		return "", commandError("%s something that is no JWT", where)
	}
	if end := jwtEnd(token); !end.IsZero() && time.Now().After(end) {
		return "", commandError("%s a token that expired at %s: whoever renews it has stopped, or this machine's clock is wrong", where, end.UTC().Format(time.RFC3339))
	}
	return token, nil
}
