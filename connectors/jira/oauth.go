package jira

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// defaultTokenURL is where Atlassian's OAuth 2.0 (3LO) gives out tokens.
const defaultTokenURL = "https://auth.atlassian.com/oauth/token" //nolint:gosec // an address

// tokenSlack is how long before its end a token is renewed.
const tokenSlack = 2 * time.Minute

// oauth keeps an access token fresh. Atlassian gives a new refresh token with every access token and ends the old one, so
// that the new one is handed to the host before anything else happens.
type oauth struct {
	client *rest.Client
	id     string
	secret sdk.Secret
	family string // which refresh token of the configuration the state grew from
	save   func([]byte)
	turn   chan struct{} // held by who renews, or looks
	state  oauthState
}

// oauthState is what the host keeps sealed.
type oauthState struct {
	V       int       `json:"v"`
	Family  string    `json:"family"`
	Refresh string    `json:"refresh"`
	Access  string    `json:"access,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

// newOAuth continues from the sealed state, if it grew from the refresh token that is configured; a new one starts anew.
func newOAuth(cred *Credential, at string, env sdk.Env, transport http.RoundTripper) (*oauth, error) {
	for _, f := range []struct {
		name string
		gone bool
	}{{"client_id", cred.ClientID == ""}, {"client_secret", cred.ClientSecret.IsZero()}, {"refresh_token", cred.RefreshToken.IsZero()}} {
		if f.gone {
			return nil, sdk.BadConfig(at+"/"+f.name, "missing: OAuth 2.0 takes client_id, client_secret and refresh_token")
		}
	}
	client, err := rest.New(rest.Options{
		BaseURL: cmp.Or(cred.TokenURL, defaultTokenURL), Field: at + "/token_url", API: "Atlassian sign-in", Transport: transport, MaxBody: 64 << 10,
	})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte("casewire jira " + cred.RefreshToken.Reveal()))
	o := &oauth{
		client: client, id: cred.ClientID, secret: cred.ClientSecret, save: env.SaveState,
		family: base64.RawURLEncoding.EncodeToString(sum[:9]), turn: make(chan struct{}, 1),
	}
	if json.Unmarshal(env.State, &o.state) != nil || o.state.Family != o.family || o.state.Refresh == "" {
		o.state = oauthState{V: 1, Family: o.family, Refresh: cred.RefreshToken.Reveal()}
	}
	return o, nil
}

// token returns an access token. Who comes while one is being fetched waits for it.
func (o *oauth) token(ctx context.Context) (string, error) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if o.state.Access == "" || time.Until(o.state.Expires) < tokenSlack {
		if err := o.renew(ctx); err != nil {
			return "", err
		}
	}
	return o.state.Access, nil
}

// refused drops an access token that Jira did not take, unless it has been renewed meanwhile. It reports whether another
// attempt can do better.
func (o *oauth) refused(ctx context.Context, header string) bool {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return false
	}
	if "Bearer "+o.state.Access == header {
		o.state.Access = ""
	}
	return true
}

// renew trades the refresh token for a new pair. An answer that is lost is no loss: Atlassian takes the old token for a few
// minutes more.
func (o *oauth) renew(ctx context.Context) error {
	reads := false
	begin := time.Now()
	resp, err := o.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Write: &reads, OK: []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden},
		Body: map[string]string{
			"grant_type": "refresh_token", "client_id": o.id, "client_secret": o.secret.Reveal(), "refresh_token": o.state.Refresh,
		},
	})
	if err != nil {
		return err
	}
	var pair struct {
		Access      string `json:"access_token"`
		Refresh     string `json:"refresh_token"`
		Expires     int64  `json:"expires_in"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := resp.JSON(&pair); err != nil && resp.Status == http.StatusOK {
		return err
	}
	if resp.Status != http.StatusOK {
		return o.explain(resp.Status, pair.Error, pair.Description)
	}
	if pair.Access == "" || strings.ContainsAny(pair.Access, "\r\n") {
		return sdk.Unavailable("Atlassian sign-in: the answer holds no access token")
	}
	next := oauthState{
		V: 1, Family: o.family, Refresh: cmp.Or(pair.Refresh, o.state.Refresh), Access: pair.Access,
		Expires: begin.Add(time.Duration(max(60, min(pair.Expires, 86400))) * time.Second),
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if o.save != nil {
		o.save(raw) // before its first use: from here on the old refresh token is worth nothing
	}
	o.state = next
	return nil
}

// explain says what a refusal means and what to do.
func (o *oauth) explain(status int, code, description string) error {
	text := clip(oneLine(o.clean(description), 200), 200)
	switch code {
	case "invalid_grant", "unauthorized_client":
		e := sdk.Auth("Atlassian sign-in refuses the refresh token (%s: %s): it was revoked, has not been used for 90 days, or another program uses it too. "+
			"Authorize the app again and set refresh_token to the new one", code, text)
		e.HTTPStatus = status
		return e
	case "invalid_client", "access_denied":
		e := sdk.Auth("Atlassian sign-in refuses the app (%s: %s): check client_id and client_secret in the developer console", code, text)
		e.HTTPStatus = status
		return e
	}
	e := sdk.Auth("Atlassian sign-in answered %d (%s: %s): check client_id, client_secret and refresh_token", status, clip(oneLine(code, 80), 80), text)
	e.HTTPStatus = status
	return e
}

// clean takes what is secret out of a text of somebody else.
func (o *oauth) clean(s string) string {
	for _, secret := range []string{o.secret.Reveal(), o.state.Refresh, o.state.Access} {
		if len(secret) > 3 {
			s = strings.ReplaceAll(s, secret, "[redacted]")
		}
	}
	return s
}
