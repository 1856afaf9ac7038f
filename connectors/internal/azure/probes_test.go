package azure

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// session opens a session as a connector does.
func openSession(t *testing.T, c Credential, graphURL string) *Session {
	t.Helper()
	s, err := Access{Credential: c}.Open(sdk.Env{Connection: "alerts"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Tokens.Close()
		s.Transport.CloseIdleConnections()
	})
	if graphURL != "" {
		if _, err := s.Client(API{Name: GraphName, URL: graphURL, Scope: graph}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func find(probes []sdk.Probe, name string) sdk.Probe {
	i := slices.IndexFunc(probes, func(p sdk.Probe) bool { return p.Name == name })
	if i < 0 {
		return sdk.Probe{}
	}
	return probes[i]
}

var alertNeeds = []Need{
	{API: GraphName, Scope: graph, Permissions: []Permission{
		{AnyOf: []string{"SecurityAlert.Read.All", "SecurityAlert.ReadWrite.All"}, For: "read alerts"},
		{AnyOf: []string{"SecurityIncident.Read.All"}, For: "read incidents", Optional: true},
		{AnyOf: []string{"ThreatHunting.Read.All"}, For: "hunt"},
	}},
	{API: "Log Analytics", Scope: Public.LogAnalyticsScope},
}

func TestCheck(t *testing.T) {
	t.Parallel()
	_, srv := fake(t, func(o *azurefake.Options) { o.Apps[0].Roles = []string{"SecurityAlert.ReadWrite.All"} })
	probes := openSession(t, bySecret(srv.URL), srv.URL).Check(t.Context(), alertNeeds...)
	if probes[0].Name != "token" {
		t.Fatalf("the token is not the first: %+v", probes)
	}
	for name, want := range map[string]sdk.Probe{
		"token":                          {Status: sdk.ProbeOK, Summary: "for https://graph.microsoft.com, good for 1h0m0s; may: SecurityAlert.ReadWrite.All"},
		"token for Log Analytics":        {Status: sdk.ProbeOK, Summary: "for https://api.loganalytics.io, good for 1h0m0s; may: SecurityAlert.ReadWrite.All"},
		"permissions of Microsoft Graph": {Status: sdk.ProbeWarning, Summary: "missing: SecurityIncident.Read.All (to read incidents), ThreatHunting.Read.All (to hunt)", Remedy: "add ThreatHunting.Read.All (application) of Microsoft Graph"},
		"client secret":                  {Status: sdk.ProbeSkipped, Summary: "when it ends is not known", Remedy: "client_secret_expires"},
	} {
		got := find(probes, name)
		if got.Status != want.Status || got.Summary != want.Summary || !strings.Contains(got.Remedy, want.Remedy) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	wrong := bySecret(srv.URL)
	wrong.ClientSecret = plugin.NewSecret("wrong-" + secret)
	got := openSession(t, wrong, srv.URL).Check(t.Context(), alertNeeds...)[0]
	if got.Status != sdk.ProbeFailed || !strings.Contains(got.Summary, "AADSTS7000215: the client secret is wrong") || !strings.HasSuffix(got.Remedy, "error?code=7000215") || strings.Contains(got.Summary, secret) {
		t.Errorf("got %+v", got)
	}
	got = openSession(t, bySecret("http://127.0.0.1:1"), "").Check(t.Context(), alertNeeds...)[0]
	if got.Status != sdk.ProbeFailed || !strings.Contains(got.Remedy, "127.0.0.1:1") {
		t.Errorf("got %+v", got)
	}
}

func TestExpiries(t *testing.T) {
	t.Parallel()
	in := func(days int) time.Time { return time.Now().Add(time.Duration(days)*24*time.Hour + time.Hour) }
	for _, tc := range []struct {
		days int
		want sdk.ProbeStatus
	}{{90, sdk.ProbeOK}, {29, sdk.ProbeWarning}, {6, sdk.ProbeFailed}} {
		pair := newChain(t, in(tc.days))
		f, srv := fake(t, func(o *azurefake.Options) {
			o.Apps[0].Certificates, o.Apps[0].SecretEnds = [][]byte{pair.leaf.Raw}, in(tc.days)
		})
		// What the app's own registration says, through Microsoft Graph.
		got := find(openSession(t, bySecret(srv.URL), srv.URL).Check(t.Context(), alertNeeds[0]), "client secret")
		if got.Status != tc.want || !strings.Contains(got.Summary, in(tc.days).UTC().Format(time.DateOnly)) || (got.Remedy == "") != (tc.want == sdk.ProbeOK) {
			t.Errorf("asked, %d days: %+v", tc.days, got)
		}
		// What the configuration says; then nobody is asked.
		before := f.Ledger().Requests[azurefake.RouteApplications]["200"]
		said := bySecret(srv.URL)
		said.ClientSecretExpires = in(tc.days).UTC().Format(time.DateOnly)
		if got := find(openSession(t, said, srv.URL).Check(t.Context(), alertNeeds[0]), "client secret"); got.Status != tc.want {
			t.Errorf("said, %d days: %+v", tc.days, got)
		}
		if f.Ledger().Requests[azurefake.RouteApplications]["200"] != before {
			t.Error("asked in spite of client_secret_expires")
		}
		byCert := bySecret(srv.URL)
		byCert.ClientSecret, byCert.Certificate = sdk.Secret{}, plugin.NewSecret(string(pair.pem(t)))
		if got := find(openSession(t, byCert, srv.URL).Check(t.Context(), alertNeeds[0]), "certificate"); got.Status != tc.want || !strings.Contains(got.Summary, "in ") || !got.Expires.Equal(pair.leaf.NotAfter) {
			t.Errorf("certificate, %d days: %+v", tc.days, got)
		}
	}
	if got := expiry("x", time.Now().Add(-time.Hour), time.Now(), "do"); got.Status != sdk.ProbeFailed || !strings.HasPrefix(got.Summary, "expired on") {
		t.Errorf("got %+v", got)
	}
}

func TestCheckOfOtherWays(t *testing.T) {
	t.Parallel()
	_, srv := signInFake(t)
	person := Credential{TenantID: tenant, ClientID: appID, SignIn: "user", AuthorityURL: srv.URL}
	got := openSession(t, person, "").Check(t.Context(), alertNeeds[0])
	if len(got) != 1 || got[0].Status != sdk.ProbeFailed || !strings.Contains(got[0].Summary, "casewire auth login alerts") || got[0].Remedy == "" {
		t.Errorf("nobody signed in: %+v", got)
	}
	for name, tc := range map[string]struct {
		token  string
		status sdk.ProbeStatus
		want   string
	}{
		"opaque":       {"opaque", sdk.ProbeOK, "as it was configured"},
		"of a person":  {jwt(t, map[string]any{"aud": "https://graph.microsoft.com/", "upn": "a@b", "scp": "User.Read SecurityAlert.Read.All", "exp": time.Now().Add(time.Hour).Unix()}), sdk.ProbeOK, "good for 1h0m0s, on behalf of a@b; may: SecurityAlert.Read.All, User.Read"},
		"by GUID":      {jwt(t, map[string]any{"aud": "00000003-0000-0000-c000-000000000000", "exp": time.Now().Add(time.Hour).Unix()}), sdk.ProbeOK, "good for"},
		"expired":      {jwt(t, map[string]any{"aud": "https://graph.microsoft.com", "exp": time.Now().Add(-time.Hour).Unix()}), sdk.ProbeFailed, "the configured token expired at"},
		"for another":  {jwt(t, map[string]any{"aud": []string{"https://management.azure.com"}}), sdk.ProbeWarning, "the token is for https://management.azure.com"},
		"odd audience": {jwt(t, map[string]any{"aud": 7}), sdk.ProbeOK, "as it was configured"},
	} {
		got := openSession(t, Credential{Token: plugin.NewSecret(tc.token)}, "").Check(t.Context(), alertNeeds[0])
		if got[0].Status != tc.status || !strings.Contains(got[0].Summary, tc.want) || strings.Contains(got[0].Summary, tc.token) {
			t.Errorf("%s: got %+v", name, got[0])
		}
	}
	if !sameResource("https://management.core.windows.net/", "https://management.azure.com") || sameResource("https://graph.microsoft.com", "https://graph.microsoft.us") {
		t.Error("names of APIs")
	}
}
