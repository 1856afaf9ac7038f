package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

var consumeChecks = []check{
	{
		"consume.unknown", "An unknown trigger, and a mode that a trigger does not support, are answered with UNIMPLEMENTED or NOT_FOUND and Failure{NONE}.",
		"Look the trigger up when Open arrives.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			opens := []*connectorv1.Open{{Call: s.call(k), Trigger: "conformance_none", Mode: connectorv1.ConsumeMode_CONSUME_MODE_POLL}}
			for _, t := range s.about.GetTriggers() {
				for _, m := range []connectorv1.ConsumeMode{connectorv1.ConsumeMode_CONSUME_MODE_UNSPECIFIED, connectorv1.ConsumeMode_CONSUME_MODE_POLL, connectorv1.ConsumeMode_CONSUME_MODE_STREAM, connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE} {
					if !slices.Contains(modes(t), m) {
						opens = append(opens, &connectorv1.Open{Call: s.call(k), Trigger: t.GetName(), Mode: m})
					}
				}
			}
			for _, o := range opens {
				_, err := p.consume(ctx, o)
				if _, bad := refusal(err, codes.Unimplemented, codes.NotFound, codes.InvalidArgument); bad != nil {
					return fmt.Errorf("%s in %s: %w", o.GetTrigger(), o.GetMode(), bad)
				}
			}
			return nil
		},
	},
	{
		"consume.poll", "A poll sends batches 1, 2, 3, …, each with a cursor of at most 64 KiB and well-formed events of the types that the trigger emits, says caught_up with the last, and ends the stream once they are acknowledged.",
		"Number batches from 1, put the cursor that stands behind the events into their batch, and return when you have caught up.",
		func(ctx context.Context, s *suite) error {
			return s.eachPoll(ctx, func(p *process, t *connectorv1.Trigger) error {
				batches, err := p.consume(ctx, &connectorv1.Open{Call: s.call(live), Trigger: t.GetName(), Mode: connectorv1.ConsumeMode_CONSUME_MODE_POLL})
				if err != nil {
					return err
				}
				return judgeBatches(t, batches)
			})
		},
	},
	{
		"consume.resume", "A poll that goes on from a cursor brings nothing twice that was acknowledged with it, and an event has the same id whenever it comes.",
		"Let the cursor say what was sent; make ids of what identifies the object and its revision.",
		func(ctx context.Context, s *suite) error {
			return s.eachPoll(ctx, func(p *process, t *connectorv1.Trigger) error {
				open := &connectorv1.Open{Call: s.call(live), Trigger: t.GetName(), Mode: connectorv1.ConsumeMode_CONSUME_MODE_POLL}
				first, err := p.consume(ctx, open)
				if err != nil {
					return err
				}
				again, err := p.consume(ctx, open)
				if err != nil {
					return err
				}
				one, two := eventIDs(first), eventIDs(again)
				for id := range one {
					if !two[id] {
						return fmt.Errorf("event %q of the first poll is not in the second from the same cursor", id)
					}
				}
				if len(first) == 0 {
					return nil
				}
				open.Cursor = first[len(first)-1].GetCursor()
				rest, err := p.consume(ctx, open)
				if err != nil {
					return fmt.Errorf("going on from the last cursor: %w", err)
				}
				for id := range eventIDs(rest) {
					if one[id] {
						return fmt.Errorf("event %q comes again after its cursor was acknowledged", id)
					}
				}
				return nil
			})
		},
	},
	{
		"consume.window", "While acknowledgements are withheld no more than window batches come.",
		"Count the batches that were sent and not acknowledged, and wait.",
		func(ctx context.Context, s *suite) error {
			return s.eachPoll(ctx, func(p *process, t *connectorv1.Trigger) error { return s.withhold(ctx, p, t) })
		},
	},
	{
		"consume.stop", "Stop ends a poll within 1.5 s, whatever it waits for.",
		"Read the host's messages while you work, and cancel the work on Stop.",
		func(ctx context.Context, s *suite) error {
			p, err := s.connection(ctx, silent)
			if err != nil {
				return err
			}
			for _, t := range s.about.GetTriggers() {
				if !t.GetPolls() {
					continue
				}
				stream, err := p.open(ctx, &connectorv1.Open{Call: s.call(silent), Trigger: t.GetName(), Mode: connectorv1.ConsumeMode_CONSUME_MODE_POLL})
				if err != nil {
					return err
				}
				held, cancel := context.WithTimeout(ctx, 3*time.Second)
				_ = s.silent.await(held, func(open int) bool { return open > 0 }) // a poll may need no vendor
				cancel()
				return stops(stream, func() error {
					return stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Stop{Stop: &connectorv1.Stop{}}})
				})
			}
			return skipf("no trigger polls")
		},
	},
	{
		"consume.stream", "A trigger that streams stays open with nothing to send, sends batches as a poll does, and ends within 1.5 s of Stop.",
		"Wait for the vendor until Stop or the end of the call, and send Idle now and then.",
		func(ctx context.Context, s *suite) error {
			if _, err := s.process(ctx); err != nil {
				return err
			}
			if !slices.ContainsFunc(s.about.GetTriggers(), (*connectorv1.Trigger).GetStreams) {
				return skipf("no trigger streams")
			}
			p, err := s.connection(ctx, live)
			if err != nil {
				return err
			}
			for _, t := range s.about.GetTriggers() {
				if t.GetStreams() {
					if err := s.listen(ctx, p, t); err != nil {
						return fmt.Errorf("%s: %w", t.GetName(), err)
					}
				}
			}
			return nil
		},
	},
	{
		"consume.resolve", "Every hint gets exactly one outcome, in any order; one that leads nowhere or makes no sense does not end the stream, and the end of the hints does.",
		"Answer a bad hint with a status in its outcome; return when the host closes its side.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			n := 0
			for _, t := range s.about.GetTriggers() {
				if !t.GetResolves() {
					continue
				}
				n++
				if err := s.hints(ctx, p, k, t); err != nil {
					return fmt.Errorf("%s: %w", t.GetName(), err)
				}
			}
			if n == 0 {
				return skipf("no trigger resolves hints")
			}
			return nil
		},
	},
}

