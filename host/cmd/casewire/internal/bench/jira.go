package bench

import (
	"context"
	"fmt"

	"github.com/casewire/casewire/connectors/jira/jirafake"
)

// ensureInput is an alert of ordinary size.
const ensureInput = `{"title":"[Sentinel] %s","severity_id":%d,"labels":["aws","t1078.004"],"url":"https://portal.example/i/1","origin":"alert:%[1]s","description":` +
	`"## What\n**Who:** root\n**From:** 203.0.113.5\n\n| Entity | Value |\n|---|---|\n| ip | 203.0.113.5 |\n| account | 123456789012 |\n"}`

// jiraCases measures issue.ensure: what a new and a known case cost in requests, and how many cases a second are made while
// fake, connector and caller share the machine.
func jiraCases(ctx context.Context) (figures []figure, err error) {
	fake := jirafake.New(jirafake.Options{NoIssueLimit: true})
	defer fake.Close()
	m := &caseCost{
		connector: "jira", action: "issue.ensure", fake: fake,
		config: func(url string) map[string]any {
			return map[string]any{
				"base_url": url, "email": fake.User().Email, "api_token": fake.User().APIToken, "project": jirafake.DefaultProject,
				"issue_type": "Task", "deployment": "cloud",
			}
		},
		input:  func(key string, severity int) []byte { return fmt.Appendf(nil, ensureInput, key, severity) },
		ledger: func() map[string]map[string]uint64 { return fake.Ledger().Requests },
		count:  func() (int, int) { return fake.Count(), len(fake.Duplicates("cw-")) },
	}
	got, err := m.measure(ctx)
	if err != nil {
		return nil, err
	}
	return []figure{
		atMost("ensure_requests_new", float64(got.fresh), "requests", 2, "issue.ensure of a case that Jira does not have: look for its mark, make it"),
		atMost("ensure_requests_known", float64(got.worse), "requests", 1, "issue.ensure of a known case that got worse"),
		atLeast("ensure_per_s", got.perSecond, "1/s", 1500, fmt.Sprintf("new cases, two requests each, %d at a time; best of %d rounds of %d", costWorkers, costRounds, costCases)),
	}, nil
}
