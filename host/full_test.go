package host_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/webhook"
)

// fullStore has no room while full is set.
type fullStore struct {
	store.Store
	full             atomic.Bool
	intake, progress atomic.Int32 // what was refused
}

func (f *fullStore) refuse(n *atomic.Int32) error {
	if f.full.Load() {
		n.Add(1)
		return store.ErrFull
	}
	return nil
}

func (f *fullStore) AddHints(ctx context.Context, hints []store.Hint) (int, error) {
	if err := f.refuse(&f.intake); err != nil {
		return 0, err
	}
	return f.Store.AddHints(ctx, hints)
}

func (f *fullStore) Ingest(ctx context.Context, in store.Ingest) ([]store.Outcome, error) {
	if err := f.refuse(&f.intake); err != nil {
		return nil, err
	}
	return f.Store.Ingest(ctx, in)
}

func (f *fullStore) BeginEffect(ctx context.Context, l store.Lease, e store.Effect, steps []store.Step) (store.Effect, error) {
	if err := f.refuse(&f.progress); err != nil {
		return store.Effect{}, err
	}
	return f.Store.BeginEffect(ctx, l, e, steps)
}

func (f *fullStore) Advance(ctx context.Context, a store.Advance) error {
	if err := f.refuse(&f.progress); err != nil {
		return err
	}
	return f.Store.Advance(ctx, a)
}

// TestFullDisk: while nothing can be kept, no webhook gets a 2xx and the poll stays where it is; a case that was being made
// when the disk ran full is made once; and when there is room again, everything goes on by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	v := newVendor()
	v.block = make(chan struct{})
	v.add("before", "before", true)
	v.add("pushed", "pushed", false)
	f := &fullStore{}
	w := newWorldOn(t, v, filepath.Join(t.TempDir(), "a.db"), oneCase, func(st store.Store) store.Store {
		f.Store = st
		return f
	})
	hook := webhook.Handler(w.host, webhook.Options{})
	push := func(id string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		hook.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/hooks/in/alerts", strings.NewReader(id)))
		return rec
	}
	w.eventually("a case is about to be made", func() bool { return w.stats().Effects[store.EffectIntent] == 1 })

	f.full.Store(true)
	v.add("polled", "polled", true)
	if rec := push("pushed"); rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") == "" {
		t.Errorf("a push that cannot be kept: %d %v", rec.Code, rec.Header())
	}
	w.host.PollNow("in", "alerts")
	close(v.block)
	w.eventually("a poll and a result that cannot be kept", func() bool { return f.intake.Load() >= 2 && f.progress.Load() >= 1 })
	if s := w.stats(); s.Events[store.Accepted] != 1 || s.Hints != 0 || s.Runs[store.RunSucceeded] != 0 {
		t.Errorf("while the disk was full: %+v", s)
	}
	w.eventually("the failed poll is told", func() bool {
		s, err := w.host.Status(t.Context())
		return err == nil && len(s.Triggers) == 1 && strings.Contains(s.Triggers[0].PollError, store.ErrFull.Error())
	})

	f.full.Store(false)
	if rec := push("pushed"); rec.Code != http.StatusAccepted {
		t.Errorf("with room again: %d", rec.Code)
	}
	w.host.PollNow("in", "alerts")
	w.eventually("three runs", w.ended(3))
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.cases) != 3 || w.stats().DeadLetters != 0 {
		t.Errorf("cases %v, %+v", v.cases, w.stats())
	}
	for key, n := range v.cases {
		if n != 1 {
			t.Errorf("case %s was made %d times", key, n)
		}
	}
}
