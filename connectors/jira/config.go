package jira

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gojira "github.com/andygrunwald/go-jira"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Config is the configuration of a connection.
type Config struct {
	BaseURL  string     `json:"base_url" cw:"required,format=uri" doc:"Address of the site, such as https://acme.atlassian.net, or https://api.atlassian.com/ex/jira/{cloudId} for scoped tokens and service accounts"`
	Email    string     `json:"email,omitempty" doc:"Account of the API token (Cloud)"`
	APIToken sdk.Secret `json:"api_token,omitzero" doc:"API token of that account (Cloud)"`
	Token    sdk.Secret `json:"token,omitzero" doc:"Personal access token (Data Center) or OAuth access token, sent as a bearer"`

	ClientID     string     `json:"client_id,omitempty" doc:"OAuth 2.0 (3LO): id of the app; base_url is then https://api.atlassian.com/ex/jira/{cloudId}"`
	ClientSecret sdk.Secret `json:"client_secret,omitzero" doc:"OAuth 2.0: secret of the app"`
	RefreshToken sdk.Secret `json:"refresh_token,omitzero" doc:"OAuth 2.0: the refresh token of the authorization (scopes read:jira-work, write:jira-work, read:jira-user, offline_access). It is used once; the tokens that follow are kept sealed. Each connection needs an authorization of its own"`
	TokenURL     string     `json:"token_url,omitempty" doc:"OAuth 2.0: where tokens are given out; default https://auth.atlassian.com/oauth/token" cw:"advanced"`

	Credential *Credential `json:"credential,omitempty" doc:"The same as an object, for a credential that is named elsewhere"`

	Project     string `json:"project" cw:"required" doc:"Key of the project that issues are made in" pattern:"^[A-Za-z0-9_]+$" example:"SOC"`
	IssueType   string `json:"issue_type" cw:"required" doc:"Name or id of the issue type" example:"Task"`
	RequestType string `json:"request_type,omitempty" doc:"Jira Service Management: name or id of the request type; cases are then raised as requests in the project's service desk. A request is marked in its text, and labelled right after"`
	Deployment  string `json:"deployment,omitempty" doc:"Which Jira it is; auto asks it" enum:"auto,cloud,datacenter" default:"auto"`
	API         int    `json:"api,omitempty" doc:"Version of the API that texts are written with: 2 writes wiki markup, 3 documents (Cloud only), where the new editor keeps more of them" enum:"2,3" default:"2" cw:"advanced"`
	SiteURL     string `json:"site_url,omitempty" doc:"Where people open issues, when that is not base_url" cw:"advanced"`

	Priorities map[string]string `json:"priorities,omitempty" doc:"Priority (name or id) by severity: unknown, informational, low, medium, high, critical, fatal, other. An empty value sends none"`
	Labels     []string          `json:"labels,omitempty" doc:"Labels that every issue gets; default casewire"`

	Issues   *IssuesConfig     `json:"issues,omitempty" doc:"The trigger issues: which issues it watches, and how"`
	Verdicts map[string]string `json:"verdicts,omitempty" doc:"Verdict by name of the resolution, such as {\"False alarm\": \"false_positive\"}: unknown, false_positive, true_positive, disregard, suspicious, benign, test, insufficient_data or duplicate"`

	SearchBeforeCreate bool `json:"search_before_create" doc:"Look for an issue with the case's mark before making one" default:"true" cw:"advanced"`
	NotifyUsers        bool `json:"notify_users" doc:"Let Jira mail the watchers about updates; turning it off needs a project administrator" default:"true" cw:"advanced"`

	IndexLag string `json:"index_lag,omitempty" doc:"The most that a new issue can take to show up in search, such as 2m. When set, an issue whose creation got lost and that is not found after it is taken as never made, and is made; unset, its run is parked after five minutes for a person to decide" cw:"advanced"`

	CAFile string     `json:"ca_file,omitempty" doc:"PEM file of certificates to trust besides the system's" cw:"advanced"`
	Proxy  sdk.Secret `json:"proxy,omitzero" doc:"Proxy to go through, such as http://proxy.example:3128" cw:"advanced"`
}

// Credential is what a connection signs in with: email and api_token, or token, or an OAuth 2.0 app with a refresh token.
type Credential struct {
	Email    string     `json:"email,omitempty" doc:"Account of the API token (Cloud)"`
	APIToken sdk.Secret `json:"api_token,omitzero" doc:"API token of that account (Cloud)"`
	Token    sdk.Secret `json:"token,omitzero" doc:"Personal access token or OAuth access token"`

	ClientID     string     `json:"client_id,omitempty" doc:"OAuth 2.0 (3LO): id of the app"`
	ClientSecret sdk.Secret `json:"client_secret,omitzero" doc:"OAuth 2.0: secret of the app"`
	RefreshToken sdk.Secret `json:"refresh_token,omitzero" doc:"OAuth 2.0: the refresh token of the authorization"`
	TokenURL     string     `json:"token_url,omitempty" doc:"OAuth 2.0: where tokens are given out" cw:"advanced"`
}

