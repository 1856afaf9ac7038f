package hivefake

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

func (s *Server) newID() string {
	s.lastID++
	return "~" + strconv.FormatInt(s.lastID*4096, 10)
}

// newRecord starts a record with what all entities have; the caller holds the lock.
func (s *Server) newRecord(kind string, who session) *record {
	now := s.opt.Now()
	rec := &record{id: s.newID(), org: who.org, visible: now.Add(s.lag)}
	rec.doc = doc{"_id": rec.id, "_type": kind, "_createdBy": who.user.Login, "_createdAt": now.UnixMilli(), "extraData": doc{}}
	return rec
}

// labels brings the labels of a document in line with its numbers.
func (s *Server) labels(d doc) {
	if v, ok := d["severity"].(int64); ok {
		d["severityLabel"] = severityLabels[v]
	}
	if v, ok := d["tlp"].(int64); ok {
		d["tlpLabel"] = s.tlpLabel(v)
	}
	if v, ok := d["pap"].(int64); ok {
		d["papLabel"] = papLabels[v]
	}
}

func setDefault(d doc, values doc) {
	for name, v := range values {
		if _, ok := d[name]; !ok {
			d[name] = v
		}
	}
}

// commonChecks judges what rules cannot: status, assignee and custom fields.
func (s *Server) commonChecks(in doc, statuses []Status) (fields []doc, replace bool, refusal fakekit.Reply, ok bool) {
	if v, given := in["status"].(string); given {
		if _, known := s.stage(statuses, v); !known {
			return nil, false, badRequest("Status " + v + " not found"), false
		}
	}
	if v, given := in["assignee"].(string); given && !slices.ContainsFunc(s.opt.Users, func(u User) bool { return u.Login == v }) {
		return nil, false, notFound("User " + v), false
	}
	fields, replace, bad := s.fields(in["customFields"])
	if bad != "" {
		return nil, false, badRequest(bad), false
	}
	return fields, replace, fakekit.Reply{}, true
}

func (s *Server) createAlert(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, s.rules.newAlert)
	if bad != "" {
		return badRequest(bad)
	}
	fields, _, refusal, ok := s.commonChecks(in, s.opt.AlertStatuses)
	if !ok {
		return refusal
	}
	if name, given := in["caseTemplate"].(string); given && s.template(name) == nil {
		return notFound("CaseTemplate " + name)
	}
	var observables, procedures []map[string]json.RawMessage
	if bad := lists(in, map[string]*[]map[string]json.RawMessage{"observables": &observables, "procedures": &procedures}); bad != "" {
		return badRequest(bad)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	ref := refOf(in)
	if s.byRef[who.org+"\x00"+ref] != nil {
		return s.duplicate("Alert " + ref)
	}
	rec := s.newRecord("Alert", who)
	for _, one := range observables {
		docs, refusal, ok := s.makeObservables(one, who)
		if !ok {
			return refusal
		}
		for _, d := range docs {
			if !s.addUnlessThere(rec, d) && !s.atLeast(2, 0) {
				return failure(http.StatusBadRequest, "CreateError", "Observable already exists")
			}
		}
	}
	for _, one := range procedures {
		d, refusal, ok := s.makeProcedure(one, who)
		if !ok {
			return refusal
		}
		rec.procedures = append(rec.procedures, d)
	}
	delete(in, "observables")
	delete(in, "procedures")
	delete(in, "customFields")
	delete(in, "flag")
	now := s.opt.Now()
	maps.Copy(rec.doc, in)
	setDefault(rec.doc, doc{
		"severity": int64(2), "tlp": int64(2), "pap": int64(2), "status": "New", "tags": []string{}, "date": now.UnixMilli(),
		"follow": true, "newDate": now.UnixMilli(), "timeToDetect": int64(0),
	})
	rec.doc["customFields"] = append([]doc{}, fields...)
	rec.doc["stage"], _ = s.stage(s.opt.AlertStatuses, asText(rec.doc["status"]))
	s.labels(rec.doc)
	s.byRef[who.org+"\x00"+ref] = rec
	s.alerts.file(rec, nil, now)
	return fakekit.JSON(http.StatusCreated, rec.show())
}

