package rest

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/casewire/casewire/plugin"
)

// TestReadAsksAgain: what may pass is asked again, at most four times; what will not pass is not.
func TestReadAsksAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fail  func(http.ResponseWriter) // every answer but the good one
		good  int64                     // which answer is good; 0 means none
		asked int64
		class plugin.Class // of the error; empty means none
	}{
		"a page for people": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>Sign in</html>") }, 2, 2, ""},
		"server error":      {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, 3, 3, ""},
		"never good":        {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, 0, 4, plugin.ClassUnavailable},
		"refused":           {func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, 0, 1, plugin.ClassDenied},
		"throttled for long": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 2, 1, plugin.ClassThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			c := client(t, func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) == tc.good {
					_, _ = io.WriteString(w, `{"ok":true}`)
					return
				}
				tc.fail(w)
			})
			resp, err := c.Read(t.Context(), Request{Method: http.MethodPost, Path: "question", Write: new(false)})
			switch {
			case tc.class != "":
				if got := asError(t, err).Class(); got != tc.class {
					t.Errorf("class %s, want %s: %v", got, tc.class, err)
				}
			case err != nil || !strings.Contains(string(resp.Body), "true"):
				t.Errorf("%v, %v", resp, err)
			}
			if n := asked.Load(); n != tc.asked {
				t.Errorf("asked %d times, want %d", n, tc.asked)
			}
		})
	}
}
