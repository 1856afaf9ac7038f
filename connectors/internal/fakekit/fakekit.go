// Package fakekit is what the fakes of the vendors' servers have in common: replies that are plain values, faults that
// are injected by chance or on demand, and a tally of what was asked and answered. It knows no vendor, and it imports
// the standard library only, so that a fake can never share a mistake with the client that is tested against it.
package fakekit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Route is one operation of an API: its name in the ledger and in [Faults], and whether it changes anything.
type Route struct {
	Name  string
	Write bool
}

// Call is one request on its way through a fake.
type Call struct {
	R     *http.Request
	Fault Fault     // what was drawn for it; handlers look only for [Partial]
	Args  [3]string // variable parts of the path, in order
}

// Reply is an answer as a value. Exactly one of Body and Stream is used; Stream is for answers too big to hold.
type Reply struct {
	Status int
	Type   string // media type; empty means application/json; charset=utf-8 if there is a body
	Header [][2]string
	Body   []byte
	Stream func(io.Writer) error
}

// With returns the reply with one more header.
func (r Reply) With(name, value string) Reply {
	r.Header = append(slices.Clip(r.Header), [2]string{name, value})
	return r
}

// JSON makes a reply of a value that always encodes (maps, slices, strings, numbers, raw JSON that was checked before).
func JSON(status int, v any) Reply {
	body, err := json.Marshal(v)
	if err != nil {
		return Reply{Status: http.StatusInternalServerError, Type: "text/plain", Body: fmt.Appendf(nil, "fake: encode reply: %v", err)}
	}
	return Reply{Status: status, Body: body}
}

// Handler answers one call.
type Handler func(*Call) Reply

// Kit serves calls: it draws a fault, runs the handler if the fault lets it, spoils the answer if the fault says so,
// and counts what happened. The zero value is not usable; see [New].
type Kit struct {
	Injector
	Tally

	// Now is the clock of the fake.
	Now func() time.Time
	// Failed shapes the vendor's own body for Throttle, Unavailable, ServerError, Conflict and ErrorAfter.
	Failed func(f Fault, status int) Reply
	// Type is the media type of replies that name none.
	Type string

	done chan struct{}
	once sync.Once
}

// New returns a kit with the given clock (nil means time.Now) and seed; equal seeds draw equal faults for equal
// sequences of calls.
func New(now func() time.Time, seed uint64, failed func(Fault, int) Reply) *Kit {
	if now == nil {
		now = time.Now
	}
	k := &Kit{Now: now, Failed: failed, Type: "application/json; charset=utf-8", done: make(chan struct{})}
	k.seed(seed)
	return k
}

// Close ends waits that slow answers are in. It may be called more than once.
func (k *Kit) Close() { k.once.Do(func() { close(k.done) }) }

// Serve answers one request.
func (k *Kit) Serve(w http.ResponseWriter, r *http.Request, route Route, args [3]string, h Handler) {
	fault, plan := k.pick(route)
	call := &Call{R: r, Fault: fault, Args: args}
	switch fault {
	case None, Partial:
		reply := h(call)
		k.count(route.Name, strconv.Itoa(reply.Status))
		k.write(w, reply)
	case Throttle:
		reply := k.Failed(fault, http.StatusTooManyRequests)
		if plan.RetryAfter >= 0 {
			reply = reply.With("Retry-After", Seconds(plan.RetryAfter))
		}
		k.count(route.Name, strconv.Itoa(reply.Status))
		k.write(w, reply)
	case Unavailable:
		k.fail(w, route, fault, http.StatusServiceUnavailable)
	case ServerError:
		k.fail(w, route, fault, http.StatusInternalServerError)
	case Conflict:
		k.fail(w, route, fault, http.StatusConflict)
	case HTML:
		k.count(route.Name, "200-html")
		k.write(w, Reply{Status: http.StatusOK, Type: "text/html; charset=utf-8", Body: []byte(page)})
	case Reset:
		k.count(route.Name, "reset")
		cut(w)
	case LostAnswer:
		reply := h(call)
		k.count(route.Name, strconv.Itoa(reply.Status)+"-lost")
		cut(w)
	case ErrorAfter:
		reply := h(call)
		k.count(route.Name, strconv.Itoa(reply.Status)+"-500")
		k.write(w, k.Failed(fault, http.StatusInternalServerError))
	case CutBody:
		reply := h(call)
		k.count(route.Name, strconv.Itoa(reply.Status)+"-cut")
		k.writeHalf(w, reply)
	case BadJSON:
		reply := h(call)
		k.count(route.Name, strconv.Itoa(reply.Status)+"-bad")
		reply.Body = reply.Body[:len(reply.Body)/2]
		k.write(w, reply)
	case Slow:
		if !k.pause(r.Context(), plan.Delay) {
			k.count(route.Name, "gone")
			cut(w)
		}
		reply := h(call)
		k.count(route.Name, strconv.Itoa(reply.Status))
		k.write(w, reply)
	default:
		panic("fakekit: unknown fault " + string(fault))
	}
}

const page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Your network asks you to sign in</h1></body></html>\n"

func (k *Kit) fail(w http.ResponseWriter, route Route, fault Fault, status int) {
	k.count(route.Name, strconv.Itoa(status))
	k.write(w, k.Failed(fault, status))
}

// pause waits and reports whether the caller is still there.
func (k *Kit) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-k.done:
	}
	return false
}

func (k *Kit) head(w http.ResponseWriter, reply Reply) {
	h := w.Header()
	if reply.Type != "" {
		h.Set("Content-Type", reply.Type)
	} else if len(reply.Body) > 0 || reply.Stream != nil {
		h.Set("Content-Type", k.Type)
	}
	for _, kv := range reply.Header {
		h.Set(kv[0], kv[1])
	}
	if reply.Stream == nil && reply.Status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(reply.Body)))
	}
	w.WriteHeader(reply.Status)
}

func (k *Kit) write(w http.ResponseWriter, reply Reply) {
	k.head(w, reply)
	if reply.Stream != nil {
		if err := reply.Stream(w); err != nil {
			panic(http.ErrAbortHandler) // an answer that ends early must look broken to the client
		}
		return
	}
	if _, err := w.Write(reply.Body); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		return // the client has gone; nobody is left to be told
	}
}

// writeHalf announces the whole body, sends half of it and closes the connection.
func (k *Kit) writeHalf(w http.ResponseWriter, reply Reply) {
	if reply.Stream != nil || len(reply.Body) < 2 {
		cut(w)
	}
	k.head(w, reply)
	if _, err := w.Write(reply.Body[:len(reply.Body)/2]); err == nil {
		if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			panic(http.ErrAbortHandler)
		}
	}
	panic(http.ErrAbortHandler)
}

// cut ends the connection without an answer: with a TCP reset where the connection can be had, else as net/http does
// for aborted handlers. It does not return.
func cut(w http.ResponseWriter) {
	if hj, ok := w.(http.Hijacker); ok {
		if conn, _, err := hj.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // best effort: without it the client sees EOF instead of a reset
			}
			_ = conn.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// Seconds writes a duration for Retry-After: whole seconds, rounded up.
func Seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// ReadBody reads a request body of at most limit bytes. It reports false if there is more, or if the client broke off.
func ReadBody(r *http.Request, limit int64) ([]byte, bool) {
	if r.Body == nil {
		return nil, true
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil || int64(len(body)) > limit {
		return nil, false
	}
	return body, true
}
