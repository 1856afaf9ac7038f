package host_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// session is a connection that keeps a token which is good for one use, as a rotating refresh token is.
type session struct {
	mu   sync.Mutex
	env  sdk.Env
	used *string // the token that it came with
}

type nothing struct{}

type turned struct {
	Had string `json:"had" doc:"Token before"`
	Has string `json:"has" doc:"Token now"`
}

// rotating makes a connector whose action "turn" uses the token up and keeps the next.
func rotating(name string) *sdk.Connector {
	c := sdk.New(name, "1.0.0", "Keeps a token.", func(_ context.Context, _ sourceConfig, env sdk.Env) (*session, error) {
		token := string(env.State)
		return &session{env: env, used: &token}, nil
	})
	sdk.Action(c, "turn", "Use the token up.", func(s *session, _ context.Context, _ nothing) (turned, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		n, _ := strconv.Atoi(strings.TrimPrefix(*s.used, "clear-token-"))
		out := turned{Had: *s.used, Has: "clear-token-" + strconv.Itoa(n+1)}
		s.used = &out.Has
		s.env.SaveState([]byte(out.Has))
		return out, nil
	}, sdk.Read)
	return c
}

// failing makes one whose calls use the token up and then fail, each in its way.
func failing() *sdk.Connector {
	c := rotating("failing")
	turn := func(s *session) { s.env.SaveState([]byte("clear-token-" + s.env.Connection)) }
	sdk.Action(c, "fail", "Fail.", func(s *session, _ context.Context, _ nothing) (nothing, error) {
		turn(s)
		return nothing{}, sdk.NotFound("it is not there")
	}, sdk.Read)
	sdk.AddTrigger(c, sdk.Trigger[*session, cursor]{
		Name: "events", Summary: "Events.", Emits: []string{"io.casewire.alert.v1"}, Interval: time.Hour,
		Poll: func(s *session, _ context.Context, _ cursor, _ func(sdk.Page[cursor]) error) error {
			turn(s)
			return sdk.Denied("no")
		},
		Hook: func(s *session, _ context.Context, _ *sdk.HookRequest) (*sdk.HookResponse, error) {
			turn(s)
			return &sdk.HookResponse{}, nil
		},
	})
	return c
}

// What a call used up is used up, whatever became of the call.
func TestStateOfCallsThatFail(t *testing.T) {
	t.Parallel()
	st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "casewire.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn := func(name string) host.Connection {
		return host.Connection{Name: name, Connector: "failing", Config: json.RawMessage(`{}`)}
	}
	h, err := host.New(host.Options{
		Store: st, RunDir: filepath.Join(t.TempDir(), "r"), StateKey: plugin.NewSecret(stateKeyA),
		Connectors:  map[string]host.Connector{"failing": host.MemoryConnector(sdk.Server(failing()))},
		Connections: []host.Connection{conn("call"), conn("poll"), conn("hook")},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := func(c string) flow.Source {
		return flow.Source{File: c + ".yaml", Data: []byte("name: " + c + "\non: { failing.events: { connection: " + c + " } }\nsteps: [{ id: a, let: { x: 1 } }]\n")}
	}
	flows, diags := flow.Load([]flow.Source{text("poll"), text("hook")}, h)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := h.SetFlows(t.Context(), flows); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, host: h, store: st}
	t.Cleanup(w.stop)
	_, err = h.Invoke(t.Context(), host.Invocation{Connection: "call", Action: "fail", Input: json.RawMessage(`{}`)})
	if e := plugin.FromError(err); e == nil || e.Class() != plugin.ClassNotFound {
		t.Fatal(err)
	}
	if _, err := h.Webhook(t.Context(), "hook", "events", &connectorv1.HandleWebhookRequest{Method: "POST"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the poll", func() bool {
		kept, err := keeper(t, st).State(t.Context(), conn("poll"))
		return err == nil && len(kept) > 0
	})
	for _, name := range []string{"call", "poll", "hook"} {
		if kept, err := keeper(t, st).State(t.Context(), conn(name)); err != nil || string(kept) != "clear-token-"+name {
			t.Errorf("%s: kept %q, %v", name, kept, err)
		}
	}
}

