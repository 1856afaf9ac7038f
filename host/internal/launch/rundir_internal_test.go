//go:build unix

package launch

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without a run directory of its own, a host lives among its user's, wherever the paths are short enough for sockets.
func TestDefaultRunDir(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "t") //nolint:usetesting // it must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	log := slog.New(slog.DiscardHandler)
	open := func(tmpdir string) (string, func() error) {
		t.Helper()
		t.Setenv("TMPDIR", tmpdir)
		dir, release, err := openRunDir("", log)
		if err != nil {
			t.Fatal(err)
		}
		if len(dir)+belowHostDir > maxSocketPath {
			t.Errorf("%s is too long for a socket", dir)
		}
		return dir, release
	}

	dir, release := open(tmp)
	personal := personalDirs()[0]
	if filepath.Dir(dir) != personal || filepath.Dir(personal) != tmp {
		t.Errorf("%s is not in %s", dir, personal)
	}
	dead := filepath.Join(personal, "h1")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	second, releaseSecond := open(tmp)
	if _, err := os.Stat(dead); err == nil {
		t.Error("what a dead host left behind was not swept")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a living host was swept: %v", err)
	}
	for _, r := range []func() error{release, releaseSecond} {
		if err := r(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(second); err == nil {
		t.Errorf("%s was left behind", second)
	}

	long := filepath.Join(tmp, strings.Repeat("x", 80))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	_, release = open(long)
	if err := release(); err != nil {
		t.Error(err)
	}

	// What others can look into is not used.
	if err := os.Chmod(personal, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, release = open(tmp)
	if filepath.Dir(dir) == personal {
		t.Errorf("%s is open to others", personal)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
