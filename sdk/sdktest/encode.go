package sdktest

import (
	"encoding/json"
	"testing"
	"time"

	jsonx "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/sdk"
)

// encode writes v as JSON. In a configuration, secrets are revealed, durations are text and zero fields are left out.
func encode(tb testing.TB, v any, config bool) []byte {
	tb.Helper()
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		return v
	case json.RawMessage:
		return v
	}
	if !config {
		b, err := json.Marshal(v)
		if err != nil {
			tb.Fatalf("write %T as JSON: %v", v, err)
		}
		return b
	}
	b, err := jsonx.Marshal(v, jsonx.OmitZeroStructFields(true), jsonx.WithMarshalers(jsonx.JoinMarshalers(
		jsonx.MarshalToFunc(func(e *jsontext.Encoder, s sdk.Secret) error { return e.WriteToken(jsontext.String(s.Reveal())) }),
		jsonx.MarshalToFunc(func(e *jsontext.Encoder, d time.Duration) error { return e.WriteToken(jsontext.String(d.String())) }),
	)))
	if err != nil {
		tb.Fatalf("write the configuration %T as JSON: %v", v, err)
	}
	return b
}

// secretsOf finds the values that the schema marks as secret.
func secretsOf(tb testing.TB, schema, config []byte) []string {
	tb.Helper()
	var s, c any
	if err := json.Unmarshal(schema, &s); err != nil {
		tb.Fatalf("config schema: %v", err)
	}
	if json.Unmarshal(config, &c) != nil {
		return nil // the connector will say so
	}
	var found []string
	var walk func(s, c any)
	walk = func(s, c any) {
		m, _ := s.(map[string]any)
		if text, ok := c.(string); ok && m["x-casewire-secret"] == true && len(text) >= 6 {
			found = append(found, text)
		}
		props, _ := m["properties"].(map[string]any)
		switch c := c.(type) {
		case map[string]any:
			for k, v := range c {
				if p, ok := props[k]; ok {
					walk(p, v)
				} else {
					walk(m["additionalProperties"], v)
				}
			}
		case []any:
			for _, v := range c {
				walk(m["items"], v)
			}
		}
	}
	walk(s, c)
	return found
}
