package sdk_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/plugintest"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func get(c connectorv1.ConnectorClient, name string, generation uint64) error {
	_, err := invoke(context.Background(), c, &connectorv1.InvokeRequest{
		Call: &connectorv1.CallContext{Connection: name, Generation: generation}, Action: "thing.get", Input: []byte(`{"name":"x"}`),
	})
	return err
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	w := &world{act: func(context.Context, *box, input) (output, error) { return output{}, nil }}
	c := plugintest.Join(t, sdk.Server(newConnector(w)))
	mismatch := func(err error, text string) {
		t.Helper()
		if e := asError(t, err); e.Reason != plugin.ReasonConfigMismatch || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, text) {
			t.Errorf("got %+v", e)
		}
	}
	mismatch(get(c, "a", 1), `"a" is not configured`)
	configure(t, c, "a", 1, good())
	configure(t, c, "b", 7, good())
	for name, generation := range map[string]uint64{"a": 1, "b": 7} {
		if err := get(c, name, generation); err != nil {
			t.Error(err)
		}
	}
	mismatch(get(c, "a", 2), "at generation 1, not 2")
	// A replay opens nothing; a new generation replaces and closes.
	configure(t, c, "a", 1, good())
	if n := w.opened.Load(); n != 2 {
		t.Errorf("a replay opened a connection: %d", n)
	}
	configure(t, c, "a", 2, good())
	if w.closed.Load() != 1 {
		t.Error("the replaced connection was not closed")
	}
	mismatch(get(c, "a", 1), "at generation 2, not 1")
	if _, err := c.Configure(t.Context(), &connectorv1.ConfigureRequest{Removes: []string{"a", "unknown"}}); err != nil {
		t.Fatal(err)
	}
	mismatch(get(c, "a", 2), "not configured")
	if w.closed.Load() != 2 {
		t.Error("the removed connection was not closed")
	}
	if err := get(c, "b", 7); err != nil {
		t.Errorf("the other connection suffered: %v", err)
	}
}

func TestOneBadConnectionDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	w := &world{act: func(context.Context, *box, input) (output, error) { return output{}, nil }}
	c := plugintest.Join(t, sdk.Server(newConnector(w)))
	up := func(name, cfg string) *connectorv1.ConnectionConfig {
		return &connectorv1.ConnectionConfig{Connection: name, Generation: 1, Config: []byte(cfg)}
	}
	resp, err := c.Configure(t.Context(), &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{
		up("good", `{"url":"https://x.example","token":"`+token+`"}`),
		up("typo", `{"ur":"https://x.example","token":"`+token+`"}`),
		up("refused", `{"url":"https://x.example","refuse":true,"token":"`+token+`"}`),
		up("panics", `{"url":"https://x.example","panic":true,"token":"`+token+`"}`),
		up("", `{}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"good": "", "typo": `did you mean "url"?`, "refused": "does not open with [redacted]", "panics": "goes wrong with [redacted]", "": "is required"}
	for _, o := range resp.GetOutcomes() {
		e := plugin.UnmarshalStatus(o.GetStatus())
		if text := texts[o.GetConnection()]; text == "" && e != nil || text != "" && (e == nil || !strings.Contains(e.Error(), text)) {
			t.Errorf("%s: %v", o.GetConnection(), e)
		} else if o.GetConnection() == "typo" && (e.Class() != plugin.ClassConfig || e.Violations[0].Field != "/ur") {
			t.Errorf("typo: %+v", e)
		}
	}
	if err := get(c, "good", 1); err != nil {
		t.Error(err)
	}
	// A call on a connection that did not open says why, rather than asking for a replay for ever.
	want(t, get(c, "refused", 1), plugin.ClassConfig, plugin.EffectNone, "does not open")
	// Repaired at the same generation: a failed open is tried again.
	if e := configure(t, c, "refused", 1, good()); e != nil {
		t.Error(e)
	}
	if err := get(c, "refused", 1); err != nil {
		t.Error(err)
	}
}

// A connection that is replaced while a call is open stays open for that call, and is closed after it.
func TestCloseWaitsForOpenCalls(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	w := &world{closing: make(chan struct{}, 9), act: func(_ context.Context, b *box, _ input) (output, error) {
		close(entered)
		<-release
		if b.w.closed.Load() != 0 {
			t.Error("closed under an open call")
		}
		return output{}, nil
	}}
	c := plugintest.Join(t, sdk.Server(newConnector(w)))
	configure(t, c, "a", 1, good())
	done := make(chan error, 1)
	go func() { done <- get(c, "a", 1) }()
	<-entered
	configure(t, c, "a", 2, good())
	if w.closed.Load() != 0 {
		t.Error("closed under an open call")
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-w.closing
}

func TestStateAndHooks(t *testing.T) {
	t.Parallel()
	var env sdk.Env
	w := &world{act: func(_ context.Context, b *box, in input) (output, error) {
		env = b.env
		if in.Name == "save" {
			b.env.SaveState([]byte("new"))
		}
		if in.Name == "fail" {
			b.env.SaveState([]byte("newer"))
			return output{}, sdk.NotFound("nothing")
		}
		return output{}, nil
	}}
	h := sdktest.Open(t, newConnector(w), good(), sdktest.Options{
		State: []byte("old"), Tenant: "acme",
		Hooks: map[string]sdk.HookEndpoint{"things": {URL: "https://me.example/h", Secret: plugin.NewSecret("s")}},
	})
	call := func(name string) { _ = h.Call(t.Context(), "thing.get", input{Name: name}, nil) }
	call("look")
	if string(env.State) != "old" || env.Tenant != "acme" || env.Hooks["things"].URL != "https://me.example/h" || env.Hooks["things"].Secret.Reveal() != "s" {
		t.Errorf("env %+v", env)
	}
	if string(h.State()) != "old" {
		t.Errorf("state %q without a save", h.State())
	}
	call("save")
	if string(h.State()) != "new" {
		t.Errorf("state %q", h.State())
	}
	// An error has no place for state: it comes with the next answer.
	call("fail")
	call("look")
	if string(h.State()) != "newer" {
		t.Errorf("state %q", h.State())
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 2)
	release := make(chan struct{})
	w := &world{act: func(ctx context.Context, _ *box, in input) (output, error) {
		entered <- struct{}{}
		if in.Name == "stuck" {
			<-ctx.Done()
			return output{}, ctx.Err()
		}
		<-release
		return output{}, nil
	}}
	c, call := joined(t, w)
	run := func(name string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := invoke(context.Background(), c, &connectorv1.InvokeRequest{Call: call(), Action: "thing.get", Input: []byte(`{"name":"` + name + `"}`)})
			done <- err
		}()
		<-entered
		return done
	}
	fine, stuck := run("fine"), run("stuck")
	drained := make(chan *connectorv1.DrainResponse, 1)
	go func() {
		resp, err := c.Drain(context.Background(), &connectorv1.DrainRequest{Grace: durationpb.New(300 * time.Millisecond)})
		if err != nil {
			t.Error(err)
		}
		drained <- resp
	}()
	// New work is refused once the drain has begun; until then calls may still get in.
	for {
		_, err := invoke(context.Background(), c, &connectorv1.InvokeRequest{Call: call(), Action: "thing.list", Input: []byte(`{}`)})
		if e := asError(t, err); e.Reason == plugin.ReasonDraining {
			want(t, err, plugin.ClassUnavailable, plugin.EffectNone, "draining")
			break
		}
	}
	close(release)
	if err := <-fine; err != nil {
		t.Errorf("an open call did not get to finish: %v", err)
	}
	if e := asError(t, <-stuck); e.Class() != plugin.ClassCancelled {
		t.Errorf("the stuck call ended with %v", e)
	}
	if resp := <-drained; resp.GetFinished() != 1 || resp.GetCancelled() != 1 {
		t.Errorf("got %v", resp)
	}
	if resp, err := c.Drain(t.Context(), &connectorv1.DrainRequest{}); err != nil || resp.GetCancelled() != 0 {
		t.Errorf("a second drain: %v, %v", resp, err)
	}
}

// Calls, replacements and removals at once: every call gets an answer, and every connection that was opened is closed.
func TestConfigureUnderLoad(t *testing.T) {
	t.Parallel()
	w := &world{act: func(context.Context, *box, input) (output, error) { return output{}, nil }}
	c := plugintest.Join(t, sdk.Server(newConnector(w)))
	var generation atomic.Uint64
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 100 {
				g := generation.Load()
				if err := get(c, "a", g); err != nil && asError(t, err).Reason != plugin.ReasonConfigMismatch {
					t.Error(err)
				}
			}
		}()
	}
	for g := range uint64(50) {
		configure(t, c, "a", g+1, good())
		generation.Store(g + 1)
	}
	for range 4 {
		<-done
	}
	if _, err := c.Configure(t.Context(), &connectorv1.ConfigureRequest{Removes: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if w.opened.Load() != 50 || w.closed.Load() != 50 {
		t.Errorf("opened %d, closed %d", w.opened.Load(), w.closed.Load())
	}
}
