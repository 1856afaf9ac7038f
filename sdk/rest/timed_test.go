package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"
)

func TestHTTPClientTimeout(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // the rest never comes
		close(gone)
	}, func(o *Options) { o.Timeout = time.Second })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.opts.BaseURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a body that does not end: %v", err)
	}
	<-gone
}

func TestHTTPClientKeepsConnections(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) })
	library := c.HTTPClient()
	for i := range 5 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.opts.BaseURL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := library.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if i > 0 && !reused {
			t.Errorf("request %d opened a connection of its own", i+1)
		}
	}
}
