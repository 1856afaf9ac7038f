package hivefake

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
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
	Throttle    = fakekit.Throttle    // 429 with Retry-After, as a proxy in front answers; not executed
	Unavailable = fakekit.Unavailable // 503; not executed
	ServerError = fakekit.ServerError // 500; not executed
	Reset       = fakekit.Reset       // connection reset; not executed
	HTML        = fakekit.HTML        // 200 with a sign-in page; not executed
	LostAnswer  = fakekit.LostAnswer  // executed, then the connection is reset
	ErrorAfter  = fakekit.ErrorAfter  // executed, then 500
	CutBody     = fakekit.CutBody     // executed, then the connection closes in the middle of the body
	BadJSON     = fakekit.BadJSON     // executed, then half of the JSON as if it were all
	Slow        = fakekit.Slow        // executed after Faults.Delay
)

// Names of routes, for Faults, FailNext and the ledger.
const (
	RouteStatus      = "hive.status"
	RouteUser        = "hive.user"
	RouteQuery       = "hive.query"
	RouteAlertCreate = "hive.alert.create"
	RouteAlertGet    = "hive.alert.get"
	RouteAlertUpdate = "hive.alert.update"
	RouteAlertDelete = "hive.alert.delete"
	RoutePromote     = "hive.alert.promote"
	RouteMerge       = "hive.alert.merge"
	RouteCaseCreate  = "hive.case.create"
	RouteCaseGet     = "hive.case.get"
	RouteCaseUpdate  = "hive.case.update"
	RouteCaseDelete  = "hive.case.delete"
	RouteCaseMerge   = "hive.case.merge"
	RouteObservable  = "hive.observable.add"
	RouteComment     = "hive.comment.add"
	RouteProcedure   = "hive.procedure.add"
	RouteTask        = "hive.task.add"
	RouteTaskUpdate  = "hive.task.update"
	RouteTaskLog     = "hive.task.log"
	RouteLicence     = "hive.licence"
	RouteLink        = "hive.case.link"
	RouteAttachment  = "hive.attachment.add"
	RouteEdit        = "hive.comment.update"
	RouteUnknown     = "unknown"
)

// User is an account with its API key.
type User struct {
	Login, Name, APIKey string
	// Organisations the user works in; the first is the default.
	Organisations []string
	// ReadOnly users may not write, as everybody may not on an instance without a licence.
	ReadOnly bool
}

// Status is a status of cases or alerts and the stage that it belongs to: New, InProgress, Closed, or Imported.
type Status struct{ Value, Stage string }

// CustomField is a custom field; Type is one of string, integer, float, boolean, date, url.
type CustomField struct {
	Name, Type string
	// Mandatory fields must be filled before a case is closed.
	Mandatory bool
	// Options are the values that the field takes; none for any.
	Options []any
}

// Template is a case template.
type Template struct {
	Name, TitlePrefix string
	Tags, Tasks       []string
}

// Options configure a fake. The zero value gives one user with a random key in one organisation, version 5.7.3.
type Options struct {
	// Version decides how duplicates are answered (400 CreateError before 5.6, 409 after), how long external links may
	// be (512 characters before 5.7.3, then 4096) and what TLP means (0 to 3 before 5.2, then 0 to 4).
	Version       string
	Users         []User
	DataTypes     []string // observable types that hold text; "file" is always there
	CaseStatuses  []Status
	AlertStatuses []Status
	CustomFields  []CustomField
	Templates     []Template
	// Patterns are the ATT&CK techniques in the catalog; nil means every T1000 to T1999 and their sub-techniques.
	Patterns []string
	// PromoteTwice lets an alert become a second case, as version 4 let it be merged repeatedly; otherwise the second
	// time is refused.
	PromoteTwice bool
	// NoLicence makes everything read-only, as it is without a licence from 5.3 on.
	NoLicence bool
	// NoLinks takes away the operation that links cases.
	NoLinks bool
	// EmptyErrors answers duplicates with an empty object.
	EmptyErrors bool
	// IndexLag is how long new alerts and cases stay invisible in lists at first; see [Server.SetIndexLag].
	IndexLag time.Duration
	// ContextPath is the path in front of /api.
	ContextPath string
	// Now is the clock; nil means time.Now. Waits always use real timers.
	Now func() time.Time
	// Seed makes injected chance repeatable.
	Seed uint64
}

