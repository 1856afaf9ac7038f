package engine

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/plugin"
)

const (
	defaultAttempts = 5
	defaultBase     = time.Second
	defaultLimit    = 5 * time.Minute
	// throttledFactor is how many times more often a throttled call is tried when the flow does not say: being asked to
	// wait is no failure.
	throttledFactor = 4
	// longestRetryAfter caps what a vendor may ask for.
	longestRetryAfter = 24 * time.Hour
	// patience is how long probes of a connection that is down cost a step no attempts, and how long the fate of a lost
	// write is looked for while the vendor cannot be asked.
	patience = 24 * time.Hour
	// longestQueue is the longest that patiently answers.
	longestQueue = 30 * time.Second
	// shortWait is what is slept in place, under the lease; what is longer waits in the store.
	shortWait = 2 * time.Second
)

// defaultRetry holds the classes that are tried again when a flow does not say.
var defaultRetry = []plugin.Class{
	plugin.ClassThrottled, plugin.ClassTimeout, plugin.ClassUnavailable, plugin.ClassConflict,
}

// baseClass is the class of an error leaving aside whether anything was changed. A call that the other end cancelled is
// as good as an absent other end.
func baseClass(err *plugin.Error) plugin.Class {
	if err.Code == codes.Canceled || err.Reason == plugin.ReasonDraining {
		return plugin.ClassUnavailable
	}
	plain := plugin.Error{Code: err.Code, Origin: err.Origin, SideEffect: plugin.EffectNone}
	return plain.Class()
}

// inherit fills what a step does not say about retries from the call around it.
func inherit(r, outer flow.Retry) flow.Retry {
	if r.On == nil {
		r.On = outer.On
	}
	r.Max = cmp.Or(r.Max, outer.Max)
	r.Base = cmp.Or(r.Base, outer.Base)
	r.Limit = cmp.Or(r.Limit, outer.Limit)
	return r
}

// again says whether an error of this class is tried again after so many attempts, and after what pause.
func again(r flow.Retry, class plugin.Class, err *plugin.Error, attempt int) (time.Duration, bool) {
	limit := cmp.Or(r.Max, defaultAttempts)
	if r.Max == 0 && class == plugin.ClassThrottled {
		limit *= throttledFactor
	}
	on := r.On
	if on == nil {
		on = defaultRetry
	}
	// An identity provider that says when to come back is busy, not refusing.
	named := slices.Contains(on, class) || class == plugin.ClassAuth && err.RetryAfter > 0
	if !named || attempt >= limit {
		return 0, false
	}
	pause := backoff(cmp.Or(r.Base, defaultBase), cmp.Or(r.Limit, defaultLimit), attempt)
	if after := min(err.RetryAfter, longestRetryAfter); after > pause {
		pause = after + time.Duration(rand.Int64N(int64(after)/10+1))
	}
	return pause, true
}

// backoff is the pause after the given number of attempts: full jitter under a doubling ceiling.
func backoff(base, limit time.Duration, attempt int) time.Duration {
	ceiling := limit
	// After a probe that cost nothing, there may have been no attempt yet.
	if shift := max(0, attempt-1); shift < 32 && base<<shift>>shift == base && base<<shift < limit {
		ceiling = base << shift
	}
	return time.Duration(rand.Int64N(int64(max(ceiling, 1)))) + 1
}

// patiently is how long a step that waits for something it shares with others waits until it asks again: the longer it
// has waited, the longer, so that a crowd does not keep the store busy.
func patiently(least time.Duration, since, now time.Time) time.Duration {
	return max(least, spread(min(max(now.Sub(since)/4, time.Second), longestQueue)))
}

// lookAt are the times after a write was sent at which its fate is looked for; from the last on, every two minutes.
var lookAt = []time.Duration{2 * time.Second, 7 * time.Second, 22 * time.Second, 67 * time.Second, 187 * time.Second}

// lookAgain is the pause after a look that the vendor did not answer. While it is down, the breaker makes it longer.
const lookAgain = 10 * time.Second

// nextLook is when to look again for a write sent at sent. It never lies past deadline unless now does.
func nextLook(sent, deadline, now time.Time) time.Time {
	next := now.Add(2 * time.Minute)
	for _, after := range lookAt {
		if at := sent.Add(after); at.After(now.Add(time.Second)) {
			next = at
			break
		}
	}
	if next.After(deadline) && deadline.After(now) {
		next = deadline
	}
	return next
}
