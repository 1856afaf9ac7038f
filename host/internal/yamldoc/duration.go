package yamldoc

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var isoDuration = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// ParseDuration reads 90s, 1h30m, 7d, and ISO 8601 as in PT24H. It takes nothing below zero.
func ParseDuration(s string) (time.Duration, error) {
	if m := isoDuration.FindStringSubmatch(s); m != nil && len(s) > 2 && !strings.HasSuffix(s, "T") {
		total := 0.0
		for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
			if m[i+1] != "" {
				f, err := strconv.ParseFloat(m[i+1], 64)
				if err != nil {
					return 0, err
				}
				total += f * float64(unit)
			}
		}
		if total > float64(maxDuration) {
			return 0, fmt.Errorf("%s is too long", s)
		}
		return time.Duration(total), nil
	}
	days := time.Duration(0)
	rest := s
	if d, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(d, 10, 16)
		if err != nil {
			return 0, errDuration(s)
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	v, err := time.ParseDuration(rest)
	if err != nil {
		return 0, errDuration(s)
	}
	if v < 0 {
		return 0, errors.New("a duration cannot be negative")
	}
	if v > maxDuration-days {
		return 0, fmt.Errorf("%s is too long", s)
	}
	return days + v, nil
}

const maxDuration = 100 * 365 * 24 * time.Hour

func errDuration(s string) error {
	return fmt.Errorf("%s is no duration; write it like 30s, 5m, 1h30m or 7d", Quote(s))
}

// Duration reads a duration from a scalar.
func (n *Node) Duration() (time.Duration, error) {
	if n == nil || n.Kind != Scalar {
		return 0, fmt.Errorf("must be a duration such as 30s, not %s", n.Describe())
	}
	switch n.Value.(type) {
	case string:
		return ParseDuration(n.Text)
	case int, float64:
		return 0, fmt.Errorf("%s has no unit; write %ss, %sm or %sh", n.Text, n.Text, n.Text, n.Text)
	}
	return 0, fmt.Errorf("must be a duration such as 30s, not %s", n.Describe())
}

// FormatDuration writes a duration as people do: 1h, not 1h0m0s.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
