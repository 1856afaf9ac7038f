package httpconn_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	httpconn "github.com/casewire/casewire/connectors/http"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func openHook(t *testing.T, webhook map[string]any) *sdktest.Harness {
	t.Helper()
	if webhook["hmac"] == nil && webhook["basic"] == nil && webhook["header"] == nil {
		webhook["header"] = map[string]any{"name": "X-Secret", "value": secret}
	}
	return sdktest.Open(t, httpconn.Connector(), map[string]any{"webhook": webhook}, sdktest.Options{Name: "siem"})
}

// post sends what the sender with the secret header would.
func post(t *testing.T, h *sdktest.Harness, kind, body string, header ...string) *sdk.HookResponse {
	t.Helper()
	req := &sdk.HookRequest{Header: http.Header{"X-Secret": {secret}}, Body: []byte(body)}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Hook(t.Context(), "webhook", req)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return resp
}

func rowOf(t *testing.T, ev sdk.Event) string {
	t.Helper()
	var data struct {
		Unmapped struct {
			Row json.RawMessage `json:"row"`
		} `json:"unmapped"`
	}
	if err := json.Unmarshal(ev.Data, &data); err != nil {
		t.Fatal(err)
	}
	return string(data.Unmapped.Row)
}

func TestBodiesBecomeRows(t *testing.T) {
	t.Parallel()
	h := openHook(t, map[string]any{"headers": []string{"X-Kind"}})
	for _, tc := range []struct{ kind, body, want string }{
		{"application/json", `{"a":{"b":[1,2.50]},"c":null}`, `{"_headers":{},"a":{"b":[1,2.50]},"c":null}`},
		{"application/cloudevents+json; charset=utf-8", `{"a":1}`, `{"_headers":{},"a":1}`},
		{"", `{"a":1}`, `{"_headers":{},"a":1}`},
		{"application/json", `[1,"x"]`, `{"_headers":{},"body":[1,"x"]}`},
		{"application/json", `{"a":1,"a":2}`, `{"_headers":{},"a":2}`},
		{"application/json", "{\"a\":\"\xff<>\"}", `{"_headers":{},"a":"` + "\uFFFD" + `<>"}`},
		{"application/x-www-form-urlencoded", "a=1&b=2&b=3", `{"_headers":{},"a":"1","b":["2","3"]}`},
		{"text/plain", `{"a":1}`, `{"_headers":{},"text":"{\"a\":1}"}`},
		{"", "hello", `{"_headers":{},"text":"hello"}`},
	} {
		resp := post(t, h, tc.kind, tc.body)
		if resp.Status != http.StatusAccepted || len(resp.Events) != 1 {
			t.Errorf("%s: %d %s", tc.body, resp.Status, resp.Body)
			continue
		}
		ev := resp.Events[0]
		if got := rowOf(t, ev); got != tc.want {
			t.Errorf("%s became %s", tc.body, got)
		}
		if ev.Type != event.TypeRow || ev.Source != "urn:casewire:http:siem" || !strings.Contains(string(resp.Body), ev.ID) {
			t.Errorf("%s: event %+v, answer %s", tc.body, ev, resp.Body)
		}
		if strings.Contains(string(ev.Data), secret) {
			t.Errorf("the event shows the secret: %s", ev.Data)
		}
	}
	ev := post(t, h, "", `{}`, "X-Kind", "push").Events[0]
	if got := rowOf(t, ev); got != `{"_headers":{"x-kind":"push"}}` {
		t.Errorf("headers: %s", got)
	}
}

func TestWhatIsNotTaken(t *testing.T) {
	t.Parallel()
	h := openHook(t, map[string]any{"max_body": 20})
	for reason, tc := range map[string]struct {
		kind, body string
		header     []string
		status     int
	}{
		"unreadable":   {"application/json", `{"a":`, nil, 400},
		"content_type": {"image/png", `x`, nil, 415},
		"too_large":    {"text/plain", strings.Repeat("x", 21), nil, 413},
		"unauthorized": {"text/plain", "x", []string{"X-Secret", "guess"}, 401},
	} {
		resp := post(t, h, tc.kind, tc.body, tc.header...)
		if resp.Status != tc.status || len(resp.Events) != 0 || resp.Refused[reason] != 1 || len(resp.Body) == 0 {
			t.Errorf("%s: %d %v %s", reason, resp.Status, resp.Refused, resp.Body)
		}
	}
	for _, body := range []string{`{"a":1} {}`, `{"a":1},`, ``} {
		if resp := post(t, h, "application/json", body); resp.Status != 400 {
			t.Errorf("%q: %d", body, resp.Status)
		}
	}
	if resp := post(t, h, "text/plain", "x", "Content-Encoding", "gzip"); resp.Status != 415 {
		t.Errorf("gzip: %d", resp.Status)
	}
	// What is larger as JSON than as text.
	wide := openHook(t, map[string]any{})
	if resp := post(t, wide, "text/plain", strings.Repeat("\x01", 900<<10)); resp.Status != 413 {
		t.Errorf("controls: %d", resp.Status)
	}
	off := sdktest.Open(t, httpconn.Connector(), map[string]any{"base_url": "https://x.example"})
	if resp := post(t, off, "", "{}"); resp.Status != 404 {
		t.Errorf("no webhook: %d", resp.Status)
	}
}

