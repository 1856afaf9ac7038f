package host

import (
	"context"
	"fmt"
	"sync"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
)

// flows holds the flows in force, and compiled older versions for runs that began on them.
type flows struct {
	store store.Store
	cat   flow.Catalog

	mu        sync.RWMutex
	byName    map[string]*flow.Flow
	byVersion map[string]*flow.Flow
	byTrigger map[triggerKey][]binding
}

// binding is a flow that answers a trigger.
type binding struct {
	flow    *flow.Flow
	trigger *flow.Trigger
}

func newFlows(st store.Store, cat flow.Catalog) *flows {
	return &flows{store: st, cat: cat, byVersion: map[string]*flow.Flow{}}
}

func (f *flows) set(fs []*flow.Flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byName, f.byTrigger = map[string]*flow.Flow{}, map[triggerKey][]binding{}
	for _, fl := range fs {
		f.byName[fl.Name] = fl
		f.byVersion[fl.Version] = fl
		for i := range fl.Triggers {
			t := &fl.Triggers[i]
			key := triggerKey{t.Connection, t.Trigger}
			f.byTrigger[key] = append(f.byTrigger[key], binding{fl, t})
		}
	}
}

// triggers lists the triggers that flows in force answer.
func (f *flows) triggers() map[triggerKey][]binding {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.byTrigger
}

func (f *flows) answering(key triggerKey) []binding {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.byTrigger[key]
}

func (f *flows) current(name string) (*flow.Flow, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	fl, ok := f.byName[name]
	return fl, ok
}

// Flow returns a compiled version, compiling a pinned one from its kept source when needed.
func (f *flows) Flow(ctx context.Context, name, version string) (*flow.Flow, error) {
	f.mu.RLock()
	fl := f.byVersion[version]
	f.mu.RUnlock()
	if fl != nil {
		return fl, nil
	}
	kept, err := f.store.FlowVersion(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("flow %s version %.12s: %w", name, version, err)
	}
	fl, err = flow.Compile(kept.Name, kept.Bundle, f.cat)
	if err != nil {
		return nil, fmt.Errorf("flow %s version %.12s cannot be used any more: %w", name, version, err)
	}
	f.mu.Lock()
	f.byVersion[version] = fl
	f.mu.Unlock()
	return fl, nil
}
