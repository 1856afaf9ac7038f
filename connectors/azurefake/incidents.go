package azurefake

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Routes of security/incidents and hunting.
const (
	RouteIncidentList    = "graph.incidents.list"
	RouteIncidentGet     = "graph.incidents.get"
	RouteIncidentPatch   = "graph.incidents.patch"
	RouteIncidentComment = "graph.incidents.comment"
	RouteHunting         = "graph.hunting"
)

// Permissions of security/incidents and hunting.
const (
	RoleIncidentRead      = "SecurityIncident.Read.All"
	RoleIncidentReadWrite = "SecurityIncident.ReadWrite.All"
	RoleHuntingRead       = "ThreatHunting.Read.All"
)

var (
	rIncidentList  = fakekit.Route{Name: RouteIncidentList}
	rIncidentGet   = fakekit.Route{Name: RouteIncidentGet}
	rIncidentPatch = fakekit.Route{Name: RouteIncidentPatch, Write: true}
	rIncidentNote  = fakekit.Route{Name: RouteIncidentComment, Write: true}
	rHunting       = fakekit.Route{Name: RouteHunting}
)

// incidentRecord is one incident; version is what filters look at.
type incidentRecord struct {
	version
	id       string
	seq      int
	obj      map[string]json.RawMessage
	comments []json.RawMessage
	added    []string
	patches  int
}

type incidentStore struct {
	mu      sync.Mutex
	byID    map[string]*incidentRecord
	hunting map[string]huntingAnswer
	hunted  []string
}

// IncidentLedger is what happened to one incident over the API.
type IncidentLedger struct {
	Patches  int `json:"patches"`
	Comments int `json:"comments"`
}

// AddIncident adds an incident, a JSON object as security/incidents returns it without its alerts, and returns its id. What
// is missing of id, the two times, status, severity, displayName and tenantId is filled in. Its alerts are those whose
// incidentId is its id.
func (s *Server) AddIncident(raw []byte) (string, error) {
	obj, ok := decodeObject(raw)
	if !ok {
		return "", errors.New("azurefake: an incident must be a JSON object")
	}
	now := s.opt.Now().UTC().Format(stamp)
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	for name, value := range map[string]string{
		"createdDateTime": now, "lastUpdateDateTime": now, "status": "active", "severity": "unknown", "displayName": "An incident",
		"tenantId": s.opt.Tenants[0], "id": strconv.Itoa(len(s.incidents.byID) + 1001),
	} {
		if text(obj[name]) == "" {
			obj[name] = quote(value)
		}
	}
	delete(obj, "alerts")
	id := text(obj["id"])
	if s.incidents.byID[id] != nil {
		return "", fmt.Errorf("azurefake: there is an incident %q already; use UpdateIncident", id)
	}
	rec := &incidentRecord{id: id, seq: len(s.incidents.byID), obj: obj}
	if len(obj["comments"]) > 0 && json.Unmarshal(obj["comments"], &rec.comments) != nil {
		return "", fmt.Errorf("azurefake: incident %q: comments must be an array", id)
	}
	if err := rec.index(); err != nil {
		return "", err
	}
	s.incidents.byID[id] = rec
	return id, nil
}

// UpdateIncident merges fields into an incident and raises its lastUpdateDateTime unless they name one.
func (s *Server) UpdateIncident(id string, fields map[string]any) error {
	raw, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("azurefake: encode fields: %w", err)
	}
	patch, _ := decodeObject(raw)
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	rec := s.incidents.byID[id]
	if rec == nil {
		return fmt.Errorf("azurefake: there is no incident %q", id)
	}
	return s.changeIncident(rec, patch)
}

// MergeIncidents moves everything of one incident into another, as the correlation engine does: the source is redirected,
// and its alerts name the target without having changed themselves. It returns how many alerts moved.
func (s *Server) MergeIncidents(source, target string) (int, error) {
	if err := s.UpdateIncident(source, map[string]any{"status": "redirected", "redirectIncidentId": target}); err != nil {
		return 0, err
	}
	moved := 0
	for _, id := range s.alertsOf(source) {
		if err := s.MoveAlert(id, target); err != nil {
			return moved, err
		}
		moved++
	}
	return moved, s.UpdateIncident(target, nil)
}

// MoveAlert puts an alert into another incident and leaves its lastUpdateDateTime as it is.
func (s *Server) MoveAlert(id, incident string) error {
	raw, ok := s.Alert(id)
	if !ok {
		return fmt.Errorf("azurefake: there is no alert %q", id)
	}
	obj, _ := decodeObject(raw)
	return s.UpdateAlert(id, map[string]any{"incidentId": incident, "lastUpdateDateTime": obj["lastUpdateDateTime"]})
}

