package catalog

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// instance is one run of a connector's process.
type instance struct {
	sup     *supervisor
	proc    launch.Process
	conn    grpc.ClientConnInterface
	client  connectorv1.ConnectorClient
	started time.Time

	ctx    context.Context // of what lives as long as the instance
	cancel context.CancelFunc
	work   sync.WaitGroup

	inflight atomic.Int64
	used     atomic.Int64 // when the last call ended, in nanoseconds since started; kept only if idle processes are stopped
	stopping atomic.Bool  // the host is ending it
	poke     chan struct{}
	unwanted chan struct{}
	outgrown chan struct{} // its connections need what it was not granted

	syncing sync.Mutex        // one Configure at a time
	has     map[string]uint64 // generation of each connection that it was told of; under syncing

	inputs  inputs // that it has in flight
	granted launch.Grants
	files   map[string]os.FileInfo // the granted ones, as they were then

	resolving sync.Mutex
	resolvers map[resolverKey]*resolver
	ended     bool // no resolver is opened any more; under resolving
}

func newInstance(s *supervisor, proc launch.Process) *instance {
	in := &instance{
		sup: s, proc: proc, conn: proc.Conn(), started: time.Now(),
		poke: make(chan struct{}, 1), unwanted: make(chan struct{}, 1), outgrown: make(chan struct{}, 1),
		has: map[string]uint64{}, resolvers: map[resolverKey]*resolver{},
	}
	in.client = connectorv1.NewConnectorClient(in.conn)
	in.ctx, in.cancel = context.WithCancel(context.Background())
	return in
}

// enter counts a call in; false means that the instance is no longer the current one.
func (in *instance) enter() bool {
	in.inflight.Add(1)
	if in.sup.cur.Load() == in {
		return true
	}
	in.inflight.Add(-1)
	return false
}

func (in *instance) leave() {
	if in.sup.cat.opts.IdleStop > 0 {
		in.used.Store(int64(time.Since(in.started)))
	}
	in.inflight.Add(-1)
}

func (in *instance) idleFor() time.Duration {
	if in.inflight.Load() > 0 {
		return 0
	}
	return time.Since(in.started) - time.Duration(in.used.Load())
}

// quiet returns when no call is in the instance, or after d. No new ones come: it is not the current one any more.
func (in *instance) quiet(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for in.inflight.Load() > 0 {
		select {
		case <-tick.C:
		case <-in.proc.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// prod asks for a health probe now.
func (in *instance) prod() { signal(in.poke) }

// dismiss says that nobody needs the instance any more.
func (in *instance) dismiss() { signal(in.unwanted) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// probe asks grpc.health.v1. Any answer is a sign of life, even that there is no such service.
func (in *instance) probe() error {
	ctx, cancel := context.WithTimeout(in.sup.cat.ctx, in.sup.cat.timing.Probe)
	defer cancel()
	resp, err := healthv1.NewHealthClient(in.conn).Check(ctx, &healthv1.HealthCheckRequest{})
	switch status.Code(err) {
	case codes.OK:
		if resp.GetStatus() == healthv1.HealthCheckResponse_NOT_SERVING {
			return status.Error(codes.Unavailable, "it says that it is not serving")
		}
		return nil
	case codes.DeadlineExceeded, codes.Unavailable, codes.Canceled:
		return err
	default:
		return nil
	}
}

// end drains for grace, stops the process and waits for what belongs to the instance.
func (in *instance) end(ctx context.Context, grace time.Duration) {
	if grace > 0 {
		in.closeResolvers(nil)
	}
	in.proc.Stop(ctx, grace)
	in.cancel()
	in.resolving.Lock()
	in.ended = true
	in.resolving.Unlock()
	in.work.Wait()
}

// sync makes what the connector has what is in force: one Configure with all that differs. The outcome of each connection
// is kept with it.
func (in *instance) sync(ctx context.Context) *plugin.Error {
	in.syncing.Lock()
	defer in.syncing.Unlock()
	want := in.sup.cat.offered(in.sup)
	req := &connectorv1.ConfigureRequest{Host: in.sup.cat.hostInfo()}
	sent := map[string]*conn{}
	size := 0
	flush := func() *plugin.Error {
		if len(req.GetUpserts()) == 0 && len(req.GetRemoves()) == 0 {
			return nil
		}
		err := in.configure(ctx, req, sent)
		req.Upserts, req.Removes = nil, nil
		clear(sent)
		size = 0
		return err
	}
	for name := range in.has {
		if want[name] == nil {
			req.Removes = append(req.Removes, name)
		}
	}
	for name, cn := range want {
		if in.has[name] == cn.generation {
			continue
		}
		p := cn.proto()
		n := len(p.GetConfig()) + len(p.GetState()) + 4<<10
		if size > 0 && size+n > plugin.MaxSend {
			if err := flush(); err != nil {
				return err
			}
		}
		size += n
		req.Upserts = append(req.Upserts, p)
		sent[name] = cn
	}
	return flush()
}

// configure sends one Configure; under syncing.
func (in *instance) configure(ctx context.Context, req *connectorv1.ConfigureRequest, sent map[string]*conn) *plugin.Error {
	ctx, cancel := context.WithTimeout(ctx, in.sup.cat.timing.Configure)
	defer cancel()
	resp, err := in.client.Configure(ctx, req)
	if err != nil {
		return in.failure(ctx, attempt{verb: "configure", sent: true, harmless: true}, err)
	}
	outcomes := map[string]*connectorv1.ConnectionOutcome{}
	for _, o := range resp.GetOutcomes() {
		outcomes[o.GetConnection()] = o
	}
	for _, name := range req.GetRemoves() {
		delete(in.has, name)
	}
	for name, cn := range sent {
		in.closeResolvers(func(k resolverKey) bool { return k.connection == name && k.generation != cn.generation })
		in.has[name] = cn.generation
		o, ok := outcomes[name]
		switch e := plugin.UnmarshalStatus(o.GetStatus()); {
		case !ok:
			cn.refused.Store(in.lie(attempt{verb: "configure", connection: name, harmless: true}, codes.Internal, "no outcome"))
		case e != nil:
			if e.Origin == 0 {
				e.Origin = plugin.OriginConfig
			}
			if e.Domain == "" {
				e.Domain = in.sup.name
			}
			e.SideEffect = plugin.EffectNone
			cn.refused.Store(e)
			in.sup.log.Error("connector refuses a connection", "connection", name, "error", e)
		default:
			cn.refused.Store(nil)
		}
	}
	return nil
}

// forget makes the next sync send the connection again.
func (in *instance) forget(cn *conn) {
	in.syncing.Lock()
	defer in.syncing.Unlock()
	if in.has[cn.spec.Name] == cn.generation {
		delete(in.has, cn.spec.Name)
	}
}
