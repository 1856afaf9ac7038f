package jira

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestEveryAnswerToACreateHasItsClass(t *testing.T) {
	t.Parallel()
	const none, unknown = plugin.EffectNone, plugin.EffectUnknown
	html := "<!DOCTYPE html><html><head><title>Log in - Acme</title></head></html>"
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		class  plugin.Class
		effect any
		says   string
	}{
		"400 field":     {answer(400, `{"errorMessages":[],"errors":{"priority":"gibt es nicht"}}`), plugin.ClassInvalid, none, "/fields/priority: gibt es nicht"},
		"400 hint":      {answer(400, `{"errorMessages":[],"errors":{"priority":"x"}}`), plugin.ClassInvalid, none, "set priorities in the connection"},
		"400 odd types": {answer(400, `{"errorMessages":"alone","errors":{"summary":["a","b"],"x":{"y":1}}}`), plugin.ClassInvalid, none, "/fields/summary: a; b"},
		"400 no errors": {answer(400, `{"errorMessages":["unreadable"]}`), plugin.ClassInvalid, none, "unreadable"},
		"400 problem":   {answer(400, `{"title":"Bad","detail":"because","status":400}`, "Content-Type", "application/problem+json"), plugin.ClassInvalid, none, "Bad; because"},
		"401":           {answer(401, "Client must be authenticated", "Content-Type", "text/plain"), plugin.ClassAuth, none, "credential is refused"},
		"401 html":      {answer(401, html, "Content-Type", "text/html"), plugin.ClassAuth, none, "a web page titled Log in - Acme"},
		"401 captcha":   {answer(401, "", "X-Seraph-LoginReason", "AUTHENTICATION_DENIED"), plugin.ClassAuth, none, "CAPTCHA"},
		"403":           {answer(403, `{"errorMessages":["no"],"errors":{}}`), plugin.ClassDenied, none, "no"},
		"403 bearer":    {answer(403, `{"error":"Failed to parse Connect Session Auth Token"}`), plugin.ClassAuth, none, "email and api_token"},
		"404":           {answer(404, ""), plugin.ClassNotFound, none, "may not see it"},
		"405":           {answer(405, ""), plugin.ClassInvalid, none, "405"},
		"408":           {answer(408, ""), plugin.ClassUncertain, unknown, "it may have been done"},
		"409":           {answer(409, ""), plugin.ClassConflict, none, "409"},
		"410":           {answer(410, `{"errorMessages":["removed"],"errors":{}}`), plugin.ClassConfig, none, "deployment"},
		"413":           {answer(413, ""), plugin.ClassTooLarge, none, "limit"},
		"415":           {answer(415, ""), plugin.ClassInvalid, none, "415"},
		"422":           {answer(422, `{"errorMessages":["workflow"],"errors":{}}`), plugin.ClassInvalid, none, "workflow"},
		"429":           {answer(429, "", "Retry-After", "7", "RateLimit-Reason", "jira-burst-based"), plugin.ClassThrottled, none, "jira-burst-based"},
		"500":           {answer(500, `{"message":"boom","status-code":500,"stack-trace":""}`), plugin.ClassUncertain, unknown, "boom"},
		"502 html":      {answer(502, html), plugin.ClassUncertain, unknown, "a web page"},
		"503":           {answer(503, "", "Retry-After", "30"), plugin.ClassUncertain, unknown, "503"},
		"504":           {answer(504, ""), plugin.ClassUncertain, unknown, "504"},
		"301":           {answer(301, "", "Location", "https://sso.example/login?x"), plugin.ClassConfig, none, "https://sso.example;"},
		"302":           {answer(302, "", "Location", "https://sso.example/login?x"), plugin.ClassUncertain, unknown, "https://sso.example;"},
		"200 html":      {answer(200, html, "Content-Type", "text/html"), plugin.ClassUncertain, unknown, "a web page titled Log in"},
		"201 empty":     {answer(201, ""), plugin.ClassUncertain, unknown, "an empty body"},
		"201 no id":     {answer(201, `{"self":"x"}`), plugin.ClassUncertain, unknown, "names no issue"},
		"201 truncated": {breakOff(201, `{"id":"100`), plugin.ClassUncertain, unknown, "broke off"},
		"500 truncated": {breakOff(500, `{"errorMess`), plugin.ClassUncertain, unknown, "500"},
		"dropped":       {drop, plugin.ClassUncertain, unknown, "no answer from Jira"},
		"echoed token":  {answer(400, `{"errorMessages":["bad `+testToken+`"]}`), plugin.ClassInvalid, none, "bad [redacted]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, map[string]http.HandlerFunc{routeSearch: answer(200, nothing), routeCreate: tt.answer, routeTypes: answer(404, "")})
			_, err := do[Ensured](t, s.open(), ensure())
			e := asError(t, err)
			if e.Class() != tt.class || e.SideEffect != tt.effect {
				t.Errorf("class %s with side effect %v, want %s and %v: %v", e.Class(), e.SideEffect, tt.class, tt.effect, e)
			}
			if !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Error(), "create issue in SOC") {
				t.Errorf("error %q does not say %q", e, tt.says)
			}
			if n := strings.Count(strings.Join(s.asked(), "\n"), routeCreate); n != 1 {
				t.Errorf("the create was sent %d times", n)
			}
		})
	}
}

