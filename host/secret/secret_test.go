package secret_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/host/secret"
	"github.com/casewire/casewire/plugin"
)

// TestMain lets the test binary stand in for a command that prints secrets.
func TestMain(m *testing.M) {
	if mode := os.Getenv("CASEWIRE_TEST_COMMAND"); mode != "" && len(os.Args) > 1 && os.Args[1] == "print" {
		command(os.Args[2:])
		return
	}
	os.Exit(m.Run())
}

func command(args []string) {
	switch args[0] {
	case "ok":
		fmt.Printf("%s\n", strings.Join(args[1:], "|"))
	case "fail":
		fmt.Println("half-of-the-secret")
		fmt.Fprintln(os.Stderr, "vault is sealed\nmore")
		os.Exit(3)
	case "leak":
		fmt.Println("half-of-the-secret")
		fmt.Fprintln(os.Stderr, "got half-of-the-secret")
		os.Exit(3)
	case "hang":
		select {}
	case "flood":
		for range 2000 {
			fmt.Println(strings.Repeat("x", 1000))
		}
	case "empty":
		fmt.Println()
	case "nul":
		fmt.Print("a\x00b")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"env:NAME", "env:_a1", "file:/etc/secret", "file:rel/path with space", "exec:vault read -field=x secret/y", `exec:'/my tools/get' "a b"`} {
		r, err := secret.Parse(good)
		if err != nil || r.String() != good {
			t.Errorf("%s: %v, %v", good, r, err)
		}
	}
	for bad, want := range map[string]string{
		"hunter2-literal":   "not a reference",
		"hunter2:literal":   "not a reference",
		"":                  "not a reference",
		"env:":              "names nothing",
		"file: ":            "names nothing",
		"env:hunter2 x":     "name of an environment variable",
		"exec:'hunter2":     "a quote is not closed",
		"exec:''":           "names no command",
		"vault:secret/data": "not a reference",
	} {
		_, err := secret.Parse(bad)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q and not the text", bad, err, want)
		}
	}
}

func resolve(t *testing.T, r secret.Resolver, s string) (string, error) {
	t.Helper()
	ref, err := secret.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Resolve(t.Context(), ref)
	return v.Reveal(), err
}

