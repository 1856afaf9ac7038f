package sentinel_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/sdk"
)

// withheld answers the questions for the entities of some incidents with an error that may pass.
type withheld struct {
	mu    sync.Mutex
	names map[string]bool
	all   bool
	asked int
}

func (w *withheld) set(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = map[string]bool{}
	for _, n := range names {
		w.names[n] = true
	}
}

func (w *withheld) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func (w *withheld) between(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		parts := strings.Split(req.URL.Path, "/")
		w.mu.Lock()
		refuse := parts[len(parts)-1] == "entities" && (w.all || w.names[parts[len(parts)-2]])
		if refuse {
			w.asked++
		}
		w.mu.Unlock()
		if !refuse {
			h.ServeHTTP(rw, req)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusConflict)
		_, _ = rw.Write([]byte(`{"error":{"code":"Conflict","message":"The entities are being made."}}`))
	})
}

// back moves the times of what is owed into the past, as if that much had gone by.
func back(t *testing.T, cursor any, by time.Duration) any {
	t.Helper()
	var position map[string]any
	if err := json.Unmarshal(cursor.(json.RawMessage), &position); err != nil {
		t.Fatal(err)
	}
	for _, o := range position["arm"].(map[string]any)["owed"].([]any) {
		for _, name := range []string{"s", "a"} {
			at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(o.(map[string]any)[name]))
			if err != nil {
				t.Fatal(err)
			}
			o.(map[string]any)[name] = at.Add(-by)
		}
	}
	b, err := json.Marshal(position)
	if err != nil {
		t.Fatal(err)
	}
	return json.RawMessage(b)
}

