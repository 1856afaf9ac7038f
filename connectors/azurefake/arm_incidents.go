package azurefake

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// armIncident is an incident with what belongs to it. Sub-resources are kept by name, in order.
type armIncident struct {
	name     string
	seq      int
	etag     string
	props    object
	modified time.Time
	comments []armSub
	tasks    []armSub
	alerts   []object
	entities []object
}

type armSub struct {
	name, etag string
	props      object
}

// Limits of the service.
const (
	maxARMComments = 100
	maxARMTasks    = 40
	maxARMMessage  = 30000
)

// What a PUT may set; all else is the service's own. What a PUT leaves out of these is cleared.
var armMutable = []string{
	"title", "description", "severity", "status", "classification", "classificationReason", "classificationComment", "owner",
	"labels", "firstActivityTimeUtc", "lastActivityTimeUtc",
}

var armWords = map[string][]string{
	"severity":             {"High", "Informational", "Low", "Medium"},
	"status":               {"Active", "Closed", "New"},
	"classification":       {"BenignPositive", "FalsePositive", "TruePositive", "Undetermined"},
	"classificationReason": {"InaccurateData", "IncorrectAlertLogic", "SuspiciousActivity", "SuspiciousButExpected"},
}

var armReasons = map[string][]string{
	"TruePositive": {"SuspiciousActivity"}, "BenignPositive": {"SuspiciousButExpected"},
	"FalsePositive": {"IncorrectAlertLogic", "InaccurateData"}, "Undetermined": {},
}

// AddSentinelIncident adds an incident of the workspace; props are its properties, and what is missing is filled in. The name is a
// GUID; empty makes one. Alerts and entities are what the two look-ups bring. It returns the name.
func (s *Server) AddSentinelIncident(name string, props map[string]any, alerts, entities []map[string]any) string {
	a := &s.arm
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	if name == "" {
		name = newGUID()
	}
	now := s.opt.Now().UTC().Format(stamp)
	p := object{
		"title": "Incident " + strconv.Itoa(a.number), "severity": "Medium", "status": "New",
		"owner":  object{"objectId": nil, "email": nil, "assignedTo": nil, "userPrincipalName": nil},
		"labels": []any{}, "createdTimeUtc": now, "lastModifiedTimeUtc": now, "incidentNumber": a.number,
		"providerName": "Azure Sentinel", "providerIncidentId": strconv.Itoa(a.number), "relatedAnalyticRuleIds": []any{},
		"incidentUrl":    "https://portal.azure.com/#asset/Microsoft_Azure_Security_Insights/Incident" + s.WorkspaceID() + insights + "Incidents/" + name,
		"additionalData": object{"alertsCount": len(alerts), "bookmarksCount": 0, "commentsCount": 0, "alertProductNames": []any{}, "tactics": []any{}},
	}
	maps.Copy(p, normal(props))
	inc := &armIncident{name: name, seq: a.number, etag: a.etag(), props: p, alerts: alerts, entities: entities}
	inc.modified, _ = time.Parse(time.RFC3339Nano, fmt.Sprint(p["lastModifiedTimeUtc"]))
	a.incidents[name] = inc
	return name
}

// normal gives values the types that JSON gives them.
func normal(o map[string]any) object {
	b, err := json.Marshal(o)
	if err != nil {
		return object{}
	}
	return toObject(b)
}

// SentinelIncident returns the properties of an incident as they are now; nil if there is none.
func (s *Server) SentinelIncident(name string) map[string]any {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	inc := s.arm.incidents[name]
	if inc == nil {
		return nil
	}
	return normal(inc.props)
}

// TouchSentinelIncident is somebody else who changes an incident: its etag and time move.
func (s *Server) TouchSentinelIncident(name string, change map[string]any) {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	if inc := s.arm.incidents[name]; inc != nil {
		maps.Copy(inc.props, normal(change))
		s.bump(inc)
	}
}

