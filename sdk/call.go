package sdk

import (
	"context"
	"time"

	"github.com/casewire/casewire/plugin/connectorv1"
)

type callKey struct{}

// callInfo is what the context of a call carries.
type callInfo struct {
	call Call
	w    *rowWriter                       // nil outside of an action
	idle func(time.Duration, error) error // nil outside of a poll or stream
}

// CallFrom returns the call that ctx belongs to; zero outside of one.
func CallFrom(ctx context.Context) Call {
	if i, ok := ctx.Value(callKey{}).(*callInfo); ok {
		return i.call
	}
	return Call{}
}

// Progress reports how far a long action is. Total is zero when unknown. Outside of an action it does nothing.
func Progress(ctx context.Context, done, total uint64, message string) {
	if i, ok := ctx.Value(callKey{}).(*callInfo); ok && i.w != nil {
		i.w.progress(&connectorv1.Progress{Message: message, Done: done, Total: total})
	}
}

// Idle tells the host that a Stream or Poll lives and has nothing to emit: when it looks again, zero if it cannot say, and,
// if err is not nil, the passing fault that it waits out. Outside of a trigger it does nothing.
func Idle(ctx context.Context, next time.Duration, err error) {
	if i, ok := ctx.Value(callKey{}).(*callInfo); ok && i.idle != nil {
		_ = i.idle(next, err) // a broken stream ends the context
	}
}

func newCall(p *connectorv1.CallContext, tenant string) Call {
	c := Call{
		Connection: p.GetConnection(), Tenant: tenant, ID: p.GetCallId(), Key: p.GetIdempotencyKey(),
		Attempt: int(max(1, p.GetAttempt())), DryRun: p.GetDryRun(), Prior: p.GetPrior(),
		Resolve: p.GetMode() == connectorv1.Mode_MODE_RESOLVE,
	}
	if e := Effect(p.GetEffect()); e >= Read && e <= Unsafe {
		c.Effect = e
	}
	if t := p.GetFirstSent(); t != nil && t.IsValid() {
		c.FirstSent = t.AsTime()
	}
	return c
}
