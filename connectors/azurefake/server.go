package azurefake

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Faults says how often requests go wrong; see the constants for the ways, and the Route constants for the keys.
type Faults = fakekit.Faults

// Fault names one way in which a request goes wrong.
type Fault = fakekit.Fault

// The ways in which a request can go wrong.
const (
	Throttle    = fakekit.Throttle    // 429 with Retry-After; not executed
	Unavailable = fakekit.Unavailable // 503; not executed
	ServerError = fakekit.ServerError // 500; not executed
	Reset       = fakekit.Reset       // connection reset; not executed
	HTML        = fakekit.HTML        // 200 with a sign-in page; not executed
	LostAnswer  = fakekit.LostAnswer  // executed, then the connection is reset
	ErrorAfter  = fakekit.ErrorAfter  // executed, then 500
	CutBody     = fakekit.CutBody     // executed, then the connection closes in the middle of the body
	BadJSON     = fakekit.BadJSON     // executed, then half of the JSON as if it were all
	Slow        = fakekit.Slow        // executed after Faults.Delay
	Partial     = fakekit.Partial     // alert list: 206 with Warning and only half of the alerts; query: PartialError
)

// Names of routes, for Faults, FailNext and the ledger.
const (
	RouteDiscovery      = "entra.discovery"
	RouteToken          = "entra.token"
	RouteAlertList      = "graph.alerts.list"
	RouteAlertGet       = "graph.alerts.get"
	RouteAlertPatch     = "graph.alerts.patch"
	RouteAlertComment   = "graph.alerts.comment"
	RouteSubCreate      = "graph.subscriptions.create"
	RouteSubList        = "graph.subscriptions.list"
	RouteSubGet         = "graph.subscriptions.get"
	RouteSubPatch       = "graph.subscriptions.patch"
	RouteSubDelete      = "graph.subscriptions.delete"
	RouteSubReauthorize = "graph.subscriptions.reauthorize"
	RouteQuery          = "loganalytics.query"
	RouteUnknown        = "unknown"
)

// App is an app registration that can get tokens.
type App struct {
	ClientID      string
	Secret        string // empty: no secret is registered
	SecretExpired bool
	// SecretEnds is when the secret ends, for apps that ask: zero is not known.
	SecretEnds time.Time
	// Certificates are the DER forms of the X.509 certificates whose keys may sign client assertions.
	Certificates [][]byte
	// Federated credentials accept assertions of other issuers. Their signature is not checked: the fake does not
	// know the issuer's keys.
	Federated []Federation
	// Roles are the application permissions with admin consent; nil means all that the fake knows.
	Roles []string
	// Workspaces are those whose logs the app may read; nil means all.
	Workspaces []string
}

// Federation is a federated identity credential: an assertion must carry these three claims.
type Federation struct{ Issuer, Subject, Audience string }

// Permissions on Microsoft Graph and on Log Analytics that the fake checks.
const (
	RoleAlertRead      = "SecurityAlert.Read.All"
	RoleAlertReadWrite = "SecurityAlert.ReadWrite.All"
	RoleLogsRead       = "Data.Read"
)

