package httpconn

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/casewire/casewire/sdk"
)

// HMAC is a signature with SHA-256 over the body, such as GitHub's (header X-Hub-Signature-256, prefix "sha256=") or
// Slack's (header X-Slack-Signature, prefix "v0=", signed "v0:{timestamp}:{body}").
type HMAC struct {
	Secret   sdk.Secret `json:"secret" cw:"required" doc:"The key that both sides know"`
	Header   string     `json:"header" cw:"required" doc:"Header that carries the signature" example:"X-Hub-Signature-256"`
	Prefix   string     `json:"prefix,omitempty" doc:"What stands before the signature, such as sha256="`
	Encoding string     `json:"encoding,omitempty" enum:"hex,base64" default:"hex" doc:"How the signature is written"`
	Signed   string     `json:"signed,omitempty" default:"{body}" doc:"What is signed: {body}, and {timestamp} for what the timestamp's header says"`

	TimestampHeader string        `json:"timestamp_header,omitempty" doc:"Header that says when the request was signed, as RFC 3339 or seconds since 1970; older ones than tolerance are refused"`
	Tolerance       time.Duration `json:"tolerance,omitempty" default:"5m" doc:"How far the timestamp may be off"`
}

// verifier makes the one check of senders that is configured. All compare in constant time.
func verifier(cfg *Webhook) (func(*sdk.HookRequest, time.Time) bool, error) {
	given := 0
	for _, is := range []bool{cfg.Header != nil, cfg.HMAC != nil, cfg.Basic != nil} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, sdk.BadConfig("/webhook", "says nothing about who may call; give header, hmac or basic")
	case given > 1:
		return nil, sdk.BadConfig("/webhook", "give only one of header, hmac and basic")
	case cfg.HMAC != nil:
		return verifyHMAC(cfg.HMAC)
	case cfg.Basic != nil:
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(cfg.Basic.Username+":"+cfg.Basic.Password.Reveal()))
		return func(req *sdk.HookRequest, _ time.Time) bool { return same(req.Header.Get("Authorization"), want) }, nil
	}
	h := *cfg.Header
	if !httpguts.ValidHeaderFieldName(h.Name) {
		return nil, sdk.BadConfig("/webhook/header/name", "%q is no name of a header", h.Name)
	}
	want := h.Prefix + h.Value.Reveal()
	return func(req *sdk.HookRequest, _ time.Time) bool { return same(req.Header.Get(h.Name), want) }, nil
}

// same compares in a time that tells nothing, not even of lengths.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func verifyHMAC(cfg *HMAC) (func(*sdk.HookRequest, time.Time) bool, error) {
	h := *cfg
	switch {
	case !httpguts.ValidHeaderFieldName(h.Header):
		return nil, sdk.BadConfig("/webhook/hmac/header", "%q is no name of a header", h.Header)
	case strings.Count(h.Signed, "{body}") != 1:
		return nil, sdk.BadConfig("/webhook/hmac/signed", "must have {body} in it, once")
	case strings.Contains(h.Signed, "{timestamp}") && h.TimestampHeader == "":
		return nil, sdk.BadConfig("/webhook/hmac/timestamp_header", "is missing: signed has {timestamp} in it")
	case h.TimestampHeader != "" && !strings.Contains(h.Signed, "{timestamp}"):
		return nil, sdk.BadConfig("/webhook/hmac/signed", "has no {timestamp} in it: a timestamp that is not signed proves nothing")
	case h.TimestampHeader != "" && h.Tolerance < time.Second:
		return nil, sdk.BadConfig("/webhook/hmac/tolerance", "must be at least a second")
	}
	decode := hex.DecodeString
	if h.Encoding == "base64" {
		decode = base64.StdEncoding.DecodeString
	}
	return func(req *sdk.HookRequest, now time.Time) bool {
		stamp := ""
		if h.TimestampHeader != "" {
			stamp = req.Header.Get(h.TimestampHeader)
			at, ok := parseTime(stamp)
			if !ok || now.Sub(at).Abs() > h.Tolerance {
				return false
			}
		}
		before, after, _ := strings.Cut(h.Signed, "{body}")
		mac := hmac.New(sha256.New, []byte(h.Secret.Reveal()))
		mac.Write([]byte(strings.ReplaceAll(before, "{timestamp}", stamp)))
		mac.Write(req.Body)
		mac.Write([]byte(strings.ReplaceAll(after, "{timestamp}", stamp)))
		want := mac.Sum(nil)
		for part := range strings.SplitSeq(req.Header.Get(h.Header), ",") { // while a secret is changed, there may be two
			text, ok := strings.CutPrefix(strings.TrimSpace(part), h.Prefix)
			if !ok {
				continue
			}
			if got, err := decode(text); err == nil && hmac.Equal(got, want) {
				return true
			}
		}
		return false
	}, nil
}
