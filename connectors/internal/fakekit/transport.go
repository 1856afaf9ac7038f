package fakekit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Transport hands requests to h without a socket, which is what tests inside a testing/synctest bubble need. A
// connection that h cuts becomes an error that wraps io.ErrUnexpectedEOF, or the context's error if that is over.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ h http.Handler }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "192.0.2.1:1234"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	cutOff := rec.run(t.h, in)
	if r.Body != nil {
		_ = r.Body.Close() // as the contract of RoundTripper asks; a body in memory has nothing to report
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if cutOff && rec.body.Len() == 0 {
		return nil, fmt.Errorf("connection to the fake was cut: %w", io.ErrUnexpectedEOF)
	}
	var body io.Reader = bytes.NewReader(rec.body.Bytes())
	length := int64(rec.body.Len())
	if cutOff {
		body = io.MultiReader(body, broken{})
		length = -1
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", rec.status, http.StatusText(rec.status)), StatusCode: rec.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: rec.header, Body: io.NopCloser(body),
		ContentLength: length, Request: r,
	}, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type recorder struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (r *recorder) run(h http.Handler, in *http.Request) (cutOff bool) {
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			cutOff = true
		}
	}()
	h.ServeHTTP(r, in)
	return false
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.wrote, r.status = true, status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