const stateKeyA = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

type keeping struct {
	*host.Host
	store store.Store
	stop  func()
}

// keepingHost is a host with two connections that keep something.
func keepingHost(t *testing.T, path, key string, wrap func(store.Store) store.Store) keeping {
	t.Helper()
	file, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var st store.Store = file
	if wrap != nil {
		st = wrap(st)
	}
	h, err := host.New(host.Options{
		Store: st, RunDir: filepath.Join(t.TempDir(), "r"), StateKey: plugin.NewSecret(key),
		Connectors: map[string]host.Connector{"rotating": host.MemoryConnector(sdk.Server(rotating("rotating")))},
		Connections: []host.Connection{
			{Name: "a", Connector: "rotating", Config: json.RawMessage(`{}`)}, {Name: "b", Connector: "rotating", Config: json.RawMessage(`{}`)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := errors.Join(h.Stop(ctx), file.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return keeping{h, st, stop}
}

func (k keeping) turn(t *testing.T, connection string) turned {
	t.Helper()
	out, err := k.Invoke(t.Context(), host.Invocation{Connection: connection, Action: "turn", Input: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	var r turned
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func keeper(t *testing.T, st store.Meta) *host.StateKeeper {
	t.Helper()
	k, err := host.NewStateKeeper(st, plugin.NewSecret(stateKeyA))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestStateIsDurableSealedAndComesBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db")
	h := keepingHost(t, path, stateKeyA, nil)
	conn := host.Connection{Name: "a", Connector: "rotating"}
	for i := range 3 {
		got := h.turn(t, "a")
		// By the time that the call has returned, the store has it.
		kept, err := keeper(t, h.store).State(t.Context(), conn)
		if err != nil || string(kept) != got.Has || got.Has != fmt.Sprint("clear-token-", i+1) {
			t.Fatalf("the call kept %+v, the store has %q, %v", got, kept, err)
		}
	}
	h.turn(t, "b")
	h.stop()
	for _, name := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("clear-token")) {
			t.Errorf("%s holds the token", filepath.Base(name))
		}
	}
	h = keepingHost(t, path, stateKeyA, nil)
	if got := h.turn(t, "a"); got.Had != "clear-token-3" {
		t.Errorf("after the restart, a had %q", got.Had)
	}
	if got := h.turn(t, "b"); got.Had != "clear-token-1" {
		t.Errorf("after the restart, b had %q", got.Had)
	}
}

func TestStateThatCannotBeOpenedTakesOneConnectionOut(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db")
	h := keepingHost(t, path, stateKeyA, nil)
	h.turn(t, "a")
	h.turn(t, "b")
	h.stop()
	spoil := func(f func(store.Store)) {
		st, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f(st)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(h keeping, connection string, words ...string) {
		t.Helper()
		_, err := h.Invoke(t.Context(), host.Invocation{Connection: connection, Action: "turn", Input: json.RawMessage(`{}`)})
		e, ok := errors.AsType[*plugin.Error](err)
		if !ok || e.Reason != host.ReasonStateUnreadable || e.SideEffect != plugin.EffectNone {
			t.Fatalf("invoke on %s: %v", connection, err)
		}
		for _, w := range words {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("%q does not say %q", e.Error(), w)
			}
		}
		s, err := h.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Connectors[0].Connections {
			if c.Name == connection && (c.Refused == nil || c.Refused.Reason != host.ReasonStateUnreadable) {
				t.Errorf("the status of %s: %+v", connection, c)
			}
		}
	}

	// One is damaged: the other goes on, and a sign-in mends it.
	spoil(func(st store.Store) {
		if err := st.Put(t.Context(), "state/a", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	})
	h = keepingHost(t, path, stateKeyA, nil)
	refused(h, "a", "connection a is out of service", "damaged", "casewire state drop a", "sign in again")
	if got := h.turn(t, "b"); got.Had != "clear-token-1" {
		t.Errorf("b had %q", got.Had)
	}
	if err := h.Reload(t.Context(), host.Setup{Connections: []host.Connection{
		{Name: "a", Connector: "rotating", Config: json.RawMessage(`{}`)}, {Name: "b", Connector: "rotating", Config: json.RawMessage(`{}`)},
	}}); err != nil {
		t.Fatal(err)
	}
	refused(h, "a", "damaged")
	if err := h.SetState(t.Context(), "a", []byte("clear-token-40")); err != nil {
		t.Fatal(err)
	}
	if got := h.turn(t, "a"); got.Had != "clear-token-40" {
		t.Errorf("after the sign-in, a had %q", got.Had)
	}
	if err := h.SetState(t.Context(), "c", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a connection that there is not: %v", err)
	}
	h.stop()

	// One that was copied to another connection does not open there.
	spoil(func(st store.Store) {
		b, err := st.Get(t.Context(), "state/b")
		if err == nil {
			err = st.Put(t.Context(), "state/a", b)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	h = keepingHost(t, path, stateKeyA, nil)
	refused(h, "a", "damaged")
	// Without a state it begins anew.
	if err := h.SetState(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if got := h.turn(t, "a"); got.Had != "" {
		t.Errorf("after it was dropped, a had %q", got.Had)
	}
	h.stop()

	// Another key: nothing of the old is lost, so that the right one mends it.
	h = keepingHost(t, path, strings.Repeat("ab", 32), nil)
	refused(h, "a", "another key", "store.key")
	refused(h, "b", "another key")
	h.stop()
	h = keepingHost(t, path, stateKeyA, nil)
	if got := h.turn(t, "b"); got.Had != "clear-token-2" {
		t.Errorf("b had %q", got.Had)
	}
}

// forgetful refuses to keep state for a while.
type forgetful struct {
	store.Store
	refuse atomic.Int32
	kept   chan struct{}
}

func (f *forgetful) Put(ctx context.Context, key string, value []byte) error {
	if strings.HasPrefix(key, "state/") {
		if f.refuse.Add(-1) >= 0 {
			return store.ErrFull
		}
		defer func() { f.kept <- struct{}{} }()
	}
	return f.Store.Put(ctx, key, value)
}

func TestStateThatTheStoreRefusesIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := &forgetful{kept: make(chan struct{}, 10)}
	f.refuse.Store(2)
	h := keepingHost(t, filepath.Join(t.TempDir(), "casewire.db"), stateKeyA, func(st store.Store) store.Store {
		f.Store = st
		return f
	})
	got := h.turn(t, "a") // the call did what it did, whatever the disk says
	<-f.kept
	kept, err := keeper(t, f.Store).State(t.Context(), host.Connection{Name: "a", Connector: "rotating"})
	if err != nil || string(kept) != got.Has {
		t.Errorf("kept %q, %v; want %q", kept, err, got.Has)
	}
	// What is owed at the end is paid with the end.
	f.refuse.Store(1)
	got = h.turn(t, "b")
	b, err := f.Get(t.Context(), "state/b")
	if err != nil || b != nil {
		t.Fatalf("the store has %q, %v", b, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := h.Host.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	kept, err = keeper(t, f.Store).State(t.Context(), host.Connection{Name: "b", Connector: "rotating"})
	if err != nil || string(kept) != got.Has {
		t.Errorf("kept %q, %v; want %q", kept, err, got.Has)
	}
}

const stateChild = "CASEWIRE_TEST_STATE_CHILD"

// TestStateOutlivesKill kills a host in the middle of rotations: what any finished call brought is there.
func TestStateOutlivesKill(t *testing.T) {
	if path := os.Getenv(stateChild); path != "" {
		h := keepingHost(t, path, stateKeyA, nil)
		for {
			fmt.Println("turned " + h.turn(t, "a").Has)
		}
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db")
	reached := 0
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStateOutlivesKill$", "-test.v")
		cmd.Env = append(os.Environ(), stateChild+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, first := bufio.NewScanner(out), true
		for lines.Scan() {
			text, ok := strings.CutPrefix(lines.Text(), "turned clear-token-")
			if !ok {
				continue
			}
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			if first && n <= reached {
				t.Fatalf("round %d: it begins with %d, after %d", round, n, reached)
			}
			first, reached = false, max(reached, n)
			if n%7 == 5 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // it was killed
		if first {
			t.Fatal("the host did nothing")
		}
	}
}
