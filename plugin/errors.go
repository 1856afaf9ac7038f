package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// Class says what a caller can do about an error. Flows name classes in retry.on.
type Class string

// The classes.
const (
	ClassThrottled   Class = "throttled"   // wait, then repeat
	ClassTimeout     Class = "timeout"     // no answer in time
	ClassUnavailable Class = "unavailable" // the vendor or the connector is down
	ClassConflict    Class = "conflict"    // somebody else was faster: read again
	ClassUncertain   Class = "uncertain"   // a write whose outcome nobody knows
	ClassInvalid     Class = "invalid"     // the input or the flow is wrong
	ClassConfig      Class = "config"      // the connection's configuration is wrong
	ClassAuth        Class = "auth"        // the credential is refused
	ClassDenied      Class = "denied"      // a permission is missing
	ClassNotFound    Class = "not_found"
	ClassTooLarge    Class = "too_large"
	ClassCancelled   Class = "cancelled"
	ClassBug         Class = "bug" // a fault of the connector or of the host
)

// Domain is ErrorInfo.domain of the reasons that the protocol itself uses.
const Domain = "casewire"

// Reasons that the protocol itself uses (ErrorInfo.reason, domain "casewire").
const (
	ReasonConfigMismatch = "CONFIG_MISMATCH"
	ReasonPluginCrashed  = "PLUGIN_CRASHED"
	ReasonTooLarge       = "TOO_LARGE"
	ReasonDraining       = "DRAINING"
	ReasonPanic          = "PANIC"        // a handler of the connector panicked
	ReasonBackoff        = "BACKOFF"      // the connector is down; it is started again after RetryAfter
	ReasonQuarantined    = "QUARANTINED"  // the connector crashed too often; it is tried again after RetryAfter
	ReasonPoisonInput    = "POISON_INPUT" // the connector crashed each time that it had this input; it is not given it again
	ReasonUnresolved     = "UNRESOLVED"   // MODE_RESOLVE: not found, and the window is not over
	ReasonAbsent         = "ABSENT"       // MODE_RESOLVE: surely not there; it may be sent again
)

// MetaThrottleScope is the key of Error.Meta by which a throttled answer says what it is about: "object", only the thing that
// this call was about; "action", all calls of this action; anything else, or nothing, is all that the credential does there.
const MetaThrottleScope = "throttle_scope"

// The scopes of MetaThrottleScope.
const (
	ScopeObject = "object"
	ScopeAction = "action"
)

// Shorthands for the protocol's enums.
const (
	OriginInput      = connectorv1.Origin_ORIGIN_INPUT
	OriginConfig     = connectorv1.Origin_ORIGIN_CONFIG
	OriginDownstream = connectorv1.Origin_ORIGIN_DOWNSTREAM
	OriginPlugin     = connectorv1.Origin_ORIGIN_PLUGIN
	OriginHost       = connectorv1.Origin_ORIGIN_HOST

	EffectNone    = connectorv1.SideEffect_SIDE_EFFECT_NONE
	EffectUnknown = connectorv1.SideEffect_SIDE_EFFECT_UNKNOWN
	EffectApplied = connectorv1.SideEffect_SIDE_EFFECT_APPLIED
)

// Violation is one fault of an input, at a JSON pointer.
type Violation struct {
	Field       string
	Description string
}

// Error is an error as it crosses the wire. It says what failed, whose side failed, whether anything was changed, and
// when to try again.
type Error struct {
	Code       codes.Code
	Message    string
	Reason     string // ErrorInfo.reason
	Domain     string // ErrorInfo.domain: the connector's name, or "casewire"
	Meta       map[string]string
	RetryAfter time.Duration // zero when not said
	Origin     connectorv1.Origin
	SideEffect connectorv1.SideEffect
	HTTPStatus int
	RequestID  string // the vendor's
	Violations []Violation
	// Err is the cause on this side of the wire; it does not travel.
	Err error
}

