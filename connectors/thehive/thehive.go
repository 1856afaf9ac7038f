// Package thehive is the connector for TheHive 5: it makes sure that a case key has exactly one alert and, if wanted,
// one case promoted from it, keeps both up to date, adds what belongs to them, closes and opens cases, and brings what
// became of them as events.
//
// In TheHive an alert is unique by type, source and sourceRef within an organisation, and nothing else is. A case is
// therefore never created bare: the alert is made first, with sourceRef derived from the key, and then promoted. A
// repeated create is answered as a duplicate, which is confirmed by fetching the alert; a repeated promote is avoided by
// looking at the alert's caseId first. So a call may be repeated after any failure.
//
// What people do to a case stays done: only what is news since the last call is written, severity and markings only ever
// rise, and a case that was merged is followed by way of its alert. A case or alert that was deleted is an error, and no
// second one is made: whoever wants one deletes the alert as well.
//
// TheHive 4 has other paths, other observables and another meaning of TLP 3; it is refused.
package thehive

import (
	"maps"

	"github.com/casewire/casewire/sdk"
)

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
		"procedures":  []string{"T1078.004"}, "origin": "alert:da638551234567890123_-123456",
		"on_existing": "reopen", "comment_on_update": "It happened again.", "custom_fields": map[string]any{"tenant": "contoso"},
	})
	sdk.Action(c, "alert.ensure", "Make sure that a case key has exactly one alert, and bring it up to date.",
		(*Client).EnsureAlert, sdk.Keyed, sdk.DryRuns(), example)
	sdk.Action(c, "case.ensure", "Make sure that a case key has exactly one case, and bring it up to date.",
		(*Client).EnsureCase, sdk.Keyed, sdk.DryRuns(), example)
	cases(c)
	parts(c)
	sdk.AddTrigger(c, casesOf())
	sdk.OnCheck(c, (*Client).Check)
	return c
}

// cases declares what reads and changes cases and alerts.
func cases(c *sdk.Connector) {
	one := func(more map[string]any) map[string]any {
		in := map[string]any{"case": "~41943040"}
		maps.Copy(in, more)
		return in
	}
	sdk.Action(c, "case.get", "Read one case.", (*Client).GetCase, sdk.Read, sdk.Example("By its number", map[string]any{"case": "57"}))
	sdk.Action(c, "alert.get", "Read one alert.", (*Client).GetAlert, sdk.Read,
		sdk.Example("By the key that made it", map[string]any{"key": "msincident:11111111-2222-4333-8444-555555555555:28282"}))
	sdk.Rows(c, "case.search", "List cases.", (*Client).SearchCases, sdk.Read, sdk.Example("Open cases about an address, worst first", map[string]any{
		"stage": []string{"New", "InProgress"}, "observable": "198.51.100.7", "sort": "severity",
	}))
	sdk.Action(c, "case.update", "Make a case be as said; what is so already is not written.", (*Client).UpdateCase, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("Give it to somebody", one(map[string]any{"assignee": "ana@contoso.example", "status": "InProgress", "add_tags": []string{"vip"}})))
	sdk.Action(c, "case.close", "Close a case; one that is closed stays as it was closed.", (*Client).CloseCase, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("By a verdict", one(map[string]any{"verdict_id": 1, "summary": "A planned test.", "custom_fields": map[string]any{"root cause": "test"}})))
	sdk.Action(c, "case.reopen", "Open a closed case again; an open one stays as it is.", (*Client).ReopenCase, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("With the status for it", one(nil)))
	sdk.Action(c, "case.link", "Link two cases, once; where TheHive is too old for it, by a comment on both.", (*Client).LinkCases, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("Two incidents were merged", one(map[string]any{"other": "58", "type": "duplicate", "comment": "The incidents were merged."})))
	sdk.Action(c, "case.merge", "Make one new case of several, which cease to exist; there is no way back.", (*Client).MergeCases, sdk.Unsafe, sdk.DryRuns(),
		sdk.Example("Two cases", map[string]any{"cases": []string{"57", "58"}}))
}

// parts declares what adds to cases and alerts.
func parts(c *sdk.Connector) {
	malware := sdk.NewBlob("mail.eml", "message/rfc822", []byte("From: a@b.example\r\n\r\nhello"))
	sdk.Action(c, "case.comment", "Add a comment to a case or an alert, once per key.", (*Client).Comment, sdk.Keyed, sdk.DryRuns(),
		sdk.Example("On a case", map[string]any{"case": "57", "text": "**Blocked** at the proxy."}))
	sdk.Action(c, "task.add", "Add a task to a case, once per key.", (*Client).AddTask, sdk.Keyed, sdk.DryRuns(),
		sdk.Example("A call", map[string]any{"case": "57", "title": "Call the owner", "group": "communication", "due": "2026-11-24T10:00:00Z"}))
	sdk.Action(c, "observable.add", "Add observables to a case or an alert; what is there already stays as it is.",
		(*Client).AddObservables, sdk.Idempotent, sdk.DryRuns(), sdk.Example("An address", map[string]any{
			"case": "57", "observables": []map[string]any{{"dataType": "ip", "data": "198.51.100.7", "sighted": true, "tlp": "green"}},
		}))
	sdk.Action(c, "observable.upload", "Add a file to a case or an alert as an observable, unless it is there.", (*Client).Upload, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("A message", map[string]any{"case": "57", "file": malware, "tags": []string{"phishing"}}))
	sdk.Action(c, "attachment.add", "Attach a file to a case or an alert, unless it is there by name and contents.", (*Client).Attach, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("A report", map[string]any{"case": "57", "file": malware}))
}
