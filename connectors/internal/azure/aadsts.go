package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	msal "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// remedies says in plain words what an AADSTS code means and what to do. Source: Microsoft's "Microsoft Entra
// authentication and authorization error codes".
var remedies = map[int]string{
	7000215: "the client secret is wrong: client_secret must be the secret's value, not its id",
	7000222: "the client secret has expired: create a new one in the app registration (Certificates & secrets) and configure its value",
	7000216: "the app needs a secret or certificate that was not sent: check client_secret or certificate",
	7000218: "the app needs a secret or certificate that was not sent: configure client_secret or certificate; for sign_in without one, allow public client flows in the app registration (Authentication)",
	7000229: "the app is registered, but has no service principal in this tenant: have an administrator consent to it there",
	7000112: "the app is disabled: an administrator has to enable it (Enterprise applications, Properties)",
	700016:  "there is no app with this client_id in this tenant: check client_id and tenant_id, and that an administrator of the tenant has consented to the app",
	700003:  "the device that signed in is no longer known to the tenant",
	700005:  "the code was made for another tenant: sign in again with the tenant_id of this credential",
	700009:  "the code's redirect address is not the one that it was asked for with",
	700021:  "the signed assertion is for another app: its subject must be this client_id",
	700022:  "two APIs were asked for at once",
	700023:  "the signed assertion is for another audience: a federated credential's audience is api://AzureADTokenExchange unless it says otherwise",
	700024:  "the signed assertion is not valid now: check this machine's clock, and that whoever renews a federated token still does",
	700025:  "the app is a public client and takes no secret: leave client_secret out, or switch public client flows off",
	700027:  "the app does not know the certificate, or the signature is wrong: upload this certificate to the app registration (Certificates & secrets)",
	700030:  "the certificate cannot be used: its subject or issuer is not what the app registration trusts",
	700082:  "the sign-in has ended, because it was not used for too long",
	700084:  "the sign-in has ended: it was for a single-page app and lasts a day; register the redirect address under mobile and desktop applications",
	70021:   "no federated credential of the app matches the token: compare issuer, subject and audience with those in the app registration (Certificates & secrets, Federated credentials)",
	700211:  "no federated credential of the app has the token's issuer: compare it with those in the app registration (Certificates & secrets, Federated credentials)",
	700212:  "no federated credential of the app has the token's audience: it is api://AzureADTokenExchange unless the credential says otherwise",
	700213:  "no federated credential of the app has the token's subject: compare it with those in the app registration (Certificates & secrets, Federated credentials)",
	7002381: "the issuer of the federated token cannot be asked for its keys: its OpenID configuration must be public",
	90002:   "there is no such tenant: check tenant_id, and cloud or authority_url if it is in a national cloud",
	900023:  "tenant_id is neither a tenant's id nor one of its domains",
	900021:  "tenant_id is not a tenant that an app can sign in to",
	90038:   "the tenant is in another national cloud: set cloud to that one",
	900382:  "the app is in another national cloud than the tenant: set cloud to the app's",
	900432:  "the app cannot be used across national clouds: register one in the tenant's own",
	70001:   "there is no app with this client_id in this tenant: check client_id and tenant_id",
	70002:   "the app's secret or certificate is wrong: check client_secret or certificate",
	70003:   "the app may not sign in this way",
	70011:   "the scope is not valid: it must be the API's address with /.default behind it",
	1002012: "the scope is not valid: it must be the API's address with /.default behind it",
	28002:   "the scope is not valid for this API: it must be the API's address with /.default behind it",
	28003:   "the scope is empty: it must be the API's address with /.default behind it",
	500011:  "the API that the scope names is not known in this tenant: check the scope, and that the tenant has the product",
	500014:  "the API's service principal is disabled in this tenant: an administrator has to enable it",
	500212:  "the tenant's policy forbids access to this tenant from here: an administrator has to allow it (cross-tenant access)",
	65001:   "nobody has consented to the app's permissions: an administrator grants admin consent in the app registration (API permissions)",
	65004:   "consent was refused",
	65005:   "the app asks for a permission that the API does not have: check the app registration (API permissions)",
	650052:  "the app needs an API that the tenant has no licence or subscription for",
	650057:  "the app registration does not list the API: add a permission for it (API permissions)",
	50001:   "the API that the scope names is not known in this tenant: check the scope, and that the tenant has the product",
	50011:   "the redirect address is not registered: add http://localhost under mobile and desktop applications in the app registration (Authentication)",
	50012:   "the signature of the assertion is wrong: the app registration knows another certificate",
	50013:   "the signature of the assertion is wrong: the app registration knows another certificate",
	50020:   "the account is of another tenant and no guest of this one",
	50027:   "the signed assertion cannot be read: a federated token must be a JWT",
	50034:   "there is no such account in the tenant: check tenant_id and client_id",
	50049:   "the authority is not known: check authority_url and cloud",
	50053:   "the account is locked after too many wrong attempts: wait, and check the secret",
	50055:   "the password has expired",
	50057:   "the account is disabled",
	50058:   "Entra ID found no session",
	50076:   "the tenant asks for multi-factor authentication, which an app cannot do: exempt the workload identity in Conditional Access",
	50078:   "the multi-factor authentication of the sign-in has run out",
	50079:   "the tenant asks for multi-factor registration, which an app cannot do: exempt the workload identity in Conditional Access",
	500112:  "the redirect address is not the one that the code was asked for with: begin anew",
	501481:  "the code was asked for by somebody else (PKCE): begin anew",
	50105:   "the app is not assigned to the API: assign it, or switch the API's assignment requirement off",
	50126:   "account or password is wrong",
	50128:   "there is no such tenant: check tenant_id, and cloud or authority_url if it is in a national cloud",
	50131:   "a Conditional Access policy blocks the app from here",
	50133:   "the sign-in has ended, because the password was changed",
	50158:   "the tenant asks for a further check by another provider, which an app cannot do: exempt the workload identity in Conditional Access",
	50173:   "the sign-in was revoked: the password was changed, or an administrator ended the sessions",
	50194:   "the app belongs to one tenant: tenant_id must be that tenant",
	50196:   "the app asked for tokens in a loop and is held back: wait",
	501051:  "the app is not assigned to the API: assign it, or switch the API's assignment requirement off",
	53000:   "a Conditional Access policy asks for a compliant device",
	53001:   "a Conditional Access policy asks for a device that belongs to the domain",
	53003:   "a Conditional Access policy blocks the app: allow its workload identity, or the address that it comes from",
	530003:  "a Conditional Access policy asks for a managed device: allow the app's workload identity",
	530032:  "a security policy of the tenant blocks the sign-in: its administrator can see which in the sign-in log",
	530035:  "security defaults block the sign-in: they allow no legacy way of signing in",
	53004:   "the account has to register for multi-factor authentication first",
	54005:   "the code was used before: begin anew",
	54006:   "the code was made for another app: begin anew",
	70000:   "the sign-in is no longer valid",
	70008:   "the sign-in or the code has expired",
	700081:  "the sign-in has ended, because it was not used for too long",
	70016:   "nobody has confirmed the code yet",
	70018:   "the code was typed wrongly",
	70019:   "the code has expired: begin anew",
	70020:   "the code has expired: begin anew",
	70043:   "the sign-in has ended: Conditional Access sets how long one lasts",
	70044:   "the sign-in has ended: Conditional Access sets how long one lasts",
	90006:   "Entra ID cannot answer for the moment",
	90013:   "Entra ID could not read the request",
	90014:   "Entra ID misses a parameter of the request",
	90033:   "Entra ID cannot answer for the moment",
	90055:   "Entra ID is asked too often and holds the tenant back: wait",
	90072:   "the account is of another tenant and no guest of this one",
	90094:   "an administrator has to consent to the app's permissions (API permissions, Grant admin consent)",
	16000:   "several accounts are signed in in the browser: choose one",
}

