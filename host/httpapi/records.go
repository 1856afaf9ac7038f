package httpapi

import (
	"encoding/json"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store"
)

// The records below are what the API answers and what the command prints with --json. Their names are stable.

// RunRecord is a run; Steps only when one run was asked for.
type RunRecord struct {
	ID          string          `json:"id"`
	Flow        string          `json:"flow"`
	Version     string          `json:"version"`
	State       store.RunState  `json:"state"`
	Reason      string          `json:"reason,omitempty"`
	Class       string          `json:"class,omitempty"`
	Connection  string          `json:"connection,omitempty"`
	Trigger     string          `json:"trigger,omitempty"`
	EventSource string          `json:"event_source,omitempty"`
	EventID     string          `json:"event_id,omitempty"`
	Object      string          `json:"object,omitempty"`
	CaseKey     string          `json:"case_key,omitempty"`
	Parent      string          `json:"parent,omitempty"`
	Output      json.RawMessage `json:"output,omitempty"`
	OutputRef   string          `json:"output_ref,omitempty"` // where a large output is, over HTTP
	OutputBytes int             `json:"output_bytes,omitempty"`
	Created     time.Time       `json:"created"`
	Started     time.Time       `json:"started,omitzero"`
	Ended       time.Time       `json:"ended,omitzero"`
	NotBefore   time.Time       `json:"not_before,omitzero"`
	Seconds     float64         `json:"seconds"`
	Steps       []StepRecord    `json:"steps,omitempty"`
}

// StepRecord is a step of a run.
type StepRecord struct {
	Path     string          `json:"path"`
	Action   string          `json:"action,omitempty"`
	State    store.StepState `json:"state"`
	Attempts int             `json:"attempts"`
	Key      string          `json:"key,omitempty"`
	Error    string          `json:"error,omitempty"`
	Class    string          `json:"class,omitempty"`
	Input    json.RawMessage `json:"input,omitempty"`
	Output   json.RawMessage `json:"output,omitempty"`
	// OutputRef is where a large output is, over HTTP.
	OutputRef   string    `json:"output_ref,omitempty"`
	OutputBytes int       `json:"output_bytes,omitempty"`
	Started     time.Time `json:"started,omitzero"`
	Ended       time.Time `json:"ended,omitzero"`
	Seconds     float64   `json:"seconds"`
}

