package jirafake

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

type issue struct {
	id               int64
	key              string
	project          *Project
	typ              *IssueType
	content          content
	status           *Status
	resolution       string
	reporter         *User
	created, updated time.Time
	props            map[string]json.RawMessage
	comments         []*comment
	links            []*remoteLink
	attachments      []attachment
	related          []object

	indexed *entry
	stats   IssueLedger
}

func (s *Server) project(ref named) *Project {
	for i := range s.opt.Projects {
		if p := &s.opt.Projects[i]; ref.ID == p.ID || ref.ID == "" && ref.Key == p.Key && p.Key != "" {
			return p
		}
	}
	return nil
}

func (p *Project) issueType(ref named) *IssueType {
	for i := range p.IssueTypes {
		if t := &p.IssueTypes[i]; ref.ID == t.ID || ref.ID == "" && ref.Name == t.Name && t.Name != "" {
			return t
		}
	}
	return nil
}

// edits is the body of a create or edit request.
type edits struct {
	fields, update map[string]json.RawMessage
	props          map[string]json.RawMessage
}

func readEdits(obj map[string]json.RawMessage) (edits, string) {
	e := edits{props: map[string]json.RawMessage{}}
	for name, raw := range obj {
		switch name {
		case "fields", "update":
			m, ok := decodeObject(raw)
			if !ok && string(raw) != "null" {
				return e, "'" + name + "' must be an object."
			}
			if name == "fields" {
				e.fields = m
			} else {
				e.update = m
			}
		case "properties":
			var list []struct {
				Key   string          `json:"key"`
				Value json.RawMessage `json:"value"`
			}
			if json.Unmarshal(raw, &list) != nil {
				return e, "'properties' must be an array."
			}
			for _, p := range list {
				if bad := checkProperty(p.Key, p.Value); bad != "" {
					return e, bad
				}
				e.props[p.Key] = p.Value
			}
		case "transition", "historyMetadata":
		default:
			return e, "Unrecognized field '" + name + "'."
		}
	}
	return e, ""
}

func checkProperty(key string, value json.RawMessage) string {
	switch {
	case key == "" || length(key) > 255:
		return "The property key must have 1 to 255 characters."
	case len(value) == 0 || string(value) == "null":
		return "The property value must not be empty."
	case len(value) > 32768:
		return "The property value is too long. The maximum length is 32768 characters."
	}
	return ""
}

func (s *Server) createIssue(c *fakekit.Call, u *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	e, bad := readEdits(obj)
	if bad != "" {
		return unreadable(bad)
	}
	var ref named
	if json.Unmarshal(orNull(e.fields["project"]), &ref) != nil || s.project(ref) == nil {
		return failure(http.StatusBadRequest, "", map[string]string{"project": "Specify a valid project ID or key"})
	}
	p := s.project(ref)
	ref = named{}
	if json.Unmarshal(orNull(e.fields["issuetype"]), &ref) != nil || p.issueType(ref) == nil {
		return failure(http.StatusBadRequest, "", map[string]string{"issuetype": "Specify a valid issue type"})
	}
	iss := &issue{project: p, typ: p.issueType(ref), status: &s.opt.Statuses[0], reporter: u, props: e.props}
	iss.content.fields = map[string]json.RawMessage{}
	if !slices.Contains(iss.typ.Hidden, "priority") {
		iss.content.priority = &s.opt.Priorities[len(s.opt.Priorities)/2]
	}
	errs, comments := s.apply(&iss.content, p, iss.typ, e.fields, e.update)
	if _, ok := iss.content.fields["summary"]; !ok && errs["summary"] == "" {
		errs["summary"] = "You must specify a summary of the issue."
	}
	for _, f := range iss.typ.Fields {
		if _, ok := iss.content.fields[f.ID]; f.Required && !ok && errs[f.ID] == "" {
			errs[f.ID] = f.Name + " is required."
		}
	}
	if len(errs) > 0 {
		return failure(http.StatusBadRequest, "", errs)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.admit(iss)
	for _, body := range comments {
		s.comment(iss, u, body, nil)
	}
	s.ledger.creates++
	id := strconv.FormatInt(iss.id, 10)
	return fakekit.JSON(http.StatusCreated, object{"id": id, "key": iss.key, "self": s.self(iss)})
}

func orNull(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(`0`) // no object: the reference is invalid
	}
	return raw
}

