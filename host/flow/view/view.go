// Package view is the flat read model that flows and templates see: alert.title, alert.severity, alert.users, alert.iocs
// and their like, computed from an event's OCSF data. It is the contract with people who write flows; OCSF paths are not.
//
// Lists are never nil, and text that is not known is empty. Times that are not known are the zero time.
package view

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/plugin/event"
)

// View is what an event looks like to a flow. Exactly one of Alert, Incident and Case is set for those types of event; for
// others, Row holds the data: of a query's row its columns, of anything else all of it.
type View struct {
	Event    Event          `expr:"event" json:"event"`
	Alert    *Alert         `expr:"alert" json:"alert,omitempty"`
	Incident *Incident      `expr:"incident" json:"incident,omitempty"`
	Case     *Case          `expr:"case" json:"case,omitempty"`
	Row      map[string]any `expr:"row" json:"row,omitempty"`
}

// Event is the envelope.
type Event struct {
	ID            string    `expr:"id" json:"id"`                           // the same on every host: "ntug5bsaohukqqc0rbidkhhbelik128c"
	Source        string    `expr:"source" json:"source"`                   // the collection that its object is in: "https://graph.microsoft.com/…/security/alerts_v2"
	Type          string    `expr:"type" json:"type"`                       // "io.casewire.alert.v1"
	Subject       string    `expr:"subject" json:"subject"`                 // the object's id in its source: "da638551234567890123_-123456"
	Time          time.Time `expr:"time" json:"time"`                       // when the object changed: 2026-03-04T06:00:00.5Z
	Key           string    `expr:"key" json:"key"`                         // the object's canonical key
	CaseKey       string    `expr:"case_key" json:"case_key"`               // what the case is found by
	MergedCaseKey string    `expr:"merged_case_key" json:"merged_case_key"` // of a case that is a duplicate of case_key's since this event; empty: there is none
	CorrelationID string    `expr:"correlation_id" json:"correlation_id"`   // key of the incident, when known: "msincident:11111111-…:28282"
	Tenant        string    `expr:"tenant" json:"tenant"`                   // "11111111-2222-4333-8444-555555555555"
	TLP           string    `expr:"tlp" json:"tlp"`                         // CLEAR, GREEN, AMBER, AMBER STRICT, RED; empty if its source does not say
}

