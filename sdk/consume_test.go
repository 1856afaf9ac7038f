package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestPoll(t *testing.T) {
	t.Parallel()
	var started cursor
	w := &world{poll: func(_ context.Context, _ *box, cur cursor, emit func(sdk.Page[cursor]) error) error {
		started = cur
		for i := cur.Since + 1; i <= 10; i++ {
			p := sdk.Page[cursor]{Events: []sdk.Event{alert(fmt.Sprintf("a%d", i), 10)}, Cursor: cursor{i}}
			if i == 4 {
				p.Rejected = []sdk.Rejected{{Source: "s", Subject: "bad", Reason: "no id", Raw: []byte("{")}}
			}
			if err := emit(p); err != nil {
				return err
			}
		}
		return nil
	}}
	h := sdktest.Open(t, newConnector(w), good())
	pages, err := h.Poll(t.Context(), "things", nil)
	if err != nil || len(pages) != 10 || started.Since != 0 {
		t.Fatalf("%d pages from %+v, %v", len(pages), started, err)
	}
	if string(pages[6].Cursor) != `{"since":7}` || pages[6].Events[0].Subject != "a7" || pages[3].Rejected[0].Reason != "no id" {
		t.Errorf("got %+v", pages[6])
	}
	// Again from where it stood.
	pages, err = h.Poll(t.Context(), "things", pages[6].Cursor)
	if err != nil || len(pages) != 3 || started.Since != 7 {
		t.Errorf("%d pages from %+v, %v", len(pages), started, err)
	}
	if pages, err = h.Poll(t.Context(), "things", cursor{10}); err != nil || len(pages) != 0 {
		t.Errorf("%d pages when there is nothing new, %v", len(pages), err)
	}
	_, err = h.Poll(t.Context(), "things", []byte(`"no"`))
	want(t, err, plugin.ClassInvalid, plugin.EffectNone, "was not written by trigger box.things")
	_, err = h.Poll(t.Context(), "nothing", nil)
	want(t, err, plugin.ClassBug, plugin.EffectNone, `no trigger "nothing"`)
}

// consume opens a stream on trigger "things".
func consume(t *testing.T, c connectorv1.ConnectorClient, call *connectorv1.CallContext, mode connectorv1.ConsumeMode, window uint32) connectorv1.Connector_ConsumeClient {
	t.Helper()
	s, err := c.Consume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, &connectorv1.Open{Call: call, Trigger: "things", Mode: mode, Window: window, Cursor: []byte(`{"since":5}`)})
	return s
}

func send(t *testing.T, s connectorv1.Connector_ConsumeClient, m any) {
	t.Helper()
	r := &connectorv1.ConsumeRequest{}
	switch m := m.(type) {
	case *connectorv1.Open:
		r.Kind = &connectorv1.ConsumeRequest_Open{Open: m}
	case *connectorv1.Ack:
		r.Kind = &connectorv1.ConsumeRequest_Ack{Ack: m}
	case *connectorv1.Stop:
		r.Kind = &connectorv1.ConsumeRequest_Stop{Stop: m}
	case *connectorv1.Resolve:
		r.Kind = &connectorv1.ConsumeRequest_Resolve{Resolve: m}
	}
	if err := s.Send(r); err != nil {
		t.Fatal(err)
	}
}

func batch(t *testing.T, s connectorv1.Connector_ConsumeClient) *connectorv1.Batch {
	t.Helper()
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m.GetBatch()
}

const (
	pollMode    = connectorv1.ConsumeMode_CONSUME_MODE_POLL
	resolveMode = connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE
)

