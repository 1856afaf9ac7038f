package jirafake

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Names of the service desk's routes.
const (
	RouteRequest        = "jira.request.create"
	RouteRequestComment = "jira.request.comment"
)

// routeDesk finds the operations of Jira Service Management that the fake has.
func (s *Server) routeDesk(method string, p []string) endpoint {
	get, post := method == http.MethodGet, method == http.MethodPost
	switch {
	case get && p[0] == "servicedesk" && len(p) == 1:
		return read(RouteMeta, s.listDesks)
	case get && p[0] == "servicedesk" && len(p) == 3 && p[2] == "requesttype":
		return read(RouteMeta, s.listRequestTypes, p[1])
	case get && p[0] == "servicedesk" && len(p) == 5 && p[2] == "requesttype" && p[4] == "field":
		return read(RouteMeta, s.listRequestFields, p[1], p[3])
	case post && p[0] == "request" && len(p) == 1:
		return change(RouteRequest, s.createRequest)
	case post && p[0] == "request" && len(p) == 3 && p[2] == "comment":
		return change(RouteRequestComment, s.commentRequest, p[1])
	}
	return endpoint{route: fakekit.Route{Name: RouteUnknown}}
}

func deskFailure(status int, message string) fakekit.Reply {
	return fakekit.JSON(status, object{"errorMessage": message, "i18nErrorMessage": object{"i18nKey": "sd.error", "parameters": []string{}}})
}

// deskPage pages a list as the service desk does.
func deskPage(c *fakekit.Call, all []object) fakekit.Reply {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(c.R.URL.Query().Get(name)); err == nil && n >= 0 {
			return n
		}
		return otherwise
	}
	from := min(number("start", 0), len(all))
	to := min(from+min(number("limit", 50), 2), len(all)) // small, so that whoever asks has to page
	return fakekit.JSON(http.StatusOK, object{
		"size": to - from, "start": from, "limit": 2, "isLastPage": to == len(all), "values": append([]object{}, all[from:to]...),
	})
}

func (s *Server) listDesks(c *fakekit.Call, _ *User) fakekit.Reply {
	var all []object
	for _, p := range s.opt.Projects {
		if p.Desk != "" {
			all = append(all, object{"id": p.Desk, "projectId": p.ID, "projectKey": p.Key, "projectName": p.Name})
		}
	}
	return deskPage(c, all)
}

func (s *Server) deskProject(id string) *Project {
	for i := range s.opt.Projects {
		if p := &s.opt.Projects[i]; p.Desk == id && id != "" {
			return p
		}
	}
	return nil
}

func (s *Server) listRequestTypes(c *fakekit.Call, _ *User) fakekit.Reply {
	p := s.deskProject(c.Args[0])
	if p == nil {
		return deskFailure(http.StatusNotFound, "The service desk you are trying to access does not exist.")
	}
	var all []object
	for _, rt := range p.RequestTypes {
		all = append(all, object{"id": rt.ID, "name": rt.Name, "issueTypeId": rt.IssueType, "serviceDeskId": p.Desk})
	}
	return deskPage(c, all)
}

func (p *Project) requestType(id string) *IssueType {
	for _, rt := range p.RequestTypes {
		if rt.ID == id {
			return p.issueType(named{ID: rt.IssueType})
		}
	}
	return nil
}

func (s *Server) listRequestFields(c *fakekit.Call, _ *User) fakekit.Reply {
	p := s.deskProject(c.Args[0])
	if p == nil || p.requestType(c.Args[1]) == nil {
		return deskFailure(http.StatusNotFound, "The request type does not exist.")
	}
	all := []object{
		{"fieldId": "summary", "name": "Summary", "required": true, "defaultValues": []any{}, "validValues": []any{}, "jiraSchema": object{"type": "string", "system": "summary"}},
		{"fieldId": "description", "name": "What happened", "required": false, "defaultValues": []any{}, "validValues": []any{}, "jiraSchema": object{"type": "string", "system": "description"}},
	}
	t := p.requestType(c.Args[1])
	for i := range t.Fields {
		f := &t.Fields[i]
		valid := []object{}
		for j, o := range f.Options {
			children := []object{}
			for k, child := range f.Children[o] {
				children = append(children, object{"value": optionID(k), "label": child, "children": []any{}})
			}
			valid = append(valid, object{"value": optionID(j), "label": o, "children": children})
		}
		all = append(all, object{
			"fieldId": f.ID, "name": f.Name, "required": f.Required, "defaultValues": []any{}, "validValues": valid, "jiraSchema": f.schema(), "visible": true,
		})
	}
	return fakekit.JSON(http.StatusOK, object{"requestTypeFields": all, "canRaiseOnBehalfOf": true, "canAddRequestParticipants": true})
}

func (s *Server) createRequest(c *fakekit.Call, u *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	deskID, _ := text(obj["serviceDeskId"])
	typeID, _ := text(obj["requestTypeId"])
	p := s.deskProject(deskID)
	if p == nil || p.requestType(typeID) == nil {
		return deskFailure(http.StatusBadRequest, "The service desk or request type does not exist.")
	}
	values, ok := decodeObject(obj["requestFieldValues"])
	if !ok {
		return deskFailure(http.StatusBadRequest, "Your request could not be created. Please check the fields have been correctly filled in.")
	}
	if string(obj["isAdfRequest"]) == "true" {
		for name, why := range flatten(values) {
			return deskFailure(http.StatusBadRequest, name+": "+why)
		}
	}
	for _, name := range []string{"labels", "priority", "assignee"} {
		if _, given := values[name]; given { // not on the form of the request type
			return deskFailure(http.StatusBadRequest, "Field '"+name+"' cannot be set on this request type.")
		}
	}
	iss := &issue{project: p, typ: p.requestType(typeID), status: &s.opt.Statuses[0], reporter: u, props: map[string]json.RawMessage{}}
	iss.content.fields, iss.content.priority = map[string]json.RawMessage{}, &s.opt.Priorities[len(s.opt.Priorities)/2]
	errs, _ := s.apply(&iss.content, p, iss.typ, values, nil)
	for _, f := range iss.typ.Fields {
		if _, ok := iss.content.fields[f.ID]; f.Required && !ok {
			errs[f.ID] = f.Name + " is required."
		}
	}
	if _, ok := iss.content.fields["summary"]; !ok {
		errs["summary"] = "Please provide a valid value for field 'Summary'"
	}
	for _, why := range errs {
		return deskFailure(http.StatusBadRequest, why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admit(iss)
	s.ledger.creates++
	return fakekit.JSON(http.StatusCreated, object{
		"issueId": strconv.FormatInt(iss.id, 10), "issueKey": iss.key, "requestTypeId": typeID, "serviceDeskId": deskID,
		"reporter": s.showUser(u), "currentStatus": object{"status": iss.status.Name}, "requestFieldValues": []any{},
	})
}

func (s *Server) commentRequest(c *fakekit.Call, u *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	body, isText := text(obj["body"])
	public, isSaid := obj["public"]
	if !isText || body == "" || length(body) > maxText || !isSaid {
		return deskFailure(http.StatusBadRequest, "The comment is invalid.")
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	if iss.project.Desk == "" {
		return deskFailure(http.StatusNotFound, "The request does not exist.")
	}
	added := s.comment(iss, u, body, nil)
	added.internal = string(public) != "true"
	s.touch(iss)
	return fakekit.JSON(http.StatusCreated, object{"id": strconv.FormatInt(added.id, 10), "body": body, "public": !added.internal})
}
