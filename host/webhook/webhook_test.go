package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/casewire/casewire/host/webhook"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a struct of funcs.
type receiver struct {
	rules *connectorv1.WebhookRules
	hook  func(context.Context, *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error)

	mu      sync.Mutex
	refused map[string]int
	taken   int
}

func (r *receiver) WebhookRules(connection, trigger string) (*connectorv1.WebhookRules, bool) {
	return r.rules, connection == "alerts" && trigger == "alerts"
}

func (r *receiver) Webhook(ctx context.Context, _, _ string, req *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
	r.mu.Lock()
	r.taken++
	r.mu.Unlock()
	if r.hook == nil {
		return &connectorv1.HandleWebhookResponse{Status: http.StatusAccepted}, nil
	}
	return r.hook(ctx, req)
}

func (r *receiver) Refuse(_, _, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[reason]++
}

func newReceiver() *receiver {
	return &receiver{
		refused: map[string]int{},
		rules:   &connectorv1.WebhookRules{HandshakeQuery: "validationToken", Json: true, MaxBody: 1024},
	}
}

func send(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, method, target, body string
		status                     int
		refused                    string
		taken                      int
	}{
		{"accepted", "POST", "/hooks/alerts/alerts", `{"value":[]}`, 202, "", 1},
		{"below the endpoint", "POST", "/hooks/alerts/alerts/lifecycle?cw=1", `{}`, 202, "", 1},
		{"unknown connection", "POST", "/hooks/other/alerts", `{}`, 404, "", 0},
		{"unknown trigger", "POST", "/hooks/alerts/other", `{}`, 404, "", 0},
		{"outside", "POST", "/hooks/alerts", `{}`, 404, "", 0},
		{"wrong method", "GET", "/hooks/alerts/alerts", ``, 405, "method", 0},
		{"no JSON", "POST", "/hooks/alerts/alerts", `<html>`, 400, "invalid_json", 0},
		{"empty", "POST", "/hooks/alerts/alerts", ``, 400, "invalid_json", 0},
		{"two values", "POST", "/hooks/alerts/alerts", `{} {}`, 400, "invalid_json", 0},
		{"duplicate names", "POST", "/hooks/alerts/alerts", `{"a":1,"a":2}`, 400, "invalid_json", 0},
		{"too large", "POST", "/hooks/alerts/alerts", `"` + strings.Repeat("x", 2000) + `"`, 413, "too_large", 0},
		{"empty handshake", "POST", "/hooks/alerts/alerts?validationToken=", ``, 400, "handshake", 0},
		{"giant handshake", "POST", "/hooks/alerts/alerts?validationToken=" + strings.Repeat("x", 5000), ``, 400, "handshake", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver()
			w := send(webhook.Handler(r, webhook.Options{}), tc.method, tc.target, tc.body)
			if w.Code != tc.status {
				t.Errorf("status %d, want %d: %s", w.Code, tc.status, w.Body)
			}
			if tc.refused != "" && r.refused[tc.refused] != 1 {
				t.Errorf("refused %v, want %s once", r.refused, tc.refused)
			}
			if r.taken != tc.taken {
				t.Errorf("the receiver was asked %d times, want %d", r.taken, tc.taken)
			}
		})
	}
}

// A body without a length must be cut at the limit too.
func TestChunkedBodyIsCapped(t *testing.T) {
	t.Parallel()
	r := newReceiver()
	req := httptest.NewRequest(http.MethodPost, "/hooks/alerts/alerts", io.NopCloser(io.LimitReader(endless{}, 1<<30)))
	req.ContentLength = -1
	w := httptest.NewRecorder()
	webhook.Handler(r, webhook.Options{}).ServeHTTP(w, req)
	if w.Code != http.StatusRequestEntityTooLarge || r.refused["too_large"] != 1 {
		t.Errorf("status %d, refused %v", w.Code, r.refused)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestHandshakeEchoesTheDecodedToken(t *testing.T) {
	t.Parallel()
	const token = `Validation: Testing + 100% <script>"a"</script>&b=c`
	r := newReceiver()
	w := send(webhook.Handler(r, webhook.Options{}), "POST", "/hooks/alerts/alerts?validationToken="+url.QueryEscape(token), "")
	if w.Code != http.StatusOK || w.Body.String() != token {
		t.Errorf("answered %d %q", w.Code, w.Body)
	}
	if ct := w.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("content type %q", ct)
	}
	if w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Error("a browser could take the token for HTML")
	}
	if r.taken != 0 {
		t.Error("the connector was asked about a handshake")
	}
}

func TestNotAcceptedIs503WithRetryAfter(t *testing.T) {
	t.Parallel()
	r := newReceiver()
	r.hook = func(context.Context, *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
		return nil, &plugin.Error{Message: "disk is full", RetryAfter: 7 * time.Second}
	}
	w := send(webhook.Handler(r, webhook.Options{}), "POST", "/hooks/alerts/alerts", "{}")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "7" {
		t.Errorf("answered %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	if strings.Contains(w.Body.String(), "disk") {
		t.Error("the sender was told about our inside")
	}
}

// The sender hanging up must not undo what it sent, and a receiver that hangs must not hold the sender.
func TestTimeoutBoundsTheReceiver(t *testing.T) {
	t.Parallel()
	r := newReceiver()
	r.hook = func(ctx context.Context, _ *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequest(http.MethodPost, "/hooks/alerts/alerts", strings.NewReader("{}")).WithContext(ctx)
	w := httptest.NewRecorder()
	begin := time.Now()
	webhook.Handler(r, webhook.Options{Timeout: 20 * time.Millisecond}).ServeHTTP(w, req)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("answered %d", w.Code)
	}
	if d := time.Since(begin); d < 20*time.Millisecond {
		t.Errorf("the receiver was given up after %v although only its sender was gone", d)
	}
}

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	r := newReceiver()
	inside, leave := make(chan struct{}), make(chan struct{})
	r.hook = func(context.Context, *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
		close(inside)
		<-leave
		return &connectorv1.HandleWebhookResponse{}, nil
	}
	h := webhook.Handler(r, webhook.Options{InFlight: 1})
	done := make(chan int)
	go func() { done <- send(h, "POST", "/hooks/alerts/alerts", "{}").Code }()
	<-inside
	if w := send(h, "POST", "/hooks/alerts/alerts", "{}"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second request was answered %d", w.Code)
	}
	close(leave)
	if code := <-done; code != http.StatusAccepted {
		t.Errorf("the first request was answered %d; an unset status means 202", code)
	}
}

func TestHeadersReachTheConnectorWithoutTheHop(t *testing.T) {
	t.Parallel()
	r := newReceiver()
	var got *connectorv1.HandleWebhookRequest
	r.hook = func(_ context.Context, req *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
		got = req
		return nil, errors.New("enough")
	}
	req := httptest.NewRequest(http.MethodPost, "/hooks/alerts/alerts/lifecycle?cw=abc", strings.NewReader("{}"))
	req.Header.Set("X-Hub-Signature", "sha256=1")
	req.Header.Set("Cookie", "a=b")
	webhook.Handler(r, webhook.Options{}).ServeHTTP(httptest.NewRecorder(), req)
	if got.GetPath() != "lifecycle" || got.GetQuery() != "cw=abc" || got.GetHeaders()["X-Hub-Signature"] != "sha256=1" {
		t.Errorf("got %v", got)
	}
	if _, ok := got.GetHeaders()["Cookie"]; ok {
		t.Error("cookies were handed on")
	}
}
