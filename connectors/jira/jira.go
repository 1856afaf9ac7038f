// Package jira is the connector for Jira, Cloud and Data Center: it makes sure that a case has exactly one issue, keeps
// that issue up to date, comments on it, and reads and searches issues.
//
// Jira has no idempotency key and no unique field. An issue therefore carries a mark that is written in the same request
// that creates it: the label cw-<ref>, by which JQL finds it, and the issue property casewire.correlation, which proves
// that the label is ours. Before a create, and after one whose answer was lost, the connector looks for the mark. Jira's
// search index may lag behind by minutes, so a lost create is looked for during the resolve window and never repeated
// blindly.
//
// The connector speaks REST version 2, in which text is wiki markup on both deployments, through go-jira's client.
package jira

import (
	"time"

	"github.com/casewire/casewire/sdk"
)

// Version of the connector.
const Version = "0.1.0"

// Connector describes the connector; a main is sdk.Serve(jira.Connector()).
func Connector() *sdk.Connector {
	c := sdk.New("jira", Version, "Issues in Jira Cloud and Jira Data Center.", open)
	c.Egress("{config.base_url}")
	sdk.Action(c, "issue.ensure", "Make sure that a case has exactly one issue, and bring it up to date.",
		(*Client).Ensure, sdk.Keyed, sdk.ResolveWindow(5*time.Minute), sdk.DryRuns(),
		sdk.Example("An alert becomes an issue", map[string]any{
			"title": "[Sentinel] Root login without MFA", "description": "**Who:** root\n**From:** 203.0.113.5",
			"severity_id": 4, "labels": []string{"t1078.004"},
		}))
	sdk.Action(c, "issue.comment", "Add a comment to an issue, once per key.", (*Client).Comment, sdk.Keyed, sdk.DryRuns())
	sdk.Action(c, "issue.get", "Read one issue.", (*Client).Get, sdk.Read)
	sdk.Rows(c, "issue.search", "Find issues by JQL.", (*Client).Search, sdk.Read)
	sdk.OnCheck(c, (*Client).Check)
	return c
}
