package conformance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// How long the end of a process may take, and how much a busy machine may add to it.
const (
	exitLimit = 2 * time.Second
	slack     = 500 * time.Millisecond
)

var processChecks = []check{
	{
		"process.cookie", "Without the cookie in its environment it refuses to serve: it says so on standard error and exits with a failure.",
		"Compare the environment variable CASEWIRE_CONNECTOR with the cookie first thing, and exit with 1.",
		func(ctx context.Context, s *suite) error {
			p, err := s.spawn(s.sub.Env, false)
			if err != nil {
				return err
			}
			defer p.kill()
			if !p.await(ctx, 5*time.Second) {
				return latef("it still runs after 5 s")
			}
			switch out := p.stdout.text(); {
			case strings.Count(strings.SplitN(out, "\n", 2)[0], "|") >= 4:
				return fmt.Errorf("it printed a handshake: %q", out)
			case p.cmd.ProcessState.ExitCode() == 0:
				return errors.New("it exited with 0")
			}
			return nil
		},
	},
	{
		"process.handshake", "Within 10 s the first line on standard output is 1|1|unix|PATH|grpc| and a line feed.",
		"Print exactly that line once the socket accepts connections, and flush standard output.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			parts := strings.Split(p.line, "|")
			if len(parts) != 6 || parts[0] != "1" || parts[1] != "1" || parts[2] != "unix" || parts[4] != "grpc" || parts[5] != "" {
				return fmt.Errorf("the line is %q", clip(p.line))
			}
			return nil
		},
	},
	{
		"process.socket", "It listens on a unix socket directly in the directory that PLUGIN_UNIX_SOCKET_DIR names.",
		"Make the socket in that directory: the host refuses addresses elsewhere, which could be another program's.",
		func(ctx context.Context, s *suite) error {
			p, err := s.process(ctx)
			if err != nil {
				return err
			}
			if at := strings.Split(p.line, "|")[3]; filepath.Dir(filepath.Clean(at)) != p.dir {
				return fmt.Errorf("it listens at %q, which is not in %s", clip(at), p.dir)
			}
			return nil
		},
	},
	{
		"process.lifeline", "It exits within 2 s of the end of its standard input, even while a call is open.",
		"Read standard input in a thread of its own; at its end let calls finish for at most a second, then exit.",
		func(ctx context.Context, s *suite) error {
			return s.ends(ctx, func(p *process) error { return p.stdin.Close() })
		},
	},
	{
		"process.sigterm", "It exits within 2 s of SIGTERM when no call is open.",
		"Handle SIGTERM: take no new work, finish what is open, exit.",
		func(ctx context.Context, s *suite) error {
			p, err := s.launch(ctx, s.sub.Env)
			if err != nil {
				return err
			}
			defer p.kill()
			if _, err := p.describe(ctx); err != nil {
				return fmt.Errorf("Describe: %w", err)
			}
			p.ending.Store(true)
			if err := terminate(p.cmd.Process); err != nil {
				return err
			}
			if !p.await(ctx, exitLimit+slack) {
				return latef("it still runs %v after the signal", exitLimit)
			}
			return nil
		},
	},
	{
		"process.children", "No process that it started outlives it.",
		"End what you start before you exit; children share your process group, so that one signal reaches them all.",
		func(ctx context.Context, s *suite) error {
			p, err := s.launch(ctx, s.sub.Env)
			if err != nil {
				return err
			}
			defer p.kill()
			d, err := p.describe(ctx)
			if err != nil {
				return fmt.Errorf("Describe: %w", err)
			}
			s.about = d
			// Something may be started only once there is a connection.
			if config, err := s.config(refusing); err == nil {
				s.generation++
				_ = s.configureOne(ctx, p, string(refusing), s.generation, config) // judged elsewhere
			}
			p.ending.Store(true)
			_ = p.stdin.Close()
			if !p.await(ctx, 2*exitLimit) {
				return latef("it does not exit when its standard input ends")
			}
			for range 50 { // a signal takes a moment to end a child
				left, ok := groupMembers(p.cmd.Process.Pid)
				if !ok {
					return skipf("this system has no /proc to look for children in")
				}
				if len(left) == 0 {
					return nil
				}
				if err := pause(ctx, 20*time.Millisecond); err != nil {
					return err
				}
			}
			left, _ := groupMembers(p.cmd.Process.Pid)
			return fmt.Errorf("%d processes of its group still run", len(left))
		},
	},
	{
		"process.restart", "After SIGKILL it starts again, describes itself with the same bytes, and takes the same configuration.",
		"Keep nothing that matters outside of what the host hands you; remove left-overs when you start.",
		func(ctx context.Context, s *suite) error {
			p, _, err := s.usual(ctx)
			var skip skipped
			if err != nil && !errors.As(err, &skip) {
				return err
			}
			was := p
			before := s.about
			s.retire()
			if p, _, err = s.usual(ctx); err != nil && !errors.As(err, &skip) {
				return fmt.Errorf("after SIGKILL: %w", err)
			}
			if p == was || !sameDescription(before, s.about) {
				return errors.New("it describes itself otherwise after a restart")
			}
			return nil
		},
	},
}

// ends opens a call that hangs where that is possible, lets go of the process, and demands that it ends.
func (s *suite) ends(ctx context.Context, letGo func(*process) error) error {
	s.retire()
	p, err := s.connection(ctx, silent)
	var skip skipped
	if err != nil && !errors.As(err, &skip) {
		return err
	}
	if a, none := s.anyAction(silent); err == nil && none == nil {
		if req, err := s.invocation(silent, a); err == nil {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := p.client.Invoke(ctx, req)
			if err == nil {
				over := make(chan struct{})
				go func() {
					defer close(over)
					_, _ = stream.Recv() // its end is of no interest
				}()
				held, stop := context.WithTimeout(ctx, 2*time.Second)
				_ = s.silent.await(held, func(open int) bool { return open > 0 }) // an action may need no vendor
				stop()
				defer func() { <-over }()
			}
		}
	}
	p.ending.Store(true)
	s.shared = nil
	defer p.kill()
	if err := letGo(p); err != nil {
		return err
	}
	if !p.await(ctx, exitLimit+slack) {
		return latef("it still runs after %v", exitLimit)
	}
	return nil
}

func sameDescription(a, b *connectorv1.DescribeResponse) bool { return proto.Equal(a, b) }

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
