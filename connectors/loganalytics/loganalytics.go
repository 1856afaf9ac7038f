// Package loganalytics is the connector for Azure Monitor Log Analytics: it binds parameters as KQL literals, runs
// queries, and streams typed rows.
package loganalytics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/connectors/internal/rowmap"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Version of the connector.
const Version = "0.1.0"

const apiName = "Log Analytics"

// Config is a connection's configuration.
type Config struct {
	azure.Access
	Workspace     string        `json:"workspace" cw:"required" doc:"Workspace id (a GUID, not the name)" example:"9d2f7d8a-0c1e-4c7d-9a57-1f4a4b2f3c11"`
	BaseURL       string        `json:"base_url,omitempty" doc:"Base URL of the query API; default that of the credential's cloud"`
	Scope         string        `json:"scope,omitempty" doc:"Token scope; default that of the credential's cloud"`
	Trigger       *Scheduled    `json:"trigger,omitempty" doc:"What the trigger query asks for; how often is the connection's poll"`
	Alerts        SentinelTable `json:"alerts,omitzero" doc:"How the trigger alerts asks for rows of SecurityAlert; it needs nothing"`
	Incidents     SentinelTable `json:"incidents,omitzero" doc:"How the trigger incidents asks for rows of SecurityIncident; it needs nothing"`
	QueriesPer30s int           `json:"queries_per_30s" default:"200" cw:"advanced,min=1,max=100000" doc:"How many queries the service lets the app start in 30 seconds; further ones wait"`
	Wait          string        `json:"wait" default:"180s" doc:"How long the service may work on one query, 1s to 600s"`
}

// Client is one connection.
type Client struct {
	cfg     Config
	session *azure.Session
	wait    time.Duration
	limits  *limiter
	log     *slog.Logger
	told    sync.Map // what was logged once, as a string

	schedule          *schedule // nil: there is none
	alerts, incidents *schedule

	mu   sync.Mutex
	apis map[time.Duration]*rest.Client // by how long they wait
}

// Connector describes the connector; a main is sdk.Serve(loganalytics.Connector()).
func Connector() *sdk.Connector {
	c := sdk.New("loganalytics", Version, "Log Analytics queries (KQL) as typed rows.", open).
		Egress(azure.Egress([]string{"base_url"}, func(c azure.Cloud) string { return c.LogAnalytics })...)
	sdk.Rows(c, "query", "Run a KQL query.", (*Client).query, sdk.Read, sdk.Vouched(),
		sdk.ShapedRows("map", "normalize", rowmap.Fields()),
		sdk.Example("root console logins of one account", map[string]any{
			"query":    "AWSCloudTrail | where UserIdentityType == \"Root\" and RecipientAccountId == acct | project TimeGenerated, SourceIpAddress",
			"params":   map[string]any{"acct": "123456789012"},
			"timespan": "PT24H",
		}),
		sdk.Example("the same as OCSF fields", map[string]any{
			"query": "AWSCloudTrail | where EventName == \"ConsoleLogin\" and UserIdentityType == \"Root\"", "timespan": "PT24H", "normalize": rowmap.AWSConsoleLogin,
		}),
		sdk.Example("columns under other names", map[string]any{
			"query": "SigninLogs | where ResultType == 0", "timespan": "PT1H", "map": map[string]any{"user.name": "UserPrincipalName", "src_endpoint.ip": "IPAddress"},
		}))
	azure.SignIn(c, func(c *Client) *azure.Session { return c.session })
	sdk.AddTrigger(c, sdk.Trigger[*Client, cursor]{
		Name: "query", Summary: "Rows that a scheduled query finds: each new row once, late ones included.", Emits: []string{event.TypeRow},
		Interval: 5 * time.Minute, Poll: (*Client).pollQuery,
	})
	sdk.AddTrigger(c, sdk.Trigger[*Client, cursor]{
		Name: "alerts", Summary: "Alerts of Microsoft Sentinel out of the table SecurityAlert. An alert that comes through Microsoft Graph, too, is one and the same.",
		Emits: []string{event.TypeAlert}, Interval: 5 * time.Minute, Poll: (*Client).pollAlerts,
	})
	sdk.AddTrigger(c, sdk.Trigger[*Client, cursor]{
		Name: "incidents", Summary: "Incidents of Microsoft Sentinel out of the table SecurityIncident. An incident that comes through Azure Resource Manager or Defender, too, is one and the same.",
		Emits: []string{event.TypeIncident}, Interval: 5 * time.Minute, Poll: (*Client).pollIncidents,
	})
	sdk.OnCheck(c, (*Client).check)
	return c
}

