package host_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/host"
	"github.com/casewire/casewire/host/store"
)

func TestReplayOfAPrunedEventSaysSo(t *testing.T) {
	t.Parallel()
	v := newVendor()
	w := newWorld(t, v, filepath.Join(t.TempDir(), "casewire.db"), oneCase)
	v.add("alert-1", "An alert", false)
	w.push("alert-1")
	w.eventually("the case", w.ended(1))
	runs, err := w.store.ListRuns(t.Context(), store.RunFilter{})
	if err != nil || len(runs) != 1 {
		t.Fatalf("runs %v, %v", runs, err)
	}
	n, err := w.store.Prune(t.Context(), store.Prune{EventsBefore: time.Now().Add(time.Hour)})
	if err != nil || n.Events != 1 || n.Runs != 0 {
		t.Fatalf("pruned %+v, %v", n, err)
	}
	_, err = w.host.Replay(t.Context(), host.Replay{Run: runs[0].ID})
	if !errors.Is(err, host.ErrNotReplayable) || !strings.Contains(err.Error(), "retention.events") {
		t.Errorf("replay: %v", err)
	}
	// The alert comes again: it is known, and nothing is doubled.
	w.push("alert-1")
	w.eventually("the second look-up", func() bool { return w.stats().Events[store.Unchanged] == 1 })
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, n := range v.cases {
		if n != 1 {
			t.Errorf("%d cases for %s", n, key)
		}
	}
	if len(v.cases) != 1 {
		t.Errorf("cases %v", v.cases)
	}
}
