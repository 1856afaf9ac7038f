package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/casewire/casewire/plugin"
)

const (
	// minSecret is the shortest value that is looked for: shorter ones would be found in every other word.
	minSecret = 4
	// minForm is the shortest part of a value, or of a coding of it, that is looked for.
	minForm = 8
)

// Redactor takes live secrets out of text, also where they are coded: in base64 at any alignment (as in an Authorization
// header), in hex, in a URL, in JSON, and line by line. It is a net under careful code, not a licence to log secrets:
// values shorter than 4 bytes and codings that it does not know pass through. The zero value knows no secrets; it is safe
// for concurrent use.
type Redactor struct {
	mu       sync.Mutex
	known    map[string]bool // forms
	replacer atomic.Pointer[strings.Replacer]
}

// NewRedactor makes a Redactor that knows some secrets.
func NewRedactor(secrets ...plugin.Secret) *Redactor {
	r := &Redactor{}
	r.Add(secrets...)
	return r
}

// Add makes more secrets known. Old ones stay known: what was a secret an hour ago still is one in a log.
func (r *Redactor) Add(secrets ...plugin.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, s := range secrets {
		all = append(all, forms(s.Reveal())...)
	}
	r.learn(all)
}

// learn adds forms; under mu.
func (r *Redactor) learn(forms []string) {
	if r.known == nil {
		r.known = map[string]bool{}
	}
	before := len(r.known)
	for _, form := range forms {
		r.known[form] = true
	}
	if len(r.known) == before {
		return
	}
	all := make([]string, 0, len(r.known))
	for form := range r.known {
		all = append(all, form)
	}
	// The longest first, so that no end of a secret is left over.
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(all))
	for _, form := range all {
		pairs = append(pairs, form, plugin.Redacted)
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// Join makes known what another redactor knows.
func (r *Redactor) Join(other *Redactor) {
	other.mu.Lock()
	forms := slices.Collect(maps.Keys(other.known))
	other.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.learn(forms)
}

// String returns s with every known secret replaced by [redacted].
func (r *Redactor) String(s string) string {
	rep := r.replacer.Load()
	if rep == nil || len(s) < minSecret {
		return s
	}
	return rep.Replace(s)
}

// Bytes is String for bytes. It returns b itself if there is nothing to replace.
func (r *Redactor) Bytes(b []byte) []byte {
	rep := r.replacer.Load()
	if rep == nil || len(b) < minSecret {
		return b
	}
	before := string(b)
	if after := rep.Replace(before); after != before {
		return []byte(after)
	}
	return b
}

// forms lists how a value may look.
func forms(value string) []string {
	if len(value) < minSecret {
		return nil
	}
	all := []string{value}
	add := func(form string) {
		if len(form) >= minForm && form != value {
			all = append(all, form)
		}
	}
	parts := []string{value}
	if lines := strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' }); len(lines) > 1 {
		for _, line := range lines {
			if !strings.HasPrefix(line, "-----") { // PEM's armour is no secret
				add(line)
				parts = append(parts, line)
			}
		}
	}
	for _, part := range parts {
		add(url.QueryEscape(part))
		add(url.PathEscape(part))
		add(jsonInner(part, true))
		add(jsonInner(part, false))
		add(hex.EncodeToString([]byte(part)))
		add(strings.ToUpper(hex.EncodeToString([]byte(part))))
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for shift := range 3 {
				add(base64Middle(enc, part, shift))
			}
		}
	}
	return all
}

// base64Middle is how value looks inside the base64 of something longer that has shift bytes (modulo three) before it.
// The characters at both ends that depend on the neighbours are left out.
func base64Middle(enc *base64.Encoding, value string, shift int) string {
	coded := enc.EncodeToString(append(make([]byte, shift), value...))
	from := (shift*8 + 5) / 6
	bits := (shift + len(value)) * 8
	return coded[min(from, len(coded)):max(bits/6, min(from, len(coded)))]
}

func jsonInner(s string, escapeHTML bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(escapeHTML)
	if err := enc.Encode(s); err != nil {
		return ""
	}
	return strings.Trim(strings.TrimSuffix(b.String(), "\n"), `"`)
}
