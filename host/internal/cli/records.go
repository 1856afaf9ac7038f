package cli

import (
	"encoding/json"
	"time"

	"github.com/casewire/casewire/host/store"
)

// The records below are what --json prints. Their names are stable.

type runRecord struct {
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
	Created     time.Time       `json:"created"`
	Started     time.Time       `json:"started,omitzero"`
	Ended       time.Time       `json:"ended,omitzero"`
	NotBefore   time.Time       `json:"not_before,omitzero"`
	Seconds     float64         `json:"seconds"`
	Steps       []stepRecord    `json:"steps,omitempty"`
}

type stepRecord struct {
	Path     string          `json:"path"`
	Action   string          `json:"action,omitempty"`
	State    store.StepState `json:"state"`
	Attempts int             `json:"attempts"`
	Key      string          `json:"key,omitempty"`
	Error    string          `json:"error,omitempty"`
	Class    string          `json:"class,omitempty"`
	Input    json.RawMessage `json:"input,omitempty"`
	Output   json.RawMessage `json:"output,omitempty"`
	Started  time.Time       `json:"started,omitzero"`
	Ended    time.Time       `json:"ended,omitzero"`
	Seconds  float64         `json:"seconds"`
}

type deadLetterRecord struct {
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

func toRun(r store.Run, steps []store.Step) runRecord {
	rec := runRecord{
		ID: r.ID, Flow: r.Flow, Version: r.FlowVersion, State: r.State, Reason: r.Reason, Class: r.Class,
		Connection: r.Connection, Trigger: r.Trigger, EventSource: r.EventSource, EventID: r.EventID, Object: r.OrderKey,
		CaseKey: r.CaseKey, Parent: r.Parent, Output: r.Output, Created: r.Created, Started: r.Started, Ended: r.Ended,
		NotBefore: r.NotBefore, Seconds: between(r.Started, r.Ended),
	}
	for _, s := range steps {
		rec.Steps = append(rec.Steps, stepRecord{
			Path: s.Path, Action: s.Action, State: s.State, Attempts: s.Attempt, Key: s.Key, Error: s.Error, Class: s.Class,
			Input: s.Input, Output: s.Output, Started: s.Started, Ended: s.Ended, Seconds: between(s.Started, s.Ended),
		})
	}
	return rec
}

func toDeadLetter(d store.DeadLetter) deadLetterRecord {
	return deadLetterRecord{
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
