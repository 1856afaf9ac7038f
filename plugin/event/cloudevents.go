package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// cloudEvent is the JSON format of CloudEvents 1.0, for sinks and files. It never crosses the wire between host and
// connector.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema,omitempty"`
	PartitionKey    string          `json:"partitionkey"`
	CorrelationID   string          `json:"correlationid,omitempty"`
	CausationID     string          `json:"causationid,omitempty"`
	TraceParent     string          `json:"traceparent,omitempty"`
	Tenant          string          `json:"cwtenant,omitempty"`
	Rev             string          `json:"cwrev"`
	Digest          string          `json:"cwdigest"`
	TLP             string          `json:"cwtlp,omitempty"`
	PAP             string          `json:"cwpap,omitempty"`
	Aliases         string          `json:"cwaliases,omitempty"` // attributes are scalars: joined with spaces
	Data            json.RawMessage `json:"data"`
}

const (
	specVersion = "1.0"
	contentJSON = "application/json"
	timeLayout  = "2006-01-02T15:04:05.000Z"
)

var (
	escapeAlias   = strings.NewReplacer("%", "%25", " ", "%20")
	unescapeAlias = strings.NewReplacer("%25", "%", "%20", " ")
)

// MarshalCloudEvent writes the event in the JSON format of CloudEvents 1.0, without HTML escaping. Aliases become one
// string, separated by spaces, with space and percent inside an alias escaped.
func (e *Event) MarshalCloudEvent() ([]byte, error) {
	aliases := make([]string, len(e.Aliases))
	for i, a := range e.Aliases {
		aliases[i] = escapeAlias.Replace(a)
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(cloudEvent{
		SpecVersion: specVersion, ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject,
		Time: e.Time.UTC().Format(timeLayout), DataContentType: contentJSON, DataSchema: e.DataSchema,
		PartitionKey: e.PartitionKey, CorrelationID: e.CorrelationID, CausationID: e.CausationID,
		TraceParent: e.TraceParent, Tenant: e.Tenant, Rev: e.Rev, Digest: e.Digest, TLP: e.TLP, PAP: e.PAP,
		Aliases: strings.Join(aliases, " "), Data: e.Data,
	})
	if err != nil {
		return nil, fmt.Errorf("write event %s as a CloudEvent: %w", clip(e.ID), err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// ParseCloudEvent reads what MarshalCloudEvent wrote. It refuses what it could not give back: another version of the
// specification, another content type, data_base64. Attributes that Casewire does not use are ignored. It does not
// Check the event.
func ParseCloudEvent(b []byte) (Event, error) {
	var in struct {
		cloudEvent
		DataBase64 json.RawMessage `json:"data_base64"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return Event{}, fmt.Errorf("read CloudEvent: %w", err)
	}
	var faults []error
	if in.SpecVersion != specVersion {
		faults = append(faults, fmt.Errorf("specversion is %q; want %q", clip(in.SpecVersion), specVersion))
	}
	if in.DataContentType != "" && in.DataContentType != contentJSON {
		faults = append(faults, fmt.Errorf("datacontenttype is %q; want %q", clip(in.DataContentType), contentJSON))
	}
	if in.DataBase64 != nil {
		faults = append(faults, errors.New("data_base64 is not taken; send JSON in data"))
	}
	t, err := time.Parse(time.RFC3339Nano, in.Time)
	if err != nil {
		faults = append(faults, fmt.Errorf("time: %w", err))
	}
	if len(faults) > 0 {
		return Event{}, fmt.Errorf("read CloudEvent: %w", errors.Join(faults...))
	}
	e := Event{
		ID: in.ID, Source: in.Source, Type: in.Type, Subject: in.Subject, Time: t.UTC(), DataSchema: in.DataSchema,
		PartitionKey: in.PartitionKey, CorrelationID: in.CorrelationID, CausationID: in.CausationID,
		Tenant: in.Tenant, Rev: in.Rev, Digest: in.Digest, TLP: in.TLP, PAP: in.PAP, TraceParent: in.TraceParent,
		Data: in.Data,
	}
	for a := range strings.FieldsSeq(in.Aliases) {
		e.Aliases = append(e.Aliases, unescapeAlias.Replace(a))
	}
	return e, nil
}
