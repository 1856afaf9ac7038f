// Package seal keeps what connectors want to remember unreadable at rest: AES-256-GCM under a key that is kept apart from
// the data, each value bound to whose it is. A value that was copied to another connection, cut or changed does not open.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// Errors of Open.
var (
	// ErrOtherKey means that the value was sealed with another key.
	ErrOtherKey = errors.New("it was sealed with another key")
	// ErrDamaged means that the value is not as it was sealed.
	ErrDamaged = errors.New("it is damaged")
	// ErrOther means that the value is whole, and belongs to another owner.
	ErrOther = errors.New("it belongs to another connector or tenant")
)

// Owner says whose a value is.
type Owner struct {
	Connection, Connector, Tenant string
}

// Box seals and opens with one key. It is safe for concurrent use.
type Box struct {
	aead cipher.AEAD
	id   string // of the key
}

// New makes a Box with a key of KeySize bytes.
func New(key []byte) (*Box, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("seal: the key has %d bytes, not %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	sum := sha256.Sum256(append([]byte("casewire seal key\x00"), key...))
	return &Box{aead: aead, id: hex.EncodeToString(sum[:8])}, nil
}

// KeyID tells keys apart and gives none away.
func (b *Box) KeyID() string { return b.id }

// envelope is what is stored. All but Box is readable, and all of it is bound to what is in the box.
type envelope struct {
	Version   int    `json:"v"`
	Key       string `json:"key"`
	Connector string `json:"connector"`
	Tenant    string `json:"tenant,omitempty"`
	Nonce     []byte `json:"nonce"`
	Box       []byte `json:"box"`
}

const version = 1

// bound is the associated data. Its parts are quoted, so that no two owners have the same.
func (e *envelope) bound(connection string) []byte {
	return fmt.Appendf(nil, "casewire connection state %d %q %q %q %q", e.Version, e.Key, connection, e.Connector, e.Tenant)
}

// Seal returns a value that only Open with the same key and owner makes readable again.
func (b *Box) Seal(o Owner, plain []byte) ([]byte, error) {
	e := envelope{Version: version, Key: b.id, Connector: o.Connector, Tenant: o.Tenant, Nonce: make([]byte, b.aead.NonceSize())}
	if _, err := rand.Read(e.Nonce); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	e.Box = b.aead.Seal(nil, e.Nonce, plain, e.bound(o.Connection))
	return json.Marshal(e)
}

// Open returns what was sealed, or one of the errors above.
func (b *Box) Open(o Owner, sealed []byte) ([]byte, error) {
	var e envelope
	if err := json.Unmarshal(sealed, &e); err != nil || len(e.Nonce) != b.aead.NonceSize() {
		return nil, ErrDamaged
	}
	switch {
	case e.Version != version:
		return nil, fmt.Errorf("%w, or was written by a newer release (version %d)", ErrDamaged, e.Version)
	case e.Key != b.id:
		return nil, fmt.Errorf("%w (%.16q; the one at hand is %q)", ErrOtherKey, e.Key, b.id)
	}
	plain, err := b.aead.Open(nil, e.Nonce, e.Box, e.bound(o.Connection))
	switch {
	case err != nil:
		return nil, ErrDamaged
	case e.Connector != o.Connector || e.Tenant != o.Tenant:
		return nil, ErrOther
	}
	return plain, nil
}

// ParseKey reads a key as people write one: 64 hexadecimal digits, or base64. Errors do not show it.
func ParseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if key, err := hex.DecodeString(text); err == nil && len(key) == KeySize {
		return key, nil
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := enc.DecodeString(text); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, fmt.Errorf("the key must be %d random bytes in hexadecimal or base64; make one with `openssl rand -hex %d`", KeySize, KeySize)
}
