package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/casewire/casewire/plugin"
)

// How long each measure of Stop has to help.
const (
	exitWait = 2500 * time.Millisecond // after the lifeline is closed; a connector gives itself 2 s
	termWait = time.Second
	killWait = 5 * time.Second
)

// Exec starts an executable as a process of its own.
type Exec struct {
	// Path of the executable; empty means the one that is running, which is how a bundled connector is started. It is not
	// searched for.
	Path string
	Args []string // without the program's name
	// Env is the whole environment but for go-plugin's own variables; nil means DefaultEnv.
	Env []string

	grants Grants
}

var _ Confiner = Exec{}

// Confined returns a launcher whose processes are granted this much, where they are confined.
func (e Exec) Confined(g Grants) Launcher {
	e.grants = g
	return e
}

// Launch starts the process and connects to it.
func (e Exec) Launch(ctx context.Context, h *Host, name string) (Process, error) {
	path, err := e.path()
	if err != nil {
		return nil, fmt.Errorf("start connector %s: %w", name, err)
	}
	return h.start(ctx, name, image{path: path, exe: path, argv0: name, args: e.Args, env: e.Env, grants: e.grants})
}

// image is what is executed.
type image struct {
	path   string // in the process
	exe    string // the same file, as the host sees it
	argv0  string
	args   []string
	env    []string   // nil means DefaultEnv
	files  []*os.File // what the process has open from descriptor 3 on
	grants Grants
}

// start starts a process and connects to it.
func (h *Host) start(ctx context.Context, name string, img image) (Process, error) {
	p, err := h.startProcess(ctx, name, img)
	if err != nil {
		return nil, fmt.Errorf("start connector %s: %w", name, err)
	}
	return p, nil
}

func (h *Host) startProcess(ctx context.Context, name string, img image) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.StartTimeout)
	defer cancel()
	log := h.log.With("connector", name)
	out := newOutput(log, h.opts.Redact)
	p := &process{log: log, out: out}
	env := img.env
	if env == nil {
		env = DefaultEnv()
	}
	if n := h.opts.Limits.Memory; n > 0 {
		env = append(slices.Clone(env), "GOMEMLIMIT="+strconv.FormatInt(n, 10))
	}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  plugin.Handshake(),
		Plugins:          plugin.Plugins(nil),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
		StartTimeout:     h.opts.StartTimeout,
		SkipHostEnv:      true,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: h.dir},
		GRPCDialOptions:  plugin.DialOptions(),
		// What a connector prints through its os.Stdout and os.Stderr once go-plugin has replaced them.
		SyncStdout: out.stream("stdout", false),
		SyncStderr: out.stream("stderr", true),
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, dir string) (runner.Runner, error) {
			cmd := &exec.Cmd{Path: img.path, Args: append([]string{img.argv0}, img.args...), Dir: dir, ExtraFiles: img.files}
			cmd.Env = append(append(cmd.Env, env...), "TMPDIR="+dir)
			cmd.Env = append(cmd.Env, spec.Env...) // cookie, versions, socket directory
			p.child.Store(newChild(h, name, dir, cmd, out, confinement{
				sandbox: h.opts.Sandbox, limits: h.opts.Limits, grants: img.grants, exe: img.exe, dir: dir,
			}))
			return p.child.Load(), ctx.Err()
		},
	})
	var err error
	connected := make(chan error, 1)
	go func() { connected <- p.connect() }()
	select {
	case err = <-connected:
	case <-ctx.Done():
		// Whatever connect waits for ends with the process.
		err = context.Cause(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it could not be called within %v", h.opts.StartTimeout)
		}
		p.Kill()
		if late := <-connected; late == nil {
			err = errors.Join(err, ctx.Err())
		}
	}
	if err != nil {
		if c := p.child.Load(); c != nil && c.ID() != "" {
			p.Kill()
			err = c.explain(ctx, err)
		}
		p.Stop(ctx, 0)
		return nil, err
	}
	p.log = log.With("pid", p.PID())
	return p, nil
}

func (e Exec) path() (string, error) {
	if e.Path != "" {
		return filepath.Abs(e.Path)
	}
	if selfPath != "" {
		if _, err := os.Stat(selfPath); err == nil {
			return selfPath, nil
		}
	}
	return os.Executable()
}
