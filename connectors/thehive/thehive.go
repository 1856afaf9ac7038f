// Package thehive is the connector for TheHive 5: it makes sure that a case key has exactly one alert and, if wanted,
// one case promoted from it, keeps both up to date, and adds comments and observables.
//
// In TheHive an alert is unique by type, source and sourceRef within an organisation, and nothing else is. A case is
// therefore never created bare: the alert is made first, with sourceRef derived from the key, and then promoted. A
// repeated create is answered as a duplicate, which is confirmed by fetching the alert; a repeated promote is avoided by
// looking at the alert's caseId first. So a call may be repeated after any failure.
//
// TheHive 4 has other paths, other observables and another meaning of TLP 3; it is refused.
package thehive

import "github.com/casewire/casewire/sdk"

// Version of the connector.
const Version = "0.1.0"

// Connector describes the connector; a main is sdk.Serve(thehive.Connector()).
func Connector() *sdk.Connector {
	c := sdk.New("thehive", Version, "Alerts and cases in TheHive 5.", open)
	c.Egress("{config.base_url}")
	example := sdk.Example("An alert becomes a case", map[string]any{
		"title": "[Sentinel] Root login without MFA", "description": "**Who:** root", "severity_id": 4,
		"tags":        []string{"aws"},
		"observables": []map[string]any{{"dataType": "ip", "data": "203.0.113.5", "sighted": true}},
		"procedures":  []string{"T1078.004"},
	})
	sdk.Action(c, "alert.ensure", "Make sure that a case key has exactly one alert, and bring it up to date.",
		(*Client).EnsureAlert, sdk.Keyed, sdk.DryRuns(), example)
	sdk.Action(c, "case.ensure", "Make sure that a case key has exactly one case, and bring it up to date.",
		(*Client).EnsureCase, sdk.Keyed, sdk.DryRuns(), example)
	sdk.Action(c, "case.get", "Read one case.", (*Client).GetCase, sdk.Read)
	sdk.Action(c, "case.comment", "Add a comment to a case, once per key.", (*Client).Comment, sdk.Keyed, sdk.DryRuns())
	sdk.Action(c, "observable.add", "Add observables to a case or an alert; what is there already stays as it is.",
		(*Client).AddObservables, sdk.Idempotent, sdk.DryRuns())
	sdk.AddTrigger(c, casesOf())
	sdk.OnCheck(c, (*Client).Check)
	return c
}
