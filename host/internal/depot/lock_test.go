package depot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/internal/depot"
)

var (
	sumA = strings.Repeat("a", 64)
	sumB = strings.Repeat("b", 64)
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := depot.ReadLock(dir)
	if err != nil || len(l.Names()) != 0 {
		t.Fatalf("no file: %v, %v", l, err)
	}
	l.Connectors["whois"] = depot.Entry{Version: "0.3.0", Source: "bin/whois", Platforms: map[string]depot.Pin{"linux/amd64": {SHA256: sumB}}}
	l.Connectors["hashes"] = depot.Entry{Version: "1.0.0", Source: "https://x.example/h", Platforms: map[string]depot.Pin{
		"linux/arm64": {SHA256: sumB, Source: "https://x.example/arm"}, "linux/amd64": {SHA256: sumA},
	}}
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := depot.ReadLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, again); diff != "" {
		t.Error(diff)
	}
	if err := again.Write(); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(l.Path); string(second) != string(first) {
		t.Errorf("writing it again changed it:\n%s\n%s", first, second)
	}
	if a, b := strings.Index(string(first), `"hashes"`), strings.Index(string(first), `"whois"`); a < 0 || b < a {
		t.Errorf("names are not in order:\n%s", first)
	}
	if sum, err := l.Pinned("hashes", "linux/amd64"); err != nil || sum != sumA {
		t.Errorf("got %s, %v", sum, err)
	}
	_, err = l.Pinned("hashes", "darwin/arm64")
	wantErr(t, err, "linux/amd64, linux/arm64", "this is darwin/arm64", "casewire connectors install")
	if !errors.Is(err, depot.ErrPlatform) {
		t.Errorf("got %v", err)
	}
	clear(l.Connectors)
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty lock file stays: %v", err)
	}
}

func TestBadLocks(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"not JSON":      {`version: 1`, "invalid character"},
		"a conflict":    {"{\n<<<<<<< HEAD\n", "invalid character"},
		"later version": {`{"version": 2, "connectors": {}}`, "version 2"},
		"unknown key":   {`{"version": 1, "connectors": {}, "policy": "none"}`, "policy"},
		"more":          {`{"version": 1, "connectors": {}} {}`, "follows"},
		"name":          {`{"version": 1, "connectors": {"../x": {"platforms": {"linux/amd64": {"sha256": "` + sumA + `"}}}}}`, "no connector's name"},
		"digest":        {`{"version": 1, "connectors": {"x": {"platforms": {"linux/amd64": {"sha256": "../../x"}}}}}`, "no SHA-256"},
		"upper case":    {`{"version": 1, "connectors": {"x": {"platforms": {"linux/amd64": {"sha256": "` + strings.ToUpper(sumA) + `"}}}}}`, "no SHA-256"},
		"platform":      {`{"version": 1, "connectors": {"x": {"platforms": {"linux": {"sha256": "` + sumA + `"}}}}}`, "no platform"},
		"no platforms":  {`{"version": 1, "connectors": {"x": {}}}`, "has no platforms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, depot.LockName), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := depot.ReadLock(dir)
			wantErr(t, err, tt.want, depot.LockName, "version control")
		})
	}
}

// FuzzReadLock: whatever the file holds, nothing but digests and names comes out of it.
func FuzzReadLock(f *testing.F) {
	f.Add([]byte(`{"version": 1, "connectors": {"x": {"version": "1", "source": "s", "platforms": {"linux/amd64": {"sha256": "` + sumA + `"}}}}}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, depot.LockName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := depot.ReadLock(dir)
		if err != nil {
			return
		}
		for name, e := range l.Connectors {
			if strings.ContainsAny(name, "/.\x00\n") || len(e.Platforms) == 0 {
				t.Errorf("name %q, %+v", name, e)
			}
			for _, p := range e.Platforms {
				if len(p.SHA256) != 64 || strings.ContainsAny(p.SHA256, "/.") {
					t.Errorf("digest %q", p.SHA256)
				}
			}
		}
	})
}
