// Package event is the envelope that hosts and connectors exchange: CloudEvents 1.0 attributes, the identity rules
// that make two hosts agree on an id, and the cheap checks that every event passes at the boundary. It knows no vendor
// and no class of OCSF beyond the head of one.
package event

import (
	"encoding/json"
	"time"
)

// Types of events.
const (
	TypeAlert     = "io.casewire.alert.v1"
	TypeIncident  = "io.casewire.incident.v1"
	TypeIndicator = "io.casewire.indicator.v1"
	TypeRow       = "io.casewire.row.v1"
	TypeCase      = "io.casewire.case.v1"
)

// Event is one immutable fact: an object of a source at a revision. Data is OCSF 1.8.0 JSON and a pure function of the
// source object, so that every host derives the same bytes and the same ID.
type Event struct {
	ID            string          `json:"id"`
	Source        string          `json:"source"`
	Type          string          `json:"type"`
	Subject       string          `json:"subject"`
	Time          time.Time       `json:"time"`
	DataSchema    string          `json:"dataschema,omitempty"`
	PartitionKey  string          `json:"partitionkey"`            // canonical key of the object, lower case
	CorrelationID string          `json:"correlationid,omitempty"` // key of the incident, when known
	CausationID   string          `json:"causationid,omitempty"`
	Tenant        string          `json:"cwtenant,omitempty"`
	Rev           string          `json:"cwrev"`    // source modification time: UTC epoch milliseconds, 15 digits
	Digest        string          `json:"cwdigest"` // 16 hex digits over the significant projection
	TLP           string          `json:"cwtlp,omitempty"`
	PAP           string          `json:"cwpap,omitempty"`
	Aliases       []string        `json:"cwaliases,omitempty"`
	TraceParent   string          `json:"traceparent,omitempty"`
	Data          json.RawMessage `json:"data"`
}
