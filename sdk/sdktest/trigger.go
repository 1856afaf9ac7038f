package sdktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Page is what a poll brought at a time.
type Page struct {
	Events   []sdk.Event
	Rejected []sdk.Rejected
	Cursor   json.RawMessage
}

// Poll runs a trigger's poll once from cursor (nil for the first time; else the cursor's type or the Cursor of a Page)
// until it has caught up, and acknowledges each page. On an error the pages before it are returned too.
func (h *Harness) Poll(ctx context.Context, trigger string, cursor any) ([]Page, error) {
	h.t.Helper()
	var pages []Page
	caughtUp := false
	err := h.consume(ctx, trigger, connectorv1.ConsumeMode_CONSUME_MODE_POLL, cursor, func(b *connectorv1.Batch) bool {
		caughtUp = caughtUp || b.GetCaughtUp()
		if !b.GetCaughtUp() || len(b.GetEvents())+len(b.GetRejected()) > 0 {
			pages = append(pages, h.page(b))
		}
		return true
	}, nil)
	if err == nil && !caughtUp {
		h.t.Errorf("%s: the poll ended well without saying that it has caught up", trigger)
	}
	return pages, err
}

func (h *Harness) page(b *connectorv1.Batch) Page {
	h.t.Helper()
	return Page{Events: h.events(b.GetEvents()), Rejected: rejected(b.GetRejected()), Cursor: b.GetCursor()}
}

// Stream keeps a trigger's stream open from cursor (see Poll) and hands its pages to on as they come. A page for which on
// returns true is acknowledged, and the stream goes on; false stops it as a host does when it ends, without acknowledging
// that page. Idle, if not nil, is told of each Idle: its error, or nil; false stops the stream too. The error is nil when
// the stream was stopped, or was ended by the connector without an error.
func (h *Harness) Stream(ctx context.Context, trigger string, cursor any, on func(Page) bool, idle func(error) bool) error {
	h.t.Helper()
	return h.consume(ctx, trigger, connectorv1.ConsumeMode_CONSUME_MODE_STREAM, cursor, func(b *connectorv1.Batch) bool {
		return on(h.page(b))
	}, idle)
}

func (h *Harness) consume(ctx context.Context, trigger string, mode connectorv1.ConsumeMode, cursor any,
	on func(*connectorv1.Batch) bool, idle func(error) bool,
) error {
	h.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := h.client(ctx)
	if err != nil {
		return h.fail(err)
	}
	stream, err := client.Consume(ctx)
	if err != nil {
		return h.fail(err)
	}
	send := func(r *connectorv1.ConsumeRequest) error {
		if err := stream.Send(r); err != nil && !errors.Is(err, io.EOF) { // at EOF, Recv has the reason
			return h.fail(err)
		}
		return nil
	}
	err = send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Open{Open: &connectorv1.Open{
		Call: h.context(), Trigger: trigger, Mode: mode, Cursor: encode(h.t, cursor, false),
	}}})
	stopped := false
	for seq := uint64(1); err == nil; {
		m, rerr := stream.Recv()
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return h.fail(rerr)
		}
		on, b := on, m.GetBatch()
		if b == nil {
			fault := asError(plugin.UnmarshalStatus(m.GetIdle().GetStatus()))
			if fault != nil {
				h.watch("an idle message", fault.Error())
			}
			if m.GetIdle() == nil || idle == nil || stopped || idle(fault) {
				continue
			}
			on = func(*connectorv1.Batch) bool { return false }
		} else {
			if b.GetSeq() != seq {
				h.t.Errorf("%s: batch %d came where %d was expected", trigger, b.GetSeq(), seq)
			}
			seq++
		}
		switch {
		case stopped:
		case on(b):
			h.keep(b.GetConnectionState())
			err = send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Ack{Ack: &connectorv1.Ack{Through: b.GetSeq()}}})
		default:
			stopped = true
			err = send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Stop{Stop: &connectorv1.Stop{}}})
		}
	}
	return err
}