// alertsOf lists the ids of an incident's alerts.
func (s *Server) alertsOf(incident string) []string {
	s.alerts.mu.RLock()
	defer s.alerts.mu.RUnlock()
	var ids []string
	for id, rec := range s.alerts.byID {
		if text(rec.obj["incidentId"]) == incident {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Incident returns an incident as it stands, without its alerts.
func (s *Server) Incident(id string) (json.RawMessage, bool) {
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	if rec := s.incidents.byID[id]; rec != nil {
		return encodeObject(rec.obj), true
	}
	return nil, false
}

// IncidentComments returns the comments that clients have added to an incident, in order.
func (s *Server) IncidentComments(id string) []string {
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	if rec := s.incidents.byID[id]; rec != nil {
		return slices.Clone(rec.added)
	}
	return nil
}

// IncidentLedger tells what happened to an incident over the API.
func (s *Server) IncidentLedger(id string) IncidentLedger {
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	if rec := s.incidents.byID[id]; rec != nil {
		return IncidentLedger{rec.patches, len(rec.added)}
	}
	return IncidentLedger{}
}

// index reads what lists are filtered and ordered by.
func (r *incidentRecord) index() error {
	var err error
	for name, at := range map[string]*time.Time{"createdDateTime": &r.created, "lastUpdateDateTime": &r.updated} {
		if *at, err = time.Parse(time.RFC3339Nano, text(r.obj[name])); err != nil {
			return fmt.Errorf("azurefake: incident %q: %s: %w", r.id, name, err)
		}
	}
	for i, name := range filterable {
		r.props[i] = text(r.obj[name])
	}
	if r.obj["comments"] = json.RawMessage("[]"); len(r.comments) > 0 {
		r.obj["comments"], err = json.Marshal(r.comments)
	}
	return err
}

// changeIncident merges fields; the caller holds the lock.
func (s *Server) changeIncident(rec *incidentRecord, fields map[string]json.RawMessage) error {
	old := rec.obj
	rec.obj = maps.Clone(old)
	maps.Copy(rec.obj, fields)
	if _, given := fields["lastUpdateDateTime"]; !given {
		at := s.opt.Now().UTC()
		if !at.After(rec.updated) {
			at = rec.updated.Add(100 * time.Nanosecond)
		}
		rec.obj["lastUpdateDateTime"] = quote(at.Format(stamp))
	}
	if err := rec.index(); err != nil {
		rec.obj = old
		return err
	}
	return nil
}

func (s *Server) routeIncidents(method string, p []string) (fakekit.Route, string, fakekit.Handler) {
	switch {
	case len(p) == 3 && method == http.MethodGet:
		return rIncidentList, "", s.listIncidents
	case len(p) == 4 && method == http.MethodGet:
		return rIncidentGet, p[3], s.getIncident
	case len(p) == 4 && method == http.MethodPatch:
		return rIncidentPatch, p[3], s.patchIncident
	case len(p) == 5 && p[4] == "comments" && method == http.MethodPost:
		return rIncidentNote, p[3], s.commentIncident
	}
	return rUnknown, strings.Join(p, "/"), notFound
}

// write renders an incident, with its alerts if they are asked for; the caller holds the lock.
func (s *Server) writeIncident(rec *incidentRecord, expand, all bool) json.RawMessage {
	if !expand {
		return encodeObject(rec.obj)
	}
	var list bytes.Buffer
	list.WriteByte('[')
	for i, id := range s.alertsOf(rec.id) {
		s.alerts.mu.RLock()
		body := s.alerts.byID[id].cur.body(all)
		s.alerts.mu.RUnlock()
		if i > 0 {
			list.WriteByte(',')
		}
		list.Write(body)
	}
	list.WriteByte(']')
	obj := maps.Clone(rec.obj)
	obj["alerts"] = list.Bytes()
	return encodeObject(obj)
}

func (s *Server) listIncidents(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleIncidentRead, RoleIncidentReadWrite); app == nil {
		return refusal
	}
	query := c.R.URL.Query()
	expand := query.Get("$expand")
	if expand != "" && expand != "alerts" {
		return graphError(http.StatusBadRequest, "BadRequest", "Could not find a property named '"+expand+"' on type 'microsoft.graph.security.incident'.")
	}
	plain := maps.Clone(query)
	plain.Del("$expand")
	p, bad := s.parsePage(plain)
	if bad != "" {
		return graphError(http.StatusBadRequest, "BadRequest", bad)
	}
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	var hits []*incidentRecord
	for _, rec := range s.incidents.byID {
		if p.filter.match(&rec.version) && p.filter.within(rec.updated) {
			hits = append(hits, rec)
		}
	}
	slices.SortFunc(hits, func(a, b *incidentRecord) int {
		order := cmp.Or(a.created.Compare(b.created), a.seq-b.seq)
		if p.byUpdate {
			order = cmp.Or(a.updated.Compare(b.updated), a.seq-b.seq)
		}
		if !p.ascending {
			order = -order
		}
		return order
	})
	total := len(hits)
	hits = hits[min(p.skip, len(hits)):]
	more := len(hits) > p.top
	hits = hits[:min(p.top, len(hits))]
	out := object{"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#security/incidents"}
	if p.count {
		out["@odata.count"] = total
	}
	if more {
		out["@odata.nextLink"] = s.nextPage(c.R, "/v1.0/security/incidents", query, p.skip+len(hits))
	}
	value := make([]json.RawMessage, len(hits))
	for i, rec := range hits {
		value[i] = s.writeIncident(rec, expand != "", wantsAllMembers(c.R))
	}
	out["value"] = value
	return fakekit.JSON(http.StatusOK, out)
}

// within says whether a time passes the filter's bounds, which match leaves to the index.
func (f *filter) within(at time.Time) bool {
	return (f.since.IsZero() || !at.Before(f.since)) && (f.until.IsZero() || !at.After(f.until))
}

func (s *Server) nextPage(r *http.Request, path string, query url.Values, skip int) string {
	query.Del("$skip")
	query.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte("cwpage:"+strconv.Itoa(skip))))
	return s.origin(r) + path + "?" + query.Encode()
}

