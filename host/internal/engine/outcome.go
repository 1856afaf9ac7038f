package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/plugin"
)

// What a step says instead of an output. A body of concurrent turns may say several things; worse says which one counts.
type (
	// suspension hands the run back to the store until a time.
	suspension struct {
		until  time.Time
		reason string
		class  plugin.Class
		busy   bool // waits for a key that another run holds, and has done nothing itself
		// regrouped says that the run goes by another case key now and has to begin again.
		regrouped bool
	}
	// parking stops the run for a person: an outcome cannot be known.
	parking struct {
		step   string
		reason string
	}
	// cancellation stops the run between two steps because somebody asked for it.
	cancellation struct{ reason string }
	// failure is a step that failed for good.
	failure struct {
		step  string // path of the innermost step
		class plugin.Class
		text  string
		final bool // on_error: dead_letter; an outer step's on_error: continue does not catch it
	}
)

// errGone says that the lease is lost: nothing more may be written.
var errGone = errors.New("engine: run given up")

func (s *suspension) Error() string { return "suspended: " + s.reason }
func (p *parking) Error() string    { return p.reason }
func (f *failure) Error() string    { return f.text }

func (c *cancellation) Error() string { return c.reason }

// worse picks what counts of the outcomes of concurrent turns. A turn that waits may yet learn the fate of a write, so it
// goes before the failures and parkings of others, which stand in the journal and are met again at the resume. But one that
// waits for another run's key goes last: were this run to wait with a key of its own that it can do nothing about, and the
// other likewise, both would wait for ever.
func worse(a, b error) error {
	if rank(b) > rank(a) {
		return b
	}
	if rank(a) > rank(b) {
		return a
	}
	if x, ok := a.(*suspension); ok { //nolint:errorlint // never wrapped
		if y, ok := b.(*suspension); ok && y.until.Before(x.until) { //nolint:errorlint // never wrapped
			return b
		}
	}
	return a
}

func rank(err error) int {
	switch err := err.(type) { //nolint:errorlint // never wrapped
	case nil:
		return 0
	case *failure:
		return 2
	case *cancellation:
		return 3
	case *parking:
		return 4
	case *suspension:
		if err.busy {
			return 1
		}
		return 5
	default: // errGone
		return 6
	}
}

// ended says whether the run will not come back to where it is.
func ended(err error) bool {
	switch err.(type) { //nolint:errorlint // never wrapped
	case nil, *suspension:
		return false
	default:
		return true
	}
}

func failed(path string, class plugin.Class, format string, args ...any) *failure {
	return &failure{step: path, class: class, text: fmt.Sprintf(format, args...)}
}

// target names an action and where it goes, for people.
func target(s *flow.Step) string {
	return fmt.Sprintf("%s.%s on connection %q", s.Connector, s.Action, s.Connection)
}
