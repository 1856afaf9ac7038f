package sdk_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/plugintest"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

const streamMode = connectorv1.ConsumeMode_CONSUME_MODE_STREAM

type streamFunc func(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error

func streaming(run streamFunc) *sdk.Connector {
	c := sdk.New("radio", "1.0.0", "Listens.", openThing)
	sdk.AddTrigger(c, sdk.Trigger[*thing, cursor]{
		Name: "things", Summary: "Things.", Emits: []string{"x"},
		Stream: func(_ *thing, ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
			return run(ctx, cur, emit)
		},
	})
	return c
}

// counting emits one thing after the other, for ever, from the cursor on.
func counting(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	for i := cur.Since + 1; ; i++ {
		sdk.Idle(ctx, time.Second, nil)
		if err := emit(sdk.Page[cursor]{Events: []sdk.Event{alert(fmt.Sprintf("a%d", i), 1)}, Cursor: cursor{i}}); err != nil {
			return err
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 2)
	h := sdktest.Open(t, streaming(func(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
		err := counting(ctx, cur, emit)
		ended <- ctx.Err()
		return err
	}), nil)
	if tr := h.Describe().GetTriggers()[0]; !tr.GetStreams() || tr.GetPolls() || tr.GetInterval() != nil {
		t.Errorf("described as %v", tr)
	}
	var got []string
	var last any
	take := func(n int) func(sdktest.Page) bool {
		return func(p sdktest.Page) bool {
			if len(got) == n {
				return false
			}
			got, last = append(got, p.Events[0].Subject), p.Cursor
			return true
		}
	}
	idles := 0
	if err := h.Stream(t.Context(), "things", nil, take(3), func(err error) bool { idles++; return err == nil }); err != nil {
		t.Fatal(err)
	}
	if err := h.Stream(t.Context(), "things", last, take(5), nil); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[a1 a2 a3 a4 a5]" || idles == 0 {
		t.Errorf("got %v, %d idles", got, idles)
	}
	for range 2 {
		if err := <-ended; err == nil {
			t.Error("the author's context outlived the stream")
		}
	}
	_, err := h.Poll(t.Context(), "things", nil)
	want(t, err, plugin.ClassBug, plugin.EffectNone, "does not support CONSUME_MODE_POLL")
}

// A fault that the trigger waits out is told without ending it, and without the secrets of the connection.
func TestStreamTellsFaults(t *testing.T) {
	t.Parallel()
	h := sdktest.Open(t, streaming(func(ctx context.Context, _ cursor, _ func(sdk.Page[cursor]) error) error {
		sdk.Idle(ctx, 0, sdk.Throttled(time.Minute, "slow down"))
		<-ctx.Done()
		return ctx.Err()
	}), nil)
	var fault error
	err := h.Stream(t.Context(), "things", nil, func(sdktest.Page) bool { return true }, func(err error) bool { fault = err; return false })
	if err != nil {
		t.Error(err)
	}
	want(t, fault, plugin.ClassThrottled, plugin.EffectNone, "slow down")
}

// What ends a stream from outside: another configuration of its connection, and the end of the process. A stream that
// ends by itself ends without an error, or with the author's.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{}, 1)
	wait := func(ctx context.Context, _ cursor, _ func(sdk.Page[cursor]) error) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	for name, end := range map[string]struct {
		how  func(connectorv1.ConnectorClient) error
		text string
	}{
		"replaced": {func(c connectorv1.ConnectorClient) error {
			_, err := c.Configure(t.Context(), &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{{Connection: "c", Generation: 2}}})
			return err
		}, "was replaced or removed"},
		"drain": {func(c connectorv1.ConnectorClient) error {
			r, err := c.Drain(t.Context(), &connectorv1.DrainRequest{Grace: durationpb.New(10 * time.Second)})
			if r.GetCancelled() != 0 {
				return fmt.Errorf("the stream was cut off: %v", r)
			}
			return err
		}, "is draining"},
	} {
		c := plugintest.Join(t, sdk.Server(streaming(wait)))
		if e := configure(t, c, "c", 1, map[string]any{}); e != nil {
			t.Fatal(e)
		}
		s := consume(t, c, &connectorv1.CallContext{Connection: "c", Generation: 1}, streamMode, 0)
		<-begun
		if err := end.how(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := s.Recv()
		if e := plugin.FromError(err); err == nil || !strings.Contains(e.Error(), end.text) {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
	h := sdktest.Open(t, streaming(func(context.Context, cursor, func(sdk.Page[cursor]) error) error { return nil }), nil)
	if err := h.Stream(t.Context(), "things", nil, nil, nil); err != nil {
		t.Error(err)
	}
	h = sdktest.Open(t, streaming(func(context.Context, cursor, func(sdk.Page[cursor]) error) error { return sdk.Unavailable("hung up") }), nil)
	want(t, h.Stream(t.Context(), "things", nil, nil, nil), plugin.ClassUnavailable, plugin.EffectNone, "hung up")
}

// The connector dies in the middle of a stream: what was acknowledged is not sent again, and nothing is left out.
func TestStreamGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	h := sdktest.Open(t, streaming(counting), nil)
	var got []string
	var last any
	for len(got) < 20 {
		h.CrashAt(5)
		err := h.Stream(t.Context(), "things", last, func(p sdktest.Page) bool {
			got, last = append(got, p.Events[0].Subject), p.Cursor
			return true
		}, nil)
		want(t, err, plugin.ClassUncertain, plugin.EffectUnknown, "crashed")
	}
	for i, s := range got {
		if s != fmt.Sprintf("a%d", i+1) {
			t.Fatalf("got %v", got)
		}
	}
}
