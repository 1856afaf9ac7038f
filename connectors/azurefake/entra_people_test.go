package azurefake

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const graphScope = "https://graph.microsoft.com/.default openid profile offline_access"

// people is a fake with a public app, and a clock.
func people(t *testing.T, change func(*Options)) (*Server, *client, func(time.Duration)) {
	t.Helper()
	var mu sync.Mutex
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	o := Options{
		Apps: []App{{ClientID: "app"}, {ClientID: "other"}}, Entra: EntraOptions{PublicApps: []string{"app", "other"}},
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
	}
	if change != nil {
		change(&o)
	}
	s := newFake(t, o)
	c := &client{t: t, http: &http.Client{
		Transport: s.Transport(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return s, c, func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
}

// ask posts a grant and returns the error's AADSTS code, or the answer.
func (c *client) ask(s *Server, form map[string]string) (string, map[string]any) {
	c.t.Helper()
	v := url.Values{"client_id": {"app"}, "scope": {graphScope}}
	for k, text := range form {
		v.Set(k, text)
	}
	status, body := c.form(s, s.Tenant(), v)
	if status == http.StatusOK {
		return "", body
	}
	code, _, _ := strings.Cut(strings.TrimPrefix(body["error_description"].(string), "AADSTS"), ":")
	return body["error"].(string) + " " + code, body
}

func (c *client) device(s *Server) (code, user string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://x/"+s.Tenant()+"/oauth2/v2.0/devicecode",
		strings.NewReader(url.Values{"client_id": {"app"}, "scope": {graphScope}}.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	body := c.decode(resp)
	return body["device_code"].(string), body["user_code"].(string)
}

func TestDeviceCode(t *testing.T) {
	t.Parallel()
	s, c, wait := people(t, nil)
	poll := func(code string) string {
		got, _ := c.ask(s, map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code})
		return got
	}
	code, user := c.device(s)
	declined, user2 := c.device(s)
	for _, step := range []struct {
		wait time.Duration
		code string
		want string
	}{
		{0, code, "authorization_pending 70016"},
		{time.Second, code, "slow_down 70016"},
		{6 * time.Second, code, "slow_down 70016"}, // the interval has grown
		{20 * time.Second, code, "authorization_pending 70016"},
		{0, "nonsense", "bad_verification_code 70018"},
	} {
		wait(step.wait)
		if got := poll(step.code); got != step.want {
			t.Fatalf("got %q, want %q", got, step.want)
		}
	}
	if !s.AnswerDevice(user, true) || !s.AnswerDevice(user2, false) || s.AnswerDevice("nobody", true) {
		t.Error("user codes are not known")
	}
	wait(30 * time.Second)
	if got := poll(code); got != "" {
		t.Errorf("approved: %s", got)
	}
	if got := poll(code); got != "bad_verification_code 70018" {
		t.Errorf("a code holds twice: %s", got)
	}
	if got := poll(declined); got != "authorization_declined 70000" {
		t.Errorf("declined: %s", got)
	}
	late, _ := c.device(s)
	wait(time.Hour)
	if got := poll(late); got != "expired_token 70020" {
		t.Errorf("late: %s", got)
	}
}

// browser signs in and returns the code.
func (c *client) browser(s *Server, change url.Values) url.Values {
	c.t.Helper()
	sum := sha256.Sum256([]byte("verifier"))
	q := url.Values{
		"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {"http://localhost:4711"}, "scope": {graphScope}, "state": {"st"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	maps.Copy(q, change)
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "https://x/"+s.Tenant()+"/oauth2/v2.0/authorize?"+q.Encode(), http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusFound {
		return url.Values{"status": {resp.Status}}
	}
	return at.Query()
}

func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	s, c, wait := people(t, nil)
	redeem := func(code, redirect, verifier string) string {
		got, body := c.ask(s, map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier})
		if got == "" && (body["refresh_token"] == nil || body["id_token"] == nil) {
			t.Errorf("answer %v", body)
		}
		return got
	}
	const back = "http://localhost:4711"
	back1 := c.browser(s, nil)
	if back1.Get("state") != "st" || back1.Get("code") == "" {
		t.Fatalf("got %v", back1)
	}
	for _, tc := range []struct{ redirect, verifier, want string }{
		{"http://localhost:1", "verifier", "invalid_grant 500112"},
		{back, "guess", "invalid_grant 501481"},
		{back, "verifier", ""},
		{back, "verifier", "invalid_grant 54005"},
	} {
		if got := redeem(back1.Get("code"), tc.redirect, tc.verifier); got != tc.want {
			t.Errorf("%+v: got %q", tc, got)
		}
	}
	late := c.browser(s, nil).Get("code")
	wait(11 * time.Minute)
	if got := redeem(late, back, "verifier"); got != "invalid_grant 70008" {
		t.Errorf("late: %s", got)
	}
	if got := c.browser(s, url.Values{"redirect_uri": {"https://evil.example"}}); got.Get("status") != "400 Bad Request" {
		t.Errorf("foreign redirect: %v", got)
	}
	if got := c.browser(s, url.Values{"code_challenge": {""}}); got.Get("error") != "invalid_request" {
		t.Errorf("no PKCE: %v", got)
	}
}

func TestRefreshTokens(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		s, c, _ := people(t, func(o *Options) { o.Entra.StrictRefresh = strict })
		refresh := func(token string) (string, string) {
			got, body := c.ask(s, map[string]string{"grant_type": "refresh_token", "refresh_token": token})
			next, _ := body["refresh_token"].(string)
			return got, next
		}
		_, body := c.ask(s, map[string]string{"grant_type": "authorization_code", "code": c.browser(s, nil).Get("code"), "redirect_uri": "http://localhost:4711", "code_verifier": "verifier"})
		r0, _ := body["refresh_token"].(string)
		_, r1 := refresh(r0)
		if got, again := refresh(r0); got != "" || again == r1 { // the answer may have been lost
			t.Errorf("strict %v: a repeat before the successor was used: %q", strict, got)
		}
		_, r2 := refresh(r1)
		got, _ := refresh(r0)
		last, _ := refresh(r2)
		if want := map[bool]string{true: "invalid_grant 70000"}[strict]; got != want || last != want {
			t.Errorf("strict %v: reuse %q, then the newest %q", strict, got, last)
		}
		if n := s.Ledger().RefreshReuse; n != map[bool]uint64{true: 1}[strict] {
			t.Errorf("strict %v: %d reuses counted", strict, n)
		}
		if got, _ := c.ask(s, map[string]string{"grant_type": "refresh_token", "refresh_token": r2, "client_id": "other"}); got != "invalid_grant 9002313" {
			t.Errorf("another app's: %s", got)
		}
		s.EndSignIns("700082")
		if got, _ := refresh(r2); got != "invalid_grant 700082" {
			t.Errorf("ended: %s", got)
		}
	}
}

func TestIdentityEndpoints(t *testing.T) {
	t.Parallel()
	s, c, _ := people(t, func(o *Options) {
		o.Entra.Identities = []MachineIdentity{{ClientID: "sys", System: true}, {ClientID: "user", ObjectID: "obj", ResourceID: "/Res"}}
		o.Entra.IdentityHeader, o.Entra.ArcKeys = "header", t.TempDir()
	})
	get := func(path string, header ...string) int {
		resp, err := c.try(http.MethodGet, path, nil, header...)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	const imds, app, arc = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=r", "/msi/token?api-version=2019-08-01&resource=r", "/arc/token?api-version=2020-06-01&resource=r"
	for _, tc := range []struct {
		path   string
		header []string
		want   int
	}{
		{imds, nil, 400},
		{imds, []string{"Metadata", "true"}, 200},
		{imds, []string{"Metadata", "true", "X-Forwarded-For", "10.0.0.1"}, 400},
		{imds + "&msi_res_id=/res", []string{"Metadata", "true"}, 200},
		{imds + "&object_id=nobody", []string{"Metadata", "true"}, 400},
		{app, nil, 401},
		{app, []string{"X-Identity-Header", "header"}, 200},
		{app + "&principal_id=obj", []string{"X-Identity-Header", "header"}, 200},
		{arc, []string{"Metadata", "true"}, 401},
		{arc, []string{"Metadata", "true", "Authorization", "Basic guess"}, 401},
	} {
		if got := get(tc.path, tc.header...); got != tc.want {
			t.Errorf("%s %v: got %d, want %d", tc.path, tc.header, got, tc.want)
		}
	}
	if led := s.Ledger().Identities; led["imds"] != 5 || led["app_service"] != 3 || led["arc"] != 2 {
		t.Errorf("ledger %v", led)
	}
}

func TestClaimsChallenge(t *testing.T) {
	t.Parallel()
	s := newFake(t, Options{})
	c := graph(t, s)
	s.DemandClaims(`{"access_token":{"nbf":{"essential":true,"value":"1"}}}`)
	resp, err := c.try(http.MethodGet, "/v1.0/security/alerts_v2", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if h := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || !strings.Contains(h, "insufficient_claims") || !strings.Contains(h, `claims="ey`) {
		t.Errorf("got %d %s", resp.StatusCode, h)
	}
	if s.Ledger().TokensRejected["claims"] != 1 {
		t.Error("not counted")
	}
	s.DemandClaims("")
	c.want(200, http.MethodGet, "/v1.0/security/alerts_v2", nil)
}
