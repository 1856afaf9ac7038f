package jirafake

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Faults says how often requests go wrong; see the constants for the ways, and the Route constants for the keys.
type Faults = fakekit.Faults

// Fault names one way in which a request goes wrong.
type Fault = fakekit.Fault

// The ways in which a request can go wrong.
const (
	Throttle    = fakekit.Throttle    // 429 with Retry-After and RateLimit-Reason; not executed
	Unavailable = fakekit.Unavailable // 503; not executed
	ServerError = fakekit.ServerError // 500; not executed
	Conflict    = fakekit.Conflict    // 409; not executed
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
	RouteServerInfo    = "jira.serverInfo"
	RouteMeta          = "jira.meta" // myself, field, priority, createmeta, status, resolution, project, user search
	RouteCreate        = "jira.issue.create"
	RouteGet           = "jira.issue.get"
	RouteEdit          = "jira.issue.edit"
	RouteDelete        = "jira.issue.delete"
	RouteAssign        = "jira.issue.assign"
	RouteComment       = "jira.comment.add"
	RouteComments      = "jira.comment.list"
	RouteCommentEdit   = "jira.comment.edit"
	RouteTransitions   = "jira.transition.list"
	RouteTransition    = "jira.transition.do"
	RouteRemoteLink    = "jira.remotelink.put"
	RouteRemoteLinks   = "jira.remotelink.list"
	RoutePropertyPut   = "jira.property.put"
	RoutePropertyGet   = "jira.property.get"
	RoutePropertyClear = "jira.property.delete"
	RouteAttach        = "jira.attachment.add"
	RouteContent       = "jira.attachment.content"
	RouteLink          = "jira.issueLink.create"
	RouteSearch        = "jira.search"
	RouteOldSearch     = "jira.search.removed"
	RouteUnknown       = "unknown"
)

// User is an account with its credentials; empty ones are not registered.
type User struct {
	Email, AccountID, Name, DisplayName string
	APIToken                            string // Cloud: with Basic auth on the site; Data Center: the password
	ScopedToken                         string // Cloud: with Basic auth below /ex/jira/{cloudId} only
	Bearer                              string // Cloud: an OAuth access token below /ex/jira/{cloudId}; Data Center: a PAT
}

// Priority is one of the site's priorities.
type Priority struct{ ID, Name string }

// Field is a custom field. Type is one of string, textarea, number, date, datetime, option, options, cascading, user,
// labels, url.
type Field struct {
	ID, Name, Type string
	Options        []string            // of option, options and cascading; an option's id is "o" and its place
	Children       map[string][]string // of cascading, by option
	Required       bool
}

// IssueType is an issue type of a project.
type IssueType struct {
	ID, Name string
	// Fields are the custom fields on the create and edit screens.
	Fields []Field
	// Hidden are system fields that are not on the screens, such as "priority".
	Hidden []string
}

// Project is a project.
type Project struct {
	ID, Key, Name string
	IssueTypes    []IssueType
	// Desk is the id of the project's service desk; empty: it has none.
	Desk         string
	RequestTypes []RequestType
	// Priorities are the names of those that the project's scheme allows; nil means all.
	Priorities []string
}

// RequestType is a kind of request of a service desk; it becomes an issue of a type of the project.
type RequestType struct{ ID, Name, IssueType string }

// Status is a workflow status; Category is new, indeterminate or done.
type Status struct{ ID, Name, Category string }

// Transition leads to a status from any other, or from those in From.
type Transition struct {
	ID, Name, To       string // To is a status name
	From               []string
	RequiresResolution bool
	// Fields are on the transition's screen beside the resolution.
	Fields []Field
}

// Options configure a fake. The zero value gives one user with a random token and project SOC with Task and Incident.
type Options struct {
	// DataCenter imitates Data Center instead of Cloud.
	DataCenter bool
	// ContextPath is the path of a Data Center installation, such as "/jira".
	ContextPath string
	// CloudID is the id below /ex/jira/.
	CloudID string
	// BaseURL is used in self links.
	BaseURL     string
	Users       []User
	Projects    []Project
	Priorities  []Priority
	Statuses    []Status // the first one is where issues start
	Transitions []Transition
	Resolutions []string
	// IndexLag is how long changes stay invisible for search at first; see [Server.SetIndexLag].
	IndexLag time.Duration
	// NoIssueLimit lifts the limits on writes to one issue.
	NoIssueLimit bool
	// BurstPerSecond throttles each operation; 0 means no limit (Cloud: 100 for GET and POST, 50 for PUT).
	BurstPerSecond int
	// UploadLimit is the size of the largest attachment in bytes; default 10 MiB.
	UploadLimit int64
	// FilesURL is where Cloud sends whoever follows the redirect to an attachment's contents; default below BaseURL.
	FilesURL string
	// MaxComments is the number of comments an issue can hold; default 5000.
	MaxComments int
	// Now is the clock; nil means time.Now. Waits always use real timers.
	Now func() time.Time
	// Seed makes injected chance repeatable.
	Seed uint64
}

