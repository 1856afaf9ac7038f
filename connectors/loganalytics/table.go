package loganalytics

import (
	"context"
	"encoding/json"
	"net/url"
	"regexp"
	"sync"

	"github.com/casewire/casewire/connectors/internal/azure"
	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
)

// SentinelTable is how the trigger of one of Sentinel's tables asks for its rows. All of it has defaults.
type SentinelTable struct {
	Query    string         `json:"query,omitempty" cw:"maxlen=200000" doc:"KQL in place of the default query, such as one with a where. Its rows must keep the table's columns. The window is put behind its source as a condition; or use window_start and window_end in the query, and nothing is added"`
	Params   map[string]any `json:"params,omitempty" doc:"Values bound as let statements; see the action query"`
	Overlap  string         `json:"overlap" default:"10m" doc:"How far each poll looks back behind the last one, for rows that became searchable late. What comes twice is taken once"`
	Late     string         `json:"late" default:"48h" doc:"How old a row may be when it is ingested" cw:"advanced"`
	Lookback string         `json:"lookback" default:"24h" doc:"How far the first poll looks back"`
	Window   string         `json:"window" default:"1h" doc:"Longest window of one query; a window with too many rows is halved"`
	MaxRows  int            `json:"max_rows" default:"10000" cw:"min=1,max=500000" doc:"Most rows of one window"`
}

// Both tables grow by a row with every change. In SecurityAlert, VendorOriginalId keeps rows without SystemAlertId apart.
// https://learn.microsoft.com/azure/sentinel/manage-soc-with-incident-metrics#security-incidents-table
const (
	alertQuery    = "SecurityAlert | summarize arg_max(TimeGenerated, *) by SystemAlertId, VendorOriginalId"
	incidentQuery = "SecurityIncident | summarize arg_max(LastModifiedTime, *) by IncidentName"
)

// mapping makes an event of a row; it is one of package normalize's.
type mapping struct {
	table string
	ids   []string // columns that name the object, the best first
	event func(row []byte, o normalize.RowOptions) (sdk.Event, error)
}

var (
	alertRows    = &mapping{table: "SecurityAlert", ids: []string{"SystemAlertId", "VendorOriginalId"}, event: normalize.AlertRow}
	incidentRows = &mapping{table: "SecurityIncident", ids: []string{"IncidentName"}, event: normalize.IncidentRow}
)

// schedule checks the configuration of a table's trigger. Windows may overlap and may be halved although the query
// aggregates: it picks rows, and a row that comes again makes the same event, an older one is known to be older.
func (t *SentinelTable) schedule(field, query string, m *mapping) (*schedule, error) {
	s := Scheduled{
		Name: m.table, Query: query, Params: t.Params, TimeColumn: "TimeGenerated", By: "ingestion",
		Overlap: t.Overlap, Delay: "0s", Late: t.Late, Lookback: t.Lookback, Window: t.Window, MaxRows: t.MaxRows,
	}
	if t.Query != "" {
		s.Query = t.Query
	}
	return s.schedule(field, m)
}

func (c *Client) pollAlerts(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	return c.pollTable(ctx, c.alerts, cur, emit)
}

func (c *Client) pollIncidents(ctx context.Context, cur cursor, emit func(sdk.Page[cursor]) error) error {
	return c.pollTable(ctx, c.incidents, cur, emit)
}

var tenantID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
})

// pollTable refuses to make events whose identities would not be those that the same objects have through Graph, which
// names tenants by their ids.
func (c *Client) pollTable(ctx context.Context, s *schedule, cur cursor, emit func(sdk.Page[cursor]) error) error {
	if !tenantID().MatchString(c.cfg.Credential.TenantID) {
		return sdk.BadConfig("credential/tenant_id", "must be the tenant's id (a GUID), not %q: rows of %s do not name their tenant, which is a part of what identifies "+
			"them here and through Microsoft Graph; the portal shows it as Directory (tenant) ID", c.cfg.Credential.TenantID, s.Name)
	}
	return c.poll(ctx, s, cur, emit)
}

// tableEvent makes the event of a row of one of Sentinel's tables, or a rejection that keeps the row whole.
func (c *Client) tableEvent(m *mapping, row rawRow) (sdk.Event, *sdk.Rejected) {
	o := normalize.RowOptions{Tenant: c.cfg.Credential.TenantID, Workspace: c.cfg.Workspace, Host: identityHost(c.cfg.Cloud())}
	ev, err := m.event(row, o)
	if err == nil {
		return ev, nil
	}
	rejected := &sdk.Rejected{Source: c.base() + "/" + m.table, Reason: err.Error(), Raw: append([]byte(nil), row...)}
	var columns map[string]json.RawMessage
	_ = json.Unmarshal(row, &columns) // what cannot be read has no subject
	for _, name := range m.ids {
		if _ = json.Unmarshal(columns[name], &rejected.Subject); rejected.Subject != "" {
			break
		}
	}
	return sdk.Event{}, rejected
}

// identityHost is the host of the cloud's API as identities spell it. The public cloud's has two names, and is known by
// the older one.
func identityHost(c azure.Cloud) string {
	if c.LogAnalytics == azure.Public.LogAnalytics {
		return normalize.DefaultLogsHost
	}
	u, err := url.Parse(c.LogAnalytics)
	if err != nil {
		return ""
	}
	return u.Host
}
