package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

var webhookChecks = []check{
	{
		"webhook.unknown", "A webhook for an unknown trigger, or for one that takes none, is answered with UNIMPLEMENTED or NOT_FOUND and Failure{NONE}.",
		"Look the trigger up first.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			_, err = p.client.HandleWebhook(ctx, &connectorv1.HandleWebhookRequest{Call: s.call(k), Trigger: "conformance_none", Method: "POST", Body: []byte("{}")})
			_, bad := refusal(err, codes.Unimplemented, codes.NotFound)
			return bad
		},
	},
	{
		"webhook.garbage", "Any request is answered within 2 s, with an HTTP status from 200 to 599 or a typed error; it reaches no network, and garbage makes no events.",
		"Trust nothing in the request, and look nothing up: give hints.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			n := 0
			for _, t := range s.about.GetTriggers() {
				if t.GetWebhook() == nil {
					continue
				}
				n++
				for _, body := range garbage() {
					if err := s.hook(ctx, p, k, t, body); err != nil {
						return fmt.Errorf("%s, body %q: %w", t.GetName(), clip(string(body[:min(len(body), 60)])), err)
					}
				}
			}
			if n == 0 {
				return skipf("no trigger takes webhooks")
			}
			return nil
		},
	},
	{
		"check.answers", "Check answers within its deadline with named probes of a known status, and says what to do about one that failed; or it is UNIMPLEMENTED.",
		"Try token, permissions and reachability, each as a probe with a remedy.",
		func(ctx context.Context, s *suite) error {
			kinds := []kind{refusing}
			if len(s.sub.Config) > 0 {
				kinds = append(kinds, live)
			}
			for _, k := range kinds {
				p, err := s.connection(ctx, k)
				if err != nil {
					return err
				}
				within, cancel := context.WithTimeout(ctx, plugin.CheckTimeout/2)
				resp, err := p.client.Check(within, &connectorv1.CheckRequest{Call: s.call(k)})
				cancel()
				if err != nil {
					e, bad := typed(err)
					if bad == nil && e.Code == codes.Unimplemented {
						return skipf("the connector has no checks")
					}
					if bad != nil {
						return bad
					}
					continue
				}
				if len(resp.GetProbes()) == 0 {
					return errors.New("there are no probes")
				}
				for _, b := range resp.GetProbes() {
					switch {
					case b.GetName() == "":
						return errors.New("a probe has no name")
					case b.GetStatus() < connectorv1.ProbeStatus_PROBE_STATUS_OK || b.GetStatus() > connectorv1.ProbeStatus_PROBE_STATUS_SKIPPED:
						return fmt.Errorf("probe %q has the status %v", b.GetName(), b.GetStatus())
					case b.GetStatus() == connectorv1.ProbeStatus_PROBE_STATUS_FAILED && b.GetRemedy() == "":
						return fmt.Errorf("probe %q failed and says no remedy", b.GetName())
					}
				}
			}
			return nil
		},
	},
}

// garbage are bodies that no vendor sends.
func garbage() [][]byte {
	return [][]byte{
		nil, []byte("{}"), []byte("[]"), []byte("null"), []byte(`"text"`), []byte("{"), []byte("\xff\xfe\x00garbage"),
		[]byte(`{"value":[{},{"id":null},17,"x"]}`), []byte(`{"value":{"a":[[[[[[]]]]]]}}`), []byte("a=1&b=%zz"),
		append([]byte(`{"a":"`), append(bytes.Repeat([]byte("x"), 512<<10), `"}`...)...),
		[]byte(strings.Repeat("[", 20000)),
	}
}

func (s *suite) hook(ctx context.Context, p *process, k kind, t *connectorv1.Trigger, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, plugin.WebhookTimeout+slack)
	defer cancel()
	before := s.refusing.requests()
	method := "POST"
	if m := t.GetWebhook().GetMethods(); len(m) > 0 {
		method = m[0]
	}
	resp, err := p.client.HandleWebhook(ctx, &connectorv1.HandleWebhookRequest{
		Call: s.call(k), Trigger: t.GetName(), Method: method, Path: "/..%2f", Query: "%zz&a=1;b", Body: body, RemoteAddr: "203.0.113.5:1",
		Headers: map[string]string{"Content-Type": "application/json", "X-Conformance": "\x01"},
	})
	if ctx.Err() != nil {
		return latef("there was no answer within %v", plugin.WebhookTimeout)
	}
	if err != nil {
		_, bad := typed(err)
		return bad
	}
	if st := resp.GetStatus(); st != 0 && (st < 200 || st > 599) {
		return fmt.Errorf("the HTTP status is %d", st)
	}
	if n := len(resp.GetEvents()); n > 0 {
		return fmt.Errorf("it became %d events", n)
	}
	for _, h := range resp.GetHints() {
		if h.GetId() == "" || len(h.GetData()) > plugin.MaxHint {
			return fmt.Errorf("it became a hint with the id %q and %d bytes", h.GetId(), len(h.GetData()))
		}
	}
	if n := s.refusing.requests() - before; n > 0 {
		return fmt.Errorf("it made %d requests to the vendor", n)
	}
	return nil
}

