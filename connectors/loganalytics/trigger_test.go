package loganalytics_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// polled is what polls brought.
type polled struct {
	ids      map[string]int // of events
	keys     map[string]int // of objects
	rejected int
	cursor   any
	err      error
}

func (p *polled) poll(t *testing.T, b *bench) {
	t.Helper()
	pages, err := b.Poll(t.Context(), "query", p.cursor)
	p.err = err
	for _, page := range pages {
		for _, e := range page.Events {
			if err := e.Check(); err != nil {
				t.Errorf("%v in %s", err, e.Data)
			}
			p.ids[e.ID]++
			p.keys[e.PartitionKey]++
		}
		p.rejected += len(page.Rejected)
		p.cursor = page.Cursor
	}
}

func newPolled() *polled { return &polled{ids: map[string]int{}, keys: map[string]int{}} }

func at(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

var findings = []azurefake.Column{
	{Name: "TimeGenerated", Type: "datetime"}, {Name: "id", Type: "string"}, {Name: "n", Type: "long"}, {Name: azurefake.IngestedColumn, Type: "datetime"},
}

func TestScheduledQueryBringsEachRowOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, object{"trigger": object{"query": "Findings | where id == p | project TimeGenerated, id, n", "params": object{"p": "x"}, "key_columns": []string{"id", "n"}}})
	now := time.Now()
	table := azurefake.Table{Columns: findings}
	for i := range 50 {
		when := now.Add(-time.Duration(i*29) * time.Minute)
		table.Rows = append(table.Rows, []any{at(when), "x", i, at(when.Add(time.Second - time.Minute))})
	}
	table.Rows = append(table.Rows, []any{at(now), "y", 0, at(now.Add(-time.Minute))})
	b.logs.SetTable("Findings", table, 0)
	p := newPolled()
	p.poll(t, b)
	if p.err != nil || len(p.ids) != 50 || len(p.keys) != 50 {
		t.Fatalf("%d events of %d objects, %v", len(p.ids), len(p.keys), p.err)
	}
	// One that came late, and one that is too young to be seen yet; all others again from the overlap only.
	b.logs.AddRows("Findings", []any{at(now.Add(-30 * time.Hour)), "x", 100, at(now.Add(-time.Minute))}, []any{at(now), "x", 101, at(now.Add(time.Hour))})
	p.poll(t, b)
	if p.err != nil || len(p.ids) != 51 || len(p.keys) != 51 {
		t.Errorf("%d events of %d objects, %v", len(p.ids), len(p.keys), p.err)
	}
	again := 0
	for _, n := range p.ids {
		again += n - 1
	}
	if again > 2 {
		t.Errorf("%d rows came again from an overlap of ten minutes", again)
	}
}

func TestScheduledQueryHalvesItsWindow(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, object{"trigger": object{"query": "Findings", "by": "time", "max_rows": 10, "lookback": "2h", "overlap": "0s"}})
	now := time.Now()
	table := azurefake.Table{Columns: findings[:3]}
	for i := range 115 {
		table.Rows = append(table.Rows, []any{at(now.Add(-time.Duration(i)*time.Minute - time.Second)), fmt.Sprint(i), i})
	}
	b.logs.SetTable("Findings", table, 0)
	p := newPolled()
	p.poll(t, b)
	if p.err != nil || len(p.ids) != 115 {
		t.Fatalf("%d events, %v", len(p.ids), p.err)
	}
	for id, n := range p.ids {
		if n > 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	// More in an instant than a window may hold is told. The instant is where the next window begins.
	var cur struct{ Until time.Time }
	if err := json.Unmarshal(p.cursor.(json.RawMessage), &cur); err != nil {
		t.Fatal(err)
	}
	for i := range 11 {
		b.logs.AddRows("Findings", []any{at(cur.Until), "burst", i})
	}
	for begun := time.Now(); p.err == nil && time.Since(begun) < time.Minute; { // until there is a window
		p.poll(t, b)
	}
	if p.err == nil || !strings.Contains(p.err.Error(), "max_rows = 10") {
		t.Errorf("%v", p.err)
	}
}

