package azurefake

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Names of routes of people's sign-ins and of managed identities.
const (
	RouteDeviceCode = "entra.devicecode"
	RouteAuthorize  = "entra.authorize"
	RouteIdentity   = "entra.identity"

	RouteApplications = "graph.applications.list"
)

// RoleApplicationRead lets an app read registrations, its own among them.
const RoleApplicationRead = "Application.Read.All"

var (
	rDeviceCode = fakekit.Route{Name: RouteDeviceCode}
	rAuthorize  = fakekit.Route{Name: RouteAuthorize}
	rIdentity   = fakekit.Route{Name: RouteIdentity}

	rApplications = fakekit.Route{Name: RouteApplications}
)

// EntraOptions configure what the authority does besides client credentials.
type EntraOptions struct {
	// Account is who signs in; default "analyst@contoso.example".
	Account string
	// PublicApps are ids of apps that allow public client flows: they prove nothing of themselves.
	PublicApps []string
	// Redirects are the registered redirect addresses; of those on the loopback the port does not matter. Default
	// "http://localhost".
	Redirects []string
	// StrictRefresh makes a refresh token worthless once its successor was used: whoever brings it then is taken for a
	// thief, and the whole sign-in is revoked. Entra itself leaves old refresh tokens valid, except for single-page apps.
	StrictRefresh bool
	// DeviceInterval is how often a device code may be asked for, DeviceLife how long it lives; default 5 s and 15 min.
	DeviceInterval, DeviceLife time.Duration
	// Identities are the managed identities of the machine; the first one without ids is system-assigned. None: the machine
	// has no identity.
	Identities []MachineIdentity
	// IdentityHeader is the secret of App Service's endpoint.
	IdentityHeader string
	// ArcKeys is the directory in which the agent of Azure Arc leaves its challenges.
	ArcKeys string
}

// MachineIdentity is a managed identity.
type MachineIdentity struct {
	ClientID, ObjectID, ResourceID string
	System                         bool
	Roles                          []string
}

func (o EntraOptions) withDefaults() EntraOptions {
	o.Account = cmp.Or(o.Account, "analyst@contoso.example")
	o.DeviceInterval = cmp.Or(o.DeviceInterval, 5*time.Second)
	o.DeviceLife = cmp.Or(o.DeviceLife, 15*time.Minute)
	if o.Redirects == nil {
		o.Redirects = []string{"http://localhost"}
	}
	return o
}

// grants are people's sign-ins.
type grants struct {
	mu       sync.Mutex
	devices  map[string]*device
	codes    map[string]*authCode
	refresh  map[string]refreshToken
	families []*family
	byGrant  map[string]uint64
	reuse    uint64
	asked    map[string]uint64 // identity endpoints, by source
	claims   string            // that the APIs demand
}

type device struct {
	app      *App
	userCode string
	scope    string
	expires  time.Time
	polled   time.Time
	interval time.Duration
	decision string // approved, declined
}

type authCode struct {
	app                        *App
	redirect, challenge, scope string
	expires                    time.Time
	used                       bool
}

// family is one sign-in: its refresh tokens follow each other.
type family struct {
	app     *App
	used    int    // highest generation that was used
	refused string // AADSTS code with which every token of it is refused
}

type refreshToken struct {
	family     *family
	generation int
}

func newGrants() grants {
	return grants{
		devices: map[string]*device{}, codes: map[string]*authCode{}, refresh: map[string]refreshToken{},
		byGrant: map[string]uint64{}, asked: map[string]uint64{},
	}
}

func (s *Server) routeEntra(method string, p []string) (fakekit.Route, string, fakekit.Handler, bool) {
	path := strings.Join(p, "/")
	switch {
	case path == "metadata/identity/oauth2/token" && method == http.MethodGet:
		return rIdentity, "", s.imds, true
	case path == "msi/token" && method == http.MethodGet:
		return rIdentity, "", s.appService, true
	case path == "arc/token" && method == http.MethodGet:
		return rIdentity, "", s.arc, true
	case path == "v1.0/applications" && method == http.MethodGet:
		return rApplications, "", s.listApplications, true
	case len(p) != 4 || p[1] != "oauth2" || p[2] != "v2.0":
	case p[3] == "devicecode" && method == http.MethodPost:
		return rDeviceCode, p[0], s.deviceCode, true
	case p[3] == "authorize" && method == http.MethodGet:
		return rAuthorize, p[0], s.authorize, true
	}
	return fakekit.Route{}, "", nil, false
}