var drainChecks = []check{
	{
		"drain.refuses", "Drain returns when the open calls are over, at the latest a second after its grace; from then on new calls are refused with UNAVAILABLE, reason DRAINING and Failure{NONE}.",
		"Close the door, wait for what is open, cancel the rest, report.",
		func(ctx context.Context, s *suite) error {
			defer s.retire()
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			const grace = 500 * time.Millisecond
			begin := time.Now()
			within, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if _, err := p.client.Drain(within, &connectorv1.DrainRequest{Grace: durationpb.New(grace)}); err != nil {
				return err
			}
			if took := time.Since(begin); took > grace+time.Second+slack {
				return latef("with nothing open it took %v", took.Round(10*time.Millisecond))
			}
			a, err := s.anyAction(k)
			if err != nil {
				return err
			}
			req, err := s.invocation(k, a)
			if err != nil {
				return err
			}
			_, err = p.invoke(ctx, req)
			e, bad := refusal(err, codes.Unavailable)
			if bad == nil && e.Reason != plugin.ReasonDraining {
				bad = fmt.Errorf("the reason is %q, want %s", e.Reason, plugin.ReasonDraining)
			}
			return bad
		},
	},
	{
		"drain.cancels", "Calls that are open longer than the grace are cancelled, and Drain returns.",
		"Cancel their contexts, and do not wait for them for ever.",
		func(ctx context.Context, s *suite) error {
			defer s.retire()
			p, a, err := s.hanging(ctx)
			if err != nil {
				return err
			}
			req, err := s.invocation(silent, a)
			if err != nil {
				return err
			}
			if err := s.silent.await(ctx, func(open int) bool { return open == 0 }); err != nil {
				return errors.New("earlier calls, long over, still hold requests to the vendor")
			}
			over := make(chan error, 1)
			go func() {
				_, err := p.invoke(ctx, req)
				over <- err
			}()
			if err := s.silent.await(ctx, func(open int) bool { return open > 0 }); err != nil {
				return err
			}
			const grace = 300 * time.Millisecond
			begin := time.Now()
			if _, err := p.client.Drain(ctx, &connectorv1.DrainRequest{Grace: durationpb.New(grace)}); err != nil {
				return err
			}
			if took := time.Since(begin); took > grace+cancelLimit+slack {
				return latef("with a call open and a grace of %v it took %v", grace, took.Round(10*time.Millisecond))
			}
			t := time.NewTimer(cancelLimit + slack)
			defer t.Stop()
			select {
			case err := <-over:
				_, bad := typed(err)
				return bad
			case <-t.C:
				return latef("the call that Drain was to cancel is still open")
			}
		},
	},
}

var lastChecks = []check{
	{
		"memory.growth", "Over 2,000 calls resident memory does not grow without end: from the 1,000th to the last by less than 16 MiB.",
		"Look for caches without a bound, goroutines or threads that stay, and responses that are not closed.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			a, err := s.anyAction(k)
			if err != nil {
				return err
			}
			pid := p.cmd.Process.Pid
			if _, ok := resident(pid); !ok {
				return skipf("this system has no /proc to read memory from")
			}
			half := func() error {
				var wg sync.WaitGroup
				errs := make([]error, 4)
				for i := range errs {
					wg.Go(func() {
						for range 1000 / len(errs) {
							req, err := s.invocation(k, a)
							if err != nil {
								errs[i] = err
								return
							}
							_, _ = p.invoke(ctx, req) // the vendor refuses; other checks judge the error
							if p.ended() {
								return
							}
						}
					})
				}
				wg.Wait()
				return errors.Join(errs...)
			}
			if err := half(); err != nil {
				return err
			}
			before, _ := resident(pid)
			if err := half(); err != nil {
				return err
			}
			after, ok := resident(pid)
			if grown := after - before; ok && grown > 16<<20 {
				return fmt.Errorf("1,000 calls of %s cost %d KiB, from %d KiB to %d KiB", a.GetName(), grown>>10, before>>10, after>>10)
			}
			return nil
		},
	},
	{
		"process.stdout", "Nothing but the handshake line is ever printed on standard output.",
		"Log on standard error; look for libraries that print.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			if out := p.stdout.text(); out != p.line+"\n" {
				return fmt.Errorf("there is more: %q", clip(strings.TrimPrefix(out, p.line+"\n")))
			}
			return nil
		},
	},
	{
		"errors.failure", "Every error carries exactly one Failure that says whose fault it is and whether anything was changed.",
		"Build errors in one place, and let nothing else leave a handler.",
		func(_ context.Context, s *suite) error {
			s.seen.mu.Lock()
			defer s.seen.mu.Unlock()
			if s.seen.errors == 0 {
				return skipf("no error was seen")
			}
			return listed(s.seen.untyped)
		},
	},
	{
		"errors.size", "An error has at most 8 KiB, details included, whatever the vendor says.",
		"Quote the vendor briefly: details travel in trailers, and larger ones break the call.",
		func(_ context.Context, s *suite) error {
			s.seen.mu.Lock()
			defer s.seen.mu.Unlock()
			if s.seen.errors == 0 {
				return skipf("no error was seen")
			}
			return listed(s.seen.large)
		},
	},
	{
		"secrets.hidden", "No secret of a configuration shows on standard error, in an error or in an answer, even when the vendor quotes it.",
		"Mark secrets in the schema, keep them in a type that does not print, and redact what the vendor says.",
		func(_ context.Context, s *suite) error {
			s.seen.mu.Lock()
			defer s.seen.mu.Unlock()
			if len(s.seen.secrets) == 0 {
				return skipf("no configuration with a secret of at least 8 characters was given to it")
			}
			if len(s.seen.leaks) == 0 {
				return nil
			}
			return fmt.Errorf("a secret shows in %s", strings.Join(s.seen.leaks, ", "))
		},
	},
}

func listed(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(faults, "; "))
}
