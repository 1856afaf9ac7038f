package catalog_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// bubble makes a catalog of one crashing connector inside a synctest bubble.
func bubble(t *testing.T, f *fake, k *crasher) *catalog.Catalog {
	t.Helper()
	c, err := catalog.New(catalog.Options{Connectors: k.source(f)})
	if err != nil {
		t.Fatal(err)
	}
	configure(t, c, conn("a", "jira", `{}`))
	return c
}

func echo(t *testing.T, c *catalog.Catalog, input string) error {
	t.Helper()
	return second(c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "echo", Input: json.RawMessage(input)}, nil))
}

func stop(c *catalog.Catalog) { _ = c.Stop(context.Background()) }

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's clock
	synctest.Wait()
}

// loop crashes the connector as soon as it is up until it is quarantined, and returns how often that took.
func loop(t *testing.T, c *catalog.Catalog, k *crasher) int {
	t.Helper()
	for n := 1; n <= 10; n++ {
		k.crash("exit status 2")
		synctest.Wait()
		s := c.Status()[0]
		if s.State == catalog.StateQuarantined {
			return n
		}
		pass(time.Until(s.RetryAt))
	}
	t.Fatal("it is never quarantined")
	return 0
}

func TestCrashLoopIsQuarantined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		c := bubble(t, f, k)
		defer stop(c)
		if n := loop(t, c, k); n != 5 {
			t.Errorf("quarantined after %d crashes", n)
		}
		starts := k.starts.Load()
		e := wantError(t, echo(t, c, `1`))
		if e.Reason != plugin.ReasonQuarantined || e.Code != codes.Unavailable || e.SideEffect != plugin.EffectNone ||
			e.RetryAfter < 3*time.Minute || e.RetryAfter > 7*time.Minute || !strings.Contains(e.Error(), "exit status 2") {
			t.Errorf("got %+v", e)
		}
		if k.starts.Load() != starts {
			t.Error("a call started it")
		}
		// Half open: one start is tried, and one crash is enough for a longer pause.
		want := 5 * time.Minute
		for range 5 {
			pass(time.Until(c.Status()[0].RetryAt))
			if err := echo(t, c, `1`); err != nil {
				t.Fatalf("after the pause: %v", err)
			}
			k.crash("exit status 2")
			synctest.Wait()
			want = min(2*want, time.Hour)
			s := c.Status()[0]
			if left := time.Until(s.RetryAt); s.State != catalog.StateQuarantined || left < want*3/4 || left > want*5/4 {
				t.Errorf("%s for %v, want about %v", s.State, left, want)
			}
		}
		// Stable again, a crash is the first one.
		pass(time.Until(c.Status()[0].RetryAt))
		pass(6 * time.Minute)
		k.crash("exit status 2")
		synctest.Wait()
		if s := c.Status()[0]; s.State != catalog.StateBackoff || time.Until(s.RetryAt) > time.Second {
			t.Errorf("status %+v", s)
		}
	})
}

func TestRareCrashesAreNoLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		c := bubble(t, f, k)
		defer stop(c)
		for range 20 {
			pass(3 * time.Minute)
			k.crash("exit status 2")
			synctest.Wait()
			if s := c.Status()[0]; s.State != catalog.StateBackoff {
				t.Fatalf("status %+v", s)
			}
			pass(time.Minute + 15*time.Second)
		}
	})
}

func TestQuarantineIsLifted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		c := bubble(t, f, k)
		defer stop(c)
		loop(t, c, k)
		if c.Lift("none") || !c.Lift("jira") {
			t.Error("what was lifted?")
		}
		synctest.Wait()
		if err := echo(t, c, `1`); err != nil {
			t.Error(err)
		}
		k.crash("exit status 2")
		synctest.Wait()
		if s := c.Status()[0]; s.State != catalog.StateBackoff {
			t.Errorf("after it was lifted one crash is one crash: %+v", s)
		}
	})
}

// poison makes the connector crash whenever it has an input with the word in it; others wait for nothing.
func poison(f *fake, k *crasher, word string) *atomic.Int32 {
	var given atomic.Int32
	f.invoke = func(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		if strings.Contains(string(r.GetInput()), word) {
			given.Add(1)
			k.crash("exit status 2")
			<-s.Context().Done()
			return s.Context().Err()
		}
		return result(s, r.GetInput())
	}
	return &given
}

