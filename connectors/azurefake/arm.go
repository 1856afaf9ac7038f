package azurefake

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Names of Azure Resource Manager's routes, for Faults, FailNext and the ledger.
const (
	RouteARMIncidentList   = "arm.incidents.list"
	RouteARMIncidentGet    = "arm.incidents.get"
	RouteARMIncidentPut    = "arm.incidents.put"
	RouteARMIncidentDelete = "arm.incidents.delete"
	RouteARMAlerts         = "arm.incidents.alerts"
	RouteARMEntities       = "arm.incidents.entities"
	RouteARMCommentList    = "arm.comments.list"
	RouteARMCommentGet     = "arm.comments.get"
	RouteARMCommentPut     = "arm.comments.put"
	RouteARMTaskList       = "arm.tasks.list"
	RouteARMTaskGet        = "arm.tasks.get"
	RouteARMTaskPut        = "arm.tasks.put"
	RouteARMPlaybook       = "arm.playbook.run"
	RouteARMWatchlistList  = "arm.watchlists.list"
	RouteARMWatchlistGet   = "arm.watchlists.get"
	RouteARMWatchlistPut   = "arm.watchlists.put"
	RouteARMWatchlistDel   = "arm.watchlists.delete"
	RouteARMItemList       = "arm.items.list"
	RouteARMItemGet        = "arm.items.get"
	RouteARMItemPut        = "arm.items.put"
	RouteARMItemDelete     = "arm.items.delete"
	RouteARMOperation      = "arm.operation"
	RouteARMPermissions    = "arm.permissions"
)

// Further roles of Azure that the fake checks on the workspace; ARM.Roles has them.
const (
	RoleSentinelResponder = "Microsoft Sentinel Responder"
	RolePlaybookOperator  = "Microsoft Sentinel Playbook Operator"
)

// DefaultARM names the workspace that the fake has in Azure Resource Manager.
const (
	DefaultSubscription  = "0f4f5f2e-35b5-4b5c-9a4c-6b3b9a1f7d20"
	DefaultResourceGroup = "soc"
	DefaultWorkspaceName = "soc-ws"
)

// ARMVersion is the only api-version that the fake knows.
const ARMVersion = "2025-09-01"

// ARM are the options of Azure Resource Manager. The zero value works.
type ARM struct {
	Subscription, ResourceGroup, Workspace string
	// Audiences are the resources whose tokens are accepted; nil means the public cloud's.
	Audiences []string
	// Roles that the app has on the workspace; nil means all.
	Roles []string
	// ListCap is how many incidents one list gives over all its pages; default 1000.
	ListCap int
	// ReadsPerMinute throttles each app; 0 means no limit.
	ReadsPerMinute int
	// Polls is how often a long-running operation is asked for before it ends; default 2.
	Polls int
	// Async says how a long-running operation is to be followed: "operation" (Azure-AsyncOperation, the default),
	// "location", or "" with State set: by the watchlist's provisioningState only.
	Async string
	// State leaves the headers out, so that only provisioningState tells.
	State bool
}

// ARMLedger is what the fake saw and did on Azure Resource Manager's side.
type ARMLedger struct {
	Incidents int            `json:"incidents"`
	Puts      map[string]int `json:"puts"`      // incidents written, by name
	Conflicts int            `json:"conflicts"` // refused for a stale or missing etag
	Comments  map[string]int `json:"comments"`  // that stand, by incident
	Tasks     map[string]int `json:"tasks"`     // that stand, by incident
	Playbooks []PlaybookRun  `json:"playbooks"`
	Uploads   map[string]int `json:"uploads"`      // of watchlists with content, by alias
	Changes   int            `json:"item_changes"` // of watchlist items; a workspace has 100,000 a month
	Versions  map[string]int `json:"versions"`     // requests by api-version
}

// PlaybookRun is one run of a playbook.
type PlaybookRun struct {
	Incident string `json:"incident"`
	LogicApp string `json:"logic_app"`
	Tenant   string `json:"tenant"`
}

