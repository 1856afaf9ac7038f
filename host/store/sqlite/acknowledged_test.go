package sqlite_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
)

// What was acknowledged is in the files at that moment: they are copied as a crash would leave them, and the copy is opened.
// That the system has synced them is not seen this way: it is what synchronous=FULL asks of SQLite, and it gives no hook here.
func TestAcknowledgedIsInTheFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "casewire.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const writers, each = 4, 6
	var copying sync.Mutex
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				name := fmt.Sprintf("w%d-n%d", w, n)
				if err := s.Put(t.Context(), "state/"+name, []byte(name)); err != nil {
					t.Error(err)
					return
				}
				if _, err := s.AddHints(t.Context(), []store.Hint{{Connection: "c", Trigger: "t", ID: name, Received: time.Now()}}); err != nil {
					t.Error(err)
					return
				}
				copying.Lock()
				to := filepath.Join(dir, name)
				// The write-ahead log comes first: what is moved from it to the other file meanwhile is then in both, or in the
				// log only; the other way round it could be in neither.
				err := errors.Join(os.Mkdir(to, 0o700), copyFile(path+"-wal", filepath.Join(to, "casewire.db-wal")), copyFile(path, filepath.Join(to, "casewire.db")))
				copying.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for w := range writers {
		for n := range each {
			name := fmt.Sprintf("w%d-n%d", w, n)
			c, err := sqlite.Open(t.Context(), filepath.Join(dir, name, "casewire.db"), sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for seen := range n + 1 { // all that this writer was told
				name := fmt.Sprintf("w%d-n%d", w, seen)
				if got, err := c.Get(t.Context(), "state/"+name); err != nil || string(got) != name {
					t.Errorf("%s is not in the copy: %q, %v", name, got, err)
				}
			}
			if st, err := c.Stats(t.Context()); err != nil || st.Hints < n+1 {
				t.Errorf("%d hints in the copy, %v; want %d or more", st.Hints, err, n+1)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
