package thehive

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/ioc"
	"github.com/casewire/casewire/sdk/rest"
)

// Config is the configuration of a connection.
type Config struct {
	BaseURL    string      `json:"base_url" cw:"required,format=uri" doc:"Address of TheHive, without /api" example:"https://thehive.example"`
	APIKey     sdk.Secret  `json:"api_key,omitzero" doc:"API key of a user of the organisation, with the permissions to manage alerts, cases and observables"`
	Credential *Credential `json:"credential,omitempty" doc:"The API key as an object, for a credential that several connections share"`

	Organisation string `json:"organisation,omitempty" doc:"Organisation to work in; default the user's own" cw:"maxlen=128"`
	AlertType    string `json:"alert_type,omitempty" doc:"Type of the alerts. It is part of what makes an alert unique: do not change it later" default:"casewire" cw:"maxlen=32"`
	Source       string `json:"source,omitempty" doc:"Source of the alerts; default the tenant's or the connection's name. It is part of what makes an alert unique: do not change it later" cw:"maxlen=32"`
	TLP          string `json:"tlp,omitempty" doc:"Traffic light of what is made, unless the flow says: clear, green, amber, amber+strict, red" default:"amber"`
	PAP          string `json:"pap,omitempty" doc:"Permissible actions, unless the flow says: clear, green, amber, red" default:"amber"`
	CaseTemplate string `json:"case_template,omitempty" doc:"Template of new cases, unless the flow says" cw:"maxlen=128"`

	OwnDomains []string `json:"own_domains,omitempty" doc:"Names that belong to us, and all names below them: never marked as indicators"`
	OwnRanges  []string `json:"own_ranges,omitempty" doc:"Networks that belong to us, such as 198.51.100.0/24: never marked as indicators"`

	Verdicts map[string]string `json:"verdicts,omitempty" doc:"Verdict by name of a status that closes cases, for those that TheHive does not come with, such as {\"Red team\": \"test\"}: unknown, false_positive, true_positive, disregard, suspicious, benign, test, insufficient_data or duplicate"`

	Cases   *Cases   `json:"cases,omitempty" doc:"Which cases trigger cases brings"`
	Webhook *Webhook `json:"webhook,omitempty" doc:"Takes TheHive's notifications for trigger cases; off when left out, and polling alone brings the news"`

	CAFile string     `json:"ca_file,omitempty" doc:"PEM file of certificates to trust besides the system's" cw:"advanced"`
	Proxy  sdk.Secret `json:"proxy,omitzero" doc:"Proxy to go through, such as http://proxy.example:3128" cw:"advanced"`
}

// Credential is what a connection signs in with.
type Credential struct {
	APIKey sdk.Secret `json:"api_key" cw:"required" doc:"API key"`
}

// Client is a connection to one organisation of TheHive.
type Client struct {
	cfg       Config
	api       *rest.Client
	site      string // base_url without a slash at the end
	alertType string
	source    string

	server   atomic.Pointer[server]
	serverMu sync.Mutex

	own           ioc.Rules
	verdicts      map[string]int // by status, as plainName
	host          string         // of site, for keys
	env           sdk.Env
	fieldDefs     atomic.Pointer[definitions]
	caseStatuses  atomic.Pointer[statuses]
	alertStatuses atomic.Pointer[statuses]
	verify        func(*sdk.HookRequest) bool // nil: no webhooks
}

// maxPart is TheHive's limit for an alert's type and source.
const maxPart = 32

