// Package store says what must survive a restart, as interfaces and records. The drivers are its sub-packages; storetest
// is the one suite that all of them pass. Nothing here knows flows' meaning, HTTP or a vendor.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/casewire/casewire/plugin/event"
)

// Errors of a store.
var (
	// ErrFenced means that the lease was lost to somebody else: stop working on the run at once.
	ErrFenced = errors.New("store: lease lost")
	// ErrBusy means that another live run holds the effect key: come back soon.
	ErrBusy = errors.New("store: effect key is held by another run")
	// ErrNotFound means that there is no such record.
	ErrNotFound = errors.New("store: not found")
	// ErrLeased means that somebody works on the run: it is theirs to end.
	ErrLeased = errors.New("store: run is being worked on")
	// ErrEnded means that the run has ended already.
	ErrEnded = errors.New("store: run has ended")
	// ErrRegrouped means that the run's group goes by another name than its CaseKey by now; nothing was written. Begin the
	// run again under that name: Advance.Regroup.
	ErrRegrouped = errors.New("store: the run's group goes by another name now")
	// ErrFull means that the disk is short; what was offered was not accepted.
	ErrFull = errors.New("store: not enough free space")
)

// Store keeps everything that must survive. Every method that changes something returns only when the change is
// durable, and either all of it is or none. Methods are safe for concurrent use; writes that wait together are committed
// together.
type Store interface {
	Inbox
	Runs
	Effects
	DeadLetters
	Meta
	Close() error
}

// Inbox holds hints and events.
type Inbox interface {
	// AddHints keeps hints; one whose (connection, trigger, id) is waiting already is not kept twice. It returns how many
	// were new. One that is being looked up counts as new once, and stays when that look-up is Done: what it saw may be older.
	AddHints(ctx context.Context, hints []Hint) (int, error)
	// ClaimHints leases up to limit due hints of a trigger, oldest first. A lease that lapses makes them due again.
	ClaimHints(ctx context.Context, c HintClaim) ([]Hint, error)
	// Ingest takes events, a cursor and finished hints in one transaction: insert each event if its (source, id) is new,
	// compare-and-set its object, join its aliases, enqueue its runs.
	Ingest(ctx context.Context, in Ingest) ([]Outcome, error)
	// Cursor returns a trigger's cursor, nil if it has none.
	Cursor(ctx context.Context, connection, trigger string) ([]byte, error)
	// Event returns one event.
	Event(ctx context.Context, source, id string) (EventRecord, error)
	// Events lists events, newest first.
	Events(ctx context.Context, f EventFilter) ([]EventRecord, error)
	// Object returns the object behind a key or any alias of it.
	Object(ctx context.Context, keyOrAlias string) (Object, error)
}

// Runs holds flow versions, runs and their journal.
type Runs interface {
	// PutFlow keeps a flow's source under its content hash, so that a run can resume on the version it began with.
	PutFlow(ctx context.Context, f FlowVersion) error
	FlowVersion(ctx context.Context, version string) (FlowVersion, error)
	// ClaimRuns leases due runs: ready ones, waiting ones whose time has come, and running ones whose lease lapsed. Runs of
	// one OrderKey and flow are handed out one at a time, in the order of their creation; a parked or ended run does not
	// hold back the next. Each claim raises the run's fence.
	ClaimRuns(ctx context.Context, c RunClaim) ([]Run, error)
	// RenewRuns prolongs leases that are still held; it returns the ids that were lost.
	RenewRuns(ctx context.Context, owner string, leases []Lease, until time.Time) ([]string, error)
	// Advance writes the progress of a leased run, fenced: steps, effects, state, dead letter, in one transaction.
	Advance(ctx context.Context, a Advance) error
	// CancelRun ends a run that nobody works on, and lets the next of its line go on. It ends as cancelled or, if it holds an
	// effect as intent or unknown or an unsafe step was begun, as parked: what it wrote may have happened, and a person
	// decides. It returns the state that it came to, ErrLeased, ErrEnded or ErrNotFound.
	CancelRun(ctx context.Context, c Cancel) (RunState, error)
	// Run returns a run with its event key; Steps its journal in order.
	Run(ctx context.Context, id string) (Run, error)
	Steps(ctx context.Context, run string) ([]Step, error)
	// ListRuns lists runs, newest first.
	ListRuns(ctx context.Context, f RunFilter) ([]Run, error)
	// CountRuns counts runs by state.
	CountRuns(ctx context.Context) (map[RunState]int, error)
	// AddRuns enqueues runs that no event brought: replays, calls from outside. A run whose ID is known already is not
	// enqueued again; the run that has it is returned in its place.
	AddRuns(ctx context.Context, runs []NewRun) ([]Run, error)
	// NextDue says when the earliest waiting run or hint is due; zero when there is none.
	NextDue(ctx context.Context) (time.Time, error)
}

