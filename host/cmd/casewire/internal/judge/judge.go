// Package judge holds the bundled connectors against the conformance suite, with fakes as their vendors.
package judge

import (
	"context"
	"os"
	"strings"

	"github.com/casewire/casewire/connectors/bundle"
	"github.com/casewire/casewire/host/cmd/casewire/internal/lab"
	"github.com/casewire/casewire/host/internal/conformance"
)

// Names lists the connectors that can be judged.
func Names() string { return strings.Join(bundle.Names(), ", ") }

// Subject is a bundled connector as a process of this executable, configured for fakes that live until the function that
// it returns is called. What it writes goes to the fakes, so it may write.
func Subject(_ context.Context, name string) (sub conformance.Subject, done func(), err error) {
	dir, err := os.MkdirTemp("", "casewire-judge-")
	if err != nil {
		return sub, nil, err
	}
	w, err := lab.New(dir, lab.Options{Seed: 1})
	if err != nil {
		_ = os.RemoveAll(dir)
		return sub, nil, err
	}
	done = func() {
		w.Close()
		_ = os.RemoveAll(dir)
	}
	sub = conformance.Subject{Args: []string{"connector", name}, Writes: true}
	if sub.Path, err = os.Executable(); err == nil {
		sub.Config, err = w.Connection(name, false)
	}
	if err == nil {
		sub.Hanging, err = w.Connection(name, true)
	}
	if err == nil {
		sub.Inputs, err = w.Inputs(name)
	}
	if err != nil {
		done()
		return sub, nil, err
	}
	return sub, done, nil
}