// Alert is a Detection Finding made flat.
type Alert struct {
	ID              string         `expr:"id" json:"id"`                             // in its source: "da638551234567890123_-123456"
	Title           string         `expr:"title" json:"title"`                       // "Suspicious PowerShell command line"
	Description     string         `expr:"description" json:"description"`           // "A suspicious activity was observed on …"
	Severity        string         `expr:"severity" json:"severity"`                 // Unknown, Informational, Low, Medium, High, Critical, Fatal; else the source's word
	SeverityID      int            `expr:"severity_id" json:"severity_id"`           // 0 to 6 in that order; 99 for another word
	Status          string         `expr:"status" json:"status"`                     // New, In Progress, Suppressed, Resolved, …
	StatusID        int            `expr:"status_id" json:"status_id"`               // 1, 2, 3, 4, …
	StatusDetail    string         `expr:"status_detail" json:"status_detail"`       // state of the automatic investigation: "queued"
	Verdict         string         `expr:"verdict" json:"verdict"`                   // Unknown, False Positive, True Positive, Suspicious, Benign, Test, …
	VerdictID       int            `expr:"verdict_id" json:"verdict_id"`             // 0, 1, 2, 4, 5, 6, …
	Category        string         `expr:"category" json:"category"`                 // the one that names the tactic, else the first: "Execution"
	Categories      []string       `expr:"categories" json:"categories"`             // ["Execution", "Malware"]
	Product         string         `expr:"product" json:"product"`                   // "Microsoft Defender for Endpoint"
	ServiceSource   string         `expr:"service_source" json:"service_source"`     // "microsoftDefenderForEndpoint"
	DetectionSource string         `expr:"detection_source" json:"detection_source"` // "scheduledAlerts"
	Rule            string         `expr:"rule" json:"rule"`                         // id of the rule or detector that fired
	URL             string         `expr:"url" json:"url"`                           // the alert in its product's portal
	IncidentID      string         `expr:"incident_id" json:"incident_id"`           // "28282"; empty as long as there is none
	IncidentURL     string         `expr:"incident_url" json:"incident_url"`         // the incident in its product's portal
	Tenant          string         `expr:"tenant" json:"tenant"`                     // "11111111-2222-4333-8444-555555555555"
	Created         time.Time      `expr:"created" json:"created"`                   // when it was made: 2026-03-04T05:06:08.123Z
	Updated         time.Time      `expr:"updated" json:"updated"`                   // when it last changed: 2026-03-04T06:00:00.5Z
	FirstActivity   time.Time      `expr:"first_activity" json:"first_activity"`     // when what it is about began: 2026-03-04T04:59:07Z
	LastActivity    time.Time      `expr:"last_activity" json:"last_activity"`       // when what it is about was last seen: 2026-03-04T05:00:00Z
	AssignedTo      string         `expr:"assigned_to" json:"assigned_to"`           // "ana@contoso.example"
	Techniques      []string       `expr:"techniques" json:"techniques"`             // ["T1059.001", "T1105"]
	Tactics         []string       `expr:"tactics" json:"tactics"`                   // ["Execution"]
	Malware         []string       `expr:"malware" json:"malware"`                   // ["Trojan:Win32/Bad"]
	Actor           string         `expr:"actor" json:"actor"`                       // who is behind it: "Storm-1"
	Users           []string       `expr:"users" json:"users"`                       // address, else DOMAIN\name, else name: ["a.muster@contoso.example"]
	Hosts           []string       `expr:"hosts" json:"hosts"`                       // ["wks-042.corp.example"]
	IPs             []string       `expr:"ips" json:"ips"`                           // ["10.20.30.40", "2a00:1450::1"]
	Domains         []string       `expr:"domains" json:"domains"`                   // public names, no devices: ["bad.example.com"]
	URLs            []string       `expr:"urls" json:"urls"`                         // ["http://bad.example.com/a.ps1"]
	Files           []string       `expr:"files" json:"files"`                       // names: ["powershell.exe"]
	Hashes          []string       `expr:"hashes" json:"hashes"`                     // of files, lower case
	Mails           []string       `expr:"mails" json:"mails"`                       // e-mail addresses of all who take part
	Processes       []string       `expr:"processes" json:"processes"`               // command lines, else names: ["powershell.exe -nop …"]
	Resources       []string       `expr:"resources" json:"resources"`               // ["arn:aws:iam::123456789012:user/root"]
	IOCs            []Observable   `expr:"iocs" json:"iocs"`                         // the observables whose ioc is true
	Observables     []Observable   `expr:"observables" json:"observables"`           // everything worth looking up
	Recommended     string         `expr:"recommended" json:"recommended"`           // what the product says to do
	Labels          []string       `expr:"labels" json:"labels"`                     // ["Defender Experts"]
	Comment         string         `expr:"comment" json:"comment"`                   // the newest
	Comments        []string       `expr:"comments" json:"comments"`                 // all, in the source's order
	Cloud           Cloud          `expr:"cloud" json:"cloud"`                       // the cloud of the first cloud resource
	Custom          map[string]any `expr:"custom" json:"custom"`                     // details that a rule adds: a text, or a list of texts
	EvidenceCount   int            `expr:"evidence_count" json:"evidence_count"`     // 5
	Truncated       bool           `expr:"truncated" json:"truncated"`               // the event was too large and lacks details
}

