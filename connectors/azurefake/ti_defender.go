package azurefake

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// mdeRecord is an indicator of Microsoft Defender for Endpoint.
type mdeRecord struct {
	id     int
	object object
}

const (
	mdeImportMax = 500
	mdeActiveMax = 15000
)

var (
	rMDEList   = fakekit.Route{Name: RouteMDEList}
	rMDEGet    = fakekit.Route{Name: RouteMDEGet}
	rMDECreate = fakekit.Route{Name: RouteMDECreate, Write: true}
	rMDEImport = fakekit.Route{Name: RouteMDEImport, Write: true}
	rMDEDelete = fakekit.Route{Name: RouteMDEDelete, Write: true}
	rMDEBatch  = fakekit.Route{Name: RouteMDEBatchDrop, Write: true}

	mdeTypes = []string{"FileSha1", "FileMd5", "FileSha256", "CertificateThumbprint", "IpAddress", "DomainName", "Url"}
	mdeActs  = []string{"Alert", "Warn", "Block", "Audit", "BlockAndRemediate", "AlertAndBlock", "Allowed"}
	mdeGrade = []string{"", "Informational", "Low", "Medium", "High"}
)

// FillDefender adds n active indicators that somebody else made.
func (s *Server) FillDefender(n int) {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	if s.ti.mde == nil {
		s.ti.mde = map[string]*mdeRecord{}
	}
	for range n {
		s.ti.nextID++
		name := "name" + strconv.Itoa(s.ti.nextID) + ".others.example"
		s.ti.mde[name] = &mdeRecord{id: s.ti.nextID, object: object{
			"indicatorValue": name, "indicatorType": "DomainName", "action": "Block", "title": name, "description": "not ours", "application": "Others",
		}}
	}
}

func (s *Server) routeDefender(method string, p []string) (fakekit.Route, string, fakekit.Handler) {
	switch {
	case len(p) == 2 && method == http.MethodGet:
		return rMDEList, "", s.defender(s.listMDE)
	case len(p) == 2 && method == http.MethodPost:
		return rMDECreate, "", s.defender(s.createMDE)
	case len(p) == 3 && p[2] == "import" && method == http.MethodPost:
		return rMDEImport, "", s.defender(s.importMDE)
	case len(p) == 3 && p[2] == "BatchDelete" && method == http.MethodPost:
		return rMDEBatch, "", s.defender(s.batchDeleteMDE)
	case len(p) == 3 && method == http.MethodGet:
		return rMDEGet, p[2], s.defender(s.getMDE)
	case len(p) == 3 && method == http.MethodDelete:
		return rMDEDelete, p[2], s.defender(s.deleteMDE)
	}
	return fakekit.Route{}, "", nil
}

func defenderError(status int, code, message string) fakekit.Reply {
	return fakekit.JSON(status, object{"error": object{"code": code, "message": message, "target": newGUID()}})
}

// defender checks token and permission.
func (s *Server) defender(h func(*fakekit.Call, *App) fakekit.Reply) fakekit.Handler {
	return func(c *fakekit.Call) fakekit.Reply {
		audiences := s.opt.TI.DefenderAudiences
		if audiences == nil {
			audiences = []string{"https://api.securitycenter.microsoft.com"}
		}
		app, v := s.bearer(c.R, audiences)
		if v != tokenGood {
			return defenderError(http.StatusUnauthorized, "Unauthorized", "Missing or invalid token: check its audience and expiry.")
		}
		if !app.may(RoleIndicatorReadWrite, RoleIndicatorReadWrite+".All") {
			return defenderError(http.StatusForbidden, "MissingRoles", "The application does not have any of the required application permissions (Ti.ReadWrite, Ti.ReadWrite.All).")
		}
		return h(c, app)
	}
}

// activeLocked counts indicators that have not expired. The caller holds the lock.
func (s *Server) activeLocked() int {
	n := 0
	for _, r := range s.ti.mde {
		if s.aliveMDE(r) {
			n++
		}
	}
	return n
}

