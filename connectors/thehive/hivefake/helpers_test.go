package hivefake

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// client speaks to a fake as a stranger would: HTTP only.
type client struct {
	t    *testing.T
	http *http.Client
	base string
	key  string
	org  string
}

func newFake(t *testing.T, o Options) (*Server, *client) {
	t.Helper()
	s := New(o)
	t.Cleanup(s.Close)
	return s, &client{t: t, http: &http.Client{Transport: s.Transport()}, base: "http://hive.example" + o.ContextPath + "/api/v1", key: s.APIKey()}
}

func (c *client) try(method, path string, body any) (*http.Response, error) {
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
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if c.org != "" {
		req.Header.Set("X-Organisation", c.org)
	}
	return c.http.Do(req)
}

// want does a request and demands a status; the result is an object, a list, a number, or nil.
func (c *client) want(status int, method, path string, body any) any {
	c.t.Helper()
	resp, err := c.try(method, path, body)
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
	if len(raw) == 0 {
		return nil
	}
	var out any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		c.t.Fatalf("%v in %s", err, raw)
	}
	return out
}

// get is want for an object.
func (c *client) get(status int, method, path string, body any) map[string]any {
	c.t.Helper()
	out, _ := c.want(status, method, path, body).(map[string]any)
	return out
}

// query runs a chain and returns the objects.
func (c *client) query(ops ...map[string]any) []map[string]any {
	c.t.Helper()
	out := []map[string]any{}
	for _, one := range c.want(200, "POST", "/query", map[string]any{"query": ops}).([]any) {
		out = append(out, one.(map[string]any))
	}
	return out
}

func op(name string, pairs ...any) map[string]any {
	out := map[string]any{"_name": name}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

func is(verb, field string, value any) map[string]any {
	return map[string]any{verb: map[string]any{"_field": field, "_value": value}}
}

func alert(ref string, pairs ...any) map[string]any {
	out := map[string]any{"type": "casewire", "source": "contoso", "sourceRef": ref, "title": "Title of " + ref, "description": "text"}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(out, pairs[i].(string))
		} else {
			out[pairs[i].(string)] = pairs[i+1]
		}
	}
	return out
}

// create makes an alert and returns its id.
func (c *client) create(ref string, pairs ...any) string {
	c.t.Helper()
	return c.get(201, "POST", "/alert", alert(ref, pairs...))["_id"].(string)
}

// promote makes a case of an alert.
func (c *client) promote(id string) map[string]any {
	c.t.Helper()
	return c.get(201, "POST", "/alert/"+id+"/case", map[string]any{})
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
