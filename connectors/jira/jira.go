// Package jira is the connector for Jira, Cloud and Data Center: it makes sure that a case has exactly one issue, keeps
// that issue up to date, comments on it, and reads and searches issues.
//
// Jira has no idempotency key and no unique field. An issue therefore carries a mark that is written in the same request
// that creates it: the label cw-<ref>, by which JQL finds it, and the issue property casewire.correlation, which proves
// that the label is ours. Before a create, and after one whose answer was lost, the connector looks for the mark. Jira's
// search index may lag behind by minutes, so a lost create is looked for during the resolve window and never repeated
// blindly.
//
// As a request of Jira Service Management (request_type) a case takes neither label nor property with its creation: there
// the text ends with the mark, is searched for it, and the rest is written right after.
//
// The trigger issues tells what becomes of the issues, by poll and by webhook, as case events.
//
// The connector speaks REST version 2, in which text is wiki markup on both deployments, through go-jira's client.
package jira

import (
	"context"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Version of the connector.
const Version = "0.1.0"

// Connector describes the connector; a main is sdk.Serve(jira.Connector()).
func Connector() *sdk.Connector { return connector(open) }

func connector(open func(context.Context, Config, sdk.Env) (*Client, error)) *sdk.Connector {
	c := sdk.New("jira", Version, "Issues in Jira Cloud and Jira Data Center.", open)
	c.Egress("{config.base_url}", "auth.atlassian.com", "{config.token_url}", "{config.credential.token_url}")
	sdk.Action(c, "issue.ensure", "Make sure that a case has exactly one issue, and bring it up to date.",
		(*Client).Ensure, sdk.Keyed, sdk.ResolveWindow(5*time.Minute), sdk.DryRuns(),
		sdk.Example("An alert becomes an issue", map[string]any{
			"title": "[Sentinel] Root login without MFA", "description": "**Who:** root\n**From:** 203.0.113.5",
			"severity_id": 4, "labels": []string{"t1078.004"},
		}))
	sdk.Action(c, "issue.comment", "Add a comment to an issue, once per key; many that have to wait for Jira's limits are written as one.", (*Client).Comment, sdk.Keyed, sdk.DryRuns())
	sdk.Action(c, "issue.update", "Change what differs on an issue, and nothing else.", (*Client).Update, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("Assign an issue and set a field by its name", map[string]any{
			"issue": "SOC-24", "assignee": "ana@example.com", "fields": map[string]any{"Detection source": "Defender"}, "add_labels": []string{"triaged"},
		}))
	sdk.Action(c, "issue.transition", "Move an issue to a status, by name or by what it means.", (*Client).Transition, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("Close an issue", map[string]any{"issue": "SOC-24", "to": "done", "resolution": "Done", "comment": "Closed with the incident."}))
	sdk.Action(c, "issue.attach", "Attach files to an issue, each once.", (*Client).Attach, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("Attach a small text", map[string]any{"issue": "SOC-24", "files": []any{
			map[string]any{"name": "rows.csv", "media_type": "text/csv", "data": "YSxiCjEsMgo="},
		}}))
	sdk.Action(c, "issue.link", "Link two issues, once.", (*Client).Link, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("An issue is a duplicate of another", map[string]any{"issue": "SOC-24", "to": "SOC-12", "type": "Duplicate"}))
	sdk.Action(c, "issue.remote_link", "Link an issue to a page elsewhere; the same link again is changed, not added.", (*Client).RemoteLink, sdk.Idempotent, sdk.DryRuns(),
		sdk.Example("Link the incident in its portal", map[string]any{
			"issue": "SOC-24", "url": "https://security.microsoft.com/incidents/2941", "title": "Incident 2941", "global_id": "casewire:incident:2941",
		}))
	sdk.Action(c, "issue.get", "Read one issue.", (*Client).Get, sdk.Read)
	sdk.Rows(c, "issue.search", "Find issues by JQL.", (*Client).Search, sdk.Read)
	sdk.AddTrigger(c, sdk.Trigger[*Client, watchCursor]{
		Name: "issues", Summary: "Issues that were made here (or all of the project) and changed: taken up, assigned, closed, deleted.",
		Emits: []string{event.TypeCase}, Interval: time.Minute,
		Poll: (*Client).poll, Hook: (*Client).hook, Resolve: (*Client).lookUp,
		HookRules: sdk.HookRules{JSON: true, MaxBody: 2 << 20},
	})
	sdk.OnCheck(c, (*Client).Check)
	return c
}