// modes lists the modes that a trigger supports.
func modes(t *connectorv1.Trigger) []connectorv1.ConsumeMode {
	var out []connectorv1.ConsumeMode
	if t.GetPolls() {
		out = append(out, connectorv1.ConsumeMode_CONSUME_MODE_POLL)
	}
	if t.GetStreams() {
		out = append(out, connectorv1.ConsumeMode_CONSUME_MODE_STREAM)
	}
	if t.GetResolves() {
		out = append(out, connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE)
	}
	return out
}

// open opens a stream.
func (p *process) open(ctx context.Context, o *connectorv1.Open) (connectorv1.Connector_ConsumeClient, error) {
	stream, err := p.client.Consume(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Open{Open: o}})
	if errors.Is(err, io.EOF) {
		err = nil // Recv has the reason
	}
	return stream, err
}

// consume runs a trigger to its end and acknowledges what comes.
func (p *process) consume(ctx context.Context, o *connectorv1.Open) ([]*connectorv1.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	stream, err := p.open(ctx, o)
	if err != nil {
		return nil, err
	}
	var out []*connectorv1.Batch
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if b := m.GetBatch(); b != nil {
			out = append(out, b)
			if err := ack(stream, b.GetSeq()); err != nil {
				return out, err
			}
		}
	}
}

func ack(stream connectorv1.Connector_ConsumeClient, through uint64) error {
	err := stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Ack{Ack: &connectorv1.Ack{Through: through}}})
	if errors.Is(err, io.EOF) {
		return nil // Recv has the reason
	}
	return err
}

