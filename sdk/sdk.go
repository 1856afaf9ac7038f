package sdk

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"
)

// Effect says what happens when an action is called twice.
type Effect int

// The effects.
const (
	// Read changes nothing.
	Read Effect = iota + 1
	// Idempotent may be repeated freely.
	Idempotent
	// Keyed has one effect per idempotency key; the action honours Call.Resolve.
	Keyed
	// Unsafe is never repeated by machine.
	Unsafe
)

// Call is what an action may know about the call that it serves; CallFrom takes it from the context.
type Call struct {
	Connection string
	Tenant     string
	ID         string // unique per attempt; good as an upstream request id
	Key        string // idempotency key: the same for every attempt at one effect
	Attempt    int    // 1 for the first
	DryRun     bool
	// Resolve asks a keyed action to find out what became of an earlier call with the same key, and to change nothing:
	// return that call's result, or NotFound.
	Resolve bool
	// Effect is what the caller declared for this call, of an action with EffectByCaller; zero when it declared nothing.
	Effect Effect
	// Prior is the output of the last successful call with the same key, if any: update that object by its id.
	Prior json.RawMessage
	// FirstSent is when the first attempt with this key was sent; zero when this is it.
	FirstSent time.Time
}

// Env is what a connection may know about itself when it is opened.
type Env struct {
	Connection string
	Tenant     string
	// Hooks are the public endpoints of the triggers that take webhooks, by trigger name.
	Hooks map[string]HookEndpoint
	// State is what the connection saved last; opaque to the host and sealed by it.
	State []byte
	// SaveState hands new state to the host. It is durable when the call or batch during which it was saved is.
	SaveState func([]byte)
	// Logger reaches the host's log; it names the connection.
	Logger *slog.Logger
}

// HookEndpoint is where a vendor can post to a trigger.
type HookEndpoint struct {
	URL    string // empty when the host has no public address
	Secret Secret // random and lasting; derive shared secrets from it
}

// Trigger declares what makes events. T is the connection's type, Cur the cursor's: a plain struct kept as JSON.
type Trigger[T, Cur any] struct {
	Name    string
	Summary string
	// Emits lists CloudEvents types.
	Emits []string
	// Interval is how often the host polls unless configured otherwise; default one minute.
	Interval time.Duration
	// Poll brings everything since cur. It calls emit with pages in order; each page's cursor is durable together with its
	// events once the host acknowledged it. Emit blocks while the host is busy.
	Poll func(conn T, ctx context.Context, cur Cur, emit func(Page[Cur]) error) error
	// Stream stays open instead of polling: it runs until ctx ends and emits pages as they come, in order, from cur on. Use
	// it where the vendor pushes over a connection that the connector opens (a web socket, a long poll, a queue). When it
	// returns, with an error or without, the host opens it again from the last durable cursor, with growing pauses while it
	// brings nothing. Call Idle now and then while there is nothing to emit. A trigger has Poll or Stream, not both: only one
	// may move the cursor.
	Stream func(conn T, ctx context.Context, cur Cur, emit func(Page[Cur]) error) error
	// Hook turns an inbound request into events and hints. It reaches no network: the sender is waiting.
	Hook func(conn T, ctx context.Context, req *HookRequest) (*HookResponse, error)
	// HookRules are checked by the host before Hook is called.
	HookRules HookRules
	// Resolve looks one hint up. NotFound and retryable errors are tried again by the host with backoff. It is called
	// concurrently, up to ResolveLimit (default 16) at once.
	Resolve      func(conn T, ctx context.Context, h Hint) (Found, error)
	ResolveLimit int
	// Sunset is when the vendor ends what the trigger uses.
	Sunset time.Time
	// Deprecated says what to use instead.
	Deprecated string
}

// Page is a batch of events with the cursor that stands behind it.
type Page[Cur any] struct {
	Events   []Event
	Rejected []Rejected
	Cursor   Cur
}

// Rejected is an object that could not be turned into an event. The host keeps it whole and shows it to people.
type Rejected struct {
	Source  string
	Subject string
	Reason  string
	Raw     []byte
}

// Hint is a rumour of an event: enough to look the object up, never trusted as a fact.
type Hint struct {
	// ID makes two hints of the same rumour one.
	ID      string
	Data    json.RawMessage
	Attempt int
}

// Found is what a look-up brought.
type Found struct {
	Events   []Event
	Rejected []Rejected
	// PollNow asks for a poll at once: something may have been missed.
	PollNow bool
}

// HookRules are what the host checks by itself.
type HookRules struct {
	// HandshakeQuery names a query parameter whose value is echoed as text/plain at once.
	HandshakeQuery string
	// MaxBody in bytes; default 1 MiB, at most 2 MiB.
	MaxBody int
	// Methods accepted; default POST.
	Methods []string
	// JSON demands that the body is one JSON value.
	JSON bool
}

// HookRequest is an inbound HTTP request.
type HookRequest struct {
	Method, Path, Query string
	Header              http.Header
	Body                []byte
	RemoteAddr          string
}

// HookResponse is the answer; the host sends it once Events and Hints are durable. Status zero means 202.
type HookResponse struct {
	Status  int
	Header  http.Header
	Body    []byte
	Events  []Event
	Hints   []Hint
	PollNow bool
	// Refused counts what was not taken, by reason: "client_state", "unknown_subscription", …
	Refused map[string]int
}

// Probe is one finding of a check.
type Probe struct {
	Name    string
	Status  ProbeStatus
	Summary string
	Remedy  string
	// Expires is when what was probed lapses, such as a secret, a certificate or a subscription; zero if it does not or nobody
	// knows. Hosts show it as a metric, so that it can be mended in time.
	Expires time.Time
}

// ProbeStatus is the outcome of a probe.
type ProbeStatus int

// The outcomes.
const (
	ProbeOK ProbeStatus = iota + 1
	ProbeWarning
	ProbeFailed
	ProbeSkipped
)
