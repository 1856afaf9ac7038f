// Package threatintel is the connector for threat indicators: it takes them as people and products write them, brings them
// into one form, and submits them to Microsoft Sentinel (STIX upload API) or Defender for Endpoint. The same value has the
// same id whoever submits it, so that a repeat changes nothing.
package threatintel

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/ioc"
	"github.com/casewire/casewire/sdk/rest"
)

// Version of the connector.
const Version = "0.1.0"

const (
	targetSentinel = "sentinel"
	targetDefender = "defender"
	targetGraph    = "graph" // retired; it is known so that it can be explained
)

// Config is a connection's configuration.
type Config struct {
	azure.Access
	Target       string         `json:"target" enum:"sentinel,defender,graph" default:"sentinel" doc:"Where indicators go: sentinel (STIX upload API) or defender (Defender for Endpoint). graph names the retired tiIndicators API, and is refused with what replaced it"`
	WorkspaceID  string         `json:"workspace_id,omitempty" doc:"Workspace id of Sentinel (a GUID, not the name); required with target sentinel" example:"9d2f7d8a-0c1e-4c7d-9a57-1f4a4b2f3c11"`
	Workspace    Workspace      `json:"workspace,omitzero" doc:"The same workspace as a resource of Azure; needed to list and to delete"`
	SourceSystem string         `json:"source_system" default:"Casewire" cw:"minlen=1,maxlen=200" doc:"Name that indicators are submitted under; part of their ids. Microsoft Sentinel is reserved"`
	Own          []string       `json:"own,omitempty" doc:"Networks, addresses and domains of your own, which are never submitted" example:"[\"203.0.113.0/24\", \"example.com\"]"`
	TLP          string         `json:"tlp" default:"AMBER" doc:"Marking of indicators that have none"`
	MaxTLP       string         `json:"max_tlp,omitempty" doc:"Strictest marking that may be submitted; default: any"`
	Confidence   int            `json:"confidence" default:"50" cw:"min=0,max=100" doc:"Confidence of indicators that have none"`
	TTLDays      map[string]int `json:"ttl_days,omitempty" cw:"min=1,max=3650" doc:"Days that an indicator lives when its source does not say, by type; default ip and cidr 30, url 60, domain and email 90, hashes 365, others 90"`
	Action       string         `json:"action" enum:"allow,audit,warn,block,block_and_remediate" default:"audit" doc:"What Defender does on indicators that do not say"`
	UploadURL    string         `json:"upload_url,omitempty" cw:"advanced" doc:"Base URL of the upload API; default that of the credential's cloud"`
	ARMURL       string         `json:"arm_url,omitempty" cw:"advanced" doc:"Base URL of Azure Resource Manager; default that of the credential's cloud"`
	Scope        string         `json:"scope,omitempty" cw:"advanced" doc:"Token scope of both; default that of the credential's cloud"`
	DefenderURL  string         `json:"defender_url,omitempty" cw:"advanced" doc:"Base URL of Defender for Endpoint; default that of the credential's cloud"`
	DefScope     string         `json:"defender_scope,omitempty" cw:"advanced" doc:"Token scope of Defender; default that of the credential's cloud"`
	APIVersion   string         `json:"api_version" default:"2024-02-01-preview" cw:"advanced" doc:"Version of the upload API"`
	PerMinute    int            `json:"requests_per_minute,omitempty" cw:"min=1,max=100000,advanced" doc:"Most uploads, or imports, in a minute; default what Microsoft allows: 100 uploads, 30 imports. Lower it if others use the same app"`
}

// Workspace is a Log Analytics workspace as a resource.
type Workspace struct {
	Subscription  string `json:"subscription" cw:"required" doc:"Subscription id" example:"5f1c9a1e-2b7d-4c55-9a0e-0d6b2f4c7a11"`
	ResourceGroup string `json:"resource_group" cw:"required" doc:"Resource group"`
	Name          string `json:"name" cw:"required" doc:"Workspace name"`
}

// Client is one connection.
type Client struct {
	cfg    Config
	target string
	tenant string
	policy policy
	tlp    ioc.TLP
	maxTLP ioc.TLP
	upload *rest.Client
	arm    *rest.Client
	mde    *rest.Client

	session *azure.Session
	need    azure.Need // of the session's token

	quota *quota // of uploads or imports, shared by all connections of an app
	now   func() time.Time

	mu     sync.Mutex
	known  map[string]version // by id: what was confirmed
	order  []string           // of known, oldest first
	keys   map[string]SubmitOutput
	keyed  []string
	active *inventory // of Defender
}