// eachPoll judges every trigger that polls, at a working vendor.
func (s *suite) eachPoll(ctx context.Context, judge func(*process, *connectorv1.Trigger) error) error {
	if _, err := s.process(ctx); err != nil {
		return err
	}
	if !slices.ContainsFunc(s.about.GetTriggers(), (*connectorv1.Trigger).GetPolls) {
		return skipf("no trigger polls")
	}
	p, err := s.connection(ctx, live)
	if err != nil {
		return err
	}
	for _, t := range s.about.GetTriggers() {
		if !t.GetPolls() {
			continue
		}
		if err := judge(p, t); err != nil {
			return fmt.Errorf("%s: %w", t.GetName(), err)
		}
	}
	return nil
}

func judgeBatches(t *connectorv1.Trigger, batches []*connectorv1.Batch) error {
	if err := judgeEach(t, batches); err != nil {
		return err
	}
	if n := len(batches); n == 0 || !batches[n-1].GetCaughtUp() {
		return errors.New("the poll ended without a batch that says caught_up")
	}
	return nil
}

func judgeEach(t *connectorv1.Trigger, batches []*connectorv1.Batch) error {
	for i, b := range batches {
		if b.GetSeq() != uint64(i+1) {
			return fmt.Errorf("batch %d has seq %d", i+1, b.GetSeq())
		}
		if n := len(b.GetCursor()); n > plugin.MaxCursor {
			return fmt.Errorf("batch %d has a cursor of %d bytes, more than %d", i+1, n, plugin.MaxCursor)
		}
		for _, p := range b.GetEvents() {
			e := event.FromProto(p)
			if err := e.Check(); err != nil {
				return fmt.Errorf("event %q: %w", p.GetId(), err)
			}
			if !slices.Contains(t.GetEmits(), e.Type) {
				return fmt.Errorf("event %q has the type %q, which the trigger does not say that it emits", e.ID, e.Type)
			}
		}
	}
	return nil
}

func eventIDs(batches []*connectorv1.Batch) map[string]bool {
	out := map[string]bool{}
	for _, b := range batches {
		for _, e := range b.GetEvents() {
			out[e.GetSource()+" "+e.GetId()] = true
		}
	}
	return out
}

// withhold opens a poll with a window of one, withholds the acknowledgement, and then gives it.
func (s *suite) withhold(ctx context.Context, p *process, t *connectorv1.Trigger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := p.open(ctx, &connectorv1.Open{Call: s.call(live), Trigger: t.GetName(), Mode: connectorv1.ConsumeMode_CONSUME_MODE_POLL, Window: 1})
	if err != nil {
		return err
	}
	batches := make(chan *connectorv1.Batch)
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			if b := m.GetBatch(); b != nil {
				select {
				case batches <- b:
				case <-ctx.Done():
				}
			}
		}
	}()
	next := func(wait time.Duration) (*connectorv1.Batch, error) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case b := <-batches:
			return b, nil
		case err := <-ended:
			ended <- err
			return nil, err
		case <-timer.C:
			return nil, nil //nolint:nilnil // nothing came, as it should be
		}
	}
	for n := 0; ; n++ {
		b, err := next(8 * time.Second)
		switch {
		case errors.Is(err, io.EOF) && n > 1:
			return nil
		case errors.Is(err, io.EOF):
			return skipf("the poll brings a single batch; the window cannot be seen")
		case err != nil:
			return err
		case b == nil:
			return latef("no batch within 8 s of the acknowledgement of batch %d", n)
		}
		if n < 2 {
			early, err := next(400 * time.Millisecond)
			if early != nil {
				return fmt.Errorf("batch %d came before batch %d was acknowledged, although the window is 1", early.GetSeq(), b.GetSeq())
			}
			if errors.Is(err, io.EOF) && !b.GetCaughtUp() {
				return fmt.Errorf("the stream ended before batch %d was acknowledged", b.GetSeq())
			}
		}
		if err := ack(stream, b.GetSeq()); err != nil {
			return err
		}
	}
}

