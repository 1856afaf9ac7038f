package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// vendor is a stand-in for what a connector talks to, on a loopback socket.
type vendor struct {
	url    string
	server *http.Server
	done   chan struct{}
	stop   chan struct{}

	mu      sync.Mutex
	open    int // requests being held
	total   int
	changed chan struct{} // closed and replaced when open changes
}

// newVendor starts a vendor that answers by behave.
func newVendor(behave func(v *vendor, w http.ResponseWriter, r *http.Request)) (*vendor, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a stand-in for the vendor: %w", err)
	}
	v := &vendor{url: "http://" + ln.Addr().String(), done: make(chan struct{}), stop: make(chan struct{}), changed: make(chan struct{})}
	v.server = &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v.count(1)
			defer v.count(-1)
			behave(v, w, r)
		}),
	}
	go func() {
		defer close(v.done)
		_ = v.server.Serve(ln) // ends with close
	}()
	return v, nil
}

func (v *vendor) close() {
	close(v.stop)
	_ = v.server.Close()
	<-v.done
}

func (v *vendor) count(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open += n
	if n > 0 {
		v.total += n
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *vendor) requests() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.total
}

// await waits until the number of requests being held is right.
func (v *vendor) await(ctx context.Context, right func(open int) bool) error {
	for {
		v.mu.Lock()
		open, changed := v.open, v.changed
		v.mu.Unlock()
		if right(open) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hold keeps a request until its client goes away.
func hold(v *vendor, _ http.ResponseWriter, r *http.Request) {
	// The server notices that a client went away only once the body is read.
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 8<<20))
	select {
	case <-r.Context().Done():
	case <-v.stop:
	}
}

// quote refuses a request and quotes it, credentials and all, at some length: a connector must not pass that on.
func quote(_ *vendor, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 8<<10)) // what cannot be read is not quoted
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("WWW-Authenticate", `Bearer realm="conformance"`)
	w.WriteHeader(http.StatusForbidden)
	text := fmt.Sprintf("refused: %s %s; Authorization: %s; body: %s", r.Method, r.URL, r.Header.Get("Authorization"), body)
	filler := make([]byte, 32<<10)
	for i := range filler {
		filler[i] = 'x'
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error": map[string]any{"code": "Refused", "message": text}, "error_description": text, "message": text,
		"errorMessages": []string{text}, "type": "AuthorizationError", "trace": string(filler),
	})
}
