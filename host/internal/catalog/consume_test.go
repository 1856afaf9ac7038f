package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/host/internal/catalog"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

type consumeServer = connectorv1.Connector_ConsumeServer

func sendBatch(s consumeServer, b *connectorv1.Batch) error {
	return s.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Batch{Batch: b}})
}

// answerHints answers every hint with one event named after it, except "missing".
func answerHints(s consumeServer) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return nil //nolint:nilerr // the host closes the stream
		}
		for _, h := range m.GetResolve().GetHints() {
			if h.GetId() == "missing" {
				continue
			}
			o := &connectorv1.HintOutcome{Id: h.GetId(), Events: []*connectorv1.Event{{Id: "event of " + h.GetId()}}}
			if err := s.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Outcome{Outcome: o}}); err != nil {
				return err
			}
		}
	}
}

func trigger(t *testing.T, fn func(*connectorv1.Open, consumeServer) error) (*catalog.Catalog, *fake) {
	t.Helper()
	f := newFake("jira")
	f.consume = fn
	c := newCatalog(t, catalog.Options{}, f)
	configure(t, c, conn("a", "jira", `{}`))
	return c, f
}

func TestPollAcknowledgesWhatWasTaken(t *testing.T) {
	t.Parallel()
	acks := make(chan uint64, 3)
	c, _ := trigger(t, func(o *connectorv1.Open, s consumeServer) error {
		if string(o.GetCursor()) != "start" || o.GetTrigger() != "alerts" || o.GetMode() != connectorv1.ConsumeMode_CONSUME_MODE_POLL {
			return fmt.Errorf("opened with %v", o)
		}
		for i := range uint64(3) {
			if err := sendBatch(s, &connectorv1.Batch{Seq: i + 1, Cursor: fmt.Appendf(nil, "c%d", i+1), CaughtUp: i == 2, ConnectionState: fmt.Appendf(nil, "s%d", i)}); err != nil {
				return err
			}
			m, err := s.Recv()
			if err != nil {
				return err
			}
			acks <- m.GetAck().GetThrough()
		}
		return nil
	})
	states := 0
	c.OnState(func(catalog.Connection, []byte) { states++ })
	var got []string
	err := c.Poll(t.Context(), "a", "alerts", []byte("start"), func(_ context.Context, b *connectorv1.Batch) error {
		if states != len(got)+1 {
			t.Error("the state was not saved before its batch was taken")
		}
		got = append(got, string(b.GetCursor()))
		return nil
	})
	if err != nil || strings.Join(got, " ") != "c1 c2 c3" {
		t.Errorf("got %v, %v", got, err)
	}
	if a, b, d := <-acks, <-acks, <-acks; a != 1 || b != 2 || d != 3 {
		t.Errorf("acknowledged %d %d %d", a, b, d)
	}
}