// listen keeps a stream open for a moment, and then ends it.
func (s *suite) listen(ctx context.Context, p *process, t *connectorv1.Trigger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := p.open(ctx, &connectorv1.Open{Call: s.call(live), Trigger: t.GetName(), Mode: connectorv1.ConsumeMode_CONSUME_MODE_STREAM})
	if err != nil {
		return err
	}
	var batches []*connectorv1.Batch
	var mu sync.Mutex
	over := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				over <- err
				return
			}
			if b := m.GetBatch(); b != nil {
				mu.Lock()
				batches = append(batches, b)
				mu.Unlock()
				_ = ack(stream, b.GetSeq()) // Recv tells what went wrong
			}
		}
	}()
	quiet := time.NewTimer(time.Second)
	defer quiet.Stop()
	select {
	case err := <-over:
		return fmt.Errorf("the stream ended by itself: %w", err)
	case <-quiet.C:
	}
	if err := stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Stop{Stop: &connectorv1.Stop{}}}); err != nil {
		return err
	}
	late := time.NewTimer(cancelLimit + slack)
	defer late.Stop()
	select {
	case err := <-over:
		if _, bad := typed(err); !errors.Is(err, io.EOF) && bad != nil {
			return bad
		}
	case <-late.C:
		return latef("it is still open %v after Stop", cancelLimit)
	}
	mu.Lock()
	defer mu.Unlock()
	return judgeEach(t, batches)
}

// stops demands that a stream ends soon after it was told to.
func stops(stream connectorv1.Connector_ConsumeClient, tell func() error) error {
	begin := time.Now()
	if err := tell(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	over := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				over <- err
				return
			}
		}
	}()
	t := time.NewTimer(cancelLimit + slack)
	defer t.Stop()
	select {
	case err := <-over:
		if errors.Is(err, io.EOF) {
			return nil
		}
		_, bad := typed(err)
		return bad
	case <-t.C:
		return latef("the stream is still open after %v", time.Since(begin).Round(10*time.Millisecond))
	}
}

// hints asks for a few hints of which none leads anywhere.
func (s *suite) hints(ctx context.Context, p *process, k kind, t *connectorv1.Trigger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := p.open(ctx, &connectorv1.Open{Call: s.call(k), Trigger: t.GetName(), Mode: connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE})
	if err != nil {
		return err
	}
	data := [][]byte{[]byte(`{"id":"conformance-none"}`), nil, []byte(`not JSON`), []byte(`[1,2,3]`), []byte(`{"kind":{}}`)}
	ask := func(round string) error {
		want := map[string]bool{}
		req := &connectorv1.Resolve{}
		for i, d := range data {
			id := fmt.Sprintf("%s-%d", round, i)
			want[id] = true
			req.Hints = append(req.Hints, &connectorv1.Hint{Id: id, Data: d, Attempt: 1})
		}
		if err := stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Resolve{Resolve: req}}); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for len(want) > 0 {
			m, err := stream.Recv()
			if err != nil {
				return fmt.Errorf("the stream ended with %d of %d outcomes missing: %w", len(want), len(data), err)
			}
			o := m.GetOutcome()
			if o == nil {
				continue
			}
			if !want[o.GetId()] {
				return fmt.Errorf("the outcome %q was not asked for, or came twice", o.GetId())
			}
			delete(want, o.GetId())
			if e := plugin.UnmarshalStatus(o.GetStatus()); e == nil && len(o.GetEvents()) > 0 {
				return fmt.Errorf("the hint %q, which leads nowhere, became %d events", o.GetId(), len(o.GetEvents()))
			}
		}
		return nil
	}
	for _, round := range []string{"a", "b"} { // the second shows that the stream lives on
		if err := ask(round); err != nil {
			return err
		}
	}
	return stops(stream, stream.CloseSend)
}

// splitLines yields the lines of NDJSON without their line feeds.
func splitLines(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(b) {
			if !yield(bytes.TrimSuffix(line, []byte("\n"))) {
				return
			}
		}
	}
}
