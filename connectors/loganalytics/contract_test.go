package loganalytics_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/loganalytics"
	"github.com/casewire/casewire/sdk/sdktest"
)

// TestContract holds what the connector sends and what the fake answers against the vendor's description of the API.
func TestContract(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("CASEWIRE_CONTRACTS")
	if dir == "" {
		t.Skip("CASEWIRE_CONTRACTS names no folder with the vendors' contracts")
	}
	f, err := os.Open(filepath.Join(dir, "microsoft/loganalytics/swagger-v1-2019/OperationalInsights.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	compile := func(name string) *jsonschema.Schema {
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft4) // which Swagger 2 is made of
		if err := c.AddResource("contract.json", doc); err != nil {
			t.Fatal(err)
		}
		s, err := c.Compile("contract.json#/definitions/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	request, result, failure := compile("queryBody"), compile("queryResults"), compile("errorResponse")

	fake := azurefake.New(azurefake.Options{})
	defer fake.Close()
	var mu sync.Mutex
	seen := map[string]int{}
	holds := func(what string, s *jsonschema.Schema, body []byte) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err == nil {
			err = s.Validate(v)
		}
		if err != nil {
			t.Errorf("%s %s: %v", what, body, err)
		}
		mu.Lock()
		seen[what]++
		mu.Unlock()
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/query") {
			fake.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		holds("request", request, body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		fake.ServeHTTP(rec, r)
		if rec.Code == http.StatusOK {
			holds("result", result, rec.Body.Bytes())
		} else {
			holds("error", failure, rec.Body.Bytes())
		}
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}))
	defer api.Close()
	h := sdktest.Open(t, loganalytics.Connector(), object{
		"credential": object{"tenant_id": fake.Tenant(), "client_id": fake.ClientID(), "client_secret": fake.ClientSecret(), "authority_url": api.URL},
		"base_url":   api.URL, "workspace": fake.Workspace(),
	})
	// The description has cells as strings only, against its own examples: numbers are left out here.
	fake.SetRows("T", canned([]azurefake.Column{{Name: "a", Type: "string"}, {Name: "b", Type: "dynamic"}}, []any{"1", `{"x":1}`}))
	for _, in := range []object{
		{"query": "T", "params": object{"p": "x"}, "timespan": "PT24H", "workspaces": []string{"other"}, "statistics": true},
		{"query": `print x = "1"`},
		{"query": "T | where ("},
	} {
		if _, err := h.Do(t.Context(), sdktest.Call{Action: "query", Input: in}); err != nil && !strings.Contains(fmt.Sprint(in), "(") {
			t.Error(err)
		}
	}
	fake.FailNext(azurefake.RouteQuery, azurefake.Partial, 1)
	_, _ = h.Do(t.Context(), sdktest.Call{Action: "query", Input: object{"query": "T"}})
	if seen["request"] != 4 || seen["result"] != 3 || seen["error"] != 1 {
		t.Errorf("%v", seen)
	}
}
