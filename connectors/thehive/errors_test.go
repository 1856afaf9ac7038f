package thehive

import (
	"net/http"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin"
)

// TestEveryRefusalSaysWhatItIs holds the errors of a write against the shapes that TheHive and what stands before it answer in.
func TestEveryRefusalSaysWhatItIs(t *testing.T) {
	t.Parallel()
	const html = "<html><head><title>502</title></head><body>Bad gateway</body></html>"
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		status int
		class  plugin.Class
		says   string
	}{
		"bad request":   {answer(400, `{"type":"BadRequest","message":"Invalid format for severity"}`), 400, plugin.ClassInvalid, "BadRequest: Invalid format for severity"},
		"empty object":  {answer(400, `{}`), 400, plugin.ClassInvalid, "400"},
		"object within": {answer(400, `{"type":"BadRequest","message":{"field":"x"}}`), 400, plugin.ClassInvalid, `{"field":"x"}`},
		"key revoked":   {answer(401, `{"type":"AuthenticationError","message":"Authentication failure"}`), 401, plugin.ClassAuth, "make a new key"},
		"permission":    {answer(403, `{"type":"AuthorizationError","message":"no"}`), 403, plugin.ClassDenied, "the user's profile in organisation soc does not permit it"},
		"not found":     {answer(404, `{"type":"NotFoundError","message":"Case not found"}`), 404, plugin.ClassNotFound, "Case not found"},
		"conflict":      {answer(409, `{"type":"ConflictError","message":"x"}`), 409, plugin.ClassConflict, "ConflictError"},
		"too large":     {answer(413, html, "Content-Type", "text/html"), 413, plugin.ClassTooLarge, "Bad gateway"},
		"throttled":     {answer(429, `{"type":"TooManyRequests","message":"slow"}`, "Retry-After", "3"), 429, plugin.ClassThrottled, "slow"},
		"server":        {answer(500, `{"type":"GenericError","message":"boom"}`), 500, plugin.ClassUncertain, "GenericError: boom"},
		"server, empty": {answer(500, ""), 500, plugin.ClassUncertain, "500 Internal Server Error"},
		"proxy":         {answer(502, html, "Content-Type", "text/html"), 502, plugin.ClassUncertain, "Bad gateway"},
		"sign-in page":  {answer(200, html, "Content-Type", "text/html"), 200, plugin.ClassUncertain, "HTML"},
		"giant":         {answer(500, `{"type":"GenericError","message":"`+strings.Repeat("x", 1<<20)+`"}`), 500, plugin.ClassUncertain, "500"},
		"redirect":      {answer(302, "", "Location", "https://login.example/"), 302, plugin.ClassConfig, "check the configured address"},
		"broken off":    {breakOff(200, `{"_id":`), 200, plugin.ClassUncertain, "broke off"},
		"cut":           {drop, 0, plugin.ClassUncertain, "PATCH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hive(t, "5.6.0", "", map[string]http.HandlerFunc{
				"GET /api/v1/status": answer(200, `{"license":{"isValid":true}}`),
				routePatch: func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Request-Id", "req-77")
					tt.answer(w, r)
				},
			})
			_, err := do[Changed](t, s.open(), call("case.update", map[string]any{"case": "~200", "title": "T"}))
			e := asError(t, err)
			if e.Class() != tt.class || e.HTTPStatus != tt.status || !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Error(), "TheHive") ||
				!strings.Contains(e.Error(), "update case ~200") || len(e.Error()) > 4096 {
				t.Errorf("%v of class %s, status %d", e, e.Class(), e.HTTPStatus)
			}
			if tt.status != 0 && e.RequestID != "req-77" {
				t.Errorf("request id %q", e.RequestID)
			}
		})
	}
}
