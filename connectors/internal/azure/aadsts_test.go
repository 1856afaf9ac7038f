package azure

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin"
)

func refusalBody(code int, kind string) []byte {
	return fmt.Appendf(nil, `{"error":%q,"error_description":"AADSTS%d: Microsoft's own text. Trace ID: T-1 Correlation ID: C-1 Timestamp: 2026-11-23 12:00:00Z","error_codes":[%[2]d],"trace_id":"T-1","correlation_id":"C-1"}`, kind, code)
}

// Every code that is known says in plain words what is wrong, with the code for whoever looks it up and the ids for
// Microsoft's support; one that is not known keeps Microsoft's text.
func TestCodesInPlainWords(t *testing.T) {
	t.Parallel()
	app := &teller{cred: bySecret(""), host: "login.example"}
	person := &teller{cred: bySecret(""), host: "login.example", login: "casewire auth login alerts"}
	for _, code := range []int{
		7000215, 7000222, 7000218, 700016, 90002, 65001, 50076, 50079, 53003, 530003, 700024, 700027, 700213, 700211, 700212, 500011,
		70011, 1002012, 50034, 50173, 70008, 70043, 700082, 50194, 900382,
	} {
		if remedies[code] == "" {
			t.Errorf("AADSTS%d has no words", code)
		}
	}
	for code, words := range remedies {
		e := app.refused(graph, http.StatusBadRequest, http.Header{}, refusalBody(code, "invalid_client"))
		if e.Reason != fmt.Sprintf("AADSTS%d", code) || !strings.Contains(e.Message, fmt.Sprintf("AADSTS%d: %s", code, words)) ||
			!strings.Contains(e.Message, "trace id T-1, correlation id C-1") || e.RequestID != "T-1" || strings.Contains(e.Message, "Microsoft's own text") {
			t.Errorf("app: got %s", e.Message)
		}
		if want := plugin.ClassAuth; e.Class() != want && !passing[code] || passing[code] && e.Class() != plugin.ClassUnavailable {
			t.Errorf("AADSTS%d: class %s", code, e.Class())
		}
		if strings.Contains(e.Message, "auth login") {
			t.Errorf("an app is asked to sign in: %s", e.Message)
		}
		e = person.refused(graph, http.StatusBadRequest, http.Header{}, refusalBody(code, "invalid_grant"))
		if strings.Contains(e.Message, "; sign in again: casewire auth login alerts") == passing[code] {
			t.Errorf("person: got %s", e.Message)
		}
	}
	for _, tc := range []struct {
		who  *teller
		kind string
		want string
	}{
		{app, "invalid_client", "AADSTS123456: Microsoft's own text. (trace id T-1"},
		{person, "invalid_grant", "AADSTS123456: Microsoft's own text.; sign in again: casewire auth login alerts (trace id T-1"},
		{person, "server_error", "AADSTS123456: Microsoft's own text. (trace id T-1"},
		{person, "authorization_declined", "the sign-in was declined; begin anew"},
		{person, "expired_token", "nobody signed in in time"},
	} {
		if e := tc.who.refused(graph, http.StatusBadRequest, http.Header{}, refusalBody(123456, tc.kind)); !strings.Contains(e.Message, tc.want) {
			t.Errorf("%s: got %s", tc.kind, e.Message)
		}
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(refusalBody(50173, "invalid_grant"), 400)
	f.Add([]byte(`{"error":1}`), 500)
	f.Add([]byte(`<html>`), 403)
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		c := bySecret("")
		e := (&teller{cred: c, host: "login.example", login: "casewire auth login x"}).refused(graph, status, http.Header{}, body)
		if e.Message == "" || strings.Contains(e.Message, secret) || len(e.Message) > 4096 {
			t.Errorf("got %q", e.Message)
		}
	})
}
