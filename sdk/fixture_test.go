package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

func TestMain(m *testing.M) {
	if os.Getenv(serveSelf) != "" {
		serveTestConnector()
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // panics under test are logged with their stacks
	goleak.VerifyTestMain(m)
}

type config struct {
	URL    string     `json:"url" cw:"required,format=uri" doc:"Where it is"`
	Token  sdk.Secret `json:"token" cw:"required"`
	Refuse bool       `json:"refuse"`
	Panic  bool       `json:"panic"`
}

// box is the connection of the test connector. What it does, the test puts into its world.
type box struct {
	w   *world
	cfg config
	env sdk.Env
}

// world is what a test shares with the connections that it opens.
type world struct {
	opened, closed atomic.Int32
	closing        chan struct{} // receives once per Close
	act            func(ctx context.Context, b *box, in input) (output, error)
	rows           func(ctx context.Context, in input, emit func(row) error) (summary, error)
	poll           func(ctx context.Context, b *box, cur cursor, emit func(sdk.Page[cursor]) error) error
	resolve        func(ctx context.Context, h sdk.Hint) (sdk.Found, error)
	hook           func(ctx context.Context, b *box, r *sdk.HookRequest) (*sdk.HookResponse, error)
	check          func(ctx context.Context) []sdk.Probe
}

type input struct {
	Name  string         `json:"name" cw:"required,maxlen=40"`
	Count int            `json:"count" cw:"min=0,max=10" default:"3"`
	Extra map[string]any `json:"extra"`
}

type output struct {
	ID    string            `json:"id"`
	Tags  []string          `json:"tags"`
	Links map[string]string `json:"links"`
	Note  string            `json:"note,omitempty"`
	Num   json.Number       `json:"num,omitempty"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
}

type row struct {
	N    int    `json:"n"`
	Text string `json:"text,omitempty"`
}

type summary struct {
	Total int `json:"total"`
}

type cursor struct {
	Since int `json:"since"`
}

func (b *box) Act(ctx context.Context, in input) (output, error) { return b.w.act(ctx, b, in) }

func (b *box) Rows(ctx context.Context, in input, emit func(row) error) (summary, error) {
	return b.w.rows(ctx, in, emit)
}

func (b *box) Close() error {
	b.w.closed.Add(1)
	if b.w.closing != nil {
		b.w.closing <- struct{}{}
	}
	return nil
}

func newConnector(w *world) *sdk.Connector {
	c := sdk.New("box", "1.2.3", "A box for tests.", func(_ context.Context, cfg config, env sdk.Env) (*box, error) {
		w.opened.Add(1)
		if cfg.Panic {
			panic("open goes wrong with " + cfg.Token.Reveal())
		}
		if cfg.Refuse {
			return nil, sdk.BadConfig("/refuse", "the box does not open with %s", cfg.Token.Reveal())
		}
		return &box{w: w, cfg: cfg, env: env}, nil
	}).Egress("{config.url}", "login.example")
	sdk.Action(c, "thing.get", "Get a thing.", (*box).Act, sdk.Read, sdk.Example("By name", input{Name: "x"}))
	sdk.Action(c, "thing.set", "Set a thing.", (*box).Act, sdk.Idempotent)
	sdk.Action(c, "thing.ensure", "Make a thing exist.", (*box).Act, sdk.Keyed, sdk.ResolveWindow(30*time.Second), sdk.DryRuns())
	sdk.Action(c, "thing.poke", "Poke a thing.", (*box).Act, sdk.Unsafe, sdk.Sunset(time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)))
	sdk.Rows(c, "thing.list", "List things.", (*box).Rows, sdk.Read)
	sdk.Action(c, "thing.ask", "Do as the caller says.", (*box).Act, sdk.Unsafe, sdk.ResolveWindow(time.Second),
		sdk.EffectByCaller(sdk.EffectRule{Property: "name", Values: []string{"look"}, Effect: sdk.Read}))
	sdk.AddTrigger(c, sdk.Trigger[*box, cursor]{
		Name: "things", Summary: "New things.", Emits: []string{event.TypeAlert},
		Poll: func(b *box, ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
			return w.poll(ctx, b, cur, emit)
		},
		Hook: func(b *box, ctx context.Context, r *sdk.HookRequest) (*sdk.HookResponse, error) {
			return w.hook(ctx, b, r)
		},
		Resolve:      func(_ *box, ctx context.Context, h sdk.Hint) (sdk.Found, error) { return w.resolve(ctx, h) },
		ResolveLimit: 3,
		HookRules:    sdk.HookRules{HandshakeQuery: "validationToken", MaxBody: 1 << 16, JSON: true},
	})
	sdk.OnCheck(c, func(_ *box, ctx context.Context) []sdk.Probe { return w.check(ctx) })
	return c
}

const token = "tok-3n-0f-tests"

func good() map[string]any { return map[string]any{"url": "https://box.example", "token": token} }

// alert makes a well-formed event whose data has about size bytes.
func alert(subject string, size int) sdk.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e := sdk.Event{
		Source: "https://box.example", Type: event.TypeAlert, Subject: subject, Time: at, PartitionKey: "box/" + strings.ToLower(subject),
		Rev: event.Rev(at), Digest: event.Digest(map[string]any{"subject": subject, "size": size}),
	}
	e.ID = event.ComputeID(e.Source, e.Subject, e.Rev, e.Digest)
	data := map[string]any{
		"class_uid": 2004, "category_uid": 2, "activity_id": 1, "type_uid": 200401, "severity_id": 3, "time": at.UnixMilli(),
		"metadata":     map[string]any{"version": event.DataVersion, "product": map[string]any{"vendor_name": "box"}, "uid": e.ID},
		"finding_info": map[string]any{"uid": subject, "title": "t"},
		"message":      strings.Repeat("x", size),
	}
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	e.Data = b
	return e
}

func asError(t *testing.T, err error) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *sdk.Error", err)
	}
	return e
}

// want checks class, side effect and a piece of the text.
func want(t *testing.T, err error, class plugin.Class, effect any, text string) *sdk.Error {
	t.Helper()
	e := asError(t, err)
	if e.Class() != class || any(e.SideEffect) != effect || !strings.Contains(e.Error(), text) {
		t.Errorf("got class %s, side effect %s, %q; want %s, %v, …%s…", e.Class(), e.SideEffect, e.Error(), class, effect, text)
	}
	return e
}

// once runs f only the first time.
func once(f func()) func() { var o sync.Once; return func() { o.Do(f) } }