func (s *Server) self(iss *issue) string {
	return s.opt.BaseURL + "/rest/api/2/issue/" + strconv.FormatInt(iss.id, 10)
}

// find returns an issue by id or key; keys are matched without regard to case. The caller holds the lock.
func (s *Server) find(ref string) *issue {
	if id, err := strconv.ParseInt(ref, 10, 64); err == nil {
		return s.byID[id]
	}
	if iss := s.byKey[ref]; iss != nil {
		return iss
	}
	return s.byKey[strings.ToUpper(ref)]
}

// write locks the fake and finds an issue that is to be changed, within the limits of writes to one issue. Without one
// the reply is the refusal and the lock is free again.
func (s *Server) write(ref string) (*issue, fakekit.Reply) {
	s.mu.Lock()
	iss := s.find(ref)
	if iss == nil {
		s.mu.Unlock()
		return nil, missing()
	}
	if !s.opt.NoIssueLimit {
		now := s.opt.Now()
		wait := s.writes.Take("2s"+iss.key, now, 20, 2*time.Second)
		if wait == 0 {
			wait = s.writes.Take("30s"+iss.key, now, 100, 30*time.Second)
		}
		if wait > 0 {
			s.mu.Unlock()
			return nil, s.throttled("jira-per-issue-on-write").With("Retry-After", fakekit.Seconds(wait))
		}
	}
	return iss, fakekit.Reply{}
}

func (s *Server) now() time.Time { return s.opt.Now().UTC().Truncate(time.Millisecond) }

// touch marks an issue as changed; the caller holds the lock.
func (s *Server) touch(iss *issue) {
	now := s.now()
	if !now.After(iss.updated) {
		now = iss.updated.Add(time.Millisecond) // the next tick of Jira's clock
	}
	iss.updated = now
	s.reindex(iss)
}