// Client is a connection to one Jira site.
type Client struct {
	cfg        Config
	polite     *rest.Client
	jira       *gojira.Client
	host       string
	cloudHost  bool // an address of Atlassian's: no need to ask which deployment it is
	scoped     bool
	secrets    []string // never to be quoted from an answer
	kind       string   // of the credential, for people
	bearer     atomic.Pointer[string]
	oauth      *oauth // nil for credentials that do not change
	indexLag   time.Duration
	priorities [7]string
	otherPrio  string
	labels     []string

	site   atomic.Pointer[site]
	siteMu sync.Mutex

	types   cache[[]metaEntry] // by project
	screens cache[[]metaEntry] // by project/type
	users   cache[userRef]     // by what they were asked for
	limits  cache[int64]       // of uploads
	desks   cache[desk]        // by project

	watch    watch
	verdicts map[string]int                // by resolution, in lower case
	skew     atomic.Pointer[time.Duration] // Jira's clock, seen from ours
	pace     pacer
	edits    *gathering
	comments *gathering
	joined   chan struct{} // held by who changes a part of a joined comment
	recent   recent        // issues written lately
}

// severities are OCSF's names by severity_id.
var severities = [7]string{"unknown", "informational", "low", "medium", "high", "critical", "fatal"}

// defaultPriorities are the names that a fresh Jira has.
var defaultPriorities = [7]string{"Medium", "Lowest", "Low", "Medium", "High", "Highest", "Highest"}

func open(_ context.Context, cfg Config, env sdk.Env) (*Client, error) {
	c := &Client{cfg: cfg, priorities: defaultPriorities, otherPrio: "Medium", edits: edits(), joined: make(chan struct{}, 1)}
	c.comments = c.joinedComments()
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" {
		return nil, sdk.BadConfig("/base_url", "not an address; write it like https://acme.atlassian.net")
	}
	switch {
	case u.User != nil:
		return nil, sdk.BadConfig("/base_url", "must not hold a user or password; use email and api_token, or token")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, sdk.BadConfig("/base_url", "must not have a query or fragment")
	case strings.Contains(u.Path, "/rest/") || strings.HasSuffix(u.Path, "/rest"):
		return nil, sdk.BadConfig("/base_url", "must end before /rest: the connector adds the path of the API")
	}
	c.host = u.Host
	name := strings.ToLower(u.Hostname())
	c.cloudHost = strings.HasSuffix(name, ".atlassian.net") || name == "api.atlassian.com"
	c.scoped = strings.Contains(u.Path, "/ex/jira/")
	if name == "api.atlassian.com" && !c.scoped {
		return nil, sdk.BadConfig("/base_url", "on api.atlassian.com the address is https://api.atlassian.com/ex/jira/{cloudId}")
	}
	if cfg.SiteURL != "" && !strings.HasPrefix(cfg.SiteURL, "https://") && !strings.HasPrefix(cfg.SiteURL, "http://") {
		return nil, sdk.BadConfig("/site_url", "not a web address")
	}
	transport, err := rest.Transport(rest.TransportOptions{Proxy: cfg.Proxy, CAFile: cfg.CAFile})
	if err != nil {
		return nil, err
	}
	auth, err := c.authenticate(env, transport)
	if err != nil {
		return nil, err
	}
	if !projectKey(cfg.Project) {
		return nil, sdk.BadConfig("/project", "%q is not a project key such as SOC", cfg.Project)
	}
	if err := c.prioritize(); err != nil {
		return nil, err
	}
	if cfg.IndexLag != "" {
		if c.indexLag, err = time.ParseDuration(cfg.IndexLag); err != nil || c.indexLag <= 0 {
			return nil, sdk.BadConfig("/index_lag", "%q is not a duration such as 2m", cfg.IndexLag)
		}
	}
	c.labels = []string{"casewire"}
	if cfg.Labels != nil {
		c.labels = sanitizeLabels(cfg.Labels)
	}
	if cfg.API == apiDocuments && cfg.Deployment == "datacenter" {
		return nil, sdk.BadConfig("/api", "Data Center has version 2 only")
	}
	if c.watch, err = readWatch(cfg.Issues); err != nil {
		return nil, err
	}
	c.verdicts = map[string]int{}
	for resolution, name := range cfg.Verdicts {
		id, ok := verdictNames[name]
		if !ok {
			return nil, sdk.BadConfig("/verdicts/"+pointerPart(resolution), "%q is no verdict; there are %s", name,
				strings.Join(slices.Sorted(maps.Keys(verdictNames)), ", "))
		}
		c.verdicts[strings.ToLower(resolution)] = id
	}
	c.polite, err = rest.New(rest.Options{
		BaseURL: cfg.BaseURL, API: "Jira", Auth: auth, Transport: transport,
		// Without Accept a refused credential is answered with a web page. Atlassian asks for a telling User-Agent.
		Header: http.Header{"Accept": {"application/json"}, "User-Agent": {"casewire-jira/" + Version}},
	})
	if err != nil {
		return nil, err
	}
	c.jira, err = gojira.NewClient(c.polite.HTTPClient(), cfg.BaseURL)
	if err != nil {
		return nil, sdk.BadConfig("/base_url", "not an address: %w", err)
	}
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() error {
	if c.oauth != nil {
		_ = c.oauth.client.Close() // always nil
	}
	return c.polite.Close()
}

