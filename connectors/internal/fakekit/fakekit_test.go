package fakekit

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var write = Route{Name: "thing.put", Write: true}

// server counts executions behind a kit.
type server struct {
	kit      *Kit
	executed atomic.Int64
}

func newServer(t *testing.T, seed uint64) *server {
	t.Helper()
	s := &server{kit: New(nil, seed, func(f Fault, status int) Reply {
		return JSON(status, map[string]string{"fault": string(f)})
	})}
	t.Cleanup(s.kit.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.kit.Serve(w, r, write, [3]string{}, func(*Call) Reply {
		s.executed.Add(1)
		return JSON(http.StatusCreated, map[string]string{"answer": "yes"})
	})
}

func put(t *testing.T, rt http.RoundTripper) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://fake.example/", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), errors.Join(err, resp.Body.Close())
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const whole = `{"answer":"yes"}`
	for _, tc := range []struct {
		fault    Fault
		status   int
		body     string
		err      bool
		executed int64
		outcome  string
	}{
		{None, 201, whole, false, 1, "201"},
		{Partial, 201, whole, false, 1, "201"},
		{Throttle, 429, `{"fault":"throttle"}`, false, 0, "429"},
		{Unavailable, 503, `{"fault":"unavailable"}`, false, 0, "503"},
		{ServerError, 500, `{"fault":"server_error"}`, false, 0, "500"},
		{Conflict, 409, `{"fault":"conflict"}`, false, 0, "409"},
		{HTML, 200, page, false, 0, "200-html"},
		{Reset, 0, "", true, 0, "reset"},
		{LostAnswer, 0, "", true, 1, "201-lost"},
		{ErrorAfter, 500, `{"fault":"error_after"}`, false, 1, "201-500"},
		{CutBody, 201, "", true, 1, "201-cut"},
		{BadJSON, 201, whole[:len(whole)/2], false, 1, "201-bad"},
		{Slow, 201, whole, false, 1, "201"},
	} {
		t.Run("fault "+string(tc.fault), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, 1)
			s.kit.SetFaults(Faults{Delay: time.Millisecond})
			s.kit.FailNext("write", tc.fault, 1)
			resp, body, err := put(t, Transport(s))
			switch {
			case tc.err:
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("error %v", err)
				}
			case err != nil || resp.StatusCode != tc.status || body != tc.body:
				t.Errorf("got %v %v %q", err, resp, body)
			}
			if s.executed.Load() != tc.executed || s.kit.Requests()[write.Name][tc.outcome] != 1 {
				t.Errorf("executed %d, tally %v", s.executed.Load(), s.kit.Requests())
			}
			if _, _, err := put(t, Transport(s)); err != nil || s.executed.Load() != tc.executed+1 {
				t.Errorf("the next request fails too: %v", err)
			}
		})
	}
}

// TestFaultsOverSockets: what a cut looks like to a real client.
func TestFaultsOverSockets(t *testing.T) {
	t.Parallel()
	s := newServer(t, 1)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	for i, fault := range []Fault{Reset, LostAnswer, CutBody} {
		s.kit.FailNext("*", fault, 1)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, srv.URL, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s went unnoticed", fault)
		}
		if s.executed.Load() != int64(i) {
			t.Errorf("%s: executed %d times", fault, s.executed.Load())
		}
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) string {
		s := newServer(t, seed)
		s.kit.SetFaults(Faults{Rates: map[string]map[Fault]float64{"*": {Throttle: 1}, "write": {Throttle: 0.3, ServerError: 0.2}}})
		var b strings.Builder
		for range 1000 {
			resp, _, err := put(t, Transport(s))
			if err != nil {
				t.Fatal(err)
			}
			b.WriteByte("0123456789"[resp.StatusCode/100%10])
		}
		return b.String()
	}
	a := draw(7)
	if a != draw(7) {
		t.Error("equal seeds draw different faults")
	}
	if a == draw(8) {
		t.Error("different seeds draw equal faults")
	}
	if n := strings.Count(a, "4"); n < 250 || n > 350 {
		t.Errorf("%d of 1000 throttled, want about 300", n)
	}
	if n := strings.Count(a, "5"); n < 150 || n > 250 {
		t.Errorf("%d of 1000 failed, want about 200", n)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", 1500 * time.Millisecond: "2", -1: ""} {
		s := newServer(t, 1)
		s.kit.SetFaults(Faults{RetryAfter: d, Rates: map[string]map[Fault]float64{write.Name: {Throttle: 1}}})
		resp, _, err := put(t, Transport(s))
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Retry-After"); got != want {
			t.Errorf("%v is told as %q, want %q", d, got, want)
		}
	}
}

func TestSlowEndsWithTheCallerAndWithTheKit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &server{kit: New(nil, 1, nil)}
		s.kit.SetFaults(Faults{Delay: time.Hour, Rates: map[string]map[Fault]float64{"*": {Slow: 1}}})
		errs := make(chan error, 1)
		go func() {
			_, _, err := put(t, Transport(s))
			errs <- err
		}()
		synctest.Wait()
		s.kit.Close()
		if err := <-errs; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
		if s.executed.Load() != 0 {
			t.Error("executed for a caller who has gone")
		}
	})
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	var l Limiter
	at := time.Unix(1000, 0)
	for range 3 {
		if wait := l.Take("a", at, 3, time.Minute); wait != 0 {
			t.Fatalf("refused for %v", wait)
		}
		at = at.Add(10 * time.Second)
	}
	if wait := l.Take("a", at, 3, time.Minute); wait != 30*time.Second {
		t.Errorf("wait %v", wait)
	}
	if wait := l.Take("b", at, 3, time.Minute); wait != 0 {
		t.Errorf("keys are not apart: %v", wait)
	}
	if wait := l.Take("a", at.Add(30*time.Second), 3, time.Minute); wait != 0 {
		t.Errorf("still refused for %v", wait)
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		body string
		ok   bool
	}{{"", true}, {"abc", true}, {"abcd", false}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tc.body))
		if got, ok := ReadBody(r, 3); ok != tc.ok || ok && string(got) != tc.body {
			t.Errorf("%q: %q %v", tc.body, got, ok)
		}
	}
}
