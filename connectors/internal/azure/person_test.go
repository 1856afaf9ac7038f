package azure

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// signInFake is a fake whose app is a public client.
func signInFake(t *testing.T, change ...func(*azurefake.Options)) (*azurefake.Server, *httptest.Server) {
	t.Helper()
	return fake(t, append([]func(*azurefake.Options){func(o *azurefake.Options) {
		o.Apps[0].Secret = ""
		o.Entra.PublicApps = []string{appID}
		o.Entra.DeviceInterval = time.Nanosecond
	}}, change...)...)
}

// kept is what a host keeps for a connection.
type kept struct {
	mu    sync.Mutex
	state []byte
	saves int
}

func (k *kept) save(b []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.saves = append([]byte{}, b...), k.saves+1
}

func (k *kept) get() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]byte{}, k.state...)
}

// forPerson opens the tokens of a person's credential with what was kept.
func forPerson(t *testing.T, authority string, k *kept) *Tokens {
	t.Helper()
	c := Credential{TenantID: tenant, ClientID: appID, SignIn: "user", AuthorityURL: authority}
	tok, err := NewTokens(c, Options{State: k.get(), SaveState: k.save, Connection: "alerts"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tok.Close() })
	tok.Authorizer(graph)
	return tok
}

// byBrowser signs in as a browser does that follows redirects up to this machine.
func byBrowser(t *testing.T, tok *Tokens) error {
	t.Helper()
	const back = "http://localhost:8400/done"
	begun, err := tok.begin(t.Context(), BeginInput{RedirectURI: back})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, begun.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || at.Query().Get("state") != begun.State || !strings.HasPrefix(at.String(), back) {
		t.Fatalf("redirected to %v, %v", at, err)
	}
	done, err := tok.finish(t.Context(), FinishInput{Session: begun.Session, Code: at.Query().Get("code")})
	if err == nil && (!done.Done || done.Account != "analyst@contoso.example") {
		t.Errorf("got %+v", done)
	}
	return err
}