func TestSendersAreChecked(t *testing.T) {
	t.Parallel()
	body := `{"a":1}`
	sign := func(text string) []byte {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	hexed := hex.EncodeToString(sign(body))
	now := strconv.FormatInt(time.Now().Unix(), 10)
	old := strconv.FormatInt(time.Now().Add(-6*time.Minute).Unix(), 10)
	slack := map[string]any{"hmac": map[string]any{
		"secret": secret, "header": "X-Slack-Signature", "prefix": "v0=", "signed": "v0:{timestamp}:{body}", "timestamp_header": "X-Stamp",
	}}
	slackSigned := func(ts string) []string {
		return []string{"X-Slack-Signature", "v0=" + hex.EncodeToString(sign("v0:"+ts+":"+body)), "X-Stamp", ts}
	}
	github := map[string]any{"hmac": map[string]any{"secret": secret, "header": "X-Hub-Signature-256", "prefix": "sha256="}}
	base := map[string]any{"hmac": map[string]any{"secret": secret, "header": "X-Sig", "encoding": "base64"}}
	basic := map[string]any{"basic": map[string]any{"username": "u", "password": secret}}
	token := map[string]any{"header": map[string]any{"name": "Authorization", "value": secret, "prefix": "Bearer "}}
	for name, tc := range map[string]struct {
		webhook map[string]any
		header  []string
		ok      bool
	}{
		"github":           {github, []string{"X-Hub-Signature-256", "sha256=" + hexed}, true},
		"upper case":       {github, []string{"X-Hub-Signature-256", "sha256=" + strings.ToUpper(hexed)}, true},
		"two signatures":   {github, []string{"X-Hub-Signature-256", "sha256=00, sha256=" + hexed}, true},
		"no prefix":        {github, []string{"X-Hub-Signature-256", hexed}, false},
		"cut":              {github, []string{"X-Hub-Signature-256", "sha256=" + hexed[:62]}, false},
		"none":             {github, nil, false},
		"empty":            {github, []string{"X-Hub-Signature-256", "sha256="}, false},
		"base64":           {base, []string{"X-Sig", base64.StdEncoding.EncodeToString(sign(body))}, true},
		"hex for base64":   {base, []string{"X-Sig", hexed}, false},
		"slack":            {slack, slackSigned(now), true},
		"slack, old":       {slack, slackSigned(old), false},
		"slack, no stamp":  {slack, slackSigned(""), false},
		"slack, new stamp": {slack, append(slackSigned(old)[:2:2], "X-Stamp", now), false},
		"basic":            {basic, []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+secret))}, true},
		"basic, wrong":     {basic, []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:guess"))}, false},
		"bearer":           {token, []string{"Authorization", "Bearer " + secret}, true},
		"bearer, bare":     {token, []string{"Authorization", secret}, false},
		"bearer, longer":   {token, []string{"Authorization", "Bearer " + secret + "x"}, false},
	} {
		h := openHook(t, tc.webhook)
		resp := post(t, h, "application/json", body, tc.header...)
		if (len(resp.Events) == 1) != tc.ok || (resp.Status == http.StatusUnauthorized) == tc.ok {
			t.Errorf("%s: %d, %d events", name, resp.Status, len(resp.Events))
		}
	}
}

