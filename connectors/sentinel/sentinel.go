// Package sentinel is the connector for alerts and incidents of Microsoft Sentinel and Defender through Microsoft Graph:
// the triggers alerts (a poll that is the truth, and change notifications that are hints) and incidents, actions on both,
// and hunting queries. It knows nothing of cases.
package sentinel

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Version of the connector.
const Version = "0.1.0"

// Config is a connection's configuration.
type Config struct {
	azure.Access
	ARM
	GraphURL   string `json:"graph_url,omitempty" doc:"Base URL of Microsoft Graph; default that of the credential's cloud"`
	GraphScope string `json:"graph_scope,omitempty" doc:"Token scope; default graph_url/.default"`

	Push         string     `json:"push" enum:"manage,receive,off" default:"off" doc:"Change notifications: manage subscribes, renews and adopts; receive takes notifications that somebody else subscribed to; off polls only"`
	PushResource string     `json:"push_resource" default:"security/alerts_v2" doc:"What to subscribe to. Graph documents subscriptions only for the retired security/alerts; a tenant may refuse alerts_v2, and polling goes on"`
	ClientState  sdk.Secret `json:"client_state,omitzero" doc:"Shared secret of the notifications. Required for receive; manage derives one"`
	PushLife     string     `json:"push_life" default:"72h" doc:"Life of a subscription, 45m to 720h; it is renewed at half of it and at least daily"`

	Encryption Encryption `json:"encryption,omitzero" doc:"Certificate for notifications that carry the resource, encrypted. Microsoft Graph does not offer them for security alerts; a resource in push_resource that has them can be received"`

	Overlap  string `json:"overlap" default:"10m" doc:"How far behind the newest alert each poll looks again, for alerts that are indexed late"`
	Lookback string `json:"lookback" default:"24h" doc:"How far back the first poll and the hourly sweep look"`
	Filter   string `json:"filter,omitempty" doc:"Further OData filter of the trigger alerts, joined with and" example:"serviceSource eq 'microsoftSentinel'"`
	PageSize int    `json:"page_size" default:"100" cw:"min=1,max=1000" doc:"Alerts a page"`

	IncidentFilter string `json:"incident_filter,omitempty" doc:"Further OData filter of the trigger incidents, joined with and, in the words of the source: severity for graph, properties/severity for arm" example:"severity eq 'high'"`
	QuietAfter     string `json:"quiet_after" default:"168h" doc:"How long a source may bring nothing new before the check warns; 0s never warns"`
}

// maxAnswer bounds one answer: a page of incidents with their alerts.
const maxAnswer = 32 << 20

// Client is one connection.
type Client struct {
	cfg         Config
	env         sdk.Env
	api         *rest.Client
	arm         *armClient // nil without a workspace
	session     *azure.Session
	hunting     *rest.Client // the same API with the patience that queries need
	tenant      string
	graphHost   string
	clientState string
	life        time.Duration
	overlap     time.Duration
	lookback    time.Duration
	quietAfter  time.Duration
	rich        *rich   // nil: no encrypted notifications
	keys        keyRing // of the authority, for what vouches for encrypted notifications

	// verify is set when something said that the subscription may be gone.
	verify atomic.Bool
	mu     sync.Mutex
	// subscription is the id that the last poll knew; notifications of others are counted.
	subscription string
	subExpires   time.Time
	subErr       error
}

// Connector describes the connector; a main is sdk.Serve(sentinel.Connector()).
func Connector() *sdk.Connector {
	c := sdk.New("sentinel", Version, "Microsoft Sentinel and Defender alerts through Microsoft Graph.", open).
		Egress(azure.Egress([]string{"graph_url", "arm_url"},
			func(c azure.Cloud) string { return c.Graph }, func(c azure.Cloud) string { return c.ResourceManager })...)
	sdk.AddTrigger(c, sdk.Trigger[*Client, cursor]{
		Name:     "alerts",
		Summary:  "Alerts as they are created and changed.",
		Emits:    []string{event.TypeAlert},
		Interval: time.Minute,
		Poll:     (*Client).poll,
		Hook:     (*Client).hook,
		HookRules: sdk.HookRules{
			HandshakeQuery: "validationToken", Methods: []string{http.MethodPost}, JSON: true, MaxBody: 1 << 20,
		},
		Resolve:      (*Client).resolve,
		ResolveLimit: 16,
	})
	addIncidentTrigger(c)
	addAlertActions(c)
	addIncidentActions(c)
	addARM(c)
	azure.SignIn(c, func(c *Client) *azure.Session { return c.session })
	sdk.OnCheck(c, (*Client).check)
	return c
}

func open(_ context.Context, cfg Config, env sdk.Env) (*Client, error) {
	c := &Client{cfg: cfg, env: env, tenant: cfg.Credential.TenantID}
	var err error
	for _, d := range []struct {
		field, value string
		least, most  time.Duration
		into         *time.Duration
	}{
		{"push_life", cfg.PushLife, time.Second, maxLife, &c.life},
		{"overlap", cfg.Overlap, 0, 7 * 24 * time.Hour, &c.overlap},
		{"lookback", cfg.Lookback, time.Minute, 180 * 24 * time.Hour, &c.lookback},
		{"quiet_after", cfg.QuietAfter, 0, 365 * 24 * time.Hour, &c.quietAfter},
	} {
		if *d.into, err = time.ParseDuration(d.value); err != nil || *d.into < d.least || *d.into > d.most {
			return nil, sdk.BadConfig(d.field, "%q is not a duration from %v to %v, such as \"90m\"", d.value, d.least, d.most)
		}
	}
	c.cfg.GraphURL = cmp.Or(cfg.GraphURL, cfg.Cloud().Graph)
	if err := c.setUpPush(); err != nil {
		return nil, err
	}
	if c.rich, err = openRich(cfg.Encryption, cfg.Credential.ClientID); err != nil {
		return nil, err
	}
	session, err := cfg.Open(env)
	if err != nil {
		return nil, err
	}
	c.session = session
	c.api, err = session.Client(azure.API{
		Name: graphName, URL: c.cfg.GraphURL, Field: "graph_url", Scope: cfg.GraphScope,
		// Without it, newer enum members arrive as unknownFutureValue.
		Options: rest.Options{Header: http.Header{"Prefer": {"include-unknown-enum-members"}}, MaxBody: maxAnswer},
	})
	if err != nil {
		return nil, err
	}
	c.hunting, err = session.Client(azure.API{
		Name: graphName, URL: c.cfg.GraphURL, Field: "graph_url", Scope: cfg.GraphScope,
		Options: rest.Options{MaxBody: huntBytes, Timeout: huntTimeout},
	})
	if err != nil {
		return nil, err
	}
	if c.rich != nil {
		c.keys.api, err = rest.New(rest.Options{
			BaseURL: cfg.Cloud().Authority, API: "Microsoft Entra ID", Field: "/credential/authority_url", Transport: session.Transport,
		})
		if err != nil {
			return nil, err
		}
	}
	c.graphHost = hostOf(c.cfg.GraphURL)
	if err := c.openARM(session); err != nil {
		return nil, err
	}
	return c, nil
}
