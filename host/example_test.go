package host_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// A host with one connector, called from outside of any flow. The program examples/embed has flows and events too.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	st, err := sqlite.Open(ctx, filepath.Join(dir, "casewire.db"), sqlite.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = st.Close() }()

	type in struct {
		Name string `json:"name" cw:"required" doc:"Whom to greet"`
	}
	type out struct {
		Text string `json:"text"`
	}
	c := sdk.New("greeter", "1.0.0", "Greets people.", func(context.Context, struct{}, sdk.Env) (string, error) { return "Hello, ", nil })
	sdk.Action(c, "person.greet", "Greet one person.", func(word string, ctx context.Context, in in) (out, error) {
		sdk.Progress(ctx, 1, 1, "thinking of a greeting")
		return out{word + in.Name}, nil
	}, sdk.Read)

	h, err := host.New(host.Options{
		Store:       st,
		Connectors:  map[string]host.Connector{"greeter": host.MemoryConnector(sdk.Server(c))}, // or host.ExecConnector, a process of its own
		Connections: []host.Connection{{Name: "hello", Connector: "greeter"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := h.Start(ctx); err != nil {
		log.Fatal(err)
	}
	answer, err := h.Invoke(ctx, host.Invocation{
		Connection: "hello", Action: "person.greet", Input: []byte(`{"name":"Ana"}`),
		OnEvent: func(m *connectorv1.InvokeResponse) error {
			fmt.Println("progress:", m.GetProgress().GetMessage())
			return nil
		},
	})
	fmt.Println(string(answer), err)
	_, err = h.Invoke(ctx, host.Invocation{Connection: "hello", Action: "person.greet", Input: []byte(`{"title":"Ana"}`)})
	fmt.Println(err)
	if err := h.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// progress: thinking of a greeting
	// {"text":"Hello, Ana"} <nil>
	// invalid input: /title: unknown property; /name: is required
}