func TestPollEndsWithAReason(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	ok := func(context.Context, *connectorv1.Batch) error { return nil }
	for name, tt := range map[string]struct {
		serve func(consumeServer) error
		on    func(context.Context, *connectorv1.Batch) error
		want  func(*plugin.Error) bool
	}{
		"not taken": {func(s consumeServer) error {
			if err := sendBatch(s, &connectorv1.Batch{Seq: 1}); err != nil {
				return err
			}
			if m, err := s.Recv(); err == nil {
				panic(fmt.Sprint("acknowledged: ", m))
			}
			return nil
		}, func(context.Context, *connectorv1.Batch) error { return full }, func(e *plugin.Error) bool { return errors.Is(e, full) && e.Origin == plugin.OriginHost }},
		"wrong seq": {func(s consumeServer) error { return sendBatch(s, &connectorv1.Batch{Seq: 2}) }, ok, func(e *plugin.Error) bool { return strings.Contains(e.Message, "batch 2 follows batch 0") }},
		"giant cursor": {func(s consumeServer) error {
			return sendBatch(s, &connectorv1.Batch{Seq: 1, Cursor: make([]byte, plugin.MaxCursor+1)})
		}, ok, func(e *plugin.Error) bool { return e.Class() == plugin.ClassTooLarge }},
		"its error": {func(consumeServer) error {
			return &plugin.Error{Code: codes.Unauthenticated, Message: "no", Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone}
		}, ok, func(e *plugin.Error) bool { return e.Class() == plugin.ClassAuth }},
		"idle fault": {func(s consumeServer) error {
			st := plugin.MarshalStatus(&plugin.Error{Code: codes.Unavailable, Message: "vendor is down", Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone})
			return s.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Idle{Idle: &connectorv1.Idle{Status: st}}})
		}, ok, func(e *plugin.Error) bool { return e.Message == "vendor is down" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := trigger(t, func(_ *connectorv1.Open, s consumeServer) error { return tt.serve(s) })
			if e := wantError(t, c.Poll(t.Context(), "a", "alerts", nil, tt.on)); !tt.want(e) || e.SideEffect != plugin.EffectNone {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// A poll that got stuck in a process that is well is given up.
func TestSilentPollIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newFake("jira")
	f.consume = func(_ *connectorv1.Open, s consumeServer) error {
		if err := sendBatch(s, &connectorv1.Batch{Seq: 1, Cursor: []byte("c1")}); err != nil {
			return err
		}
		<-s.Context().Done() // without this news it would hang for ever
		return s.Context().Err()
	}
	batches := 0
	c := newCatalog(t, catalog.Options{Timing: catalog.Timing{Silence: time.Second}}, f)
	configure(t, c, conn("a", "jira", `{}`))
	e := wantError(t, c.Poll(t.Context(), "a", "alerts", nil, func(context.Context, *connectorv1.Batch) error { batches++; return nil }))
	if e.Class() != plugin.ClassTimeout || e.SideEffect != plugin.EffectNone || !strings.Contains(e.Message, "poll of alerts") || batches > 1 {
		t.Errorf("got %+v after %d batches", e, batches)
	}
}

func TestOversizeEventIsRejectedNotLost(t *testing.T) {
	t.Parallel()
	c, _ := trigger(t, func(_ *connectorv1.Open, s consumeServer) error {
		return sendBatch(s, &connectorv1.Batch{Seq: 1, Events: []*connectorv1.Event{
			{Id: "big", Source: "src", Subject: "sub", Data: make([]byte, plugin.MaxEvent+1)}, {Id: "small", Data: []byte(`{}`)},
		}})
	})
	err := c.Poll(t.Context(), "a", "alerts", nil, func(_ context.Context, b *connectorv1.Batch) error {
		if len(b.GetEvents()) != 1 || b.GetEvents()[0].GetId() != "small" {
			t.Errorf("events: %d", len(b.GetEvents()))
		}
		if r := b.GetRejected(); len(r) != 1 || r[0].GetSource() != "src" || r[0].GetSubject() != "sub" || len(r[0].GetRaw()) != plugin.MaxEvent+1 {
			t.Errorf("rejected: %d", len(r))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func hints(ids ...string) []*connectorv1.Hint {
	var out []*connectorv1.Hint
	for _, id := range ids {
		out = append(out, &connectorv1.Hint{Id: id, Data: []byte(`{}`)})
	}
	return out
}

func TestResolveKeepsItsStream(t *testing.T) {
	t.Parallel()
	c, f := trigger(t, func(_ *connectorv1.Open, s consumeServer) error { return answerHints(s) })
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			// Some ids are asked for by several callers at once, and one by the same caller twice.
			ids := []string{fmt.Sprint(i), "shared", fmt.Sprint(i / 2), "shared"}
			out, err := c.Resolve(t.Context(), "a", "alerts", hints(ids...))
			if err != nil || len(out) != len(ids) {
				t.Errorf("got %d, %v", len(out), err)
				return
			}
			for j, o := range out {
				if o.GetId() != ids[j] || len(o.GetEvents()) != 1 || o.GetEvents()[0].GetId() != "event of "+ids[j] {
					t.Errorf("hint %s: %v", ids[j], o)
				}
			}
		})
	}
	wg.Wait()
	if f.streams != 1 {
		t.Errorf("%d streams", f.streams)
	}
	configure(t, c, conn("a", "jira", `{"changed":true}`))
	if _, err := c.Resolve(t.Context(), "a", "alerts", hints("x")); err != nil || f.streams != 2 {
		t.Errorf("after a change: %d streams, %v", f.streams, err)
	}
}

func TestMissingOutcomeSaysWhy(t *testing.T) {
	t.Parallel()
	c, _ := trigger(t, func(_ *connectorv1.Open, s consumeServer) error { return answerHints(s) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	out, err := c.Resolve(ctx, "a", "alerts", hints("1", "missing", "2"))
	if err != nil {
		t.Fatal(err)
	}
	e := plugin.UnmarshalStatus(out[1].GetStatus())
	if out[1].GetId() != "missing" || e == nil || e.Class() != plugin.ClassTimeout {
		t.Errorf("got %v, %v", out[1], e)
	}
	if !slices.Equal([]string{out[0].GetId(), out[2].GetId()}, []string{"1", "2"}) || len(out[0].GetStatus())+len(out[2].GetStatus()) > 0 {
		t.Errorf("the others: %v", out)
	}
	// The stream still serves.
	if _, err := c.Resolve(t.Context(), "a", "alerts", hints("3")); err != nil {
		t.Error(err)
	}
}

func TestResolveSurvivesAnEndedStream(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	n := 0
	c, _ := trigger(t, func(_ *connectorv1.Open, s consumeServer) error {
		mu.Lock()
		n++
		first := n == 1
		mu.Unlock()
		if first {
			_, _ = s.Recv() // a connector that ends an idle stream just as a hint arrives
			return nil
		}
		return answerHints(s)
	})
	if out, err := c.Resolve(t.Context(), "a", "alerts", hints("1")); err != nil || len(out[0].GetStatus()) > 0 {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestResolveFailsAsAWhole(t *testing.T) {
	t.Parallel()
	c, _ := trigger(t, func(*connectorv1.Open, consumeServer) error {
		return &plugin.Error{Code: codes.PermissionDenied, Message: "no", Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone}
	})
	_, err := c.Resolve(t.Context(), "a", "alerts", hints("1", "2"))
	if e := wantError(t, err); e.Class() != plugin.ClassDenied {
		t.Errorf("got %+v", e)
	}
	big := hints("1")
	big[0].Data = make([]byte, plugin.MaxHint+1)
	if e := wantError(t, second(c.Resolve(t.Context(), "a", "alerts", big))); e.Class() != plugin.ClassTooLarge {
		t.Errorf("got %+v", e)
	}
	if out, err := c.Resolve(t.Context(), "a", "alerts", nil); out != nil || err != nil {
		t.Errorf("nothing became %v, %v", out, err)
	}
}

// Hints that do not fit into one message are sent in several.
func TestResolveManyLargeHints(t *testing.T) {
	t.Parallel()
	c, _ := trigger(t, func(_ *connectorv1.Open, s consumeServer) error { return answerHints(s) })
	var hs []*connectorv1.Hint
	for i := range 100 {
		hs = append(hs, &connectorv1.Hint{Id: fmt.Sprint(i), Data: []byte(`"` + strings.Repeat("x", plugin.MaxHint-2) + `"`)})
	}
	out, err := c.Resolve(t.Context(), "a", "alerts", hs)
	if err != nil || len(out) != 100 || len(out[99].GetStatus()) > 0 {
		t.Errorf("got %d, %v", len(out), err)
	}
}

// A stream stays open until the caller has enough; signs of life in between reach it, and what ends the stream does too.
func TestStream(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c, _ := trigger(t, func(o *connectorv1.Open, s consumeServer) error {
		if o.GetMode() != connectorv1.ConsumeMode_CONSUME_MODE_STREAM || string(o.GetCursor()) != "start" {
			return fmt.Errorf("opened with %v", o)
		}
		idle := func(e *plugin.Error) error {
			m := &connectorv1.Idle{}
			if e != nil {
				m.Status = plugin.MarshalStatus(e)
			}
			return s.Send(&connectorv1.ConsumeResponse{Kind: &connectorv1.ConsumeResponse_Idle{Idle: m}})
		}
		err := errors.Join(idle(nil), idle(plugin.Errorf(codes.Unavailable, "hung up")), sendBatch(s, &connectorv1.Batch{Seq: 1, Cursor: []byte("c1")}))
		if m, rerr := s.Recv(); m.GetAck().GetThrough() != 1 {
			err = errors.Join(err, fmt.Errorf("got %v, %w", m, rerr))
		}
		if err == nil {
			<-s.Context().Done()
		}
		ended <- err
		return s.Context().Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	var said []string
	err := c.Stream(ctx, "a", "alerts", []byte("start"), func(_ context.Context, b *connectorv1.Batch) error {
		said = append(said, string(b.GetCursor()))
		time.AfterFunc(10*time.Millisecond, cancel)
		return nil
	}, func(e *plugin.Error) {
		if e == nil {
			said = append(said, "alive")
			return
		}
		said = append(said, e.Message)
	})
	if err == nil || ctx.Err() == nil || strings.Join(said, ", ") != "alive, hung up, c1" {
		t.Errorf("got %v, %v", said, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
