package loganalytics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// QueryInput is a query with its parameters.
type QueryInput struct {
	Query string `json:"query" cw:"required,maxlen=200000" doc:"KQL. Parameters are bound by let statements in front of it; never paste values into it"`
	// Params become KQL literals by their JSON type; {"type": "datetime", "value": "…"} and the like say otherwise.
	Params       map[string]any `json:"params,omitempty" doc:"Values bound as let statements: string, long, real, bool, dynamic by their JSON type; {type, value} for datetime, timespan, guid, decimal, int, long, real"`
	Timespan     string         `json:"timespan,omitempty" doc:"ISO 8601 duration or interval, on top of filters in the query" example:"PT24H"`
	Workspaces   []string       `json:"workspaces,omitempty" cw:"maxlen=99" doc:"Further workspaces to query across, as ids, names or resource ids; 100 in all"`
	Resource     string         `json:"resource,omitempty" doc:"Azure resource to query the logs of, in place of the workspace" example:"/subscriptions/5b1e0c7a-3d5f-4f0e-9d39-2f8f3a2b6c10/resourceGroups/prod/providers/Microsoft.Compute/virtualMachines/web-1"`
	MaxRows      int            `json:"max_rows" default:"10000" cw:"min=1,max=50000000" doc:"Most rows to return; more is an error unless allow_partial"`
	AllowPartial bool           `json:"allow_partial,omitempty" doc:"Take what there is when the service or max_rows cuts the result"`
	Split        string         `json:"split" enum:"auto,off,force" default:"auto" doc:"What to do when the result is too large for one answer (500,000 rows, 100 MB) and timespan is given: auto asks for shorter intervals if the query looks at one row at a time; force does so whatever the query is; off fails"`
	TimeColumn   string         `json:"time_column" default:"TimeGenerated" doc:"Column by which the query is split"`
	Wait         string         `json:"wait,omitempty" doc:"How long the service may work on the query, 1s to 600s; default that of the connection"`
	Tables       string         `json:"tables" enum:"primary,all" default:"primary" doc:"all returns the rows of every table of the result, each with its table's name in $table"`
	Statistics   bool           `json:"statistics,omitempty" doc:"Return what the service says about its work"`
	Render       bool           `json:"render,omitempty" doc:"Return what the query's render operator wants"`
	Fields
}

// Fields says under what names rows come out. Nothing: under those of their columns.
type Fields struct {
	Map       map[string]string `json:"map,omitempty" doc:"Fields in place of the columns: each names its column, or a value inside one that holds JSON (AdditionalEventData.MFAUsed). A name with dots makes a field inside another: row.src_endpoint.ip. A column that is missing is null, and a warning" example:"{\"user.name\":\"UserPrincipalName\",\"src_endpoint.ip\":\"IPAddress\"}"`
	Normalize string            `json:"normalize" enum:"none,aws_console_login" default:"none" doc:"Bundled map, with fields as OCSF names them; map can add to it. aws_console_login is for console logins of the table AWSCloudTrail: time, user, src_endpoint.ip, cloud, status, is_mfa and more"`
}

// ask is what one query's requests have in common.
type ask struct {
	workspace, resource string
	path                string
	bound               *bound
	workspaces          []string
	wait                time.Duration
	prefer              string
	limits              limits
}

