package thehive

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// markPrefix begins the mark [cw-<ref>] at the end of a comment.
const markPrefix = "cw-"

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

// caseRef derives from an idempotency key the alert's sourceRef: 26 lower-case letters and digits, the same for every
// host, and free of the semicolon that separates the parts of an alert's composite id.
func caseRef(key string) string {
	sum := sha256.Sum256([]byte("cwcase1" + key))
	return strings.ToLower(base32hex.EncodeToString(sum[:16]))
}

// digest is a short hash over parts, each prefixed by its length so that ("ab","c") differs from ("a","bc").
func digest(parts ...string) string {
	h := sha256.New()
	var n [4]byte
	for _, p := range parts {
		n[0], n[1], n[2], n[3] = byte(len(p)>>24), byte(len(p)>>16), byte(len(p)>>8), byte(len(p))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0])[:8])
}

// repeated says whether an earlier attempt with the same key may have been made. A host may set FirstSent to the start of
// the first attempt itself, which is moments ago; an attempt that some other run or host began is older.
func repeated(call sdk.Call) bool {
	return call.Attempt > 1 || !call.FirstSent.IsZero() && time.Since(call.FirstSent) > 2*time.Second
}

// priorOutput decodes what the last successful call with the same key returned; false when there was none.
func priorOutput[T any](call sdk.Call) (out T, ok bool, err error) {
	if len(call.Prior) == 0 || string(call.Prior) == "null" {
		return out, false, nil
	}
	if err := json.Unmarshal(call.Prior, &out); err != nil {
		return out, false, sdk.Invalid("", "the output of the earlier call with this key cannot be read: %w", err)
	}
	return out, true, nil
}
