package host

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/store"
)

// shelf is a store of which only pruning matters.
type shelf struct {
	store.Store
	old, size int
	asked     []store.Prune
	fail      error
}

func (s *shelf) Prune(_ context.Context, p store.Prune) (store.Pruned, error) {
	s.asked = append(s.asked, p)
	n := min(s.old, 10)
	s.old -= n
	s.size -= n
	return store.Pruned{Events: n, Used: int64(s.size)}, s.fail
}

func TestPrune(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		shelf     shelf
		r         Retention
		steps     int // that next allows
		want      store.Pruned
		calls     int
		err       error
		lastAsked store.Prune
	}{
		"by age": {
			shelf: shelf{old: 25, size: 100}, r: Retention{Events: 90 * day, Runs: 30 * day, DeadLetters: 365 * day}, steps: 99,
			want: store.Pruned{Events: 25, Used: 75}, calls: 4,
			lastAsked: store.Prune{EventsBefore: now.Add(-90 * day), RunsBefore: now.Add(-30 * day), DeadLettersBefore: now.Add(-365 * day)},
		},
		"told to stop": {
			shelf: shelf{old: 250, size: 1000}, r: Retention{Events: day}, steps: 3, want: store.Pruned{Events: 40, Used: 960}, calls: 4,
			lastAsked: store.Prune{EventsBefore: now.Add(-day)},
		},
		"by size": {
			shelf: shelf{old: 0, size: 100}, r: Retention{MaxSize: 75}, steps: 99, want: store.Pruned{Used: 100}, calls: 2,
			lastAsked: store.Prune{EventsBefore: now.Add(-time.Hour), RunsBefore: now.Add(-time.Hour)},
		},
		"room enough": {
			shelf: shelf{old: 0, size: 100}, r: Retention{MaxSize: 100}, steps: 99, want: store.Pruned{Used: 100}, calls: 1,
		},
		"broken": {shelf: shelf{fail: broken}, r: Retention{Events: day}, steps: 99, calls: 1, err: broken, lastAsked: store.Prune{EventsBefore: now.Add(-day)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, steps := c.shelf, c.steps
			got, err := prune(t.Context(), &s, c.r, func() time.Time { return now }, func() bool { steps--; return steps >= 0 })
			if !errors.Is(err, c.err) || got != c.want || len(s.asked) != c.calls {
				t.Errorf("got %+v, %v in %d calls; want %+v, %v in %d", got, err, len(s.asked), c.want, c.err, c.calls)
			}
			if diff := cmp.Diff(c.lastAsked, s.asked[len(s.asked)-1]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A store that is too large is made smaller until there is room, and no further.
func TestPruneToSize(t *testing.T) {
	t.Parallel()
	s := &shelf{size: 100}
	first := true
	got, err := prune(t.Context(), s, Retention{MaxSize: 75}, time.Now, func() bool {
		if first { // nothing was past its time
			s.old, first = 60, false
		}
		return true
	})
	if err != nil || got != (store.Pruned{Events: 30, Used: 70}) {
		t.Errorf("got %+v, %v", got, err)
	}
}