func TestScheduledQueryWithItsOwnWindow(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, object{"trigger": object{
		"query": "\nFindings\n| summarize n = count() by id, bin(window_start, 1h)", "overlap": "0s", "delay": "5m", "lookback": "3h",
	}})
	b.logs.SetQuery(func(_, query, span string) (azurefake.Result, error) {
		if !strings.HasPrefix(query, "let window_start = datetime(2") || !strings.Contains(query, "let window_end = datetime(2") || span != "" {
			t.Errorf("%q, %q", query, span)
		}
		return canned(findings[1:3], []any{"a", len(b.logs.Asked())}), nil
	})
	p := newPolled()
	p.poll(t, b)
	if p.err != nil || len(p.ids) != 3 || len(b.logs.Asked()) != 3 {
		t.Errorf("%d events, %d queries, %v", len(p.ids), len(b.logs.Asked()), p.err)
	}
	var cur struct{ Until time.Time }
	if err := json.Unmarshal(p.cursor.(json.RawMessage), &cur); err != nil || time.Since(cur.Until) < 5*time.Minute {
		t.Errorf("the cursor is at %s, %v", cur.Until, err)
	}
	b.logs.SetQuery(func(_, _, _ string) (azurefake.Result, error) {
		return azurefake.Result{}, azurefake.ErrTimeout
	})
	p.cursor = nil
	p.poll(t, b)
	var e *sdk.Error
	if !errors.As(p.err, &e) || e.Class() != plugin.ClassTimeout || !strings.Contains(p.err.Error(), "window 2") {
		t.Errorf("%v", p.err)
	}
}

func TestScheduledRowsWithoutAKeyAreRejected(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, object{"trigger": object{"query": "Findings | project id", "by": "time", "key_columns": []string{"id"}}})
	now := time.Now().Add(-time.Minute)
	b.logs.SetTable("Findings", azurefake.Table{Columns: findings[:3], Rows: [][]any{{at(now), nil, 1}, {at(now), "a", 2}}}, 0)
	p := newPolled()
	p.poll(t, b)
	if p.err != nil || len(p.ids) != 1 || p.rejected != 1 {
		t.Errorf("%+v", p)
	}
}

func TestScheduledQueryConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		trigger object
		field   string
	}{
		{object{}, "/trigger/query"},
		{object{"query": "T | summarize count()"}, "/trigger/overlap"},
		{object{"query": "T | where (x"}, "/trigger/query"},
		{object{"query": "T", "overlap": "soon"}, "/trigger/overlap"},
		{object{"query": "T", "window": "1s"}, "/trigger/window"},
		{object{"query": "T", "time_column": "a b"}, "/trigger/time_column"},
		{object{"query": "T", "params": object{"a b": 1}}, "/trigger"},
		{object{"query": "T", "params": object{"window_start": 1}}, "/trigger/params"},
		{object{"query": "T", "by": "luck"}, "/trigger/by"},
	} {
		_, err := sdktest.Try(t, loganalytics.Connector(), object{"credential": object{"token": "t"}, "workspace": "w", "trigger": tc.trigger})
		var e *sdk.Error
		if !errors.As(err, &e) || len(e.Violations) == 0 || e.Violations[0].Field != tc.field {
			t.Errorf("%v: %v, want %s", tc.trigger, err, tc.field)
		}
	}
	b := newBench(t, azurefake.Options{}, nil)
	if _, err := b.Poll(t.Context(), "query", nil); err == nil || !strings.Contains(err.Error(), "trigger") {
		t.Errorf("polled without a query: %v", err)
	}
	b = newBench(t, azurefake.Options{}, object{"trigger": object{"query": "Nothing | where x == \"y\""}})
	probes, err := b.Check(t.Context())
	if p := last(probes); err != nil || p.Name != "trigger" || p.Status != sdk.ProbeOK {
		t.Errorf("%+v, %v", probes, err)
	}
	b.logs.SetTable("Nothing", azurefake.Table{Columns: findings}, 0)
	probes, err = b.Check(t.Context())
	if p := last(probes); err != nil || p.Status != sdk.ProbeFailed || !strings.Contains(p.Summary, "'x'") {
		t.Errorf("%+v, %v", probes, err)
	}
}

func last(probes []sdk.Probe) sdk.Probe {
	if len(probes) == 0 {
		return sdk.Probe{}
	}
	return probes[len(probes)-1]
}
