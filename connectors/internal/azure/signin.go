package azure

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// The actions by which a person signs in. A host's command line calls them; they are the same for every connector that
// has people sign in, whatever the vendor.
const (
	ActionSignInBegin  = "auth.begin"
	ActionSignInFinish = "auth.finish"
)

// BeginInput begins a sign-in.
type BeginInput struct {
	RedirectURI string `json:"redirect_uri,omitempty" doc:"Where the browser is to be sent with the code: an address on this machine. Empty: the person types a device code into any browser"`
}

// BeginOutput says what the person has to do.
type BeginOutput struct {
	URL      string `json:"url" doc:"Address to open in a browser"`
	UserCode string `json:"user_code,omitempty" doc:"Code to type there, for a device code"`
	Message  string `json:"message" doc:"What to do, in a sentence"`
	State    string `json:"state,omitempty" doc:"What the redirect must bring along unchanged"`
	Session  string `json:"session" doc:"To be given to auth.finish; not to be shown"`
	Expires  string `json:"expires" doc:"RFC 3339 time at which this attempt ends"`
	Wait     int    `json:"wait" doc:"Seconds to wait before auth.finish is called"`
}

// FinishInput ends a sign-in.
type FinishInput struct {
	Session string `json:"session" cw:"required" doc:"What auth.begin returned"`
	Code    string `json:"code,omitempty" doc:"Code that the browser brought; empty for a device code"`
}

// FinishOutput says whether somebody has signed in.
type FinishOutput struct {
	Done    bool   `json:"done" doc:"Somebody has signed in, and the connection's state holds it"`
	Wait    int    `json:"wait" doc:"Seconds to wait before asking again, while nobody has"`
	Account string `json:"account,omitempty" doc:"Who signed in"`
}

// session is what a sign-in has to remember between the two calls; connectors are disposable.
type session struct {
	Device   string    `json:"d,omitempty"`
	Verifier string    `json:"v,omitempty"`
	Redirect string    `json:"r,omitempty"`
	Scope    string    `json:"s"`
	Wait     int       `json:"w"`
	Expires  time.Time `json:"e"`
}

// SignIn declares the actions by which a person signs in, for a connector whose connections have a session.
func SignIn[T any](c *sdk.Connector, of func(T) *Session) {
	sdk.Action(c, ActionSignInBegin, "Begin the sign-in of a person (casewire auth login does).",
		func(conn T, ctx context.Context, in BeginInput) (BeginOutput, error) {
			return of(conn).Tokens.begin(ctx, in)
		},
		sdk.Read, sdk.Example("a device code", map[string]any{}))
	sdk.Action(c, ActionSignInFinish, "End the sign-in of a person (casewire auth login does).",
		func(conn T, ctx context.Context, in FinishInput) (FinishOutput, error) {
			return of(conn).Tokens.finish(ctx, in)
		}, sdk.Unsafe, sdk.Example("after a device code", map[string]any{"session": "eyJkIjoi…"}))
}

func (t *Tokens) person() (*person, error) {
	p, ok := t.source.(*person)
	if !ok {
		e := sdk.Invalid("", "this connection's credential is no person's: nobody has to sign in; write sign_in: user into it if somebody is to")
		e.Origin = sdk.OriginConfig
		return nil, e
	}
	return p, nil
}

// firstScope is the one that a sign-in asks for. The refresh token that it leaves is good for every API of the app.
func (t *Tokens) firstScope() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.scopes) == 0 {
		return Scope(Public.Graph)
	}
	return t.scopes[0]
}

func (t *Tokens) begin(ctx context.Context, in BeginInput) (BeginOutput, error) {
	p, err := t.person()
	if err != nil {
		return BeginOutput{}, err
	}
	if in.RedirectURI == "" {
		return p.beginDevice(ctx, t.firstScope())
	}
	u, err := url.Parse(in.RedirectURI)
	if err != nil || u.Scheme != "http" || !loopback(u) || u.Fragment != "" || u.User != nil {
		return BeginOutput{}, sdk.Invalid("redirect_uri", "must be an address on this machine, such as http://localhost:8400")
	}
	return p.beginCode(in.RedirectURI, t.firstScope())
}

