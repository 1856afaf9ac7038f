package loganalytics

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tick is the resolution of a datetime in the service.
const tick = 100 * time.Nanosecond

// interval is a span of time. Which of its ends belong to it is up to who uses it.
type interval struct{ from, to time.Time }

var durationForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9}(?:\.\d{1,7})?)S)?)?$`)
})

// isoDuration is a duration as ISO 8601 writes it; years and months depend on where they are counted from.
type isoDuration struct {
	years, months, days int
	rest                time.Duration
}

func parseDuration(s string) (isoDuration, bool) {
	m := durationForm().FindStringSubmatch(s)
	if m == nil || len(s) < 3 || strings.HasSuffix(s, "T") {
		return isoDuration{}, false
	}
	n := func(i int) int { v, _ := strconv.Atoi(m[i]); return v } // digits, or nothing
	seconds, _ := strconv.ParseFloat(m[7], 64)
	return isoDuration{
		years: n(1), months: n(2), days: 7*n(3) + n(4),
		rest: time.Duration(n(5))*time.Hour + time.Duration(n(6))*time.Minute + time.Duration(seconds*float64(time.Second)).Round(tick),
	}, true
}

func (d isoDuration) after(t time.Time) time.Time {
	return t.AddDate(d.years, d.months, d.days).Add(d.rest)
}

func (d isoDuration) before(t time.Time) time.Time {
	return t.AddDate(-d.years, -d.months, -d.days).Add(-d.rest)
}

// parseTimespan reads what the API takes as timespan: a duration up to now, or an interval of two times or of a time and
// a duration. Times without a zone are UTC.
func parseTimespan(s string, now time.Time) (interval, error) {
	bad := func() (interval, error) {
		return interval{}, fmt.Errorf("%.80q is neither an ISO 8601 duration such as PT24H or P7D, nor an interval such as 2026-09-01T00:00:00Z/2026-09-02T00:00:00Z", s)
	}
	left, right, two := strings.Cut(s, "/")
	if !two {
		d, ok := parseDuration(s)
		if !ok || !d.before(now).Before(now) {
			return bad()
		}
		return interval{d.before(now), now}, nil
	}
	from, fromOK := parseTime(left)
	to, toOK := parseTime(right)
	switch {
	case fromOK && toOK:
	case fromOK:
		d, ok := parseDuration(right)
		if !ok {
			return bad()
		}
		to = d.after(from)
	case toOK:
		d, ok := parseDuration(left)
		if !ok {
			return bad()
		}
		from = d.before(to)
	default:
		return bad()
	}
	if !from.Before(to) {
		return interval{}, fmt.Errorf("the timespan %.80q ends before it begins", s)
	}
	return interval{from, to}, nil
}

func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.9999999", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func (i interval) String() string { return stamp(i.from) + "/" + stamp(i.to) }

// stamp writes a time with the resolution that the service has.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }

// middle is where the interval is halved; ok is false when it is too short for that.
func (i interval) middle(shortest time.Duration) (time.Time, bool) {
	if i.to.Sub(i.from) < 2*shortest {
		return time.Time{}, false
	}
	return i.from.Add(i.to.Sub(i.from) / 2).Truncate(tick), true
}
