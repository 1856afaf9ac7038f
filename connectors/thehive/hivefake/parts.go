package hivefake

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Types whose values are compared without regard to case from 5.7 on.
var caseless = []string{"domain", "fqdn", "hash", "hostname", "ip", "mail"}

// makeObservables makes the documents of one observable input, which may hold several values.
func (s *Server) makeObservables(raw map[string]json.RawMessage, who session) ([]doc, fakekit.Reply, bool) {
	in, bad := check(raw, s.rules.observable)
	if bad != "" {
		return nil, badRequest(bad), false
	}
	kind, _ := in["dataType"].(string)
	if kind == "file" {
		return nil, badRequest("Observable of type file needs an attachment"), false
	}
	if !slices.Contains(s.opt.DataTypes, kind) {
		return nil, badRequest("ObservableType " + kind + " not found"), false
	}
	if _, given := in["attachment"]; given {
		return nil, badRequest("Observable of type " + kind + " takes data, not an attachment"), false
	}
	var values []string
	data, _ := in["data"].(json.RawMessage)
	if one := ""; json.Unmarshal(orNull(data), &one) == nil && string(data) != "" {
		values = []string{one}
	} else if json.Unmarshal(orNull(data), &values) != nil {
		return nil, badRequest("Invalid format for data: expected a string or an array of strings"), false
	}
	if len(values) == 0 {
		return nil, badRequest("Observable of type " + kind + " needs data"), false
	}
	var out []doc
	for _, v := range values {
		if n := length(v); n < 1 || n > 4096 {
			return nil, badRequest("Invalid format for data: expected 1 to 4096 characters"), false
		}
		d := s.observableDoc(in, who)
		d["data"] = v
		out = append(out, d)
	}
	return out, fakekit.Reply{}, true
}

// observableDoc makes an observable of a checked input.
func (s *Server) observableDoc(in doc, who session) doc {
	d := doc{
		"_id": s.newID(), "_type": "Observable", "_createdBy": who.user.Login, "_createdAt": millis(s.opt.Now()), "extraData": doc{},
		"reports": doc{}, "external": false,
	}
	maps.Copy(d, in)
	delete(d, "isZip")
	delete(d, "zipPassword")
	setDefault(d, doc{
		"tlp": int64(2), "pap": int64(2), "tags": []string{}, "ioc": false, "sighted": false, "ignoreSimilarity": false,
		"startDate": millis(s.opt.Now()),
	})
	s.labels(d)
	return d
}

// addUnlessThere adds an observable to a record unless it has it already.
func (s *Server) addUnlessThere(rec *record, d doc) bool {
	kind, _ := d["dataType"].(string)
	fold := s.atLeast(7, 0) && slices.Contains(caseless, kind)
	for _, o := range rec.observables {
		if o["dataType"] == d["dataType"] && (o["data"] == d["data"] || fold && lower(o["data"]) == lower(d["data"])) {
			return false
		}
	}
	rec.observables = append(rec.observables, d)
	return true
}

func (s *Server) addObservable(c *fakekit.Call, who session) fakekit.Reply {
	if isForm(c.R) {
		return s.addFile(c, who)
	}
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, table := s.entity(who, c.Args[0], c.Args[1])
	if rec == nil {
		return notFound(c.Args[1])
	}
	docs, refusal, ok := s.makeObservables(raw, who)
	if !ok {
		return refusal
	}
	added := []doc{}
	for _, d := range docs {
		if s.addUnlessThere(rec, d) {
			added = append(added, d)
		}
	}
	if len(added) == 0 {
		return s.duplicate("Observable")
	}
	s.touch(table, rec, who, tags(rec.doc))
	return fakekit.JSON(http.StatusCreated, added)
}

func (s *Server) addComment(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, commentRules)
	if bad != "" {
		return badRequest(bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, _ := s.entity(who, c.Args[0], c.Args[1])
	if rec == nil {
		return notFound(c.Args[1])
	}
	d := doc{
		"_id": s.newID(), "_type": "Comment", "createdBy": who.user.Login, "createdAt": millis(s.opt.Now()), "isEdited": false,
		"extraData": doc{}, "external": false,
	}
	maps.Copy(d, in)
	rec.comments = append(rec.comments, d)
	return fakekit.JSON(http.StatusCreated, d)
}

func (s *Server) makeProcedure(raw map[string]json.RawMessage, who session) (doc, fakekit.Reply, bool) {
	in, bad := check(raw, procedureRules)
	if bad != "" {
		return nil, badRequest(bad), false
	}
	id, _ := in["patternId"].(string)
	if !s.knowsPattern(id) {
		return nil, notFound("Pattern " + id), false
	}
	tactic, given := in["tactic"].(string)
	if !given && !s.atLeast(2, 0) {
		return nil, badRequest("Attribute tactic is required"), false
	}
	d := doc{"_id": s.newID(), "_createdBy": who.user.Login, "_createdAt": millis(s.opt.Now()), "patternName": id, "extraData": doc{}}
	maps.Copy(d, in)
	if given {
		d["tacticLabel"] = tactic
	}
	return d, fakekit.Reply{}, true
}

func (s *Server) addProcedure(c *fakekit.Call, who session) fakekit.Reply {
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, table := s.entity(who, c.Args[0], c.Args[1])
	if rec == nil {
		return notFound(c.Args[1])
	}
	d, refusal, ok := s.makeProcedure(raw, who)
	if !ok {
		return refusal
	}
	rec.procedures = append(rec.procedures, d)
	s.touch(table, rec, who, tags(rec.doc))
	return fakekit.JSON(http.StatusCreated, d)
}
