package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// descriptor is what a connector says about itself, checked and indexed.
type descriptor struct {
	resp     *connectorv1.DescribeResponse
	actions  map[string]*connectorv1.Action
	triggers map[string]*connectorv1.Trigger
}

// newDescriptor checks what a connector claims to be. All faults are reported at once.
func newDescriptor(name string, resp *connectorv1.DescribeResponse) (*descriptor, error) {
	d := &descriptor{resp: resp, actions: map[string]*connectorv1.Action{}, triggers: map[string]*connectorv1.Trigger{}}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	schema := func(where string, b []byte) {
		if len(b) > 0 && !json.Valid(b) {
			fault("%s is not JSON", where)
		}
	}
	if n := proto.Size(resp); n > plugin.MaxSend {
		fault("the descriptor has %d bytes, more than %d", n, plugin.MaxSend)
	}
	if resp.GetName() != name {
		fault("it calls itself %q", resp.GetName())
	}
	schema("the config schema", resp.GetConfigSchema())
	for _, a := range resp.GetActions() {
		if a.GetName() == "" || d.actions[a.GetName()] != nil {
			fault("action %q has no name or is there twice", a.GetName())
		}
		if a.GetEffect() < connectorv1.Effect_EFFECT_READ || a.GetEffect() > connectorv1.Effect_EFFECT_UNSAFE {
			fault("action %q declares no known effect", a.GetName())
		}
		schema("the input schema of "+a.GetName(), a.GetInputSchema())
		schema("the output schema of "+a.GetName(), a.GetOutputSchema())
		d.actions[a.GetName()] = a
	}
	for _, t := range resp.GetTriggers() {
		if t.GetName() == "" || d.triggers[t.GetName()] != nil {
			fault("trigger %q has no name or is there twice", t.GetName())
		}
		d.triggers[t.GetName()] = t
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("connector %s describes itself wrongly: %w", name, errors.Join(faults...))
	}
	return d, nil
}

// describe returns the descriptor: the one kept, the one that needs no process, or that of a process started for the
// purpose.
func (s *supervisor) describe(ctx context.Context) (*descriptor, error) {
	if d := s.desc.Load(); d != nil {
		return d, nil
	}
	s.describing.Lock()
	defer s.describing.Unlock()
	if d := s.desc.Load(); d != nil {
		return d, nil
	}
	if s.unknown != nil && time.Since(s.asked) < describeAgain {
		return nil, s.unknown
	}
	resp, err := s.ask(ctx)
	var d *descriptor
	if err == nil {
		d, err = newDescriptor(s.name, resp)
	}
	if err != nil {
		s.unknown, s.asked = fmt.Errorf("describe connector %s: %w", s.name, err), time.Now()
		return nil, s.unknown
	}
	s.desc.CompareAndSwap(nil, d)
	return s.desc.Load(), nil
}

// describeAgain is how long a failure to describe is remembered: checking flows asks often, and a start may take 10 s.
const describeAgain = 5 * time.Second

func (s *supervisor) ask(ctx context.Context) (*connectorv1.DescribeResponse, error) {
	if s.src.Describe != nil {
		return s.src.Describe()
	}
	if err := s.cat.gate(ctx); err != nil {
		return nil, err
	}
	defer s.cat.ungate()
	p, err := s.launcher(launch.Grants{}).Launch(ctx, s.cat.host, s.name)
	if err != nil {
		return nil, err
	}
	defer p.Stop(context.WithoutCancel(ctx), 0)
	return s.cat.describeWith(ctx, connectorv1.NewConnectorClient(p.Conn()))
}

func (c *Catalog) describeWith(ctx context.Context, client connectorv1.ConnectorClient) (*connectorv1.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timing.Describe)
	defer cancel()
	return client.Describe(ctx, &connectorv1.DescribeRequest{Host: c.hostInfo()})
}

func (c *Catalog) hostInfo() *connectorv1.HostInfo {
	return &connectorv1.HostInfo{Version: c.opts.HostVersion}
}

// gate waits for the right to start a process outside of supervision. Stop waits for ungate.
func (c *Catalog) gate(ctx context.Context) error {
	c.life.Lock()
	if c.stopped {
		c.life.Unlock()
		return stoppedError()
	}
	c.work.Add(1)
	c.life.Unlock()
	select {
	case c.starts <- struct{}{}:
		return nil
	case <-ctx.Done():
		c.work.Done()
		return ctx.Err()
	}
}

func (c *Catalog) ungate() {
	<-c.starts
	c.work.Done()
}

// stopWithin is the drain time that ctx leaves, with a rest for the end itself.
func stopWithin(ctx context.Context, grace time.Duration) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return max(0, min(grace, time.Until(d)*3/4))
	}
	return grace
}
