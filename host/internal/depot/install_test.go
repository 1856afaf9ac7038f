package depot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/host/internal/depot"
	"github.com/casewire/casewire/host/internal/launch"
)

func newInstaller(t *testing.T) *depot.Installer {
	t.Helper()
	dir := t.TempDir()
	lock, err := depot.ReadLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &depot.Installer{Depot: depot.Open(filepath.Join(dir, "data")), Lock: lock, Bundled: func(name string) bool { return name == "jira" }}
}

func install(t *testing.T, in *depot.Installer, req depot.Request) depot.Installed {
	t.Helper()
	got, err := in.Install(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestInstall(t *testing.T) {
	t.Parallel()
	in := newInstaller(t)
	path := write(t, "hashes", script("hashes 1.0.0"))
	got := install(t, in, depot.Request{Source: path})
	sum, err := depot.Sum(path)
	if err != nil {
		t.Fatal(err)
	}
	want := depot.Installed{Name: "hashes", Version: "1.0.0", SHA256: sum, Platform: depot.Here(), Size: int64(len(script("hashes 1.0.0")))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	lock, err := depot.ReadLock(filepath.Dir(in.Lock.Path))
	if err != nil || lock.Connectors["hashes"].Platforms[depot.Here()].SHA256 != sum || lock.Connectors["hashes"].Source != "hashes" {
		t.Errorf("the lock file has %+v, %v", lock, err)
	}
	if again := install(t, in, depot.Request{Source: path}); !again.Same || again.Was != "1.0.0" || again.SHA256 != sum {
		t.Errorf("the same again: %+v", again)
	}
	// The next version takes its place, and what is for other platforms no longer fits.
	other := "plan9/amd64"
	in.Lock.Connectors["hashes"].Platforms[other] = depot.Pin{SHA256: sumA}
	next := install(t, in, depot.Request{Source: write(t, "hashes", script("hashes 1.1.0")), SHA256: ""})
	if next.Was != "1.0.0" || next.Same || !cmp.Equal(next.Dropped, []string{other}) {
		t.Errorf("got %+v", next)
	}
	if err := in.Depot.Verify(sum); err != nil {
		t.Errorf("a host that runs could not start its version again: %v", err)
	}
	if n, err := in.Prune(sum); n != 0 || err != nil {
		t.Errorf("%d were deleted, %v", n, err)
	}
	if n, err := in.Prune(); n != 1 || err != nil || !errors.Is(in.Depot.Verify(sum), depot.ErrMissing) || in.Depot.Verify(next.SHA256) != nil {
		t.Errorf("%d were deleted, %v", n, err)
	}
	if err := in.Remove("hashes"); err != nil {
		t.Fatal(err)
	}
	if err := in.Depot.Verify(next.SHA256); !errors.Is(err, depot.ErrMissing) {
		t.Errorf("a removed connector is still there: %v", err)
	}
	if in.Remove("hashes") == nil {
		t.Error("removed twice")
	}
}

// What is refused leaves neither a file nor a word in the lock file.
func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	good := script("hashes 1.0.0")
	for name, tt := range map[string]struct {
		data []byte
		req  depot.Request
		want []string
	}{
		"digest":       {good, depot.Request{SHA256: sumA}, []string{"its digest is", "not " + sumA}},
		"no digest":    {good, depot.Request{SHA256: "abc"}, []string{"no SHA-256"}},
		"bundled":      {script("jira 9.9.9"), depot.Request{}, []string{`"jira"`, "--replace"}},
		"other name":   {good, depot.Request{Name: "whois"}, []string{`calls itself "hashes", not "whois"`}},
		"archive":      {[]byte("\x1f\x8b\x08 and so on"), depot.Request{}, []string{"archive", "unpack"}},
		"web page":     {[]byte("\n<!DOCTYPE html><title>Not found"), depot.Request{}, []string{"web page"}},
		"text":         {[]byte("hello"), depot.Request{}, []string{"no program", `"hello"`}},
		"another OS":   {append([]byte("\xca\xfe\xba\xbe"), make([]byte, 64)...), depot.Request{}, []string{"for macOS, not for " + depot.Here()}},
		"damaged":      {append([]byte("\x7fELF"), make([]byte, 12)...), depot.Request{}, []string{"damaged"}},
		"does nothing": {script(""), depot.Request{}, []string{"does not say what it is", "this is no connector"}},
		"elsewhere":    {good, depot.Request{Platform: "plan9/amd64", Name: "hashes"}, []string{"cannot be asked here", depot.Here()}},
		"no platform":  {good, depot.Request{Platform: "linux"}, []string{"no platform"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newInstaller(t)
			tt.req.Source = write(t, "program", tt.data)
			_, err := in.Install(t.Context(), tt.req)
			wantErr(t, err, tt.want...)
			if left, _ := os.ReadDir(in.Depot.Dir()); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := os.Stat(in.Lock.Path); err == nil {
				t.Error("a lock file was written")
			}
		})
	}
}

func TestReplaceBundled(t *testing.T) {
	t.Parallel()
	in := newInstaller(t)
	install(t, in, depot.Request{Source: write(t, "jira", script("jira 9.9.9")), Replace: true})
	if !in.Lock.Connectors["jira"].ReplacesBundled {
		t.Errorf("got %+v", in.Lock.Connectors["jira"])
	}
	install(t, in, depot.Request{Source: write(t, "jira", script("jira 9.9.10"))}) // it was said once
}

func TestAnotherPlatform(t *testing.T) {
	t.Parallel()
	in := newInstaller(t)
	install(t, in, depot.Request{Source: write(t, "hashes", script("hashes 1.0.0"))})
	got := install(t, in, depot.Request{Source: write(t, "hashes-plan9", script("for plan9")), Platform: "plan9/amd64", Name: "hashes"})
	e := in.Lock.Connectors["hashes"]
	if len(e.Platforms) != 2 || e.Platforms["plan9/amd64"].SHA256 != got.SHA256 || e.Platforms[depot.Here()].Source != "hashes" {
		t.Errorf("got %+v", e)
	}
}

// serve is a server of programs.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestDownload(t *testing.T) {
	t.Parallel()
	program := script("hashes 1.0.0")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("token") != "hunter2" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(program)
	})
	in := newInstaller(t)
	got := install(t, in, depot.Request{Source: url + "/hashes?token=hunter2"})
	if b, _ := os.ReadFile(in.Lock.Path); strings.Contains(string(b), "hunter2") || !strings.Contains(string(b), url+"/hashes") {
		t.Errorf("the lock file:\n%s", b)
	}
	// Another machine fetches what the lock file pins, and nothing else.
	if err := in.Depot.Remove(got.SHA256); err != nil {
		t.Fatal(err)
	}
	_, err := in.Install(t.Context(), depot.Request{Source: url + "/hashes?token=wrong"})
	wantErr(t, err, "403 Forbidden")
	if strings.Contains(err.Error(), "wrong") {
		t.Errorf("the token is in: %v", err)
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	program := script("hashes 1.0.0")
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(program) })
	in := newInstaller(t)
	got := install(t, in, depot.Request{Source: url + "/hashes"})
	if err := in.Depot.Remove(got.SHA256); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Fetch(t.Context(), "hashes"), in.Depot.Verify(got.SHA256)); err != nil {
		t.Fatal(err)
	}
	tamper(t, in.Depot.Path(got.SHA256))
	if err := errors.Join(in.Fetch(t.Context(), "hashes"), in.Depot.Verify(got.SHA256)); err != nil {
		t.Errorf("a changed program is not mended: %v", err)
	}
	if err := in.Depot.Remove(got.SHA256); err != nil {
		t.Fatal(err)
	}
	program = script("hashes 6.6.6")
	wantErr(t, in.Fetch(t.Context(), "hashes"), "was changed since it was approved")
	if err := in.Depot.Verify(got.SHA256); !errors.Is(err, depot.ErrMissing) {
		t.Errorf("got %v", err)
	}
}

