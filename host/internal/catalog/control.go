package catalog

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/wirejson"
)

// Check probes a connection against its vendor.
func (c *Catalog) Check(ctx context.Context, connection string) ([]*connectorv1.Probe, error) {
	a := attempt{verb: "check", connection: connection, sent: true, harmless: true}
	var cn *conn
	var trailer metadata.MD
	resp, err := control(ctx, c, connection, a, 0, c.timing.Check,
		func(ctx context.Context, in *instance, at *conn) (*connectorv1.CheckResponse, error) {
			cn = at
			return in.client.Check(ctx, &connectorv1.CheckRequest{Call: newCall(ctx, at)}, grpc.Trailer(&trailer))
		})
	if cn != nil {
		c.saveTrailer(cn, func() metadata.MD { return trailer })
	}
	if err != nil {
		return nil, err
	}
	c.saveState(cn, resp.GetConnectionState())
	return resp.GetProbes(), nil
}

// Webhook gives a request that the host has authenticated to a trigger. The answer is to be sent once its events and
// hints are durable. It takes at most 2 s: a sender is waiting.
func (c *Catalog) Webhook(ctx context.Context, connection, trigger string, req *connectorv1.HandleWebhookRequest) (*connectorv1.HandleWebhookResponse, error) {
	a := attempt{verb: "webhook of " + trigger, connection: connection, sent: true, harmless: true}
	if n := len(req.GetBody()); n > plugin.MaxHookBody {
		return nil, tooLarge("%s: the body has %d bytes, more than %d", a.what(), n, plugin.MaxHookBody)
	}
	var by *instance
	var at *conn
	var trailer metadata.MD
	resp, err := control(ctx, c, connection, a, fingerprint("webhook", connection, trigger, 0, req.GetBody()), c.timing.Webhook,
		func(ctx context.Context, in *instance, cn *conn) (*connectorv1.HandleWebhookResponse, error) {
			by, at = in, cn
			// The caller's message is not changed: it may be sent again.
			return in.client.HandleWebhook(ctx, &connectorv1.HandleWebhookRequest{
				Call: newCall(ctx, cn), Trigger: trigger, Method: req.GetMethod(), Path: req.GetPath(), Query: req.GetQuery(),
				Headers: req.GetHeaders(), Body: req.GetBody(), RemoteAddr: req.GetRemoteAddr(),
			}, grpc.Trailer(&trailer))
		})
	if at != nil {
		c.saveTrailer(at, func() metadata.MD { return trailer })
	}
	if err != nil {
		return nil, err
	}
	if e := by.checkWebhook(a, resp); e != nil {
		return nil, e
	}
	return resp, nil
}

// checkWebhook refuses an answer that must not reach the sender or the store.
func (in *instance) checkWebhook(a attempt, r *connectorv1.HandleWebhookResponse) *plugin.Error {
	if s := r.GetStatus(); s != 0 && (s < 200 || s > 599) {
		return in.lie(a, codes.Internal, "HTTP status %d", s)
	}
	if n := len(r.GetBody()); n > plugin.DefaultHookBody {
		return in.lie(a, codes.OutOfRange, "a body of %d bytes, more than %d", n, plugin.DefaultHookBody)
	}
	for k, v := range r.GetHeaders() {
		if k == "" || strings.ContainsAny(k, " \r\n:\x00") || strings.ContainsAny(v, "\r\n\x00") {
			return in.lie(a, codes.Internal, "header %q is not one", k)
		}
	}
	for _, h := range r.GetHints() {
		switch {
		case h.GetId() == "":
			return in.lie(a, codes.Internal, "a hint without an id")
		case len(h.GetData()) > plugin.MaxHint:
			return in.lie(a, codes.OutOfRange, "hint %q has %d bytes, more than %d", h.GetId(), len(h.GetData()), plugin.MaxHint)
		case len(h.GetData()) > 0 && !wirejson.Valid(h.GetData()):
			return in.lie(a, codes.Internal, "hint %q is not JSON", h.GetId())
		}
	}
	for _, e := range r.GetEvents() {
		if n := len(e.GetData()); n > plugin.MaxEvent {
			return in.lie(a, codes.OutOfRange, "event %q has %d bytes, more than %d", e.GetId(), n, plugin.MaxEvent)
		}
	}
	return nil
}

// control makes a unary call with a deadline, and repeats it once if the connector has lost its configuration. Input,
// unless zero, is what the connector is given.
func control[T any](ctx context.Context, c *Catalog, connection string, a attempt, input digest, limit time.Duration,
	call func(context.Context, *instance, *conn) (T, error),
) (T, error) {
	var none T
	for replayed := false; ; replayed = true {
		cn, in, e := c.acquire(ctx, connection)
		if e != nil {
			return none, e
		}
		done := func(*plugin.Error) {}
		if input != 0 {
			if done, e = in.sup.ward.admit(ctx, in, input, a); e != nil {
				in.leave()
				return none, e
			}
		}
		resp, e := once(ctx, in, cn, a, limit, call)
		done(e)
		if e != nil && e.Reason == plugin.ReasonConfigMismatch && !replayed {
			e = in.sup.replay(ctx, in, cn)
			in.leave()
			if e == nil {
				continue
			}
			return none, e
		}
		in.leave()
		if e != nil {
			return none, e
		}
		return resp, nil
	}
}

func once[T any](ctx context.Context, in *instance, cn *conn, a attempt, limit time.Duration,
	call func(context.Context, *instance, *conn) (T, error),
) (T, *plugin.Error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := call(ctx, in, cn)
	if err != nil {
		return resp, in.failure(ctx, a, err)
	}
	return resp, nil
}
