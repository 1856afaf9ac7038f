package azure

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync"
)

var claimsParameter = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)(?:^|[\s,])claims\s*=\s*"([^"]*)"`) })

// challenge reads what an API that refused a token demands of the next one: the claims of a WWW-Authenticate header, as
// continuous access evaluation sends them (base64 of JSON). Empty without such a demand.
func challenge(h http.Header) string {
	for _, v := range h.Values("Www-Authenticate") {
		m := claimsParameter().FindStringSubmatch(v)
		if m == nil {
			continue
		}
		text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(m[1]), "=")
		b, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil || len(b) > 8<<10 || !json.Valid(b) || len(b) == 0 || b[0] != '{' {
			continue
		}
		return string(b)
	}
	return ""
}

// claims are what a token says of itself. They are read without proof, to tell people what is missing; whether a token is
// good is for the API alone.
type claims struct {
	Audience any      `json:"aud"`
	Roles    []string `json:"roles"`
	Scopes   string   `json:"scp"`
	App      string   `json:"appid"`
	Person   string   `json:"upn"`
	Expires  float64  `json:"exp"`
}

func readClaims(token string) (claims, bool) {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	return c, err == nil && json.Unmarshal(b, &c) == nil
}