func (s *Server) findApp(id string) *App {
	i := slices.IndexFunc(s.opt.Apps, func(a App) bool { return strings.EqualFold(a.ClientID, id) })
	if i < 0 {
		return nil
	}
	return &s.opt.Apps[i]
}

// listApplications tells of one registration, by $filter=appId eq '…'.
func (s *Server) listApplications(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleApplicationRead, "Application.ReadWrite.All"); app == nil {
		return refusal
	}
	id, opened := strings.CutPrefix(c.R.URL.Query().Get("$filter"), "appId eq '")
	id, closed := strings.CutSuffix(id, "'")
	if !opened || !closed {
		return graphError(http.StatusBadRequest, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause.")
	}
	value := []object{}
	if app := s.findApp(id); app != nil {
		secrets := []object{{"hint": "zzz", "endDateTime": s.opt.Now().AddDate(5, 0, 0).UTC().Format(time.RFC3339), "displayName": "another"}}
		if len(app.Secret) >= 3 && !app.SecretEnds.IsZero() {
			secrets = append(secrets, object{"hint": app.Secret[:3], "endDateTime": app.SecretEnds.UTC().Format(time.RFC3339), "displayName": nil, "secretText": nil})
		}
		value = append(value, object{"appId": app.ClientID, "passwordCredentials": secrets})
	}
	return fakekit.JSON(http.StatusOK, object{"value": value})
}

func (s *Server) isPublic(app *App) bool {
	return slices.Contains(s.opt.Entra.PublicApps, app.ClientID)
}

func (s *Server) deviceCode(c *fakekit.Call) fakekit.Reply {
	body, _ := fakekit.ReadBody(c.R, 64<<10)
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return s.refuse(http.StatusBadRequest, "invalid_request", "900144", "The request body is malformed.")
	}
	if !s.knowsTenant(c.Args[0]) {
		return s.refuse(http.StatusBadRequest, "invalid_request", "90002", "Tenant '"+c.Args[0]+"' not found.")
	}
	app := s.findApp(form.Get("client_id"))
	if app == nil {
		return s.refuse(http.StatusBadRequest, "unauthorized_client", "700016", "Application with identifier '"+form.Get("client_id")+"' was not found in the directory.")
	}
	if _, refusal := s.audience(form.Get("scope")); refusal != "" {
		return s.refuse(http.StatusBadRequest, "invalid_scope", "70011", refusal)
	}
	d := &device{
		app: app, userCode: rand.Text()[:9], scope: form.Get("scope"), interval: s.opt.Entra.DeviceInterval,
		expires: s.opt.Now().Add(s.opt.Entra.DeviceLife),
	}
	code := rand.Text() + rand.Text()
	s.grants.mu.Lock()
	s.grants.devices[code] = d
	s.grants.mu.Unlock()
	const page = "https://microsoft.com/devicelogin"
	return fakekit.JSON(http.StatusOK, object{
		"device_code": code, "user_code": d.userCode, "verification_uri": page,
		"expires_in": int(s.opt.Entra.DeviceLife / time.Second), "interval": int(d.interval / time.Second),
		"message": "To sign in, use a web browser to open the page " + page + " and enter the code " + d.userCode + " to authenticate.",
	})
}

// AnswerDevice is the person who types a user code and allows or declines. It reports whether the code is known.
func (s *Server) AnswerDevice(userCode string, allow bool) bool {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	for _, d := range s.grants.devices {
		if d.userCode == userCode {
			d.decision = map[bool]string{true: "approved", false: "declined"}[allow]
			return true
		}
	}
	return false
}