// authenticate picks the one way to sign in that is configured.
func (c *Client) authenticate(env sdk.Env, transport http.RoundTripper) (auth func(context.Context, *http.Request) error, err error) {
	cred, at := Credential{
		Email: c.cfg.Email, APIToken: c.cfg.APIToken, Token: c.cfg.Token,
		ClientID: c.cfg.ClientID, ClientSecret: c.cfg.ClientSecret, RefreshToken: c.cfg.RefreshToken, TokenURL: c.cfg.TokenURL,
	}, ""
	if c.cfg.Credential != nil {
		if cred != (Credential{}) {
			return nil, sdk.BadConfig("/credential", "give either credential, or email, api_token, token and the like beside it, not both")
		}
		cred = *c.cfg.Credential
		at = "/credential"
	}
	basic := cred.Email != "" || !cred.APIToken.IsZero()
	app := cred.ClientID != "" || !cred.ClientSecret.IsZero() || !cred.RefreshToken.IsZero()
	switch {
	case app && (basic || !cred.Token.IsZero()):
		return nil, sdk.BadConfig(at+"/client_id", "give either the OAuth app, or email and api_token, or token")
	case app && c.cloudHost && !c.scoped:
		return nil, sdk.BadConfig("/base_url", "with OAuth 2.0 the address is https://api.atlassian.com/ex/jira/{cloudId}; the site's cloudId is at %s/_edge/tenant_info", strings.TrimRight(c.cfg.BaseURL, "/"))
	case app:
		if c.oauth, err = newOAuth(&cred, at, env, transport); err != nil {
			return nil, err
		}
		c.kind = "OAuth 2.0 app"
		c.secrets = []string{cred.ClientSecret.Reveal(), cred.RefreshToken.Reveal()}
		return func(ctx context.Context, req *http.Request) error {
			token, err := c.oauth.token(ctx)
			if err != nil {
				return err
			}
			c.bearer.Store(&token)
			req.Header.Set("Authorization", "Bearer "+token)
			return nil
		}, nil
	case basic && !cred.Token.IsZero():
		return nil, sdk.BadConfig(at+"/token", "give either email and api_token, or token, not both")
	case basic && cred.Email == "":
		return nil, sdk.BadConfig(at+"/email", "missing: an API token belongs to an account")
	case basic && cred.APIToken.IsZero():
		return nil, sdk.BadConfig(at+"/api_token", "missing: make one at id.atlassian.com, Security, API tokens")
	case basic:
		c.secrets = []string{cred.APIToken.Reveal()}
		c.kind = "API token"
		if c.scoped {
			c.kind = "scoped API token"
		}
		return rest.Basic(cred.Email, cred.APIToken), nil
	case !cred.Token.IsZero():
		c.secrets = []string{cred.Token.Reveal()}
		c.kind = "personal access token"
		if c.cloudHost {
			c.kind = "OAuth access token, which nothing renews"
		}
		return rest.Bearer(cred.Token), nil
	}
	return nil, sdk.BadConfig(cmp.Or(at, "/api_token"), "no credential: give email and api_token (Cloud), token (Data Center), or client_id, client_secret and refresh_token (OAuth 2.0)")
}

// prioritize lays the configured priorities over the defaults.
func (c *Client) prioritize() error {
next:
	for name, priority := range c.cfg.Priorities {
		if strings.EqualFold(name, "other") {
			c.otherPrio = priority
			continue
		}
		for id, known := range severities {
			if strings.EqualFold(name, known) {
				c.priorities[id] = priority
				continue next
			}
		}
		return sdk.BadConfig("/priorities/"+name, "no such severity; there are %s and other", strings.Join(severities[:], ", "))
	}
	return nil
}

// priority returns the priority for an OCSF severity_id; empty to send none.
func (c *Client) priority(severity int) string {
	if severity >= 0 && severity < len(c.priorities) {
		return c.priorities[severity]
	}
	return c.otherPrio
}

// projectKey accepts keys and ids: what can stand in a path and in JQL without quoting.
func projectKey(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_') {
			return false
		}
	}
	return true
}

// issueRef accepts an issue's id or key. Go-jira does not escape paths, so nothing else may pass.
func issueRef(s string) bool {
	dash := strings.LastIndexByte(s, '-')
	if dash < 0 {
		return digits(s)
	}
	return projectKey(s[:dash]) && !digits(s[:1]) && digits(s[dash+1:])
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) < 20
}
