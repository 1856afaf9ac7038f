package engine

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

// play runs a test under the fake clock.
func play(t *testing.T, f func(w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t)) })
}

func TestStepsSeeEachOther(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.load = func(context.Context, store.Run) (flow.Env, error) {
			return flow.Env{"event": map[string]any{"id": "e1"}}, nil
		}
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "look" {
				return json.RawMessage(`{"rows":[1,2],"big":9007199254740993,"half":0.5}`), nil
			}
			return c.Input, nil
		}
		skipped := w.read("skipped")
		skipped.If = w.when(func(env flow.Env) bool { return path(env, "steps", "look", "big") != 9007199254740993 })
		echo := w.read("echo")
		echo.With = w.val(func(env flow.Env) any {
			_, there := path(env, "steps").(map[string]any)["skipped"]
			return map[string]any{
				"event": path(env, "event", "id"), "n": path(env, "facts", "n"), "flow": path(env, "run", "flow"),
				"half": path(env, "steps", "look", "half"), "skipped": there,
			}
		})
		f := w.flow("f",
			w.read("look"),
			skipped,
			w.let("facts", map[string]*flow.Value{"n": w.val(func(env flow.Env) any {
				rows, _ := path(env, "steps", "look", "rows").([]any)
				return len(rows)
			})}),
			echo,
		)
		f.Output = w.val(func(env flow.Env) any { return path(env, "steps", "echo") })
		r := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		w.settle(time.Minute)
		stop(t, e)
		got := w.run(r.ID)
		wantState(t, got, store.RunSucceeded)
		want := `{"event":"e1","flow":"f","half":0.5,"n":2,"skipped":false}`
		if diff := cmp.Diff(want, string(got.Output)); diff != "" {
			t.Error(diff)
		}
		var states []string
		steps, _ := w.st.Steps(t.Context(), r.ID)
		for _, s := range steps {
			states = append(states, s.Path+" "+string(s.State))
		}
		if diff := cmp.Diff([]string{"look succeeded", "skipped skipped", "facts succeeded", "echo succeeded"}, states); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]int{"advance succeeded": 1}, w.st.counts()); diff != "" {
			t.Errorf("reads cost transactions: %s", diff)
		}
	})
}

func TestCallSharesRetryAndBindsInputs(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		tries := 0
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "query" {
				if tries++; tries < 4 {
					return nil, invalid() // only named by the call
				}
			}
			return c.Input, nil
		}
		query := w.read("query")
		query.With = w.val(func(env flow.Env) any { return path(env, "inputs") })
		callee := &flow.Flow{
			Name: "kql", Steps: []*flow.Step{w.read("before"), query},
			Inputs: map[string]flow.Input{"q": {Type: "string", Required: true}, "max": {Type: "integer", Default: 10}},
			Output: w.val(func(env flow.Env) any { return path(env, "steps", "query") }),
		}
		call := &flow.Step{
			ID: "logins", Kind: flow.KindCall, Call: callee, With: w.lit(map[string]any{"q": "T | take 1"}),
			Retry: flow.Retry{On: []plugin.Class{plugin.ClassInvalid}, Max: 4},
		}
		w.flow("f", call).Output = w.val(func(env flow.Env) any { return path(env, "steps", "logins") })
		r := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		w.settle(time.Hour)
		stop(t, e)
		wantState(t, w.run(r.ID), store.RunSucceeded)
		if got, want := string(w.run(r.ID).Output), `{"max":10,"q":"T | take 1"}`; got != want {
			t.Errorf("output %s, want %s", got, want)
		}
		if got, want := w.made(), "before query query query query"; got != want {
			t.Errorf("calls %q, want %q: a finished step was repeated", got, want)
		}
		if s := w.step(r.ID, "logins/query"); s.State != store.StepSucceeded || s.Attempt != 4 {
			t.Errorf("journal of logins/query: %+v", s)
		}
	})
}