// Server is the fake. It is safe for concurrent use; Close must be called.
type Server struct {
	opt     Options
	version [3]int
	rules   inputs
	kit     *fakekit.Kit

	mu      sync.Mutex
	lag     time.Duration
	lastID  int64
	number  int64
	alerts  table
	cases   table
	tasks   map[string]*record
	byRef   map[string]*record // alerts by organisation and type;source;sourceRef
	byNo    map[string]*record // cases by organisation and number
	refused map[string]uint64
}

// DefaultOrganisation is the organisation of the default user.
const DefaultOrganisation = "soc"

// New returns a fake.
func New(o Options) *Server {
	o.Version = cmp.Or(o.Version, "5.7.3")
	if len(o.Users) == 0 {
		o.Users = []User{{Login: "casewire@example.com", Name: "Casewire", APIKey: rand.Text()}}
	}
	for i := range o.Users {
		if len(o.Users[i].Organisations) == 0 {
			o.Users[i].Organisations = []string{DefaultOrganisation}
		}
	}
	if o.DataTypes == nil {
		o.DataTypes = []string{
			"autonomous-system", "cve", "domain", "filename", "fqdn", "hash", "hostname", "ip", "mail", "mail-subject", "other",
			"regexp", "registry", "uri_path", "url", "user-agent",
		}
	}
	if o.CaseStatuses == nil {
		o.CaseStatuses = []Status{
			{"New", "New"},
			{"InProgress", "InProgress"},
			{"TruePositive", "Closed"},
			{"FalsePositive", "Closed"},
			{"Indeterminate", "Closed"},
			{"Other", "Closed"},
			{"Duplicated", "Closed"},
		}
	}
	if o.AlertStatuses == nil {
		o.AlertStatuses = []Status{
			{"New", "New"},
			{"InProgress", "InProgress"},
			{"Pending", "InProgress"},
			{"Imported", "Imported"},
			{"Duplicate", "Closed"},
			{"FalsePositive", "Closed"},
			{"Ignored", "Closed"},
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		opt: o, lag: o.IndexLag, lastID: 10000, alerts: newTable(), cases: newTable(), tasks: map[string]*record{},
		byRef: map[string]*record{}, byNo: map[string]*record{}, refused: map[string]uint64{},
	}
	for i, part := range strings.SplitN(o.Version, ".", 3) {
		digits, _, _ := strings.Cut(part, "-")
		s.version[i], _ = strconv.Atoi(digits) // a version that is no number counts as 0
	}
	s.rules = inputs{
		newAlert: s.newAlertRules(), alert: s.changedAlertRules(), promote: s.promoteRules(), newCase: s.newCaseRules(),
		kase: s.changedCaseRules(), observable: s.observableRules(),
	}
	s.kit = fakekit.New(o.Now, o.Seed, failed)
	s.kit.Type = "application/json"
	return s
}

// atLeast compares with version 5.minor.patch: there is no other major.
func (s *Server) atLeast(minor, patch int) bool {
	return slices.Compare(s.version[:], []int{5, minor, patch}) >= 0
}

// Close ends waits that slow answers are in.
func (s *Server) Close() { s.kit.Close() }

// APIKey returns the key of the first user.
func (s *Server) APIKey() string { return s.opt.Users[0].APIKey }

// SetFaults replaces the rates of injected faults.
func (s *Server) SetFaults(f Faults) { s.kit.SetFaults(f) }

// FailNext injects a fault into the next n requests of a route (or of "read", "write", "*").
func (s *Server) FailNext(route string, fault Fault, n int) { s.kit.FailNext(route, fault, n) }

// SetIndexLag makes alerts and cases that are created from now on show up in lists only after d.
func (s *Server) SetIndexLag(d time.Duration) {
	s.mu.Lock()
	s.lag = d
	s.mu.Unlock()
}

// Transport serves requests without a socket; connections that the fake cuts become errors.
func (s *Server) Transport() http.RoundTripper { return fakekit.Transport(s) }

type doc = map[string]any

func failure(status int, kind, message string) fakekit.Reply {
	return fakekit.JSON(status, doc{"type": kind, "message": message})
}

func badRequest(message string) fakekit.Reply {
	return failure(http.StatusBadRequest, "BadRequest", message)
}

func notFound(what string) fakekit.Reply {
	return failure(http.StatusNotFound, "NotFoundError", what+" not found")
}

func failed(f Fault, status int) fakekit.Reply {
	kind := "GenericError"
	if f == Throttle {
		kind = "TooManyRequests"
	}
	return failure(status, kind, http.StatusText(status))
}

// duplicate answers a create whose key is taken; the caller holds the lock.
func (s *Server) duplicate(what string) fakekit.Reply {
	s.refused[what]++
	message := what + " already exist in organisation"
	if s.opt.EmptyErrors {
		return fakekit.JSON(http.StatusBadRequest, doc{})
	}
	if s.atLeast(6, 0) {
		return failure(http.StatusConflict, "ConflictError", message)
	}
	return failure(http.StatusBadRequest, "CreateError", message)
}

// session is who asks, for which organisation.
type session struct {
	user *User
	org  string
}

type handler func(*fakekit.Call, session) fakekit.Reply

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, args, h := s.route(r)
	s.kit.Serve(w, r, route, args, func(c *fakekit.Call) fakekit.Reply {
		if h == nil {
			return notFound("Endpoint " + r.Method + " " + r.URL.Path)
		}
		if route.Name == RouteStatus {
			return h(c, session{})
		}
		who, refusal := s.authenticate(r)
		if who.user == nil {
			return refusal
		}
		if route.Write && (who.user.ReadOnly || s.opt.NoLicence) {
			return failure(http.StatusForbidden, "AuthorizationError", "Your role or your licence does not permit this action.")
		}
		return h(c, who)
	})
}