// beginCode makes the address of the authorization endpoint, with PKCE (RFC 7636): the code alone is worth nothing.
func (p *person) beginCode(redirect, scope string) (BeginOutput, error) {
	s := session{Verifier: rand.Text() + rand.Text(), Redirect: redirect, Scope: scope, Expires: time.Now().Add(10 * time.Minute)}
	sum := sha256.Sum256([]byte(s.Verifier))
	out := BeginOutput{State: rand.Text(), Expires: s.Expires.UTC().Format(time.RFC3339), Session: s.pack()}
	out.URL = p.base + "/oauth2/v2.0/authorize?" + url.Values{
		"client_id": {p.cred.ClientID}, "response_type": {"code"}, "response_mode": {"query"}, "redirect_uri": {redirect},
		"scope": {scope + openIDScopes}, "state": {out.State}, "prompt": {"select_account"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
	out.Message = "Sign in in a browser on this machine: " + out.URL
	return out, nil
}

func (p *person) beginDevice(ctx context.Context, scope string) (BeginOutput, error) {
	var a struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URL        string `json:"verification_uri"`
		Message    string `json:"message"`
		ExpiresIn  int    `json:"expires_in"`
		Interval   int    `json:"interval"`
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.exchange(ctx, "devicecode", scope, url.Values{"scope": {scope + openIDScopes}}, &a); err != nil {
		return BeginOutput{}, err
	}
	if a.DeviceCode == "" || a.UserCode == "" || a.URL == "" {
		return BeginOutput{}, sdk.Unavailable("Entra ID at %s answered without a device code", p.where())
	}
	s := session{Device: a.DeviceCode, Scope: scope, Wait: max(a.Interval, 1), Expires: time.Now().Add(time.Duration(min(max(a.ExpiresIn, 60), 3600)) * time.Second)}
	out := BeginOutput{URL: a.URL, UserCode: a.UserCode, Message: a.Message, Session: s.pack(), Wait: s.Wait, Expires: s.Expires.UTC().Format(time.RFC3339)}
	if out.Message == "" {
		out.Message = "Open " + a.URL + " in any browser and type the code " + a.UserCode
	}
	return out, nil
}

func (t *Tokens) finish(ctx context.Context, in FinishInput) (FinishOutput, error) {
	p, err := t.person()
	if err != nil {
		return FinishOutput{}, err
	}
	s, ok := unpackSession(in.Session)
	switch {
	case !ok:
		return FinishOutput{}, sdk.Invalid("session", "is not what auth.begin returned")
	case s.Device == "" && in.Code == "":
		return FinishOutput{}, sdk.Invalid("code", "is required: the browser brings it")
	case time.Now().After(s.Expires):
		return FinishOutput{}, sdk.Auth("nobody signed in in time; begin anew: %s", p.login)
	}
	form := url.Values{"scope": {s.Scope + openIDScopes}}
	if s.Device != "" {
		form.Set("grant_type", "urn:ietf:params:oauth:grant-type:device_code")
		form.Set("device_code", s.Device)
	} else {
		form.Set("grant_type", "authorization_code")
		form.Set("code", in.Code)
		form.Set("redirect_uri", s.Redirect)
		form.Set("code_verifier", s.Verifier)
	}
	p.mu.Lock() // a refresh that is under way ends first
	defer p.mu.Unlock()
	a, err := p.post(ctx, "token", s.Scope, form)
	if wait, pending := stillPending(err); pending && s.Device != "" {
		return FinishOutput{Wait: s.Wait + wait}, nil
	}
	if err != nil {
		return FinishOutput{}, err
	}
	if a.RefreshToken == "" {
		return FinishOutput{}, sdk.Auth("Entra ID at %s gave no refresh token: the app needs the delegated permission offline_access", p.where())
	}
	p.state = signedIn{Authority: p.authorityName(), Tenant: p.cred.TenantID, Client: p.cred.ClientID, Account: accountOf(a.IDToken), SignedIn: time.Now().UTC()}
	if _, err := p.keep(a); err != nil {
		return FinishOutput{}, err
	}
	return FinishOutput{Done: true, Account: p.state.Account}, nil
}

// stillPending says whether a device code waits for its person, and by how much to slow down (RFC 8628, section 3.5).
func stillPending(err error) (wait int, pending bool) {
	e, ok := asRefusal(err)
	if !ok {
		return 0, false
	}
	switch e.Meta["error"] {
	case "authorization_pending":
		return 0, true
	case "slow_down":
		return 5, true
	}
	return 0, false
}

func (s session) pack() string {
	b, err := json.Marshal(s)
	if err != nil {
		return "" // of plain fields there is no error
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func unpackSession(text string) (session, bool) {
	var s session
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(text))
	return s, err == nil && json.Unmarshal(b, &s) == nil && s.Scope != "" && (s.Device != "" || s.Verifier != "")
}
