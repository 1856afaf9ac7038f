package loganalytics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
)

const (
	// shortest is the shortest interval that is halved no more.
	shortest = time.Second
	// maxSlices bounds the requests of one query.
	maxSlices = 4096
)

// splitter asks for a result that is too large for one answer in parts. The parts are disjoint: each row belongs to the
// interval [from, to) of its time, so that none is lost at an edge and none is there twice. The first and the last part are
// open at their outer ends, where the timespan of the request cuts, as it does for the query as a whole.
//
// The rows of a part are held back until its answer is known to be whole.
type splitter struct {
	c      *Client
	a      *ask
	span   interval
	column string
	order  direction
	pipe   *pipeline
	why    string // the query is not split, and why

	sum    Summary
	slices int
}

// splitter prepares to split, or returns nil when there is nothing to split by.
func (c *Client) splitter(a *ask, in *QueryInput, span interval) (*splitter, error) {
	s := &splitter{c: c, a: a, span: span, column: in.TimeColumn}
	switch {
	case in.Split == "off", in.Split != "force" && in.Timespan == "":
		return nil, nil //nolint:nilnil // there is none
	case in.Timespan == "":
		return nil, sdk.Invalid("split", "force needs a timespan to split")
	case a.limits.all:
		s.why = "all tables are asked for"
		return s, nil
	}
	s.pipe = analyze(a.bound.query)
	order, err := s.pipe.splittable(s.column)
	switch {
	case in.Split == "force" && s.pipe.problem != nil:
		return nil, sdk.Invalid("query", "it cannot be split: %v", s.pipe.problem)
	case err != nil && in.Split != "force":
		s.why = err.Error()
	default:
		s.order = order
	}
	return s, nil
}

// part is an interval that may be open at its ends.
type part struct {
	interval
	first, last bool // no bound below, above
}

// condition is what makes a row belong to the part.
func (p part) condition(column string) string {
	from := fmt.Sprintf("%s >= datetime(%s)", column, stamp(p.from))
	to := fmt.Sprintf("%s < datetime(%s)", column, stamp(p.to))
	switch {
	case p.first && p.last:
		return ""
	case p.first: // rows without a time are with the first
		return "(" + to + " or isnull(" + column + "))"
	case p.last:
		return from
	}
	return from + " and " + to
}

// run asks for the whole, and for its parts where that is too much.
func (s *splitter) run(ctx context.Context, emit func(rawRow) error) (Summary, error) {
	timespan := s.span.String() // the parts, and their queries, shall mean the same now
	if s.why != "" {
		return s.c.send(ctx, s.a, s.a.bound.text(), timespan, s.a.limits, emit)
	}
	todo := []part{{interval: s.span, first: true, last: true}} // the next one is the last
	done := time.Duration(0)
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		whole, err := s.one(ctx, p, timespan, emit)
		if err != nil {
			return s.sum, err
		}
		if whole {
			done += p.to.Sub(p.from)
			total := s.span.to.Sub(s.span.from)
			if len(todo) > 0 || s.slices > 1 {
				sdk.Progress(ctx, uint64(done/time.Millisecond), uint64(max(total, time.Millisecond)/time.Millisecond),
					fmt.Sprintf("%d rows, interval %d of %d", s.sum.RowCount, s.slices, s.slices+len(todo)))
			}
			if s.sum.Partial {
				break // max_rows is reached, and that is allowed
			}
			continue
		}
		early, late := s.halve(p)
		if s.order == descending {
			early, late = late, early
		}
		todo = append(todo, late, early)
	}
	if s.slices > 1 {
		s.sum.Slices = s.slices
	}
	return s.sum, nil
}

func (s *splitter) halve(p part) (early, late part) {
	mid, _ := p.middle(shortest)
	early, late = p, p
	early.to, early.last = mid, false
	late.from, late.first = mid, false
	return early, late
}

// one asks for a part and gives its rows, or says that it is too much.
func (s *splitter) one(ctx context.Context, p part, timespan string, emit func(rawRow) error) (whole bool, err error) {
	if s.slices >= maxSlices {
		return false, sdk.TooLarge("the result does not fit into %d answers; narrow the query or the timespan", maxSlices)
	}
	text := s.a.bound.text()
	if cond := p.condition(s.column); cond != "" {
		text = s.a.bound.lets + s.pipe.with(cond)
	}
	var held spool
	defer held.close()
	lim := s.a.limits
	// What is allowed to be a part of the whole must not end a part of it.
	lim.partial = false
	lim.rows = s.a.limits.rows - s.sum.RowCount + 1
	sum, err := s.c.send(ctx, s.a, text, timespan, lim, held.add)
	if cut, ok := errors.AsType[*partialError](err); ok && cut.tooLarge() {
		if _, can := p.middle(shortest); can {
			return false, nil
		}
		if !s.a.limits.partial {
			cut.alone = p.String()
			return false, cut
		}
		sum.Partial, sum.PartialReason, err = true, cut.fault.text(), nil
	} else if ok && s.a.limits.partial {
		sum.Partial, sum.PartialReason, err = true, cut.fault.text(), nil
	}
	over := false
	if e, ok := errors.AsType[*sdk.Error](err); ok && held.rows == lim.rows && e.Code == codes.OutOfRange {
		over, err = true, nil // more than max_rows
	}
	if err != nil {
		return false, err
	}
	s.slices++
	n := held.rows
	if left := s.a.limits.rows - s.sum.RowCount; n > left {
		n, over = left, true
	}
	if over && !s.a.limits.partial {
		return false, sdk.TooLarge("the result has more than max_rows = %d rows; narrow the query, raise max_rows, or set allow_partial", s.a.limits.rows)
	}
	given := 0
	err = held.each(func(row rawRow) error {
		if given == n {
			return errCut
		}
		given++
		return emit(row)
	})
	if err != nil && !errors.Is(err, errCut) {
		return false, err
	}
	s.sum.RowCount += given
	s.sum.Partial = s.sum.Partial || over || sum.Partial
	if s.sum.PartialReason == "" {
		s.sum.PartialReason = sum.PartialReason
	}
	if len(s.sum.Columns) == 0 {
		s.sum.Columns = sum.Columns
	}
	if s.sum.Statistics == nil {
		s.sum.Statistics = sum.Statistics
	}
	if s.sum.Render == nil {
		s.sum.Render = sum.Render
	}
	return true, nil
}
