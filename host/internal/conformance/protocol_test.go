package conformance_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/casewire/casewire/host/internal/conformance"
	"github.com/casewire/casewire/plugin"
)

// The page that connector authors read names every check, and no check that is not there.
func TestProtocolPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../plugin/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, m := range regexp.MustCompile("`((?:process|describe|configure|invoke|consume|webhook|check|drain|memory|errors|secrets)\\.[a-z-]+)`").FindAllSubmatch(page, -1) {
		named = append(named, string(m[1]))
	}
	var known []string
	for _, r := range conformance.Rules() {
		known = append(known, r.ID)
		if n := len(slices.DeleteFunc(slices.Clone(named), func(s string) bool { return s != r.ID })); n != 1 {
			t.Errorf("plugin/PROTOCOL.md names %s %d times, want once", r.ID, n)
		}
	}
	for _, n := range named {
		if !slices.Contains(known, n) {
			t.Errorf("plugin/PROTOCOL.md names %s, which is no check", n)
		}
	}
	if h := plugin.Handshake(); !regexp.MustCompile(h.MagicCookieKey + "=" + h.MagicCookieValue).Match(page) {
		t.Error("plugin/PROTOCOL.md does not have the cookie")
	}
}
