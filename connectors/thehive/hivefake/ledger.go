package hivefake

import (
	"maps"
	"slices"
	"strings"
)

// Ledger is what the fake has seen and done, counted on its own side. Keys of alerts are type;source;sourceRef.
type Ledger struct {
	// Requests by route and outcome; see fakekit's Tally: "201", "reset", "201-lost"…
	Requests map[string]map[string]uint64 `json:"requests"`

	Alerts  map[string]AlertLedger `json:"alerts"`  // by key, all organisations
	Cases   map[int64]CaseLedger   `json:"cases"`   // by number
	Refused map[string]uint64      `json:"refused"` // duplicates and repeated promotions, by what was refused
}

// AlertLedger is what happened to one alert.
type AlertLedger struct {
	ID          string   `json:"id"`
	Status      string   `json:"status"`
	CaseID      string   `json:"case_id,omitempty"`
	Promoted    []string `json:"promoted"` // ids of the cases that it was promoted to; more than one is a duplicate
	Observables int      `json:"observables"`
	Procedures  int      `json:"procedures"`
	Comments    int      `json:"comments"`
	Updates     int      `json:"updates"`
}

// CaseLedger is what happened to one case.
type CaseLedger struct {
	ID          string   `json:"id"`
	Title       string   `json:"title"`
	Status      string   `json:"status"`
	Tags        []string `json:"tags"`
	Alerts      []string `json:"alerts"` // keys of the alerts that it came from or took in
	Observables int      `json:"observables"`
	Procedures  int      `json:"procedures"`
	Comments    []string `json:"comments"`
	Tasks       int      `json:"tasks"`
	Attachments int      `json:"attachments"`
	Links       []string `json:"links"` // type and id of the other case
	Updates     int      `json:"updates"`
}

// Ledger returns a copy of all counts.
func (s *Server) Ledger() Ledger {
	led := Ledger{Requests: s.kit.Requests(), Alerts: map[string]AlertLedger{}, Cases: map[int64]CaseLedger{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	led.Refused = maps.Clone(s.refused)
	for _, rec := range s.alerts.byID {
		id, _ := rec.doc["caseId"].(string)
		led.Alerts[rec.ref()] = AlertLedger{
			ID: rec.id, Status: asText(rec.doc["status"]), CaseID: id, Promoted: slices.Clone(rec.promoted),
			Observables: len(rec.observables), Procedures: len(rec.procedures), Comments: len(rec.comments), Updates: rec.updates,
		}
	}
	for _, rec := range s.cases.byID {
		number, _ := rec.doc["number"].(int64)
		one := CaseLedger{
			ID: rec.id, Title: asText(rec.doc["title"]), Status: asText(rec.doc["status"]), Tags: slices.Clone(tags(rec.doc)),
			Alerts: slices.Clone(rec.origins), Observables: len(rec.observables), Procedures: len(rec.procedures),
			Tasks: len(rec.tasks), Attachments: len(rec.attachments), Links: slices.Clone(rec.links), Updates: rec.updates,
		}
		for _, c := range rec.comments {
			one.Comments = append(one.Comments, asText(c["message"]))
		}
		led.Cases[number] = one
	}
	return led
}

// Count returns how many cases there are.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cases.byID)
}

// CasesByLink returns the ids of the cases that were made of alerts, by the external link of the alert.
func (s *Server) CasesByLink() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	for _, rec := range s.alerts.byID {
		link := asText(rec.doc["externalLink"])
		out[link] = append(out[link], rec.promoted...)
	}
	return out
}

// CasesOf returns the numbers of the cases that came from the alert with a key (type;source;sourceRef), sorted.
func (s *Server) CasesOf(key string) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []int64{}
	for _, rec := range s.cases.byID {
		if slices.Contains(rec.origins, key) {
			number, _ := rec.doc["number"].(int64)
			out = append(out, number)
		}
	}
	slices.Sort(out)
	return out
}

// Duplicates returns the keys of alerts that became more than one case, with the ids of those cases, and the tags with
// a prefix that more than one case has, with the ids of those.
func (s *Server) Duplicates(tagPrefix string) map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	for _, rec := range s.alerts.byID {
		if len(rec.promoted) > 1 {
			out[rec.ref()] = slices.Clone(rec.promoted)
		}
	}
	for tag, list := range s.cases.byTag {
		if tagPrefix != "" && strings.HasPrefix(tag, tagPrefix) && len(list) > 1 {
			for _, rec := range list {
				out[tag] = append(out[tag], rec.id)
			}
			slices.Sort(out[tag])
		}
	}
	return out
}
