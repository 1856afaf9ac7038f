package indicators

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/plugin"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// A journal whose end was cut off at any byte still says all that was whole, and goes on behind it.
func TestJournalCutOff(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "j")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []entry{
		{Batch: 0, At: noon}, {Batch: 0, Done: true, Uploads: 5, Results: []result{{At: "line 1", ID: "i", Status: accepted, Digest: "d"}}}, {Batch: 1, At: noon.Add(time.Second)},
	} {
		if err := j.write(e); err != nil {
			t.Fatal(err)
		}
	}
	j.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	first, second := len(lines[0]), len(lines[0])+len(lines[1])
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := openJournal(path)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if got, want := len(j.done), map[bool]int{true: 1, false: 0}[n >= second]; got != want {
			t.Fatalf("%d bytes: %d batches are done", n, got)
		}
		if n >= first && !j.begun[0].Equal(noon) {
			t.Fatalf("%d bytes: it began %v", n, j.begun[0])
		}
		if err := j.write(entry{Batch: 7, Done: true}); err != nil {
			t.Fatal(err)
		}
		j.close()
		if j, err = openJournal(path); err != nil || !j.done[7].Done {
			t.Fatalf("%d bytes: what was written behind is lost (%v)", n, err)
		}
		j.close()
	}
}

// Nobody else works on a file that is being submitted.
func TestJournalLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "j")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if _, err := openJournal(path); err == nil || !strings.Contains(err.Error(), "another casewire") {
		t.Errorf("a second one: %v", err)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "k")
	k, err := readFacts(path)
	if err != nil {
		t.Fatal(err)
	}
	k.learn(&result{ID: "a", Status: accepted, Digest: "d", Created: "c", Modified: "m", ValidUntil: "2027-01-01T00:00:00.000Z", RenewAfter: "2026-12-01T00:00:00.000Z"})
	k.learn(&result{ID: "b", Status: rejected, Digest: "d"})
	k.learn(&result{ID: "old", Status: accepted, Digest: "d", ValidUntil: "2026-01-01T00:00:00.000Z"})
	if err := k.write(path, noon); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half a li"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := readFacts(path)
	if err != nil || len(again) != 1 {
		t.Fatalf("%v %v", again, err)
	}
	for _, c := range []struct {
		digest string
		now    time.Time
		want   bool
	}{{"d", noon, true}, {"e", noon, false}, {"d", noon.AddDate(0, 0, 10), false}, {"d", noon.AddDate(1, 0, 0), false}} {
		if got := again["a"].current(c.digest, c.now); got != c.want {
			t.Errorf("%s at %v: %v", c.digest, c.now, got)
		}
	}
}

func TestPauseAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err     error
		attempt int
		again   bool
		least   time.Duration
	}{
		{&plugin.Error{Code: codes.ResourceExhausted, RetryAfter: time.Minute}, 1, true, time.Minute},
		{&plugin.Error{Code: codes.Unavailable}, 9, true, maxPause},
		{&plugin.Error{Code: codes.Unavailable}, tries, false, 0},
		{&plugin.Error{Code: codes.Internal, SideEffect: plugin.EffectUnknown}, 1, true, 0},
		{&plugin.Error{Code: codes.PermissionDenied}, 1, false, 0},
		{&plugin.Error{Code: codes.InvalidArgument}, 1, false, 0},
		{errors.New("x"), 1, false, 0},
	} {
		if wait, again := pauseAfter(c.err, c.attempt); again != c.again || wait < c.least {
			t.Errorf("%v, attempt %d: %v, %v", c.err, c.attempt, wait, again)
		}
	}
}

// The batches of a document are the same each time, and none is sent of one that cannot be read to its end.
func TestBatches(t *testing.T) {
	t.Parallel()
	s, err := openSource("-", feed.Auto, strings.NewReader("a.net\nb.net\nc.net\n\nd.net\ne.net"))
	if err != nil {
		t.Fatal(err)
	}
	name := s.f.Name()
	defer s.close()
	var got [2]string
	for k := range got {
		err := s.batches(2, func(n int, batch []feed.Draft) error {
			for _, d := range batch {
				got[k] += d.Value + string(rune('0'+n)) + " "
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got[0] != "a.net0 b.net0 c.net1 d.net1 e.net2 " || got[1] != got[0] || s.total != 5 || s.format != feed.List {
		t.Errorf("%q of %d, as %s", got, s.total, s.format)
	}
	s.close()
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("standard input is left behind in %s", name)
	}
	if _, err := openSource("-", feed.Auto, strings.NewReader(`{"indicators":["a.net"`)); err == nil || !strings.Contains(err.Error(), "nothing was submitted") {
		t.Errorf("half a document: %v", err)
	}
}

// A report for a spreadsheet holds no formula.
func TestReportCSV(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r.CSV")
	r, err := newReporter(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.add([]result{{At: "line 1", Value: "=cmd|' /C calc'!A0", Status: rejected, Reason: "is \"bad\""}, {At: "line 2", Value: "a.net", Status: accepted}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the report is there before it is whole")
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][1] != "'=cmd|' /C calc'!A0" || rows[1][4] != `is "bad"` {
		t.Errorf("%v %v", rows, err)
	}
}