// Server is the fake. It is safe for concurrent use; Close must be called.
type Server struct {
	opt    Options
	kit    *fakekit.Kit
	reason atomic.Pointer[string]
	writes fakekit.Limiter
	bursts fakekit.Limiter

	grants grants

	mu       sync.Mutex
	byID     map[int64]*issue
	byKey    map[string]*issue
	counters map[string]int // last issue number per project
	lastID   int64          // of comments, links and attachments
	index    index
	labels   map[string][]*issue // as they are now, for the ledger
	ledger   counts
}

// Defaults of Options that tests and demos need to know.
const (
	DefaultProject = "SOC"
	DefaultCloudID = "0f6ae4a2-3f86-4e6f-9f55-1f0f3c2a9b10"
)

// New returns a fake.
func New(o Options) *Server {
	if len(o.Users) == 0 {
		o.Users = []User{{Email: "casewire@example.com", APIToken: rand.Text(), ScopedToken: rand.Text(), Bearer: rand.Text()}}
	}
	for i := range o.Users {
		u := &o.Users[i]
		u.AccountID = cmp.Or(u.AccountID, fmt.Sprintf("5b10a2844c20165700ede%03d", i))
		name, _, _ := strings.Cut(u.Email, "@")
		u.Name = cmp.Or(u.Name, name)
		u.DisplayName = cmp.Or(u.DisplayName, u.Name)
	}
	if o.Priorities == nil {
		o.Priorities = []Priority{{"1", "Highest"}, {"2", "High"}, {"3", "Medium"}, {"4", "Low"}, {"5", "Lowest"}}
	}
	if o.Projects == nil {
		o.Projects = []Project{{ID: "10000", Key: DefaultProject, Name: "Security Operations", IssueTypes: []IssueType{
			{ID: "10001", Name: "Task"}, {ID: "10007", Name: "Incident"},
		}}}
	}
	if o.Statuses == nil {
		o.Statuses = []Status{{"10000", "To Do", "new"}, {"3", "In Progress", "indeterminate"}, {"10001", "Done", "done"}}
	}
	if o.Transitions == nil {
		for i, st := range o.Statuses {
			o.Transitions = append(o.Transitions, Transition{ID: strconv.Itoa(i*10 + 11), Name: st.Name, To: st.Name})
		}
	}
	if o.Resolutions == nil {
		o.Resolutions = []string{"Done", "Won't Do", "Duplicate", "False Positive"}
	}
	o.CloudID = cmp.Or(o.CloudID, DefaultCloudID)
	o.BaseURL = strings.TrimSuffix(cmp.Or(o.BaseURL, "https://casewire-fake.atlassian.net"), "/")
	o.MaxComments = cmp.Or(o.MaxComments, 5000)
	o.UploadLimit = cmp.Or(o.UploadLimit, 10<<20)
	o.FilesURL = cmp.Or(o.FilesURL, o.BaseURL+"/files")
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		opt: o, byID: map[int64]*issue{}, byKey: map[string]*issue{}, counters: map[string]int{}, labels: map[string][]*issue{},
		lastID: 10000,
	}
	s.index.byLabel, s.index.lag = map[string][]*issue{}, o.IndexLag
	s.kit = fakekit.New(o.Now, o.Seed, s.failed)
	s.kit.Type = "application/json;charset=UTF-8"
	s.SetThrottleReason("jira-burst-based")
	return s
}

// Close ends waits that slow answers are in.
func (s *Server) Close() { s.kit.Close() }

// User returns the first user with the credentials.
func (s *Server) User() User { return s.opt.Users[0] }

// SetFaults replaces the rates of injected faults.
func (s *Server) SetFaults(f Faults) { s.kit.SetFaults(f) }