func subjects(events []sdk.Event) []string {
	names := map[string]bool{}
	for _, e := range events {
		names[e.Subject] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// TestARMPollAnIncidentWaitsForItsPartsAlone: an incident whose entities cannot be had holds up nobody; after some minutes
// it comes without them and says so, and when they can be had, it comes with them.
func TestARMPollAnIncidentWaitsForItsPartsAlone(t *testing.T) {
	t.Parallel()
	var w withheld
	r := newRoomBehind(t, azurefake.Options{}, nil, w.between)
	bad := r.azure.AddSentinelIncident("", map[string]any{"lastModifiedTimeUtc": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}, armAlerts, armEntities)
	w.set(bad)
	good := r.azure.AddSentinelIncident("", nil, armAlerts, armEntities)
	events, cur := r.poll(nil)
	if got := subjects(events); !slices.Equal(got, []string{good}) {
		t.Fatalf("got %v, want %s alone", got, good)
	}
	for range 5 {
		if events, cur = r.poll(cur); len(events) > 0 {
			t.Fatalf("it did not wait: %v", subjects(events))
		}
	}
	if events, cur = r.poll(back(t, cur, 6*time.Minute)); len(events) != 1 || events[0].Subject != bad {
		t.Fatalf("got %v, want %s", subjects(events), bad)
	}
	without := events[0]
	if s := string(without.Data); !strings.Contains(s, `"missingParts":["entities"]`) || strings.Contains(s, "203.0.113.77") || !strings.Contains(s, "5e0d4d2c-7f0e-4a8b-9a55-2b1f0c3d4e5f") {
		t.Errorf("it does not say what it is without, or lost what could be had: %s", s)
	}
	// It is asked for again now and then, and comes once it is whole.
	asked := w.count()
	if events, cur = r.poll(cur); len(events) > 0 || w.count() != asked {
		t.Errorf("%v; asked %d times", subjects(events), w.count()-asked)
	}
	if events, cur = r.poll(back(t, cur, 11*time.Minute)); len(events) > 0 || w.count() != asked+1 {
		t.Errorf("%v; asked %d times", subjects(events), w.count()-asked)
	}
	w.set()
	if events, cur = r.poll(back(t, cur, 11*time.Minute)); len(events) != 1 || events[0].Subject != bad {
		t.Fatalf("got %v, want %s", subjects(events), bad)
	}
	if e := events[0]; e.ID == without.ID || e.Rev != without.Rev || e.PartitionKey != without.PartitionKey || !strings.Contains(string(e.Data), "203.0.113.77") || strings.Contains(string(e.Data), "missingParts") {
		t.Errorf("it is no news of the same incident: %s", e.Data)
	}
	if events, _ = r.poll(cur); len(events) > 0 {
		t.Errorf("came again: %v", subjects(events))
	}
}

// TestARMPollAnIncidentThatChangesWhileItWaits comes once, as it is now.
func TestARMPollAnIncidentThatChangesWhileItWaits(t *testing.T) {
	t.Parallel()
	var w withheld
	r := newRoomBehind(t, azurefake.Options{}, nil, w.between)
	name := r.azure.AddSentinelIncident("", nil, nil, armEntities)
	gone := r.azure.AddSentinelIncident("", nil, nil, armEntities)
	w.set(name, gone)
	events, cur := r.poll(nil)
	r.azure.TouchSentinelIncident(name, map[string]any{"title": "Another title"})
	r.azure.RemoveSentinelIncident(gone)
	more, cur := r.poll(cur)
	w.set()
	last, cur := r.poll(cur)
	if len(events)+len(more) > 0 || len(last) != 1 || last[0].Subject != name || !strings.Contains(string(last[0].Data), "Another title") {
		t.Errorf("%d, %d, then %v", len(events), len(more), subjects(last))
	}
	if again, _ := r.poll(cur); len(again) > 0 {
		t.Errorf("came again: %v", subjects(again))
	}
}

// TestARMPollWhenNoPartsCanBeHad: then something is wrong with the API, and the poll says so and stays where it is; nothing
// is lost, and nothing stays out for ever.
func TestARMPollWhenNoPartsCanBeHad(t *testing.T) {
	t.Parallel()
	w := withheld{all: true}
	r := newRoomBehind(t, azurefake.Options{}, nil, w.between)
	want := map[string]bool{}
	for i := range 20 {
		stamp := time.Now().Add(time.Duration(i-60) * time.Second).UTC().Format(time.RFC3339)
		want[r.azure.AddSentinelIncident("", map[string]any{"lastModifiedTimeUtc": stamp}, nil, armEntities)] = true
	}
	var cur any
	got := map[string]int{}
	poll := func() (n int, err error) {
		pages, err := r.Poll(t.Context(), "incidents", cur)
		for _, p := range pages {
			n += len(p.Events)
			for _, e := range p.Events {
				got[e.Subject]++
			}
			cur = p.Cursor
		}
		return n, err
	}
	for range 7 {
		n, err := poll()
		refused(t, err, codes.Aborted, "Azure Resource Manager", "entities", "being made")
		if n > 0 {
			t.Errorf("%d came without their parts at once", n)
		}
	}
	cur = back(t, cur, 6*time.Minute)
	if n, _ := poll(); n != 8 {
		t.Errorf("%d came after the wait, want the 8 that waited", n)
	}
	w.mu.Lock()
	w.all = false
	w.mu.Unlock()
	cur = back(t, cur, 11*time.Minute)
	if n, err := poll(); n != 20 || err != nil {
		t.Errorf("%d came when all could be had: %v", n, err)
	}
	for name := range want {
		if got[name] == 0 {
			t.Errorf("%s was lost", name)
		}
	}
	if n, err := poll(); n > 0 || err != nil {
		t.Errorf("%d came again: %v", n, err)
	}
}

// TestARMPollAnIncidentOfTheFuture: a clock that is wrong somewhere must not end the intake until then.
func TestARMPollAnIncidentOfTheFuture(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	first := r.azure.AddSentinelIncident("", map[string]any{"lastModifiedTimeUtc": time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)}, nil, nil)
	events, cur := r.poll(nil)
	second := r.azure.AddSentinelIncident("", nil, nil, nil)
	more, cur := r.poll(cur)
	if len(events) != 1 || events[0].Subject != first || len(more) != 1 || more[0].Subject != second {
		t.Errorf("got %v, then %v", subjects(events), subjects(more))
	}
	if again, _ := r.poll(cur); len(again) > 0 {
		t.Errorf("came again: %v", subjects(again))
	}
}
