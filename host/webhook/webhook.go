// Package webhook is the HTTP ingress: it caps, checks and times requests, and answers only when what they brought is
// durable. Whether a sender is who it says is the connector's to judge, after the rules that it declared.
package webhook

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Receiver takes webhooks in; *host.Host is one.
type Receiver interface {
	// WebhookRules returns the rules of a webhook, or false when there is none.
	WebhookRules(connection, trigger string) (*connectorv1.WebhookRules, bool)
	// Webhook returns the sender's answer once everything is durable. An error means that nothing was accepted.
	Webhook(ctx context.Context, connection, trigger string, req *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error)
	// Refuse counts a request that was refused here.
	Refuse(connection, trigger, reason string)
}

// Options configure the ingress; the zero value is good.
type Options struct {
	Logger *slog.Logger
	// Timeout bounds one request from its last byte to its answer; default 2.5 s. Microsoft Graph counts answers slower than
	// 3 s against the endpoint.
	Timeout time.Duration
	// InFlight bounds the requests that are worked on at once; default 512. More are answered with 503.
	InFlight int
}

// maxHandshake bounds an echoed handshake token.
const maxHandshake = 4 << 10

// Handler serves /hooks/{connection}/{trigger} and what is below it.
func Handler(r Receiver, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = 2500 * time.Millisecond
	}
	if o.InFlight <= 0 {
		o.InFlight = 512
	}
	h := &handler{receiver: r, opts: o, slots: make(chan struct{}, o.InFlight)}
	mux := http.NewServeMux()
	mux.Handle("/hooks/{connection}/{trigger}", h)
	mux.Handle("/hooks/{connection}/{trigger}/{rest...}", h)
	return mux
}

type handler struct {
	receiver Receiver
	opts     Options
	slots    chan struct{}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	connection, trigger := r.PathValue("connection"), r.PathValue("trigger")
	rules, ok := h.receiver.WebhookRules(connection, trigger)
	if !ok {
		http.Error(w, "no such webhook", http.StatusNotFound)
		return
	}
	refuse := func(status int, reason, text string) {
		h.receiver.Refuse(connection, trigger, reason)
		http.Error(w, text, status)
	}
	if !methodAllowed(rules, r.Method) {
		refuse(http.StatusMethodNotAllowed, "method", "method not allowed")
		return
	}
	if q := rules.GetHandshakeQuery(); q != "" && strings.Contains(r.URL.RawQuery, q+"=") {
		h.handshake(w, r.URL.Query().Get(q), refuse)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		refuse(http.StatusServiceUnavailable, "busy", "too many requests at once")
		return
	}
	body, err := readBody(w, r, rules)
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			refuse(http.StatusRequestEntityTooLarge, "too_large", "body is larger than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes")
			return
		}
		refuse(http.StatusBadRequest, "unreadable", "body cannot be read")
		return
	}
	if rules.GetJson() && !jsontext.Value(body).IsValid() {
		refuse(http.StatusBadRequest, "invalid_json", "body is not one JSON value")
		return
	}
	h.deliver(w, r, connection, trigger, body)
}

// handshake proves to the vendor that this address is ours, without asking the connector.
func (h *handler) handshake(w http.ResponseWriter, token string, refuse func(int, string, string)) {
	if token == "" || len(token) > maxHandshake {
		refuse(http.StatusBadRequest, "handshake", "no usable handshake token")
		return
	}
	// Plain text that no browser may take for anything else: the token is the sender's.
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, token) //nolint:gosec // it is no HTML, and the headers say so
}

func (h *handler) deliver(w http.ResponseWriter, r *http.Request, connection, trigger string, body []byte) {
	// A sender that hangs up does not undo what it sent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.opts.Timeout)
	defer cancel()
	resp, err := h.receiver.Webhook(ctx, connection, trigger, &connectorv1.HandleWebhookRequest{
		Trigger: trigger, Method: r.Method, Path: r.PathValue("rest"), Query: r.URL.RawQuery, Headers: headers(r.Header),
		Body: body, RemoteAddr: r.RemoteAddr,
	})
	if err != nil {
		h.opts.Logger.WarnContext(r.Context(), "webhook was not accepted", "connection", connection, "trigger", trigger, "error", err)
		if plugin.FromError(err).Reason == plugin.ReasonPoisonInput {
			h.receiver.Refuse(connection, trigger, "poison")
			http.Error(w, "this request makes the connector crash and is not taken", http.StatusUnprocessableEntity)
			return
		}
		h.receiver.Refuse(connection, trigger, "unavailable")
		wait := max(plugin.FromError(err).RetryAfter, 2*time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
		http.Error(w, "not accepted, try again", http.StatusServiceUnavailable)
		return
	}
	for k, v := range resp.GetHeaders() {
		w.Header().Set(k, v)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := int(resp.GetStatus())
	if status < 200 || status > 599 {
		status = http.StatusAccepted
	}
	w.WriteHeader(status)
	_, _ = w.Write(resp.GetBody()) //nolint:gosec // what the connector answers is its own, and never sniffed
}

func methodAllowed(rules *connectorv1.WebhookRules, method string) bool {
	if len(rules.GetMethods()) == 0 {
		return method == http.MethodPost
	}
	return slices.Contains(rules.GetMethods(), method)
}

func readBody(w http.ResponseWriter, r *http.Request, rules *connectorv1.WebhookRules) ([]byte, error) {
	limit := int64(rules.GetMaxBody())
	if limit == 0 {
		limit = plugin.DefaultHookBody
	}
	limit = min(limit, plugin.MaxHookBody)
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
}

// headers keeps what a connector may need and drops what belongs to the hop.
func headers(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for k, v := range h {
		switch k {
		case "Connection", "Cookie", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Accept-Encoding":
		default:
			out[k] = strings.Join(v, ", ")
		}
	}
	return out
}
