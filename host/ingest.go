package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/casewire/casewire/host/flow/view"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

// ingest makes one intake transaction from what a connector sent.
func (in *intake) ingest(via store.Via, events []*connectorv1.Event, rejected []*connectorv1.Rejected) store.Ingest {
	req := store.Ingest{
		Connection: in.key.connection, Trigger: in.key.trigger, Tenant: in.tenant, Via: via, Now: time.Now(),
	}
	in.add(&req, events, rejected)
	return req
}

// add checks events and finds the flows that answer them. What cannot be used is kept whole as a dead letter.
func (in *intake) add(req *store.Ingest, events []*connectorv1.Event, rejected []*connectorv1.Rejected) {
	for _, r := range rejected {
		req.DeadLetters = append(req.DeadLetters, store.DeadLetter{
			Kind: "event", Connection: in.key.connection, Trigger: in.key.trigger, Subject: r.GetSubject(),
			Reason: "cannot be normalized: " + r.GetReason(), Class: string(plugin.ClassInvalid), Raw: r.GetRaw(), Created: req.Now,
		})
	}
	for _, p := range events {
		ev := event.FromProto(p)
		incoming, err := in.route(ev)
		if err != nil {
			raw, merr := json.Marshal(ev)
			if merr != nil {
				raw = ev.Data
			}
			req.DeadLetters = append(req.DeadLetters, store.DeadLetter{
				Kind: "event", Connection: in.key.connection, Trigger: in.key.trigger, Subject: ev.Subject,
				Reason: err.Error(), Class: string(plugin.ClassInvalid), Raw: raw, Created: req.Now,
			})
			continue
		}
		for i := range incoming.Runs {
			if incoming.Runs[i].State == store.RunDeadLetter {
				r := incoming.Runs[i]
				req.DeadLetters = append(req.DeadLetters, store.DeadLetter{
					Kind: "run", Run: r.ID, Flow: r.Flow, Step: "where", Connection: in.key.connection, Trigger: in.key.trigger,
					Subject: ev.Subject, Reason: r.Reason, Class: string(plugin.ClassInvalid), Created: req.Now,
				})
			}
		}
		req.Events = append(req.Events, incoming)
	}
}

// route checks one event and lists the runs that it starts.
func (in *intake) route(ev event.Event) (store.Incoming, error) {
	if err := ev.Check(); err != nil {
		return store.Incoming{}, fmt.Errorf("the connector sent an invalid event: %w", err)
	}
	v, err := view.New(ev, ev.PartitionKey)
	if err != nil {
		return store.Incoming{}, fmt.Errorf("the event's data cannot be read: %w", err)
	}
	out, dead := store.Incoming{Event: ev}, 0
	if v.Incident != nil && v.Incident.RedirectedTo != "" {
		out.MergedInto = event.SiblingKey(ev.PartitionKey, v.Incident.RedirectedTo)
	}
	for _, b := range in.host.flows.answering(in.key) {
		run := store.NewRun{
			Flow: b.flow.Name, FlowVersion: b.flow.Version, GroupBy: b.trigger.GroupBy,
			Connection: in.key.connection, Trigger: in.key.trigger, EventSource: ev.Source, EventID: ev.ID,
		}
		if b.trigger.Where != nil {
			ok, err := b.trigger.Where.Test(env(v, ev.PartitionKey, ""))
			if err != nil {
				// Whether the flow wants it cannot be told: show it rather than pass it over.
				id, _ := uuid.NewV7()
				run.ID, run.State, run.Reason = id.String(), store.RunDeadLetter, "where: "+err.Error()
				dead++
			} else if !ok {
				continue
			}
		}
		out.Runs = append(out.Runs, run)
	}
	in.host.views.put(&ev, v, len(out.Runs)-dead)
	return out, nil
}

