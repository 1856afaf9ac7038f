package httpconn

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Webhook says who may call, and what makes two calls one. Exactly one of header, hmac and basic is needed.
type Webhook struct {
	Header *SecretHeader `json:"header,omitempty" doc:"Senders show a secret in a header"`
	HMAC   *HMAC         `json:"hmac,omitempty" doc:"Senders sign the body"`
	Basic  *BasicAuth    `json:"basic,omitempty" doc:"Senders show a user name and a password"`

	ID   string `json:"id,omitempty" doc:"Where the id of a delivery is: a JSON pointer into the body, or header:NAME. What comes again with the same id is the same event. Default: a digest of the body" example:"/alert/id"`
	Key  string `json:"key,omitempty" doc:"Where the id of the object is that the event is about, likewise: its events are handled in order, and event.case_key stands for it. Needs time. Default: the id of the delivery"`
	Time string `json:"time,omitempty" doc:"Where the time is at which the object changed, likewise: RFC 3339, or a number of seconds or milliseconds since 1970. Default: when it came"`

	Headers   []string `json:"headers,omitempty" doc:"Headers that the flow gets to see, in row._headers by their names in lower case" example:"[\"X-GitHub-Event\"]"`
	MaxBody   int      `json:"max_body,omitempty" cw:"min=1,max=983040" default:"983040" doc:"Largest body in bytes"`
	RateLimit int      `json:"rate_limit,omitempty" cw:"min=1,max=100000" default:"600" doc:"Requests a minute that are taken; more are answered with 429"`
}

const (
	triggerName = "webhook"
	maxBody     = 960 << 10 // leaves room for the envelope in an event
)

func trigger() sdk.Trigger[*Client, struct{}] {
	return sdk.Trigger[*Client, struct{}]{
		Name:    triggerName,
		Summary: "Takes JSON, forms and text that others post. In a flow, row is the body; of what is no JSON object or form, row.body or row.text.",
		Emits:   []string{event.TypeRow},
		Hook: func(c *Client, _ context.Context, req *sdk.HookRequest) (*sdk.HookResponse, error) {
			if c.hook == nil {
				return refuse(http.StatusNotFound, "webhook_off", "this connection takes no webhooks"), nil
			}
			return c.hook.take(req, c.now())
		},
		HookRules: sdk.HookRules{MaxBody: maxBody, Methods: []string{http.MethodPost, http.MethodPut}},
	}
}

// receiver takes what is posted to one connection.
type receiver struct {
	connection    string
	cfg           Webhook
	verify        func(req *sdk.HookRequest, now time.Time) bool
	id, key, time source
	rate          bucket
}

func newReceiver(connection string, cfg *Webhook) (*receiver, error) {
	r := &receiver{connection: connection, cfg: *cfg}
	r.rate = bucket{perMinute: float64(cfg.RateLimit), tokens: float64(cfg.RateLimit)}
	var err error
	if r.verify, err = verifier(cfg); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		to         *source
		text, name string
	}{{&r.id, cfg.ID, "id"}, {&r.key, cfg.Key, "key"}, {&r.time, cfg.Time, "time"}} {
		if *s.to, err = parseSource(s.text, "/webhook/"+s.name); err != nil {
			return nil, err
		}
	}
	if cfg.Key != "" && cfg.Time == "" {
		return nil, sdk.BadConfig("/webhook/key", "needs time: without it, a late repeat cannot be told from news about the object. "+
			"Give time, or leave key out and write it as the key of the flow's steps")
	}
	for i, name := range cfg.Headers {
		at := "/webhook/headers/" + strconv.Itoa(i)
		switch canonical := http.CanonicalHeaderKey(name); {
		case !httpguts.ValidHeaderFieldName(name):
			return nil, sdk.BadConfig(at, "%q is no name of a header", name)
		case canonical == "Authorization" || cfg.Header != nil && canonical == http.CanonicalHeaderKey(cfg.Header.Name):
			return nil, sdk.BadConfig(at, "the header carries a secret, which must not end up in events")
		}
	}
	return r, nil
}

// take turns one request into an event, or says why not.
func (r *receiver) take(req *sdk.HookRequest, now time.Time) (*sdk.HookResponse, error) {
	if len(req.Body) > r.cfg.MaxBody {
		return refuse(http.StatusRequestEntityTooLarge, "too_large", "the body is larger than "+strconv.Itoa(r.cfg.MaxBody)+" bytes"), nil
	}
	if !r.verify(req, now) {
		return refuse(http.StatusUnauthorized, "unauthorized", "not authorized"), nil
	}
	// After the check, so that strangers cannot use up the senders' share.
	if wait := r.rate.take(now); wait > 0 {
		resp := refuse(http.StatusTooManyRequests, "rate_limit", "too many requests")
		resp.Header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		return resp, nil
	}
	row, why := parse(req)
	if why != nil {
		return why, nil
	}
	ev, err := r.event(req, row, now)
	if err != nil {
		return nil, err
	}
	if len(ev.Data) > event.MaxData {
		return refuse(http.StatusRequestEntityTooLarge, "too_large", "the body is too large for an event"), nil
	}
	answer, err := json.Marshal(map[string]string{"event": ev.ID})
	if err != nil {
		return nil, err
	}
	return &sdk.HookResponse{
		Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}, Body: append(answer, '\n'),
		Events: []sdk.Event{ev},
	}, nil
}

func refuse(status int, reason, text string) *sdk.HookResponse {
	return &sdk.HookResponse{
		Status: status, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte(text + "\n"),
		Refused: map[string]int{reason: 1},
	}
}

// bucket limits how many requests a minute are taken.
type bucket struct {
	mu        sync.Mutex
	perMinute float64
	tokens    float64
	last      time.Time
}

// take takes one, or says how long to wait for it.
func (b *bucket) take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.IsZero() {
		b.tokens = min(b.perMinute, b.tokens+max(0, now.Sub(b.last).Minutes())*b.perMinute)
	}
	b.last = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) / b.perMinute * float64(time.Minute))
	}
	b.tokens--
	return 0
}
