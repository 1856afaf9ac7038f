package jirafake

import (
	"cmp"
	"slices"
	"time"
)

// entry is what the search index knows of an issue; it never changes once it is made.
type entry struct {
	iss              *issue
	summary          string
	description      string
	labels           []string
	status           *Status
	priority         *Priority
	assignee         *User
	resolution       string
	globalIDs        []string
	created, updated time.Time
}

// index answers searches. It learns of changes only after the lag, and it is brought up to date when it is asked.
type index struct {
	lag      time.Duration
	pending  []pending // by due time
	byLabel  map[string][]*issue
	log      []*entry // by update time; holds outdated entries until they are swept out
	outdated int
}

type pending struct {
	due time.Time
	iss *issue
}

func (iss *issue) entry() *entry {
	e := &entry{
		iss: iss, labels: slices.Clone(iss.content.labels), status: iss.status, priority: iss.content.priority,
		assignee: iss.content.assignee, resolution: iss.resolution, created: iss.created, updated: iss.updated,
	}
	e.summary, _ = text(iss.content.fields["summary"])
	e.description, _ = text(iss.content.fields["description"])
	for _, l := range iss.links {
		if l.globalID != "" {
			e.globalIDs = append(e.globalIDs, l.globalID)
		}
	}
	return e
}

// reindex tells the index of a change; the caller holds the lock.
func (s *Server) reindex(iss *issue) {
	if s.index.lag <= 0 {
		s.index.put(iss)
		return
	}
	due := s.opt.Now().Add(s.index.lag)
	i, _ := slices.BinarySearchFunc(s.index.pending, due, func(p pending, at time.Time) int {
		return cmp.Or(p.due.Compare(at), -1)
	})
	s.index.pending = slices.Insert(s.index.pending, i, pending{due, iss})
}

// unindex forgets a deleted issue at once: results are checked against the issues themselves.
func (s *Server) unindex(iss *issue) {
	s.index.forget(iss)
	iss.indexed = nil
}

// catchUp applies what is due; the caller holds the lock.
func (s *Server) catchUp() {
	x, now := &s.index, s.opt.Now()
	n := 0
	for n < len(x.pending) && !x.pending[n].due.After(now) {
		if iss := x.pending[n].iss; s.byID[iss.id] == iss {
			x.put(iss)
		}
		n++
	}
	x.pending = x.pending[n:]
}

func (x *index) forget(iss *issue) {
	if iss.indexed == nil {
		return
	}
	for _, l := range iss.indexed.labels {
		x.byLabel[l] = slices.DeleteFunc(x.byLabel[l], func(i *issue) bool { return i == iss })
	}
	x.outdated++
}

func (x *index) put(iss *issue) {
	e, old := iss.entry(), iss.indexed
	if old == nil || !slices.Equal(old.labels, e.labels) {
		x.relabel(iss, old, e)
	}
	if old != nil {
		x.outdated++
	}
	iss.indexed = e
	i := len(x.log)
	if i > 0 && e.updated.Before(x.log[i-1].updated) {
		i, _ = slices.BinarySearchFunc(x.log, e.updated, func(a *entry, at time.Time) int {
			return cmp.Or(a.updated.Compare(at), -1)
		})
	}
	x.log = slices.Insert(x.log, i, e)
	if x.outdated > 64 && x.outdated > len(x.log)/2 {
		x.log = slices.DeleteFunc(x.log, func(e *entry) bool { return e.iss.indexed != e })
		x.outdated = 0
	}
}

func (x *index) relabel(iss *issue, old, e *entry) {
	var had []string
	if old != nil {
		had = old.labels
	}
	for _, l := range had {
		if !slices.Contains(e.labels, l) {
			x.byLabel[l] = slices.DeleteFunc(x.byLabel[l], func(i *issue) bool { return i == iss })
		}
	}
	for _, l := range e.labels {
		if !slices.Contains(had, l) {
			x.byLabel[l] = append(x.byLabel[l], iss)
		}
	}
}

// since returns the part of the log that was updated at or after a time.
func (x *index) since(at time.Time) []*entry {
	i, _ := slices.BinarySearchFunc(x.log, at, func(e *entry, at time.Time) int {
		return cmp.Or(e.updated.Compare(at), 1)
	})
	return x.log[i:]
}