// commit makes the intake durable and wakes the engine.
func (in *intake) commit(ctx context.Context, req store.Ingest) error {
	outcomes, err := in.host.store.Ingest(ctx, req)
	if err != nil {
		return fmt.Errorf("keep events of %s: %w", in.key.connection, err)
	}
	accepted, runs := 0, 0
	for i, o := range outcomes {
		if o.Verdict == store.Accepted {
			accepted++
		} else {
			in.host.views.drop(&req.Events[i].Event)
		}
		runs += len(o.Runs)
	}
	if runs > 0 {
		in.host.engine.Wake()
	}
	in.mu.Lock()
	if req.Via == store.ViaPush {
		in.status.FoundByPush += accepted
	} else {
		in.status.FoundByPoll += accepted
	}
	in.mu.Unlock()
	return nil
}

// ErrNoHook means that there is no such webhook.
var ErrNoHook = errors.New("host: no such webhook")

// WebhookRules returns what a webhook's sender must keep to, or false when there is no such webhook in use.
func (h *Host) WebhookRules(connection, trigger string) (*connectorv1.WebhookRules, bool) {
	in := h.intake(connection, trigger)
	if in == nil || in.trigger.GetWebhook() == nil {
		return nil, false
	}
	return in.trigger.GetWebhook(), true
}

// Webhook hands one inbound request to its connector, makes what it brought durable, and returns the answer for the
// sender. An error means that nothing was accepted: answer 503, and the sender tries again.
func (h *Host) Webhook(ctx context.Context, connection, trigger string, req *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
	in := h.intake(connection, trigger)
	if in == nil {
		return nil, ErrNoHook
	}
	h.acks.Add(1)
	defer h.acks.Add(-1)
	resp, err := h.catalog.Webhook(ctx, connection, trigger, req)
	if err != nil {
		return nil, err
	}
	if len(resp.GetEvents()) > 0 {
		if err := in.commit(ctx, in.ingest(store.ViaPush, resp.GetEvents(), nil)); err != nil {
			return nil, err
		}
	}
	if hints := resp.GetHints(); len(hints) > 0 {
		now := time.Now()
		keep := make([]store.Hint, len(hints))
		for i, x := range hints {
			keep[i] = store.Hint{Connection: connection, Trigger: trigger, ID: x.GetId(), Data: x.GetData(), Received: now}
		}
		if _, err := h.store.AddHints(ctx, keep); err != nil {
			return nil, fmt.Errorf("keep hints of %s: %w", connection, err)
		}
		wake(in.hints)
	}
	if resp.GetPollNow() {
		wake(in.pollNow)
	}
	in.mu.Lock()
	if len(resp.GetHints())+len(resp.GetEvents()) > 0 {
		in.status.LastPush = time.Now()
	}
	for reason, n := range resp.GetRefused() {
		in.refused(reason, int(n))
	}
	in.mu.Unlock()
	return resp, nil
}

// maxReasons bounds the reasons that are counted apart: connectors name them, and each becomes a time series.
const maxReasons = 32

// refused counts; the caller holds in.mu.
func (in *intake) refused(reason string, n int) {
	if _, known := in.status.Refused[reason]; !known && len(in.status.Refused) >= maxReasons {
		reason = "other"
	}
	in.status.Refused[reason] += n
}

// Refuse counts a request that was refused before its connector was asked.
func (h *Host) Refuse(connection, trigger, reason string) {
	if in := h.intake(connection, trigger); in != nil {
		in.mu.Lock()
		in.refused(reason, 1)
		in.mu.Unlock()
	}
}

// PollNow asks for a poll at once. It returns false when there is no such trigger in use.
func (h *Host) PollNow(connection, trigger string) bool {
	in := h.intake(connection, trigger)
	if in != nil {
		wake(in.pollNow)
	}
	return in != nil
}

func (h *Host) intake(connection, trigger string) *intake {
	h.imu.RLock()
	defer h.imu.RUnlock()
	return h.intakes[triggerKey{connection, trigger}]
}