// authorize is the page on which a person signs in; here everybody does at once.
func (s *Server) authorize(c *fakekit.Call) fakekit.Reply {
	q := c.R.URL.Query()
	app := s.findApp(q.Get("client_id"))
	_, refusal := s.audience(q.Get("scope"))
	switch {
	case !s.knowsTenant(c.Args[0]):
		return s.refuse(http.StatusBadRequest, "invalid_request", "90002", "Tenant '"+c.Args[0]+"' not found.")
	case app == nil:
		return s.refuse(http.StatusBadRequest, "unauthorized_client", "700016", "Application was not found in the directory.")
	case !s.mayRedirect(q.Get("redirect_uri")):
		return s.refuse(http.StatusBadRequest, "invalid_request", "50011", "The redirect URI specified in the request does not match those configured for the application.")
	case q.Get("response_type") != "code":
		return s.refuse(http.StatusBadRequest, "unsupported_response_type", "700054", "response_type is not enabled for the application.")
	}
	back, _ := url.Parse(q.Get("redirect_uri"))
	answer := url.Values{"state": {q.Get("state")}}
	switch {
	case refusal != "":
		answer.Set("error", "invalid_scope")
		answer.Set("error_description", "AADSTS70011: "+refusal)
	case q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256":
		answer.Set("error", "invalid_request")
		answer.Set("error_description", "AADSTS9002325: Proof Key for Code Exchange is required for cross-origin authorization code redemption.")
	default:
		code := rand.Text()
		s.grants.mu.Lock()
		s.grants.codes[code] = &authCode{
			app: app, redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), scope: q.Get("scope"),
			expires: s.opt.Now().Add(10 * time.Minute),
		}
		s.grants.mu.Unlock()
		answer.Set("code", code)
	}
	back.RawQuery = answer.Encode()
	return fakekit.Reply{Status: http.StatusFound}.With("Location", back.String())
}

func (s *Server) mayRedirect(to string) bool {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" {
		return false
	}
	return slices.ContainsFunc(s.opt.Entra.Redirects, func(r string) bool {
		known, err := url.Parse(r)
		if err != nil || known.Scheme != u.Scheme || strings.TrimRight(known.Path, "/") != strings.TrimRight(u.Path, "/") {
			return false
		}
		near := u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1"
		return known.Host == u.Host || near && known.Hostname() == u.Hostname()
	})
}

// proves judges how an app proves itself at the token endpoint; public ones need not.
func (s *Server) proves(app *App, c *fakekit.Call, form url.Values) (reply fakekit.Reply, ok bool) {
	if s.isPublic(app) && form.Get("client_secret") == "" && form.Get("client_assertion") == "" {
		return reply, true
	}
	if s.isPublic(app) {
		return s.refuse(http.StatusUnauthorized, "invalid_client", "700025", "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."), false
	}
	return s.checkApp(app, c, form)
}

// personGrant serves the grants of people.
func (s *Server) personGrant(app *App, c *fakekit.Call, form url.Values) fakekit.Reply {
	if reply, ok := s.proves(app, c, form); !ok {
		return reply
	}
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	switch grant := form.Get("grant_type"); grant {
	case "refresh_token":
		return s.redeemRefresh(app, form)
	case "authorization_code":
		return s.redeemCode(app, form)
	default:
		return s.redeemDevice(app, form)
	}
}