func (s *Server) authenticate(r *http.Request) (session, fakekit.Reply) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	i := slices.IndexFunc(s.opt.Users, func(u User) bool { return u.APIKey == key && key != "" })
	if !ok || i < 0 {
		return session{}, failure(http.StatusUnauthorized, "AuthenticationError", "Authentication failure")
	}
	u := &s.opt.Users[i]
	org := cmp.Or(r.Header.Get("X-Organisation"), u.Organisations[0])
	if !slices.Contains(u.Organisations, org) {
		return session{}, failure(http.StatusForbidden, "AuthorizationError", "You are not in the organisation "+org+".")
	}
	return session{u, org}, fakekit.Reply{}
}

func (s *Server) route(r *http.Request) (fakekit.Route, [3]string, handler) {
	read := func(name string, h handler, args ...string) (fakekit.Route, [3]string, handler) {
		var a [3]string
		copy(a[:], args)
		return fakekit.Route{Name: name}, a, h
	}
	write := func(name string, h handler, args ...string) (fakekit.Route, [3]string, handler) {
		route, a, h := read(name, h, args...)
		route.Write = true
		return route, a, h
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), s.opt.ContextPath+"/api/v1/")
	if !ok {
		return read(RouteUnknown, nil)
	}
	p := strings.Split(rest, "/")
	for i := range p {
		if plain, err := url.PathUnescape(p[i]); err == nil {
			p[i] = plain
		}
	}
	key := r.Method + " " + strconv.Itoa(len(p)) + " " + p[0]
	if len(p) > 2 {
		key += " " + p[2]
	}
	switch key {
	case "GET 2 status":
		if p[1] == "public" {
			return read(RouteStatus, s.publicStatus)
		}
	case "GET 1 status":
		return read(RouteLicence, s.status)
	case "POST 3 alert attachments", "POST 3 case attachments":
		return write(RouteAttachment, s.addAttachments, p[0], p[1])
	case "PATCH 2 comment":
		return write(RouteEdit, s.updateComment, p[1])
	case "POST 5 case link":
		if p[3] == "case" && p[4] == "add" {
			return write(RouteLink, s.linkCases, p[1])
		}
	case "GET 2 user":
		if p[1] == "current" {
			return read(RouteUser, s.currentUser)
		}
	case "POST 1 query":
		return read(RouteQuery, s.query)
	case "POST 1 alert":
		return write(RouteAlertCreate, s.createAlert)
	case "GET 2 alert":
		return read(RouteAlertGet, s.getAlert, p[1])
	case "PATCH 2 alert":
		return write(RouteAlertUpdate, s.updateAlert, p[1])
	case "DELETE 2 alert":
		return write(RouteAlertDelete, s.deleteAlert, p[1])
	case "POST 3 alert case":
		return write(RoutePromote, s.promote, p[1])
	case "POST 3 alert _bulk":
		if p[1] == "merge" {
			return write(RouteMerge, s.mergeBulk)
		}
	case "POST 4 alert merge", "POST 4 alert import":
		return write(RouteMerge, s.merge, p[1], p[3])
	case "POST 3 alert observable", "POST 3 case observable":
		return write(RouteObservable, s.addObservable, p[0], p[1])
	case "POST 3 alert comment", "POST 3 case comment":
		return write(RouteComment, s.addComment, p[0], p[1])
	case "POST 3 alert procedure", "POST 3 case procedure":
		return write(RouteProcedure, s.addProcedure, p[0], p[1])
	case "POST 1 case":
		return write(RouteCaseCreate, s.createCase)
	case "GET 2 case":
		return read(RouteCaseGet, s.getCase, p[1])
	case "PATCH 2 case":
		return write(RouteCaseUpdate, s.updateCase, p[1])
	case "DELETE 2 case":
		return write(RouteCaseDelete, s.deleteCase, p[1])
	case "POST 3 case task":
		return write(RouteTask, s.addTask, p[1])
	case "PATCH 2 task":
		return write(RouteTaskUpdate, s.updateTask, p[1])
	case "POST 3 task log":
		return write(RouteTaskLog, s.addLog, p[1])
	}
	if r.Method == http.MethodPost && len(p) == 3 && p[0] == "case" && p[1] == "_merge" {
		return write(RouteCaseMerge, s.mergeCases, p[2])
	}
	return read(RouteUnknown, nil)
}