var (
	columnName   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`) })
	resourceForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^/subscriptions/[0-9A-Fa-f-]{36}(/[A-Za-z0-9_.()~-]{1,128})*$`)
	})
	// A workspace is named by its id, its name, or its resource id.
	workspaceForm = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(/[A-Za-z0-9_.()~/-]{1,400}|[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$`)
	})
)

// ask checks an input and makes of it what is asked.
func (c *Client) ask(ctx context.Context, in *QueryInput) (*ask, error) {
	b, err := bind(in.Query, in.Params)
	if err != nil {
		return nil, err
	}
	a := &ask{
		workspace: c.cfg.Workspace, resource: strings.TrimRight(in.Resource, "/"), bound: b, workspaces: in.Workspaces, wait: c.wait,
		path:   "/v1/workspaces/" + url.PathEscape(c.cfg.Workspace) + "/query",
		limits: limits{rows: in.MaxRows, partial: in.AllowPartial, all: in.Tables == "all"},
	}
	if in.Resource != "" {
		if !resourceForm().MatchString(a.resource) || strings.Contains(a.resource, "/.") {
			return nil, sdk.Invalid("resource", "%.200q is no Azure resource id: it begins with /subscriptions/", in.Resource)
		}
		a.path = "/v1" + a.resource + "/query"
	}
	for i, w := range in.Workspaces {
		if !workspaceForm().MatchString(w) {
			return nil, sdk.Invalid(fmt.Sprintf("/workspaces/%d", i), "%.200q is neither a workspace's id nor its name nor its resource id", w)
		}
	}
	if in.Wait != "" {
		if a.wait, err = parseWait(in.Wait); err != nil {
			return nil, sdk.Invalid("wait", "%v", err)
		}
	}
	if !columnName().MatchString(in.TimeColumn) {
		return nil, sdk.Invalid("time_column", "%.80q is no name of a column", in.TimeColumn)
	}
	// The service shall not work for longer than anybody listens.
	if d, ok := ctx.Deadline(); ok {
		a.wait = max(time.Second, min(a.wait, time.Until(d)-time.Second))
	}
	a.prefer = fmt.Sprintf("wait=%d", int(math.Ceil(a.wait.Seconds())))
	if in.Statistics {
		a.prefer += ",include-statistics=true"
	}
	if in.Render {
		a.prefer += ",include-render=true"
	}
	return a, nil
}

func parseWait(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > 600*time.Second {
		return 0, fmt.Errorf("%.40q is not a duration from 1s to 600s", s)
	}
	return d, nil
}

// query is the action.
func (c *Client) query(ctx context.Context, in QueryInput, emit func(rawRow) error) (Summary, error) {
	a, err := c.ask(ctx, &in)
	if err != nil {
		return Summary{}, err
	}
	var span interval
	if in.Timespan != "" {
		if span, err = parseTimespan(in.Timespan, time.Now().UTC()); err != nil {
			return Summary{}, sdk.Invalid("timespan", "%v", err)
		}
	}
	s, err := c.splitter(a, &in, span)
	if err != nil {
		return Summary{}, err
	}
	mapped, err := in.Fields.begin(a.limits.all)
	if err != nil {
		return Summary{}, err
	}
	emit = mapped.emit(progress(ctx, emit))
	var sum Summary
	why := ""
	if s == nil {
		sum, err = c.send(ctx, a, a.bound.text(), in.Timespan, a.limits, emit)
	} else {
		sum, err = s.run(ctx, emit)
		why = s.why
	}
	mapped.end(&sum)
	return sum, c.failed(a, err, why)
}

// failed makes an error of this connector's words. Why says what stood in the way of splitting the query.
func (c *Client) failed(a *ask, err error, why string) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*partialError](err); ok {
		advice := "narrow the query or the timespan, or set allow_partial"
		if p.alone != "" {
			advice = "the rows of " + p.alone + " alone are too many; " + advice
		}
		if why != "" {
			advice += "; it is not split by time, because " + why
		}
		err = sdk.TooLarge("%s gave only a part of the result: %s; %s", apiName, p.fault.text(), advice)
	}
	err = a.explain(err)
	if a.resource != "" {
		return fmt.Errorf("query %s: %w", a.resource, err)
	}
	return fmt.Errorf("query workspace %s: %w", a.workspace, err)
}

// progress tells how many rows there are, now and then.
func progress(ctx context.Context, emit func(rawRow) error) func(rawRow) error {
	n := uint64(0)
	return func(row rawRow) error {
		if n++; n%10_000 == 0 {
			sdk.Progress(ctx, n, 0, fmt.Sprintf("%d rows", n))
		}
		return emit(row)
	}
}

// send asks once.
func (c *Client) send(ctx context.Context, a *ask, text, timespan string, lim limits, emit func(rawRow) error) (Summary, error) {
	leave, err := c.limits.enter(ctx)
	if err != nil {
		return Summary{}, err
	}
	defer leave()
	api, err := c.waiting(a.wait)
	if err != nil {
		return Summary{}, err
	}
	body := map[string]any{"query": text}
	if timespan != "" {
		body["timespan"] = timespan
	}
	if len(a.workspaces) > 0 {
		body["workspaces"] = a.workspaces
	}
	read := false // a query changes nothing, though it is a POST
	resp, err := api.Stream(ctx, rest.Request{
		Method: http.MethodPost, Path: a.path, Body: body, Write: &read, Header: http.Header{"Prefer": {a.prefer}},
	})
	if err != nil {
		return Summary{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return Summary{Columns: []Column{}}, nil // a workspace without data
	}
	sum, err := decode(resp.Body, lim, emit)
	if e, ok := errors.AsType[*sdk.Error](err); ok && e.RequestID == "" {
		if id := cmp.Or(resp.Header.Get("X-Ms-Request-Id"), resp.Header.Get("Request-Id")); id != "" {
			e.RequestID = id
			e.Message += " (request id " + id + ")"
		}
	}
	return sum, err
}

// waiting is a client that waits as long as the service is told to work, and a little more for the network.
func (c *Client) waiting(wait time.Duration) (*rest.Client, error) {
	wait = wait.Round(time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	if api := c.apis[wait]; api != nil {
		return api, nil
	}
	api, err := c.session.Client(azure.API{
		Name: apiName, URL: cmp.Or(c.cfg.BaseURL, c.cfg.Cloud().LogAnalytics), Field: "base_url",
		Scope: cmp.Or(c.cfg.Scope, c.cfg.Cloud().LogAnalyticsScope),
		Options: rest.Options{
			Timeout: wait + 15*time.Second, RequestIDHeaders: []string{"x-ms-request-id", "request-id"},
		},
	})
	if err == nil {
		if len(c.apis) > 64 { // waits are few as a rule; deadlines make many
			clear(c.apis)
		}
		c.apis[wait] = api
	}
	return api, err
}