// RemoveSentinelIncident is somebody else who deletes an incident.
func (s *Server) RemoveSentinelIncident(name string) {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	delete(s.arm.incidents, name)
}

// SentinelComments returns the messages of an incident's comments, in order.
func (s *Server) SentinelComments(name string) []string {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	var out []string
	if inc := s.arm.incidents[name]; inc != nil {
		for _, c := range inc.comments {
			out = append(out, fmt.Sprint(c.props["message"]))
		}
	}
	return out
}

// SetTask changes a task of an incident, as a person does.
func (s *Server) SetTask(incident, task, status string) {
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	if inc := s.arm.incidents[incident]; inc != nil {
		for i := range inc.tasks {
			if inc.tasks[i].name == task {
				inc.tasks[i].props["status"] = status
			}
		}
	}
}

func (s *Server) bump(inc *armIncident) {
	now := s.opt.Now().UTC()
	if !now.After(inc.modified) {
		now = inc.modified.Add(time.Millisecond)
	}
	inc.etag, inc.modified = s.arm.etag(), now
	inc.props["lastModifiedTimeUtc"] = now.Format(stamp)
}

func (s *Server) armResource(inc *armIncident) object {
	return object{
		"id": s.WorkspaceID() + insights + "Incidents/" + inc.name, "name": inc.name, "type": "Microsoft.SecurityInsights/Incidents",
		"etag": inc.etag, "properties": inc.props,
	}
}

// armFilter reads a filter: comparisons of properties joined by and.
func armFilter(text string) (func(*armIncident) bool, string) {
	match := func(*armIncident) bool { return true }
	if strings.TrimSpace(text) == "" {
		return match, ""
	}
	for term := range strings.SplitSeq(text, " and ") {
		f := strings.Fields(strings.Trim(strings.TrimSpace(term), "()"))
		if len(f) != 3 || !strings.HasPrefix(f[0], "properties/") || !slices.Contains([]string{"eq", "ne", "ge", "gt", "le", "lt"}, f[1]) {
			return nil, "Invalid filter clause: " + term
		}
		name, before := strings.TrimPrefix(f[0], "properties/"), match
		if strings.HasSuffix(name, "TimeUtc") {
			if _, err := time.Parse(time.RFC3339Nano, f[2]); err != nil {
				return nil, "Invalid filter clause: " + f[2] + " is no date"
			}
		}
		match = func(i *armIncident) bool { return before(i) && holds(armCompare(i.props[name], f[2]), f[1]) }
	}
	return match, ""
}

func armCompare(have any, want string) int {
	want = strings.Trim(want, "'")
	if n, ok := have.(float64); ok {
		w, err := strconv.ParseFloat(want, 64)
		if err != nil {
			return 1
		}
		return cmp.Compare(n, w)
	}
	text := fmt.Sprint(have)
	if n, ok := have.(int); ok {
		w, _ := strconv.Atoi(want)
		return cmp.Compare(n, w)
	}
	a, errA := time.Parse(time.RFC3339Nano, text)
	b, errB := time.Parse(time.RFC3339Nano, want)
	if errA == nil && errB == nil {
		return a.Compare(b)
	}
	return strings.Compare(text, want)
}

func holds(c int, op string) bool {
	switch op {
	case "eq":
		return c == 0
	case "ne":
		return c != 0
	case "ge":
		return c >= 0
	case "gt":
		return c > 0
	case "le":
		return c <= 0
	default:
		return c < 0
	}
}

