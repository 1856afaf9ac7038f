package jirafake

import (
	"encoding/json"
	"slices"
	"strconv"
)

// AddIssue makes an issue as a person would, of the project's first type, and returns its key; empty if there is no such
// project. It is not counted as a create.
func (s *Server) AddIssue(project, summary string, labels ...string) string {
	p := s.project(named{Key: project})
	raw, err := json.Marshal(summary)
	if p == nil || err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := &issue{project: p, typ: &p.IssueTypes[0], status: &s.opt.Statuses[0], reporter: &s.opt.Users[0], props: map[string]json.RawMessage{}}
	iss.content.fields, iss.content.labels = map[string]json.RawMessage{"summary": raw}, slices.Clone(labels)
	s.admit(iss)
	return iss.key
}

// CommentAs adds a comment as a person would. It reports whether there is such an issue.
func (s *Server) CommentAs(key, body string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(key)
	if iss == nil {
		return false
	}
	s.comment(iss, &s.opt.Users[0], body, nil)
	s.touch(iss)
	return true
}

// admit gives a new issue its id and key; the caller holds the lock.
func (s *Server) admit(iss *issue) {
	s.counters[iss.project.Key]++
	iss.id = int64(10000 + len(s.byID) + int(s.ledger.deleted))
	iss.key = iss.project.Key + "-" + strconv.Itoa(s.counters[iss.project.Key])
	iss.created = s.now()
	iss.updated = iss.created
	s.byID[iss.id], s.byKey[iss.key] = iss, iss
	s.relabel(iss, nil)
	s.reindex(iss)
}