func TestRetryAfterIsReadFromEveryPlace(t *testing.T) {
	t.Parallel()
	reset := time.Now().Add(90 * time.Second).UTC().Format("2006-01-02T15:04:05Z")
	for name, tt := range map[string]struct {
		answer   http.HandlerFunc
		min, max time.Duration
	}{
		"seconds": {answer(429, "", "Retry-After", "7"), 7 * time.Second, 7 * time.Second},
		"reset":   {answer(429, "", "X-RateLimit-Reset", reset), 80 * time.Second, 91 * time.Second},
		"neither": {answer(429, ""), 0, 0},
		"503":     {answer(503, "", "Retry-After", "30"), 30 * time.Second, 30 * time.Second},
	} {
		s := script(t, map[string]http.HandlerFunc{routeSearch: tt.answer})
		_, err := do[Ensured](t, s.open(), ensure())
		if e := asError(t, err); e.RetryAfter < tt.min || e.RetryAfter > tt.max || e.SideEffect != plugin.EffectNone {
			t.Errorf("%s: wait %s, side effect %v", name, e.RetryAfter, e.SideEffect)
		}
	}
}

// A search is a POST, and yet a lost answer to it is no uncertainty: nothing was written.
func TestLostSearchIsNotUncertain(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{"500": answer(500, ""), "dropped": drop, "truncated": breakOff(200, `{"iss`), "html": answer(200, "<html>")} {
		s := script(t, map[string]http.HandlerFunc{routeSearch: h})
		_, err := do[Ensured](t, s.open(), ensure())
		if e := asError(t, err); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone {
			t.Errorf("%s: %v of class %s", name, e, e.Class())
		}
	}
}

func TestWriteThatNeverLeftIsNotUncertain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + l.Addr().String()
	_ = l.Close()
	h := sdktest.Open(t, Connector(), testConfig(base))
	_, err = do[Commented](t, h, sdktest.Call{Action: "issue.comment", Input: map[string]any{"issue": "SOC-1", "text": "x"}})
	if e := asError(t, err); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, "cannot be reached") {
		t.Errorf("refused connection: %v of class %s", e, e.Class())
	}
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	t.Cleanup(tls.Close)
	h = sdktest.Open(t, Connector(), testConfig(tls.URL))
	_, err = do[Commented](t, h, sdktest.Call{Action: "issue.comment", Input: map[string]any{"issue": "SOC-1", "text": "x"}})
	if e := asError(t, err); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone {
		t.Errorf("unknown certificate: %v of class %s", e, e.Class())
	}
}

func TestCredentialStaysAtItsHost(t *testing.T) {
	t.Parallel()
	var leaked, reached atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			leaked.Add(1)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(other.Close)
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	for _, status := range []int{301, 302, 303, 307, 308} {
		lost := status == 302 || status == 303
		away := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere+r.URL.Path, status) }
		s := script(t, map[string]http.HandlerFunc{
			"GET /rest/api/2/issue/SOC-1": away, routeSearch: away, routeCreate: away, routeEdit: away,
			"POST /rest/api/2/issue/SOC-1/comment": away,
		})
		h := s.open()
		for _, c := range []sdktest.Call{
			{Action: "issue.get", Input: map[string]any{"issue": "SOC-1"}},
			{Action: "issue.comment", Input: map[string]any{"issue": "SOC-1", "text": "x"}},
			ensure(),
			ensure(with("title", "news"), func(c *sdktest.Call) { c.Prior = Ensured{ID: "10024", Key: "SOC-24"} }),
		} {
			if _, err := h.Do(t.Context(), c); err != nil && c.Action != "issue.get" {
				if e := asError(t, err); (e.SideEffect == plugin.EffectUnknown) != (lost && c.Action == "issue.comment") {
					t.Errorf("%d: %s: %v has side effect %v", status, c.Action, e, e.SideEffect)
				}
			}
		}
	}
	if leaked.Load() > 0 {
		t.Errorf("the credential was sent to another host %d times", leaked.Load())
	}
	t.Logf("the other host was reached %d times without it", reached.Load())
}
