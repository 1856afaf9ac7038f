package hivefake

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

// BenchmarkHive measures requests against 20,000 alerts and more; a fake must not be what a measurement measures.
func BenchmarkHive(b *testing.B) {
	s := New(Options{})
	b.Cleanup(s.Close)
	n := 0
	do := func(method, path, body string) {
		r := httptest.NewRequestWithContext(b.Context(), method, "/api/v1"+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+s.APIKey())
		r.Header.Set("Content-Type", "application/json")
		s.ServeHTTP(&discard{http.Header{}}, r)
	}
	create := func() {
		n++
		do("POST", "/alert", fmt.Sprintf(`{"type":"casewire","source":"contoso","sourceRef":"r%d","title":"A title","description":"text","tags":["casewire","cw-%d"],"observables":[{"dataType":"ip","data":"203.0.113.5"}]}`, n, n))
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
	b.Run("create and promote", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			create()
			do("POST", fmt.Sprintf("/alert/casewire%%3Bcontoso%%3Br%d/case", n), "")
		}
	})
	b.Run("query by sourceRef", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			do("POST", "/query", `{"query":[{"_name":"listAlert"},{"_name":"filter","_and":[{"_eq":{"_field":"type","_value":"casewire"}},{"_eq":{"_field":"sourceRef","_value":"r777"}}]}]}`)
		}
	})
	if len(s.Ledger().Alerts) != n {
		b.Fatalf("%d of %d alerts exist", len(s.Ledger().Alerts), n)
	}
}
