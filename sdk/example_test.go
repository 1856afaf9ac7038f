package sdk_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// Greeter is what a connection is: whatever the author likes.
type Greeter struct{ word string }

type GreeterConfig struct {
	Word  string     `json:"word" default:"Hello" doc:"What to say first"`
	Token sdk.Secret `json:"token" cw:"required" doc:"Never printed"`
}

type GreetInput struct {
	Name string `json:"name" cw:"required,maxlen=80" doc:"Whom to greet"`
}

type Greeting struct {
	Text string `json:"text"`
}

func (g *Greeter) Greet(_ context.Context, in GreetInput) (Greeting, error) {
	if strings.TrimSpace(in.Name) == "" {
		return Greeting{}, sdk.Invalid("/name", "says nobody")
	}
	return Greeting{g.word + ", " + in.Name}, nil
}

// A connector is a value: its main is sdk.Serve(connector).
func Example() {
	c := sdk.New("greeter", "1.0.0", "Greets people.", func(_ context.Context, cfg GreeterConfig, _ sdk.Env) (*Greeter, error) {
		return &Greeter{cfg.Word}, nil
	})
	sdk.Action(c, "person.greet", "Greet one person.", (*Greeter).Greet, sdk.Read)

	// What a host learns of it, before any connection exists:
	about, err := sdk.Server(c).Describe(context.Background(), &connectorv1.DescribeRequest{})
	if err != nil {
		log.Fatal(err)
	}
	action := about.GetActions()[0]
	fmt.Println(about.GetName(), action.GetName(), action.GetEffect())
	fmt.Println(string(action.GetInputSchema()))
	// Output:
	// greeter person.greet EFFECT_READ
	// {"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"name":{"type":"string","description":"Whom to greet","maxLength":80}},"required":["name"],"additionalProperties":false}
}