func TestBadInputs(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		f := w.flow("f", w.read("look"))
		f.Inputs = map[string]flow.Input{"q": {Type: "string", Required: true}, "n": {Type: "integer"}}
		for input, want := range map[string]string{
			`{}`:                          `input "q" is required`,
			`{"q":1}`:                     `input "q" must be of type string`,
			`{"q":"a","n":1.5}`:           `input "n" must be of type integer`,
			`{"q":"a","x":1}`:             `no input "x"`,
			`[1]`:                         `takes an object`,
			`{"q":"a"}{}`:                 `more than one`,
			`{"q":"a","n":2}`:             ``,
			`{"q":"a","n":2.0,"n2":null}`: `no input "n2"`,
		} {
			r := w.st.add(store.NewRun{Flow: "f", Input: json.RawMessage(input)})
			e := w.start()
			w.settle(time.Minute)
			stop(t, e)
			got := w.run(r.ID)
			if want == "" {
				wantState(t, got, store.RunSucceeded)
				continue
			}
			wantState(t, got, store.RunDeadLetter, want)
			if got.Class != string(plugin.ClassInvalid) {
				t.Errorf("class %s", got.Class)
			}
		}
	})
}

func TestDepthOfCalls(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		inner := &flow.Flow{Name: "deep", Steps: []*flow.Step{w.read("look")}}
		for range maxDepth + 1 {
			inner = &flow.Flow{Name: "deep", Steps: []*flow.Step{{ID: "c", Kind: flow.KindCall, Call: inner}}}
		}
		wantState(t, w.one(inner.Steps...), store.RunDeadLetter, "nested deeper than 8")
	})
}

func TestEach(t *testing.T) {
	for _, concurrency := range []int{1, 3} {
		t.Run("", func(t *testing.T) {
			play(t, func(w *world) {
				t := w.t
				running, most := 0, 0
				w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
					w.mu.Lock()
					running++
					most = max(most, running)
					w.mu.Unlock()
					<-time.After(time.Second)
					w.mu.Lock()
					running--
					w.mu.Unlock()
					return c.Input, nil
				}
				body := w.read("comment")
				body.With = w.val(func(env flow.Env) any {
					return map[string]any{"ip": path(env, "item"), "i": path(env, "index"), "mark": path(env, "mark", "x")}
				})
				mark := w.let("mark", map[string]*flow.Value{"x": w.val(func(env flow.Env) any { return path(env, "index").(int) * 10 })})
				each := &flow.Step{
					ID: "each", Kind: flow.KindEach, For: w.lit([]string{"a", "b", "c", "d"}), Body: []*flow.Step{mark, body}, Concurrency: concurrency,
				}
				f := w.flow("f", each)
				f.Output = w.val(func(env flow.Env) any { return path(env, "steps", "each").([]any)[3] })
				r := w.st.add(store.NewRun{Flow: "f"})
				e := w.start()
				w.settle(time.Minute)
				stop(t, e)
				wantState(t, w.run(r.ID), store.RunSucceeded)
				want := `{"comment":{"i":3,"ip":"d","mark":30},"mark":{"x":30}}`
				if got := string(w.run(r.ID).Output); got != want {
					t.Errorf("output %s, want %s", got, want)
				}
				if most != concurrency {
					t.Errorf("%d turns at once, want %d", most, concurrency)
				}
				if s := w.step(r.ID, "each[3]/comment"); s.State != store.StepSucceeded {
					t.Errorf("journal: %+v", s)
				}
			})
		})
	}
}

func TestEachOverNonsense(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		step := func(v any) *flow.Step {
			return &flow.Step{ID: "each", Kind: flow.KindEach, For: w.lit(v), Body: []*flow.Step{w.read("look")}}
		}
		wantState(t, w.one(step(7)), store.RunDeadLetter, "for needs a list, not int")
		wantState(t, w.one(step(make([]int, maxTurns+1))), store.RunDeadLetter, "the most is 10000")
		wantState(t, w.one(step(nil)), store.RunSucceeded)
	})
}

