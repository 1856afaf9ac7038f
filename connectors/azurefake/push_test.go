package azurefake

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// echoing answers every handshake as it should and acknowledges everything else.
type echoing struct{}

func (echoing) RoundTrip(r *http.Request) (*http.Response, error) {
	return answer(r, 200, "text/plain", r.URL.Query().Get("validationToken")), nil
}

func answer(r *http.Request, status int, kind, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}
}

// receiver collects notifications.
type receiver struct {
	mu     sync.Mutex
	got    []map[string]any
	life   []map[string]any
	status func(n int) int // of the n-th delivery; nil means 202
	n      int
}

func (h *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Has("validationToken") {
		return echoing{}.RoundTrip(r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	if h.status != nil {
		if status := h.status(h.n); status != 202 {
			return answer(r, status, "text/plain", ""), nil
		}
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var body struct{ Value []map[string]any }
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	if strings.Contains(r.URL.Path, "life") {
		h.life = append(h.life, body.Value...)
	} else {
		h.got = append(h.got, body.Value...)
	}
	return answer(r, 202, "text/plain", ""), nil
}

func (h *receiver) alerts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []string{}
	for _, n := range h.got {
		out = append(out, n["resourceData"].(map[string]any)["id"].(string))
	}
	return out
}

func subscribe(target string, life time.Duration) map[string]any {
	return map[string]any{
		"changeType": "created,updated", "resource": "security/alerts_v2", "notificationUrl": target,
		"clientState": "state", "expirationDateTime": time.Now().Add(life).UTC().Format(time.RFC3339),
	}
}

// inBubble runs f with a fake that pushes to h, in a bubble where time passes at once.
func inBubble(t *testing.T, h *receiver, o Options, f func(t *testing.T, s *Server, c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.PushClient = &http.Client{Transport: h}
		s := New(o)
		defer s.Close()
		f(t, s, graph(t, s))
	})
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	h := &receiver{}
	inBubble(t, h, Options{}, func(t *testing.T, s *Server, c *client) {
		sub := c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n?c=7", time.Hour))
		mustAdd(t, s, map[string]any{"id": "a"})
		if err := s.UpdateAlert("a", map[string]any{"title": "x"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.alerts(); !slices.Equal(got, []string{"a", "a"}) {
			t.Fatalf("got %v", got)
		}
		first := h.got[0]
		if first["subscriptionId"] != sub["id"] || first["clientState"] != "state" || first["changeType"] != "created" ||
			first["resource"] != "security/alerts_v2/a" || first["tenantId"] != s.Tenant() || h.got[1]["changeType"] != "updated" {
			t.Errorf("got %v", h.got)
		}
		c.want(204, "DELETE", "/v1.0/subscriptions/"+sub["id"].(string), nil)
		mustAdd(t, s, map[string]any{"id": "b"})
		synctest.Wait()
		if len(h.alerts()) != 2 {
			t.Error("a deleted subscription was served")
		}
	})
}

func TestDeliverFiltered(t *testing.T) {
	t.Parallel()
	h := &receiver{}
	inBubble(t, h, Options{}, func(t *testing.T, s *Server, c *client) {
		body := subscribe("https://hooks.example/n", time.Hour)
		body["resource"] = "/security/alerts_v2?$filter=severity eq 'high'"
		body["changeType"] = "created"
		c.want(201, "POST", "/v1.0/subscriptions", body)
		mustAdd(t, s, map[string]any{"id": "low", "severity": "low"})
		mustAdd(t, s, map[string]any{"id": "high", "severity": "high"})
		if err := s.UpdateAlert("high", nil); err == nil {
			t.Error("null is no patch")
		}
		if err := s.UpdateAlert("high", map[string]any{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.alerts(); !slices.Equal(got, []string{"high"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestDeliverRetries(t *testing.T) {
	t.Parallel()
	h := &receiver{status: func(n int) int {
		if n < 4 {
			return 503
		}
		return 202
	}}
	inBubble(t, h, Options{}, func(t *testing.T, s *Server, c *client) {
		start := time.Now()
		c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", 24*time.Hour))
		mustAdd(t, s, map[string]any{"id": "a"})
		for len(h.alerts()) == 0 && time.Since(start) < time.Hour {
			<-time.After(time.Second) // fake time of the bubble
			synctest.Wait()
		}
		if waited := time.Since(start); waited < 7*time.Second || waited > 9*time.Second {
			t.Errorf("delivered after %v, want 1+2+4 s", waited)
		}
		p := s.Ledger().Pushes
		if p.Requests != 4 || p.Failed != 3 || p.Retried != 3 || p.Acknowledged != 1 {
			t.Errorf("ledger %+v", p)
		}
	})
}

func TestDeliverGivesUp(t *testing.T) {
	t.Parallel()
	h := &receiver{status: func(int) int { return 500 }}
	inBubble(t, h, Options{}, func(t *testing.T, s *Server, c *client) {
		c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", 24*time.Hour))
		mustAdd(t, s, map[string]any{"id": "a"})
		<-time.After(5 * time.Hour)
		synctest.Wait()
		if p := s.Ledger().Pushes; p.GivenUp != 1 || p.Acknowledged != 0 {
			t.Errorf("ledger %+v", p)
		}
	})
}

func TestPushChance(t *testing.T) {
	t.Parallel()
	h := &receiver{}
	inBubble(t, h, Options{Seed: 7, Push: Push{Drop: 0.2, Double: 0.2, Reorder: 0.3, WrongState: 0.1, Unknown: 0.1}}, func(t *testing.T, s *Server, c *client) {
		sub := c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", time.Hour))
		const n = 500
		for range n {
			mustAdd(t, s, map[string]any{})
		}
		<-time.After(time.Second)
		synctest.Wait()
		p := s.Ledger().Pushes
		forged := 0
		for _, item := range h.got {
			if item["clientState"] != "state" || item["subscriptionId"] != sub["id"] {
				forged++
			}
		}
		if uint64(forged) != p.Forged || p.Dropped == 0 || p.Doubled == 0 || p.Forged == 0 || p.Reordered == 0 {
			t.Errorf("forged %d, ledger %+v", forged, p)
		}
		if want := n - p.Dropped + p.Doubled + p.Forged; uint64(len(h.got)) != want || p.Acknowledged != want || p.Queued != want {
			t.Errorf("%d arrived, want %d; ledger %+v", len(h.got), want, p)
		}
		if got := h.alerts(); slices.IsSorted(got) {
			t.Error("nothing was reordered")
		}
		if p.Requests >= p.Sent {
			t.Errorf("no batches: %+v", p)
		}
	})
}

func TestReauthorization(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		h := &receiver{}
		inBubble(t, h, Options{Push: Push{KeepBacklog: keep}}, func(t *testing.T, s *Server, c *client) {
			body := subscribe("https://hooks.example/n", time.Hour)
			body["lifecycleNotificationUrl"] = "https://hooks.example/life"
			id := c.want(201, "POST", "/v1.0/subscriptions", body)["id"].(string)
			if n := s.RequestReauthorization(); n != 1 {
				t.Fatalf("%d were asked", n)
			}
			mustAdd(t, s, map[string]any{"id": "during"})
			<-time.After(time.Minute)
			synctest.Wait()
			if len(h.life) != 1 || h.life[0]["lifecycleEvent"] != "reauthorizationRequired" || h.life[0]["subscriptionId"] != id {
				t.Fatalf("lifecycle: %v", h.life)
			}
			if got := h.alerts(); len(got) != 0 {
				t.Fatalf("delivered during the pause: %v", got)
			}
			c.want(202, "POST", "/v1.0/subscriptions/"+id+"/reauthorize", nil)
			mustAdd(t, s, map[string]any{"id": "after"})
			<-time.After(time.Second)
			synctest.Wait()
			want := []string{"after"}
			if keep {
				want = []string{"during", "after"}
			}
			got := h.alerts()
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("keep %v: got %v, want %v", keep, got, want)
			}
			if lost := s.Ledger().Pushes.LostPaused; (lost == 0) != keep {
				t.Errorf("keep %v: lost %d", keep, lost)
			}
		})
	}
}

func TestSubscriptionLife(t *testing.T) {
	t.Parallel()
	h := &receiver{}
	inBubble(t, h, Options{MaxSubscriptions: 2}, func(t *testing.T, s *Server, c *client) {
		expiry := func(body map[string]any) time.Duration {
			at, err := time.Parse(time.RFC3339Nano, body["expirationDateTime"].(string))
			if err != nil {
				t.Fatal(err)
			}
			return time.Until(at).Round(time.Second)
		}
		sub := c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", time.Minute))
		if got := expiry(sub); got != 45*time.Minute {
			t.Errorf("a short life became %v", got)
		}
		path := "/v1.0/subscriptions/" + sub["id"].(string)
		c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", time.Hour))
		c.want(403, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", time.Hour))
		if list := c.want(200, "GET", "/v1.0/subscriptions", nil); len(ids(list)) != 2 {
			t.Errorf("list %v", list)
		}
		renew := func(d time.Duration) map[string]any {
			return map[string]any{"expirationDateTime": time.Now().Add(d).UTC().Format(time.RFC3339)}
		}
		if got := expiry(c.want(200, "PATCH", path, renew(48*time.Hour))); got != 48*time.Hour {
			t.Errorf("renewed for %v", got)
		}
		c.want(400, "PATCH", path, renew(43201*time.Minute))
		c.want(400, "PATCH", path, map[string]any{"lifecycleNotificationUrl": "https://hooks.example/life"})
		c.want(200, "PATCH", path, map[string]any{"notificationUrl": "https://hooks.example/elsewhere"})
		<-time.After(49 * time.Hour)
		s.RevokeTokens()
		c = graph(t, s)
		c.want(404, "GET", path, nil)
		c.want(404, "PATCH", path, renew(time.Hour))
		c.want(404, "POST", path+"/reauthorize", nil)
		c.want(404, "DELETE", path, nil)
		led := s.Ledger()
		if led.SubscriptionEvents["expired"] != 2 || led.Subscriptions != 0 || led.Handshakes["ok"] != 3 {
			t.Errorf("ledger %v %v", led.SubscriptionEvents, led.Handshakes)
		}
		c.want(201, "POST", "/v1.0/subscriptions", subscribe("https://hooks.example/n", time.Hour))
		if n := s.ExpireSubscriptions(); n != 1 || len(s.Subscriptions()) != 0 {
			t.Errorf("expired %d", n)
		}
	})
}

func TestSubscriptionRefusals(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{PushClient: &http.Client{Transport: echoing{}}})
	c := graph(t, s)
	for name, change := range map[string]map[string]any{
		"plain http":            {"notificationUrl": "http://hooks.example/n"},
		"no host":               {"notificationUrl": "https:///n"},
		"plain http lifecycle":  {"lifecycleNotificationUrl": "http://hooks.example/n"},
		"long state":            {"clientState": strings.Repeat("x", 129)},
		"too far":               {"expirationDateTime": time.Now().Add(43201 * time.Minute).UTC().Format(time.RFC3339)},
		"in the past":           {"expirationDateTime": time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)},
		"no time":               {"expirationDateTime": "soon"},
		"no change":             {"changeType": ""},
		"unknown change":        {"changeType": "created,moved"},
		"unknown resource":      {"resource": "me/messages"},
		"retired resource":      {"resource": "security/alerts?$filter=status eq 'newAlert'"},
		"filter out of reach":   {"resource": "security/alerts_v2?$filter=title eq 'x'"},
		"resource data":         {"includeResourceData": true},
		"unknown property":      {"colour": "red"},
		"unknown TLS version":   {"latestSupportedTlsVersion": "v9"},
		"unknown query options": {"resource": "security/alerts_v2?$top=3"},
	} {
		body := subscribe("https://hooks.example/n", time.Hour)
		maps.Copy(body, change)
		if got := c.want(400, "POST", "/v1.0/subscriptions", body); code(got) != "InvalidRequest" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if n := len(s.Subscriptions()); n != 0 {
		t.Errorf("%d subscriptions were left behind", n)
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want string
		h          http.HandlerFunc
	}{
		{"good", "ok", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") || r.URL.Query().Get("c") != "7" {
				http.Error(w, "not a handshake", http.StatusTeapot)
				return
			}
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, r.URL.Query().Get("validationToken"))
		}},
		{"still encoded", "body is not the token", func(w http.ResponseWriter, r *http.Request) {
			_, raw, _ := strings.Cut(r.URL.RawQuery, "validationToken=")
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, raw)
		}},
		{"decoded twice", "body is not the token", func(w http.ResponseWriter, r *http.Request) {
			again, err := url.QueryUnescape(r.URL.Query().Get("validationToken"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, again)
		}},
		{"as JSON", "content type is not text/plain", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, r.URL.Query().Get("validationToken"))
		}},
		{"accepted", "status 202 Accepted", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			hook := httptest.NewServer(tc.h)
			t.Cleanup(hook.Close)
			s := newFake(t, Options{})
			c := graph(t, s)
			status := 201
			if tc.want != "ok" {
				status = 400
			}
			c.want(status, "POST", "/v1.0/subscriptions", subscribe(hook.URL+"/n?c=7", time.Hour))
			if got := s.Ledger().Handshakes; got[tc.want] != 1 || len(got) != 1 {
				t.Errorf("handshakes %v, want %s", got, tc.want)
			}
		})
	}
}

// TestOverSockets runs the whole loop over real connections: subscribe, be told, look up.
func TestOverSockets(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	api := httptest.NewServer(s)
	t.Cleanup(api.Close)
	told := make(chan string, 16)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token := r.URL.Query().Get("validationToken"); token != "" {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, token)
			return
		}
		var body struct {
			Value []struct{ ResourceData struct{ ID string } }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, n := range body.Value {
			told <- n.ResourceData.ID
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(hook.Close)
	c := graph(t, s)
	c.http = api.Client()
	c.want(201, "POST", api.URL+"/graph/v1.0/subscriptions", subscribe(hook.URL, time.Hour))
	id := mustAdd(t, s, map[string]any{"title": "over the wire"})
	if got := <-told; got != id {
		t.Fatalf("told of %q, want %q", got, id)
	}
	if got := c.want(200, "GET", api.URL+"/graph"+base+"/"+id, nil); got["title"] != "over the wire" {
		t.Errorf("got %v", got)
	}
	mustAdd(t, s, map[string]any{})
	next := c.want(200, "GET", api.URL+"/graph"+base+"?$top=1", nil)["@odata.nextLink"].(string)
	if !strings.HasPrefix(next, api.URL+"/graph/v1.0/") {
		t.Errorf("next link %s", next)
	}
	c.want(200, "GET", next, nil)

	// A connection of its own per request: net/http repeats a GET by itself when a used connection breaks.
	c.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, fault := range []Fault{Reset, LostAnswer, CutBody} {
		s.FailNext(RouteAlertGet, fault, 1)
		resp, err := c.try("GET", api.URL+base+"/"+id, nil)
		if err == nil {
			var buf bytes.Buffer
			_, err = buf.ReadFrom(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s went unnoticed", fault)
		}
	}
}
