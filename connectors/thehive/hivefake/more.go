package hivefake

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// status answers who is signed in, with the licence.
func (s *Server) status(*fakekit.Call, session) fakekit.Reply {
	licence := doc{
		"id": "1", "customer": "SOC", "instance": "i", "plan": "Platinum", "kind": "standard", "validFrom": int64(1700000000000),
		"expiresAt": millis(s.opt.Now().AddDate(1, 0, 0)), "capabilities": []string{}, "isValid": !s.opt.NoLicence, "quotas": doc{},
	}
	if s.opt.NoLicence {
		licence["error"] = "The trial is over"
	}
	return fakekit.JSON(http.StatusOK, doc{
		"version": s.opt.Version, "gitDescription": s.opt.Version, "connectors": doc{}, "config": doc{}, "license": licence,
	})
}

// linkCases links two cases; the same link again is the same link.
func (s *Server) linkCases(c *fakekit.Call, who session) fakekit.Reply {
	if s.opt.NoLinks {
		return notFound("Endpoint " + c.R.URL.Path)
	}
	raw, refusal, ok := body(c.R, false)
	if !ok {
		return refusal
	}
	in, bad := check(raw, linkRules)
	if bad != "" {
		return badRequest(bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, other := s.caseOf(who, c.Args[0]), s.caseOf(who, asText(in["caseId"]))
	if rec == nil || other == nil {
		return notFound("Case")
	}
	if link := asText(in["type"]) + " " + other.id; !slices.Contains(rec.links, link) {
		rec.links = append(rec.links, link)
	}
	s.touch(&s.cases, rec, who, tags(rec.doc))
	return fakekit.Reply{Status: http.StatusNoContent}
}

var linkRules = map[string]rule{"type": text(1, 64).need(), "caseId": text(1, 128).need()}

func (s *Server) updateComment(c *fakekit.Call, who session) fakekit.Reply {
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
	for _, t := range []*table{&s.alerts, &s.cases} {
		for _, rec := range t.byID {
			i := slices.IndexFunc(rec.comments, func(d doc) bool { return d["_id"] == c.Args[0] })
			if i < 0 || rec.org != who.org {
				continue
			}
			d := maps.Clone(rec.comments[i])
			maps.Copy(d, in)
			d["isEdited"], d["updatedAt"], d["updatedBy"] = true, millis(s.opt.Now()), who.user.Login
			rec.comments[i] = d
			return fakekit.Reply{Status: http.StatusNoContent}
		}
	}
	return notFound("Comment " + c.Args[0])
}

// allObservables are the observables of an organisation as records, which lead to the case that they belong to.
func (s *Server) allObservables(who session) set {
	out := set{kind: "Observable"}
	for _, t := range []*table{&s.alerts, &s.cases} {
		for _, rec := range t.byID {
			if rec.org != who.org {
				continue
			}
			for _, d := range rec.observables {
				out.records = append(out.records, &record{id: asText(d["_id"]), org: rec.org, doc: d, parent: rec})
			}
		}
	}
	return out
}

// show is what a query shows of a case template.
func (t *Template) show(i int) doc {
	return doc{
		"_id": "~casetemplate" + strconv.Itoa(i), "_type": "CaseTemplate", "_createdBy": "system@thehive.local", "_createdAt": int64(1700000000000),
		"name": t.Name, "displayName": t.Name, "titlePrefix": t.TitlePrefix, "tags": append([]string{}, t.Tags...), "flag": false,
		"tasks": []doc{}, "extraData": doc{},
	}
}
