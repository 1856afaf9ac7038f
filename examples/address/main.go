// A connector that nobody starts but you: it listens at an address, in a container or under a debugger, and hosts connect to
// it. It says what the time is.
//
//	go run ./examples/address unix:///tmp/clock.sock
//
// and in casewire.yaml:
//
//	plugins:
//	  connectors:
//	    clock: { address: "unix:///tmp/clock.sock" }
//	connections:
//	  utc: { connector: clock }
//
// Every connector can do this without a line of its own: sdk.Serve understands --listen ADDR.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/casewire/casewire/sdk"
)

// Config is what an operator writes under "config" of a connection.
type Config struct {
	Zone string `json:"zone" default:"UTC" doc:"Time zone, such as Europe/Oslo"`
}

// Now is the input of now; there is nothing to say.
type Now struct{}

// Time is its output.
type Time struct {
	Time string `json:"time" doc:"In the zone of the connection"`
	PID  int    `json:"pid" doc:"The process that answered"`
}

type clock struct{ zone *time.Location }

func open(_ context.Context, cfg Config, _ sdk.Env) (*clock, error) {
	zone, err := time.LoadLocation(cfg.Zone)
	if err != nil {
		return nil, sdk.BadConfig("/zone", "is no time zone: %v", err)
	}
	return &clock{zone}, nil
}

func (c *clock) now(context.Context, Now) (Time, error) {
	return Time{Time: time.Now().In(c.zone).Format(time.RFC3339), PID: os.Getpid()}, nil
}

func connector() *sdk.Connector {
	c := sdk.New("clock", "1.0.0", "Says what the time is.", open)
	sdk.Action(c, "time.now", "Say the time.", (*clock).now, sdk.Read)
	return c
}

func run(ctx context.Context, args []string, onListen func(addr string)) error {
	if len(args) != 1 {
		return errors.New("usage: address unix:///path | tcp://127.0.0.1:port")
	}
	return sdk.ServeAddress(ctx, connector(), args[0], sdk.ListenOptions{OnListen: onListen})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], func(addr string) { fmt.Println("listening at", addr) })
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
