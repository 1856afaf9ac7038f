//go:build !linux

package launch

import (
	"errors"
	"os/exec"
)

const elsewhere = "files, TCP ports and limits: only Linux can confine a connector"

func (c confinement) startConfined(cmd *exec.Cmd, _, _ <-chan struct{}) (Enforced, error) {
	e := Enforced{Mode: c.sandbox.Mode, Missing: []string{elsewhere}}
	if c.sandbox.Mode == SandboxStrict {
		return e, errors.New("it cannot be confined, and plugins.sandbox is strict: " + elsewhere)
	}
	return e, cmd.Start()
}

func (c confinement) limit(int, *Enforced) error { return nil }
