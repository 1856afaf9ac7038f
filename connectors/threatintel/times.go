package threatintel

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

var errTwoEnds = errors.New("give expires_in or valid_until, not both")

func invalid(field string, err error) error { return sdk.Invalid(field, "%v", err) }

// layouts are how feeds write times; without a zone they mean UTC.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 MST", "2006-01-02 15:04", time.DateOnly,
}

// parseTime reads a time, to the millisecond.
func parseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			if t.Year() < 1970 || t.Year() > 9999 {
				break
			}
			return t.UTC().Truncate(time.Millisecond), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-30T08:00:00Z or 2026-11-30", clip(s, 60))
}

// lifetime reads a duration such as 36h, or of days: 90d.
func lifetime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		var days int
		days, err = strconv.Atoi(n)
		d = time.Duration(min(days, 36500)) * 24 * time.Hour
	}
	if err != nil || d < time.Minute {
		return 0, fmt.Errorf("%q is no duration of a minute or more: write 36h or 90d", clip(s, 60))
	}
	return d, nil
}

// stamp writes a time as STIX wants it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// oneAddress says whether a network is one address, and which.
func oneAddress(cidr string) (string, bool) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil || !p.IsSingleIP() {
		return "", false
	}
	return p.Addr().Unmap().String(), true
}
