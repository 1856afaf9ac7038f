package catalog

import (
	"context"
	"encoding/json"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// trial marks the name of a connection that is only tried.
const trial = "~trial"

// Try asks whether the connectors would take a set of connections, and changes nothing: those that are new or changed are
// opened in a process of their own, which is ended again. There is one outcome for each connection, in order. An error of
// class unavailable says that the connector could not be asked.
func (c *Catalog) Try(ctx context.Context, desired []Connection) ([]Outcome, error) {
	if c.ctx.Err() != nil {
		return nil, stoppedError()
	}
	current, seen := *c.conns.Load(), map[string]*conn{}
	outcomes := make([]Outcome, len(desired))
	changed := map[*supervisor][]int{}
	for i, spec := range desired {
		outcomes[i] = Outcome{Connection: spec.Name, Connector: spec.Connector}
		if outcomes[i].Err = c.inadmissible(spec, seen); outcomes[i].Err != nil {
			continue
		}
		s := c.sups[spec.Connector]
		was := current[spec.Name]
		state := spec.State
		if was != nil && state == nil && was.continues(spec) {
			state = was.sealed.get()
		}
		seen[spec.Name] = &conn{spec: spec, sup: s, sealed: &sealed{cur: state}}
		if spec.Broken != nil {
			outcomes[i].Err = spec.Broken
		} else if was == nil || !was.spec.same(spec) {
			changed[s] = append(changed[s], i)
		}
	}
	var wg sync.WaitGroup
	for s, which := range changed {
		wg.Go(func() {
			conns := make([]*conn, len(which))
			for k, i := range which {
				conns[k] = seen[desired[i].Name]
			}
			for k, err := range s.try(ctx, conns) {
				outcomes[which[k]].Err = err
			}
		})
	}
	wg.Wait()
	return outcomes, nil
}

// try opens connections in a process that nothing else uses.
func (s *supervisor) try(ctx context.Context, conns []*conn) []*plugin.Error {
	out := make([]*plugin.Error, len(conns))
	all := func(err error) []*plugin.Error {
		for i := range out {
			e := hostError(codes.Unavailable, "the connector %s cannot be asked: %v", s.name, err)
			e.Err, out[i] = err, e
		}
		return out
	}
	if err := s.cat.gate(ctx); err != nil {
		return all(err)
	}
	defer s.cat.ungate()
	configs := make([]json.RawMessage, len(conns))
	for i, cn := range conns {
		configs[i] = cn.spec.Config
	}
	p, err := s.launcher(s.grantsFor(configs)).Launch(ctx, s.cat.host, s.name)
	if err != nil {
		return all(err)
	}
	defer p.Stop(context.WithoutCancel(ctx), 0)
	client := connectorv1.NewConnectorClient(p.Conn())
	for i, cn := range conns { // one by one: together they might not fit into a message
		msg := cn.proto()
		msg.Connection += trial
		if out[i], err = s.tryOne(ctx, client, msg); err != nil {
			return all(err)
		}
	}
	return out
}

func (s *supervisor) tryOne(ctx context.Context, client connectorv1.ConnectorClient, msg *connectorv1.ConnectionConfig) (*plugin.Error, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cat.timing.Configure)
	defer cancel()
	resp, err := client.Configure(ctx, &connectorv1.ConfigureRequest{Host: s.cat.hostInfo(), Upserts: []*connectorv1.ConnectionConfig{msg}})
	if err != nil {
		return nil, err
	}
	if _, err := client.Configure(ctx, &connectorv1.ConfigureRequest{Host: s.cat.hostInfo(), Removes: []string{msg.GetConnection()}}); err != nil {
		return nil, err
	}
	if len(resp.GetOutcomes()) != 1 {
		return hostError(codes.Internal, "the connector %s gave %d outcomes for one connection", s.name, len(resp.GetOutcomes())), nil
	}
	e := plugin.UnmarshalStatus(resp.GetOutcomes()[0].GetStatus())
	if e != nil && e.Origin == 0 {
		e.Origin = plugin.OriginConfig
	}
	return e, nil
}
