package depot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/host/internal/launch"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

var (
	nameRule    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	versionRule = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$`)
)

// Describe says what a stored connector is. It is started once and its answer kept with it; after that it is not started.
// An empty name takes whatever it calls itself.
func (d *Depot) Describe(ctx context.Context, name, sum string, args []string) (*connectorv1.DescribeResponse, error) {
	kept := filepath.Join(d.dir, sum, "describe"+mark(args...)+".pb")
	if resp := readDescription(kept); resp != nil {
		return resp, checkDescription(resp, name)
	}
	resp, err := d.Ask(ctx, d.Launcher(sum, args), name)
	if err != nil {
		return nil, err
	}
	if err := writeDescription(kept, resp); err != nil {
		return nil, fmt.Errorf("keep what connector %s says of itself: %w", resp.GetName(), err)
	}
	return resp, nil
}

// askLimits hold a program that nobody has approved yet.
var askLimits = launch.Limits{Memory: 512 << 20, Files: 1024}

// mark keeps apart what one program says of itself with different arguments, or at different addresses.
func mark(of ...string) string {
	if len(of) == 0 {
		return ""
	}
	h := sha256.Sum256([]byte(strings.Join(of, "\x00")))
	return "-" + hex.EncodeToString(h[:8])
}

// Remember keeps what a connector at an address said of itself, so that a configuration can be checked while it is away.
func (d *Depot) Remember(name, addr string, resp *connectorv1.DescribeResponse) error {
	if err := os.MkdirAll(filepath.Join(d.dir, "addresses"), 0o700); err != nil {
		return err
	}
	return writeDescription(d.remembered(name, addr), resp)
}

// Recall returns what a connector at an address said last, or nil.
func (d *Depot) Recall(name, addr string) *connectorv1.DescribeResponse {
	resp := readDescription(d.remembered(name, addr))
	if resp == nil || checkDescription(resp, name) != nil {
		return nil
	}
	return resp
}

func (d *Depot) remembered(name, addr string) string {
	return filepath.Join(d.dir, "addresses", name+mark(addr)+".pb")
}

// Ask starts a connector, or connects to it, asks what it is, and lets go of it. An empty name takes whatever it calls
// itself.
func (d *Depot) Ask(ctx context.Context, l launch.Launcher, name string) (resp *connectorv1.DescribeResponse, err error) {
	sandbox := d.Sandbox
	sandbox.Mode = cmp.Or(sandbox.Mode, launch.SandboxAuto)
	h, err := launch.NewHost(launch.Options{Sandbox: sandbox, Limits: askLimits})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	label := name
	if label == "" {
		label = "connector"
	}
	p, err := l.Launch(ctx, h, label)
	if err != nil {
		return nil, err
	}
	defer p.Stop(context.WithoutCancel(ctx), 0)
	ctx, cancel := context.WithTimeout(ctx, plugin.DescribeTimeout)
	defer cancel()
	resp, err = connectorv1.NewConnectorClient(p.Conn()).Describe(ctx, &connectorv1.DescribeRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask connector %s what it is: %w", label, plugin.FromError(err))
	}
	return resp, checkDescription(resp, name)
}

// checkDescription refuses names and versions that people could not read. What a connector can do is judged by who uses it.
func checkDescription(resp *connectorv1.DescribeResponse, name string) error {
	switch got := resp.GetName(); {
	case !nameRule.MatchString(got) || len(got) > 64:
		return fmt.Errorf("it calls itself %.80q, which is no connector's name: lower-case letters, digits and dashes, at most 64", got)
	case !versionRule.MatchString(resp.GetVersion()):
		return fmt.Errorf("connector %s has the version %.80q, which is none: write it like 1.2.3", got, resp.GetVersion())
	case name != "" && got != name:
		return fmt.Errorf("it calls itself %q, not %q", got, name)
	}
	return nil
}

// readDescription returns nil for what is not there or cannot be read.
func readDescription(path string) *connectorv1.DescribeResponse {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	resp := &connectorv1.DescribeResponse{}
	if proto.Unmarshal(b, resp) != nil || resp.GetName() == "" {
		return nil
	}
	return resp
}

func writeDescription(path string, resp *connectorv1.DescribeResponse) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(resp)
	if err != nil {
		return err
	}
	return writeFile(path, b, 0o600)
}