// FailNext injects a fault into the next n requests of a route (or of "read", "write", "*").
func (s *Server) FailNext(route string, fault Fault, n int) { s.kit.FailNext(route, fault, n) }

// SetThrottleReason sets the RateLimit-Reason of injected 429s: jira-burst-based, jira-quota-global-based,
// jira-quota-tenant-based or jira-per-issue-on-write.
func (s *Server) SetThrottleReason(reason string) { s.reason.Store(&reason) }

// SetIndexLag makes changes from now on visible for search only after d.
func (s *Server) SetIndexLag(d time.Duration) {
	s.mu.Lock()
	s.index.lag = d
	s.mu.Unlock()
}

// Transport serves requests without a socket; connections that the fake cuts become errors.
func (s *Server) Transport() http.RoundTripper { return fakekit.Transport(s) }

func (s *Server) failed(f Fault, status int) fakekit.Reply {
	switch f {
	case Throttle:
		return s.throttled(*s.reason.Load())
	case Conflict:
		return failure(status, "The issue was changed by another request. Read it again and retry.", nil)
	case Unavailable:
		return failure(status, "Jira is temporarily unavailable.", nil)
	}
	return fakekit.JSON(status, object{"message": "Internal server error", "status-code": status, "stack-trace": ""})
}

func (s *Server) throttled(reason string) fakekit.Reply {
	return failure(http.StatusTooManyRequests, "Rate limit exceeded.", nil).
		With("RateLimit-Reason", reason).
		With("X-RateLimit-Limit", "100").With("X-RateLimit-Remaining", "0").
		With("X-RateLimit-Reset", s.opt.Now().UTC().Add(time.Second).Format("2006-01-02T15:04Z"))
}

type object = map[string]any

// failure is Jira's common error body.
func failure(status int, message string, fields map[string]string) fakekit.Reply {
	messages := []string{}
	if message != "" {
		messages = append(messages, message)
	}
	if fields == nil {
		fields = map[string]string{}
	}
	return fakekit.JSON(status, object{"errorMessages": messages, "errors": fields})
}

// unreadable is the body for a request that is no JSON: it has no errors key.
func unreadable(message string) fakekit.Reply {
	return fakekit.JSON(http.StatusBadRequest, object{"errorMessages": []string{message}})
}

func problem(status int, detail, instance string) fakekit.Reply {
	reply := fakekit.JSON(status, object{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail, "instance": instance,
	})
	reply.Type = "application/problem+json"
	return reply
}

const noIssue = "Issue does not exist or you do not have permission to see it."

func missing() fakekit.Reply { return failure(http.StatusNotFound, noIssue, nil) }

type handler func(c *fakekit.Call, u *User) fakekit.Reply

type endpoint struct {
	route fakekit.Route
	h     handler
	args  [3]string
	open  bool // needs no credential
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.opt.Now().UTC().Format(http.TimeFormat))
	path, scoped, ok := s.strip(r.URL.Path)
	e := endpoint{route: fakekit.Route{Name: RouteUnknown}}
	if r.Method == http.MethodPost && r.URL.Path == "/oauth/token" {
		e = read(RouteToken, s.token)
		e.open = true
	} else if ok {
		e = s.route(r.Method, path)
	}
	s.kit.Serve(w, r, e.route, e.args, func(c *fakekit.Call) fakekit.Reply {
		if e.h == nil {
			return problem(http.StatusNotFound, "No endpoint "+r.Method+" "+r.URL.Path+".", r.URL.Path)
		}
		if r.Method == http.MethodPost && e.route.Name == RouteSearch && !isJSON(r) {
			return problem(http.StatusUnsupportedMediaType, "Content-Type '"+r.Header.Get("Content-Type")+"' is not supported.", r.URL.Path)
		}
		user, refusal := s.authenticate(r, scoped)
		if user == nil && !e.open {
			return refusal
		}
		if n := s.opt.BurstPerSecond; n > 0 {
			if wait := s.bursts.Take(e.route.Name, s.opt.Now(), n, time.Second); wait > 0 {
				return s.throttled("jira-burst-based").With("Retry-After", fakekit.Seconds(wait))
			}
		}
		return e.h(c, user)
	})
}

