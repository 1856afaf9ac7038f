package jirafake

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

type comment struct {
	id         int64
	body       string
	author     *User
	at         time.Time
	props      []property
	visibility json.RawMessage
	internal   bool // seen by agents only
}

type property struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

type remoteLink struct {
	id       int64
	globalID string
	fields   map[string]json.RawMessage
}

type attachment struct {
	ID       string `json:"id"`
	Self     string `json:"self"`
	Filename string `json:"filename"`
	Created  string `json:"created"`
	Size     int64  `json:"size"`
	MimeType string `json:"mimeType"`
	Content  string `json:"content"`
	sum      string
	data     []byte
}

// comment adds a comment; the caller holds the lock.
func (s *Server) comment(iss *issue, u *User, body string, props []property) *comment {
	s.lastID++
	c := &comment{id: s.lastID, body: body, author: u, at: s.opt.Now().UTC(), props: props}
	iss.comments = append(iss.comments, c)
	iss.stats.Comments++
	s.ledger.comments++
	return c
}

// showComment shows a comment; its properties only where they were asked for, as Jira does.
func (s *Server) showComment(iss *issue, c *comment, props bool) object {
	id := strconv.FormatInt(c.id, 10)
	out := object{
		"self": s.self(iss) + "/comment/" + id, "id": id, "author": s.showUser(c.author), "updateAuthor": s.showUser(c.author),
		"body": c.body, "created": c.at.Format(stamp), "updated": c.at.Format(stamp), "jsdPublic": !c.internal,
	}
	if c.visibility != nil {
		out["visibility"] = c.visibility
	}
	if props {
		out["properties"] = append([]property{}, c.props...)
	}
	return out
}