func refOf(in doc) string {
	part := func(name string) string { v, _ := in[name].(string); return v }
	return part("type") + ";" + part("source") + ";" + part("sourceRef")
}

func (r *record) ref() string { return refOf(r.doc) }

// show returns the document of a record as the API does.
func (r *record) show() doc {
	if r.doc["_type"] == "Alert" {
		r.doc["observableCount"] = len(r.observables)
	}
	return r.doc
}

// lists decodes list inputs into objects.
func lists(in doc, into map[string]*[]map[string]json.RawMessage) string {
	for name, target := range into {
		if raw, ok := in[name].(json.RawMessage); ok && json.Unmarshal(raw, target) != nil {
			return "Invalid format for " + name + ": expected an array of objects"
		}
	}
	return ""
}

// alert finds an alert of an organisation by ~id or by type;source;sourceRef; the caller holds the lock.
func (s *Server) alert(who session, ref string) *record {
	if rec := s.byRef[who.org+"\x00"+ref]; rec != nil {
		return rec
	}
	if rec := s.alerts.byID[ref]; rec != nil && rec.org == who.org {
		return rec
	}
	return nil
}

// entity finds an alert or a case; the caller holds the lock.
func (s *Server) entity(who session, kind, ref string) (*record, *table) {
	if kind == "alert" {
		return s.alert(who, ref), &s.alerts
	}
	return s.caseOf(who, ref), &s.cases
}

func (s *Server) getAlert(c *fakekit.Call, who session) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.alert(who, c.Args[0])
	if rec == nil {
		return notFound("Alert " + c.Args[0])
	}
	return fakekit.JSON(http.StatusOK, rec.show())
}

// touch files a change of a record; old are its tags before. The caller holds the lock.
func (s *Server) touch(t *table, rec *record, who session, old []string) {
	now := s.opt.Now()
	rec.doc["_updatedAt"], rec.doc["_updatedBy"] = now.UnixMilli(), who.user.Login
	rec.updates++
	t.file(rec, old, now)
}

// editTags applies addTags and removeTags.
func editTags(d, in doc) {
	now := slices.Clone(tags(d))
	if v, ok := in["tags"].([]string); ok {
		now = slices.Clone(v)
	}
	added, _ := in["addTags"].([]string)
	removed, _ := in["removeTags"].([]string)
	for _, tag := range added {
		if !slices.Contains(now, tag) {
			now = append(now, tag)
		}
	}
	now = slices.DeleteFunc(now, func(tag string) bool { return slices.Contains(removed, tag) })
	d["tags"] = append([]string{}, now...)
	for _, name := range []string{"tags", "addTags", "removeTags"} {
		delete(in, name)
	}
}

// editFields applies custom fields: an object merges, a list replaces.
func editFields(d doc, fields []doc, replace bool) {
	now, _ := d["customFields"].([]doc)
	if replace {
		now = nil
	}
	now = slices.Clone(now)
	for _, f := range fields {
		if i := slices.IndexFunc(now, func(o doc) bool { return o["name"] == f["name"] }); i >= 0 {
			now[i] = f
		} else {
			now = append(now, f)
		}
	}
	d["customFields"] = append([]doc{}, now...)
}

