package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

type finish struct {
	Unobserved
	left atomic.Int64
	done chan struct{}
}

func (f *finish) RunReleased(_ store.Run, s store.RunState, _ plugin.Class, _ time.Duration) {
	if !s.Live() && f.left.Add(-1) == 0 {
		close(f.done)
	}
}

type instant struct{}

func (instant) Call(context.Context, Call) (json.RawMessage, error) {
	return json.RawMessage(`{"id":"7","key":"SEC-7","url":"https://jira.example/SEC-7","created":true}`), nil
}

// BenchmarkRuns is what the engine itself costs: a vendor that answers at once, a store in memory, expressions that are
// Go functions.
func BenchmarkRuns(b *testing.B) {
	for _, kind := range []string{"read", "keyed", "keyed and backlink"} {
		b.Run(kind, func(b *testing.B) {
			w := &world{st: newMemStore(), flows: map[string]*flow.Flow{}}
			input := map[string]any{"title": "Root console login", "severity_id": 4, "labels": []any{"a", "b"}, "description": fmt.Sprintf("%01000d", 0)}
			id := w.val(func(env flow.Env) any { return path(env, "run", "id") })
			issue, back := w.keyed("issue.ensure", 0), w.keyed("alert.comment", 0)
			issue.With, issue.Key, back.Key = w.lit(input), id, id
			back.If = w.when(func(env flow.Env) bool { return path(env, "steps", "issue.ensure", "created") == true })
			switch kind {
			case "read":
				w.flow("f", w.read("issue.get"))
			case "keyed":
				w.flow("f", issue)
			default:
				w.flow("f", issue, back)
			}
			seen := &finish{done: make(chan struct{})}
			seen.left.Store(int64(b.N))
			env := flow.Env{"event": map[string]any{"id": "e"}, "alert": map[string]any{"title": "t"}}
			load := func(context.Context, store.Run) (flow.Env, error) { return env, nil }
			e, err := New(Options{Store: w.st, Caller: instant{}, Flows: w, Load: load, Observer: seen})
			if err != nil {
				b.Fatal(err)
			}
			e.eval = &w.funcs
			for i := range b.N {
				w.st.add(store.NewRun{ID: fmt.Sprint("r", i), Flow: "f"})
			}
			b.ReportAllocs()
			b.ResetTimer()
			if err := e.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			<-seen.done
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
			if err := e.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
