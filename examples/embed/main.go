// A Casewire host inside somebody else's program, with connectors that are part of the program: doors report what they
// see, a flow decides, and each incident becomes one ticket, however often it is reported and whatever is restarted.
//
// A connector that is linked in runs in this process, behind the same protocol. Connectors in processes of their own are
// host.ExecConnector, host.FileConnector and host.AddressConnector; nothing else changes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Flow says what answers what the doors report. It could be a file as well.
const Flow = `name: forced-door
on:
  doors.reports:
    where: ${{ row.kind == "forced" }}
steps:
  - id: ticket
    uses: desk.ticket.ensure
    key: ${{ row.door }}
    with: { title: "Door ${{ row.door }} was forced" }
`

// Report is what a door says.
type Report struct {
	Door string    `json:"door"`
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
}

// Building is the program's own world: doors that report, and a desk that keeps tickets.
type Building struct {
	reports chan Report
	mu      sync.Mutex
	tickets map[string]string // title by key
	made    chan string       // titles of new tickets
}

// NewBuilding makes an empty one.
func NewBuilding() *Building {
	return &Building{reports: make(chan Report, 16), tickets: map[string]string{}, made: make(chan string, 16)}
}

type none struct{}

func (b *Building) open(context.Context, none, sdk.Env) (*Building, error) { return b, nil }

// doors is a connector with a trigger that listens.
func (b *Building) doors() *sdk.Connector {
	c := sdk.New("doors", "1.0.0", "Listens to the doors.", b.open)
	sdk.AddTrigger(c, sdk.Trigger[*Building, none]{
		Name: "reports", Summary: "What doors report.", Emits: []string{event.TypeRow}, Stream: (*Building).listen,
	})
	return c
}

func (b *Building) listen(ctx context.Context, _ none, emit func(sdk.Page[none]) error) error {
	for {
		select {
		case r := <-b.reports:
			ev, err := sdk.RowEvent("urn:example:doors", r.Door, r.At, "Doors", r)
			if err != nil {
				return err
			}
			if err := emit(sdk.Page[none]{Events: []sdk.Event{ev}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TicketInput is what a ticket is made of.
type TicketInput struct {
	Title string `json:"title" cw:"required" doc:"Title of the ticket"`
}

// Ticket is what the desk answers.
type Ticket struct {
	Created bool `json:"created" doc:"This call made it"`
}

// desk is a connector with a keyed action: one ticket per key.
func (b *Building) desk() *sdk.Connector {
	c := sdk.New("desk", "1.0.0", "Keeps tickets.", b.open)
	sdk.Action(c, "ticket.ensure", "Make sure that there is a ticket.", (*Building).ensure, sdk.Keyed)
	return c
}

func (b *Building) ensure(ctx context.Context, in TicketInput) (Ticket, error) {
	call := sdk.CallFrom(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.tickets[call.Key]
	switch {
	case known:
		return Ticket{}, nil
	case call.Resolve:
		return Ticket{}, sdk.Absent("there is no ticket with the key")
	}
	b.tickets[call.Key] = in.Title
	b.made <- in.Title
	return Ticket{Created: true}, nil
}

// Run runs a host for the building until ctx ends. What it knows is in dir. Ready is called once events are taken.
func Run(ctx context.Context, b *Building, dir string, log *slog.Logger, ready func()) (err error) {
	st, err := sqlite.Open(ctx, filepath.Join(dir, "building.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	h, err := host.New(host.Options{
		Store: st, Logger: log,
		Connectors: map[string]host.Connector{
			"doors": host.MemoryConnector(sdk.Server(b.doors())),
			"desk":  host.MemoryConnector(sdk.Server(b.desk())),
		},
		Connections: []host.Connection{{Name: "doors", Connector: "doors"}, {Name: "desk", Connector: "desk"}},
	})
	if err != nil {
		return err
	}
	stop := func() error {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return h.Stop(grace)
	}
	flows, diags := flow.Load([]flow.Source{{File: "forced-door.yaml", Data: []byte(Flow)}}, h)
	if diags.HasErrors() {
		return errors.Join(fmt.Errorf("the flow has mistakes: %w", diags), stop())
	}
	if err := h.SetFlows(ctx, flows); err != nil {
		return errors.Join(err, stop())
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	ready()
	<-ctx.Done()
	return stop()
}

// demo lets three doors report and says which tickets that makes.
func demo(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "embed")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := NewBuilding()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, b, dir, slog.New(slog.DiscardHandler), func() {}) }()
	at := time.Now()
	for _, r := range []Report{{"north", "forced", at}, {"south", "opened", at}, {"north", "forced", at}, {"east", "forced", at}} {
		b.reports <- r
	}
	for range 2 {
		select {
		case title := <-b.made:
			fmt.Fprintln(out, "ticket:", title)
		case err := <-ended:
			return err
		}
	}
	cancel()
	return <-ended
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := demo(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
