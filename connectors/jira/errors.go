package jira

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// problem is every shape in which Jira explains itself: its own two, RFC 7807, and that of some gateways and 500s.
// Values are raw because an unexpected type in one must not hide the others.
type problem struct {
	ErrorMessages json.RawMessage            `json:"errorMessages"`
	Errors        map[string]json.RawMessage `json:"errors"`
	Message       string                     `json:"message"`
	ErrorMessage  string                     `json:"errorMessage"` // of the service desk
	Error         json.RawMessage            `json:"error"`
	Title         string                     `json:"title"`
	Detail        string                     `json:"detail"`
}

// refusal turns an answer outside 2xx into an error of the right class. What a write's status says about its effect is
// as follows: 4xx and most redirects are definite refusals; 408, "found", "see other" and every 5xx may hide a write that
// was done.
func (c *Client) refusal(r *request, resp *http.Response, body []byte, rerr error) error {
	text, fields := c.explain(resp.Header, body)
	fail, hint := sdk.Unavailable, ""
	inFields, timeout := false, false
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		fail = throttled
		if reason := resp.Header.Get("RateLimit-Reason"); reason != "" {
			hint = "limit " + clip(reason, 64)
		}
	case s == http.StatusUnauthorized:
		fail, hint = sdk.Auth, c.signInHint(resp.Header)
	case s == http.StatusForbidden:
		fail = sdk.Denied
		if strings.Contains(text, "Connect Session Auth Token") {
			fail, hint = sdk.Auth, "a bearer token was sent to a Cloud site; use email and api_token there"
		} else if resp.Header.Get("X-Authentication-Denied-Reason") != "" {
			fail, hint = sdk.Auth, c.signInHint(resp.Header)
		}
	case s == http.StatusNotFound:
		fail, hint = sdk.NotFound, "it does not exist, or the account may not see it"
	case s == http.StatusGone:
		fail, hint = badConfig, "this Jira has removed that part of its API; check deployment (cloud or datacenter)"
	case s == http.StatusConflict || s == http.StatusPreconditionFailed:
		fail = sdk.Conflict
	case s == http.StatusRequestEntityTooLarge:
		fail, hint = sdk.TooLarge, "a limit of the issue or of the request is reached"
	case s == http.StatusRequestTimeout || s >= 500:
		timeout = s == http.StatusRequestTimeout || s == http.StatusGatewayTimeout
		if r.outcome == writes {
			fail, hint = sdk.Uncertain, "it may have been done"
		}
	case s < 400:
		fail = badConfig
		if r.outcome == writes && (s == http.StatusFound || s == http.StatusSeeOther) {
			fail = sdk.Uncertain // "see other" may follow a change that was made
		}
		hint = "base_url is redirected" + elsewhere(resp.Header.Get("Location")) + "; configure the address that answers itself"
	default:
		fail, hint, inFields = invalid, fieldHint(fields), true
	}
	names := slices.Sorted(maps.Keys(fields))
	parts := []string{r.what() + ": Jira answered " + strconv.Itoa(resp.StatusCode)}
	if text != "" {
		parts = append(parts, text)
	}
	if hint != "" {
		parts = append(parts, hint)
	}
	for _, name := range names {
		if !inFields {
			parts = append(parts, name+": "+clip(fields[name], 300))
		}
	}
	e := fail("%s", c.redact(strings.Join(parts, ": ")))
	for _, name := range names {
		if inFields {
			e.Violations = append(e.Violations, sdk.Invalid("/fields/"+name, "%s", c.redact(clip(fields[name], 300))).Violations...)
		}
	}
	if timeout {
		e.Code = codes.DeadlineExceeded
	}
	if strings.HasPrefix(resp.Header.Get("RateLimit-Reason"), "jira-per-issue") {
		e.Meta = map[string]string{sdk.MetaThrottleScope: sdk.ScopeObject} // other issues are not meant
	}
	e.HTTPStatus, e.RequestID, e.RetryAfter, e.Err = resp.StatusCode, requestID(resp.Header), retryAfter(resp.Header), rerr
	return e
}

func throttled(format string, args ...any) *sdk.Error { return sdk.Throttled(0, format, args...) }
func badConfig(format string, args ...any) *sdk.Error { return sdk.BadConfig("", format, args...) }
func invalid(format string, args ...any) *sdk.Error   { return sdk.Invalid("", format, args...) }

// lost is the error for an answer of 2xx that cannot be read.
func (c *Client) lost(r *request, resp *http.Response, text string, err error) error {
	if err != nil {
		text += ": " + err.Error()
	}
	e := c.unknown(r, fmt.Sprintf("Jira answered %d, but %s", resp.StatusCode, text))
	e.HTTPStatus, e.RequestID, e.Err = resp.StatusCode, requestID(resp.Header), err
	return e
}

// unknown is the error for a request whose outcome nobody saw.
func (c *Client) unknown(r *request, text string) *sdk.Error {
	text = c.redact(r.what() + ": " + text)
	if r.outcome == writes {
		return sdk.Uncertain("%s (it may have been done)", text)
	}
	return sdk.Unavailable("%s", text)
}

// transportError is the error for a request without an answer.
func (c *Client) transportError(r *request, err error) error {
	if se, ok := errors.AsType[*sdk.Error](err); ok {
		return fmt.Errorf("%s: %w", r.what(), se)
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text repeats the whole address
	}
	if unsent(err) {
		e := sdk.Unavailable("%s", c.redact(r.what()+": Jira at "+c.host+" cannot be reached: "+err.Error()))
		e.Err = err
		return e
	}
	e := c.unknown(r, "no answer from Jira at "+c.host+": "+err.Error())
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		e.Code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Code = codes.DeadlineExceeded
	}
	e.Err = err
	return e
}