func TestSignInInTheBrowser(t *testing.T) {
	t.Parallel()
	f, srv := signInFake(t, func(o *azurefake.Options) { o.Entra.Redirects = []string{"http://localhost/done"} })
	var k kept
	tok := forPerson(t, srv.URL, &k)
	_, err := tok.Token(t.Context(), graph)
	e := asError(t, err)
	if e.Class() != plugin.ClassAuth || e.Reason != "SIGN_IN_REQUIRED" || !strings.Contains(e.Message, "nobody has signed in for app "+appID) || !strings.Contains(e.Message, "casewire auth login alerts") {
		t.Errorf("got %v", e)
	}
	if f.Ledger().Grants["refresh_token"] != 0 {
		t.Error("the authority was asked without a refresh token")
	}
	if err := byBrowser(t, tok); err != nil {
		t.Fatal(err)
	}
	a, err := tok.Token(t.Context(), graph)
	if err != nil {
		t.Fatal(err)
	}
	// A new process with what was kept goes on, for every API; and what is kept is no access token.
	again := forPerson(t, srv.URL, &k)
	for _, scope := range []string{graph, Public.LogAnalyticsScope} {
		if _, err := again.Token(t.Context(), scope); err != nil {
			t.Errorf("%s: %v", scope, err)
		}
	}
	if b := string(k.get()); strings.Contains(b, a.Reveal()) || !strings.Contains(b, "refresh_token") || !strings.Contains(b, "analyst@contoso.example") {
		t.Errorf("kept: %s", b)
	}
	if code, ok := readClaims(a.Reveal()); !ok || code.Person != "analyst@contoso.example" {
		t.Errorf("claims %+v", code)
	}
	// Another app's configuration does not use this sign-in.
	c := Credential{TenantID: tenant, ClientID: "11111111-2222-3333-4444-555555555555", SignIn: "user", AuthorityURL: srv.URL}
	other, err := NewTokens(c, Options{State: k.get()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if _, err := other.Token(t.Context(), graph); asError(t, err).Reason != "SIGN_IN_REQUIRED" {
		t.Errorf("got %v", err)
	}
}

func TestSignInByDeviceCode(t *testing.T) {
	t.Parallel()
	f, srv := signInFake(t)
	var k kept
	tok := forPerson(t, srv.URL, &k)
	begun, err := tok.begin(t.Context(), BeginInput{})
	if err != nil || begun.UserCode == "" || !strings.Contains(begun.Message, begun.UserCode) || begun.Wait < 1 {
		t.Fatalf("got %+v, %v", begun, err)
	}
	pending, err := tok.finish(t.Context(), FinishInput{Session: begun.Session})
	if err != nil || pending.Done || pending.Wait < 1 {
		t.Fatalf("got %+v, %v", pending, err)
	}
	f.AnswerDevice(begun.UserCode, true)
	done, err := tok.finish(t.Context(), FinishInput{Session: begun.Session})
	if err != nil || !done.Done || k.saves != 1 {
		t.Fatalf("got %+v, %v, %d saves", done, err, k.saves)
	}
	if _, err := tok.Token(t.Context(), graph); err != nil {
		t.Error(err)
	}
	declined, err := tok.begin(t.Context(), BeginInput{})
	if err != nil {
		t.Fatal(err)
	}
	f.AnswerDevice(declined.UserCode, false)
	_, err = tok.finish(t.Context(), FinishInput{Session: declined.Session})
	if e := asError(t, err); !strings.Contains(e.Message, "declined") || !strings.Contains(e.Message, "casewire auth login alerts") {
		t.Errorf("got %v", e)
	}
	for _, in := range []FinishInput{{Session: "nonsense"}, {Session: "e30"}} {
		if _, err := tok.finish(t.Context(), in); asError(t, err).Class() != plugin.ClassInvalid {
			t.Errorf("%+v: got %v", in, err)
		}
	}
	for _, to := range []string{"https://evil.example", "http://10.0.0.1/", "http://localhost/#x", "http://u@localhost/"} {
		if _, err := tok.begin(t.Context(), BeginInput{RedirectURI: to}); asError(t, err).Class() != plugin.ClassInvalid {
			t.Errorf("%s: got %v", to, err)
		}
	}
	if _, err := tokens(t, bySecret(srv.URL)).begin(t.Context(), BeginInput{}); asError(t, err).Class() != plugin.ClassConfig {
		t.Errorf("an app: got %v", err)
	}
}

func TestSlowDown(t *testing.T) {
	t.Parallel()
	_, srv := signInFake(t, func(o *azurefake.Options) { o.Entra.DeviceInterval = time.Hour })
	tok := forPerson(t, srv.URL, &kept{})
	begun, err := tok.begin(t.Context(), BeginInput{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := tok.finish(t.Context(), FinishInput{Session: begun.Session})
	if err != nil {
		t.Fatal(err)
	}
	second, err := tok.finish(t.Context(), FinishInput{Session: begun.Session})
	if err != nil || second.Done || first.Wait != 3600 || second.Wait != 3605 {
		t.Errorf("got %+v, then %+v, %v", first, second, err)
	}
}

// The refresh token is handed to the host before the access token that came with it is used; so a process that ends
// anywhere in between has lost nothing, even where a refresh token holds once.
func TestEndedBetweenRefreshAndKeeping(t *testing.T) {
	t.Parallel()
	f, srv := signInFake(t, func(o *azurefake.Options) {
		o.Entra.StrictRefresh, o.Entra.Redirects = true, []string{"http://localhost/done"}
	})
	var k kept
	if err := byBrowser(t, forPerson(t, srv.URL, &k)); err != nil {
		t.Fatal(err)
	}
	before := k.get()
	lost := kept{state: before} // this process refreshes, and ends before the host has it on disk
	if _, err := forPerson(t, srv.URL, &lost).Token(t.Context(), graph); err != nil || lost.saves != 1 {
		t.Fatalf("%v, %d saves", err, lost.saves)
	}
	next := forPerson(t, srv.URL, &k) // the next one has what was kept before
	for _, scope := range []string{graph, Public.LogAnalyticsScope, Scope(Public.ResourceManager)} {
		if _, err := next.Token(t.Context(), scope); err != nil {
			t.Fatalf("locked out: %v", err)
		}
	}
	if f.Ledger().RefreshReuse != 0 {
		t.Error("taken for a thief")
	}
	// Each refresh replaced what is kept.
	var s sealedState
	if err := json.Unmarshal(k.get(), &s); err != nil || s.SignIn.RefreshToken == "" || k.saves != 4 || s.SignIn.Account == "" || s.SignIn.Renewed.IsZero() {
		t.Errorf("%v, %d saves, %+v", err, k.saves, s.SignIn)
	}
	// Whoever brings the oldest one now ends it all, and is told what to do.
	_, err := forPerson(t, srv.URL, &kept{state: before}).Token(t.Context(), graph)
	if e := asError(t, err); e.Reason != "AADSTS70000" || !strings.Contains(e.Message, "sign in again: casewire auth login alerts") {
		t.Errorf("got %v", e)
	}
}

func TestManyScopesRefreshInTurn(t *testing.T) {
	t.Parallel()
	f, srv := signInFake(t, func(o *azurefake.Options) {
		o.Entra.StrictRefresh, o.Entra.Redirects = true, []string{"http://localhost/done"}
	})
	var k kept
	tok := forPerson(t, srv.URL, &k)
	if err := byBrowser(t, tok); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 25 {
		for _, scope := range []string{graph, Public.LogAnalyticsScope, Public.DefenderScope, Scope(Public.ResourceManager)} {
			wg.Go(func() {
				if _, err := tok.Token(t.Context(), scope); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if led := f.Ledger(); led.Grants["refresh_token"] != 4 || led.RefreshReuse != 0 {
		t.Errorf("100 callers for 4 scopes: %d refreshes, %d reuses", led.Grants["refresh_token"], led.RefreshReuse)
	}
}

func TestEndedSignIns(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"50173":  "AADSTS50173: the sign-in was revoked: the password was changed",
		"70008":  "AADSTS70008: the sign-in or the code has expired",
		"70043":  "AADSTS70043: the sign-in has ended: Conditional Access sets how long",
		"700082": "AADSTS700082: the sign-in has ended, because it was not used",
		"50076":  "AADSTS50076: the tenant asks for multi-factor authentication; sign in again",
		"53003":  "AADSTS53003: a Conditional Access policy blocks the sign-in",
		"50057":  "AADSTS50057: the account is disabled",
	} {
		f, srv := signInFake(t, func(o *azurefake.Options) { o.Entra.Redirects = []string{"http://localhost/done"} })
		var k kept
		tok := forPerson(t, srv.URL, &k)
		if err := byBrowser(t, tok); err != nil {
			t.Fatal(err)
		}
		var s sealedState
		if err := json.Unmarshal(k.get(), &s); err != nil {
			t.Fatal(err)
		}
		f.EndSignIns(code)
		_, err := tok.Token(t.Context(), graph)
		e := asError(t, err)
		if e.Class() != plugin.ClassAuth || e.Reason != "AADSTS"+code || !strings.Contains(e.Message, want) || !strings.Contains(e.Message, "casewire auth login alerts") || e.RequestID == "" {
			t.Errorf("%s: got %v", code, e)
		}
		if strings.Contains(e.Error(), s.SignIn.RefreshToken) {
			t.Error("the error shows the refresh token")
		}
		if len(k.get()) == 0 {
			t.Error("a refusal forgot the sign-in: it may be mended by an administrator")
		}
	}
}

// An app with a secret can have people sign in, too.
func TestSignInWithASecret(t *testing.T) {
	t.Parallel()
	_, srv := fake(t, func(o *azurefake.Options) { o.Entra.Redirects = []string{"http://localhost/done"} })
	var k kept
	c := bySecret(srv.URL)
	c.SignIn = "user"
	open := func() *Tokens {
		tok, err := NewTokens(c, Options{State: k.get(), SaveState: k.save})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tok.Close() })
		return tok
	}
	tok := open()
	if err := byBrowser(t, tok); err != nil {
		t.Fatal(err)
	}
	if _, err := open().Token(t.Context(), graph); err != nil {
		t.Error(err)
	}
	c.ClientSecret = sdk.Secret{}
	_, err := open().Token(t.Context(), graph)
	if e := asError(t, err); e.Reason != "AADSTS7000218" || !strings.Contains(e.Message, "public client flows") {
		t.Errorf("got %v", e)
	}
}

func TestAuthorityTroubleForPeople(t *testing.T) {
	t.Parallel()
	state, err := json.Marshal(sealedState{SignIn: &signedIn{Tenant: tenant, Client: appID, RefreshToken: "0.refresh-me"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		fault azurefake.Fault
		class plugin.Class
		want  string
	}{
		"throttled": {azurefake.Throttle, plugin.ClassThrottled, "429"},
		"down":      {azurefake.Unavailable, plugin.ClassUnavailable, "503"},
		"html":      {azurefake.HTML, plugin.ClassUnavailable, "no JSON"},
		"reset":     {azurefake.Reset, plugin.ClassUnavailable, "cannot be reached"},
		"cut":       {azurefake.CutBody, plugin.ClassUnavailable, "cannot be reached"},
		"bad JSON":  {azurefake.BadJSON, plugin.ClassUnavailable, "no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, srv := signInFake(t, func(o *azurefake.Options) { o.Entra.Redirects = []string{"http://localhost/done"} })
			k := kept{state: state}
			tok := forPerson(t, srv.URL, &k)
			if err := byBrowser(t, tok); err != nil {
				t.Fatal(err)
			}
			f.FailNext(azurefake.RouteToken, tc.fault, 1)
			_, err := tok.Token(t.Context(), graph)
			e := asError(t, err)
			if e.Class() != tc.class || !strings.Contains(e.Message, tc.want) || strings.Contains(e.Message, "sign in again") {
				t.Errorf("got %s: %s", e.Class(), e.Message)
			}
			if _, err := tok.Token(t.Context(), graph); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
