package loganalytics

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func TestSplittable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		query string
		order direction
		why   string // empty: it can be split
	}{
		{"T", unordered, ""},
		{"T;", unordered, ""},
		{"T | where x == 1 | project a, b", unordered, ""},
		{"T // a | summarize\n| where x == \"| summarize\" // take 5", unordered, ""},
		{"let y = T | summarize count() by z;\nT | where z in (y)", unordered, ""},
		{"T | where x in ((U | summarize count() by x | project x))", unordered, ""},
		{"T | sort by TimeGenerated", descending, ""},
		{"T | order by TimeGenerated asc, x desc | project x", ascending, ""},
		{"T | sort by TimeGenerated desc nulls last", descending, ""},
		{"union A, B | where x", unordered, ""},
		{`workspace("w").T | extend y = 1 | mv-expand z | parse-where q with * "x" r`, unordered, ""},
		{"T | where TimeGenerated == ago(1d) | extend a = TimeGenerated", unordered, ""},
		{"T | lookup (U | summarize arg_max(TimeGenerated, *) by k) on k", unordered, ""},
		{"T | where msg == @\"c:\\\" | take 5", unordered, "take at 1:27"},
		{"T | where x\n| summarize count() by y", unordered, "summarize at 2:3"},
		{"T | take 5", unordered, "take at 1:5"},
		{"T | top 5 by x", unordered, "top at"},
		{"T | top-nested 3 of x by y", unordered, "top-nested at"},
		{"T | join kind=inner (U) on k", unordered, "join at"},
		{"T | union U", unordered, "union at"},
		{"T | distinct x", unordered, "distinct at"},
		{"T | count", unordered, "count at"},
		{"T | make-series c = count() on TimeGenerated step 1h", unordered, "make-series at"},
		{"T | evaluate bag_unpack(d)", unordered, "evaluate at"},
		{"T | serialize | extend p = prev(x)", unordered, "prev()"},
		{"T | sort by x asc", unordered, "by x and not by the time column"},
		{"T | sort by bin(TimeGenerated, 1h)", unordered, "not by the time column"},
		{"T | sort by TimeGenerated | mv-expand x", unordered, "comes after sort"},
		{"T | extend TimeGenerated = Start | sort by TimeGenerated", unordered, "makes a new TimeGenerated"},
		{"T | project TimeGenerated = Start, x", unordered, "makes a new TimeGenerated"},
		{"print x = 1", unordered, "print at 1:1"},
		{"range x from 1 to 5 step 1", unordered, "range at"},
		{"datatable(x: int)[1]", unordered, "datatable at"},
		{"T | where x == \"a", unordered, "does not end"},
		{"T | where (x", unordered, "not closed"},
		{"T | where x)", unordered, "closes nothing"},
		{"| where x", unordered, "begins with a pipe"},
		{"let x = 1;", unordered, "no table"},
		{"T |", unordered, "works on all rows"},
	} {
		p := analyze(tc.query)
		order, err := p.splittable("TimeGenerated")
		switch {
		case tc.why == "" && (err != nil || order != tc.order):
			t.Errorf("%s: %v, %v", tc.query, order, err)
		case tc.why != "" && tc.why != "no table" && (err == nil || !strings.Contains(err.Error(), tc.why)):
			t.Errorf("%s: %v, want %q", tc.query, err, tc.why)
		}
	}
}

func TestWith(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"T":                          "T | where C",
		"T // all of it\n| where x":  "T | where C // all of it\n| where x",
		"let a = 1; T | where x | y": "let a = 1; T | where C | where x | y",
		"union A, B\n| where x":      "union A, B | where C\n| where x",
		"T;":                         "T | where C;",
	} {
		if got := analyze(query).with("C"); got != want {
			t.Errorf("%q became %q, want %q", query, got, want)
		}
	}
}

func FuzzAnalyze(f *testing.F) {
	f.Add("T | where x == \"a\" // c\n| project y")
	f.Add("let x = ```a;b```; T | sort by TimeGenerated asc")
	f.Fuzz(func(_ *testing.T, query string) {
		p := analyze(query)
		if _, err := p.splittable("TimeGenerated"); err == nil {
			_ = p.with("x")
		}
	})
}

func TestTimespan(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{
		"PT24H":                          "2026-03-30T12:00:00Z/2026-03-31T12:00:00Z",
		"P1DT12H":                        "2026-03-30T00:00:00Z/2026-03-31T12:00:00Z",
		"P2W":                            "2026-03-17T12:00:00Z/2026-03-31T12:00:00Z",
		"P1Y":                            "2025-03-31T12:00:00Z/2026-03-31T12:00:00Z",
		"PT0.0000001S":                   "2026-03-31T11:59:59.9999999Z/2026-03-31T12:00:00Z",
		"2026-01-01/P1D":                 "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z",
		"PT1H/2026-01-01T00:00:00+02:00": "2025-12-31T21:00:00Z/2025-12-31T22:00:00Z",
		"2026-01-01T00:00:00Z/2026-01-01T00:00:00.1234567": "2026-01-01T00:00:00Z/2026-01-01T00:00:00.1234567Z",
	} {
		got, err := parseTimespan(s, now)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "P", "PT", "24h", "P1DT", "-P1D", "PT1H/PT1H", "2026-01-02/2026-01-01", "2026-01-01/x", "x/2026-01-01", "PT0S", "P1D\n", "2026-01-01"} {
		if got, err := parseTimespan(s, now); err == nil {
			t.Errorf("%q is taken as %v", s, got)
		}
	}
}

func TestSpool(t *testing.T) {
	t.Parallel()
	var s spool
	defer s.close()
	long := strings.Repeat("x", 1<<20-100)
	want := []string{`{"a":1}`}
	for range 9 {
		want = append(want, long, `{}`)
	}
	for _, row := range want {
		if err := s.add(rawRow(row)); err != nil {
			t.Fatal(err)
		}
	}
	if s.file == nil {
		t.Fatal("nine megabytes are kept in memory")
	}
	for range 2 {
		i := 0
		if err := s.each(func(row rawRow) error {
			if string(row) != want[i] {
				t.Fatalf("row %d differs", i)
			}
			i++
			return nil
		}); err != nil || i != len(want) {
			t.Fatalf("%d rows, %v", i, err)
		}
	}
}

func TestLimiterKeepsTheRate(t *testing.T) {
	t.Parallel()
	l, now := newLimiter(200), time.Unix(1_700_000_000, 0)
	for i := range 200 {
		if wait := l.take(now.Add(time.Duration(i) * time.Millisecond)); wait != 0 {
			t.Fatalf("query %d waits %v", i, wait)
		}
	}
	if wait := l.take(now.Add(time.Second)); wait != 29*time.Second {
		t.Errorf("one too many waits %v", wait)
	}
	if wait := l.take(now.Add(30 * time.Second)); wait != 0 {
		t.Errorf("after the span it waits %v", wait)
	}
	if wait := l.take(now.Add(30 * time.Second)); wait != time.Millisecond {
		t.Errorf("the next one waits %v", wait)
	}
}

func TestLimiterDoesNotWaitInVain(t *testing.T) {
	t.Parallel()
	l := newLimiter(1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	leave, err := l.enter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	_, err = l.enter(ctx)
	var e *sdk.Error
	if !errors.As(err, &e) || e.Class() != plugin.ClassThrottled || e.RetryAfter < 20*time.Second || len(l.slots) != 0 {
		t.Errorf("%v", err)
	}
}