// Incident is an Incident Finding made flat.
type Incident struct {
	ID            string       `expr:"id" json:"id"`                         // in its source: "28282", or a GUID
	Title         string       `expr:"title" json:"title"`                   // "Multi-stage incident on one endpoint"
	Description   string       `expr:"description" json:"description"`       // what it is about
	Severity      string       `expr:"severity" json:"severity"`             // as of an alert
	SeverityID    int          `expr:"severity_id" json:"severity_id"`       // as of an alert
	Status        string       `expr:"status" json:"status"`                 // New, In Progress, On Hold, Resolved, Closed
	StatusID      int          `expr:"status_id" json:"status_id"`           // 1, 2, 3, 4, 5
	StatusDetail  string       `expr:"status_detail" json:"status_detail"`   // the reason for closing: "SuspiciousActivity"
	Verdict       string       `expr:"verdict" json:"verdict"`               // as of an alert
	VerdictID     int          `expr:"verdict_id" json:"verdict_id"`         // as of an alert
	Product       string       `expr:"product" json:"product"`               // "Microsoft Sentinel"
	URL           string       `expr:"url" json:"url"`                       // the incident in its product's portal
	Tenant        string       `expr:"tenant" json:"tenant"`                 // "11111111-2222-4333-8444-555555555555"
	Created       time.Time    `expr:"created" json:"created"`               // when it was made: 2026-03-04T05:06:08.123Z
	Updated       time.Time    `expr:"updated" json:"updated"`               // when it last changed: 2026-03-04T06:00:00.5Z
	FirstActivity time.Time    `expr:"first_activity" json:"first_activity"` // when what it is about began: 2026-03-04T04:59:07Z
	LastActivity  time.Time    `expr:"last_activity" json:"last_activity"`   // when what it is about was last seen: 2026-03-04T05:00:00Z
	AssignedTo    string       `expr:"assigned_to" json:"assigned_to"`       // a person or a group; empty for nobody
	Techniques    []string     `expr:"techniques" json:"techniques"`         // ["T1059.001"]
	Tactics       []string     `expr:"tactics" json:"tactics"`               // ["Execution"]
	AlertIDs      []string     `expr:"alert_ids" json:"alert_ids"`           // of the alerts that it has
	AlertCount    int          `expr:"alert_count" json:"alert_count"`       // how many it has, even if their ids are not known
	Products      []string     `expr:"products" json:"products"`             // of its alerts: ["Microsoft Defender XDR"]
	IPs           []string     `expr:"ips" json:"ips"`                       // as of an alert
	Domains       []string     `expr:"domains" json:"domains"`               // as of an alert
	URLs          []string     `expr:"urls" json:"urls"`                     // as of an alert
	Hashes        []string     `expr:"hashes" json:"hashes"`                 // as of an alert
	Mails         []string     `expr:"mails" json:"mails"`                   // as of an alert
	Observables   []Observable `expr:"observables" json:"observables"`       // everything worth looking up
	Labels        []string     `expr:"labels" json:"labels"`                 // ["vip"]
	Comment       string       `expr:"comment" json:"comment"`               // the newest
	Comments      []string     `expr:"comments" json:"comments"`             // all, in the source's order
	RedirectedTo  string       `expr:"redirected_to" json:"redirected_to"`   // id of the incident that this one was merged into; else empty
}

// Case is a case of a case manager, as its own trigger brings it, made flat.
type Case struct {
	ID         string    `expr:"id" json:"id"`                   // in its system: "10042", "~123456"
	Number     string    `expr:"number" json:"number"`           // what people call it: "SOC-24", "57"
	System     string    `expr:"system" json:"system"`           // "jira", "thehive"
	Title      string    `expr:"title" json:"title"`             // "Suspicious PowerShell command line"
	URL        string    `expr:"url" json:"url"`                 // where people open it
	Status     string    `expr:"status" json:"status"`           // New, In Progress, On Hold, Resolved, Closed
	StatusID   int       `expr:"status_id" json:"status_id"`     // 1, 2, 3, 4, 5
	StatusText string    `expr:"status_text" json:"status_text"` // the system's own word: "Won't do"
	Closed     bool      `expr:"closed" json:"closed"`           // it is resolved or closed
	Severity   string    `expr:"severity" json:"severity"`       // as of an alert
	SeverityID int       `expr:"severity_id" json:"severity_id"` // as of an alert
	Verdict    string    `expr:"verdict" json:"verdict"`         // as of an alert; also Duplicate, Other
	VerdictID  int       `expr:"verdict_id" json:"verdict_id"`   // 0, 1, 2, 5, 7, 10, 99
	Comment    string    `expr:"comment" json:"comment"`         // the summary that it was closed with
	AssignedTo string    `expr:"assigned_to" json:"assigned_to"` // "ana@contoso.example"
	OriginKind string    `expr:"origin_kind" json:"origin_kind"` // "alert" or "incident": what it was made for; empty if it was not made by a flow
	OriginID   string    `expr:"origin_id" json:"origin_id"`     // in its source: "da638551234567890123_-123456", "28282"
	Key        string    `expr:"key" json:"key"`                 // the key that it was made with, when known
	Labels     []string  `expr:"labels" json:"labels"`           // ["casewire", "vip"]
	Created    time.Time `expr:"created" json:"created"`         // when it was made: 2026-03-04T05:06:08.123Z
	Updated    time.Time `expr:"updated" json:"updated"`         // when it last changed: 2026-03-04T06:00:00.5Z
}

