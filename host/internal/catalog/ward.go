package catalog

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
)

const (
	// strikesOut is in how many crashes an input may have been in flight until it is held to be their cause, if it was alone
	// in the last one. strikesInCompany, if others were in flight too, which proves less. strikesFromOutside, if others were
	// and somebody else ended the process, as an operator does, or a system that is out of memory: whatever is in flight then
	// is mostly innocent.
	strikesOut         = 3
	strikesInCompany   = 4
	strikesFromOutside = 10
	// maxPoison bounds how many inputs are remembered; the oldest makes room.
	maxPoison = 4096
)

// digest identifies an input for the life of the host: what is called, and with what.
type digest uint64

var digestSeed = maphash.MakeSeed()

func fingerprint(kind, connection, what string, mode byte, input []byte) digest {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	for _, s := range []string{kind, connection, what} {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte(0)
	}
	_ = h.WriteByte(mode)
	_, _ = h.Write(input)
	return digest(h.Sum64())
}

// ward watches the inputs that were in flight when a process crashed. One that was there too often is taken for the
// cause and refused from then on, so that it takes neither the connector nor other inputs down with it. An input that was
// there twice is let in only while no other such is: whoever is in the next crash as well is no bystander.
type ward struct {
	busy atomic.Bool // there are strikes or poison: the rest is worth looking at

	mu      sync.Mutex
	strikes map[digest]int
	poison  map[digest]poisoned
	alone   chan struct{} // holds the one suspect that is in flight
}

// poisoned is an input that is refused.
type poisoned struct {
	since time.Time
	exit  string // how the process ended
}

// Poisoned is an input that is not given to the connector any more, because it was in flight in three crashes.
type Poisoned struct {
	Since time.Time `json:"since"`
	Exit  string    `json:"exit"`
}

func newWard() *ward {
	return &ward{strikes: map[digest]int{}, poison: map[digest]poisoned{}, alone: make(chan struct{}, 1)}
}

// admit lets a call with an input begin, or refuses it. The caller must call done with what became of it.
func (w *ward) admit(ctx context.Context, in *instance, p digest, a attempt) (done func(*plugin.Error), refused *plugin.Error) {
	alone := false
	if w.busy.Load() {
		var e *plugin.Error
		if alone, e = w.examine(ctx, p, a, in.sup.name); e != nil {
			return nil, e
		}
	}
	tracked := true
	select {
	case <-in.proc.Done():
		tracked = false // it crashed without this input; the call finds out by itself
	default:
		in.inputs.enter(p)
	}
	return func(e *plugin.Error) {
		if alone {
			defer func() { <-w.alone }()
		}
		if !tracked {
			return
		}
		// An input of a crash stays where the supervisor finds it.
		if e == nil || e.Reason != plugin.ReasonPluginCrashed {
			in.inputs.leave(p)
			if w.busy.Load() {
				w.clear(in, p)
			}
		}
	}, nil
}

// examine refuses poison, and makes a suspect wait until it is the only one.
func (w *ward) examine(ctx context.Context, p digest, a attempt, connector string) (alone bool, refused *plugin.Error) {
	w.mu.Lock()
	ill, bad := w.poison[p]
	suspect := w.strikes[p] >= strikesOut-1
	w.mu.Unlock()
	if bad {
		return false, poisonError(a, connector, ill)
	}
	if !suspect {
		return false, nil
	}
	select {
	case w.alone <- struct{}{}:
	case <-ctx.Done():
		e := plugin.FromError(ctx.Err())
		e.Domain, e.Origin, e.SideEffect = plugin.Domain, plugin.OriginHost, plugin.EffectNone
		e.Message = a.what() + ": waiting for another input that was in flight in crashes"
		return false, e
	}
	w.mu.Lock()
	ill, bad = w.poison[p]
	w.mu.Unlock()
	if bad {
		<-w.alone
		return false, poisonError(a, connector, ill)
	}
	return true, nil
}

func poisonError(a attempt, connector string, ill poisoned) *plugin.Error {
	e := hostError(codes.Internal, "%s: POISON_INPUT: this input is quarantined since %s: the connector %s crashed each time that it had it, at last with %s; "+
		"mend the connector or the input", a.what(), ill.since.UTC().Format(time.RFC3339), connector, ill.exit)
	e.Origin, e.Reason = plugin.OriginPlugin, plugin.ReasonPoisonInput
	return e
}

// clear forgets what is held against an input that was dealt with while the process lived on.
func (w *ward) clear(in *instance, ps ...digest) {
	select {
	case <-in.proc.Done():
		return // the call failed just before the crash was noticed, or because of it
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range ps {
		delete(w.strikes, p)
	}
	w.busy.Store(len(w.strikes)+len(w.poison) > 0)
}

// endedFromOutside are the ways in which a process ends that nothing of its own does.
var endedFromOutside = []string{"signal: killed", "signal: terminated", "signal: interrupt", "signal: hangup"}

// crashed counts a crash against the inputs that were in flight, and says how many are held to be causes now. Outside says
// that somebody else ended the process.
func (w *ward) crashed(inputs []digest, exit string, outside bool) (found int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strikesInCompany
	switch {
	case len(inputs) == 1:
		out = strikesOut
	case outside:
		out = strikesFromOutside
	}
	for _, p := range inputs {
		if w.strikes[p]++; w.strikes[p] < out {
			continue
		}
		delete(w.strikes, p)
		if len(w.poison) >= maxPoison {
			w.dropOldest()
		}
		w.poison[p] = poisoned{since: time.Now(), exit: exit}
		found++
	}
	if len(w.strikes) > 4*maxPoison { // inputs that never came again
		clear(w.strikes)
	}
	w.busy.Store(len(w.strikes)+len(w.poison) > 0)
	return found
}

func (w *ward) dropOldest() {
	var oldest digest
	var when time.Time
	for p, ill := range w.poison {
		if when.IsZero() || ill.since.Before(when) {
			oldest, when = p, ill.since
		}
	}
	delete(w.poison, oldest)
}

// pardon forgets everything: somebody has mended the connector.
func (w *ward) pardon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.strikes)
	clear(w.poison)
	w.busy.Store(false)
}

func (w *ward) list() []Poisoned {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Poisoned
	for _, ill := range w.poison {
		out = append(out, Poisoned{Since: ill.since, Exit: ill.exit})
	}
	return out
}

// inputs are those that an instance has in flight.
type inputs struct {
	mu sync.Mutex
	n  map[digest]int
}

func (f *inputs) enter(ps ...digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[digest]int{}
	}
	for _, p := range ps {
		f.n[p]++
	}
}

func (f *inputs) leave(ps ...digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range ps {
		if f.n[p]--; f.n[p] <= 0 {
			delete(f.n, p)
		}
	}
}

func (f *inputs) all() []digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]digest, 0, len(f.n))
	for p := range maps.Keys(f.n) {
		out = append(out, p)
	}
	return out
}