// again says of a person's sign-in what only that person can mend: with it the message ends in how to sign in again.
var again = map[int]bool{
	50034: true, 50055: true, 50057: true, 50058: true, 50076: true, 50078: true, 50079: true, 50126: true, 50132: true,
	50133: true, 50140: true, 50158: true, 50173: true, 53000: true, 53001: true, 53003: true, 53004: true, 530003: true,
	530032: true, 54005: true, 65001: true, 65004: true, 70000: true, 70008: true, 700003: true, 700005: true, 70019: true,
	70020: true, 70043: true, 70044: true, 700081: true, 700082: true, 700084: true,
}

// personal puts differently what an app is told, where a person signs in.
var personal = map[int]string{
	50034:  "there is no such account in the tenant",
	50076:  "the tenant asks for multi-factor authentication",
	50079:  "the tenant asks for multi-factor registration",
	50158:  "the tenant asks for a further check by another provider",
	53003:  "a Conditional Access policy blocks the sign-in: the person, the place or the device is not allowed (device codes often are not: sign in without --device)",
	70000:  "the sign-in is no longer valid: it was revoked, or another connection's copy was renewed at an authority that ends the others (then sign in for each with --only)",
	530003: "a Conditional Access policy asks for a managed device: sign in from one, in its browser (without --device)",
}

// passing are codes that go away by themselves.
var passing = map[int]bool{90033: true, 90006: true, 90055: true, 50196: true}

// maxRefusal is how much of an error's body is read.
const maxRefusal = 64 << 10

// teller puts into words why there is no token.
type teller struct {
	cred    Credential
	host    string     // of the authority
	refresh sdk.Secret // that must not be seen either
	login   string     // command that signs in again, for credentials of people
}

// refusal is the body of an error of the token endpoint.
type refusal struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

