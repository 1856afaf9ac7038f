package azure

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

const (
	// early is how long before its end a token is renewed.
	early = 5 * time.Minute
	// usable is how long a token must still live to be used when its renewal fails.
	usable = 30 * time.Second
	// acquireTimeout bounds one acquisition, whoever waits for it.
	acquireTimeout = 60 * time.Second
	// calm is how long a renewed token is not renewed again because an API refused it.
	calm = 10 * time.Second
)

// Tokens hands out tokens of one credential, for any number of scopes. It is safe for concurrent use; callers that want
// the same token at once share one request.
type Tokens struct {
	source  source
	flights singleflight.Group
	mu      sync.RWMutex
	byScope map[string]*issued
}

// issued is a token as it was handed out.
type issued struct {
	value    string
	header   string // "Bearer …", made once
	expires  time.Time
	renewAt  time.Time
	forcedAt time.Time // when it was made to replace one that an API refused
}

// source gets tokens from where they come from. Errors are *sdk.Error or the context's.
type source interface {
	// token gets a token. Fresh demands one that was not handed out before.
	token(ctx context.Context, scope string, fresh bool) (*issued, error)
}

// NewTokens checks the credential and prepares it; nothing is sent. Errors are of the configuration and name the
// property.
func NewTokens(c Credential, o Options) (*Tokens, error) {
	field := cmp.Or(o.Field, "/credential")
	if err := c.check(field); err != nil {
		return nil, err
	}
	t := &Tokens{byScope: map[string]*issued{}}
	switch {
	case !c.Token.IsZero():
		if strings.ContainsFunc(c.Token.Reveal(), notInToken) {
			return nil, sdk.BadConfig(field+"/token", "has a character that no token has (a line feed?)")
		}
		t.source = fixed{c.Token}
	case len(c.Exec) > 0:
		t.source = command{c.Exec}
	default:
		var err error
		if o.Transport == nil {
			if o.Transport, err = rest.Transport(rest.TransportOptions{}); err != nil {
				return nil, err
			}
		}
		if t.source, err = newEntra(c, field, o.Transport); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Token returns a token for scope. Errors are *sdk.Error or the context's.
func (t *Tokens) Token(ctx context.Context, scope string) (sdk.Secret, error) {
	tok, err := t.get(ctx, scope)
	if err != nil {
		return sdk.Secret{}, err
	}
	return sdk.NewSecret(tok.value), nil
}

func (t *Tokens) current(scope string) *issued {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byScope[scope]
}

func (t *Tokens) get(ctx context.Context, scope string) (*issued, error) {
	tok := t.current(scope)
	now := time.Now()
	if tok != nil && now.Before(tok.renewAt) {
		return tok, nil
	}
	renewed, err := t.acquire(ctx, scope, false)
	if err != nil && tok != nil && now.Add(usable).Before(tok.expires) && ctx.Err() == nil {
		return tok, nil // the authority is down, but what we have still works
	}
	return renewed, err
}

// acquire gets a token, together with whoever else wants it. The request goes on when one of them gives up.
func (t *Tokens) acquire(ctx context.Context, scope string, fresh bool) (*issued, error) {
	key := scope
	if fresh {
		key = "fresh " + scope
	}
	work := t.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acquireTimeout)
		defer cancel()
		tok, err := t.source.token(ctx, scope, fresh)
		if err != nil {
			return nil, err
		}
		tok.header = "Bearer " + tok.value
		if fresh {
			tok.forcedAt = time.Now()
		}
		t.mu.Lock()
		t.byScope[scope] = tok
		t.mu.Unlock()
		return tok, nil
	})
	select {
	case r := <-work:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*issued), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Authorizer is a credential for one scope, as rest.Options want it.
type Authorizer struct {
	t     *Tokens
	scope string
}

// Authorizer returns the credential for scope: Authorize is for rest.Options.Auth, OnUnauthorized for
// rest.Options.OnUnauthorized.
func (t *Tokens) Authorizer(scope string) *Authorizer { return &Authorizer{t, scope} }

// Authorize adds a token to the request.
func (a *Authorizer) Authorize(ctx context.Context, req *http.Request) error {
	tok, err := a.t.get(ctx, a.scope)
	if err != nil {
		return err
	}
	req.Header["Authorization"] = []string{tok.header}
	return nil
}

var errStillRefused = errors.New("a token that was just renewed is refused too")

// OnUnauthorized renews the token that an API has refused (it was revoked, or a clock is wrong), once: if the token has
// been renewed already, by somebody else, that one is used; if it was renewed only just now, the refusal stands.
func (a *Authorizer) OnUnauthorized(ctx context.Context, resp *http.Response) error {
	tok := a.t.current(a.scope)
	if tok != nil && resp != nil && resp.Request != nil {
		if used := resp.Request.Header.Get("Authorization"); used != "" && used != tok.header {
			return nil
		}
	}
	if tok != nil && !tok.forcedAt.IsZero() && time.Since(tok.forcedAt) < calm {
		return errStillRefused
	}
	_, err := a.t.acquire(ctx, a.scope, true)
	return err
}

// fixed is a token that was configured.
type fixed struct{ value sdk.Secret }

func (f fixed) token(_ context.Context, _ string, fresh bool) (*issued, error) {
	if fresh {
		return nil, sdk.Auth("the configured token is refused; it has probably expired: configure a new one, or a credential that renews itself")
	}
	far := time.Now().AddDate(100, 0, 0)
	return &issued{value: f.value.Reveal(), expires: far, renewAt: far}, nil
}

// notInToken says whether a character can be no part of a bearer token: it could end the header.
func notInToken(r rune) bool { return r <= ' ' || r > '~' }

// renewal is when a token that lives from now until expires is renewed.
func renewal(now, expires time.Time) time.Time {
	life := expires.Sub(now)
	return expires.Add(-min(early, life/2))
}
