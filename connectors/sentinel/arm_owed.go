package sentinel

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// An incident whose parts cannot be had waits for them, without holding up the others; it goes without them when this
	// many polls failed at them and this long has passed. A short outage must not make incidents without entities, and a
	// long one must not hide incidents.
	armPatience     = 5
	armPatienceTime = 5 * time.Minute
	// armAside is how many incidents wait at a time. Where more fail, something is wrong with the API and not with them, and
	// the poll ends there.
	armAside = 8
	// What an incident went without is asked for again this often, and for this long.
	armAskAgain = 10 * time.Minute
	armAskMost  = 24 * time.Hour
	// armOwedMost bounds how many are remembered; the cursor may hold 64 KiB.
	armOwedMost = 100
)

// armOwed is an incident whose parts could not be had.
type armOwed struct {
	Name  string    `json:"n"`
	Since time.Time `json:"s"`
	Asked time.Time `json:"a"`
	Tries int       `json:"t"`
	Sent  bool      `json:"e,omitempty"` // its event was emitted without them
}

// throttled says whether an error means that no more should be asked for now.
func throttled(err error) bool {
	e, ok := asSDK(err)
	return ok && e.Code == codes.ResourceExhausted
}

func (r *armRound) owed(name string) int {
	return slices.IndexFunc(r.cur.Owed, func(o armOwed) bool { return o.Name == name })
}

// settle forgets that anything is owed of an incident.
func (r *armRound) settle(name string) {
	if i := r.owed(name); i >= 0 {
		r.cur.Owed = slices.Delete(r.cur.Owed, i, i+1)
	}
}

// setAside remembers an incident that came without its parts. It is an error when too many wait already.
func (r *armRound) setAside(h armHead, d armDone) error {
	r.fault = d.missing
	if i := r.owed(h.Name); i >= 0 {
		r.failed(i, d)
		return nil
	}
	waiting := 0
	for _, o := range r.cur.Owed {
		if !o.Sent {
			waiting++
		}
	}
	if waiting >= armAside {
		return d.missing
	}
	if len(r.cur.Owed) >= armOwedMost {
		// The oldest that was sent is as complete as it will be; those that wait are few.
		i := slices.IndexFunc(r.cur.Owed, func(o armOwed) bool { return o.Sent })
		r.cur.Owed = slices.Delete(r.cur.Owed, i, i+1)
	}
	r.cur.Owed = append(r.cur.Owed, armOwed{Name: h.Name, Since: r.now, Asked: r.now, Tries: 1})
	return nil
}

// failed notes that the parts of an incident could not be had again. Its event goes out without them when its time has come,
// and when it was out already and this is another revision of it.
func (r *armRound) failed(i int, d armDone) {
	o := &r.cur.Owed[i]
	o.Tries, o.Asked = o.Tries+1, r.now
	if o.Sent || o.Tries > armPatience && r.now.Sub(o.Since) >= armPatienceTime {
		o.Sent = true
		r.put(d) // the host knows the revision if it had it
	}
}

// askAgain asks anew for incidents whose parts are owed.
func (r *armRound) askAgain(ctx context.Context) error {
	for _, o := range slices.Clone(r.cur.Owed) {
		switch {
		case o.Sent && r.now.Sub(o.Since) > armAskMost:
			r.settle(o.Name)
			continue
		case o.Sent && r.now.Sub(o.Asked) < armAskAgain:
			continue
		}
		if err := r.askOne(ctx, o); err != nil {
			return errors.Join(err, r.flush())
		}
	}
	return nil
}

// askOne asks for one incident. The error ends the poll.
func (r *armRound) askOne(ctx context.Context, o armOwed) error {
	h, err := r.arm.fetch(ctx, o.Name)
	var d armDone
	if err == nil {
		d = r.client.armEvent(ctx, r.arm, h)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := asSDK(err); ok && e.Code == codes.NotFound {
		r.settle(o.Name) // it was deleted
		return nil
	}
	at := r.owed(o.Name)
	switch fault := cmp.Or(err, d.missing); {
	case fault == nil:
		r.put(d)
		r.settle(o.Name)
		r.remember(h)
		return nil
	case err == nil && !o.Sent:
		r.failed(at, d)
		r.remember(h)
		fallthrough
	default:
		r.cur.Owed[at].Asked = r.now
		if r.fault = fault; throttled(fault) {
			return fault
		}
		return nil
	}
}
