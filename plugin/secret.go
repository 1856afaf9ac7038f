package plugin

import (
	"encoding/json"
	"log/slog"
)

// Redacted is what a Secret prints as.
const Redacted = "[redacted]"

// Secret is a value that must not be seen: it prints as [redacted] with every verb, in JSON and in slog. Reveal is the
// only way to the value.
type Secret struct{ value string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the value. Every call to it is a place to review.
func (s Secret) Reveal() string { return s.value }

// IsZero says whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == "" }

// String returns [redacted], or nothing for an empty secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return Redacted
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return "plugin.Secret(" + s.String() + ")" }

// MarshalJSON writes [redacted]: a secret leaves the process only through Reveal.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads a JSON string.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.value) }

// LogValue keeps slog from printing the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
