package hivefake

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

func (s *Server) template(name string) *Template {
	for i := range s.opt.Templates {
		if s.opt.Templates[i].Name == name {
			return &s.opt.Templates[i]
		}
	}
	return nil
}

// caseOf finds a case of an organisation by ~id or number; the caller holds the lock.
func (s *Server) caseOf(who session, ref string) *record {
	if rec := s.byNo[who.org+"\x00"+ref]; rec != nil {
		return rec
	}
	if rec := s.cases.byID[ref]; rec != nil && rec.org == who.org {
		return rec
	}
	return nil
}

func (s *Server) createCase(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, s.rules.newCase)
	if bad != "" {
		return badRequest(bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, refusal, ok := s.makeCase(in, who, nil)
	if !ok {
		return refusal
	}
	return fakekit.JSON(http.StatusCreated, rec.show())
}

// makeCase makes a case of a checked input, from an alert if there is one; the caller holds the lock.
func (s *Server) makeCase(in doc, who session, from *record) (*record, fakekit.Reply, bool) {
	fields, _, refusal, ok := s.commonChecks(in, s.opt.CaseStatuses)
	if !ok {
		return nil, refusal, false
	}
	var tasks []map[string]json.RawMessage
	if bad := lists(in, map[string]*[]map[string]json.RawMessage{"tasks": &tasks}); bad != "" {
		return nil, badRequest(bad), false
	}
	var taskDocs []doc
	for _, one := range tasks {
		d, bad := check(one, taskRules)
		if bad != "" {
			return nil, badRequest(bad), false
		}
		taskDocs = append(taskDocs, d)
	}
	if name, given := in["caseTemplate"].(string); given {
		t := s.template(name)
		if t == nil {
			return nil, notFound("CaseTemplate " + name), false
		}
		if _, explicit := in["tasks"]; !explicit {
			for _, title := range t.Tasks {
				taskDocs = append(taskDocs, doc{"title": title})
			}
		}
		title, _ := in["title"].(string)
		in["title"] = strings.TrimSpace(t.TitlePrefix + " " + title)
		editTags(in, doc{"addTags": t.Tags})
	}
	rec := s.newRecord("Case", who)
	now := s.opt.Now()
	for _, name := range []string{"tasks", "customFields", "pages", "sharingParameters", "taskRule", "observableRule", "caseTemplate", "access"} {
		delete(in, name)
	}
	maps.Copy(rec.doc, in)
	s.number++
	setDefault(rec.doc, doc{
		"severity": int64(2), "tlp": int64(2), "pap": int64(2), "status": "New", "tags": []string{}, "flag": false,
		"startDate": millis(now), "newDate": millis(now), "timeToDetect": int64(0), "assignee": who.user.Login,
	})
	rec.doc["number"], rec.doc["access"] = s.number, doc{"_kind": "OrganisationAccessKind"}
	rec.doc["userPermissions"] = []string{"manageCase/update"}
	if from != nil {
		inherited, _ := from.doc["customFields"].([]doc)
		rec.doc["customFields"] = inherited
		rec.doc["alertDate"] = from.doc["date"]
	}
	editFields(rec.doc, fields, false)
	rec.doc["stage"], _ = s.stage(s.opt.CaseStatuses, asText(rec.doc["status"]))
	s.labels(rec.doc)
	for i, d := range taskDocs {
		s.makeTask(rec, d, i, who)
	}
	s.byNo[who.org+"\x00"+strconv.FormatInt(s.number, 10)] = rec
	s.cases.file(rec, nil, now)
	return rec, fakekit.Reply{}, true
}

func (s *Server) getCase(c *fakekit.Call, who session) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.caseOf(who, c.Args[0])
	if rec == nil {
		return notFound("Case " + c.Args[0])
	}
	return fakekit.JSON(http.StatusOK, rec.show())
}

var impacts = []string{"NoImpact", "WithImpact", "NotApplicable"}

