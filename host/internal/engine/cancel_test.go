package engine

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

func (w *world) cancel(e *Engine, id string) (store.RunState, error) {
	return e.Cancel(context.Background(), store.Cancel{Run: id, Now: time.Now(), Reason: "not wanted", Parked: "look there"})
}

func TestCancelBetweenSteps(t *testing.T) {
	play(t, func(w *world) {
		t := w.t
		entered, finish := make(chan struct{}, 1), make(chan struct{})
		w.call = func(_ context.Context, c Call) (json.RawMessage, error) {
			if c.Action == "first" {
				entered <- struct{}{}
				<-finish
			}
			return json.RawMessage(`{}`), nil
		}
		w.flow("f", w.keyed("first", time.Minute), w.keyed("second", time.Minute))
		run := w.st.add(store.NewRun{Flow: "f"})
		behind := w.st.add(store.NewRun{Flow: "f", OrderKey: run.OrderKey})
		e := w.start()
		<-entered
		if state, err := w.cancel(e, run.ID); err != nil || state != store.RunRunning {
			t.Fatalf("cancel: %v, %v", state, err)
		}
		if state, err := w.cancel(e, behind.ID); err != nil || state != store.RunCancelled {
			t.Fatalf("cancel of one that was not begun: %v, %v", state, err)
		}
		close(finish)
		w.settle(time.Minute)
		got := w.run(run.ID)
		wantState(t, got, store.RunCancelled)
		if got.Reason != "not wanted" || w.step(run.ID, "first").State != store.StepSucceeded {
			t.Errorf("run %+v, step %+v", got, w.step(run.ID, "first"))
		}
		for _, c := range w.sent() {
			if c.Action != "first" {
				t.Errorf("%s was called", c.Action)
			}
		}
		if _, err := w.cancel(e, run.ID); !errors.Is(err, store.ErrEnded) {
			t.Errorf("cancel again: %v", err)
		}
		if _, err := w.cancel(e, "none"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("cancel of none: %v", err)
		}
		stop(t, e)
	})
}

// A run that is asked to end while a call is out, and then has to wait, does not wait.
func TestCancelOfWhatComesToWait(t *testing.T) {
	for name, c := range map[string]struct {
		effect func(*plugin.Error)
		want   store.RunState
	}{
		"nothing was done":       {func(e *plugin.Error) { e.SideEffect = plugin.EffectNone }, store.RunCancelled},
		"it may have been done":  {func(e *plugin.Error) { e.SideEffect = plugin.EffectUnknown }, store.RunParked},
		"it waits to be found":   {func(e *plugin.Error) { e.SideEffect, e.Code = plugin.EffectUnknown, codes.DeadlineExceeded }, store.RunParked},
		"it was asked to wait":   {func(e *plugin.Error) { e.Code, e.RetryAfter = codes.ResourceExhausted, time.Hour }, store.RunCancelled},
		"it was refused for now": {func(e *plugin.Error) { e.RetryAfter = time.Minute }, store.RunCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				t := w.t
				entered, finish := make(chan struct{}, 1), make(chan struct{})
				w.call = func(_ context.Context, call Call) (json.RawMessage, error) {
					if call.Resolve {
						e := broken(codes.NotFound, plugin.EffectNone)
						e.Reason = plugin.ReasonUnresolved
						return nil, e
					}
					entered <- struct{}{}
					<-finish
					e := broken(codes.Unavailable, plugin.EffectNone)
					e.RetryAfter = time.Minute
					c.effect(e)
					return nil, e
				}
				w.flow("f", w.keyed("act", time.Hour))
				run := w.st.add(store.NewRun{Flow: "f"})
				e := w.start()
				<-entered
				if state, err := w.cancel(e, run.ID); err != nil || state != store.RunRunning {
					t.Fatalf("cancel: %v, %v", state, err)
				}
				close(finish)
				w.settle(time.Hour)
				wantState(t, w.run(run.ID), c.want)
				if took := time.Since(run.Created); took > 5*time.Minute {
					t.Errorf("it took %s", took)
				}
				stop(t, e)
			})
		})
	}
}
