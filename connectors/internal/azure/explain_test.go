package azure

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, body string
		status     int
		text       string
		reason     string
		id         string
		class      plugin.Class
	}{
		{
			"graph", `{"error":{"code":"BadRequest","message":"'where' operator: no such column.","innerError":{"date":"x","request-id":"r-1","client-request-id":"c-1"}}}`, 400,
			"BadRequest: 'where' operator: no such column.", "BadRequest", "r-1", plugin.ClassInvalid,
		},
		{
			"log analytics", `{"error":{"message":"The request had some invalid properties","code":"BadArgumentError","innererror":{"code":"SyntaxError","message":"Syntax Error","innererror":{"code":"SYN0002","message":"at line 3"}}}}`, 400,
			"BadArgumentError: The request had some invalid properties; SyntaxError: Syntax Error; SYN0002: at line 3", "SYN0002", "", plugin.ClassInvalid,
		},
		{
			"throttled inside", `{"error":{"code":"TooManyRequests","innerError":{"code":"429","message":"Please retry after","request-id":"r-2","status":"429"},"message":"Please retry again later."}}`, 403,
			"TooManyRequests: Please retry again later.; Please retry after", "TooManyRequests", "r-2", plugin.ClassThrottled,
		},
		{
			"arm null inner", `{"error":{"code":"UnsupportedApiVersion","message":"no PUT","innerError":null}}`, 405,
			"UnsupportedApiVersion: no PUT", "UnsupportedApiVersion", "", plugin.ClassInvalid,
		},
		{
			"arm details", `{"error":{"code":"InvalidTemplate","message":"see details","details":[{"code":"A","message":"one"},{"code":"B","target":"x"}]}}`, 400,
			"InvalidTemplate: see details; A: one; B", "InvalidTemplate", "", plugin.ClassInvalid,
		},
		{
			"wrong audience", `{"error":{"code":"InvalidAuthenticationTokenAudience","message":"audience"}}`, 403,
			"InvalidAuthenticationTokenAudience: audience; the token is for another API: check the scope", "InvalidAuthenticationTokenAudience", "", plugin.ClassAuth,
		},
		{
			"token in a 400", `{"error":{"code":"InvalidAuthenticationToken","message":"expired"}}`, 400,
			"InvalidAuthenticationToken: expired", "InvalidAuthenticationToken", "", plugin.ClassAuth,
		},
		{
			"access", `{"error":{"message":"no access","code":"InsufficientAccessError"}}`, 400,
			"InsufficientAccessError: no access", "InsufficientAccessError", "", plugin.ClassDenied,
		},
		{"old OData", `{"error":{"code":"","message":{"lang":"en","value":"old style"}}}`, 400, "old style", "", "", plugin.ClassInvalid},
		{"no envelope", `{"code":"Gone","message":"bare"}`, 400, "Gone: bare", "Gone", "", plugin.ClassInvalid},
		{"oauth", `{"error":"invalid_token","error_description":"AADSTS1: it expired. Trace ID: t"}`, 400, "invalid_token: AADSTS1: it expired.", "", "", plugin.ClassInvalid},
		{"server error stays", `{"error":{"code":"TooManyRequests","message":"x"}}`, 503, "TooManyRequests: x", "TooManyRequests", "", plugin.ClassInvalid},
		{"html", `<html>`, 502, "", "", "", plugin.ClassInvalid},
		{"list", `[1]`, 400, "", "", "", plugin.ClassInvalid},
		{"odd types", `{"error":{"code":7,"message":["x"],"details":"y","innererror":"z"}}`, 400, "", "", "", plugin.ClassInvalid},
	} {
		e := &sdk.Error{Code: codes.InvalidArgument}
		Explain(tc.status, http.Header{}, []byte(tc.body), e)
		if e.Message != tc.text || e.Reason != tc.reason || e.RequestID != tc.id || e.Class() != tc.class {
			t.Errorf("%s:\n got %q, reason %q, id %q, %s\nwant %q, reason %q, id %q, %s", tc.name, e.Message, e.Reason, e.RequestID, e.Class(), tc.text, tc.reason, tc.id, tc.class)
		}
	}
	for _, name := range RequestIDHeaders {
		h := http.Header{}
		h.Set(name, "from-header")
		h.Set("x-ms-retry-after-ms", "1500")
		e := &sdk.Error{}
		Explain(429, h, []byte(`{"error":{"innerError":{"request-id":"from-body"}}}`), e)
		if e.RequestID != "from-header" || e.RetryAfter != 1500*time.Millisecond {
			t.Errorf("%s: id %q, wait %v", name, e.RequestID, e.RetryAfter)
		}
	}
}

// Bodies are untrusted: whatever comes, Explain ends soon and says a bounded amount.
func FuzzExplain(f *testing.F) {
	f.Add(`{"error":{"code":"x","message":"y","innererror":{"code":"z"}}}`)
	f.Add(strings.Repeat(`{"error":`, 50) + strings.Repeat(`}`, 50))
	f.Add(`{"error":` + strings.Repeat(`{"innererror":`, 2000) + `{}` + strings.Repeat(`}`, 2000) + `}`)
	f.Fuzz(func(t *testing.T, body string) {
		e := &sdk.Error{}
		Explain(400, http.Header{}, []byte(body), e)
		if len(e.Message) > 64<<10 {
			t.Errorf("%d bytes of message", len(e.Message))
		}
	})
}

func FuzzReadToken(f *testing.F) {
	f.Add(`{"access_token":"t","expires_on":1800000600}`)
	f.Add("e30.e30.x")
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, in string) {
		value, expires, why := readToken(now, []byte(in))
		if why == "" && (value == "" || strings.ContainsFunc(value, notInToken) || expires.IsZero()) {
			t.Errorf("%q was taken as %q until %v", in, value, expires)
		}
	})
}
