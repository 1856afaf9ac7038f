package azurefake

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// client speaks to a fake as a stranger would: HTTP only.
type client struct {
	t     *testing.T
	http  *http.Client
	token string
}

func newFake(t *testing.T, o Options) *Server {
	t.Helper()
	s := New(o)
	t.Cleanup(s.Close)
	return s
}

// graph returns a client with a token for Graph, logs one for Log Analytics.
func graph(t *testing.T, s *Server) *client { return signIn(t, s, "https://graph.microsoft.com") }

func logsOf(t *testing.T, s *Server) *client {
	return signIn(t, s, "https://api.loganalytics.io")
}

func signIn(t *testing.T, s *Server, resource string) *client {
	t.Helper()
	c := &client{t: t, http: &http.Client{Transport: s.Transport()}}
	status, body := c.form(s, s.Tenant(), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {s.ClientID()}, "client_secret": {s.ClientSecret()},
		"scope": {resource + "/.default openid offline_access profile"},
	})
	if status != http.StatusOK {
		t.Fatalf("token: %d %v", status, body)
	}
	c.token = body["access_token"].(string)
	return c
}

func (c *client) form(_ *Server, tenant string, form url.Values) (int, map[string]any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://login.microsoftonline.com/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, c.decode(resp)
}

func (c *client) decode(resp *http.Response) map[string]any {
	c.t.Helper()
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(raw) == 0 {
		return nil
	}
	var out map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		c.t.Fatalf("%v in %s", err, raw)
	}
	return out
}

func (c *client) try(method, path string, body any, header ...string) (*http.Response, error) {
	c.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = "https://fake.example" + path
	}
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, path, in)
	if err != nil {
		c.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(req)
}

func (c *client) do(method, path string, body any, header ...string) (int, map[string]any) {
	c.t.Helper()
	resp, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, c.decode(resp)
}

// want does a request and demands a status.
func (c *client) want(status int, method, path string, body any, header ...string) map[string]any {
	c.t.Helper()
	got, out := c.do(method, path, body, header...)
	if got != status {
		c.t.Fatalf("%s %s: status %d, want %d; body %v", method, path, got, status, out)
	}
	return out
}

func code(body map[string]any) string {
	e, _ := body["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

func ids(body map[string]any) []string {
	out := []string{}
	for _, v := range body["value"].([]any) {
		out = append(out, v.(map[string]any)["id"].(string))
	}
	return out
}

func mustAdd(t *testing.T, s *Server, alert map[string]any) string {
	t.Helper()
	id, err := s.AddAlertObject(alert)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// clock is a clock that tests set.
type clock struct{ at chan time.Time }

func newClock() *clock {
	c := &clock{make(chan time.Time, 1)}
	c.at <- time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	return c
}

func (c *clock) now() time.Time {
	t := <-c.at
	c.at <- t
	return t
}

func (c *clock) advance(d time.Duration) { c.at <- (<-c.at).Add(d) }
