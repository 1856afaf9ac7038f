package httpconn

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Config is the configuration of a connection: base_url for requests, webhook to be called, or both.
type Config struct {
	BaseURL  string            `json:"base_url,omitempty" cw:"format=uri" doc:"Address below which requests go, such as https://api.example.com/v2"`
	BaseURLs []string          `json:"base_urls,omitempty" cw:"format=uri,advanced" doc:"Further addresses that a request's url may lie below; they get the same credential"`
	Auth     *Auth             `json:"auth,omitempty" doc:"What requests sign in with; nothing when left out"`
	Headers  map[string]string `json:"headers,omitempty" doc:"Headers of every request; no secrets, which belong below auth"`

	IdempotentKeys    bool   `json:"idempotent_keys,omitempty" doc:"The other side honours idempotency keys: however often a keyed request comes, it is done once"`
	IdempotencyHeader string `json:"idempotency_header,omitempty" default:"Idempotency-Key" doc:"Header that carries the key of a keyed request"`

	Webhook *Webhook `json:"webhook,omitempty" doc:"Takes requests from outside; off when left out"`

	CheckPath   string        `json:"check_path,omitempty" cw:"advanced" doc:"Path that a check of the connection reads; default that of base_url"`
	MaxResponse int           `json:"max_response,omitempty" cw:"min=1,max=1048576,advanced" default:"1048576" doc:"Most bytes of an answer's body that a flow gets to see; the rest is cut off"`
	Timeout     time.Duration `json:"timeout,omitempty" cw:"advanced" default:"30s" doc:"How long to wait for an answer to begin, and then for more of it"`
	CAFile      string        `json:"ca_file,omitempty" cw:"advanced" doc:"PEM file of certificates to trust besides the system's"`
	Proxy       sdk.Secret    `json:"proxy,omitzero" cw:"advanced" doc:"Proxy to go through, such as http://proxy.example:3128"`
}

// Auth is how requests sign in: one of the three.
type Auth struct {
	Bearer sdk.Secret    `json:"bearer,omitzero" doc:"Token, sent as Authorization: Bearer"`
	Basic  *BasicAuth    `json:"basic,omitempty" doc:"User name and password"`
	Header *SecretHeader `json:"header,omitempty" doc:"A header of its own, such as X-Api-Key"`
}

// BasicAuth is a user name and a password.
type BasicAuth struct {
	Username string     `json:"username" cw:"required"`
	Password sdk.Secret `json:"password" cw:"required"`
}

// SecretHeader is a header whose value is a secret.
type SecretHeader struct {
	Name   string     `json:"name" cw:"required" doc:"Name of the header" example:"X-Api-Key"`
	Value  sdk.Secret `json:"value" cw:"required" doc:"The secret"`
	Prefix string     `json:"prefix,omitempty" doc:"What stands before the secret, such as \"Token \""`
}

// Client is one connection.
type Client struct {
	cfg     Config
	targets []target // base_url first
	reserve []string // headers that a flow must not set
	hook    *receiver
	hookURL string
	now     func() time.Time
}

// target is an address below which requests go.
type target struct {
	base *url.URL
	rest *rest.Client
}

