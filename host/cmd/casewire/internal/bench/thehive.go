package bench

import (
	"context"
	"fmt"

	"github.com/casewire/casewire/connectors/thehive/hivefake"
)

// hiveInput is an alert of ordinary size.
const hiveInput = `{"title":"[Sentinel] %s","severity_id":%d,"tags":["aws"],"url":"https://portal.example/i/1","origin":"alert:%[1]s","procedures":["T1078.004"],` +
	`"observables":[{"dataType":"ip","data":"198.51.100.7","sighted":true},{"dataType":"other","data":"arn:aws:iam::123456789012:user/root","tags":["resource"]}],` +
	`"description":"## What\n**Who:** root\n\n| Entity | Value |\n|---|---|\n| ip | 198.51.100.7 |\n| account | 123456789012 |\n"}`

// hiveCases measures case.ensure: what a new and a known case cost in requests, and how many cases a second are made while
// fake, connector and caller share the machine.
func hiveCases(ctx context.Context) (figures []figure, err error) {
	fake := hivefake.New(hivefake.Options{})
	defer fake.Close()
	m := &caseCost{
		connector: "thehive", action: "case.ensure", fake: fake,
		config: func(url string) map[string]any { return map[string]any{"base_url": url, "api_key": fake.APIKey()} },
		input:  func(key string, severity int) []byte { return fmt.Appendf(nil, hiveInput, key, severity) },
		ledger: func() map[string]map[string]uint64 { return fake.Ledger().Requests },
		count:  func() (int, int) { return fake.Count(), len(fake.Duplicates("")) },
	}
	got, err := m.measure(ctx)
	if err != nil {
		return nil, err
	}
	return []figure{
		atMost("hive_requests_new", float64(got.fresh), "requests", 2, "case.ensure of a case that TheHive does not have: make the alert, promote it"),
		atMost("hive_requests_known", float64(got.same), "requests", 1, "case.ensure of a known case without news: is it closed?"),
		atMost("hive_requests_worse", float64(got.worse), "requests", 2, "case.ensure of a known case that got worse"),
		atLeast("hive_per_s", got.perSecond, "1/s", 1500, fmt.Sprintf("new cases, two requests each, %d at a time; best of %d rounds of %d", costWorkers, costRounds, costCases)),
	}, nil
}
