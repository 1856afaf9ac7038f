package depot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/casewire/casewire/host/internal/depot"
	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// The test binary is the interpreter of the scripts that the tests install: a script's second line is the name and version
// of the connector that it is.
func TestMain(m *testing.M) {
	if os.Getenv(plugin.Handshake().MagicCookieKey) != "" {
		b, err := os.ReadFile(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		c := &said{}
		if _, err := fmt.Sscan(strings.SplitN(string(b), "\n", 3)[1], &c.name, &c.version); err != nil {
			fmt.Fprintln(os.Stderr, "this is no connector")
			os.Exit(1)
		}
		plugin.Serve(c, plugin.ServeOptions{})
	}
	goleak.VerifyTestMain(m)
}

type said struct {
	connectorv1.UnimplementedConnectorServer
	name, version string
}

func (s *said) Describe(context.Context, *connectorv1.DescribeRequest) (*connectorv1.DescribeResponse, error) {
	return &connectorv1.DescribeResponse{Name: s.name, Version: s.version}, nil
}

func (s *said) Drain(context.Context, *connectorv1.DrainRequest) (*connectorv1.DrainResponse, error) {
	return &connectorv1.DrainResponse{}, nil
}

func script(text string) []byte {
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		panic(err)
	}
	return []byte("#!" + self + "\n" + text + "\n")
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func put(t *testing.T, d *depot.Depot, data []byte) string {
	t.Helper()
	sum, err := d.Put(bytes.NewReader(data), depot.MaxSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func wantErr(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is missing in: %v", text, err)
		}
	}
}

// tamper changes a stored connector, keeping its size.
func tamper(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o555); err != nil {
		t.Fatal(err)
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	d := depot.Open(t.TempDir())
	data := script("hashes 1.0.0")
	sum := put(t, d, data)
	info, err := os.Stat(d.Path(sum))
	if err != nil || info.Mode().Perm() != 0o555 {
		t.Fatalf("%v, %v", info, err)
	}
	if again := put(t, d, data); again != sum {
		t.Errorf("the same bytes have the digests %s and %s", sum, again)
	}
	if err := d.Verify(sum); err != nil {
		t.Error(err)
	}
	tamper(t, d.Path(sum))
	if err := d.Verify(sum); !errors.Is(err, launch.ErrDigest) {
		t.Errorf("a changed file: %v", err)
	}
	put(t, d, data)
	if err := errors.Join(d.Verify(sum), d.Check(sum)); err != nil {
		t.Errorf("after it was put again: %v", err)
	}
	if err := d.Remove(sum); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(sum); !errors.Is(err, depot.ErrMissing) {
		t.Errorf("a removed file: %v", err)
	}
	if d.Remove("../../etc") == nil {
		t.Error("a path was taken for a digest")
	}
}

func TestNothingIsLeftOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	d := depot.Open(t.TempDir())
	no := errors.New("no")
	for name, f := range map[string]func() error{
		"too large": func() error { _, err := d.Put(bytes.NewReader(make([]byte, 100)), 99, nil); return err },
		"empty":     func() error { _, err := d.Put(bytes.NewReader(nil), 99, nil); return err },
		"refused": func() error {
			_, err := d.Put(bytes.NewReader(make([]byte, 100)), 100, func(_, _ string) error { return no })
			return err
		},
	} {
		if err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, err := os.ReadDir(d.Dir()); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", name, left, err)
		}
	}
}

// A change that keeps inode, size and time of modification is seen: the time of the inode's own change gives it away.
func TestCheckSeesWhatIsHidden(t *testing.T) {
	t.Parallel()
	d := depot.Open(t.TempDir())
	sum := put(t, d, script("hashes 1.0.0"))
	if err := d.Check(sum); err != nil {
		t.Fatal(err)
	}
	path := d.Path(sum)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("2"), info.Size()-2)
	if err := errors.Join(err, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(sum); !errors.Is(err, launch.ErrDigest) {
		t.Errorf("got %v", err)
	}
}

func TestDescribeStartsOnce(t *testing.T) {
	t.Parallel()
	d := depot.Open(t.TempDir())
	sum := put(t, d, script("hashes 1.0.0"))
	first, err := d.Describe(t.Context(), "hashes", sum, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Without its program it could not be started any more.
	if err := os.Remove(d.Path(sum)); err != nil {
		t.Fatal(err)
	}
	again, err := d.Describe(t.Context(), "hashes", sum, nil)
	if err != nil || again.GetName() != "hashes" || again.GetVersion() != first.GetVersion() {
		t.Errorf("got %v, %v", again, err)
	}
	_, err = d.Describe(t.Context(), "mashes", sum, nil)
	wantErr(t, err, `calls itself "hashes", not "mashes"`)
	if _, err := d.Describe(t.Context(), "hashes", sum, []string{"--other"}); err == nil {
		t.Error("what it said with other arguments was believed")
	}
}

func TestDescribeRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		program []byte
		want    string
	}{
		"a name with an escape": {script("has\x1b[2Jhes 1.0.0"), "no connector's name"},
		"no version":            {script("hashes \x07"), "is none"},
		"no connector":          {script(""), "this is no connector"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := depot.Open(t.TempDir())
			_, err := d.Describe(t.Context(), "", put(t, d, tt.program), nil)
			wantErr(t, err, tt.want)
		})
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	d := depot.Open(t.TempDir())
	path := write(t, "hashes", script("hashes 1.0.0"))
	sum, err := depot.Sum(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Import(path, strings.Repeat("0", 64)); !errors.Is(err, launch.ErrDigest) {
		t.Errorf("another digest: %v", err)
	}
	if err := errors.Join(d.Import(path, sum), d.Verify(sum)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, script("hashes 6.6.6"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Import(path, sum); !errors.Is(err, launch.ErrDigest) {
		t.Errorf("the original was replaced: %v", err)
	}
	if resp, err := d.Describe(t.Context(), "hashes", sum, nil); err != nil || resp.GetVersion() != "1.0.0" {
		t.Errorf("the stored copy: %v, %v", resp, err)
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	d := depot.Open(t.TempDir())
	if d.Recall("hashes", "unix:///a") != nil {
		t.Error("an empty depot remembers something")
	}
	if err := d.Remember("hashes", "unix:///a", &connectorv1.DescribeResponse{Name: "hashes", Version: "1.0.0"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("1.0.0", d.Recall("hashes", "unix:///a").GetVersion()); diff != "" {
		t.Error(diff)
	}
	if d.Recall("hashes", "unix:///b") != nil {
		t.Error("another address is believed to be the same connector")
	}
}
