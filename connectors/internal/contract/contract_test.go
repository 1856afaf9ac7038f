package contract_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/casewire/casewire/connectors/internal/contract"
)

const pets = `{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{
	"/pet":{"post":{"requestBody":{"content":{"application/json":{"schema":{"type":"object","required":["name"],"properties":{"name":{"type":"string","maxLength":3}}}}}},
		"responses":{"200":{"description":"d","content":{"application/json":{"schema":{"type":"object","required":["id"]}}}}}}},
	"/pet/{id}":{"parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],"get":{"responses":{"204":{"description":"d"}}}},
	"/pet/mine":{"get":{"responses":{"204":{"description":"d"}}}}}}`

// witness keeps what a judge says.
type witness struct {
	testing.TB
	said []string
}

func (w *witness) Errorf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func TestJudge(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(pets))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		method, path, body, answer string
		status                     int
		says                       string
		seen                       string
	}{
		"good":           {"POST", "/pet", `{"name":"Bo"}`, `{"id":1}`, 200, "", "POST /pet"},
		"bad request":    {"POST", "/pet", `{"name":"Bello"}`, `{"id":1}`, 200, "maximum string length is 3", "POST /pet"},
		"bad reply":      {"POST", "/pet", `{"name":"Bo"}`, `{}`, 200, `the fake's 200 to POST /pet breaks the contract`, "POST /pet"},
		"looked further": {"POST", "/pet", `{"name":"Bo"}`, `{"id":"odd"}`, 200, "odd indeed", "POST /pet"},
		"a fault":        {"POST", "/pet", `{"name":"Bo"}`, `<html>`, 200, "", "POST /pet"},
		"undescribed":    {"POST", "/pet", `{"name":"Bo"}`, `{}`, 500, "", "POST /pet"},
		"plainer path":   {"GET", "/v1/pet/mine", "", "", 204, "", "GET /pet/mine"},
		"variable":       {"GET", "/v1/pet/7", "", "", 204, "", "GET /pet/{id}"},
		"unknown":        {"GET", "/cat", "", "{}", 200, "GET /cat is not in the contract", ""},
		"silent":         {"GET", "/token/x", "", "{}", 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &witness{TB: t}
			j := &contract.Judge{
				T: w, Doc: doc, Silent: []string{"/token"}, Path: func(p string) string { return strings.TrimPrefix(p, "/v1") },
				Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(tt.status)
					_, _ = w.Write([]byte(tt.answer))
				}),
				Reply: func(_ string, _, reply []byte) error {
					if strings.Contains(string(reply), "odd") {
						return errors.New("odd indeed")
					}
					return nil
				},
			}
			r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			got := httptest.NewRecorder()
			j.ServeHTTP(got, r)
			if got.Code != tt.status || got.Body.String() != tt.answer {
				t.Errorf("the answer became %d %s", got.Code, got.Body)
			}
			said := strings.Join(w.said, "\n")
			if (said == "") != (tt.says == "") || !strings.Contains(said, tt.says) || tt.seen != "" && !j.Seen(tt.seen) {
				t.Errorf("said %q", said)
			}
		})
	}
}

func TestNothingAtHand(t *testing.T) {
	t.Setenv(contract.Variable, "")
	if doc, err := contract.Load("x.json"); doc != nil || err != nil {
		t.Errorf("%v, %v", doc, err)
	}
	t.Setenv(contract.Variable, t.TempDir())
	if _, err := contract.Load("x.json"); err == nil {
		t.Error("a missing description is no mistake")
	}
}
