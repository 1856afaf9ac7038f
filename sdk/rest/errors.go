package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

// RetryAfter reads a Retry-After header (seconds or date); zero when there is none, or when it is over.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if s == "" {
		return 0
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		// Some vendors send fractions. What is longer than a day is a mistake or a refusal.
		if f > 0 { // which "NaN" is not
			return time.Duration(min(f, 24*60*60) * float64(time.Second))
		}
		return 0
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(0, t.Sub(now)), 24*time.Hour)
	}
	return 0
}

func (c *Client) requestID(h http.Header) string {
	for _, name := range c.opts.RequestIDHeaders {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// refused makes the error of an answer that says no.
func (t *trip) refused(ctx context.Context, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil && ctx.Err() != nil {
		return t.unread(ctx, resp, err)
	}
	e := byStatus(resp.StatusCode, t.writes)
	e.RetryAfter = RetryAfter(resp.Header, time.Now())
	e.RequestID = t.c.requestID(resp.Header)
	if t.c.opts.Explain != nil {
		t.c.opts.Explain(resp.StatusCode, resp.Header, body, e)
	}
	text := strings.TrimPrefix(e.Message, ": ")
	if text == "" {
		text = t.redirected(resp)
	}
	if text == "" {
		text = quoted(t.redact(string(body)))
	}
	e.Message = t.what() + ": " + statusText(resp.StatusCode)
	if text != "" {
		e.Message += ": " + text
	}
	return t.finish(e)
}

// redirected explains a redirect that is not followed.
func (t *trip) redirected(resp *http.Response) string {
	if resp.StatusCode < 300 || resp.StatusCode >= 400 {
		return ""
	}
	where := "elsewhere"
	if u, err := resp.Location(); err == nil {
		where = "to " + u.Scheme + "://" + u.Host
	}
	return "it redirects " + where + ", which is not followed for a " + t.method + "; check the configured address"
}

func statusText(status int) string {
	if s := http.StatusText(status); s != "" {
		return strconv.Itoa(status) + " " + s
	}
	return strconv.Itoa(status)
}

// byStatus classes an HTTP status. What a 4xx refuses was not done; of a write that ended in a 5xx or a time-out nobody
// can say.
func byStatus(status int, writes bool) *sdk.Error {
	e := &sdk.Error{HTTPStatus: status, Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone}
	unknown := false
	switch {
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired:
		e.Code = codes.Unauthenticated
	case status == http.StatusForbidden:
		e.Code = codes.PermissionDenied
	case status == http.StatusNotFound, status == http.StatusGone:
		e.Code = codes.NotFound
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		e.Code, unknown = codes.DeadlineExceeded, true
	case status == http.StatusConflict, status == http.StatusPreconditionFailed, status == http.StatusLocked:
		e.Code = codes.Aborted
	case status == http.StatusRequestEntityTooLarge:
		e.Code = codes.OutOfRange
	case status == http.StatusTooManyRequests:
		e.Code = codes.ResourceExhausted
	case status >= 500:
		e.Code, unknown = codes.Unavailable, true
	case status >= 400:
		e.Code, e.Origin = codes.InvalidArgument, plugin.OriginInput
	case status >= 300:
		// After "see other" and "found" the change may have been made.
		e.Code, e.Origin = codes.FailedPrecondition, plugin.OriginConfig
		unknown = status == http.StatusSeeOther || status == http.StatusFound
	default:
		e.Code, unknown = codes.Internal, true
	}
	if unknown && writes {
		e.SideEffect = plugin.EffectUnknown
	}
	return e
}

// failed makes the error of a request that had no answer.
func (t *trip) failed(ctx context.Context, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text has the whole URL
	}
	var e *sdk.Error
	if errors.As(err, &e) {
		return err // the credential, or a redirect that leads astray
	}
	e = &sdk.Error{Code: codes.Unavailable, Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone, Err: err}
	why := err.Error()
	cause := context.Cause(ctx)
	var timeout net.Error
	switch {
	case errors.Is(cause, context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e.Code, why = codes.DeadlineExceeded, "no answer in time"
	case cause != nil, errors.Is(err, context.Canceled):
		e.Code, why = codes.Canceled, "cancelled"
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Code = codes.DeadlineExceeded
	default:
		if hint := certificateHint(err); hint != "" {
			why += "; " + hint
		}
	}
	if t.writes && t.mayHaveArrived(err) {
		e.SideEffect = plugin.EffectUnknown
	}
	e.Message = t.what() + ": " + why
	return t.finish(e)
}

// mayHaveArrived says whether the request may have reached the vendor. Only what surely did not is told apart.
func (t *trip) mayHaveArrived(err error) bool {
	if t.sent.Load() {
		return true
	}
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	switch {
	case t.c.plain:
		return false // it would have told
	case errors.As(err, &dns), errors.As(err, &record), errors.As(err, &verify):
		return false
	case errors.As(err, &op):
		return op.Op != "dial"
	default:
		return true
	}
}

func certificateHint(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "if the address is right, name the issuer's certificate in ca_file"
	case errors.As(err, &name):
		return "the certificate is for another name; check the address"
	default:
		return ""
	}
}

// unread makes the error of an answer whose body did not arrive whole, or is too large.
func (t *trip) unread(ctx context.Context, resp *http.Response, err error) error {
	e := &sdk.Error{
		Code: codes.Unavailable, Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone, Err: err,
		HTTPStatus: resp.StatusCode, RequestID: t.c.requestID(resp.Header),
	}
	why := "the answer broke off: " + err.Error()
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, errTooLarge):
		e.Code, why = codes.OutOfRange, fmt.Sprintf("the answer has more than %d bytes; ask for less", t.c.opts.MaxBody)
	case errors.Is(cause, context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e.Code, why = codes.DeadlineExceeded, "the answer did not arrive in time"
	case cause != nil:
		e.Code, why = codes.Canceled, "cancelled while the answer was read"
	}
	if t.writes {
		e.SideEffect = plugin.EffectUnknown
	}
	e.Message = t.what() + ": " + statusText(resp.StatusCode) + ": " + why
	return t.finish(e)
}

