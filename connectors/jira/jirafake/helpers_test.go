package jirafake

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// client speaks to a fake as a stranger would: HTTP only.
type client struct {
	t     *testing.T
	s     *Server
	http  *http.Client
	base  string
	login func(*http.Request)
}

func newFake(t *testing.T, o Options) (*Server, *client) {
	t.Helper()
	s := New(o)
	t.Cleanup(s.Close)
	u := s.User()
	return s, &client{
		t: t, s: s, http: &http.Client{Transport: s.Transport()}, base: "https://jira.example" + o.ContextPath,
		login: func(r *http.Request) { r.SetBasicAuth(u.Email, u.APIToken) },
	}
}

func (c *client) try(method, path string, body any, header ...string) (*http.Response, error) {
	c.t.Helper()
	var in io.Reader
	if body != nil {
		raw, isRaw := body.(string)
		if !isRaw {
			enc, err := json.Marshal(body)
			if err != nil {
				c.t.Fatal(err)
			}
			raw = string(enc)
		}
		in = strings.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, in)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.login != nil {
		c.login(req)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(req)
}

// want does a request and demands a status; the result is an object, a list, or nil.
func (c *client) want(status int, method, path string, body any, header ...string) any {
	c.t.Helper()
	resp, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != status {
		c.t.Fatalf("%s %s: status %d, want %d; body %s", method, path, resp.StatusCode, status, raw)
	}
	if len(raw) == 0 || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return nil
	}
	var out any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		if status == http.StatusUnauthorized {
			return string(raw)
		}
		c.t.Fatalf("%v in %s", err, raw)
	}
	return out
}

// get is want for an object.
func (c *client) get(status int, method, path string, body any, header ...string) map[string]any {
	c.t.Helper()
	out, _ := c.want(status, method, path, body, header...).(map[string]any)
	return out
}

// create makes an issue and returns its key and id.
func (c *client) create(more map[string]any, props ...any) (key, id string) {
	c.t.Helper()
	out := c.get(201, "POST", "/rest/api/2/issue", map[string]any{"fields": fields(more), "properties": append([]any{}, props...)})
	return out["key"].(string), out["id"].(string)
}

func fields(more map[string]any) map[string]any {
	out := map[string]any{"project": map[string]any{"key": "SOC"}, "issuetype": map[string]any{"name": "Task"}, "summary": "A summary"}
	for k, v := range more {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// search returns the ids that a query finds.
func (c *client) search(jql string, more map[string]any) []string {
	c.t.Helper()
	body := map[string]any{"jql": jql}
	maps.Copy(body, more)
	return ids(c.get(200, "POST", "/rest/api/2/search/jql", body))
}

func ids(page map[string]any) []string {
	out := []string{}
	for _, i := range page["issues"].([]any) {
		out = append(out, i.(map[string]any)["id"].(string))
	}
	return out
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