// With a window of two, the third page waits for an acknowledgement; acknowledgements are cumulative.
func TestWindow(t *testing.T) {
	t.Parallel()
	emitted := make(chan int, 10)
	w := &world{poll: func(_ context.Context, _ *box, _ cursor, emit func(sdk.Page[cursor]) error) error {
		for i := range 5 {
			if err := emit(sdk.Page[cursor]{Cursor: cursor{i}}); err != nil {
				return err
			}
			emitted <- i
		}
		close(emitted)
		return nil
	}}
	c, call := joined(t, w)
	s := consume(t, c, call(), pollMode, 2)
	if a, b := batch(t, s), batch(t, s); a.GetSeq() != 1 || b.GetSeq() != 2 {
		t.Errorf("got %v, %v", a, b)
	}
	<-emitted
	<-emitted
	select {
	case i := <-emitted:
		t.Errorf("page %d went out beyond the window", i)
	default:
	}
	send(t, s, &connectorv1.Ack{Through: 2})
	if a, b := batch(t, s), batch(t, s); a.GetSeq() != 3 || b.GetSeq() != 4 {
		t.Errorf("got %v, %v", a, b)
	}
	send(t, s, &connectorv1.Ack{Through: 4})
	if b := batch(t, s); b.GetSeq() != 5 || b.GetCaughtUp() {
		t.Errorf("got %v", b)
	}
	if b := batch(t, s); b.GetSeq() != 6 || !b.GetCaughtUp() || string(b.GetCursor()) != `{"since":4}` {
		t.Errorf("got %v", b)
	}
	send(t, s, &connectorv1.Ack{Through: 6})
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestPollWithNothingNewKeepsTheCursor(t *testing.T) {
	t.Parallel()
	w := &world{poll: func(context.Context, *box, cursor, func(sdk.Page[cursor]) error) error { return nil }}
	c, call := joined(t, w)
	s := consume(t, c, call(), pollMode, 0)
	if b := batch(t, s); !b.GetCaughtUp() || string(b.GetCursor()) != `{"since":5}` || b.GetSeq() != 1 {
		t.Errorf("got %v", b)
	}
	if err := s.CloseSend(); err != nil { // a host that will not acknowledge does not hold the connector
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestStopEndsThePoll(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	w := &world{poll: func(ctx context.Context, _ *box, _ cursor, emit func(sdk.Page[cursor]) error) error {
		if err := emit(sdk.Page[cursor]{}); err != nil {
			return err
		}
		<-ctx.Done()
		ended <- emit(sdk.Page[cursor]{})
		return ctx.Err()
	}}
	c, call := joined(t, w)
	s := consume(t, c, call(), pollMode, 0)
	batch(t, s)
	send(t, s, &connectorv1.Stop{})
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("emit after stop said nothing")
	}
}

// Pages before the error count, and the error comes after them.
func TestPollThatFailsMidway(t *testing.T) {
	t.Parallel()
	var late func(sdk.Page[cursor]) error
	w := &world{poll: func(_ context.Context, _ *box, _ cursor, emit func(sdk.Page[cursor]) error) error {
		late = emit
		if err := emit(sdk.Page[cursor]{Events: []sdk.Event{alert("a", 1)}, Cursor: cursor{1}}); err != nil {
			return err
		}
		return sdk.Throttled(0, "slow down, %s", token)
	}}
	h := sdktest.Open(t, newConnector(w), good())
	pages, err := h.Poll(t.Context(), "things", nil)
	want(t, err, plugin.ClassThrottled, plugin.EffectNone, "slow down, [redacted]")
	if len(pages) != 1 {
		t.Errorf("%d pages", len(pages))
	}
	if late(sdk.Page[cursor]{}) == nil {
		t.Error("a page was taken after the poll had returned")
	}
	w.poll = func(context.Context, *box, cursor, func(sdk.Page[cursor]) error) error { panic("no") }
	_, err = h.Poll(t.Context(), "things", nil)
	want(t, err, plugin.ClassBug, plugin.EffectNone, "things poll: the connector panicked: no")
}

// A page that is larger than a message is split; only the last part moves the cursor. A broken event and one that is too
// large are kept as rejected objects.
func TestLargeAndBrokenPages(t *testing.T) {
	t.Parallel()
	broken := alert("broken", 1)
	broken.ID = "made-up"
	w := &world{poll: func(_ context.Context, _ *box, _ cursor, emit func(sdk.Page[cursor]) error) error {
		p := sdk.Page[cursor]{Cursor: cursor{9}, Events: []sdk.Event{broken, alert("huge", 3<<20)}}
		for i := range 8 {
			p.Events = append(p.Events, alert(fmt.Sprintf("a%d", i), 900<<10))
		}
		p.Rejected = []sdk.Rejected{{Subject: "bad\xff text", Reason: "r", Raw: []byte{0xff}}}
		return emit(p)
	}}
	h := sdktest.Open(t, newConnector(w), good())
	pages, err := h.Poll(t.Context(), "things", cursor{3})
	if err != nil {
		t.Fatal(err)
	}
	events, rejected := 0, map[string]sdk.Rejected{}
	for i, p := range pages {
		events += len(p.Events)
		for _, r := range p.Rejected {
			rejected[r.Subject] = r
		}
		wantCursor := `{"since":3}`
		if i == len(pages)-1 {
			wantCursor = `{"since":9}`
		}
		if string(p.Cursor) != wantCursor {
			t.Errorf("part %d of %d has cursor %s", i+1, len(pages), p.Cursor)
		}
	}
	if len(pages) < 4 || events != 8 || len(rejected) != 3 {
		t.Errorf("%d parts, %d events, %d rejected", len(pages), events, len(rejected))
	}
	if r := rejected["broken"]; !strings.Contains(r.Reason, "made-up") || string(r.Raw) != string(broken.Data) {
		t.Errorf("broken: %s", r.Reason)
	}
	if r := rejected["huge"]; !strings.Contains(r.Reason, "SHA-256") || len(r.Raw) != plugin.MaxEvent {
		t.Errorf("huge: %s, %d bytes", r.Reason, len(r.Raw))
	}
}

func TestPollCursorTooLarge(t *testing.T) {
	t.Parallel()
	type big struct {
		Text string `json:"text"`
	}
	c := sdk.New("big", "1.0.0", "Big cursors.", func(context.Context, struct{}, sdk.Env) (*world, error) { return &world{}, nil })
	sdk.AddTrigger(c, sdk.Trigger[*world, big]{
		Name: "t", Summary: "t", Emits: []string{"x"},
		Poll: func(_ *world, _ context.Context, _ big, emit func(sdk.Page[big]) error) error {
			return emit(sdk.Page[big]{Cursor: big{strings.Repeat("x", plugin.MaxCursor)}})
		},
	})
	h := sdktest.Open(t, c, nil)
	_, err := h.Poll(t.Context(), "t", nil)
	want(t, err, plugin.ClassBug, plugin.EffectNone, "the cursor has")
}

func TestResolve(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int32
	full := make(chan struct{})
	isFull := once(func() { close(full) })
	w := &world{resolve: func(ctx context.Context, h sdk.Hint) (sdk.Found, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 3 {
			isFull()
		}
		select {
		case <-full: // the first ones wait until three run at once
		case <-ctx.Done():
			return sdk.Found{}, ctx.Err()
		}
		switch h.ID {
		case "gone":
			return sdk.Found{}, sdk.NotFound("no such thing: %s", token)
		case "panic":
			panic("no")
		case "large":
			var f sdk.Found
			for i := range 4 {
				f.Events = append(f.Events, alert(fmt.Sprint(i), 900<<10))
			}
			return f, nil
		}
		return sdk.Found{Events: []sdk.Event{alert(h.ID, 1)}, PollNow: string(h.Data) == `{"missed":true}`}, nil
	}}
	h := sdktest.Open(t, newConnector(w), good())
	hints := []sdk.Hint{{ID: "one"}, {ID: "gone"}, {ID: "panic"}, {ID: "large"}, {ID: "missed", Data: []byte(`{"missed":true}`)}, {ID: "fat", Data: make([]byte, plugin.MaxHint+1)}}
	for i := range 20 {
		hints = append(hints, sdk.Hint{ID: fmt.Sprintf("h%d", i)})
	}
	got, err := h.Resolve(t.Context(), "things", hints...)
	if err != nil || len(got) != len(hints) {
		t.Fatalf("%d outcomes, %v", len(got), err)
	}
	if most.Load() != 3 {
		t.Errorf("%d look-ups ran at once, the limit is 3", most.Load())
	}
	if got[0].Err != nil || got[0].Events[0].Subject != "one" || !got[4].PollNow || got[25].ID != "h19" {
		t.Errorf("got %+v", got[0])
	}
	want(t, got[1].Err, plugin.ClassNotFound, plugin.EffectNone, "no such thing: [redacted]")
	want(t, got[2].Err, plugin.ClassBug, plugin.EffectNone, "panicked")
	want(t, got[3].Err, plugin.ClassTooLarge, plugin.EffectNone, "bytes of events")
	want(t, got[5].Err, plugin.ClassTooLarge, plugin.EffectNone, `hint "fat" has`)
}

// An outcome goes out as soon as it is there: the second hint's answer comes while the first is still looked up.
func TestResolveOutOfOrder(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	w := &world{resolve: func(_ context.Context, h sdk.Hint) (sdk.Found, error) {
		if h.ID == "slow" {
			<-release
		}
		return sdk.Found{}, nil
	}}
	c, call := joined(t, w)
	s := consume(t, c, call(), resolveMode, 0)
	send(t, s, &connectorv1.Resolve{Hints: []*connectorv1.Hint{{Id: "slow"}}})
	send(t, s, &connectorv1.Resolve{Hints: []*connectorv1.Hint{{Id: "fast"}}})
	if m, err := s.Recv(); err != nil || m.GetOutcome().GetId() != "fast" {
		t.Fatalf("got %v, %v", m, err)
	}
	close(release)
	if m, err := s.Recv(); err != nil || m.GetOutcome().GetId() != "slow" {
		t.Fatalf("got %v, %v", m, err)
	}
	// The connection is replaced: the stream says so, and the host opens a new one.
	configure(t, c, "c", 2, good())
	if _, err := s.Recv(); asError(t, plugin.FromError(err)).Reason != plugin.ReasonConfigMismatch {
		t.Errorf("got %v", err)
	}
}

func TestDrainEndsStreams(t *testing.T) {
	t.Parallel()
	first := make(chan struct{})
	w := &world{
		resolve: func(context.Context, sdk.Hint) (sdk.Found, error) { return sdk.Found{}, nil },
		poll: func(_ context.Context, _ *box, _ cursor, emit func(sdk.Page[cursor]) error) error {
			for i := 0; ; i++ {
				if err := emit(sdk.Page[cursor]{Cursor: cursor{i}}); err != nil {
					return err
				}
				if i == 0 {
					close(first)
				}
			}
		},
	}
	c, call := joined(t, w)
	rs := consume(t, c, call(), resolveMode, 0)
	send(t, rs, &connectorv1.Resolve{Hints: []*connectorv1.Hint{{Id: "x"}}})
	if _, err := rs.Recv(); err != nil {
		t.Fatal(err)
	}
	ps := consume(t, c, call(), pollMode, 2)
	<-first
	polled := make(chan error, 1)
	go func() {
		for {
			m, err := ps.Recv()
			if err != nil {
				polled <- err
				return
			}
			if err := ps.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Ack{Ack: &connectorv1.Ack{Through: m.GetBatch().GetSeq()}}}); err != nil && !errors.Is(err, io.EOF) {
				polled <- err
				return
			}
		}
	}()
	resp, err := c.Drain(t.Context(), &connectorv1.DrainRequest{Grace: durationpb.New(1e10)})
	if err != nil || resp.GetCancelled() != 0 || resp.GetFinished() != 2 {
		t.Errorf("got %v, %v", resp, err)
	}
	if e := asError(t, plugin.FromError(<-polled)); e.Reason != plugin.ReasonDraining {
		t.Errorf("the poll ended with %v", e)
	}
	if _, err := rs.Recv(); asError(t, plugin.FromError(err)).Reason != plugin.ReasonDraining {
		t.Errorf("the look-ups ended with %v", err)
	}
}

func TestStreamsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	c, call := joined(t, &world{})
	s, err := c.Consume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, &connectorv1.Ack{Through: 1})
	_, err = s.Recv()
	want(t, plugin.FromError(err), plugin.ClassInvalid, plugin.EffectNone, "must be Open")
	s = consume(t, c, call(), connectorv1.ConsumeMode_CONSUME_MODE_STREAM, 0)
	_, err = s.Recv()
	want(t, plugin.FromError(err), plugin.ClassBug, plugin.EffectNone, "does not support CONSUME_MODE_STREAM")
	stale := call()
	stale.Generation = 9
	s = consume(t, c, stale, pollMode, 0)
	_, err = s.Recv()
	if e := asError(t, plugin.FromError(err)); e.Reason != plugin.ReasonConfigMismatch {
		t.Errorf("got %v", e)
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	var got *sdk.HookRequest
	answer := &sdk.HookResponse{
		Events: []sdk.Event{alert("a", 1)}, Hints: []sdk.Hint{{ID: "h", Data: []byte(`{}`)}}, PollNow: true,
		Refused: map[string]int{"client_state": 2}, Header: http.Header{"X-A": {"1"}}, Body: []byte("ok"),
	}
	var fail error
	w := &world{hook: func(_ context.Context, _ *box, r *sdk.HookRequest) (*sdk.HookResponse, error) {
		got = r
		return answer, fail
	}}
	h := sdktest.Open(t, newConnector(w), good())
	req := &sdk.HookRequest{Path: "/x", Query: "a=b", Body: []byte("{}"), Header: http.Header{"X-Sig": {"s"}}, RemoteAddr: "192.0.2.1:1"}
	resp, err := h.Hook(t.Context(), "things", req)
	if err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.Path != "/x" || got.Query != "a=b" || got.Header.Get("x-sig") != "s" || string(got.Body) != "{}" {
		t.Errorf("request %+v", got)
	}
	if resp.Status != 202 || len(resp.Events) != 1 || resp.Hints[0].ID != "h" || !resp.PollNow || resp.Refused["client_state"] != 2 || resp.Header.Get("X-A") != "1" || string(resp.Body) != "ok" {
		t.Errorf("response %+v", resp)
	}
	for _, tc := range []struct {
		resp *sdk.HookResponse
		err  error
		text string
	}{
		{nil, nil, "neither a response nor an error"},
		{&sdk.HookResponse{Hints: []sdk.Hint{{}}}, nil, "a hint without an id"},
		{&sdk.HookResponse{Hints: []sdk.Hint{{ID: "x", Data: make([]byte, plugin.MaxHint+1)}}}, nil, "more than the limit"},
		{&sdk.HookResponse{Events: []sdk.Event{{ID: "x"}}}, nil, "breaks the rules"},
		{&sdk.HookResponse{Body: make([]byte, plugin.MaxSend)}, nil, "more than the limit"},
		{nil, sdk.Denied("wrong signature %s", token), "wrong signature [redacted]"},
	} {
		answer, fail = tc.resp, tc.err
		if _, err := h.Hook(t.Context(), "things", req); err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("got %v, want %s", err, tc.text)
		}
	}
	_, err = h.Hook(t.Context(), "nothing", req)
	want(t, err, plugin.ClassBug, plugin.EffectNone, "takes webhooks")
}