func TestResolve(t *testing.T) {
	t.Setenv("CASEWIRE_TEST_SECRET", "from env\n")
	t.Setenv("CASEWIRE_TEST_EMPTY", "")
	t.Setenv("CASEWIRE_TEST_COMMAND", "1")
	dir := t.TempDir()
	write := func(name, data string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", "from file\r\n\n")
	write("pem", "-----BEGIN X-----\nabc\n-----END X-----\n")
	write("huge", strings.Repeat("x", secret.MaxSize+1))
	write("nul", "a\x00b")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := "exec:'" + self + "' print "
	tests := []struct{ ref, want, fails string }{
		{"env:CASEWIRE_TEST_SECRET", "from env", ""},
		{"env:CASEWIRE_TEST_NOT_SET", "", "env:CASEWIRE_TEST_NOT_SET: the environment variable is not set"},
		{"env:CASEWIRE_TEST_EMPTY", "", "the secret is empty"},
		{"file:token", "from file", ""},
		{"file:" + filepath.Join(dir, "token"), "from file", ""},
		{"file:pem", "-----BEGIN X-----\nabc\n-----END X-----", ""},
		{"file:missing", "", "file:missing: no such file or directory"},
		{"file:.", "", "is a directory"},
		{"file:huge", "", "more than"},
		{"file:nul", "", "zero byte"},
		{run + "ok a 'b c' \"d e\"", "a|b c|d e", ""},
		{run + "ok $HOME `id` ; ls", "$HOME|`id`|;|ls", ""},
		{run + "fail", "", "exit status 3: vault is sealed"},
		{run + "leak", "", "exit status 3"},
		{run + "empty", "", "the secret is empty"},
		{run + "flood", "", "printed more than"},
		{run + "nul", "", "zero byte"},
		{"exec:no-such-command-anywhere", "", "could not be run"},
		{"exec:./no-such-command", "", "could not be run"},
	}
	for _, tt := range tests {
		t.Run(tt.ref, func(t *testing.T) {
			got, err := resolve(t, secret.Resolver{Dir: dir}, tt.ref)
			switch {
			case tt.fails == "" && (err != nil || got != tt.want):
				t.Errorf("got %.80q, %v; want %q", got, err, tt.want)
			case tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails) || got != ""):
				t.Errorf("got %.80q, %v; want an error with %q", got, err, tt.fails)
			case err != nil && (strings.Contains(err.Error(), "half-of-the-secret") || strings.Contains(err.Error(), "more\n")):
				t.Errorf("the error shows what the command printed: %v", err)
			}
		})
	}
	t.Run("time-out", func(t *testing.T) {
		_, err := resolve(t, secret.Resolver{Timeout: 50 * time.Millisecond}, run+"hang")
		if err == nil || !strings.Contains(err.Error(), "did not finish within 50ms") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ref, err := secret.Parse(run + "hang")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (secret.Resolver{}).Resolve(ctx, ref); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

const value = `s3cr3t+/"<&>é~zz9`

func TestRedactorForms(t *testing.T) {
	t.Parallel()
	r := secret.NewRedactor(plugin.NewSecret(value))
	inner := func(v string) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	texts := map[string]string{
		"raw":   "token is " + value + "!",
		"json":  inner("a " + value + " b"),
		"query": "https://x.example/?t=" + url.QueryEscape(value) + "&b=1",
		"path":  "https://x.example/" + url.PathEscape(value) + "/b",
		"hex":   hex.EncodeToString([]byte("user:" + value)),
	}
	for prefix := range 5 {
		whole := strings.Repeat("u", prefix) + value + "-tail"
		texts[fmt.Sprint("base64 ", prefix)] = base64.StdEncoding.EncodeToString([]byte(whole))
		texts[fmt.Sprint("base64url ", prefix)] = base64.RawURLEncoding.EncodeToString([]byte(whole))
	}
	for name, text := range texts {
		got := r.String(text)
		if !strings.Contains(got, plugin.Redacted) || strings.Contains(got, "s3cr3t") {
			t.Errorf("%s: %q became %q", name, text, got)
		}
		if b := r.Bytes([]byte(text)); string(b) != got {
			t.Errorf("%s: bytes became %q", name, b)
		}
	}
	plain := []byte("nothing to see, s3cr3")
	if b := r.Bytes(plain); &b[0] != &plain[0] {
		t.Error("clean bytes were copied")
	}
}

func TestRedactorManyLinesAndOverlap(t *testing.T) {
	t.Parallel()
	r := secret.NewRedactor(plugin.NewSecret("-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----"), plugin.NewSecret("abcd"), plugin.NewSecret("abcdefgh"))
	if got := r.String("line kqhkiG9w0BAQEF here -----BEGIN KEY-----"); got != "line [redacted] here -----BEGIN KEY-----" {
		t.Errorf("got %q", got)
	}
	if got := r.String("xabcdefghx"); got != "x[redacted]x" {
		t.Errorf("the end of the longer secret is left: %q", got)
	}
	r.Add(plugin.NewSecret("xyz"), plugin.NewSecret(""), plugin.NewSecret("later-secret"))
	if got := r.String("xyz later-secret abcd"); got != "xyz [redacted] [redacted]" {
		t.Errorf("got %q", got)
	}
	var zero secret.Redactor
	if got := zero.String("abcd"); got != "abcd" {
		t.Errorf("zero: %q", got)
	}
}

type leaky struct{ Token string }

func TestHandler(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r := secret.NewRedactor(plugin.NewSecret("hunter2-hunter2"))
	log := slog.New(r.Handler(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo})))
	log = log.With("bound", "hunter2-hunter2").WithGroup("g")
	log.Info("msg hunter2-hunter2",
		"s", "x hunter2-hunter2", "err", errors.New("bad hunter2-hunter2"), "bytes", []byte("hunter2-hunter2"), "struct", leaky{"hunter2-hunter2"},
		"map", map[string]any{"a": "hunter2-hunter2"}, slog.Group("sub", "deep", "hunter2-hunter2"), "secret", plugin.NewSecret("hunter2-hunter2"),
		"clean", map[string]int{"n": 1}, "n", 7)
	log.Debug("not enabled")
	out := b.String()
	if strings.Contains(out, "hunter2") {
		t.Errorf("a secret is in the log: %s", out)
	}
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	g, _ := line["g"].(map[string]any)
	if line["bound"] != plugin.Redacted || g["n"] != 7.0 || g["clean"] == nil || line["msg"] != "msg [redacted]" {
		t.Errorf("got %s", out)
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("secret-value", "a", "b")
	f.Add("p\"\\<é\n\x00-long", "", "")
	f.Fuzz(func(t *testing.T, value, before, after string) {
		r := secret.NewRedactor(plugin.NewSecret(value))
		if len(value) < 4 {
			return
		}
		// What stands around may hold the value, or complete it anew; only a clean frame says something.
		if strings.Contains(before+after+plugin.Redacted, value) {
			return
		}
		got := r.String(before + value + after)
		if !strings.Contains(got, plugin.Redacted) {
			t.Errorf("nothing was redacted in %q", got)
		}
	})
}

func BenchmarkRedactor(b *testing.B) {
	var secrets []plugin.Secret
	for i := range 20 {
		secrets = append(secrets, plugin.NewSecret(fmt.Sprintf("secret-number-%d-%x", i, i*7919)))
	}
	r := secret.NewRedactor(secrets...)
	line := strings.Repeat("run succeeded connection=alerts step=case ", 5)
	b.ReportAllocs()
	for b.Loop() {
		if r.String(line) == "" {
			b.Fatal("empty")
		}
	}
}