func (s *Server) armListIncidents(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	q := c.R.URL.Query()
	match, wrong := armFilter(q.Get("$filter"))
	if wrong != "" {
		return armError(http.StatusBadRequest, "BadRequest", wrong)
	}
	top, skip := 50, 0
	if t := q.Get("$top"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 || n > 1000 {
			return armError(http.StatusBadRequest, "BadRequest", "The value of $top must be between 1 and 1000.")
		}
		top = n
	}
	if t := q.Get("$skipToken"); t != "" {
		raw, err := base64.URLEncoding.DecodeString(t)
		n, bad := strconv.Atoi(strings.TrimPrefix(string(raw), "skip:"))
		if err != nil || bad != nil {
			return armError(http.StatusBadRequest, "BadRequest", "Invalid skip token.")
		}
		skip = n
	}
	field, direction, _ := strings.Cut(cmp.Or(q.Get("$orderby"), "properties/createdTimeUtc desc"), " ")
	field = strings.TrimPrefix(field, "properties/")
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	var found []*armIncident
	for _, inc := range s.arm.incidents {
		if match(inc) {
			found = append(found, inc)
		}
	}
	slices.SortFunc(found, func(a, b *armIncident) int {
		n := armCompare(a.props[field], fmt.Sprint(b.props[field]))
		if n == 0 {
			n = a.seq - b.seq
		}
		if direction == "desc" {
			n = -n
		}
		return n
	})
	found = found[:min(len(found), s.arm.opt.ListCap)]
	end := min(len(found), skip+top)
	list := []object{}
	for _, inc := range found[min(skip, end):end] {
		list = append(list, s.armResource(inc))
	}
	out := object{"value": list}
	if end < len(found) {
		q.Set("$skipToken", base64.URLEncoding.EncodeToString([]byte("skip:"+strconv.Itoa(end))))
		out["nextLink"] = s.armLink(c.R, c.R.URL.Path, q.Encode())
	}
	return armJSON(http.StatusOK, out)
}

// incidentOf finds the incident that a request names; under the lock.
func (s *Server) incidentOf(c *fakekit.Call) (*armIncident, fakekit.Reply) {
	inc := s.arm.incidents[c.Args[0]]
	if inc == nil {
		return nil, armError(http.StatusNotFound, "ResourceNotFound", "Case '"+c.Args[0]+"' could not be found in workspace '"+s.arm.opt.Workspace+"'.")
	}
	return inc, fakekit.Reply{}
}

func (s *Server) armGetIncident(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	inc, bad := s.incidentOf(c)
	if inc == nil {
		return bad
	}
	return armJSON(http.StatusOK, s.armResource(inc))
}

func (s *Server) armDeleteIncident(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, responders...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	if s.arm.incidents[c.Args[0]] == nil {
		return armJSON(http.StatusNoContent, nil)
	}
	delete(s.arm.incidents, c.Args[0])
	return armJSON(http.StatusOK, nil)
}

// checkIncident says what is wrong with the properties of a PUT.
func checkIncident(p object) string {
	for _, name := range []string{"title", "severity", "status"} {
		if text, _ := p[name].(string); strings.TrimSpace(text) == "" {
			return "The property '" + name + "' is required."
		}
	}
	for name, words := range armWords {
		if text, isText := p[name].(string); p[name] != nil && (!isText || !slices.Contains(words, text)) {
			return fmt.Sprintf("The value '%v' of '%s' is not valid.", p[name], name)
		}
	}
	classification, _ := p["classification"].(string)
	reason, _ := p["classificationReason"].(string)
	description, _ := p["description"].(string)
	switch {
	case p["status"] == "Closed" && classification == "":
		return "Classification is required when an incident is closed."
	case reason != "" && !slices.Contains(armReasons[classification], reason):
		return "Classification reason '" + reason + "' does not fit classification '" + classification + "'."
	case utf8.RuneCountInString(description) > 5000:
		return "The description is longer than 5000 characters."
	}
	for name := range p {
		if !slices.Contains(armMutable, name) && !slices.Contains(armReadOnly, name) {
			return "Could not find member '" + name + "' on object of type 'IncidentProperties'."
		}
	}
	return ""
}

var armReadOnly = []string{
	"additionalData", "createdTimeUtc", "incidentNumber", "incidentUrl", "lastModifiedTimeUtc", "providerIncidentId", "providerName",
	"relatedAnalyticRuleIds", "teamInformation",
}