func (s *Server) updateAlert(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, s.rules.alert)
	if bad != "" {
		return badRequest(bad)
	}
	fields, replace, refusal, ok := s.commonChecks(in, s.opt.AlertStatuses)
	if !ok {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.alert(who, c.Args[0])
	if rec == nil {
		return notFound("Alert " + c.Args[0])
	}
	next := maps.Clone(rec.doc)
	old, oldRef := tags(rec.doc), rec.ref()
	_, hasFields := in["customFields"]
	delete(in, "customFields")
	editTags(next, in)
	if hasFields {
		editFields(next, fields, replace)
	}
	maps.Copy(next, in)
	if newRef := refOf(next); newRef != oldRef {
		if s.byRef[who.org+"\x00"+newRef] != nil {
			return s.duplicate("Alert " + newRef)
		}
		delete(s.byRef, who.org+"\x00"+oldRef)
		s.byRef[who.org+"\x00"+newRef] = rec
		was, _ := rec.doc["sourceRef"].(string)
		is, _ := next["sourceRef"].(string)
		s.alerts.byRef[was] = slices.DeleteFunc(s.alerts.byRef[was], func(r *record) bool { return r == rec })
		s.alerts.byRef[is] = append(s.alerts.byRef[is], rec)
	}
	next["stage"], _ = s.stage(s.opt.AlertStatuses, asText(next["status"]))
	s.labels(next)
	rec.doc = next
	s.touch(&s.alerts, rec, who, old)
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) deleteAlert(c *fakekit.Call, who session) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.alert(who, c.Args[0])
	if rec == nil {
		return notFound("Alert " + c.Args[0])
	}
	delete(s.byRef, rec.org+"\x00"+rec.ref())
	s.alerts.drop(rec)
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) promote(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, true)
	if !ok {
		return refusal
	}
	in, bad := check(raw, s.rules.promote)
	if bad != "" {
		return badRequest(bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.alert(who, c.Args[0])
	if rec == nil {
		return notFound("Alert " + c.Args[0])
	}
	if _, done := rec.doc["caseId"]; done && !s.opt.PromoteTwice {
		s.refused["promote "+rec.ref()]++
		return badRequest("Alert is already imported")
	}
	for _, name := range []string{"title", "description", "severity", "tlp", "pap", "caseTemplate", "summary"} {
		if v, has := rec.doc[name]; has {
			setDefault(in, doc{name: v})
		}
	}
	setDefault(in, doc{"tags": slices.Clone(tags(rec.doc))})
	made, refusal, ok := s.makeCase(in, who, rec)
	if !ok {
		return refusal
	}
	rec.promoted = append(rec.promoted, made.id)
	s.intoCase(rec, made, who)
	return fakekit.JSON(http.StatusCreated, made.show())
}

// intoCase ties an alert to a case and copies what it knows; the caller holds the lock.
func (s *Server) intoCase(rec, target *record, who session) {
	for _, d := range rec.observables {
		s.addUnlessThere(target, with(d, "_id", s.newID()))
	}
	for _, d := range rec.procedures {
		target.procedures = append(target.procedures, with(d, "_id", s.newID()))
	}
	if !slices.Contains(target.alerts, rec) {
		target.alerts = append(target.alerts, rec)
		target.origins = append(target.origins, rec.ref())
	}
	next := maps.Clone(rec.doc)
	next["caseId"], next["status"], next["stage"] = target.id, "Imported", "Imported"
	next["importedDate"] = s.opt.Now().UnixMilli()
	rec.doc = next
	s.touch(&s.alerts, rec, who, tags(next))
}

func with(d doc, name string, value any) doc {
	out := maps.Clone(d)
	out[name] = value
	return out
}

func (s *Server) merge(c *fakekit.Call, who session) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mergeInto(who, c.Args[1], []string{c.Args[0]})
}

func (s *Server) mergeBulk(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	var caseID string
	var ids []string
	if json.Unmarshal(orNull(raw["caseId"]), &caseID) != nil || json.Unmarshal(orNull(raw["alertIds"]), &ids) != nil || caseID == "" {
		return badRequest("caseId and alertIds are required")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mergeInto(who, caseID, ids)
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

func (s *Server) mergeInto(who session, caseRef string, alertRefs []string) fakekit.Reply {
	target := s.caseOf(who, caseRef)
	if target == nil {
		return notFound("Case " + caseRef)
	}
	if target.doc["stage"] == "Closed" {
		return badRequest("The case is closed; an alert cannot be merged into it")
	}
	var found []*record
	for _, ref := range alertRefs {
		rec := s.alert(who, ref)
		if rec == nil {
			return notFound("Alert " + ref)
		}
		found = append(found, rec)
	}
	for _, rec := range found {
		s.intoCase(rec, target, who)
	}
	s.touch(&s.cases, target, who, tags(target.doc))
	return fakekit.JSON(http.StatusOK, target.show())
}

func millis(t time.Time) int64 { return t.UnixMilli() }

func lower(v any) string {
	s, _ := v.(string)
	return strings.ToLower(s)
}
