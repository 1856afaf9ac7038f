package threatintel

import (
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vendor is the fake on a loopback socket, and a connection's configuration for it.
type vendor struct {
	*azurefake.Server
	t   *testing.T
	url string
}

func newVendor(t *testing.T, o azurefake.Options) *vendor {
	t.Helper()
	if o.Seed == 0 {
		o.Seed = 1
	}
	v := &vendor{Server: azurefake.New(o), t: t}
	t.Cleanup(v.Close)
	s := httptest.NewServer(v.Server)
	t.Cleanup(s.Close)
	v.url = s.URL
	return v
}

func (v *vendor) config(change ...func(*Config)) Config {
	cfg := Config{
		Access: azure.Access{Credential: azure.Credential{
			TenantID: v.Tenant(), ClientID: v.ClientID(), ClientSecret: sdk.NewSecret(v.ClientSecret()), AuthorityURL: v.url,
		}},
		WorkspaceID: v.Workspace(), UploadURL: v.url, ARMURL: v.url, Scope: "https://management.azure.com/.default",
		DefenderURL: v.url, DefScope: "https://api.securitycenter.microsoft.com/.default", PerMinute: 10000,
		Workspace: Workspace{Subscription: "5f1c9a1e-2b7d-4c55-9a0e-0d6b2f4c7a11", ResourceGroup: "soc", Name: "soc"},
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func (v *vendor) open(change ...func(*Config)) *sdktest.Harness {
	v.t.Helper()
	return sdktest.Open(v.t, Connector(), v.config(change...))
}

func toDefender(cfg *Config) { cfg.Target = targetDefender }

// submit calls indicators.submit and decodes the report.
func submit(t *testing.T, h *sdktest.Harness, in any) SubmitOutput {
	t.Helper()
	var out SubmitOutput
	if err := h.Call(t.Context(), "indicators.submit", in, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
