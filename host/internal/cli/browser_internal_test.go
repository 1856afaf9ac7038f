package cli

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The listener takes the one redirect that carries its state: whatever else a page makes the browser send is not it.
func TestCodeListener(t *testing.T) {
	t.Parallel()
	l, err := listenForCode(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(method, path string, q url.Values) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, l.address+path+"?"+q.Encode(), http.NoBody)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, string(b)
	}
	if status, _ := get(http.MethodGet, "/", url.Values{"code": {"early"}, "state": {""}}); status != http.StatusBadRequest {
		t.Errorf("before a state is expected: %d", status)
	}
	l.expect("right")
	for _, tc := range []struct {
		method, path string
		q            url.Values
	}{
		{http.MethodGet, "/", url.Values{"code": {"c"}, "state": {"wrong"}}},
		{http.MethodGet, "/", url.Values{"code": {"c"}}},
		{http.MethodPost, "/", url.Values{"code": {"c"}, "state": {"right"}}},
		{http.MethodGet, "/favicon.ico", url.Values{"code": {"c"}, "state": {"right"}}},
	} {
		if status, _ := get(tc.method, tc.path, tc.q); status != http.StatusBadRequest || len(l.got) != 0 {
			t.Errorf("%+v: %d", tc, status)
		}
	}
	page := make(chan string)
	go func() {
		_, body := get(http.MethodGet, "/", url.Values{"code": {"the code"}, "state": {"right"}})
		page <- body
	}()
	if got := <-l.got; got.code != "the code" || got.err != nil {
		t.Errorf("got %+v", got)
	}
	l.tell("<b>done</b>")
	if body := <-page; !strings.Contains(body, "&lt;b&gt;done") {
		t.Errorf("page: %s", body)
	}
	if status, _ := get(http.MethodGet, "/", url.Values{"code": {"again"}, "state": {"right"}}); status != http.StatusGone {
		t.Errorf("a second time: %d", status)
	}
}

func TestCodeListenerRefused(t *testing.T) {
	t.Parallel()
	l, err := listenForCode(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.expect("s")
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.address+"/?"+url.Values{
			"state": {"s"}, "error": {"access_denied"}, "error_description": {"AADSTS65004: User declined to consent. Trace ID: x"},
		}.Encode(), http.NoBody)
		if err != nil {
			return
		}
		if resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	if got := <-l.got; got.code != "" || got.err == nil || got.err.Error() != "the sign-in was refused: AADSTS65004: User declined to consent." {
		t.Errorf("got %+v", got)
	}
}
