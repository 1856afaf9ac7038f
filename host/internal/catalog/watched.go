package catalog

import (
	"context"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// resolveWatched is resolve with an eye on what crashes the connector: hints that did are not looked up any more, and
// those that may have are looked up one by one.
func (in *instance) resolveWatched(ctx context.Context, cn *conn, trigger string, hints []*connectorv1.Hint) ([]*connectorv1.HintOutcome, int, *plugin.Error) {
	w := in.sup.ward
	a := attempt{verb: "resolve " + trigger, connection: cn.spec.Name, harmless: true}
	if !w.busy.Load() {
		return in.resolveTogether(ctx, cn, trigger, hints)
	}
	outcomes := make([]*connectorv1.HintOutcome, len(hints))
	answered := 0
	var first *plugin.Error
	var rest []*connectorv1.Hint
	var at []int // of rest
	for i, h := range hints {
		done, suspect, e := w.single(ctx, in, hintDigest(cn, trigger, h), a)
		switch {
		case e != nil:
			outcomes[i] = &connectorv1.HintOutcome{Id: h.GetId(), Status: plugin.MarshalStatus(e)}
			if e.Reason == plugin.ReasonPoisonInput {
				answered++
			} else if first == nil {
				first = e
			}
		case suspect:
			out, n, e := in.resolve(ctx, cn, trigger, hints[i:i+1])
			done(e)
			if n == 0 && first == nil {
				first = e
			}
			answered += n
			outcomes[i] = outcomeOf(out, 0, h, e)
		default:
			rest, at = append(rest, h), append(at, i)
		}
	}
	if len(rest) > 0 {
		out, n, e := in.resolveTogether(ctx, cn, trigger, rest)
		for k, i := range at {
			outcomes[i] = outcomeOf(out, k, hints[i], e)
		}
		answered += n
		if first == nil {
			first = e
		}
	}
	return outcomes, answered, first
}

func outcomeOf(out []*connectorv1.HintOutcome, i int, h *connectorv1.Hint, e *plugin.Error) *connectorv1.HintOutcome {
	if i < len(out) && out[i] != nil {
		return out[i]
	}
	return &connectorv1.HintOutcome{Id: h.GetId(), Status: plugin.MarshalStatus(e)}
}

func hintDigest(cn *conn, trigger string, h *connectorv1.Hint) digest {
	return fingerprint("hint", cn.spec.Name, trigger+"\x00"+h.GetId(), 0, h.GetData())
}

// resolveTogether looks hints up at once.
func (in *instance) resolveTogether(ctx context.Context, cn *conn, trigger string, hints []*connectorv1.Hint) ([]*connectorv1.HintOutcome, int, *plugin.Error) {
	digests := make([]digest, len(hints))
	for i, h := range hints {
		digests[i] = hintDigest(cn, trigger, h)
	}
	in.inputs.enter(digests...)
	out, answered, e := in.resolve(ctx, cn, trigger, hints)
	if e == nil || e.Reason != plugin.ReasonPluginCrashed || out == nil {
		in.inputs.leave(digests...)
		if e == nil && in.sup.ward.busy.Load() {
			in.sup.ward.clear(in, digests...)
		}
		return out, answered, e
	}
	// What was answered is not to blame; the rest stays where the supervisor finds it.
	for i, o := range out {
		if f := plugin.UnmarshalStatus(o.GetStatus()); f == nil || f.Reason != plugin.ReasonPluginCrashed {
			in.inputs.leave(digests[i])
		}
	}
	return out, answered, e
}

// single admits a hint by itself if it is a suspect, and refuses it if it is poison.
func (w *ward) single(ctx context.Context, in *instance, p digest, a attempt) (done func(*plugin.Error), suspect bool, refused *plugin.Error) {
	w.mu.Lock()
	_, bad := w.poison[p]
	suspect = w.strikes[p] >= strikesOut-1
	w.mu.Unlock()
	if !bad && !suspect {
		return nil, false, nil
	}
	done, refused = w.admit(ctx, in, p, a)
	return done, suspect, refused
}
