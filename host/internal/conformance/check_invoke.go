package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// cancelLimit is how long a call may go on after nobody wants it.
const cancelLimit = 1500 * time.Millisecond

var invokeChecks = []check{
	{
		"invoke.unknown", "An unknown action is answered with UNIMPLEMENTED or NOT_FOUND and Failure{NONE}.",
		"Look the action up before anything is done.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			_, err = p.invoke(ctx, &connectorv1.InvokeRequest{Call: s.call(k), Action: "conformance.no_such_action", Input: []byte("{}")})
			_, bad := refusal(err, codes.Unimplemented, codes.NotFound)
			return bad
		},
	},
	{
		"invoke.invalid", "Input that breaks an action's schema is answered with INVALID_ARGUMENT, JSON pointers and Failure{INPUT, NONE}, and so is what is not JSON.",
		"Validate the input against the schema that you describe before the vendor is asked.",
		func(ctx context.Context, s *suite) error {
			return s.eachAction(ctx, func(p *process, k kind, a *connectorv1.Action) error {
				req, err := s.invocation(k, a)
				if err != nil {
					return err
				}
				schema, err := readSchema(a.GetInputSchema())
				if err != nil {
					return err
				}
				good, err := decode(req.GetInput())
				if err != nil {
					return err
				}
				inputs := [][]byte{[]byte(`{"unfinished":`)}
				if bad, ok := violating(a.GetInputSchema(), spoil(schema, good)); ok {
					inputs = append(inputs, bad)
				}
				for _, in := range inputs {
					req.Input = in
					_, err := p.invoke(ctx, req)
					e, bad := typed(err)
					if bad == nil {
						bad = violations(e, plugin.OriginInput)
					}
					if bad != nil {
						return fmt.Errorf("input %s: %w", clip(string(in)), bad)
					}
				}
				return nil
			})
		},
	},
	{
		"invoke.oversize", "Input over 2 MiB is answered with OUT_OF_RANGE or INVALID_ARGUMENT and Failure{NONE}; the process lives on.",
		"Let your gRPC stack receive messages of at least 3 MiB, and look at the size yourself.",
		func(ctx context.Context, s *suite) error {
			p, k, err := s.usual(ctx)
			if err != nil {
				return err
			}
			a, err := s.anyAction(k)
			if err != nil {
				return err
			}
			req, err := s.invocation(k, a)
			if err != nil {
				return err
			}
			req.Input = pad(req.GetInput(), plugin.MaxInput+1)
			_, err = p.invoke(ctx, req)
			_, bad := refusal(err, codes.OutOfRange, codes.InvalidArgument)
			return bad
		},
	},
	{
		"invoke.deadline", "A call ends within 1.5 s of CallContext.deadline, with DEADLINE_EXCEEDED or what the connector knows better.",
		"Pass a context with that deadline to everything that waits.",
		func(ctx context.Context, s *suite) error {
			p, a, err := s.hanging(ctx)
			if err != nil {
				return err
			}
			req, err := s.invocation(silent, a)
			if err != nil {
				return err
			}
			const after = 400 * time.Millisecond
			begin := time.Now()
			req.Call.Deadline = timestamppb.New(begin.Add(after))
			within, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			_, err = p.invoke(within, req)
			if took := time.Since(begin); took > after+cancelLimit+slack {
				return latef("it ended %v after the deadline", (took - after).Round(10*time.Millisecond))
			}
			if err == nil {
				return errors.New("it succeeded although the vendor does not answer")
			}
			_, bad := typed(err)
			return bad
		},
	},
	{
		"invoke.cancel", "A call that the host cancels lets go of the vendor within 1.5 s.",
		"Pass the call's context to every request; bound what a write may finish after it.",
		func(ctx context.Context, s *suite) error {
			p, a, err := s.hanging(ctx)
			if err != nil {
				return err
			}
			req, err := s.invocation(silent, a)
			if err != nil {
				return err
			}
			within, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if err := s.silent.await(within, func(open int) bool { return open == 0 }); err != nil {
				return errors.New("earlier calls, long over, still hold requests to the vendor")
			}
			call, abandon := context.WithCancel(within)
			defer abandon()
			over := make(chan struct{})
			go func() {
				defer close(over)
				_, _ = p.invoke(call, req) // it is cancelled below
			}()
			err = s.silent.await(within, func(open int) bool { return open > 0 })
			abandon()
			<-over
			if err != nil {
				return skipf("the action %s made no request to the vendor", a.GetName())
			}
			gone, stop := context.WithTimeout(ctx, cancelLimit+slack)
			defer stop()
			if s.silent.await(gone, func(open int) bool { return open == 0 }) != nil {
				return latef("%v after the call was cancelled the request to the vendor is still open", cancelLimit)
			}
			return nil
		},
	},
	{
		"invoke.concurrent", "16 calls are served at once: none waits for another.",
		"Serve every call in a thread of its own, and hold no lock while the vendor is asked.",
		func(ctx context.Context, s *suite) error {
			p, a, err := s.hanging(ctx)
			if err != nil {
				return err
			}
			const calls, each = 16, 600 * time.Millisecond
			begin := time.Now()
			errs := make([]error, calls)
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() {
					req, err := s.invocation(silent, a)
					if err != nil {
						errs[i] = err
						return
					}
					req.Call.Deadline = timestamppb.New(begin.Add(each))
					if _, err = p.invoke(ctx, req); err == nil {
						errs[i] = errors.New("a call succeeded although the vendor does not answer")
					} else {
						_, errs[i] = typed(err)
					}
				})
			}
			wg.Wait()
			if took := time.Since(begin); took > each+cancelLimit+2*slack {
				return latef("%d calls with a deadline of %v took %v", calls, each, took.Round(10*time.Millisecond))
			}
			return errors.Join(errs...)
		},
	},
	{
		"invoke.dry-run", "A dry run of an action that changes something either checks and changes nothing, or is refused with UNIMPLEMENTED and Failure{NONE}.",
		"Refuse dry runs of actions that cannot do them; in the others stop before the first write.",
		func(ctx context.Context, s *suite) error {
			return s.eachAction(ctx, func(p *process, k kind, a *connectorv1.Action) error {
				if a.GetEffect() == connectorv1.Effect_EFFECT_READ {
					return skipf("it only reads")
				}
				req, err := s.invocation(k, a)
				if err != nil {
					return err
				}
				req.Call.DryRun = true
				if _, err = p.invoke(ctx, req); err == nil {
					return nil
				}
				e, bad := typed(err)
				if bad == nil && e.SideEffect != plugin.EffectNone {
					bad = fmt.Errorf("%s says %s", e.Code, e.SideEffect)
				}
				return bad
			})
		},
	},
	{
		"invoke.key", "A keyed action without an idempotency key is refused with INVALID_ARGUMENT and Failure{INPUT, NONE}.",
		"Look at the key before anything else.",
		func(ctx context.Context, s *suite) error {
			return s.eachAction(ctx, func(p *process, k kind, a *connectorv1.Action) error {
				if a.GetEffect() != connectorv1.Effect_EFFECT_KEYED && !a.GetEffectByCaller() {
					return skipf("it is not keyed")
				}
				req, err := s.invocation(k, a)
				if err != nil {
					return err
				}
				req.Call.IdempotencyKey = ""
				if a.GetEffectByCaller() {
					req.Call.Effect = connectorv1.Effect_EFFECT_KEYED
				}
				_, err = p.invoke(ctx, req)
				_, bad := refusal(err, codes.InvalidArgument)
				return bad
			})
		},
	},
	{
		"invoke.resolve", "MODE_RESOLVE changes nothing: of a keyed action it brings the earlier result or an error with Failure{NONE}, and of any other it is refused.",
		"Only look for what the key marks; answer NOT_FOUND with reason UNRESOLVED or ABSENT if it is not there.",
		func(ctx context.Context, s *suite) error {
			k := refusing
			if len(s.sub.Config) > 0 {
				k = live
			}
			return s.eachActionOn(ctx, k, func(p *process, k kind, a *connectorv1.Action) error {
				req, err := s.invocation(k, a)
				if err != nil {
					return err
				}
				keyed := a.GetEffect() == connectorv1.Effect_EFFECT_KEYED
				req.Call.Mode, req.Call.Attempt = connectorv1.Mode_MODE_RESOLVE, 2
				req.Call.FirstSent = timestamppb.New(time.Now().Add(-time.Second))
				_, err = p.invoke(ctx, req)
				if !keyed {
					_, bad := refusal(err, codes.InvalidArgument, codes.Unimplemented)
					return bad
				}
				if err == nil {
					return errors.New("it brings a result for a key that was never used")
				}
				e, bad := typed(err)
				switch {
				case bad != nil:
					return bad
				case e.SideEffect != plugin.EffectNone:
					return fmt.Errorf("%s says %s", e.Code, e.SideEffect)
				case k == live && e.Code == codes.NotFound && e.Reason != plugin.ReasonUnresolved && e.Reason != plugin.ReasonAbsent && e.Reason != "":
					return fmt.Errorf("NOT_FOUND has the reason %q", e.Reason)
				}
				return nil
			})
		},
	},
	{
		"invoke.result", "A call that succeeds ends with exactly one Result, whose output, with rows and files, satisfies the output schema.",
		"Send the Result last, and send what you describe.",
		func(ctx context.Context, s *suite) error {
			return s.working(ctx, func(p *process, a *connectorv1.Action) error {
				req, err := s.invocation(live, a)
				if err != nil {
					return err
				}
				got, err := p.invoke(ctx, req)
				if err != nil {
					if _, bad := typed(err); bad != nil {
						return bad
					}
					return skipf("%v", err)
				}
				return got.judge(a)
			})
		},
	},
	{
		"invoke.keyed", "A keyed action called twice with one key has one effect, and MODE_RESOLVE finds it within the resolve window.",
		"Mark what you write with the key, and look for the mark before you write.",
		func(ctx context.Context, s *suite) error {
			if !s.sub.Writes {
				return skipf("it writes to the vendor; allow that with --writes")
			}
			return s.working(ctx, func(p *process, a *connectorv1.Action) error {
				if a.GetEffect() != connectorv1.Effect_EFFECT_KEYED {
					return skipf("it is not keyed")
				}
				return s.twice(ctx, p, a)
			})
		},
	},
}