func (s *Server) updateCase(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, s.rules.kase)
	if bad != "" {
		return badRequest(bad)
	}
	fields, replace, refusal, ok := s.commonChecks(in, s.opt.CaseStatuses)
	if !ok {
		return refusal
	}
	if v, given := in["impactStatus"].(string); given && !slices.Contains(impacts, v) {
		return badRequest("Invalid format for impactStatus: " + v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.caseOf(who, c.Args[0])
	if rec == nil {
		return notFound("Case " + c.Args[0])
	}
	next, old := maps.Clone(rec.doc), tags(rec.doc)
	_, hasFields := in["customFields"]
	for _, name := range []string{"customFields", "taskRule", "observableRule"} {
		delete(in, name)
	}
	editTags(next, in)
	if hasFields {
		editFields(next, fields, replace)
	}
	maps.Copy(next, in)
	stage, _ := s.stage(s.opt.CaseStatuses, asText(next["status"]))
	if stage == "Closed" && rec.doc["stage"] != "Closed" {
		if missing := s.mandatory(next); len(missing) > 0 {
			return badRequest("Mandatory custom fields are missing: " + strings.Join(missing, ", "))
		}
		setDefault(next, doc{"endDate": millis(s.opt.Now()), "closedDate": millis(s.opt.Now())})
		for _, t := range rec.tasks {
			if status := t.doc["status"]; status != "Completed" {
				t.doc = with(t.doc, "status", "Cancel")
			}
		}
	}
	if stage != "Closed" {
		delete(next, "endDate")
		delete(next, "closedDate")
	}
	next["stage"] = stage
	s.labels(next)
	rec.doc = next
	s.touch(&s.cases, rec, who, old)
	return fakekit.Reply{Status: http.StatusNoContent}
}

// mandatory returns the mandatory custom fields that a case leaves empty.
func (s *Server) mandatory(d doc) []string {
	given, _ := d["customFields"].([]doc)
	var missing []string
	for _, f := range s.opt.CustomFields {
		if f.Mandatory && !slices.ContainsFunc(given, func(o doc) bool { return o["name"] == f.Name && o["value"] != nil }) {
			missing = append(missing, f.Name)
		}
	}
	return missing
}

func (s *Server) deleteCase(c *fakekit.Call, who session) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.caseOf(who, c.Args[0])
	if rec == nil {
		return notFound("Case " + c.Args[0])
	}
	s.dropCase(rec)
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) dropCase(rec *record) {
	number, _ := rec.doc["number"].(int64)
	delete(s.byNo, rec.org+"\x00"+strconv.FormatInt(number, 10))
	for _, t := range rec.tasks {
		delete(s.tasks, t.id)
	}
	s.cases.drop(rec)
}

// mergeCases makes one new case of several; the old ones stop to exist.
func (s *Server) mergeCases(c *fakekit.Call, who session) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []*record
	for ref := range strings.SplitSeq(c.Args[0], ",") {
		rec := s.caseOf(who, ref)
		if rec == nil {
			return notFound("Case " + ref)
		}
		if !slices.Contains(old, rec) {
			old = append(old, rec)
		}
	}
	if len(old) < 2 {
		return badRequest("At least two cases are needed")
	}
	titles, texts := []string{}, []string{}
	in := doc{"severity": int64(1), "tlp": int64(0), "pap": int64(0)}
	for _, rec := range old {
		title, _ := rec.doc["title"].(string)
		description, _ := rec.doc["description"].(string)
		titles, texts = append(titles, title), append(texts, description)
		for _, name := range []string{"severity", "tlp", "pap"} {
			a, _ := in[name].(int64)
			b, _ := rec.doc[name].(int64)
			in[name] = max(a, b)
		}
		editTags(in, doc{"addTags": tags(rec.doc)})
	}
	in["title"], in["description"] = strings.Join(titles, " / "), strings.Join(texts, "\n\n")
	merged, refusal, ok := s.makeCase(in, who, nil)
	if !ok {
		return refusal
	}
	for _, rec := range old {
		for _, d := range rec.observables {
			s.addUnlessThere(merged, d)
		}
		merged.comments = append(merged.comments, rec.comments...)
		merged.procedures = append(merged.procedures, rec.procedures...)
		for _, a := range rec.alerts {
			s.intoCase(a, merged, who)
		}
		tasks := rec.tasks
		rec.tasks = nil
		merged.tasks = append(merged.tasks, tasks...)
		s.dropCase(rec)
	}
	return fakekit.JSON(http.StatusCreated, merged.show())
}

// makeTask adds a task to a case; the caller holds the lock.
func (s *Server) makeTask(target *record, in doc, order int, who session) *record {
	t := s.newRecord("Task", who)
	maps.Copy(t.doc, in)
	setDefault(t.doc, doc{"status": "Waiting", "group": "default", "flag": false, "order": order, "mandatory": false})
	target.tasks = append(target.tasks, t)
	s.tasks[t.id] = t
	return t
}

func (s *Server) addTask(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, taskRules)
	if bad != "" {
		return badRequest(bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.caseOf(who, c.Args[0])
	if rec == nil {
		return notFound("Case " + c.Args[0])
	}
	t := s.makeTask(rec, in, len(rec.tasks), who)
	return fakekit.JSON(http.StatusCreated, t.doc)
}

func (s *Server) updateTask(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	rules := maps.Clone(taskRules)
	rules["title"] = text(1, 128)
	in, bad := check(raw, rules)
	if bad != "" {
		return badRequest(bad)
	}
	if v, given := in["status"].(string); given && !slices.Contains([]string{"Waiting", "InProgress", "Completed", "Cancel"}, v) {
		return badRequest("Invalid format for status: " + v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[c.Args[0]]
	if t == nil || t.org != who.org {
		return notFound("Task " + c.Args[0])
	}
	next := maps.Clone(t.doc)
	maps.Copy(next, in)
	next["_updatedAt"], next["_updatedBy"] = millis(s.opt.Now()), who.user.Login
	t.doc = next
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) addLog(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, logRules)
	if bad != "" {
		return badRequest(bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[c.Args[0]]
	if t == nil || t.org != who.org {
		return notFound("Task " + c.Args[0])
	}
	d := doc{
		"_id": s.newID(), "_type": "Log", "_createdBy": who.user.Login, "_createdAt": millis(s.opt.Now()), "date": millis(s.opt.Now()),
		"owner": who.user.Login, "extraData": doc{},
	}
	maps.Copy(d, in)
	t.logs = append(t.logs, d)
	return fakekit.JSON(http.StatusCreated, d)
}