// Connector describes the connector; a main is sdk.Serve(threatintel.Connector()).
func Connector() *sdk.Connector {
	quotas := &quotas{}
	c := sdk.New("threatintel", Version, "Threat indicators for Microsoft Sentinel and Defender for Endpoint.",
		func(_ context.Context, cfg Config, env sdk.Env) (*Client, error) { return open(cfg, env, quotas) }).
		Egress(azure.Egress([]string{"upload_url", "arm_url", "defender_url"},
			func(c azure.Cloud) string { return c.ThreatIntelligence }, func(c azure.Cloud) string { return c.ResourceManager },
			func(c azure.Cloud) string { return c.Defender })...)
	sdk.Action(c, "indicators.submit", "Submit indicators: each becomes, or updates, one object.", (*Client).submit, sdk.Keyed, sdk.DryRuns(),
		sdk.Example("an address and a link", map[string]any{
			"values": []any{"5.45.207.1", "hxxps://bad[.]example[.]net/drop"}, "description": "C2 of case 1204", "tlp": "AMBER", "expires_in": "30d",
		}),
		sdk.Example("a list as text", map[string]any{"format": "csv", "data": "indicator,type,confidence\nbad.example.net,domain,80\n"}))
	sdk.Action(c, "indicators.parse", "Say what would be submitted, and what not and why; nothing is sent.", (*Client).parse, sdk.Read,
		sdk.Example("a private address is refused", map[string]any{"values": []any{"10.0.0.1", "5.45.207.1"}}))
	sdk.Rows(c, "indicators.list", "List indicators.", (*Client).list, sdk.Read,
		sdk.Example("those of high confidence", map[string]any{"min_confidence": 80}))
	sdk.Action(c, "indicators.expire", "End indicators now: they stay, and match nothing any more.", (*Client).expire, sdk.Idempotent,
		sdk.Example("one address", map[string]any{"values": []any{"5.45.207.1"}}))
	sdk.Action(c, "indicators.revoke", "Revoke indicators of Sentinel. This is permanent: what is revoked can never be submitted again under the same source_system.",
		(*Client).revoke, sdk.Idempotent,
		sdk.Example("one address", map[string]any{"values": []any{"5.45.207.1"}, "permanent": true}))
	sdk.Action(c, "indicators.delete", "Delete indicators.", (*Client).remove, sdk.Idempotent,
		sdk.Example("one address", map[string]any{"values": []any{"5.45.207.1"}}))
	azure.SignIn(c, func(c *Client) *azure.Session { return c.session })
	sdk.OnCheck(c, (*Client).check)
	return c
}

const retiredGraph = "names the tiIndicators API of Microsoft Graph (beta), which Microsoft announced to remove by April 2026: " +
	"write sentinel (STIX upload API, role Microsoft Sentinel Contributor on the workspace) or defender (Defender for Endpoint, permission Ti.ReadWrite)"

var guid = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
})

func open(cfg Config, env sdk.Env, quotas *quotas) (*Client, error) {
	c := &Client{
		cfg: cfg, target: cfg.Target, tenant: cmp.Or(cfg.Credential.TenantID, env.Tenant), now: time.Now,
		known: map[string]version{}, keys: map[string]SubmitOutput{},
	}
	if err := c.check0(); err != nil {
		return nil, err
	}
	session, err := cfg.Open(env)
	if err != nil {
		return nil, err
	}
	c.session = session
	cloud := cfg.Cloud()
	app := strings.Join([]string{cfg.Credential.TenantID, cfg.Credential.ClientID}, "/")
	if cfg.Credential.ClientID == "" {
		app = "connection " + env.Connection
	}
	options := rest.Options{Explain: explain, MaxBody: 64 << 20, Timeout: 100 * time.Second}
	if c.target == targetDefender {
		at := cmp.Or(cfg.DefenderURL, cloud.Defender)
		if at == "" {
			return nil, sdk.BadConfig("target", "there is no Defender for Endpoint in the credential's cloud")
		}
		c.need = azure.Need{
			API: "Defender for Endpoint", Scope: cmp.Or(cfg.DefScope, cloud.DefenderScope),
			Permissions: []azure.Permission{{AnyOf: []string{"Ti.ReadWrite", "Ti.ReadWrite.All"}, For: "submit and list indicators"}},
		}
		if c.mde, err = session.Client(azure.API{
			Name: c.need.API, URL: at, Field: "defender_url", Scope: c.need.Scope, Options: options,
		}); err != nil {
			return nil, err
		}
		c.quota = quotas.of(at+" "+app, cmp.Or(cfg.PerMinute, 30))
		return c, nil
	}
	at, arm := cmp.Or(cfg.UploadURL, cloud.ThreatIntelligence), cmp.Or(cfg.ARMURL, cloud.ResourceManager)
	scope := cmp.Or(cfg.Scope, azure.Scope(cloud.ResourceManager))   // both take tokens for Resource Manager
	c.need = azure.Need{API: "Azure Resource Manager", Scope: scope} // what the app may do there is a role, which no token shows
	c.quota = quotas.of(at+" "+app, cmp.Or(cfg.PerMinute, 100))
	if c.upload, err = session.Client(azure.API{Name: "Sentinel upload API", URL: at, Field: "upload_url", Scope: scope, Options: options}); err != nil {
		return nil, err
	}
	if cfg.Workspace.Name != "" {
		c.arm, err = session.Client(azure.API{Name: "Azure Resource Manager", URL: arm, Field: "arm_url", Scope: scope, Options: options})
	}
	return c, err
}