// strip removes what stands before /rest: the context path, or /ex/jira/{cloudId}.
func (s *Server) strip(path string) (rest string, scoped, ok bool) {
	if after, found := strings.CutPrefix(path, "/ex/jira/"); found && !s.opt.DataCenter {
		rest, found = strings.CutPrefix(after, s.opt.CloudID)
		return rest, true, found
	}
	rest, ok = strings.CutPrefix(path, s.opt.ContextPath)
	return rest, false, ok
}

func isJSON(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}

// authenticate finds the user of a request; without one the reply is the refusal.
func (s *Server) authenticate(r *http.Request, scoped bool) (*User, fakekit.Reply) {
	if name, secret, ok := r.BasicAuth(); ok && secret != "" {
		for i := range s.opt.Users {
			u := &s.opt.Users[i]
			want := u.APIToken
			if scoped {
				want = u.ScopedToken
			}
			if (strings.EqualFold(name, u.Email) || s.opt.DataCenter && name == u.Name) && secret == want {
				return u, fakekit.Reply{}
			}
		}
	}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && bearer != "" {
		if !scoped && !s.opt.DataCenter {
			return nil, fakekit.JSON(http.StatusForbidden, object{"error": "Failed to parse Connect Session Auth Token"})
		}
		for i := range s.opt.Users {
			if s.opt.Users[i].Bearer == bearer || scoped && s.granted(bearer) {
				return &s.opt.Users[i], fakekit.Reply{}
			}
		}
	}
	kind := "text/html;charset=UTF-8"
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		kind = "application/json;charset=UTF-8"
	}
	return nil, fakekit.Reply{Status: http.StatusUnauthorized, Type: kind, Body: []byte("Client must be authenticated to access this resource.")}.
		With("WWW-Authenticate", `OAuth realm="`+s.opt.BaseURL+`"`)
}

func read(name string, h handler, args ...string) endpoint {
	return makeEndpoint(fakekit.Route{Name: name}, h, args)
}

func change(name string, h handler, args ...string) endpoint {
	return makeEndpoint(fakekit.Route{Name: name, Write: true}, h, args)
}

func makeEndpoint(r fakekit.Route, h handler, args []string) endpoint {
	e := endpoint{route: r, h: h}
	copy(e.args[:], args)
	return e
}

func (s *Server) route(method, path string) endpoint {
	if after, ok := strings.CutPrefix(path, "/secure/attachment/"); ok && s.opt.DataCenter && method == http.MethodGet {
		id, _, _ := strings.Cut(after, "/")
		return read(RouteContent, s.content, id)
	}
	if after, ok := strings.CutPrefix(path, "/rest/servicedeskapi/"); ok {
		return s.routeDesk(method, strings.Split(after, "/"))
	}
	rest, ok := strings.CutPrefix(path, "/rest/api/2/")
	if !ok && !s.opt.DataCenter {
		rest, ok = strings.CutPrefix(path, "/rest/api/3/")
	}
	if !ok {
		return endpoint{route: fakekit.Route{Name: RouteUnknown}}
	}
	p := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	if p[0] == "issue" && len(p) > 1 && p[1] != "createmeta" {
		return s.routeIssue(method, p[1:])
	}
	get := method == http.MethodGet
	switch key := method + " " + strings.Join(p, "/"); {
	case key == "GET serverInfo":
		e := read(RouteServerInfo, s.serverInfo)
		e.open = true
		return e
	case key == "POST issue":
		return change(RouteCreate, s.createIssue)
	case key == "POST search/jql" || key == "GET search/jql":
		if s.opt.DataCenter {
			return endpoint{route: fakekit.Route{Name: RouteUnknown}}
		}
		return read(RouteSearch, s.searchJQL)
	case key == "POST search" || key == "GET search":
		if !s.opt.DataCenter {
			return read(RouteOldSearch, removedSearch)
		}
		return read(RouteSearch, s.searchPages)
	case key == "POST issueLink":
		return change(RouteLink, s.linkIssues)
	case key == "GET myself":
		return read(RouteMeta, s.myself)
	case key == "GET field":
		return read(RouteMeta, s.listFields)
	case key == "GET priority":
		return read(RouteMeta, s.listPriorities)
	case key == "GET status":
		return read(RouteMeta, s.listStatuses)
	case key == "GET resolution":
		return read(RouteMeta, s.listResolutions)
	case key == "GET user/search":
		return read(RouteMeta, s.searchUsers)
	case key == "GET mypermissions":
		return read(RouteMeta, myPermissions)
	case key == "GET attachment/meta":
		return read(RouteMeta, s.attachmentMeta)
	case get && p[0] == "attachment" && len(p) == 3 && p[1] == "content":
		return read(RouteContent, s.content, p[2])
	case get && p[0] == "project" && len(p) == 2:
		return read(RouteMeta, s.getProject, p[1])
	case get && len(p) >= 4 && p[1] == "createmeta" && p[3] == "issuetypes":
		if len(p) == 4 {
			return read(RouteMeta, s.createMetaTypes, p[2])
		}
		if len(p) == 5 {
			return read(RouteMeta, s.createMetaFields, p[2], p[4])
		}
	}
	return endpoint{route: fakekit.Route{Name: RouteUnknown}}
}