// explain says why there is no token, in plain words. MSAL's own text is not passed on: with an answer that is no JSON it
// quotes the answer, and a verbose one quotes the request.
func (e *teller) explain(ctx context.Context, scope string, err error) error {
	if ctx.Err() != nil {
		out := sdk.Unavailable("Entra ID at %s did not answer in time", e.where())
		out.Code = codes.DeadlineExceeded
		return out
	}
	var call msal.CallErr
	var noJSON msal.InvalidJsonErr
	var transport *url.Error
	var refused *sdk.Error
	switch {
	case errors.As(err, &call) && call.Resp != nil:
		body, _ := io.ReadAll(io.LimitReader(call.Resp.Body, maxRefusal)) // MSAL has read it before
		return e.refused(scope, call.Resp.StatusCode, call.Resp.Header, body)
	case errors.As(err, &noJSON):
		return sdk.Unavailable("Entra ID at %s answered with something that is no JSON (a proxy?)", e.where())
	case errors.As(err, &refused):
		return refused // nothing was sent: the address is not one that this connection may reach
	case errors.As(err, &transport):
		return sdk.Unavailable("Entra ID at %s cannot be reached: %s", e.where(), e.redact(transport.Err.Error()))
	}
	text := e.redact(err.Error())
	out := sdk.Auth("no token for %s from Entra ID at %s: %.300s", scope, e.where(), text)
	out.Origin = sdk.OriginConfig
	return out
}

func (e *teller) where() string { return e.host }

// redact takes what the credential holds out of a text.
func (e *teller) redact(s string) string {
	c := &e.cred
	for _, secret := range []sdk.Secret{c.ClientSecret, c.Certificate, c.CertificatePassword, e.refresh} {
		if !secret.IsZero() {
			s = strings.ReplaceAll(s, secret.Reveal(), sdk.Redacted)
			s = strings.ReplaceAll(s, url.QueryEscape(secret.Reveal()), sdk.Redacted)
		}
	}
	return s
}

func (e *teller) refused(scope string, status int, header http.Header, body []byte) *sdk.Error {
	var r refusal
	_ = json.Unmarshal(body, &r) // no JSON: then the status has to do
	code := 0
	if len(r.Codes) > 0 {
		code = r.Codes[0]
	}
	out := sdk.Auth("no token for app %s in tenant %s (%s): %s", e.cred.ClientID, e.cred.TenantID, scope, e.redact(e.reason(status, code, &r)))
	out.HTTPStatus, out.Origin = status, sdk.OriginConfig
	out.RequestID = r.TraceID
	if r.Error != "" {
		out.Meta = map[string]string{"error": fmt.Sprintf("%.100s", r.Error)}
	}
	if code != 0 {
		out.Reason = fmt.Sprintf("AADSTS%d", code)
	}
	out.RetryAfter = rest.RetryAfter(header, time.Now())
	switch {
	case status == http.StatusTooManyRequests:
		out.Code, out.Origin = codes.ResourceExhausted, sdk.OriginDownstream
	case status >= 500, passing[code]:
		out.Code, out.Origin = codes.Unavailable, sdk.OriginDownstream
	}
	if r.TraceID != "" || r.CorrelationID != "" {
		out.Message += fmt.Sprintf(" (trace id %.64s, correlation id %.64s)", r.TraceID, r.CorrelationID)
	}
	return out
}

// reason puts the code and what it means into words.
func (e *teller) reason(status, code int, r *refusal) string {
	switch r.Error {
	case "authorization_declined", "access_denied":
		return "the sign-in was declined; begin anew: " + e.login
	case "expired_token":
		return "nobody signed in in time; begin anew: " + e.login
	case "bad_verification_code":
		return "the device code is not known; begin anew: " + e.login
	}
	if e.login != "" && !passing[code] && (again[code] || r.Error == "invalid_grant" || r.Error == "interaction_required") {
		why := cmp.Or(personal[code], remedies[code], firstSentence(r.Description), r.Error)
		if code != 0 && !strings.HasPrefix(why, "AADSTS") {
			why = fmt.Sprintf("AADSTS%d: %s", code, why)
		}
		return fmt.Sprintf("%.300s; sign in again: %s", why, e.login)
	}
	if known, ok := remedies[code]; ok {
		return fmt.Sprintf("AADSTS%d: %s", code, known)
	}
	// The description ends in trace ids and a timestamp, which are told apart.
	text, _, _ := strings.Cut(r.Description, " Trace ID:")
	text, _, _ = strings.Cut(text, "\r\n")
	text, _, _ = strings.Cut(text, "\n")
	if text = strings.TrimSpace(text); text != "" {
		return fmt.Sprintf("%.300s", text)
	}
	if r.Error != "" {
		return fmt.Sprintf("%.100s (HTTP status %d)", r.Error, status)
	}
	return fmt.Sprintf("Entra ID answered with HTTP status %d", status)
}

// asRefusal finds what the authority said.
func asRefusal(err error) (*sdk.Error, bool) {
	e, ok := errors.AsType[*sdk.Error](err)
	return e, ok && e.Meta["error"] != ""
}
