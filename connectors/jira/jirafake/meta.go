package jirafake

import (
	"net/http"
	"slices"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

func (s *Server) serverInfo(*fakekit.Call, *User) fakekit.Reply {
	out := object{
		"baseUrl": s.opt.BaseURL, "version": "1001.0.0-SNAPSHOT", "versionNumbers": []int{1001, 0, 0}, "deploymentType": "Cloud",
		"buildNumber": 100291, "buildDate": "2026-11-20T00:00:00.000+0000", "serverTime": s.opt.Now().UTC().Format(stamp),
		"serverTitle": "Jira", "serverTimeZone": "Etc/UTC",
	}
	if s.opt.DataCenter {
		out["deploymentType"], out["version"], out["versionNumbers"] = "Server", "10.3.4", []int{10, 3, 4}
		delete(out, "serverTimeZone")
	}
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) showUser(u *User) any {
	if u == nil {
		return nil
	}
	if s.opt.DataCenter {
		return object{"self": s.opt.BaseURL + "/rest/api/2/user?username=" + u.Name, "name": u.Name, "key": u.Name, "displayName": u.DisplayName, "active": true}
	}
	return object{
		"self": s.opt.BaseURL + "/rest/api/2/user?accountId=" + u.AccountID, "accountId": u.AccountID, "accountType": "atlassian",
		"displayName": u.DisplayName, "active": true, "timeZone": "Etc/UTC",
	}
}

func (s *Server) showPriority(p *Priority) object {
	return object{"self": s.opt.BaseURL + "/rest/api/2/priority/" + p.ID, "id": p.ID, "name": p.Name, "iconUrl": s.opt.BaseURL + "/images/icons/priorities/" + p.ID + ".svg"}
}

func (s *Server) showStatus(st *Status) object {
	return object{
		"self": s.opt.BaseURL + "/rest/api/2/status/" + st.ID, "id": st.ID, "name": st.Name, "description": "", "iconUrl": s.opt.BaseURL + "/",
		"statusCategory": s.showCategory(st.Category),
	}
}

func (s *Server) showCategory(key string) object {
	id, name, colour := 2, "To Do", "blue-gray"
	switch key {
	case "indeterminate":
		id, name, colour = 4, "In Progress", "yellow"
	case "done":
		id, name, colour = 3, "Done", "green"
	}
	return object{"self": s.opt.BaseURL + "/rest/api/2/statuscategory/" + key, "id": id, "key": key, "name": name, "colorName": colour}
}

func (s *Server) showType(t *IssueType) object {
	return object{
		"self": s.opt.BaseURL + "/rest/api/2/issuetype/" + t.ID, "id": t.ID, "name": t.Name, "description": "", "subtask": false,
		"hierarchyLevel": 0, "iconUrl": s.opt.BaseURL + "/images/icons/issuetypes/" + t.ID + ".svg",
	}
}

func (s *Server) showProject(p *Project) object {
	return object{
		"self": s.opt.BaseURL + "/rest/api/2/project/" + p.ID, "id": p.ID, "key": p.Key, "name": p.Name,
		"projectTypeKey": "software", "simplified": false,
	}
}

func (s *Server) myself(_ *fakekit.Call, u *User) fakekit.Reply {
	out, _ := s.showUser(u).(object)
	out["emailAddress"], out["locale"] = u.Email, "en_US"
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) searchUsers(c *fakekit.Call, _ *User) fakekit.Reply {
	query := strings.ToLower(c.R.URL.Query().Get("query"))
	if s.opt.DataCenter {
		query = strings.ToLower(c.R.URL.Query().Get("username"))
	}
	found := []any{}
	for i := range s.opt.Users {
		u := &s.opt.Users[i]
		if query != "" && (strings.HasPrefix(strings.ToLower(u.Email), query) || strings.HasPrefix(strings.ToLower(u.DisplayName), query)) {
			found = append(found, s.showUser(u))
		}
	}
	return fakekit.JSON(http.StatusOK, found)
}

func myPermissions(c *fakekit.Call, _ *User) fakekit.Reply {
	asked := list(c.R.URL.Query()["permissions"])
	if len(asked) == 0 {
		return failure(http.StatusBadRequest, "The 'permissions' query parameter is required.", nil)
	}
	out := object{}
	for _, key := range asked {
		out[key] = object{"id": "10", "key": key, "name": key, "type": "PROJECT", "description": "", "havePermission": true}
	}
	return fakekit.JSON(http.StatusOK, object{"permissions": out})
}

func (s *Server) listPriorities(*fakekit.Call, *User) fakekit.Reply {
	out := []object{}
	for i := range s.opt.Priorities {
		p := s.showPriority(&s.opt.Priorities[i])
		p["description"], p["statusColor"] = "", "#888888"
		out = append(out, p)
	}
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) listStatuses(*fakekit.Call, *User) fakekit.Reply {
	out := []object{}
	for i := range s.opt.Statuses {
		out = append(out, s.showStatus(&s.opt.Statuses[i]))
	}
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) listResolutions(*fakekit.Call, *User) fakekit.Reply {
	out := []object{}
	for _, r := range s.opt.Resolutions {
		out = append(out, object{"id": "1", "name": r, "description": ""})
	}
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) getProject(c *fakekit.Call, _ *User) fakekit.Reply {
	p := s.projectByRef(c.Args[0])
	if p == nil {
		return failure(http.StatusNotFound, "No project could be found with key '"+c.Args[0]+"'.", nil)
	}
	out := s.showProject(p)
	types := []object{}
	for i := range p.IssueTypes {
		types = append(types, s.showType(&p.IssueTypes[i]))
	}
	out["issueTypes"] = types
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) projectByRef(ref string) *Project {
	if p := s.project(named{ID: ref}); p != nil {
		return p
	}
	return s.project(named{Key: ref})
}

type fieldInfo struct {
	id, name string
	schema   object
}

// systemInfo describes the system fields that can be set when an issue is created.
var systemInfo = []fieldInfo{
	{"summary", "Summary", object{"type": "string", "system": "summary"}},
	{"description", "Description", object{"type": "string", "system": "description"}},
	{"labels", "Labels", object{"type": "array", "items": "string", "system": "labels"}},
	{"priority", "Priority", object{"type": "priority", "system": "priority"}},
	{"assignee", "Assignee", object{"type": "user", "system": "assignee"}},
	{"reporter", "Reporter", object{"type": "user", "system": "reporter"}},
	{"duedate", "Due date", object{"type": "date", "system": "duedate"}},
	{"environment", "Environment", object{"type": "string", "system": "environment"}},
}

func (f *Field) schema() object {
	out := object{"custom": "com.atlassian.jira.plugin.system.customfieldtypes:" + map[string]string{
		"string": "textfield", "textarea": "textarea", "number": "float", "date": "datepicker", "datetime": "datetime",
		"option": "select", "options": "multiselect", "user": "userpicker", "labels": "labels", "cascading": "cascadingselect", "url": "url",
	}[f.Type]}
	switch f.Type {
	case "textarea", "url":
		out["type"] = "string"
	case "cascading":
		out["type"] = "option-with-child"
	case "options":
		out["type"], out["items"] = "array", "option"
	case "labels":
		out["type"], out["items"] = "array", "string"
	default:
		out["type"] = f.Type
	}
	return out
}

func (s *Server) listFields(*fakekit.Call, *User) fakekit.Reply {
	out := []object{}
	for _, f := range systemInfo {
		out = append(out, object{
			"id": f.id, "key": f.id, "name": f.name, "custom": false, "orderable": true, "navigable": true, "searchable": true,
			"clauseNames": []string{f.id}, "schema": f.schema,
		})
	}
	seen := map[string]bool{}
	for _, p := range s.opt.Projects {
		for _, t := range p.IssueTypes {
			for i := range t.Fields {
				f := &t.Fields[i]
				if !seen[f.ID] {
					seen[f.ID] = true
					number := strings.TrimPrefix(f.ID, "customfield_")
					out = append(out, object{
						"id": f.ID, "key": f.ID, "name": f.Name, "custom": true, "orderable": true, "navigable": true,
						"searchable": true, "clauseNames": []string{"cf[" + number + "]", f.Name}, "schema": f.schema(),
					})
				}
			}
		}
	}
	return fakekit.JSON(http.StatusOK, out)
}

func (s *Server) createMetaTypes(c *fakekit.Call, _ *User) fakekit.Reply {
	p := s.projectByRef(c.Args[0])
	if p == nil {
		return failure(http.StatusNotFound, "No project could be found with key or id '"+c.Args[0]+"'.", nil)
	}
	from, to, size, ok := window(c.R.URL.Query(), len(p.IssueTypes), 50, 200)
	if !ok {
		return failure(http.StatusBadRequest, "startAt and maxResults must be numbers.", nil)
	}
	shown := []object{}
	for i := range p.IssueTypes[from:to] {
		shown = append(shown, s.showType(&p.IssueTypes[from+i]))
	}
	return s.metaPage("issueTypes", shown, from, size, len(p.IssueTypes))
}

// metaPage pages create metadata: Data Center calls the list values.
func (s *Server) metaPage(name string, shown []object, from, size, total int) fakekit.Reply {
	if s.opt.DataCenter {
		return fakekit.JSON(http.StatusOK, object{"maxResults": size, "startAt": from, "total": total, "isLast": from+len(shown) >= total, "values": shown})
	}
	return fakekit.JSON(http.StatusOK, object{"maxResults": size, "startAt": from, "total": total, name: shown})
}

func (s *Server) createMetaFields(c *fakekit.Call, _ *User) fakekit.Reply {
	p := s.projectByRef(c.Args[0])
	if p == nil || p.issueType(named{ID: c.Args[1]}) == nil {
		return failure(http.StatusNotFound, "No such project or issue type.", nil)
	}
	t := p.issueType(named{ID: c.Args[1]})
	all := []object{
		metaField("project", "Project", object{"type": "project", "system": "project"}, true, []object{s.showProject(p)}),
		metaField("issuetype", "Issue Type", object{"type": "issuetype", "system": "issuetype"}, true, []object{s.showType(t)}),
	}
	for _, f := range systemInfo {
		if slices.Contains(t.Hidden, f.id) {
			continue
		}
		var allowed []object
		if f.id == "priority" {
			for i := range s.opt.Priorities {
				if pr := &s.opt.Priorities[i]; p.Priorities == nil || slices.Contains(p.Priorities, pr.Name) {
					allowed = append(allowed, s.showPriority(pr))
				}
			}
		}
		all = append(all, metaField(f.id, f.name, f.schema, f.id == "summary", allowed))
	}
	for i := range t.Fields {
		all = append(all, metaOf(&t.Fields[i]))
	}
	from, to, size, ok := window(c.R.URL.Query(), len(all), 50, 200)
	if !ok {
		return failure(http.StatusBadRequest, "startAt and maxResults must be numbers.", nil)
	}
	return s.metaPage("fields", all[from:to], from, size, len(all))
}

// metaOf describes a custom field.
func metaOf(f *Field) object {
	var allowed []object
	for i, o := range f.Options {
		one := object{"id": optionID(i), "value": o}
		var children []object
		for j, child := range f.Children[o] {
			children = append(children, object{"id": optionID(j), "value": child})
		}
		if children != nil {
			one["children"] = children
		}
		allowed = append(allowed, one)
	}
	return metaField(f.ID, f.Name, f.schema(), f.Required, allowed)
}

// editMeta describes the edit screen: that of creation without project and type.
func (s *Server) editMeta(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	iss := s.find(c.Args[0])
	s.mu.Unlock()
	if iss == nil {
		return missing()
	}
	fields := object{}
	for _, f := range systemInfo {
		if !slices.Contains(iss.typ.Hidden, f.id) {
			one := metaField(f.id, f.name, f.schema, f.id == "summary", nil)
			delete(one, "fieldId")
			fields[f.id] = one
		}
	}
	for i := range iss.typ.Fields {
		one := metaOf(&iss.typ.Fields[i])
		delete(one, "fieldId")
		fields[iss.typ.Fields[i].ID] = one
	}
	return fakekit.JSON(http.StatusOK, object{"fields": fields})
}

func metaField(id, name string, schema object, required bool, allowed []object) object {
	out := object{
		"fieldId": id, "key": id, "name": name, "schema": schema, "required": required, "hasDefaultValue": id == "priority",
		"operations": []string{"set"},
	}
	if id == "labels" {
		out["operations"] = []string{"add", "set", "remove"}
	}
	if allowed != nil {
		out["allowedValues"] = allowed
	}
	return out
}
