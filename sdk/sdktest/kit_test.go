package sdktest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// The test binary plays connectors in processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "connector" {
		switch os.Args[2] {
		case "thing":
			sdk.Serve(connector())
		case "counter":
			sdk.Serve(counter(&atomic.Int64{}))
		case "rude":
			fmt.Fprintln(os.Stderr, "no manners")
			fmt.Println("hello")
			os.Exit(1)
		}
	}
	Main(m)
}

func cfg() config { return config{Token: sdk.NewSecret("long-token"), Wait: time.Minute} }

// The same calls work on a real process; a crash is a SIGKILL, after which the connection is there again.
func TestBinary(t *testing.T) {
	t.Parallel()
	h := Binary(t, os.Args[0], "connector", "thing").Open(t, cfg())
	var out output
	for range 2 {
		if err := h.Call(t.Context(), "do", nil, &out); err != nil || out.Name != "1m0s" {
			t.Fatalf("got %+v, %v", out, err)
		}
		h.Crash()
	}
	if _, err := Binary(t, os.Args[0], "connector", "thing").Try(t, map[string]any{}); err == nil || !strings.Contains(err.Error(), "/token") {
		t.Errorf("a configuration without a token: %v", err)
	}
}

type fatal struct {
	testing.TB
	said string
}

func (f *fatal) Helper() {}
func (f *fatal) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

func TestBinaryThatIsNoConnector(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{"rude": `first line is "hello\n"`, "-": "ended before it announced itself"} {
		f := &fatal{TB: t}
		func() {
			defer func() { _ = recover() }()
			path, rest := os.Args[0], []string{"connector", args}
			if args == "-" {
				path, rest = "/bin/true", nil
			}
			Binary(t, path, rest...).Open(f, nil)
		}()
		if !strings.Contains(f.said, want) {
			t.Errorf("%s: the kit said %q", args, f.said)
		}
	}
}

type number struct {
	N int64 `json:"n"`
}

// counter counts its calls in the world outside, and its own life in memory.
func counter(world *atomic.Int64) *sdk.Connector {
	c := sdk.New("counter", "1.0.0", "Counts.", func(_ context.Context, _ struct{}, env sdk.Env) (*sdk.Env, error) { return &env, nil })
	sdk.Action(c, "add", "Add one.", func(e *sdk.Env, ctx context.Context, _ struct{}) (number, error) {
		if sdk.CallFrom(ctx).Resolve {
			if n := world.Load(); n > 0 {
				return number{n}, nil
			}
			return number{}, sdk.Absent("nothing was added")
		}
		n := world.Add(1)
		e.SaveState(fmt.Appendf(nil, "%d", n))
		return number{n}, nil
	}, sdk.Keyed)
	sdk.Action(c, "state", "The state at the start.", func(e *sdk.Env, _ context.Context, _ struct{}) (output, error) {
		return output{Name: string(e.State)}, nil
	}, sdk.Read)
	return c
}

// The answer to a write is lost with the connector: the effect is there, nobody was told, and a look finds it.
func TestCrashAt(t *testing.T) {
	t.Parallel()
	var world atomic.Int64
	h := Open(t, counter(&world), nil)
	if err := h.Call(t.Context(), "add", nil, nil); err != nil || string(h.State()) != "1" {
		t.Fatalf("state %q, %v", h.State(), err)
	}
	h.CrashAt(1)
	_, err := h.Do(t.Context(), Call{Action: "add", Key: "k"})
	if e := plugin.FromError(err); err == nil || e.Class() != plugin.ClassUncertain || world.Load() != 2 {
		t.Fatalf("got %v after %d calls", err, world.Load())
	}
	res, err := h.Do(t.Context(), Call{Action: "add", Key: "k", Resolve: true})
	if err != nil || string(res.Output) != `{"n":2}` || world.Load() != 2 {
		t.Errorf("got %v, %v after %d calls", res, err, world.Load())
	}
	var out output
	if err := h.Call(t.Context(), "state", nil, &out); err != nil || out.Name != "1" {
		t.Errorf("began again with state %q, %v; what was lost with the answer must not be kept", out.Name, err)
	}
}

