package jira

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/casewire/casewire/connectors/jira/jirafake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// oauthJira is a fake with an authorized app, and the configuration of a connection as that app.
func oauthJira(t *testing.T) (*jirafake.Server, Config) {
	t.Helper()
	fake := jirafake.New(jirafake.Options{NoIssueLimit: true})
	srv := httptest.NewServer(judged(t, fake))
	t.Cleanup(func() { srv.Close(); fake.Close() })
	id, secret, refresh := fake.Authorize()
	return fake, Config{
		BaseURL: srv.URL + "/ex/jira/" + jirafake.DefaultCloudID, Project: "SOC", IssueType: "Task", SiteURL: "https://acme.example", Deployment: "cloud",
		SearchBeforeCreate: true, NotifyUsers: true,
		ClientID: id, ClientSecret: plugin.NewSecret(secret), RefreshToken: plugin.NewSecret(refresh), TokenURL: srv.URL + "/oauth/token",
	}
}

func tokens(fake *jirafake.Server) uint64 { return fake.Ledger().Requests[jirafake.RouteToken]["200"] }

func TestRotatingRefreshTokenIsKeptAndUsedOnce(t *testing.T) {
	t.Parallel()
	fake, cfg := oauthJira(t)
	h := sdktest.Open(t, Connector(), cfg)
	one(t, h, "case 1")
	if n := tokens(fake); n != 1 {
		t.Fatalf("%d tokens for two requests", n)
	}
	var st oauthState
	if err := json.Unmarshal(h.State(), &st); err != nil || st.Refresh == "" || st.Refresh == cfg.RefreshToken.Reveal() {
		t.Fatalf("the new refresh token is not in the state: %v", err)
	}
	// The process dies; another goes on from the state, and needs no new token.
	h.Crash()
	one(t, h, "case 2")
	if n := tokens(fake); n != 1 {
		t.Errorf("%d tokens after a restart", n)
	}
	// Jira stops taking the access token long before its time: renewed once, and the request repeated.
	fake.ExpireTokens()
	one(t, h, "case 3")
	if n := tokens(fake); n != 2 {
		t.Errorf("%d tokens after one was refused", n)
	}
	h.Crash()
	fake.ExpireTokens()
	one(t, h, "case 4") // with the refresh token that came last
	if fake.Ledger().Creates != 4 {
		t.Errorf("%d creates", fake.Ledger().Creates)
	}
}

func TestManyRequestsWaitForOneToken(t *testing.T) {
	t.Parallel()
	fake, cfg := oauthJira(t)
	h := sdktest.Open(t, Connector(), cfg)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			must[searched](t, h, sdktest.Call{Action: "issue.search", Input: map[string]any{"jql": "project = SOC"}})
		})
	}
	wg.Wait()
	if n := tokens(fake); n != 1 {
		t.Errorf("%d tokens", n)
	}
}

func TestLostTokenAnswerIsNoLoss(t *testing.T) {
	t.Parallel()
	fake, cfg := oauthJira(t)
	fake.SetReuse(1 << 40)
	h := sdktest.Open(t, Connector(), cfg)
	fake.FailNext(jirafake.RouteToken, jirafake.LostAnswer, 1)
	_, err := do[Ensured](t, h, ensure())
	if e := asError(t, err); e.Class() != plugin.ClassUnavailable || e.SideEffect != plugin.EffectNone {
		t.Errorf("lost: %v of class %s", e, e.Class())
	}
	one(t, h, "case 1")
}

func TestRefusedTokensSayWhatToDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*jirafake.Server, *Config)
		says   string
	}{
		"revoked":            {func(f *jirafake.Server, _ *Config) { f.Revoke() }, "Authorize the app again"},
		"wrong secret":       {func(_ *jirafake.Server, c *Config) { c.ClientSecret = plugin.NewSecret("not-the-secret") }, "check client_id and client_secret"},
		"wrong token":        {func(_ *jirafake.Server, c *Config) { c.RefreshToken = plugin.NewSecret("not-the-token") }, "refuses the refresh token"},
		"signs in elsewhere": {func(f *jirafake.Server, _ *Config) { f.FailNext(jirafake.RouteToken, jirafake.HTML, 1) }, "Atlassian sign-in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, cfg := oauthJira(t)
			tt.change(fake, &cfg)
			h := sdktest.Open(t, Connector(), cfg)
			_, err := do[Ensured](t, h, ensure())
			if e := asError(t, err); !strings.Contains(e.Error(), tt.says) || e.SideEffect != plugin.EffectNone {
				t.Errorf("%v", e)
			}
			if fake.Ledger().Creates != 0 {
				t.Error("something was created")
			}
		})
	}
}

func TestANewRefreshTokenReplacesTheState(t *testing.T) {
	t.Parallel()
	fake, cfg := oauthJira(t)
	h := sdktest.Open(t, Connector(), cfg)
	one(t, h, "case 1")
	fake.Revoke()
	id, secret, refresh := fake.Authorize()
	cfg.ClientID, cfg.ClientSecret, cfg.RefreshToken = id, plugin.NewSecret(secret), plugin.NewSecret(refresh)
	if err := h.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	one(t, h, "case 2")
}

func TestOAuthConfigMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		field  string
	}{
		"no secret":       {func(c *Config) { c.ClientSecret = plugin.Secret{} }, "/client_secret"},
		"no refresh":      {func(c *Config) { c.RefreshToken = plugin.Secret{} }, "/refresh_token"},
		"two credentials": {func(c *Config) { c.Token = plugin.NewSecret("t") }, "/client_id"},
		"site address":    {func(c *Config) { c.BaseURL = "https://acme.atlassian.net" }, "/base_url"},
		"bad token url":   {func(c *Config) { c.TokenURL = "http://auth.example/token" }, "/token_url"},
	} {
		_, cfg := oauthJira(t)
		tt.change(&cfg)
		if _, err := open(context.Background(), cfg, sdk.Env{}); !said(asError(t, err), tt.field, "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