// unsent says that err arose before a byte of the request left: no address, no connection, no trust.
func unsent(err error) bool {
	var (
		op   *net.OpError
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		ca   x509.UnknownAuthorityError
		host x509.HostnameError
		rec  tls.RecordHeaderError
	)
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) || errors.As(err, &cert) ||
		errors.As(err, &ca) || errors.As(err, &host) || errors.As(err, &rec)
}

// explain reads an error body. Messages are in the account's language: they are for people and never branched on.
func (c *Client) explain(h http.Header, body []byte) (text string, fields map[string]string) {
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		return c.quote(h, body), nil
	}
	var parts []string
	if m := plain(p.ErrorMessages); m != "" {
		parts = append(parts, m)
	}
	for _, s := range []string{p.Title, p.Detail, p.Message, p.ErrorMessage, plain(p.Error)} {
		if s != "" && !slices.Contains(parts, s) {
			parts = append(parts, s)
		}
	}
	for name, raw := range p.Errors {
		if fields == nil {
			fields = make(map[string]string, len(p.Errors))
		}
		fields[clip(name, 64)] = plain(raw)
	}
	if len(parts) == 0 && len(fields) == 0 {
		return c.quote(h, body), nil
	}
	return clip(strings.Join(parts, "; "), 600), fields
}

// plain makes text of a JSON value: a string, a list of strings, or whatever else it is.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return strings.Join(list, "; ")
	}
	if string(raw) == "null" {
		return ""
	}
	return clip(string(raw), 200)
}

// quote shows the beginning of a body that is not JSON; of a web page, its title.
func (c *Client) quote(h http.Header, body []byte) string {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	s := strings.TrimSpace(string(body))
	if s == "" {
		return "an empty body"
	}
	if low := strings.ToLower(s[:min(len(s), 4096)]); strings.HasPrefix(low, "<!doctype html") || strings.HasPrefix(low, "<html") {
		if from := strings.Index(low, "<title>"); from >= 0 && len(low) == len(s[:min(len(s), 4096)]) {
			if to := strings.Index(low[from:], "</title>"); to > 0 {
				return "a web page titled " + clip(oneLine(s[from+len("<title>"):from+to], 120), 120)
			}
		}
		return "a web page"
	}
	if kind == "text/plain" || kind == "application/json" {
		kind = ""
	} else {
		kind = cmp.Or(kind, "no content type") + " "
	}
	return kind + oneLine(c.redact(s[:min(len(s), 1024)]), 200)
}

// signInHint says what usually lies behind a refused credential.
func (c *Client) signInHint(h http.Header) string {
	switch {
	case h.Get("X-Authentication-Denied-Reason") != "" || strings.Contains(h.Get("X-Seraph-LoginReason"), "AUTHENTICATION_DENIED"):
		return "the account is locked by a CAPTCHA: sign in once by browser"
	case c.scoped:
		return "the credential is refused: check email and api_token, that the token has not expired, and that it is a scoped token (a classic token works on the site's own address only)"
	case c.cloudHost:
		return "the credential is refused: check email and api_token and that the token has not expired; a scoped token or a service account needs base_url https://api.atlassian.com/ex/jira/{cloudId}"
	}
	return "the credential is refused: check the connection's " + c.credentialFields() + ", and that the token has not expired"
}

// credentialFields names the settings that the credential in use is made of.
func (c *Client) credentialFields() string {
	if c.oauth != nil {
		return "client_id, client_secret and refresh_token"
	}
	if !c.cfg.Token.IsZero() || c.cfg.Credential != nil && !c.cfg.Credential.Token.IsZero() {
		return "token"
	}
	return "email and api_token"
}

// fieldHint names the setting behind the most common refusals. It looks at the names of fields, which are not translated.
func fieldHint(fields map[string]string) string {
	for _, f := range []struct{ name, hint string }{
		{"priority", "set priorities in the connection to names that the project has, or to empty ones"},
		{"issuetype", "set issue_type to a type that the project has"},
		{"project", "check project, and that the account may create issues in it"},
		{"labels", "the field labels must be on the project's create and edit screens"},
		{"description", "the field description must be on the project's create and edit screens"},
	} {
		if _, ok := fields[f.name]; ok {
			return f.hint
		}
	}
	return ""
}

func elsewhere(location string) string {
	if u, err := url.Parse(location); err == nil && u.Host != "" {
		return " to " + u.Scheme + "://" + u.Host
	}
	return ""
}

// requestID is Atlassian's trace id, or Data Center's request id.
func requestID(h http.Header) string {
	return clip(cmp.Or(h.Get("Atl-Traceid"), h.Get("X-Trace-Id"), h.Get("X-Arequestid")), 128)
}

// retryAfter reads Retry-After, else the reset time that Cloud sends with a 429.
func retryAfter(h http.Header) time.Duration {
	now := time.Now()
	if d := rest.RetryAfter(h, now); d > 0 {
		return d
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, h.Get("X-RateLimit-Reset")); err == nil {
			return max(0, t.Sub(now))
		}
	}
	return 0
}

// redact takes the credential out of a text that quotes Jira or a proxy.
func (c *Client) redact(s string) string {
	for _, secret := range c.secrets {
		s = strings.ReplaceAll(s, secret, "[redacted]")
	}
	if token := c.bearer.Load(); token != nil {
		s = strings.ReplaceAll(s, *token, "[redacted]")
	}
	return s
}

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