// Options configure a fake. The zero value gives one tenant, one app with a random secret and one workspace.
type Options struct {
	Tenants []string // tenant ids (GUIDs) or domain names; the first one owns alerts that name none
	Apps    []App
	// Workspaces are the workspace ids of Log Analytics; queries to others are answered with 404.
	Workspaces []string
	// GraphAudiences and LogsAudiences are the resources whose tokens the APIs accept; nil means the public cloud's.
	GraphAudiences, LogsAudiences []string
	// AppName is how comments of apps are signed; default "API-App:Casewire".
	AppName string
	// BaseURL replaces the scheme and host of the request in next links, AuthorityURL those in the OpenID
	// configuration (default: https and the host that was asked, because MSAL refuses plain http).
	BaseURL, AuthorityURL string
	// TokenLife is how long tokens live; default 1 h, as Entra's shortest default.
	TokenLife time.Duration
	// PageSize is the number of alerts on a page if $top is absent; default 50. MaxPage bounds $top; default 1000.
	PageSize, MaxPage int
	// GraphPerMinute throttles each app on /security as Graph does (150); 0 means no limit.
	GraphPerMinute int
	// QueriesPer30s and QueriesAtOnce throttle each app on Log Analytics (200 and 5 there); 0 means no limit.
	QueriesPer30s, QueriesAtOnce int
	// Entra configures people's sign-ins and managed identities.
	Entra EntraOptions
	// TI configures threat intelligence: uploads to Sentinel, Azure Resource Manager, Defender.
	TI TIOptions
	// ARM are the options of Azure Resource Manager, which serves one Microsoft Sentinel workspace.
	ARM ARM
	// MaxSubscriptions is the quota of subscriptions; default 100.
	MaxSubscriptions int
	// ShortSubscriptions keeps lives below 45 minutes as asked, for tests.
	ShortSubscriptions bool
	// RichAlerts accepts subscriptions to alerts that include the resource, encrypted.
	RichAlerts bool
	// RefuseAlertSubscriptions answers subscriptions to alerts_v2 with 400, as a tenant does that does not support them.
	RefuseAlertSubscriptions bool
	// Push is how notifications are delivered at first; see [Server.SetPush].
	Push Push
	// PushClient sends notifications and handshakes; nil means one without proxy that follows no redirects.
	PushClient *http.Client
	// Now is the clock; nil means time.Now. Waits always use real timers.
	Now func() time.Time
	// Seed makes injected chance repeatable.
	Seed uint64
}

// Server is the fake. It is safe for concurrent use; Close must be called.
type Server struct {
	opt Options
	kit *fakekit.Kit

	tokens    tokens
	grants    grants
	alerts    store
	incidents incidentStore
	signer    signer
	subs      subscriptions
	logs      logs
	ti        tiState
	limits    fakekit.Limiter
	arm       arm

	ctx    context.Context // ends the deliverers, which outlive every request
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Defaults of Options that tests and demos need to know.
const (
	DefaultTenant    = "6d1f2f0a-7c1e-4d0b-9a55-2b1f0c3d4e5f"
	DefaultClientID  = "3a1c9c52-0f2e-4b7a-8f10-5c4f9e6d7a81"
	DefaultWorkspace = "b2a7c7de-90aa-4a3e-8a35-1f6f0f9f2c11"
)

// New returns a running fake.
func New(o Options) *Server {
	if len(o.Tenants) == 0 {
		o.Tenants = []string{DefaultTenant}
	}
	if len(o.Apps) == 0 {
		o.Apps = []App{{ClientID: DefaultClientID, Secret: rand.Text()}}
	}
	if len(o.Workspaces) == 0 {
		o.Workspaces = []string{DefaultWorkspace}
	}
	if o.GraphAudiences == nil {
		o.GraphAudiences = []string{"https://graph.microsoft.com"}
	}
	if o.LogsAudiences == nil {
		o.LogsAudiences = []string{"https://api.loganalytics.io", "https://api.loganalytics.azure.com"}
	}
	o.Entra = o.Entra.withDefaults()
	o.AppName = cmp.Or(o.AppName, "API-App:Casewire")
	o.TokenLife = cmp.Or(o.TokenLife, time.Hour)
	o.PageSize = cmp.Or(o.PageSize, 50)
	o.MaxPage = cmp.Or(o.MaxPage, 1000)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, 100)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PushClient == nil {
		o.PushClient = pushClient()
	}
	s := &Server{opt: o}
	s.kit = fakekit.New(o.Now, o.Seed, failed)
	s.kit.Type = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tokens.byValue = map[string]token{}
	s.grants = newGrants()
	s.alerts.byID = map[string]*record{}
	s.incidents.byID, s.incidents.hunting = map[string]*incidentRecord{}, map[string]huntingAnswer{}
	s.subs.byID = map[string]*subscription{}
	s.subs.ledger = newSubLedger()
	s.logs.canned = map[string]Result{}
	s.arm.init(o.ARM)
	s.SetPush(o.Push)
	return s
}