func open(_ context.Context, cfg Config, env sdk.Env) (*Client, error) {
	cfg.AlertType, cfg.TLP, cfg.PAP = cmp.Or(cfg.AlertType, "casewire"), cmp.Or(cfg.TLP, "amber"), cmp.Or(cfg.PAP, "amber")
	c := &Client{cfg: cfg, site: strings.TrimRight(cfg.BaseURL, "/"), env: env}
	u, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil || u.Host == "":
		return nil, sdk.BadConfig("/base_url", "not an address; write it like https://thehive.example")
	case u.User != nil:
		return nil, sdk.BadConfig("/base_url", "must not hold a user or password; use api_key")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, sdk.BadConfig("/base_url", "must not have a query or fragment")
	case strings.Contains(u.Path+"/", "/api/"):
		return nil, sdk.BadConfig("/base_url", "must end before /api: the connector adds the path of the API")
	}
	c.host = strings.ToLower(u.Host)
	if c.own, err = ownRules(cfg.OwnDomains, cfg.OwnRanges); err != nil {
		return nil, err
	}
	if err := c.setUpVerdicts(); err != nil {
		return nil, err
	}
	if err := c.setUpCases(); err != nil {
		return nil, err
	}
	key := cfg.APIKey
	if cfg.Credential != nil {
		if !key.IsZero() {
			return nil, sdk.BadConfig("/credential", "give either credential or api_key, not both")
		}
		key = cfg.Credential.APIKey
	}
	if key.IsZero() {
		return nil, sdk.BadConfig("/api_key", "missing: a user's API key is made in TheHive under the user's settings")
	}
	if c.alertType, err = part("/alert_type", cfg.AlertType); err != nil {
		return nil, err
	}
	if cfg.Source != "" {
		if c.source, err = part("/source", cfg.Source); err != nil {
			return nil, err
		}
	} else {
		c.source = defaultSource(cmp.Or(env.Tenant, env.Connection))
	}
	if _, ok := tlpLevel(cfg.TLP); !ok {
		return nil, sdk.BadConfig("/tlp", "%q is none of clear, green, amber, amber+strict, red", cfg.TLP)
	}
	if _, ok := papLevel(cfg.PAP); !ok {
		return nil, sdk.BadConfig("/pap", "%q is none of clear, green, amber, red", cfg.PAP)
	}
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"casewire-thehive/" + Version}}
	if cfg.Organisation != "" {
		if strings.ContainsAny(cfg.Organisation, "\r\n") {
			return nil, sdk.BadConfig("/organisation", "must be one line")
		}
		header.Set("X-Organisation", cfg.Organisation)
	}
	transport, err := rest.Transport(rest.TransportOptions{Proxy: cfg.Proxy, CAFile: cfg.CAFile})
	if err != nil {
		return nil, err
	}
	c.api, err = rest.New(rest.Options{
		BaseURL: cfg.BaseURL, API: "TheHive", Auth: rest.Bearer(key), Header: header, Transport: transport, Explain: explain,
		RequestIDHeaders: []string{"X-Request-Id"},
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() error { return c.api.Close() }

// ownRules reads what is our own.
func ownRules(domains, ranges []string) (ioc.Rules, error) {
	var r ioc.Rules
	for i, d := range domains {
		name, ok := ioc.Host(d)
		if !ok {
			return r, sdk.BadConfig("/own_domains/"+strconv.Itoa(i), "%q is no name of a domain", d)
		}
		r.OwnDomains = append(r.OwnDomains, name)
	}
	for i, s := range ranges {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return r, sdk.BadConfig("/own_ranges/"+strconv.Itoa(i), "%q is no network such as 198.51.100.0/24", s)
		}
		r.OwnRanges = append(r.OwnRanges, p.Masked())
	}
	return r, nil
}

// part checks a configured part of an alert's identity. TheHive compares it with regard to case, people do not.
func part(field, s string) (string, error) {
	switch {
	case units(s) > maxPart:
		return "", sdk.BadConfig(field, "is longer than %d characters", maxPart)
	case strings.ContainsAny(s, ";\r\n\t"):
		return "", sdk.BadConfig(field, "must not contain a semicolon or a line break")
	}
	return s, nil
}

// defaultSource makes a source of the tenant's or connection's name: lower case, 32 characters, and still its own when it
// had to be cut.
func defaultSource(name string) string {
	s := strings.ToLower(strings.Map(func(r rune) rune {
		if r == ';' || r < ' ' {
			return '-'
		}
		return r
	}, strings.TrimSpace(name)))
	if s == "" {
		return "casewire"
	}
	if units(s) > maxPart {
		return cutUnits(s, maxPart-9) + "-" + digest(s)[:8]
	}
	return s
}
