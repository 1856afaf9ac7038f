package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	bad, unknown := strings.Repeat("a", 64), strings.Repeat("b", 64)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer a-token":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v1/hashes/"+bad:
			fmt.Fprint(w, `{"known":true,"name":"EICAR"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(service.Close)

	h := sdktest.Open(t, connector(), Config{BaseURL: service.URL, Token: plugin.NewSecret("a-token")})
	var v Verdict
	if err := h.Call(t.Context(), "hash.lookup", Lookup{SHA256: bad}, &v); err != nil || v != (Verdict{true, "EICAR"}) {
		t.Errorf("got %+v, %v", v, err)
	}
	for _, tc := range []struct {
		hash string
		want plugin.Class
	}{{unknown, plugin.ClassNotFound}, {"short", plugin.ClassInvalid}} {
		err := h.Call(t.Context(), "hash.lookup", Lookup{SHA256: tc.hash}, nil)
		if e := (*sdk.Error)(nil); !errors.As(err, &e) || e.Class() != tc.want {
			t.Errorf("%.5s: got %v, want class %s", tc.hash, err, tc.want)
		}
	}

	if _, err := sdktest.Try(t, connector(), map[string]string{"base_url": "http://x.example"}); err == nil {
		t.Error("a configuration without a token was taken")
	}
}