// Error returns the message and the field violations.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Message == "" {
		b.WriteString(e.Code.String())
	}
	for i, v := range e.Violations {
		b.WriteString(map[bool]string{true: ": ", false: "; "}[i == 0])
		if v.Field != "" {
			b.WriteString(v.Field + ": ")
		}
		b.WriteString(v.Description)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Class derives what the caller can do.
func (e *Error) Class() Class {
	switch e.Code {
	case codes.ResourceExhausted:
		return ClassThrottled
	case codes.DeadlineExceeded:
		return e.unlessUncertain(ClassTimeout)
	case codes.Unavailable:
		return e.unlessUncertain(ClassUnavailable)
	case codes.Aborted, codes.AlreadyExists:
		return ClassConflict
	case codes.Unauthenticated:
		return ClassAuth
	case codes.PermissionDenied:
		return ClassDenied
	case codes.NotFound:
		return ClassNotFound
	case codes.OutOfRange:
		return ClassTooLarge
	case codes.Canceled:
		return e.unlessUncertain(ClassCancelled)
	case codes.InvalidArgument, codes.FailedPrecondition:
		if e.Origin == OriginConfig {
			return ClassConfig
		}
		return ClassInvalid
	default:
		return e.unlessUncertain(ClassBug)
	}
}

func (e *Error) unlessUncertain(c Class) Class {
	if e.SideEffect == EffectUnknown {
		return ClassUncertain
	}
	return c
}

// Errorf makes an Error with code and message.
func Errorf(code codes.Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// ToStatus encodes err for the wire. An error that is no *Error becomes INTERNAL with the connector as its origin; a
// context error keeps its meaning. A gRPC status that has no Failure gets one, so that the host can tell it from the end
// of the process.
func ToStatus(err error) *status.Status {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		if st, ok := status.FromError(err); ok {
			return withFailure(st)
		}
		e = &Error{Code: codes.Internal, Origin: OriginPlugin, SideEffect: EffectUnknown}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			e.Code = codes.DeadlineExceeded
		case errors.Is(err, context.Canceled):
			e.Code = codes.Canceled
		}
	}
	// The outermost text wins: it has the layers' verbs and nouns.
	msg := clip(err.Error(), MaxErrorDetail)
	if inner := e.Error(); len(e.Violations) > 0 && strings.HasSuffix(err.Error(), inner) {
		// Violations travel as details and are not said twice.
		msg = clip(strings.TrimSuffix(err.Error(), inner)+e.Message, MaxErrorDetail)
	}
	code := e.Code
	if code == codes.OK { // an error without a code must not turn into success
		code = codes.Internal
	}
	st := status.New(code, msg)
	details := []protoadapt.MessageV1{&connectorv1.Failure{
		Origin: e.Origin, SideEffect: e.SideEffect,
		HttpStatus: uint32(max(0, e.HTTPStatus)), UpstreamRequestId: clip(e.RequestID, 256),
	}}
	if e.Reason != "" || e.Domain != "" || len(e.Meta) > 0 {
		details = append(details, &errdetails.ErrorInfo{
			Reason: clip(e.Reason, 64), Domain: clip(e.Domain, 64), Metadata: clipMeta(e.Meta),
		})
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if len(e.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for i, v := range e.Violations {
			if i == maxViolations {
				bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
					Description: fmt.Sprintf("and %d more", len(e.Violations)-i),
				})
				break
			}
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: clip(v.Field, 256), Description: clip(v.Description, 512),
			})
		}
		details = append(details, bad)
	}
	for _, d := range details {
		if with, err := st.WithDetails(d); err == nil {
			st = with
		}
	}
	return st
}

func withFailure(st *status.Status) *status.Status {
	if st.Code() == codes.OK {
		return st
	}
	for _, d := range st.Details() {
		if _, ok := d.(*connectorv1.Failure); ok {
			return st
		}
	}
	f := &connectorv1.Failure{Origin: OriginPlugin, SideEffect: EffectUnknown}
	if st.Code() == codes.Unimplemented {
		f.SideEffect = EffectNone
	}
	with, err := st.WithDetails(f)
	if err != nil {
		return st
	}
	return with
}

// ToError encodes err as the error that a gRPC handler returns.
func ToError(err error) error {
	if err == nil {
		return nil
	}
	return ToStatus(err).Err()
}

// FromError decodes what a gRPC call returned. An error that carries no Failure did not come from the connector's own
// code: the process or the transport died, or the call never left. Such an error has Origin unspecified, and its side
// effect is unknown.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	e = fromStatus(st)
	e.Err = err
	return e
}

func fromStatus(st *status.Status) *Error {
	e := &Error{Code: st.Code(), Message: st.Message(), SideEffect: EffectUnknown}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *connectorv1.Failure:
			e.Origin, e.SideEffect = d.GetOrigin(), d.GetSideEffect()
			e.HTTPStatus, e.RequestID = int(d.GetHttpStatus()), d.GetUpstreamRequestId()
		case *errdetails.ErrorInfo:
			e.Reason, e.Domain, e.Meta = d.GetReason(), d.GetDomain(), d.GetMetadata()
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, d.GetRetryDelay().AsDuration())
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: v.GetField(), Description: v.GetDescription()})
			}
		}
	}
	return e
}

// MarshalStatus serializes err as the google.rpc.Status that some messages carry; nil becomes nothing.
func MarshalStatus(err error) []byte {
	if err == nil {
		return nil
	}
	b, merr := proto.Marshal(ToStatus(err).Proto())
	if merr != nil {
		return nil
	}
	return b
}

// UnmarshalStatus is the reverse of MarshalStatus: nil for an empty or OK status.
func UnmarshalStatus(b []byte) *Error {
	if len(b) == 0 {
		return nil
	}
	var p spb.Status
	if err := proto.Unmarshal(b, &p); err != nil {
		return &Error{Code: codes.Internal, Message: "unreadable status: " + err.Error(), Origin: OriginPlugin, SideEffect: EffectUnknown}
	}
	st := status.FromProto(&p)
	if st.Code() == codes.OK {
		return nil
	}
	return fromStatus(st)
}

// Caps on the lists in an error: details travel in trailers.
const (
	maxViolations = 16
	maxMeta       = 16
)

// clipMeta keeps the first entries by name, each of a bounded size.
func clipMeta(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(m), maxMeta))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if len(out) == maxMeta {
			break
		}
		out[clip(k, 64)] = clip(m[k], 256)
	}
	return out
}

// clip makes s valid UTF-8 of at most n bytes and a mark.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
