package catalog

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

// crashWait is how long a broken call waits to learn how the process ended.
const crashWait = 750 * time.Millisecond

// attempt says what a failed call was, so that its error can be judged.
type attempt struct {
	verb, connection string // "issue.get", "jira"
	// sent: the request may have reached the connector.
	sent bool
	// harmless: the call changes nothing by contract, whatever became of it.
	harmless bool
}

// what names the call in messages.
func (a attempt) what() string {
	if a.connection == "" {
		return a.verb
	}
	return a.verb + " on connection " + a.connection
}

// failure turns what gRPC returned into an error that says what happened. An error with a Failure came from the
// connector's own code and is passed on; any other says something about the process or the transport.
func (in *instance) failure(ctx context.Context, a attempt, err error) *plugin.Error {
	e := plugin.FromError(err)
	e.Domain = cmp.Or(e.Domain, in.sup.name)
	if e.SideEffect == 0 {
		e.SideEffect = plugin.EffectUnknown
	}
	if e.Origin == 0 {
		in.judge(ctx, a, e)
		switch {
		case !a.sent || a.harmless:
			e.SideEffect = plugin.EffectNone
		case e.SideEffect == 0:
			e.SideEffect = plugin.EffectUnknown
		}
	}
	if e.Code == codes.OK {
		e.Code = codes.Internal
	}
	return e
}

// judge finds out what an error of the transport means.
func (in *instance) judge(ctx context.Context, a attempt, e *plugin.Error) {
	said := e.Message
	say := func(format string, args ...any) {
		e.Message = fmt.Sprintf(format, args...)
	}
	e.Domain, e.Origin = plugin.Domain, plugin.OriginPlugin
	if cause := ctx.Err(); cause != nil && (e.Code == codes.Canceled || e.Code == codes.DeadlineExceeded) {
		e.Origin, e.Err = plugin.OriginHost, cause
		if e.Code == codes.DeadlineExceeded {
			in.prod() // a hung connector shows like this
			say("%s: no answer in time", a.what())
		} else {
			say("%s: cancelled", a.what())
		}
		return
	}
	switch e.Code {
	case codes.Unavailable, codes.Canceled, codes.Internal, codes.Unknown:
		if in.stopping.Load() {
			e.Code, e.Reason, e.Origin = codes.Unavailable, plugin.ReasonDraining, plugin.OriginHost
			say("%s: the host stopped the connector %s", a.what(), in.sup.name)
			return
		}
		if !in.broken() {
			break
		}
		e.Code, e.Reason = codes.Unavailable, plugin.ReasonPluginCrashed
		say("%s: the connector %s crashed: %s", a.what(), in.sup.name, in.proc.Exit())
		return
	case codes.ResourceExhausted:
		// What gRPC itself says about sizes; a connector that throttles says so with a Failure.
		if strings.Contains(said, "larger than max") {
			e.Code, e.Reason = codes.OutOfRange, plugin.ReasonTooLarge
			say("%s: a message is over the limit of %d bytes: %s", a.what(), plugin.MaxReceive, said)
		}
		return
	case codes.Unimplemented:
		e.SideEffect = plugin.EffectNone
		say("%s: the connector %s does not implement this: %s", a.what(), in.sup.name, said)
		return
	default:
		return
	}
	if e.Code == codes.Canceled { // nobody here cancelled
		e.Code = codes.Unavailable
	}
	if e.Code == codes.Unavailable {
		in.prod()
	}
	say("%s: %s", a.what(), said)
}

// broken says whether the process has ended, and waits a moment for that news: a call breaks before the process is
// reaped.
func (in *instance) broken() bool {
	t := time.NewTimer(crashWait)
	defer t.Stop()
	select {
	case <-in.proc.Done():
		return true
	case <-t.C:
		return false
	}
}

// lie is an answer of a connector that breaks the protocol. What it did is unknown.
func (in *instance) lie(a attempt, code codes.Code, format string, args ...any) *plugin.Error {
	e := plugin.Errorf(code, "%s: the connector %s broke the protocol: %s", a.what(), in.sup.name, fmt.Sprintf(format, args...))
	e.Domain, e.Origin, e.SideEffect = plugin.Domain, plugin.OriginPlugin, plugin.EffectUnknown
	if a.harmless {
		e.SideEffect = plugin.EffectNone
	}
	if code == codes.OutOfRange {
		e.Reason = plugin.ReasonTooLarge
	}
	return e
}

// refusedBy wraps an error of the host's own callback, which ended the call.
func refusedBy(a attempt, err error) *plugin.Error {
	e := plugin.Errorf(codes.Aborted, "%s: stopped by its receiver: %w", a.what(), err)
	e.Err, e.Domain, e.Origin, e.SideEffect = err, plugin.Domain, plugin.OriginHost, plugin.EffectUnknown
	if a.harmless {
		e.SideEffect = plugin.EffectNone
	}
	return e
}

func stoppedError() *plugin.Error {
	e := hostError(codes.Unavailable, "the catalog is stopped")
	e.Reason = plugin.ReasonDraining
	return e
}
