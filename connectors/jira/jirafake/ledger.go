package jirafake

import (
	"maps"
	"slices"
	"strings"
)

type counts struct {
	creates, updates, comments, notified, deleted uint64
}

// Ledger is what the fake has seen and done, counted on its own side.
type Ledger struct {
	// Requests by route and outcome; see fakekit's Tally: "201", "reset", "201-lost"…
	Requests map[string]map[string]uint64 `json:"requests"`

	Creates  uint64 `json:"creates"` // executed, whatever became of the answer
	Updates  uint64 `json:"updates"`
	Comments uint64 `json:"comments"`
	Notified uint64 `json:"notified"` // edits that sent mail to watchers
	Deleted  uint64 `json:"deleted"`

	Issues map[string]IssueLedger `json:"issues"`   // by key
	Labels map[string][]string    `json:"by_label"` // keys of the issues that have it, sorted
}

// IssueLedger is what happened to one issue.
type IssueLedger struct {
	ID          int64    `json:"id"`
	Labels      []string `json:"labels"`
	Status      string   `json:"status"`
	Updates     int      `json:"updates"`
	Transitions int      `json:"transitions"`
	Comments    int      `json:"comments"`
	RemoteLinks int      `json:"remote_links"`
	Links       int      `json:"links"`
	Attachments []string `json:"attachments,omitempty"` // name and SHA-256
}

// Count returns how many issues there are.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
}

// Ledger returns a copy of all counts.
func (s *Server) Ledger() Ledger {
	led := Ledger{Requests: s.kit.Requests(), Issues: map[string]IssueLedger{}, Labels: map[string][]string{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	led.Creates, led.Updates, led.Comments = s.ledger.creates, s.ledger.updates, s.ledger.comments
	led.Notified, led.Deleted = s.ledger.notified, s.ledger.deleted
	for key, iss := range s.byKey {
		one := iss.stats
		one.ID, one.Labels, one.Status = iss.id, slices.Clone(iss.content.labels), iss.status.Name
		one.Attachments = slices.Clone(one.Attachments)
		led.Issues[key] = one
	}
	for label, issues := range s.labels {
		if len(issues) > 0 {
			led.Labels[label] = keysOf(issues)
		}
	}
	return led
}

func keysOf(issues []*issue) []string {
	keys := make([]string, 0, len(issues))
	for _, iss := range issues {
		keys = append(keys, iss.key)
	}
	slices.Sort(keys)
	return keys
}

// CommentsWith counts how often a text occurs in all comments.
func (s *Server) CommentsWith(text string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, iss := range s.byKey {
		for _, c := range iss.comments {
			n += strings.Count(c.body, text)
		}
	}
	return n
}

// ByLabel returns the keys of the issues that have a label now, sorted.
func (s *Server) ByLabel(label string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return keysOf(s.labels[label])
}

// Duplicates returns the labels with a prefix that more than one issue has, with their keys.
func (s *Server) Duplicates(prefix string) map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	for label, issues := range s.labels {
		if strings.HasPrefix(label, prefix) && len(issues) > 1 {
			out[label] = keysOf(issues)
		}
	}
	return out
}

// Issue returns what Jira would return for an issue with all fields and properties, or nil.
func (s *Server) Issue(key string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	iss := s.find(key)
	if iss == nil {
		return nil
	}
	out := s.render(iss, []string{"*all"}, nil)
	out["properties"] = maps.Clone(iss.props)
	return out
}