// notJSON makes the error of a body that was to be JSON of a certain shape.
func notJSON(what string, body []byte, err error, redact func(string) string) *sdk.Error {
	e := &sdk.Error{Code: codes.Unavailable, Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone, Err: err}
	trimmed := bytes.TrimSpace(body)
	quote := func() string {
		s := string(trimmed[:min(len(trimmed), maxErrorBody)])
		if redact != nil {
			s = redact(s) // before it is cut: half a secret is one too
		}
		return quoted(s)
	}
	var shape *json.UnmarshalTypeError
	switch {
	case len(trimmed) == 0:
		e.Message = "the answer is empty where JSON was expected"
	case trimmed[0] == '<':
		e.Message = "the answer is HTML or XML where JSON was expected (a login page, a proxy?): " + quote()
	case errors.As(err, &shape):
		e.Code = codes.Internal // asking again would not help
		e.Message = fmt.Sprintf("the answer has another shape than expected: %s at %q: %s", shape.Value, shape.Field, quote())
	case !json.Valid(trimmed):
		e.Message = fmt.Sprintf("the answer is no valid JSON (%v): %s", err, quote())
	default:
		e.Code = codes.Internal
		e.Message = fmt.Sprintf("the answer cannot be used: %v: %s", err, quote())
	}
	if what != "" {
		e.Message = what + ": " + e.Message
	}
	return e
}

// quoted shows the beginning of a body on one line.
func quoted(s string) string {
	const most = 200
	long := len(s) > most
	if long {
		n := most
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if s == "" {
		return ""
	}
	if long {
		s += "…"
	}
	return strconv.Quote(s)
}
