package storetest

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
)

func (e *env) hint(id string) store.Hint {
	return store.Hint{Connection: testConnection, Trigger: testTrigger, ID: id, Data: json.RawMessage(`{"id":"` + id + `"}`), Received: e.now}
}

func (e *env) addHints(want int, ids ...string) {
	e.t.Helper()
	hints := make([]store.Hint, len(ids))
	for i, id := range ids {
		hints[i] = e.hint(id)
	}
	n, err := e.AddHints(e.ctx, hints)
	e.noError(err)
	if n != want {
		e.t.Fatalf("%d hints were new, want %d", n, want)
	}
}

func (e *env) claimHints(limit int) []store.Hint {
	e.t.Helper()
	out, err := e.ClaimHints(e.ctx, store.HintClaim{
		Connection: testConnection, Trigger: testTrigger, Limit: limit, Now: e.now, LeaseUntil: e.now.Add(time.Minute),
	})
	e.noError(err)
	return out
}

func (e *env) settleHints(done, retry []store.Hint) {
	e.t.Helper()
	_, err := e.Ingest(e.ctx, store.Ingest{Connection: testConnection, Trigger: testTrigger, Now: e.now, Done: done, Retry: retry})
	e.noError(err)
}

func hintIDs(hints []store.Hint) []string {
	out := make([]string, len(hints))
	for i, h := range hints {
		out[i] = h.ID
	}
	return out
}

func (e *env) due() time.Time {
	e.t.Helper()
	at, err := e.NextDue(e.ctx)
	e.noError(err)
	return at
}

var hintTests = map[string]func(*testing.T, *env){
	"kept once, handed out oldest first": func(t *testing.T, e *env) {
		e.addHints(3, "c", "a", "b")
		e.addHints(1, "a", "d", "a", "c")
		same(t, "first two", hintIDs(e.claimHints(2)), []string{"c", "a"})
		same(t, "others", hintIDs(e.claimHints(10)), []string{"b", "d"})
		same(t, "nothing left", hintIDs(e.claimHints(10)), nil)
	},
	"what comes back is what was given": func(t *testing.T, e *env) {
		want := e.hint("x")
		want.Data = json.RawMessage(`{"big":"` + strings.Repeat("x", 5000) + `"}`)
		_, err := e.AddHints(e.ctx, []store.Hint{want, {Connection: testConnection, Trigger: testTrigger, ID: "bare", Received: e.now}})
		e.noError(err)
		e.reopen()
		got := e.claimHints(2)
		same(t, "hints", got, []store.Hint{want, {Connection: testConnection, Trigger: testTrigger, ID: "bare", Received: e.now}})
	},
	"triggers do not mix": func(t *testing.T, e *env) {
		other, third := e.hint("x"), e.hint("x")
		other.Trigger, third.Connection = "incidents", "elsewhere"
		n, err := e.AddHints(e.ctx, []store.Hint{e.hint("x"), other, third})
		e.noError(err)
		same(t, "new", n, 3)
		got := e.claimHints(10)
		same(t, "claimed", got, []store.Hint{e.hint("x")})
		e.settleHints(got, nil)
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "left", st.Hints, 2)
	},
	"a lease that lapses makes them due again": func(t *testing.T, e *env) {
		e.addHints(2, "a", "b")
		same(t, "claimed", hintIDs(e.claimHints(10)), []string{"a", "b"})
		e.pass(59 * time.Second)
		same(t, "still leased", hintIDs(e.claimHints(10)), nil)
		e.pass(2 * time.Second)
		same(t, "lapsed", hintIDs(e.claimHints(1)), []string{"a"})
		same(t, "lapsed too", hintIDs(e.claimHints(1)), []string{"b"})
	},
	"done is gone, also after a restart": func(t *testing.T, e *env) {
		e.addHints(3, "a", "b", "c")
		got := e.claimHints(2)
		e.settleHints(got, nil)
		e.reopen()
		e.pass(time.Hour)
		same(t, "left", hintIDs(e.claimHints(10)), []string{"c"})
		e.settleHints([]store.Hint{e.hint("never there")}, nil)
	},
	"done before anybody looked": func(t *testing.T, e *env) {
		e.addHints(1, "a") // and the poll brings the alert first
		e.settleHints([]store.Hint{e.hint("a")}, nil)
		same(t, "left", hintIDs(e.claimHints(10)), nil)
		e.addHints(1, "a")
		same(t, "news", hintIDs(e.claimHints(10)), []string{"a"})
	},
	"retry waits, and remembers why": func(t *testing.T, e *env) {
		e.addHints(1, "a")
		h := e.claimHints(1)[0]
		h.Attempt, h.NotBefore, h.Reason = 3, e.now.Add(5*time.Minute), "404 so far"
		e.settleHints(nil, []store.Hint{h})
		same(t, "due", e.due(), h.NotBefore)
		e.pass(4 * time.Minute)
		same(t, "too early", e.claimHints(1), nil)
		e.addHints(0, "a") // waiting already
		e.reopen()
		same(t, "too early after a restart", e.claimHints(1), nil)
		e.pass(time.Minute)
		same(t, "due", e.claimHints(1), []store.Hint{h})
	},
	"retry brings back what is gone": func(t *testing.T, e *env) {
		e.addHints(1, "a")
		h := e.claimHints(1)[0]
		e.settleHints([]store.Hint{h}, nil)
		h.Attempt = 1
		e.settleHints(nil, []store.Hint{h})
		same(t, "back", e.claimHints(1), []store.Hint{h})
	},
	"a hint during its look-up is looked up again": func(t *testing.T, e *env) {
		e.addHints(1, "a")
		first := e.claimHints(1)
		e.pass(time.Second)
		e.addHints(1, "a") // what the look-up sees may be older than this
		e.addHints(0, "a")
		same(t, "not beside the first", e.claimHints(1), nil)
		e.settleHints(first, nil)
		again := e.claimHints(1)
		same(t, "again", hintIDs(again), []string{"a"})
		e.settleHints(again, nil)
		same(t, "and then no more", e.claimHints(1), nil)
	},
	"next due": func(t *testing.T, e *env) {
		same(t, "nothing", e.due(), time.Time{})
		h := e.hint("a")
		h.NotBefore = e.now.Add(time.Hour)
		_, err := e.AddHints(e.ctx, []store.Hint{h})
		e.noError(err)
		same(t, "later", e.due(), h.NotBefore)
		e.addHints(1, "b")
		if at := e.due(); at.IsZero() || at.After(e.now) {
			t.Fatalf("a hint is due now, NextDue says %v", at)
		}
	},
	"a nameless hint is refused": func(t *testing.T, e *env) {
		n, err := e.AddHints(e.ctx, []store.Hint{e.hint("a"), {Connection: testConnection, Trigger: testTrigger}})
		if err == nil || n != 0 {
			t.Fatalf("AddHints = %d, %v", n, err)
		}
		same(t, "none of them", e.claimHints(1), nil)
	},
	"many at once": func(t *testing.T, e *env) {
		ids := make([]string, 1000)
		for i := range ids {
			ids[i] = strconv.Itoa(i)
		}
		e.addHints(len(ids), ids...)
		got := e.claimHints(len(ids) + 1)
		same(t, "ids", hintIDs(got), ids)
		e.settleHints(got, nil)
		same(t, "due", e.due(), time.Time{})
	},
}
