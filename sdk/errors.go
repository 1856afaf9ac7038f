package sdk

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

// The constructors below make errors that tell the host what to do next. Each says who failed and whether anything was
// changed; use Uncertain for a write whose answer was lost.

// Invalid is a fault of the action's input, at a property: a JSON pointer ("/tags/0") or just a name ("title"). Empty
// stands for the input as a whole.
func Invalid(field, format string, args ...any) *Error {
	e := plugin.Errorf(codes.InvalidArgument, format, args...)
	e.Origin, e.SideEffect = plugin.OriginInput, plugin.EffectNone
	if field != "" {
		e.Violations, e.Message = []plugin.Violation{{Field: pointer(field), Description: e.Message}}, "invalid input"
	}
	return e
}

// BadConfig is a fault of the connection's configuration, at a property; see Invalid.
func BadConfig(field, format string, args ...any) *Error {
	e := Invalid(field, format, args...)
	e.Origin = plugin.OriginConfig
	if field != "" {
		e.Message = "invalid configuration"
	}
	return e
}

// NotFound says that the object does not exist, or cannot be seen.
func NotFound(format string, args ...any) *Error { return downstream(codes.NotFound, format, args) }

// Throttled says that the vendor asks for a pause.
func Throttled(after time.Duration, format string, args ...any) *Error {
	e := downstream(codes.ResourceExhausted, format, args)
	e.RetryAfter = after
	return e
}

// Unavailable says that the vendor cannot answer now, and that nothing was changed.
func Unavailable(format string, args ...any) *Error {
	return downstream(codes.Unavailable, format, args)
}

// Uncertain says that a write may or may not have happened.
func Uncertain(format string, args ...any) *Error {
	e := downstream(codes.Unavailable, format, args)
	e.SideEffect = plugin.EffectUnknown
	return e
}

// Unresolved answers Call.Resolve: nothing found so far, and the vendor's index may still lag.
func Unresolved(format string, args ...any) *Error {
	e := downstream(codes.NotFound, format, args)
	e.Reason = plugin.ReasonUnresolved
	return e
}

// Absent answers Call.Resolve: the effect surely did not come to be, and the host may send it again. Say so only when
// nothing that was sent can still take effect: after Call.FirstSent, a request may be under way for a while.
func Absent(format string, args ...any) *Error {
	e := downstream(codes.NotFound, format, args)
	e.Reason = plugin.ReasonAbsent
	return e
}

// Auth says that the vendor refuses the credential.
func Auth(format string, args ...any) *Error {
	return downstream(codes.Unauthenticated, format, args)
}

// Denied says that a permission is missing.
func Denied(format string, args ...any) *Error {
	return downstream(codes.PermissionDenied, format, args)
}

// Conflict says that somebody else was faster: read again, then repeat.
func Conflict(format string, args ...any) *Error { return downstream(codes.Aborted, format, args) }

// TooLarge says that the answer is over a limit.
func TooLarge(format string, args ...any) *Error { return downstream(codes.OutOfRange, format, args) }

// pointer makes a JSON pointer of a property's name.
func pointer(field string) string {
	if strings.HasPrefix(field, "/") {
		return field
	}
	return "/" + strings.ReplaceAll(field, ".", "/")
}

func downstream(code codes.Code, format string, args []any) *Error {
	e := plugin.Errorf(code, format, args...)
	e.Origin, e.SideEffect = plugin.OriginDownstream, plugin.EffectNone
	return e
}