// Effects is the ledger of keyed writes: what makes one case per key.
type Effects interface {
	// BeginEffect journals the intent to cause the effect, fenced by the run's lease, together with the steps given, and
	// returns what the ledger knew before:
	//   - State "" : nobody tried before; go.
	//   - EffectDone: it was done; Result is the last output, to be updated rather than created.
	//   - EffectIntent or EffectUnknown: an earlier attempt may or may not have happened; FirstSent says when. Find out.
	// It returns ErrBusy while another live (ready, running, waiting) run holds the key as intent or unknown. The run holds
	// the key until it calls Advance with that effect in another state, or ends. It returns ErrRegrouped if e.Current does not
	// hold.
	BeginEffect(ctx context.Context, lease Lease, e Effect, steps []Step) (prior Effect, err error)
	// Effect reads the ledger.
	Effect(ctx context.Context, key EffectKey) (Effect, error)
	// ListEffects lists the ledger, newest first; state "" means all.
	ListEffects(ctx context.Context, state EffectState, limit int) ([]Effect, error)
}

// DeadLetters keeps what will not be tried again by itself.
type DeadLetters interface {
	AddDeadLetters(ctx context.Context, dl []DeadLetter) error
	ListDeadLetters(ctx context.Context, f DeadLetterFilter) ([]DeadLetter, error)
	// ResolveDeadLetter marks a dead letter as replayed or dropped; ErrNotFound if there is none or it was resolved before.
	ResolveDeadLetter(ctx context.Context, id, resolution string, at time.Time) error
}

// Meta keeps small values of the host: hook secrets, sealed connection state, the store's own identity.
type Meta interface {
	Get(ctx context.Context, key string) ([]byte, error) // nil when absent
	Put(ctx context.Context, key string, value []byte) error
	// PutIfAbsent returns the value that stands after the call.
	PutIfAbsent(ctx context.Context, key string, value []byte) ([]byte, error)
	// Prune removes a few of the oldest records that are past their time, and says what went; call it again until nothing
	// does. It never removes a live or parked run, what a dead letter that nobody dealt with is about, an event that one of
	// these needs, the ledger of effects, or objects and their names: an event that comes again after its record went is
	// known by its object, and starts nothing.
	Prune(ctx context.Context, p Prune) (Pruned, error)
	// Stats counts what `casewire` and its metrics show.
	Stats(ctx context.Context) (Stats, error)
}

// Hint is a rumour of an event, waiting to be looked up.
type Hint struct {
	Connection, Trigger, ID string
	Data                    json.RawMessage
	Received                time.Time
	Attempt                 int       // look-ups so far
	NotBefore               time.Time // zero: at once
	Reason                  string    // of the last failed look-up
}

// HintClaim asks for hints.
type HintClaim struct {
	Connection, Trigger string
	Limit               int
	Now, LeaseUntil     time.Time
}

// Ingest is one transaction of intake.
type Ingest struct {
	Connection, Trigger string
	Tenant              string
	Via                 Via
	Now                 time.Time
	Events              []Incoming
	// Done removes hints; Retry puts them back with a later NotBefore, a higher Attempt and a Reason.
	Done  []Hint
	Retry []Hint
	// Cursor replaces the trigger's cursor unless nil.
	Cursor      []byte
	DeadLetters []DeadLetter
}

// Via is the way an event came.
type Via string

// The ways.
const (
	ViaPush   Via = "push"
	ViaPoll   Via = "poll"
	ViaSubmit Via = "submit"
)

// Incoming is an event and the runs it starts if it is new and significant. CaseKey in a NewRun may be left empty: it is
// then filled from the object (sticky group key).
type Incoming struct {
	Event event.Event
	Runs  []NewRun
	// MergedInto is the group key that the event's own group was merged into, as its source says; empty: it was not.
	MergedInto string
}

// Outcome says what became of an incoming event.
type Outcome struct {
	Verdict Verdict
	Runs    []string // ids of the runs enqueued
}

// Verdict on an incoming event.
type Verdict string

