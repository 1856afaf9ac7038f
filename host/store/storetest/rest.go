package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

var restTests = map[string]func(*testing.T, *env){
	"dead letters": func(t *testing.T, e *env) {
		first := store.DeadLetter{
			ID: "one", Kind: "event", Connection: "alerts", Trigger: "alerts", Subject: "s", Reason: "not an object", Class: "invalid",
			Raw: []byte("\x00raw\xff"), Created: e.now,
		}
		e.noError(e.AddDeadLetters(e.ctx, []store.DeadLetter{first, {Kind: "run", Run: "r", Flow: "f", Step: "s", Reason: "why", Raw: large("dl")}}))
		e.noError(e.AddDeadLetters(e.ctx, []store.DeadLetter{first})) // the same once more
		_, err := e.Ingest(e.ctx, store.Ingest{Connection: "alerts", Trigger: "alerts", Now: e.now, DeadLetters: []store.DeadLetter{{Kind: "hint", Subject: "h"}}})
		e.noError(err)
		e.reopen()
		list := func(f store.DeadLetterFilter) []store.DeadLetter {
			t.Helper()
			out, err := e.ListDeadLetters(e.ctx, f)
			e.noError(err)
			return out
		}
		kinds := func(f store.DeadLetterFilter) (out []string) {
			t.Helper()
			for _, d := range list(f) {
				if d.ID == "" || d.Created.IsZero() {
					t.Fatalf("no id or time: %+v", d)
				}
				out = append(out, d.Kind)
			}
			return out
		}
		same(t, "newest first", kinds(store.DeadLetterFilter{}), []string{"hint", "run", "event"})
		same(t, "limit", kinds(store.DeadLetterFilter{Limit: 1}), []string{"hint"})
		same(t, "kind", list(store.DeadLetterFilter{Kind: "event"}), []store.DeadLetter{first})
		run := list(store.DeadLetterFilter{Flow: "f"})
		if len(run) != 1 || !bytes.Equal(run[0].Raw, large("dl")) {
			t.Fatalf("flow: %d, or its raw object changed", len(run))
		}
		e.noError(e.ResolveDeadLetter(e.ctx, "one", "replayed", e.now))
		e.wantError(e.ResolveDeadLetter(e.ctx, "one", "dropped", e.now), store.ErrNotFound)
		e.wantError(e.ResolveDeadLetter(e.ctx, "none", "dropped", e.now), store.ErrNotFound)
		same(t, "open", kinds(store.DeadLetterFilter{}), []string{"hint", "run"})
		same(t, "all", kinds(store.DeadLetterFilter{All: true}), []string{"hint", "run", "event"})
		first.Resolved, first.Resolution = e.now, "replayed"
		same(t, "by id", list(store.DeadLetterFilter{ID: "one"}), []store.DeadLetter{first})
		e.reopen()
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "stats", st.DeadLetters, 2)
	},
	"small values": func(t *testing.T, e *env) {
		v, err := e.Get(e.ctx, "k")
		e.noError(err)
		if v != nil {
			t.Fatalf("got %q", v)
		}
		v, err = e.PutIfAbsent(e.ctx, "k", []byte("a\x00"))
		e.noError(err)
		same(t, "first", v, []byte("a\x00"))
		v, err = e.PutIfAbsent(e.ctx, "k", []byte("b"))
		e.noError(err)
		same(t, "stands", v, []byte("a\x00"))
		e.noError(e.Put(e.ctx, "k", []byte("c")))
		e.noError(e.Put(e.ctx, "empty", nil))
		e.reopen()
		v, err = e.Get(e.ctx, "k")
		e.noError(err)
		same(t, "put", v, []byte("c"))
		v, err = e.Get(e.ctx, "empty")
		e.noError(err)
		if v == nil || len(v) != 0 {
			t.Fatalf("an empty value is %v", v)
		}
	},
	"flows keep their first source": func(t *testing.T, e *env) {
		e.noError(e.PutFlow(e.ctx, store.FlowVersion{Version: "v", Name: "a", Bundle: map[string]string{"a": "1"}}))
		e.noError(e.PutFlow(e.ctx, store.FlowVersion{Version: "v", Name: "a", Bundle: map[string]string{"a": "2"}}))
		f, err := e.FlowVersion(e.ctx, "v")
		e.noError(err)
		same(t, "bundle", f.Bundle, map[string]string{"a": "1"})
		if err := e.PutFlow(e.ctx, store.FlowVersion{Name: "a"}); err == nil {
			t.Fatal("a flow without a version was taken")
		}
	},
	"an ended context changes nothing": func(t *testing.T, e *env) {
		why := errors.New("the caller left")
		ctx, cancel := context.WithCancelCause(e.ctx)
		cancel(why)
		_, err := e.AddHints(ctx, []store.Hint{e.hint("a")})
		e.wantError(err, why)
		_, err = e.Ingest(ctx, store.Ingest{Now: e.now, Events: []store.Incoming{{Event: e.news("k", 1, "a")}}})
		e.wantError(err, why)
		e.wantError(e.Put(ctx, "k", []byte("v")), why)
		_, err = e.Get(ctx, "k")
		e.wantError(err, why)
		_, err = e.ClaimRuns(ctx, store.RunClaim{Owner: "w", Limit: 1, Now: e.now, LeaseUntil: e.now.Add(time.Minute)})
		e.wantError(err, why)
		same(t, "hints", e.claimHints(1), nil)
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "stats", st, store.Stats{})
	},
	"a closed store says so": func(t *testing.T, e *env) {
		e.noError(e.Close())
		e.shut = true
		if err := e.Put(e.ctx, "k", nil); err == nil {
			t.Fatal("written after the end")
		}
		if _, err := e.Get(e.ctx, "k"); err == nil {
			t.Fatal("read after the end")
		}
		if _, err := e.ClaimRuns(e.ctx, store.RunClaim{Owner: "w", Limit: 1, Now: e.now, LeaseUntil: e.now.Add(time.Minute)}); err == nil {
			t.Fatal("claimed after the end")
		}
	},
}