// An hour passes in no time inside a bubble: calls over the real protocol, an HTTP fake without a socket.
func TestBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if time.Since(began) < time.Hour {
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			fmt.Fprintf(w, `{"name":%q}`, r.URL.Path)
		})
		c := sdk.New("late", "1.0.0", "Late.", func(context.Context, struct{}, sdk.Env) (*rest.Client, error) {
			return rest.New(rest.Options{BaseURL: "https://late.example", Transport: HandlerTransport(api)})
		})
		sdk.Action(c, "get", "Get.", func(api *rest.Client, ctx context.Context, _ struct{}) (o output, err error) {
			return o, api.Get(ctx, "/x", nil, &o)
		}, sdk.Read)
		h := Open(t, c, nil)
		err := h.Call(t.Context(), "get", nil, nil)
		e := plugin.FromError(err)
		if err == nil || e.RetryAfter != time.Hour {
			t.Fatalf("got %v", err)
		}
		time.Sleep(e.RetryAfter) //nolint:forbidigo // the bubble's time
		var out output
		if err := h.Call(t.Context(), "get", nil, &out); err != nil || out.Name != "/x" {
			t.Errorf("got %+v, %v", out, err)
		}
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.json")
	if err := os.WriteFile(file, []byte(`{"b": 12345678901234567890, "a": "<x>"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &witness{TB: t}
	Golden(w, file, json.RawMessage(`{"a":"<x>","b":12345678901234567890}`))
	if len(w.said) != 0 {
		t.Errorf("equal, but the kit said %q", w.said)
	}
	Golden(w, file, map[string]any{"a": "<x>"})
	Golden(w, filepath.Join(t.TempDir(), "none.json"), nil)
	if len(w.said) != 2 || !strings.Contains(w.said[0], "-want +got") || !strings.Contains(w.said[1], "-sdktest.update") {
		t.Errorf("the kit said %q", w.said)
	}
}

// stage is a test whose failures and clean-ups are its own.
type stage struct {
	witness
	done []func()
}

func (s *stage) Cleanup(f func()) { s.done = append(s.done, f) }
func (s *stage) Failed() bool     { return len(s.said) > 0 }
func (s *stage) Error(args ...any) {
	s.said = append(s.said, fmt.Sprint(args...))
}
func (s *stage) Logf(string, ...any) {}
func (s *stage) end() {
	for _, f := range s.done {
		f()
	}
}

const cassetteToken = "tok/en+of a cassette"

// talk makes three requests, two of them equal, with secrets in every place where one can be.
func talk(t *testing.T, tr http.RoundTripper, base string) []string {
	t.Helper()
	var got []string
	for _, body := range []string{`{"q":1,"client_secret":"s3cr3t-a"}`, `{"client_secret":"s3cr3t-b", "q":1}`, ""} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v1/x?api_key=k3y&t="+strings.NewReplacer("/", "%2F", "+", "%2B", " ", "+").Replace(cassetteToken), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+cassetteToken)
		req.Header.Set("Content-Type", "application/json")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("X-Request-Id"), b))
	}
	return got
}

// What was recorded is replayed: the same answers in the same order, without a server and without a secret in the file.
func TestCassette(t *testing.T) {
	t.Parallel()
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("X-Request-Id", fmt.Sprint(n))
		w.Header().Set("Set-Cookie", "session=abcdef")
		w.Header().Set("Content-Type", "application/json")
		b, _ := io.ReadAll(r.Body)
		if len(b) == 0 {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprintf(w, `{"n":%d,"access_token":"a-real-one","seen":%q}`, n, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "sub", "x.har")
	opts := CassetteOptions{Secrets: []sdk.Secret{sdk.NewSecret(cassetteToken)}}
	rec := &stage{witness: witness{TB: t}}
	first := talk(t, newCassette(rec, file, opts, true), server.URL)
	rec.end()
	if rec.Failed() || len(first) != 3 || !strings.Contains(first[0], "a-real-one") || !strings.HasPrefix(first[2], "404 3") {
		t.Fatalf("recorded %q, said %q", first, rec.said)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{cassetteToken, "s3cr3t", "k3y", "a-real-one", "abcdef", "tok%2F"} {
		if strings.Contains(string(text), s) {
			t.Errorf("%s is in the file", s)
		}
	}
	server.Close()
	play := &stage{witness: witness{TB: t}}
	tape := newCassette(play, file, opts, false)
	second := talk(t, tape, server.URL)
	for i, s := range second {
		if want := fmt.Sprintf("%s %d {", strings.Fields(first[i])[0], i+1); !strings.HasPrefix(s, want) {
			t.Errorf("replayed %q, want %s…", s, want)
		}
	}
	play.end()
	if play.Failed() {
		t.Errorf("said %q", play.said)
	}
	if third := talk(t, tape, server.URL); len(play.said) != 3 || !strings.Contains(third[0], "no answer left for POST") {
		t.Errorf("a fourth request: %q, said %q", third, play.said)
	}
	idle := &stage{witness: witness{TB: t}}
	newCassette(idle, file, opts, false)
	idle.end()
	if len(idle.said) != 3 || !strings.Contains(idle.said[0], "nobody asked for POST") {
		t.Errorf("said %q", idle.said)
	}
}
