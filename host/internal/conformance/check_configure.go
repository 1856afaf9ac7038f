package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

var configureChecks = []check{
	{
		"configure.empty", "An empty Configure is answered with no outcomes.",
		"Loop over what there is; nothing at all is fine.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			resp, err := p.configure(ctx, &connectorv1.ConfigureRequest{})
			if err == nil && len(resp.GetOutcomes()) != 0 {
				err = fmt.Errorf("there are %d outcomes", len(resp.GetOutcomes()))
			}
			return err
		},
	},
	{
		"configure.outcomes", "Configure takes many connections at once, without reaching the vendor, and answers one outcome for each, with its name and generation.",
		"Answer an outcome for every upsert; open connections lazily.",
		func(ctx context.Context, s *suite) error {
			p, config, err := s.fresh(ctx)
			if err != nil {
				return err
			}
			before := s.silent.requests() + s.refusing.requests()
			req := &connectorv1.ConfigureRequest{}
			for i := range 3 {
				req.Upserts = append(req.Upserts, s.upsert(fmt.Sprintf("many-%d", i), s.generation+uint64(i), config))
			}
			s.generation += 3
			resp, err := p.configure(ctx, req)
			if err != nil {
				return err
			}
			defer s.remove(ctx, p, "many-0", "many-1", "many-2")
			if len(resp.GetOutcomes()) != 3 {
				return fmt.Errorf("3 connections got %d outcomes", len(resp.GetOutcomes()))
			}
			for i, u := range req.GetUpserts() {
				o := find(resp, u.GetConnection())
				switch {
				case o == nil:
					return fmt.Errorf("connection %d of 3 has no outcome", i+1)
				case o.GetGeneration() != u.GetGeneration():
					return fmt.Errorf("the outcome names generation %d, not %d", o.GetGeneration(), u.GetGeneration())
				case len(o.GetStatus()) > 0 && plugin.UnmarshalStatus(o.GetStatus()) != nil:
					return fmt.Errorf("connection %d of 3 is refused, although the same configuration was taken before", i+1)
				}
			}
			if n := s.silent.requests() + s.refusing.requests() - before; n > 0 {
				return fmt.Errorf("it made %d requests to the vendor", n)
			}
			return nil
		},
	},
	{
		"configure.invalid", "A configuration that breaks the schema gets INVALID_ARGUMENT with a JSON pointer for each fault and Failure{CONFIG, NONE}, and does not fail the other connections.",
		"Put the status into the connection's outcome, with BadRequest.field_violations, and go on with the others.",
		func(ctx context.Context, s *suite) error {
			p, config, err := s.fresh(ctx)
			if err != nil {
				return err
			}
			schema, err := readSchema(s.about.GetConfigSchema())
			if err != nil {
				return err
			}
			good, err := decode(config)
			if err != nil {
				return err
			}
			bad, ok := violating(s.about.GetConfigSchema(), spoil(schema, good))
			if !ok {
				return skipf("the config schema takes everything")
			}
			s.generation++
			resp, err := p.configure(ctx, &connectorv1.ConfigureRequest{Upserts: []*connectorv1.ConnectionConfig{
				s.upsert("bad", s.generation, bad), s.upsert("good", s.generation, config),
			}})
			if err != nil {
				return fmt.Errorf("one bad connection failed the whole Configure: %w", err)
			}
			defer s.remove(ctx, p, "bad", "good")
			if o := find(resp, "good"); o == nil || plugin.UnmarshalStatus(o.GetStatus()) != nil {
				return errors.New("the good connection was not taken beside the bad one")
			}
			o := find(resp, "bad")
			if o == nil || len(o.GetStatus()) == 0 {
				return errors.New("the bad configuration was taken")
			}
			return violations(plugin.UnmarshalStatus(o.GetStatus()), plugin.OriginConfig)
		},
	},
	{
		"configure.idempotent", "The same connection at the same generation again is answered with OK and disturbs nothing.",
		"Compare the generation, and leave the connection as it is.",
		func(ctx context.Context, s *suite) error {
			p, config, err := s.fresh(ctx)
			if err != nil {
				return err
			}
			s.generation++
			defer s.remove(ctx, p, "same")
			for range 2 {
				if err := s.configureOne(ctx, p, "same", s.generation, config); err != nil {
					return noSkip(err)
				}
			}
			return s.probe(ctx, p, "same", s.generation, true)
		},
	},
	{
		"configure.replace", "A new generation takes the place of the old one, and a connection that is removed is gone; removing an unknown one is no error.",
		"Answer calls that name another generation with CONFIG_MISMATCH; the host then configures again.",
		func(ctx context.Context, s *suite) error {
			p, config, err := s.fresh(ctx)
			if err != nil {
				return err
			}
			s.generation += 2
			defer s.remove(ctx, p, "turn")
			for _, g := range []uint64{s.generation - 1, s.generation} {
				if err := s.configureOne(ctx, p, "turn", g, config); err != nil {
					return noSkip(err)
				}
				if err := s.probe(ctx, p, "turn", g, true); err != nil {
					return err
				}
			}
			if err := s.probe(ctx, p, "turn", s.generation-1, false); err != nil {
				return fmt.Errorf("the old generation: %w", err)
			}
			for range 2 {
				if _, err := p.configure(ctx, &connectorv1.ConfigureRequest{Removes: []string{"turn", "never-there"}}); err != nil {
					return fmt.Errorf("remove: %w", err)
				}
			}
			if err := s.probe(ctx, p, "turn", s.generation, false); err != nil {
				return fmt.Errorf("after removal: %w", err)
			}
			return nil
		},
	},
	{
		"configure.mismatch", "Every call that names an unknown connection is answered with FAILED_PRECONDITION, reason CONFIG_MISMATCH and Failure{NONE}.",
		"Look the connection up before anything else is done with the call.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			stranger := func() *connectorv1.CallContext {
				c := s.call(refusing)
				c.Connection, c.IdempotencyKey = "nobody", "conformance"
				return c
			}
			var faults []error
			want := func(what string, err error) {
				if bad := mismatch(err); bad != nil {
					faults = append(faults, fmt.Errorf("%s: %w", what, bad))
				}
			}
			for _, a := range s.about.GetActions() {
				in, err := s.input(a)
				if err != nil {
					continue
				}
				_, err = p.invoke(ctx, &connectorv1.InvokeRequest{Call: stranger(), Action: a.GetName(), Input: in})
				want("Invoke of "+a.GetName(), err)
			}
			for _, t := range s.about.GetTriggers() {
				if m := modes(t); len(m) > 0 {
					_, err := p.consume(ctx, &connectorv1.Open{Call: stranger(), Trigger: t.GetName(), Mode: m[0]})
					want("Consume of "+t.GetName(), err)
				}
				if t.GetWebhook() != nil {
					_, err := p.client.HandleWebhook(ctx, &connectorv1.HandleWebhookRequest{Call: stranger(), Trigger: t.GetName(), Method: "POST", Body: []byte("{}")})
					want("HandleWebhook of "+t.GetName(), err)
				}
			}
			if _, err := p.client.Check(ctx, &connectorv1.CheckRequest{Call: stranger()}); plugin.FromError(err) == nil || plugin.FromError(err).Code != codes.Unimplemented {
				want("Check", err)
			}
			return errors.Join(faults...)
		},
	},
}