// Close stops the delivery of notifications and waits for it to end. Requests are still answered afterwards.
func (s *Server) Close() {
	s.subs.mu.Lock()
	s.cancel()
	s.subs.mu.Unlock()
	s.kit.Close()
	s.wg.Wait()
	s.opt.PushClient.CloseIdleConnections()
}

// Tenant returns the first tenant.
func (s *Server) Tenant() string { return s.opt.Tenants[0] }

// ClientID returns the id of the first app.
func (s *Server) ClientID() string { return s.opt.Apps[0].ClientID }

// ClientSecret returns the secret of the first app.
func (s *Server) ClientSecret() string { return s.opt.Apps[0].Secret }

// Workspace returns the first workspace of Log Analytics.
func (s *Server) Workspace() string { return s.opt.Workspaces[0] }

// SetFaults replaces the rates of injected faults.
func (s *Server) SetFaults(f Faults) { s.kit.SetFaults(f) }

// FailNext injects a fault into the next n requests of a route (or of "read", "write", "*").
func (s *Server) FailNext(route string, fault Fault, n int) { s.kit.FailNext(route, fault, n) }

// Transport serves requests without a socket; connections that the fake cuts become errors.
func (s *Server) Transport() http.RoundTripper { return fakekit.Transport(s) }

var (
	rDiscovery   = fakekit.Route{Name: RouteDiscovery}
	rToken       = fakekit.Route{Name: RouteToken}
	rAlertList   = fakekit.Route{Name: RouteAlertList}
	rAlertGet    = fakekit.Route{Name: RouteAlertGet}
	rAlertPatch  = fakekit.Route{Name: RouteAlertPatch, Write: true}
	rAlertNote   = fakekit.Route{Name: RouteAlertComment, Write: true}
	rSubCreate   = fakekit.Route{Name: RouteSubCreate, Write: true}
	rSubList     = fakekit.Route{Name: RouteSubList}
	rSubGet      = fakekit.Route{Name: RouteSubGet}
	rSubPatch    = fakekit.Route{Name: RouteSubPatch, Write: true}
	rSubDelete   = fakekit.Route{Name: RouteSubDelete, Write: true}
	rReauthorize = fakekit.Route{Name: RouteSubReauthorize, Write: true}
	rQuery       = fakekit.Route{Name: RouteQuery}
	rUnknown     = fakekit.Route{Name: RouteUnknown}
)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isARM(r.URL.Path) {
		route, args, h := s.routeARM(r.Method, r.URL.Path)
		s.kit.Serve(w, r, route, args, h)
		return
	}
	route, arg, h := s.route(r.Method, r.URL.Path)
	s.kit.Serve(w, r, route, [3]string{arg}, h)
}

func (s *Server) route(method, path string) (fakekit.Route, string, fakekit.Handler) {
	p := strings.Split(strings.Trim(path, "/"), "/")
	if len(p) > 1 && slices.Contains([]string{"login", "graph", "loganalytics", "arm", "ti", "defender"}, p[0]) {
		p = p[1:]
	}
	at := func(i int) string {
		if i < len(p) {
			return p[i]
		}
		return ""
	}
	if r, arg, h, ok := s.routeEntra(method, p); ok {
		return r, arg, h
	}
	if r, arg, h, ok := s.routeTI(method, p); ok {
		return r, arg, h
	}
	key := method + " "
	switch {
	case at(0) == "v1.0" && at(1) == "security" && at(2) == "alerts_v2":
		switch {
		case len(p) == 3 && method == http.MethodGet:
			return rAlertList, "", s.listAlerts
		case len(p) == 4 && method == http.MethodGet:
			return rAlertGet, p[3], s.getAlert
		case len(p) == 4 && method == http.MethodPatch:
			return rAlertPatch, p[3], s.patchAlert
		case len(p) == 5 && p[4] == "comments" && method == http.MethodPost:
			return rAlertNote, p[3], s.commentAlert
		}
	case at(0) == "v1.0" && at(1) == "security" && at(2) == "incidents":
		return s.routeIncidents(method, p)
	case at(0) == "v1.0" && at(1) == "security" && at(2) == "runHuntingQuery" && len(p) == 3 && method == http.MethodPost:
		return rHunting, "", s.hunt
	case at(0) == "v1.0" && at(1) == "subscriptions":
		return s.routeSubscriptions(method, p)
	case at(0) == "v1" && at(1) == "workspaces" && at(3) == "query" && len(p) == 4:
		if method == http.MethodPost || method == http.MethodGet {
			return rQuery, p[2], s.query
		}
	case at(0) == "v1" && at(1) == "subscriptions" && p[len(p)-1] == "query" && method == http.MethodPost:
		return rQuery, "/" + strings.Join(p[1:len(p)-1], "/"), s.query
	case at(1) == "discovery" && (at(2) == "keys" || at(3) == "keys") && method == http.MethodGet:
		return rKeys, "", s.listKeys
	case at(1) == "v2.0" && at(2) == ".well-known" && at(3) == "openid-configuration":
		return rDiscovery, p[0], s.openIDConfiguration
	case key+at(0)+"/"+at(1)+"/"+at(2) == "GET common/discovery/instance":
		return rDiscovery, "", s.instanceDiscovery
	case at(1) == "oauth2" && at(2) == "v2.0" && at(3) == "token" && method == http.MethodPost:
		return rToken, p[0], s.token
	}
	return rUnknown, path, notFound
}

