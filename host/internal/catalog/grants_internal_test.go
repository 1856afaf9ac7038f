package catalog

import (
	"encoding/json"
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

// A port that is declared for connections with some property is granted to them alone.
func TestGrantOfConditionalPorts(t *testing.T) {
	t.Parallel()
	const declared = "{config.credential.managed_identity?169.254.169.254:80}"
	for config, want := range map[string][]uint16{
		`{"credential":{"managed_identity":{}}}`:         {80},
		`{"credential":{"managed_identity":null}}`:       nil,
		`{"credential":{"client_secret":"s"}}`:           nil,
		`{"credential":"managed_identity"}`:              nil,
		`{"managed_identity":{},"credential":{}}`:        nil,
		`{"credential":{"managed_identity":{"id":"x"}}}`: {80},
	} {
		var tree any
		if err := json.Unmarshal([]byte(config), &tree); err != nil {
			t.Fatal(err)
		}
		var g launch.Grants
		for _, d := range []string{declared, "{config.base_url}", "other.example:81", "{config.credential.managed_identity?no port}"} {
			grantIf(&g, tree, d)
		}
		if !slices.Equal(g.Ports, want) {
			t.Errorf("%s: got %v, want %v", config, g.Ports, want)
		}
	}
}

// A file that takes the name of a granted one is another; one that was written to, or is gone for a moment, is not.
func TestReplacedFiles(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "app.pem")
	put := func(at, text string) {
		t.Helper()
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(name, "one")
	was := stats([]string{name, name + ".none"})
	if put(name, "one, longer"); replaced(was) {
		t.Error("a file that was written to counts as another")
	}
	put(name+".new", "two")
	if err := os.Rename(name, name+".old"); err != nil || replaced(was) {
		t.Errorf("a file that is gone counts as another: %v", err)
	}
	if err := os.Rename(name+".new", name); err != nil || !replaced(was) {
		t.Errorf("another file under the name is not seen: %v", err)
	}
}
