package azurefake

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Names of the routes of threat intelligence.
const (
	RouteTIUpload      = "ti.upload"
	RouteTIQuery       = "ti.arm.query"
	RouteTIList        = "ti.arm.list"
	RouteTIGet         = "ti.arm.get"
	RouteTIPut         = "ti.arm.put"
	RouteTIDelete      = "ti.arm.delete"
	RouteTIMetrics     = "ti.arm.metrics"
	RouteTIWorkspace   = "ti.arm.workspace"
	RouteMDEList       = "mde.indicators.list"
	RouteMDEGet        = "mde.indicators.get"
	RouteMDECreate     = "mde.indicators.create"
	RouteMDEImport     = "mde.indicators.import"
	RouteMDEDelete     = "mde.indicators.delete"
	RouteMDEBatchDrop  = "mde.indicators.batch_delete"
	tiUploadSuffix     = "threat-intelligence-stix-objects:upload"
	tiUploadVersion    = "2024-02-01-preview"
	tiObjectsPerUpload = 100
)

// Roles that the fake checks for threat intelligence.
const (
	RoleSentinelContributor = "Microsoft Sentinel Contributor"
	RoleSentinelReader      = "Microsoft Sentinel Reader"
	RoleIndicatorReadWrite  = "Ti.ReadWrite"
)

// TIOptions configure the threat intelligence services. The zero value has no quota.
type TIOptions struct {
	// UploadsPerMinute throttles each app on uploads of STIX objects (100 there); 0 means no limit.
	UploadsPerMinute int
	// SecondsInBody tells how long to wait in the body of the 429 only, as API Management does; else in Retry-After.
	SecondsInBody bool
	// ReadLag is how long what was uploaded takes until Azure Resource Manager shows it (minutes there).
	ReadLag time.Duration
	// ImportsPerMinute throttles each app on imports to Defender (30 there); 0 means no limit.
	ImportsPerMinute int
	// DefenderMax is the most active indicators of a tenant in Defender; default 15000.
	DefenderMax int
	// Audiences are the resources whose tokens uploads and Resource Manager accept, DefenderAudiences those of Defender.
	Audiences, DefenderAudiences []string
}

// TILedger is what was done to threat intelligence, counted by the fake.
type TILedger struct {
	Uploads  int `json:"uploads"`  // that were executed
	Objects  int `json:"objects"`  // distinct, revoked ones too
	Created  int `json:"created"`  // objects that were new
	Updated  int `json:"updated"`  // newer versions that were taken
	Same     int `json:"same"`     // versions that were not newer, and changed nothing
	Rejected int `json:"rejected"` // records refused inside a 200
	Deleted  int `json:"deleted"`  // over Azure Resource Manager
	// ByObject counts the versions that were taken of each object.
	ByObject map[string]int `json:"by_object"`

	Imports         int `json:"imports"`          // to Defender, executed
	DefenderCreated int `json:"defender_created"` // indicators that were new
	DefenderUpdated int `json:"defender_updated"`
	DefenderFailed  int `json:"defender_failed"` // refused inside a 200
	DefenderDeleted int `json:"defender_deleted"`
	DefenderActive  int `json:"defender_active"`
}

type stixRecord struct {
	id, name  string // name is Resource Manager's, made by the server
	source    string
	object    object
	created   time.Time
	modified  time.Time // the object's
	changed   time.Time // by the server's clock
	lastWrite time.Time // what the read side shows is as old as ReadLag
	shown     object    // before the last write, while that is not visible
	revoked   bool
	etag      int
}

type tiState struct {
	mu      sync.Mutex
	objects map[string]map[string]*stixRecord // by workspace and id
	mde     map[string]*mdeRecord             // by lower-case value
	nextID  int
	ledger  TILedger
	refuse  map[string]string // reasons to refuse an import, by value
}

// RefuseIndicator makes Defender refuse a value in imports, inside a 200, for the reason given; "" takes that back.
func (s *Server) RefuseIndicator(value, reason string) {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	if s.ti.refuse == nil {
		s.ti.refuse = map[string]string{}
	}
	s.ti.refuse[strings.ToLower(value)] = reason
}

// TI returns a copy of the counts of threat intelligence.
func (s *Server) TI() TILedger {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	led := s.ti.ledger
	led.ByObject = maps.Clone(led.ByObject)
	for _, w := range s.ti.objects {
		led.Objects += len(w)
	}
	led.DefenderActive = s.activeLocked()
	return led
}

// STIX returns the object with that id in a workspace, as it was uploaded last; nil if there is none.
func (s *Server) STIX(workspace, id string) map[string]any {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	r := s.ti.objects[workspace][id]
	if r == nil {
		return nil
	}
	return maps.Clone(r.object)
}

// STIXIDs lists the objects of a workspace, sorted.
func (s *Server) STIXIDs(workspace string) []string {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	return slices.Sorted(maps.Keys(s.ti.objects[workspace]))
}

