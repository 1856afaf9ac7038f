package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/casewire/casewire/host/store"
)

// TestSQLiteRunsFull: the space ends in the middle of transactions, with many requests at once. Each is accepted whole or
// refused whole, memory says what the file says, and what was refused is taken when it comes again.
func TestSQLiteRunsFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db")
	s := openAt(t, path, Options{MinFree: -1})
	limit := func(further int64) {
		t.Helper()
		err := s.w.write(t.Context(), "limit", 0, func(tx *tx) error {
			pages, err := tx.c.Int("PRAGMA page_count")
			if err != nil {
				return err
			}
			return tx.c.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+further))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const n = 60
	big := func(i int) store.Ingest {
		in := someEvent(fmt.Sprint(i))
		in.Events[0].Event.Data = fmt.Appendf(nil, `{"n":%d,"text":"%s"}`, i, bytes.Repeat([]byte{'x'}, 20<<10))
		in.Done = []store.Hint{{Connection: "c", Trigger: "t", ID: fmt.Sprint(i)}}
		return in
	}
	for i := range n {
		if _, err := s.AddHints(t.Context(), []store.Hint{{Connection: "c", Trigger: "t", ID: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	all := func() (refused []int) {
		t.Helper()
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { _, errs[i] = s.Ingest(t.Context(), big(i)) })
		}
		wg.Wait()
		for i, err := range errs {
			if errors.Is(err, store.ErrFull) {
				refused = append(refused, i)
			} else if err != nil {
				t.Errorf("event %d: %v", i, err)
			}
		}
		return refused
	}
	counts := func(taken int) {
		t.Helper()
		st, err := s.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Events[store.Accepted] != taken || st.Runs[store.RunReady] != taken || st.Hints != n-taken {
			t.Errorf("%d events, %d runs, %d hints; want %d, %d, %d", st.Events[store.Accepted], st.Runs[store.RunReady], st.Hints, taken, taken, n-taken)
		}
	}
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, path, Options{MinFree: -1})
	}
	limit(100)
	refused := all()
	if len(refused) == 0 || len(refused) == n {
		t.Fatalf("%d of %d were refused, want some", len(refused), n)
	}
	counts(n - len(refused))
	limit(0)
	if again := all(); len(again) != len(refused) {
		t.Errorf("%d were refused, then %d", len(refused), len(again))
	}
	counts(n - len(refused))
	reopen() // what memory knew is gone: the file alone speaks
	counts(n - len(refused))
	if still := all(); len(still) > 0 {
		t.Errorf("%d were refused although there is room", len(still))
	}
	counts(n)
	reopen()
	counts(n)
}
