package flow

import (
	"time"

	"github.com/casewire/casewire/host/diag"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Flow is a checked flow, ready to run. It is immutable and safe for concurrent use.
type Flow struct {
	Name, Description string
	Tags              []string
	// Version is the content hash over this flow and every flow it can reach by call.
	Version string
	// Bundle is the source of each of those flows by name: enough to compile this version again.
	Bundle   map[string]string
	Pos      diag.Pos
	Triggers []Trigger
	Inputs   map[string]Input // for flows that are called
	Steps    []*Step
	Output   *Value // nil: no output
	// Outputs are the names of the output's fields, with what is known of their values: "a list of maps".
	Outputs map[string]string
	// Disabled says that the file has `enabled: false`: it was checked, but its triggers start nothing.
	Disabled bool
}

// Trigger binds a flow to a trigger of a connection.
type Trigger struct {
	Pos                            diag.Pos
	Connection, Connector, Trigger string
	Where                          *Expr  // nil: every event
	GroupBy                        string // "alert" or "incident": what event.case_key is
}

// Input is a parameter of a flow that is called.
type Input struct {
	Type     string // JSON type name, or "any"
	Required bool
	Default  any
	Doc      string
}

// Kind of a step.
type Kind string

// The kinds.
const (
	KindUses Kind = "uses"
	KindCall Kind = "call"
	KindLet  Kind = "let"
	KindEach Kind = "each"
)

// Step is one step of a flow.
type Step struct {
	ID   string
	Kind Kind
	Pos  diag.Pos
	If   *Expr // nil: always

	// uses
	Connection, Connector, Action string
	Effect                        connectorv1.Effect
	ResolveWindow                 time.Duration
	Key                           *Value // required for keyed actions
	With                          *Value // input of an action or of a call; evaluates to a map, never nil for these two

	Call *Flow // call

	Let []Binding // let, in the order written

	// each: the body runs once per item with `item` and `index` in scope. A body sees the steps before the loop and its own
	// earlier steps. The output is a list with one map per item: the outputs of the body's steps by their ids, a let step's
	// names among them; steps that were skipped are missing.
	For         *Value
	Body        []*Step
	Concurrency int

	Retry   Retry
	Timeout time.Duration // of one attempt; zero: the default of the host
	OnError OnError
}

// Binding is one name of a let step.
type Binding struct {
	Name  string
	Value *Value
}

// Retry says which classes of errors are tried again, and how.
type Retry struct {
	On    []plugin.Class // nil: the defaults of the host
	Max   int            // attempts in all; zero: the default of the host
	Base  time.Duration  // first pause; zero: the default
	Limit time.Duration  // longest pause; zero: the default
}

// OnError says what a failed step means for the run.
type OnError string

// What on_error can say.
const (
	OnErrorFail       OnError = "fail" // default: the run fails
	OnErrorContinue   OnError = "continue"
	OnErrorDeadLetter OnError = "dead_letter"
)

// Env is what expressions see: event, alert, incident, row, inputs, steps, item, index, run {id, flow, attempt}, and every
// let step's id with the map of its names. Steps is a map[string]any of outputs by id; JSON in it should come from Decode.
// Event, alert and incident are the structs of package view. A step without a result is missing or nil.
type Env map[string]any

// Catalog tells the checker what connections exist and what their connectors can do.
type Catalog interface {
	// Connection returns the descriptor of the connector behind a connection.
	Connection(name string) (*connectorv1.DescribeResponse, bool)
	// Connections lists the names of the connections whose connector is named so; "" lists all.
	Connections(connector string) []string
	// Connector returns the descriptor of a connector, even one without a connection.
	Connector(name string) (*connectorv1.DescribeResponse, bool)
}

// Source is one flow file.
type Source struct {
	File string
	Data []byte
}
