package sentinel

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ownID makes the GUID under which Casewire writes something: the same for the same parts, so that writing it twice is
// writing it once. It is name-based as version 5 is, with its last four bytes a check of those before them (version 8 of
// RFC 9562), so that isOwnID knows it again without a mark that people would see.
func ownID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		n := len(p)
		_, _ = h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		_, _ = h.Write([]byte(p))
	}
	b := h.Sum(nil)[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	sum := ownSum(b[:12])
	copy(b[12:], sum[:])
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func ownSum(b []byte) (out [4]byte) {
	sum := sha256.Sum256(append([]byte("casewire id\x00"), b...))
	copy(out[:], sum[:4])
	return out
}

// isOwnID says whether ownID made a GUID. One in 2^32 of other people's version 8 GUIDs is mistaken for ours.
func isOwnID(id string) bool {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 || b[6]>>4 != 8 {
		return false
	}
	return [4]byte(b[12:]) == ownSum(b[:12])
}