func (s *Server) armPutIncident(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, responders...); bad.Status != 0 {
		return bad
	}
	raw, ok := fakekit.ReadBody(c.R, 4<<20)
	body, isObject := decodeObject(raw)
	p := toObject(body["properties"])
	if !ok || !isObject {
		return armError(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	}
	if wrong := checkIncident(p); wrong != "" {
		return armError(http.StatusBadRequest, "BadRequest", wrong)
	}
	s.arm.mu.Lock()
	putting := s.arm.putting
	s.arm.mu.Unlock()
	if putting != nil {
		putting(c.Args[0])
	}
	s.arm.mu.Lock()
	inc := s.arm.incidents[c.Args[0]]
	if inc == nil {
		s.arm.mu.Unlock()
		s.AddSentinelIncident(c.Args[0], p, nil, nil)
		s.arm.mu.Lock()
		defer s.arm.mu.Unlock()
		s.arm.ledger.Puts[c.Args[0]]++
		return armJSON(http.StatusCreated, s.armResource(s.arm.incidents[c.Args[0]]))
	}
	defer s.arm.mu.Unlock()
	if etag := text(body["etag"]); etag != inc.etag {
		s.arm.ledger.Conflicts++
		return armError(http.StatusConflict, "Conflict", "Newer instance of incident '"+inc.name+"' exists. Data was not saved.")
	}
	for _, name := range armMutable {
		if v, given := p[name]; given {
			inc.props[name] = v
		} else {
			delete(inc.props, name)
		}
	}
	s.arm.ledger.Puts[inc.name]++
	s.bump(inc)
	return armJSON(http.StatusOK, s.armResource(inc))
}

func (s *Server) armAlerts(c *fakekit.Call) fakekit.Reply {
	return s.armPart(c, func(inc *armIncident) any { return object{"value": append([]object{}, inc.alerts...)} })
}

func (s *Server) armEntities(c *fakekit.Call) fakekit.Reply {
	return s.armPart(c, func(inc *armIncident) any {
		counts := map[string]int{}
		for _, e := range inc.entities {
			counts[fmt.Sprint(e["kind"])]++
		}
		meta := []object{}
		for _, k := range slices.Sorted(maps.Keys(counts)) {
			meta = append(meta, object{"entityKind": k, "count": counts[k]})
		}
		return object{"entities": append([]object{}, inc.entities...), "metaData": meta}
	})
}

func (s *Server) armPart(c *fakekit.Call, part func(*armIncident) any) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	inc, bad := s.incidentOf(c)
	if inc == nil {
		return bad
	}
	return armJSON(http.StatusOK, part(inc))
}

func (s *Server) armRunPlaybook(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, operators...); bad.Status != 0 {
		return bad
	}
	raw, _ := fakekit.ReadBody(c.R, 1<<16)
	body, ok := decodeObject(raw)
	app := text(body["logicAppsResourceId"])
	if !ok || app == "" {
		return armError(http.StatusBadRequest, "BadRequest", "logicAppsResourceId is required.")
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	inc, bad := s.incidentOf(c)
	if inc == nil {
		return bad
	}
	s.arm.ledger.Playbooks = append(s.arm.ledger.Playbooks, PlaybookRun{inc.name, app, text(body["tenantId"])})
	return armJSON(http.StatusNoContent, nil)
}

// subs are the comments or tasks that a request is about.
func subs(c *fakekit.Call, inc *armIncident) (list *[]armSub, kind string) {
	if strings.Contains(strings.ToLower(c.R.URL.Path), "/tasks") {
		return &inc.tasks, "tasks"
	}
	return &inc.comments, "comments"
}

func (s *Server) subResource(inc *armIncident, kind string, sub *armSub) object {
	return object{
		"id": s.WorkspaceID() + insights + "Incidents/" + inc.name + "/" + kind + "/" + sub.name, "name": sub.name,
		"type": "Microsoft.SecurityInsights/Incidents/" + kind, "etag": sub.etag, "properties": sub.props,
	}
}

