package sdktest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/sdk"
)

// witness is a testing.TB that remembers complaints instead of failing.
type witness struct {
	testing.TB

	said []string
}

func (w *witness) Errorf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}
func (w *witness) Helper() {}

type config struct {
	Token sdk.Secret    `json:"token" cw:"required"`
	Wait  time.Duration `json:"wait" default:"1s"`
	Deep  struct {
		Keys map[string]sdk.Secret `json:"keys"`
	} `json:"deep"`
}

type thing struct{ cfg config }

type output struct {
	Name string          `json:"name"`
	Any  json.RawMessage `json:"any,omitempty"`
}

type input struct {
	Leak string `json:"leak" enum:"none,output,error,deep" default:"none"`
}

func connector() *sdk.Connector {
	c := sdk.New("thing", "1.0.0", "A thing.", func(_ context.Context, cfg config, _ sdk.Env) (*thing, error) { return &thing{cfg}, nil })
	sdk.Action(c, "do", "Do.", func(th *thing, _ context.Context, in input) (output, error) {
		switch in.Leak {
		case "output":
			return output{Name: "the token is " + th.cfg.Token.Reveal()}, nil
		case "deep":
			return output{Name: th.cfg.Deep.Keys["a"].Reveal()}, nil
		case "error":
			// The server takes the token out, but it cannot know of another form of it.
			return output{}, sdk.NotFound("no %s", strings.ToUpper(th.cfg.Token.Reveal()))
		}
		return output{Name: th.cfg.Wait.String()}, nil
	}, sdk.Read)
	return c
}

func open(t *testing.T) (*Harness, *witness) {
	t.Helper()
	cfg := config{Token: sdk.NewSecret("long-token"), Wait: 90 * time.Second}
	cfg.Deep.Keys = map[string]sdk.Secret{"a": sdk.NewSecret("deep-secret")}
	h := Open(t, connector(), cfg)
	w := &witness{TB: t}
	h.t = w
	return h, w
}

// A configuration struct goes over with its secrets and durations, and without its zero fields.
func TestConfigStruct(t *testing.T) {
	t.Parallel()
	h, w := open(t)
	var out output
	if err := h.Call(t.Context(), "do", nil, &out); err != nil || out.Name != "1m30s" || len(w.said) != 0 {
		t.Errorf("got %+v, %v, %v", out, err, w.said)
	}
	if err := h.Configure(config{Token: sdk.NewSecret("x")}); err != nil {
		t.Fatal(err)
	}
	if err := h.Call(t.Context(), "do", nil, &out); err != nil || out.Name != "1s" {
		t.Errorf("after another configuration: %+v, %v", out, err)
	}
}

// The kit must see what it is there to see.
func TestLeaksAreSeen(t *testing.T) {
	t.Parallel()
	for leak, want := range map[string]int{"none": 0, "output": 1, "deep": 1, "error": 0} {
		h, w := open(t)
		_ = h.Call(t.Context(), "do", input{leak}, nil)
		if len(w.said) != want {
			t.Errorf("%s: the kit said %q", leak, w.said)
		}
	}
	h, w := open(t)
	h.secrets = append(h.secrets, "LONG-TOKEN")
	if err := h.Call(t.Context(), "do", input{"error"}, nil); err == nil || len(w.said) != 1 {
		t.Errorf("%v: the kit said %q", err, w.said)
	}
}

func TestSchemaBreachIsSeen(t *testing.T) {
	t.Parallel()
	h, w := open(t)
	h.outputs["do"] = compile(t, "do", []byte(`{"type":"object","required":["missing"]}`))
	if err := h.Call(t.Context(), "do", nil, nil); err != nil || len(w.said) != 1 || !strings.Contains(w.said[0], "breaks its own schema") {
		t.Errorf("%v: the kit said %q", err, w.said)
	}
}