// asError keeps a nil *sdk.Error from becoming a non-nil error.
func asError(e *sdk.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// Hook hands a trigger one inbound request.
func (h *Harness) Hook(ctx context.Context, trigger string, req *sdk.HookRequest) (*sdk.HookResponse, error) {
	h.t.Helper()
	in := &connectorv1.HandleWebhookRequest{
		Trigger: trigger, Method: req.Method, Path: req.Path, Query: req.Query, Body: req.Body,
		RemoteAddr: req.RemoteAddr, Headers: map[string]string{},
	}
	if in.GetMethod() == "" {
		in.Method = "POST"
	}
	for k := range req.Header {
		in.Headers[k] = req.Header.Get(k)
	}
	client, err := h.client(ctx)
	if err != nil {
		return nil, h.fail(err)
	}
	in.Call = h.context()
	resp, err := client.HandleWebhook(ctx, in)
	if err != nil {
		return nil, h.fail(err)
	}
	h.watch("the answer to a webhook", string(resp.GetBody()))
	out := &sdk.HookResponse{
		Status: int(resp.GetStatus()), Body: resp.GetBody(), Events: h.events(resp.GetEvents()), PollNow: resp.GetPollNow(),
	}
	for k, v := range resp.GetHeaders() {
		if out.Header == nil {
			out.Header = map[string][]string{}
		}
		out.Header.Set(k, v)
	}
	for _, hint := range resp.GetHints() {
		out.Hints = append(out.Hints, sdk.Hint{ID: hint.GetId(), Data: hint.GetData(), Attempt: int(hint.GetAttempt())})
	}
	for k, n := range resp.GetRefused() {
		if out.Refused == nil {
			out.Refused = map[string]int{}
		}
		out.Refused[k] = int(n)
	}
	return out, nil
}

// Outcome is what became of a hint.
type Outcome struct {
	ID string
	sdk.Found
	Err *sdk.Error // nil: found
}

// Resolve looks hints up and returns one outcome for each, in the order of the hints.
func (h *Harness) Resolve(ctx context.Context, trigger string, hints ...sdk.Hint) ([]Outcome, error) {
	h.t.Helper()
	client, err := h.client(ctx)
	if err != nil {
		return nil, h.fail(err)
	}
	stream, err := client.Consume(ctx)
	if err != nil {
		return nil, h.fail(err)
	}
	req := &connectorv1.Resolve{}
	for _, hint := range hints {
		req.Hints = append(req.Hints, &connectorv1.Hint{Id: hint.ID, Data: hint.Data, Attempt: uint32(max(0, hint.Attempt))})
	}
	err = errors.Join(
		stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Open{Open: &connectorv1.Open{
			Call: h.context(), Trigger: trigger, Mode: connectorv1.ConsumeMode_CONSUME_MODE_RESOLVE,
		}}}),
		stream.Send(&connectorv1.ConsumeRequest{Kind: &connectorv1.ConsumeRequest_Resolve{Resolve: req}}),
		stream.CloseSend(),
	)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, h.fail(err)
	}
	var out []Outcome
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return out, h.fail(err)
		}
		o := m.GetOutcome()
		one := Outcome{ID: o.GetId(), Err: plugin.UnmarshalStatus(o.GetStatus())}
		one.Events, one.Rejected, one.PollNow = h.events(o.GetEvents()), rejected(o.GetRejected()), o.GetPollNow()
		if one.Err != nil {
			h.watch("an outcome", one.Err.Error(), fmt.Sprint(one.Err.Meta))
		}
		out = append(out, one)
	}
	place := func(o Outcome) int { return slices.IndexFunc(hints, func(x sdk.Hint) bool { return x.ID == o.ID }) }
	slices.SortStableFunc(out, func(a, b Outcome) int { return place(a) - place(b) })
	if len(out) != len(hints) {
		h.t.Errorf("%s: %d hints had %d outcomes", trigger, len(hints), len(out))
	}
	return out, nil
}

func (h *Harness) events(in []*connectorv1.Event) []sdk.Event {
	h.t.Helper()
	var out []sdk.Event
	for _, p := range in {
		e := event.FromProto(p)
		if err := e.Check(); err != nil {
			h.t.Errorf("event %s breaks the rules: %v", e.ID, err)
		}
		h.watch("event "+e.ID, string(e.Data))
		out = append(out, e)
	}
	return out
}

func rejected(in []*connectorv1.Rejected) []sdk.Rejected {
	var out []sdk.Rejected
	for _, r := range in {
		out = append(out, sdk.Rejected{Source: r.GetSource(), Subject: r.GetSubject(), Reason: r.GetReason(), Raw: r.GetRaw()})
	}
	return out
}