// The same input in three crashes: it is refused from then on, and the connector is not quarantined for it.
func TestPoisonInputIsQuarantined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		given := poison(f, k, "poison")
		c := bubble(t, f, k)
		defer stop(c)
		for i := range 3 {
			if e := wantError(t, echo(t, c, `"poison"`)); e.Reason != plugin.ReasonPluginCrashed {
				t.Fatalf("crash %d: %+v", i, e)
			}
			synctest.Wait()
			pass(time.Until(c.Status()[0].RetryAt))
			if err := echo(t, c, `"good"`); err != nil { // others are served between
				t.Fatal(err)
			}
		}
		for range 3 {
			e := wantError(t, echo(t, c, `"poison"`))
			if e.Reason != plugin.ReasonPoisonInput || e.Class() != plugin.ClassBug || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Error(), "exit status 2") {
				t.Fatalf("got %+v", e)
			}
		}
		if n := given.Load(); n != 3 {
			t.Errorf("the connector was given it %d times", n)
		}
		s := c.Status()[0]
		if s.State != catalog.StateReady || len(s.Poison) != 1 || s.Poison[0].Exit != "exit status 2" {
			t.Errorf("status %+v", s)
		}
		// Another action, another connection or another input is another thing.
		if e := wantError(t, second(c.Invoke(t.Context(), catalog.Invocation{Connection: "a", Action: "do", Input: []byte(`"poison"`)}, nil))); e.Reason != plugin.ReasonPluginCrashed {
			t.Errorf("got %+v", e)
		}
		synctest.Wait()
		pass(time.Until(c.Status()[0].RetryAt))
		// Somebody mends the connector.
		f.invoke = nil
		c.Lift("jira")
		if err := echo(t, c, `"poison"`); err != nil {
			t.Error(err)
		}
	})
}

// Bystanders that are in flight each time that another input crashes the connector are not taken for the cause.
func TestBystandersAreNotPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		c := bubble(t, f, k)
		defer stop(c)
		calm := make(chan struct{}) // closed: bystanders are served
		f.invoke = func(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
			if strings.Contains(string(r.GetInput()), "poison") {
				time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock: all are in flight
				k.crash("exit status 2")
				<-s.Context().Done()
				return s.Context().Err()
			}
			select {
			case <-calm:
				return result(s, r.GetInput())
			case <-time.After(2 * time.Second):
				return result(s, r.GetInput())
			case <-s.Context().Done():
				return s.Context().Err()
			}
		}
		inputs := []string{`"by 1"`, `"by 2"`, `"by 3"`, `"poison"`, `"by 4"`, `"by 5"`}
		outcome := make(chan *plugin.Error, len(inputs))
		for _, in := range inputs {
			go func() {
				for {
					err := echo(t, c, in)
					if err == nil {
						if strings.Contains(in, "poison") {
							err = &plugin.Error{Message: "poison was taken"}
						}
						outcome <- plugin.FromError(err)
						return
					}
					e := plugin.FromError(err)
					if e.Reason == plugin.ReasonPoisonInput {
						if !strings.Contains(in, "poison") {
							e = &plugin.Error{Message: in + " is held to be poison"}
						} else {
							e = nil
						}
						outcome <- e
						return
					}
					time.Sleep(max(e.RetryAfter, time.Second)) //nolint:forbidigo // the bubble's clock
				}
			}()
		}
		for range inputs {
			if e := <-outcome; e != nil {
				t.Error(e.Message)
			}
		}
		close(calm)
		if s := c.Status()[0]; len(s.Poison) != 1 || s.State == catalog.StateQuarantined {
			t.Errorf("status %+v", s)
		}
	})
}

// A hint that crashes the connector is refused; those beside it are looked up.
func TestPoisonHint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, k := newFake("jira"), &crasher{}
		f.consume = func(_ *connectorv1.Open, s connectorv1.Connector_ConsumeServer) error {
			for {
				m, err := s.Recv()
				if err != nil {
					return err
				}
				for _, h := range m.GetResolve().GetHints() {
					if h.GetId() == "poison" {
						k.crash("exit status 2")
						<-s.Context().Done()
						return s.Context().Err()
					}
					if err := s.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Outcome{Outcome: &connectorv1.HintOutcome{Id: h.GetId()}}}); err != nil {
						return err
					}
				}
			}
		}
		c := bubble(t, f, k)
		defer stop(c)
		open := map[string]bool{"h1": true, "poison": true, "h2": true, "h3": true}
		for round := 0; len(open) > 1 && round < 10; round++ {
			var hints []*connectorv1.Hint
			for _, id := range []string{"h1", "poison", "h2", "h3"} {
				if open[id] {
					hints = append(hints, &connectorv1.Hint{Id: id, Data: []byte(`{}`)})
				}
			}
			out, err := c.Resolve(t.Context(), "a", "alerts", hints)
			if err == nil {
				for _, o := range out {
					if plugin.UnmarshalStatus(o.GetStatus()) == nil {
						delete(open, o.GetId())
					}
				}
			}
			pass(2 * time.Minute)
		}
		if len(open) != 1 || !open["poison"] {
			t.Fatalf("still open: %v", open)
		}
		for range 3 {
			out, err := c.Resolve(t.Context(), "a", "alerts", []*connectorv1.Hint{{Id: "poison", Data: []byte(`{}`)}})
			if err == nil && plugin.UnmarshalStatus(out[0].GetStatus()).Reason == plugin.ReasonPoisonInput {
				return
			}
			pass(2 * time.Minute)
		}
		t.Errorf("the hint is never refused: %+v", c.Status()[0])
	})
}
