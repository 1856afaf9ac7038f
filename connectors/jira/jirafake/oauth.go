package jirafake

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// RouteToken is the token endpoint of OAuth 2.0 (3LO), POST /oauth/token. Really it is on another host.
const RouteToken = "jira.oauth.token"

// accessLife is how long an access token is good for.
const accessLife = time.Hour

// grants are the authorizations that apps have.
type grants struct {
	mu      sync.Mutex
	secrets map[string]string    // client secrets by id
	refresh map[string]grant     // by refresh token
	access  map[string]time.Time // ends, by access token
	used    map[string]time.Time // when a refresh token was traded
	leeway  time.Duration        // how long a traded refresh token still works
}

type grant struct{ client string }

// Authorize gives an app an authorization, as if a person had agreed in the browser.
func (s *Server) Authorize() (clientID, clientSecret, refreshToken string) {
	g := &s.grants
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.secrets == nil {
		g.secrets, g.refresh, g.access, g.used = map[string]string{}, map[string]grant{}, map[string]time.Time{}, map[string]time.Time{}
	}
	clientID, clientSecret, refreshToken = rand.Text(), rand.Text(), rand.Text()
	g.secrets[clientID], g.refresh[refreshToken] = clientSecret, grant{clientID}
	return clientID, clientSecret, refreshToken
}

// SetReuse says how long a refresh token works after it was traded; Atlassian allows ten minutes. The default is none.
func (s *Server) SetReuse(d time.Duration) {
	s.grants.mu.Lock()
	s.grants.leeway = d
	s.grants.mu.Unlock()
}

// ExpireTokens ends all access tokens at once; refresh tokens stay.
func (s *Server) ExpireTokens() {
	s.grants.mu.Lock()
	clear(s.grants.access)
	s.grants.mu.Unlock()
}

// Revoke ends all authorizations.
func (s *Server) Revoke() {
	s.grants.mu.Lock()
	clear(s.grants.access)
	clear(s.grants.refresh)
	s.grants.mu.Unlock()
}

// granted says whether an access token is good.
func (s *Server) granted(token string) bool {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	return s.opt.Now().Before(s.grants.access[token])
}

func (s *Server) token(c *fakekit.Call, _ *User) fakekit.Reply {
	obj, refusal, ok := bodyObject(c.R)
	if !ok {
		return refusal
	}
	get := func(name string) string { v, _ := text(obj[name]); return v }
	deny := func(status int, code, why string) fakekit.Reply {
		return fakekit.JSON(status, object{"error": code, "error_description": why})
	}
	g := &s.grants
	g.mu.Lock()
	defer g.mu.Unlock()
	now, old := s.opt.Now(), get("refresh_token")
	switch secret, known := g.secrets[get("client_id")]; {
	case get("grant_type") != "refresh_token":
		return deny(http.StatusBadRequest, "unsupported_grant_type", "grant_type must be refresh_token")
	case !known || secret != get("client_secret"):
		return deny(http.StatusUnauthorized, "access_denied", "Unauthorized")
	}
	have, good := g.refresh[old]
	if at, traded := g.used[old]; traded && now.Sub(at) >= g.leeway {
		good = false
	}
	if !good || have.client != get("client_id") {
		return deny(http.StatusForbidden, "invalid_grant", "Unknown or invalid refresh token.")
	}
	if _, traded := g.used[old]; !traded {
		g.used[old] = now
	}
	access, refresh := rand.Text(), rand.Text()
	g.access[access], g.refresh[refresh] = now.Add(accessLife), have
	return fakekit.JSON(http.StatusOK, object{
		"access_token": access, "refresh_token": refresh, "expires_in": int(accessLife / time.Second), "token_type": "Bearer",
		"scope": "read:jira-work write:jira-work read:jira-user offline_access",
	})
}