// twice executes a keyed action two times, and then asks what became of it.
func (s *suite) twice(ctx context.Context, p *process, a *connectorv1.Action) error {
	req, err := s.invocation(live, a)
	if err != nil {
		return err
	}
	first := time.Now()
	one, err := p.invoke(ctx, req)
	if err != nil {
		return skipf("%v", err)
	}
	req.Call.Attempt, req.Call.FirstSent, req.Call.Prior = 2, timestamppb.New(first), one.result.GetOutput()
	again, err := p.invoke(ctx, req)
	if err != nil {
		return fmt.Errorf("the second call: %w", err)
	}
	for _, got := range []*answer{one, again} {
		if err := got.judge(a); err != nil {
			return err
		}
	}
	if err := sameObject(one.result.GetOutput(), again.result.GetOutput()); err != nil {
		return err
	}
	req.Call.Mode, req.Call.Prior = connectorv1.Mode_MODE_RESOLVE, nil
	for end := first.Add(a.GetResolveWindow().AsDuration() + 5*time.Second); ; {
		_, err := p.invoke(ctx, req)
		if err == nil {
			return nil
		}
		e, bad := typed(err)
		switch {
		case bad != nil:
			return bad
		case e.Reason == plugin.ReasonAbsent:
			return errors.New("MODE_RESOLVE says ABSENT of what was written")
		case time.Now().After(end) || ctx.Err() != nil:
			return fmt.Errorf("MODE_RESOLVE does not find what was written: %w", err)
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

// sameObject compares what outputs usually name an object by.
func sameObject(one, two []byte) error {
	a, err := readSchema(one)
	if err != nil {
		return err
	}
	b, err := readSchema(two)
	if err != nil {
		return err
	}
	for _, name := range []string{"id", "key", "url", "number"} {
		if x, y := a[name], b[name]; x != nil && y != nil && fmt.Sprint(x) != fmt.Sprint(y) {
			return fmt.Errorf("the second call made another object: %s is %v, and was %v", name, y, x)
		}
	}
	return nil
}

// judge holds what a call brought against the action's description.
func (a *answer) judge(action *connectorv1.Action) error {
	if a.broken != nil {
		return a.broken
	}
	schema, err := compile(action.GetOutputSchema())
	if err != nil {
		return fmt.Errorf("its output schema: %w", err)
	}
	v, err := decode(a.result.GetOutput())
	if err != nil {
		return fmt.Errorf("the output is not JSON: %w", err)
	}
	o, ok := v.(object)
	if !ok {
		return errors.New("the output is not a JSON object")
	}
	if !action.GetRows() && a.count > 0 {
		return errors.New("it sends rows but does not say so")
	}
	if action.GetRows() {
		rows := []any{}
		for line := range splitLines(a.rows) {
			row, err := decode(line)
			if err != nil {
				return fmt.Errorf("row %d is not JSON: %w", len(rows)+1, err)
			}
			rows = append(rows, row)
		}
		o["rows"] = rows
	}
	if !action.GetBlobs() && len(a.files) > 0 {
		return errors.New("it sends files but does not say so")
	}
	if action.GetBlobs() {
		o["blobs"] = append([]any{}, a.files...)
	}
	if err := schema.Validate(o); err != nil {
		return fmt.Errorf("the output does not satisfy its schema: %w", err)
	}
	return nil
}

// hanging returns the shared process and an action that hangs because the vendor does not answer.
func (s *suite) hanging(ctx context.Context) (*process, *connectorv1.Action, error) {
	p, err := s.connection(ctx, silent)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range s.about.GetActions() {
		if s.hangs(ctx, p, a) {
			return p, a, nil
		}
	}
	return nil, nil, skipf("no action waits for the vendor")
}

// hangs says whether an action asks the vendor.
func (s *suite) hangs(ctx context.Context, p *process, a *connectorv1.Action) bool {
	req, err := s.invocation(silent, a)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	before := s.silent.requests()
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = p.invoke(ctx, req) // cancelled as soon as it is known
	}()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_ = s.silent.await(ctx, func(int) bool { return s.silent.requests() > before })
		cancel()
	}()
	<-over
	cancel()
	<-asked
	return s.silent.requests() > before
}

// eachAction judges every action on a connection that any check may use.
func (s *suite) eachAction(ctx context.Context, judge func(*process, kind, *connectorv1.Action) error) error {
	return s.eachActionOn(ctx, refusing, judge)
}

func (s *suite) eachActionOn(ctx context.Context, k kind, judge func(*process, kind, *connectorv1.Action) error) error {
	p, err := s.connection(ctx, k)
	if err != nil {
		return err
	}
	var faults []error
	var none error = skipped("there are no actions")
	judged := 0
	for _, a := range s.about.GetActions() {
		err := judge(p, k, a)
		var skip skipped
		switch {
		case errors.As(err, &skip):
			none = skipf("%s: %s", a.GetName(), skip)
		case err != nil:
			faults = append(faults, fmt.Errorf("%s: %w", a.GetName(), err))
			judged++
		default:
			judged++
		}
	}
	if judged == 0 {
		return none
	}
	return errors.Join(faults...)
}

// working judges every action that may be executed at the vendor.
func (s *suite) working(ctx context.Context, judge func(*process, *connectorv1.Action) error) error {
	return s.eachActionOn(ctx, live, func(p *process, _ kind, a *connectorv1.Action) error {
		if a.GetEffect() != connectorv1.Effect_EFFECT_READ && !s.sub.Writes {
			return skipf("it writes to the vendor; allow that with --writes")
		}
		return judge(p, a)
	})
}