func (s *Server) getIncident(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleIncidentRead, RoleIncidentReadWrite); app == nil {
		return refusal
	}
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	rec := s.incidents.byID[c.Args[0]]
	if rec == nil {
		return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found")
	}
	return fakekit.Reply{Status: http.StatusOK, Body: s.writeIncident(rec, c.R.URL.Query().Get("$expand") == "alerts", wantsAllMembers(c.R))}
}

// What "Update incident" accepts; nil means any string or null.
var patchableIncident = map[string][]string{
	"status":           {"active", "resolved", "inProgress", "awaitingAction"},
	"classification":   patchable["classification"],
	"determination":    patchable["determination"],
	"severity":         {"unknown", "informational", "low", "medium", "high"},
	"assignedTo":       nil,
	"displayName":      nil,
	"description":      nil,
	"summary":          nil,
	"resolvingComment": nil,
	"customTags":       nil,
}

func (s *Server) patchIncident(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleIncidentReadWrite); app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	if !ok || !isObject {
		return graphError(http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload.")
	}
	delete(fields, "@odata.type")
	for name, raw := range fields {
		members, known := patchableIncident[name]
		var tags []string
		switch {
		case !known:
			return graphError(http.StatusBadRequest, "BadRequest", "The property '"+name+"' cannot be updated.")
		case name == "customTags":
			if json.Unmarshal(raw, &tags) != nil || tags == nil {
				return graphError(http.StatusBadRequest, "BadRequest", "The property 'customTags' must be a collection of strings.")
			}
		case string(raw) == "null" && name != "status":
		case members == nil && !strings.HasPrefix(string(raw), `"`):
			return graphError(http.StatusBadRequest, "BadRequest", "The property '"+name+"' must be a string.")
		case members != nil && !slices.Contains(members, text(raw)):
			return graphError(http.StatusBadRequest, "BadRequest", "Requested value '"+text(raw)+"' was not found in the enumeration of '"+name+"'.")
		}
	}
	if len(fields) == 0 {
		return graphError(http.StatusBadRequest, "BadRequest", "The request names no property to update.")
	}
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	rec := s.incidents.byID[c.Args[0]]
	if rec == nil {
		return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found")
	}
	if text(rec.obj["status"]) == "redirected" {
		return graphError(http.StatusBadRequest, "BadRequest", "The incident was merged into incident "+text(rec.obj["redirectIncidentId"])+" and cannot be updated.")
	}
	fields["lastModifiedBy"] = quote(s.opt.AppName)
	if err := s.changeIncident(rec, fields); err != nil {
		return graphError(http.StatusBadRequest, "BadRequest", err.Error())
	}
	rec.patches++
	return fakekit.Reply{Status: http.StatusOK, Body: s.writeIncident(rec, false, wantsAllMembers(c.R))}
}

func (s *Server) commentIncident(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleIncidentReadWrite); app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	comment := text(fields["comment"])
	if !ok || !isObject || strings.TrimSpace(comment) == "" {
		return graphError(http.StatusBadRequest, "BadRequest", "The comment must not be empty.")
	}
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	rec := s.incidents.byID[c.Args[0]]
	if rec == nil {
		return graphError(http.StatusNotFound, "ResourceNotFound", "Resource not found")
	}
	rec.comments = append(slices.Clip(rec.comments), fakekit.JSON(0, object{
		"@odata.type": "#microsoft.graph.security.alertComment", "comment": comment,
		"createdByDisplayName": s.opt.AppName, "createdDateTime": s.opt.Now().UTC().Format(stamp),
	}).Body)
	if err := s.changeIncident(rec, nil); err != nil {
		return graphError(http.StatusBadRequest, "BadRequest", err.Error())
	}
	rec.added = append(rec.added, comment)
	return fakekit.JSON(http.StatusOK, object{
		"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#Collection(microsoft.graph.security.alertComment)", "value": rec.comments,
	})
}
