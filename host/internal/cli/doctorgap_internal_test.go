package cli

import (
	"strings"
	"testing"
	"time"
)

func TestGap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		push, poll int
		says       string
	}{
		{0, 0, ""},
		{0, gapLeast - 1, ""},
		{0, gapLeast, "nothing comes by push"},
		{gapLeast, 0, ""},
		{50, 50, ""},
		{40, 60, "most pushes do not arrive, the last one 1m0s ago"},
		{80, 20, ""},
	} {
		if got := lateBy(c.push, c.poll, time.Minute); (got == "") != (c.says == "") || !strings.HasPrefix(got, c.says) {
			t.Errorf("push %d, poll %d: %q, want %q", c.push, c.poll, got, c.says)
		}
	}
}