type arm struct {
	mu         sync.Mutex
	opt        ARM
	etags      int
	incidents  map[string]*armIncident
	number     int
	watchlists map[string]*armWatchlist
	operations map[string]*armOperation
	putting    func(name string) // between a caller's read and its write: called before a PUT is judged
	ledger     ARMLedger
}

func (a *arm) init(o ARM) {
	o.Subscription = cmp.Or(o.Subscription, DefaultSubscription)
	o.ResourceGroup = cmp.Or(o.ResourceGroup, DefaultResourceGroup)
	o.Workspace = cmp.Or(o.Workspace, DefaultWorkspaceName)
	if o.Audiences == nil {
		o.Audiences = []string{"https://management.azure.com", "https://management.core.windows.net"}
	}
	o.ListCap = cmp.Or(o.ListCap, 1000)
	o.Polls = cmp.Or(o.Polls, 2)
	if o.Async == "" && !o.State {
		o.Async = "operation"
	}
	a.opt = o
	a.incidents, a.watchlists, a.operations = map[string]*armIncident{}, map[string]*armWatchlist{}, map[string]*armOperation{}
	a.ledger = ARMLedger{
		Puts: map[string]int{}, Comments: map[string]int{}, Tasks: map[string]int{}, Uploads: map[string]int{}, Versions: map[string]int{},
	}
}

// WorkspaceID is the ARM id of the workspace.
func (s *Server) WorkspaceID() string {
	o := s.arm.opt
	return "/subscriptions/" + o.Subscription + "/resourceGroups/" + o.ResourceGroup + "/providers/Microsoft.OperationalInsights/workspaces/" + o.Workspace
}

const insights = "/providers/Microsoft.SecurityInsights/"

// ARMLedger returns a copy of the counts of Azure Resource Manager.
func (s *Server) ARMLedger() ARMLedger {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	l := s.arm.ledger
	l.Incidents = len(s.arm.incidents)
	l.Puts, l.Comments, l.Tasks = maps.Clone(l.Puts), map[string]int{}, map[string]int{}
	l.Uploads, l.Versions, l.Playbooks = maps.Clone(l.Uploads), maps.Clone(l.Versions), slices.Clone(l.Playbooks)
	for name, inc := range s.arm.incidents {
		if n := len(inc.comments); n > 0 {
			l.Comments[name] = n
		}
		if n := len(inc.tasks); n > 0 {
			l.Tasks[name] = n
		}
	}
	return l
}

// BeforeIncidentPut calls f before each write of an incident is judged, so that a test can be somebody else who is faster.
func (s *Server) BeforeIncidentPut(f func(name string)) {
	s.arm.mu.Lock()
	s.arm.putting = f
	s.arm.mu.Unlock()
}

// isARM says whether a path is of this part of Azure Resource Manager: threat intelligence has one of its own.
func isARM(path string) bool {
	p := strings.Split(strings.Trim(path, "/"), "/")
	return p[0] == "subscriptions" && len(p) > 8 && (len(p) < 11 || !strings.EqualFold(p[10], "threatIntelligence"))
}

