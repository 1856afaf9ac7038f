package azure

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

// RequestIDHeaders are where the services put the id that Microsoft's support asks for.
var RequestIDHeaders = []string{"request-id", "x-ms-request-id", "x-ms-correlation-request-id", "client-request-id"}

// fault is one level of the OData error envelope, as Graph (innerError), Log Analytics and ARM (innererror) nest it.
type fault struct {
	Code    string
	Message json.RawMessage // text, or {"lang", "value"} from old OData
	Details []fault
	IDs     map[string]string
	inner   json.RawMessage
}

// UnmarshalJSON reads one level; below reads the next. What is not as expected is left out: this is an error already.
func (f *fault) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	for k, v := range m {
		switch strings.ToLower(k) {
		case "code":
			f.Code = text(v)
		case "message":
			f.Message = v
		case "details":
			_ = json.Unmarshal(v, &f.Details) // of another shape: without
		case "innererror":
			f.inner = v
		case "request-id", "requestid", "client-request-id":
			if f.IDs == nil {
				f.IDs = map[string]string{}
			}
			f.IDs[strings.ToLower(k)] = text(v)
		}
	}
	return nil
}

// below returns the next level, or nil.
func (f *fault) below() *fault {
	if len(f.inner) == 0 || f.inner[0] != '{' {
		return nil
	}
	var in fault
	if json.Unmarshal(f.inner, &in) != nil {
		return nil
	}
	return &in
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return strings.TrimSpace(s)
	}
	var m struct{ Value string }
	if json.Unmarshal(raw, &m) == nil && m.Value != "" {
		return m.Value
	}
	if n := strings.TrimSpace(string(raw)); n != "null" && len(n) > 0 && (n[0] == '-' || n[0] >= '0' && n[0] <= '9') {
		return n
	}
	return ""
}

// maxDepth bounds how far down an envelope is told.
const maxDepth = 5

// Explain reads the error envelope of Microsoft Graph, Log Analytics and Azure Resource Manager, for rest.Options: what
// each level says, the innermost code as the reason, the request id, and the class where the code knows better than the
// status.
func Explain(status int, header http.Header, body []byte, err *sdk.Error) {
	err.RequestID = cmp.Or(firstHeader(header), err.RequestID)
	if wait := header.Get("X-Ms-Retry-After-Ms"); wait != "" && err.RetryAfter == 0 {
		if ms, perr := strconv.ParseInt(wait, 10, 64); perr == nil && ms > 0 && ms < 24*3600*1000 {
			err.RetryAfter = time.Duration(ms) * time.Millisecond
		}
	}
	var env struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	if json.Unmarshal(body, &env) != nil {
		return
	}
	var top fault
	switch {
	case len(env.Error) > 0 && env.Error[0] == '{':
		if json.Unmarshal(env.Error, &top) != nil {
			return
		}
	case len(env.Error) > 0:
		err.Message = strings.TrimSuffix(text(env.Error)+": "+firstSentence(env.Description), ": ")
		return
	default: // some gateways leave the envelope away
		if json.Unmarshal(body, &top) != nil {
			return
		}
	}
	var parts []string
	said := map[string]bool{}
	level := &top
	for depth := 0; level != nil && depth < maxDepth; depth++ {
		parts = add(parts, said, level)
		for i := range level.Details {
			if i < maxDepth {
				parts = add(parts, said, &level.Details[i])
			}
		}
		if level.Code != "" && !isNumber(level.Code) {
			err.Reason = level.Code
		}
		err.RequestID = cmp.Or(err.RequestID, level.IDs["request-id"], level.IDs["requestid"], level.IDs["client-request-id"])
		level = level.below()
	}
	err.Message = strings.Join(parts, "; ")
	refine(status, &top, err)
}

func firstHeader(h http.Header) string {
	for _, name := range RequestIDHeaders {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// add appends what a level says, unless it has been said.
func add(parts []string, said map[string]bool, f *fault) []string {
	msg := text(f.Message)
	s := f.Code
	switch {
	case msg != "" && (s == "" || isNumber(s)):
		s = msg
	case msg != "":
		s += ": " + msg
	case isNumber(s):
		s = ""
	}
	if len(s) > 600 {
		s = fmt.Sprintf("%.600s…", s)
	}
	if s == "" || said[s] {
		return parts
	}
	said[s] = true
	return append(parts, s)
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

func firstSentence(s string) string {
	s, _, _ = strings.Cut(s, " Trace ID:")
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSpace(s)
}

// refine corrects the class where the code says more than the status.
func refine(status int, top *fault, err *sdk.Error) {
	if status >= 500 {
		return
	}
	for level, depth := top, 0; level != nil && depth < maxDepth; level, depth = level.below(), depth+1 {
		switch strings.ToLower(level.Code) {
		case "toomanyrequests", "throttlederror", "throttled", "activitylimitreached", "requestthrottled", "ratelimitexceeded":
			err.Code, err.Origin = codes.ResourceExhausted, sdk.OriginDownstream
		case "invalidauthenticationtokenaudience":
			err.Code, err.Origin = codes.Unauthenticated, sdk.OriginConfig
			err.Message += "; the token is for another API: check the scope"
		case "invalidauthenticationtoken", "expiredauthenticationtoken", "invalidauthenticationtokentenant", "authenticationfailed", "invalidtokenerror":
			err.Code, err.Origin = codes.Unauthenticated, sdk.OriginDownstream
		case "insufficientaccesserror", "authorizationfailed", "authorization_requestdenied", "missingroles":
			err.Code, err.Origin = codes.PermissionDenied, sdk.OriginDownstream
		}
	}
}