func (s *Server) armSubList(c *fakekit.Call) fakekit.Reply {
	return s.armPart(c, func(inc *armIncident) any {
		list, kind := subs(c, inc)
		q := c.R.URL.Query()
		skip, _ := strconv.Atoi(q.Get("$skipToken"))
		end := min(len(*list), skip+30)
		out := []object{}
		for i := min(skip, end); i < end; i++ {
			out = append(out, s.subResource(inc, kind, &(*list)[i]))
		}
		reply := object{"value": out}
		if end < len(*list) {
			q.Set("$skipToken", strconv.Itoa(end))
			reply["nextLink"] = s.armLink(c.R, (&url.URL{Path: c.R.URL.Path}).EscapedPath(), q.Encode())
		}
		return reply
	})
}

func (s *Server) armSubGet(c *fakekit.Call) fakekit.Reply {
	if _, bad := s.allowARM(c, readers...); bad.Status != 0 {
		return bad
	}
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	inc, bad := s.incidentOf(c)
	if inc == nil {
		return bad
	}
	list, kind := subs(c, inc)
	for i := range *list {
		if (*list)[i].name == c.Args[1] {
			return armJSON(http.StatusOK, s.subResource(inc, kind, &(*list)[i]))
		}
	}
	return armError(http.StatusNotFound, "ResourceNotFound", "The resource '"+c.Args[1]+"' could not be found.")
}

func (s *Server) armSubPut(c *fakekit.Call) fakekit.Reply {
	app, bad := s.allowARM(c, responders...)
	if bad.Status != 0 {
		return bad
	}
	raw, ok := fakekit.ReadBody(c.R, 1<<20)
	body, isObject := decodeObject(raw)
	p := toObject(body["properties"])
	s.arm.mu.Lock()
	defer s.arm.mu.Unlock()
	inc, missing := s.incidentOf(c)
	if inc == nil {
		return missing
	}
	list, kind := subs(c, inc)
	at := slices.IndexFunc(*list, func(x armSub) bool { return x.name == c.Args[1] })
	message, _ := p["message"].(string)
	title, _ := p["title"].(string)
	status, _ := p["status"].(string)
	switch {
	case !ok || !isObject:
		return armError(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
	case kind == "comments" && (message == "" || utf8.RuneCountInString(message) > maxARMMessage):
		return armError(http.StatusBadRequest, "BadRequest", "The message must have 1 to 30000 characters.")
	case kind == "comments" && at < 0 && len(*list) >= maxARMComments:
		return armError(http.StatusBadRequest, "BadRequest", "The incident has reached the limit of 100 comments.")
	case kind == "tasks" && (title == "" || status != "New" && status != "Completed"):
		return armError(http.StatusBadRequest, "BadRequest", "A task needs a title and a status of New or Completed.")
	case kind == "tasks" && at < 0 && len(*list) >= maxARMTasks:
		return armError(http.StatusBadRequest, "BadRequest", "The incident has reached the limit of 40 tasks.")
	}
	now := s.opt.Now().UTC().Format(stamp)
	who := object{"objectId": app.ClientID, "name": s.opt.AppName, "email": nil, "userPrincipalName": nil}
	code := http.StatusOK
	if at < 0 {
		*list = append(*list, armSub{name: c.Args[1], props: object{"createdTimeUtc": now, "author": who}})
		at, code = len(*list)-1, http.StatusCreated
	}
	sub := &(*list)[at]
	sub.etag = s.arm.etag()
	maps.Copy(sub.props, p)
	sub.props["lastModifiedTimeUtc"] = now
	if kind == "comments" {
		if extra, isMap := inc.props["additionalData"].(object); isMap {
			extra["commentsCount"] = len(inc.comments)
		}
	}
	s.bump(inc)
	return armJSON(code, s.subResource(inc, kind, sub))
}
