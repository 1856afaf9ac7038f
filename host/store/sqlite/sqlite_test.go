package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite"
	"github.com/casewire/casewire/host/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Exercise(t, func(t *testing.T, dir string) store.Store {
		t.Helper()
		s, err := sqlite.Open(t.Context(), filepath.Join(dir, "casewire.db"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