var workspaceID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func open(_ context.Context, cfg Config, env sdk.Env) (*Client, error) {
	c := &Client{cfg: cfg, apis: map[time.Duration]*rest.Client{}, log: env.Logger}
	if !workspaceID.MatchString(cfg.Workspace) {
		return nil, sdk.BadConfig("workspace", "%q is not a workspace id: it is the GUID that the portal calls Workspace ID, not the name", cfg.Workspace)
	}
	var err error
	if c.wait, err = parseWait(cfg.Wait); err != nil {
		return nil, sdk.BadConfig("wait", "%v", err)
	}
	if c.session, err = cfg.Open(env); err != nil {
		return nil, err
	}
	if cfg.Trigger != nil {
		if c.schedule, err = cfg.Trigger.schedule("trigger", nil); err != nil {
			return nil, err
		}
	}
	if c.alerts, err = cfg.Alerts.schedule("alerts", alertQuery, alertRows); err != nil {
		return nil, err
	}
	if c.incidents, err = cfg.Incidents.schedule("incidents", incidentQuery, incidentRows); err != nil {
		return nil, err
	}
	c.limits = limiterOf(cmp.Or(cfg.BaseURL, cfg.Cloud().LogAnalytics), &c.cfg.Credential, cfg.QueriesPer30s)
	_, err = c.waiting(c.wait)
	return c, err
}

// Column is a column of the result.
type Column struct {
	Name string `json:"name" doc:"Name"`
	Type string `json:"type" doc:"bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan"`
}

// Table is one of several tables.
type Table struct {
	Name     string   `json:"name" doc:"Name"`
	Columns  []Column `json:"columns" doc:"Columns in order"`
	RowCount int      `json:"row_count" doc:"Rows of this table"`
}

// Summary closes a result.
type Summary struct {
	Columns       []Column       `json:"columns" doc:"Columns in order; of the first table, if all are asked for; the outermost fields, if rows are mapped"`
	RowCount      int            `json:"row_count" doc:"Rows returned"`
	Partial       bool           `json:"partial" doc:"The result was cut"`
	PartialReason string         `json:"partial_reason,omitempty" doc:"Why the service cut the result"`
	Warnings      []string       `json:"warnings" doc:"What map and normalize did not find"`
	Slices        int            `json:"slices,omitempty" doc:"Into how many intervals of time the query was split"`
	Tables        []Table        `json:"tables,omitempty" doc:"All tables, if they are asked for"`
	Statistics    map[string]any `json:"statistics,omitempty" doc:"What the service says about its work, if asked for"`
	Render        map[string]any `json:"render,omitempty" doc:"What the query's render operator wants, if asked for"`
}

// check asks for nothing but an answer, and for the newest row of what the trigger watches.
func (c *Client) check(ctx context.Context) []sdk.Probe {
	probes := c.session.Check(ctx, azure.Need{API: apiName, Scope: cmp.Or(c.cfg.Scope, c.cfg.Cloud().LogAnalyticsScope)})
	if probes[0].Status == sdk.ProbeFailed {
		return append(probes, sdk.Probe{Name: "query", Status: sdk.ProbeSkipped, Summary: "there is no token"})
	}
	probes = append(probes, c.checkQuery(ctx))
	if len(c.limits.slots) == queriesAtOnce {
		probes = append(probes, sdk.Probe{
			Name: "quota", Status: sdk.ProbeWarning, Summary: fmt.Sprintf("all %d queries that the service runs at once for one identity are in use", queriesAtOnce),
			Remedy: "spread scheduled queries, or use another app for some of them",
		})
	}
	if c.schedule != nil {
		probes = append(probes, c.checkTrigger(ctx))
	}
	return probes
}

func (c *Client) checkQuery(ctx context.Context) sdk.Probe {
	in := QueryInput{Query: "print ok = true", MaxRows: 1, Split: "off", TimeColumn: "TimeGenerated", Wait: "30s"}
	if _, err := c.query(ctx, in, func(rawRow) error { return nil }); err != nil {
		return sdk.Probe{
			Name: "query", Status: sdk.ProbeFailed, Summary: err.Error(),
			Remedy: "give the app the role Log Analytics Reader on the workspace (it can take an hour to apply) and the API permission Data.Read",
		}
	}
	return sdk.Probe{Name: "query", Status: sdk.ProbeOK, Summary: "the workspace answers"}
}

// checkTrigger runs the scheduled query over the last minute.
func (c *Client) checkTrigger(ctx context.Context) sdk.Probe {
	now := time.Now().UTC()
	p := &pager{emit: func(sdk.Page[cursor]) error { return nil }}
	err := c.window(ctx, c.schedule, interval{now.Add(-time.Minute), now}, p)
	if e, ok := errors.AsType[*sdk.Error](err); ok && e.Code == codes.OutOfRange {
		err = nil // many rows in a minute; the poll asks for less
	}
	if err != nil {
		return sdk.Probe{
			Name: "trigger", Status: sdk.ProbeFailed, Summary: "the scheduled query fails: " + err.Error(),
			Remedy: "correct trigger.query; casewire query tries it by hand",
		}
	}
	if len(p.warnings) > 0 {
		return sdk.Probe{
			Name: "trigger", Status: sdk.ProbeWarning, Summary: "the scheduled query " + c.schedule.Name + " runs, but " + strings.Join(p.warnings, "; "),
			Remedy: "correct trigger.map, or have the query project the columns",
		}
	}
	return sdk.Probe{Name: "trigger", Status: sdk.ProbeOK, Summary: "the scheduled query " + c.schedule.Name + " runs"}
}