// A repeat is the same event; what the configuration tells apart is another.
func TestIdentity(t *testing.T) {
	t.Parallel()
	one := func(h *sdktest.Harness, body string, header ...string) sdk.Event {
		t.Helper()
		resp := post(t, h, "application/json", body, header...)
		if len(resp.Events) != 1 {
			t.Fatalf("%s: %d %s", body, resp.Status, resp.Body)
		}
		return resp.Events[0]
	}
	// By the body: the same object with nothing new.
	h := openHook(t, map[string]any{})
	a, b, c := one(h, `{"a":1}`), one(h, `{"a":1}`), one(h, `{"a":2}`)
	if a.PartitionKey != b.PartitionKey || a.Digest != b.Digest || a.PartitionKey == c.PartitionKey {
		t.Errorf("by the body: %s, %s, %s", a.PartitionKey, b.PartitionKey, c.PartitionKey)
	}
	// By a header, whatever the body.
	h = openHook(t, map[string]any{"id": "header:X-Delivery"})
	a, b, c = one(h, `{"a":1}`, "X-Delivery", "7"), one(h, `{"a":1,"try":2}`, "X-Delivery", "7"), one(h, `{"a":1}`, "X-Delivery", "8")
	if a.PartitionKey != b.PartitionKey || a.Digest != b.Digest || a.Digest == c.Digest || a.Subject != "7" || a.PartitionKey != "http:siem:7" {
		t.Errorf("by a header: %+v, %+v, %+v", a, b, c)
	}
	// Ids that differ in case only are two.
	a, b = one(h, `{}`, "X-Delivery", "aB"), one(h, `{}`, "X-Delivery", "Ab")
	if a.PartitionKey == b.PartitionKey {
		t.Errorf("case: %s", a.PartitionKey)
	}
	// With an object and its time: the very same event.
	h = openHook(t, map[string]any{"id": "/id", "key": "/case/0/key", "time": "/at"})
	body := `{"id":1,"case":[{"key":"INC-1"}],"at":"2026-05-06T07:08:09.123Z"}`
	a, b = one(h, body), one(h, body)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("with a time: %s", diff)
	}
	c = one(h, `{"id":2,"case":[{"key":"inc-1"}],"at":1778051290}`)
	if a.PartitionKey != "http:siem:object:inc-1" || c.PartitionKey != a.PartitionKey || c.Rev <= a.Rev || c.ID == a.ID ||
		!a.Time.Equal(time.Date(2026, 5, 6, 7, 8, 9, 123e6, time.UTC)) {
		t.Errorf("an object: %+v, %+v", a, c)
	}
	// What the body lacks is made up for rather than lost, and a time in the far future must not outrun all that follows.
	for _, body := range []string{`{"x":1}`, `{"id":{"a":1},"case":[],"at":"soon"}`, `{"id":null,"at":"2999-01-01T00:00:00Z"}`, `{"id":"` + strings.Repeat("x", 3000) + `"}`} {
		ev := one(h, body)
		if d := time.Since(ev.Time); d < 0 || d > time.Minute {
			t.Errorf("%.40s has time %s", body, ev.Time)
		}
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	h := openHook(t, map[string]any{"rate_limit": 3})
	for range 5 {
		// Strangers do not use up the share.
		post(t, h, "text/plain", "x", "X-Secret", "guess")
	}
	for i := range 3 {
		if resp := post(t, h, "text/plain", "x"); resp.Status != http.StatusAccepted {
			t.Errorf("request %d: %d", i, resp.Status)
		}
	}
	resp := post(t, h, "text/plain", "x")
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.Status != http.StatusTooManyRequests || err != nil || after < 1 || after > 21 || resp.Refused["rate_limit"] != 1 {
		t.Errorf("%d, %v, %v", resp.Status, resp.Header, resp.Refused)
	}
}

// Whatever is posted becomes a sound event or is refused; the harness checks the events.
func FuzzHook(f *testing.F) {
	for _, seed := range []struct{ kind, body string }{
		{"application/json", `{"id":"a","at":1}`},
		{"text/plain", "\x00\xff"},
		{"application/x-www-form-urlencoded", "id=1&%zz"},
		{"", "1e400"},
		{"application/json", `{"_headers":1,"id":[[[[]]]]}`},
		{"a/b;;", "\u2028"},
	} {
		f.Add(seed.kind, seed.body)
	}
	config := map[string]any{"webhook": map[string]any{
		"basic": map[string]any{"username": "u", "password": secret}, "id": "/id", "key": "/key", "time": "/at", "headers": []string{"Content-Type"},
	}}
	auth := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+secret))
	f.Fuzz(func(t *testing.T, kind, body string) {
		if strings.ToValidUTF8(kind, "") != kind {
			t.Skip("no such header can come")
		}
		h := sdktest.Open(t, httpconn.Connector(), config, sdktest.Options{Name: "siem"})
		resp, err := h.Hook(t.Context(), "webhook", &sdk.HookRequest{
			Header: http.Header{"Content-Type": {kind}, "Authorization": {auth}}, Body: []byte(body),
		})
		if err != nil {
			t.Fatalf("%v", err)
		}
		if (resp.Status == http.StatusAccepted) != (len(resp.Events) == 1) {
			t.Errorf("%d with %d events", resp.Status, len(resp.Events))
		}
	})
}
