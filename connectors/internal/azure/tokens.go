package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

const (
	// patience is how long a caller waits for the renewal of a token that is still good.
	patience = 2 * time.Second
	// pause is how long a renewal that failed is not tried again, while the old token is good.
	pause = 30 * time.Second
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
	scopes  []string // that somebody is going to ask for, in order
}

// want is what a source is asked for.
type want struct {
	scope string
	// fresh demands a token that was not handed out before.
	fresh bool
	// claims is what an API demands of the token (continuous access evaluation): JSON, or empty.
	claims string
	// refused says that an API refused the last one.
	refused bool
}

// resource is the API that a scope is for, as managed identities and commands name it.
func resource(scope string) string { return strings.TrimSuffix(scope, "/.default") }

// issued is a token as it was handed out.
type issued struct {
	value    string
	header   string // "Bearer …", made once
	expires  time.Time
	renewAt  time.Time
	forcedAt time.Time // when it was made to replace one that an API refused
	claims   string    // that it was made for
}

// source gets tokens from where they come from. Errors are *sdk.Error or the context's.
type source interface {
	token(ctx context.Context, w want) (*issued, error)
}

// NewTokens checks the credential and prepares it; nothing is sent. Errors are of the configuration and name the
// property.
func NewTokens(c Credential, o Options) (*Tokens, error) {
	field := cmp.Or(o.Field, "/credential")
	if err := c.check(field); err != nil {
		return nil, err
	}
	t := &Tokens{byScope: map[string]*issued{}}
	if o.Transport == nil {
		var err error
		if o.Transport, err = rest.Transport(rest.TransportOptions{}); err != nil {
			return nil, err
		}
	}
	var err error
	switch c.ways()[0] {
	case "token":
		if strings.ContainsFunc(c.Token.Reveal(), notInToken) {
			return nil, sdk.BadConfig(field+"/token", "has a character that no token has (a line feed?)")
		}
		t.source = fixed{c.Token}
	case "exec":
		t.source = command{c.Exec}
	case "managed_identity":
		t.source = newIdentity(*c.ManagedIdentity)
	case "sign_in":
		t.source = newPerson(c, o)
	default:
		t.source, err = newEntra(c, field, o.Transport)
	}
	if err != nil {
		return nil, err
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
	switch {
	case tok == nil || !now.Add(usable).Before(tok.expires):
		return t.acquire(ctx, want{scope: scope, fresh: tok != nil})
	case now.Before(tok.renewAt):
		return tok, nil
	}
	// What we have still works: nobody waits long for its renewal, and it goes on being used while the authority is down.
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	renewed, err := t.acquire(short, want{scope: scope, fresh: true})
	if err == nil {
		return renewed, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	later := *tok
	later.renewAt = now.Add(pause)
	t.mu.Lock()
	if t.byScope[scope] == tok {
		t.byScope[scope] = &later
	}
	t.mu.Unlock()
	return tok, nil
}

// acquire gets a token, together with whoever else wants it. The request goes on when one of them gives up.
func (t *Tokens) acquire(ctx context.Context, w want) (*issued, error) {
	work := t.flights.DoChan(fmt.Sprint(w), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acquireTimeout)
		defer cancel()
		tok, err := t.source.token(ctx, w)
		if err != nil {
			return nil, err
		}
		tok.header = "Bearer " + tok.value
		if w.refused {
			tok.forcedAt, tok.claims = time.Now(), w.claims
		}
		t.mu.Lock()
		t.byScope[w.scope] = tok
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
func (t *Tokens) Authorizer(scope string) *Authorizer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.scopes, scope) {
		t.scopes = append(t.scopes, scope)
	}
	return &Authorizer{t, scope}
}

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

// OnUnauthorized renews the token that an API has refused (it was revoked, a clock is wrong, or the API demands claims of
// it), once: if the token has been renewed already, by somebody else, that one is used; if it was renewed only just now,
// the refusal stands.
func (a *Authorizer) OnUnauthorized(ctx context.Context, resp *http.Response) error {
	tok := a.t.current(a.scope)
	w := want{scope: a.scope, fresh: true, refused: true}
	if resp != nil {
		w.claims = challenge(resp.Header)
		if tok != nil && resp.Request != nil {
			if used := resp.Request.Header.Get("Authorization"); used != "" && used != tok.header {
				return nil
			}
		}
	}
	if tok != nil && !tok.forcedAt.IsZero() && time.Since(tok.forcedAt) < calm && tok.claims == w.claims {
		return errStillRefused
	}
	_, err := a.t.acquire(ctx, w)
	return err
}

// fixed is a token that was configured.
type fixed struct{ value sdk.Secret }

func (f fixed) token(_ context.Context, w want) (*issued, error) {
	if w.fresh {
		return nil, sdk.Auth("the configured token is refused; it has probably expired: configure a new one, or a credential that renews itself")
	}
	far := time.Now().AddDate(100, 0, 0)
	return &issued{value: f.value.Reveal(), expires: far, renewAt: far}, nil
}

// notInToken says whether a character can be no part of a bearer token: it could end the header.
func notInToken(r rune) bool { return r <= ' ' || r > '~' }

// renewal is when a token that lives from now until expires is renewed: at half its life.
func renewal(now, expires time.Time) time.Time { return now.Add(expires.Sub(now) / 2) }