func (s *Server) routeSubscriptions(method string, p []string) (fakekit.Route, string, fakekit.Handler) {
	switch {
	case len(p) == 2 && method == http.MethodPost:
		return rSubCreate, "", s.createSubscription
	case len(p) == 2 && method == http.MethodGet:
		return rSubList, "", s.listSubscriptions
	case len(p) == 3 && method == http.MethodGet:
		return rSubGet, p[2], s.getSubscription
	case len(p) == 3 && method == http.MethodPatch:
		return rSubPatch, p[2], s.patchSubscription
	case len(p) == 3 && method == http.MethodDelete:
		return rSubDelete, p[2], s.deleteSubscription
	case len(p) == 4 && p[3] == "reauthorize" && method == http.MethodPost:
		return rReauthorize, p[2], s.reauthorizeSubscription
	}
	return rUnknown, strings.Join(p, "/"), notFound
}

func notFound(c *fakekit.Call) fakekit.Reply {
	if strings.Contains(c.R.URL.Path, "/v1/") || strings.HasPrefix(c.R.URL.Path, "/loganalytics/") {
		return logsError(http.StatusNotFound, "PathNotFoundError", "The requested path does not exist", nil)
	}
	return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found for the segment.")
}

// failed shapes the bodies of injected failures; Graph's shape does for Entra and Log Analytics, whose gateways answer
// overload with bodies of their own anyway.
func failed(f Fault, status int) fakekit.Reply {
	if f == Throttle {
		return fakekit.JSON(status, object{"error": object{
			"code": "TooManyRequests", "message": "Please retry again later.",
			"innerError": object{"code": "429", "message": "Please retry after", "status": "429", "request-id": newGUID()},
		}})
	}
	code := "generalException"
	if status == http.StatusServiceUnavailable {
		code = "serviceNotAvailable"
	}
	return graphError(status, code, "The service could not answer. Try again.")
}

type object = map[string]any

func graphError(status int, code, message string) fakekit.Reply {
	id := newGUID()
	return fakekit.JSON(status, object{"error": object{
		"code": code, "message": message,
		"innerError": object{"date": time.Now().UTC().Format("2006-01-02T15:04:05"), "request-id": id, "client-request-id": id},
	}}).With("request-id", id)
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// origin returns the scheme, host and prefix of a request, for links back to the fake.
func (s *Server) origin(r *http.Request) string {
	base := s.opt.BaseURL
	if base == "" {
		base = "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
	}
	if strings.HasPrefix(r.URL.Path, "/graph/") {
		base += "/graph"
	}
	return base
}

func decodeObject(body []byte) (map[string]json.RawMessage, bool) {
	var obj map[string]json.RawMessage
	if json.Unmarshal(body, &obj) != nil || obj == nil {
		return nil, false
	}
	return obj, true
}