func open(_ context.Context, cfg Config, env sdk.Env) (*Client, error) {
	c := &Client{cfg: cfg, now: time.Now, hookURL: env.Hooks[triggerName].URL}
	if cfg.BaseURL == "" && cfg.Webhook == nil {
		return nil, sdk.BadConfig("/base_url", "is missing: give base_url for requests, webhook to be called, or both")
	}
	if cfg.BaseURL == "" && len(cfg.BaseURLs) > 0 {
		return nil, sdk.BadConfig("/base_url", "is missing: base_urls are further ones")
	}
	auth, err := c.authenticate()
	if err != nil {
		return nil, err
	}
	header, err := c.headers()
	if err != nil {
		return nil, err
	}
	if cfg.BaseURL != "" {
		if err := c.connect(auth, header); err != nil {
			return nil, err
		}
	}
	if cfg.Webhook != nil {
		if c.hook, err = newReceiver(env.Connection, cfg.Webhook); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() error {
	for _, t := range c.targets {
		if err := t.rest.Close(); err != nil {
			return err
		}
	}
	return nil
}

// authenticate picks the one way to sign in that is configured; none is one, too.
func (c *Client) authenticate() (func(context.Context, *http.Request) error, error) {
	a := c.cfg.Auth
	if a == nil {
		return nil, nil
	}
	given := 0
	for _, is := range []bool{!a.Bearer.IsZero(), a.Basic != nil, a.Header != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, sdk.BadConfig("/auth", "give exactly one of bearer, basic and header, or leave auth out")
	case a.Basic != nil:
		return rest.Basic(a.Basic.Username, a.Basic.Password), nil
	case a.Header != nil:
		h := *a.Header
		if !httpguts.ValidHeaderFieldName(h.Name) || ofTheWire(h.Name) {
			return nil, sdk.BadConfig("/auth/header/name", "%q is no header that can be set", h.Name)
		}
		if !httpguts.ValidHeaderFieldValue(h.Prefix + h.Value.Reveal()) {
			return nil, sdk.BadConfig("/auth/header/value", "has a line break or another control character in it")
		}
		c.reserve = append(c.reserve, http.CanonicalHeaderKey(h.Name))
		return func(_ context.Context, req *http.Request) error {
			req.Header.Set(h.Name, h.Prefix+h.Value.Reveal())
			return nil
		}, nil
	}
	if !httpguts.ValidHeaderFieldValue(a.Bearer.Reveal()) {
		return nil, sdk.BadConfig("/auth/bearer", "has a line break or another control character in it")
	}
	return rest.Bearer(a.Bearer), nil
}

// headers are those of every request.
func (c *Client) headers() (http.Header, error) {
	c.reserve = append(c.reserve, "Authorization", "Proxy-Authorization", http.CanonicalHeaderKey(c.cfg.IdempotencyHeader))
	if name := c.cfg.IdempotencyHeader; !httpguts.ValidHeaderFieldName(name) || ofTheWire(name) {
		return nil, sdk.BadConfig("/idempotency_header", "%q is no header that can be set", name)
	}
	h := http.Header{"User-Agent": {"casewire-http/" + Version}}
	for name, value := range c.cfg.Headers {
		if why := c.badHeader(name, value); why != "" {
			return nil, sdk.BadConfig("/headers/"+name, "%s", why)
		}
		h.Set(name, value)
	}
	return h, nil
}

// badHeader says why a header cannot be set by a flow or by the configuration; empty means that it can.
func (c *Client) badHeader(name, value string) string {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return "is no name of a header"
	case !httpguts.ValidHeaderFieldValue(value):
		return "has a line break or another control character in its value"
	case ofTheWire(name):
		return "is set by the transport itself"
	case slices.Contains(c.reserve, http.CanonicalHeaderKey(name)):
		return "is set by the connection"
	}
	return ""
}

// ofTheWire lists the headers that say how a message is framed and where it goes.
func ofTheWire(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Expect":
		return true
	default:
		return false
	}
}

// connect makes a client for each address.
func (c *Client) connect(auth func(context.Context, *http.Request) error, header http.Header) error {
	transport, err := rest.Transport(rest.TransportOptions{Proxy: c.cfg.Proxy, CAFile: c.cfg.CAFile})
	if err != nil {
		return err
	}
	for i, base := range append([]string{c.cfg.BaseURL}, c.cfg.BaseURLs...) {
		field := "/base_url"
		if i > 0 {
			field = "/base_urls"
		}
		r, err := rest.New(rest.Options{
			BaseURL: base, Field: field, Auth: auth, Header: header, Timeout: cmp.Or(c.cfg.Timeout, 30*time.Second),
			Transport: &fence{inner: transport, c: c},
		})
		if err != nil {
			return err
		}
		u, err := url.Parse(strings.TrimSpace(base))
		if err != nil {
			return sdk.BadConfig(field, "is no URL")
		}
		u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
		c.targets = append(c.targets, target{base: u, rest: r})
	}
	return nil
}

// find returns the address that u lies below; of several, the longest.
func (c *Client) find(u *url.URL) (target, bool) {
	var best target
	found := false
	for _, t := range c.targets {
		if t.covers(u) && (!found || len(t.base.Path) > len(best.base.Path)) {
			best, found = t, true
		}
	}
	return best, found
}

// covers says whether u has the scheme, host and port of the address, and its path or one below it.
func (t target) covers(u *url.URL) bool {
	if u.Scheme != t.base.Scheme || !strings.EqualFold(u.Hostname(), t.base.Hostname()) || port(u) != port(t.base) {
		return false
	}
	rest, ok := strings.CutPrefix(u.EscapedPath(), t.base.EscapedPath())
	return ok && (rest == "" || rest[0] == '/')
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// fence keeps redirects below the configured addresses: what a connection reaches is what it names.
type fence struct {
	inner *http.Transport
	c     *Client
}

// RoundTrip sends one request.
func (f *fence) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, ok := f.c.find(req.URL); !ok {
		if req.Body != nil {
			_ = req.Body.Close() // RoundTrip's duty, whatever happens
		}
		return nil, sdk.BadConfig("/base_urls", "the answer is a redirect to %s://%s, which no configured address covers; name it here if that is meant",
			req.URL.Scheme, req.URL.Host)
	}
	return f.inner.RoundTrip(req)
}

// CloseIdleConnections lets go of the pool.
func (f *fence) CloseIdleConnections() { f.inner.CloseIdleConnections() }