func (s *Server) routeARM(method string, path string) (fakekit.Route, [3]string, fakekit.Handler) {
	route, args, h := s.armRoute(method, strings.Split(strings.Trim(path, "/"), "/"))
	if h == nil {
		return rUnknown, [3]string{path}, func(c *fakekit.Call) fakekit.Reply {
			if _, bad := s.allowARM(c, RoleSentinelReader); bad.Status != 0 {
				return bad
			}
			return armError(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found in the namespace 'Microsoft.SecurityInsights' for api version '"+ARMVersion+"'.")
		}
	}
	return route, args, h
}

//nolint:gocyclo // a table of routes
func (s *Server) armRoute(method string, p []string) (fakekit.Route, [3]string, fakekit.Handler) {
	at := func(i int) string {
		if i < len(p) {
			return p[i]
		}
		return ""
	}
	key := func(i int) string { return method + " " + strings.ToLower(at(i)) }
	n := len(p)
	if n == 11 && strings.EqualFold(at(9), "Microsoft.Authorization") && key(10) == "GET permissions" {
		return fakekit.Route{Name: RouteARMPermissions}, [3]string{}, s.armPermissions
	}
	if n < 11 || !strings.EqualFold(at(8), "providers") || !strings.EqualFold(at(9), "Microsoft.SecurityInsights") {
		return rUnknown, [3]string{}, nil
	}
	read := func(name string, h fakekit.Handler) (fakekit.Route, [3]string, fakekit.Handler) {
		return fakekit.Route{Name: name}, [3]string{at(11), at(13)}, h
	}
	write := func(name string, h fakekit.Handler) (fakekit.Route, [3]string, fakekit.Handler) {
		return fakekit.Route{Name: name, Write: true}, [3]string{at(11), at(13)}, h
	}
	switch kind := strings.ToLower(at(10)); {
	case kind == "incidents" && n == 11 && method == http.MethodGet:
		return read(RouteARMIncidentList, s.armListIncidents)
	case kind == "incidents" && n == 11 && method == http.MethodPut:
		return write(RouteARMIncidentPut, func(*fakekit.Call) fakekit.Reply {
			return armError(http.StatusMethodNotAllowed, "UnsupportedApiVersion", "The HTTP resource that matches the request URI does not support the API version '"+ARMVersion+"' and HTTP method 'PUT'.")
		})
	case kind == "incidents" && n == 12 && method == http.MethodGet:
		return read(RouteARMIncidentGet, s.armGetIncident)
	case kind == "incidents" && n == 12 && method == http.MethodPut:
		return write(RouteARMIncidentPut, s.armPutIncident)
	case kind == "incidents" && n == 12 && method == http.MethodDelete:
		return write(RouteARMIncidentDelete, s.armDeleteIncident)
	case kind == "incidents" && n == 13 && key(12) == "POST alerts":
		return read(RouteARMAlerts, s.armAlerts)
	case kind == "incidents" && n == 13 && key(12) == "POST entities":
		return read(RouteARMEntities, s.armEntities)
	case kind == "incidents" && n == 13 && key(12) == "POST runplaybook":
		return write(RouteARMPlaybook, s.armRunPlaybook)
	case kind == "incidents" && n == 13 && key(12) == "GET comments":
		return read(RouteARMCommentList, s.armSubList)
	case kind == "incidents" && n == 14 && key(12) == "GET comments":
		return read(RouteARMCommentGet, s.armSubGet)
	case kind == "incidents" && n == 14 && key(12) == "PUT comments":
		return write(RouteARMCommentPut, s.armSubPut)
	case kind == "incidents" && n == 13 && key(12) == "GET tasks":
		return read(RouteARMTaskList, s.armSubList)
	case kind == "incidents" && n == 14 && key(12) == "GET tasks":
		return read(RouteARMTaskGet, s.armSubGet)
	case kind == "incidents" && n == 14 && key(12) == "PUT tasks":
		return write(RouteARMTaskPut, s.armSubPut)
	case kind == "watchlists" && n == 11 && method == http.MethodGet:
		return read(RouteARMWatchlistList, s.armListWatchlists)
	case kind == "watchlists" && n == 12 && method == http.MethodGet:
		return read(RouteARMWatchlistGet, s.armGetWatchlist)
	case kind == "watchlists" && n == 12 && method == http.MethodPut:
		return write(RouteARMWatchlistPut, s.armPutWatchlist)
	case kind == "watchlists" && n == 12 && method == http.MethodDelete:
		return write(RouteARMWatchlistDel, s.armDeleteWatchlist)
	case kind == "watchlists" && n == 13 && key(12) == "GET watchlistitems":
		return read(RouteARMItemList, s.armListItems)
	case kind == "watchlists" && n == 14 && key(12) == "GET watchlistitems":
		return read(RouteARMItemGet, s.armGetItem)
	case kind == "watchlists" && n == 14 && key(12) == "PUT watchlistitems":
		return write(RouteARMItemPut, s.armPutItem)
	case kind == "watchlists" && n == 14 && key(12) == "DELETE watchlistitems":
		return write(RouteARMItemDelete, s.armDeleteItem)
	case kind == "operations" && n == 12 && method == http.MethodGet:
		return read(RouteARMOperation, s.armGetOperation)
	}
	return rUnknown, [3]string{}, nil
}

// allowARM judges the caller: token, api-version, existence of the workspace, and role. A reply with a status refuses.
func (s *Server) allowARM(c *fakekit.Call, roles ...string) (*App, fakekit.Reply) {
	o := s.arm.opt
	app, v := s.bearer(c.R, o.Audiences)
	switch v {
	case tokenMissing:
		return nil, armError(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	case tokenUnknown:
		return nil, armError(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
	case tokenExpired:
		return nil, armError(http.StatusUnauthorized, "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.")
	case tokenAudience:
		return nil, armError(http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong audience or resource. It should match one of the allowed audiences '"+strings.Join(o.Audiences, "','")+"'.")
	case tokenGood:
	}
	version := c.R.URL.Query().Get("api-version")
	s.arm.mu.Lock()
	s.arm.ledger.Versions[version]++
	s.arm.mu.Unlock()
	if version == "" {
		return nil, armError(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	p := strings.Split(strings.Trim(c.R.URL.Path, "/"), "/")
	switch {
	case len(p) < 2 || !strings.EqualFold(p[1], o.Subscription):
		return nil, armError(http.StatusNotFound, "SubscriptionNotFound", "The subscription '"+p[min(1, len(p)-1)]+"' could not be found.")
	case len(p) < 4 || !strings.EqualFold(p[3], o.ResourceGroup):
		return nil, armError(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '"+p[min(3, len(p)-1)]+"' could not be found.")
	case len(p) < 8 || !strings.EqualFold(p[7], o.Workspace):
		return nil, armError(http.StatusNotFound, "ResourceNotFound", "The Resource 'Microsoft.OperationalInsights/workspaces/"+p[min(7, len(p)-1)]+"' under resource group '"+o.ResourceGroup+"' was not found.")
	}
	if o.Roles != nil && !slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(o.Roles, r) }) {
		parts := []string{"Microsoft.SecurityInsights"}
		for i := 10; i < len(p); i += 2 {
			parts = append(parts, p[i])
		}
		action := strings.Join(parts, "/") + map[string]string{http.MethodGet: "/read", http.MethodPut: "/write", http.MethodDelete: "/delete", http.MethodPost: "/action"}[c.R.Method]
		return nil, armError(http.StatusForbidden, "AuthorizationFailed", "The client '"+app.ClientID+"' with object id '"+app.ClientID+
			"' does not have authorization to perform action '"+action+"' over scope '"+s.WorkspaceID()+"' or the scope is invalid. If access was recently granted, please refresh your credentials.")
	}
	if o.ReadsPerMinute > 0 {
		if wait := s.limits.Take("arm "+app.ClientID, s.opt.Now(), o.ReadsPerMinute, time.Minute); wait > 0 {
			return nil, armError(http.StatusTooManyRequests, "TooManyRequests", "Number of requests for subscription '"+o.Subscription+"' exceeded the limit. Please try again later.").
				With("Retry-After", fakekit.Seconds(wait)).With("x-ms-ratelimit-remaining-subscription-reads", "0")
		}
	}
	return app, fakekit.Reply{}
}

var (
	readers      = []string{RoleSentinelReader, RoleSentinelResponder, RoleSentinelContributor}
	responders   = []string{RoleSentinelResponder, RoleSentinelContributor}
	contributors = []string{RoleSentinelContributor}
	operators    = []string{RolePlaybookOperator, RoleSentinelContributor}
)

func armError(status int, code, message string) fakekit.Reply {
	return fakekit.JSON(status, object{"error": object{"code": code, "message": message}}).
		With("x-ms-request-id", newGUID()).With("x-ms-correlation-request-id", newGUID())
}

func armJSON(status int, v any) fakekit.Reply {
	reply := fakekit.Reply{Status: status}
	if v != nil {
		reply = fakekit.JSON(status, v)
	}
	return reply.With("x-ms-request-id", newGUID()).With("x-ms-correlation-request-id", newGUID()).
		With("x-ms-ratelimit-remaining-subscription-reads", "249")
}

// armLink makes an absolute link as Azure Resource Manager does: with the port, even where it is the scheme's own.
func (s *Server) armLink(r *http.Request, path, query string) string {
	scheme := "https://"
	if r.TLS == nil && r.URL.Scheme != "https" {
		scheme = "http://"
	}
	host := r.Host
	if !strings.Contains(host, ":") {
		host += map[string]string{"https://": ":443", "http://": ":80"}[scheme]
	}
	if query != "" {
		path += "?" + query
	}
	return scheme + host + path
}

// The actions that the built-in roles of Microsoft Sentinel allow, as far as they matter here.
var armActions = map[string][]string{
	RoleSentinelReader:    {"Microsoft.SecurityInsights/*/read", "Microsoft.OperationalInsights/workspaces/*/read"},
	RoleSentinelResponder: {"Microsoft.SecurityInsights/*/read", "Microsoft.SecurityInsights/incidents/*", "Microsoft.OperationalInsights/workspaces/*/read"},
	RoleSentinelContributor: {
		"Microsoft.SecurityInsights/*", "Microsoft.OperationalInsights/workspaces/*/read",
	},
	RolePlaybookOperator: {"Microsoft.Logic/workflows/read", "Microsoft.Logic/workflows/triggers/listCallbackUrl/action"},
}

func (s *Server) armPermissions(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, append(slices.Clone(readers), RolePlaybookOperator)...); bad.Status != 0 {
		return bad
	}
	roles := s.arm.opt.Roles
	if roles == nil {
		roles = slices.Sorted(maps.Keys(armActions))
	}
	list := []object{}
	for _, r := range roles {
		list = append(list, object{"actions": armActions[r], "notActions": []string{}})
	}
	return armJSON(http.StatusOK, object{"value": list})
}

// armOperation is a long-running operation.
type armOperation struct {
	polls int    // until it ends
	fails string // what it fails with
	done  func()
}

// step is one look at an operation.
func (op *armOperation) step() (ended bool) {
	if op.polls > 0 {
		op.polls--
	}
	if op.polls > 0 {
		return false
	}
	if op.done != nil {
		op.done()
		op.done = nil
	}
	return true
}

// begin starts an operation and says how it is to be followed.
func (s *Server) begin(c *fakekit.Call, reply fakekit.Reply, op *armOperation) fakekit.Reply {
	a := &s.arm
	if a.opt.State {
		return reply
	}
	id := newGUID()
	a.operations[id] = op
	link := s.armLink(c.R, s.WorkspaceID()+insights+"operations/"+id, "api-version="+ARMVersion)
	name := "Azure-AsyncOperation"
	if a.opt.Async == "location" {
		name = "Location"
	}
	return reply.With(name, link).With("Retry-After", "0")
}

func (s *Server) armGetOperation(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	op := s.arm.operations[c.Args[0]]
	switch {
	case op == nil:
		return armError(http.StatusNotFound, "OperationNotFound", "The operation could not be found.")
	case !op.step() && s.arm.opt.Async == "location":
		return armJSON(http.StatusAccepted, object{}).With("Retry-After", "0").With("Location", s.armLink(c.R, c.R.URL.Path, c.R.URL.RawQuery))
	case op.polls > 0:
		return armJSON(http.StatusOK, object{"name": c.Args[0], "status": "InProgress"}).With("Retry-After", "0")
	case op.fails != "" && s.arm.opt.Async == "location":
		return armError(http.StatusBadRequest, "WatchlistUploadFailed", op.fails)
	case op.fails != "":
		return armJSON(http.StatusOK, object{"name": c.Args[0], "status": "Failed", "error": object{"code": "WatchlistUploadFailed", "message": op.fails}})
	case s.arm.opt.Async == "location":
		return armJSON(http.StatusNoContent, nil)
	default:
		return armJSON(http.StatusOK, object{"name": c.Args[0], "status": "Succeeded"})
	}
}

// etag makes a new one; under the lock.
func (a *arm) etag() string {
	a.etags++
	n := strconv.Itoa(a.etags)
	return `"` + strings.Repeat("0", max(0, 8-len(n))) + n + `-0000-0000-0000-68d1c2a40000"`
}

func toObject(raw json.RawMessage) object {
	var o object
	if json.Unmarshal(raw, &o) != nil || o == nil {
		return object{}
	}
	return o
}
