package azure

import (
	"slices"
	"strings"
	"testing"
)

// The addresses that issue tokens of managed identities are declared for connections that have one: of others a sandbox
// must not let them through, and they are no vendor's host that connections share.
func TestEgressOfManagedIdentities(t *testing.T) {
	t.Parallel()
	got := Egress([]string{"graph_url"}, func(c Cloud) string { return c.Graph }, func(c Cloud) string { return c.Defender })
	for _, want := range []string{
		"{config.credential.authority_url}", "{config.graph_url}", "{config.credential.managed_identity?169.254.169.254:80}",
		"{config.credential.managed_identity?localhost:40342}", "graph.microsoft.com", "dod-graph.microsoft.us", "login.microsoftonline.us",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not declared", want)
		}
	}
	for _, host := range got {
		if host == "" || !strings.HasPrefix(host, "{") && (strings.HasPrefix(host, "169.") || strings.Contains(host, ":")) {
			t.Errorf("%q is declared for every connection", host)
		}
	}
}