// The verdicts. Only Accepted starts runs.
const (
	Accepted  Verdict = "accepted"  // new, and the object is at a newer revision or differs
	Duplicate Verdict = "duplicate" // (source, id) was here before
	Stale     Verdict = "stale"     // older than the object; kept, not applied
	Unchanged Verdict = "unchanged" // newer revision, same digest: nothing significant changed (often our own echo)
)

// EventRecord is a stored event.
type EventRecord struct {
	event.Event
	Connection, Trigger string
	Via                 Via
	Verdict             Verdict
	Received            time.Time
	ObjectKey           string
}

// EventFilter selects events; zero fields select all.
type EventFilter struct {
	ObjectKey, Subject string
	Verdict            Verdict
	Via                Via
	Before             time.Time
	Limit              int
}

// Object is a source object at its newest revision. GroupKey is the newest correlation id that it had, else its key.
//
// Groups are what grouping by incident names cases after. Each starts under its own name, and groups that turn out to
// be one go by one name from then on:
//   - An object that had a group of its own and gains a correlation id brings its group along: if no run was ever grouped
//     under the correlation id, that one goes by the object's own name from now on; else the object's own group ends in
//     it. An object that had a correlation id and has another now has moved; nothing is joined.
//   - A group that was merged (Incoming.MergedInto) ends in the other, or lends it its name if no run was ever grouped
//     under the other. It is the one that the object had, and the one of the object's own name: others may have named
//     it before the object was seen.
//
// When a group ends in another and runs were grouped under both, two cases exist: the runs of the event that brought the
// news carry the ended group's name as MergedKey, so that a flow can close its case as a duplicate. A run that still goes by
// the ended name begins again under the other (ErrRegrouped): at once if it has written nothing, else when it is through,
// with the ended name as MergedKey, since it may have made its case after that was looked for.
//
// Objects whose aliases meet are one object from then on: Key is the smallest of their keys, and FirstKey and GroupKey
// are those of the oldest, so that a case that was named after it is found again.
type Object struct {
	Key, Rev, Digest, GroupKey string
	FirstKey                   string // the key it had first; it never changes
	Source, EventID            string
	Updated                    time.Time
}

// FlowVersion is a flow's source under its hash. Bundle holds the source of every flow that it can reach by call, itself
// included, by name.
type FlowVersion struct {
	Version, Name string
	Bundle        map[string]string
}

// RunState is where a run stands.
type RunState string

// The states. Ready, Running and Waiting are live; the others are ends.
const (
	RunReady      RunState = "ready"
	RunRunning    RunState = "running"
	RunWaiting    RunState = "waiting" // until NotBefore
	RunSucceeded  RunState = "succeeded"
	RunFailed     RunState = "failed"
	RunParked     RunState = "parked"      // an outcome cannot be known: a person decides
	RunDeadLetter RunState = "dead_letter" // will not be tried again by itself
	RunCancelled  RunState = "cancelled"
)

// Live says whether the run still moves by itself.
func (s RunState) Live() bool { return s == RunReady || s == RunRunning || s == RunWaiting }

// NewRun is a run to enqueue.
type NewRun struct {
	ID          string // empty: the store makes one
	Flow        string
	FlowVersion string
	// GroupBy "incident" takes the name of the object's group as CaseKey; anything else its (first) key. CaseKey overrides it.
	GroupBy              string
	CaseKey              string
	MergedKey            string // set by the store: the group whose case is a duplicate of CaseKey's since this event
	OrderKey             string // empty: the event's (first) object key; without an event, no order
	Connection, Trigger  string
	EventSource, EventID string
	Input                json.RawMessage // for runs that no event started
	Parent               string          // the run that this one replays
	FromStep             string          // replay from this step, taking earlier ones from the parent
	// State RunDeadLetter with a Reason keeps a run that could not even start visible.
	State  RunState
	Reason string
}

// Run is one execution of one flow version for one event.
type Run struct {
	NewRun
	// Fresh is set by ClaimRuns if the run surely has no journal yet, so that there is none to read. A driver that cannot
	// tell leaves it false.
	Fresh                            bool
	Seq                              int64
	Tenant                           string
	Fence                            int64
	Owner                            string
	LeaseEnd                         time.Time
	NotBefore                        time.Time
	Class                            string // error class of Reason
	Output                           json.RawMessage
	Created, Started, Updated, Ended time.Time
}

// Lease is the right to work on a run, with its fencing number.
type Lease struct {
	Run   string
	Fence int64
}

// RunClaim asks for runs.
type RunClaim struct {
	Owner           string
	Limit           int
	Now, LeaseUntil time.Time
}