func (s *Server) routeIssue(method string, p []string) endpoint {
	key := method
	if len(p) > 1 {
		key += " " + p[1]
	}
	switch {
	case len(p) == 1 && key == "GET":
		return read(RouteGet, s.getIssue, p[0])
	case len(p) == 1 && key == "PUT":
		return change(RouteEdit, s.editIssue, p[0])
	case len(p) == 1 && key == "DELETE":
		return change(RouteDelete, s.deleteIssue, p[0])
	case len(p) == 2 && key == "GET editmeta":
		return read(RouteMeta, s.editMeta, p[0])
	case len(p) == 2 && key == "PUT assignee":
		return change(RouteAssign, s.assign, p[0])
	case len(p) == 2 && key == "POST comment":
		return change(RouteComment, s.addComment, p[0])
	case len(p) == 2 && key == "GET comment":
		return read(RouteComments, s.listComments, p[0])
	case len(p) == 3 && key == "GET comment":
		return read(RouteComments, s.getComment, p[0], p[2])
	case len(p) == 3 && key == "PUT comment":
		return change(RouteCommentEdit, s.editComment, p[0], p[2])
	case len(p) == 2 && key == "GET transitions":
		return read(RouteTransitions, s.listTransitions, p[0])
	case len(p) == 2 && key == "POST transitions":
		return change(RouteTransition, s.transition, p[0])
	case len(p) == 2 && key == "POST remotelink":
		return change(RouteRemoteLink, s.putRemoteLink, p[0])
	case len(p) == 2 && key == "GET remotelink":
		return read(RouteRemoteLinks, s.listRemoteLinks, p[0])
	case len(p) == 2 && key == "GET properties":
		return read(RoutePropertyGet, s.listProperties, p[0])
	case len(p) == 3 && key == "GET properties":
		return read(RoutePropertyGet, s.getProperty, p[0], p[2])
	case len(p) == 3 && key == "PUT properties":
		return change(RoutePropertyPut, s.putProperty, p[0], p[2])
	case len(p) == 3 && key == "DELETE properties":
		return change(RoutePropertyClear, s.deleteProperty, p[0], p[2])
	case len(p) == 2 && key == "POST attachments":
		return change(RouteAttach, s.attach, p[0])
	}
	return endpoint{route: fakekit.Route{Name: RouteUnknown}}
}

func decodeObject(body []byte) (map[string]json.RawMessage, bool) {
	var obj map[string]json.RawMessage
	if json.Unmarshal(body, &obj) != nil || obj == nil {
		return nil, false
	}
	return obj, true
}

// bodyObject reads a JSON object out of a request.
func bodyObject(r *http.Request) (map[string]json.RawMessage, fakekit.Reply, bool) {
	if !isJSON(r) {
		return nil, problem(http.StatusUnsupportedMediaType, "Content-Type '"+r.Header.Get("Content-Type")+"' is not supported.", r.URL.Path), false
	}
	body, whole := fakekit.ReadBody(r, 4<<20)
	if !whole {
		return nil, failure(http.StatusRequestEntityTooLarge, "The request is too large.", nil), false
	}
	obj, ok := decodeObject(body)
	if !ok {
		return nil, unreadable("Invalid request payload. Refer to the REST API documentation and try again."), false
	}
	if bad := flattenBody(r, obj); len(bad) > 0 {
		return nil, failure(http.StatusBadRequest, "", bad), false
	}
	return obj, fakekit.Reply{}, true
}

// text returns a JSON string's value; ok is false for anything else.
func text(raw json.RawMessage) (string, bool) {
	var s *string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

const stamp = "2006-01-02T15:04:05.000-0700"