func (s *Server) addComment(c *fakekit.Call, u *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	body, isText := text(obj["body"])
	var props []property
	switch {
	case !isText || strings.TrimSpace(body) == "":
		return failure(http.StatusBadRequest, "", map[string]string{"comment": "Comment body can not be empty!"})
	case length(body) > maxText:
		return failure(http.StatusBadRequest, "", map[string]string{"comment": "The entered text is too long. It exceeds the allowed limit of 32,767 characters."})
	case len(obj["properties"]) > 0 && json.Unmarshal(obj["properties"], &props) != nil:
		return unreadable("'properties' must be an array.")
	}
	for _, p := range props {
		if bad := checkProperty(p.Key, p.Value); bad != "" {
			return failure(http.StatusBadRequest, bad, nil)
		}
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	if len(iss.comments) >= s.opt.MaxComments {
		return failure(http.StatusRequestEntityTooLarge, "The issue has reached its limit of comments.", nil)
	}
	added := s.comment(iss, u, body, props)
	if v := obj["visibility"]; string(v) != "null" && string(v) != "{}" {
		added.visibility = v
	}
	s.touch(iss)
	return fakekit.JSON(http.StatusCreated, s.showComment(iss, added, wants(c.R, "properties")))
}

// editComment changes a comment's body; its properties are replaced if they are given.
func (s *Server) editComment(c *fakekit.Call, _ *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	body, isText := text(obj["body"])
	var props []property
	switch {
	case !isText || strings.TrimSpace(body) == "":
		return failure(http.StatusBadRequest, "", map[string]string{"comment": "Comment body can not be empty!"})
	case length(body) > maxText:
		return failure(http.StatusBadRequest, "", map[string]string{"comment": "The entered text is too long. It exceeds the allowed limit of 32,767 characters."})
	case len(obj["properties"]) > 0 && json.Unmarshal(obj["properties"], &props) != nil:
		return unreadable("'properties' must be an array.")
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	for _, one := range iss.comments {
		if strconv.FormatInt(one.id, 10) == c.Args[1] {
			one.body = body
			if props != nil {
				one.props = props
			}
			s.touch(iss)
			return fakekit.JSON(http.StatusOK, s.showComment(iss, one, wants(c.R, "properties")))
		}
	}
	return failure(http.StatusNotFound, "Can not find a comment for the id: "+c.Args[1]+".", nil)
}

func wants(r *http.Request, expand string) bool {
	return slices.Contains(list(r.URL.Query()["expand"]), expand)
}

// window reads startAt and maxResults and applies them to n things.
func window(q url.Values, n, size, limit int) (from, to, maxResults int, ok bool) {
	number := func(name string, otherwise int) int {
		v := q.Get(name)
		if v == "" {
			return otherwise
		}
		i, err := strconv.Atoi(v)
		if err != nil || i < 0 {
			ok = false
		}
		return i
	}
	ok = true
	from, maxResults = number("startAt", 0), min(number("maxResults", size), limit)
	if !ok {
		return 0, 0, 0, false
	}
	from = min(from, n)
	return from, min(n, from+maxResults), maxResults, true
}

func (s *Server) listComments(c *fakekit.Call, _ *User) fakekit.Reply {
	q := c.R.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	order := q.Get("orderBy")
	if !slices.Contains([]string{"", "created", "-created", "+created", " created"}, order) {
		return failure(http.StatusBadRequest, "The orderBy parameter is invalid.", nil)
	}
	from, to, size, ok := window(q, len(iss.comments), 100, 5000)
	if !ok {
		return failure(http.StatusBadRequest, "startAt and maxResults must be numbers.", nil)
	}
	ordered := iss.comments
	if order == "-created" {
		ordered = slices.Clone(ordered)
		slices.Reverse(ordered)
	}
	shown := make([]object, 0, to-from)
	for _, one := range ordered[from:to] {
		shown = append(shown, s.showComment(iss, one, wants(c.R, "properties")))
	}
	return fakekit.JSON(http.StatusOK, object{"startAt": from, "maxResults": size, "total": len(iss.comments), "comments": shown})
}

func (s *Server) getComment(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	for _, one := range iss.comments {
		if strconv.FormatInt(one.id, 10) == c.Args[1] {
			return fakekit.JSON(http.StatusOK, s.showComment(iss, one, wants(c.R, "properties")))
		}
	}
	return failure(http.StatusNotFound, "Can not find a comment for the id: "+c.Args[1]+".", nil)
}

// available says whether a transition can start from an issue's status.
func (t *Transition) available(iss *issue) bool {
	if t.From == nil {
		return t.To != iss.status.Name
	}
	return slices.Contains(t.From, iss.status.Name)
}

func (s *Server) statusNamed(name string) *Status {
	for i := range s.opt.Statuses {
		if s.opt.Statuses[i].Name == name {
			return &s.opt.Statuses[i]
		}
	}
	return nil
}

func (s *Server) listTransitions(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	shown := []object{}
	for i := range s.opt.Transitions {
		t := &s.opt.Transitions[i]
		to := s.statusNamed(t.To)
		if !t.available(iss) || to == nil {
			continue
		}
		one := object{
			"id": t.ID, "name": t.Name, "to": s.showStatus(to), "hasScreen": t.RequiresResolution || len(t.Fields) > 0,
			"isGlobal": t.From == nil, "isInitial": false, "isAvailable": true, "isConditional": false, "looped": false,
		}
		if wants(c.R, "transitions.fields") {
			fields := object{}
			if t.RequiresResolution {
				allowed := []object{}
				for _, r := range s.opt.Resolutions {
					allowed = append(allowed, object{"name": r})
				}
				fields["resolution"] = object{
					"required": true, "schema": object{"type": "resolution", "system": "resolution"}, "name": "Resolution",
					"key": "resolution", "operations": []string{"set"}, "allowedValues": allowed,
				}
			}
			for i := range t.Fields {
				f := metaOf(&t.Fields[i])
				delete(f, "fieldId")
				fields[t.Fields[i].ID] = f
			}
			one["fields"] = fields
		}
		shown = append(shown, one)
	}
	return fakekit.JSON(http.StatusOK, object{"expand": "transitions", "transitions": shown})
}

func (s *Server) transition(c *fakekit.Call, u *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	e, bad := readEdits(obj)
	var ref named
	if bad != "" || json.Unmarshal(orNull(obj["transition"]), &ref) != nil || ref.ID == "" {
		return failure(http.StatusBadRequest, "You must specify a transition to perform this action.", nil)
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.opt.Transitions, func(t Transition) bool { return t.ID == ref.ID })
	if i < 0 || !s.opt.Transitions[i].available(iss) {
		return failure(http.StatusBadRequest, "It seems that you have tried to perform an illegal workflow operation. The transition '"+ref.ID+"' is not available from status '"+iss.status.Name+"'.", nil)
	}
	t := &s.opt.Transitions[i]
	resolution := ""
	if raw, given := e.fields["resolution"]; given {
		var r named
		if !t.RequiresResolution {
			return failure(http.StatusBadRequest, "", map[string]string{"resolution": notOnScreen("resolution")})
		}
		if json.Unmarshal(raw, &r) != nil || !slices.Contains(s.opt.Resolutions, r.Name) {
			return failure(http.StatusBadRequest, "", map[string]string{"resolution": "Resolution is invalid."})
		}
		resolution = r.Name
		delete(e.fields, "resolution")
	} else if t.RequiresResolution {
		return failure(http.StatusBadRequest, "", map[string]string{"resolution": "Resolution is required."})
	}
	next := content{
		fields: maps.Clone(iss.content.fields), labels: slices.Clone(iss.content.labels),
		priority: iss.content.priority, assignee: iss.content.assignee,
	}
	onScreen := *iss.typ
	onScreen.Fields = t.Fields // what is not on the transition's own screen cannot be set with it
	errs, comments := s.apply(&next, iss.project, &onScreen, e.fields, e.update)
	for _, f := range t.Fields {
		if _, given := e.fields[f.ID]; f.Required && !given && errs[f.ID] == "" {
			errs[f.ID] = f.Name + " is required."
		}
	}
	if len(errs) > 0 {
		return failure(http.StatusBadRequest, "", errs)
	}
	before := iss.content.labels
	iss.content, iss.status = next, s.statusNamed(t.To)
	switch {
	case iss.status.Category != "done":
		iss.resolution = ""
	case resolution != "":
		iss.resolution = resolution
	case len(s.opt.Resolutions) > 0:
		iss.resolution = s.opt.Resolutions[0] // a post function of the simplified workflow
	}
	for _, body := range comments {
		s.comment(iss, u, body, nil)
	}
	s.relabel(iss, before)
	s.touch(iss)
	iss.stats.Transitions++
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) putRemoteLink(c *fakekit.Call, _ *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	var target struct{ URL, Title string }
	if json.Unmarshal(orNull(obj["object"]), &target) != nil || target.URL == "" || target.Title == "" {
		return failure(http.StatusBadRequest, "", map[string]string{"title": "'title' is required.", "url": "'url' is required."})
	}
	global, _ := text(obj["globalId"])
	if length(global) > 255 {
		return failure(http.StatusBadRequest, "", map[string]string{"globalId": "'globalId' must not be longer than 255 characters."})
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	status := http.StatusCreated
	var link *remoteLink
	for _, l := range iss.links {
		if global != "" && l.globalID == global {
			link, status = l, http.StatusOK
		}
	}
	if link == nil {
		s.lastID++
		link = &remoteLink{id: s.lastID, globalID: global}
		iss.links = append(iss.links, link)
		iss.stats.RemoteLinks++
	}
	link.fields = obj
	s.touch(iss)
	return fakekit.JSON(status, object{"id": link.id, "self": s.self(iss) + "/remotelink/" + strconv.FormatInt(link.id, 10)})
}

func (s *Server) listRemoteLinks(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	global := c.R.URL.Query().Get("globalId")
	shown := []object{}
	for _, l := range iss.links {
		if global != "" && l.globalID != global {
			continue
		}
		one := object{"id": l.id, "self": s.self(iss) + "/remotelink/" + strconv.FormatInt(l.id, 10)}
		for _, name := range []string{"globalId", "application", "relationship", "object"} {
			if raw, ok := l.fields[name]; ok {
				one[name] = raw
			}
		}
		shown = append(shown, one)
	}
	if global != "" {
		if len(shown) == 0 {
			return failure(http.StatusNotFound, "No remote link with that global id.", nil)
		}
		return fakekit.JSON(http.StatusOK, shown[0])
	}
	return fakekit.JSON(http.StatusOK, shown)
}

func (s *Server) listProperties(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	keys := []object{}
	for _, key := range slices.Sorted(maps.Keys(iss.props)) {
		keys = append(keys, object{"key": key, "self": s.self(iss) + "/properties/" + url.PathEscape(key)})
	}
	return fakekit.JSON(http.StatusOK, object{"keys": keys})
}

func (s *Server) getProperty(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(c.Args[0])
	if iss == nil {
		return missing()
	}
	value, ok := iss.props[c.Args[1]]
	if !ok {
		return failure(http.StatusNotFound, "The property '"+c.Args[1]+"' does not exist.", nil)
	}
	return fakekit.JSON(http.StatusOK, property{c.Args[1], value})
}

func (s *Server) putProperty(c *fakekit.Call, _ *User) fakekit.Reply {
	body, whole := fakekit.ReadBody(c.R, 1<<20)
	if !whole || !json.Valid(body) {
		return failure(http.StatusBadRequest, "The property value must be valid JSON.", nil)
	}
	if bad := checkProperty(c.Args[1], body); bad != "" {
		return failure(http.StatusBadRequest, bad, nil)
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	status := http.StatusCreated
	if _, ok := iss.props[c.Args[1]]; ok {
		status = http.StatusOK
	}
	iss.props[c.Args[1]] = body
	return fakekit.JSON(status, object{})
}

func (s *Server) deleteProperty(c *fakekit.Call, _ *User) fakekit.Reply {
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	if _, ok := iss.props[c.Args[1]]; !ok {
		return failure(http.StatusNotFound, "The property '"+c.Args[1]+"' does not exist.", nil)
	}
	delete(iss.props, c.Args[1])
	return fakekit.Reply{Status: http.StatusNoContent}
}

func (s *Server) attach(c *fakekit.Call, _ *User) fakekit.Reply {
	if c.R.Header.Get("X-Atlassian-Token") != "no-check" {
		return fakekit.Reply{Status: http.StatusForbidden, Type: "text/plain", Body: []byte("XSRF check failed")}
	}
	parts, err := c.R.MultipartReader()
	if err != nil {
		return problem(http.StatusUnsupportedMediaType, "Content-Type must be multipart/form-data.", c.R.URL.Path)
	}
	var files []attachment
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return failure(http.StatusBadRequest, "The multipart body could not be read.", nil)
		}
		if part.FormName() != "file" {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(part, s.opt.UploadLimit+1))
		if err != nil {
			return failure(http.StatusBadRequest, "The multipart body could not be read.", nil)
		}
		if int64(len(data)) > s.opt.UploadLimit {
			return failure(http.StatusRequestEntityTooLarge, "The file exceeds its maximum permitted size.", nil)
		}
		sum := sha256.Sum256(data)
		files = append(files, attachment{
			Filename: part.FileName(), Size: int64(len(data)), MimeType: part.Header.Get("Content-Type"), sum: hex.EncodeToString(sum[:]), data: data,
		})
	}
	if len(files) == 0 {
		return failure(http.StatusBadRequest, "The request must hold files in parts named 'file'.", nil)
	}
	if len(files) > 60 {
		return failure(http.StatusRequestEntityTooLarge, "The number of files exceeds 60.", nil)
	}
	iss, refusal := s.write(c.Args[0])
	if iss == nil {
		return refusal
	}
	defer s.mu.Unlock()
	for i := range files {
		s.lastID++
		files[i].ID = strconv.FormatInt(s.lastID, 10)
		files[i].Self = s.opt.BaseURL + "/rest/api/2/attachment/" + files[i].ID
		files[i].Content = s.opt.BaseURL + "/rest/api/2/attachment/content/" + files[i].ID
		files[i].Created = s.opt.Now().UTC().Format(stamp)
		iss.stats.Attachments = append(iss.stats.Attachments, files[i].Filename+" "+files[i].sum)
	}
	iss.attachments = append(iss.attachments, files...)
	s.touch(iss)
	return fakekit.JSON(http.StatusOK, files)
}

func (s *Server) attachmentMeta(*fakekit.Call, *User) fakekit.Reply {
	return fakekit.JSON(http.StatusOK, object{"enabled": true, "uploadLimit": s.opt.UploadLimit})
}

// content sends an attachment's bytes; on Cloud only to who asks for no redirect.
func (s *Server) content(c *fakekit.Call, _ *User) fakekit.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, iss := range s.byID {
		for _, a := range iss.attachments {
			if a.ID != c.Args[0] {
				continue
			}
			if !s.opt.DataCenter && c.R.URL.Query().Get("redirect") != "false" {
				return fakekit.Reply{Status: http.StatusSeeOther}.With("Location", s.opt.FilesURL+"/"+a.ID)
			}
			return fakekit.Reply{Status: http.StatusOK, Type: a.MimeType, Body: a.data}
		}
	}
	return failure(http.StatusNotFound, "The attachment with id '"+c.Args[0]+"' does not exist.", nil)
}

func (s *Server) linkIssues(c *fakekit.Call, _ *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	var kind, in, out named
	if json.Unmarshal(orNull(obj["type"]), &kind) != nil || json.Unmarshal(orNull(obj["inwardIssue"]), &in) != nil || json.Unmarshal(orNull(obj["outwardIssue"]), &out) != nil {
		return unreadable("type, inwardIssue and outwardIssue are required.")
	}
	if !slices.Contains([]string{"Relates", "Duplicate", "Blocks", "Cloners"}, kind.Name) {
		return failure(http.StatusNotFound, "No issue link type with name '"+kind.Name+"' found.", nil)
	}
	pick := func(n named) string {
		if n.Key != "" {
			return n.Key
		}
		return n.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, b := s.find(pick(in)), s.find(pick(out))
	if a == nil || b == nil {
		return missing()
	}
	s.lastID++
	id := strconv.FormatInt(s.lastID, 10)
	a.related = append(a.related, object{"id": id, "type": object{"name": kind.Name}, "outwardIssue": object{"key": b.key}})
	b.related = append(b.related, object{"id": id, "type": object{"name": kind.Name}, "inwardIssue": object{"key": a.key}})
	a.stats.Links++
	b.stats.Links++
	s.touch(a)
	s.touch(b)
	return fakekit.Reply{Status: http.StatusCreated}
}
