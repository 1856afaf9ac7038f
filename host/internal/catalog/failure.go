package catalog

import (
	"cmp"
	"context"
	"errors"
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
	// A connector whose own code gave up with the call says no more than its deadline does; what it says of its vendor is
	// worth keeping.
	if over := ended(ctx, e.Code); over != nil && (e.Origin == 0 || e.Origin == plugin.OriginPlugin) {
		in.timedOut(a, e, over)
	} else if e.Origin == 0 {
		in.judge(a, e)
	}
	if !a.sent || a.harmless && e.SideEffect == plugin.EffectUnknown {
		e.SideEffect = plugin.EffectNone
	}
	if e.Code == codes.OK {
		e.Code = codes.Internal
	}
	return e
}

// ended returns the context's error if that is why a call failed. Both sides run a timer for the same deadline, and the
// connector's may fire a moment before the host's.
func ended(ctx context.Context, code codes.Code) error {
	if code != codes.Canceled && code != codes.DeadlineExceeded {
		return nil
	}
	if d, ok := ctx.Deadline(); ok && ctx.Err() == nil && time.Until(d) < skew {
		<-ctx.Done()
	}
	return ctx.Err()
}

// skew is how far two timers for one deadline may be apart.
const skew = 250 * time.Millisecond

// timedOut says that the host stopped waiting.
func (in *instance) timedOut(a attempt, e *plugin.Error, why error) {
	e.Domain, e.Origin, e.Err = plugin.Domain, plugin.OriginHost, why
	if errors.Is(why, context.DeadlineExceeded) {
		in.prod() // a hung connector shows like this
		e.Code, e.Message = codes.DeadlineExceeded, a.what()+": no answer in time"
	} else {
		e.Code, e.Message = codes.Canceled, a.what()+": cancelled"
	}
}

// judge finds out what an error of the transport means.
func (in *instance) judge(a attempt, e *plugin.Error) {
	said := e.Message
	say := func(format string, args ...any) {
		e.Message = fmt.Sprintf(format, args...)
	}
	e.Domain, e.Origin = plugin.Domain, plugin.OriginPlugin
	switch e.Code {
	case codes.Unavailable, codes.Canceled, codes.Internal, codes.Unknown:
		if in.stopping.Load() {
			e.Code, e.Reason, e.Origin = codes.Unavailable, plugin.ReasonDraining, plugin.OriginHost
			say("%s: the host stopped the connector %s", a.what(), in.sup.name)
			return
		}
		if !in.broken(e.Code == codes.Unavailable || e.Code == codes.Canceled) {
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

// broken says whether the process has ended. If the connection broke, it waits a moment for that news: a call breaks
// before the process is reaped.
func (in *instance) broken(wait bool) bool {
	d := crashWait
	if !wait {
		d = 0
	}
	t := time.NewTimer(d)
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