func (s *Server) aliveMDE(r *mdeRecord) bool {
	text, _ := r.object["expirationTime"].(string)
	if text == "" {
		return true
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return err != nil || t.After(s.opt.Now())
}

func (s *Server) listMDE(c *fakekit.Call, _ *App) fakekit.Reply {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	all := slices.SortedFunc(maps.Values(s.ti.mde), func(a, b *mdeRecord) int { return a.id - b.id })
	q := c.R.URL.Query()
	if f := q.Get("$filter"); f != "" {
		value, ok := strings.CutPrefix(f, "indicatorValue eq '")
		if !ok || !strings.HasSuffix(value, "'") {
			return defenderError(http.StatusBadRequest, "BadRequest", "The query specified in the URI is not valid.")
		}
		value = strings.ReplaceAll(strings.TrimSuffix(value, "'"), "''", "'")
		all = slices.DeleteFunc(all, func(r *mdeRecord) bool { return !strings.EqualFold(r.value(), value) })
	}
	skip, _ := strconv.Atoi(q.Get("$skip"))
	top, err := strconv.Atoi(q.Get("$top"))
	if err != nil || top <= 0 || top > 10000 {
		top = 10000
	}
	all = all[min(skip, len(all)):]
	out := []object{}
	for _, r := range all[:min(top, len(all))] {
		out = append(out, r.shown())
	}
	return fakekit.JSON(http.StatusOK, object{"@odata.context": s.origin(c.R) + "/api/$metadata#Indicators", "value": out})
}

func (r *mdeRecord) value() string {
	v, _ := r.object["indicatorValue"].(string)
	return v
}

func (r *mdeRecord) shown() object {
	o := maps.Clone(r.object)
	o["id"] = strconv.Itoa(r.id)
	return o
}

// takeMDE creates or updates by value; the text is why not. Active is the number of active indicators, kept up to date.
func (s *Server) takeMDE(o object, active *int) (*mdeRecord, string) {
	text := func(name string) string {
		t, _ := o[name].(string)
		return t
	}
	for _, name := range []string{"indicatorValue", "indicatorType", "action", "title", "description"} {
		if text(name) == "" {
			return nil, "The property '" + name + "' is required."
		}
	}
	value := strings.ToLower(text("indicatorValue"))
	switch {
	case s.ti.refuse[value] != "":
		return nil, s.ti.refuse[value]
	case !slices.Contains(mdeTypes, text("indicatorType")):
		return nil, "The indicator type '" + text("indicatorType") + "' is not valid."
	case !slices.Contains(mdeActs, text("action")):
		return nil, "The action '" + text("action") + "' is not valid."
	case !slices.Contains(mdeGrade, text("severity")):
		return nil, "The severity '" + text("severity") + "' is not valid."
	case text("action") == "Audit" && o["generateAlert"] != true:
		return nil, "Audit requires generateAlert to be true."
	case text("indicatorType") == "IpAddress":
		if _, err := netip.ParseAddr(text("indicatorValue")); err != nil {
			return nil, "The IP address is not valid; CIDR notation is not supported."
		}
	}
	var until time.Time
	if e := text("expirationTime"); e != "" {
		t, err := time.Parse(time.RFC3339Nano, e)
		if err != nil {
			return nil, "The expiration time is not valid."
		}
		until = t
	}
	if s.ti.mde == nil {
		s.ti.mde = map[string]*mdeRecord{}
	}
	r := s.ti.mde[value]
	if r == nil {
		limit := s.opt.TI.DefenderMax
		if limit == 0 {
			limit = mdeActiveMax
		}
		alive := until.IsZero() || until.After(s.opt.Now())
		if alive && *active >= limit {
			return nil, "Max capacity of active indicators was reached: " + strconv.Itoa(limit) + "."
		}
		if alive {
			*active++
		}
		s.ti.nextID++
		r = &mdeRecord{id: s.ti.nextID}
		s.ti.mde[value] = r
		s.ti.ledger.DefenderCreated++
	} else {
		s.ti.ledger.DefenderUpdated++
	}
	r.object = o
	return r, ""
}

func (s *Server) createMDE(c *fakekit.Call, app *App) fakekit.Reply {
	if wait := s.limits.Take("mde "+app.ClientID, s.opt.Now(), 100, time.Minute); wait > 0 {
		return defenderError(http.StatusTooManyRequests, "TooManyRequests", "Too many requests.").With("Retry-After", fakekit.Seconds(wait))
	}
	body, whole := fakekit.ReadBody(c.R, 1<<20)
	var o object
	if !whole || json.Unmarshal(body, &o) != nil || o == nil {
		return defenderError(http.StatusBadRequest, "BadRequest", "The request body is not valid.")
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	active := s.activeLocked()
	r, why := s.takeMDE(o, &active)
	if r == nil {
		return defenderError(http.StatusBadRequest, "BadRequest", why)
	}
	return fakekit.JSON(http.StatusOK, r.shown())
}

func (s *Server) importMDE(c *fakekit.Call, app *App) fakekit.Reply {
	if n := s.opt.TI.ImportsPerMinute; n > 0 {
		if wait := s.limits.Take("mde import "+app.ClientID, s.opt.Now(), n, time.Minute); wait > 0 {
			return defenderError(http.StatusTooManyRequests, "TooManyRequests", "Too many requests: try again in "+fakekit.Seconds(wait)+" seconds.").With("Retry-After", fakekit.Seconds(wait))
		}
	}
	body, whole := fakekit.ReadBody(c.R, 8<<20)
	var in struct{ Indicators []object }
	if !whole || json.Unmarshal(body, &in) != nil {
		return defenderError(http.StatusBadRequest, "BadRequest", "The request body is not valid.")
	}
	if n := len(in.Indicators); n == 0 || n > mdeImportMax {
		return defenderError(http.StatusBadRequest, "BadRequest", "An import takes 1 to 500 indicators; got "+strconv.Itoa(n)+".")
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	s.ti.ledger.Imports++
	out, active := []object{}, s.activeLocked()
	for _, o := range in.Indicators {
		r, why := s.takeMDE(o, &active)
		if r == nil {
			s.ti.ledger.DefenderFailed++
			out = append(out, object{"id": nil, "indicator": o["indicatorValue"], "isFailed": true, "failureReason": why})
			continue
		}
		out = append(out, object{"id": strconv.Itoa(r.id), "indicator": r.value(), "isFailed": false, "failureReason": nil})
	}
	return fakekit.JSON(http.StatusOK, object{"@odata.context": s.origin(c.R) + "/api/$metadata#Collection(microsoft.windowsDefenderATP.api.ImportIndicatorResult)", "value": out})
}

func (s *Server) mdeByIDLocked(id string) (string, *mdeRecord) {
	for value, r := range s.ti.mde {
		if strconv.Itoa(r.id) == id {
			return value, r
		}
	}
	return "", nil
}

func (s *Server) getMDE(c *fakekit.Call, _ *App) fakekit.Reply {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	if _, r := s.mdeByIDLocked(c.Args[0]); r != nil {
		return fakekit.JSON(http.StatusOK, r.shown())
	}
	return defenderError(http.StatusNotFound, "NotFound", "Indicator "+c.Args[0]+" was not found.")
}

func (s *Server) deleteMDE(c *fakekit.Call, _ *App) fakekit.Reply {
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	value, r := s.mdeByIDLocked(c.Args[0])
	if r == nil {
		return defenderError(http.StatusNotFound, "NotFound", "Indicator "+c.Args[0]+" was not found.")
	}
	delete(s.ti.mde, value)
	s.ti.ledger.DefenderDeleted++
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) batchDeleteMDE(c *fakekit.Call, _ *App) fakekit.Reply {
	body, whole := fakekit.ReadBody(c.R, 1<<20)
	var in struct{ IndicatorIds []string }
	if !whole || json.Unmarshal(body, &in) != nil || len(in.IndicatorIds) == 0 || len(in.IndicatorIds) > 500 {
		return defenderError(http.StatusBadRequest, "BadRequest", "The request body is not valid.")
	}
	s.ti.mu.Lock()
	defer s.ti.mu.Unlock()
	for _, id := range in.IndicatorIds {
		if value, r := s.mdeByIDLocked(id); r != nil {
			delete(s.ti.mde, value)
			s.ti.ledger.DefenderDeleted++
		}
	}
	return fakekit.Reply{Status: http.StatusNoContent}
}
