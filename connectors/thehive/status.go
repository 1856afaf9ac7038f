package thehive

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// status is a status that an administrator defined, and what it means.
type status struct {
	Value  string `json:"value"`
	Stage  string `json:"stage"`
	Order  int    `json:"order"`
	Hidden bool   `json:"hidden"`
}

type statuses struct {
	list  []status
	until time.Time
}

// The statuses that TheHive comes with.
var (
	defaultCaseStatuses = []status{
		{Value: "New", Stage: stageNew},
		{Value: "InProgress", Stage: stageInProgress},
		{Value: "TruePositive", Stage: stageClosed},
		{Value: "FalsePositive", Stage: stageClosed},
		{Value: "Indeterminate", Stage: stageClosed},
		{Value: "Other", Stage: stageClosed},
		{Value: "Duplicated", Stage: stageClosed},
	}
	defaultAlertStatuses = []status{
		{Value: "New", Stage: stageNew},
		{Value: "InProgress", Stage: stageInProgress},
		{Value: "Imported", Stage: "Imported"},
		{Value: "Ignored", Stage: stageClosed},
	}
)

// statuses lists the statuses of cases or alerts, those that an administrator hides left out.
func (c *Client) statuses(ctx context.Context, k kind) ([]status, error) {
	cache, name, fallback := &c.caseStatuses, "listCaseStatus", defaultCaseStatuses
	if k == kindAlert {
		cache, name, fallback = &c.alertStatuses, "listAlertStatus", defaultAlertStatuses
	}
	if s := cache.Load(); s != nil && time.Now().Before(s.until) {
		return s.list, nil
	}
	var found []status
	err := c.query(ctx, "list statuses of "+k.noun+"s", []any{
		map[string]any{"_name": name}, map[string]any{"_name": "page", "from": 0, "to": 1000},
	}, &found)
	switch {
	case badRequest(err) || err == nil && len(found) == 0: // a version that cannot be asked
		found = fallback
	case err != nil:
		return nil, err
	}
	found = slices.DeleteFunc(slices.Clone(found), func(s status) bool { return s.Hidden })
	slices.SortStableFunc(found, func(a, b status) int { return a.Order - b.Order })
	cache.Store(&statuses{list: found, until: time.Now().Add(fieldsFor)})
	return found, nil
}

// openStatus picks the status that opens something again: the one named, else InProgress, else the first of that stage, else
// of stage New.
func (c *Client) openStatus(ctx context.Context, k kind, name string) (string, error) {
	all, err := c.statuses(ctx, k)
	if err != nil {
		return "", err
	}
	if name != "" {
		i := slices.IndexFunc(all, func(s status) bool { return strings.EqualFold(s.Value, name) })
		switch {
		case i < 0:
			return "", sdk.Invalid("/status", "there is no status %q; there are %s", cut(name, 64), names(all, func(s status) bool { return s.Stage != stageClosed }))
		case all[i].Stage == stageClosed:
			return "", sdk.Invalid("/status", "status %q closes the %s", all[i].Value, k.noun)
		}
		return all[i].Value, nil
	}
	for _, ok := range []func(s status) bool{
		func(s status) bool { return s.Value == stageInProgress },
		func(s status) bool { return s.Stage == stageInProgress },
		func(s status) bool { return s.Stage == stageNew },
	} {
		if i := slices.IndexFunc(all, ok); i >= 0 {
			return all[i].Value, nil
		}
	}
	return "", sdk.BadConfig("", "TheHive has no status for open %ss", k.noun)
}

func names(all []status, keep func(status) bool) string {
	var out []string
	for _, s := range all {
		if keep(s) {
			out = append(out, s.Value)
		}
	}
	return strings.Join(out, ", ")
}