// Observable is a value worth looking up.
type Observable struct {
	Type     string `expr:"type" json:"type"`           // OCSF's caption: "IP Address"
	Value    string `expr:"value" json:"value"`         // in canonical form: "198.51.100.77"
	DataType string `expr:"data_type" json:"data_type"` // in the words of case managers: ip, domain, fqdn, hostname, url, mail, hash, filename, registry, user-agent, mail-subject, other
	Tag      string `expr:"tag" json:"tag"`             // tells apart what shares the data type other: user, mac, process, …
	IOC      bool   `expr:"ioc" json:"ioc"`             // an indicator of compromise, and not only mentioned
}

// Cloud is a cloud.
type Cloud struct {
	Account  string `expr:"account" json:"account"`   // AWS account, Azure subscription or GCP project: "123456789012"
	Provider string `expr:"provider" json:"provider"` // "AWS", "Azure", "GCP"
	Region   string `expr:"region" json:"region"`     // "eu-central-1"; a zone where that is what is known
}

// New computes the view of an event. It fails only if the data is no JSON object: attributes of another type than
// expected are left out.
func New(ev event.Event, caseKey string) (*View, error) {
	v := &View{Event: Event{
		ID: ev.ID, Source: ev.Source, Type: ev.Type, Subject: ev.Subject, Time: ev.Time, Key: ev.PartitionKey,
		CaseKey: caseKey, CorrelationID: ev.CorrelationID, Tenant: ev.Tenant, TLP: ev.TLP,
	}}
	var err error
	switch ev.Type {
	case event.TypeAlert:
		var f *finding
		if f, err = decode[finding](ev.Data); err == nil {
			v.Alert = f.alert(&v.Event)
		}
	case event.TypeIncident:
		var f *finding
		if f, err = decode[finding](ev.Data); err == nil {
			v.Incident = f.incident(&v.Event)
		}
	case event.TypeCase:
		var f *finding
		if f, err = decode[finding](ev.Data); err == nil {
			v.Case = f.kase(&v.Event)
		}
	default:
		v.Row, err = row(ev)
	}
	if err != nil {
		return nil, fmt.Errorf("read event %s: its data is %w", ev.ID, err)
	}
	return v, nil
}

// options make the reader fast: the event was checked when it came in.
var options = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// decode reads what T names. The fast reader stops at an attribute of another type than expected; then the one that reads
// on has to do.
func decode[T any](data []byte) (*T, error) {
	if k := jsontext.Value(data).Kind(); k != '{' {
		return nil, fmt.Errorf("no JSON object but %s", k)
	}
	v := new(T)
	if json.Unmarshal(data, v, options) == nil {
		return v, nil
	}
	v = new(T)
	if err := stdjson.Unmarshal(data, v); err != nil {
		if _, ok := errors.AsType[*stdjson.UnmarshalTypeError](err); !ok {
			return nil, fmt.Errorf("no JSON: %w", err)
		}
	}
	return v, nil
}

func row(ev event.Event) (map[string]any, error) {
	data, err := decode[map[string]any](ev.Data)
	if err != nil {
		return nil, err
	}
	all := *data
	if ev.Type == event.TypeRow {
		if unmapped, ok := all["unmapped"].(map[string]any); ok {
			if columns, ok := unmapped["row"].(map[string]any); ok {
				return columns, nil
			}
		}
	}
	return all, nil
}
