package jira

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/plugintest"
	"github.com/casewire/casewire/sdk"
)

// BenchmarkEnsure is a new case over the protocol in memory: a search and a create against a server on loopback that
// knows two answers.
func BenchmarkEnsure(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/search/jql") {
			_, _ = io.WriteString(w, nothing)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, created)
	}))
	b.Cleanup(srv.Close)
	c := plugintest.Join(b, sdk.Server(Connector()))
	config := []byte(`{"base_url":"` + srv.URL + `","email":"a@b.example","api_token":"0123456789","project":"SOC","issue_type":"Task","deployment":"cloud"}`)
	resp, err := c.Configure(b.Context(), &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{{Connection: "x", Generation: 1, Config: config}}})
	if err != nil || len(resp.GetOutcomes()[0].GetStatus()) > 0 {
		b.Fatal(err, resp)
	}
	b.Cleanup(func() {
		_, _ = c.Configure(context.Background(), &connectorv1.ConfigureRequest{Removes: []string{"x"}})
	})
	input := []byte(`{"title":"Root login without MFA","severity_id":4,"labels":["aws","t1078.004"],"url":"https://portal.example/i/1","description":` +
		`"## What\n**Who:** root\n**From:** 203.0.113.5\n\n| Entity | Value |\n|---|---|\n| ip | 203.0.113.5 |\n| account | 123456789012 |\n"}`)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			stream, err := c.Invoke(b.Context(), &connectorv1.InvokeRequest{
				Call: &connectorv1.CallContext{Connection: "x", Generation: 1, CallId: "c", IdempotencyKey: caseKey, Attempt: 1}, Action: "issue.ensure", Input: input,
			})
			for err == nil {
				_, err = stream.Recv()
			}
			if err != io.EOF { //nolint:errorlint // gRPC promises the bare value
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkMarkdownToWiki(b *testing.B) {
	text := strings.Repeat("## What\n**Who:** root at `C:\\Users\\x`\n\n| Entity | Value |\n|---|---|\n| ip | 203.0.113.5 |\n- see <https://x.example/a>\n", 10)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		markdownToWiki(text, maxText)
	}
}