func (s *Server) redeemDevice(app *App, form url.Values) fakekit.Reply {
	code := form.Get("device_code")
	d := s.grants.devices[code]
	now := s.opt.Now()
	if d == nil || d.app != app {
		return s.refuse(http.StatusBadRequest, "bad_verification_code", "70018", "Invalid verification code.")
	}
	early := !d.polled.IsZero() && now.Sub(d.polled) < d.interval
	d.polled = now
	switch {
	case !now.Before(d.expires):
		delete(s.grants.devices, code)
		return s.refuse(http.StatusBadRequest, "expired_token", "70020", "The provided value for the input parameter 'device_code' is not valid. This device code has expired.")
	case d.decision == "declined":
		delete(s.grants.devices, code)
		return s.refuse(http.StatusBadRequest, "authorization_declined", "70000", "End-user denied the authorization request.")
	case early:
		d.interval += 5 * time.Second
		return s.refuse(http.StatusBadRequest, "slow_down", "70016", "The client polls too often.")
	case d.decision == "":
		return s.refuse(http.StatusBadRequest, "authorization_pending", "70016", "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
	}
	delete(s.grants.devices, code)
	return s.grantPerson(app, form, &family{app: app, used: -1}, 0)
}

func (s *Server) redeemCode(app *App, form url.Values) fakekit.Reply {
	code := s.grants.codes[form.Get("code")]
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	switch {
	case code == nil || code.app != app:
		return s.refuse(http.StatusBadRequest, "invalid_grant", "9002313", "Invalid request. Request is malformed or invalid.")
	case code.used:
		return s.refuse(http.StatusBadRequest, "invalid_grant", "54005", "OAuth2 Authorization code was already redeemed, please retry with a new valid code.")
	case !s.opt.Now().Before(code.expires):
		return s.refuse(http.StatusBadRequest, "invalid_grant", "70008", "The provided authorization code has expired.")
	case code.redirect != form.Get("redirect_uri"):
		return s.refuse(http.StatusBadRequest, "invalid_grant", "500112", "The reply address does not match the reply address provided when requesting Authorization code.")
	case base64.RawURLEncoding.EncodeToString(sum[:]) != code.challenge:
		return s.refuse(http.StatusBadRequest, "invalid_grant", "501481", "The Code_Verifier does not match the code_challenge supplied in the authorization request.")
	}
	code.used = true
	return s.grantPerson(app, form, &family{app: app, used: -1}, 0)
}

func (s *Server) redeemRefresh(app *App, form url.Values) fakekit.Reply {
	t, ok := s.grants.refresh[form.Get("refresh_token")]
	switch {
	case !ok || t.family.app != app:
		return s.refuse(http.StatusBadRequest, "invalid_grant", "9002313", "Invalid request. Request is malformed or invalid.")
	case t.family.refused != "":
		return s.refuse(http.StatusBadRequest, "invalid_grant", t.family.refused, refreshRefusals[t.family.refused])
	case s.opt.Entra.StrictRefresh && t.generation < t.family.used:
		s.grants.reuse++
		t.family.refused = "70000"
		return s.refuse(http.StatusBadRequest, "invalid_grant", "70000", refreshRefusals["70000"])
	}
	return s.grantPerson(app, form, t.family, t.generation)
}

// Ways in which a sign-in ends, by AADSTS code.
var refreshRefusals = map[string]string{
	"70000":  "The provided value for the 'refresh_token' parameter is not valid. The grant was revoked.",
	"50173":  "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
	"70008":  "The refresh token has expired due to inactivity.",
	"70043":  "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.",
	"700082": "The refresh token has expired due to inactivity.",
	"50076":  "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication.",
	"53003":  "Access has been blocked by Conditional Access policies.",
	"50057":  "The user account is disabled.",
}

// SetStrictRefresh changes [EntraOptions.StrictRefresh].
func (s *Server) SetStrictRefresh(strict bool) {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	s.opt.Entra.StrictRefresh = strict
}

// EndSignIns refuses every refresh token from now on with an AADSTS code such as 50173 or 700082.
func (s *Server) EndSignIns(aadsts string) {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	for _, f := range s.grants.families {
		f.refused = aadsts
	}
}

// grantPerson issues tokens of a generation's successor. The caller holds the lock.
func (s *Server) grantPerson(app *App, form url.Values, f *family, generation int) fakekit.Reply {
	audience, refusal := s.audience(form.Get("scope"))
	if refusal != "" {
		return s.refuse(http.StatusBadRequest, "invalid_scope", "70011", refusal)
	}
	answer := s.mint(app, audience, s.opt.Entra.Account, form.Get("claims"))
	if strings.Contains(form.Get("scope"), "offline_access") {
		if f.used < 0 {
			s.grants.families = append(s.grants.families, f)
		}
		f.used = max(f.used, generation)
		value := "0.fake-" + rand.Text() + rand.Text()
		s.grants.refresh[value] = refreshToken{f, generation + 1}
		answer["refresh_token"] = value
	}
	answer["id_token"] = unsigned(object{"aud": app.ClientID, "preferred_username": s.opt.Entra.Account, "oid": "0f0e0d0c-0b0a-4908-8706-050403020100", "tid": s.opt.Tenants[0]})
	return fakekit.JSON(http.StatusOK, answer).With("Cache-Control", "no-store, no-cache")
}

// DemandClaims makes the APIs refuse tokens that were not issued for these claims, as continuous access evaluation does;
// empty ends it.
func (s *Server) DemandClaims(claims string) {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	s.grants.claims = claims
}

func (s *Server) demanded() string {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	return s.grants.claims
}
