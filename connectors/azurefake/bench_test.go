package azurefake

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// discard is the cheapest ResponseWriter.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header              { return d.header }
func (*discard) Write(p []byte) (int, error)        { return len(p), nil }
func (*discard) WriteHeader(int)                    {}
func (d *discard) serve(s *Server, r *http.Request) { clear(d.header); s.ServeHTTP(d, r) }

// BenchmarkGraph measures requests against 20,000 alerts; a fake must not be what a measurement measures.
func BenchmarkGraph(b *testing.B) {
	s := New(Options{})
	b.Cleanup(s.Close)
	at := time.Now().Add(-20000 * time.Second)
	for i := range 20000 {
		stamped := at.Add(time.Duration(i) * time.Second).UTC().Format(stamp)
		if _, err := s.AddAlertObject(map[string]any{
			"id": fmt.Sprintf("a%05d", i), "title": "An alert", "createdDateTime": stamped, "lastUpdateDateTime": stamped,
			"description": "Somebody signed in from two places at once.", "serviceSource": "microsoftSentinel",
		}); err != nil {
			b.Fatal(err)
		}
	}
	s.tokens.byValue["t"] = token{&s.opt.Apps[0], "https://graph.microsoft.com", "", time.Now().Add(time.Hour)}
	recent := url.QueryEscape("lastUpdateDateTime ge " + time.Now().Add(-100*time.Second).UTC().Format(time.RFC3339))
	for name, path := range map[string]string{
		"get": base + "/a10000", "list recent": base + "?$top=100&$filter=" + recent, "list first page": base + "?$top=100",
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
			r.Header.Set("Authorization", "Bearer t")
			r.Header.Set("Prefer", "include-unknown-enum-members")
			w := &discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				w.serve(s, r)
			}
		})
	}
}
