// Package loganalytics is the connector for Azure Monitor Log Analytics: it binds parameters as KQL literals, runs
// queries, and streams typed rows.
package loganalytics

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Version of the connector.
const Version = "0.1.0"

const apiName = "Log Analytics"

// Config is a connection's configuration.
type Config struct {
	azure.Access
	Workspace string `json:"workspace" cw:"required" doc:"Workspace id (a GUID, not the name)" example:"9d2f7d8a-0c1e-4c7d-9a57-1f4a4b2f3c11"`
	BaseURL   string `json:"base_url,omitempty" doc:"Base URL of the query API; default that of the credential's cloud"`
	Scope     string `json:"scope,omitempty" doc:"Token scope; default that of the credential's cloud"`
	Wait      string `json:"wait" default:"180s" doc:"How long the service may work on one query, 1s to 600s"`
}

// Client is one connection.
type Client struct {
	cfg  Config
	api  *rest.Client
	wait time.Duration
}

// Connector describes the connector; a main is sdk.Serve(loganalytics.Connector()).
func Connector() *sdk.Connector {
	c := sdk.New("loganalytics", Version, "Log Analytics queries (KQL) as typed rows.", open).
		Egress(azure.Egress([]string{"base_url"}, func(c azure.Cloud) string { return c.LogAnalytics })...)
	sdk.Rows(c, "query", "Run a KQL query.", (*Client).query, sdk.Read,
		sdk.Example("root console logins of one account", map[string]any{
			"query":    "AWSCloudTrail | where UserIdentityType == \"Root\" and RecipientAccountId == acct | project TimeGenerated, SourceIpAddress",
			"params":   map[string]any{"acct": "123456789012"},
			"timespan": "PT24H",
		}))
	sdk.OnCheck(c, (*Client).check)
	return c
}

var workspaceID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func open(_ context.Context, cfg Config, env sdk.Env) (*Client, error) {
	c := &Client{cfg: cfg}
	if !workspaceID.MatchString(cfg.Workspace) {
		return nil, sdk.BadConfig("workspace", "%q is not a workspace id: it is the GUID that the portal calls Workspace ID, not the name", cfg.Workspace)
	}
	var err error
	if c.wait, err = time.ParseDuration(cfg.Wait); err != nil || c.wait < time.Second || c.wait > 600*time.Second {
		return nil, sdk.BadConfig("wait", "%q is not a duration from 1s to 600s", cfg.Wait)
	}
	session, err := cfg.Open(env)
	if err != nil {
		return nil, err
	}
	c.api, err = session.Client(azure.API{
		Name: apiName, URL: cmp.Or(cfg.BaseURL, cfg.Cloud().LogAnalytics), Field: "base_url",
		Scope: cmp.Or(cfg.Scope, cfg.Cloud().LogAnalyticsScope),
		// The service answers within wait; the network gets a little more.
		Options: rest.Options{Timeout: c.wait + 15*time.Second, RequestIDHeaders: []string{"x-ms-request-id", "request-id"}},
	})
	return c, err
}

// QueryInput is a query with its parameters.
type QueryInput struct {
	Query string `json:"query" cw:"required,maxlen=200000" doc:"KQL. Parameters are bound by let statements in front of it; never paste values into it"`
	// Params become KQL literals by their JSON type; {"type": "datetime", "value": "…"} and the like say otherwise.
	Params       map[string]any `json:"params,omitempty" doc:"Values bound as let statements: string, long, real, bool, dynamic by their JSON type; {type, value} for datetime, timespan, guid, decimal, long"`
	Timespan     string         `json:"timespan,omitempty" doc:"ISO 8601 duration or interval, on top of filters in the query" example:"PT24H"`
	Workspaces   []string       `json:"workspaces,omitempty" doc:"Further workspaces to query across"`
	MaxRows      int            `json:"max_rows" default:"10000" cw:"min=1,max=500000" doc:"Most rows to return; more is an error unless allow_partial"`
	AllowPartial bool           `json:"allow_partial,omitempty" doc:"Take what there is when the service or max_rows cuts the result"`
}

// Column is a column of the result.
type Column struct {
	Name string `json:"name" doc:"Name"`
	Type string `json:"type" doc:"bool, datetime, decimal, dynamic, guid, int, long, real, string or timespan"`
}

// Summary closes a result.
type Summary struct {
	Columns  []Column `json:"columns" doc:"Columns in order"`
	RowCount int      `json:"row_count" doc:"Rows returned"`
	Partial  bool     `json:"partial" doc:"The result was cut"`
}

func (c *Client) query(ctx context.Context, in QueryInput, emit func(rawRow) error) (Summary, error) {
	text, err := bind(in.Query, in.Params)
	if err != nil {
		return Summary{}, err
	}
	body := map[string]any{"query": text}
	if in.Timespan != "" {
		body["timespan"] = in.Timespan
	}
	if len(in.Workspaces) > 0 {
		body["workspaces"] = in.Workspaces
	}
	read := false // a query changes nothing, though it is a POST
	resp, err := c.api.Stream(ctx, rest.Request{
		Method: http.MethodPost, Path: "/v1/workspaces/" + url.PathEscape(c.cfg.Workspace) + "/query", Body: body, Write: &read,
		Header: http.Header{"Prefer": {fmt.Sprintf("wait=%d", int(math.Ceil(c.wait.Seconds())))}},
	})
	if err != nil {
		return Summary{}, fmt.Errorf("query workspace %s: %w", c.cfg.Workspace, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return Summary{Columns: []Column{}}, nil // a workspace without data
	}
	sum, err := decode(resp.Body, limits{rows: in.MaxRows, partial: in.AllowPartial}, emit)
	if err != nil {
		return sum, fmt.Errorf("query workspace %s: %w", c.cfg.Workspace, err)
	}
	return sum, nil
}

func (c *Client) check(ctx context.Context) []sdk.Probe {
	sum, err := c.query(ctx, QueryInput{Query: "print ok = true", MaxRows: 1}, func(rawRow) error { return nil })
	if err != nil || sum.RowCount > 1 {
		return []sdk.Probe{{
			Name: "query", Status: sdk.ProbeFailed, Summary: fmt.Sprint(err),
			Remedy: "give the app the role Log Analytics Reader on the workspace (it can take an hour to apply) and the API permission Data.Read",
		}}
	}
	return []sdk.Probe{{Name: "query", Status: sdk.ProbeOK, Summary: "the workspace answers"}}
}