// DeadLetterRecord is a dead letter. Raw is what was received.
type DeadLetterRecord struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	Run        string    `json:"run,omitempty"`
	Flow       string    `json:"flow,omitempty"`
	Step       string    `json:"step,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Trigger    string    `json:"trigger,omitempty"`
	Subject    string    `json:"subject,omitempty"`
	Reason     string    `json:"reason"`
	Class      string    `json:"class,omitempty"`
	Raw        string    `json:"raw,omitempty"`
	Created    time.Time `json:"created"`
	Resolved   time.Time `json:"resolved,omitzero"`
	Resolution string    `json:"resolution,omitempty"`
}

// NewRunRecord makes the record of a run and its steps, if any.
func NewRunRecord(r store.Run, steps []store.Step) RunRecord {
	rec := RunRecord{
		ID: r.ID, Flow: r.Flow, Version: r.FlowVersion, State: r.State, Reason: r.Reason, Class: r.Class,
		Connection: r.Connection, Trigger: r.Trigger, EventSource: r.EventSource, EventID: r.EventID, Object: r.OrderKey,
		CaseKey: r.CaseKey, Parent: r.Parent, Output: r.Output, Created: r.Created, Started: r.Started, Ended: r.Ended,
		NotBefore: r.NotBefore, Seconds: between(r.Started, r.Ended),
	}
	for _, s := range steps {
		rec.Steps = append(rec.Steps, StepRecord{
			Path: s.Path, Action: s.Action, State: s.State, Attempts: s.Attempt, Key: s.Key, Error: s.Error, Class: s.Class,
			Input: s.Input, Output: s.Output, Started: s.Started, Ended: s.Ended, Seconds: between(s.Started, s.Ended),
		})
	}
	return rec
}

// NewDeadLetterRecord makes the record of a dead letter.
func NewDeadLetterRecord(d store.DeadLetter) DeadLetterRecord {
	return DeadLetterRecord{
		ID: d.ID, Kind: d.Kind, Run: d.Run, Flow: d.Flow, Step: d.Step, Connection: d.Connection, Trigger: d.Trigger,
		Subject: d.Subject, Reason: d.Reason, Class: d.Class, Raw: string(d.Raw), Created: d.Created, Resolved: d.Resolved,
		Resolution: d.Resolution,
	}
}

func between(a, b time.Time) float64 {
	if a.IsZero() || b.IsZero() || b.Before(a) {
		return 0
	}
	return b.Sub(a).Seconds()
}

// StatusRecord is how a host fares.
type StatusRecord struct {
	Store      StoreRecord          `json:"store"`
	Space      *host.Space          `json:"space,omitempty"` // of the data file's disk, in bytes
	Triggers   []host.TriggerStatus `json:"triggers"`
	Connectors []ConnectorRecord    `json:"connectors"`
	Reloads    host.Reloads         `json:"reloads"`
}

// StoreRecord counts what the store holds.
type StoreRecord struct {
	HintsWaiting int                       `json:"hints_waiting"`
	DeadLetters  int                       `json:"dead_letters"` // that nobody dealt with
	Runs         map[store.RunState]int    `json:"runs"`
	Events       map[store.Verdict]int     `json:"events"`
	Effects      map[store.EffectState]int `json:"effects"`
}

// ConnectorRecord is how a connector process fares.
type ConnectorRecord struct {
	Name     string    `json:"name"`
	Version  string    `json:"version,omitempty"`
	State    string    `json:"state"`
	Since    time.Time `json:"since,omitzero"`
	PID      int       `json:"pid,omitempty"`
	InFlight int64     `json:"in_flight"`
	Restarts int       `json:"restarts"`
	RetryAt  time.Time `json:"retry_at,omitzero"`
	Error    string    `json:"error,omitempty"` // why it went down last
	// Sandbox is what the running process is held to by the system; absent when there is none.
	Sandbox *host.Enforced `json:"sandbox,omitempty"`
	// Poison are inputs that it is not given any more: it crashed each time that it had them.
	Poison      []host.Poisoned    `json:"poison,omitempty"`
	Connections []ConnectionRecord `json:"connections"`
}

// ConnectionRecord is how a connection fares.
type ConnectionRecord struct {
	Name   string `json:"name"`
	Tenant string `json:"tenant,omitempty"`
	// Refused is why its connector does not take it.
	Refused string `json:"refused,omitempty"`
}

// NewStatusRecord makes the record of a host's status.
func NewStatusRecord(s host.Status) StatusRecord {
	rec := StatusRecord{
		Store: StoreRecord{
			HintsWaiting: s.Store.Hints, DeadLetters: s.Store.DeadLetters, Runs: s.Store.Runs, Events: s.Store.Events, Effects: s.Store.Effects,
		},
		Space: s.Space, Reloads: s.Reloads, Triggers: s.Triggers, Connectors: make([]ConnectorRecord, len(s.Connectors)),
	}
	if rec.Triggers == nil {
		rec.Triggers = []host.TriggerStatus{}
	}
	for i, c := range s.Connectors {
		r := ConnectorRecord{
			Name: c.Connector, Version: c.Version, State: string(c.State), Since: c.Since, PID: c.PID, InFlight: c.InFlight,
			Restarts: c.Restarts, RetryAt: c.RetryAt, Sandbox: c.Enforced, Poison: c.Poison, Connections: make([]ConnectionRecord, len(c.Connections)),
		}
		if c.Err != nil {
			r.Error = c.Err.Error()
		}
		for j, cn := range c.Connections {
			r.Connections[j] = ConnectionRecord{Name: cn.Name, Tenant: cn.Tenant}
			if cn.Refused != nil {
				r.Connections[j].Refused = cn.Refused.Error()
			}
		}
		rec.Connectors[i] = r
	}
	return rec
}
