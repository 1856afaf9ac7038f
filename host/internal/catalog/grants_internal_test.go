package catalog

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/casewire/casewire/host/internal/launch"
)

// A token that Kubernetes projects is replaced with the directory that it really lies in: the directory is granted. Any
// other file is granted as it is.
func TestGrantOfProjectedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, step := range []error{
		os.Mkdir(filepath.Join(dir, "..2026"), 0o700),
		os.WriteFile(filepath.Join(dir, "..2026", "token"), []byte("t"), 0o600),
		os.Symlink("..2026", filepath.Join(dir, "..data")),
		os.Symlink("..data/token", filepath.Join(dir, "token")),
		os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("c"), 0o600),
		os.Symlink("ca.pem", filepath.Join(dir, "link.pem")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	var g launch.Grants
	for _, name := range []string{"token", "ca.pem", "link.pem", "none", "..data"} {
		grant(&g, filepath.Join(dir, name))
	}
	if want := []string{dir, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "link.pem")}; !slices.Equal(g.Files, want) {
		t.Errorf("got %v, want %v", g.Files, want)
	}
}
