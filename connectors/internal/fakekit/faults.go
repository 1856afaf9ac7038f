package fakekit

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Fault names one way in which a request goes wrong.
type Fault string

// The faults. "Executed" says whether the request took effect before it went wrong.
const (
	None        Fault = ""
	Throttle    Fault = "throttle"     // 429 with Retry-After; not executed
	Unavailable Fault = "unavailable"  // 503; not executed
	ServerError Fault = "server_error" // 500; not executed
	Conflict    Fault = "conflict"     // 409; not executed
	Reset       Fault = "reset"        // connection reset; not executed
	HTML        Fault = "html"         // 200 with a sign-in page of something in between; not executed
	LostAnswer  Fault = "lost_answer"  // executed, then the connection is reset
	ErrorAfter  Fault = "error_after"  // executed, then 500
	CutBody     Fault = "cut_body"     // executed, then the connection closes in the middle of the body
	BadJSON     Fault = "bad_json"     // executed, then half of the JSON as if it were all
	Slow        Fault = "slow"         // executed after Faults.Delay
	Partial     Fault = "partial"      // the vendor's own kind of half an answer, where it has one
)

// Faults says how often requests go wrong. The zero value lets everything pass.
type Faults struct {
	// Rates maps a route's name, or "read", "write" or "*", to the probability (0 to 1) of each fault. Only the most
	// specific entry counts for a request: its route, else its class, else "*". Rates that sum to more than 1 leave
	// no room for success.
	Rates map[string]map[Fault]float64
	// RetryAfter is what Throttle tells; 0 means 1 s, negative leaves the header out.
	RetryAfter time.Duration
	// Delay is how long Slow waits; 0 means 1 s.
	Delay time.Duration
}

type rate struct {
	upTo  float64
	fault Fault
}

type plan struct {
	RetryAfter time.Duration
	Delay      time.Duration
	rates      map[string][]rate
}

// Injector draws faults. It is safe for concurrent use.
type Injector struct {
	armed atomic.Bool
	mu    sync.Mutex
	rnd   *rand.Rand
	plan  plan
	next  map[string][]Fault
}

func (i *Injector) seed(n uint64) {
	i.rnd = rand.New(rand.NewPCG(n, n^0x9e3779b97f4a7c15))
	i.next = map[string][]Fault{}
	i.plan = plan{RetryAfter: time.Second, Delay: time.Second}
}

// SetFaults replaces the rates from now on. Faults queued by [Injector.FailNext] stay queued.
func (i *Injector) SetFaults(f Faults) {
	p := plan{RetryAfter: f.RetryAfter, Delay: f.Delay, rates: map[string][]rate{}}
	if p.RetryAfter == 0 {
		p.RetryAfter = time.Second
	}
	if p.Delay <= 0 {
		p.Delay = time.Second
	}
	for key, rates := range f.Rates {
		sum := 0.0
		for _, fault := range slices.Sorted(maps.Keys(rates)) {
			if rates[fault] > 0 {
				sum += rates[fault]
				p.rates[key] = append(p.rates[key], rate{sum, fault})
			}
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan = p
	i.arm()
}

// FailNext queues a fault for the next n requests of a route (or of "read", "write", "*"), before any chance is taken.
func (i *Injector) FailNext(route string, fault Fault, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for range n {
		i.next[route] = append(i.next[route], fault)
	}
	i.arm()
}

func (i *Injector) arm() { i.armed.Store(len(i.plan.rates) > 0 || len(i.next) > 0) }

// Chance reports true with probability p.
func (i *Injector) Chance(p float64) bool {
	if p <= 0 {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rnd.Float64() < p
}

// Upto returns a duration in [0, d).
func (i *Injector) Upto(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Duration(i.rnd.Int64N(int64(d)))
}

func (i *Injector) pick(route Route) (Fault, plan) {
	if !i.armed.Load() {
		return None, plan{}
	}
	class := "read"
	if route.Write {
		class = "write"
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, key := range [...]string{route.Name, class, "*"} {
		if queue := i.next[key]; len(queue) > 0 {
			if len(queue) == 1 {
				delete(i.next, key)
				i.arm()
			} else {
				i.next[key] = queue[1:]
			}
			return queue[0], i.plan
		}
	}
	for _, key := range [...]string{route.Name, class, "*"} {
		if rates, ok := i.plan.rates[key]; ok {
			u := i.rnd.Float64()
			for _, r := range rates {
				if u < r.upTo {
					return r.fault, i.plan
				}
			}
			break
		}
	}
	return None, i.plan
}
