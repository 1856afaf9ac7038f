package sdktest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// HandlerTransport answers requests by calling a handler, without a socket: for fakes inside testing/synctest bubbles, where
// a connection would never count as idle.
func HandlerTransport(h http.Handler) http.RoundTripper { return handlerTransport{h} }

type handlerTransport struct{ h http.Handler }

// RoundTrip calls the handler.
func (t handlerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	in := req.Clone(req.Context())
	in.RequestURI, in.RemoteAddr = req.URL.RequestURI(), "192.0.2.1:1234"
	in.Host = cmp.Or(req.Host, req.URL.Host)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer func() { _ = in.Body.Close() }()
	w := httptest.NewRecorder()
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		t.h.ServeHTTP(w, in)
	}()
	select {
	case p := <-done:
		if p != nil { // as a server does: the connection breaks
			return nil, fmt.Errorf("%s %s: the handler panicked: %v: %w", req.Method, req.URL.Path, p, io.ErrUnexpectedEOF)
		}
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	resp := w.Result()
	resp.Request = req
	return resp, nil
}
