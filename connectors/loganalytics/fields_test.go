package loganalytics_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func TestQueryMapsColumns(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	b.logs.SetRows("T", canned([]azurefake.Column{{Name: "Ip", Type: "string"}, {Name: "N", Type: "long"}, {Name: "Extra", Type: "string"}},
		[]any{"198.51.100.7", json.Number("9007199254740993"), `{"MFAUsed":"No"}`}, []any{nil, 2, ""}))
	in := object{"query": "T", "map": object{"src_endpoint.ip": "Ip", "n": "N", "mfa": "Extra.MFAUsed", "who": "User"}}
	rows, sum, err := b.query(t, in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"mfa":"No","n":9007199254740993,"src_endpoint":{"ip":"198.51.100.7"},"who":null}`,
		`{"mfa":null,"n":2,"src_endpoint":{"ip":null},"who":null}`,
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"map: the result has no column User (there are Ip, N, Extra); who is null"}, sum.Warnings); d != "" {
		t.Error(d)
	}
	columns := []loganalytics.Column{{Name: "mfa", Type: "dynamic"}, {Name: "n", Type: "long"}, {Name: "src_endpoint", Type: "dynamic"}, {Name: "who", Type: "dynamic"}}
	if d := cmp.Diff(columns, sum.Columns); d != "" || sum.RowCount != 2 {
		t.Errorf("%d rows\n%s", sum.RowCount, d)
	}
	// Nothing to map changes nothing; neither is there anything to warn of.
	rows, sum, err = b.query(t, object{"query": "T", "map": object{}, "normalize": "none"})
	if err != nil || !strings.HasPrefix(rows[0], `{"Ip":"198.51.100.7","N":`) || len(sum.Warnings) != 0 || sum.Warnings == nil {
		t.Errorf("%v %+v, %v", rows, sum, err)
	}
	// No rows: the columns are known all the same.
	b.logs.SetRows("Empty", canned([]azurefake.Column{{Name: "Ip", Type: "string"}}))
	if _, sum, err = b.query(t, object{"query": "Empty", "map": object{"a": "Ip", "b": "No"}}); err != nil || len(sum.Columns) != 2 || len(sum.Warnings) != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
	for _, bad := range []struct {
		in    object
		field string
	}{
		{object{"query": "T", "map": object{"a-b": "Ip"}}, "/map/a-b"},
		{object{"query": "T", "map": object{"a": ""}}, "/map/a"},
		{object{"query": "T", "map": object{"a": 1}}, "/map/a"},
		{object{"query": "T", "map": object{"a": "Ip", "a.b": "N"}}, "/map"},
		{object{"query": "T", "normalize": "aws"}, "/normalize"},
		{object{"query": "T", "map": object{"a": "Ip"}, "tables": "all"}, "/tables"},
	} {
		asked := len(b.logs.Asked())
		_, _, err := b.query(t, bad.in)
		e, ok := errors.AsType[*sdk.Error](err)
		if !ok || e.Class() != plugin.ClassInvalid || len(e.Violations) != 1 || e.Violations[0].Field != bad.field || len(b.logs.Asked()) != asked {
			t.Errorf("%v: %v", bad.in, err)
		}
	}
}

// What is split by time is mapped as what is not.
func TestQueryMapsSlices(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, nil)
	now := time.Now()
	table := azurefake.Table{Columns: []azurefake.Column{{Name: "TimeGenerated", Type: "datetime"}, {Name: "n", Type: "long"}}}
	for i := range 500 {
		table.Rows = append(table.Rows, []any{at(now.Add(-time.Duration(500-i) * time.Second)), i})
	}
	b.logs.SetTable("T", table, 100)
	rows, sum, err := b.query(t, object{"query": "T | order by TimeGenerated asc", "timespan": "PT1H", "map": object{"a.number": "n", "b": "None"}})
	if err != nil || len(rows) != 500 || sum.Slices < 2 || len(sum.Warnings) != 1 {
		t.Fatalf("%d rows, %+v, %v", len(rows), sum, err)
	}
	for i, row := range rows {
		if row != fmt.Sprintf(`{"a":{"number":%d},"b":null}`, i) {
			t.Fatalf("row %d is %s", i, row)
		}
	}
}

// A mapped trigger brings the fields and keeps the columns; what identifies a row is the row, so that another map brings
// nothing again.
func TestScheduledQueryMapsColumns(t *testing.T) {
	t.Parallel()
	now := time.Now()
	table := azurefake.Table{Columns: findings, Rows: [][]any{{at(now.Add(-time.Hour)), "198.51.100.7", 1, at(now.Add(-time.Hour))}}}
	brought := func(trigger object) (sdk.Event, []sdk.Probe) {
		t.Helper()
		trigger["query"] = "Findings"
		b := newBench(t, azurefake.Options{}, object{"trigger": trigger})
		b.logs.SetTable("Findings", table, 0)
		pages, err := b.Poll(t.Context(), "query", nil)
		if err != nil {
			t.Fatal(err)
		}
		var all []sdk.Event
		for _, p := range pages {
			all = append(all, p.Events...)
		}
		if len(all) != 1 || all[0].Check() != nil {
			t.Fatalf("%d events", len(all))
		}
		probes, err := b.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all[0], probes
	}
	plain, _ := brought(object{})
	mapped, probes := brought(object{"map": object{"src_endpoint.ip": "id", "gone": "Gone"}})
	if plain.PartitionKey != mapped.PartitionKey || plain.Digest != mapped.Digest {
		t.Errorf("%s %s became %s %s", plain.PartitionKey, plain.Digest, mapped.PartitionKey, mapped.Digest)
	}
	var data struct {
		Unmapped struct {
			Row, Columns json.RawMessage
			Query        struct{ Warnings []string }
		}
	}
	if err := json.Unmarshal(mapped.Data, &data); err != nil {
		t.Fatal(err)
	}
	u := data.Unmapped
	if string(u.Row) != `{"gone":null,"src_endpoint":{"ip":"198.51.100.7"}}` || !strings.Contains(string(u.Columns), `"id":"198.51.100.7"`) ||
		len(u.Query.Warnings) != 1 || !strings.Contains(u.Query.Warnings[0], "no column Gone") {
		t.Errorf("%s", mapped.Data)
	}
	warned := false
	for _, p := range probes {
		warned = warned || p.Name == "trigger" && p.Status == sdk.ProbeWarning && strings.Contains(p.Summary, "no column Gone")
	}
	if !warned {
		t.Errorf("%+v", probes)
	}
}
