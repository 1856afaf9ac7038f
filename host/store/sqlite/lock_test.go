package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/casewire/casewire/host/store/sqlite"
)

// One host works on a data file, whatever name it comes by.
func TestLockGoesWithTheFile(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	path, link, folder := filepath.Join(dir, "data", "a.db"), filepath.Join(dir, "link.db"), filepath.Join(dir, "folder")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(path, link), os.Symlink(filepath.Dir(path), folder)); err != nil {
		t.Skip(err)
	}
	// The folder's other name counts before there is a file, too.
	first, err := sqlite.Open(ctx, filepath.Join(folder, "a.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link, filepath.Join(folder, "a.db")} {
		st, err := sqlite.Open(ctx, name, sqlite.Options{})
		if !errors.Is(err, sqlite.ErrLocked) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = st.Close()
		}
	}
	if ro, err := sqlite.OpenReadOnly(ctx, link); err != nil {
		t.Error(err)
	} else if err := ro.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := sqlite.Open(ctx, link, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(link + "?*"); len(left) > 0 {
		t.Errorf("beside the link lie %v", left)
	}
}

// A damaged file, and one that is no database, are left as they are, and the message says what to do.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	good := filepath.Join(dir, "good.db")
	st, err := sqlite.Open(ctx, good, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	scribbled := append([]byte(nil), whole...)
	for i := 200; i < len(scribbled); i++ {
		scribbled[i] = 0xa5
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"no database": {[]byte(strings.Repeat("notes ", 5000)), "name the data file, or restore it from a backup"},
		"cut":         {whole[:len(whole)/2], "the data file is damaged: stop the host, and restore the file from a backup"},
		"scribbled":   {scribbled, "the data file is damaged"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := sqlite.Open(ctx, path, sqlite.Options{})
		if err == nil {
			_ = st.Close()
			t.Errorf("%s was opened", name)
			continue
		}
		ro, roErr := sqlite.OpenReadOnly(ctx, path)
		if roErr == nil {
			_ = ro.Close()
			t.Errorf("%s was opened for reading", name)
			continue
		}
		for _, text := range []string{err.Error(), roErr.Error()} {
			if !strings.Contains(text, path) || !strings.Contains(text, tc.want) || strings.Contains(text, "PRAGMA") {
				t.Errorf("%s: %s", name, text)
			}
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(tc.data) {
			t.Errorf("%s was changed (%v)", name, err)
		}
	}
}
