// Package view is the flat read model that flows and templates see: alert.title, alert.severity, alert.users, alert.iocs
// and their like, computed from an event's OCSF data. It is the contract with people who write flows; OCSF paths are not.
package view

import (
	"time"

	"github.com/casewire/casewire/plugin/event"
)

// View is what an event looks like to a flow. Exactly one of Alert and Incident is set for those types of event; for
// others, Row holds the data.
type View struct {
	Event    Event          `expr:"event" json:"event"`
	Alert    *Alert         `expr:"alert" json:"alert,omitempty"`
	Incident *Incident      `expr:"incident" json:"incident,omitempty"`
	Row      map[string]any `expr:"row" json:"row,omitempty"`
}

// Event is the envelope.
type Event struct {
	ID            string    `expr:"id" json:"id"`
	Source        string    `expr:"source" json:"source"`
	Type          string    `expr:"type" json:"type"`
	Subject       string    `expr:"subject" json:"subject"`
	Time          time.Time `expr:"time" json:"time"`
	Key           string    `expr:"key" json:"key"`           // the object's canonical key
	CaseKey       string    `expr:"case_key" json:"case_key"` // what the case is found by
	CorrelationID string    `expr:"correlation_id" json:"correlation_id"`
	Tenant        string    `expr:"tenant" json:"tenant"`
	TLP           string    `expr:"tlp" json:"tlp"`
}

// Alert is a Detection Finding made flat.
type Alert struct{}

// Incident is an Incident Finding made flat.
type Incident struct{}

// New computes the view of an event.
func New(ev event.Event, caseKey string) (*View, error) { panic("contract only") }