func TestBadDownloads(t *testing.T) {
	t.Parallel()
	program := script("hashes 1.0.0")
	hijacked := func(head string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "%s\r\n\r\n%s", head, program[:20])
			_ = conn.Close()
		}
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"truncated":        {hijacked(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d", len(program))), "unexpected EOF"},
		"truncated chunks": {hijacked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"), ""},
		"no length":        {hijacked("HTTP/1.0 200 OK"), "how long the file is"},
		"not there":        {http.NotFound, "404"},
		"to plain http": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://programs.example/x", http.StatusFound)
		}, "by https only"},
		"in circles": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "in circles"},
		"too large":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat(program, 100)) }, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newInstaller(t)
			in.MaxSize = int64(len(program)) + 10
			_, err := in.Install(t.Context(), depot.Request{Source: serve(t, tt.answer) + "/hashes"})
			wantErr(t, err, tt.want)
			if left, _ := os.ReadDir(in.Depot.Dir()); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	in := newInstaller(t)
	for _, source := range []string{"http://programs.example/x", "ftp://127.0.0.1/x", "https:///x", "http://localhost.evil.example/x"} {
		_, err := in.Install(t.Context(), depot.Request{Source: source})
		wantErr(t, err, "https only")
	}
}

// An interpreter that this user could change is pinned along with the script.
func TestChangedInterpreterIsRefused(t *testing.T) {
	t.Parallel()
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	interpreter := write(t, "interp", self)
	if err := os.Chmod(interpreter, 0o775); err != nil { // writable by others, so not the system's own
		t.Fatal(err)
	}
	in := newInstaller(t)
	got := install(t, in, depot.Request{Source: write(t, "hashes", []byte("#!"+interpreter+"\nhashes 1.0.0\n"))})
	h, err := launch.NewHost(launch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	start := func() error {
		p, err := in.Depot.Launcher(got.SHA256, nil).Launch(t.Context(), h, "hashes")
		if err == nil {
			p.Stop(context.Background(), 0)
		}
		return err
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(interpreter+".new", append(self, 0), 0o775); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(interpreter+".new", 0o775), os.Rename(interpreter+".new", interpreter)); err != nil {
		t.Fatal(err)
	}
	err = start()
	if !errors.Is(err, launch.ErrDigest) {
		t.Fatalf("got %v", err)
	}
	wantErr(t, err, "interpreter", "install the connector again")
}
