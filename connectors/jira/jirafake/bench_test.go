package jirafake

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// discard is the cheapest ResponseWriter.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header       { return d.header }
func (*discard) Write(p []byte) (int, error) { return len(p), nil }
func (*discard) WriteHeader(int)             {}

// BenchmarkJira measures requests against 20,000 issues and more; a fake must not be what a measurement measures.
func BenchmarkJira(b *testing.B) {
	s := New(Options{})
	b.Cleanup(s.Close)
	u, n := s.User(), 0
	do := func(method, path, body string) {
		r := httptest.NewRequestWithContext(b.Context(), method, path, strings.NewReader(body))
		r.SetBasicAuth(u.Email, u.APIToken)
		r.Header.Set("Content-Type", "application/json")
		s.ServeHTTP(&discard{http.Header{}}, r)
	}
	create := func() {
		n++
		do("POST", "/rest/api/2/issue", fmt.Sprintf(`{"fields":{"project":{"key":"SOC"},"issuetype":{"name":"Task"},"summary":"A summary","description":"text","labels":["casewire","cw-%d"]},"properties":[{"key":"c","value":{"v":1}}]}`, n))
	}
	for range 20000 {
		create()
	}
	b.Run("create", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			create()
		}
	})
	b.Run("search by label", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			do("POST", "/rest/api/2/search/jql", `{"jql":"project = SOC AND labels = \"cw-777\"","fields":["summary"],"properties":["c"]}`)
		}
	})
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			do("GET", "/rest/api/2/issue/SOC-777?fields=labels,status", "")
		}
	})
	if len(s.ByLabel("casewire")) != n {
		b.Fatalf("%d of %d issues exist", len(s.ByLabel("casewire")), n)
	}
}