func (s *Server) publicStatus(*fakekit.Call, session) fakekit.Reply {
	return fakekit.JSON(http.StatusOK, doc{
		"version": s.opt.Version, "sso": false, "ssoProviders": []doc{}, "imports": doc{"mitreCatalog": "Enterprise v16.1"},
	})
}

func (s *Server) currentUser(_ *fakekit.Call, who session) fakekit.Reply {
	profile := "analyst"
	permissions := []string{"manageAlert/create", "manageAlert/update", "manageAlert/import", "manageCase/create", "manageCase/update", "manageObservable", "manageTask", "manageComment", "manageProcedure"}
	if who.user.ReadOnly {
		profile, permissions = "read-only", []string{}
	}
	orgs := []doc{}
	for _, o := range who.user.Organisations {
		orgs = append(orgs, doc{"organisationId": "~" + o, "organisation": o, "profile": profile})
	}
	return fakekit.JSON(http.StatusOK, doc{
		"_id": "~4096", "_createdBy": "system@thehive.local", "_createdAt": 1700000000000, "login": who.user.Login, "name": who.user.Name,
		"email": who.user.Login, "hasKey": true, "hasPassword": false, "hasMFA": false, "locked": false, "profile": profile,
		"permissions": permissions, "organisation": who.org, "organisations": orgs, "type": "Service",
		"defaultOrganisation": who.user.Organisations[0], "extraData": doc{},
	})
}

// body reads a JSON object out of a request; an absent body is an empty object if that is allowed.
func body(r *http.Request, optional bool) (map[string]json.RawMessage, fakekit.Reply, bool) {
	raw, whole := fakekit.ReadBody(r, 32<<20)
	if !whole {
		return nil, failure(http.StatusRequestEntityTooLarge, "BadRequest", "The request is too large"), false
	}
	if len(raw) == 0 && optional {
		return map[string]json.RawMessage{}, fakekit.Reply{}, true
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if strings.EqualFold(kind, "multipart/form-data") {
		return nil, badRequest("JSON is expected, not a form"), false
	}
	var obj map[string]json.RawMessage
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") || json.Unmarshal(raw, &obj) != nil || obj == nil {
		return nil, badRequest("Invalid JSON: an object with Content-Type application/json is expected"), false
	}
	return obj, fakekit.Reply{}, true
}