var (
	rTIUpload    = fakekit.Route{Name: RouteTIUpload, Write: true}
	rTIQuery     = fakekit.Route{Name: RouteTIQuery}
	rTIList      = fakekit.Route{Name: RouteTIList}
	rTIGet       = fakekit.Route{Name: RouteTIGet}
	rTIPut       = fakekit.Route{Name: RouteTIPut, Write: true}
	rTIDelete    = fakekit.Route{Name: RouteTIDelete, Write: true}
	rTIMetrics   = fakekit.Route{Name: RouteTIMetrics}
	rTIWorkspace = fakekit.Route{Name: RouteTIWorkspace}
)

// routeTI routes uploads, Resource Manager's threat intelligence and Defender's indicators; false if the path is none of
// them.
func (s *Server) routeTI(method string, p []string) (fakekit.Route, string, fakekit.Handler, bool) {
	none := fakekit.Route{}
	switch {
	case len(p) == 3 && p[0] == "workspaces" && p[2] == tiUploadSuffix && method == http.MethodPost:
		return rTIUpload, p[1], s.uploadSTIX, true
	case len(p) >= 2 && p[0] == "api" && p[1] == "indicators":
		r, arg, h := s.routeDefender(method, p)
		return r, arg, h, h != nil
	case len(p) == 8 && p[0] == "subscriptions" && strings.EqualFold(p[6], "workspaces") && method == http.MethodGet:
		return rTIWorkspace, p[7], s.getWorkspace, true
	case len(p) < 12 || p[0] != "subscriptions" || !strings.EqualFold(p[10], "threatIntelligence") || p[11] != "main":
		return none, "", nil, false
	}
	rest := p[12:]
	switch {
	case len(rest) == 1 && rest[0] == "queryIndicators" && method == http.MethodPost,
		len(rest) == 1 && rest[0] == "queryIndicators" && method == http.MethodGet: // a next link
		return rTIQuery, p[7], s.queryIndicators, true
	case len(rest) == 1 && rest[0] == "metrics" && method == http.MethodGet:
		return rTIMetrics, p[7], s.tiMetrics, true
	case len(rest) == 1 && rest[0] == "indicators" && method == http.MethodGet:
		return rTIList, p[7], s.queryIndicators, true
	case len(rest) == 2 && rest[0] == "indicators":
		switch method {
		case http.MethodGet:
			return rTIGet, rest[1], s.getIndicator, true
		case http.MethodPut:
			return rTIPut, rest[1], s.putIndicator, true
		case http.MethodDelete:
			return rTIDelete, rest[1], s.deleteIndicator, true
		}
	}
	return none, "", nil, false
}

// resourceManagerError is the envelope of Azure Resource Manager, and of the upload API as far as is known.
func resourceManagerError(status int, code, message string) fakekit.Reply {
	return fakekit.JSON(status, object{"error": object{"code": code, "message": message}}).
		With("x-ms-request-id", newGUID()).With("x-ms-correlation-request-id", newGUID())
}

// judge checks token, audience and role. The reply counts if ok is false.
func (s *Server) tiApp(r *http.Request, roles ...string) (app *App, reply fakekit.Reply, ok bool) {
	audiences := s.opt.TI.Audiences
	if audiences == nil {
		audiences = []string{"https://management.azure.com", "https://management.core.windows.net"}
	}
	app, v := s.bearer(r, audiences)
	switch v {
	case tokenMissing, tokenUnknown, tokenExpired:
		return nil, resourceManagerError(http.StatusUnauthorized, "ExpiredAuthenticationToken", "The access token is missing, unknown or expired."), false
	case tokenAudience:
		return nil, resourceManagerError(http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", "The access token has been obtained for the wrong audience or resource."), false
	case tokenGood:
	}
	if !app.may(roles...) {
		return nil, resourceManagerError(http.StatusForbidden, "AuthorizationFailed", "The client '"+app.ClientID+"' does not have authorization to perform this action over this scope."), false
	}
	return app, fakekit.Reply{}, true
}

func (s *Server) uploadSTIX(c *fakekit.Call) fakekit.Reply {
	app, reply, ok := s.tiApp(c.R, RoleSentinelContributor)
	if !ok {
		return reply
	}
	workspace := c.Args[0]
	if !slices.Contains(s.opt.Workspaces, workspace) {
		return resourceManagerError(http.StatusNotFound, "ResourceNotFound", "The workspace '"+workspace+"' was not found.")
	}
	if got := c.R.URL.Query().Get("api-version"); got != tiUploadVersion {
		return resourceManagerError(http.StatusBadRequest, "UnsupportedApiVersion", "The api-version '"+got+"' is not supported; supported is '"+tiUploadVersion+"'.")
	}
	if n := s.opt.TI.UploadsPerMinute; n > 0 {
		if wait := s.limits.Take("ti "+app.ClientID, s.opt.Now(), n, time.Minute); wait > 0 {
			seconds := fakekit.Seconds(wait)
			reply := fakekit.JSON(http.StatusTooManyRequests, object{"statusCode": 429, "message": "Rate limit is exceeded. Try again in " + seconds + " seconds."})
			if !s.opt.TI.SecondsInBody {
				reply = reply.With("Retry-After", seconds)
			}
			return reply
		}
	}
	body, whole := fakekit.ReadBody(c.R, 8<<20)
	var in struct {
		SourceSystem string            `json:"sourcesystem"`
		Objects      []json.RawMessage `json:"stixobjects"`
	}
	switch err := json.Unmarshal(body, &in); {
	case !whole || err != nil:
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "The request body is not valid JSON of the expected shape.")
	case in.SourceSystem == "":
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "The property 'sourcesystem' is required.")
	case strings.EqualFold(in.SourceSystem, "Microsoft Sentinel"):
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "The source system 'Microsoft Sentinel' is reserved.")
	case len(in.Objects) > tiObjectsPerUpload:
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "At most 100 STIX objects are accepted per request; got "+strconv.Itoa(len(in.Objects))+".")
	case len(in.Objects) == 0:
		return resourceManagerError(http.StatusBadRequest, "BadRequest", "The property 'stixobjects' must have at least one object.")
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	s.ti.ledger.Uploads++
	var faults []object
	for i, raw := range in.Objects {
		if why := s.takeSTIX(workspace, in.SourceSystem, raw); len(why) > 0 {
			s.ti.ledger.Rejected++
			faults = append(faults, object{"recordIndex": i, "errorMessages": why})
		}
	}
	if len(faults) == 0 {
		return fakekit.Reply{Status: http.StatusOK}
	}
	return fakekit.JSON(http.StatusOK, object{"errors": faults})
}

