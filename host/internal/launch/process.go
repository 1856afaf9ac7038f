package launch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// process is a connector started by Exec.
type process struct {
	log    *slog.Logger
	out    *output
	client *goplugin.Client
	child  atomic.Pointer[child]
	conn   *grpc.ClientConn
	stop   sync.Mutex // one Stop at a time
}

var (
	_ Process  = (*process)(nil)
	_ Reporter = (*process)(nil)
)

// connect starts the process, waits for its handshake, and opens the connection.
func (p *process) connect() error {
	cp, err := p.client.Client()
	if err != nil {
		return err
	}
	g, ok := cp.(*goplugin.GRPCClient)
	if !ok {
		return fmt.Errorf("it speaks %T, not gRPC", cp)
	}
	p.conn = g.Conn
	return nil
}

func (p *process) Conn() grpc.ClientConnInterface { return p.conn }
func (p *process) PID() int                       { return p.child.Load().cmd.Process.Pid }
func (p *process) Done() <-chan struct{}          { return p.child.Load().done }
func (p *process) Exit() Exit                     { return p.child.Load().exit() }
func (p *process) Enforced() Enforced             { return p.child.Load().heldTo() }

func (p *process) Kill() {
	if c := p.child.Load(); c != nil {
		c.signalGroup(killGroup)
	}
}

func (p *process) Stop(ctx context.Context, grace time.Duration) {
	p.stop.Lock()
	defer p.stop.Unlock()
	if c := p.child.Load(); c != nil && c.ID() != "" {
		if p.conn != nil && grace > 0 && !c.ended() {
			drain(ctx, p.log, p.conn, grace)
		}
		c.letGo()
		if !c.wait(ctx, exitWait) {
			p.log.Warn("connector does not exit; terminating its process group")
			c.signalGroup(terminateGroup)
		}
		if !c.wait(ctx, termWait) {
			p.log.Warn("connector does not terminate; killing its process group")
			c.signalGroup(killGroup)
		}
		if !c.wait(context.WithoutCancel(ctx), killWait) {
			p.log.Error("connector does not die")
		}
	}
	p.cleanUp()
}

// cleanUp lets go-plugin close the connection and remove the socket's directory. On a dead process it returns at once;
// should it not, it is left behind rather than waited for.
func (p *process) cleanUp() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.client.Kill()
	}()
	t := time.NewTimer(killWait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		p.log.Error("cleaning up after a connector does not end")
	}
}

// drain asks the connector to finish what it has.
func drain(ctx context.Context, log *slog.Logger, conn grpc.ClientConnInterface, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace+time.Second)
	defer cancel()
	resp, err := connectorv1.NewConnectorClient(conn).Drain(ctx, &connectorv1.DrainRequest{Grace: durationpb.New(grace)})
	if err != nil {
		log.Warn("connector did not drain", "error", err)
		return
	}
	log.Debug("connector drained", "finished", resp.GetFinished(), "cancelled", resp.GetCancelled())
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// wait says whether the process ended within d; the end of ctx cuts it short.
func (c *child) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return c.ended()
}
