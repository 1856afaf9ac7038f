package event

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Lengths of the derived attributes.
const (
	idBytes     = 20 // 32 characters of base32hex
	digestBytes = 8  // 16 hex digits
	revDigits   = 15
)

// idVersion begins what is hashed into an id; a change of the rule would get a new one.
const idVersion = "cw1"

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

// ComputeID derives the id of an event from its other attributes: 32 characters of lower-case base32hex over SHA-256 of
// the version and the four parts, each with its length before it, so that moving a character from one part to the next
// gives another id. Two hosts that see the same revision of the same object derive the same id.
func ComputeID(source, subject, rev, digest string) string {
	buf := make([]byte, 0, 256)
	buf = append(buf, idVersion...)
	for _, part := range [...]string{source, subject, rev, digest} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(part)))
		buf = append(buf, part...)
	}
	sum := sha256.Sum256(buf)
	return lowerBase32(sum[:idBytes])
}

func lowerBase32(b []byte) string {
	out := make([]byte, base32hex.EncodedLen(len(b)))
	base32hex.Encode(out, b)
	for i, c := range out {
		if 'A' <= c && c <= 'Z' {
			out[i] = c + ('a' - 'A')
		}
	}
	return string(out)
}

// Seal fills in what follows from the other attributes: Rev and Time from one another (Time is cut to milliseconds),
// DataSchema from Type, and ID.
func (e *Event) Seal() {
	if e.Rev == "" && !e.Time.IsZero() {
		e.Rev = Rev(e.Time)
	}
	if t, err := RevTime(e.Rev); err == nil {
		e.Time = t
	}
	if e.DataSchema == "" {
		e.DataSchema = SchemaOf(e.Type)
	}
	e.ID = ComputeID(e.Source, e.Subject, e.Rev, e.Digest)
}

// Rev writes a source's modification time as a revision: UTC epoch milliseconds, 15 digits, so that revisions compare
// as text. What is finer than a millisecond is cut off; times before 1970 become zero.
func Rev(t time.Time) string {
	ms := max(0, t.UnixMilli())
	s := strconv.FormatInt(ms, 10)
	if len(s) < revDigits {
		s = "000000000000000"[:revDigits-len(s)] + s
	}
	return s
}

// RevTime reads a revision back.
func RevTime(rev string) (time.Time, error) {
	if !isDigits(rev, revDigits) {
		return time.Time{}, fmt.Errorf("revision %q: want %d digits of UTC epoch milliseconds", clip(rev), revDigits)
	}
	ms, err := strconv.ParseInt(rev, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("revision %q: %w", rev, err)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// Digest hashes the significant projection of a source object: 16 hex digits of SHA-256 over its canonical JSON
// (RFC 8785: sorted names, no white space, no HTML escaping). It catches changes that do not move the source's
// timestamp. The caller sorts lists whose order means nothing. A projection that cannot be written as JSON is a mistake
// of its author and panics.
func Digest(projection any) string {
	b, err := json.Marshal(projection)
	if err != nil {
		panic(fmt.Sprintf("event.Digest: %T is no JSON: %v", projection, err))
	}
	v := jsontext.Value(b)
	if err := v.Canonicalize(); err != nil {
		panic(fmt.Sprintf("event.Digest: %T has no canonical form: %v", projection, err))
	}
	sum := sha256.Sum256(v)
	return hex.EncodeToString(sum[:digestBytes])
}

func isDigits(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// clip keeps hostile values out of error texts.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