func (s *Server) editIssue(c *fakekit.Call, u *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	e, bad := readEdits(obj)
	if bad != "" {
		return unreadable(bad)
	}
	if len(e.fields)+len(e.update)+len(e.props) == 0 {
		return failure(http.StatusBadRequest, "one of 'fields' or 'update' required", nil)
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	next := content{
		fields: maps.Clone(iss.content.fields), labels: slices.Clone(iss.content.labels),
		priority: iss.content.priority, assignee: iss.content.assignee,
	}
	for _, fixed := range []string{"project", "issuetype"} {
		if _, ok := e.fields[fixed]; ok {
			return failure(http.StatusBadRequest, "", map[string]string{fixed: notOnScreen(fixed)})
		}
	}
	errs, comments := s.apply(&next, iss.project, iss.typ, e.fields, e.update)
	if len(errs) > 0 {
		return failure(http.StatusBadRequest, "", errs)
	}
	if len(comments) > 0 && len(iss.comments)+len(comments) > s.opt.MaxComments {
		return failure(http.StatusRequestEntityTooLarge, "The issue has reached its limit of comments.", nil)
	}
	before := iss.content
	iss.content = next
	maps.Copy(iss.props, e.props)
	for _, body := range comments {
		s.comment(iss, u, body, nil)
	}
	s.relabel(iss, before.labels)
	s.touch(iss)
	iss.stats.Updates++
	s.ledger.updates++
	if c.R.URL.Query().Get("notifyUsers") != "false" {
		s.ledger.notified++
	}
	if c.R.URL.Query().Get("returnIssue") == "true" {
		return fakekit.JSON(http.StatusOK, s.render(iss, []string{"*all"}, nil))
	}
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) deleteIssue(c *fakekit.Call, _ *User) fakekit.Reply {
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	s.drop(iss)
	return fakekit.Reply{Status: http.StatusNoContent}
}

// DeleteIssue removes an issue as a person would. It reports whether there was one.
func (s *Server) DeleteIssue(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(key)
	if iss != nil {
		s.drop(iss)
	}
	return iss != nil
}

func (s *Server) drop(iss *issue) {
	delete(s.byID, iss.id)
	delete(s.byKey, iss.key)
	s.ledger.deleted++
	old := iss.content.labels
	iss.content.labels = nil
	s.relabel(iss, old)
	s.unindex(iss)
}

// relabel keeps the ledger's view of labels; old are those that the issue had.
func (s *Server) relabel(iss *issue, old []string) {
	for _, l := range old {
		if !slices.Contains(iss.content.labels, l) {
			s.labels[l] = slices.DeleteFunc(s.labels[l], func(i *issue) bool { return i == iss })
		}
	}
	for _, l := range iss.content.labels {
		if !slices.Contains(old, l) {
			s.labels[l] = append(s.labels[l], iss)
		}
	}
}

func (s *Server) assign(c *fakekit.Call, _ *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	if len(obj) != 1 {
		return failure(http.StatusBadRequest, "Exactly one of accountId, name and key must be given.", nil)
	}
	raw, err := json.Marshal(obj)
	if err != nil {
		return unreadable("Invalid request payload.")
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	if id, _ := text(obj["accountId"]); id == "-1" {
		raw = json.RawMessage("null") // "-1" asks for the project's default assignee: nobody
	}
	if bad := s.setAssignee(&iss.content, raw); bad != "" {
		return failure(http.StatusBadRequest, "", map[string]string{"assignee": bad})
	}
	s.touch(iss)
	iss.stats.Updates++
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) getIssue(c *fakekit.Call, _ *User) fakekit.Reply {
	q := c.R.URL.Query()
	fields := list(q["fields"])
	if len(fields) == 0 {
		fields = []string{"*all"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	return fakekit.JSON(http.StatusOK, s.render(iss, fields, list(q["properties"])))
}

// list splits comma-separated and repeated parameters.
func list(values []string) []string {
	var out []string
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one != "" {
				out = append(out, one)
			}
		}
	}
	return out
}

// render shows an issue with the fields and properties that were asked for; the caller holds the lock.
func (s *Server) render(iss *issue, fields, props []string) object {
	id := strconv.FormatInt(iss.id, 10)
	out := object{"expand": "renderedFields,names,schema,operations,editmeta,changelog,versionedRepresentations", "id": id, "self": s.self(iss), "key": iss.key}
	out["fields"] = s.renderFields(iss, fields)
	if len(props) > 0 {
		shown := map[string]json.RawMessage{}
		for key, value := range iss.props {
			if slices.Contains(props, key) || slices.Contains(props, "*all") {
				shown[key] = value
			}
		}
		out["properties"] = shown
	}
	return out
}

var systemFields = []string{
	"summary", "description", "environment", "duedate", "labels", "priority", "status", "resolution", "issuetype", "project",
	"created", "updated", "assignee", "reporter", "creator", "comment", "attachment", "issuelinks", "parent",
}

func (s *Server) renderFields(iss *issue, want []string) object {
	all := slices.Contains(want, "*all") || slices.Contains(want, "*navigable")
	names := want
	if all {
		names = slices.Clone(systemFields)
		for _, f := range iss.typ.Fields {
			names = append(names, f.ID)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(want, "-"+n) })
	}
	out := object{}
	for _, name := range names {
		if v, ok := s.renderField(iss, name); ok {
			out[name] = v
		}
	}
	return out
}

func (s *Server) renderField(iss *issue, name string) (any, bool) {
	switch name {
	case "labels":
		return append([]string{}, iss.content.labels...), true
	case "priority":
		if iss.content.priority == nil {
			return nil, true
		}
		return s.showPriority(iss.content.priority), true
	case "status":
		return s.showStatus(iss.status), true
	case "resolution":
		if iss.resolution == "" {
			return nil, true
		}
		return object{"id": "1", "name": iss.resolution}, true
	case "issuetype":
		return s.showType(iss.typ), true
	case "project":
		return s.showProject(iss.project), true
	case "created":
		return iss.created.Format(stamp), true
	case "updated":
		return iss.updated.Format(stamp), true
	case "assignee":
		return s.showUser(iss.content.assignee), true
	case "reporter", "creator":
		return s.showUser(iss.reporter), true
	case "comment":
		shown := make([]object, 0, len(iss.comments))
		for _, c := range iss.comments {
			shown = append(shown, s.showComment(iss, c, false))
		}
		return object{"comments": shown, "maxResults": len(shown), "total": len(shown), "startAt": 0}, true
	case "attachment":
		return append([]attachment{}, iss.attachments...), true
	case "issuelinks":
		return append([]object{}, iss.related...), true
	}
	if raw, ok := iss.content.fields[name]; ok {
		for i := range iss.typ.Fields {
			if f := &iss.typ.Fields[i]; f.ID == name {
				return f.show(raw), true
			}
		}
		return raw, true
	}
	if slices.Contains([]string{"description", "environment", "duedate"}, name) {
		return nil, true
	}
	known := slices.ContainsFunc(iss.typ.Fields, func(f Field) bool { return f.ID == name })
	return nil, known
}
