package sentinel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/internal/kql"
	"github.com/casewire/casewire/connectors/internal/rowmap"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// Microsoft's bounds of a hunting query: 100,000 rows, 50 MB, three minutes.
// https://learn.microsoft.com/graph/api/security-security-runhuntingquery.
const (
	huntRows    = 100_000
	huntBytes   = 64 << 20
	huntTimeout = 200 * time.Second
	// huntPause is the length of a cycle of the processor quota: who has used it up waits for the next.
	huntPause = 15 * time.Minute
)

// HuntInput is a hunting query.
type HuntInput struct {
	Query string `json:"query" cw:"required,maxlen=100000" doc:"Query in KQL. Parameters are bound by let statements in front of it; never paste values into it"`
	// Params become KQL literals by their JSON type; {"type": "datetime", "value": "…"} and the like say otherwise.
	Params   map[string]any `json:"params,omitempty" doc:"Values bound as let statements, as of loganalytics.query" example:"{\"name\":\"powershell.exe\"}"`
	Timespan string         `json:"timespan,omitempty" doc:"ISO 8601 duration or interval that the query is limited to; Microsoft's default is 30 days" example:"P7D"`
	MaxRows  int            `json:"max_rows" default:"10000" cw:"min=1,max=100000" doc:"Most rows to return"`
	// Map and Normalize are those of loganalytics.query.
	Map       map[string]string `json:"map,omitempty" doc:"Fields in place of the columns: each names its column, or a value inside one that holds JSON, as of loganalytics.query. A column that is missing is null, and a warning" example:"{\"user.name\":\"AccountName\",\"src_endpoint.ip\":\"RemoteIP\"}"`
	Normalize string            `json:"normalize" enum:"none,aws_console_login" default:"none" doc:"Bundled map, as of loganalytics.query"`
}

// HuntSummary closes a hunting query.
type HuntSummary struct {
	RowCount  int          `json:"row_count" doc:"Rows returned"`
	Truncated bool         `json:"truncated" doc:"There were more"`
	AtLimit   bool         `json:"at_limit" doc:"Microsoft's own limit of 100,000 rows was reached: there may be more"`
	Columns   []HuntColumn `json:"columns" doc:"Columns of the rows; the outermost fields, if rows are mapped"`
	Warnings  []string     `json:"warnings" doc:"What map and normalize did not find"`
}

// HuntColumn is a column.
type HuntColumn struct {
	Name string `json:"name" doc:"Name"`
	Type string `json:"type" doc:"Type in KQL"`
}

func (c *Client) hunt(ctx context.Context, in HuntInput, emit func(map[string]any) error) (HuntSummary, error) {
	lets, err := kql.Lets(in.Params)
	if err != nil {
		return HuntSummary{}, err
	}
	fields, err := rowmap.New(in.Normalize, in.Map)
	if err != nil {
		return HuntSummary{}, err
	}
	body := map[string]string{"Query": lets + in.Query}
	if in.Timespan != "" {
		body["Timespan"] = in.Timespan
	}
	resp, err := c.hunting.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/v1.0/security/runHuntingQuery", Body: body, Write: new(false),
	})
	if err != nil {
		return HuntSummary{}, fmt.Errorf("run hunting query: %w", explainHunt(err))
	}
	var answer struct {
		Schema  []HuntColumn     `json:"schema"`
		Results []map[string]any `json:"results"`
	}
	if err := decodeNumbers(resp, &answer); err != nil {
		return HuntSummary{}, fmt.Errorf("run hunting query: %w", err)
	}
	if fields != nil {
		return huntMapped(in, fields, answer.Schema, answer.Results, emit)
	}
	sum := HuntSummary{Columns: answer.Schema, AtLimit: len(answer.Results) >= huntRows}
	for _, row := range answer.Results {
		if sum.RowCount == in.MaxRows {
			sum.Truncated = true
			break
		}
		delete(row, "@odata.type")
		if err := emit(row); err != nil {
			return sum, err
		}
		sum.RowCount++
	}
	return sum, nil
}

// huntMapped gives rows under the names that the input wants.
func huntMapped(in HuntInput, fields *rowmap.Map, schema []HuntColumn, rows []map[string]any, emit func(map[string]any) error) (HuntSummary, error) {
	sum := HuntSummary{AtLimit: len(rows) >= huntRows, Columns: []HuntColumn{}}
	var columns []rowmap.Column // none: those of the first row
	for _, c := range schema {
		columns = append(columns, rowmap.Column{Name: c.Name, Type: c.Type})
	}
	result := fields.Begin(columns)
	for _, row := range rows {
		if sum.RowCount == in.MaxRows {
			sum.Truncated = true
			break
		}
		b, err := json.Marshal(row)
		if err != nil {
			return sum, err
		}
		if b, err = result.Row(nil, b); err != nil {
			return sum, err
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var out map[string]any
		if err := d.Decode(&out); err != nil {
			return sum, err
		}
		if err := emit(out); err != nil {
			return sum, err
		}
		sum.RowCount++
	}
	sum.Warnings = result.Warnings(nil)
	for _, c := range result.Columns() {
		sum.Columns = append(sum.Columns, HuntColumn{c.Name, c.Type})
	}
	return sum, nil
}

// explainHunt says what a refusal means. Two quotas answer with 429: calls per minute, which Retry-After tells about, and
// processor time, which comes back with the next cycle.
func explainHunt(err error) error {
	e, ok := errors.AsType[*sdk.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case codes.ResourceExhausted:
		if e.RetryAfter == 0 {
			e.RetryAfter = huntPause
			e.Message += "; the tenant's quota for hunting queries is used up until the next quarter of an hour: run fewer, or cheaper ones (a narrower timespan, filters first)"
		}
	case codes.PermissionDenied:
		e.Message += "; grant the app ThreatHunting.Read.All (application) with admin consent"
	case codes.OutOfRange:
		e.Message += "; project fewer columns, or take fewer rows"
	case codes.DeadlineExceeded:
		e.Message += "; Microsoft stops a hunting query after three minutes: narrow its timespan"
	}
	return err
}