func TestOnError(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "bad" {
				return nil, invalid()
			}
			return nil, nil
		}
		bad := w.read("bad")
		r := w.one(bad, w.read("after"))
		wantState(t, r, store.RunDeadLetter, `step "bad": v.bad on connection "c": invalid: vendor says InvalidArgument`)
		if got := w.made(); got != "bad" {
			t.Errorf("calls: %s", got)
		}
		if len(w.st.dead) != 1 || w.st.dead[0].Step != "bad" || w.st.dead[0].Run != r.ID || w.st.dead[0].Class != "invalid" || w.st.dead[0].Kind != "run" {
			t.Errorf("dead letters: %+v", w.st.dead)
		}

		bad.OnError = flow.OnErrorContinue
		r = w.one(bad, w.read("after"))
		wantState(t, r, store.RunSucceeded)
		if s := w.step(r.ID, "bad"); s.State != store.StepFailed || s.Class != "invalid" || s.Error == "" {
			t.Errorf("journal: %+v", s)
		}

		bad.OnError = flow.OnErrorFail
		call := &flow.Step{ID: "call", Kind: flow.KindCall, Call: &flow.Flow{Name: "g", Steps: []*flow.Step{bad}}, OnError: flow.OnErrorContinue}
		wantState(t, w.one(call, w.read("after")), store.RunSucceeded)
		bad.OnError = flow.OnErrorDeadLetter
		wantState(t, w.one(call, w.read("after")), store.RunDeadLetter)
	})
}

func TestExpressionsThatFail(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		look := w.read("look")
		look.With = w.bad(errors.New("cannot fetch title from null"))
		r := w.one(look)
		wantState(t, r, store.RunDeadLetter, `step "look": with: cannot fetch title`)
		if r.Class != string(plugin.ClassInvalid) {
			t.Errorf("class %s", r.Class)
		}
		look.With = w.val(func(flow.Env) any { panic("index out of range") })
		r = w.one(look)
		wantState(t, r, store.RunDeadLetter, "panic: index out of range")
		if r.Class != string(plugin.ClassBug) {
			t.Errorf("class %s", r.Class)
		}
		look.With = w.lit(func() {}) // no JSON
		wantState(t, w.one(look), store.RunDeadLetter, "with: json")
		look.With = w.lit(strings.Repeat("x", plugin.MaxInput))
		wantState(t, w.one(look), store.RunDeadLetter, "the most is 2097152")
		f := w.flow("f", w.read("fine"))
		f.Output = w.bad(errors.New("no such thing"))
		rr := w.st.add(store.NewRun{Flow: "f"})
		e := w.start()
		w.settle(time.Minute)
		stop(t, e)
		wantState(t, w.run(rr.ID), store.RunDeadLetter, "output: no such thing")
	})
}

func TestPanicsAreCaught(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		w.call = func(context.Context, Call) (json.RawMessage, error) { panic("caller") }
		wantState(t, w.one(w.read("look")), store.RunDeadLetter, "panic: caller")
		w.call = nil
		w.load = func(context.Context, store.Run) (flow.Env, error) { panic("load") }
		wantState(t, w.one(w.read("look")), store.RunDeadLetter, "panic while executing the run: load")
	})
}

func TestWhatCannotBeLoaded(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		r := w.st.add(store.NewRun{Flow: "gone", FlowVersion: "v1"})
		e := w.start()
		w.settle(time.Minute)
		wantState(t, w.run(r.ID), store.RunDeadLetter, `load flow "gone" in version v1`)
		stop(t, e)

		n := 0
		w.load = func(context.Context, store.Run) (flow.Env, error) {
			if n++; n < 5 {
				return nil, errors.New("disk is slow")
			}
			return nil, nil
		}
		wantState(t, w.one(w.read("look")), store.RunSucceeded)
		w.load = func(context.Context, store.Run) (flow.Env, error) { return nil, store.ErrNotFound }
		wantState(t, w.one(w.read("look")), store.RunDeadLetter, "load the event")
		w.load = func(context.Context, store.Run) (flow.Env, error) { return nil, errors.New("never") }
		wantState(t, w.one(w.read("look")), store.RunDeadLetter, "never")
	})
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Workers: -1})
	for _, part := range []string{"Store", "Caller", "Flows", "negative"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}