var (
	stixID    = regexp.MustCompile(`^(indicator|attack-pattern|threat-actor|identity|relationship)--[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	stixTypes = []string{"indicator", "attack-pattern", "threat-actor", "identity", "relationship"}
)

// takeSTIX stores one object, or says what is wrong with it.
func (s *Server) takeSTIX(workspace, source string, raw json.RawMessage) (why []string) {
	var o object
	if json.Unmarshal(raw, &o) != nil || o == nil {
		return []string{"The record is not a JSON object."}
	}
	text := func(name string) string {
		t, _ := o[name].(string)
		return t
	}
	missing := func(name string) {
		if text(name) == "" {
			why = append(why, "Error for Property="+name+": Required property is missing. Actual value: NULL.")
		}
	}
	wrong := func(name, want string) {
		why = append(why, "Error for Property="+name+": "+want+" Actual value: "+text(name)+".")
	}
	missing("id")
	missing("type")
	for _, name := range []string{"created", "modified"} {
		missing(name)
	}
	if t := text("type"); t != "" && !slices.Contains(stixTypes, t) {
		wrong("type", "The type is not supported.")
	}
	if id := text("id"); id != "" && (!stixID.MatchString(id) || !strings.HasPrefix(id, text("type")+"--")) {
		wrong("id", "The id is not valid for the type.")
	}
	at := map[string]time.Time{}
	for _, name := range []string{"created", "modified", "valid_from", "valid_until"} {
		if text(name) == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339Nano, text(name))
		if err != nil || !strings.HasSuffix(text(name), "Z") {
			wrong(name, "The value is not a valid timestamp.")
		}
		at[name] = t
	}
	if text("type") == "indicator" {
		for _, name := range []string{"pattern", "pattern_type", "valid_from"} {
			missing(name)
		}
		if p := text("pattern"); p != "" && text("pattern_type") == "stix" && (!strings.HasPrefix(p, "[") || !strings.HasSuffix(p, "]")) {
			wrong("pattern", "The pattern is not valid.")
		}
		if until, ok := at["valid_until"]; ok && !until.After(at["valid_from"]) {
			wrong("valid_until", "The value must be later than valid_from.")
		}
	}
	if n, ok := o["confidence"].(float64); ok && (n < 0 || n > 100 || n != float64(int(n))) {
		why = append(why, "Error for Property=confidence: The value must be between 0 and 100.")
	}
	if at["modified"].Before(at["created"]) {
		wrong("modified", "The value must not be earlier than created.")
	}
	if len(why) > 0 {
		return why
	}
	if s.ti.objects == nil {
		s.ti.objects = map[string]map[string]*stixRecord{}
		s.ti.ledger.ByObject = map[string]int{}
	}
	if s.ti.objects[workspace] == nil {
		s.ti.objects[workspace] = map[string]*stixRecord{}
	}
	id, now := text("id"), s.opt.Now()
	r := s.ti.objects[workspace][id]
	switch {
	case r == nil:
		r = &stixRecord{id: id, name: newGUID(), created: now}
		s.ti.objects[workspace][id] = r
		s.ti.ledger.Created++
	case r.revoked:
		return []string{"Error for Property=revoked: The object is revoked and cannot be changed. Actual value: true."}
	case !at["modified"].After(r.modified):
		s.ti.ledger.Same++
		return nil
	default:
		s.ti.ledger.Updated++
	}
	s.ti.ledger.ByObject[id]++
	if r.object != nil && now.Sub(r.lastWrite) >= s.opt.TI.ReadLag {
		r.shown = r.object
	}
	r.object, r.source, r.modified, r.changed, r.lastWrite = o, source, at["modified"], now, now
	r.etag++
	r.revoked, _ = o["revoked"].(bool)
	return nil
}
