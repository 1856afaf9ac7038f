package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin/event"
)

func (e *env) object(name string) store.Object {
	e.t.Helper()
	o, err := e.Object(e.ctx, name)
	e.noError(err)
	return o
}

func (e *env) verdict(what string, ev event.Event, want store.Verdict, runs int) {
	e.t.Helper()
	out := e.ingest(ev, toCase())
	if out.Verdict != want || len(out.Runs) != runs {
		e.t.Fatalf("%s: verdict %s with %d runs, want %s with %d", what, out.Verdict, len(out.Runs), want, runs)
	}
}

// large is JSON of more than 256 KiB.
func large(seed string) json.RawMessage {
	return json.RawMessage(`{"seed":"` + seed + `","fill":"` + strings.Repeat("0123456789abcdef", 20<<10) + `"}`)
}

var ingestTests = map[string]func(*testing.T, *env){
	"verdicts": func(t *testing.T, e *env) {
		e.verdict("the first", e.news("k", 5, "aa"), store.Accepted, 1)
		e.verdict("the same", e.news("k", 5, "aa"), store.Duplicate, 0)
		e.verdict("older", e.news("k", 4, "bb"), store.Stale, 0)
		e.verdict("older, twice", e.news("k", 4, "bb"), store.Duplicate, 0)
		e.verdict("newer without change", e.news("k", 6, "aa"), store.Unchanged, 0)
		e.verdict("between", e.news("k", 5, "cc"), store.Stale, 0)
		e.verdict("equal revision, other digest", e.news("k", 6, "dd"), store.Accepted, 1)
		e.verdict("back to what it was", e.news("k", 7, "aa"), store.Accepted, 1)
		o := e.object("k")
		same(t, "object", o, store.Object{
			Key: "k", FirstKey: "k", GroupKey: "k", Rev: fmt.Sprintf("%015d", 7), Digest: "aa",
			Source: "https://alerts.example/k", EventID: "ev-k-7-aa", Updated: e.now,
		})
		st, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "events", st.Events, map[store.Verdict]int{store.Accepted: 3, store.Stale: 2, store.Unchanged: 1})
		same(t, "via", st.EventsVia, map[store.Via]int{store.ViaPoll: 3})
		same(t, "runs", st.Runs, map[store.RunState]int{store.RunReady: 3})
		e.reopen()
		e.verdict("the same after a restart", e.news("k", 5, "aa"), store.Duplicate, 0)
		again, err := e.Stats(e.ctx)
		e.noError(err)
		same(t, "stats after a restart", again, st)
	},
	"an id is an id of its source": func(_ *testing.T, e *env) {
		a, b := e.news("a", 1, "x"), e.news("b", 1, "x")
		b.ID = a.ID
		e.verdict("one source", a, store.Accepted, 1)
		e.verdict("another", b, store.Accepted, 1)
		e.verdict("the first again", a, store.Duplicate, 0)
	},
	"the whole event comes back": func(t *testing.T, e *env) {
		ev := event.Event{
			ID: "0123456789abcdef0123456789abcdef", Source: "https://graph.example/t/security/alerts_v2", Type: event.TypeAlert,
			Subject: "da1", Time: e.now.Add(-time.Minute), DataSchema: "https://schema.example/1.8.0/classes/detection_finding",
			PartitionKey: "msalert:t:1", CorrelationID: "msincident:t:7", CausationID: "cause", Tenant: "entra", Rev: "000001900000000",
			Digest: "0011223344556677", TLP: "amber", PAP: "green", Aliases: []string{"one", "two\nlines", "zero\x00byte"},
			TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Data: json.RawMessage(`{"message":"günstig ✓"}`),
		}
		in := store.Ingest{
			Connection: "alerts", Trigger: "poll", Tenant: "acme", Via: store.ViaPush, Now: e.now,
			Events: []store.Incoming{{Event: ev}},
		}
		_, err := e.Ingest(e.ctx, in)
		e.noError(err)
		e.reopen()
		got, err := e.Event(e.ctx, ev.Source, ev.ID)
		e.noError(err)
		want := store.EventRecord{
			Event: ev, Connection: "alerts", Trigger: "poll", Via: store.ViaPush, Verdict: store.Accepted, Received: e.now,
			ObjectKey: "msalert:t:1",
		}
		same(t, "event", got, want)
		list, err := e.Events(e.ctx, store.EventFilter{})
		e.noError(err)
		same(t, "events", list, []store.EventRecord{want})
		same(t, "object by alias", e.object("two\nlines").Key, "msalert:t:1")
		same(t, "group", e.object("msalert:t:1").GroupKey, "msincident:t:7")
		_, err = e.Event(e.ctx, "https://elsewhere.example", ev.ID)
		e.wantError(err, store.ErrNotFound)
		_, err = e.Object(e.ctx, "nobody")
		e.wantError(err, store.ErrNotFound)
	},
	"filters of events": func(t *testing.T, e *env) {
		for i := range 6 {
			ev := e.news("k"+strconv.Itoa(i%2), i, "d"+strconv.Itoa(i), "alias"+strconv.Itoa(i%2))
			e.ingest(ev)
			e.pass(time.Second)
		}
		e.verdict("stale", e.news("k0", 1, "old"), store.Stale, 0)
		list := func(f store.EventFilter) (ids []string) {
			t.Helper()
			got, err := e.Events(e.ctx, f)
			e.noError(err)
			for _, r := range got {
				ids = append(ids, r.ID)
			}
			return ids
		}
		all := []string{"ev-k0-1-old", "ev-k1-5-d5", "ev-k0-4-d4", "ev-k1-3-d3", "ev-k0-2-d2", "ev-k1-1-d1", "ev-k0-0-d0"}
		same(t, "all", list(store.EventFilter{}), all)
		same(t, "limit", list(store.EventFilter{Limit: 2}), all[:2])
		same(t, "key", list(store.EventFilter{ObjectKey: "k1"}), []string{all[1], all[3], all[5]})
		same(t, "alias", list(store.EventFilter{ObjectKey: "alias1", Limit: 2}), []string{all[1], all[3]})
		same(t, "subject", list(store.EventFilter{Subject: "subject-k0"}), []string{all[0], all[2], all[4], all[6]})
		same(t, "verdict", list(store.EventFilter{Verdict: store.Stale}), all[:1])
		same(t, "via", list(store.EventFilter{Via: store.ViaPush}), nil)
		same(t, "before", list(store.EventFilter{Before: epoch.Add(2 * time.Second)}), all[5:])
		same(t, "key and before", list(store.EventFilter{ObjectKey: "k0", Before: epoch.Add(2 * time.Second)}), all[6:])
		same(t, "unknown key", list(store.EventFilter{ObjectKey: "zz"}), nil)
	},
	"events of one call see each other": func(t *testing.T, e *env) {
		a, b := e.news("k", 2, "x", "n"), e.news("k", 1, "y")
		out, err := e.Ingest(e.ctx, store.Ingest{
			Connection: testConnection, Trigger: testTrigger, Now: e.now,
			Events: []store.Incoming{{Event: a, Runs: []store.NewRun{toCase(), toCase()}}, {Event: a, Runs: []store.NewRun{toCase()}}, {Event: b}},
		})
		e.noError(err)
		same(t, "verdicts", []store.Verdict{out[0].Verdict, out[1].Verdict, out[2].Verdict},
			[]store.Verdict{store.Accepted, store.Duplicate, store.Stale})
		same(t, "runs", []int{len(out[0].Runs), len(out[1].Runs), len(out[2].Runs)}, []int{2, 0, 0})
	},
	"an alert with a case takes it along into an incident that has none": func(t *testing.T, e *env) {
		first, second := e.news("k", 1, "a"), e.news("k", 2, "b")
		second.CorrelationID = "msincident:t:9"
		e.ingest(first, store.NewRun{Flow: "f", GroupBy: "incident"})
		same(t, "keys", caseKeys(t, e, e.ingest(second, grouped())), []string{"k", ""})
		same(t, "group", e.object("k").GroupKey, "msincident:t:9")
		e.reopen()
		third := e.news("m", 1, "a")
		third.CorrelationID = "msincident:t:9"
		same(t, "the next alert of the incident", caseKeys(t, e, e.ingest(third, grouped())), []string{"k", ""})
	},
	"an alert with a case that joins an incident with a case ends its own": func(t *testing.T, e *env) {
		other := e.news("m", 1, "a")
		other.CorrelationID = "msincident:t:9"
		e.ingest(other, grouped())
		e.ingest(e.news("k", 1, "a"), grouped())
		late := e.news("k", 2, "b")
		late.CorrelationID = "msincident:t:9"
		same(t, "keys", caseKeys(t, e, e.ingest(late, grouped())), []string{"msincident:t:9", "k"})
		e.reopen()
		again := e.news("k", 3, "c")
		again.CorrelationID = "msincident:t:9"
		same(t, "said once", caseKeys(t, e, e.ingest(again, grouped())), []string{"msincident:t:9", ""})
	},
	"an alert that moves to another incident joins nothing": func(t *testing.T, e *env) {
		for i, incident := range []string{"i1", "i2", "i1"} {
			ev := e.news("k", i+1, string(rune('a'+i)))
			ev.CorrelationID = incident
			same(t, incident, caseKeys(t, e, e.ingest(ev, grouped())), []string{incident, ""})
		}
	},
	"an incident that was merged ends in the other": func(t *testing.T, e *env) {
		for _, incident := range []string{"i1", "i2"} {
			e.ingest(e.news(incident, 1, "a"), grouped())
		}
		merge := store.Incoming{Event: e.news("i1", 2, "b"), MergedInto: "i2", Runs: []store.NewRun{grouped()}}
		out, err := e.Ingest(e.ctx, store.Ingest{Connection: testConnection, Trigger: testTrigger, Now: e.now, Events: []store.Incoming{merge}})
		e.noError(err)
		same(t, "the loser's run", caseKeys(t, e, out[0]), []string{"i2", "i1"})
		alert := e.news("k", 1, "a")
		alert.CorrelationID = "i1"
		same(t, "an alert that still names the loser", caseKeys(t, e, e.ingest(alert, grouped())), []string{"i2", ""})
		again := store.Incoming{Event: e.news("i2", 2, "b"), MergedInto: "i3", Runs: []store.NewRun{grouped()}}
		out, err = e.Ingest(e.ctx, store.Ingest{Connection: testConnection, Trigger: testTrigger, Now: e.now, Events: []store.Incoming{again}})
		e.noError(err)
		same(t, "merged into one that nobody has a case for", caseKeys(t, e, out[0]), []string{"i2", ""})
		same(t, "which goes by the old name", caseKeys(t, e, e.ingest(e.news("i3", 1, "a"), grouped())), []string{"i2", ""})
	},
	"an incident that is first seen when it was merged ends in the other": func(t *testing.T, e *env) {
		for i, incident := range []string{"i1", "i2"} {
			alert := e.news(fmt.Sprint("k", i), 1, "a")
			alert.CorrelationID = incident
			e.ingest(alert, grouped())
		}
		late := e.news("i1", 2, "b")
		late.CorrelationID = "i2" // as one says of itself that was merged
		out, err := e.Ingest(e.ctx, store.Ingest{
			Connection: testConnection, Trigger: testTrigger, Now: e.now,
			Events: []store.Incoming{{Event: late, MergedInto: "i2", Runs: []store.NewRun{grouped()}}},
		})
		e.noError(err)
		same(t, "the loser's run", caseKeys(t, e, out[0]), []string{"i2", "i1"})
		alert := e.news("k3", 1, "a")
		alert.CorrelationID = "i1"
		same(t, "an alert that still names the loser", caseKeys(t, e, e.ingest(alert, grouped())), []string{"i2", ""})
	},
	"incidents whose cases go by another id are merged under those": func(t *testing.T, e *env) {
		for i, incident := range []string{"s1", "s2"} {
			ev := e.news(incident, 1, "a")
			ev.CorrelationID = fmt.Sprint("d", i+1)
			same(t, incident, caseKeys(t, e, e.ingest(ev, grouped())), []string{ev.CorrelationID, ""})
		}
		merge := e.news("s1", 2, "b")
		merge.CorrelationID = "s2"
		out, err := e.Ingest(e.ctx, store.Ingest{
			Connection: testConnection, Trigger: testTrigger, Now: e.now,
			Events: []store.Incoming{{Event: merge, MergedInto: "s2", Runs: []store.NewRun{grouped()}}},
		})
		e.noError(err)
		same(t, "the loser's run", caseKeys(t, e, out[0]), []string{"d2", "d1"})
		next := e.news("s2", 2, "b")
		next.CorrelationID = "d2"
		same(t, "the winner", caseKeys(t, e, e.ingest(next, grouped())), []string{"d2", ""})
		alert := e.news("k", 1, "a")
		alert.CorrelationID = "d1"
		same(t, "an alert that still names the loser", caseKeys(t, e, e.ingest(alert, grouped())), []string{"d2", ""})
	},
	"a run under a name that has ended begins again under the other": func(t *testing.T, e *env) {
		alert := func(key, incident string) {
			ev := e.news(key, 1, "a")
			ev.CorrelationID = incident
			e.ingest(ev, grouped())
		}
		alert("w", "i2")
		e.end(e.one("w"), store.RunSucceeded)
		alert("k", "i1")
		first := e.one("w")
		alert("m", "i1")
		queued := e.one("w")
		ev := e.news("n", 1, "a")
		ev.CorrelationID = "i1"
		e.ingest(ev, store.NewRun{Flow: "f", GroupBy: "alert"})
		alone := e.one("w")

		began := func(r store.Run, key string, current bool) error {
			effect := store.Effect{EffectKey: store.EffectKey{Connection: "c", Action: "case", Key: key}, Path: "case", Updated: e.now, Current: current}
			_, err := e.BeginEffect(e.ctx, lease(r), effect, []store.Step{{Path: "case", State: store.StepIntent, Key: key}})
			return err
		}
		e.noError(began(first, "i1", true))
		merge := store.Incoming{Event: e.news("i1", 2, "b"), MergedInto: "i2", Runs: []store.NewRun{grouped()}}
		out, err := e.Ingest(e.ctx, store.Ingest{Connection: testConnection, Trigger: testTrigger, Now: e.now, Events: []store.Incoming{merge}})
		e.noError(err)
		same(t, "the merge", caseKeys(t, e, out[0]), []string{"i2", "i1"})

		e.wantError(began(queued, "m", true), store.ErrRegrouped)
		_, err = e.Effect(e.ctx, store.EffectKey{Connection: "c", Action: "case", Key: "m"})
		e.wantError(err, store.ErrNotFound)
		steps, err := e.Steps(e.ctx, queued.ID)
		e.noError(err)
		same(t, "journal of what was refused", len(steps), 0)
		e.noError(began(alone, "alone", true))
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(alone), Now: e.now, State: store.RunSucceeded, Current: true}))

		done := store.Advance{
			Lease: lease(first), Now: e.now, State: store.RunSucceeded, Output: []byte(`{}`), Current: true,
			Steps:   []store.Step{{Path: "case", State: store.StepSucceeded, Key: "i1"}},
			Effects: []store.Effect{{EffectKey: store.EffectKey{Connection: "c", Action: "case", Key: "i1"}, State: store.EffectDone, Result: []byte(`1`)}},
		}
		e.wantError(e.Advance(e.ctx, done), store.ErrRegrouped)
		again := done
		again.Current, again.Regroup = false, true
		if err := e.Advance(e.ctx, again); err == nil {
			t.Fatal("a run that has ended cannot begin again")
		}
		effect, err := e.Effect(e.ctx, done.Effects[0].EffectKey)
		e.noError(err)
		same(t, "what was refused", effect.State, store.EffectIntent)

		again.State, again.NotBefore, again.MergedKey, again.Output = store.RunWaiting, e.now, "i1", nil
		again.Steps = []store.Step{{Path: "told", State: store.StepSucceeded}}
		e.noError(e.Advance(e.ctx, again))
		e.noError(e.Advance(e.ctx, store.Advance{Lease: lease(queued), Now: e.now, State: store.RunWaiting, NotBefore: e.now, Regroup: true}))
		if effect, err = e.Effect(e.ctx, done.Effects[0].EffectKey); err != nil || effect.State != store.EffectDone {
			t.Fatalf("effect %+v, %v", effect, err)
		}
		e.reopen()
		keys := map[string][]string{}
		for _, r := range e.claim("w", 9) {
			keys[r.ID] = []string{r.CaseKey, r.MergedKey}
		}
		same(t, "keys", keys, map[string][]string{first.ID: {"i2", "i1"}, queued.ID: {"i2", ""}, out[0].Runs[0]: {"i2", "i1"}})
		if steps, err = e.Steps(e.ctx, first.ID); err != nil || len(steps) != 1 || steps[0].Path != "told" {
			t.Fatalf("journal %+v, %v", steps, err)
		}
	},
	"case keys": func(t *testing.T, e *env) {
		third := e.news("m", 1, "a")
		third.CorrelationID = "msincident:t:9"
		out := e.ingest(third, store.NewRun{Flow: "f", GroupBy: "incident"}, store.NewRun{Flow: "f", GroupBy: "alert"},
			store.NewRun{Flow: "f", CaseKey: "mine", GroupBy: "incident"})
		var keys []string
		for _, id := range out.Runs {
			r, err := e.Run(e.ctx, id)
			e.noError(err)
			keys = append(keys, r.CaseKey)
		}
		same(t, "case keys", keys, []string{"msincident:t:9", "m", "mine"})
	},
	"aliases join objects": func(t *testing.T, e *env) {
		e.verdict("first surface", e.news("m", 5, "a", "shared", "own"), store.Accepted, 1)
		e.verdict("second surface, older", e.news("z", 4, "b", "shared"), store.Stale, 0)
		e.verdict("third, newer, smaller", e.news("b", 6, "c", "own", "shared"), store.Accepted, 1)
		for _, name := range []string{"m", "z", "b", "own", "shared"} {
			o := e.object(name)
			same(t, name, []string{o.Key, o.FirstKey, o.GroupKey, o.Rev}, []string{"b", "m", "m", fmt.Sprintf("%015d", 6)})
		}
		runs, err := e.ListRuns(e.ctx, store.RunFilter{OrderKey: "m"})
		e.noError(err)
		same(t, "one line of runs", len(runs), 2)
		same(t, "one case", []string{runs[0].CaseKey, runs[1].CaseKey}, []string{"m", "m"})
	},
	"objects that turn out to be one are merged": func(t *testing.T, e *env) {
		e.ingest(e.news("y", 5, "a", "ya"), toCase())
		e.ingest(e.news("c", 9, "b", "ca"), toCase())
		e.ingest(e.news("x", 1, "c", "xa"), toCase())
		e.reopen()
		e.verdict("the link", e.news("y", 7, "d", "ca", "xa"), store.Stale, 0)
		for _, name := range []string{"y", "ya", "c", "ca", "x", "xa"} {
			o := e.object(name)
			same(t, name, []string{o.Key, o.FirstKey, o.GroupKey, o.Digest}, []string{"c", "y", "y", "b"})
		}
		events, err := e.Events(e.ctx, store.EventFilter{ObjectKey: "xa"})
		e.noError(err)
		same(t, "events of all three and the link", len(events), 4)
		for _, ev := range events {
			same(t, "object key", ev.ObjectKey, "c")
		}
		e.verdict("news on any surface", e.news("x", 10, "e"), store.Accepted, 1)
		runs, err := e.ListRuns(e.ctx, store.RunFilter{OrderKey: "y"})
		e.noError(err)
		same(t, "the oldest's line goes on", len(runs), 2)
		same(t, "its case too", runs[0].CaseKey, "y")
		for key, want := range map[string]int{"c": 1, "x": 1, "ca": 0} {
			runs, err := e.ListRuns(e.ctx, store.RunFilter{OrderKey: key})
			e.noError(err)
			same(t, "runs from before under "+key, len(runs), want)
		}
	},
	"tenants keep their names apart": func(t *testing.T, e *env) {
		in := store.Ingest{Connection: testConnection, Trigger: testTrigger, Now: e.now, Events: []store.Incoming{{Event: e.news("k1", 1, "a", "17")}}}
		in.Tenant = "acme"
		_, err := e.Ingest(e.ctx, in)
		e.noError(err)
		in.Tenant, in.Events = "globex", []store.Incoming{{Event: e.news("k2", 1, "b", "17"), Runs: []store.NewRun{toCase()}}}
		out, err := e.Ingest(e.ctx, in)
		e.noError(err)
		same(t, "not merged", []string{e.object("k1").Key, e.object("k2").Key}, []string{"k1", "k2"})
		r, err := e.Run(e.ctx, out[0].Runs[0])
		e.noError(err)
		same(t, "tenant of the run", r.Tenant, "globex")
	},
	"cursor and events go together": func(t *testing.T, e *env) {
		c, err := e.Cursor(e.ctx, testConnection, testTrigger)
		e.noError(err)
		if c != nil {
			t.Fatalf("cursor %q before any", c)
		}
		in := store.Ingest{
			Connection: testConnection, Trigger: testTrigger, Now: e.now, Cursor: []byte("c1\x00\xff"),
			Events: []store.Incoming{{Event: e.news("k", 1, "a")}},
		}
		_, err = e.Ingest(e.ctx, in)
		e.noError(err)
		in.Cursor, in.Events = nil, []store.Incoming{{Event: e.news("k", 2, "b")}}
		_, err = e.Ingest(e.ctx, in)
		e.noError(err)
		in.Cursor, in.Events = []byte("c2"), []store.Incoming{{Event: e.news("k", 3, "c")}, {Event: event.Event{ID: "no key"}}}
		if _, err = e.Ingest(e.ctx, in); err == nil {
			t.Fatal("an event without source and key was taken")
		}
		e.reopen()
		c, err = e.Cursor(e.ctx, testConnection, testTrigger)
		e.noError(err)
		same(t, "cursor", c, []byte("c1\x00\xff"))
		same(t, "object", e.object("k").EventID, "ev-k-2-b")
		_, err = e.Event(e.ctx, "https://alerts.example/k", "ev-k-3-c")
		e.wantError(err, store.ErrNotFound)
		c, err = e.Cursor(e.ctx, testConnection, "other")
		e.noError(err)
		same(t, "another trigger's", c, nil)
	},
	"large payloads come back whole": func(t *testing.T, e *env) {
		ev := e.news("k", 1, "a")
		ev.Data = large("event")
		run := toCase()
		run.Input = large("event") // the same bytes: kept once
		out := e.ingest(ev, run)
		e.reopen()
		got, err := e.Event(e.ctx, ev.Source, ev.ID)
		e.noError(err)
		r, err := e.Run(e.ctx, out.Runs[0])
		e.noError(err)
		claimed := e.one("w")
		if !bytes.Equal(got.Data, ev.Data) || !bytes.Equal(r.Input, ev.Data) || !bytes.Equal(claimed.Input, ev.Data) {
			t.Fatal("the payload changed")
		}
	},
	"a run that cannot start stays visible": func(t *testing.T, e *env) {
		dead := toCase()
		dead.State, dead.Reason = store.RunDeadLetter, "the flow does not compile"
		out := e.ingest(e.news("k", 1, "a"), dead, toCase())
		r, err := e.Run(e.ctx, out.Runs[0])
		e.noError(err)
		same(t, "state", []string{string(r.State), r.Reason}, []string{"dead_letter", dead.Reason})
		same(t, "ended", r.Ended, e.now)
		same(t, "claimed", runIDs(e.claim("w", 9)), out.Runs[1:])
		odd := toCase()
		odd.State = store.RunSucceeded
		if _, err := e.AddRuns(e.ctx, []store.NewRun{odd}); err == nil {
			t.Fatal("a run was born as succeeded")
		}
	},
}

func grouped() store.NewRun { return store.NewRun{Flow: "f", GroupBy: "incident"} }

// caseKeys are the case key and the merged key of the one run of an outcome.
func caseKeys(t *testing.T, e *env, out store.Outcome) []string {
	t.Helper()
	if len(out.Runs) != 1 {
		t.Fatalf("got %d runs, want 1", len(out.Runs))
	}
	r, err := e.Run(e.ctx, out.Runs[0])
	e.noError(err)
	return []string{r.CaseKey, r.MergedKey}
}
