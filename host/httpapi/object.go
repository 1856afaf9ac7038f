package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/casewire/casewire/host/store"
)

// FindRuns lists runs, newest first, as ListRuns does; where id is not empty, only those for one object: an alert, incident
// or case, by its id at the vendor or by its key. The error is store.ErrNotFound if nothing of that name ever came.
func FindRuns(ctx context.Context, st store.Store, id string, f store.RunFilter) ([]store.Run, error) {
	if id == "" {
		return st.ListRuns(ctx, f)
	}
	keys, err := objectKeys(ctx, st, id)
	if err != nil {
		return nil, err
	}
	var out []store.Run
	for _, key := range keys {
		f.OrderKey = key
		runs, err := st.ListRuns(ctx, f)
		if err != nil {
			return nil, err
		}
		out = append(out, runs...)
	}
	slices.SortStableFunc(out, func(a, b store.Run) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	out = slices.CompactFunc(out, func(a, b store.Run) bool { return a.ID == b.ID })
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out, nil
}

// objectKeys finds the keys that runs go by for an object's id or key. The same id in two sources is two objects.
func objectKeys(ctx context.Context, st store.Store, id string) ([]string, error) {
	events, err := st.Events(ctx, store.EventFilter{Subject: id, Limit: 1000})
	if err != nil {
		return nil, err
	}
	names := []string{id}
	for _, e := range events {
		names = append(names, e.Event.PartitionKey)
	}
	slices.Sort(names)
	var keys []string
	for _, name := range slices.Compact(names) {
		o, err := st.Object(ctx, name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, o.FirstKey)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("nothing came that is named %q: %w", id, store.ErrNotFound)
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}