// fresh returns the shared process and a configuration that it takes.
func (s *suite) fresh(ctx context.Context) (*process, []byte, error) {
	p, k, err := s.usual(ctx)
	if err != nil {
		return nil, nil, err
	}
	config, err := s.config(k)
	return p, config, err
}

func (s *suite) remove(ctx context.Context, p *process, names ...string) {
	_, _ = p.configure(ctx, &connectorv1.ConfigureRequest{Removes: names}) // tidying up; a failure shows elsewhere
}

func find(resp *connectorv1.ConfigureResponse, name string) *connectorv1.ConnectionOutcome {
	for _, o := range resp.GetOutcomes() {
		if o.GetConnection() == name {
			return o
		}
	}
	return nil
}

// noSkip makes a failure of what would else be a reason to skip: the same configuration was taken before.
func noSkip(err error) error { return errors.New(err.Error()) }

// probe asks the connector whether it has a connection at a generation, by a call that the connector must look the
// connection up for and that changes nothing.
func (s *suite) probe(ctx context.Context, p *process, name string, generation uint64, known bool) error {
	call := s.call(refusing)
	call.Connection, call.Generation = name, generation
	var err error
	if a, none := s.anyAction(refusing); none == nil {
		req, bad := s.invocation(refusing, a)
		if bad != nil {
			return bad
		}
		call.IdempotencyKey = req.GetCall().GetIdempotencyKey()
		req.Call = call
		_, err = p.invoke(ctx, req)
	} else {
		_, err = p.client.Check(ctx, &connectorv1.CheckRequest{Call: call})
		if e := plugin.FromError(err); e != nil && e.Code == codes.Unimplemented {
			return skipf("there is no call that could show it")
		}
	}
	bad := mismatch(err)
	switch {
	case known && bad == nil:
		return errors.New("a call on a configured connection is answered with CONFIG_MISMATCH")
	case !known:
		return bad
	}
	return nil
}

// mismatch demands the answer to a call on a connection that is not configured.
func mismatch(err error) error {
	e, bad := refusal(err, codes.FailedPrecondition)
	if bad != nil {
		return bad
	}
	if e.Reason != plugin.ReasonConfigMismatch {
		return fmt.Errorf("the reason is %q, want %s", e.Reason, plugin.ReasonConfigMismatch)
	}
	return nil
}

// violations demands INVALID_ARGUMENT with JSON pointers.
func violations(e *plugin.Error, origin connectorv1.Origin) error {
	switch {
	case e.Code != codes.InvalidArgument:
		return fmt.Errorf("got %s (%q), want INVALID_ARGUMENT", e.Code, e.Message)
	case e.Origin != origin || e.SideEffect != plugin.EffectNone:
		return fmt.Errorf("the Failure says %s and %s, want %s and SIDE_EFFECT_NONE", e.Origin, e.SideEffect, origin)
	case len(e.Violations) == 0:
		return errors.New("there is no BadRequest with field violations")
	}
	for _, v := range e.Violations {
		if v.Field != "" && !strings.HasPrefix(v.Field, "/") {
			return fmt.Errorf("the field %q is not a JSON pointer", v.Field)
		}
		if v.Description == "" {
			return fmt.Errorf("the violation at %q says nothing", v.Field)
		}
	}
	return nil
}

// pad makes a JSON object at least n bytes long without changing its meaning.
func pad(b []byte, n int) []byte {
	if !json.Valid(b) || len(b) >= n {
		return b
	}
	return append(b, []byte(strings.Repeat(" ", n-len(b)))...)
}