// Advance is one durable step of a run.
type Advance struct {
	Lease
	Now     time.Time
	Steps   []Step
	Effects []Effect
	// State "" leaves the run running under its lease. RunWaiting needs NotBefore; ends release the lease.
	State      RunState
	NotBefore  time.Time
	Reason     string
	Class      string
	Output     json.RawMessage
	DeadLetter *DeadLetter
	// Current asks for ErrRegrouped, and nothing written, if the run is grouped by incident and its group goes by another
	// name than its CaseKey by now.
	Current bool
	// Regroup, with RunReady or RunWaiting, begins the run again: its CaseKey is what its group goes by now, its MergedKey is
	// MergedKey unless that is empty, and its journal is Steps and nothing else.
	Regroup   bool
	MergedKey string
}

// Cancel ends a run by request.
type Cancel struct {
	Run string
	Now time.Time
	// Reason is what the run says from then on; Parked, if it has to be parked instead.
	Reason, Parked string
}

// StepState is where a step stands.
type StepState string

// The states of a step.
const (
	StepIntent    StepState = "intent"
	StepSucceeded StepState = "succeeded"
	StepFailed    StepState = "failed" // this attempt; the run may go on
	StepSkipped   StepState = "skipped"
	StepWaiting   StepState = "waiting" // to be tried again at NotBefore
	StepParked    StepState = "parked"
)

// Step is one record of a journal: the newest state of a step (one row per run and path). Path is the step's id, with
// "[3]" for a turn of a loop and "/" for a step inside another: "logins/query", "each[3]/comment".
type Step struct {
	Path      string
	Seq       int // order within the run
	Action    string
	State     StepState
	Attempt   int
	Input     json.RawMessage
	Output    json.RawMessage
	Error     string
	Class     string
	Key       string
	Started   time.Time
	Ended     time.Time
	NotBefore time.Time
}

// EffectKey names one effect: at most one of it may come to be.
type EffectKey struct {
	Connection, Action, Key string
}

// EffectState is what the ledger knows.
type EffectState string

// The states of an effect.
const (
	EffectIntent  EffectState = "intent"  // about to be sent, or sent
	EffectDone    EffectState = "done"    // the vendor confirmed
	EffectUnknown EffectState = "unknown" // the answer was lost
	// EffectNone means surely not done: free to try again. An effect that was done before goes back to done instead.
	EffectNone EffectState = "none"
)

// Effect is one entry of the ledger.
type Effect struct {
	EffectKey
	State     EffectState
	Run       string // the holder
	Path      string
	Result    json.RawMessage // output of the last success
	FirstSent time.Time
	Attempts  int
	Updated   time.Time
	Reason    string
	// Current asks BeginEffect for ErrRegrouped as Advance.Current does: the run has written nothing yet that was named after
	// its CaseKey, so it can still go by another. It is not kept.
	Current bool
}

// DeadLetter is what will not be tried again by itself.
type DeadLetter struct {
	ID                  string // empty: the store makes one
	Kind                string // "run", "event", "hint"
	Run                 string
	Flow                string
	Step                string
	Connection, Trigger string
	Subject             string
	Reason              string
	Class               string
	Raw                 []byte // the whole object for kinds event and hint
	Created             time.Time
	Resolved            time.Time
	Resolution          string
}

// DeadLetterFilter selects dead letters.
type DeadLetterFilter struct {
	ID    string
	Kind  string
	Flow  string
	Run   string
	All   bool // resolved ones too
	Limit int
}

// RunFilter selects runs.
type RunFilter struct {
	Flow              string
	State             RunState
	EventID, OrderKey string
	Limit             int
}

// Prune says what is past its time. Zero times remove nothing of that kind.
type Prune struct {
	EventsBefore      time.Time // by when they were received
	RunsBefore        time.Time // by when they ended; with their journals
	DeadLettersBefore time.Time // by when they were resolved
	Limit             int       // of each kind; zero: the store's own
}

// Pruned counts what went.
type Pruned struct {
	Events, Runs, DeadLetters int
	// Used is how many bytes of the store hold something now.
	Used int64
}

// Stats are counts.
type Stats struct {
	Hints       int
	Events      map[Verdict]int
	EventsVia   map[Via]int // accepted ones
	Runs        map[RunState]int
	Effects     map[EffectState]int
	DeadLetters int // unresolved
}

// Spacious is a store that knows how much room it has.
type Spacious interface {
	// Space says how many bytes can still be written, and how many must be free for anything new to be accepted; false
	// where it cannot tell.
	Space() (free, needed int64, ok bool)
}
