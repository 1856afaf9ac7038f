package sentinel

import (
	"context"
	"net/http"
	"time"

	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// incidentCursor is the position of the trigger incidents, in whichever source the configuration names. Going from one
// source to the other begins anew with the lookback: a cursor has no room for the memory of both.
type incidentCursor struct {
	cursor

	ARM *armCursor `json:"arm,omitempty"`
}

// addIncidentTrigger declares the trigger incidents.
func addIncidentTrigger(c *sdk.Connector) {
	sdk.AddTrigger(c, sdk.Trigger[*Client, incidentCursor]{
		Name:         "incidents",
		Summary:      "Incidents as they are created, changed, merged and closed: of the Defender portal, or of a Sentinel workspace that is not in it.",
		Emits:        []string{event.TypeIncident},
		Interval:     time.Minute,
		Poll:         (*Client).pollEither,
		Hook:         (*Client).hookIncident,
		HookRules:    sdk.HookRules{Methods: []string{http.MethodPost}, JSON: true, MaxBody: 2 << 20},
		Resolve:      (*Client).resolveIncident,
		ResolveLimit: 8,
	})
}

func (c *Client) pollEither(ctx context.Context, cur incidentCursor, emit func(sdk.Page[incidentCursor]) error) error {
	if c.cfg.Incidents == "arm" {
		var at armCursor
		if cur.ARM != nil {
			at = *cur.ARM
		}
		return c.pollIncidentsARM(ctx, at, func(p sdk.Page[armCursor]) error {
			return emit(sdk.Page[incidentCursor]{Events: p.Events, Rejected: p.Rejected, Cursor: incidentCursor{ARM: &p.Cursor}})
		})
	}
	return c.pollIncidents(ctx, cur.cursor, func(p sdk.Page[cursor]) error {
		return emit(sdk.Page[incidentCursor]{Events: p.Events, Rejected: p.Rejected, Cursor: incidentCursor{cursor: p.Cursor}})
	})
}
