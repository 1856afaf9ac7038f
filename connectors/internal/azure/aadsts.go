package azure

import (
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
	7000218: "the app needs a secret or certificate that was not sent: check client_secret or certificate",
	7000229: "the app is registered, but has no service principal in this tenant: have an administrator consent to it there",
	7000112: "the app is disabled: an administrator has to enable it (Enterprise applications, Properties)",
	700016:  "there is no app with this client_id in this tenant: check client_id and tenant_id, and that an administrator of the tenant has consented to the app",
	700027:  "the app does not know the certificate, or the signature is wrong: upload this certificate to the app registration",
	700024:  "the signed assertion is not valid now: check this machine's clock",
	700213:  "no federated credential of the app matches: check issuer and subject",
	90002:   "there is no such tenant: check tenant_id, and authority_url if it is in a national cloud",
	900023:  "tenant_id is neither a tenant's id nor one of its domains",
	900021:  "tenant_id is not a tenant that an app can sign in to",
	90038:   "the tenant is in another national cloud: set authority_url to that cloud's",
	900382:  "the app is in another national cloud than authority_url: set authority_url to that cloud's",
	70011:   "the scope is not valid: it must be the API's address with /.default behind it",
	1002012: "the scope is not valid: it must be the API's address with /.default behind it",
	500011:  "the API that the scope names is not known in this tenant: check the scope, and that the tenant has the product",
	500014:  "the API's service principal is disabled in this tenant: an administrator has to enable it",
	65001:   "an administrator has not consented to the app's permissions: grant admin consent in the app registration",
	50076:   "the tenant asks for multi-factor authentication, which an app cannot do: exempt the workload identity in Conditional Access",
	50079:   "the tenant asks for multi-factor registration, which an app cannot do: exempt the workload identity in Conditional Access",
	53003:   "a Conditional Access policy blocks the app: allow its workload identity, or the address that it comes from",
	530003:  "a Conditional Access policy asks for a managed device: allow the app's workload identity",
	50053:   "the account is locked after too many wrong attempts: wait, and check the secret",
	50034:   "there is no such account in the tenant: check tenant_id and client_id",
	50194:   "the app belongs to one tenant: tenant_id must be that tenant",
	501051:  "the app is not assigned to the API: assign it, or switch the API's assignment requirement off",
	50105:   "the app is not assigned to the API: assign it, or switch the API's assignment requirement off",
	50196:   "the app asked for tokens in a loop and is held back: wait",
	90033:   "Entra ID cannot answer for the moment",
	90006:   "Entra ID cannot answer for the moment",
	50058:   "Entra ID found no session",
}

// passing are codes that go away by themselves.
var passing = map[int]bool{90033: true, 90006: true, 50196: true}

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
func (e *entra) explain(ctx context.Context, scope string, err error) error {
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
		return e.refused(scope, call.Resp)
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

func (e *entra) where() string {
	if e.http.instead != nil {
		return e.http.instead.Host
	}
	u, err := url.Parse(e.authority)
	if err != nil {
		return "its authority"
	}
	return u.Host
}

func (e *entra) refused(scope string, resp *http.Response) *sdk.Error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // MSAL has read it before
	var r refusal
	_ = json.Unmarshal(body, &r) // no JSON: then the status has to do
	code := 0
	if len(r.Codes) > 0 {
		code = r.Codes[0]
	}
	out := sdk.Auth("no token for app %s in tenant %s (%s): %s", e.cred.ClientID, e.cred.TenantID, scope, e.redact(reason(resp.StatusCode, code, &r)))
	out.HTTPStatus, out.Origin = resp.StatusCode, sdk.OriginConfig
	out.RequestID = r.TraceID
	if code != 0 {
		out.Reason = fmt.Sprintf("AADSTS%d", code)
	}
	out.RetryAfter = rest.RetryAfter(resp.Header, time.Now())
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		out.Code, out.Origin = codes.ResourceExhausted, sdk.OriginDownstream
	case resp.StatusCode >= 500, passing[code]:
		out.Code, out.Origin = codes.Unavailable, sdk.OriginDownstream
	}
	if r.TraceID != "" {
		out.Message += fmt.Sprintf(" (trace id %.64s, correlation id %.64s)", r.TraceID, r.CorrelationID)
	}
	return out
}

// reason puts the code and what it means into words.
func reason(status, code int, r *refusal) string {
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