// check0 looks at what can be said of a configuration alone.
func (c *Client) check0() error {
	cfg := &c.cfg
	switch {
	case cfg.Target == targetGraph:
		return sdk.BadConfig("target", "%s", retiredGraph)
	case cfg.Target == targetSentinel && cfg.WorkspaceID == "":
		return sdk.BadConfig("workspace_id", "is required with target sentinel: the GUID that the portal calls Workspace ID")
	case cfg.WorkspaceID != "" && !guid().MatchString(cfg.WorkspaceID):
		return sdk.BadConfig("workspace_id", "%q is not a workspace id: it is the GUID that the portal calls Workspace ID, not the name", cfg.WorkspaceID)
	case strings.EqualFold(strings.TrimSpace(cfg.SourceSystem), "Microsoft Sentinel"):
		return sdk.BadConfig("source_system", "%q is reserved by Microsoft; take the name of the feed or of your team", cfg.SourceSystem)
	}
	var err error
	if c.policy, err = newPolicy(cfg.Own); err != nil {
		return err
	}
	if c.tlp, err = ioc.ParseTLP(cfg.TLP); err != nil {
		return sdk.BadConfig("tlp", "%v", err)
	}
	if cfg.MaxTLP != "" {
		if c.maxTLP, err = ioc.ParseTLP(cfg.MaxTLP); err != nil {
			return sdk.BadConfig("max_tlp", "%v", err)
		}
	}
	for name := range cfg.TTLDays {
		if typeWords[fold(name)] == "" {
			return sdk.BadConfig("ttl_days", "%q is no type of indicator: ip, cidr, domain, url, email, hash, md5, sha1, sha256, sha512, certificate or pattern", name)
		}
	}
	return nil
}

// ttl is how long an indicator of a type lives when its source does not say: addresses change hands, files do not.
func (c *Client) ttl(kind string) time.Duration {
	hash := kind == typeMD5 || kind == typeSHA1 || kind == typeSHA256 || kind == typeSHA512
	days := 0
	for name, n := range c.cfg.TTLDays {
		switch t := typeWords[fold(name)]; {
		case t == kind:
			days = n
		case t == "hash" && hash && days == 0:
			days = n
		}
	}
	if days == 0 {
		switch {
		case kind == typeIP, kind == typeCIDR:
			days = 30
		case kind == typeURL:
			days = 60
		case hash, kind == typeCertificate:
			days = 365
		default:
			days = 90
		}
	}
	return time.Duration(days) * 24 * time.Hour
}

var inSeconds = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)\bin\s+(\d{1,5})\s+seconds?`) })

// explain is azure.Explain, and reads the wait that API Management tells in the text of a 429, and says what to do.
func explain(status int, header http.Header, body []byte, err *sdk.Error) {
	azure.Explain(status, header, body, err)
	switch status {
	case http.StatusTooManyRequests:
		if m := inSeconds().FindSubmatch(body); m != nil && err.RetryAfter == 0 {
			n, perr := strconv.Atoi(string(m[1]))
			if perr == nil {
				err.RetryAfter = time.Duration(n) * time.Second
			}
		}
	case http.StatusForbidden:
		err.Message += "; for Sentinel, give the app the role Microsoft Sentinel Contributor on the workspace; for Defender, the API permission Ti.ReadWrite with admin consent"
	case http.StatusNotFound:
		err.Message += "; check workspace_id (the GUID, not the name) and the addresses"
	}
	err.Message = strings.TrimPrefix(err.Message, "; ")
}

// workspacePath is the workspace as Azure Resource Manager knows it.
func (c *Client) workspacePath() string {
	w := c.cfg.Workspace
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.OperationalInsights/workspaces/%s",
		url.PathEscape(w.Subscription), url.PathEscape(w.ResourceGroup), url.PathEscape(w.Name))
}
